"""Settings: global values with thread-local overrides.

`config` is one object. Its global values live on the class and its overrides in the thread's own
dictionary, so reading `config.debug_nans` is one attribute look-up with no lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from funtorch.flags import NOTED, SETTLED, check_noted, check_settled

__all__ = [
    "Config",
    "allows_tf32",
    "config",
    "default_matmul_precision",
    "enable_custom_prng",
    "enable_x64",
    "log_compiles",
    "numpy_rank_promotion",
    "threads",
]

_FLOATS = tuple(map(np.dtype, (ml_dtypes.bfloat16, "float16", "float32", "float64")))
_INTS = tuple(map(np.dtype, ("int32", "int64")))


def _one_of(allowed: tuple[np.dtype, ...]) -> Callable[[str, Any], np.dtype]:
    def check(name: str, value: Any) -> np.dtype:
        for dtype in allowed:
            # NumPy compares whatever names a dtype, but takes None for float64.
            if value is not None and dtype == value:
                return dtype
        names = ", ".join(str(dtype) for dtype in allowed)
        raise ValueError(f"config.{name} must be one of {names}; got {value!r}")

    return check


def _word_of(*allowed: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"config.{name} must be one of {', '.join(allowed)}; got {value!r}")
        return value

    return check


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"config.{name} must be True or False; got {value!r}")


def _level(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"config.{name} must be a whole number from 0 on; got {value!r}")


def _count(name: str, value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"config.{name} must be a whole number from 1 on, or None; got {value!r}")


# JAX's ways of filtering are all the one here.
_FILTERING = {"off": False, **dict.fromkeys(
    ("on", "auto", "tracebackhide", "remove_frames", "quiet_remove_frames"), True
)}  # fmt: skip


def _filtering(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _FILTERING:
        return _FILTERING[value]
    raise ValueError(
        f"config.{name} must be True, False or one of {', '.join(_FILTERING)}; got {value!r}"
    )


def _filtering_from_environment() -> bool:
    name = "FUNTORCH_TRACEBACK_FILTERING"
    return _filtering(name, os.environ.get(name, "").strip().lower() or "on")


def _debug_from_environment() -> int:
    text = os.environ.get("FUNTORCH_DEBUG", "").strip() or "0"
    if text.isdecimal():
        return int(text)
    raise ValueError(
        f"the environment variable FUNTORCH_DEBUG must be a whole number 0..4; got {text!r}"
    )


def _devices_from_environment() -> int | None:
    text = os.environ.get("FUNTORCH_NUM_CPU_DEVICES", "").strip()
    return _devices("num_cpu_devices", int(text) if text.lstrip("-").isdecimal() else text or None)


def _devices(name: str, value: Any) -> int | None:
    return _count(name, None if value == -1 else value)  # what JAX calls no number


_OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    "default_float": _one_of(_FLOATS),
    "default_int": _one_of(_INTS),
    "disable_jit": _flag,
    "debug_nans": _flag,
    "debug_infs": _flag,
    "strict_gradients": _flag,
    "numpy_dispatch": _flag,
    "python_control_flow": _flag,
    "narrow": _flag,
    "enable_custom_prng": _flag,
    "numpy_dtype_promotion": _word_of("standard", "strict"),
    "numpy_rank_promotion": _word_of("allow", "warn", "raise"),
    "dynamic_sizes": _flag,
    "tf32": _flag,
    "traceback_filtering": _filtering,
    "debug": _level,
    "threads": _count,
    "num_cpu_devices": _devices,
}


# What a traced program depends on.
_TRACED = (
    "default_float", "default_int", "debug_nans", "debug_infs", "strict_gradients",
    "numpy_dispatch", "narrow", "enable_custom_prng", "python_control_flow", "tf32",
    "numpy_dtype_promotion", "numpy_rank_promotion",
)  # fmt: skip
_UNTRACED = {
    "debug",
    "dynamic_sizes",
    "num_cpu_devices",
    "threads",
    "traceback_filtering",
}  # and what it does not, nor whether it is traced at all
_tokens: dict[tuple[Any, ...], int] = {}
_watchers: dict[str, Callable[[], None]] = {}


def _enable_x64(value: Any) -> dict[str, Any]:
    bits = 64 if _flag("enable_x64", value) else 32
    return {
        "default_float": np.dtype(f"float{bits}"),
        "default_int": np.dtype(f"int{bits}"),
        "narrow": bits == 32,
    }


def _log_compiles(value: Any) -> dict[str, int]:
    return {"debug": int(_flag("log_compiles", value))}


# Names that stand for other options.
_COMPOUND: dict[str, Callable[[Any], dict[str, Any]]] = {
    "enable_x64": _enable_x64,
    "log_compiles": _log_compiles,
    "explain_cache_misses": _log_compiles,
}
_noted: dict[str, Any] = {}
_ROUNDED = frozenset(
    ("default", "fastest", "bfloat16", "bfloat16_3x", "tensorfloat32", "tf32", "high")
    + ("TF32_TF32_F32",)
)


def allows_tf32(precision: Any) -> bool:
    """Tell whether a precision of products, by JAX's names, lets GPUs round operands to TF32.

    Example:
        >>> allows_tf32("high"), allows_tf32("highest"), allows_tf32(None)
        (True, False, False)
    """
    if isinstance(precision, tuple):
        return bool(precision) and all(map(allows_tf32, precision))
    return isinstance(precision, str) and precision in _ROUNDED


# What flags of JAX's mean here, besides being noted.
_MEANING: dict[str, Callable[[Any], dict[str, Any]]] = {
    "default_matmul_precision": lambda value: {"tf32": allows_tf32(value)}
}


class Config(threading.local):
    """Hold the settings of the library.

    Read them as attributes, set them for good with `update`, and for a block with `override`.
    The names of JAX's flags are understood too (`jax_enable_x64`, `jax_debug_nans`, ...); those in
    `funtorch.flags` change nothing.

    Attributes:
        default_float: dtype of Python floats and of arrays made without a dtype (float32).
        default_int: dtype of Python ints that fit in it (int32).
        disable_jit: run jitted functions eagerly.
        debug_nans: raise NanError when an operation makes a nan, in threads begun later too.
        debug_infs: the same for infinities.
        strict_gradients: take derivatives by the plain rules: what `where` has masked away counts
            as 0 times its derivative, and the root of 0 has an infinite one.
        numpy_dispatch: let NumPy's functions work on arrays and tracers.
        python_control_flow: let `if`, `while`, `and`, `or`, `not` and `assert` take traced values,
            under `jit` and `vmap` too; without it they raise, as in JAX.
        narrow: make 64-bit dtypes 32-bit ones wherever they are asked for or come in, as JAX does;
            `update("jax_enable_x64", False)` sets it.
        enable_custom_prng: let `random.PRNGKey` make typed keys, as `random.key` does.
        numpy_dtype_promotion: 'standard', or 'strict', which refuses operators and elementwise
            functions of different dtypes in your code; Python's numbers still give way.
        numpy_rank_promotion: 'allow', or 'warn' or 'raise' where those meet arrays of different
            ranks above 0.
        traceback_filtering: leave the library's frames out of tracebacks (environment variable
            FUNTORCH_TRACEBACK_FILTERING: 'on' or 'off').
        dynamic_sizes: once a jitted function is called with a second size of an axis, compile it
            for all sizes of that axis.
        tf32: let GPUs round the operands of float32 products to TF32 (10 bits after the point), as
            `default_matmul_precision("high")` does; CPUs never do.
        debug: how much to print, 0 to 4 (environment variable FUNTORCH_DEBUG).
        threads: most threads that compiled code runs on; None: FUNTORCH_NUM_THREADS,
            OMP_NUM_THREADS or the number of processors.
        num_cpu_devices: how many devices a single process pretends to have, so that programs for
            several run in one (environment variable FUNTORCH_NUM_CPU_DEVICES); None: one.

    Example:
        >>> from funtorch.config import config
        >>> config.default_float
        dtype('float32')
        >>> with config.override(default_float="float64"):
        ...     config.default_float
        dtype('float64')
    """

    default_float: np.dtype = np.dtype("float32")
    default_int: np.dtype = np.dtype("int32")
    disable_jit: bool = False
    debug_nans: bool = False
    debug_infs: bool = False
    strict_gradients: bool = False
    numpy_dispatch: bool = True
    python_control_flow: bool = True
    narrow: bool = False
    enable_custom_prng: bool = False
    numpy_dtype_promotion: str = "standard"
    numpy_rank_promotion: str = "allow"
    dynamic_sizes: bool = True
    tf32: bool = False
    traceback_filtering: bool = _filtering_from_environment()
    debug: int = _debug_from_environment()
    threads: int | None = None
    num_cpu_devices: int | None = _devices_from_environment()

    traced: tuple[str, ...] = _TRACED
    """Names of the settings that change what a traced program records."""

    token: int = 0
    """Stands for the values of those settings; -1 while this thread overrides any or jit is off."""

    def update(self, name: str, value: Any) -> None:
        """Set an option for every thread.

        An override that is active in a thread keeps hiding the new value there until it ends.

        Args:
            name: an option's name, also with JAX's prefix `jax_`.
            value: the new value.

        Raises:
            AttributeError: the name is unknown.
            TypeError, ValueError: the value does not fit the option.
        """
        for option, checked in _resolve({name: value}).items():
            setattr(type(self), option, checked)
        plain = tuple(getattr(type(self), name) for name in _TRACED)
        number = _tokens.setdefault(plain, len(_tokens))
        setattr(type(self), "token", -1 if type(self).disable_jit else number)  # noqa: B010
        self._tell(_resolve({name: value}))

    @contextlib.contextmanager
    def override(self, **options: Any) -> Iterator[Config]:
        """Set options in this thread for the length of a `with` block.

        Args:
            **options: names and values, as for `update`.

        Returns:
            A context manager.

        Raises:
            AttributeError: a name is unknown.
            TypeError, ValueError: a value does not fit its option.
        """
        noted = dict(_noted)
        values: dict[str, Any] = _resolve(options)
        if not values.keys() <= _UNTRACED:
            values["token"] = -1
        local = self.__dict__
        before = {name: local[name] for name in values if name in local}
        local.update(values)
        self._tell(values)
        try:
            yield self
        finally:
            for name in values:
                del local[name]
            local.update(before)
            if noted != _noted:
                _noted.clear()
                _noted.update(noted)
            self._tell(values)

    def parse_flags_with_absl(self) -> None:
        """Do nothing: options are set by `update` and by environment variables."""

    def watch(self, name: str, changed: Callable[[], None]) -> None:
        """Call a function after each change of an option, in the thread that changed it."""
        _watchers[name] = changed

    def _tell(self, names: Iterable[str]) -> None:
        for name in names:
            if name in _watchers:
                _watchers[name]()

    def trace_key(self) -> tuple[Any, ...]:
        """Return the settings that change what a traced program records, for cache keys."""
        return tuple([getattr(self, name) for name in _TRACED])

    def __setattr__(self, name: str, value: Any) -> None:
        self.update(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        plain = name.removeprefix("jax_")
        if plain in _COMPOUND:
            return all(getattr(self, key) == value for key, value in _COMPOUND[plain](True).items())
        if plain in _OPTIONS:
            return getattr(self, plain)
        if plain in SETTLED:
            return SETTLED[plain][0]
        if plain in NOTED:
            return _noted.get(plain)
        raise _unknown(name)

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={getattr(self, name)}' for name in _OPTIONS)})"


def _unknown(name: str) -> AttributeError:
    known = ", ".join([*_OPTIONS, *_COMPOUND])
    return AttributeError(f"config has no option {name!r}; the options are: {known}")


def _resolve(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check names and values, and spell compound options out."""
    resolved: dict[str, Any] = {}
    for name, value in options.items():
        plain = name.removeprefix("jax_")
        if plain in _COMPOUND:
            resolved.update(_COMPOUND[plain](value))
        elif plain in _OPTIONS:
            resolved[plain] = _OPTIONS[plain](plain, value)
        elif plain in SETTLED:
            check_settled(plain, value)
        elif plain in NOTED:
            check_noted(plain, value)
            _noted[plain] = value
            resolved.update(_MEANING[plain](value) if plain in _MEANING else {})
        else:
            raise _unknown(name)
    return resolved


config = Config()
_tokens[config.trace_key()] = config.token


def threads(n: int | None) -> contextlib.AbstractContextManager[Config]:
    """Return a context in which compiled code runs on at most ``n`` threads.

    Nothing is compiled again, and results are equal bit for bit for any number.

    Args:
        n: a whole number from 1 on; None: what the environment says (FUNTORCH_NUM_THREADS,
            OMP_NUM_THREADS), or the number of processors.

    Raises:
        ValueError: if ``n`` is not such a number.

    Example:
        >>> import funtorch as ft
        >>> with ft.threads(1):
        ...     y = ft.jit(lambda x: x + 1)(2)
        >>> int(y)
        3
    """
    return config.override(threads=n)


def log_compiles(value: bool = True) -> contextlib.AbstractContextManager[Config]:
    """Return a context in which every compile, and why it was needed, is printed.

    Raises:
        TypeError: if ``value`` is not True or False.

    Example:
        >>> with log_compiles():
        ...     config.debug
        1
    """
    return config.override(log_compiles=value)


def enable_x64(new_val: bool = True) -> contextlib.AbstractContextManager[Config]:
    """Return a context in which numbers without a dtype have 64 bits; with False, nothing has.

    Raises:
        TypeError: if ``new_val`` is not True or False.

    Example:
        >>> with enable_x64():
        ...     config.default_float
        dtype('float64')
    """
    return config.override(enable_x64=new_val)


def enable_custom_prng(new_val: bool = True) -> contextlib.AbstractContextManager[Config]:
    """Return a context in which `random.PRNGKey` makes typed keys, as `random.key` does.

    Raises:
        TypeError: if ``new_val`` is not True or False.

    Example:
        >>> with enable_custom_prng():
        ...     config.enable_custom_prng
        True
    """
    return config.override(enable_custom_prng=new_val)


def default_matmul_precision(precision: Any) -> contextlib.AbstractContextManager[Config]:
    """Return a context in which products without a ``precision`` have this one.

    On a GPU, products of float32 may then be computed in TF32: for 'default', 'fastest', 'high',
    'tensorfloat32', 'tf32', 'bfloat16' and 'bfloat16_3x'. Without any, and for other names, they
    have their full precision, as they have on a CPU in any case.

    Example:
        >>> with default_matmul_precision("high"):
        ...     config.tf32
        True
    """
    return config.override(default_matmul_precision=precision)


def numpy_rank_promotion(mode: str) -> contextlib.AbstractContextManager[Config]:
    """Return a context in which arrays of different ranks may meet ('allow'), or may not.

    Example:
        >>> import funtorch.numpy as fnp
        >>> with numpy_rank_promotion("raise"):
        ...     (fnp.ones((2, 3)) + fnp.ones((1, 3))).shape  # fnp.ones(3) would be refused
        (2, 3)
    """
    return config.override(numpy_rank_promotion=mode)
