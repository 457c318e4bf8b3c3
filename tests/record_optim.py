"""Write down what optax computes, for those who have not installed it: optim_values.json.

Run in a Python with jax and optax: ``python tests/record_optim.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import optim_rows as rows


def main() -> None:
    """Run every row by optax, in float64, and write the last parameters."""
    import jax
    import optax

    recorded: dict[str, object] = {"made by": f"optax {optax.__version__}, jax {jax.__version__}"}
    with jax.enable_x64(True):
        for name, row in rows.ROWS.items():
            values = rows.descend(optax, jax, jax.numpy, row, compiled=True)
            recorded[name] = [float(f"{value:.10g}") for value in values]
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in recorded.items()]
    path = Path(__file__).with_name("optim_values.json")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
