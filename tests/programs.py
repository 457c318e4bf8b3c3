"""Programs written for JAX, and what JAX gives for them, in `programs.json`.

To record that file again, where JAX is installed: ``python tests/programs.py``.
"""

import json
import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import programs_language
import programs_models

PROGRAMS = {
    name: f
    for module in (programs_language, programs_models)
    for name, f in vars(module).items()
    if isinstance(f, types.FunctionType) and f.__module__ == module.__name__
}
EXPECTED = Path(__file__).with_name("programs.json")
KEPT = 24  # values of a leaf that are written down; their sum stands for the others


def summary(jax: Any, result: Any) -> dict[str, list]:
    """Return path -> [dtype, shape, first values, sum of all] of a program's result."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(result):
        key = jax.tree_util.keystr(path)
        if isinstance(leaf, str):
            found[key] = leaf
            continue
        data = np.asarray(leaf)
        dtype = str(data.dtype) if hasattr(leaf, "dtype") else type(leaf).__name__
        if getattr(leaf, "weak_type", False):
            dtype += "*"
        flat = data.astype("complex128" if data.dtype.kind == "c" else "float64").reshape(-1)
        values = [float(f"{v:.7g}") for v in flat.view("float64")]
        found[key] = [dtype, list(data.shape), values[:KEPT]]
        if len(values) > KEPT:
            found[key].append(float(f"{np.sum(flat.view('float64')):.7g}"))
    return found


def record() -> None:
    """Run the programs in JAX and write down what they give."""
    rows = []
    for module in (programs_language, programs_models):
        source = Path(module.__file__).read_text(encoding="utf-8")
        source = source.replace("import funtorch as jax", "import jax\nimport jax.flatten_util")
        space = {"__name__": "programs_in_jax"}
        exec(re.sub(r"\bfuntorch\b", "jax", source), space)
        rows += [
            f"{json.dumps(name)}: {json.dumps(summary(space['jax'], space[name]()))}"
            for name, f in PROGRAMS.items()
            if f.__module__ == module.__name__
        ]
    EXPECTED.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    record()
