"""The house rules, checked from the source: floors, imports, primitives with all their rules."""

import ast
import inspect
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import test_conv
import test_ops_basic
import test_ops_more

import funtorch
from funtorch.core import Primitive, aval_of, primitives
from funtorch.jaxpr import stage
from funtorch.ops.shape import iota

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "funtorch": "funtorch",
    "transforms": "funtorch.transforms",
    "backends": "funtorch.backends",
    "nnx": "funtorch.nnx",
}

# The longest prefix that fits rules.
FLOORS = {
    "funtorch.sums": 0,
    "funtorch.tree": 0,
    "funtorch.treecode": 0,
    "funtorch.treedef": 0,
    "funtorch.arraytree": 0,
    "funtorch.partial": 0,
    "funtorch.dtypes": 0,
    "funtorch.lazy": 0,
    "funtorch.narrow": 0,
    "funtorch.errors": 0,
    "funtorch.config": 0,
    "funtorch.dims": 0,
    "funtorch.contexts": 0,
    "funtorch.flags": 0,
    "funtorch.hardware": 0,
    "funtorch.processes": 0,
    "funtorch.sharding": 0,
    "funtorch.meshes": 0,
    "funtorch.nccl": 0,
    "funtorch.openblas": 0,
    "funtorch.watch": 0,
    "funtorch.tracebacks": 0,
    "funtorch.tree_util": 0,
    "funtorch.core": 1,
    "funtorch.jaxpr": 1,
    "funtorch.leaks": 1,
    "funtorch.nans": 1,
    "funtorch.origins": 1,
    "funtorch.placement": 1,
    "funtorch.spread": 1,
    "funtorch.typing": 1,
    "funtorch.ops": 2,
    "funtorch.numpy": 2,
    "funtorch.numpy.ufuncs": 5,
    "funtorch.numpy.mapped": 5,
    "funtorch.numpy.recurrences": 5,
    "funtorch.nn": 2,
    "funtorch.random": 2,
    "funtorch.random.__init__": 5,
    "funtorch.random.rejection": 5,
    "funtorch.random.counts": 5,
    "funtorch.scipy": 5,
    "funtorch.scipy.special.basic": 2,
    "funtorch.image": 2,
    "funtorch.optim": 5,
    "funtorch.device": 2,
    "funtorch.io": 2,
    "funtorch.flatten_util": 2,
    "funtorch.transforms": 3,
    "funtorch.backends": 3,
    "funtorch.transforms.jit": 4,
    "funtorch.transforms.programs": 4,
    "funtorch.transforms.residuals": 4,
    "funtorch.transforms.families": 4,
    "funtorch.transforms.large": 4,
    "funtorch.transforms.repeated": 4,
    "funtorch.transforms.export": 4,
    "funtorch.transforms.__init__": 4,
    "funtorch.lax": 5,
    "funtorch.ad_checkpoint": 5,
    "funtorch.amp": 5,
    "funtorch.api_util": 5,
    "funtorch.quant": 5,
    "funtorch.custom_batching": 5,
    "funtorch.custom_derivatives": 5,
    "funtorch.data": 5,
    "funtorch.debug": 5,
    "funtorch.distributed": 5,
    "funtorch.dlpack": 5,
    "funtorch.example_libraries": 5,
    "funtorch.experimental": 5,
    "funtorch.export": 5,
    "funtorch.extend": 5,
    "funtorch.interpreters": 5,
    "funtorch.profiler": 5,
    "funtorch.ad": 5,
    "funtorch.ref": 5,
    "funtorch.func": 5,
    "funtorch.parallel": 5,
    "funtorch.stages": 5,
    "funtorch.test_util": 5,
    "funtorch.testing": 5,
    "funtorch.version": 5,
    "funtorch.__init__": 5,
    "funtorch.__main__": 6,
    "funtorch.launch": 6,
    "funtorch.onnx": 5,
    "funtorch.nnx": 6,
}

# Heavy or optional: imported by the functions that need them, so `import funtorch` stays quick.
LAZY = {"cupy", "llvmlite", "mpi4py", "opt_einsum", "safetensors", "scipy_openblas32"}
LAZY |= {"PIL", "code", "onnx", "concurrent", "fractions", "html", "logging", "sklearn", "tempfile"}

# The ranks of the groups inside floor 2: a group imports only from groups before it.
GROUPS = (
    ("funtorch.ops",),
    ("funtorch.numpy",),
    ("funtorch.nn", "funtorch.random", "funtorch.scipy", "funtorch.image"),
)

# What prints programs for one machine or format, and what they share.
SHARED = ("funtorch.backends.scalars",)
TARGETS = ("funtorch.backends.cpu", "funtorch.backends.cuda", "funtorch.backends.onnx", *SHARED)

MAX_LINES = 720


# ------------------------------------------------------------------------------------ reading
@cache
def modules() -> dict[str, Path]:
    """Return every module's dotted name, a package's ending in `.__init__`, and its file."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts))] = path
    return found


@cache
def syntax(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def resolve(name: str) -> str | None:
    """Return the module of ours that ``name`` is, or None."""
    return (
        name
        if name in modules()
        else next((m for m in (f"{name}.__init__",) if m in modules()), None)
    )


def imported(module: str, node: ast.Import | ast.ImportFrom) -> list[tuple[str, str | None]]:
    """Return (dotted module, name or None) of each thing an import statement imports."""
    if isinstance(node, ast.Import):
        return [(alias.name, None) for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module.rsplit(".", node.level)[0]
        base = f"{package}.{base}" if base else package
    return [(base, alias.name) for alias in node.names]


def ours(module: str, node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the modules of ours that an import statement names."""
    found = []
    for base, name in imported(module, node):
        target = resolve(f"{base}.{name}") if name else None
        target = target or resolve(base)
        if target is not None:
            found.append(target)
        elif base.split(".")[0] == "funtorch":
            raise AssertionError(
                f"{module}:{node.lineno} imports {base}, which is no module of the package"
            )
    return found


def at_import_time(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports that run when the module is imported; those for type checkers do not."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        ):
            found.extend(at_import_time(node))
    return found


@cache
def edges(module: str) -> dict[str, int]:
    """Return the modules of ours that ``module`` imports, with the line."""
    found: dict[str, int] = {}
    for node in at_import_time(syntax(module)):
        for target in ours(module, node):
            found.setdefault(target, node.lineno)
    found.pop(module, None)
    return found


def prefix_of(module: str, table: dict | tuple) -> str | None:
    fits = [p for p in table if module == p or module.startswith(p + ".")]
    return max(fits, key=len) if fits else None


def floor(module: str) -> int:
    prefix = prefix_of(module, FLOORS)
    assert prefix is not None, (
        f"{module} has no floor: give it one in docs/architecture.md and here"
    )
    return FLOORS[prefix]


# ------------------------------------------------------------------------------------ modules
@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module):
    here = floor(module)
    wrong = [
        f"line {line}: {m} (floor {floor(m)})"
        for m, line in edges(module).items()
        if floor(m) > here
    ]
    assert not wrong, f"{module} (floor {here}) imports upwards: {wrong}"


@pytest.mark.parametrize("module", modules())
def test_siblings_do_not_import_each_other(module):
    siblings = ("funtorch.transforms", "funtorch.backends")
    mine = prefix_of(module, siblings)
    if mine is None or floor(module) > 3:
        return
    wrong = [m for m in edges(module) if prefix_of(m, siblings) not in (None, mine)]
    assert not wrong, f"{module} imports {wrong}: only transforms/jit.py sees both sides"


@pytest.mark.parametrize("module", [m for m in modules() if prefix_of(m, TARGETS)])
def test_targets_do_not_import_each_other(module):
    mine = prefix_of(module, TARGETS)
    wrong = [m for m in edges(module) if prefix_of(m, TARGETS) not in (None, mine, *SHARED)]
    assert not wrong, f"{module} imports {wrong}: what machines share is in backends/scalars/"


@pytest.mark.parametrize("module", modules())
def test_namespaces_stand_on_operations(module):
    ranks = {p: k for k, group in enumerate(GROUPS) for p in group}
    mine = prefix_of(module, tuple(ranks))
    if mine is None:
        return
    theirs = {m: prefix_of(m, tuple(ranks)) for m in edges(module)}
    wrong = [m for m, p in theirs.items() if p is not None and ranks[p] > ranks[mine]]
    assert not wrong, f"{module} imports {wrong}, which stand on it"


def test_no_cycles():
    done, path = set(), []

    def visit(module: str) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for target in edges(module):
            visit(target)
        done.add(path.pop())

    for module in modules():
        visit(module)
    assert len(done) == len(modules())


@pytest.mark.parametrize("module", modules())
def test_functions_import_only_heavy_packages(module):
    top = set(map(id, at_import_time(syntax(module))))
    for node in ast.walk(syntax(module)):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = {base.split(".")[0] for base, _ in imported(module, node)}
        if id(node) in top:
            lazy = names & LAZY
            assert not lazy, (
                f"{module}:{node.lineno} imports {lazy} at once; import it where it is used"
            )
        else:
            hidden = names - LAZY - {"typing", "collections"}
            inside_check = any(
                isinstance(n, ast.If)
                and ast.unparse(n.test).endswith("TYPE_CHECKING")
                and node in ast.walk(n)
                for n in ast.walk(syntax(module))
            )
            assert inside_check or not hidden, (
                f"{module}:{node.lineno} hides an import of {hidden} in a function"
            )


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("funtorch.nnx")])
def test_nnx_uses_public_names(module):
    for node in ast.walk(syntax(module)):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for base, name in imported(module, node):
            if base.split(".")[0] != "funtorch" or base.startswith("funtorch.nnx"):
                continue
            parts = base.split(".")[1:] + ([name] if name else [])
            assert not parts or parts[0] in funtorch.__all__, (
                f"{module}:{node.lineno}: {base} is not public"
            )
            private = [p for p in parts if p.startswith("_")]
            assert not private, f"{module}:{node.lineno} imports the private {private}"


def test_bare_folder_names_are_not_imported():
    for module in modules():
        for node in ast.walk(syntax(module)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                heads = {base.split(".")[0] for base, _ in imported(module, node)}
                copies = heads & {"transforms", "backends", "nnx"}
                assert not copies, f"{module}:{node.lineno} would make a second copy of {copies}"


@pytest.mark.parametrize("module", modules())
def test_files_stay_short(module):
    lines = modules()[module].read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES, f"{module} has {lines} lines; split it at a seam"


def test_floor_table_has_no_dead_rows():
    gone = [
        p
        for p in FLOORS
        if p != "funtorch.testing" and not any(prefix_of(m, (p,)) for m in modules())
    ]
    assert not gone


# ------------------------------------------------------------------------------------ primitives
def missing(prim: Primitive, slot: str) -> bool:
    rule = getattr(prim, slot)
    return rule is None or getattr(rule, "__module__", "") == "funtorch.core"


def explained(prim: Primitive, slot: str) -> bool:
    return len(prim.none.get(slot, "")) > 10


OURS = {
    name: p for name, p in primitives.items() if not name.startswith("test_") and "." not in name
}


@pytest.mark.parametrize("name", OURS)
def test_primitive_has_every_rule(name):
    prim = OURS[name]
    for slot in ("type", "eager", "batch", "jvp"):
        assert not missing(prim, slot) or explained(prim, slot), (
            f"primitive {name} has neither a {slot} rule nor a reason: set {name}_p.none[{slot!r}]"
        )
    assert not missing(prim, "transpose") or explained(prim, "transpose"), (
        f"primitive {name} has neither a transpose rule nor a reason in its `none`"
    )


@pytest.mark.parametrize("name", OURS)
def test_reasons_are_about_missing_rules(name):
    prim = OURS[name]
    contradictions = [slot for slot in prim.none if not missing(prim, slot)]
    assert not contradictions, (
        f"primitive {name} has a rule and a reason for having none: {contradictions}"
    )


def test_every_primitive_is_registered_under_its_name():
    assert all(p.name == name for name, p in primitives.items())
    assert len(primitives) > 90


# Tested as words in tests/test_transforms.py; they take programs, not samples.
HIGHER_ORDER = {
    name
    for name, p in OURS.items()
    if getattr(inspect.getmodule(p.type), "__name__", "").startswith("funtorch.transforms")
}


# Not functions of float arrays alone; each has tests of its own, in the module named.
APART = {
    "threefry2x32": "test_ops_more",
    "iota": "test_architecture",
    "fft_table": "test_fft",
    "narrow_dot": "test_along",
    "matrix_function": "test_repeated_values",
}


def test_iota_counts_along_its_axis():
    got = iota(shape=(2, 3), axis=1, dtype=np.dtype(np.int32))
    np.testing.assert_array_equal(got, [[0, 1, 2], [0, 1, 2]])
    assert got.dtype == np.int32


def rows() -> list:
    """Return the rows of every test module: what its tests are parametrized over."""
    return [*test_ops_basic.ROWS, *test_ops_more.CASES, *test_conv.ROWS]


def used_by(row) -> set[str]:
    """Return the primitives that a row's function uses on its first sample."""
    args = row.samples[0] if hasattr(row, "samples") else row.args
    avals = [aval_of(x) for x in args]

    def flat(*xs):
        out = row.fn(*xs)
        return list(out) if isinstance(out, (tuple, list)) else [out]

    return {eqn.prim.name for eqn in stage(flat, avals).eqns}


def test_every_operation_has_a_row_in_the_table():
    used = set().union(*map(used_by, rows()))
    without = sorted(set(OURS) - used - HIGHER_ORDER - set(APART))
    assert not without, f"no row of the op table (tests/test_ops_*.py) uses {without}"
