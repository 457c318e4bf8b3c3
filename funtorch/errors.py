"""Exceptions, and the light note of which user line an object came from.

Each exception also derives from the built-in one that fits, so `except TypeError` keeps working,
and carries JAX's name where JAX has one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

__all__ = [
    "ADVICE_STATIC",
    "CONCRETE",
    "CheckError",
    "ConcretizationTypeError",
    "DivisionByZeroError",
    "FailedCheckError",
    "FunTorchError",
    "IndexKindError",
    "JAXIndexError",
    "JAXTypeError",
    "JaxRuntimeError",
    "JaxprTypeError",
    "MismatchError",
    "NaNError",
    "NanError",
    "NonConcreteBooleanIndexError",
    "OOBError",
    "Source",
    "TooManyPathsError",
    "TracerArrayConversionError",
    "TracerBoolConversionError",
    "TracerIntegerConversionError",
    "UnexpectedTracerError",
    "exclude_frames",
    "function_name",
    "is_internal",
    "user_frame",
]


JaxRuntimeError = RuntimeError  # what programs raise while they run, callbacks most of all


class FunTorchError(Exception):
    """Base of the library's own exceptions."""


class JAXTypeError(FunTorchError, TypeError):
    """A traced array stands where only a value can; base of what says which."""


class MismatchError(FunTorchError, ValueError, TypeError):
    """Shapes, dtypes or structures do not fit: NumPy has a ValueError where JAX has a TypeError,
    or the other way round, so this is both."""


class InPlaceError(FunTorchError, ValueError, NotImplementedError):
    """A function was asked to change its argument, which JAX refuses in either of two ways."""


class JAXIndexError(FunTorchError, IndexError):
    """A traced array indexes where only a value can; base of what says which."""


class IndexKindError(JAXIndexError, TypeError):
    """What was given as an index is none: an IndexError in NumPy, a TypeError in JAX."""


class IndexShapeError(JAXIndexError, ValueError):
    """Index arrays do not broadcast: an IndexError in NumPy, a ValueError in JAX."""


class ConcretizationTypeError(JAXTypeError):
    """A transform needed the value of a traced array, which is not known while tracing."""


class SliceBoundError(ConcretizationTypeError, JAXIndexError):
    """A bound of a slice is not known while tracing."""


class TracerBoolConversionError(ConcretizationTypeError):
    """A traced array was used as a Python truth value."""


class TracerArrayConversionError(JAXTypeError):
    """A traced array was turned into a NumPy array."""


class TracerIntegerConversionError(JAXTypeError):
    """A traced array was used as a Python integer."""


class UnexpectedTracerError(JAXTypeError, RuntimeError):
    """A traced array was used after the transform that made it had ended."""


class NonConcreteBooleanIndexError(JAXIndexError):
    """A traced boolean array was used as an index, whose result would have no fixed shape."""


class TooManyPathsError(FunTorchError, RuntimeError):
    """Python decisions on traced values multiply the paths through a function."""


class TypePromotionError(FunTorchError, ValueError, TypeError):
    """Two dtypes have no common one. Name as in JAX."""


class JaxprTypeError(FunTorchError, TypeError):
    """A jaxpr breaks a rule of its language."""


class NanError(FunTorchError, FloatingPointError):
    """An operation made a nan while ``config.debug_nans`` holds, or an infinity while
    ``config.debug_infs`` does.

    ``source`` is the line that it comes from.
    """

    def __init__(
        self,
        name: str,
        types: str,
        given: list[int],
        source: Source,
        at: tuple[int, ...] = (),
        values: Sequence[str] = (),
        what: str = "nan",
    ) -> None:
        super().__init__(name, types, given, source, at, values, what)
        self.source = source

    def __str__(self) -> str:
        name, types, given, _, at, values, what = self.args
        where = f" at [{', '.join(map(str, at))}]" if at else ""
        shown = f": {name}({', '.join(values)}){where}" if values else where
        already = (
            f"; its argument{'s' if len(given) > 1 else ''} {', '.join(map(str, given))} held "
            f"{what} already"
            if given
            else ""
        )
        return (
            f"invalid value ({what}) encountered: {name} of ({types}) gave {what}{shown}, at "
            f"{self.source}{already}"
        )


class CheckError(FunTorchError, ValueError):
    """A check of a program's values failed; ``source`` is the line that it comes from."""

    def __init__(self, text: str, source: Source) -> None:
        super().__init__(text)
        self.source = source

    def __reduce__(self) -> Any:
        return type(self), (str(self), Source(None, 0))


class FailedCheckError(CheckError):
    """A check that the user wrote is False."""


class NaNError(CheckError):
    """An operation gave a nan, says `checkify`."""


class OOBError(CheckError):
    """An index lies outside of its array, says `checkify`."""


class DivisionByZeroError(CheckError):
    """Something was divided by zero, says `checkify`."""


class Source:
    """A place in the user's code, resolved to a file and a line only when asked.

    Args:
        code: the code object of the function, or None where there is none.
        lasti: the offset of the instruction in it.

    Example:
        >>> from funtorch.errors import user_frame
        >>> user_frame().line
        1
    """

    __slots__ = ("code", "lasti")

    def __init__(self, code: CodeType | None, lasti: int) -> None:
        self.code = code
        self.lasti = lasti

    @property
    def file(self) -> str:
        """Name the file, as its code object spells it."""
        return self.code.co_filename if self.code else "<unknown>"

    @property
    def function(self) -> str:
        """Name the function, with its class."""
        return self.code.co_qualname if self.code else "<unknown>"

    @property
    def line(self) -> int:
        """Count the line in the file, from 1; 0 where it is not known."""
        if self.code is None:
            return 0
        for start, end, line in self.code.co_lines():
            if start <= self.lasti < end:
                return line or self.code.co_firstlineno
        return self.code.co_firstlineno

    @property
    def position(self) -> tuple[int, int, int, int]:
        """First and last line, first and last column of the expression; columns 0 if unknown."""
        found = list(self.code.co_positions()) if self.code else []
        line, last, start, stop = (
            found[self.lasti // 2] if self.lasti // 2 < len(found) else (None,) * 4
        )
        line = line or self.line
        return line, last or line, start or 0, stop or 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"

    def __repr__(self) -> str:
        return f"Source({self})"


def _package_prefixes() -> tuple[str, ...]:
    # A source checkout keeps the three subpackages beside this folder, a wheel inside it; there
    # a folder beside it that is called `nnx` would be somebody else's.
    here = os.path.dirname(os.path.abspath(__file__))
    beside = [
        os.path.join(os.path.dirname(here), name)
        for name in ("transforms", "backends", "nnx")
        if not os.path.isdir(os.path.join(here, name))
    ]
    return tuple(folder + os.sep for folder in (here, *beside))


class _InsideTable(dict[str, bool]):
    """File name -> whether it belongs to the package; one look-up once a file is known."""

    prefixes = _package_prefixes()

    def __missing__(self, filename: str) -> bool:
        self[filename] = inside = filename.startswith(self.prefixes)
        return inside


_inside = _InsideTable()


def exclude_frames(path: str) -> None:
    """Pass over a source file, or a folder, where a user's line is looked for."""
    _inside.prefixes = (*_inside.prefixes, path)
    _inside.clear()


def is_internal(filename: str) -> bool:
    """Return whether a source file belongs to the package."""
    return _inside[filename]


def user_frame(skip: int = 0) -> Source:
    """Find the innermost line of the call stack that is outside the package.

    Args:
        skip: how many frames above the caller to pass over unseen.

    Returns:
        The place; one that says `<unknown>` when the whole stack is inside the package.
    """
    frame: FrameType | None = sys._getframe(skip + 1)
    while frame is not None:
        code = frame.f_code
        if not _inside[code.co_filename]:
            return Source(code, frame.f_lasti)
        frame = frame.f_back
    return Source(None, 0)


def function_name(fun: Any) -> str:
    """Return 'name (file.py:12)' for a Python function, or its type's name."""
    while hasattr(fun, "__wrapped__"):
        fun = fun.__wrapped__
    fun = getattr(fun, "func", fun)
    code = getattr(fun, "__code__", None)
    name = getattr(fun, "__name__", type(fun).__name__)
    return (
        f"{name} ({code.co_filename.rsplit('/', 1)[-1]}:{code.co_firstlineno})"
        if code is not None
        else name
    )


ADVICE_STATIC = (
    "If the value is a plain Python number that rarely changes, mark the argument static "
    "(static_argnums/static_argnames of jit)."
)
_ADVICE_BRANCH = (
    "To choose between values use funtorch.numpy.where; to choose between computations use "
    "funtorch.lax.cond, "
    "or lax.while_loop for a loop. " + ADVICE_STATIC
)
# What was asked of a traced value, by a word for it: how errors call it, the error, the advice.
CONCRETE: dict[str, tuple[str, type[Exception], str]] = {
    "bool": (
        "a Python bool (as in `if`, `while`, `and`, `not`)",
        TracerBoolConversionError,
        _ADVICE_BRANCH,
    ),
    "int": (
        "a Python int",
        ConcretizationTypeError,
        "Use x.astype('int32') to convert. " + ADVICE_STATIC,
    ),
    "float": (
        "a Python float",
        ConcretizationTypeError,
        "Use x.astype(float) to convert. " + _ADVICE_BRANCH,
    ),
    "complex": (
        "a Python complex",
        ConcretizationTypeError,
        "Use x.astype(complex). " + ADVICE_STATIC,
    ),
    "index": (
        "a Python index",
        TracerIntegerConversionError,
        "A Python or NumPy sequence cannot be indexed by a traced array: make the sequence an "
        "Array first, funtorch.numpy.asarray(seq)[i]. " + ADVICE_STATIC,
    ),
    "array": (
        "a NumPy array (np.array, np.asarray or a NumPy function that cannot be traced)",
        TracerArrayConversionError,
        "Build arrays from traced values with funtorch.numpy.array or stack, read a NumPy array "
        "at traced places by funtorch.numpy.asarray(a)[i], and write into one with "
        "x.at[i].set(v).",
    ),
}
