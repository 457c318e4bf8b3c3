"""No function of the namespaces loops over elements in Python.

Every row of the table of public functions is run eagerly on small arrays and on arrays whose axes
are `FACTOR` times as long. The lines that Python executes meanwhile, in whatever file, are counted:
a loop over elements, rows or columns executes at least one more for each, hundreds in all. Loops
over axes, arguments and halvings of a size are fine: `ALLOWED` covers those.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import surface_rows_linalg  # noqa: F401  (they fill the table)
import surface_rows_numpy  # noqa: F401
import surface_rows_other  # noqa: F401
from surface_table import ROWS, Row
from test_surface import function_of, leaves, put, quietly, take

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import ArrayImpl

FACTOR, ALLOWED = 40, 90


def lines_of(run: Callable[[], Any]) -> int:
    """Return how many lines Python executes in a call, each turn of a loop counted."""
    count = 0

    def in_frame(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return in_frame

    before = sys.gettrace()
    sys.settrace(lambda *_: in_frame)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


# ------------------------------------------------------------------------------- longer arguments
def longer(a: np.ndarray, axes: Any) -> np.ndarray:
    """Return an array with longer axes, which stays what it was: regular, sorted, small."""
    if axes is None and a.ndim == 2 and a.shape[0] == a.shape[1] and a.dtype.kind in "fc":
        return np.kron(np.eye(FACTOR), a)
    chosen = range(a.ndim) if axes is None else {k % a.ndim for k in axes if -a.ndim <= k < a.ndim}
    for k in chosen:
        a = np.repeat(a, FACTOR, k)
    return a
