"""Optimizers of matrices: steps made orthogonal (Muon), and states of low rank (GaLore)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import lax, tree
from funtorch.optim.adams import adamw
from funtorch.optim.adaptive import scale_by_adam
from funtorch.optim.adding import add_decayed_weights
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    check_decay,
    each,
    per_leaf,
    piece,
    stateless,
    zero_count,
    zeros_like,
)
from funtorch.optim.moments import Unbiased, mix
from funtorch.optim.norms import safe_increment
from funtorch.optim.scaling import scale_by_learning_rate
from funtorch.optim.wrappers import MaskedNode, partition
from funtorch.transforms import vmap

__all__ = [
    "GaLoreDimensionNumbers",
    "GaLoreState",
    "MuonDimensionNumbers",
    "MuonState",
    "galore",
    "muon",
    "scale_by_galore",
    "scale_by_muon",
]

_COEFFICIENTS = {
    "standard": (3.4445, -4.775, 2.0315),
    "dion": [
        (4.0848, -6.8946, 2.927),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ],
}


class MuonDimensionNumbers(NamedTuple):
    """Which axes of an array are the rows of a matrix, and which its columns.

    Attributes:
        reduction_axis: the axis, or axes, that inputs are summed over.
        output_axis: the axis, or axes, of outputs; what is left is a batch of matrices.
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


class GaLoreDimensionNumbers(NamedTuple):
    """Which axes of an array are the rows of a matrix, and which its columns.

    Attributes:
        reduction_axis: the axis, or axes, of rows.
        output_axis: the axis, or axes, of columns.
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


class MuonState(NamedTuple):
    """Steps (int32), the average of gradients, and the coefficients of the iteration."""

    count: Any
    mu: Any
    ns_coeffs: Any


class GaLoreState(NamedTuple):
    """Steps (int32), the state of low rank, and what projects to it."""

    count: Any
    base_optimizer_state: Any
    projector: Any


# ------------------------------------------------------------------------------- arrays as matrices
class _View(NamedTuple):
    """How an array is seen as a batch of matrices, and back."""

    fan_in: int
    fan_out: int
    there: Callable[[Any], Any]
    back: Callable[[Any], Any]


def _matrices(name: str, x: Any, numbers: Any) -> _View:
    def axes(given: Any) -> tuple[int, ...]:
        given = (given,) if isinstance(given, int) else tuple(given)
        return tuple([axis % x.ndim for axis in given])

    if x.ndim < 2:
        raise ValueError(f"{name} works on arrays of rank 2 and more, not on shape {x.shape}")
    rows, columns = axes(numbers.reduction_axis), axes(numbers.output_axis)
    if set(rows) & set(columns):
        raise ValueError(
            f"{name}: an axis cannot be of rows and of columns; for shape {x.shape} it was given "
            f"{numbers}"
        )
    batch = tuple([axis for axis in range(x.ndim) if axis not in (*rows, *columns)])
    order = (*batch, *rows, *columns)
    shape = tuple([x.shape[axis] for axis in order])
    back = tuple(sorted(range(x.ndim), key=order.__getitem__))
    sizes = [math.prod([x.shape[axis] for axis in group]) for group in (batch, rows, columns)]
    return _View(
        sizes[1],
        sizes[2],
        lambda y: y.transpose(order).reshape(sizes),
        lambda y: y.reshape(shape).transpose(back),
    )


# ------------------------------------------------------------------------------------ orthogonality
def _step(x: Any, gram: Any, c: Any) -> Any:
    return c[0] * x + (c[1] * gram + c[2] * gram @ gram) @ x


def _by_rows(x: Any, eps: float) -> tuple[Any, Any]:
    """Scale rows by the sums of |x x*| (almost orthogonal layers)."""
    gram = x @ x.T.conj()
    factor = 1 / fnp.sqrt(fnp.maximum(fnp.sum(fnp.abs(gram), axis=-1), eps))[:, None]
    return x * factor, gram * factor * factor.T


def _by_schatten(x: Any, eps: float) -> tuple[Any, Any]:
    """Scale by the root of the norm of x x*."""
    gram = x @ x.T.conj()
    factor = 1 / fnp.sqrt(fnp.maximum(fnp.linalg.norm(gram), eps))
    return x * factor, gram * factor**2


def _by_norm(order: Any) -> Callable[[Any, float], tuple[Any, Any]]:
    def scaled(x: Any, eps: float) -> tuple[Any, Any]:
        x = x / (fnp.linalg.norm(x, ord=order) + eps)
        return x, x @ x.T.conj()

    return scaled


_PRECONDITIONINGS: dict[str, Callable[[Any, float], tuple[Any, Any]]] = {
    "frobenius": _by_norm("fro"),
    "spectral": _by_norm(2),
    "aol": _by_rows,
    "schatten": _by_schatten,
}


def _orthogonal(x: Any, coefficients: Any, steps: int, how: str, eps: float) -> Any:
    """Bring the singular values of a matrix near 1, by an odd polynomial again and again."""
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    c = fnp.asarray(coefficients, dtype=fnp.real(x).dtype)
    rows = [c] * steps if c.ndim == 1 else [c[k] for k in range(c.shape[0])]
    x, gram = _PRECONDITIONINGS[how](x, eps)
    for k, row in enumerate(rows):
        x = _step(x, gram if k == 0 else x @ x.T.conj(), row)
    return x if wide else x.T


def _is_numbers(x: Any) -> bool:
    return x is None or isinstance(x, (MuonDimensionNumbers, GaLoreDimensionNumbers))


def _numbers_for(given: Any, updates: Any, default: Any) -> Any:
    """Return a tree of dimension numbers like ``updates``."""
    given = given(updates) if callable(given) else given
    if given is None:
        return tree.map(lambda x: default(), updates)
    if _is_numbers(given):
        return tree.map(lambda x: given, updates)
    return given


def _with_numbers(f: Callable[..., Any], numbers: Any, *trees: Any) -> Any:
    """Map over arrays and the dimension numbers that belong to them; None is no array."""

    def under(n: Any, *xs: Any) -> Any:
        return each(lambda *ys: f(n, *ys), *xs)

    return tree.map(under, numbers, *trees, is_leaf=_is_numbers)


def scale_by_muon(
    ns_coeffs: Any = _COEFFICIENTS["standard"],
    ns_steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Any = None,
) -> GradientTransformation:
    """Replace matrices of averaged gradients by nearly orthogonal ones of the same directions.

    Newton-Schulz: after scaling, x <- a x + (b x x* + c (x x*)²) x, some times.

    Args:
        ns_coeffs: a, b, c; one row of them for all iterations, or a row for each.
        ns_steps: number of iterations.
        beta: decay of the average of gradients.
        eps: keeps divisors from 0.
        mu_dtype: dtype of the average; the parameters' by default.
        nesterov: whether to use Nesterov's momentum.
        adaptive: whether to multiply by <average, update>, the dual norm.
        preconditioning: how to scale first, 'frobenius', 'spectral', 'aol' or 'schatten'.
        weight_dimension_numbers: a `MuonDimensionNumbers`, a pytree of them, or a function from
            updates to one; by default matrices are matrices.

    Returns:
        The transformation.

    Raises:
        ValueError: coefficients do not come in threes, or are too few; there is no such
            preconditioning; or an array is no matrix.

    Example:
        >>> t = optim.contrib.scale_by_muon()
        >>> update = t.update([fnp.diag(fnp.array([3.0, 0.3]))], t.init([fnp.eye(2)]))[0][0]
        >>> bool((fnp.linalg.svd(update)[1] > 0.6).all())
        True

    References:
        Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
    """
    check_decay("scale_by_muon", beta=beta)
    if preconditioning not in _PRECONDITIONINGS:
        raise ValueError(
            f"scale_by_muon: preconditioning is one of {sorted(_PRECONDITIONINGS)}, not "
            f"{preconditioning!r}"
        )

    def init(params: Any) -> MuonState:
        c = fnp.asarray(ns_coeffs, dtype=fnp.float32)
        if c.ndim not in (1, 2) or c.shape[-1] != 3 or (c.ndim == 2 and c.shape[0] > ns_steps):
            raise ValueError(
                "scale_by_muon takes ns_coeffs of shape (3,) or (n, 3), with n up to ns_steps = "
                f"{ns_steps}; it was given {c.shape}"
            )
        return MuonState(zero_count(), zeros_like(params, mu_dtype), c)

    def update(updates: Any, state: MuonState, params: Any) -> tuple[Any, MuonState]:
        count = safe_increment(state.count)
        now, ahead = Unbiased(beta, count), Unbiased(beta, count + 1)

        def average(g: Any, m: Any) -> tuple[Any, Any]:
            m = mix(g, m, beta)
            return (mix(now(fnp.asarray(g)), ahead(m), beta) if nesterov else now(m)), m

        shown, mu = per_leaf(average, updates, (state.mu,))

        def orthogonal(numbers: Any, x: Any) -> Any:
            view = _matrices("muon", x, numbers)
            each_matrix = functools.partial(
                _orthogonal, coefficients=state.ns_coeffs, steps=ns_steps, how=preconditioning,
                eps=eps,
            )  # fmt: skip
            y = view.back(vmap(each_matrix)(view.there(x)))
            return fnp.sum(fnp.conj(x) * y) * y if adaptive else y

        numbers = _numbers_for(weight_dimension_numbers, updates, MuonDimensionNumbers)
        return _with_numbers(orthogonal, numbers, shown), MuonState(count, mu, state.ns_coeffs)

    return piece(MuonState, init, update)


def _scale_by_shape(numbers: Any, consistent_rms: float | None) -> GradientTransformation:
    """Multiply by sqrt(max(1, fan out / fan in)), or to a root mean square that does not differ."""

    def scaled(own: Any, x: Any) -> Any:
        view = _matrices("muon", x, own)
        if consistent_rms is not None:
            return x * (math.sqrt(max(view.fan_in, view.fan_out)) * consistent_rms)
        return x * math.sqrt(max(1, view.fan_out / view.fan_in))

    return stateless(
        lambda updates, params: _with_numbers(
            scaled, _numbers_for(numbers, updates, MuonDimensionNumbers), updates
        )
    )


def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = _COEFFICIENTS["standard"],
    ns_steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: float = 0.9,
    adam_b2: float = 0.999,
    adam_eps_root: float = 0.0,
    adam_weight_decay: ScalarOrSchedule = 0.0,
    adam_learning_rate: ScalarOrSchedule | None = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: float | None = None,
) -> GradientTransformationExtraArgs:
    """Make Muon: nearly orthogonal steps for matrices, AdamW for everything else.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        ns_coeffs: coefficients of the iteration, or 'standard' or 'dion'; see `scale_by_muon`.
        ns_steps: number of iterations.
        beta: decay of the average of gradients.
        eps: keeps divisors from 0.
        weight_decay: times the learning rate, the part of a matrix that goes at each step.
        weight_decay_mask: which weights decay; see `add_decayed_weights`.
        mu_dtype: dtype of averages; the parameters' by default.
        nesterov: whether to use Nesterov's momentum.
        adaptive: whether to multiply by the dual norm.
        preconditioning: 'frobenius', 'spectral', 'aol' or 'schatten'.
        adam_b1: AdamW's decay of the average of gradients.
        adam_b2: AdamW's decay of the average of squares.
        adam_eps_root: keeps AdamW's root from 0.
        adam_weight_decay: AdamW's weight decay.
        adam_learning_rate: AdamW's learning rate; the same by default.
        muon_weight_dimension_numbers: for arrays that are seen as matrices their
            `MuonDimensionNumbers`, for the others None, as a pytree or a function from parameters
            to one; by default all arrays of rank 2.
        consistent_rms: root mean square of all steps, for one learning rate with AdamW (0.2).

    Returns:
        The optimizer; its update needs ``params``.

    Raises:
        ValueError: see `scale_by_muon`.

    Example:
        >>> optimizer = optim.contrib.muon(0.1)
        >>> params = {"w": fnp.eye(2), "b": fnp.zeros(2)}
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> updates["w"].shape
        (2, 2)

    References:
        Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
        Liu et al., "Muon is scalable for LLM training" (2025).
    """
    if isinstance(ns_coeffs, str):
        if ns_coeffs not in _COEFFICIENTS:
            raise ValueError(
                f"muon: ns_coeffs is one of {sorted(_COEFFICIENTS)}, not {ns_coeffs!r}"
            )
        ns_coeffs = _COEFFICIENTS[ns_coeffs]

    def numbers_of(params: Any) -> Any:
        given = muon_weight_dimension_numbers
        given = given(params) if callable(given) else given
        if given is not None:
            return given
        return tree.map(lambda x: MuonDimensionNumbers() if x.ndim == 2 else None, params)

    def labels(params: Any) -> Any:
        return tree.map(
            lambda n, x: tree.map(lambda y: "adam" if n is None else "muon", x),
            numbers_of(params), params, is_leaf=_is_numbers,
        )  # fmt: skip

    def left(updates: Any) -> Any:
        """Return numbers for what is left of the updates: the others are masked."""
        if muon_weight_dimension_numbers is None:
            return tree.map(lambda x: MuonDimensionNumbers(), updates)
        return tree.map(
            lambda n, x: MaskedNode() if n is None else n,
            numbers_of(updates), updates, is_leaf=_is_numbers,
        )  # fmt: skip

    rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    return partition(
        {
            "muon": chain(
                scale_by_muon(
                    ns_coeffs, ns_steps, beta, eps, mu_dtype, nesterov=nesterov, adaptive=adaptive,
                    preconditioning=preconditioning, weight_dimension_numbers=left,
                ),
                _scale_by_shape(left, consistent_rms),
                add_decayed_weights(weight_decay, weight_decay_mask),
                scale_by_learning_rate(learning_rate),
            ),
            "adam": adamw(
                rate, adam_b1, adam_b2, eps, adam_eps_root, mu_dtype, adam_weight_decay,
                nesterov=nesterov,
            ),
        },
        labels,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------- low rank
def scale_by_galore(
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: float = 1.0,
    base_optimizer: GradientTransformation | None = None,
    weight_dimension_numbers: Any = None,
) -> GradientTransformation:
    """Transform gradients of matrices projected to a few directions, and project back.

    The directions are the first singular vectors of a gradient, found anew every so many steps,
    on the longer side of the matrix.

    Args:
        rank: number of directions.
        update_proj_gap: steps from one time to the next.
        scale: factor of the updates that are projected back.
        base_optimizer: what transforms; `scale_by_adam` by default.
        weight_dimension_numbers: a `GaLoreDimensionNumbers`, a pytree of them with None where
            arrays stay as they are, or a function from parameters to one; by default all
            matrices.

    Returns:
        The transformation.

    Raises:
        TypeError: ``rank`` is no integer.
        ValueError: ``rank`` is not positive.

    Example:
        >>> t = optim.contrib.scale_by_galore(rank=1)
        >>> state = t.init([fnp.zeros((4, 3))])
        >>> state.base_optimizer_state.mu[0].shape
        (1, 3)

    References:
        Zhao et al., "GaLore", ICML (2024).
    """
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise TypeError(f"scale_by_galore takes an integer rank, not {rank!r}")
    if rank < 1:
        raise ValueError(f"scale_by_galore takes a rank of at least 1, not {rank}")
    inner = scale_by_adam() if base_optimizer is None else base_optimizer

    def numbers_of(params: Any) -> Any:
        given = weight_dimension_numbers
        if isinstance(given, GaLoreDimensionNumbers):
            return tree.map(lambda p: given if p.ndim >= 2 else None, params)
        given = given(params) if callable(given) else given
        if given is not None:
            return given
        return tree.map(lambda p: GaLoreDimensionNumbers() if p.ndim == 2 else None, params)

    def view_of(numbers: Any, x: Any) -> _View:
        view = _matrices("galore", x, numbers)
        if view.fan_in * view.fan_out != x.size:
            raise ValueError(
                f"galore: every axis must be of rows or of columns; for shape {x.shape} it was "
                f"given {numbers}"
            )
        return view

    def projector(numbers: Any, p: Any) -> Any:
        if numbers is None:
            return fnp.zeros((0, 0), p.dtype)
        view = view_of(numbers, p)
        few = min(rank, view.fan_in, view.fan_out)
        return fnp.zeros((max(view.fan_in, view.fan_out), few), p.dtype)

    def low(numbers: Any, p: Any, directions: Any) -> Any:
        if numbers is None:
            return p
        view = view_of(numbers, p)
        matrix = view.there(p)[0]
        return directions.T @ matrix if view.fan_in >= view.fan_out else matrix @ directions

    def init(params: Any) -> GaLoreState:
        numbers = numbers_of(params)
        directions = _with_numbers(projector, numbers, params)
        small = _with_numbers(low, numbers, tree.map(fnp.zeros_like, params), directions)
        return GaLoreState(zero_count(), inner.init(small), directions)

    def update(updates: Any, state: GaLoreState, params: Any) -> tuple[Any, GaLoreState]:
        numbers = numbers_of(updates)
        anew = state.count % update_proj_gap == 0

        def find(own: Any, g: Any, old: Any) -> Any:
            if own is None:
                return old
            view = view_of(own, g)

            def first(matrix: Any) -> Any:
                u, _, vh = fnp.linalg.svd(matrix.astype(fnp.float32), full_matrices=False)
                found = u if view.fan_in >= view.fan_out else vh.T
                return found[:, : old.shape[1]].astype(old.dtype)

            return lax.cond(anew, first, lambda matrix: old, view.there(g)[0])

        def back(own: Any, move: Any, directions: Any, g: Any) -> Any:
            if own is None:
                return move
            view = view_of(own, g)
            tall = view.fan_in >= view.fan_out
            matrix = directions @ move if tall else move @ directions.T
            return (scale * view.back(matrix)).astype(g.dtype)

        directions = _with_numbers(find, numbers, updates, state.projector)
        small = _with_numbers(low, numbers, updates, directions)
        moves, base = inner.update(small, state.base_optimizer_state, None)
        updates = _with_numbers(back, numbers, moves, directions, updates)
        return updates, GaLoreState(safe_increment(state.count), base, directions)

    return piece(GaLoreState, init, update)


def galore(
    learning_rate: ScalarOrSchedule,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: float = 1.0,
    base_optimizer: GradientTransformation | None = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    weight_dimension_numbers: Any = None,
) -> GradientTransformationExtraArgs:
    """Make GaLore: AdamW whose averages of matrices are of low rank; see `scale_by_galore`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        rank: number of directions.
        update_proj_gap: steps from one choice of directions to the next.
        scale: factor of the updates that are projected back.
        base_optimizer: what transforms; `scale_by_adam` by default.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.
        weight_dimension_numbers: which arrays are seen as which matrices.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.galore(0.5, rank=1), [fnp.ones((2, 2))]
        >>> fnp.round(optimizer.update(params, optimizer.init(params), params)[0][0], 3)
        Array([[-0.354, -0.354],
               [-0.354, -0.354]], dtype=float32)

    References:
        Zhao et al., "GaLore", ICML (2024).
    """
    return chain(
        scale_by_galore(rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
