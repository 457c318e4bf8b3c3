"""Jitted functions that decide in Python: compiled segments, and the way between them.

A call runs the first segment, sees how its test came out, goes on to the segment behind that
outcome, and so to the end of the path: what is not on the path does not run. Where the way is not
known yet, Python runs once more to record it, from the start: what is known is replayed, what is
new is compiled and run when the next decision, or the end, is met.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from funtorch.core import (
    ArrayImpl,
    Primitive,
    ShapedArray,
    Tracer,
    eval_trace,
    kind_of,
    no_source,
    use_trace,
)
from funtorch.errors import user_frame
from funtorch.jaxpr import Eqn, Jaxpr, Var

from .explore import Flat, needed_for, run_equations
from .paths import MOST_PATHS, Node, PathStage, Tree, free_variables

__all__ = ["Switchboard", "Undecided"]

Env = dict[Var, ArrayImpl]


class Undecided(BaseException):
    """A function that is traced for any values asks for the truth of one.

    Whoever traces it runs it in the trace around instead, as a part of that.
    """

    def __init__(self, board: Switchboard) -> None:
        super().__init__(board.tree.name)
        self.board = board


class _Recorder(PathStage):
    """Record a path, and run each segment of it when it is complete, to see how to go on."""

    __slots__ = ("_defined", "_made", "_peeked", "_seen", "board", "env")

    def __init__(self, board: Switchboard, route: Sequence[bool], env: Env | None) -> None:
        super().__init__(board.tree, route)
        self.board = board
        self.env = env
        self._made: list[weakref.ref[Any]] = []  # tracers of the present segment
        self._peeked: dict[Var, Any] = {}
        self._defined: dict[Var, Eqn] = {}
        self._seen = 0

    def visit(self) -> None:
        raise Undecided(self.board)

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        out = super().process(prim, args, params)
        if not self.replaying:
            if prim.multiple_results:
                self._made.extend(map(weakref.ref, out))
            else:
                self._made.append(weakref.ref(out))
        return out

    def choose(self, var: Var, soft: bool) -> bool:
        if self.env is None:
            raise Undecided(self.board)
        self.board.add_constants(self.env)
        if soft and self._peek(var):
            return True
        living = [t for t in [ref() for ref in self._made] if t is not None]
        node = self.close(var, soft, [t._var for t in living])
        outcome = self.board.step(node, self.env)
        self._made.clear()
        self._defined.clear()
        self._seen = 0
        return self.go_on(var, outcome)

    def _peek(self, var: Var) -> bool:
        """Evaluate a variable of the present segment, without ending the segment for it."""
        for eqn in self.eqns[self._seen :]:
            self._defined.update((v, eqn) for v in eqn.outvars)
        self._seen = len(self.eqns)
        self._peeked.update(self.env)  # type: ignore[arg-type]
        needed = needed_for(var, self._defined, self._peeked)
        if any(eqn.effects for eqn in needed):
            return False
        with use_trace(eval_trace):
            run_equations(needed, self._peeked)
        return bool(self._peeked[var]._data.item())


class Switchboard:
    """The paths of one jitted function for arguments of one type.

    Args:
        flat: the function, of flat arrays, that returns a list of arrays and their structure.
        avals: the types of its arguments.
        name: how errors call it.
        compile: makes a function of buffers of a segment's program.
        make_end: makes a program (with ``call``) of what ends a path: of its jaxpr, the structure
            of its results, and the positions of donated inputs.
        donated: positions of donated arguments.
        prepare: makes a constant readable for compiled programs.
        record: called with a reason before each new path, returns the context it is made in.
    """

    def __init__(
        self,
        flat: Flat,
        avals: Sequence[ShapedArray],
        name: str,
        *,
        compile: Callable[[Jaxpr], Callable[[list[Any]], list[Any]]],
        make_end: Callable[[Jaxpr, Any, list[int]], Any],
        donated: frozenset[int],
        prepare: Callable[[Any], Any],
        record: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self.flat = flat
        self.tree = Tree(avals, name)
        self._compile, self._make_end, self._prepare = compile, make_end, prepare
        self._donated = {self.tree.invars[k] for k in donated}
        self._record = record
        self._constants: Env = {}
        self._begun: tuple[Node, Env] | None = None

    def begin(self, arrays: Sequence[Any] | None) -> Node:
        """Record the first path, up to its last segment, which the first call then runs.

        Args:
            arrays: the arguments of the first call; None where they have no values.

        Returns:
            the node that the path ends with: the whole program, where there was no decision.

        Raises:
            Undecided: if there are no values and the function asks for one.
        """
        env = None if arrays is None else dict(zip(self.tree.invars, arrays, strict=True))
        end = self._follow([], env)
        if env is not None and self.tree.root is not end:
            self._begun = end, env
        return end

    def _follow(self, route: Sequence[bool], env: Env | None) -> Node:
        recorder, source = _Recorder(self, route, env), user_frame()
        with recorder:
            return recorder.end(
                *self.flat(*[recorder.new_input(a, source) for a in self.tree.avals])
            )

    def call(self, arrays: Sequence[ArrayImpl]) -> Any:
        """Run the function on arrays that compiled programs can read."""
        if self._begun is not None:
            (end, env), self._begun = self._begun, None
            return self._finish(end, env)
        env = self._constants.copy()
        env.update(zip(self.tree.invars, arrays, strict=True))
        node, route = self.tree.root, []
        while node.test is not None:  # type: ignore[union-attr]
            outcome = self.step(node, env)  # type: ignore[arg-type]
            route.append(outcome)
            behind = node.children.get(outcome)  # type: ignore[union-attr]
            if behind is None:
                return self._finish(self._grow(node, route, env), env)  # type: ignore[arg-type]
            node = behind
        return self._finish(node, env)  # type: ignore[arg-type]

    def _grow(self, node: Node, route: list[bool], env: Env) -> Node:
        """Record the path that goes on behind a node as no call did before."""
        if self.tree.paths() >= MOST_PATHS:
            raise self.tree.too_many()
        with self._record(f"another path: {route[-1]} at {node.source}"):
            return self._follow(route, env)

    def add_constants(self, env: Env) -> None:
        """Give a call the arrays that the function closes over."""
        for var, value in self.tree.consts.values():
            if var not in env:
                if isinstance(value, Tracer):
                    raise Undecided(self)
                self._constants[var] = env[var] = self._prepare(value)

    def step(self, node: Node, env: Env) -> bool:
        """Run a segment; return the truth of its test."""
        if node.program is None:
            defined = {v for eqn in node.eqns for v in eqn.outvars}
            gives = [v for v in dict.fromkeys([node.test, *node.alive]) if v in defined]
            with use_trace(eval_trace), no_source():
                node.program = self._segment(node.eqns, gives)  # type: ignore[arg-type]
        takes, run, gives = node.program
        if run is not None:
            with use_trace(eval_trace):
                outs = run([env[v]._data for v in takes])
            for (var, weak, kind), out in zip(gives, outs, strict=True):
                env[var] = ArrayImpl(out, weak, kind)
        outcome = bool(env[node.test]._data.item())  # type: ignore[index]
        return outcome or (node.soft and True in node.children)

    def _segment(self, eqns: Sequence[Eqn], gives: Sequence[Var]) -> Any:
        if not gives and not any(eqn.effects for eqn in eqns):
            return (), None, ()
        takes = free_variables(eqns, gives)
        run = self._compile(Jaxpr(takes, eqns, gives))
        kinds = [
            (v, v.aval.weak_type, kind_of(v.aval.shape, v.aval.dtype, v.aval.weak_type))
            for v in gives
        ]
        return takes, run, kinds

    def _finish(self, end: Node, env: Env) -> Any:
        """Run the last segment of a path; return the results."""
        if end.program is None:
            self.add_constants(env)
            takes = free_variables(end.eqns, end.outs)
            gone = [k for k, v in enumerate(takes) if v in self._donated]
            end.program = (
                takes,
                self._make_end(Jaxpr(takes, end.eqns, end.outs), end.out_tree, gone),
            )
        takes, program = end.program
        return program.call([env[v] for v in takes])

    def holds_tracers(self) -> bool:
        return False

    def paths(self) -> tuple[str, ...]:
        """Describe each path: how it decides, and where."""
        found: list[str] = []
        waiting: list[tuple[Node | None, tuple[str, ...]]] = [(self.tree.root, ())]
        while waiting:
            node, way = waiting.pop()
            if node is None:
                continue
            if node.test is None:
                found.append(", ".join(way) or "no decision")
            for outcome, behind in sorted(node.children.items()):
                waiting.append((behind, (*way, f"{outcome} at {node.source}")))
        return tuple(found)
