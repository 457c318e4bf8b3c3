"""The side bar: all sections, and of nested pages those on the way to the one that is shown.

Furo asks Sphinx for the whole tree of pages on every page, which takes most of the time of a build
and of every page's size. It is written here from the same tables.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from navigation import TITLES, sections


def setup(app: Any) -> None:
    """Put the tree in the place of Sphinx's, before the theme asks for it."""
    app.connect("html-page-context", replace_tree, priority=400)


def replace_tree(
    app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Give a page the function that writes its tree."""
    context["toctree"] = lambda **options: tree(app.env, pagename, context["pathto"])


def tree(env: Any, shown: str, path_to: Callable[[str], str]) -> str:
    """Write the tree as lists of links, in the form that Sphinx gives it.

    Args:
        env: what Sphinx knows of all pages.
        shown: the page that the tree is for.
        path_to: the function from a page to its address, seen from the one that is shown.
    """
    above = {shown}
    while found := {p for p, below in env.toctree_includes.items() if above & set(below)} - above:
        above |= found

    def items(pages: list[str], level: int) -> str:
        out = []
        for page in pages:
            below = env.toctree_includes.get(page, []) if page in above else []
            mark = " current" if page in above else ""
            title = html.escape(TITLES.get(page) or env.titles[page].astext())
            out.append(
                f'<li class="toctree-l{level}{mark}"><a class="reference internal" '
                f'href="{path_to(page)}">{title}</a>{items(below, level + 1)}</li>'
            )
        return f"<ul>{''.join(out)}</ul>" if out else ""

    first = set(env.toctree_includes.get("index", []))
    return "".join(
        f'<p class="caption" role="heading"><span class="caption-text">{caption}</span></p>'
        f"{items(pages, 1)}"
        for caption, pages in sections(first).items()
    )
