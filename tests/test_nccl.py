"""Collectives of arrays on GPUs, over a fake NCCL with the documented signatures."""

import threading

import ml_dtypes
import numpy as np
import pytest
from fake_cupy import memory_at, namespace

from funtorch.nccl import GpuCommunicator

KINDS = {0: "i1", 1: "u1", 2: "i4", 3: "u4", 4: "i8", 5: "u8", 6: "f2", 7: "f4", 8: "f8"}
SIZE = 3
rng = np.random.default_rng(2)


def at(address, count, kind):
    dtype = np.dtype(ml_dtypes.bfloat16 if kind == 9 else KINDS[kind])
    return np.frombuffer(memory_at(address, count * dtype.itemsize), dtype)[:count]


class FakeNccl:
    """What cupy.cuda.nccl has, for ranks that are threads.

    Signatures are those of the docstrings of `cupy.cuda.nccl.NcclCommunicator` of CuPy 14.
    """

    def __init__(self):
        self.barrier = threading.Barrier(SIZE, timeout=20)
        self.said = [None] * SIZE
        self.groups = threading.local()

    def get_unique_id(self):
        return (7, 8, 9)

    def groupStart(self):
        self.groups.queue = []

    def groupEnd(self):
        queue, self.groups.queue = self.groups.queue, None
        comm = self.groups.comm
        everything = comm._told(queue)
        for kind, pointer, count, peer in queue:
            if kind == "recv":
                (source,) = [
                    q for q in everything[peer] if q[0] == "send" and q[3] == comm.rank_id()
                ]
                assert source[2] == count
                at(pointer, count, 1)[:] = at(source[1], count, 1)
        comm._told(None)

    def NcclCommunicator(self, ndev, commId, rank):
        assert (ndev, commId) == (SIZE, (7, 8, 9))
        self.groups.comm = _Comm(self, rank)
        return self.groups.comm


class _Comm:
    def __init__(self, nccl, rank):
        self.nccl, self.rank = nccl, rank

    def rank_id(self):
        return self.rank

    def _told(self, what):
        self.nccl.barrier.wait()
        self.nccl.said[self.rank] = what
        self.nccl.barrier.wait()
        return list(self.nccl.said)

    def _all(self, sendbuf, count, datatype):
        assert all(type(v) is int for v in (sendbuf, count, datatype))
        return self._told(at(sendbuf, count, datatype).copy())

    def _reduce(self, sendbuf, count, datatype, op):
        wide = np.stack([x.astype("f4") if datatype in (6, 9) else x
                         for x in self._all(sendbuf, count, datatype)])  # fmt: skip
        return {0: wide.sum, 2: wide.max, 3: wide.min}[op](0)

    def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
        at(recvbuf, count, datatype)[:] = self._reduce(sendbuf, count, datatype, op)

    def reduceScatter(self, sendbuf, recvbuf, recvcount, datatype, op, stream):
        found = self._reduce(sendbuf, recvcount * SIZE, datatype, op)
        at(recvbuf, recvcount, datatype)[:] = found.reshape(SIZE, -1)[self.rank]

    def allGather(self, sendbuf, recvbuf, count, datatype, stream):
        found = np.concatenate(self._all(sendbuf, count, datatype))
        at(recvbuf, count * SIZE, datatype)[:] = found

    def send(self, sendbuf, count, datatype, peer, stream):
        assert datatype == 1
        self.nccl.groups.queue.append(("send", sendbuf, count, peer))

    def recv(self, recvbuf, count, datatype, peer, stream):
        assert datatype == 1
        self.nccl.groups.queue.append(("recv", recvbuf, count, peer))


class _Ranks:
    """The part of a communicator of MPI that finds NCCL's."""

    size = SIZE

    def __init__(self, rank):
        self.rank = rank

    def bcast_object(self, value, root=0):
        assert (value is None) == (self.rank != 0)
        return (7, 8, 9)


def among_threads(f):
    """Run ``f(communicator)`` on every rank; return what they give."""
    nccl, found, errors = FakeNccl(), [None] * SIZE, []

    def run(rank):
        try:
            found[rank] = f(GpuCommunicator(_Ranks(rank), namespace, nccl))
        except BaseException as error:
            errors.append(error)
            nccl.barrier.abort()

    threads = [threading.Thread(target=run, args=(k,)) for k in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


DTYPES = ["float32", "float64", "float16", "complex64", "int8", "int16", "uint16", "int64", "bool"]


@pytest.mark.parametrize("dtype", [*DTYPES, ml_dtypes.bfloat16])
def test_collectives(dtype):
    x = (rng.normal(size=(SIZE, SIZE, 4)) * 3).round()
    x = (x > 0) if dtype == "bool" else np.abs(x).astype(dtype)
    pairs = [(0, 2), (2, 1)]

    def run(c):
        own = namespace.asarray(x[c.rank])
        out = [c.allreduce(own), c.reduce_scatter(own), c.allgather(own), c.alltoall(own)]
        out += [c.permute(own, pairs), c.allgather(namespace.asarray(x[c.rank, 0, 0]))]
        if dtype != "complex64":
            out += [c.allreduce(own, "max"), c.allreduce(own, "min")]
        return [v.get() for v in out]

    found = among_threads(run)
    total = x.any(0) if dtype == "bool" else x.sum(0, dtype=x.dtype)
    for rank, (summed, part, every, swapped, sent, firsts, *extremes) in enumerate(found):
        np.testing.assert_array_equal(summed, total)
        np.testing.assert_array_equal(part, total[rank])
        np.testing.assert_array_equal(every, x)
        np.testing.assert_array_equal(swapped, x[:, rank])
        source = [s for s, d in pairs if d == rank]
        np.testing.assert_array_equal(sent, x[source[0]] if source else np.zeros_like(x[0]))
        np.testing.assert_array_equal(firsts, x[:, 0, 0])
        assert all(v.dtype == x.dtype for v in (summed, part, every, swapped, sent))
        for got, want in zip(extremes, (x.max(0), x.min(0)), strict=bool(extremes)):
            np.testing.assert_array_equal(got, want)


def test_mistakes():
    def run(c):
        with pytest.raises(ValueError, match="operation is one of sum, max, min, got 'prod'"):
            c.allreduce(namespace.asarray(np.ones(3)), "prod")
        with pytest.raises(ValueError, match="complex numbers have no max"):
            c.allreduce(namespace.asarray(np.ones(3, "c8")), "max")
        return c.allreduce(namespace.asarray(np.ones((0, 3)))).shape

    assert among_threads(run) == [(0, 3)] * SIZE
