"""What the tests of funtorch.distributed run among ranks: each check is a function here.

``python ranks_script.py CHECK ...`` is started by `mpirun`; rank 0 prints what has passed.
"""

import os
import pickle
import sys
import time

import ml_dtypes
import numpy as np
import spmd_cases

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import distributed, hardware, lax, parallel, sums
from funtorch.backends.cpu import talk
from funtorch.sharding import Mesh, NamedSharding, P
from funtorch.transforms.ranks import ranks_along

rank, size = distributed.rank(), distributed.size()
rng = np.random.default_rng(0)


def raised(kind, f):
    try:
        f()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def close(got, want, tol=1e-5):
    for a, b in zip(ft.tree.leaves(got), ft.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype, (a.dtype, b.dtype)
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


def whole(x):
    return ft.tree.map(np.asarray, distributed.gather(x))


# ------------------------------------------------------------------------------------------ checks
def cases():
    """Every case gives what it gives in one process, compiled as one program and eagerly."""
    mesh = distributed.make_mesh(spmd_cases.MESH, spmd_cases.NAMES)
    with open(sys.argv[-1], "rb") as file:
        want = pickle.load(file)
    for how, results in spmd_cases.run(ft, mesh, P, whole, few=True):
        for name, got in results.items():
            close(got, want[name], 1e-9)
        assert results, how


def communicator():
    c = distributed.communicator()
    assert (c.rank, c.size) == (rank, size) == (ft.process_index(), ft.process_count())
    assert c.allgather_object(rank) == list(range(size))
    assert c.bcast_object({"seed": rank}, 1) == {"seed": 1}
    one = np.full(3, rank + 1.0)
    pending = c.iallreduce(one)
    assert pending.wait() is one
    np.testing.assert_array_equal(one, np.full(3, size * (size + 1) / 2))
    half = np.full(5, 1 / 3, ml_dtypes.bfloat16)
    once = np.float32(half[0]) * size
    np.testing.assert_array_equal(c.allreduce(half), np.full(5, once, ml_dtypes.bfloat16))
    np.testing.assert_array_equal(c.allgather(np.int8([rank]))[:, 0], range(size))
    assert "contiguous" in raised(ValueError, lambda: c.allreduce(np.ones((4, 4))[:, ::2]))
    assert "operation is one of" in raised(ValueError, lambda: c.allreduce(np.ones(2), "prod"))
    np.testing.assert_array_equal(c.allreduce(np.ones(2)), [size, size])
    fixed = np.frombuffer(bytes(16))  # that cannot be written
    for bad in (np.ones((4, 4))[:, ::2], np.ones((4, 4)).T, np.ones(8)[::2], fixed):
        assert "contiguous array that can be" in raised(ValueError, lambda b=bad: c.allreduce(b))
    assert ft.device_count("cpu") == size
    assert ft.local_device_count("cpu") == 1
    assert ft.local_devices(backend="cpu")[0].process_index == rank


def arrays():
    mesh = distributed.make_mesh((2, 2), ("a", "b"))
    x = np.arange(32.0).reshape(8, 4)
    sharding = NamedSharding(mesh, P("b", "a"))
    y = ft.device_put(x, sharding)
    assert y.shape == (8, 4)
    assert y.sharding == sharding
    assert not y.is_fully_addressable
    (shard,) = y.addressable_shards
    np.testing.assert_array_equal(np.asarray(shard.data), x[shard.index])
    again = distributed.make_array_from_process_local_data(sharding, np.asarray(shard.data))
    made = distributed.make_array_from_callback((8, 4), sharding, lambda at: x[at])
    for v in (y, again, made):
        np.testing.assert_array_equal(distributed.gather(v), x)
    message = raised(RuntimeError, lambda: np.asarray(y))
    assert "distributed.gather" in message
    assert "f64[4,2]" in message
    assert "distributed.gather" in raised(RuntimeError, lambda: float(y))
    assert "Array(shape=(8, 4)" in repr(y)
    np.testing.assert_array_equal(distributed.process_allgather(y), x)
    assert distributed.process_allgather(np.ones(2)).shape == (size, 2)
    # Operations outside of shard_map.
    z = y * 2 + 1
    assert z.sharding == sharding
    close(whole(z), x * 2 + 1)
    close(whole(y.T), x.T)
    assert y.T.sharding.spec == P("a", "b")
    f = lambda v, w: (fnp.exp(-v) @ w).max(0) + v.sum(1)[:4] - fnp.sort(v, 0)[2] + v.mean()
    for g in (f, ft.jit(f)):
        close(whole(g(y, x.T[:, :4])), np.asarray(f(fnp.asarray(x), x.T[:, :4])))
    mean = ft.jit(ft.grad(lambda v: (v**3).mean()))(y)
    assert mean.sharding.is_equivalent_to(sharding, 2)
    close(whole(mean), x**2 * 3 / 32)


def dtypes():
    """Collectives of every kind of number, eagerly and in compiled programs."""
    mesh = distributed.make_mesh((size,), ("i",))
    bad = np.array([np.nan, 1.0, np.inf, -0.0, -np.inf, 3.0, -2.5, 0.0])
    kinds = ("float32", "float64", "float16", ml_dtypes.bfloat16, "complex64", "int8", "uint16")
    for dtype in (*kinds, "int64", "bool"):
        x = rng.normal(size=(size, 8)) * 10
        x = (x > 0) if dtype == "bool" else np.abs(x).astype(dtype)
        one = ft.numpy.dtype(dtype).kind in "fV" and dtype != "complex64"
        if one:
            x[1] = bad.astype(dtype)
            x[2] = bad[::-1].astype(dtype)

        def f(v, one=one, dtype=dtype):
            out = {"all": lax.all_gather(v, "i"), "next": lax.pshuffle(v, "i", [1, 2, 3, 0])}
            out["to"] = lax.all_to_all(v.reshape(size, -1), "i", 0, 0)
            if dtype != "bool":
                out["sum"] = lax.psum(v, "i")
                out["part"] = lax.psum_scatter(v.reshape(size, -1), "i")
            if dtype != "complex64":
                out["max"], out["min"] = lax.pmax(v, "i"), lax.pmin(v, "i")
            return out

        mapped = ft.shard_map(f, mesh=mesh, in_specs=P("i"), out_specs=P("i"), check_vma=False)
        want = ft.vmap(f, axis_name="i")(x[:, None])
        flat = ft.tree.map(lambda v: np.asarray(v).reshape(-1, *v.shape[2:]), want)
        for g in (mapped, ft.jit(mapped)):
            got = whole(g(x))
            for name, found in got.items():
                tell = f"{name} of {dtype}"
                exact = np.asarray(flat[name])
                assert (found.dtype, found.shape) == (exact.dtype, exact.shape), tell
                if name in ("sum", "part") and found.dtype.kind in "fcV":
                    # Rounded once: no further from the sum of all than half a unit.
                    np.testing.assert_allclose(
                        found.astype("complex64"), exact.astype("complex64"), rtol=1e-2
                    )
                else:
                    plain = [v.astype("f4") if v.dtype.kind == "V" else v for v in (found, exact)]
                    np.testing.assert_array_equal(*plain, tell)


def ways_of_sums():
    """Each way to sum gives the same, compiled or not: ranks agree in each bit, integers wrap."""
    c, mesh = distributed.communicator(), distributed.make_mesh((size,), ("i",))
    before, piece, slot = dict(sums._WAYS), sums.PIECE, sums.SLOT
    kinds = (np.float32, np.complex128, np.int8, np.uint16, ml_dtypes.bfloat16)
    for number, how in enumerate(("library", "exchange", "memory")):
        asked = before if how != "memory" else ("program", "program of two")
        sums._WAYS.update(dict.fromkeys(asked, ((np.inf, how),)))
        sums.PIECE = sums.SLOT = 64
        c._brief.clear()
        for k, kind in ((k, kind) for k in (1, 70) for kind in kinds):
            k += number  # or else the program of before would run again
            xs = rng.integers(-150, 150, (size, k)).astype(np.float64)
            wide = {"c": kind, "i": np.int64, "u": np.int64}.get(np.dtype(kind).kind, np.float32)
            xs = xs.astype(wide).astype(kind)
            want = xs.astype(wide).sum(0).astype(kind)
            np.testing.assert_array_equal(c.allreduce(xs[rank].copy()), want)
            np.testing.assert_array_equal(c.reduce_scatter(np.stack([xs[rank]] * size)), want)
            f = ft.shard_map(
                lambda x: (lax.psum(x, "i"), lax.psum_scatter(lax.broadcast(x[0], (size,)), "i")),
                mesh=mesh, in_specs=P("i"), out_specs=P(), check_vma=False,
            )  # fmt: skip
            total, part = ft.jit(f)(xs)
            np.testing.assert_array_equal(np.asarray(total)[0], want)
            np.testing.assert_array_equal(np.asarray(part), want)
    x = np.random.default_rng(rank).normal(size=5001).astype(np.float32)
    f = ft.shard_map(lambda x: lax.psum(x, "i"), mesh=mesh, in_specs=P(), out_specs=P())
    for factor in (1, 2):  # the second run begins with another slot
        every = c.allgather(np.asarray(ft.jit(f)(x * factor)))
        np.testing.assert_array_equal(every, every[:1].repeat(size, 0))  # in each bit
        np.testing.assert_allclose(every[0], c.allgather(x).sum(0) * factor, rtol=1e-4, atol=1e-4)
    # Where there is no memory to share, MPI sums.
    sums._SHARED, shared = "/nowhere", sums._SHARED
    assert sums.shared_room(c.comm) is None
    sums._SHARED = shared
    group = ranks_along(mesh, ("i",)).communicator()
    assert group.room is not None or not os.path.isdir(shared)
    group.room, room = None, group.room
    talk._cells.clear()
    total = ft.jit(lambda x: f(x * 1))(x)
    np.testing.assert_allclose(total, c.allgather(x).sum(0), rtol=1e-4, atol=1e-4)
    group.room = room
    talk._cells.clear()
    sums._WAYS.update(before)
    sums.PIECE, sums.SLOT = piece, slot
    flags = np.ones(65, bool)
    assert c.allreduce(flags, "min").all()
    x = np.array([np.nan if rank == 0 else 1.0, 2.0])
    for operation in ("max", "min"):
        np.testing.assert_array_equal(c.allreduce(x.copy(), operation), [np.nan, 2.0])
        np.testing.assert_array_equal(c.iallreduce(x.copy(), operation).wait(), [np.nan, 2.0])
    assert "have no max" in raised(ValueError, lambda: c.allreduce(np.ones(2, complex), "max"))


def ring():
    """A divided sequence attends as a whole one does, and so do gradients."""
    mesh = distributed.make_mesh((size,), ("sequence",))
    q, k, v = rng.normal(size=(3, 2, 2 * size, 4))
    spec = P(None, "sequence")
    f = ft.shard_map(
        lambda *a: parallel.ring_attention(*a, is_causal=True),
        mesh=mesh, in_specs=spec, out_specs=spec,
    )  # fmt: skip
    want = lambda q, k, v: parallel.ring_attention(q, k, v, is_causal=True)
    loss = lambda g: lambda *a: (g(*a) ** 2).sum()
    close(whole(ft.jit(f)(q, k, v)), want(q, k, v), 1e-9)
    found = ft.jit(ft.grad(loss(f), (0, 1, 2)))(q, k, v)
    close(whole(found), ft.grad(loss(want), (0, 1, 2))(q, k, v), 1e-9)


def empty():
    mesh = distributed.make_mesh((size,), ("i",))
    f = lambda x, s: (lax.psum(x, "i"), lax.all_gather(s, "i") * 2)
    mapped = ft.shard_map(f, mesh=mesh, in_specs=(P("i"), P()), out_specs=(P(), P("i")))
    for g in (mapped, ft.jit(mapped)):
        total, every = g(np.zeros((0, 3)), 2.5)
        assert total.shape == (0, 3)
        assert every.shape == (size * size,)
        np.testing.assert_array_equal(distributed.gather(every), np.full(size * size, 5.0, "f4"))


def maps():
    """pmap and vmap."""
    x = np.full((1, 3), float(rank), np.float32)
    out = ft.pmap(lambda v: lax.psum(v, "i") * lax.axis_index("i"), "i")(x)
    np.testing.assert_array_equal(out, np.full((1, 3), rank * sum(range(size))))
    message = raised(ValueError, lambda: ft.pmap(lambda v: v)(np.ones((size, 2))))
    assert "each process is one device" in message
    mesh = distributed.make_mesh((size,), ("i",))
    f = ft.shard_map(lambda v: lax.psum(v, "i"), mesh=mesh, in_specs=P("i"), out_specs=P())
    x = rng.normal(size=(3, size * 2)).astype("f4")
    for g in (ft.vmap(f), ft.jit(ft.vmap(f))):
        close(whole(g(x)), x.reshape(3, size, 2).sum(1))
    ft.pmap(lambda v: ft.grad(lambda u: (lax.psum(u, "i") ** 2).sum())(v), "i")(x[:1])


def closures():
    """What a function closes over; loops around shard_map; state that stays where it is."""
    mesh = distributed.make_mesh((size,), ("i",))
    w = rng.normal(size=(4, 4)).astype("f4")
    x = ft.device_put(rng.normal(size=(8, 4)).astype("f4"), NamedSharding(mesh, P("i")))
    whole_x = whole(x)

    def loss(w):
        part = lambda x: lax.pmean(((x @ w) ** 2).mean(), "i")
        return ft.shard_map(part, mesh=mesh, in_specs=P("i"), out_specs=P())(x)

    want = ft.grad(lambda w: ((whole_x @ w) ** 2).mean())(w)
    close(whole(ft.grad(loss)(w)), np.asarray(want))
    close(whole(ft.jit(ft.grad(loss))(w)), np.asarray(want))

    step = ft.shard_map(
        lambda v, x: v + lax.psum(x.sum(), "i"), mesh=mesh, in_specs=(P("i"), P("i")),
        out_specs=P("i"),
    )  # fmt: skip
    run = ft.jit(lambda v, x: lax.fori_loop(0, 3, lambda i, v: step(v, x), v))
    close(whole(run(x, x)), whole_x + 3 * whole_x.sum(), 1e-4)


def overlap():
    """Collectives go on while work is done that does not need them, as between machines."""
    hardware.processes.near = False
    mesh = distributed.make_mesh((size,), ("i",))

    def f(x, w):
        total = lax.psum(x, "i")  # needed last
        every = lax.all_gather(x, "i")
        own = fnp.tanh(fnp.tanh(x @ w) @ w)
        return total + own + every.max(0)

    mapped = ft.jit(ft.shard_map(f, mesh=mesh, in_specs=(P("i"), P()), out_specs=P("i")))
    x = rng.normal(size=(size * 64, 64))
    w = rng.normal(size=(64, 64)) / 8
    parts = x.reshape(size, 64, 64)
    own = np.tanh(np.tanh(x @ w) @ w).reshape(size, 64, 64)
    want = (parts.sum(0) + parts.max(0) + own).reshape(-1, 64)
    for _ in range(5):
        close(whole(mapped(x, w)), want, 1e-9)
    hardware.processes.near = True


def mistakes():
    mesh = distributed.make_mesh((size,), ("i",))
    small = Mesh((2,), ("i",))
    f = lambda x: lax.psum(x, "i")
    x = np.ones((6, 3))
    tell = lambda **k: raised(ValueError, lambda: ft.shard_map(f, **k)(x))
    assert "on 4 ranks" in tell(mesh=small, in_specs=P("i"), out_specs=P())
    assert "divisible by 4" in tell(mesh=mesh, in_specs=P("i"), out_specs=P())
    assert "mpirun -n 8" in raised(ValueError, lambda: distributed.make_mesh((8,), ("i",)))
    assert "mpirun -n 9" in raised(ValueError, lambda: distributed.initialize(num_processes=9))
    sharding = NamedSharding(mesh, P("i"))
    assert "(2,)" in raised(
        ValueError,
        lambda: distributed.make_array_from_process_local_data(sharding, np.ones(3), (8,)),
    )

    def differ(x):
        return lax.psum(x, "i") if rank else lax.pmax(x, "i")

    start = time.monotonic()
    for how in (lambda f: f, ft.jit):
        g = how(ft.shard_map(differ, mesh=mesh, in_specs=P("i"), out_specs=P()))
        message = raised(RuntimeError, lambda g=g: g(np.ones((8, 3))))
        assert "rank 0, in" in message
        assert "pmax of" in message
        assert "psum of" in message
        assert message.count("ranks_script.py") >= 2
    assert time.monotonic() - start < 5
    close(whole(ft.shard_map(f, mesh=mesh, in_specs=P("i"), out_specs=P())(np.ones((8, 3)))),
          np.full((2, 3), 4.0))  # fmt: skip


# ------------------------------------------------------------------------ checks that end the ranks
def error_of_one():
    distributed.initialize()
    if rank == 1:
        raise ValueError("one rank has an error")
    distributed.communicator().barrier()


def exit_of_one():
    """One rank leaves, by an error that no hook sees; the other waits in the way that is named."""
    mesh = distributed.make_mesh((size,), ("i",))
    f = ft.jit(ft.shard_map(lambda x: lax.psum(x, "i"), mesh=mesh, in_specs=P("i"), out_specs=P()))
    f(np.ones((4, 3)))
    print("began", time.time(), flush=True)
    if rank == 1:
        raise SystemExit(1)
    if sys.argv[-1] == "barrier":
        distributed.communicator().barrier()
    f(np.ones((4, 3)))


def other_program():
    """One rank runs a program that it has run before, the other a new one."""
    mesh = distributed.make_mesh((size,), ("i",))
    f = ft.jit(ft.shard_map(lambda x: lax.psum(x, "i"), mesh=mesh, in_specs=P("i"), out_specs=P()))
    f(np.ones((4, 3)))
    print("began", time.time(), flush=True)
    f(np.ones((8 if rank else 4, 3)))


if __name__ == "__main__":
    for name in sys.argv[1].split(","):
        start = time.perf_counter(), time.process_time()
        globals()[name]()
        distributed.communicator().barrier()
        if rank == 0:
            took = time.perf_counter() - start[0], time.process_time() - start[1]
            print(f"passed {name} in {took[0]:.1f} s, {took[1]:.1f} s at work", flush=True)
