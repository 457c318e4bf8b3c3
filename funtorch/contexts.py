"""Contexts in which JAX's flags have other values, under JAX's names.

Flags that choose between ways of which there is one here take that one alone; the others tune or
check machinery that is not here, and change nothing. `funtorch.flags` has the lists.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from funtorch.config import Config, config

__all__ = [
    "allow_f16_reductions",
    "array_garbage_collection_guard",
    "debug_key_reuse",
    "default_prng_impl",
    "enable_checks",
    "explain_cache_misses",
    "legacy_prng_key",
    "numpy_dtype_promotion",
    "softmax_custom_jvp",
    "thread_guard",
    "threefry_partitionable",
    "transfer_guard",
    "transfer_guard_device_to_device",
    "transfer_guard_device_to_host",
    "transfer_guard_host_to_device",
]

_Context = Callable[..., contextlib.AbstractContextManager[Config]]


def _flag(name: str, what: str) -> _Context:
    def context(new_val: bool = True) -> contextlib.AbstractContextManager[Config]:
        return config.override(**{name: new_val})

    return _named(context, name, what)


def _choice(name: str, what: str) -> _Context:
    def context(new_val: Any) -> contextlib.AbstractContextManager[Config]:
        return config.override(**{name: new_val})

    return _named(context, name, what)


def _named(context: _Context, name: str, what: str) -> _Context:
    context.__name__ = context.__qualname__ = name
    context.__doc__ = f"Return a context in which the flag {name} has a value: {what}."
    return context


_NO_EFFECT = "it is kept, and changes nothing here"
_ONE_WAY = "the one that always holds here, any other is a ValueError"
_NO_TRANSFER = "one of JAX's levels; arrays move when they are told to, so there is none to guard"

allow_f16_reductions = _flag("allow_f16_reductions", _NO_EFFECT)
array_garbage_collection_guard = _choice("array_garbage_collection_guard", _NO_EFFECT)
debug_key_reuse = _flag("debug_key_reuse", _NO_EFFECT)
default_prng_impl = _choice("default_prng_impl", _ONE_WAY)
enable_checks = _flag("enable_checks", _NO_EFFECT)
explain_cache_misses = _flag("explain_cache_misses", "True prints each compile and its reason")
legacy_prng_key = _choice("legacy_prng_key", _ONE_WAY)
numpy_dtype_promotion = _choice("numpy_dtype_promotion", "'standard' or 'strict'")
softmax_custom_jvp = _flag("softmax_custom_jvp", _NO_EFFECT)
thread_guard = _flag("thread_guard", _NO_EFFECT)
threefry_partitionable = _flag("threefry_partitionable", _ONE_WAY)
transfer_guard = _choice("transfer_guard", _NO_TRANSFER)
transfer_guard_device_to_device = _choice("transfer_guard_device_to_device", _NO_TRANSFER)
transfer_guard_device_to_host = _choice("transfer_guard_device_to_host", _NO_TRANSFER)
transfer_guard_host_to_device = _choice("transfer_guard_host_to_device", _NO_TRANSFER)
