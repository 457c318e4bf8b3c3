"""A stand-in for CuPy, as strict as CuPy is, whose GPU is the memory of the CPU.

It has the names, loops of ufuncs and parameters that `cupy_names.json` says the real one has, and
no others. Its arrays refuse to become NumPy arrays by themselves, and to meet them. `cuda` records
what is asked of the driver in `calls`, and does it at once. Kernels are run by what a test gives
for `run_kernels`: CUDA's text is taken for its machine code.
"""

import ctypes
import json
import re
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np

NAMES = json.loads(Path(__file__).with_name("cupy_names.json").read_text(encoding="utf-8"))
BF16 = np.dtype(ml_dtypes.bfloat16)
_NUMBERS = (bool, int, float, complex, np.generic)
_LETTERS = {BF16: "E"}


class Refused(AssertionError):
    """What the real CuPy has not."""


def check_call(space, name, args, kwargs, method=False):
    """Check a call against the recorded parameters."""
    if name not in NAMES[space]:
        raise Refused(f"{space} has no {name}")
    params = NAMES[space][name].get("params")
    if params is None:
        return
    names, places, most = set(), 0, False
    keyword_only = False
    for text in params:
        if text == "/":
            continue
        if text == "*":
            keyword_only = True
            continue
        word = re.split(r"[:=]", text)[0].strip().split(" ")[-1]
        if word.startswith("**"):
            return
        if word.startswith("*"):
            most, keyword_only = True, True
            continue
        names.add(word)
        places += not keyword_only
    if not most and len(args) > places - method:
        raise Refused(f"{space}.{name} takes {places - method} positions, got {len(args)}")
    unknown = set(kwargs) - names
    if unknown:
        raise Refused(f"{space}.{name} has no parameters {sorted(unknown)}: {params}")


def plain(x):
    """Return what a fake array stands for, in sequences too; NumPy's arrays are refused."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, (list, tuple)):
        return type(x)([plain(v) for v in x])
    if isinstance(x, slice):
        return slice(*map(plain, (x.start, x.stop, x.step)))
    return x


def wrapped(x):
    """Return results as CuPy gives them: arrays, of rank 0 too."""
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray._of(np.asarray(x))
    if isinstance(x, (list, tuple)):
        return type(x)([wrapped(v) for v in x])
    return x


def _letter(dtype):
    return _LETTERS.get(dtype, dtype.char)


def check_loop(name, types, args):
    """Check that a ufunc has a loop that the arguments' dtypes convert to safely."""
    arrays = [a for a in args if isinstance(a, ndarray)]
    given = [a.dtype for a in arrays]
    for loop in types:
        ins = loop.split("->")[0]
        if len(ins) != len(args):
            continue
        wanted = [c for c, a in zip(ins, args, strict=True) if isinstance(a, ndarray)]
        if all(_fits(d, c) for d, c in zip(given, wanted, strict=True)):
            return
    raise TypeError(f"ufunc {name} not supported for the input types {given}")


def _fits(dtype, letter):
    if _letter(dtype) == letter:
        return True
    if "E" in (_letter(dtype), letter):
        return letter in "fdFD" and _letter(dtype) == "E"
    return np.can_cast(dtype, np.dtype(letter), "safe")


class ndarray:
    """An array of the GPU."""

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        dtype = np.dtype(dtype)
        if memptr is None:
            memptr = cuda.alloc(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        self._memory = memptr
        self._device = memptr.device_id
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        raw = memptr._bytes(count)
        self._a = np.ndarray(shape, dtype, raw)

    @classmethod
    def _of(cls, a):
        if a.base is None:  # it is no view: it needs memory of the GPU
            self = cls(a.shape, a.dtype)
            self._a[...] = a
            return self
        self = object.__new__(cls)
        self._a, self._memory, self._device = a, None, cuda._current
        self._keeps = cuda.owner(a.ctypes.data)
        return self

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or kwargs or not any(isinstance(x, np.generic) for x in inputs):
            raise Refused("a function of NumPy was called with an array of the GPU")
        return namespace._ufunc(ufunc.__name__, inputs, {})  # a NumPy number came first

    def __array_function__(self, *args, **kwargs):
        raise Refused("a function of NumPy was called with an array of the GPU")

    @property
    def __cuda_array_interface__(self):
        found = self._a.__array_interface__
        return {**found, "version": 3, "stream": 1}

    def __dlpack__(self, **options):
        return self._a.__dlpack__(**{k: v for k, v in options.items() if k != "stream"})

    def __dlpack_device__(self):
        return (2, self._device)

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    flags = property(lambda self: self._a.flags)
    device = property(lambda self: cuda.Device(self._device))
    base = property(lambda self: None if self._memory is not None else self)

    @property
    def T(self):
        return wrapped(self._a.T)

    @property
    def data(self):
        memory = self._memory
        return SimpleNamespace(
            ptr=self._a.ctypes.data, device_id=self._device, mem=memory and memory.mem
        )

    def _part(name):
        def get(self):
            return wrapped(getattr(self._a, name))

        def put(self, value):
            setattr(self._a, name, plain(value))

        return property(get, put)

    real, imag = _part("real"), _part("imag")

    def get(self, stream=None, order="C", out=None, blocking=True):
        cuda._check_capture("a copy to the host")
        cuda.calls.append(("get", self._a.nbytes, blocking))
        if out is None:
            return self._a.copy()
        out[...] = self._a
        return out

    def set(self, arr, stream=None):
        assert type(arr) is np.ndarray
        assert arr.dtype == self.dtype
        assert arr.shape == self.shape
        self._a[...] = arr

    def item(self):
        return self._a.item()

    def __getitem__(self, index):
        return wrapped(self._a[plain(index)])

    def __setitem__(self, index, value):
        self._a[plain(index)] = plain(value)

    def __len__(self):
        return len(self._a)

    def __bool__(self):
        return bool(self._a)

    def __int__(self):
        return int(self._a)

    def __float__(self):
        return float(self._a)

    __index__ = __int__

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and self.dtype == dtype:
            return self
        with np.errstate(all="ignore"):
            return wrapped(self._a.astype(dtype))

    def view(self, dtype=None, type=None):
        return wrapped(self._a.view(dtype))

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in NAMES["cupy.ndarray"]:
            raise Refused(f"cupy.ndarray has no {name}")

        def method(*args, **kwargs):
            check_call("cupy.ndarray", name, args, kwargs, method=True)
            with np.errstate(all="ignore"):
                out = getattr(self._a, name)(*map(plain, args), **_plain_options(kwargs))
            return wrapped(out)

        return method


def _plain_options(kwargs):
    return {k: plain(v) for k, v in kwargs.items()}


def _operator(name, ufunc, swapped):
    def method(self, other):
        if not isinstance(other, (ndarray, *_NUMBERS)):
            raise TypeError(f"Unsupported type {type(other)}")
        args = (other, self) if swapped else (self, other)
        return namespace._ufunc(ufunc, args, {})

    method.__name__ = name
    return method


_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
    "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "pow": "power", "floordiv": "floor_divide",
    "mod": "remainder", "lshift": "left_shift", "rshift": "right_shift",
}  # fmt: skip
for _name, _ufunc in _OPERATORS.items():
    setattr(ndarray, f"__{_name}__", _operator(_name, _ufunc, False))
    setattr(ndarray, f"__r{_name}__", _operator(_name, _ufunc, True))


def _in_place(name):
    def method(self, other):
        np.copyto(self._a, plain(getattr(self, f"__{name}__")(other)), casting="same_kind")
        return self

    return method


for _name in _OPERATORS:
    setattr(ndarray, f"__i{_name}__", _in_place(_name))
for _name, _ufunc in {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
    "ne": "not_equal",
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(_name, _ufunc, False))
for _name, _ufunc in {"neg": "negative", "invert": "invert", "abs": "absolute"}.items():
    setattr(
        ndarray, f"__{_name}__", lambda self, ufunc=_ufunc: namespace._ufunc(ufunc, (self,), {})
    )
ndarray.__hash__ = None


class Namespace:
    """One of CuPy's modules of functions."""

    def __init__(self, space, theirs):
        self._space, self._theirs = space, theirs
        self.used = set()

    def _ufunc(self, name, args, kwargs):
        types = NAMES["cupy"][name]["types"]
        unknown = set(kwargs) - {"out", "dtype", "casting"}
        if unknown:
            raise Refused(f"ufuncs of CuPy have no parameters {sorted(unknown)}")
        if not any(isinstance(a, ndarray) for a in args):
            raise Refused(f"cupy.{name} of no array")
        check_loop(name, types, args)
        with np.errstate(all="ignore"):
            out = getattr(np, name)(*map(plain, args), **_plain_options(kwargs))
        if out.dtype == BF16 or any(isinstance(a, ndarray) and a.dtype == BF16 for a in args):
            assert any("E" in t for t in types), name
        return wrapped(out)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in NAMES[self._space]:
            raise Refused(f"{self._space} has no {name}")
        self.used.add(name)
        theirs = getattr(self._theirs, name)
        if "types" in NAMES[self._space][name]:
            return lambda *args, **kwargs: self._ufunc(name, args, kwargs)
        if isinstance(theirs, type) or not callable(theirs):
            return theirs

        def function(*args, **kwargs):
            check_call(self._space, name, args, kwargs)
            with np.errstate(all="ignore"):
                return wrapped(theirs(*map(plain, args), **_plain_options(kwargs)))

        return function


class _Cupy(Namespace):
    """The module itself."""

    ndarray = ndarray
    __version__ = NAMES["version"]

    def asarray(self, a, dtype=None, order=None, *, copy=None, blocking=False):
        return self.array(a, dtype, copy=bool(copy))

    def array(self, obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
        if isinstance(obj, ndarray):
            same = dtype is None or obj.dtype == dtype
            return obj if same and not copy else obj.astype(dtype or obj.dtype)
        if hasattr(obj, "__cuda_array_interface__"):
            return obj._buffer if hasattr(obj, "_buffer") else _borrowed(obj)
        cuda._check_capture("a copy from the host")
        found = np.array(plain(obj) if not isinstance(obj, np.ndarray) else obj, dtype)
        out = ndarray(found.shape, found.dtype)
        out._a[...] = found
        cuda.calls.append(("set", found.nbytes))
        return out

    def asnumpy(self, a, stream=None, order="C", out=None, *, blocking=True):
        return a.get() if isinstance(a, ndarray) else np.asarray(a)

    def empty(self, shape, dtype=float, order="C"):
        return ndarray(shape, dtype)

    def from_dlpack(self, x):
        return wrapped(np.from_dlpack(_Lent(x)))


class _Lent:
    """An array of the fake GPU, as NumPy takes it."""

    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return (1, 0)


def _borrowed(x):
    found = dict(x.__cuda_array_interface__)
    holder = SimpleNamespace(__array_interface__={**found, "version": 3})
    return ndarray._of(np.asarray(holder))


# ---------------------------------------------------------------------------------------- cuda
def memory_at(address, size):
    return (ctypes.c_uint8 * max(size, 1)).from_address(address)


class _Memory:
    """A piece of memory, filled with what nobody expects."""

    def __init__(self, size, raw=None):
        self.held = np.empty(max(size, 1) + 512, np.uint8) if raw is None else raw
        self.held[:] = 0xA5
        self.raw = np.frombuffer(memory_at(self.held.ctypes.data, self.held.size), np.uint8)
        self.ptr = -(-self.held.ctypes.data // 256) * 256
        self.size = size
        cuda.memories[self.ptr] = self


class UnownedMemory:
    """Memory that somebody else keeps."""

    def __init__(self, ptr, size, owner, device_id=-1):
        held = (ctypes.c_uint8 * max(size, 1)).from_address(ptr)
        self.raw, self.ptr, self.size, self.owner = np.frombuffer(held, np.uint8), ptr, size, owner


class MemoryPointer:
    def __init__(self, mem, offset):
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, cuda._current

    def __add__(self, offset):
        return MemoryPointer(self.mem, self.ptr + offset - self.mem.ptr)

    def _bytes(self, count):
        first = self.ptr - self.mem.raw.ctypes.data
        assert first + count <= self.mem.raw.size
        return self.mem.raw[first : first + max(count, 1)]


class _CudaError(RuntimeError):
    pass


class _OutOfMemory(MemoryError):
    pass


class _Runtime:
    CUDARuntimeError = _CudaError
    memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice = 1, 2, 3
    streamCaptureModeRelaxed, streamCaptureModeThreadLocal = 2, 1

    def getDeviceProperties(self, device):
        return {"name": b"a GPU of tests", "multiProcessorCount": 4, "major": 9, "minor": 0}

    def getDeviceCount(self):
        return 2

    def driverGetVersion(self):
        return 12090

    runtimeGetVersion = driverGetVersion

    def memcpyAsync(self, dst, src, size, kind, stream):
        assert kind == self.memcpyDeviceToDevice or not cuda._capturing
        cuda._do(("memcpy", int(size)), lambda: ctypes.memmove(dst, src, size), stream)

    def memsetAsync(self, ptr, value, size, stream):
        cuda._do(("memset", int(size)), lambda: ctypes.memset(ptr, value, size), stream)


class Stream:
    null = None
    _count = 0

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        Stream._count += 1
        self.ptr = 0 if null else Stream._count

    def __enter__(self):
        cuda._streams.append(self)
        return self

    def __exit__(self, *exc):
        cuda._streams.pop()

    def synchronize(self):
        assert not cuda._capturing
        cuda.calls.append(("synchronize", self.ptr))

    def begin_capture(self, mode=None):
        assert self.ptr, "the default stream cannot be captured"
        assert not cuda._capturing
        cuda._capturing, cuda._captured = self.ptr, []
        cuda.calls.append(("begin_capture",))

    def end_capture(self):
        assert cuda._capturing == self.ptr
        graph, cuda._capturing = Graph(cuda._captured), 0
        cuda.calls.append(("end_capture", len(graph.nodes)))
        return graph

    def is_capturing(self):
        return cuda._capturing == self.ptr

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        assert event.recorded, "an event that nothing has recorded"
        cuda.calls.append(("wait", (cuda._current, self.ptr), event.recorded))


class Graph:
    def __init__(self, nodes):
        self.nodes = nodes

    def launch(self, stream=None):
        cuda.calls.append(("graph", len(self.nodes)))
        for node in self.nodes:
            node()

    def upload(self, stream=None):
        pass


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.recorded = None  # the GPU and the stream

    def record(self, stream=None):
        stream = stream or cuda.get_current_stream()
        self.recorded = cuda._current, stream.ptr
        cuda.calls.append(("record", self.recorded))

    def synchronize(self):
        assert self.recorded

    @property
    def done(self):
        return True


class Device:
    compute_capability = "90"

    def __init__(self, device=None):
        self.id = cuda._current if device is None else int(device)

    def __enter__(self):
        cuda._devices.append(cuda._current)
        cuda._current = self.id
        return self

    def __exit__(self, *exc):
        cuda._current = cuda._devices.pop()

    def use(self):
        cuda._current = self.id

    def synchronize(self):
        assert not cuda._capturing
        cuda.calls.append(("synchronize device", self.id))

    @property
    def attributes(self):
        return {"MultiProcessorCount": 4}

    mem_info = (1 << 34, 1 << 35)


class Module:
    """Code in memory: here, the text that a test's ``run_kernels`` runs."""

    def load(self, cubin):
        assert isinstance(cubin, bytes)
        cuda.calls.append(("load", len(cubin)))
        self.text = cubin.decode()

    def get_function(self, name):
        assert re.search(rf"\b{name}\b", self.text), name
        return Function(self, name)


class Function:
    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, grid, block, args, shared_mem=0, stream=None, **kwargs):
        check_call("cupy.cuda.Function", "__call__", (grid, block, args), {})
        assert all(isinstance(n, int) and n >= 1 for n in (*grid, *block)), (grid, block)
        assert len(grid) <= 3
        assert len(block) <= 3
        assert np.prod(block) <= 1024
        assert grid[0] < 1 << 31
        assert all(n < 1 << 16 for n in grid[1:])
        assert shared_mem <= 48 << 10
        assert isinstance(args, tuple)
        assert all(isinstance(a, (np.generic, int, float)) for a in args), args
        run = lambda: cuda.run_kernels(self.module.text, self, grid, block, shared_mem, args)
        cuda._do(("kernel", self.name), run, 0 if stream is None else stream.ptr)


class _Own(threading.local):
    """What each thread has of its own."""

    def __init__(self):
        self._current, self._devices, self._streams = 0, [], []
        self._capturing, self._captured = 0, []


def _of_thread(name):
    return property(
        lambda self: getattr(self._own, name), lambda self, value: setattr(self._own, name, value)
    )


class _Cuda:
    """The module cupy.cuda."""

    _current, _devices, _streams, _capturing, _captured = map(
        _of_thread, ("_current", "_devices", "_streams", "_capturing", "_captured")
    )

    memory = SimpleNamespace(OutOfMemoryError=_OutOfMemory, MemoryPointer=MemoryPointer)
    runtime = _Runtime()

    def __init__(self):
        self.calls = []
        self._own = _Own()
        self.limit = 1 << 40  # bytes in the GPU
        self.taken, self.blocks, self.free = 0, {}, {}
        self.memories = weakref.WeakValueDictionary()

    def run_kernels(self, text, function, grid, block, shared, args):
        raise Refused("no kernels in this test")

    def _check_capture(self, what):
        if self._capturing:
            raise _CudaError(f"{what} while a graph is captured")

    def _do(self, call, action, stream):
        stream = getattr(stream, "ptr", stream)
        if self._capturing and stream == self._capturing:
            self._captured.append(action)
        else:
            assert not self._capturing, f"{call} on another stream while one is captured"
            self.calls.append(call)
            action()

    def alloc(self, size):
        self._check_capture("an allocation")
        if self.taken + size > self.limit:
            raise _OutOfMemory(f"Out of memory allocating {size} bytes")
        waiting = sorted(self.free.pop(int(size), []), key=lambda raw: raw.ctypes.data)
        memory = _Memory(int(size), waiting.pop(0) if waiting else None)
        self.free[int(size)] = waiting
        self.taken += int(size)
        self.blocks[memory.ptr] = int(size)
        weakref.finalize(memory.raw, self._freed, memory.ptr, int(size), memory.held)
        self.calls.append(("alloc", int(size)))
        return MemoryPointer(memory, 0)

    def _freed(self, ptr, size, raw):
        self.taken -= size
        self.blocks.pop(ptr, None)
        self.free.setdefault(size, []).append(raw)  # as CuPy's pool does

    def region(self, ptr):
        """Return an address with the bytes from there to the end of what was allocated."""
        for start, size in self.blocks.items():
            if start <= ptr <= start + size:
                return ptr, start + size - ptr
        raise Refused(f"address {ptr} is in no memory of the GPU")

    def owner(self, ptr):
        """Return the memory that an address is in, None if it is no memory of the GPU."""
        found = [m for start, m in self.memories.items() if start <= ptr <= start + m.size]
        return found[0] if found else None

    def alloc_pinned_memory(self, size):
        assert isinstance(size, int)
        self.calls.append(("pinned", size))
        return bytearray(size)

    def get_cublas_handle(self):
        return 78

    def get_current_stream(self):
        return self._streams[-1] if self._streams else Stream.null

    def get_device_id(self):
        return self._current


for _class in (Stream, Graph, Event, Device, Module, Function, MemoryPointer, UnownedMemory):
    setattr(_Cuda, _class.__name__, _class)
Stream.null = Stream(null=True)


class _Lib:
    stride_tricks = Namespace("cupy.lib.stride_tricks", np.lib.stride_tricks)


cuda = _Cuda()
namespace = _Cupy("cupy", np)
namespace.cuda = cuda
namespace.linalg = Namespace("cupy.linalg", np.linalg)
namespace.fft = Namespace("cupy.fft", np.fft)
namespace.lib = _Lib()
