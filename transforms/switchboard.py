"""Jitted functions that decide in Python: compiled segments, and the way between them.

A call runs the first segment, sees how its test came out, goes on to the segment behind that
outcome, and so to the end of the path: what is not on the path does not run. Where the way is not
known yet, Python runs once more to record it, from the start: what is known is replayed, what is
new is compiled and run when the next decision, or the end, is met.
"""

from __future__ import annotations

import threading
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
    truth,
    use_trace,
)
from funtorch.errors import user_frame
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var
from funtorch.placement import array_of, buffer_of, delete
from funtorch.treecode import builder

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

    __slots__ = ("_defined", "_made", "_peeked", "_seen", "board", "env", "pure")

    def __init__(
        self, board: Switchboard, route: Sequence[bool], env: Env | None, pure: bool
    ) -> None:
        super().__init__(board.tree, route)
        self.board = board
        self.env = env
        self.pure = pure  # whether to run nothing that has effects
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
        if self.pure and any(eqn.effects for eqn in self.eqns):
            raise Undecided(self.board)
        living = [t for t in [ref() for ref in self._made] if t is not None]
        node = self.close(var, soft, [t._var for t in living])
        with use_trace(eval_trace):
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
        return bool(truth(self._peeked[var]))


class _Segment:
    """What runs a part of a path: it takes the values of variables, and gives others theirs."""

    __slots__ = ("_kinds", "_run", "gives", "gone", "takes")

    def __init__(
        self, takes: Sequence[Var], run: Any, gives: Sequence[Var], gone: Sequence[Var]
    ) -> None:
        self.takes, self.gives, self.gone, self._run = takes, gives, gone, run
        avals = [v.aval for v in gives]
        self._kinds = [(a.weak_type, kind_of(a.shape, a.dtype, a.weak_type)) for a in avals]

    def run(self, env: Env, constants: Env) -> None:
        """Give variables their values."""
        if self._run is None:
            return
        try:
            args = [buffer_of(env[v]) for v in self.takes]
        except KeyError:  # of a path that came to be after the call began
            env.update(constants)
            args = [buffer_of(env[v]) for v in self.takes]
        outs = self._run(args)
        for v, out, (weak, kind) in zip(self.gives, outs, self._kinds, strict=True):
            x = env[v] = array_of(out, weak)
            x._kind = kind if type(x) is ArrayImpl else 0


def _copy(x: ArrayImpl) -> ArrayImpl:
    """Return an array with memory of its own: that of an argument may change or be given away."""
    return type(x)(buffer_of(x).copy(), x._weak, x._kind)


class Switchboard:
    """The paths of one jitted function for arguments of one type.

    Args:
        flat: the function, of flat arrays, that returns a list of arrays and their structure.
        avals: the types of its arguments.
        name: how errors call it.
        compile: makes a function of buffers of a segment's program; its second argument are
            positions of inputs that may be overwritten, and it tells which of them are.
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
        compile: Callable[[Jaxpr, list[int]], tuple[Callable[[list[Any]], list[Any]], Any]],
        donated: frozenset[int],
        prepare: Callable[[Any], Any],
        record: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self.flat = flat
        self.tree = Tree(avals, name)
        self._compile, self._prepare = compile, prepare
        self._donated = {self.tree.invars[k] for k in donated}
        self._why_gone = f"It was donated to {name}, a jitted function; pass a copy to keep it."
        self._record = record
        self._constants: Env = {}
        self._whole: dict[Node, tuple[Jaxpr, Any]] = {}
        self._growing = threading.RLock()
        self.last: Node | None = None  # what the last call ended with
        self.explored: Any = None  # the program of all paths, once it was asked for
        self._begun: tuple[Node, Env, Any] | None = None

    def begin(self, arrays: Sequence[Any] | None, pure: bool = False) -> Node:
        """Record the first path, up to its last segment, which the first call then runs.

        Args:
            arrays: the arguments of the first call; None where they have no values.
            pure: whether that is no call yet, and nothing that has effects may run.

        Returns:
            the node that the path ends with: the whole program, where there was no decision.

        Raises:
            Undecided: if there are no values and the function asks for one, or if it does so after
                effects that may not be.
        """
        env = None if arrays is None else dict(zip(self.tree.invars, arrays, strict=True))
        end = self._follow([], env, pure)
        if env is not None and self.tree.root is not end:
            self._complete(end, env)
            self._begun = None if pure else (end, env, arrays)
        return end

    def _follow(self, route: Sequence[bool], env: Env | None, pure: bool) -> Node:
        recorder, source = _Recorder(self, route, env, pure), user_frame()
        with recorder:
            return recorder.end(
                *self.flat(*[recorder.new_input(a, source) for a in self.tree.avals])
            )

    def call(self, arrays: Sequence[ArrayImpl]) -> Any:
        """Run the function on arrays that compiled programs can read."""
        begun = self._begun
        if begun is not None and begun[2] is arrays:  # and not the call of another thread
            self._begun = None
            return self._finish(*begun[:2])
        return self._finish(*self._end_of(arrays, False))

    def decide(self, arrays: Sequence[ArrayImpl]) -> tuple[Jaxpr, Any]:
        """Return the path for some arguments as a program, and the structure of its results.

        Raises:
            Undecided: if effects come before its last decision.
        """
        with use_trace(eval_trace), no_source():
            end, _ = self._end_of(arrays, True)
        if end not in self._whole:
            self._whole[end] = self.path_to(end)
        return self._whole[end]

    def _end_of(self, arrays: Sequence[ArrayImpl], pure: bool) -> tuple[Node, Env]:
        """Run all segments but the last; return that, and the values of variables."""
        env = self._constants.copy()
        env.update(zip(self.tree.invars, arrays, strict=True))
        node, route = self.tree.root, []
        assert node is not None
        while node.test is not None:
            if pure and any(eqn.effects for eqn in node.eqns):
                raise Undecided(self)
            route.append(self.step(node, env))
            if route[-1] not in node.children:
                with self._growing:  # one thread at a time
                    if route[-1] not in node.children:
                        return self._grow(node, route, env, pure), env
            node = node.children[route[-1]]
        return node, env

    def _grow(self, node: Node, route: list[bool], env: Env, pure: bool) -> Node:
        """Record the path that goes on behind a node as no call did before."""
        if self.tree.paths() >= MOST_PATHS:
            raise self.tree.too_many()
        with self._record(f"another path: {route[-1]} at {node.source}"):
            end = self._follow(route, env, pure)
            self._complete(end, env)
        return end

    def add_constants(self, env: Env) -> None:
        """Give a call the arrays that the function closes over."""
        for var, value in list(self.tree.consts.values()):
            if var not in env:
                if isinstance(value, Tracer):
                    raise Undecided(self)
                self._constants[var] = env[var] = self._prepare(value)

    def step(self, node: Node, env: Env) -> bool:
        """Run a segment; return the truth of its test."""
        if node.program is None:
            defined = {v for eqn in node.eqns for v in eqn.outvars}
            gives = [v for v in dict.fromkeys([node.test, *node.alive]) if v in defined]
            node.program = self._segment(node.eqns, gives, ())  # type: ignore[arg-type]
        node.program.run(env, self._constants)
        outcome = bool(truth(env[node.test]))  # type: ignore[index]
        return outcome or (node.soft and True in node.children)

    def _segment(self, eqns: Sequence[Eqn], gives: Sequence[Var], donated: Any) -> _Segment:
        if not gives and not any(eqn.effects for eqn in eqns):
            return _Segment((), None, (), ())
        takes = free_variables(eqns, gives)
        places = [k for k, v in enumerate(takes) if v in donated]
        with use_trace(eval_trace), no_source():
            run, gone = self._compile(Jaxpr(takes, eqns, gives), places)
        return _Segment(takes, run, gives, [takes[k] for k in gone])

    def _complete(self, end: Node, env: Env) -> None:
        """Compile the last segment of a path."""
        self.add_constants(env)
        defined = {v for eqn in end.eqns for v in eqn.outvars}
        gives = [v for v in dict.fromkeys(end.outs) if v in defined]
        segment = self._segment(end.eqns, gives, self._donated)  # type: ignore[arg-type]
        end.program = segment, builder(end.out_tree)

    def _finish(self, end: Node, env: Env) -> Any:
        """Run the last segment of a path; return the results."""
        if end.program is None:  # another thread is about to complete it
            with self._growing:
                self._complete(end, env)
        self.last = end
        segment, build = end.program
        segment.run(env, self._constants)
        given = set(segment.gives)
        outs = [
            v.val if isinstance(v, Lit) else env[v] if v in given else _copy(env[v])
            for v in end.outs
        ]
        for v in segment.gone:
            delete(env[v], self._why_gone)
        return build(outs)

    def holds_tracers(self) -> bool:
        return False

    def path_to(self, end: Node) -> tuple[Jaxpr, Any]:
        """Return the path that ends with a node, as a program, and the structure of its results."""
        behind = {id(n): node for node in self.tree.nodes() for n in node.children.values()}
        way = [end]
        while id(way[0]) in behind:
            way.insert(0, behind[id(way[0])])
        eqns = [eqn for node in way for eqn in node.eqns]
        consts = list(self.tree.consts.values())
        constvars, values = [v for v, _ in consts], [x for _, x in consts]
        return Jaxpr(self.tree.invars, eqns, end.outs, constvars, values), end.out_tree

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
            for outcome, behind in sorted(node.children.items()):  # the last one comes first
                waiting.append((behind, (*way, f"{outcome} at {node.source}")))
        return tuple(found)
