"""Check derivatives against finite differences: `check_grads` and its two halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes, tree
from funtorch.core import ArrayImpl
from funtorch.transforms import jvp, vjp

__all__ = ["check_grads", "check_jvp", "check_vjp"]


def _differentiable(x: Any) -> bool:
    return dtypes.is_inexact(x.dtype)


def _direction(rng: np.random.Generator, x: Any) -> Any:
    """Return a random tangent of ``x``; float0 where its dtype has none."""
    if not _differentiable(x):
        return np.zeros(x.shape, dtypes.float0)
    t = rng.normal(size=x.shape)
    if dtypes.is_complex(x.dtype):
        t = t + 1j * rng.normal(size=x.shape)
    return ArrayImpl(np.asarray(t, x.dtype))


def _moved(x: Any, t: Any, eps: float) -> Any:
    return x + t * np.asarray(eps, x.dtype) if _differentiable(x) else x


def _as_arrays(args: Any) -> Any:
    return tree.map(lambda x: x if hasattr(x, "aval") else ArrayImpl(np.asarray(x)), args)


def _tolerances(
    leaves: Sequence[Any], atol: float | None, rtol: float | None, eps: float | None
) -> tuple[float, float, float]:
    """Fill in what is not given: central differences are good to eps**2 + precision / eps."""
    precisions = [dtypes.finfo(x.dtype).eps for x in leaves if _differentiable(x)]
    precision = float(max(precisions, default=1e-7))
    step = precision ** (1 / 3) if eps is None else eps
    tol = 50 * precision ** (2 / 3)
    return tol if atol is None else atol, tol if rtol is None else rtol, step


def _assert_close(got: Any, want: Any, atol: float, rtol: float, what: str) -> None:
    for (path, g), w in zip(tree.leaves_with_path(got), tree.leaves(want), strict=True):
        np.testing.assert_allclose(
            np.asarray(g), np.asarray(w), rtol=rtol, atol=atol, err_msg=what + tree.keystr(path)
        )


def check_jvp(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    seed: int = 0,
) -> None:
    """Check the value and the tangent that `jvp` gives against ``f`` and central differences.

    Args:
        f: a function of arrays or pytrees of arrays, with float or complex outputs.
        args: where to check; float64 gives the sharpest check.
        atol, rtol: tolerances; by default what central differences reach in this precision.
        eps: the step of the differences.
        seed: picks the random direction.

    Raises:
        AssertionError: naming the output that is off.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.testing import check_jvp
        >>> check_jvp(ft.numpy.sin, (0.5,))
    """
    args = _as_arrays(tuple(args))
    rng = np.random.default_rng(seed)
    atol, rtol, eps = _tolerances(tree.leaves(args), atol, rtol, eps)
    tangents = tree.map(lambda x: _direction(rng, x), args)
    value, tangent = jvp(f, args, tangents)
    _assert_close(value, f(*args), atol, rtol, "the value under jvp")
    above = f(*tree.map(lambda x, t: _moved(x, t, eps), args, tangents))
    below = f(*tree.map(lambda x, t: _moved(x, t, -eps), args, tangents))
    slope = tree.map(lambda a, b: (np.asarray(a) - np.asarray(b)) / (2 * eps), above, below)
    _assert_close(tangent, slope, atol, rtol, "the tangent against finite differences")


def check_vjp(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    seed: int = 0,
) -> None:
    """Check `vjp` against central differences: it must be the transpose of what they give.

    Arguments as in `check_jvp`.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.testing import check_vjp
        >>> check_vjp(ft.numpy.sin, (0.5,))
    """
    args = _as_arrays(tuple(args))
    rng = np.random.default_rng(seed)
    atol, rtol, eps = _tolerances(tree.leaves(args), atol, rtol, eps)
    tangents = tree.map(lambda x: _direction(rng, x), args)
    value, back = vjp(f, *args)
    _assert_close(value, f(*args), atol, rtol, "the value under vjp")
    above = f(*tree.map(lambda x, t: _moved(x, t, eps), args, tangents))
    below = f(*tree.map(lambda x, t: _moved(x, t, -eps), args, tangents))
    cts = tree.map(lambda y: _direction(rng, y), value)
    found = back(cts)
    slope = tree.map(lambda a, b: (np.asarray(a) - np.asarray(b)) / (2 * eps), above, below)
    want = _inner(tree.leaves(cts), tree.leaves(slope))
    got = _inner(tree.leaves(found), tree.leaves(tangents))
    np.testing.assert_allclose(got, want, rtol=10 * rtol, atol=10 * atol, err_msg="vjp against jvp")


def _inner(xs: Sequence[Any], ys: Sequence[Any]) -> float:
    """Return Re sum(x y), the pairing (without conjugation) under which vjp is jvp transposed."""
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in zip(xs, ys, strict=True)]
    return float(sum(np.sum(x * y).real for x, y in pairs if x.dtype != dtypes.float0))


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Check the derivatives of ``f`` up to ``order``, forward, reverse and mixed.

    Args:
        f: a function of arrays or pytrees of arrays, with float or complex outputs.
        args: where to check; float64 gives the sharpest check.
        order: how often to differentiate.
        modes: 'fwd', 'rev' or both.
        atol, rtol, eps: as in `check_jvp`.

    Raises:
        AssertionError: naming the output that is off.
        ValueError: if a mode is unknown.

    Example:
        >>> import numpy as np
        >>> import funtorch as ft
        >>> from funtorch.testing import check_grads
        >>> check_grads(ft.numpy.tanh, (np.array([0.1, 2.0]),), order=2)
    """
    unknown = sorted(set(modes) - {"fwd", "rev"})
    if unknown:
        raise ValueError(f"check_grads: modes are 'fwd' and 'rev', got {unknown}")
    args = tuple(args)
    if "fwd" in modes:
        check_jvp(f, args, atol=atol, rtol=rtol, eps=eps)
    if "rev" in modes:
        check_vjp(f, args, atol=atol, rtol=rtol, eps=eps)
    if order <= 1:
        return
    rng = np.random.default_rng(order)
    arrays = _as_arrays(args)
    tangents = tree.map(lambda x: _direction(rng, x), arrays)
    if "fwd" in modes:
        check_grads(lambda *xs: jvp(f, xs, tangents), args, order - 1, modes, atol, rtol, eps)
    if "rev" in modes:
        cts = tree.map(lambda y: _direction(rng, y), _as_arrays(f(*arrays)))

        def back(*xs: Any) -> Any:
            value, pull = vjp(f, *xs)
            grads = [g for g in tree.leaves(pull(cts)) if g.dtype != dtypes.float0]
            return value, grads

        check_grads(back, args, order - 1, modes, atol, rtol, eps)
