"""See a compiled program: its steps with their source lines and costs, and what memory they use."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from funtorch.errors import Source
from funtorch.jaxpr import Jaxpr, Var

from .budget import Fitted
from .compile import plan_of
from .cost import Cost, equation_cost, kernel_cost, memory_analysis, step_bytes
from .layout import Layout, lay_out, nbytes
from .plan import (
    Attention,
    Branch,
    Call,
    Conv,
    Dot,
    Fourier,
    Launch,
    Library,
    Nothing,
    Plan,
    Running,
    Scan,
    Sort,
    Step,
    Table,
    Talk,
    Wait,
    While,
    reads,
    writes,
)

__all__ = ["Buffer", "Explanation", "StepRow", "explain_program"]


@dataclass(frozen=True)
class StepRow:
    """One step of a program.

    Attributes:
        number: its place, as in "3" or, inside a loop, "3.1".
        kind: 'kernel', 'product', 'convolution', 'eager', 'scan', 'while' or 'branch'.
        what: the operations in it.
        results: types of the arrays that it writes.
        where: the user's line.
        bytes: what it reads and writes.
        cost: its operations.
    """

    number: str
    kind: str
    what: str
    results: str
    where: str
    bytes: float
    cost: Cost


@dataclass(frozen=True)
class Buffer:
    """One array of a program.

    Attributes:
        role: 'argument', 'result' or 'temporary'.
        first, last: the steps that make it and that use it last; -1 for what is given.
        place: its memory: that of an argument (param) or result, a place in the arena, the stack.
    """

    role: str
    type: str
    bytes: int
    first: int
    last: int
    where: str
    place: str


# ---------------------------------------------------------------------- reading a plan
def _line(source: Source | None) -> str:
    if source is None or source.code is None:
        return ""
    return f"{os.path.basename(source.file)}:{source.line}"


def _operations(step: Launch) -> str:
    names = [
        str(op.attr).removeprefix("reduce_") if op.name == "reduce" else op.name
        for op in step.kernel.body
        if op.name not in ("load", "const", "index", "convert")
    ]
    found = list(dict.fromkeys(names))
    return "+".join(found[:6]) + ("+..." if len(found) > 6 else "") or "copy"


def _with_epilogue(name: str, step: Step) -> str:
    """Return the name of a product, and what is done with each block of it."""
    after = step.after  # type: ignore[union-attr]
    return name if after is None else f"{name}, then {_operations(after.launch)}"


_Describe = Callable[[Step], str]
_KINDS: dict[type, tuple[str, _Describe]] = {
    Launch: ("kernel", lambda s: _operations(s)),  # type: ignore[arg-type]
    Dot: ("product", lambda s: _with_epilogue("dot_general", s)),
    Conv: ("convolution", lambda s: _with_epilogue("conv_general_dilated", s)),
    Fourier: ("transform", lambda s: "ifft" if s.inverse else "fft"),  # type: ignore[union-attr]
    Library: ("library", lambda s: s.eqn.prim.name),  # type: ignore[union-attr]
    Talk: ("talk", lambda s: s.eqn.prim.name),  # type: ignore[union-attr]
    Wait: ("wait", lambda s: s.eqn.prim.name),  # type: ignore[union-attr]
    Table: ("table", lambda s: s.what),  # type: ignore[union-attr]
    Running: ("running", lambda s: s.name),  # type: ignore[union-attr]
    Attention: ("attention", lambda s: s.eqn.prim.name),  # type: ignore[union-attr]
    Sort: ("sort", lambda s: f"{s.rows} of {s.n}"),  # type: ignore[union-attr]
    Call: ("eager", lambda s: s.eqn.prim.name),  # type: ignore[union-attr]
    Scan: ("scan", lambda s: f"{s.eqn.params['length']} times"),  # type: ignore[union-attr]
    While: ("while", lambda s: "until done"),
    Branch: ("branch", lambda s: f"one of {len(s.branches)}"),  # type: ignore[union-attr]
}


def _inner(step: Step) -> Sequence[Plan]:
    if isinstance(step, Scan):
        return (step.body,)
    if isinstance(step, While):
        return (step.cond, step.body)
    return step.branches if isinstance(step, Branch) else ()


def _cost(step: Step) -> Cost:
    if isinstance(step, Launch):
        return kernel_cost(step.kernel)
    if isinstance(step, (Dot, Conv)):
        parts = (step,) if isinstance(step, Dot) else step.parts
        own = Cost(2.0 * sum(c.products for c in parts))
        return own if step.after is None else own + kernel_cost(step.after.launch.kernel)
    if isinstance(step, Library):
        return Cost(step.batch * step.recipe.flops)
    if isinstance(step, Fourier):
        return Cost(5.0 * step.batch * step.inner * step.n * math.log2(step.n))
    if isinstance(step, Running):
        return Cost(float(step.rows * step.n))
    if isinstance(step, (Nothing, Sort, Table, Talk, Wait)):
        return Cost()
    return equation_cost(step.eqn)


def _rows(plan: Plan, prefix: str = "") -> Iterable[StepRow]:
    source = {v: e.source for e in plan.jaxpr.eqns for v in e.outvars}
    for k, step in enumerate(plan.steps):
        outs = list(dict.fromkeys(writes(step)))
        lines = dict.fromkeys(line for v in outs if (line := _line(source.get(v))))
        kind, describe = _KINDS.get(type(step), (type(step).__name__.lower(), lambda s: ""))
        yield StepRow(
            f"{prefix}{k}",
            kind,
            describe(step),
            " ".join(v.aval.str_short() for v in outs),
            " ".join(lines),
            step_bytes(step),
            _cost(step),
        )
        for inner in _inner(step):
            yield from _rows(inner, f"{prefix}{k}.")


def _buffers(layout: Layout) -> list[Buffer]:
    plan, places = layout.plan, layout.places
    jaxpr = plan.jaxpr
    given, results = [*jaxpr.constvars, *jaxpr.invars], set(jaxpr.outvars)
    source = {v: _line(e.source) for e in jaxpr.eqns for v in e.outvars}
    first: dict[Var, int] = dict.fromkeys(given, -1)
    last = dict(first)
    for k, step in enumerate(plan.steps):
        for v in writes(step):
            first.setdefault(v, k)
            last[v] = k
        last.update((v, k) for v in reads(step) if isinstance(v, Var))
    last.update((v, len(plan.steps)) for v in results if isinstance(v, Var))
    role = dict.fromkeys(results, "result") | dict.fromkeys(given, "argument")
    return [
        Buffer(
            role.get(v, "temporary"),
            v.aval.str_short(),
            nbytes(v),
            k,
            last[v],
            source.get(v, ""),
            str(places.get(v, "")),
        )
        for v, k in first.items()
    ]


# ---------------------------------------------------------------------- text
def _amount(n: float) -> str:
    """Write a number with a unit of thousands."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(n) < 1000 or unit == "T":
            return f"{n:.3g}{unit}" if unit else f"{n:.0f}"
        n /= 1000
    raise AssertionError


_CELL = 40  # most characters in a cell of a table


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    rows = [[x if len(x) <= _CELL else x[: _CELL - 3] + "..." for x in r] for r in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(x.ljust(w) for x, w in zip(r, widths, strict=True)).rstrip() for r in rows]


class Explanation:
    """What a function compiles to; ``print`` it, or draw it with `save_svg`.

    Attributes:
        name: the function.
        jaxpr: its simplified program.
        plan: the steps that run.
        steps: a `StepRow` for each, those inside loops too.
        buffers: a `Buffer` for each array of the outermost program.
        memory: the bytes that it needs.
        fitted: what is computed again for its ``memory_budget``, None where it has none.
    """

    def __init__(
        self,
        name: str,
        jaxpr: Jaxpr,
        traced: int,
        donated: frozenset[int],
        fitted: Fitted | None = None,
    ) -> None:
        self.name, self.jaxpr, self._traced, self.fitted = name, jaxpr, traced, fitted
        self.plan = plan_of(jaxpr)
        self.steps = list(_rows(self.plan))
        self.buffers = _buffers(lay_out(self.plan, donated))
        self.memory = memory_analysis(jaxpr, donated)

    @property
    def eager(self) -> list[str]:
        """Names of the primitives that have no native code here and run by their eager rules."""
        return [row.what for row in self.steps if row.kind == "eager"]

    def __str__(self) -> str:
        top = [row for row in self.steps if "." not in row.number]
        total = sum((row.cost for row in top), Cost())
        m = self.memory
        head = ("step", "kind", "operations", "writes", "at", "bytes", "flops", "exp, ...")
        rows = [
            (
                row.number, row.kind, row.what, row.results, row.where, _amount(row.bytes),
                _amount(row.cost.flops), _amount(row.cost.transcendentals),
            )
            for row in self.steps
        ]  # fmt: skip
        temporary = [b for b in self.buffers if b.role == "temporary"]
        temporary.sort(key=lambda b: -b.bytes)
        held = [("temporary", "bytes", "steps", "memory", "at")]
        held += [
            (b.type, _amount(b.bytes), f"{b.first}-{b.last}", b.place, b.where)
            for b in temporary[:20]
        ]
        return "\n".join(
            [
                f"{self.name}: {self._traced} equations traced, {len(self.jaxpr.eqns)} simplified, "
                f"{len(top)} steps",
                f"{_amount(total.flops)} flops, {_amount(total.transcendentals)} exp, log, ...; "
                f"{_amount(sum(row.bytes for row in top))} bytes read and written",
                f"memory: arguments {_amount(m.argument_size_in_bytes)}, results "
                f"{_amount(m.output_size_in_bytes)} ({_amount(m.alias_size_in_bytes)} of them in "
                f"donated arguments), temporaries {_amount(m.temp_size_in_bytes)} bytes",
                *([] if self.fitted is None else [str(self.fitted)]),
                f"run eagerly: {', '.join(self.eager) or 'nothing'}",
                "",
                *_table([head, *rows]),
                *(["", *_table(held)] if temporary else []),
            ]
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_svg_(self) -> str:
        return draw(self)

    def save_svg(self, path: str | os.PathLike[str]) -> None:
        """Draw the steps from left to right, and below them the life of every array.

        Args:
            path: the file to write.
        """
        Path(path).write_text(draw(self), encoding="utf-8")


def explain_program(
    name: str,
    jaxpr: Jaxpr,
    traced: int,
    donated: frozenset[int] = frozenset(),
    fitted: Fitted | None = None,
) -> Explanation:
    """Explain a simplified program that had ``traced`` equations before."""
    return Explanation(name, jaxpr, traced, donated, fitted)


# ---------------------------------------------------------------------- drawing
_COLOURS = {
    "kernel": "#4c78a8", "product": "#59a14f", "eager": "#e15759", "scan": "#b07aa1",
    "while": "#b07aa1", "branch": "#b07aa1", "argument": "#bab0ac", "result": "#59a14f",
    "temporary": "#9ecae9",
}  # fmt: skip
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
_LABEL, _BAR, _MOST = 210, 14, 60  # width of labels, height of bars, most arrays shown


def _box(x: float, y: float, w: float, h: float, colour: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 1):.1f}" height="{h:.1f}" rx="2" '
        f'fill="{colour}"><title>{title.translate(_ESCAPED)}</title></rect>'
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{text.translate(_ESCAPED)}</text>'


def draw(found: Explanation) -> str:
    """Return an SVG: a column per step, a row per array, the bytes alive at each step below."""
    top = [row for row in found.steps if "." not in row.number]
    count = max(len(top), 1)
    column = max(12.0, min(60.0, 900 / count))
    width = _LABEL + column * (count + 1) + 20
    shown = sorted(sorted(found.buffers, key=lambda b: -b.bytes)[:_MOST], key=lambda b: b.first)
    parts = [_text(10, 18, f"{found.name}: {count} steps", ' font-weight="bold"')]
    x_of = lambda step: _LABEL + column * (step + 1)  # noqa: E731
    for k, row in enumerate(top):
        title = f"{row.number} {row.kind}: {row.what}\n{row.results}\n{row.where}\n"
        title += f"{_amount(row.bytes)} bytes, {_amount(row.cost.flops)} flops"
        parts.append(_box(x_of(k) + 1, 30, column - 2, 22, _COLOURS.get(row.kind, "#888"), title))
        if column >= 20:
            middle = ' text-anchor="middle" fill="white"'
            parts.append(_text(x_of(k) + column / 2, 45, row.number, middle))
    y = 64.0
    for b in shown:
        parts.append(_text(10, y + 10, f"{b.type}  {_amount(b.bytes)}"))
        title = f"{b.role} {b.type}, {b.bytes} bytes, {b.place}, {b.where}"
        length = column * (b.last - b.first + 1)
        parts.append(_box(x_of(b.first), y, length, _BAR - 3, _COLOURS[b.role], title))
        y += _BAR
    alive = [sum(b.bytes for b in found.buffers if b.first <= k <= b.last) for k in range(count)]
    most = max([*alive, 1])
    y += 70
    points = " ".join(
        f"{x_of(k) + column * side:.1f},{y - 50 * n / most:.1f}"
        for k, n in enumerate(alive)
        for side in (0, 1)
    )
    parts.append(f'<polyline points="{points}" fill="none" stroke="#4c78a8" stroke-width="1.5"/>')
    parts.append(_text(10, y, f"alive, at most {_amount(most)} bytes"))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{y + 20:.0f}" '
        f'font-family="sans-serif" font-size="10">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])
