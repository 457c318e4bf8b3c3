"""Training without ceremony: randomness and running statistics, through one pure function.

In training the layers of a model are marked with their paths. They ask for keys, which are planted,
and say what they have seen, which is reaped; when the call is over each absorbs what it saw, in the
program's order. So every transform works on it as on any other function of arrays.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .module import KEYS, SEEN, Mark, Module, Seen, map_modules, marked
from .selection import combine, partition
from .watch import called

__all__ = ["evaluation", "grad", "train", "value_and_grad", "vmap_init"]

T = TypeVar("T")


# ------------------------------------------------------------------------------------- training
class _Keys:
    """Gives the n-th key that a path asks for: that of its name and n, whatever else there is."""

    def __init__(self, key: Any) -> None:
        self.key = key
        self.counts: dict[str, int] = {}

    def __call__(self, path: str, like: Any) -> Any:
        if self.key is None:
            raise ValueError(
                f"{repr(path) if path else 'the model'} draws random numbers in training, and "
                "there is no key: give one, nnx.train(model, key)"
            )
        base = random.fold_in(self.key, zlib.crc32(path.encode()))
        lanes = like.shape[:-1]  # steps of scan and lanes of vmap, in a Python loop's order
        start = self.counts.get(path, 0)
        count = math.prod(lanes)
        self.counts[path] = start + count
        if not lanes:
            return random.key_data(random.fold_in(base, start))
        numbers = fnp.arange(start, start + count)
        keys = ft.vmap(random.fold_in, in_axes=(None, 0))(base, numbers)
        return random.key_data(keys).reshape(like.shape)


def train(
    model: T, key: Any = None, *, method: str | Callable[..., Any] | None = None
) -> Callable[..., tuple[Any, T]]:
    """Make a function that calls a model in training, and returns its result and the new model.

    In training layers such as `Dropout` draw random numbers, and layers such as `BatchNorm2d` and
    `SpectralNorm` update their state, which the new model has; its parameters are those of
    ``model``. A model that is called without this is in evaluation.

    A layer that is called several times, also in `lax.scan` or under `vmap`, updates its state for
    each call and draws other numbers each time, exactly as in a Python loop.

    Args:
        model: a module, or any pytree of modules.
        key: random key; not needed where no layer draws random numbers.
        method: what to call instead of the model: the name of a method, or a function whose first
            argument is the model.

    Returns:
        A function of the model's other arguments that returns ``(result, new_model)``.

    Raises:
        TypeError: the model cannot be called and no method is given.
        ValueError: a layer needs a key, when called.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> k1, k2 = random.split(random.key(0))
        >>> model = nnx.Sequential(nnx.Linear(3, 4, key=k1), nnx.BatchNorm1d(4), nnx.Dropout(0.5))
        >>> y, model = nnx.train(model, k2)(fnp.arange(6.0).reshape(2, 3))
        >>> y.shape, int(model[1].num_batches_tracked)
        ((2, 4), 1)
        >>> both = {"a": model, "b": nnx.Dropout(0.5)}
        >>> y, both = nnx.train(both, k1, method=lambda m, x: m["b"](m["a"](x)))(fnp.ones((2, 3)))
    """
    if method is None and not callable(model):
        raise TypeError(
            f"train takes a model that can be called, or method=...; a {type(model).__name__} "
            "cannot"
        )

    def run(*args: Any, **kwargs: Any) -> tuple[Any, T]:
        def call() -> Any:
            return called(map_modules(_in_training, model), method, *args, **kwargs)

        planted = functools.partial(ft.plant(call, tag=KEYS), _Keys(key))
        try:
            result, seen = ft.reap(planted, tag=SEEN)()
        except ValueError as error:
            _advise(error)
            raise
        return _in_evaluation(result), _absorbed(model, seen)

    return run


_ADVICE = {
    (SEEN, "branch"): "The layers named update their state in training, so all branches must call "
    "the same ones: call them before the cond and choose between results, or use "
    "nnx.evaluation(layer) in the branch",
    (SEEN, "while_loop"): "This layer updates its state in training, for each of a number of calls "
    "that must be known: use lax.scan or fori_loop, or nnx.evaluation(layer)",
    (KEYS, "while_loop"): "This layer draws random numbers in training, for each of a number of "
    "calls that must be known: use lax.scan or fori_loop, or call layer(x, key=...) with a key "
    "that the loop carries",
}
"""What to do where layers cannot be trained, by the tag and a word of what `sow` says."""


def _advise(error: ValueError) -> None:
    """Say in an error of `sow` what it means for layers."""
    text = str(error)
    for (tag, word), advice in _ADVICE.items():
        if f"(tag {tag!r})" in text and word in text and advice not in text:
            error.args = (f"{text}. {advice}",)


def evaluation(model: T) -> T:
    """Make a copy of a part of a model in training that does not train: for use inside a call.

    Args:
        model: a module, or any pytree of modules.

    Returns:
        The copy: without dropout, and with statistics as they are.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> def call(model, x):
        ...     return nnx.evaluation(model)(x)
        >>> nnx.train(nnx.Dropout(0.5), random.key(0), method=call)(fnp.ones(3))[0]
        Array([1., 1., 1.], dtype=float32)
    """
    return map_modules(lambda _, m: _with_path(m, None), model)


_in_evaluation = evaluation


def _in_training(path: str, module: Module) -> Module:
    still = module._mark is not None and module._mark.still
    return module if still else _with_path(module, path)


def _with_path(module: Module, path: str | None) -> Module:
    mark = module._mark or Mark()
    return module if mark.path == path else marked(module, mark._replace(path=path))


# ------------------------------------------------------------------------------------- absorbing
def _absorbed(model: Any, seen: dict[str, Sequence[Seen]]) -> Any:
    if not seen:
        return model

    def fold(path: str, module: Module) -> Module:
        for one in seen.get(path, ()):
            module = _after(path, module, one)
        return module

    return map_modules(fold, model)


def _after(path: str, module: Module, seen: Seen) -> Module:
    """Return the module after one call, or after all steps and lanes of one call in a program."""
    first = fnp.shape(next(iter(ft.tree.leaves(module)), 0))
    stack = first[: len(first) - seen.own_rank]
    around = seen.own.shape[: seen.own.ndim - seen.own_rank]
    at = len(around) - len(stack)  # the loop over stacked modules is the innermost one
    values, treedef = ft.tree.flatten(seen.values)
    outer = [v.shape[: v.ndim - rank] for v, rank in zip(values, seen.ranks, strict=True)]
    axes = max(outer, key=len, default=())
    axes = around if len(axes) < len(around) else axes
    fits = all(shape == axes[: len(shape)] for shape in outer)
    if at < 0 or axes[at : len(around)] != stack or not fits:
        raise ValueError(
            f"layer {path!r} ({type(module).__name__}) stands for {stack} stacked ones, and has "
            f"seen values with the axes {outer} in front: map over the stacked layers inside of "
            "other loops, not around them"
        )
    lanes = seen.number.ndim  # after the loops
    if stack and _places(around[lanes:], axes[lanes:]) > 1:
        raise ValueError(
            f"layer {path!r} ({type(module).__name__}) stands for {stack} stacked ones, and is "
            f"called under vmaps of {axes[lanes:]}: sizes are equal, so which of them is that "
            "over the stacked layers cannot be told. Give the other one another size, or write it "
            "as lax.scan"
        )
    n, count = len(stack), math.prod(axes[:at] + axes[len(around) :])
    absorb: Callable[..., Any] = _absorb
    for _ in stack:
        absorb = ft.vmap(absorb)
    places = [*range(at), *range(at + n, len(axes)), *range(at, at + n)]  # the stack's axes last
    steps = []
    for v, shape in zip(values, outer, strict=True):
        own = v.shape[len(shape) :]  # what is the same in all lanes has no axis for them
        whole = v.reshape(*shape, *(1,) * (len(axes) - len(shape)), *own)
        whole = fnp.broadcast_to(whole, (*axes, *own))
        moved = whole.transpose(*places, *range(len(axes), whole.ndim))
        steps.append(moved.reshape(count, *stack, *own))
    if len(axes) == n:
        return absorb(module, ft.tree.unflatten(treedef, [v[0] for v in steps]))

    def step(m: Module, now: Any) -> tuple[Module, None]:
        return absorb(m, ft.tree.unflatten(treedef, now)), None

    return ft.lax.scan(step, module, steps)[0]


def _places(part: Sequence[int], whole: Sequence[int]) -> int:
    """Count the ways to find some numbers among others in order."""
    if not part:
        return 1
    tails = (whole[k + 1 :] for k, n in enumerate(whole) if n == part[0])
    return sum(_places(part[1:], tail) for tail in tails)


def _absorb(module: Module, values: dict[str, Any]) -> Module:
    return module.absorb(**values)


# ------------------------------------------------------------------------------------- derivatives
def value_and_grad(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Make a function that computes ``fun`` and its gradient in the parameters of models.

    As `funtorch.value_and_grad`, but buffers, counters and frozen parts are not differentiated.

    Args:
        fun: a function that returns a scalar, or with ``has_aux`` a pair of it and other values.
        argnums: which argument or arguments to differentiate in: models, or any pytrees.
        has_aux: whether ``fun`` returns auxiliary values, such as the new model.

    Returns:
        A function of the same arguments that returns ``(value, gradient)``, or with ``has_aux``
        ``((value, aux), gradient)``. A gradient has the structure of `parameters` of its argument:
        None stands where the argument has no parameter.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> def loss(model, x):
        ...     y, model = nnx.train(model)(x)
        ...     return (y**2).sum(), model
        >>> step = nnx.value_and_grad(loss, has_aux=True)
        >>> (value, model), gradient = step(nnx.BatchNorm1d(2), fnp.arange(4.0).reshape(2, 2))
        >>> gradient.bias.shape, gradient.running_mean is None, model.running_mean
        ((2,), True, Array([0.1, 0.2], dtype=float32))
    """
    if not callable(fun):
        raise TypeError(f"value_and_grad takes a function first, got {type(fun).__name__}")
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(fun)
    def both(*args: Any, **kwargs: Any) -> Any:
        if any(not -len(args) <= n < len(args) for n in places):
            raise ValueError(
                f"argnums={argnums} of nnx.grad or nnx.value_and_grad needs more positional "
                f"arguments than the {len(args)} that were given"
            )
        halves = [partition(args[n]) for n in places]

        def of_parameters(given: tuple[Any, ...]) -> Any:
            full = list(args)
            for n, ours, (_, rest) in zip(places, given, halves, strict=True):
                full[n] = combine(ours, rest)
            return fun(*full, **kwargs)

        value, gradients = ft.value_and_grad(of_parameters, has_aux=has_aux)(
            tuple(ours for ours, _ in halves)
        )
        return value, gradients[0] if isinstance(argnums, int) else gradients

    return both


def grad(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Make a function that computes the gradient of ``fun`` in the parameters of models.

    As `funtorch.grad`, but buffers, counters and frozen parts are not differentiated.

    Args:
        fun: a function that returns a scalar, or with ``has_aux`` a pair of it and other values.
        argnums: which argument or arguments to differentiate in.
        has_aux: whether ``fun`` returns auxiliary values.

    Returns:
        A function of the same arguments that returns the gradient, or ``(gradient, aux)``.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.grad(lambda m, x: m(x).sum())(nnx.BatchNorm1d(2), fnp.ones((1, 2))).bias
        Array([1., 1.], dtype=float32)
    """
    both = value_and_grad(fun, argnums, has_aux)

    @functools.wraps(fun)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return gradient


# ------------------------------------------------------------------------------------- ensembles
def vmap_init(make: Callable[[Any], T], n: int, key: Any) -> T:
    """Make n models in one: every array has a first axis of n.

    Args:
        make: a function of a random key that makes one model.
        n: how many.
        key: random key; each model gets its own part of it.

    Returns:
        A model whose arrays are stacked. Map over it, ``ft.vmap(lambda m: m(x))(models)``, or
        scan over it, where the models are the layers of a deeper one.

    Raises:
        ValueError: n is negative.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> models = nnx.vmap_init(lambda key: nnx.Linear(3, 2, key=key), 5, random.key(0))
        >>> ft.vmap(lambda m, x: m(x), in_axes=(0, None))(models, fnp.ones((4, 3))).shape
        (5, 4, 2)
    """
    if n < 0:
        raise ValueError(f"vmap_init takes a number of models of 0 or more; it was given {n}")
    return ft.vmap(make)(random.split(key, n))
