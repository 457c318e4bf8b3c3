"""A wrong axis, shape, dtype or name is an error that names the argument or shows its value.

Each public function is called as its row in the table of public functions says, with one
argument replaced by something that it cannot be.
"""

from __future__ import annotations

import inspect

import pytest
import surface_rows_linalg  # noqa: F401  (they fill the table)
import surface_rows_numpy  # noqa: F401
import surface_rows_other  # noqa: F401
from surface_table import ROWS
from test_surface import function_of, inputs, put

THING = object()
WRONG = {
    "axis": [99, "up", 1.5, (0, 0)], "axes": [(99,), "up"], "dtype": ["int99", THING],
    "shape": [(-3,), "abc", (1.5,)], "dimension": [99], "mode": ["nonsense"],
    "method": ["nonsense"], "side": ["nonsense"], "indexing": ["nonsense"], "norm": ["nonsense"],
    "axis1": [99], "axis2": [99], "kth": [99], "num": [-1, "x"], "repeats": [-1], "k": ["x"],
    "decimals": ["x"], "order": ["nonsense"], "ord": ["nonsense"], "n": [-7],
    "indices_or_sections": [0], "num_classes": [-1], "dimensions": [(99,)],
    "permutation": [(0, 0)], "new_sizes": [(7,)], "limit_indices": [(99, 99)],
    "start_index": [1.5], "slice_size": [99], "new_dtype": ["int99"],
    "window_strides": ["nonsense"], "padding": ["nonsense"], "source": [99], "destination": [99],
    "num_segments": [-1], "ddof": ["x"], "M": ["x"], "N": ["x"], "deg": [-1], "bins": [-1],
    "minlength": [-1], "length": [-1], "size": [-1], "device": ["gpu"], "exponent_bits": [0],
    "mantissa_bits": [-1], "fft_lengths": [(99,)], "fft_type": ["nonsense"], "reps": ["x"],
    "shift": ["x"], "pad_width": ["x"], "period": ["x"],
}  # fmt: skip
# What means something, or is there for the signature alone: (function, argument).
FINE = {
    ("numpy.linalg.matrix_power", "n"), ("numpy.roll", "axis"), ("numpy.angle", "deg"),
    ("numpy.indices", "dimensions"), ("numpy.digitize", "method"), ("numpy.isin", "method"),
    ("numpy.searchsorted", "method"), ("scipy.linalg.expm_frechet", "method"),
    ("random.choice", "mode"), ("lax.random_gamma_grad", "dtype"), ("numpy.copy", "order"),
    ("numpy.asarray", "order"),
}  # fmt: skip


def cases():
    for name, row in ROWS.items():
        if row.call is not None:
            continue
        try:
            signature = inspect.signature(function_of(name))
        except ValueError:
            continue
        if ".stats." in name or name.startswith(("random.", "scipy.special")):
            # There n is an argument that is mapped over.
            names = [p for p in signature.parameters if p in WRONG and p != "n"]
        else:
            names = [p for p in signature.parameters if p in WRONG]
        yield from ((name, p) for p in names if (name, p) not in FINE)


@pytest.mark.parametrize(("name", "argument"), cases())
def test_the_message_tells(name, argument):
    row, f = ROWS[name], function_of(name)
    bound = inspect.signature(f).bind(*put(row.args, iter(inputs(row))), **row.kw)
    for value in WRONG[argument]:
        bound.arguments[argument] = value
        with pytest.raises((TypeError, ValueError, IndexError, NotImplementedError)) as caught:
            f(*bound.args, **bound.kwargs)
        text = str(caught.value)
        also = {"axes": "axis", "dimensions": "axis", "start_index": "start_indices"}
        shown = (repr(value), str(value), argument, also.get(argument, argument))
        assert any(s in text for s in shown), f"{argument}={value!r}: {text}"
