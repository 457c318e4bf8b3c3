"""The wheel holds the whole package, installs elsewhere, and importing it loads nothing heavy."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {  # folder in the repository -> package
    "funtorch": "funtorch",
    "transforms": "funtorch.transforms",
    "backends": "funtorch.backends",
    "nnx": "funtorch.nnx",
}
HEAVY = ["llvmlite", "scipy_openblas32", "cupy", "safetensors", "scipy", "matplotlib", "sklearn"]
PROBE = """
import importlib, json, sys
import funtorch
loaded = sorted(sys.modules)
files = {name: importlib.import_module(name).__file__ for name in sys.argv[1:]}
print(json.dumps({"loaded": loaded, "files": files}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the repository and return what it printed; fail with its output."""
    # PYTHONPATH would let the repository's own copy answer for the installed one.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def probe(python: str | Path, cwd: Path) -> dict:
    """Import funtorch and its folders in a new process; return what it loaded and from where."""
    return json.loads(run(python, "-c", PROBE, *FOLDERS.values(), cwd=cwd))


def packages_in_tree() -> dict[str, str]:
    """Map every package in the repository to its folder, by the rule of the four folders."""
    return {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts]): str(
            init.parent.relative_to(ROOT).as_posix()
        )
        for folder, package in FOLDERS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist from a copy of the sources: a build/ folder may hold deleted modules."""
    source = tmp_path_factory.mktemp("source")
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist", ".*")
    shutil.copytree(ROOT, source / "tree", ignore=leave)
    options = ["--sdist", "--no-isolation", "--outdir", source]
    run(sys.executable, "-m", "build", *options, source / "tree", cwd=source)
    (built,) = source.glob("funtorch-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Build the wheel from the sdist, as whoever gets only that does."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist"]
    run(sys.executable, "-m", "pip", "wheel", "--quiet", *options, sdist, cwd=sdist.parent)
    (built,) = (sdist.parent / "dist").glob("funtorch-*.whl")
    return built


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a virtual environment that holds the wheel, and borrows its dependencies from ours."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = home / scripts / ("python.exe" if os.name == "nt" else "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", wheel, cwd=home)
    # A path line adds our site-packages behind the clean one and does not run the .pth files in
    # it, so an editable FunTorch there stays invisible.
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", code, cwd=home).strip())
    ours = {p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    ours.add(sysconfig.get_path("purelib"))
    (site / "borrowed.pth").write_text("\n".join(sorted(ours)) + "\n", encoding="utf-8")
    return python


def test_every_package_is_named_in_pyproject() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = settings["tool"]["setuptools"]
    tree = packages_in_tree()
    assert sorted(setuptools["packages"]) == sorted(tree), "pyproject.toml: [tool.setuptools]"
    mapping = {name: folder for name, folder in tree.items() if not name_follows_parent(name, tree)}
    missing = {n: f for n, f in mapping.items() if setuptools["package-dir"].get(n) != f}
    assert not missing, f"pyproject.toml: [tool.setuptools.package-dir] lacks {missing}"


def name_follows_parent(name: str, tree: dict[str, str]) -> bool:
    """Tell whether a package lies inside its parent's folder, so that it needs no mapping."""
    parent, _, last = name.rpartition(".")
    return bool(parent) and tree[name] == f"{tree[parent]}/{last}"


def test_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    expected = {
        "/".join([*package.split("."), *file.relative_to(ROOT / folder).parts])
        for folder, package in FOLDERS.items()
        for file in (ROOT / folder).rglob("*.py")
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {n for n in names if ".dist-info/" not in n}
    assert code == expected | {"funtorch/py.typed"}
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_sdist_holds_sources_tests_and_pages(sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        inside = {n.partition("/")[2] for n in archive.getnames()}
    patterns = ["*.md", "*.toml", "*.cff", "Makefile", "LICENSE", "docs/**/*.*", "examples/*.py"]
    patterns += ["tests/**/*.py", "tests/*.json", "tests/*.hpp", "benchmarks/*.py"]
    wanted = {p.relative_to(ROOT).as_posix() for pattern in patterns for p in ROOT.glob(pattern)}
    missing = {n for n in wanted if "__pycache__" not in n} - inside
    assert not missing, f"MANIFEST.in does not take {sorted(missing)[:10]}"
    assert not [n for n in inside if n.endswith(".pyc")]
    pytest.importorskip("twine")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel, cwd=sdist.parent)


def test_versions_and_bounds_agree() -> None:
    text = {n: (ROOT / n).read_text(encoding="utf-8") for n in ("CHANGELOG.md", "CITATION.cff")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert version == importlib.import_module("funtorch").__version__
    assert re.search(rf"^version: {re.escape(version)}$", text["CITATION.cff"], re.M)
    assert "cff-version: 1.2.0" in text["CITATION.cff"]
    for line in project["dependencies"]:  # what tests/lowest.py installs
        assert re.fullmatch(r"[\w-]+>=\d+\.\d+(\.\d+)?", line), line


def test_changelog_keeps_its_form() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    heads = [line for line in lines if line.startswith("## ")]
    assert heads[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\]( - \d{4}-\d\d-\d\d)?", h) for h in heads[1:])
    kinds = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_wheel_imports_from_elsewhere(clean_python: Path, tmp_path: Path) -> None:
    seen = probe(clean_python, tmp_path)
    for name, file in seen["files"].items():
        where = Path(file)
        assert clean_python.parent.parent in where.parents, f"{name} came from {file}"
        assert where.parent.parts[-1] == name.rpartition(".")[2]
        assert "site-packages" in where.parts


@pytest.mark.parametrize("heavy", HEAVY)
def test_import_does_not_load(heavy: str, clean_python: Path, tmp_path: Path) -> None:
    loaded = probe(clean_python, tmp_path)["loaded"]
    assert heavy not in loaded, f"import funtorch loads {heavy}; import it where it is first used"


def test_the_folders_are_not_importable_by_their_bare_names(
    clean_python: Path, tmp_path: Path
) -> None:
    bare = sorted(set(FOLDERS) - {"funtorch"})
    code = f"from importlib.util import find_spec; print([n for n in {bare} if find_spec(n)])"
    assert run(clean_python, "-c", code, cwd=tmp_path).strip() == "[]"
