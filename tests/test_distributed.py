"""Programs of several devices: in one process, among ranks that the tests start, and as in JAX."""

import importlib.util
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import spmd_cases

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import distributed, lax, nnx, parallel, processes, watch
from funtorch.sharding import Mesh, NamedSharding, P

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "ranks_script.py"


def mpirun():
    """Return the launcher that belongs to the MPI that mpi4py finds, or None."""
    found = importlib.util.find_spec("mpi4py")
    roots = [Path(sys.executable).parents[1], *([Path(found.origin).parents[4]] if found else [])]
    for root in roots:
        if (root / "bin" / "mpirun").exists():
            return str(root / "bin" / "mpirun")
    return shutil.which("mpirun")


needs_mpi = pytest.mark.skipif(
    mpirun() is None or importlib.util.find_spec("mpi4py") is None or os.name == "nt",
    reason="needs mpirun and mpi4py: pip install 'funtorch[mpi]'",
)


def ranks(count, checks, *args, timeout=240, **env):
    """Run checks of the script among ranks; return what is printed, and the exit status."""
    environment = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "FUNTORCH_NUM_THREADS": "1",
        **env,
    }
    command = [mpirun(), "-n", str(count), sys.executable, str(SCRIPT), checks, *map(str, args)]
    done = subprocess.run(
        command, env=environment, capture_output=True, timeout=timeout, cwd=HERE, check=False
    )
    return (done.stdout + done.stderr).decode(errors="replace"), done.returncode


@pytest.fixture
def four():
    with ft.config.override(num_cpu_devices=4):
        yield distributed.make_mesh((2, 2), ("a", "b"))


def in_one(mesh, *hows):
    """Return what all cases give in this process."""
    return dict(spmd_cases.run(ft, mesh, P, lambda t: ft.tree.map(np.asarray, t), hows=hows))


# --------------------------------------------------------------------------------- in one process
def test_cases_in_one_process(four):
    found = in_one(four, "compiled", "eager")
    assert found["compiled"].keys() == found["eager"].keys()
    for name, got in found["compiled"].items():
        for a, b in zip(ft.tree.leaves(got), ft.tree.leaves(found["eager"][name]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=name)
    x, w = spmd_cases.X, spmd_cases.W
    np.testing.assert_allclose(found["eager"]["matmul"], x @ w, rtol=1e-12)
    loss = lambda w: (fnp.tanh(x @ w) ** 2).mean()
    mean = ft.grad(loss)(w)  # of all rows: of a loss that devices average
    for name, factor in (("mean loss", 1), ("own loss", 4), ("jit", 4)):
        np.testing.assert_allclose(
            found["eager"][f"grad inside, {name}"], mean * factor, rtol=1e-9, err_msg=name
        )


def test_cases_are_as_in_jax():
    pytest.importorskip("jax")
    script = (
        "import sys, pickle, numpy as np, jax, spmd_cases as c\n"
        "auto = (jax.sharding.AxisType.Auto,) * 2\n"
        "mesh = jax.make_mesh(c.MESH, c.NAMES, axis_types=auto)\n"
        "c.OUTSIDE.remove('pmax pmin')\n"  # which JAX does not differentiate
        "how, found = next(c.run(jax, mesh, jax.P, lambda t: jax.tree.map(np.asarray, t)))\n"
        "pickle.dump(found, sys.stdout.buffer)\n"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    flags["JAX_ENABLE_X64"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **flags},
        cwd=HERE,
        capture_output=True,
        check=True,
        timeout=120,
    )
    want = pickle.loads(done.stdout)
    with ft.config.override(num_cpu_devices=4):
        mesh = ft.make_mesh(spmd_cases.MESH, spmd_cases.NAMES)
        found = in_one(mesh, "eager")["eager"]
    for name, expected in want.items():
        outs = ft.tree.leaves(found[name])
        for got, value in zip(outs, ft.tree.leaves(expected), strict=True):
            assert (got.shape, got.dtype) == (value.shape, value.dtype), name
            np.testing.assert_allclose(got, value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_pmap_and_vmap_of_shard_map(four):
    x = np.arange(12.0).reshape(4, 3)
    out = ft.pmap(lambda v: lax.psum(v, "i") * lax.axis_index("i"), "i")(x)
    np.testing.assert_array_equal(out, x.sum(0) * np.arange(4)[:, None])
    scaled = ft.pmap(lambda v, k: v * k, in_axes=(0, None), static_broadcasted_argnums=1)
    np.testing.assert_array_equal(scaled(x, 3), x * 3)
    with pytest.raises(ValueError, match=r"size 5, and there are 4 devices.*num_cpu_devices\", 5"):
        ft.pmap(lambda v: v)(np.ones(5))
    f = ft.shard_map(
        lambda v: lax.psum(v, "a"), mesh=four, in_specs=P("a", "b"), out_specs=P(None, "b")
    )
    y = np.arange(24.0).reshape(3, 4, 2)
    np.testing.assert_array_equal(ft.vmap(f)(y), y.reshape(3, 2, 2, 2).sum(1))
    np.testing.assert_array_equal(ft.jit(ft.vmap(f, 1, 1))(y.swapaxes(0, 1)), f_along(y))


def f_along(y):
    return y.reshape(3, 2, 2, 2).sum(1).swapaxes(0, 1)


def test_mesh_of_a_block_and_decorator(four):
    @ft.shard_map(in_specs=(P(("a", "b")), None), out_specs=[P(("a", "b")), P()])
    def f(x, w):
        """Do something."""
        return [x @ w, lax.pmean((x @ w).sum(), ("a", "b"))]

    assert f.__name__ == "f"
    assert f.__doc__ == "Do something."
    x, w = np.arange(8.0).reshape(4, 2), np.ones((2, 3))
    with four:
        y, mean = f(x, w)
    np.testing.assert_array_equal(y, x @ w)
    assert float(mean) == (x @ w).sum() / 4
    with pytest.raises(ValueError, match="there is no mesh: pass mesh="):
        f(x, w)


MISTAKES = {
    "unknown axis in a spec": ({"in_specs": P("z")}, ValueError, "names the axis 'z'.*'a', 'b'"),
    "an axis twice": ({"in_specs": P("a", "a")}, ValueError, "names an axis twice"),
    "does not divide": (
        {"in_specs": P(("a", "b"))},
        ValueError,
        "axis 0 of shape .6, 4. must be div",
    ),
    "too long a spec": ({"in_specs": P("a", None, "b")}, ValueError, "3 entries for an array of"),
    "no spec": ({"in_specs": "a"}, TypeError, r"such as P\('data'\) or P\(\), got 'a'"),
    "specs do not fit": ({"in_specs": (P(), P())}, ValueError, "in_specs"),
    "differs": ({"out_specs": P("b")}, ValueError, "must be the same along 'a', but it may differ"),
    "output names": ({"out_specs": P("q")}, ValueError, "output 0.*names the axis 'q'"),
    "long output": ({"out_specs": P("a", None, None)}, ValueError, "has 2 axes"),
    "mesh is none": ({"mesh": 3}, TypeError, "mesh is a funtorch.Mesh, got 3"),
    "other axes": ({"axis_names": {"b"}}, ValueError, r"names 'a', which is not in axis_names"),
    "no such axes": ({"axis_names": {"q"}}, ValueError, "axis_names has 'q', and the axes of the"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, four):
    change, kind, match = MISTAKES[name]
    given = {"mesh": four, "in_specs": P("a"), "out_specs": P("a")} | change
    with pytest.raises(kind, match=match):
        ft.shard_map(lambda x: x * 2, **given)(np.ones((6, 4)))


def test_more_mistakes(four):
    with pytest.raises(ValueError, match=r"needs 8 devices, and there are 4.*mpirun -n 8"):
        Mesh((4, 2), ("a", "b"))
    with pytest.raises(ValueError, match="give each axis a name of its own"):
        Mesh((2, 2), ("a", "a"))
    with pytest.raises(ValueError, match="divisible by 2"):
        ft.device_put(np.ones(3), NamedSharding(four, P("a")))
    with pytest.raises(NameError, match=r"no axis named 'c'.*'a', 'b'"):
        ft.shard_map(lambda x: lax.psum(x, "c"), mesh=four, in_specs=P("a"), out_specs=P())(
            np.ones(4)
        )
    with pytest.raises(ValueError, match="to='varying' is the one way"):
        lax.pcast(1.0, "a", to="reduced")
    with pytest.raises(ValueError, match="whole number from 1"):
        ft.config.update("num_cpu_devices", 0)


def test_shardings(four):
    sharding = NamedSharding(four, P(None, ("b", "a")))
    assert sharding.shard_shape((3, 8)) == (3, 2)
    places = sharding.devices_indices_map((3, 8))
    assert [at[1] for at in places.values()] == [slice(k, k + 2) for k in (0, 4, 2, 6)]
    assert not sharding.is_fully_replicated
    assert NamedSharding(four, P()).is_fully_replicated
    assert sharding.is_equivalent_to(NamedSharding(four, P(None, ("b", "a"))), 3)
    assert pickle.loads(pickle.dumps(sharding)) == sharding
    assert [d.id for d in ft.devices("cpu")] == [0, 1, 2, 3]
    assert ft.device_count("cpu") == 4
    assert four == Mesh((2, 2), ("a", "b"))
    assert hash(four) == hash(Mesh((2, 2), ("a", "b")))


def test_arrays_know_their_sharding(four):
    x = np.arange(16.0).reshape(8, 2)
    for spec, shape, copies in ((P("a"), (4, 2), 2), (P("a", "b"), (4, 1), 1), (P(), (8, 2), 4)):
        sharding = NamedSharding(four, spec)
        y = ft.device_put(x, sharding)
        assert y.sharding == y.device == sharding
        assert y.committed
        assert y.is_fully_addressable
        assert y.is_fully_replicated is (spec == P())
        assert len(y.devices()) == len(y.addressable_shards) == len(y.global_shards) == 4
        assert max(s.replica_id for s in y.addressable_shards) == copies - 1
        for k, s in enumerate(y.addressable_shards):
            assert s.data.shape == shape
            assert s.data.devices() == {s.device} == {ft.devices("cpu")[k]}
            np.testing.assert_array_equal(s.data, x[s.index])
            np.testing.assert_array_equal(y.addressable_data(k), s.data)
        parts = [s.data for s in y.addressable_shards]
        again = ft.make_array_from_single_device_arrays((8, 2), sharding, parts)
        called = ft.make_array_from_callback((8, 2), sharding, lambda index: x[index])
        for z in (again, called):
            assert z.sharding == sharding
            np.testing.assert_array_equal(z, x)
    with pytest.raises(IndexError, match="4 parts, from index 0; got 4"):
        y.addressable_data(4)
    with pytest.raises(ValueError, match="4 devices here, and there are 1 arrays"):
        ft.make_array_from_single_device_arrays((8, 2), sharding, parts[:1])
    assert ft.device_put(x, ft.devices("cpu")[3]).devices() == {ft.devices("cpu")[3]}
    assert ft.numpy.ones((4, 2), device=NamedSharding(four, P("a"))).sharding.spec == P("a")
    tree = ft.device_put([x, x], [NamedSharding(four, P("b")), None])
    assert tree[0].sharding.spec == P("b")
    mapped = ft.shard_map(lambda v: v, mesh=four, in_specs=P("a"), out_specs=P("a"))(x)
    assert mapped.sharding == NamedSharding(four, P("a"))


def test_shardings_of_jit(four):
    rows, columns = NamedSharding(four, P("a")), NamedSharding(four, P(None, "b"))
    x = np.arange(8.0).reshape(4, 2)
    f = ft.jit(
        lambda n, v, w: (v * n, {"w": w + 1}),
        static_argnums=0,
        in_shardings=(rows, None),
        out_shardings=(columns, rows),
    )
    for _ in range(2):
        a, b = f(3, x, x)
        assert (a.sharding, b["w"].sharding) == (columns, rows)
        np.testing.assert_array_equal(a, x * 3)
    np.testing.assert_array_equal(ft.grad(lambda v: f(3, v, x)[0].sum())(x), np.full((4, 2), 3.0))
    assert f.lower(3, x, x).compile()(x, x)[0].shape == (4, 2)
    with pytest.raises(ValueError, match=r"in_shardings: axis 0 of shape .3, 2. must be"):
        f(3, x[:3], x)
    with pytest.raises(ValueError, match="w came by keyword: pass all of them by position"):
        f(3, x, w=x)
    with pytest.raises(ValueError, match="needs a mesh: call it inside of"):
        lax.with_sharding_constraint(x, P("a"))
    with ft.set_mesh(four):
        assert lax.with_sharding_constraint(x, P("a")).sharding == rows
        double = ft.jit(lambda v: lax.with_sharding_constraint(v * 2, P("a", P.UNCONSTRAINED)))
        np.testing.assert_array_equal(double(x), x * 2)
        assert ft.device_put(x, P("a")).sharding == rows
        assert ft.sharding.get_mesh() == four


def test_shard_map_over_some_axes(four):
    x, w = np.arange(16.0).reshape(4, 4), np.arange(8.0).reshape(4, 2)

    def f(x, w):  # along "b" arrays are whole
        assert x.shape == (2, 4)
        return lax.psum(x @ w, "a") / lax.axis_size("a")

    g = ft.shard_map(f, mesh=four, in_specs=(P("a"), P()), out_specs=P(), axis_names={"a"})
    want = (x @ w).reshape(2, 2, 2).mean(0)
    np.testing.assert_allclose(g(x, w), want)
    np.testing.assert_allclose(ft.jit(g)(ft.device_put(x, NamedSharding(four, P("b"))), w), want)
    slope = ft.grad(lambda w: g(x, w).sum())(w)
    np.testing.assert_allclose(slope, np.broadcast_to(x.sum(0)[:, None] / 2, (4, 2)))
    with pytest.raises(NameError, match="no axis named 'b'"):
        ft.shard_map(
            lambda v: lax.psum(v, "b"), mesh=four, in_specs=P(), out_specs=P(), axis_names={"a"}
        )(x)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("check", [False, True])
def test_ring_attention(four, causal, check):
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 3, 8, 5))
    spec = P(None, None, ("a", "b"))
    run = lambda *x: parallel.ring_attention(*x, ("a", "b"), is_causal=causal)
    f = ft.shard_map(run, mesh=four, in_specs=(spec,) * 3, out_specs=spec, check_vma=check)
    want = lambda q, k, v: nnx.scaled_dot_product_attention(q, k, v, None, 0.0, causal)
    loss = lambda g: lambda *x: (g(*x) ** 2).sum()
    slopes = ft.grad(loss(want), (0, 1, 2))(q, k, v)
    for g in (ft.jit(f), lambda *x: parallel.ring_attention(*x, is_causal=causal)):
        np.testing.assert_allclose(g(q, k, v), want(q, k, v), rtol=1e-9, atol=1e-9)
        for a, b in zip(ft.grad(loss(g), (0, 1, 2))(q, k, v), slopes, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    assert (
        parallel.ring_attention(*(fnp.asarray(x, "bfloat16") for x in (q, k, v))).dtype
        == "bfloat16"
    )
    with pytest.raises(ValueError, match=r"is_causal all three; got query \(2, 4\), key"):
        parallel.ring_attention(q[0, 0, :2, :4], k[0, 0, :, :4], v[0, 0], is_causal=True)


# ------------------------------------------------------------------------------ before there is MPI
def test_missing_mpi_names_the_extra(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "_here", [])
    processes._mpi.cache_clear()
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(ImportError, match=r"mpirun has started 2 processes.*'funtorch\[mpi\]'"):
        distributed.initialize()
    processes._mpi.cache_clear()


def test_other_versions_are_named():
    own = {"funtorch": "1.0", "NumPy": "2.1"}
    processes._compare_versions([own, own])
    with pytest.raises(RuntimeError, match=r"rank 0 has NumPy 2\.1, rank 1 has 2\.0"):
        processes._compare_versions([own, {**own, "NumPy": "2.0"}])


def test_differences_of_programs_are_named():
    first = watch.Sayings.of("f", [watch.Said("psum of (f32[3])", "a.py:1")])
    second = watch.Sayings.of("g", [*first.said, watch.Said("pmax of (f32[3])", "b.py:2")])
    message = watch._difference([(0, first), (3, second)])
    assert "collective 2: rank 0, in f, does nothing more; rank 3, in g, does pmax" in message
    assert "b.py:2" in message


# -------------------------------------------------------------------------------------- among ranks
CHECKS = "cases,communicator,ways_of_sums,ring,arrays,dtypes,empty,maps,closures,overlap,mistakes"


@needs_mpi
def test_four_ranks(tmp_path, four):
    path = tmp_path / "want"
    path.write_bytes(pickle.dumps(in_one(four, "eager")["eager"]))
    printed, status = ranks(4, CHECKS, path)
    assert status == 0, printed
    passed = [line.split()[1] for line in printed.splitlines() if line.startswith("passed")]
    assert passed == CHECKS.split(","), printed


def mpich():
    """Return where MPICH is: MPICH_ROOT, Python's environment, or PATH; None if it is not."""
    there = shutil.which("mpiexec.hydra")
    roots = [os.environ.get("MPICH_ROOT"), sys.prefix, there and Path(there).resolve().parents[1]]
    for root in map(Path, filter(None, roots)):
        if (root / "bin" / "mpiexec.hydra").exists() and list((root / "lib").glob("libmpi*.so.*")):
            return root
    return None


def run_checks(command, checks, **env):
    """Run checks of the script by another launcher; return what is printed."""
    done = subprocess.run(
        [*command, sys.executable, str(SCRIPT), checks, "-"],
        env={**os.environ, "FUNTORCH_NUM_THREADS": "1", **env},
        capture_output=True, timeout=120, cwd=HERE, check=False,
    )  # fmt: skip
    printed = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, printed
    return [line.split()[1] for line in printed.splitlines() if line.startswith("passed")]


@needs_mpi
def test_two_ranks_of_mpich():
    root = mpich()
    if root is None:
        pytest.skip("needs MPICH: pip install mpich, or MPICH_ROOT=where it is")
    command = [str(root / "bin" / "mpiexec.hydra"), "-n", "2"]
    env = {"MPI4PY_MPIABI": "mpich", "LD_LIBRARY_PATH": str(root / "lib")}
    assert run_checks(command, "communicator,ways_of_sums", **env) == [
        "communicator",
        "ways_of_sums",
    ]


@needs_mpi
def test_two_ranks_of_slurm():
    try:
        asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        asked = None
    if asked is None or not asked.stdout.strip():
        pytest.skip("needs Slurm, with a controller that answers sinfo")
    command = ["srun", "--mpi=pmix", "--oversubscribe", "--overcommit", "-n", "2"]
    assert run_checks(command, "communicator") == ["communicator"]


@needs_mpi
@pytest.mark.parametrize("how", ["barrier", "program"])
def test_exit_of_one_rank_ends_all(how):
    printed, status = ranks(2, "exit_of_one", how)
    assert status != 0
    ended = time.time() - min(float(n) for n in re.findall(r"began ([0-9.]+)", printed))
    assert "rank 1 has ended, and this rank waits for it in " in printed
    assert "sys.exit" in printed
    assert ended < 10


@needs_mpi
def test_error_of_one_rank_ends_all():
    printed, status = ranks(2, "error_of_one")
    assert status != 0
    assert "ValueError: one rank has an error" in printed
    assert "rank 1 failed" in printed


@needs_mpi
def test_ranks_that_do_other_things_say_so():
    printed, status = ranks(2, "other_program")
    assert status != 0
    for rank in (0, 1):
        assert f"RuntimeError on rank {rank}: ranks disagree" in printed, printed
    assert "psum of (f64[2,3])" in printed
    assert "psum of (f64[4,3])" in printed
    began = max(float(line.split()[1]) for line in printed.splitlines() if line.startswith("began"))
    assert time.time() - began < 10
