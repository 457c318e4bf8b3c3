"""Graphs with conditional nodes: loops and branches that the GPU decides about by itself.

A graph is written piece by piece: work is captured from a stream to the graph, after what is there
already; then comes a node that has a graph inside, whose handle a kernel set before. Only one
capture is under way at a time. CuPy does not know these nodes, so libcuda is called through ctypes.

Whether all of this works is tried once, on a loop and a branch whose results are known
(`self_test`); programs go through the host where it does not.

References:
    CUDA Driver API 12.9, Graph Management: cuGraphConditionalHandleCreate, cuGraphAddNode,
    CUgraphNodeParams, CUDA_CONDITIONAL_NODE_PARAMS; Stream Management: cuStreamBeginCaptureToGraph.
    A function ``cudaGraphSetConditional`` that PTX declares is found by the driver.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import nvrtc

__all__ = ["Builder", "Conditional", "Graph", "load_cuda"]

SINCE = 12040
"""The version of CUDA from which on drivers have conditional nodes of both kinds."""

_IF, _WHILE = 0, 1
_NODE = 13  # CU_GRAPH_NODE_TYPE_CONDITIONAL
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED, as CuPy has it

TEXT = """
extern "C" __device__ void cudaGraphSetConditional(unsigned long long handle, unsigned int value);

extern "C" __global__ void goes_on(unsigned long long handle, const unsigned char* holds) {
  cudaGraphSetConditional(handle, *holds != 0);
}

extern "C" __global__ void is_branch(unsigned long long handle, const unsigned char* index,
                                     int size, int number, int count) {
  long long at = size == 1 ? *(const signed char*)index
      : size == 2 ? *(const short*)index
      : size == 4 ? *(const int*)index : *(const long long*)index;
  if (at < 0 || at >= count) at = count - 1;
  cudaGraphSetConditional(handle, at == number);
}

extern "C" __global__ void count_to(int* count, unsigned char* holds, int last) {
  *count = *count + 1;
  *holds = *count < last;
}
"""
"""What sets the conditions, and what the trial counts with."""


class _Conditional(ctypes.Structure):
    _fields_ = (
        ("handle", ctypes.c_uint64),
        ("type", ctypes.c_int),
        ("size", ctypes.c_uint),
        ("graphs", ctypes.POINTER(ctypes.c_void_p)),
        ("context", ctypes.c_void_p),
    )


class _Inside(ctypes.Union):
    _fields_ = (("reserved1", ctypes.c_longlong * 29), ("conditional", _Conditional))


class NodeParams(ctypes.Structure):
    """CUgraphNodeParams, as far as it is about conditional nodes."""

    _anonymous_ = ("inside",)
    _fields_ = (
        ("type", ctypes.c_int),
        ("reserved0", ctypes.c_int * 3),
        ("inside", _Inside),
        ("reserved2", ctypes.c_longlong),
    )


_P, _Z, _U = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
_OUT, _LIST = ctypes.POINTER(_P), ctypes.POINTER(_P)
SIGNATURES = {
    "cuCtxGetCurrent": (_OUT,),
    "cuGetErrorName": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    "cuGraphCreate": (_OUT, _U),
    "cuGraphDestroy": (_P,),
    "cuGraphInstantiateWithFlags": (_OUT, _P, ctypes.c_ulonglong),
    "cuGraphExecDestroy": (_P,),
    "cuGraphLaunch": (_P, _P),
    "cuGraphAddNode": (_OUT, _P, _LIST, _Z, ctypes.POINTER(NodeParams)),
    "cuGraphConditionalHandleCreate": (ctypes.POINTER(ctypes.c_uint64), _P, _P, _U, _U),
    "cuStreamBeginCaptureToGraph": (_P, _P, _LIST, _P, _Z, ctypes.c_int),
    "cuStreamGetCaptureInfo_v2": (
        _P, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_uint64), _OUT,
        ctypes.POINTER(_LIST), ctypes.POINTER(_Z),
    ),
    "cuStreamEndCapture": (_P, _OUT),
}  # fmt: skip
"""The functions of libcuda that are called, with the types of their arguments."""


def load_cuda() -> Any:
    """Return the driver's library.

    Raises:
        OSError: it is not there.
    """
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


class Conditional:
    """Conditional nodes on one GPU.

    Args:
        driver: of the GPU.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        version = int(driver.runtime.driverGetVersion())
        if version < SINCE:
            shown = f"{version // 1000}.{version % 1000 // 10}"
            raise RuntimeError(f"the driver is for CUDA {shown}; conditional nodes came with 12.4")
        self.library = load_cuda()
        for name, kinds in SIGNATURES.items():
            getattr(self.library, name).argtypes = kinds
        module = driver.cupy.cuda.Module()
        module.load(nvrtc.compile_ptx(TEXT))
        names = ("goes_on", "is_branch", "count_to")
        self.goes_on, self.is_branch, self.count_to = map(module.get_function, names)

    def call(self, name: str, *args: Any) -> None:
        """Call a function of the driver; what it reports is an error."""
        status = getattr(self.library, name)(*args)
        if status:
            said = ctypes.c_char_p()
            self.library.cuGetErrorName(status, ctypes.byref(said))
            raise RuntimeError(f"{name}: {(said.value or b'CUDA error').decode()} ({status})")

    def built(self, write: Callable[[Builder], None]) -> Graph:
        """Return the graph that a function writes."""
        graph, made = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuGraphCreate", ctypes.byref(graph), 0)
        try:
            write(Builder(self, graph))
            self.call("cuGraphInstantiateWithFlags", ctypes.byref(made), graph, 0)
        except BaseException:
            self.library.cuGraphDestroy(graph)
            raise
        return Graph(self, graph, made)

    def self_test(self) -> None:
        """Run a loop of five turns and a branch of three.

        Raises:
            RuntimeError: they did not do what they must.
        """
        xp = self.driver.cupy
        counts, holds = xp.asarray(np.zeros(5, np.int32)), xp.asarray(np.ones(8, np.uint8))
        counts[4] = 1  # the branch to take
        at, flag = counts.data.ptr, holds.data.ptr

        def count(b: Builder, which: int, last: int) -> None:
            b.launch(self.count_to, at + 4 * which, flag + which, np.int32(last))

        def body(b: Builder) -> None:
            count(b, 0, 5)

        def branch(which: int) -> Callable[[Builder], None]:
            return lambda b: count(b, which, 1)

        def write(b: Builder) -> None:
            b.loop(flag, body)
            b.branches(at + 16, 4, [branch(k) for k in (1, 2, 3)])

        graph = self.built(write)
        for k in (1, 2):
            holds[0] = 1
            counts[0] = 0
            graph.launch()
            self.driver.synchronize()
            found = counts.get().tolist()
            if found != [5, 0, k, 0, 1]:
                raise RuntimeError(f"a loop and a branch that were tried counted to {found}")


class Graph:
    """A graph that can be launched; what it was made of lives as long, for its conditions do."""

    def __init__(
        self, conditional: Conditional, graph: ctypes.c_void_p, made: ctypes.c_void_p
    ) -> None:
        self.conditional, self.graph, self.made = conditional, graph, made

    def launch(self) -> None:
        """Do the graph's work on the current stream."""
        self.conditional.call("cuGraphLaunch", self.made, self.conditional.driver.current.ptr)

    def __del__(self) -> None:
        self.conditional.library.cuGraphExecDestroy(self.made)
        self.conditional.library.cuGraphDestroy(self.graph)


class Builder:
    """Writes a graph, one thing after the other."""

    def __init__(self, conditional: Conditional, graph: ctypes.c_void_p) -> None:
        self.conditional, self.graph = conditional, graph
        self.last: list[int] = []  # the nodes that whatever comes next waits for

    def _after(self) -> tuple[Any, int]:
        return (ctypes.c_void_p * max(len(self.last), 1))(*self.last), len(self.last)

    def work(self, actions: Sequence[Callable[[], None]]) -> None:
        """Write down what functions ask of the GPU."""
        call, driver = self.conditional.call, self.conditional.driver
        stream = driver.capturing.ptr
        nodes, count = self._after()
        with driver.capturing_to():
            call("cuStreamBeginCaptureToGraph", stream, self.graph, nodes, None, count, _RELAXED)
            try:
                for action in actions:
                    action()
                self.last = self._captured(stream)
            finally:
                call("cuStreamEndCapture", stream, ctypes.byref(ctypes.c_void_p()))

    def _captured(self, stream: int) -> list[int]:
        """Return the nodes that the next work on a stream that is captured would wait for."""
        status, number, graph = ctypes.c_int(), ctypes.c_uint64(), ctypes.c_void_p()
        nodes, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_size_t()
        self.conditional.call(
            "cuStreamGetCaptureInfo_v2", stream, *map(ctypes.byref, (status, number, graph, nodes)),
            ctypes.byref(count),
        )  # fmt: skip
        return [int(nodes[k]) for k in range(count.value)]  # type: ignore[arg-type]

    def launch(self, function: Any, *args: Any) -> None:
        """Write the launch of one thread."""
        driver = self.conditional.driver
        self.work([lambda: function((1, 1, 1), (1, 1, 1), args, stream=driver.current)])

    def handle(self) -> int:
        """Return a new condition of this graph."""
        made, context = ctypes.c_uint64(), ctypes.c_void_p()
        self.conditional.call("cuCtxGetCurrent", ctypes.byref(context))
        self.conditional.call(
            "cuGraphConditionalHandleCreate", ctypes.byref(made), self.graph, context, 0, 0
        )
        return made.value

    def node(self, kind: int, handle: int) -> Builder:
        """Write a node that depends on a condition; return what writes the graph inside."""
        params = NodeParams(type=_NODE)
        params.conditional.handle, params.conditional.type = handle, kind
        params.conditional.size = 1
        context, made = ctypes.c_void_p(), ctypes.c_void_p()
        self.conditional.call("cuCtxGetCurrent", ctypes.byref(context))
        params.conditional.context = context
        nodes, count = self._after()
        self.conditional.call(
            "cuGraphAddNode", ctypes.byref(made), self.graph, nodes, count, ctypes.byref(params)
        )
        self.last = [int(made.value or 0)]
        return Builder(self.conditional, ctypes.c_void_p(params.conditional.graphs[0]))

    def loop(self, holds: int, body: Callable[[Builder], None]) -> None:
        """Write a loop that goes on while the byte at an address is not 0.

        Args:
            holds: the address; the byte is there before the loop, and the body writes it again.
            body: writes a turn.
        """
        handle, goes_on = self.handle(), self.conditional.goes_on
        self.launch(goes_on, np.uint64(handle), np.uint64(holds))
        inner = self.node(_WHILE, handle)
        body(inner)
        inner.launch(goes_on, np.uint64(handle), np.uint64(holds))

    def branches(self, index: int, size: int, writes: Sequence[Callable[[Builder], None]]) -> None:
        """Write branches, of which the one is done whose number is at an address, or the last.

        Args:
            index: the address; ``size``: bytes of the integer there.
            writes: they write a branch each.
        """
        handles, count = [self.handle() for _ in writes], np.int32(len(writes))
        for k, handle in enumerate(handles):
            given = np.uint64(handle), np.uint64(index), np.int32(size), np.int32(k), count
            self.launch(self.conditional.is_branch, *given)
        for handle, write in zip(handles, writes, strict=True):
            write(self.node(_IF, handle))
