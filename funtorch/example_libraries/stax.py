"""Neural networks as pairs of functions: the names of jax.example_libraries.stax.

A layer is a pair ``(init_fun, apply_fun)``::

    init_fun(key, input_shape) -> output_shape, params
    apply_fun(params, inputs, rng=key) -> outputs

An axis of ``input_shape`` may be -1: any size, as the batch's. Only `Dropout` needs ``rng``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import funtorch.numpy as fnp
from funtorch import lax, nn, random
from funtorch.nn.initializers import glorot_normal, normal, ones, zeros
from funtorch.transforms import ShapeDtypeStruct, eval_shape

__all__ = [
    "AvgPool",
    "BatchNorm",
    "Conv",
    "Conv1DTranspose",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "Elu",
    "Exp",
    "FanInConcat",
    "FanInSum",
    "FanOut",
    "Flatten",
    "Gelu",
    "GeneralConv",
    "GeneralConvTranspose",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "MaxPool",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SumPool",
    "Tanh",
    "elementwise",
    "parallel",
    "serial",
    "shape_dependent",
]

Shape = tuple[int, ...]
Layer = tuple[Callable[..., Any], Callable[..., Any]]


def _is_shape(x: Any) -> bool:
    return isinstance(x, (tuple, list)) and all(isinstance(n, int) for n in x)


def _shapes(x: Any, any_size: int) -> Any:
    """Replace shapes by arrays' types, with a size for the axes that have none."""
    if _is_shape(x):
        return ShapeDtypeStruct(tuple(any_size if n == -1 else n for n in x), "float32")
    return tuple(_shapes(part, any_size) for part in x)


def _output_shape(apply_fun: Callable[..., Any], params: Any, input_shape: Any) -> Any:
    """Apply a layer to two sizes of the axes without one: what differs has none either."""
    one, other = (eval_shape(apply_fun, params, _shapes(input_shape, n)) for n in (2, 3))
    return tuple(m if m == n else -1 for m, n in zip(one.shape, other.shape, strict=True))


def _layer(make_params: Callable[..., Any], apply_fun: Callable[..., Any]) -> Layer:
    def init_fun(rng: Any, input_shape: Any) -> tuple[Any, Any]:
        params = make_params(rng, input_shape)
        return _output_shape(apply_fun, params, input_shape), params

    return init_fun, apply_fun


def _no_params(rng: Any, input_shape: Any) -> tuple[()]:
    return ()


def Dense(out_dim: int, W_init: Any = None, b_init: Any = None) -> Layer:
    """Make a fully connected layer, on the last axis.

    Args:
        out_dim: size of the last axis of the outputs.
        W_init, b_init: initializers ``f(key, shape)``; Glorot's normal one, and normal numbers
            of deviation 0.01.

    Returns:
        The pair ``(init_fun, apply_fun)``; parameters are ``(W, b)`` of shapes
        ``(in_dim, out_dim)`` and ``(out_dim,)``.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import random
        >>> init, apply = Dense(3)
        >>> shape, params = init(random.key(0), (-1, 5))
        >>> shape, apply(params, fnp.ones((2, 5))).shape
        ((-1, 3), (2, 3))
    """
    W_init, b_init = W_init or glorot_normal(), b_init or normal(1e-2)

    def make_params(rng: Any, input_shape: Shape) -> Any:
        k1, k2 = random.split(rng)
        return W_init(k1, (input_shape[-1], out_dim)), b_init(k2, (out_dim,))

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        W, b = params
        return fnp.dot(inputs, W) + b

    return _layer(make_params, apply_fun)


def _convolution(
    convolve: Callable[..., Any],
    dimension_numbers: tuple[str, str, str],
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None,
    padding: Any,
    W_init: Any,
    b_init: Any,
) -> Layer:
    lhs, rhs, out = dimension_numbers
    strides = tuple(strides or (1,) * len(filter_shape))
    W_init = W_init or glorot_normal(rhs.index("I"), rhs.index("O"))
    b_init = b_init or normal(1e-6)

    def make_params(rng: Any, input_shape: Shape) -> Any:
        places = iter(filter_shape)
        features = {"O": out_chan, "I": input_shape[lhs.index("C")]}
        kernel_shape = [features[c] if c in features else next(places) for c in rhs]
        bias_shape = [out_chan if c == "C" else 1 for c in out]
        k1, k2 = random.split(rng)
        return W_init(k1, kernel_shape), b_init(k2, bias_shape)

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        W, b = params
        return convolve(inputs, W, strides, padding, dimension_numbers=dimension_numbers) + b

    return _layer(make_params, apply_fun)


def GeneralConv(
    dimension_numbers: tuple[str, str, str],
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    W_init: Any = None,
    b_init: Any = None,
) -> Layer:
    """Make a convolution.

    Args:
        dimension_numbers: names of the axes of inputs, kernel and outputs, as
            ``("NHWC", "HWIO", "NHWC")``.
        out_chan: number of channels of the outputs.
        filter_shape: sizes of the kernel along the spatial axes.
        strides: one for each spatial axis; 1.
        padding: 'VALID', 'SAME' or a pair for each spatial axis.
        W_init, b_init: initializers; Glorot's normal one, and normal numbers of deviation 1e-6.
    """
    return _convolution(
        lax.conv_general_dilated, dimension_numbers, out_chan, filter_shape, strides, padding,
        W_init, b_init,
    )  # fmt: skip


def GeneralConvTranspose(
    dimension_numbers: tuple[str, str, str],
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    W_init: Any = None,
    b_init: Any = None,
) -> Layer:
    """Make a transposed convolution; arguments as of `GeneralConv`."""
    return _convolution(
        lax.conv_transpose, dimension_numbers, out_chan, filter_shape, strides, padding,
        W_init, b_init,
    )  # fmt: skip


Conv = functools.partial(GeneralConv, ("NHWC", "HWIO", "NHWC"))
ConvTranspose = functools.partial(GeneralConvTranspose, ("NHWC", "HWIO", "NHWC"))
Conv1DTranspose = functools.partial(GeneralConvTranspose, ("NHC", "HIO", "NHC"))


def BatchNorm(
    axis: int | Sequence[int] = (0, 1, 2),
    epsilon: float = 1e-5,
    center: bool = True,
    scale: bool = True,
    beta_init: Any = zeros,
    gamma_init: Any = ones,
) -> Layer:
    """Make a layer that normalizes by mean and variance of the batch at hand; no running averages.

    Args:
        axis: the axes that are averaged over.
        epsilon: is added to the variance.
        center, scale: whether to learn a shift ``beta``, a factor ``gamma``.
        beta_init, gamma_init: their initializers.

    References:
        Ioffe, Szegedy, "Batch Normalization", 2015.
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)

    def make_params(rng: Any, input_shape: Shape) -> Any:
        shape = tuple(n for k, n in enumerate(input_shape) if k not in axes)
        k1, k2 = random.split(rng)
        return (beta_init(k1, shape) if center else (), gamma_init(k2, shape) if scale else ())

    def apply_fun(params: Any, x: Any, **kwargs: Any) -> Any:
        beta, gamma = params
        z = nn.standardize(x, axes, epsilon=epsilon)
        if scale:
            z = z * fnp.expand_dims(gamma, axes)
        return z + fnp.expand_dims(beta, axes) if center else z

    return _layer(make_params, apply_fun)


def elementwise(fun: Callable[..., Any], **fun_kwargs: Any) -> Layer:
    """Make a layer that applies a function to its inputs, with these keyword arguments."""
    return _layer(_no_params, lambda params, inputs, **kwargs: fun(inputs, **fun_kwargs))


Tanh = elementwise(fnp.tanh)
Relu = elementwise(nn.relu)
Exp = elementwise(fnp.exp)
LogSoftmax = elementwise(nn.log_softmax, axis=-1)
Softmax = elementwise(nn.softmax, axis=-1)
Softplus = elementwise(nn.softplus)
Sigmoid = elementwise(nn.sigmoid)
Elu = elementwise(nn.elu)
LeakyRelu = elementwise(nn.leaky_relu)
Selu = elementwise(nn.selu)
Gelu = elementwise(nn.gelu)
Identity = elementwise(lambda x: x)
Flatten = elementwise(lambda x: x.reshape(x.shape[0], -1))


def _window(
    window_shape: Sequence[int], strides: Sequence[int] | None, spec: str | None
) -> tuple[Shape, Shape]:
    """Put a window and its strides between the batch and the features."""
    strides = tuple(strides or (1,) * len(window_shape))
    if spec is None:
        return (1, *window_shape, 1), (1, *strides, 1)
    spatial = [k for k, c in enumerate(spec) if c not in "NC"]
    dims, steps = [1] * len(spec), [1] * len(spec)
    for k, n, s in zip(spatial, window_shape, strides, strict=True):
        dims[k], steps[k] = n, s
    return tuple(dims), tuple(steps)


def _pool(reducer: Callable[..., Any], start: float, mean: bool) -> Callable[..., Layer]:
    def make(
        window_shape: Sequence[int],
        strides: Sequence[int] | None = None,
        padding: Any = "VALID",
        spec: str | None = None,
    ) -> Layer:
        """Make a pooling layer over windows of the spatial axes.

        Args:
            window_shape: sizes of the window.
            strides: its steps; 1.
            padding: 'VALID', 'SAME' or a pair for every axis.
            spec: names of the axes, as 'NCHW'; batch first and features last unless given.
        """
        dims, steps = _window(window_shape, strides, spec)

        def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
            def pool(x: Any) -> Any:
                return lax.reduce_window(x, start, reducer, dims, steps, padding)

            # A mean is over the elements there are, not over padding.
            return pool(inputs) / pool(fnp.ones_like(inputs)) if mean else pool(inputs)

        return _layer(_no_params, apply_fun)

    return make


MaxPool = _pool(lax.max, -float("inf"), mean=False)
SumPool = _pool(lax.add, 0.0, mean=False)
AvgPool = _pool(lax.add, 0.0, mean=True)


def FanOut(num: int) -> Layer:
    """Make a layer that gives ``num`` copies of its input, for `parallel`."""

    def init_fun(rng: Any, input_shape: Shape) -> tuple[Any, Any]:
        return [input_shape] * num, ()

    return init_fun, lambda params, inputs, **kwargs: [inputs] * num


FanInSum = _layer(
    _no_params, lambda params, inputs, **kwargs: functools.reduce(operator.add, inputs)
)


def FanInConcat(axis: int = -1) -> Layer:
    """Make a layer that joins its inputs, one after the other along an axis."""
    return _layer(_no_params, lambda params, inputs, **kwargs: fnp.concatenate(inputs, axis))


def Dropout(rate: float, mode: str = "train") -> Layer:
    """Make a layer that sets inputs to zero at random.

    Args:
        rate: the probability to KEEP an input, as in JAX's stax; what is kept is divided by it.
        mode: 'train', or anything else to do nothing.

    Returns:
        The pair; ``apply_fun`` needs a keyword argument ``rng``, a key.
    """

    def apply_fun(params: Any, inputs: Any, rng: Any = None, **kwargs: Any) -> Any:
        if rng is None:
            raise ValueError(
                "Dropout needs a random key: apply_fun(params, inputs, rng=key), as "
                "apply_fun(params, inputs, rng=random.key(0)) would be"
            )
        if mode != "train":
            return inputs
        keep = random.bernoulli(rng, rate, inputs.shape)
        return fnp.where(keep, inputs / rate, 0)

    return lambda rng, input_shape: (input_shape, ()), apply_fun


def _keys(rng: Any, count: int) -> Sequence[Any]:
    return [None] * count if rng is None else random.split(rng, count)


def serial(*layers: Layer) -> Layer:
    """Put layers one after the other.

    Returns:
        The pair; parameters are a list with those of each layer.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import random
        >>> init, apply = serial(Dense(8), Relu, Dense(2), LogSoftmax)
        >>> shape, params = init(random.key(0), (-1, 4))
        >>> apply(params, fnp.ones((3, 4))).shape
        (3, 2)
    """
    inits, applies = zip(*layers, strict=True) if layers else ((), ())

    def init_fun(rng: Any, input_shape: Any) -> tuple[Any, Any]:
        params = []
        for init in inits:
            rng, key = random.split(rng)
            input_shape, param = init(key, input_shape)
            params.append(param)
        return input_shape, params

    def apply_fun(params: Any, inputs: Any, *, rng: Any = None, **kwargs: Any) -> Any:
        for apply, param, key in zip(applies, params, _keys(rng, len(applies)), strict=True):
            inputs = apply(param, inputs, rng=key, **kwargs)
        return inputs

    return init_fun, apply_fun


def parallel(*layers: Layer) -> Layer:
    """Put layers side by side: as many inputs, and as many outputs, as layers.

    Returns:
        The pair; shapes, parameters, inputs and outputs are lists with an entry for each layer.
    """
    inits, applies = zip(*layers, strict=True) if layers else ((), ())

    def init_fun(rng: Any, input_shape: Any) -> tuple[Any, Any]:
        keys = random.split(rng, len(inits))
        pairs = [f(k, s) for f, k, s in zip(inits, keys, input_shape, strict=True)]
        return [s for s, _ in pairs], [p for _, p in pairs]

    def apply_fun(params: Any, inputs: Any, *, rng: Any = None, **kwargs: Any) -> Any:
        keys = _keys(rng, len(applies))
        return [
            f(p, x, rng=k, **kwargs)
            for f, p, x, k in zip(applies, params, inputs, keys, strict=True)
        ]

    return init_fun, apply_fun


def shape_dependent(make_layer: Callable[[Shape], Layer]) -> Layer:
    """Make a layer that is made when the shape of its inputs is known.

    Args:
        make_layer: ``make_layer(input_shape)`` gives the pair.
    """

    def init_fun(rng: Any, input_shape: Shape) -> tuple[Any, Any]:
        return make_layer(input_shape)[0](rng, input_shape)

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        return make_layer(inputs.shape)[1](params, inputs, **kwargs)

    return init_fun, apply_fun
