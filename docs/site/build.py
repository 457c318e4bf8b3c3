"""Build the documentation site: `python docs/site/build.py [FOLDER]`, by default build/site.

The sources are put together in a folder beside the site: the pages of docs/, those of the root
(CHANGELOG.md ...), one for each example and those of the reference, which reference.py makes
from docstrings. Sphinx turns them into HTML, and any warning of its is an error.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import sys
import textwrap
from pathlib import Path

from links import names
from navigation import sections
from reference import rst, summary
from sphinx.cmd.build import main as sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FROM_ROOT = {
    "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog", "SECURITY.md": "security",
}  # fmt: skip
"""Files at the root that are pages, too."""


def assemble(folder: Path) -> None:
    """Write all sources of the site into a folder; what has not changed is left alone."""
    pages = {p.stem: p.read_text(encoding="utf-8") for p in (ROOT / "docs").glob("*.md")}
    for file, page in FROM_ROOT.items():
        pages[page] = (ROOT / file).read_text(encoding="utf-8")
    pages = {page: relinked(text) for page, text in pages.items()}
    reference = {f"{path}.rst": text for path, text in names().pages()}
    reference["api/index.rst"] = index_of_reference()
    chapters = sections([*pages, "api/index"])
    pages["index"] += "".join(toctree(*chapter) for chapter in chapters.items())
    examples = {p.stem: p for p in sorted((ROOT / "examples").glob("*.py"))}
    pages |= {f"examples/{name}": page_of_example(path) for name, path in examples.items()}
    pages["examples"] += toctree("", [f"examples/{name}" for name in examples])
    files = {f"{page}.md": text for page, text in pages.items()} | reference
    files |= {
        f"images/{p.name}": p.read_text(encoding="utf-8")
        for p in (ROOT / "docs" / "images").glob("*.svg")
    }
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def relinked(text: str) -> str:
    """Make links between files links between pages of the site."""
    text = re.sub(r"\]\((?:\.\./)?docs/([\w-]+\.md)", r"](\1", text)
    text = re.sub(r"\]\((?:\.\./)?examples/(\w+)\.py\)", r"](examples/\1.md)", text)
    text = re.sub(r"\]\((?:\.\./)?README\.md\)", "](index.md)", text)
    for file, page in FROM_ROOT.items():
        text = re.sub(rf"\]\((?:\.\./)?{file}", f"]({page}.md", text)
    known = "|".join(p.stem for p in (ROOT / "examples").glob("*.py"))
    return re.sub(rf"(?<!\[)`({known})\.py`(?!\])", r"[`\1.py`](examples/\1.md)", text)


def toctree(caption: str, pages: list[str]) -> str:
    """Write a part of the navigation."""
    title = f":caption: {caption}\n" if caption else ""
    lines = "\n".join(pages)
    return f"\n\n```{{toctree}}\n:hidden:\n:titlesonly:\n{title}\n{lines}\n```\n"


def page_of_example(path: Path) -> str:
    """Show an example: what it says of itself, how to run it, and its source."""
    source = path.read_text(encoding="utf-8")
    about = ast.get_docstring(ast.parse(source)) or ""
    first, _, rest = about.partition("\n\n")
    program = re.sub(r'^(?:#!.*\n)?""".*?"""\n+', "", source, count=1, flags=re.DOTALL)
    parts = [" ".join(first.split())]
    for part in rest.split("\n\n"):  # commands are indented
        parts.append(f"```sh\n{textwrap.dedent(part)}\n```" if part[:1] == " " else part)
    parts += [
        "[All examples](../examples.md)",
        "## Source",
        f"````python\n{program.rstrip()}\n````",
    ]
    return f"# {path.name}\n\n" + "\n\n".join(parts) + "\n"


def index_of_reference() -> str:
    """Write the first page of the reference: all modules, those of one level one after another."""
    known = names()
    tops = known.tops()
    text = "API reference\n=============\n\nEvery public name, from its docstring. "
    text += "Examples may use ``ft``, ``fnp``, ``lax``, ``nnx``, ``optim`` and ``random``.\n\n"
    text += ".. list-table::\n   :class: summary\n   :widths: auto\n\n"
    for module in tops:
        about = rst(summary(known.modules[module]), known, module)
        text += f"   * - :doc:`{module} <{module}>`\n     - {about}\n"
    lines = "".join(f"   {module}\n" for module in tops)
    return f"{text}\n.. toctree::\n   :hidden:\n   :titlesonly:\n\n{lines}"


def build(out: Path, jobs: int = 2, fresh: bool = False) -> int:
    """Build the site.

    Args:
        out: the folder of the site; sources and Sphinx's notes go beside it.
        jobs: how many processes Sphinx may use.
        fresh: whether nothing of an earlier build is used.

    Returns:
        Sphinx's exit status: 0 if there was not one warning.
    """
    sources, notes = out.with_name(f"{out.name}-sources"), out.with_name(f"{out.name}-notes")
    if fresh:
        for folder in (out, sources, notes):
            shutil.rmtree(folder, ignore_errors=True)
    assemble(sources)
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-j", str(jobs)]
    return sphinx(
        ["-b", "html", "-c", str(HERE), "-d", str(notes), *options, str(sources), str(out)]
    )


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="use nothing of an earlier build")
    args = parser.parse_args()
    status = build(args.out, args.jobs, args.fresh)
    if status == 0:
        print(f"the site is in {args.out}/index.html")
    sys.exit(status)


if __name__ == "__main__":
    main()
