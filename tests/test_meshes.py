"""Meshes with and without devices, and the ways to say how arrays are divided over them."""

import pickle

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, random
from funtorch.sharding import (
    AbstractMesh,
    AxisType,
    NamedSharding,
    P,
    SingleDeviceSharding,
    auto_axes,
    concrete,
    explicit_axes,
    get_abstract_mesh,
    get_mesh,
    make_single_device_sharding,
    reshard,
    use_abstract_mesh,
)

X = np.arange(32, dtype=np.float32).reshape(8, 4)


@pytest.fixture
def mesh():
    with ft.config.override(num_cpu_devices=8):
        yield ft.make_mesh((4, 2), ("a", "b"))


def test_abstract_meshes(mesh):
    abstract = AbstractMesh((4, 2), ("a", "b"))
    assert mesh.abstract_mesh == abstract == pickle.loads(pickle.dumps(abstract))
    assert len({abstract, mesh.abstract_mesh, abstract.update(axis_names=("c", "d"))}) == 2
    assert repr(abstract) == "AbstractMesh('a': 4, 'b': 2, axis_types=(Auto, Auto))"
    for m in (mesh, abstract):
        assert (m.size, m.axis_sizes, m.shape_tuple) == (8, (4, 2), (("a", 4), ("b", 2)))
        assert (dict(m.shape), m.empty, m.auto_axes) == ({"a": 4, "b": 2}, False, ("a", "b"))
        assert (m.explicit_axes, m.manual_axes, m.are_all_axes_auto) == ((), (), True)
        assert not m.are_all_axes_explicit
        assert not m.are_all_axes_manual
    explicit = ft.make_mesh((2,), ("z",), axis_types=(AxisType.Explicit,))
    assert explicit.are_all_axes_explicit
    assert explicit.abstract_mesh != AbstractMesh((2,), ("z",))
    assert mesh.local_mesh is mesh
    assert mesh.update(axis_names=("c", "d")).axis_names == ("c", "d")
    assert pickle.loads(pickle.dumps(NamedSharding(mesh, P("a")))) == NamedSharding(mesh, P("a"))
    # Names and sizes are enough to say what parts are, without devices.
    many = NamedSharding(AbstractMesh((512,), ("z",)), P(None, "z"))
    assert many.shard_shape((3, 1024)) == (3, 2)
    with pytest.raises(ValueError, match="has no devices, only names and sizes"):
        _ = abstract.devices
    with pytest.raises(ValueError, match="give each axis a name of its own"):
        AbstractMesh((4, 2), ("a",))
    with pytest.raises(ValueError, match="needs 512 devices, and there are 8"):
        concrete(many.mesh)
    with pytest.raises(NotImplementedError, match=r"by lax\.psum"):
        P("a", unreduced={"b"})


def test_the_current_mesh(mesh):
    assert get_abstract_mesh().empty
    assert get_mesh().empty
    abstract = mesh.abstract_mesh
    want = X.reshape(4, 2, 4).sum(0)
    total = lambda mesh=None: ft.shard_map(
        lambda x: lax.psum(x, "a"), mesh=mesh, in_specs=P("a"), out_specs=P()
    )
    with ft.set_mesh(mesh):
        assert get_abstract_mesh() == abstract
        assert get_mesh() is mesh is concrete(abstract)
        np.testing.assert_array_equal(total()(X), want)
    np.testing.assert_array_equal(ft.jit(total(abstract))(X), want)
    with use_abstract_mesh(abstract) as there:
        assert there == mesh
        np.testing.assert_array_equal(total()(X), want)


def test_reshard(mesh):
    rows = NamedSharding(mesh, P("a"))
    for place in (rows, NamedSharding(mesh.abstract_mesh, P("a"))):
        y = reshard({"x": X}, place)["x"]
        assert (y.sharding, y.addressable_shards[0].data.shape) == (rows, (2, 4))
    with mesh:
        assert ft.reshard(X, P("a")).sharding == rows
        assert auto_axes(lambda x: x * 2, out_sharding=P("a"))(X).sharding == rows
        twice = auto_axes(lambda x: x * 2)
        assert twice(X, out_sharding=P("a")).sharding == rows
        np.testing.assert_array_equal(twice(X), X * 2)
        assert explicit_axes(lambda x: x, in_sharding=P("a"))(X).sharding == rows
        assert explicit_axes(lambda x: x)(X, in_sharding=P("a")).sharding == rows
    with pytest.raises(ValueError, match=r"reshard: axis 0 of shape \(7, 4\) must be divisible"):
        reshard(X[:7], rows)
    device = ft.devices()[0]
    assert make_single_device_sharding(device) == SingleDeviceSharding(device)


def test_smap(mesh):
    with mesh:
        centred = ft.smap(lambda x: x - lax.pmean(x, "a"), in_axes=0, out_axes=0, axis_name="a")
        parts = X.reshape(4, 2, 4)
        np.testing.assert_allclose(centred(X), (parts - parts.mean(0)).reshape(8, 4))

        @ft.smap(in_axes=(-1, {"w": None}), out_axes=(1, None), axis_name="b")
        def f(x, tree):
            return x * tree["w"], lax.psum(x.sum(), "b")

        y, total = ft.jit(f)(X, {"w": 2.0})
        np.testing.assert_array_equal(y, X * 2)
        assert float(total) == X.sum()
        with pytest.raises(ValueError, match=r"smap of <lambda>.*: in_axes has 2 for an"):
            ft.smap(lambda x: x, in_axes=2, out_axes=0, axis_name="a")(X)
        with pytest.raises(ValueError, match="out_axes has -1: count axes from the front"):
            ft.smap(lambda x: x, in_axes=0, out_axes=-1, axis_name="a")(X)
    with pytest.raises(ValueError, match="there is no mesh"):
        centred(X)


K, W, V = random.key(0), np.ones((4, 2)), np.ones((2, 4))
MADE = {
    "zeros": lambda **o: fnp.zeros((8, 2), **o),
    "ones": lambda **o: fnp.ones(8, **o),
    "full": lambda **o: fnp.full(8, 3, **o),
    "empty": lambda **o: fnp.empty(8, **o),
    "zeros_like": lambda **o: fnp.zeros_like(X, **o),
    "full_like": lambda **o: fnp.full_like(X, 2, **o),
    "arange": lambda **o: fnp.arange(8, **o),
    "array": lambda **o: fnp.array([1, 2, 3, 4], **o),
    "asarray": lambda **o: fnp.asarray(X, **o),
    "reshape": lambda **o: fnp.reshape(X, (4, 8), **o),
    "ravel": lambda **o: fnp.ravel(X, **o),
    "matmul": lambda **o: fnp.matmul(W, V, **o),
    "dot": lambda **o: fnp.dot(W, V, **o),
    "einsum": lambda **o: fnp.einsum("ij,jk", W, V, **o),
    "tensordot": lambda **o: fnp.tensordot(W, V, 1, **o),
    "broadcast_to": lambda **o: fnp.broadcast_to(1.0, (4, 2), **o),
    "normal": lambda **o: random.normal(K, (4,), **o),
    "normal of many": lambda **o: random.normal(K, (400, 400), **o),
    "uniform": lambda **o: random.uniform(K, (4,), **o),
    "bits": lambda **o: random.bits(K, (4,), **o),
    "randint": lambda **o: random.randint(K, (4,), 0, 9, **o),
    "categorical": lambda **o: random.categorical(K, W, **o),
    "bernoulli": lambda **o: random.bernoulli(K, 0.5, (4,), **o),
    "truncated_normal": lambda **o: random.truncated_normal(K, -1, 1, (4,), **o),
    "gumbel": lambda **o: random.gumbel(K, (4,), **o),
    "exponential": lambda **o: random.exponential(K, (4,), **o),
    "lax.reshape": lambda **o: lax.reshape(X, (4, 8), **o),
    "lax.broadcast": lambda **o: lax.broadcast(X, (4,), **o),
    "lax.broadcast_in_dim": lambda **o: lax.broadcast_in_dim(X, (4, 8, 4), (1, 2), **o),
    "lax.dot_general": lambda **o: lax.dot_general(W, V, (((1,), (0,)), ((), ())), **o),
    "lax.dot": lambda **o: lax.dot(W, V, **o),
    "lax.broadcasted_iota": lambda **o: lax.broadcasted_iota(int, (4, 2), 0, **o),
    "lax.empty": lambda **o: lax.empty((4,), float, **o),
}


def test_results_that_are_divided(mesh):
    rows = NamedSharding(mesh, P("a"))
    for name, make in MADE.items():
        plain, parted = make(), make(out_sharding=rows)
        assert (parted.sharding, parted.dtype) == (rows, plain.dtype), name
        np.testing.assert_array_equal(plain, parted, name)
        np.testing.assert_array_equal(plain, make(out_sharding=None), name)
        inside = ft.jit(lambda make=make: make(out_sharding=rows))()
        np.testing.assert_array_equal(plain, inside, name)
    assert lax.full((4,), 1, sharding=rows).sharding == rows
    assert lax.full_like(X, 1, sharding=rows).sharding == rows
    with mesh:
        assert fnp.zeros(8, out_sharding=P("a")).sharding == rows
    with pytest.raises(ValueError, match=r"zeros: axis 0 of shape .7,. must be divisible by 4"):
        fnp.zeros(7, out_sharding=rows)
    made = ft.make_array_from_callback((8, 4), rows, lambda index: X[index], dtype=np.float64)
    assert made.dtype == np.float64
