"""What JAX gives where NumPy gives another or no answer; the values are those of JAX 0.10."""

import array
import itertools
from functools import partial

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

LOWEST = {"int8": -128, "int32": -(2**31), "int64": -(2**63)}


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint32", "uint64"])
def test_integers_divided_by_zero(dtype):
    """Eagerly as under jit."""
    signed = dtype[0] == "i"
    x = fnp.asarray([5, -7, 0, 9] if signed else [5, 7, 0, 9], dtype)
    zero = fnp.asarray([0, 0, 0, 2], dtype)
    most = 2 ** (8 * x.dtype.itemsize) - 1
    quotient = [-2, -2, -1, 4] if signed else [most, most, most, 4]
    plain = [-1, -1, -1, 4] if signed else quotient
    for run in (lambda f: f(x, zero), lambda f: ft.jit(f)(x, zero)):
        assert run(fnp.floor_divide).tolist() == quotient
        assert run(fnp.remainder).tolist() == [0, 0, 0, 1]
        assert run(fnp.fmod).tolist() == [0, 0, 0, 1]
        assert [part.tolist() for part in run(fnp.divmod)] == [quotient, [0, 0, 0, 1]]
        assert run(lax.div).tolist() == plain
        assert run(lax.rem).tolist() == [*x.tolist()[:3], 1]
    assert (x // 0).tolist()[:3] == ft.jit(lambda x: x // 0)(x).tolist()[:3] == quotient[:3]
    assert (x % 0).tolist() == ft.jit(lambda x: x % 0)(x).tolist() == [0, 0, 0, 0]
    if signed:
        least, minus = fnp.asarray([LOWEST[dtype]], dtype), fnp.asarray([-1], dtype)
        for f in (fnp.floor_divide, ft.jit(fnp.floor_divide), lax.div, ft.jit(lax.div)):
            assert f(least, minus).tolist() == [LOWEST[dtype]]


def test_nearest_quantile_of_two_as_near_is_the_lower():
    q = fnp.asarray([0.1, 0.125, 0.25, 0.5, 0.75, 0.375, 0.625, 0.875])
    wanted = {
        2: [0, 0, 0, 0, 1, 0, 1, 1], 3: [0, 0, 0, 1, 1, 1, 1, 2], 4: [0, 0, 1, 1, 2, 1, 2, 3],
        5: [0, 0, 1, 2, 3, 1, 2, 3], 6: [0, 1, 1, 2, 4, 2, 3, 4], 7: [1, 1, 1, 3, 4, 2, 4, 5],
    }  # fmt: skip
    for n, want in wanted.items():
        x = fnp.arange(float(n))
        assert fnp.quantile(x, q, method="nearest").tolist() == want
        jitted = ft.jit(lambda x: fnp.quantile(x, q, method="nearest"))
        assert jitted(x).tolist() == want


def test_roots_keep_their_number():
    def real(p):
        return ft.jit(lambda p: fnp.roots(p, strip_zeros=False))(fnp.asarray(p)).real.tolist()

    nan = pytest.approx(np.nan, nan_ok=True)
    assert real([0.0, 1.0, 2.0]) == [pytest.approx(-2), nan]
    assert real([0.0, 0.0, 1.0, -3.0, 2.0]) == [pytest.approx(1), pytest.approx(2), nan, nan]
    assert real([0.0, 0.0]) == [nan]
    assert real([1.0, -3.0, 0.0]) == [pytest.approx(3), 0]


def test_products_of_integer_vectors_are_floats():
    x, y = fnp.asarray([1, 2, 3]), fnp.asarray([4, 5])
    for f, want in ((fnp.convolve, [4, 13, 22, 15]), (fnp.correlate, [14, 23])):
        out = f(x, y)
        assert (out.tolist(), out.dtype) == (want, np.float32)
        assert f(x, y, preferred_element_type="int32").dtype == np.int32
    assert fnp.convolve(x, y.astype("float16")).dtype == np.float16


def test_numbers_in_buffers():
    assert fnp.array(array.array("i", [2, 3, 5])).tolist() == [2, 3, 5]
    assert fnp.asarray(bytearray(b"ab")).tolist() == [97, 98]
    with pytest.raises(TypeError, match="type bytes cannot become an array"):
        fnp.asarray(b"ab")


def test_functions_of_coordinates_are_mapped():
    assert fnp.fromfunction(lambda i, j: fnp.ones(4) * i + j, (2, 3)).shape == (2, 3, 4)
    assert fnp.fromfunction(lambda: 7, ()) == 7
    assert fnp.fromfunction(lambda i, k: k, (2,), k=3).tolist() == [3, 3]


def test_interpolation_beyond_the_ends():
    x, xp, fp = (
        fnp.asarray([-1.0, 0.5, 4.0]),
        fnp.asarray([0.0, 1.0, 2.0]),
        fnp.asarray([0.0, 1, 4]),
    )
    got = fnp.interp(x, xp, fp, left="extrapolate", right="extrapolate")
    assert got.tolist() == [-1, 0.5, 10]
    assert fnp.interp(x, xp, fp, right="extrapolate").tolist() == [0, 0.5, 10]


def test_polynomials_side_by_side_and_conditions_for_all():
    x, y = fnp.asarray([[1, 2], [3, 4]]), fnp.asarray([[10, 20]])
    assert fnp.polyadd(x, y).tolist() == fnp.polyadd(y, x).tolist() == [[1, 2], [13, 24]]
    assert fnp.polysub(y, x).tolist() == [[-1, -2], [7, 16]]
    assert fnp.polyadd(x, fnp.asarray([7])).tolist() == [[1, 2], [10, 11]]
    scale = [lambda x: 0 * x, lambda x: 10 * x, lambda x: 100 * x]
    found = fnp.piecewise(fnp.asarray([1, 2]), fnp.asarray([False, True, False]), scale)
    assert found.tolist() == [10, 20]


def test_spaced_values_are_the_exact_ones_rounded():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 7, 50, 101):
        a, b = map(float, rng.normal(size=2).astype("float32"))
        want = np.linspace(a, b, n).astype("float32").tolist()
        assert fnp.linspace(a, b, n).tolist() == want
        assert ft.jit(lambda a=a, b=b, n=n: fnp.linspace(a, b, n))().tolist() == want
        traced = ft.jit(lambda a, b, n=n: fnp.linspace(a, b, n))(a, b)
        np.testing.assert_allclose(traced, want, rtol=1e-5, atol=1e-6)
        assert traced[-1] == fnp.linspace(a, b, n)[-1]
    x = fnp.asarray([1, 2, 3, 10, 11, 15, 19, 25])
    for f in (fnp.histogram, ft.jit(fnp.histogram, static_argnums=(1, 2))):
        assert f(x, 5, (0, 25))[0].tolist() == [3, 0, 2, 2, 1]
        assert f(x, 8)[1].tolist() == [1, 4, 7, 10, 13, 16, 19, 22, 25]


def test_where_arrays_are():
    x = fnp.ones((2, 3))
    place = x.sharding
    assert place == ft.sharding.SingleDeviceSharding(x.device)
    assert (place.device_set, place.shard_shape((2, 3))) == (x.devices(), (2, 3))
    assert place.devices_indices_map((2, 3)) == {x.device: (slice(None), slice(None))}
    assert place.is_equivalent_to(ft.random.key(0).sharding, 0)
    (shard,) = x.addressable_shards
    assert (shard.device, shard.index, shard.replica_id) == (x.device, (slice(None),) * 2, 0)
    assert shard.data is x.addressable_data(0) is x
    assert x.is_fully_addressable
    assert x.is_fully_replicated
    assert not x.committed
    assert x.is_ready()
    assert (x.on_device_size_in_bytes(), x.platform()) == (24, "cpu")
    assert ft.device_put(1, place) == fnp.zeros((), device=place) + 1
    ft.jit(lambda x: [x.sharding, x.addressable_shards] and x)(x)
    assert x.unsafe_buffer_pointer() % 4 == 0
    spec = ft.ShapeDtypeStruct((3,), "float32")
    assert (spec.update(shape=(4,)).shape, spec.sharding) == ((4,), None)
    with pytest.raises(IndexError, match="one part, of index 0; got 1"):
        x.addressable_data(1)
    with pytest.raises(ValueError, match="not 'pinned_host'"):
        place.with_memory_kind("pinned_host")


def test_keys_are_arrays():
    keys = ft.random.split(ft.random.key(0), 3)
    assert isinstance(keys, ft.Array)
    assert isinstance(keys, fnp.ndarray)
    assert issubclass(type(keys), ft.Array)
    assert not isinstance(np.ones(2), ft.Array)
    assert isinstance(fnp.ones(2), ft.Array)
    words = ft.random.key_data(keys)
    moved = ft.jit(lambda keys: keys.at[0].set(keys[2]).at[1:].set(keys[:2]))(keys)
    assert ft.random.key_data(moved).tolist() == words[np.array([2, 0, 1])].tolist()
    assert ft.random.key_data(keys.at[2].get()).tolist() == words[2].tolist()
    pairs = keys[:2].reshape(2, 1)
    assert [k.shape for k in (pairs.T, pairs.squeeze(), pairs.swapaxes(0, 1))] == [
        (1, 2),
        (2,),
        (1, 2),
    ]
    assert pairs.transpose(1, 0).shape == pairs.transpose((1, 0)).shape == (1, 2)
    assert keys.take(np.array([0, 0])).shape == (2,)
    assert (keys.nbytes, keys.copy().shape) == (24, (3,))
    assert ft.random.wrap_key_data(words, dtype=ft.random.key_dtype()).dtype == keys.dtype
    with pytest.raises(TypeError, match="takes keys, got int"):
        keys.at[0].set(1)
    with pytest.raises(IndexError, match="2 indices for keys"):
        keys.at[0, 1]


def test_what_vmap_does_not_map_may_be_anything():
    x = np.arange(3.0)
    apply = lambda f, x, k: f(x) if k["how"] == "call" else x
    mapped = ft.vmap(apply, (None, 0, None))
    assert mapped(fnp.sin, x, {"how": "call"}).tolist() == fnp.sin(x).tolist()
    assert ft.jit(lambda x: mapped(fnp.sin, x, {"how": "not"}))(x).tolist() == x.tolist()
    assert ft.vmap(lambda s, x: len(s) * x if x > 1 else x, (None, 0))("ab", x).tolist() == [
        0,
        1,
        4,
    ]
    with pytest.raises(TypeError, match="leaf 0 is 'ab' of type str"):
        ft.vmap(lambda s, x: x)("ab", x)


def test_a_branch_may_have_an_operand_of_its_own():
    for which, want in ((True, 4.0), (False, 10.0)):
        assert lax.cond(which, 3.0, lambda x: x + 1, (4.0, 6.0), lambda x: x[0] + x[1]) == want
    assert lax.platform_dependent(1.0, cuda=lambda x: x - 1, default=lambda x: x + 1) == 2


def test_errors_of_shapes_are_those_of_numpy_and_of_jax():
    mistakes = (
        lambda: fnp.ones(3) + fnp.ones(2),
        lambda: fnp.broadcast_to(fnp.ones(3), (2,)),
        lambda: ft.jvp(fnp.sin, (np.ones(3),), (np.ones(2),)),
        lambda: ft.jvp(fnp.sin, (1.0,), (1.0, 2.0)),
        lambda: ft.vjp(lambda x: (x, x), 1.0)[1](1.0),
        lambda: ft.linearize(fnp.sin, np.ones(3))[1](np.ones(2)),
        lambda: ft.linear_transpose(lambda x: 2 * x, 1.0)((1.0,)),
        lambda: ft.grad(fnp.sin, argnums=1)(1.0),
    )
    for kind, mistake in itertools.product((ValueError, TypeError), mistakes):
        with pytest.raises(kind):
            mistake()


def test_compiled_functions_take_no_static_arguments():
    f = ft.jit(
        lambda x, n, y, *, how: x * n + y if how else x, static_argnums=1, static_argnames="how"
    )
    x = fnp.arange(3.0)
    lowered = f.lower(x, 2, y=x, how=True)
    assert lowered.compile()(x, y=x).tolist() == [0, 3, 6]
    assert f.lower(x, 2, 1.0, how=True).compile()(x, 1.0).tolist() == [1, 3, 5]
    assert lowered.args_info[0][0].shape == (3,)
    with pytest.raises(TypeError, match="takes arguments of structure"):
        lowered.compile()(x, 2, y=x)


def test_what_lowered_functions_tell():
    f = ft.jit(lambda x, y: {"a": x @ y, "b": 2 * x}, donate_argnums=0)
    lowered = f.lower(np.ones((2, 3), "float32"), np.ones(3, "float32"))
    (x, y), _ = lowered.args_info
    assert (x.shape, x.dtype, x.donated, y.donated) == ((2, 3), np.float32, True, False)
    assert [a.shape for a in lowered.in_avals[0]] == [(2, 3), (3,)]
    text = lowered.as_text("stablehlo", debug_info=True)
    assert text == lowered.compiler_ir() == lowered.compiler_ir(dialect="stablehlo")
    assert "stablehlo.dot_general" in text
    assert "tensor<2x3xf32>" in text
    with pytest.raises(ValueError, match="unknown dialect 'hlo'"):
        lowered.compiler_ir("hlo")
    with pytest.raises(ValueError, match=r"no compiler_options: they are XLA's, got \['fast'\]"):
        lowered.compile({"fast": True})
    assert (
        lowered.compile(compiler_options={})(np.ones((2, 3), "f4"), np.ones(3, "f4"))["a"][0] == 3
    )
    with pytest.raises(ValueError, match=r"arguments \[0\] are both static and donated"):
        ft.jit(lambda x: x, static_argnums=0, donate_argnums=0)


def test_fields_of_a_shape_dtype_struct():
    weak = ft.eval_shape(lambda x: 2 * x, 1.0)
    assert repr(weak) == "ShapeDtypeStruct(shape=(), dtype=float32, weak_type=True)"
    strong = weak.update(weak_type=False, shape=(3, 2))
    assert strong != weak.update(shape=(3, 2))
    assert len(strong) == 3
    assert strong == ft.ShapeDtypeStruct((3, 2), "float32", sharding=None)
    with pytest.raises(TypeError, match=r"len.. of unsized object"):
        len(weak)


def test_device_put_of_a_prefix_of_devices():
    cpu = ft.devices()[0]
    x = ft.device_put((1, {"a": 2.0}), (None, cpu), donate=True, may_alias=False)
    assert x[0] == 1
    assert x[1]["a"].device == cpu
    with pytest.raises(ValueError, match="device does not fit the tree"):
        ft.device_put((1, 2), (cpu,))


def test_unravel_takes_the_dtype_of_the_vector():
    vector, unravel = ft.flatten_util.ravel_pytree([fnp.ones(2), fnp.zeros((1, 2))])
    assert [x.dtype for x in unravel(vector > 0)] == [bool, bool]
    mixed, unravel_mixed = ft.flatten_util.ravel_pytree([fnp.ones(2), fnp.zeros(2, "int32")])
    assert [x.dtype for x in unravel_mixed(mixed)] == [np.float32, np.int32]
    with pytest.raises(TypeError, match="vector of dtype bool, but expected dtype float32"):
        unravel_mixed(mixed > 0)
    assert hash(unravel) == hash(ft.flatten_util.ravel_pytree([fnp.zeros(2), fnp.ones((1, 2))])[1])


def test_contexts_of_flags():
    with (
        ft.transfer_guard("disallow"),
        ft.enable_checks(False),
        ft.default_prng_impl("threefry2x32"),
    ):
        assert ft.config.jax_transfer_guard == "disallow"
        assert ft.config.jax_enable_checks is False
    assert ft.config.jax_transfer_guard is None
    with pytest.raises(ValueError, match="transfer_guard must be one of"):
        ft.transfer_guard("never").__enter__()
    with pytest.raises(ValueError, match="numpy_dtype_promotion must be one of standard, strict"):
        ft.numpy_dtype_promotion("loose").__enter__()


def test_cotangents_keep_their_kind():
    _, back = ft.vjp(lambda x: 2 * x, 1.0)
    assert float(back(3)[0]) == 6
    with pytest.raises(ValueError, match=r"output 0 is f32\[\] but the cotangent .* c64\[\]"):
        back(2j)
    with pytest.raises(TypeError, match="mul is not linear in all of its arguments"):
        ft.linear_transpose(lambda x: x * x, 1.0)(1.0)
    assert ft.grad(lambda x, y: x * y, np.int32(1))(2.0, 3.0) == 2


def test_what_ported_programs_meet():
    """Error types, promotion and attributes that programs written for JAX count on."""
    x = fnp.ones(3)
    for key in ("a", 1.0, fnp.float32(1)):
        for error in (TypeError, IndexError):
            with pytest.raises(error, match="integer"):
                x[key]
    with pytest.raises(TypeError, match="does not fit into shape"):
        fnp.reshape(x, (2,))
    kept = []
    ft.jit(kept.append)(1.0)
    with pytest.raises(TypeError):
        kept[0] + 1
    with ft.config.override(narrow=True):
        u, i = fnp.zeros(1, "uint32"), fnp.zeros(1, "int32")
        assert {(u + i).dtype, fnp.result_type(u, i), fnp.promote_types("uint32", "int32")} == {
            np.dtype("int32")
        }
    assert fnp.expand_dims(x, range(2)).shape == (1, 1, 3)
    assert ft.ops.segment_max(fnp.float32(2.0), fnp.array([0, 2]), 3).tolist() == [2, -np.inf, 2]
    assert ft.grad(lambda x: ft.device_get([x])[0] * 2)(3.0).item() == 2
    with ft.enable_custom_prng():
        assert ft.random.PRNGKey(3) == ft.random.key(3)
    assert ft.random.PRNGKey(3).tolist() == [0, 3]
    names = [eqn.primitive for eqn in ft.make_jaxpr(lambda x: lax.exp(-x))(x).eqns]
    assert names == [lax.neg_p, lax.exp_p]


def test_transformed_functions_show_attributes():
    def f(x):
        return x

    f.note = 3
    for transform in (ft.jit, ft.custom_jvp, ft.custom_vjp, ft.vmap, ft.grad, ft.checkpoint):
        assert transform(f).note == 3
    assert not hasattr(ft.jit(ft.jit(lambda x: x)), "note")


def test_a_function_for_several_branches_is_traced_once():
    calls = []

    def branch(x):
        calls.append(1)
        return x + len(calls)

    assert ft.jit(lambda p: lax.cond(p, branch, branch, 1.0))(True).item() == 2
    assert ft.jit(lambda i: lax.switch(i, [branch, lambda x: -x, branch], 1.0))(1).item() == -1
    assert len(calls) == 2


def test_forward_mode_of_a_backward_rule_that_is_not_linear():
    clipped = ft.custom_vjp(lambda x: x)
    clipped.defvjp(lambda x: (x, None), lambda _, ct: (fnp.clip(ct, -1.0, 1.0),))
    with pytest.raises(TypeError, match=r"custom_vjp .* not linear in the cotangent.*custom_jvp"):
        ft.jvp(clipped, (1.0,), (1.0,))


def test_make_jaxpr_across_named_axes():
    jaxpr = ft.make_jaxpr(lambda x: lax.psum(x, "i") / lax.axis_size("i"), (), [("i", 4)])(1.0)
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["psum", "div"]
    with pytest.raises(NameError, match="'i'"):
        ft.make_jaxpr(lambda x: lax.psum(x, "i"))(1.0)


def test_lax_follows_xla_where_dtypes_and_places_meet():
    def dtype(a, b):
        dims = (((0,), (0,)), ((), ()))
        return lax.dot_general(fnp.ones(2, a), fnp.ones(2, b), dims).dtype.name

    assert dtype("int32", "uint32") == dtype("uint32", "int32") == "int32"
    assert [dtype("int8", "uint16"), dtype("float16", "bfloat16")] == ["uint16", "bfloat16"]
    x, i = fnp.arange(4.0), np.array([-1, -9, 2, 9])
    assert fnp.take(x, i, mode="clip").tolist() == np.take(x, i, mode="clip").tolist()
    assert fnp.take(x, i, mode="wrap").tolist() == np.take(x, i, mode="wrap").tolist()
    at = x.at[i]
    assert at.get(mode="clip", wrap_negative_indices=False).tolist() == [0, 0, 2, 3]
    assert at.set(7.0, wrap_negative_indices=False).tolist() == [0, 1, 7, 3]
    assert x.at[-1].add(7.0, mode="drop", wrap_negative_indices=False).tolist() == [0, 1, 2, 3]
    same = ft.grad(lambda x: ft.lax.bitcast_convert_type(x, fnp.float32).sum())
    assert same(x).tolist() == [0, 0, 0, 0]


def test_cholesky_of_what_is_not_symmetric_has_the_derivative_of_its_lower_triangle():
    low = partial(lax.linalg.cholesky, symmetrize_input=False)
    m, step = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    t = ft.jvp(low, (m,), (step,))[1]
    assert np.allclose(t, [[0.25, 0.0], [1.4375, 0.84800065]])  # JAX
