"""What a program costs, before it runs: floating-point operations, bytes moved, bytes needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var
from funtorch.ops.families import ELEMENTWISE
from funtorch.ops.recipes import batch_of, recipe_of

from .compile import plan_of
from .kernel import Kernel
from .layout import lay_out, nbytes
from .plan import Branch, Plan, Scan, Step, While, reads, writes

__all__ = [
    "Cost",
    "MemoryStats",
    "cost_analysis",
    "equation_cost",
    "kernel_cost",
    "memory_analysis",
    "step_bytes",
]


# ---------------------------------------------------------------------- operations
@dataclass(frozen=True)
class Cost:
    """Operations on numbers, and how many of them are exp, sin and their like."""

    flops: float = 0.0
    transcendentals: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.transcendentals + other.transcendentals)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.flops * times, self.transcendentals * times)


# fmt: off
_FREE = frozenset((
    "convert", "copy", "stop_gradient", "bitcast", "select", "real", "imag", "complex",
))
_TRANSCENDENTAL = frozenset((
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "digamma",
    "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "lgamma", "log", "log10", "log1p", "log2",
    "logaddexp", "logistic", "polygamma", "pow", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh",
))
# fmt: on


def _elements(eqn: Eqn) -> int:
    return eqn.outvars[0].aval.size


def _inputs(eqn: Eqn) -> int:
    return eqn.invars[0].aval.size


def _product(eqn: Eqn) -> float:
    """Two operations for each pair of numbers that is multiplied and added."""
    (ca, _), _ = eqn.params["dimension_numbers"]
    return 2 * _elements(eqn) * math.prod(eqn.invars[0].aval.shape[d] for d in ca)


def _convolution(eqn: Eqn) -> float:
    """Two operations for each tap of a place and a feature; less where lhs has gaps."""
    taps = math.prod(eqn.invars[1].aval.shape[1:])
    return 2 * _elements(eqn) * taps / math.prod(eqn.params["lhs_dilation"])


def _cubic(factor: float) -> Callable[[Eqn], float]:
    """For factorisations of (..., m, n): the factor times m n min(m, n), a matrix."""

    def count(eqn: Eqn) -> float:
        *lead, m, n = eqn.invars[0].aval.shape
        return factor * math.prod(lead) * m * n * min(m, n)

    return count


def _solved(eqn: Eqn) -> float:
    """A triangular solve multiplies the matrix, half of it zeros, with the right-hand sides."""
    return eqn.invars[0].aval.shape[-1] * eqn.invars[1].aval.size


# Leading terms, as the LAPACK working notes count them.
_FLOPS: dict[str, Callable[[Eqn], float]] = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "integer_pow": lambda e: _elements(e) * max(1, abs(e.params["y"]).bit_length()),
    "threefry2x32": lambda e: 100 * _elements(e),
    "cholesky": _cubic(1 / 3),
    "triangular_solve": _solved,
    "solve": lambda e: _cubic(2 / 3)(e) + 2 * _solved(e),
    "slogdet": _cubic(2 / 3),
    "qr": _cubic(2),
    "eigh": _cubic(9),
    "svd": _cubic(22),
    **{f"scatter_{how}": lambda e: e.invars[1].aval.size for how in ("add", "mul", "min", "max")},
}


def equation_cost(eqn: Eqn) -> Cost:
    """Count the operations of one equation; a loop of unknown length counts once."""
    name, p = eqn.prim.name, eqn.params
    if name == "scan":
        return program_cost(p["jaxpr"]) * p["length"]
    if name == "while":
        return program_cost(p["cond_jaxpr"]) + program_cost(p["body_jaxpr"])
    if name == "cond":
        return max((program_cost(b) for b in p["branches"]), key=lambda c: c.flops)
    if name in _TRANSCENDENTAL:
        return Cost(0.0, _elements(eqn))
    if name in _FLOPS:
        return Cost(float(_FLOPS[name](eqn)))
    avals = [v.aval for v in eqn.invars]
    recipe = recipe_of(name, avals, p)
    if recipe is not None:
        return Cost(recipe.flops * batch_of(name, avals))
    if name in ELEMENTWISE:
        return Cost(0.0 if name in _FREE else float(_elements(eqn)))
    if name.startswith(("reduce_", "cum", "arg")):
        return Cost(float(_inputs(eqn)))
    return Cost()


def program_cost(jaxpr: Jaxpr) -> Cost:
    """Count the operations of a program."""
    return sum((equation_cost(eqn) for eqn in jaxpr.eqns), Cost())


def kernel_cost(kernel: Kernel) -> Cost:
    """Count the operations of a kernel, those that it does again included."""
    names = [op.name for op in kernel.body]
    slow = sum(name in _TRANSCENDENTAL for name in names)
    plain = sum(name in ELEMENTWISE or name == "reduce" for name in names)
    plain -= slow + sum(name in _FREE for name in names)
    return Cost(float(plain), float(slow)) * math.prod(kernel.sizes)


# ---------------------------------------------------------------------- bytes
def step_bytes(step: Step) -> float:
    """Count the bytes that a step of a plan reads and writes, each array once."""
    if isinstance(step, Scan):
        p = step.eqn.params
        return p["length"] * plan_bytes(step.body)
    if isinstance(step, While):
        return plan_bytes(step.cond) + plan_bytes(step.body)
    if isinstance(step, Branch):
        return max(map(plan_bytes, step.branches))
    return float(_total(reads(step)) + _total(writes(step)))


def _total(atoms: Iterable[Var | Lit]) -> int:
    return sum(nbytes(v) for v in set(atoms))


def plan_bytes(plan: Plan) -> float:
    """Count the bytes that a plan reads and writes."""
    return sum(map(step_bytes, plan.steps))


def cost_analysis(jaxpr: Jaxpr) -> dict[str, float]:
    """Count the work of a simplified program, under the names that JAX gives the counts.

    Args:
        jaxpr: the program.

    Returns:
        'flops': operations on numbers; 'transcendentals': exp, log, sin and such; 'bytes accessed':
        what its kernels and products read and write.
    """
    cost = program_cost(jaxpr)
    return {
        "flops": cost.flops,
        "transcendentals": cost.transcendentals,
        "bytes accessed": plan_bytes(plan_of(jaxpr)),
    }


@dataclass(frozen=True)
class MemoryStats:
    """Bytes that a program needs.

    ``alias``: outputs that take the memory of donated arguments; ``temp``: what is
    neither argument nor result, in the arena and on the stack; ``peak``: all together.
    """

    argument_size_in_bytes: int
    output_size_in_bytes: int
    alias_size_in_bytes: int
    temp_size_in_bytes: int

    @property
    def peak_memory_in_bytes(self) -> int:
        return (
            self.argument_size_in_bytes
            + self.output_size_in_bytes
            + self.temp_size_in_bytes
            - self.alias_size_in_bytes
        )


def memory_analysis(jaxpr: Jaxpr, donated: frozenset[int] = frozenset()) -> MemoryStats:
    """Return the bytes that a simplified program needs.

    Args:
        jaxpr: the program.
        donated: positions of the inputs whose memory outputs take.
    """
    layout = lay_out(plan_of(jaxpr), donated)
    return MemoryStats(
        argument_size_in_bytes=sum(map(nbytes, jaxpr.invars)),
        output_size_in_bytes=sum(map(nbytes, jaxpr.outvars)),
        alias_size_in_bytes=sum(nbytes(jaxpr.outvars[k]) for _, k in layout.pairs),
        temp_size_in_bytes=layout.arena + layout.cells,
    )
