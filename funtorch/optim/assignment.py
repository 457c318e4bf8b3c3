"""The assignment problem: which column to give each row so that the costs add up to the least.

References:
    R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
    assignment problems" (1987).
    D. Crouse, "On implementing 2D rectangular assignment algorithms" (2016).
"""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch import lax

__all__ = ["base_hungarian_algorithm", "hungarian_algorithm"]


def hungarian_algorithm(cost_matrix: Any) -> tuple[Any, Any]:
    """Assign columns to rows, or rows to columns if there are fewer, at the least cost.

    It can be jitted and batched; the cost of the result, ``cost_matrix[i, j].sum()``, has the
    derivative one expects.

    Args:
        cost_matrix: matrix of finite costs.

    Returns:
        (i, j), int32: rows and their columns, as many as the shorter side, with the rows in order
        where all have a column.

    Raises:
        ValueError: it is no matrix.

    Example:
        >>> cost = fnp.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> i, j = optim.assignment.hungarian_algorithm(cost)
        >>> j, cost[i, j].sum()
        (Array([1, 0, 2], dtype=int32), Array(5., dtype=float32))

    References:
        scipy.optimize.linear_sum_assignment
    """
    cost = fnp.asarray(cost_matrix)
    if cost.ndim != 2:
        raise ValueError(f"hungarian_algorithm takes a matrix of costs, not shape {cost.shape}")
    rows, columns = cost.shape
    cost = lax.stop_gradient(cost).astype(fnp.promote_types(cost.dtype, fnp.float32))
    if min(rows, columns) == 0:
        return fnp.zeros(0, fnp.int32), fnp.zeros(0, fnp.int32)
    if rows > columns:
        found = _assign(cost.T)
        order = fnp.argsort(found).astype(fnp.int32)
        return found[order], order
    return fnp.arange(rows, dtype=fnp.int32), _assign(cost)


def _assign(cost: Any) -> Any:
    """Return the column of each row of a matrix that has no fewer columns than rows."""
    rows, columns = cost.shape
    none = fnp.int32(-1)
    start = (
        fnp.zeros(rows, cost.dtype), fnp.zeros(columns, cost.dtype),
        fnp.full(columns, none), fnp.full(rows, none),
    )  # fmt: skip
    return lax.fori_loop(0, rows, lambda row, state: _augment(cost, row, state), start)[3]


def _augment(cost: Any, row: Any, state: Any) -> Any:
    """Give another row a column, by the shortest path over columns that others have."""
    u, v, row_of, column_of = state
    columns = cost.shape[1]
    row = fnp.asarray(row, dtype=fnp.int32)

    def unfinished(search: Any) -> Any:
        return search[-1] < 0

    def nearer(search: Any) -> Any:
        here, least, seen, length, before, _ = search
        reduced = least + cost[here] - u[here] - v
        shorter = ~seen & (reduced < length)
        length = fnp.where(shorter, reduced, length)
        before = fnp.where(shorter, here, before)
        open_length = fnp.where(seen, fnp.inf, length)
        # Among equals a column that no row has ends the search.
        best = fnp.min(open_length)
        free = (open_length == best) & (row_of < 0)
        column = fnp.where(fnp.any(free), fnp.argmax(free), fnp.argmin(open_length))
        column = column.astype(fnp.int32)
        done = row_of[column] < 0
        end = fnp.where(done, column, -1).astype(fnp.int32)
        here = fnp.where(done, here, row_of[column])
        return here, best, seen.at[column].set(True), length, before, end

    zero = fnp.zeros((), cost.dtype)
    start = (
        row, zero, fnp.zeros(columns, bool), fnp.full(columns, fnp.inf, cost.dtype),
        fnp.full(columns, fnp.int32(-1)), fnp.int32(-1),
    )  # fmt: skip
    _, least, seen, length, before, end = lax.while_loop(unfinished, nearer, start)
    # Potentials: of the columns that were passed, and of the rows that have them.
    passed = seen & (row_of >= 0)
    gain = fnp.where(passed, least - length, 0)
    u = u.at[fnp.where(passed, row_of, 0)].add(gain).at[row].add(least)
    v = v - fnp.where(seen, least - length, 0)

    def back(path: Any) -> Any:
        column, row_of, column_of, _ = path
        owner = before[column]
        following = column_of[owner]
        return (
            following,
            row_of.at[column].set(owner),
            column_of.at[owner].set(column),
            owner == row,
        )

    path = (end, row_of, column_of, fnp.asarray(False))
    _, row_of, column_of, _ = lax.while_loop(lambda path: ~path[-1], back, path)
    return u, v, row_of, column_of


base_hungarian_algorithm = hungarian_algorithm
