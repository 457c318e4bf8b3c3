"""Watching the calls of a model's modules: their results by name, as forward hooks give them.

Modules are replaced by watched ones, of a subclass whose call tells a watcher. A model that is not
watched has nothing of this in its calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import funtorch as ft

from .module import Mark, Module, changed, map_modules, marked

__all__ = ["capture"]

_OUTPUTS = "nnx.outputs"


class Watcher(Protocol):
    """What is told of calls; it does them."""

    def call(self, module: Any, path: str, original: Any, args: Any, kwargs: Any) -> Any:
        """Return ``original.__call__(module, *args, **kwargs)``, where ``original`` is a class."""


@functools.cache
def _watching(original: type) -> type:
    """Return a subclass of a module's class whose calls are watched."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        watcher, path = self._mark.watch
        return watcher.call(self, path, original, args, kwargs)

    namespace = {"__call__": __call__, "__module__": original.__module__, "_original": original}
    return type(original)(original.__name__, (original,), namespace)


def _of_class(module: Any, cls: type) -> Any:
    copy = object.__new__(cls)
    vars(copy).update(vars(module))
    return copy


def watched(model: Any, watcher: Watcher) -> Any:
    """Make a copy of a model of whose calls a watcher is told; it must be hashable.

    Of modules that have one dotted path, such as a layer in a `SpectralNorm`, the outer one counts.
    """
    paths: list[str] = []
    map_modules(lambda path, module: paths.append(path), model, short=True)
    outermost = {path: k for k, path in enumerate(paths)}
    numbers = iter(range(len(paths)))

    def one(path: str, module: Module) -> Any:
        if next(numbers) != outermost[path] or not callable(module):
            return module
        mark = (module._mark or Mark())._replace(watch=(watcher, path))
        return marked(_of_class(module, _watching(type(module))), mark)

    return map_modules(one, model, short=True)


def unwatched(model: Any) -> Any:
    """Undo `watched`."""

    def one(_: str, module: Any) -> Any:
        if module._mark is None or module._mark.watch is None:
            return module
        plain = _of_class(changed(module), type(module)._original)
        return marked(plain, module._mark._replace(watch=None))

    return map_modules(one, model)


def called(model: Any, method: str | Callable[..., Any] | None, *args: Any, **kwargs: Any) -> Any:
    """Call a model, a method of it by name, or a function of it."""
    if isinstance(method, str):
        return getattr(model, method)(*args, **kwargs)
    return model(*args, **kwargs) if method is None else method(model, *args, **kwargs)


class _Sower:
    """Sows results."""

    def call(self, module: Any, path: str, original: Any, args: Any, kwargs: Any) -> Any:
        """Do the call, and sow its result."""
        result = original.__call__(module, *args, **kwargs)
        arrays = all(hasattr(x, "shape") for x in ft.tree.leaves(result))
        if not path or not arrays:
            return result
        return ft.sow(result, name=path, tag=_OUTPUTS, mode="append")


_SOWER = _Sower()


def capture(
    model: Any, *, method: str | Callable[..., Any] | None = None
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Make a function that calls a model and returns, beside the result, those of its modules.

    It works through every transform, as `reap` does: results of stacked layers in a `scan` are
    stacked. Compiled programs compute only what is used.

    Args:
        model: a module, or any pytree of modules.
        method: what to call instead of the model: the name of a method, or a function whose first
            argument is the model.

    Returns:
        A function of the model's other arguments that returns ``(result, outputs)``. ``outputs``
        has what each module returned by its dotted path, in the order of their calls: a tuple for
        one that was called several times.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> k1, k2 = random.split(random.key(0))
        >>> model = nnx.Sequential(nnx.Linear(4, 8, key=k1), nnx.ReLU(), nnx.Linear(8, 2, key=k2))
        >>> y, outputs = nnx.capture(model)(fnp.ones((5, 4)))
        >>> {path: output.shape for path, output in outputs.items()}
        {'0': (5, 8), '1': (5, 8), '2': (5, 2)}
        >>> call = nnx.capture(model, method=lambda m, x: m[1](m[0](x)))
        >>> list(call(fnp.ones(4))[1])
        ['0', '1']
    """

    def run(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        watching = watched(model, _SOWER)
        reaped = ft.reap(functools.partial(called, watching, method), tag=_OUTPUTS)
        result, found = reaped(*args, **kwargs)
        outputs = {path: o[0] if len(o) == 1 else o for path, o in found.items()}
        return unwatched(result), outputs

    return run
