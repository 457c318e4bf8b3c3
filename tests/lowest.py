"""Run the tests with exactly the lowest versions of dependencies that pyproject.toml allows.

    python tests/lowest.py [arguments of pytest]

Without arguments a telling part of the tests runs: every primitive, transform and dtype, the whole
surface of functions, linear algebra, compiled programs, layers, packaging.
"""

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "lowest"
PART = [
    "ops_basic", "ops_more", "surface", "numpy", "numpy_protocol", "numpy_dispatch", "array_api",
    "transforms", "together", "jit", "programs", "dtypes", "dtype_table", "native_dtypes",
    "narrow", "linalg", "lapack", "products", "kernels", "sort", "fft", "conv", "cache", "nnx",
    "nnx_training", "optim", "random", "io", "export", "packaging",
]  # fmt: skip


def pins() -> list[str]:
    """Return the dependencies with the lowest version of each, as `name==version`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = settings["project"]["dependencies"]
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,.*)?", line) for line in lines]
    missing = [line for line, match in zip(lines, found, strict=True) if match is None]
    if missing:
        sys.exit(f"these dependencies have no lowest version: {missing}")
    return [f"{match[1]}=={match[2]}" for match in found]


def main() -> None:
    """Make the environment, unless it is there, and run pytest in it."""
    exact = pins()
    python = PLACE / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    made = PLACE / "made.txt"
    if not made.exists() or made.read_text(encoding="utf-8") != "\n".join(exact):
        print("installing", *exact, flush=True)
        venv.create(PLACE, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # In one call: nothing of what the tests need may raise what is looked for.
        subprocess.run([*pip, *exact, "--editable", f"{ROOT}[test]"], check=True)
        made.write_text("\n".join(exact), encoding="utf-8")
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in PART]
    chosen = sys.argv[1:] or ["-n", "2", "-q", *(f for f in files if Path(f).exists())]
    sys.exit(subprocess.run([python, "-m", "pytest", *chosen], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
