"""Rows of the benchmark: how one is declared, and how its contenders are timed in turns.

A row is one piece of work. FunTorch has JAX's names, so one function, given the library as its
argument, makes the work for both; PyTorch and others have functions of their own:

    @row("gelu", "gelu, 10M float32", Target(3.0))
    def gelu(lib):
        x, f = lib.numpy.asarray(...), lib.jit(lib.nn.gelu)
        return lambda: f(x)

    @gelu.also("torch")
    def _(torch): ...

Contenders take turns inside one process, so that whatever else the machine does falls on all of
them alike; each one's figure is its median.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

Run = Callable[[], Any]
Maker = Callable[[ModuleType], Run]

PEERS = ("jax", "torch")
"""Those whose better one is "the best"."""

MODULES = {"copy": "numpy", "jit": "funtorch", "limit": "numpy"}
"""The module a contender needs, where it has another name."""


class Target(NamedTuple):
    """What must hold: the time of ``against`` is at least ``factor`` times ours.

    Args:
        factor: how many times faster we must be.
        against: a contender, or "best": the faster of `PEERS`.
        slack: seconds that we may take on top.
    """

    factor: float
    against: str = "best"
    slack: float = 0.0

    def __str__(self) -> str:
        slack = f" + {show(self.slack)}" if self.slack else ""
        return f"{self.factor:.3g}x{'' if self.against == 'best' else ' ' + self.against}{slack}"


@dataclass
class Row:
    """One piece of work and those who do it.

    Args:
        name: short and unique, for ``--only``.
        title: the work and its sizes.
        targets: what must hold.
        topic: the file that declares it.
        makers: what makes the work, by contender.
        absent: why a contender is not there.
        agree: relative tolerance within which results must equal ours; None where they cannot be
            compared (other random numbers, for one).
        own_clock: the work returns its time in seconds instead of a result.
    """

    name: str
    title: str
    targets: tuple[Target, ...]
    topic: str = ""
    makers: dict[str, Maker] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    agree: float | None = 1e-3
    own_clock: bool = False

    def also(self, name: str) -> Callable[[Maker], Maker]:
        """Let another contender take part."""

        def add(maker: Maker) -> Maker:
            self.makers[name] = maker
            return maker

        return add


ROWS: list[Row] = []


def row(
    name: str, title: str, *targets: Target, peers: tuple[str, ...] = ("jax",), **options: Any
) -> Callable[[Maker], Row]:
    """Declare a row: the function decorated makes the work of FunTorch, and of JAX unless not."""

    def declare(maker: Maker) -> Row:
        topic = maker.__module__.rpartition(".")[2]
        makers = {"funtorch": maker, **dict.fromkeys(peers, maker)}
        made = Row(name, title, targets, topic=topic, makers=makers, **options)
        ROWS.append(made)
        return made

    return declare


# ---------------------------------------------------------------------------------------- measuring
@dataclass
class Result:
    """What became of one row.

    Args:
        row: the row.
        medians: the median time of one call, by contender.
        fastest: the time of one call in the fastest turn, which other work on the machine delays
            least.
        notes: why a contender has no time, or what is wrong with its result.
    """

    row: Row
    medians: dict[str, float]
    notes: dict[str, str]
    fastest: dict[str, float] = field(default_factory=dict)

    @property
    def ours(self) -> float | None:
        return self.medians.get("funtorch")

    def time_of(self, against: str) -> float | None:
        """Return the time of a contender, or of the best of `PEERS`."""
        return _time_of(self.medians, against)

    def ratio(self, against: str = "best") -> float | None:
        """Return how many times faster we are."""
        return _ratio(self.medians, against)

    def best_ratio(self, against: str = "best") -> float | None:
        """Return how many times faster we are, everyone in the fastest turn."""
        return _ratio(self.fastest, against)

    def verdicts(self) -> Iterator[tuple[Target, bool | None]]:
        """Yield every target and whether it was met; None if there was nobody to compare with."""
        for target in self.row.targets:
            theirs = self.time_of(target.against)
            if self.ours is None:
                yield target, False
            elif theirs is None:
                yield target, None
            else:
                yield target, self.ours <= theirs / target.factor + target.slack


def _time_of(times: dict[str, float], against: str) -> float | None:
    if against != "best":
        return times.get(against)
    return min((times[p] for p in PEERS if p in times), default=None)


def _ratio(times: dict[str, float], against: str) -> float | None:
    theirs, ours = _time_of(times, against), times.get("funtorch")
    return theirs / ours if theirs is not None and ours else None


def finisher(module: ModuleType) -> Callable[[Any], Any]:
    """Return what waits until a result is there; PyTorch and NumPy are done when they return."""
    return getattr(module, "block_until_ready", lambda out: out)


def finished(run: Run, finish: Callable[[Any], Any]) -> Run:
    return lambda: finish(run())


def leaves(out: Any) -> list[np.ndarray]:
    """Return the arrays of a result, whichever library made it."""
    if isinstance(out, dict):
        return [leaf for key in sorted(out) for leaf in leaves(out[key])]
    if isinstance(out, (list, tuple)):
        return [leaf for part in out for leaf in leaves(part)]
    return [np.asarray(out)]


def disagreement(ours: Any, theirs: Any, tolerance: float) -> str:
    """Return how two results differ, or nothing."""
    ours, theirs = leaves(ours), leaves(theirs)
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        return f"other shapes: {[x.shape for x in ours]} against {[x.shape for x in theirs]}"
    for x, y in zip(ours, theirs, strict=True):
        scale = max(float(np.max(np.abs(y), initial=0.0)), 1e-30)
        error = float(np.max(np.abs(x - y), initial=0.0)) / scale
        if not error <= tolerance:
            return f"results differ by {error:.1g} of the largest"
    return ""


def start(row: Row, notes: dict[str, str]) -> dict[str, Run]:
    """Make every contender's work and run it twice; leave out, with a note, whoever cannot."""
    runs: dict[str, Run] = {}
    ours: Any = None
    for name, maker in row.makers.items():
        module = MODULES.get(name, name)
        if importlib.util.find_spec(module) is None:
            notes[name] = "not installed"
            continue
        try:
            made = importlib.import_module(module)
            run = finished(maker(made), finisher(made))
            if not row.own_clock:
                run()
                # The second call's result: what a training step returns depends on the first's
                # gradients.
                out = leaves(run()) if row.agree is not None else None
        except (AttributeError, NotImplementedError) as error:
            notes[name] = f"not there: {error}"
            continue
        except Exception as error:  # one broken contender must not end the others' measurement
            notes[name] = f"failed: {type(error).__name__}: {str(error).splitlines()[:1]}"
            continue
        if not row.own_clock and row.agree is not None and name != "copy":
            if name == "funtorch":
                ours = out
            elif ours is not None:
                different = disagreement(ours, out, row.agree)
                if different:
                    notes[name] = different
        runs[name] = run
    return runs


def clock(run: Run, calls: int, own: bool) -> float:
    """Return the time of one call."""
    if own:
        return statistics.median(run() for _ in range(calls))
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls


SETTLE = 0.25
"""Work shorter than this many seconds runs once untimed before its turn: the threads of whoever
was before may still spin, and the caches are theirs."""


_PIECES = 4
"""Into so many pieces a turn is cut, each of which is timed: short ones are seldom interrupted."""


def measure(
    runs: dict[str, Run], rounds: int, seconds: float, own_clock: bool = False
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median time of one call of each, and that in its fastest turn.

    They take turns of about ``seconds``.
    """
    once = {name: 1.0 if own_clock else clock(run, 1, False) for name, run in runs.items()}
    calls = {name: max(1, int(seconds / max(t, 1e-7))) for name, t in once.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    order = list(runs)
    for _ in range(rounds):
        for name in order:
            if once[name] < SETTLE:
                time.sleep(0.002)
                runs[name]()
            pieces = min(_PIECES, calls[name])
            each = calls[name] // pieces
            times[name] += [clock(runs[name], each, own_clock) for _ in range(pieces)]
        order.reverse()
    medians = {name: statistics.median(t) for name, t in times.items()}
    return medians, {name: min(t) for name, t in times.items()}


def judge(row: Row, rounds: int, seconds: float) -> Result:
    """Measure one row."""
    notes = dict(row.absent)
    runs = start(row, notes)
    if row.own_clock:
        rounds = max(1, rounds // 3)
    medians, fastest = measure(runs, rounds, seconds, row.own_clock)
    return Result(row, medians, notes, fastest)


# ---------------------------------------------------------------------------------------- showing
def show(seconds: float | None) -> str:
    """Return a time as one reads it."""
    if seconds is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


VERDICTS = {True: "yes", False: "NO", None: "?"}


def cells(result: Result) -> list[str]:
    """Return a row of the table: see `HEADER`."""
    verdicts = list(result.verdicts())
    others = [
        f"{name} {show(t)}"
        for name, t in result.medians.items()
        if name not in ("funtorch", *PEERS)
    ]
    against = result.row.targets[0].against if result.row.targets else "best"
    ratios = result.ratio(against), result.best_ratio(against)
    return [
        result.row.title,
        *(show(result.medians.get(name)) or "-" for name in ("funtorch", *PEERS)),
        ", ".join(others),
        *(f"{ratio:.3g}x" if ratio is not None else "-" for ratio in ratios),
        ", ".join(str(target) for target, _ in verdicts),
        ", ".join(VERDICTS[met] for _, met in verdicts),
        "; ".join(f"{name}: {note}" for name, note in result.notes.items()),
    ]


HEADER = (
    "work",
    "funtorch",
    "jax",
    "torch",
    "others",
    "ratio",
    "fastest",
    "target",
    "met",
    "notes",
)


def table(results: list[Result]) -> str:
    """Return the whole table in Markdown, aligned so that it reads as plain text too."""
    lines = [list(HEADER), *(cells(r) for r in results)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADER) - 1)]

    def text(line: list[str]) -> str:
        padded = [cell.ljust(w) for cell, w in zip(line, widths, strict=False)]
        return "| " + " | ".join([*padded, line[-1]]) + " |"

    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|---|"
    return "\n".join([text(lines[0]), rule, *map(text, lines[1:])])
