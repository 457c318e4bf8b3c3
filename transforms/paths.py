"""Paths through a function: what it does for each outcome of the Python decisions that it takes.

`if`, `while`, `and`, `or`, `not` and `assert` ask a traced value for its truth. A `PathStage`
records what a function does between two such questions as one segment, a `Node` of a `Tree`. When
the function runs again to follow another path, the segments that are known are replayed, not
recorded: the same operations give the same variables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from funtorch.core import Primitive, ShapedArray
from funtorch.errors import Source, TooManyPathsError, user_frame
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Stage, StageTracer, Var

__all__ = ["MOST_PATHS", "Node", "PathStage", "Tree", "free_variables"]

MOST_PATHS = 128
"""Most paths through one function, for arguments of one type."""

_MOST_DECISIONS = 10_000  # most decisions in one call


class Node:
    """A segment of a program: equations up to a decision, or to the end.

    Attributes:
        eqns: the equations.
        test: the variable whose truth decides how to go on; None at the end of a path.
        soft: whether the truth of the test may always be taken to be True.
        source: the line of the decision.
        children: how it goes on, by the outcome.
        outs, out_tree: the results, at the end of a path.
        error: the exception that the path ends with in their place.
        alive: variables of the segment that Python can still use behind it.
    """

    __slots__ = (
        "alive",
        "children",
        "eqns",
        "error",
        "out_tree",
        "outs",
        "program",
        "soft",
        "source",
        "test",
    )

    def __init__(self) -> None:
        self.eqns: list[Eqn] = []
        self.test: Var | None = None
        self.soft = False
        self.source: Source | None = None
        self.children: dict[bool, Node] = {}
        self.outs: list[Var | Lit] = []
        self.out_tree: Any = None
        self.error: Exception | None = None
        self.alive: list[Var] = []
        self.program: Any = None


class Tree:
    """All the paths through a function that are known."""

    __slots__ = ("avals", "consts", "invars", "name", "root")

    def __init__(self, avals: Sequence[ShapedArray], name: str) -> None:
        self.name = name
        self.avals = list(avals)
        self.invars = [Var(a) for a in avals]
        self.consts: dict[int, tuple[Var, Any]] = {}
        self.root: Node | None = None

    def nodes(self) -> Iterator[Node]:
        waiting = [self.root] if self.root is not None else []
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())

    def paths(self) -> int:
        """Count the ends."""
        return sum(node.test is None for node in self.nodes())

    def attach(self, parent: Node | None, outcome: bool, node: Node) -> None:
        if parent is None:
            self.root = node
            return
        parent.children[outcome] = node
        if parent.soft and outcome:  # from now on it is taken for True
            parent.children.pop(False, None)

    def too_many(self) -> TooManyPathsError:
        """Return the error that names the decision that multiplied the paths."""
        count = Counter(str(node.source) for node in self.nodes() if node.test is not None)
        ((where, times),) = count.most_common(1)
        return TooManyPathsError(
            f"{self.name} takes more than {MOST_PATHS} paths: each combination of outcomes of its "
            "Python decisions (`if`, `while`, `and`, `or`, `not`, `assert`) on traced values is "
            f"one. The decision at {where} was met {times} times on them. {_ADVICE}"
        )

    def whole(self) -> Jaxpr:
        """Return the only path, where there are no decisions, as a program."""
        assert self.root is not None
        consts = list(self.consts.values())
        return Jaxpr(
            self.invars,
            self.root.eqns,
            self.root.outs,
            [v for v, _ in consts],
            [x for _, x in consts],
        )


_ADVICE = (
    "Write that decision as funtorch.lax.cond, or as funtorch.numpy.where where it chooses between "
    "values, and its loop as funtorch.lax.while_loop or fori_loop: they are one path."
)


class PathStage(Stage):
    """Record, or replay, one path; subclasses say how to `decide` where no path is known.

    Args:
        tree: the paths that are known, to which this one is added.
        route: outcomes of the first decisions.
    """

    __slots__ = ("_at", "_inputs", "known", "node", "place", "replaying", "route", "taken", "tree")

    def __init__(self, tree: Tree, route: Sequence[bool] = ()) -> None:
        super().__init__(None, tree.name)
        self.tree = tree
        self.constvars, self.invars = tree.consts, tree.invars
        self.route = list(route)
        self.taken: list[bool] = []
        self.known: dict[Var, bool] = {}  # decided before on this path
        self.place: tuple[Node | None, bool] = None, False  # what the present node comes after
        self._inputs = iter(tree.invars)
        self._enter(tree.root)

    def _enter(self, node: Node | None) -> None:
        self.replaying = node is not None
        self.node = node if node is not None else Node()
        self.eqns = self.node.eqns
        self._at = 0

    def new_input(self, aval: ShapedArray, source: Source | None = None) -> StageTracer:
        return StageTracer(self, next(self._inputs), source)

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if not self.replaying:
            return super().process(prim, args, params)
        if self._at >= len(self.eqns):
            raise self._changed()
        eqn = self.eqns[self._at]
        if eqn.prim is not prim or len(args) != len(eqn.invars):
            raise self._changed()
        for a, v in zip(args, eqn.invars, strict=True):
            if type(a) is StageTracer and a.owner is self and a._var is not v:
                raise self._changed()
        self._at += 1
        outs = [StageTracer(self, v, eqn.source) for v in eqn.outvars]
        return outs if prim.multiple_results else outs[0]

    def _changed(self) -> RuntimeError:
        return RuntimeError(
            f"{self.tree.name} was traced again to follow another path, and did other operations "
            f"than before, at {user_frame()}, though all its decisions were the same. Functions "
            "that are transformed must be pure: what they do may depend on their arguments only"
        )

    def decide(self, x: Any, soft: bool = False) -> bool | None:
        var = x._var
        if var in self.known:
            return self.known[var]
        if not self.replaying:
            return self.choose(var, soft)
        if self.node.test is not var:
            if soft:
                return True  # it was then, and so is no end of a segment
            raise self._changed()
        return self.go_on(var, self.route[len(self.taken)])

    def choose(self, var: Var, soft: bool) -> bool | None:
        """Decide where no path is known yet."""
        raise NotImplementedError

    def close(self, test: Var, soft: bool, alive: Sequence[Var] = ()) -> Node:
        """End the segment that is being recorded with a decision."""
        if len(self.taken) >= _MOST_DECISIONS:
            raise TooManyPathsError(
                f"{self.tree.name} took {_MOST_DECISIONS} Python decisions on traced values in one "
                f"call, the last one at {user_frame()}. {_ADVICE}"
            )
        node = self.node
        node.test, node.soft, node.source, node.alive = test, soft, user_frame(), list(alive)
        return node

    def go_on(self, test: Var, outcome: bool) -> bool:
        """Enter the segment behind the present decision."""
        node = self.node
        if not self.replaying:
            self.tree.attach(*self.place, node)
        self.known[test] = outcome
        self.taken.append(outcome)
        self.place = node, outcome
        self._enter(node.children.get(outcome))
        return outcome

    def end(self, outs: Sequence[Any], out_tree: Any) -> Node:
        """End the path with results."""
        if self.replaying:
            raise self._changed()
        node = self.node
        node.outs, node.out_tree = [self.atom(x) for x in outs], out_tree
        self.tree.attach(*self.place, node)
        return node


def free_variables(eqns: Sequence[Eqn], outs: Sequence[Var | Lit]) -> list[Var]:
    """Return the variables that equations and results use and do not define, in order of use."""
    bound: set[Var] = set()
    found: dict[Var, None] = {}
    for eqn in eqns:
        found.update((v, None) for v in eqn.invars if type(v) is Var and v not in bound)
        bound.update(eqn.outvars)
    found.update((v, None) for v in outs if type(v) is Var and v not in bound)
    return list(found)
