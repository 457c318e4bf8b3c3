"""Functions that are transformed in steps, under the names of jax.extend.linear_util.

A `WrappedFun` is a function with what was put around it. A transformation may give a second
result, which is known once the function was called: it comes out of a function without arguments.

    >>> @transformation_with_aux2
    ... def count_results(f, store, *args):
    ...     outs = f(*args)
    ...     store.store(len(outs))
    ...     return outs
    >>> f, count = count_results(wrap_init(lambda x: (x, 2 * x)))
    >>> f.call_wrapped(1), count()
    ((1, 2), 2)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = [
    "Store",
    "StoreException",
    "WrappedFun",
    "cache",
    "merge_linear_aux",
    "transformation",
    "transformation2",
    "transformation_with_aux",
    "transformation_with_aux2",
    "wrap_init",
]

_EMPTY = object()


class StoreException(Exception):
    """A second result was asked for before the function was called, or given twice."""


class Store:
    """Holds the second result of a transformation."""

    __slots__ = ("_val",)

    def __init__(self) -> None:
        self._val: Any = _EMPTY

    def store(self, val: Any) -> None:
        """Keep a value; there must be none yet."""
        if self._val is not _EMPTY:
            raise StoreException("a transformed function was called twice: wrap it again")
        self._val = val

    def reset(self) -> None:
        """Forget the value."""
        self._val = _EMPTY

    @property
    def val(self) -> Any:
        """The value."""
        if self._val is _EMPTY:
            raise StoreException("the transformed function was not called yet")
        return self._val

    def __bool__(self) -> bool:
        return self._val is not _EMPTY


class WrappedFun:
    """A function with the transformations around it; see `wrap_init`."""

    __slots__ = ("debug_info", "f", "f_transformed", "in_type", "params", "stores", "transforms")

    def __init__(
        self,
        f: Callable[..., Any],
        f_transformed: Callable[..., Any],
        transforms: tuple[Any, ...] = (),
        stores: tuple[Store | None, ...] = (),
        params: tuple[tuple[str, Any], ...] = (),
        in_type: Any = None,
        debug_info: Any = None,
    ) -> None:
        self.f, self.f_transformed = f, f_transformed
        self.transforms, self.stores, self.params = transforms, stores, params
        self.in_type, self.debug_info = in_type, debug_info

    @property
    def __name__(self) -> str:
        return getattr(self.f, "__name__", "<unnamed function>")

    def wrap(self, gen: Callable[..., Any], static: tuple[Any, ...], store: Any) -> WrappedFun:
        """Return the function with one more transformation, ``gen(f, [store,] *static, *args)``."""
        before = (self.f_transformed,) if store is None else (self.f_transformed, store)
        return WrappedFun(
            self.f,
            functools.partial(gen, *before, *static),
            ((gen, static), *self.transforms),
            (store, *self.stores),
            self.params,
            None,
            self.debug_info,
        )

    def call_wrapped(self, *args: Any, **kwargs: Any) -> Any:
        """Call the transformed function."""
        return self.f_transformed(*args, **kwargs)

    def with_unknown_names(self) -> WrappedFun:
        """Return the function itself."""
        return self

    def _key(self) -> tuple[Any, ...]:
        return self.f, self.transforms, self.params

    def __hash__(self) -> int:
        return hash(self._key())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WrappedFun) and self._key() == other._key()

    def __repr__(self) -> str:
        names = [getattr(gen, "__name__", str(gen)) for gen, _ in self.transforms]
        return " of ".join([*names, self.__name__])


def wrap_init(
    f: Callable[..., Any], params: dict[str, Any] | None = None, *, debug_info: Any = None
) -> WrappedFun:
    """Return a function as one that transformations can be put around.

    Args:
        f: the function.
        params: keyword arguments that it gets, too.
        debug_info: how tools call it.
    """
    params = params or {}
    run = functools.partial(f, **params) if params else f
    return WrappedFun(f, run, params=tuple(sorted(params.items())), debug_info=debug_info)


def transformation2(gen: Callable[..., Any]) -> Callable[..., WrappedFun]:
    """Make ``gen(f, *static, *args, **kwargs)`` a transformation of `WrappedFun`."""

    @functools.wraps(gen)
    def transform(fun: WrappedFun, *static: Any) -> WrappedFun:
        return fun.wrap(gen, static, None)

    return transform


def transformation_with_aux2(
    gen: Callable[..., Any],
) -> Callable[..., tuple[WrappedFun, Callable[[], Any]]]:
    """Make ``gen(f, store, *static, *args)``, which calls ``store.store``, a transformation with
    a second result."""

    @functools.wraps(gen)
    def transform(
        fun: WrappedFun, *static: Any, use_eq_store: bool = False, unk_names: bool = False
    ) -> tuple[WrappedFun, Callable[[], Any]]:
        store = Store()
        return fun.wrap(gen, static, store), lambda: store.val

    return transform


def transformation(gen: Callable[..., Any]) -> Callable[..., WrappedFun]:
    """Make a generator function a transformation.

    ``gen(*static, *args)`` yields ``(args, kwargs)`` of the function inside, is sent its result,
    and yields its own.
    """

    def direct(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        steps = gen(*args, **kwargs)
        inner, inner_kwargs = next(steps)
        result = steps.send(f(*inner, **inner_kwargs))
        steps.close()
        return result

    return transformation2(functools.wraps(gen)(direct))


def transformation_with_aux(
    gen: Callable[..., Any],
) -> Callable[..., tuple[WrappedFun, Callable[[], Any]]]:
    """Make a generator function, which yields its result and a second one, a transformation."""

    def direct(f: Callable[..., Any], store: Store, *args: Any, **kwargs: Any) -> Any:
        steps = gen(*args, **kwargs)
        inner, inner_kwargs = next(steps)
        result, aux = steps.send(f(*inner, **inner_kwargs))
        steps.close()
        store.store(aux)
        return result

    return transformation_with_aux2(functools.wraps(gen)(direct))


def merge_linear_aux(aux1: Callable[[], Any], aux2: Callable[[], Any]) -> tuple[bool, Any]:
    """Return whether the first of two functions was called, and the second result of the one that
    was."""
    try:
        out = aux1()
    except StoreException:
        return False, aux2()
    try:
        aux2()
    except StoreException:
        return True, out
    raise StoreException("both functions were called")


def cache(call: Callable[..., Any], *, explain: Any = None) -> Callable[..., Any]:
    """Keep the results of ``call(fun, *args)`` of a `WrappedFun` and hashable arguments."""
    known: dict[Any, tuple[Any, tuple[Any, ...]]] = {}

    @functools.wraps(call)
    def cached(fun: WrappedFun, *args: Any) -> Any:
        key = fun, args
        if key not in known:
            known[key] = call(fun, *args), fun.stores
            return known[key][0]
        result, stores = known[key]
        for mine, theirs in zip(fun.stores, stores, strict=True):
            if mine is not None and theirs:
                mine.reset()
                mine.store(theirs.val)
        return result

    cached.cache_clear = known.clear  # type: ignore[attr-defined]
    return cached
