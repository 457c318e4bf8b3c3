"""A stand-in for libcuda, as far as graphs with conditional nodes go; it holds to their rules.

One stream is captured at a time, never the default one; nodes depend on nodes of their graph, and
here on the one before; a condition belongs to the graph of its one node, and must be set before the
node comes, and anew by each turn of a loop. Graphs inside hold what is allowed there.
"""

import ctypes
import itertools

import numpy as np
from fake_cupy import cuda, memory_at

_numbers = itertools.count(1000)
_graphs, _nodes, _handles, _made = {}, {}, {}, {}
_MOST = 10_000  # turns of a loop


class _Graph:
    def __init__(self, inside=False):
        self.number, self.nodes, self.inside = next(_numbers), [], inside
        _graphs[self.number] = self

    def add(self, action):
        number = next(_numbers)
        _nodes[number] = self
        self.nodes.append((number, action))
        return number

    def run(self):
        for _, action in self.nodes:
            action()


class _Handle:
    def __init__(self, graph):
        self.graph, self.value, self.used = graph, None, False

    def take(self):
        assert self.value is not None, "a condition that nothing has set"
        value, self.value = self.value, None
        return value


def run(name, args):
    """Do what a kernel of `conditional.TEXT` does."""
    if name == "count_to":
        count, holds, last = args
        number = np.ndarray((), np.int32, memory_at(int(count), 4))
        number += 1
        np.ndarray((), np.uint8, memory_at(int(holds), 1))[...] = number < last
        return
    handle, address, *rest = args
    if name == "goes_on":
        value = memory_at(int(address), 1)[0] != 0
    else:
        size, number, count = map(int, rest)
        cuda.region(int(address))
        at = int(np.ndarray((), f"i{size}", memory_at(int(address), size)))
        value = (at if 0 <= at < count else count - 1) == number
    _handles[int(handle)].value = value


def _plain(x):
    return getattr(x, "value", x) or 0


class _Call:
    """A function: it checks its arguments' types, and puts results where it is told."""

    def __init__(self, method):
        self.method = method

    def __call__(self, *args):
        assert len(args) == len(self.argtypes), self.method
        for x, kind in zip(args, self.argtypes, strict=True):
            kind.from_param(x)
        return self.method(*args) or 0


class FakeCuda:
    """The library."""

    def __init__(self):
        self.captured = None
        for name in dir(type(self)):
            if name.startswith("_cu"):
                setattr(self, name[1:], _Call(getattr(self, name)))

    def _cuGetErrorName(self, status, out):
        out._obj.value = {801: b"CUDA_ERROR_NOT_SUPPORTED"}.get(status, b"CUDA_ERROR_INVALID_VALUE")

    def _cuCtxGetCurrent(self, out):
        out._obj.value = 5

    def _cuGraphCreate(self, out, flags):
        assert flags == 0
        out._obj.value = _Graph().number

    def _cuGraphDestroy(self, graph):
        del _graphs[_plain(graph)]

    def _cuStreamBeginCaptureToGraph(self, stream, graph, nodes, data, count, mode):
        assert stream, "the default stream cannot be captured"
        assert not cuda._capturing, "two captures at once"
        assert data is None
        assert mode in (0, 1, 2)
        self.captured = _graphs[_plain(graph)]
        self._check_after(self.captured, nodes, count)
        cuda._capturing, cuda._captured = stream, []
        cuda.calls.append(("begin_capture",))

    def _check_after(self, graph, nodes, count):
        found = [nodes[k] for k in range(count)]
        assert all(_nodes[n] is graph for n in found), "a node of another graph"
        assert found == [n for n, _ in graph.nodes[-1:]], "it must come after the last node"

    def _cuStreamGetCaptureInfo_v2(self, stream, status, number, graph, nodes, count):
        assert stream == cuda._capturing
        for action in cuda._captured:
            self.captured.add(action)
        cuda._captured = []
        last = [n for n, _ in self.captured.nodes[-1:]]
        status._obj.value, count._obj.value = 1, len(last)
        self.held = (ctypes.c_void_p * 1)(*last)
        nodes._obj.contents = ctypes.c_void_p.from_buffer(self.held)

    def _cuStreamEndCapture(self, stream, out):
        assert stream == cuda._capturing
        assert not cuda._captured, "what was captured after the last question"
        cuda._capturing = 0
        cuda.calls.append(("end_capture", len(self.captured.nodes)))
        out._obj.value = self.captured.number

    def _cuGraphConditionalHandleCreate(self, out, graph, context, default, flags):
        assert not cuda._capturing
        assert (_plain(context), default, flags) == (5, 0, 0)
        number = next(_numbers)
        _handles[number] = _Handle(_graphs[_plain(graph)])
        out._obj.value = number

    def _cuGraphAddNode(self, out, graph, nodes, count, params):
        graph, params = _graphs[_plain(graph)], params._obj
        self._check_after(graph, nodes, count)
        held = params.conditional
        handle, kind = _handles[held.handle], held.type
        assert (params.type, held.size, held.context) == (13, 1, 5)
        assert kind in (0, 1)
        assert handle.graph is graph, "a condition of another graph"
        assert not handle.used, "a condition of two nodes"
        handle.used, inside = True, _Graph(inside=True)
        self.arrays = [*getattr(self, "arrays", []), (ctypes.c_void_p * 1)(inside.number)]
        held.graphs = ctypes.cast(self.arrays[-1], type(held.graphs))

        def once():
            if handle.take():
                inside.run()

        def loop():
            for _ in range(_MOST):
                if not handle.take():
                    return
                inside.run()
            raise AssertionError("a loop without an end")

        out._obj.value = graph.add(loop if kind else once)

    def _cuGraphInstantiateWithFlags(self, out, graph, flags):
        assert flags == 0
        assert not cuda._capturing
        number = next(_numbers)
        _made[number] = _graphs[_plain(graph)]
        out._obj.value = number

    def _cuGraphExecDestroy(self, made):
        del _made[_plain(made)]

    def _cuGraphLaunch(self, made, stream):
        graph = _made[_plain(made)]
        cuda.calls.append(("graph", len(graph.nodes)))
        graph.run()
