"""What a program does, and when, for a viewer of traces: `trace`, `TraceAnnotation` ...

A trace holds every call of a jitted function, and what the program annotates. It is written in the
format of Chrome's tracing, which https://ui.perfetto.dev and TensorBoard show.

References:
    "Trace Event Format", Google, 2016.
    JAX, jax.profiler.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from funtorch.transforms.jit import Jitted

__all__ = [
    "StepTraceAnnotation",
    "TraceAnnotation",
    "annotate_function",
    "start_trace",
    "stop_trace",
    "trace",
]


class _Recording:
    """The events of a trace that is being made."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.begin = folder, time.perf_counter_ns()
        self.events: list[dict[str, Any]] = []

    def add(self, name: str, since: int, args: dict[str, Any]) -> None:
        now = time.perf_counter_ns()
        self.events.append(
            {
                "name": name,
                "ph": "X",
                "ts": (since - self.begin) / 1000,
                "dur": (now - since) / 1000,
                "pid": os.getpid(),
                "tid": threading.get_ident(),
                "args": args,
            }
        )

    def write(self) -> Path:
        stamp = time.strftime("%Y_%m_%d_%H_%M_%S")
        folder = self.folder / "plugins" / "profile" / stamp
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}.trace.json.gz"
        with gzip.open(path, "wt", encoding="utf-8") as file:
            json.dump({"traceEvents": self.events, "displayTimeUnit": "ms"}, file)
        return path


_running: list[_Recording] = []
_call = Jitted.__call__


def _timed(self: Jitted, *args: Any, **kwargs: Any) -> Any:
    since = time.perf_counter_ns()
    try:
        return _call(self, *args, **kwargs)
    finally:
        if _running:
            _running[-1].add(f"jit({getattr(self, '__name__', self._name)})", since, {})


def start_trace(log_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
    """Begin a trace, of all threads, which `stop_trace` ends.

    Args:
        log_dir: the folder for it.
        *args, **kwargs: accepted for compatibility: JAX's options of links and tracers.

    Raises:
        RuntimeError: if a trace has begun already.
    """
    if _running:
        raise RuntimeError(
            f"a trace has begun already, for {_running[-1].folder}: only one is made at a time; "
            "call stop_trace first"
        )
    _running.append(_Recording(Path(log_dir)))
    # In place of a test in every call: they take less than a microsecond.
    Jitted.__call__ = _timed  # type: ignore[method-assign]


def stop_trace() -> Path:
    """End the trace, and write it to ``plugins/profile/`` in its folder.

    Returns:
        The path of the file.

    Raises:
        RuntimeError: if no trace has begun.
    """
    if not _running:
        raise RuntimeError("no trace has begun: call start_trace first")
    Jitted.__call__ = _call  # type: ignore[method-assign]
    return _running.pop().write()


class trace:
    """A context that is traced; arguments as for `start_trace`.

    Example:
        >>> import tempfile
        >>> import funtorch as ft
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with ft.profiler.trace(folder):
        ...         y = ft.jit(lambda x: x + 1)(2)
        ...     len(list(Path(folder).rglob("*.trace.json.gz")))
        1
    """

    def __init__(self, log_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        self._begin = functools.partial(start_trace, log_dir, *args, **kwargs)

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, *exc: object) -> None:
        stop_trace()


class TraceAnnotation:
    """A context that traces show under a name.

    Args:
        name: the name.
        **kwargs: numbers and texts to show with it.

    Example:
        >>> with TraceAnnotation("load", batch=3):
        ...     pass
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        self._name, self._args = name, kwargs
        self._since: list[int] = []

    def __enter__(self) -> TraceAnnotation:
        self._since.append(time.perf_counter_ns())
        return self

    def __exit__(self, *exc: object) -> None:
        since = self._since.pop()
        if _running:
            args = {k: v if isinstance(v, (int, float)) else str(v) for k, v in self._args.items()}
            _running[-1].add(self._name, since, args)


class StepTraceAnnotation(TraceAnnotation):
    """A `TraceAnnotation` of a step of training, with ``step_num=``."""


def annotate_function(
    func: Callable[..., Any] | None = None, name: str | None = None, **decorator_kwargs: Any
) -> Any:
    """Show the calls of a function in traces.

    Args:
        func: the function; without it a decorator is returned.
        name: what they are shown as: the function's name where it is None.
        **decorator_kwargs: as for `TraceAnnotation`.

    Example:
        >>> @annotate_function(name="twice")
        ... def f(x):
        ...     return 2 * x
        >>> f(3)
        6
    """
    if func is None:
        return functools.partial(annotate_function, name=name, **decorator_kwargs)
    shown = name or getattr(func, "__qualname__", getattr(func, "__name__", "function"))

    @functools.wraps(func)
    def annotated(*args: Any, **kwargs: Any) -> Any:
        with TraceAnnotation(shown, **decorator_kwargs):
            return func(*args, **kwargs)

    return annotated
