"""Primitives that no model of ONNX has: why.

The others have a rule for reals (`rules.py`) or for complex numbers (`pairs.py`).
"""

from __future__ import annotations

__all__ = ["REASONS"]

_PYTHON = "it runs Python"
_GONE = "export writes out what it stands for"
_AXIS = "it needs a mapped axis, which export has no name for"
_WHILE = "it stands in derivatives of while loops that are run backwards, whose length is not known"

REASONS: dict[str, str] = {
    **dict.fromkeys(("pure_callback", "io_callback", "debug_callback", "numeric"), _PYTHON),
    **dict.fromkeys(
        (
            "attention", "attention_grad", "attention_tangent", "check", "custom_jvp_call",
            "custom_lin", "custom_linear_solve", "custom_vjp_call", "custom_vmap_call", "jit",
            "linear_call", "matrix_function", "name", "narrow_dot", "reduce_precision", "remat",
            "sow", "sown_tangent",
        ),
        _GONE,
    ),
    **dict.fromkeys(
        (
            "all_gather", "all_to_all", "axis_index", "pmax", "pmin", "ppermute", "psum",
            "psum_scatter", "pvary", "shard_map",
        ),
        _AXIS,
    ),
    **dict.fromkeys(("rewind", "rewound", "swayed"), _WHILE),
}  # fmt: skip
"""By primitive."""
