"""The plan of a program: steps in order, each of which reads and writes whole arrays in memory.

Fusion makes it, the layout places its arrays, the targets print it as code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var
from funtorch.ops.lapack import Recipe

from .kernel import Affine, Kernel

__all__ = [
    "Attention",
    "Branch",
    "Call",
    "Conv",
    "Correlation",
    "Dot",
    "Epilogue",
    "Fourier",
    "Launch",
    "Library",
    "Nothing",
    "Plan",
    "Running",
    "Scan",
    "Sort",
    "Step",
    "Table",
    "Talk",
    "Wait",
    "While",
    "plans_of",
    "reads",
    "writes",
]


@dataclass(frozen=True)
class Launch:
    """Run a kernel on the memory of these variables, one per buffer.

    ``seeds``: pairs (out, source). The kernel writes only a part of ``out``, or adds to it; the
    rest is what ``source`` holds. Where the source dies here, the two may share their memory.
    """

    kernel: Kernel
    vars: tuple[Var, ...]
    seeds: tuple[tuple[Var, Var], ...] = ()


@dataclass(frozen=True)
class Epilogue:
    """A kernel that runs on each block of what a product or convolution makes, in the cache.

    Attributes:
        launch: the kernel; one of its buffers is the block instead of the whole array.
        tile: the number of that buffer.
        lead: how many of the kernel's axes, the first ones, count the rows of the product.
        whole: whether a block must have whole rows: where the kernel does more with a row than one
            thing to each element.
    """

    launch: Launch
    tile: int
    lead: int
    whole: bool

    def reads(self) -> Iterator[Var]:
        """Yield what it reads from memory, the block aside."""
        stored = {s.buffer for s in self.launch.kernel.stores}
        vars_ = enumerate(self.launch.vars)
        yield from (v for k, v in vars_ if k not in stored and k != self.tile)

    def writes(self) -> Iterator[Var]:
        """Yield what it writes to memory."""
        yield from _stored(self.launch)


@dataclass(frozen=True)
class Dot:
    """Products of matrices (rows, sums) by (sums, columns), whose rows and sums may have several
    axes, as in convolutions.

    Attributes:
        batches, rows, sums: sizes of the axes.
        n: the number of columns.
        places: where the elements of a are, over (*batches, *rows, *sums), those of b, over
            (*batches, *sums, columns), and those of out, over (*batches, *rows, columns). The last
            stride of out is 1, and one of the last two of b.
        after: what is done with each block of out; out itself is not written then.
        tf32: whether GPUs may round float32 operands to TF32.
        scale: where b is integers of 4 bits or in groups, their scales (columns, groups), in order.
    """

    a: Var
    b: Var
    out: Var
    batches: tuple[int, ...]
    rows: tuple[int, ...]
    sums: tuple[int, ...]
    n: int
    places: tuple[Affine, Affine, Affine]
    after: Epilogue | None = None
    tf32: bool = False
    scale: Var | None = None

    @property
    def batch(self) -> int:
        """How many products there are."""
        return math.prod(self.batches)

    @property
    def m(self) -> int:
        """The number of rows."""
        return math.prod(self.rows)

    @property
    def k(self) -> int:
        """The number of terms in a sum."""
        return math.prod(self.sums)

    @property
    def products(self) -> int:
        """How many multiplications there are."""
        return self.batch * self.m * self.n * self.k

    @property
    def operands(self) -> tuple[Var, ...]:
        """What it reads."""
        return (self.a, self.b) if self.scale is None else (self.a, self.b, self.scale)


@dataclass(frozen=True)
class Correlation:
    """One dense sum of products over windows, of elements at affine places of their arrays:

        y[b, g, o, p] = sum over i, k of x[b, g, i, p * stride + k * dilation - low] w[g, o, i, k]

    where terms outside of x's space are 0.

    Attributes:
        batch, groups, features, outs: sizes of the axes b, g, i (in a group) and o (in a group).
        space, window, places: sizes of x's space axes, of k and of p.
        strides, dilation, low: one number per space axis; low may be negative.
        x, w, y: where elements are, over (b, g, i, *space), (g, o, i, *window), (b, g, o, *places).
    """

    batch: int
    groups: int
    features: int
    outs: int
    space: tuple[int, ...]
    window: tuple[int, ...]
    places: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    x: Affine
    w: Affine
    y: Affine

    @property
    def products(self) -> int:
        """How many there are, those with what lies outside of x included."""
        sizes = (self.batch, self.groups, self.features, self.outs, *self.window, *self.places)
        return math.prod(sizes)


@dataclass(frozen=True)
class Conv:
    """Convolutions of ``lhs`` with ``rhs``, each of which makes some elements of ``out``.

    Attributes:
        covered: whether they make all; the others are 0.
        gaps: how far apart elements of x are along each of its space axes, zeros between them.
        whole: all of them as one; its ``low`` counts these zeros.
    """

    lhs: Var
    rhs: Var
    out: Var
    parts: tuple[Correlation, ...]
    covered: bool
    after: Epilogue | None = None
    gaps: tuple[int, ...] = ()
    whole: Correlation | None = None


@dataclass(frozen=True)
class Fourier:
    """Discrete Fourier transforms of (batch, n, inner) complex numbers along the axis of size n.

    ``radices``: factors of n, in the order in which they are taken out.
    """

    x: Var
    out: Var
    batch: int
    n: int
    inner: int
    radices: tuple[int, ...]
    inverse: bool


@dataclass(frozen=True)
class Table:
    """Write a vector that the primitive `fft_table` makes; it is computed once per process."""

    out: Var
    what: str
    n: int


@dataclass(frozen=True)
class Running:
    """Combine each element of (rows, n) with all before it, or if ``reverse`` with all after it.

    ``name``: 'sum', 'prod', 'max' or 'min'.
    """

    x: Var
    out: Var
    rows: int
    n: int
    name: str
    reverse: bool


@dataclass(frozen=True)
class Sort:
    """Sort (rows, n) unsigned integers along the last axis, as the primitive `sort_bits` says."""

    x: Var
    out: Var
    rows: int
    n: int
    low: int
    high: int
    tie: int | None


@dataclass(frozen=True)
class Library:
    """Run an equation by its recipe: calls of LAPACK for each matrix of a batch."""

    eqn: Eqn
    recipe: Recipe
    batch: int


@dataclass(frozen=True)
class Talk:
    """Run a collective between processes.

    Attributes:
        eqn: the equation.
        later: whether it only begins here, and a `Wait` ends it.
    """

    eqn: Eqn
    later: bool = False


@dataclass(frozen=True)
class Wait:
    """Wait for a collective that has begun; with ``only_look``, give it a chance to go on."""

    eqn: Eqn
    only_look: bool = False


@dataclass(frozen=True)
class Nothing:
    """Make empty arrays."""

    outs: tuple[Var, ...]


@dataclass(frozen=True)
class Call:
    """Run an equation by its eager rule."""

    eqn: Eqn


@dataclass(frozen=True)
class Attention:
    """Run an equation of attention, or of its cotangents, by a kernel of its own.

    Attributes:
        eqn: the equation.
        ins, outs: the arrays in memory that hold its operands and its results.
        places: where each of these lies in its array: an offset, and a stride for each axis. The
            last one is 1, but for masks.
    """

    eqn: Eqn
    ins: tuple[Var | Lit, ...]
    outs: tuple[Var, ...]
    places: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Scan:
    """Run ``body`` ``length`` times; the equation is one of the scan primitive."""

    eqn: Eqn
    body: Plan


@dataclass(frozen=True)
class While:
    """Run ``body`` while ``cond`` holds; the equation is one of the while primitive."""

    eqn: Eqn
    cond: Plan
    body: Plan


@dataclass(frozen=True)
class Branch:
    """Run one of the branches, by the index that is the equation's first operand."""

    eqn: Eqn
    branches: tuple[Plan, ...]


Step = (
    Launch | Dot | Conv | Fourier | Table | Running | Sort | Library | Talk | Wait | Nothing | Call
    | Attention | Scan | While | Branch
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Steps in order, for the program ``jaxpr``."""

    jaxpr: Jaxpr
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "\n".join(_lines(self, {}))


def plans_of(step: Step) -> tuple[Plan, ...]:
    """Return the plans inside a step, in the order in which they first run."""
    if isinstance(step, Scan):
        return (step.body,)
    if isinstance(step, While):
        return (step.cond, step.body)
    return step.branches if isinstance(step, Branch) else ()


def _lines(plan: Plan, names: dict[Var, str]) -> Iterator[str]:
    def name(v: Var | Lit) -> str:
        if isinstance(v, Lit):
            return repr(v)
        names.setdefault(v, f"m{len(names)}")
        return f"{names[v]}:{v.aval.str_short()}"

    given = [*plan.jaxpr.constvars, *plan.jaxpr.invars]
    yield f"plan of {', '.join(map(name, given)) or 'nothing'}"
    for k, step in enumerate(plan.steps):
        made = ", ".join(map(name, writes(step)))
        if isinstance(step, Launch):
            yield f"  {k}: {made} by"
            shown = _shown(step, name)
        elif isinstance(step, Dot):
            shown = []
            yield (
                f"  {k}: {made} = {name(step.a)}{_turned(step.places[0])} @ "
                f"{name(step.b)}{_turned(step.places[1])}"
            )
            if step.after is not None:
                shown = _shown(step.after.launch, name, step.after.tile)
        elif isinstance(step, Conv):
            yield f"  {k}: {made} = {name(step.lhs)} convolved with {name(step.rhs)}"
            shown = [
                f"{' '.join(map(str, c.window))} taps of {c.groups} x {c.features} features at "
                f"{' '.join(map(str, c.places))} places of {c.batch} samples"
                for c in step.parts
            ]
        elif isinstance(step, Fourier):
            shown = [f"{step.batch} x {step.inner} of size {' '.join(map(str, step.radices))}"]
            yield f"  {k}: {made} = {name(step.x)} transformed{' back' if step.inverse else ''}"
        elif isinstance(step, Table):
            shown = []
            yield f"  {k}: {made} = the {step.what} of {step.n}"
        elif isinstance(step, Nothing):
            shown = []
            yield f"  {k}: {made}"
        elif isinstance(step, Running):
            shown = []
            yield f"  {k}: {made} = running {step.name} of {name(step.x)}"
        elif isinstance(step, Sort):
            shown = []
            yield f"  {k}: {made} = {name(step.x)} sorted by bits {step.low} to {step.high}"
        elif isinstance(step, Attention):
            shown = []
            yield f"  {k}: {made} = {step.eqn.prim.name} {', '.join(map(name, step.ins))}"
        else:
            yield f"  {k}: {made} = {step.eqn.prim.name} {', '.join(map(name, step.eqn.invars))}"
            shown = [line for inner in plans_of(step) for line in _lines(inner, dict(names))]
        yield from (f"    {line}" for line in shown)
    yield f"  gives {', '.join(map(name, plan.jaxpr.outvars)) or 'nothing'}"


def _shown(step: Launch, name: Callable[[Var | Lit], str], tile: int | None = None) -> list[str]:
    """Return the lines of a kernel and of what it runs on."""
    held = (f"b{n}={'block' if n == tile else name(v)}" for n, v in enumerate(step.vars))
    seeds = [f"{name(out)} starts as {name(source)}" for out, source in step.seeds]
    return [*str(step.kernel).splitlines(), " ".join(held), *seeds]


def _turned(place: Affine) -> str:
    return " transposed" if place.strides[-2] == 1 != place.strides[-1] else ""


def _stored(step: Launch) -> Iterator[Var]:
    yield from (step.vars[k] for k in dict.fromkeys(s.buffer for s in step.kernel.stores))


def reads(step: Step) -> Iterator[Var | Lit]:
    """Yield what a step reads from memory, sources of its seeds included."""
    if isinstance(step, Launch):
        stored = {s.buffer for s in step.kernel.stores}
        yield from (v for k, v in enumerate(step.vars) if k not in stored)
        yield from (source for _, source in step.seeds)
    elif isinstance(step, (Dot, Conv)):
        yield from step.operands if isinstance(step, Dot) else (step.lhs, step.rhs)
        if step.after is not None:
            yield from step.after.reads()
    elif isinstance(step, (Fourier, Running, Sort)):
        yield step.x
    elif isinstance(step, Attention):
        yield from step.ins
    elif not isinstance(step, (Nothing, Table)):
        yield from step.eqn.invars
        if isinstance(step, Wait):
            yield from step.eqn.outvars


def writes(step: Step) -> Iterator[Var]:
    """Yield what a step writes to memory."""
    if isinstance(step, Launch):
        yield from _stored(step)
    elif isinstance(step, (Dot, Conv)) and step.after is not None:
        yield from step.after.writes()
    elif isinstance(step, (Dot, Conv, Fourier, Table, Running, Sort)):
        yield step.out
    elif isinstance(step, (Nothing, Attention)):
        yield from step.outs
    elif not isinstance(step, Wait):
        yield from step.eqn.outvars
