"""Python decisions where no values are known: every path is explored, and the paths are merged.

Bodies of loops and branches, `make_jaxpr`, `eval_shape` and lowered functions are traced by types
alone. What they decide in Python becomes nested `cond`s. A function whose operands are at hand
(`remat`, functions with custom rules) asks those instead: `Known`.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ShapedArray, _state, aval_of, current, primitives, truth, use_trace
from funtorch.errors import is_internal, user_frame
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Stage, Var, stage
from funtorch.ops.elementwise import convert, ne
from funtorch.ops.families import full_like, zeros
from funtorch.ops.shape import reshape

from .forward import JVP
from .paths import MOST_PATHS, Node, PathStage, Tree, free_variables

__all__ = ["Known", "as_predicate", "common_types", "explore", "needed_for", "run_equations"]

Flat = Callable[..., tuple[Sequence[Any], Any]]


class _Explorer(PathStage):
    """Take False where nothing is known, and note that True is to be explored."""

    __slots__ = ("others",)

    def __init__(self, tree: Tree, route: Sequence[bool]) -> None:
        super().__init__(tree, route)
        self.others: list[list[bool]] = []

    def choose(self, var: Var, soft: bool) -> bool:
        if soft:
            return True
        if len(self.taken) < len(self.route):
            outcome = self.route[len(self.taken)]
        else:
            outcome = False
            self.others.append([*self.taken, True])
        self.close(var, soft)
        return self.go_on(var, outcome)


def explore(flat: Flat, avals: Sequence[ShapedArray], name: str) -> tuple[Jaxpr, Any]:
    """Record all paths through a function as one program.

    Args:
        flat: a function of flat arrays that returns a list of arrays and their structure.
        avals: the types of its arguments.
        name: how errors call it.

    Returns:
        the program and the structure of its results.

    Raises:
        TypeError: if the paths return different structures, or shapes.
        TooManyPathsError: if there are too many of them.
    """
    tree, waiting, ends = Tree(avals, name), [[]], 0
    source = user_frame()
    while waiting:
        if ends >= MOST_PATHS:
            raise tree.too_many()
        recorder = _Explorer(tree, waiting.pop())
        try:
            with recorder:
                recorder.end(*flat(*[recorder.new_input(a, source) for a in avals]))
        except Exception as error:
            if not recorder.taken or not _is_meant(error):
                raise
            recorder.node.error = error.with_traceback(None)
            tree.attach(*recorder.place, recorder.node)
        waiting.extend(reversed(recorder.others))
        ends += 1
    assert tree.root is not None
    if tree.root.test is None and tree.root.error is None:
        return tree.whole(), tree.root.out_tree
    return _merged(tree)


def _is_meant(error: Exception) -> bool:
    """Tell whether a `raise` or `assert` of the user's raised an exception."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None or is_internal(place.tb_frame.f_code.co_filename):
        return False
    return place.tb_frame.f_code.co_code[place.tb_lasti] == _RAISE


_RAISE = dis.opmap["RAISE_VARARGS"]


class _Raise:
    """A callback that ends a path as the function does: by an exception."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.__name__ = "raise"

    def results(self, *args: Any) -> list[Any]:
        raise self.error.with_traceback(None)


# -------------------------------------------------------------------------------------- merging
def common_types(
    columns: Sequence[Sequence[ShapedArray]], where: Callable[[int], str], what: str
) -> list[ShapedArray]:
    """Return the types that the results of several runs have in common.

    Args:
        columns: the types of each run's results.
        where: how errors call a run, by its number.
        what: how they call the function.

    Raises:
        TypeError: if shapes differ.
    """
    found = []
    for k, column in enumerate(zip(*columns, strict=True)):
        for j, aval in enumerate(column):
            if aval.shape != column[0].shape:
                raise TypeError(
                    f"{what} must return the same shapes whichever way it decides, but output {k} "
                    f"is {column[0].str_short()} {where(0)} and {aval.str_short()} {where(j)}: "
                    "pad or reshape one of them"
                )
        dtype, weak = dtypes.result_type_weak(*[(a.dtype, a.weak_type) for a in column])
        found.append(ShapedArray(column[0].shape, dtype, weak))
    return found


def _ends(node: Node, path: tuple[str, ...] = ()) -> list[tuple[Node, tuple[str, ...]]]:
    found, waiting = [], [(node, path)]
    while waiting:
        node, path = waiting.pop()
        if node.test is None:
            found.append((node, path))
        for outcome, child in node.children.items():
            waiting.append((child, (*path, f"{outcome} at {node.source}")))
    return found


def _merged(tree: Tree) -> tuple[Jaxpr, Any]:
    root = tree.root
    assert root is not None
    found, needs = _ends(root), _needs(tree)
    ends = [(end, path) for end, path in found if end.error is None]
    if not ends:
        raise found[0][0].error  # type: ignore[misc]

    def where(k: int) -> str:
        return "where it decides " + ", ".join(ends[k][1][-2:])

    out_tree = ends[0][0].out_tree
    for k, (end, _) in enumerate(ends):
        if end.out_tree != out_tree:
            raise TypeError(
                f"{tree.name} must return the same structure whichever way it decides, but it "
                f"returns {out_tree} {where(0)} and {end.out_tree} {where(k)}"
            )
    types = common_types([[v.aval for v in end.outs] for end, _ in ends], where, tree.name)
    consts = list(tree.consts.values())
    given = [v for v, _ in consts] + tree.invars

    def run(*args: Any) -> list[Any]:
        return _run(root, dict(zip(given, args, strict=True)), types, needs)

    jaxpr = stage(run, [v.aval for v in given], tree.name)
    n = len(consts)
    return Jaxpr(
        jaxpr.invars[n:],
        jaxpr.eqns,
        jaxpr.outvars,
        [*jaxpr.invars[:n], *jaxpr.constvars],
        [*[x for _, x in consts], *jaxpr.consts],
    ), out_tree


def _run(
    node: Node, env: dict[Any, Any], types: Sequence[ShapedArray], needs: dict[Node, list[Var]]
) -> list[Any]:
    """Write a node and what comes behind it into the current trace."""
    run_equations(node.eqns, env)
    if node.error is not None:
        callback = _Raise(node.error)
        primitives["io_callback"].bind(callback=callback, result_avals=(), ordered=False)
        return [zeros(aval) for aval in types]
    if node.test is None:
        outs = [v.val if type(v) is Lit else env[v] for v in node.outs]
        return [_as(x, aval) for x, aval in zip(outs, types, strict=True)]
    sides = [node.children[outcome] for outcome in (False, True)]
    free = list(dict.fromkeys(v for side in sides for v in needs[side]))
    avals = [aval_of(env[v]) for v in free]

    def branch(side: Node) -> Jaxpr:
        made = stage(lambda *xs: _run(side, dict(zip(free, xs, strict=True)), types, needs), avals)
        assert not made.consts
        return made

    index = convert(as_predicate(env[node.test]), dtype=np.dtype(np.int32), weak_type=False)
    branches = tuple(map(branch, sides))
    return primitives["cond"].bind(index, *[env[v] for v in free], branches=branches)


def as_predicate(x: Any) -> Any:
    """Return an array of one element as a boolean scalar."""
    if x.shape:
        x = reshape(x, shape=())
    return x if x.dtype == np.bool_ else ne(x, full_like(x, 0))


def _as(x: Any, aval: ShapedArray) -> Any:
    x_aval = aval_of(x)
    if x_aval.dtype == aval.dtype and x_aval.weak_type == aval.weak_type:
        return x
    return convert(x, dtype=aval.dtype, weak_type=aval.weak_type)


def _needs(tree: Tree) -> dict[Node, list[Var]]:
    """Return the variables that each node and what is behind it take from before."""
    found: dict[Node, list[Var]] = {}
    for node in reversed(list(tree.nodes())):  # children first
        behind = [v for child in node.children.values() for v in found[child]]
        ends = [node.test] if node.test else node.outs
        found[node] = free_variables(node.eqns, [*ends, *behind])
    return found


def run_equations(eqns: Sequence[Eqn], env: dict[Any, Any]) -> None:
    """Bind equations in the current trace; ``env`` has, and is given, the values of variables."""
    process, saved = current().process, _state.source
    try:
        for eqn in eqns:
            ins = [v.val if type(v) is Lit else env[v] for v in eqn.invars]
            _state.source = eqn.source or saved
            out = process(eqn.prim, ins, eqn.params)
            env.update(zip(eqn.outvars, out if eqn.prim.multiple_results else [out], strict=True))
    finally:
        _state.source = saved


# ------------------------------------------------------------------------------- known operands
class Known(Stage):
    """Record a function whose operands are at hand, and decide by them.

    The program is then right for these operands only: it must not be kept for others.
    """

    __slots__ = ("_defined", "_layers", "_seen", "_values", "operands", "outer")

    def __init__(self, operands: Sequence[Any], name: str = "") -> None:
        super().__init__(None, name)
        self.outer = current()
        self.operands = list(operands)
        self._layers: list[JVP] = []
        while isinstance(self.outer, JVP):  # decisions need no tangents
            self._layers.append(self.outer)
            self.outer = self.outer.parent  # type: ignore[assignment]
            if isinstance(self.outer, Stage) and self.outer.parent is not None:
                self.outer = self.outer.parent
        self._values: dict[Var, Any] = {}
        self._defined: dict[Var, Eqn] = {}
        self._seen = 0

    def decide(self, x: Any, soft: bool = False) -> bool | None:
        if not self._values:
            values = map(self._primal, self.operands)
            self._values.update(zip(self.invars, values, strict=True))
        for eqn in self.eqns[self._seen :]:
            self._defined.update((v, eqn) for v in eqn.outvars)
        self._seen = len(self.eqns)
        self._values.update((v, self._primal(c)) for v, c in self.constvars.values())
        with use_trace(self.outer):
            needed = needed_for(x._var, self._defined, self._values)
            for eqn in needed:
                if eqn.effects:
                    raise NotImplementedError(
                        f"{self.name} decides, at {user_frame()}, by what a callback with effects "
                        "returned: use pure_callback"
                    )
            run_equations(needed, self._values)
        return truth(self._values[x._var], soft)

    def _primal(self, x: Any) -> Any:
        for layer in self._layers:
            x = layer.unwrap(x)[0]
        return x


def needed_for(var: Var, defined: dict[Var, Eqn], values: dict[Var, Any]) -> list[Eqn]:
    """Return the equations that must run, in order, for a variable to have a value."""
    order: list[Eqn] = []
    done: set[int] = set()
    waiting: list[tuple[Var, bool]] = [(var, False)]
    while waiting:
        v, ready = waiting.pop()
        if v in values:
            continue
        eqn = defined[v]
        if id(eqn) in done:
            continue
        if ready:
            done.add(id(eqn))
            order.append(eqn)
            continue
        waiting.append((v, True))
        waiting.extend((u, False) for u in eqn.invars if type(u) is Var and u not in values)
    return order
