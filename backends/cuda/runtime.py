"""Programs on a GPU: compiled once, then a list of launches on the addresses of each call.

Whatever has no control flow that the host decides is captured into a graph the second time that it
runs on the same addresses, and replayed from then on; CuPy's pool of memory gives a training loop
the same few addresses again and again.
"""

from __future__ import annotations

import functools
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence, Set
from operator import itemgetter
from typing import Any

import numpy as np

from funtorch.config import config
from funtorch.core import eval_trace, primitives, use_trace
from funtorch.hardware import Device
from funtorch.jaxpr import Jaxpr
from funtorch.placement import SYNC, DeviceArray, array_of, buffer_of, largest_arrays, on_gpu

from ..fuse import fuse
from ..layout import lay_out
from ..memory import Memory, memory_of
from . import turns
from .code import module_text
from .conditional import Builder, Conditional
from .driver import Driver, driver_of
from .gemm import GPU_PRODUCTS
from .instructions import (
    At,
    Carry,
    Choose,
    Clear,
    Copy,
    Instruction,
    LaunchPlan,
    Product,
    Repeat,
    Rule,
    Run,
    Until,
    count_of,
    each,
    registers_of,
)
from .nvrtc import NvrtcError
from .program import VECTOR, launch_plan
from .rooms import Rooms

__all__ = ["compile_for", "plan_for"]

Registers = list[int]
Action = Callable[[Registers], None]

_MOST_GRAPHS = 16  # of one program: sets of addresses
_LEAST_NODES = 2


def plan_for(jaxpr: Jaxpr, donated: frozenset[int] = frozenset()) -> tuple[LaunchPlan, Memory]:
    """Return what a simplified program asks of a GPU, and what memory it needs."""
    with use_trace(eval_trace):
        together = 1 << 8  # larger ones are one launch where they are equal
        plan = fuse(jaxpr, epilogues=False, together=together, machine=GPU_PRODUCTS)
        layout = lay_out(plan, donated, cells=False)
        if config.debug >= 3:
            print(plan, layout, sep="\n", file=sys.stderr)
        made = launch_plan(plan, layout)
    return made, memory_of(layout, made.arena)


def compile_for(
    device: Device, jaxpr: Jaxpr, donated: frozenset[int] = frozenset()
) -> Callable[[Sequence[Any]], list[Any]]:
    """Return a function from a jaxpr's input buffers to its output buffers, on a GPU.

    Args:
        device: the GPU.
        jaxpr: the program, simplified.
        donated: positions of the inputs whose memory may be reused for outputs.

    Returns:
        the function; it has ``memory``, what its runs need.
    """
    start = time.perf_counter()
    plan, memory = plan_for(jaxpr, donated)
    if config.debug >= 3:
        print(plan, file=sys.stderr)
    driver = driver_of(device)
    with on_gpu(device, "jit"):
        program = _Program(driver, jaxpr, plan, memory)
    if config.debug >= 1:
        print(
            f"compiled {len(jaxpr.eqns)} equations for {device}: {len(plan.codes)} kernels, "
            f"{count_of(plan.instructions)} launches, in {time.perf_counter() - start:.3f} s",
            file=sys.stderr,
        )
    return program


class _Program:
    """A compiled program."""

    def __init__(self, driver: Driver, jaxpr: Jaxpr, plan: LaunchPlan, memory: Memory) -> None:
        self.driver, self.plan, self.memory = driver, plan, memory
        text = module_text(plan.codes)
        try:
            self.launches = driver.kernels(plan, text)
        except NvrtcError as error:
            raise NvrtcError(f"{error}{_whose(plan, str(error))}") from None
        self.consts = [DeviceArray(self._there(c)) for c in jaxpr.consts]
        self.constants = driver.upload(plan.constants)
        self.constants_at = self.constants.data.ptr
        self.count = len(self.consts) + len(jaxpr.invars)
        self.fresh = [(v.aval.shape, np.dtype(v.aval.dtype)) for v in jaxpr.outvars]
        self.given = dict(plan.pairs)
        self.rooms = Rooms(driver, self.fresh, list(self.given), plan.arena)
        self.spare = [0] * (plan.registers - self.count - len(self.fresh) - 2)
        self.actions = self._segments(plan.instructions)
        self.owner: Any = None  # what keeps the memory of the present run
        with driver.lock:
            driver.follow()  # runs on other streams wait for the constants

    def _there(self, x: Any) -> Any:
        """Return a constant's buffer on the GPU."""
        buffer = buffer_of(x)
        return self.driver.cupy.asarray(buffer) if isinstance(buffer, np.ndarray) else buffer

    # ---------------------------------------------------------------- a call
    def __call__(self, args: Sequence[Any]) -> list[Any]:
        return self._run(list(map(DeviceArray, args)), _IN_LISTS)[0]

    def on_arrays(self, args: Sequence[DeviceArray]) -> tuple[list[Any], list[int]]:
        """Return buffers of the results and their addresses, given arrays on this GPU."""
        return self._run(args, _ALONE)

    def _run(self, args: Sequence[DeviceArray], holders: int) -> tuple[list[Any], list[int]]:
        """Run; of a donated buffer nobody but ``holders`` may know."""
        driver, given = self.driver, self.given
        arrays = [*self.consts, *args]
        if len(arrays) != self.count:
            raise TypeError(
                f"the program takes {self.count - len(self.consts)} arrays, got {len(args)}"
            )
        with driver.lock, driver.here():
            driver.follow()
            try:
                for i in given.values():
                    arrays[i] = _exclusive(arrays[i], holders)
                addresses = [x._address for x in arrays]
                if 0 in addresses:
                    arrays = [x if x._address else self._plain(x) for x in arrays]
                    addresses = [x._address for x in arrays]
                taken = self.rooms.take()
                for j, i in given.items():
                    x = arrays[i]._buffer
                    same = (x.shape, x.dtype) == self.fresh[j]
                    taken.outs[j] = x if same else _seen_as(x, self.fresh[j])
                    taken.addresses[j] = taken.places[j] = addresses[i]
                r = [*addresses, *taken.addresses, taken.where, self.constants_at, *self.spare]
                self.owner = arrays, taken
                for action in self.actions:
                    action(r)
            except driver.cupy.cuda.memory.OutOfMemoryError as error:
                text = f"{error}; the program needs {self.memory}\n{largest_arrays()}"
                raise MemoryError(text) from None
            finally:
                self.owner = None
            for target, source, size, _ in taken.copies:
                driver.copy(target, source, size)
        return taken.outs, taken.places

    def _plain(self, x: DeviceArray) -> DeviceArray:
        """Return an input as kernels read it: row-major, and aligned."""
        buffer = x._buffer
        if not buffer.flags.c_contiguous or buffer.data.ptr % VECTOR:
            x = DeviceArray(self.driver.cupy.array(buffer, order="C"))
        x._address = x._buffer.data.ptr
        return x

    # ---------------------------------------------------------------- the list as functions
    def _segments(
        self, instructions: Sequence[Instruction], moving: Set[int] = frozenset()
    ) -> list[Action]:
        """Return the functions that do a list; neighbours that can be captured become one.

        Args:
            instructions: the list.
            moving: registers that have another value each time: what uses them is not captured.
        """
        found: list[Action] = []
        run: list[Instruction] = []
        nodes = 0
        decided = any(isinstance(x, (Until, Choose)) for x in each(instructions))
        alone = decided and not SYNC and not isinstance(self.driver.conditional, str)

        def close() -> None:
            nonlocal run, nodes
            actions = [self._bind(x) for x in run]
            captured = nodes >= _LEAST_NODES and not SYNC
            if captured and count_of(run) is None:
                write = functools.partial(self._write, instructions=tuple(run))
                found.append(_Graphed(self.driver, registers_of(run), actions, write))
            elif captured:
                found.append(_Graphed(self.driver, registers_of(run), actions))
            else:
                found.extend(actions)
            run, nodes = [], 0

        for x in instructions:
            count = count_of([x], alone) if moving.isdisjoint(registers_of([x])) else None
            if count is None or nodes + count > turns.MOST_NODES:
                close()
            if isinstance(x, Repeat) and (count is None or count > turns.MOST_NODES):
                body = self._segments(x.body, {s.register for s in x.slices})
                found.append(self._repeat(x, body))
            elif count is None or count > turns.MOST_NODES:
                found.append(self._bind(x))
            else:
                run.append(x)
                nodes += count
        close()
        return found

    def _bind(self, x: Instruction) -> Action:
        """Return the function that does one instruction."""
        if not SYNC or isinstance(x, (Repeat, Until, Choose)):
            return self._action(x)
        action = self._action(x)

        def checked(r: Registers) -> None:
            try:
                action(r)
                self.driver.synchronize()
            except MemoryError:
                raise
            except Exception as error:
                where = f", for {x.source}" if x.source else ""
                raise RuntimeError(
                    f"the GPU failed in the instruction: {x}{where}: {error}"
                ) from error

        return checked

    def _action(self, x: Instruction) -> Action:
        driver = self.driver
        if isinstance(x, Run):
            launch, prepare = self.launches[x.code]
            places = [(at.base, at.offset) for at in x.args]
            if x.asked and (library := driver.asked(x.asked)):

                def run(r: Registers) -> None:
                    addresses = [r[b] + o for b, o in places]
                    prepare(addresses)
                    library(addresses)

                return run
            return lambda r: launch([r[b] + o for b, o in places])
        if isinstance(x, Copy):
            (t, to), (s, so), n = _place(x.target), _place(x.origin), x.nbytes

            def copy(r: Registers) -> None:
                if r[t] + to != r[s] + so:
                    driver.copy(r[t] + to, r[s] + so, n)

            return copy
        if isinstance(x, Clear):
            (t, to), n = _place(x.target), x.nbytes
            return lambda r: driver.clear(r[t] + to, n)
        if isinstance(x, Product):
            multiply = driver.product(x.gemm)
            (a, ao), (b, bo), (c, co) = map(_place, (x.a, x.b, x.out))
            return lambda r: multiply(r[a] + ao, r[b] + bo, r[c] + co)
        if isinstance(x, Rule):
            return self._rule(x)
        if isinstance(x, Repeat):
            return self._repeat(x, [self._bind(y) for y in x.body])
        return self._until(x) if isinstance(x, Until) else self._choose(x)

    def _rule(self, x: Rule) -> Action:
        """Return the function that runs an eager rule, and copies its results to their places."""
        prim, driver = primitives[x.name], self.driver

        def run(r: Registers) -> None:
            def array(at: At, shape: tuple[int, ...], dtype: np.dtype) -> Any:
                return driver.array(r[at.base] + at.offset, shape, dtype, self.owner)

            given = [array_of(array(*where)) for where in x.ins]
            with use_trace(eval_trace):
                found = prim.bind(*given, **x.params)
            results = found if prim.multiple_results else [found]
            for where, result in zip(x.outs, results, strict=True):
                target = array(*where)
                target[...] = driver.cupy.asarray(buffer_of(result)).reshape(where[1])

        return run

    # ---------------------------------------------------------------- graphs that decide
    def _write(self, b: Builder, instructions: Sequence[Instruction], r: Registers) -> None:
        """Write a list into a graph whose loops and branches the GPU decides about."""
        waiting: list[Callable[[], None]] = []

        def flush() -> None:
            if waiting:
                b.work(waiting)
                waiting.clear()

        for x in instructions:
            if count_of([x]) is not None:
                waiting.append(functools.partial(self._bind(x), r))
                continue
            flush()
            if isinstance(x, Choose):
                place = r[x.index.base] + x.index.offset
                writes = [
                    functools.partial(self._write, instructions=branch, r=r)
                    for branch in x.branches
                ]
                b.branches(place, x.dtype.itemsize, writes)
            elif isinstance(x, Until):
                self._write_until(x, b, r)
            elif isinstance(x, Repeat):
                self._write_repeat(x, b, r)
        flush()

    def _write_until(self, x: Until, b: Builder, r: Registers) -> None:
        begin, _, end = _carried(self.driver, x.carries, None)
        moved = [(c.old, c.new, c.nbytes) for c in x.carries if c.old != c.new and c.nbytes]
        b.work([functools.partial(begin, r)])
        self._write(b, x.cond, r)

        def body(inner: Builder) -> None:
            self._write(inner, x.body, r)
            # All turns are one graph, so the next value goes where the last one was.
            copy = self.driver.copy
            inner.work([functools.partial(copy, r[old], r[new], n) for old, new, n in moved])
            self._write(inner, x.cond, r)

        b.loop(r[x.holds.base] + x.holds.offset, body)
        b.work([functools.partial(end, r)])

    def _write_repeat(self, x: Repeat, b: Builder, r: Registers) -> None:
        begin, turn, end = _carried(self.driver, x.carries, x.length)
        b.work([functools.partial(begin, r)])
        for i in range(x.length - 1, -1, -1) if x.reverse else range(x.length):
            for s in x.slices:
                r[s.register] = r[s.start.base] + s.start.offset + i * s.stride
            self._write(b, x.body, r)
            turn(r)
        b.work([functools.partial(end, r)])

    def _repeat(self, x: Repeat, body: Sequence[Action]) -> Action:
        begin, turn, end = _carried(self.driver, x.carries, x.length)
        slices = [(s.register, *_place(s.start), s.stride) for s in x.slices]
        steps = range(x.length - 1, -1, -1) if x.reverse else range(x.length)

        def run(r: Registers) -> None:
            begin(r)
            for i in steps:
                for register, base, offset, stride in slices:
                    r[register] = r[base] + offset + i * stride
                for action in body:
                    action(r)
                turn(r)
            end(r)

        return run

    def _until(self, x: Until) -> Action:
        cond, body = self._segments(x.cond), self._segments(x.body)
        begin, turn, end = _carried(self.driver, x.carries, None)
        read, (base, offset) = self.driver.read, _place(x.holds)
        flag = np.dtype(bool)

        def run(r: Registers) -> None:
            begin(r)
            while True:
                for action in cond:
                    action(r)
                if not read(r[base] + offset, flag):
                    break
                for action in body:
                    action(r)
                turn(r)
            end(r)

        return run

    def _choose(self, x: Choose) -> Action:
        branches = [self._segments(b) for b in x.branches]
        read, (base, offset) = self.driver.read, _place(x.index)

        def run(r: Registers) -> None:
            index = int(read(r[base] + offset, x.dtype))
            inside = index if 0 <= index < len(branches) else len(branches) - 1
            for action in branches[inside]:
                action(r)

        return run


_ALONE = 2  # references to a donated buffer: its Array's, of the asking
_IN_LISTS = 4  # and of a list, and of an Array that is made for the call


def _whose(plan: LaunchPlan, said: str) -> str:
    """Return which lines the kernels are for that NVRTC's messages name."""
    names = set(re.findall(r"\bk(\d+)(?=_|\()", said))
    lines = {
        f"  k{x.code} is for {x.source}"
        for x in each(plan.instructions)
        if isinstance(x, Run) and x.source and str(x.code) in names
    }
    return "\n".join(["", *sorted(lines)])


def _exclusive(x: DeviceArray, holders: int) -> DeviceArray:
    """Return a donated array if nobody else can see its memory, else a copy."""
    if sys.getrefcount(x._buffer) <= holders and x._buffer.base is None:
        return x
    return DeviceArray(x._buffer.copy())


def _place(at: At) -> tuple[int, int]:
    return at.base, at.offset


def _seen_as(x: Any, wanted: tuple[tuple[int, ...], np.dtype]) -> Any:
    """Return memory as an array of another shape or dtype."""
    shape, dtype = wanted
    return x.view(dtype).reshape(shape)


def _carried(
    driver: Driver, carries: Sequence[Carry], turns: int | None
) -> tuple[Action, Action, Action]:
    """Return what a loop does with its carries before it, after each step, and at its end."""
    plain = [(c, _place(c.init), _place(c.home)) for c in carries]
    swapped = [(c.old, c.new) for c in carries if c.old != c.new]

    def begin(r: Registers) -> None:
        # Where it is known how often they take turns, the last value comes to lie at home.
        odd = turns is not None and turns % 2
        for c, (i, io), (h, ho) in plain:
            init, home = r[i] + io, r[h] + ho
            first, second = home, home
            if c.old != c.new and c.spare is not None:
                spare = r[c.spare.base] + c.spare.offset
                first, second = (spare, home) if odd else (home, spare)
            if first != init and c.nbytes:
                driver.copy(first, init, c.nbytes)
            r[c.old] = first
            if c.new != c.old:
                r[c.new] = second

    def turn(r: Registers) -> None:
        for old, new in swapped:
            r[old], r[new] = r[new], r[old]

    def end(r: Registers) -> None:
        for c, _, (h, ho) in plain:
            if r[c.old] != r[h] + ho and c.nbytes:
                driver.copy(r[h] + ho, r[c.old], c.nbytes)

    return begin, turn, end


class _Graphed:
    """Neighbouring actions without decisions: done one by one at first, then as a graph.

    Args:
        driver: of the GPU.
        used: the registers that decide what is done.
        actions: what is done.
        write: writes it into a graph, where the GPU decides about loops and branches.
    """

    def __init__(
        self,
        driver: Driver,
        used: Sequence[int],
        actions: Sequence[Action],
        write: Callable[..., None] | None = None,
    ) -> None:
        self.driver, self.actions, self.write = driver, actions, write
        self.key = itemgetter(*used) if used else len
        self.graphs: OrderedDict[Any, Any] = OrderedDict()

    def __call__(self, r: Registers) -> None:
        key = self.key(r)
        graph = self.graphs.get(key)
        if self.driver.uncaptured or (
            self.write is not None and isinstance(self.driver.conditional, str)
        ):
            self._run(r)  # the host decides
        elif graph is None:
            self.graphs[key] = _SEEN
            if len(self.graphs) > _MOST_GRAPHS:
                self.graphs.popitem(last=False)
            self._run(r)
        elif graph is _SEEN:
            self._first(key, r)
        else:
            self.graphs.move_to_end(key)
            self.driver.replay(graph)

    def _first(self, key: Any, r: Registers) -> None:
        """Make the graph, and do its work."""
        driver, graph = self.driver, None
        conditional = driver.conditional if self.write is not None else None
        if isinstance(conditional, Conditional) and self.write is not None:
            try:
                graph = conditional.built(functools.partial(self.write, r=list(r)))
            except RuntimeError as error:  # what a trial does not show: the host decides again
                driver.conditional = f"a program's graph could not be made: {error}"
                self._run(r)
                return
        else:
            try:
                with driver.captured() as found:
                    self._run(list(r))
            except RuntimeError as error:
                driver.give_up(error)
                self._run(r)
                return
            graph = found[0]
        self.graphs[key] = graph
        driver.replay(graph)

    def _run(self, r: Registers) -> None:
        for action in self.actions:
            action(r)


_SEEN = object()  # stands for a graph that the next run on these addresses makes
