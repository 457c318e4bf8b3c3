"""Layers whose parameters are divided among processes, for `shard_map`.

Their arrays are whole outside of it: a model is made, saved and loaded as in one process.
`partition_specs` says how `shard_map` divides them; inside, each process has its part.
Outside of any mapped axis they are ordinary layers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, optim, parallel, tree
from funtorch.sharding import PartitionSpec as P

from .attention import scaled_dot_product_attention
from .layers import Linear
from .module import Module, static, title
from .selection import combine, partition

__all__ = [
    "ColumnParallel",
    "FullySharded",
    "ParallelAttention",
    "RowParallel",
    "partition_specs",
    "state_specs",
]


class FullySharded(Module):
    """Hold a part of a layer's parameters in each process; gather them while it is called (FSDP).

    In the backward pass they are gathered once more, and gradients are summed over the axis and
    divided again. Wrapping each block of a model keeps one block whole at a time.

    Args:
        layer: the layer, or any function of arrays that is a module.
        axis_name: the axis of `shard_map` that both the batch and the parameters are divided
            along.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.FullySharded(nnx.Linear(3, 4, key=random.key(0)))
        >>> layer(fnp.ones(3)).shape, nnx.partition_specs(layer, {"data": 2}).layer.weight
        ((4,), PartitionSpec('data'))

    References:
        Y. Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel", 2023.
    """

    layer: Any
    axis_name: Hashable = static("data")
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = static(())

    def __init__(self, layer: Any, axis_name: Hashable = "data") -> None:
        self.layer, self.axis_name = layer, axis_name
        paths = tree.leaves_with_path(layer)
        self.shapes = tuple((tree.keystr(path), fnp.shape(x)) for path, x in paths)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer with its whole parameters."""

        def call(layer: Any, *args: Any) -> Any:
            axes = self._divided(layer)
            whole = [
                x if axis is None else lax.all_gather(x, self.axis_name, axis=axis, tiled=True)
                for x, axis in zip(tree.leaves(layer), axes, strict=True)
            ]
            return tree.unflatten(tree.structure(layer), whole)(*args, **kwargs)

        return ft.checkpoint(call)(self.layer, *args)

    def _divided(self, layer: Any) -> list[int | None]:
        """Return along which axis each array of a layer like ours is divided."""
        shapes, found = dict(self.shapes), []
        for path, x in tree.leaves_with_path(layer):
            pairs = enumerate(zip(x.shape, shapes[tree.keystr(path)], strict=True))
            found.append(next((k for k, (n, whole) in pairs if n != whole), None))
        return found

    def gradients_summed_over(self, axis_name: Hashable) -> FullySharded:
        """Return a copy of gradients like this layer that has, for each, whether it is a sum over
        the processes of an axis already."""
        flags = [self.axis_name == axis_name and k is not None for k in self._divided(self.layer)]
        return self.replace(layer=tree.unflatten(tree.structure(self.layer), flags))

    def partition_specs(self, sizes: Any) -> FullySharded:
        """Return a copy that has a `PartitionSpec` in place of each array."""
        parameters, rest = partition(self)
        divided = parallel.divided_specs(parameters, sizes[self.axis_name], self.axis_name)
        return combine(divided, tree.map(lambda x: P(), rest))


class ColumnParallel(Module):
    """Divide the outputs of a linear layer among processes.

    The input is the same along the axis, and each process gets its part of the output; elementwise
    functions and `RowParallel` follow.

    Args:
        linear: the whole layer.
        axis_name: the axis.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.ColumnParallel(nnx.Linear(3, 4, key=random.key(0)))
        >>> nnx.partition_specs(layer, {"model": 2}).linear.weight
        PartitionSpec('model')

    References:
        M. Shoeybi et al., "Megatron-LM: training multi-billion parameter language models using
        model parallelism", 2019.
    """

    linear: Linear
    axis_name: Hashable = static("model")

    def __init__(self, linear: Linear, axis_name: Hashable = "model") -> None:
        self.linear, self.axis_name = linear, axis_name

    def __call__(self, x: Any) -> ft.Array:
        """Map x of shape (..., in_features), the same along the axis, to a part of the outputs."""
        return self.linear(parallel.copied(fnp.asarray(x), self.axis_name))

    def partition_specs(self, sizes: Any) -> ColumnParallel:
        """Return a copy that has a `PartitionSpec` in place of each array."""
        _check_divides(self, "out_features", self.linear.out_features, sizes[self.axis_name])
        bias = None if self.linear.bias is None else P(self.axis_name)
        return self.replace(linear=self.linear.replace(weight=P(self.axis_name), bias=bias))


class RowParallel(Module):
    """Divide the inputs of a linear layer among processes.

    Each process has its part of the input, as `ColumnParallel` gives it; the output is the same
    along the axis.

    Args:
        linear: the whole layer.
        axis_name: the axis.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.RowParallel(nnx.Linear(4, 3, key=random.key(0)))
        >>> nnx.partition_specs(layer, {"model": 2}).linear.weight
        PartitionSpec(None, 'model')
    """

    linear: Linear
    axis_name: Hashable = static("model")

    def __init__(self, linear: Linear, axis_name: Hashable = "model") -> None:
        self.linear, self.axis_name = linear, axis_name

    def __call__(self, x: Any) -> ft.Array:
        """Map this process's part of the inputs (..., in_features / n) to (..., out_features)."""
        x, weight = fnp.asarray(x), self.linear.weight
        if x.shape[-1:] != weight.shape[1:]:
            raise ValueError(
                f"{title(self)} takes an array of shape (..., {weight.shape[1]}), its part of "
                f"{self.linear.in_features} inputs; it was given one of shape {x.shape}"
            )
        y = parallel.summed(x @ weight.T, self.axis_name)
        return y if self.linear.bias is None else y + self.linear.bias

    def partition_specs(self, sizes: Any) -> RowParallel:
        """Return a copy that has a `PartitionSpec` in place of each array."""
        _check_divides(self, "in_features", self.linear.in_features, sizes[self.axis_name])
        bias = None if self.linear.bias is None else P()
        return self.replace(linear=self.linear.replace(weight=P(None, self.axis_name), bias=bias))


class ParallelAttention(Module):
    """Let each position look at others, with the heads divided among processes.

    Args:
        embed_dim: size of the input and of the output.
        num_heads: how many heads there are, a divisor of embed_dim.
        bias: whether the projections have biases.
        axis_name: the axis that the heads are divided along.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: num_heads does not divide embed_dim.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.ParallelAttention(8, 2, key=random.key(0))
        >>> layer(fnp.ones((3, 5, 8)), is_causal=True).shape
        (3, 5, 8)
    """

    query: ColumnParallel
    key: ColumnParallel
    value: ColumnParallel
    out: RowParallel
    num_heads: int = static()

    def __init__(
        self, embed_dim: int, num_heads: int, bias: bool = True, *, axis_name: Hashable = "model",
        key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                "ParallelAttention takes num_heads that divides embed_dim; it was given "
                f"embed_dim={embed_dim}, num_heads={num_heads}"
            )
        self.num_heads = num_heads
        layers = [
            Linear(embed_dim, embed_dim, bias, key=k, dtype=dtype) for k in ft.random.split(key, 4)
        ]
        self.query, self.key, self.value = (ColumnParallel(x, axis_name) for x in layers[:3])
        self.out = RowParallel(layers[3], axis_name)

    def __call__(self, x: Any, attn_mask: Any = None, is_causal: bool = False) -> ft.Array:
        """Map x of shape (..., length, embed_dim) to the same shape; the mask as of
        `scaled_dot_product_attention`."""
        size = self.query.linear.in_features // self.num_heads

        def heads(layer: ColumnParallel) -> ft.Array:
            y = layer(x)
            return fnp.moveaxis(y.reshape(*y.shape[:-1], -1, size), -3, -2)

        q, k, v = heads(self.query), heads(self.key), heads(self.value)
        y = fnp.moveaxis(scaled_dot_product_attention(q, k, v, attn_mask, 0.0, is_causal), -3, -2)
        return self.out(y.reshape(*y.shape[:-2], math.prod(y.shape[-2:])))

    def partition_specs(self, sizes: Any) -> ParallelAttention:
        """Return a copy that has a `PartitionSpec` in place of each array."""
        _check_divides(self, "num_heads", self.num_heads, sizes[self.query.axis_name])
        parts = {n: getattr(self, n).partition_specs(sizes) for n in ("query", "key", "value")}
        return self.replace(**parts, out=self.out.partition_specs(sizes))


def _check_divides(layer: Module, what: str, size: int, parts: int) -> None:
    if size % parts:
        raise ValueError(
            f"{title(layer)} cannot be divided among {parts} processes: {what}={size} is no "
            f"multiple of {parts}"
        )


def partition_specs(model: Any, mesh: Any) -> Any:
    """Return how `shard_map` divides a model: what its layers say, and all else whole.

    Args:
        model: a module, or any pytree of them.
        mesh: the mesh, or the sizes of its axes by name.

    Returns:
        A tree like the model, with a `PartitionSpec` in place of each array.

    Raises:
        ValueError: a layer's sizes do not divide.
        KeyError: a layer's axis is none of the mesh.

    Example:
        >>> from funtorch import nnx, random
        >>> model = [nnx.RowParallel(nnx.Linear(4, 3, key=random.key(0))), nnx.LayerNorm(3)]
        >>> nnx.partition_specs(model, {"model": 2})[1].weight
        PartitionSpec()
    """
    sizes = getattr(mesh, "shape", mesh)

    def divided(node: Any) -> bool:
        return hasattr(node, "partition_specs")

    return tree.map(
        lambda x: x.partition_specs(sizes) if divided(x) else P(), model, is_leaf=divided
    )


def state_specs(optimizer: Any, specs: Any, state: Any) -> Any:
    """Return how an optimizer's state is divided when the parameters are divided so.

    Args:
        optimizer: the optimizer.
        specs: what `partition_specs` gave for the parameters.
        state: the state, or `funtorch.eval_shape` of its ``init``.

    Returns:
        A tree like the state, with a `PartitionSpec` in place of each array.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, optim
        >>> from funtorch.sharding import PartitionSpec as P
        >>> optimizer = optim.sgd(0.1, momentum=0.9)
        >>> state = optimizer.init({"w": fnp.ones(4)})
        >>> nnx.state_specs(optimizer, {"w": P("model")}, state)[0].trace
        {'w': PartitionSpec('model')}
    """
    return optim.tree_map_params(
        optimizer, lambda _, spec: spec, state, specs, transform_non_params=lambda _: P()
    )
