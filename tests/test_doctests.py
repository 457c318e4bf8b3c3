"""Every example in a docstring, and every Python block in the READMEs, runs and is right.

pytest's own `--doctest-modules` would import `transforms/grad.py` under its bare folder name, a
second copy of `funtorch.transforms.grad`. So the modules are found the way Python finds them.
"""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# An editable install keeps the four folders apart, a wheel nests three of them in the first.
PACKAGES = ["funtorch", "funtorch.transforms", "funtorch.backends", "funtorch.nnx"]
PAGES = [
    page
    for page in (
        "README.md",
        "CONTRIBUTING.md",
        *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
    )
    if "\n```python\n" in (ROOT / page).read_text(encoding="utf-8")
]
NAMES = {  # what an example may use without importing it
    "ft": "funtorch",
    "fnp": "funtorch.numpy",
    "lax": "funtorch.lax",
    "nnx": "funtorch.nnx",
    "np": "numpy",
    "optim": "funtorch.optim",
    "random": "funtorch.random",
}
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules_with_examples() -> list[str]:
    """List the dotted names of all modules of the package whose source holds an example."""
    names = set(PACKAGES)
    for package in map(importlib.import_module, PACKAGES):
        names.update(
            m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        )
    return sorted(name for name in names if ">>> " in source_of(name))


def source_of(name: str) -> str:
    """Return the source text of a module without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, name
    assert spec.origin is not None, name
    return Path(spec.origin).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    names = {short: importlib.import_module(full) for short, full in NAMES.items()}
    result = doctest.testmod(module, optionflags=OPTIONS, extraglobs=names)
    assert result.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_of_page(page: str, tmp_path: Path) -> None:
    """Run the page's blocks in order, as one program, in a fresh process and an empty folder."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    program = tmp_path / "page.py"
    program.write_text("\n\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
