"""Convolutions in any layout, with the names of jax.lax.

All of them are one primitive in one layout (batch, features, *space); other layouts are transposes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.lax.windows import pads_per_axis, per_axis, spans
from funtorch.numpy import manipulation
from funtorch.numpy.promotion import check_precision, describe, static_int, to_array
from funtorch.ops.conv import conv_general_dilated_p
from funtorch.ops.window import windows

__all__ = [
    "ConvDimensionNumbers",
    "ConvGeneralDilatedDimensionNumbers",
    "conv",
    "conv_dimension_numbers",
    "conv_general_dilated",
    "conv_general_dilated_local",
    "conv_general_dilated_patches",
    "conv_transpose",
    "conv_with_general_padding",
]


class ConvDimensionNumbers(NamedTuple):
    """Which axis of a convolution's arrays is which.

    Attributes:
        lhs_spec: axes of lhs that are (batch, features, *space).
        rhs_spec: axes of rhs that are (out features, in features, *space).
        out_spec: axes of the result that are (batch, features, *space).
    """

    lhs_spec: Sequence[int]
    rhs_spec: Sequence[int]
    out_spec: Sequence[int]


ConvGeneralDilatedDimensionNumbers = tuple[str, str, str] | ConvDimensionNumbers | None


def conv_dimension_numbers(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    dimension_numbers: ConvGeneralDilatedDimensionNumbers,
) -> ConvDimensionNumbers:
    """Return dimension numbers in their canonical form, as axis numbers.

    Args:
        lhs_shape, rhs_shape: shapes of equal length.
        dimension_numbers: None for (batch, features, *space) and (out, in, *space); strings such
            as ``("NHWC", "HWIO", "NHWC")``, where N, C, O and I are batch, features, out and in
            features, and other letters name the space axes in all three; or the canonical form.

    Raises:
        TypeError: ranks differ, or it is neither of the three.
        ValueError: a letter is missing, doubled, or not in all three strings.

    Example:
        >>> conv_dimension_numbers((1, 8, 8, 3), (3, 3, 3, 4), ("NHWC", "HWIO", "NHWC")).rhs_spec
        (3, 2, 0, 1)

    References:
        jax.lax.conv_dimension_numbers
    """
    n = len(lhs_shape)
    if n != len(rhs_shape):
        raise TypeError(
            f"a convolution takes lhs and rhs of equal rank, got shapes {tuple(lhs_shape)} and "
            f"{tuple(rhs_shape)}"
        )
    if dimension_numbers is None:
        return ConvDimensionNumbers(*(tuple(range(n)),) * 3)
    specs = tuple(dimension_numbers)
    if len(specs) != 3:
        raise TypeError(
            "dimension_numbers must have three parts, for lhs, rhs and the result, got "
            f"{dimension_numbers!r}"
        )
    letters = [s for s in specs if isinstance(s, str)]
    if len(letters) == 3:
        return _from_letters(letters, n)
    found = tuple(tuple(static_int(k, "dimension_numbers") for k in s) for s in specs)
    if any(sorted(s) != list(range(n)) for s in found):
        raise ValueError(
            f"dimension_numbers {dimension_numbers!r} must hold each of the {n} axes once"
        )
    return ConvDimensionNumbers(*found)


def _from_letters(specs: Sequence[str], n: int) -> ConvDimensionNumbers:
    roles = ("NC", "OI", "NC")
    for spec, role, name in zip(specs, roles, ("lhs", "rhs", "the result"), strict=True):
        if len(spec) != n or len(set(spec)) != n or not set(role) <= set(spec):
            raise ValueError(
                f"dimension_numbers {tuple(specs)}: {spec!r}, for {name}, must be {n} different "
                f"letters, among them {role[0]} and {role[1]}"
            )
    space = [c for c in specs[1] if c not in "OI"]
    for spec in (specs[0], specs[2]):
        if set(spec) - set("NC") != set(space):
            raise ValueError(
                f"dimension_numbers {tuple(specs)}: all three must name the same space axes"
            )
    return ConvDimensionNumbers(
        *(
            tuple(spec.index(c) for c in (*role, *space))
            for spec, role in zip(specs, roles, strict=True)
        )
    )


def _ordered(x: Any, spec: Sequence[int]) -> Any:
    """Return ``x`` with its axes in the order of ``spec``."""
    return x if tuple(spec) == tuple(range(x.ndim)) else manipulation.transpose(x, tuple(spec))


def _placed(x: Any, spec: Sequence[int]) -> Any:
    """Return ``x`` with axis k moved to place ``spec[k]``."""
    return _ordered(x, sorted(range(x.ndim), key=spec.__getitem__))


def _two(function: str, lhs: Any, rhs: Any) -> tuple[Any, Any]:
    x, w = to_array(lhs, function, "lhs"), to_array(rhs, function, "rhs")
    if x.ndim != w.ndim or x.ndim < 2:
        raise TypeError(
            f"lax.{function}: lhs and rhs must have the same number of axes, at least 2, got lhs: "
            f"{describe(x)} and rhs: {describe(w)}"
        )
    return x, w


# -------------------------------------------------------------------------------- the general form
def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: ConvGeneralDilatedDimensionNumbers = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: None = None,
) -> Any:
    """Convolve n-dimensional arrays (without mirroring rhs): the general form.

    Args:
        lhs: array of rank n + 2: batch, features and n space axes.
        rhs: array of the same rank and dtype: out features, features per group, and space.
        window_strides: n ints.
        padding: 'SAME', 'SAME_LOWER', 'VALID', or n pairs (low, high), which may be negative.
        lhs_dilation: n distances between the elements of lhs, for transposed convolutions.
        rhs_dilation: n distances between the elements of rhs.
        dimension_numbers: which axis is which; see `conv_dimension_numbers`.
        feature_group_count: groups of features that are convolved apart.
        batch_group_count: groups of the batch, each convolved with its share of out features.
        precision: accepted for JAX's sake.
        preferred_element_type: dtype to accumulate and return; None keeps lhs's.

    Returns:
        Array of rank n + 2: batch, out features, space; as ``dimension_numbers`` orders them.

    Raises:
        TypeError: ranks, dtypes, sizes or lengths do not fit together.
        ValueError: a size is not positive, or a name is unknown.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import lax
        >>> x, w = fnp.ones((1, 8, 8, 3)), fnp.ones((3, 3, 3, 4))
        >>> y = lax.conv_general_dilated(x, w, (2, 2), "SAME", None, None, ("NHWC", "HWIO", "NHWC"))
        >>> y.shape
        (1, 4, 4, 4)

    References:
        jax.lax.conv_general_dilated
    """
    check_precision(precision, "conv_general_dilated")
    name = "conv_general_dilated"
    lhs, rhs = _two(name, lhs, rhs)
    dims = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    x, w = _ordered(lhs, dims.lhs_spec), _ordered(rhs, dims.rhs_spec)
    m, here = x.ndim - 2, f"lax.{name}: "
    strides = per_axis(window_strides, m, here + "window_strides")
    lhs_gaps = per_axis(lhs_dilation, m, here + "lhs_dilation")
    rhs_gaps = per_axis(rhs_dilation, m, here + "rhs_dilation")
    if isinstance(padding, str) and any(d != 1 for d in lhs_gaps):
        raise ValueError(
            f"{here}padding {padding!r} is not defined with lhs_dilation {lhs_gaps}: give pairs "
            "(low, high), or use conv_transpose"
        )
    pads = pads_per_axis(
        padding, x.shape[2:], spans(w.shape[2:], rhs_gaps), strides, here + "padding"
    )
    groups = static_int(feature_group_count, here + "feature_group_count")
    parts = static_int(batch_group_count, here + "batch_group_count")
    if parts != 1:
        x, groups = _batch_groups(x, w, groups, parts), parts
    out = conv_general_dilated_p.bind(
        x,
        w,
        strides=strides,
        padding=pads,
        lhs_dilation=lhs_gaps,
        rhs_dilation=rhs_gaps,
        groups=groups,
        out_dtype=_dtype(preferred_element_type),
    )
    return _placed(out, dims.out_spec)


def _dtype(preferred: Any) -> Any:
    return None if preferred is None else dtypes.canonical(preferred)


def _batch_groups(x: Any, w: Any, groups: int, parts: int) -> Any:
    """Return ``x`` with groups of its batch as groups of features."""
    n, features = x.shape[:2]
    if groups != 1 or parts < 1 or n % parts or w.shape[0] % parts:
        raise ValueError(
            f"lax.conv_general_dilated: batch_group_count={parts} must divide the batch ({n}) and "
            f"the out features ({w.shape[0]}), and feature_group_count must be 1, not {groups}"
        )
    x = manipulation.reshape(x, (parts, n // parts, *x.shape[1:]))
    x = manipulation.moveaxis(x, 0, 1)
    return manipulation.reshape(x, (n // parts, parts * features, *x.shape[3:]))


# ------------------------------------------------------------------------------------ short forms
def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Convolve (batch, features, *space) with (out features, features, *space).

    Args:
        lhs, rhs: arrays of rank n + 2 and one dtype.
        window_strides: n ints.
        padding: 'SAME', 'SAME_LOWER' or 'VALID'.
        precision: accepted for JAX's sake.
        preferred_element_type: dtype to accumulate and return.

    Returns:
        Array of rank n + 2.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import lax
        >>> lax.conv(fnp.ones((1, 1, 4)), fnp.ones((1, 1, 3)), (1,), "VALID")
        Array([[[3., 3.]]], dtype=float32)

    References:
        jax.lax.conv
    """
    check_precision(precision, "conv")
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Convolve (batch, features, *space) with (out features, features, *space), any padding.

    References:
        jax.lax.conv_with_general_padding
    """
    check_precision(precision, "conv_with_general_padding")
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


_TRANSPOSED_LAYOUTS = {
    2: ("NC", "IO", "NC"),
    3: ("NHC", "HIO", "NHC"),
    4: ("NHWC", "HWIO", "NHWC"),
    5: ("NHWDC", "HWDIO", "NHWDC"),
}


def full_pads(k: int, s: int, padding: str) -> tuple[int, int]:
    """Return the padding that inverts the shapes of a convolution of that name.

    k is the extent of the taps, s the stride.
    """
    if padding == "SAME":
        total = k + s - 2
        low = k - 1 if s > k - 1 else -(-total // 2)
    else:
        total = k + s - 2 + max(k - s, 0)
        low = k - 1
    return low, total - low


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: Any,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: ConvGeneralDilatedDimensionNumbers = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
) -> Any:
    """Convolve with a fractional stride: the transpose of a convolution.

    Args:
        lhs: array of rank n + 2.
        rhs: array of the same rank and dtype.
        strides: n ints, by which the space axes grow.
        padding: 'SAME' or 'VALID', of the convolution that this one transposes, or n pairs.
        rhs_dilation: n distances between the elements of rhs.
        dimension_numbers: which axis is which; features last where None.
        transpose_kernel: whether rhs is that of the convolution being transposed: its space axes
            are then mirrored, and its features swapped.
        precision: accepted for JAX's sake.
        preferred_element_type: dtype to accumulate and return.
        use_consistent_padding: whether pairs are the padding of the convolution being transposed
            too, and not that of this one.

    Returns:
        Array of rank n + 2.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import lax
        >>> lax.conv_transpose(fnp.ones((1, 4, 4, 2)), fnp.ones((2, 2, 2, 3)), (2, 2), "SAME").shape
        (1, 8, 8, 3)

    References:
        jax.lax.conv_transpose
    """
    check_precision(precision, "conv_transpose")
    lhs, rhs = _two("conv_transpose", lhs, rhs)
    if dimension_numbers is None:
        dimension_numbers = _TRANSPOSED_LAYOUTS.get(lhs.ndim)
        if dimension_numbers is None:
            raise ValueError(
                f"lax.conv_transpose: {lhs.ndim} axes have no default layout; give "
                "dimension_numbers"
            )
    dims = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    m, name = lhs.ndim - 2, "lax.conv_transpose: "
    steps = per_axis(strides, m, name + "strides")
    gaps = per_axis(rhs_dilation, m, name + "rhs_dilation")
    extents = spans([rhs.shape[k] for k in dims.rhs_spec[2:]], gaps)
    if isinstance(padding, str) and padding.upper() in ("SAME", "VALID"):
        pads = [full_pads(k, s, padding.upper()) for k, s in zip(extents, steps, strict=True)]
    else:
        pads = list(pads_per_axis(padding, extents, extents, steps, name + "padding"))
        if use_consistent_padding:
            pads = [(k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(extents, pads, strict=True)]
    if transpose_kernel:
        rhs = manipulation.flip(rhs, tuple(dims.rhs_spec[2:]))
        rhs = manipulation.swapaxes(rhs, dims.rhs_spec[0], dims.rhs_spec[1])
    return conv_general_dilated(
        lhs,
        rhs,
        (1,) * m,
        pads,
        steps,
        gaps,
        dims,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


# ------------------------------------------------------------------------------------ patches
def conv_general_dilated_patches(
    lhs: Any,
    filter_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: ConvGeneralDilatedDimensionNumbers = None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Take the windows that a convolution sees, as features.

    Args:
        lhs: array of rank n + 2.
        filter_shape: n sizes of the windows, in the order of rhs's space axes.
        window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers: as for
            `conv_general_dilated`.
        precision: accepted for JAX's sake.
        preferred_element_type: dtype of the result; None keeps lhs's.

    Returns:
        Array like a convolution's result, whose features are features of lhs by elements of the
        window, the latter running faster.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import lax
        >>> lax.conv_general_dilated_patches(fnp.arange(4.0)[None, None], (2,), (1,), "VALID")
        Array([[[0., 1., 2.],
                [1., 2., 3.]]], dtype=float32)

    References:
        jax.lax.conv_general_dilated_patches
    """
    check_precision(precision, "conv_general_dilated_patches")
    lhs, name = to_array(lhs, "conv_general_dilated_patches", "lhs"), "conv_general_dilated_patches"
    if lhs.ndim < 2:
        raise TypeError(f"lax.{name}: lhs must have at least 2 axes, got {describe(lhs)}")
    m, here = lhs.ndim - 2, f"lax.{name}: "
    given = per_axis(filter_shape, m, here + "filter_shape")
    dims = conv_dimension_numbers(lhs.shape, (1, 1, *given), dimension_numbers)
    order = sorted(range(m), key=lambda k: dims.rhs_spec[2 + k])  # space axes as rhs has them
    window = tuple(given[order.index(k)] for k in range(m))
    x = _ordered(lhs, dims.lhs_spec)
    strides = per_axis(window_strides, m, here + "window_strides")
    base = per_axis(lhs_dilation, m, here + "lhs_dilation")
    gaps = per_axis(rhs_dilation, m, here + "rhs_dilation")
    sizes = spans(x.shape[2:], base)
    pairs = pads_per_axis(padding, sizes, spans(window, gaps), strides, here + "padding")
    x = primitives["pad"].bind(
        x,
        to_array(0, name).astype(x.dtype),
        lo=(0, 0, *(lo for lo, _ in pairs)),
        hi=(0, 0, *(hi for _, hi in pairs)),
        interior=(0, 0, *(d - 1 for d in base)),
    )
    x = windows(x, window=window, strides=strides, dilation=gaps)
    x = _ordered(x, (0, 1, *(2 + k for k in order), *range(2 + m, 2 + 2 * m)))
    x = manipulation.reshape(x, (*x.shape[:1], x.shape[1] * math.prod(window), *x.shape[2 + m :]))
    return _placed(
        x if preferred_element_type is None else x.astype(preferred_element_type), dims.out_spec
    )


def conv_general_dilated_local(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    filter_shape: Sequence[int],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: ConvGeneralDilatedDimensionNumbers = None,
    precision: Any = None,
) -> Any:
    """Convolve with weights of their own at every place of the result.

    Args:
        lhs: array of rank n + 2.
        rhs: array of rank n + 2: out features, features of lhs by elements of the window, and the
            result's space axes, in the layout of ``dimension_numbers``.
        window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers: as for
            `conv_general_dilated`.
        filter_shape: n sizes of the windows.
        precision: accepted for JAX's sake.

    Returns:
        Array of rank n + 2.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import lax
        >>> x, w = fnp.ones((1, 1, 4)), fnp.arange(6.0).reshape(1, 2, 3)
        >>> lax.conv_general_dilated_local(x, w, (1,), "VALID", (2,))
        Array([[[3., 5., 7.]]], dtype=float32)

    References:
        jax.lax.conv_general_dilated_local
    """
    check_precision(precision, "conv_general_dilated_local")
    lhs, rhs = _two("conv_general_dilated_local", lhs, rhs)
    dims = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    patches = conv_general_dilated_patches(
        lhs, filter_shape, window_strides, padding, lhs_dilation, rhs_dilation, dims
    )
    x, w = _ordered(patches, dims.out_spec), _ordered(rhs, dims.rhs_spec)
    space = tuple(range(2, x.ndim))
    out = primitives["dot_general"].bind(
        w, x, dimension_numbers=(((1,), (1,)), (space, space)), out_dtype=x.dtype
    )
    return _placed(manipulation.moveaxis(out, (-1, -2), (0, 1)), dims.out_spec)
