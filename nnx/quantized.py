"""Models whose weights are integers, and models that train for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from funtorch import quant

from .module import Module, field, static

__all__ = ["FakeQuantized", "Quantized", "quantize"]


def _call(model: Any, *args: Any, **kwargs: Any) -> Any:
    return model(*args, **kwargs)


class Quantized(Module):
    """A model whose products read weights of int8 or int4, as `quantize` makes it.

    Its arrays are buffers, so nothing in it trains; it saves, jits, maps and exports as others do.

    Args:
        model: a model with `funtorch.quant.QArray` in the place of weights.
        products: whether products of activations by each other, as in attention, are of int8.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> model = nnx.quantize(nnx.Linear(4, 2, key=random.key(0)), fnp.ones((1, 4)))
        >>> {name: x.dtype.name for name, x in nnx.state_dict(model).items()}
        {'weight.values': 'int8', 'weight.scale': 'float32', 'bias': 'float32'}
    """

    model: Any = field(transparent=True, buffer=True)
    products: bool = static(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        return self.apply(_call, *args, **kwargs)

    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of the model.

        Args:
            function: takes the model first.
            *args, **kwargs: what else it takes.

        Returns:
            What it returns.

        Example:
            >>> import funtorch.numpy as fnp
            >>> from funtorch import nnx, random
            >>> layer = nnx.Linear(4, 2, key=random.key(0))
            >>> small = nnx.quantize(layer, fnp.ones((1, 4)))
            >>> small.apply(lambda layer, x: layer(x).sum(), fnp.zeros((1, 4))).shape
            ()
        """
        return quant.quantized(function, products=self.products)(self.model, *args, **kwargs)


class FakeQuantized(Module):
    """A model in training that computes in floats what it will compute when it is quantised.

    Args:
        model: the model.
        scheme: a `funtorch.quant.Scheme`, the name of one, or a function from names of weights.
        ranges: ranges of activations by the name of the weight, as `funtorch.quant.calibrate` gives
            them for ``lambda model, x: model(x)``; what is not given is measured in every call.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> x = fnp.ones((1, 4))
        >>> model = nnx.FakeQuantized(nnx.Linear(4, 2, key=random.key(0)))
        >>> ft.grad(lambda m: m(x).sum())(model).model.weight.shape
        (2, 4)
        >>> bool(fnp.allclose(model(x), model.quantized(x)(x), atol=1e-6))
        True
    """

    model: Any = field(transparent=True)
    scheme: quant.Schemes = static("int8")
    ranges: Any = field(buffer=True, default=None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model, with weights and activations rounded."""
        fake = quant.fake_quantized(_call, scheme=self.scheme, ranges=self.ranges)
        return fake(self.model, *args, **kwargs)

    def quantized(self, *args: Any, **kwargs: Any) -> Quantized:
        """Return the model with weights of integers, which gives the same numbers.

        Args:
            *args, **kwargs: arguments of a call; only their shapes matter.

        Returns:
            The model.
        """
        return quantize(self.model, *args, scheme=self.scheme, ranges=self.ranges, **kwargs)


def _leading(batch: Any, count: int) -> Any:
    """Return the arguments of a call in a batch, which may hold labels after them."""
    return tuple(batch[:count]) if isinstance(batch, (tuple, list)) else batch


def quantize(
    model: Any, *args: Any, scheme: quant.Schemes = "int8",
    ranges: dict[str, Any] | None = None, batches: Iterable[Any] | None = None,
    method: str = "largest", skip: Callable[[str], bool] | None = None, **kwargs: Any,
) -> Quantized:  # fmt: skip
    """Quantise a model.

    Args:
        model: a module, or any callable pytree.
        *args: arguments of a call, or `ShapeDtypeStruct`; only their shapes matter.
        scheme: 'int8' (weights and activations), 'int8-attention' (products of attention, too),
            'int8-weights', 'int4-weights', or a `funtorch.quant.Scheme`; or a function from the
            name of a weight to one of these, or to None for what stays as it is.
        ranges: ranges of activations, as `funtorch.quant.calibrate` gives them.
        batches: measures the ranges on these arguments of calls: a `DataLoader` or a list; of a
            tuple, what comes after the arguments (labels) is left out.
        method: by what: 'largest', 'percentile', 'average', 'mse' or 'entropy', as in
            `funtorch.quant.calibrate`.
        skip: tells by its name (``.layers[0].weight``) whether a weight stays as it is.
        **kwargs: keyword arguments of the call.

    Returns:
        The model, with weights of integers where products or convolutions meet them.

    Raises:
        ValueError: no product meets a weight, or the scheme is unknown.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> model = nnx.Sequential(nnx.Linear(64, 64, key=random.key(0)), nnx.ReLU())
        >>> x = random.normal(random.key(1), (5, 64))
        >>> small = nnx.quantize(model, x)
        >>> ft.quant.nbytes(model), ft.quant.nbytes(small)
        (16640, 4608)
        >>> bool(abs(ft.jit(small)(x) - model(x)).max() < 0.02)
        True
    """
    scheme = quant.SCHEMES.get(scheme, scheme) if isinstance(scheme, str) else scheme
    if batches is not None:
        arguments = (_leading(b, len(args)) for b in batches)
        measured = quant.calibrate(_call, model, arguments, method=method)
        ranges = {**measured, **(ranges or {})}
    small = quant.quantize(_call, model, *args, scheme=scheme, ranges=ranges, skip=skip, **kwargs)
    return Quantized(small, isinstance(scheme, quant.Scheme) and scheme.products)
