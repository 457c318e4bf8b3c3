"""Shapes of convolutions and reductions over windows, computed without any array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .convolution import conv_dimension_numbers, full_pads
from .windows import padtype_to_pads, per_axis, spans

__all__ = [
    "conv_general_permutations",
    "conv_general_shape_tuple",
    "conv_shape_tuple",
    "conv_transpose_shape_tuple",
    "reduce_window_shape_tuple",
]

Shape = Sequence[int]
Padding = str | Sequence[tuple[int, int]]


def conv_general_permutations(dimension_numbers: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return which axes of lhs, rhs and result are batch, features and space, in this order.

    Args:
        dimension_numbers: three strings of letters, as in `conv_dimension_numbers`.

    Raises:
        ValueError: a letter is missing, doubled, or not in all three.

    Example:
        >>> conv_general_permutations(("NHWC", "HWIO", "NHWC"))[1]
        (3, 2, 0, 1)

    References:
        jax.lax.conv_general_permutations
    """
    shape = (1,) * len(dimension_numbers[0])
    return tuple(conv_dimension_numbers(shape, shape, tuple(dimension_numbers)))  # type: ignore[arg-type]


def conv_shape_tuple(
    lhs_shape: Shape, rhs_shape: Shape, strides: Shape, pads: Padding, batch_group_count: int = 1
) -> tuple[int, ...]:
    """Return the shape of a convolution of (batch, features, *space) by (out, in, *space).

    Args:
        lhs_shape, rhs_shape: shapes of the operands.
        strides: steps along the space axes.
        pads: (low, high) for each space axis, or 'SAME', 'SAME_LOWER' or 'VALID'.
        batch_group_count: how many groups the batch is divided into.

    Raises:
        TypeError: there is not one pair of pads for each space axis.
        ValueError: negative padding takes away more than there is.

    Example:
        >>> conv_shape_tuple((1, 3, 8, 8), (4, 3, 3, 3), (2, 2), "SAME")
        (1, 4, 4, 4)

    References:
        jax.lax.conv_shape_tuple
    """
    space, taps = tuple(lhs_shape[2:]), tuple(rhs_shape[2:])
    pairs = padtype_to_pads(space, taps, strides, pads) if isinstance(pads, str) else list(pads)
    if len(pairs) != len(space):
        raise TypeError(
            f"conv_shape_tuple: pads must have a pair for each of {len(space)} space axes, got "
            f"{pads}"
        )
    padded = [n + low + high for n, (low, high) in zip(space, pairs, strict=True)]
    if any(n < 0 for n in padded):
        raise ValueError(
            "Negative padding is larger than the size of the corresponding dimension: got "
            f"padding={pads} for lhs_shape[2:]={space}"
        )
    batch = lhs_shape[0] // batch_group_count
    return (batch, rhs_shape[0], *_places(padded, taps, strides))


def _places(sizes: Shape, windows: Shape, strides: Shape) -> tuple[int, ...]:
    return tuple(
        (n - w) // s + 1 if n >= w else 0 for n, w, s in zip(sizes, windows, strides, strict=True)
    )


def _taken(shape: Shape, order: Shape) -> tuple[int, ...]:
    return tuple(int(shape[k]) for k in order)


def _placed(shape: Shape, order: Shape) -> tuple[int, ...]:
    return tuple(shape[order.index(k)] for k in range(len(shape)))


def conv_general_shape_tuple(
    lhs_shape: Shape,
    rhs_shape: Shape,
    window_strides: Shape,
    padding: Padding,
    dimension_numbers: Sequence[str],
) -> tuple[int, ...]:
    """Return the shape of a convolution in any layout.

    Args:
        lhs_shape, rhs_shape: shapes of the operands.
        window_strides: steps along the space axes.
        padding: as in `conv_shape_tuple`.
        dimension_numbers: three strings of letters.

    Example:
        >>> numbers = ("NHWC", "HWIO", "NHWC")
        >>> conv_general_shape_tuple((1, 8, 8, 3), (3, 3, 3, 4), (1, 1), "VALID", numbers)
        (1, 6, 6, 4)

    References:
        jax.lax.conv_general_shape_tuple
    """
    left, right, out = conv_general_permutations(dimension_numbers)
    shape = conv_shape_tuple(
        _taken(lhs_shape, left), _taken(rhs_shape, right), window_strides, padding
    )
    return _placed(shape, out)


def conv_transpose_shape_tuple(
    lhs_shape: Shape,
    rhs_shape: Shape,
    window_strides: Shape,
    padding: Padding,
    dimension_numbers: Sequence[str],
) -> tuple[int, ...]:
    """Return the shape of a transposed convolution in any layout.

    Args:
        lhs_shape, rhs_shape: shapes of the operands.
        window_strides: strides of the convolution that is transposed.
        padding: 'SAME' or 'VALID' of that convolution, or pairs for this one.
        dimension_numbers: three strings of letters.

    Example:
        >>> numbers = ("NHWC", "HWIO", "NHWC")
        >>> conv_transpose_shape_tuple((1, 4, 4, 3), (3, 3, 3, 5), (2, 2), "SAME", numbers)
        (1, 8, 8, 5)

    References:
        jax.lax.conv_transpose_shape_tuple
    """
    left, right, out = conv_general_permutations(dimension_numbers)
    x, w = _taken(lhs_shape, left), _taken(rhs_shape, right)
    pairs: Any = padding
    if isinstance(padding, str):
        pairs = [full_pads(k, s, padding) for k, s in zip(w[2:], window_strides, strict=True)]
    space = [
        (n - 1) * s - k + 2 + low + high
        for n, k, s, (low, high) in zip(x[2:], w[2:], window_strides, pairs, strict=True)
    ]
    return _placed((x[0], w[0], *space), out)


def reduce_window_shape_tuple(
    operand_shape: Shape,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Sequence[tuple[int, int]],
    base_dilation: Shape | None = None,
    window_dilation: Shape | None = None,
) -> tuple[int, ...]:
    """Return the shape of a reduction over windows.

    Args:
        operand_shape: shape of the operand.
        window_dimensions, window_strides: the window, and its steps.
        padding: (low, high) for each axis.
        base_dilation, window_dilation: distances of elements, of the operand and in the window.

    Example:
        >>> reduce_window_shape_tuple((8, 8), (2, 3), (2, 1), [(0, 0), (1, 1)])
        (4, 8)

    References:
        jax.lax.reduce_window_shape_tuple
    """
    n = len(operand_shape)
    sizes = spans(operand_shape, per_axis(base_dilation, n, "base_dilation"))
    windows = spans(window_dimensions, per_axis(window_dilation, n, "window_dilation"))
    padded = [s + low + high for s, (low, high) in zip(sizes, padding, strict=True)]
    return _places(padded, windows, window_strides)
