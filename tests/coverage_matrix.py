"""The matrix of numeric checks: every primitive, every rule, every dtype that its type rule takes.

``make coverage`` runs all of it and writes docs/coverage.md; a hole makes it fail. The checks are
those of the op table (op_table.py), and the samples are the table's rows, cast to each dtype. What
a primitive takes is asked of its type rule, not of the rows: a dtype that the rule accepts and no
row runs in is a hole, too.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import op_table
import test_conv
import test_ops_basic
import test_ops_more
from higher_rows import higher_rows
from op_table import Row
from rebuilt_rows import rebuilt_rows

import funtorch.experimental
import funtorch.quant  # noqa: F401  (they have primitives of their own)
from funtorch.core import Primitive, ShapedArray, aval_of, primitives
from funtorch.jaxpr import stage

DOCUMENT = Path(__file__).parents[1] / "docs" / "coverage.md"

GROUPS = {
    "bool": ("bool",),
    "integers": tuple(f"{u}int{w}" for u in ("", "u") for w in (8, 16, 32, 64)),
    "floats": ("float16", "bfloat16", "float32", "float64"),
    "complex": ("complex64", "complex128"),
}
DTYPES = {
    name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    for names in GROUPS.values()
    for name in names
}
HIGHER = higher_rows()
REBUILT = rebuilt_rows()
WIDE = {
    DTYPES[name]: DTYPES[wide]
    for group, wide in (("floats", "float64"), ("complex", "complex128"))
    for name in GROUPS[group]
}
# How far a derivative computed in a narrow dtype may be from the same one in a wide dtype.
NARROW = {"float32": 1e-3, "complex64": 1e-3, "float16": 0.03, "bfloat16": 0.2}

DERIVATIVES = ("jvp", "vjp", "second order", "forward over reverse")
COLUMNS = ("type", "eager", "vmap", "jit", *DERIVATIVES)

_AXIS = "it needs a mapped axis; tests/test_collectives.py compares it with NumPy"
_LINEAR = "it stands only in derivatives of while loops, which the row `while` checks at each order"
_COLLECTIVES = (
    *("psum", "pmax", "pmin", "psum_scatter"),
    *("all_gather", "all_to_all", "ppermute", "axis_index", "pvary"),
)
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(_COLLECTIVES, _AXIS),
    **dict.fromkeys(["rewound", "rewind", "swayed"], _LINEAR),
    "shard_map": "it stands for several processes; tests/test_distributed.py starts them",
    "narrow_dot": "it takes floats with integers that stand for others; tests/test_along.py",
    "custom_lin": "it stands only in derivatives of custom_vjp functions, which that row checks",
    "sown_tangent": "it stands only in derivatives of sow, which that row checks",
    "check": "it has no results; tests/test_checkify.py looks at what it raises and where",
    "debug_callback": "it has no results; tests/test_callbacks.py looks at what it prints and when",
    "io_callback": "it is there for its effects; tests/test_callbacks.py counts and orders them",
}
"""Primitives without rows: why, and what tests them."""

_ZERO = "its derivative is zero by definition"
REASONS: dict[tuple[str, str], str] = {
    (name, column): why
    for names, why in (
        ("bitcast nextafter stop_gradient", _ZERO),
        ("reduce_precision", "its tangents are rounded as its values are, between which are steps"),
        ("pure_callback", "Python functions have no derivatives: custom_jvp gives them one"),
    )
    for name in names.split()
    for column in DERIVATIVES
}
"""(primitive, column) -> why it is not checked there, where no rule's own reason says so."""

PREFERRED = {("eig", "float32"): "eig-real-pairs"}
"""(primitive, dtype) -> the row to check it by: signs of vectors are free, and differ by dtype."""

_HALVES = ("float16", "bfloat16")
EXCEPTIONS: dict[tuple[str, str, str], str] = {
    (name, column, dtype): why
    for name, columns, dtypes, why in (
        ("schur", DERIVATIVES, _HALVES, "there are no complex numbers of 16-bit parts to solve in"),
        ("sign", ("jvp", "second order"), ("complex128",), f"{_ZERO}, as in JAX"),
    )
    for column in columns
    for dtype in dtypes
}
"""(primitive, column, dtype) -> why this one cell may fail. It is a hole once it does not."""


# ------------------------------------------------------------------------------ rows and dtypes
def as_row(case: test_ops_more.Case) -> Row:
    """Return a case of test_ops_more as a row; its tolerances are those of that module."""
    args = tuple(np.asarray(a) for a in case.args)
    return Row(
        case.name, case.fn, [args], case.reference, case.diff, ulps=4000, slope=2e-4, vmap_tol=1e-9
    )


def without_signs(name, outs):
    """Return results without what a factorisation is free to choose."""
    if name.partition("-")[0].partition("(")[0] in ("eigh", "svd"):
        return [abs(np.asarray(x)) for x in outs]
    return outs


def all_rows() -> list[Row]:
    cases = map(as_row, test_ops_more.CASES)
    return [*test_ops_basic.ROWS, *cases, *test_conv.ROWS, *HIGHER, *REBUILT]


def leading(dtypes: Iterable[np.dtype]) -> str:
    """Return the kinds of the arguments that carry the data: indices and predicates come second."""
    kinds = {"f" if d == DTYPES["bfloat16"] else d.kind for d in dtypes}
    return next((k for k in ("c", "f", "iu", "b") if kinds & set(k)), "")


def has_kind(dtype: np.dtype, kinds: str) -> bool:
    return ("f" if dtype == DTYPES["bfloat16"] else dtype.kind) in kinds


def cast_array(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the array in a dtype; real numbers get an imaginary part."""
    if dtype.kind == "c" and x.dtype.kind != "c":
        return (x * (1 + 0.25j)).astype(dtype)
    if dtype.kind == "u" and x.dtype.kind in "fi":
        x = np.abs(x)
    with np.errstate(over="ignore", invalid="ignore"):
        return (x.real if x.dtype.kind == "c" and dtype.kind != "c" else x).astype(dtype)


def cast_row(row: Row, dtype: np.dtype) -> Row:
    """Return the row with its leading arguments in a dtype, and its two largest samples only."""
    largest = sorted(row.samples, key=lambda s: -sum(np.size(a) for a in s))[:2]
    samples = []
    for args in largest:
        kinds = leading(a.dtype for a in args)
        samples.append(tuple(cast_array(a, dtype) if has_kind(a.dtype, kinds) else a for a in args))
    return replace(row, samples=samples, differentiable=row.places(largest[0]), dtypes=())


def program_of(row: Row, args: Sequence[np.ndarray]) -> Any:
    return stage(row.flat, [aval_of(a) for a in args])


def dtypes_of(eqn: Any) -> list[np.dtype]:
    return [v.aval.dtype for v in (eqn.invars or eqn.outvars)]


def data_dtype(eqn: Any) -> np.dtype:
    """Return the dtype of the data that an equation works on."""
    dtypes = dtypes_of(eqn)
    kinds = leading(dtypes)
    return next(d for d in dtypes if has_kind(d, kinds))


@dataclass(frozen=True, eq=False)
class Use:
    """A row whose program has a primitive in it, and the equations where."""

    row: Row
    equations: list[Any]
    size: int

    def has_tangent(self) -> bool:
        return any(op_table.inexact(v.aval.dtype) for e in self.equations for v in e.outvars)

    def rank(self, dtype: np.dtype) -> tuple[int, int]:
        """Order the uses: those made for a dtype first, then small programs."""
        own = data_dtype(self.equations[0])
        return (0 if own == dtype else 1 if own.kind == dtype.kind else 2), self.size


def uses_by_primitive() -> dict[str, list[Use]]:
    found: dict[str, list[Use]] = {}
    for row in all_rows():
        program = program_of(row, max(row.samples, key=lambda s: sum(np.size(a) for a in s)))
        for name in dict.fromkeys(e.prim.name for e in program.eqns):
            equations = [e for e in program.eqns if e.prim.name == name]
            found.setdefault(name, []).append(Use(row, equations, len(program.eqns)))
    return found


def accepts(use: Use, dtype: np.dtype) -> bool:
    """Ask the type rule of the primitive whether it takes the data of an equation in a dtype.

    The parameters of a primitive that takes programs have dtypes of their own: what such a program
    can be written for is what the primitive takes.
    """
    if any(use.row is row for row in HIGHER):
        return runs(use, dtype) is not None
    for eqn in use.equations:
        avals = [v.aval for v in eqn.invars]
        kinds = leading(a.dtype for a in avals)
        cast = [ShapedArray(a.shape, dtype) if has_kind(a.dtype, kinds) else a for a in avals]
        params = eqn.params if avals else {**eqn.params, "dtype": dtype}
        try:
            eqn.prim.type(*cast, **params)
        except (TypeError, ValueError):
            continue
        return True
    return False


@functools.cache
def runs(use: Use, dtype: np.dtype) -> Row | None:
    """Return the row cast to a dtype, or None where its program does not compute in that dtype."""
    row = cast_row(use.row, dtype)
    name = use.equations[0].prim.name
    try:
        program = program_of(row, row.samples[0])
    except (TypeError, ValueError):
        return None
    here = any(e.prim.name == name and dtype in dtypes_of(e) for e in program.eqns)
    return row if here else None


# ------------------------------------------------------------------------------ checks of a cell
def restricted(row: Row, args: Sequence[np.ndarray]) -> tuple[Callable[..., Any], list]:
    """Return the row as a function of what it is differentiated in, and the values of that."""
    places = row.places(args)
    return op_table.closed(row, args, places), [args[k] for k in places]


def backward_row(row: Row) -> Row:
    """Return the backward pass of a row as a row: arguments and cotangents to gradients."""
    rng = np.random.default_rng(3)
    samples, fns = [], []
    for args in row.samples:
        f, at = restricted(row, args)
        cts = [op_table.direction(rng, o) for o in op_table.values(f(*op_table.arrays(at)))]
        samples.append((*at, *cts))
        fns.append(op_table.backward(f, len(at)))
    return replace(row, fn=fns[0], samples=samples[:1], differentiable=True, order=1)


def call_of(row: Row, args: Sequence[np.ndarray], column: str) -> tuple[Callable[..., Any], list]:
    """Return the function that a column is about, of arrays in the row's dtype, and the arrays."""
    if column == "eager":
        return row.flat, list(args)
    rng = np.random.default_rng(4)
    f, at = restricted(row, args)

    def directions(like: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [op_table.direction(rng, x).astype(x.dtype) for x in like]

    if column in ("vjp", "forward over reverse"):
        outs = op_table.values(f(*op_table.arrays(at)))
        f, at = op_table.backward(f, len(at)), [*at, *directions(outs)]
    for _ in range({"vjp": 0, "second order": 2}.get(column, 1)):
        f, at = op_table.derivative(f, len(at)), [*at, *directions(at)]
    return f, at


def widened(args: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [a.astype(WIDE.get(a.dtype, a.dtype)) for a in args]


def nudged(args: Sequence[np.ndarray], dtype: np.dtype) -> list[np.ndarray]:
    """Return wide arguments moved by about a unit of a narrow dtype: what that cannot tell apart.

    How far results move tells how well conditioned they are.
    """
    rng, eps = np.random.default_rng(6), float(ml_dtypes.finfo(dtype).eps)
    return [
        a * (1 + eps * rng.choice((-1.0, 1.0), a.shape)) if a.dtype in WIDE else a for a in args
    ]


def check_narrow(row: Row, dtype: np.dtype, column: str) -> None:
    """Compare what a column is about in a narrow dtype with the same in the wide one."""
    for args in row.samples:
        f, at = call_of(row, args, column)
        g, _ = call_of(row, widened(args), column)
        ups = widened(at)
        gots = op_table.values(f(*op_table.arrays(at)))
        wants = op_table.values(g(*op_table.arrays(ups)))
        others = op_table.values(g(*op_table.arrays(nudged(ups, dtype))))
        for got, want, other in zip(gots, wants, others, strict=True):
            assert np.dtype(WIDE.get(got.dtype, got.dtype)) == want.dtype, (
                f"{row.name}: {got.dtype} where the wide one is {want.dtype}"
            )
            if want.dtype.kind in "biu":
                np.testing.assert_array_equal(got, want)
                continue
            finite = np.abs(want[np.isfinite(want)])
            scale = 1 + (finite.max() if finite.size else 0)
            moved = np.abs(other - want)[np.isfinite(other) & np.isfinite(want)]
            noise = 8 * (moved.max() if moved.size else 0) / scale
            tol = NARROW[dtype.name] + noise
            np.testing.assert_allclose(
                got.astype(want.dtype) / scale, want / scale, rtol=0, atol=tol, err_msg=row.name
            )


def check_values(row: Row) -> None:
    assert row.reference is not None, "no row has a reference for its values"
    op_table.check_eager(row)


def check_compiled(row: Row) -> None:
    op_table.compare_compiled([(row.flat, args) for args in row.samples], 4 * row.ulps)


def check_second_order(row: Row) -> None:
    op_table.check_jvp(replace(row, order=2))
    op_table.check_vjp(replace(row, order=2))


WIDE_CHECKS: dict[str, Callable[[Row], None]] = {
    "type": op_table.check_stage,
    "eager": check_values,
    "vmap": op_table.check_vmap,
    "jit": check_compiled,
    "jvp": lambda row: op_table.check_jvp(replace(row, order=1)),
    "vjp": lambda row: op_table.check_vjp(replace(row, order=1)),
    "second order": check_second_order,
    "forward over reverse": lambda row: op_table.check_jvp(backward_row(row)),
}


def check_cell(uses: list[Use], dtype: np.dtype, column: str) -> str:
    """Return what is wrong in a cell: nothing, or the first words of the error."""
    found = simplest(uses, dtype, column)
    if found is None:
        return "no row can check it"
    use, row = found
    exact = column == "eager" and use.rank(dtype)[0] == 0 and row.reference is not None
    narrow = is_narrow(dtype) and column in ("eager", *DERIVATIVES) and not exact
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if narrow:
                check_narrow(row, dtype, column)
            else:
                WIDE_CHECKS[column](row)
    except Exception as error:  # whatever a rule raises is what the cell reports
        text = " ".join(str(error).split())
        return f"{row.name}: {type(error).__name__}: {text[:160]}"
    return ""


# ------------------------------------------------------------------------------ the matrix
@dataclass(frozen=True)
class Line:
    """What is known of a primitive.

    Attributes:
        name: the primitive's name.
        dtypes: the dtypes that its type rule takes.
        checked: column -> the dtypes in which a check passed.
        reasons: column -> why it is not checked.
        holes: (column, dtype) -> what is wrong.
        excused: (column, dtype) -> why the check is known to fail there.
    """

    name: str
    dtypes: list[str]
    checked: dict[str, list[str]]
    reasons: dict[str, str]
    holes: dict[tuple[str, str], str]
    excused: dict[tuple[str, str], str]


def reason_of(prim: Primitive, column: str) -> str | None:
    """Return why a primitive has no such column, in the words of its rules or of the table."""
    slot = {"vmap": "batch", **dict.fromkeys(DERIVATIVES, "jvp")}.get(column, "")
    return prim.none.get(slot) or REASONS.get((prim.name, column))


def is_narrow(dtype: np.dtype) -> bool:
    return WIDE.get(dtype, dtype) != dtype


def simplest(uses: list[Use], dtype: np.dtype, column: str) -> tuple[Use, Row] | None:
    """Return the simplest row that can check a column in a dtype, cast to it."""
    name = uses[0].equations[0].prim.name
    for use in sorted(uses, key=lambda u: u.rank(dtype)):
        row = runs(use, dtype)
        if row is None or row.name != PREFERRED.get((name, dtype.name), row.name):
            continue
        if column == "eager" and not is_narrow(dtype) and row.reference is None:
            continue
        if column in DERIVATIVES and not (row.places(row.samples[0]) and has_tangent(row)):
            continue
        return use, row
    return None


def has_tangent(row: Row) -> bool:
    return any(op_table.inexact(a.dtype) for a in program_of(row, row.samples[0]).out_avals)


def line_of(name: str, uses: list[Use]) -> Line:
    """Run every check of a primitive."""
    prim = primitives[name]
    dtypes = [n for n, d in DTYPES.items() if any(accepts(u, d) for u in uses)]
    line = Line(name, dtypes, {c: [] for c in COLUMNS}, {}, {}, {})
    if not uses:
        line.holes["type", ""] = "no row uses it"
    for column in COLUMNS:
        reason = reason_of(prim, column)
        if column in DERIVATIVES and uses and not any(u.has_tangent() for u in uses):
            reason = "its results are bools or integers, which have no tangents"
        if reason:
            line.reasons[column] = reason
            continue
        for dtype in dtypes:
            if column in DERIVATIVES and DTYPES[dtype] not in WIDE:
                continue
            wrong = check_cell(uses, DTYPES[dtype], column)
            why = EXCEPTIONS.get((name, column, dtype))
            if why and wrong:
                line.excused[column, dtype] = why
                continue
            if why:
                wrong = "it passes: take it off the list of exceptions"
            if wrong:
                line.holes[column, dtype] = wrong
            else:
                line.checked[column].append(dtype)
    return line


def numeric_primitives() -> list[str]:
    """Return the library's own primitives: not those that tests or users define."""
    return sorted(n for n in primitives if "." not in n and not n.startswith("test_"))


_USES: dict[str, list[Use]] = {}


def job(name: str) -> Line:
    return line_of(name, _USES.get(name, []))


def matrix(names: Sequence[str], processes: int = 1) -> list[Line]:
    """Return the lines of primitives, computed in several processes."""
    if not _USES:
        _USES.update(uses_by_primitive())
    if processes == 1:
        return list(map(job, names))
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return pool.map(job, names, chunksize=1)


# ------------------------------------------------------------------------------ the document
def compressed(dtypes: Sequence[str]) -> str:
    """Name whole groups of dtypes by their groups' names."""
    words = []
    for group, names in GROUPS.items():
        inside = [n for n in names if n in dtypes]
        words += [group] if len(inside) == len(names) else inside
    return ", ".join(words)


def cell(line: Line, column: str) -> str:
    inexact = [d for d in line.dtypes if DTYPES[d] in WIDE]
    wanted = inexact if column in DERIVATIVES else line.dtypes
    if column in line.reasons:
        return "none"
    if not wanted:
        return "-"
    if any(c == column for c, _ in line.holes):
        return f"**hole**: only {compressed(line.checked[column]) or 'nothing'}"
    excused = [d for c, d in line.excused if c == column]
    return f"not {compressed(excused)}" if excused else "yes"


def table_row(line: Line) -> str:
    cells = [f"`{line.name}`", compressed(line.dtypes), *(cell(line, c) for c in COLUMNS)]
    return f"| {' | '.join(cells)} |"


HEAD = """# Coverage

Made by `make coverage`, which runs every check anew and fails on a hole; do not edit it by hand.

One row per primitive, with the dtypes that its type rule takes. "yes" says that a numeric check
passes in each of them:

- *type*: the type rule says what the eager rule makes, and the staged program has equal values.
- *eager*: NumPy, SciPy, a reference in plain loops, or factors multiplied again; float32, float16,
  bfloat16 and complex64 against the same rule in the wide dtype.
- *vmap*: a loop over the batch, for each choice of what is batched.
- *jit*: the eager rule.
- *jvp*: central differences along random directions, in float64 and complex128.
- *vjp*: the adjoint of the forward derivative, <ct, J t> = <J' ct, t>.
- *second order*: both, of the forward derivative.
- *forward over reverse*: central differences of the backward pass.

Derivatives in narrow dtypes are compared with those in the wide one, in value and dtype. "-": no
dtype that has tangents. "none": there is a reason, below.
"""


def document(lines: Sequence[Line]) -> str:
    """Return the text of docs/coverage.md."""
    out = [HEAD, f"| primitive | dtypes | {' | '.join(COLUMNS)} |", "|---" * 10 + "|"]
    out += [table_row(line) for line in lines]
    out += ["", "## Reasons", ""]
    out += list(reasons(lines)) or ["None."]
    out += ["", "## Tested elsewhere", ""]
    out += [f"- `{name}`: {why}." for name, why in sorted(ELSEWHERE.items())] or ["None."]
    out += ["", "## Holes", ""]
    out += list(holes(lines)) or ["None."]
    return "\n".join(out) + "\n"


def reasons(lines: Sequence[Line]) -> Iterable[str]:
    for line in lines:
        merged: dict[str, list[str]] = {}
        for column, why in line.reasons.items():
            merged.setdefault(why, []).append(column)
        for why, columns in merged.items():
            yield f"- `{line.name}`, {', '.join(columns)}: none, because {why}."
        for why in dict.fromkeys(line.excused.values()):
            cells = [at for at, w in line.excused.items() if w == why]
            columns, dtypes = (list(dict.fromkeys(at[k] for at in cells)) for k in (0, 1))
            yield f"- `{line.name}`, {', '.join(columns)}: not {compressed(dtypes)}, because {why}."


def holes(lines: Sequence[Line]) -> Iterable[str]:
    for line in lines:
        merged: dict[tuple[str, str], list[str]] = {}
        for (column, dtype), wrong in line.holes.items():
            merged.setdefault((column, wrong), []).append(dtype)
        for (column, wrong), dtypes in merged.items():
            yield f"- `{line.name}`, {column}, {compressed(dtypes)}: {wrong}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the matrix, write the document, print the holes; 1 where there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("primitives", nargs="*", help="only these, and write nothing")
    parser.add_argument("-n", type=int, default=2, help="processes")
    options = parser.parse_args(argv)
    names = options.primitives or [n for n in numeric_primitives() if n not in ELSEWHERE]
    lines = matrix(names, options.n)
    if options.primitives:
        print(*map(table_row, lines), sep="\n")
    else:
        DOCUMENT.write_text(document(lines), encoding="utf-8")
    found = list(holes(lines))
    print(*found, sep="\n")
    cells = sum(len(d) for line in lines for d in line.checked.values())
    print(f"{len(lines)} primitives, {cells} cells checked, {len(found)} holes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
