"""Install what lies in dist/ in fresh environments and try it: `python tests/check_dist.py dist`.

The wheel goes into an environment of every Python from 3.11 on that is found on the machine, the
sdist into one of the Python that runs this. Each gets its dependencies from the package index.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
TRIAL = """
import sys, importlib.resources
import numpy as np
import funtorch as ft
from funtorch import nnx, optim

k1, k2 = ft.random.split(ft.random.key(0))
model = nnx.Sequential(nnx.Linear(4, 8, key=k1), nnx.ReLU(), nnx.Linear(8, 1, key=k2))
x = np.arange(40, dtype=np.float32).reshape(10, 4) / 40
optimizer = optim.adam(1e-2)
state = optimizer.init(model)

@ft.jit
def step(model, state):
    value, grads = ft.value_and_grad(lambda m: nnx.mse(m(x)[:, 0], x.sum(1)))(model)
    updates, state = optimizer.update(grads, state, model)
    return optim.apply_updates(model, updates), state, value

for _ in range(300):
    model, state, value = step(model, state)
assert value < 0.05, value
assert np.allclose(ft.jit(ft.numpy.linalg.inv)(2 * np.eye(3)), np.eye(3) / 2)
assert ft.numpy.asarray(1.5, "bfloat16").dtype.name == "bfloat16"
assert (importlib.resources.files("funtorch") / "py.typed").is_file()
assert "site-packages" in ft.__file__, ft.__file__
print("FunTorch", ft.__version__, "works on Python", sys.version.split()[0])
"""


def pythons() -> list[str]:
    """Return one interpreter for each version that is installed."""
    found = {".".join(map(str, sys.version_info[:2])): sys.executable}
    home = Path.home() / ".pyenv" / "versions"
    for version in VERSIONS:
        paths = [p / "bin" / "python" for p in sorted(home.glob(f"{version}.*"))]
        paths += [Path(p) for p in [shutil.which(f"python{version}")] if p]
        for path in paths:
            asked = subprocess.run(
                [path, "-c", "import sys, ensurepip; print('{}.{}'.format(*sys.version_info))"],
                capture_output=True, text=True,
            )  # fmt: skip
            if asked.returncode == 0 and asked.stdout.strip() == version:
                found.setdefault(version, str(path))
    return [found[v] for v in sorted(found)]


def check_names(wheel: Path, sdist: Path) -> None:
    """Check what the archives hold: one package, its types; and in the sdist all of the source."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.partition("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"funtorch"}, tops
    assert "funtorch/py.typed" in names
    with tarfile.open(sdist) as archive:
        inside = {n.partition("/")[2] for n in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    wanted = [n for n in tracked.stdout.split("\n") if n and not n.startswith(".")]
    missing = [n for n in wanted if n not in inside]
    assert wanted, "git lists no files"
    assert not missing, f"the sdist lacks {missing[:10]}"
    stray = [n for n in inside if re.search(r"__pycache__|\.pyc$|^build/|^\.venv", n)]
    assert not stray, f"the sdist holds {stray[:10]}"


def try_in_fresh(python: str, what: Path) -> None:
    """Install into an environment of this Python, and run a program outside of the sources."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, what.resolve()], check=True, cwd=folder)
        subprocess.run([inside, "-I", "-c", TRIAL], check=True, cwd=folder)


def main() -> None:
    """Check the newest wheel and sdist of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    check_names(wheel, sdist)
    found = pythons()
    for python in found:
        try_in_fresh(python, wheel)
    try_in_fresh(sys.executable, sdist)
    print(f"wheel tried on {len(found)} versions of Python, sdist on one")


if __name__ == "__main__":
    main()
