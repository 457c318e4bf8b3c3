"""What libraries built on JAX use of it beyond its front: jax.extend, api_util, interpreters."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as jnp
from funtorch import api_util
from funtorch.experimental import hijax
from funtorch.extend import backend, linear_util, source_info_util
from funtorch.extend import core as jex
from funtorch.interpreters import ad, batching, mlir, partial_eval

F32 = ft.core.ShapedArray((), "float32")


def test_functions_are_transformed_in_steps():
    leaves, treedef = ft.tree.flatten(((1.0,), {"b": 2.0}))
    f = linear_util.wrap_init(lambda a, b: {"sum": a + b}, debug_info=None)
    flat, out_tree = api_util.flatten_fun(f, treedef)
    with pytest.raises(linear_util.StoreException, match="not called yet"):
        out_tree()
    assert flat.call_wrapped(*leaves) == [3.0]
    assert ft.tree.unflatten(out_tree(), [3.0]) == {"sum": 3.0}
    with pytest.raises(linear_util.StoreException, match="called twice"):
        flat.call_wrapped(*leaves)

    @linear_util.transformation
    def doubled(*args):
        out = yield args, {}
        yield 2 * out

    @linear_util.transformation_with_aux
    def counted(*args):
        out = yield args, {}
        yield out, len(args)

    f, count = counted(doubled(linear_util.wrap_init(lambda x, k: x + k, {"k": 1})))
    assert f.call_wrapped(2) == 6
    assert count() == 1
    calls = []
    call = linear_util.cache(lambda fun, n: calls.append(n) or n)
    assert [call(linear_util.wrap_init(max), 1) for _ in range(2)] == [1, 1]
    assert calls == [1]


def test_arguments_are_fixed_and_flattened():
    f = linear_util.wrap_init(lambda a, b, c: (a, b, c))
    g, args = api_util.argnums_partial(f, (0, -1), (1, 2, 3))
    assert args == (1, 3)
    assert g.call_wrapped(5, 7) == (5, 2, 7)
    with pytest.raises(ValueError, match=r"static argument 1 .* is not hashable: .* list"):
        api_util.argnums_partial(f, 0, (1, [2], 3))
    with pytest.raises(ValueError, match="in_axes is no prefix of the structure"):
        api_util.flatten_axes("in_axes", ft.tree.structure((1, 2)), (0, 0, 0))
    info = api_util.debug_info("jit", lambda x, y: x, (1,), {"y": 2})
    assert info.traced_for == "jit"
    assert info.arg_names == ("x", "y")


def test_programs_are_built_and_run():
    closed = ft.make_jaxpr(lambda x: jnp.sin(x) * 2)(np.float32(1))
    assert isinstance(closed, jex.Jaxpr)
    assert isinstance(closed.jaxpr, jex.ClosedJaxpr)
    assert isinstance(ft.core.AbstractValue, type)
    assert closed.literals == []
    eqns = [jex.new_jaxpr_eqn(e.invars, e.outvars, e.primitive, e.params) for e in closed.eqns]
    built = jex.Jaxpr([], closed.invars, closed.outvars, [e.replace() for e in eqns])
    (out,) = ft.core.eval_jaxpr(built, [], 1.0)
    assert float(out) == pytest.approx(2 * np.sin(1))
    jex.check_jaxpr(jex.ClosedJaxpr(built, []))
    with pytest.raises(ValueError, match="has 0 constants, 1 values were given"):
        jex.ClosedJaxpr(built, [1.0])
    (out,) = jex.primitives.closed_call_p.bind(1.0, call_jaxpr=built)
    assert float(out) == pytest.approx(2 * np.sin(1))
    assert not jex.primitives.sin_p.call_primitive
    assert jex.primitives.call_p.call_primitive
    with pytest.raises(AttributeError, match=r"'funtorch\.core' has no attribute 'no_such'"):
        ft.core.no_such


def test_the_state_of_tracing():
    outside, seen = jex.get_opaque_trace_state(), []

    def f(x):
        seen.append(
            (
                jex.get_opaque_trace_state() == outside,
                jex.unsafe_am_i_under_a_jit_DO_NOT_USE(),
                jex.unsafe_get_axis_names_DO_NOT_USE(),
            )
        )
        with pytest.raises(ft.errors.ConcretizationTypeError, match="for the number of steps"):
            jex.concrete_or_error(int, jnp.sum(x), "for the number of steps")
        return x

    ft.jit(ft.vmap(f, axis_name="i"))(jnp.ones(2))
    assert seen == [(False, True, ["i"])]
    assert jex.get_opaque_trace_state() == outside
    assert ft.core.trace_state_clean()
    assert jex.concrete_or_error(int, jnp.int32(3)) == 3
    assert jex.unmapped_aval(3, 0, jex.mapped_aval(3, 1, ft.typeof(np.ones((2, 3))))).shape == (
        3,
        2,
    )
    assert jex.primal_dtype_to_tangent_dtype(np.dtype("int32")) == ft.dtypes.float0


def test_what_known_arguments_decide_is_computed():
    pe, ran = partial_eval, []

    def f(x, key):
        ran.append(float(x))
        return [x + 1, ft.random.uniform(key) * x]

    key = ft.random.key(0)
    pvals = [pe.PartialVal.known(2.0), pe.PartialVal.unknown(ft.typeof(key))]
    program, outs, consts = pe.trace_to_jaxpr_nounits(linear_util.wrap_init(f), pvals)
    assert ran == [2.0]
    assert float(outs[0].get_known()) == 3.0
    assert outs[1].get_aval() == F32
    (out,) = ft.core.eval_jaxpr(program, [], *consts, ft.random.key_data(key))
    assert out == ft.random.uniform(key) * 2
    program, types, _ = pe.trace_to_jaxpr_dynamic(
        linear_util.wrap_init(lambda x: [x, jnp.arange(2) * x]), [F32]
    )
    assert [t.shape for t in types] == [(), (2,)]
    small, _, kept = pe.dce_jaxpr_consts(program, [True, False])
    assert kept == [True]
    assert not small.eqns
    assert not small.constvars


def test_batchers_get_the_axis():
    for table, rule in (
        (batching.fancy_primitive_batchers, lambda axis, xs, dims: (xs[0] * axis.size, dims[0])),
        (
            batching.axis_primitive_batchers,
            lambda size, name, _, xs, dims: (xs[0] * (size if name == "i" else 0), dims[0]),
        ),
    ):
        p = jex.Primitive("times_size")
        p.def_impl(lambda x: x)
        p.def_abstract_eval(lambda x: x)
        table[p] = rule
        assert ft.vmap(p.bind, axis_name="i")(jnp.ones(3)).tolist() == [3, 3, 3]
    p.multiple_results = False
    assert mlir.register_lowering(p, "MLIR of others") == "MLIR of others"  # def_impl is called
    assert float(ft.jit(p.bind)(2.0)) == 2.0
    assert batching.broadcast(jnp.ones(2), 3, 1).shape == (2, 3)
    assert ad.zeros_like_aval(F32) == 0
    assert ad.get_primitive_transpose(ft.lax.neg_p) is not None


def test_hijax_says_what_to_do():
    with pytest.raises(NotImplementedError, match="make the type a pytree"):
        hijax.HiPrimitive("mine").bind(1.0)


def test_machines_and_places():
    assert backend.get_backend().platform == "cpu"
    assert "cpu" in backend.backends()
    here = source_info_util.current()
    assert "test_extend_names" in source_info_util.summarize(here)
    prefixes = ft.errors._inside.prefixes
    try:
        source_info_util.register_exclusion(__file__)
        assert "test_extend_names" not in str(source_info_util.current())
    finally:
        ft.errors._inside.prefixes = prefixes
        ft.errors._inside.clear()


def test_types_pass_through_eval_shape():
    kept = ft.ShapeDtypeStruct((5,), "int8")
    out = ft.eval_shape(lambda x: {"a": x, "b": (kept, ft.random.key(0))}, np.ones(2, "float32"))
    assert out["b"][0] is kept
    assert out["a"].shape == (2,)
    with ft.config.override(narrow=True):  # jax_enable_x64 off
        assert ft.eval_shape(jnp.sin, np.ones(2)).dtype == "float32"
        assert ft.eval_shape(jnp.sin, ft.ShapeDtypeStruct((2,), "float64")).dtype == "float32"


def test_what_is_not_known_at_compile_time_is_traced():
    @ft.jit
    def f(x):
        with ft.ensure_compile_time_eval():
            n = int(jnp.arange(3).sum())
            return jnp.cos(x) * n, ft.vmap(jnp.sin)(x[None])

    cos, sin = f(jnp.float32(1))
    assert cos == pytest.approx(3 * np.cos(1))
    assert sin == pytest.approx([np.sin(1)])


def test_types_of_keys_and_references():
    key, ref = ft.random.key(0), ft.new_ref(jnp.ones(2))
    assert ft.typeof(key).str_short() == "key<fry>[]"
    assert jnp.result_type(key) == key.dtype
    assert isinstance(ft.typeof(ref), ft.ref.AbstractRef)
    assert ft.typeof(ref).shape == (2,)
    assert not jnp.allclose(key, ft.random.key(1))
    assert jnp.allclose(key, ft.random.key(0))


def test_rules_with_truths_and_other_dtypes():
    @ft.custom_vjp
    def f(x, y):
        return x * y

    def fwd(x, y):
        return f(x.value, y.value), (x.perturbed, y.perturbed, y.value)

    def bwd(res, ct):
        x_counts, y_counts, y = res
        assert x_counts is True
        assert y_counts is False
        return (ct * y).astype("float16"), None

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    for transform in (lambda g: g, ft.jit):
        g = transform(ft.grad(f))(np.float32(2), np.float32(3))
        assert g.dtype == "float32"
        assert g == 3


def test_products_of_ones_own():
    seen = []

    def dot(a, b, dims, precision=None, preferred_element_type=None):
        seen.append((a.shape, b.shape))
        return ft.lax.dot_general(a, b, dims, precision, preferred_element_type)

    x = np.arange(6.0).reshape(2, 3)
    out = jnp.einsum("ij,kj->ki", x, x, _dot_general=dot)
    assert (out == x @ x.T).all()
    assert len(seen) == 1
    a, b = jnp.ones((2, 3), "float8_e5m2"), jnp.full((3, 2), 2, "float8_e4m3fn")
    out = ft.lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type="float32")
    assert out.dtype == "float32"
    assert (out == 6).all()


def test_static_names_beside_static_positions_are_meant_as_they_are():
    f = ft.jit(lambda a, b, c=1: a * len(c), static_argnums=(0,), static_argnames=("c",))
    assert int(f(2, {"x": 1}, c="abc")) == 6  # position 2 is not static for it


def test_subtrees_need_no_order():
    odd = {"a": 1, ("b",): 2}
    assert ft.tree.map(lambda x, d: len(d), [1], [odd]) == [2]


def test_small_agreements():
    assert jnp.zeros(6).reshape(np.array([2, 3])).shape == (2, 3)
    assert ft.lax.dtype(jnp.int8) == "int8"
    assert ft.core.ShapedArray((), jnp.int8) == ft.typeof(np.int8(1))
    assert ft.sharding.get_abstract_mesh().empty
    assert ft.config.parse_flags_with_absl() is None
    with ft.check_tracer_leaks(False), ft.check_tracer_leaks():
        pass
    init = ft.nn.initializers.lecun_normal(dtype="complex64")
    w = init(ft.random.key(0), (400, 50))
    assert w.dtype == "complex64"
    assert float(jnp.abs(w * 20).std() ** 2) == pytest.approx(0.2, abs=0.1)
    assert float((jnp.abs(w * 20) ** 2).mean()) == pytest.approx(1, abs=0.03)
