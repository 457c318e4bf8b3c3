"""Pieces of numerics that training uses: power iteration, least squares, factors of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch import lax, random, tree
from funtorch.optim.norms import tree_norm, tree_vdot
from funtorch.transforms import custom_vjp

__all__ = ["multi_normal", "nnls", "power_iteration", "scale_gradient"]


def power_iteration(
    matrix: Any | Callable[[Any], Any],
    *,
    v0: Any = None,
    num_iters: int = 100,
    error_tolerance: float = 1e-6,
    precision: Any = None,
    key: Any = None,
) -> tuple[Any, Any]:
    """Find the eigenvalue of the largest absolute value, and its eigenvector.

    Args:
        matrix: a symmetric matrix, or a function that multiplies by one, of pytrees.
        v0: where to start; random by default, and needed for a function.
        num_iters: most iterations.
        error_tolerance: relative residual to stop at.
        precision: of the products.
        key: of the random start.

    Returns:
        (eigenvalue, eigenvector of norm 1).

    Raises:
        ValueError: ``matrix`` is a function, and there is no ``v0``.

    Example:
        >>> value, vector = optim.power_iteration(fnp.diag(fnp.array([1.0, 5.0, 2.0])))
        >>> round(float(value), 3)
        5.0

    References:
        https://en.wikipedia.org/wiki/Power_iteration
    """
    if callable(matrix):
        times = matrix
        if v0 is None:
            raise ValueError("power_iteration of a function needs v0, a pytree to start from")
    else:
        matrix = fnp.asarray(matrix)
        times = lambda v: fnp.matmul(matrix, v, precision=precision)  # noqa: E731
        if v0 is None:
            key = random.key(0) if key is None else key
            v0 = random.uniform(key, matrix.shape[-1:], matrix.dtype, -1.0, 1.0)

    def unit(v: Any) -> Any:
        norm = tree_norm(v)
        return tree.map(lambda x: (x / norm).astype(x.dtype), v)

    def residual(state: Any) -> Any:
        vector, image, value, _ = state
        return tree_norm(tree.map(lambda x, y: y - value * x, vector, image))

    def unfinished(state: Any) -> Any:
        near = residual(state) < error_tolerance * fnp.abs(state[2])
        return ~near & (state[3] < num_iters)

    def step(state: Any) -> Any:
        vector = unit(state[1])
        image = times(vector)
        return vector, image, tree_vdot(vector, image), state[3] + 1

    vector = unit(v0)
    image = times(vector)
    start = (vector, image, tree_vdot(vector, image), fnp.zeros((), fnp.int32))
    _, image, value, _ = lax.while_loop(unfinished, step, start)
    return value, unit(image)


def nnls(A: Any, b: Any, iters: int, unroll: int = 1, L: Any = None) -> Any:
    """Solve the least squares problem of ``A x = b`` under ``x >= 0``.

    Accelerated projected gradient descent, for a number of iterations.

    Args:
        A: matrix, (m, n).
        b: vector (m,), or matrix (m, k) of them.
        iters: number of iterations.
        unroll: how many of them are written one after the other.
        L: bound on the largest eigenvalue of A^T A; the Frobenius or the 1-norm by default.

    Returns:
        x, (n,) or (n, k).

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> x = optim.nnls(fnp.eye(2), fnp.array([1.0, -1.0]), 50)
        >>> [round(float(value), 3) for value in x]
        [1.0, 0.0]

    References:
        Nesterov, "A method for solving the convex programming problem with convergence rate
        O(1/k²)" (1983).
    """
    A, b = fnp.asarray(A), fnp.asarray(b)
    if A.ndim != 2 or b.ndim not in (1, 2) or A.shape[0] != b.shape[0]:
        raise ValueError(
            f"nnls takes A of shape (m, n) and b of (m,) or (m, k); it was given {A.shape} and "
            f"{b.shape}"
        )
    gram, target = A.T @ A, A.T @ b
    if L is None:
        L = fnp.minimum(fnp.linalg.norm(gram), fnp.max(fnp.sum(fnp.abs(gram), axis=0), initial=0))
    L = fnp.where(L == 0, 1, L)

    def step(state: Any, _: None) -> tuple[Any, None]:
        x, ahead, weight = state
        new = fnp.maximum(ahead - (gram @ ahead - target) / L, 0)
        heavier = (1 + fnp.sqrt(1 + 4 * weight**2)) / 2
        return (new, new + (weight - 1) / heavier * (new - x), heavier), None

    zeros = fnp.zeros_like(target)
    start = (zeros, zeros, fnp.zeros((), target.dtype))
    return lax.scan(step, start, None, length=iters, unroll=unroll)[0][0]


@custom_vjp
def _scaled(inputs: Any, factor: Any) -> Any:
    return inputs


_scaled.defvjp(
    lambda inputs, factor: (inputs, factor),
    lambda factor, ct: (tree.map(lambda x: (x * factor).astype(x.dtype), ct), None),
)


def scale_gradient(inputs: Any, scale: Any) -> Any:
    """Return the inputs, with a derivative that is multiplied by a factor.

    Args:
        inputs: a pytree of arrays.
        scale: the factor.

    Returns:
        The inputs.

    Example:
        >>> float(ft.grad(lambda x: optim.scale_gradient(x, 0.5) ** 2)(3.0))
        3.0

    References:
        Ganin & Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML (2015).
    """
    return _scaled(inputs, scale)


class _MultiNormal:
    """A normal distribution of independent components."""

    def __init__(self, loc: Any, log_scale: Any) -> None:
        self._mean, self._log_scale = fnp.asarray(loc), fnp.asarray(log_scale)

    @property
    def params(self) -> list[Any]:
        return [self._mean, self._log_scale]

    @property
    def log_scale(self) -> Any:
        return self._log_scale

    def sample(self, shape: tuple[int, ...], key: Any) -> Any:
        own = fnp.broadcast_shapes(self._mean.shape, self._log_scale.shape)
        noise = random.normal(key, (*shape, *own))
        return noise * fnp.exp(self._log_scale) + self._mean

    def log_prob(self, x: Any) -> Any:
        scaled = (x - self._mean) / fnp.exp(self._log_scale)
        density = -0.5 * scaled**2 - self._log_scale - 0.5 * fnp.log(2 * fnp.pi)
        own = fnp.broadcast_shapes(self._mean.shape, self._log_scale.shape)
        return fnp.sum(density, axis=tuple(range(-len(own), 0)))


def multi_normal(loc: Any, log_scale: Any) -> Any:
    """Make a normal distribution of independent components.

    Args:
        loc: means.
        log_scale: logarithms of standard deviations.

    Returns:
        An object with ``sample(shape, key)``, ``log_prob(x)`` and ``params``.

    Example:
        >>> optim.multi_normal(fnp.zeros(2), fnp.zeros(2)).log_prob(fnp.zeros(2))
        Array(-1.8378772, dtype=float32)
    """
    return _MultiNormal(loc, log_scale)
