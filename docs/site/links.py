"""Code that names something public, such as `ft.vmap`, becomes a link to its reference."""

from __future__ import annotations

from functools import cache
from typing import Any

from docutils import nodes
from reference import Reference
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform


@cache
def names() -> Reference:
    """Return the table of public names: one for a whole build."""
    return Reference()


class CodeLinks(SphinxPostTransform):
    """Wrap inline code of the pages in a link where it names a function, class or module."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs: Any) -> None:
        """Look at every inline code of a page that is not yet part of a link or a heading."""
        if self.env.docname.startswith("api/"):
            return
        for node in list(self.document.findall(nodes.literal)):
            linked = (nodes.reference, nodes.title, addnodes.pending_xref)
            parent = node.parent
            while parent is not None and not isinstance(parent, linked):
                parent = parent.parent
            code = node.astext()
            target = names().resolve(code) if "." in code and parent is None else ""
            if not target:
                continue
            kind = "mod" if target in names().modules else "obj"
            link = addnodes.pending_xref(
                "", refdomain="py", reftype=kind, reftarget=target, refexplicit=True, refwarn=True
            )
            link["refdoc"] = self.env.docname
            link += node.deepcopy()
            node.replace_self(link)


def setup(app: Any) -> dict[str, bool]:
    """Register the transform."""
    app.add_post_transform(CodeLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
