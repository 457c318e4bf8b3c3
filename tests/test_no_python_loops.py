"""No function of the namespaces loops over elements in Python.

Every row of the table of public functions is run eagerly on arrays with axes of some dozens and of
some hundreds, and the lines that Python executes meanwhile, in whatever file, are counted. A loop
over elements, rows or columns executes at least one more for each. Loops over axes, over arguments
and over halvings of a size are fine: `ALLOWED` covers them, and `GROWING` says where they do more.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import surface_rows_linalg  # noqa: F401  (they fill the table)
import surface_rows_numpy  # noqa: F401
import surface_rows_other  # noqa: F401
from surface_table import KEY, ROWS
from test_surface import EVERYTHING, SLOW, function_of, leaves, put, quietly, take

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import ArrayImpl

# How many times as long as in the table the axes are. What takes more lines for large arrays than
# for small ones is measured between larger ones, too: they may go another way, such as through a
# compiled program, but what loops takes more each time.
SMALL, LARGE = 8, 40
SIZES = SMALL, LARGE, 72, 104
# More lines for arrays with at least 96 more elements along an axis: a loop takes one for each.
ALLOWED = 60


def lines_of(run: Callable[[], Any]) -> int:
    """Return how many lines Python executes in a call: one for every turn of a loop, at least."""
    count = 0

    def in_frame(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return in_frame

    before = sys.gettrace()
    sys.settrace(lambda *_: in_frame)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


# ------------------------------------------------------------------------------- longer arguments
def longer(a: np.ndarray, axes: tuple[int, ...] | None, times: int) -> np.ndarray:
    """Return an array that is longer along axes; None means square matrices, which stay regular."""
    if a.dtype == np.uint32:
        return a  # a key
    if axes is None:
        if a.ndim == 2 and a.shape[0] == a.shape[1] and a.dtype.kind in "fc":
            return np.kron(np.eye(times), a)
        if a.ndim > 2:
            raise ValueError("so many axes make too many elements")
        axes = tuple(range(a.ndim))
    for k in axes:
        a = np.repeat(a, times, k % a.ndim) if a.ndim else a
    return a


def enlarged(arg: Any, axes: tuple[int, ...] | None, shapes: bool, ints: bool, times: int) -> Any:
    """Return an argument with longer arrays; with larger shapes and numbers, if so asked."""
    if isinstance(arg, (np.ndarray, np.generic)):
        return longer(np.asarray(arg), axes, times)
    if type(arg) is int:
        return arg * times if ints and arg > 1 else arg
    if type(arg) in (list, tuple):
        if arg and all(type(v) is int for v in arg):
            return tuple(v * times if shapes and v > 1 else v for v in arg)
        return type(arg)(enlarged(a, axes, shapes, ints, times) for a in arg)
    return arg


WAYS = [
    (axes, shapes, ints)
    for axes in ((0,), (-1,), None)
    for shapes, ints in ((False, False), (True, False), (True, True), (False, True))
]


def amount(args: Any, out: Any) -> int:
    return sum(np.size(x) for x in (*leaves(take(args)), *ft.tree.leaves(out)))


def row_run(name: str, way: Any, times: int) -> tuple[Callable[[], Any], Any]:
    row, f = ROWS[name], function_of(name)
    args = tuple(enlarged(a, *way, times) for a in row.args)
    given = put(args, iter([ArrayImpl(np.array(a)) for a in take(args)]))
    if row.call is not None:
        return lambda: row.call(f, *given, **row.kw), args
    return lambda: f(*given, **row.kw), args


def growth(name: str, less: int = SMALL, more: int = LARGE) -> list[tuple[int, int]]:
    """Return numbers of executed lines, of small and large arguments, for each way to enlarge."""
    if name in BY_SIZE:
        runs = [lambda n=n: BY_SIZE[name](function_of(name), n) for n in (4 * less, 4 * more)]
        return [tuple(quietly(lines_of, run) for run in runs if quietly(run) is not None)]
    found: dict[Any, tuple[int, int]] = {}
    for way in WAYS:
        if way[0] in found or (found and way[0] is None):
            continue
        try:
            runs, sizes = [], []
            for times in (less, more):
                run, args = row_run(name, way, times)
                sizes.append(amount(args, quietly(run)))  # the first call compiles
                runs.append(run)
        except (TypeError, ValueError, IndexError, ArithmeticError):
            continue  # the shapes do not fit
        if sizes[1] > 1.2 * sizes[0]:
            found[way[0]] = tuple(quietly(lines_of, run) for run in runs)
    return list(found.values())


# -------------------------------------------------------------------------------------- the tables
_DRAWS = "bits normal uniform exponential gumbel laplace logistic cauchy rademacher maxwell"
_INITIALIZERS = (
    "glorot_normal glorot_uniform he_normal he_uniform kaiming_normal kaiming_uniform "
    "lecun_normal lecun_uniform xavier_normal xavier_uniform normal uniform "
    "truncated_normal orthogonal"
)
_REJECTING = (
    "gamma loggamma chisquare poisson t beta f dirichlet binomial generalized_normal ball "
    "multinomial"
)
BY_SIZE: dict[str, Callable[[Any, int], Any]] = {
    "numpy.arange": lambda f, n: f(n),
    "numpy.array": lambda f, n: f([[1.0, 2.0]] * n),
    "numpy.asarray": lambda f, n: f([1] * n),
    "numpy.histogramdd": lambda f, n: f(np.arange(2.0 * n).reshape(n, 2)),
    "image.scale_and_translate": lambda f, n: f(
        fnp.ones((n, 4)), (n, 4), (0, 1), np.array([1.3, 1.4]), np.zeros(2), "linear"
    ),
    "numpy.empty": lambda f, n: f((n, n)),
    "numpy.fromiter": lambda f, n: f(range(n), np.int64),
    "numpy.frombuffer": lambda f, n: f(bytes(8 * n), np.float64),
    "numpy.fromstring": lambda f, n: f("1 " * n, dtype=np.float64, sep=" "),
    "numpy.linalg.tensorinv": lambda f, n: f(np.eye(n).reshape(2, n // 2, n), 2),
    "numpy.linalg.tensorsolve": lambda f, n: f(np.eye(n), np.ones(n)),
    "lax.broadcast_in_dim": lambda f, n: f(fnp.ones((n,)), (3, n), (1,)),
    "lax.empty": lambda f, n: f((n,), np.float32),
    "lax.scatter_apply": lambda f, n: f(
        fnp.ones((n, 4)), np.arange(n)[:, None], fnp.sin, ROWS["lax.scatter_apply"].args[3],
        update_shape=(n, 4),
    ),
    "scipy.linalg.eigh_tridiagonal": lambda f, n: f(fnp.arange(n) * 1.0, fnp.ones(n - 1)),
    "scipy.linalg.hadamard": lambda f, n: f(1 << (n - 1).bit_length()),
    "scipy.linalg.leslie": lambda f, n: f(fnp.ones(n), fnp.ones(n - 1)),
    "scipy.stats.poisson.entropy": lambda f, n: f(fnp.linspace(0.1, 3, n)),
    "random.split": lambda f, n: f(KEY, n),
    "random.fold_in": lambda f, n: ft.vmap(lambda k: f(KEY, k))(fnp.arange(n)),
    **{
        f"random.{name}": lambda f, n: f(KEY, (n, 3))
        for name in _DRAWS.split()
    },
    **{
        f"nn.initializers.{name}": lambda f, n: f()(KEY, (n, 24))
        for name in _INITIALIZERS.split()
    },
    "nn.initializers.delta_orthogonal": lambda f, n: f()(KEY, (n, 4, 4)),
    "nn.initializers.variance_scaling": lambda f, n: f(1.0, "fan_in", "normal")(KEY, (n, 4)),
    "nn.initializers.constant": lambda f, n: f(7.0)(KEY, (n,)),
}  # fmt: skip
NOTHING_TO_ENLARGE = {
    "numpy.broadcast_shapes", "lax.broadcast_shapes", "lax.padtype_to_pads", "random.PRNGKey",
    "random.key", "random.key_data", "random.wrap_key_data", "random.clone",
}  # fmt: skip
# How often a thing is done that costs many lines, and how many times as many lines that may be.
_ROUNDS = "rejection goes on until the last number is accepted: the logarithm of how many there are"
_STEPS = "outside jit the user's function is called for each step"
_HALVES = "blocks that double in size, each by a solver that halves"
_PARTS = "an array for each row is what it returns"
_SEARCH = "steps of an iteration until it converges"
GROWING: dict[str, tuple[float, str]] = {
    **dict.fromkeys([f"random.{name}" for name in _REJECTING.split()], (3.0, _ROUNDS)),
    **dict.fromkeys(("lax.scan", "lax.map"), (5.1, _STEPS)),
    **dict.fromkeys(("numpy.unstack", "lax.unstack"), (5.1, _PARTS)),
    **dict.fromkeys(("scipy.linalg.sqrtm", "scipy.linalg.logm"), (3.0, _HALVES)),
    "lax.associative_scan": (2.0, "its function is called for each halving"),
    "scipy.linalg.hadamard": (2.0, "each step doubles its size"),
    "scipy.optimize.minimize": (2.0, _SEARCH),
}
# These take long to trace: they are measured if everything is asked for.
DEAR = re.compile(
    r"scipy.linalg.(logm|expm_frechet|funm|inv(hilbert|pascal)|pascal)$|.*\.(ppf|isf)$"
)
MEASURED = [
    name
    for name in ROWS
    if name not in NOTHING_TO_ENLARGE
    and (
        EVERYTHING
        or not (SLOW.match(name) or DEAR.match(name) or GROWING.get(name, (0, ""))[1] == _ROUNDS)
    )
]


def too_many(name: str, counts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    most = GROWING.get(name, (0, ""))[0]
    return [(a, b) for a, b in counts if b - a > ALLOWED and b > most * a]


@pytest.mark.parametrize("space", sorted({n.rpartition(".")[0] for n in MEASURED}))
def test_no_function_loops_over_elements(space):
    looping = {}
    for name in MEASURED:
        if name.rpartition(".")[0] != space:
            continue
        counts = growth(name)
        assert counts, f"{name}: no way to enlarge its arguments; give one in BY_SIZE"
        bad = too_many(name, counts)
        for less, more in itertools.pairwise(SIZES[1:]):
            bad = bad and too_many(name, growth(name, less, more))
        if bad:
            looping[name] = bad
    assert not looping, "lines that Python executes for small and large arrays"


def test_loops_are_seen(monkeypatch):
    """What loops over elements, in whatever way, is found out."""
    x = fnp.asarray(np.arange(32.0)), fnp.asarray(np.arange(160.0))
    for f in (
        lambda x: fnp.asarray([float(v) + 1 for v in np.asarray(x)]),
        lambda x: np.vectorize(lambda v: v + 1)(np.asarray(x)),
        lambda x: sum(np.asarray(x)[k] for k in range(x.size)),
        lambda x: [row.sum() for row in x[:, None]],
        lambda x: np.polyval(np.asarray(x), 1.0),
    ):
        small, large = (lines_of(lambda a=a, f=f: f(a)) for a in x)
        assert large - small > ALLOWED
    assert lines_of(lambda: x[1] + 1) - lines_of(lambda: x[0] + 1) == 0
    monkeypatch.setattr(fnp, "sin", lambda a: fnp.stack([fnp.cos(v) for v in a]))
    assert any(large - small > ALLOWED for small, large in growth("numpy.sin"))
