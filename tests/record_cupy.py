"""Record what CuPy exports, for the stand-in that tests use: run it where CuPy is installed.

    python tests/record_cupy.py

writes tests/cupy_names.json: for each name of a namespace the loops of a ufunc, the parameters of a
function, or nothing.
"""

import importlib
import inspect
import json
import re
from pathlib import Path

SPACES = (
    "cupy", "cupy.linalg", "cupy.fft", "cupy.cuda", "cupy.cuda.runtime", "cupy.cuda.memory",
    "cupy.lib.stride_tricks",
)  # fmt: skip
CLASSES = (
    "cupy.ndarray", "cupy.cuda.Stream", "cupy.cuda.Event", "cupy.cuda.Module",
    "cupy.cuda.Function", "cupy.cuda.Device", "cupy.cuda.Graph", "cupy.cuda.MemoryPointer",
)  # fmt: skip
FILE = Path(__file__).with_name("cupy_names.json")


def described(x):
    """Return the loops or the parameters of what a namespace holds."""
    if isinstance(getattr(x, "types", None), (list, tuple)):
        return {"types": list(x.types)}
    try:
        return {"params": [str(p) for p in inspect.signature(x).parameters.values()]}
    except (TypeError, ValueError):
        line = (getattr(x, "__doc__", "") or "").split("\n")[0]  # where Cython says it
        found = re.fullmatch(r"[\w.]+\((.*)\)(?: ->.*)?", line.strip())
        return {"params": [p.strip() for p in found[1].split(",")]} if found and found[1] else {}


def recorded():
    """Return the table, read off the installed CuPy."""
    found = {"version": importlib.import_module("cupy").__version__}
    for space in (*SPACES, *CLASSES):
        head, _, last = space.rpartition(".")
        holder = importlib.import_module(head) if space in CLASSES else None
        owner = getattr(holder, last) if holder else importlib.import_module(space)
        names = [n for n in dir(owner) if not n.startswith("_") or n == "__call__"]
        found[space] = {n: described(getattr(owner, n)) for n in names}
    return found


if __name__ == "__main__":
    FILE.write_text(
        json.dumps(recorded(), sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8"
    )
