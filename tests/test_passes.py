"""The passes: what each replaces, that programs stay well formed, and that values stay the same."""

import math
import time

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.config import config
from funtorch.core import ArrayImpl, ShapedArray, primitives
from funtorch.jaxpr import check_jaxpr, eval_jaxpr, stage, sub_jaxprs
from funtorch.transforms import passes
from funtorch.transforms.passes.algebra import is_exact
from funtorch.transforms.simplify import simplify, simplify_bodies

F32, F64, I32 = np.dtype("float32"), np.dtype("float64"), np.dtype("int32")
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.5, np.inf, -np.inf, np.nan, 1e-45, 3e38], F32)


def program(f, *args):
    """Stage ``f`` of NumPy arrays that returns Arrays."""
    avals = [ShapedArray(np.shape(a), np.asarray(a).dtype) for a in args]

    def flat(*xs):
        out = f(*xs)
        return list(out) if isinstance(out, (tuple, list)) else [out]

    return stage(flat, avals)


def names(jaxpr):
    """List the primitives of a program, those of its bodies in brackets."""
    found = []
    for eqn in jaxpr.eqns:
        found.append(eqn.prim.name)
        for sub in sub_jaxprs(eqn.params):
            found.append(names(sub))
    return found


def run(jaxpr, *args):
    return [np.asarray(o) for o in eval_jaxpr(jaxpr, *[ArrayImpl(np.asarray(a)) for a in args])]


def same(a, b):
    """Equal to the bit, nan for nan."""
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
    if a.dtype.kind == "f":
        keep = ~np.isnan(a)
        np.testing.assert_array_equal(np.signbit(a)[keep], np.signbit(b)[keep])


def check(f, *args, compare=same, run_pass=simplify):
    """Run a pass; check the program, and its values against those of the program before."""
    before = program(f, *args)
    after = run_pass(before)
    check_jaxpr(after)
    assert [a.str_short() for a in after.in_avals] == [a.str_short() for a in before.in_avals]
    for a, b in zip(run(before, *args), run(after, *args), strict=True):
        compare(a, b)
    return after


def close(a, b):
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


def full(x, value):
    return fnp.full(x.shape, value, x.dtype)


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(F32)


# ---------------------------------------------------------------------- algebra
NONE = []
X = SPECIAL
INTS = np.array([-7, 0, 3, 2**31 - 1, -(2**31)], I32)
ALGEBRA = {
    "x + 0 of ints": (lambda x: x + 0, INTS, NONE),
    "x + 0.0 stays": (lambda x: x + 0.0, X, ["broadcast_in_dim", "add"]),
    "x + -0.0": (lambda x: x + -0.0, X, NONE),
    "0 - x of floats stays": (lambda x: 0.0 - x, X, ["broadcast_in_dim", "sub"]),
    "-0.0 - x": (lambda x: -0.0 - x, X, ["neg"]),
    "0 - x of ints": (lambda x: 0 - x, INTS, ["neg"]),
    "x - 0": (lambda x: x - 0.0, X, NONE),
    "x - x of ints": (lambda x: x - x, INTS, ["broadcast_in_dim"]),
    "x - x of floats stays": (lambda x: x - x, X, ["sub"]),
    "x * 1": (lambda x: 1.0 * x, X, NONE),
    "x * -1": (lambda x: x * -1.0, X, ["neg"]),
    "x * 0 of ints": (lambda x: x * 0, INTS, ["broadcast_in_dim"]),
    "x * 0 of floats stays": (lambda x: x * 0.0, X, ["broadcast_in_dim", "mul"]),
    "x / 1": (lambda x: x / 1.0, X, NONE),
    "x / 4": (lambda x: x / 4.0, X, ["broadcast_in_dim", "mul"]),
    "x / 3 stays": (lambda x: x / 3.0, X, ["broadcast_in_dim", "div"]),
    "x / 2**127 stays": (lambda x: x / 2.0**127, X, ["broadcast_in_dim", "div"]),
    "x / inf stays": (lambda x: x / np.inf, X, ["broadcast_in_dim", "div"]),
    "-(-x)": (lambda x: fnp.negative(-x), X, NONE),
    "x + (-y)": (lambda x: x + (-fnp.flip(x)), X, ["rev", "sub"]),
    "(-x) + y": (lambda x: (-x) + fnp.flip(x), X, ["rev", "sub"]),
    "x - (-y)": (lambda x: x - (-fnp.flip(x)), X, ["rev", "add"]),
    "-(x - y) of floats stays": (lambda x: -(x - fnp.flip(x)), X, ["rev", "sub", "neg"]),
    "-(x - y) of ints": (lambda x: -(x - fnp.flip(x)), INTS, ["rev", "sub"]),
    "(-x) * (-y)": (lambda x: (-x) * (-fnp.flip(x)), X, ["rev", "mul"]),
    "(-x) * 3": (lambda x: (-x) * 3.0, X, ["broadcast_in_dim", "mul"]),
    "(-x) / (-y)": (lambda x: (-x) / (-fnp.flip(x)), X, ["rev", "div"]),
    "x ** 1": (lambda x: lax.integer_pow(x, 1), X, NONE),
    "x ** 2": (lambda x: lax.integer_pow(x, 2), X, ["square"]),
    "pow(x, 2.0)": (lambda x: lax.pow(x, full(x, 2.0)), X, ["square"]),
    "pow(x, -0.5) stays": (lambda x: lax.pow(x, full(x, -0.5)), X, ["broadcast_in_dim", "pow"]),
    "max(x, x)": (lambda x: fnp.maximum(x, x), X, NONE),
    "max(x, -inf)": (lambda x: fnp.maximum(x, -np.inf), X, NONE),
    "min(x, inf)": (lambda x: fnp.minimum(np.inf, x), X, NONE),
    "max(x, inf) stays": (lambda x: fnp.maximum(x, np.inf), X, ["broadcast_in_dim", "max"]),
    "select of equal": (lambda x: fnp.where(x > 0, x, x), X, NONE),
    "select by true": (lambda x: fnp.where(fnp.full(x.shape, True), x, x + 1), X, NONE),
    "select by not": (
        lambda x: fnp.where(~(x > fnp.flip(x)), x, fnp.flip(x)),
        X,
        ["rev", "gt", "select"],
    ),
    "not not": (lambda x: ~~(x > fnp.flip(x)), X, ["rev", "gt"]),
    "not eq": (lambda x: ~(x == fnp.flip(x)), X, ["rev", "ne"]),
    "not lt stays": (lambda x: ~(x < fnp.flip(x)), X, ["rev", "lt", "bitwise_not"]),
    "x & x": (lambda x: x & x, INTS, NONE),
    "x & -1": (lambda x: x & -1, INTS, NONE),
    "x | 0": (lambda x: x | 0, INTS, NONE),
    "x | -1": (lambda x: x | -1, INTS, ["broadcast_in_dim"]),
    "x ^ x": (lambda x: x ^ x, INTS, ["broadcast_in_dim"]),
    "p & True": (lambda x: (x > fnp.flip(x)) & True, X, ["rev", "gt"]),
    "abs(-x)": (lambda x: abs(-x), X, ["abs"]),
    "abs(abs(x))": (lambda x: abs(abs(x)), X, ["abs"]),
    "square(abs(x))": (lambda x: fnp.square(abs(x)), X, ["square"]),
    "real(complex)": (lambda x: fnp.real(lax.complex(x, x * 2.0)), X, NONE),
    "imag(complex)": (lambda x: fnp.imag(lax.complex(fnp.sin(x), x)), X, NONE),
    "conj conj": (lambda x: fnp.conj(fnp.conj(x)), X.astype("complex64"), NONE),
    "stop_gradient": (ft.stop_gradient, X, NONE),
    "f32 -> f64 -> f32": (lambda x: x.astype("float64").astype("float32"), X, NONE),
    "f32 -> f64 -> i32": (lambda x: x.astype("float64").astype("int32"), X, ["convert"]),
    "f32 -> f16 -> f32 stays": (
        lambda x: x.astype("float16").astype("float32"),
        X,
        ["convert", "convert"],
    ),
    "i32 -> f32 -> i32 stays": (
        lambda x: x.astype("float32").astype("int32"),
        INTS,
        ["convert", "convert"],
    ),
    "i32 -> f64 -> i32": (lambda x: x.astype("float64").astype("int32"), INTS, NONE),
    "i32 -> f64 -> u8 stays": (
        lambda x: x.astype("float64").astype("uint8"),
        INTS,
        ["convert", "convert"],
    ),
    "f32 -> f64 -> u8": (lambda x: x.astype("float64").astype("uint8"), X, ["convert"]),
    "i32 -> i64 -> u8": (lambda x: x.astype("int64").astype("uint8"), INTS, ["convert"]),
    "1 * x of complex stays": (
        lambda x: x * full(x, 1),
        X.astype("complex64"),
        ["broadcast_in_dim", "mul"],
    ),
}


@pytest.mark.parametrize("case", ALGEBRA)
def test_algebra(case):
    f, x, want = ALGEBRA[case]
    assert names(check(f, x)) == want


def test_powers_of_a_half_are_roots():
    def root(x):
        return lax.pow(x, full(x, 0.5))

    names = [eqn.prim.name for eqn in simplify(program(root, X)).eqns]
    assert "sqrt" in names
    assert "pow" not in names
    # C99's pow: not NumPy's, which takes the root of -0 and -inf.
    expected = [0.0, 0.0, 1.0, np.nan, 2.5**0.5, np.inf, np.inf, np.nan]
    found = np.asarray(ft.jit(root)(X))[:8]
    np.testing.assert_array_equal(found, np.asarray(expected, F32))
    assert not np.signbit(found[1])


def test_exact_conversions():
    bf16, f16, u64 = (ft.dtypes.canonical(d) for d in ("bfloat16", "float16", "uint64"))
    assert is_exact(bf16, F32)
    assert is_exact(f16, F32)
    assert not is_exact(f16, bf16)
    assert not is_exact(bf16, f16)
    assert not is_exact(np.dtype("int64"), F64)
    assert is_exact(I32, F64)
    assert not is_exact(I32, F32)
    assert not is_exact(u64, np.dtype("int64"))


def test_elementwise_moves_before_broadcasts():
    f = lambda x: fnp.exp(fnp.broadcast_to(x, (5, 10))) * 2.0
    assert names(check(f, X)) == ["exp", "broadcast_in_dim", "mul", "broadcast_in_dim"]


# ---------------------------------------------------------------------- constants and movements
M = np.arange(24, dtype=F32).reshape(2, 3, 4)
MOVEMENT = {
    "literals": (lambda x: x + (fnp.sin(fnp.float32(2.0)) * 3), ["broadcast_in_dim", "add"]),
    "full": (lambda x: x * (full(x, 2.0) + 3.0), ["broadcast_in_dim", "mul"]),
    "iota of one": (lambda x: x[:1] + fnp.arange(1.0)[:, None, None], None),
    "iota converted": (lambda x: lax.iota("int32", 4).astype("float32"), ["iota"]),
    "joined full": (lambda x: fnp.concatenate([full(x, 1.0), full(x, 1.0)]), ["broadcast_in_dim"]),
    "maximum of a constant": (lambda x: fnp.max(full(x, 3.0)), NONE),
    "sum of a constant": (lambda x: fnp.sum(full(x, 3.0), axis=1), ["broadcast_in_dim"]),
    "transposed twice": (lambda x: fnp.transpose(fnp.transpose(x, (2, 0, 1)), (1, 2, 0)), NONE),
    "transposes": (lambda x: fnp.transpose(fnp.transpose(x, (2, 0, 1)), (2, 0, 1)), ["transpose"]),
    "reshapes": (lambda x: x.reshape(6, 4).reshape(24).reshape(2, 3, 4), NONE),
    "expand and squeeze": (lambda x: fnp.squeeze(fnp.expand_dims(x, (0, 2)), (0, 2)), NONE),
    "broadcasts": (lambda x: fnp.broadcast_to(x[None], (5, 2, 3, 4)), ["broadcast_in_dim"]),
    "squeezed broadcast": (
        lambda x: fnp.broadcast_to(x[None, :, None], (1, 2, 3, 3, 4))[0], ["broadcast_in_dim"]
    ),
    "transposed broadcast": (
        lambda x: fnp.transpose(fnp.broadcast_to(x, (5, 2, 3, 4)), (1, 0, 2, 3)),
        ["broadcast_in_dim"],
    ),
    "slices": (lambda x: x[:, 1:, 1:][:, :2, ::2], ["slice"]),
    "whole slice": (lambda x: lax.slice(x, (0, 0, 0), (2, 3, 4)), NONE),
    "sliced broadcast": (
        lambda x: fnp.broadcast_to(x, (5, 2, 3, 4))[1:3, :, :1], ["slice", "broadcast_in_dim"]
    ),
    "flipped twice": (lambda x: fnp.flip(fnp.flip(x, 1), (1, 2)), ["rev"]),
    "flipped size 1": (lambda x: fnp.flip(x[:1], 0), ["slice"]),
    "empty part": (lambda x: fnp.concatenate([x, x[:0]]), NONE),
    "no padding": (lambda x: fnp.pad(x, 0), NONE),
    "known block": (lambda x: lax.dynamic_slice(x, (0, 2, 1), (2, 2, 2)), ["slice"]),
    "whole block": (lambda x: lax.dynamic_slice(x, (1, 2, 1), x.shape), NONE),
    "whole update": (lambda x: lax.dynamic_update_slice(x + 1, x, (1, 0, 0)), NONE),
    "sum of a transpose": (lambda x: fnp.sum(fnp.transpose(x, (0, 2, 1)), 1), ["reduce_sum"]),
    "max of a max": (lambda x: fnp.max(fnp.max(x, 2), 0), ["reduce_max"]),
    "max of a broadcast": (lambda x: fnp.max(fnp.broadcast_to(x, (5, 2, 3, 4)), 0), NONE),
    "sum of a broadcast": (
        lambda x: fnp.sum(fnp.broadcast_to(x, (4, 2, 3, 4)), (0, 2)),
        ["reduce_sum", "broadcast_in_dim", "mul"],
    ),
    "sum of new axes of -0": (
        lambda x: fnp.sum(fnp.broadcast_to(-0.0 * abs(x), (4, 2, 3, 4)), 0), None
    ),
    "sum of no copies": (lambda x: fnp.sum(fnp.broadcast_to(x / 0.0, (0, 2, 3, 4)), 0), None),
    "sum of nothing": (lambda x: fnp.sum(x, ()), NONE),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVEMENT)
def test_constants_and_movements(case):
    f, want = MOVEMENT[case]
    found = names(check(f, M))
    assert want is None or found == want


@pytest.mark.parametrize(
    ("spec", "left", "right"),
    [
        ("ba,cb->ac", (4, 3), (5, 4)),
        ("abc,dbc->da", (2, 3, 4), (5, 3, 4)),
        ("nhqd,nhkd->nhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
        ("nqhd,nkhd->nhqk", (2, 4, 3, 5), (2, 6, 3, 5)),
        ("abc,cb->a", (2, 3, 4), (4, 3)),
    ],
)
def test_products_take_transposed_operands(spec, left, right):
    f = lambda a, b: fnp.einsum(spec, a, b)
    a, b = floats(*left), floats(*right)
    after = check(f, a, b, compare=close)
    assert names(after).count("dot_general") == 1
    with_transposes = lambda a, b: fnp.swapaxes(
        fnp.swapaxes(fnp.swapaxes(a, -1, -2) @ fnp.swapaxes(b, -1, -2), -1, -2), -1, -2
    )
    a, b = floats(2, 4, 3), floats(2, 5, 4)
    assert names(check(with_transposes, a, b, compare=close)) == ["dot_general"]


def test_a_product_needed_twice_is_not_computed_twice():
    f = lambda a: (a @ a, (a @ a).T)
    assert names(check(f, floats(3, 3), compare=close)) == ["dot_general", "transpose"]


# ---------------------------------------------------------------------- structure
def test_inline_reaches_into_bodies():
    inner = ft.jit(lambda x: fnp.sin(x) * 2.0)
    f = lambda x: lax.scan(lambda c, _: (inner(inner(c)), None), x, None, length=3)[0]
    after = check(f, floats(3), compare=close)
    assert "jit" not in str(names(after))


def test_share_knows_what_commutes():
    f = lambda x, y: (x + y) * (y + x)
    after = check(f, X, X[::-1].copy(), run_pass=passes.share)
    assert names(after) == ["add", "mul"]


def test_bodies_are_simplified_once():
    body = ft.jit(lambda c, _: (fnp.sin(c * 1.0) + 0 * 2.0, None))
    f = lambda x: lax.scan(body, lax.scan(body, x, None, 3)[0], None, 4)[0]
    after = simplify_bodies(simplify(program(f, X)))
    first, second = (eqn.params["jaxpr"] for eqn in after.eqns if eqn.prim.name == "scan")
    assert names(first) == names(second)
    assert simplify(first) is first


def test_passes_return_the_same_object_when_nothing_is_to_do():
    jaxpr = simplify(program(lambda x: fnp.sin(x) + fnp.cos(x), X))
    for name in ("inline", "fold_constants", "simplify_algebra", "join_movements", "share"):
        assert getattr(passes, name)(jaxpr) is jaxpr, name
    assert passes.simplify_loops(jaxpr) is jaxpr
    assert passes.drop_dead(jaxpr) is jaxpr


# ---------------------------------------------------------------------- loops
def test_scan_drops_unused_carries_xs_and_ys():
    def f(x, xs):
        def body(c, a):
            kept, unused = c
            return (kept + a[0], unused * a[1]), (kept, unused)

        (kept, _), (ys, _) = lax.scan(body, (x, x), (xs, xs + 1))
        return kept, ys

    after = check(f, X, np.stack([X, X, X]))
    (scan,) = [eqn for eqn in after.eqns if eqn.prim.name == "scan"]
    assert scan.params["num_carry"] == 1
    assert len(scan.invars) == 2
    assert len(scan.outvars) == 2


def test_scan_keeps_carries_that_others_need():
    def f(x):
        step = lambda c, _: ((c[1], c[2], c[0] + 1.0), None)
        return lax.scan(step, (x, x * 2, x * 3), None, 5)[0][0]

    after = check(f, X)
    assert after.eqns[-1].params["num_carry"] == 3


def test_scan_hoists_what_does_not_change():
    def f(x, w):
        return lax.scan(lambda c, a: (c * fnp.sin(w) + a + fnp.ones(3), c), x, x[:, None] * w)

    after = check(f, floats(3), floats(3))
    (scan,) = [eqn for eqn in after.eqns if eqn.prim.name == "scan"]
    inside = names(scan.params["jaxpr"])
    assert "sin" not in inside
    assert "broadcast_in_dim" in inside
    assert names(after).index("sin") < names(after).index("scan")


def test_scan_takes_literals_constants_and_fixed_carries_in():
    def f(x):
        def body(c, a):
            moving, fixed = c
            return (moving * fixed + a, fixed), (a, fixed)

        carry, (ys, zs) = lax.scan(body, (x, fnp.full(x.shape, 2.0)), fnp.zeros((4, *x.shape)))
        return *carry, ys, zs

    after = check(f, X)
    (scan,) = [eqn for eqn in after.eqns if eqn.prim.name == "scan"]
    assert len(scan.invars) == 1
    assert len(scan.outvars) == 1


def test_scan_results_known_outside_are_not_stacked():
    def f(x, xs, w):
        def body(c, a):
            y = fnp.sin(c)
            small = fnp.sum(c)
            return c + a, (a, w, y, y, fnp.broadcast_to(small, (7,)), (c > 0).astype("float32"))

        return lax.scan(body, x, xs)[1]

    after = check(f, X[:4], np.stack([X[:4]] * 3), X)
    (scan,) = [eqn for eqn in after.eqns if eqn.prim.name == "scan"]
    assert [v.aval.str_short() for v in scan.outvars] == [
        "f32[4]",
        "f32[3,4]",
        "f32[3]",
        "bool[3,4]",
    ]


@pytest.mark.parametrize(("length", "reverse"), [(0, False), (1, False), (1, True), (2, True)])
def test_short_scans(length, reverse):
    xs = np.arange(4.0, dtype=F32 or None)[:length, None] * np.ones(3, F32)

    def f(x, xs):
        return lax.scan(lambda c, a: (fnp.sin(c) + a, c * a), x, xs, reverse=reverse)

    flat = lambda x, xs: (f(x, xs)[0], f(x, xs)[1])
    after = check(flat, np.ones(3, F32), xs.astype(F32))
    assert ("scan" in names(after)) == (length == 2)


def test_while_hoists_and_drops():
    def f(x, w):
        def body(c):
            n, value, fixed, unused = c
            return n + 1, value * fnp.sin(w) + fixed, fixed, unused + 1

        limit = fnp.sum(w) * 0 + 4
        cond = lambda c: c[0] < fnp.exp(limit) * 0 + limit
        return lax.while_loop(cond, body, (0, x, x, x))[1]

    after = check(f, floats(3), floats(3))
    (loop,) = [eqn for eqn in after.eqns if eqn.prim.name == "while"]
    assert len(loop.outvars) == 1 + 1
    assert "sin" not in names(loop.params["body_jaxpr"])
    assert names(loop.params["cond_jaxpr"]) in (["lt"], ["convert", "lt"])


def test_while_is_not_hoisted_out_of_a_loop_that_may_never_run():
    def f(x, n):
        def body(c):
            inner = lax.while_loop(lambda v: v > 1.0, lambda v: v * 0.5, n)
            return c[0] + 1, c[1] + inner

        return lax.while_loop(lambda c: c[0] < 3, body, (0, x))[1]

    after = check(f, F32.type(1), F32.type(8))
    (loop,) = [eqn for eqn in after.eqns if eqn.prim.name == "while"]
    assert "while" in names(loop.params["body_jaxpr"])


def test_cond_drops_operands_and_results():
    def f(p, x, y):
        yes = lambda x, y, z: (x + 1, y * 2, fnp.sin(y))
        no = lambda x, y, z: (x - 1, y * 3, fnp.cos(y))
        return lax.cond(p, yes, no, x, y, fnp.exp(y))[0]

    after = check(f, np.array(True), X, X)
    (branch,) = [eqn for eqn in after.eqns if eqn.prim.name == "cond"]
    assert len(branch.invars) == 2
    assert len(branch.outvars) == 1
    assert "exp" not in names(after)


def test_known_branches_are_taken():
    f = lambda x: lax.switch(1, [fnp.sin, fnp.cos, fnp.exp], x)
    assert names(check(f, X)) == ["cos"]


def test_gradients_of_loops_agree():
    def loss(w, xs):
        step = lambda c, x: (fnp.tanh(c * w + x), fnp.sum(c))
        last, sums = lax.scan(step, fnp.zeros(3), xs)
        return fnp.sum(last) + fnp.sum(sums[-1])

    check(lambda w, xs: ft.grad(loss, (0, 1))(w, xs), floats(3), floats(5, 3), compare=close)


# ---------------------------------------------------------------------- all together
def test_debug_output_shows_the_passes_that_changed_something(capsys):
    with config.override(debug=2):
        simplify(program(lambda x: fnp.sin(x) * 1.0 + fnp.sin(x), X))
    text = capsys.readouterr().err
    assert "after share:" in text
    assert "after fold:" in text
    assert "after inline:" not in text


def test_passes_take_near_linear_time():
    def f(x, ws):
        for w in ws:
            x = fnp.tanh(x @ w + 1.0) * 2 - x / 4
            x = (x.T * 1.0).T + fnp.sum(x, axis=1, keepdims=True)
        return fnp.sum(x)

    def seconds(layers):
        x = np.ones((8, 8), F32)
        jaxpr = ft.make_jaxpr(ft.grad(f, argnums=1))(x, [x] * layers)
        start = time.process_time()
        simplify(jaxpr)
        return time.process_time() - start, len(jaxpr.eqns)

    seconds(2)
    (short, few), (long, many) = (min(seconds(layers) for _ in range(3)) for layers in (20, 80))
    assert many > 3 * few
    assert long / many < 4 * short / few, (short, few, long, many)
    assert math.isfinite(long)


def test_every_elementwise_primitive_is_known_to_the_passes():
    assert passes.CONSTANTS.keys() >= {"sin", "add", "select", "convert", "threefry2x32"}
    assert set(passes.ALGEBRA) | set(passes.MOVEMENT) | set(passes.CONSTANTS) <= set(primitives)


@pytest.mark.parametrize("reverse", [False, True])
def test_sums_of_products_are_one_product_after_the_loop(reverse):
    """The gradient of a weight that every step uses; batch axes and several contracted ones."""

    def f(w, start, xs, ys):
        def body(carry, step):
            w, total, many, count = carry
            x, y = step
            z = fnp.tanh(x @ w + y)
            total = total + x.T @ z
            many = fnp.einsum("bij,bik->bkj", z[None] * 2, x[None]) + many
            return (w, total, many, count + 1), z.sum()

        total, many = fnp.zeros((9, 8), "float64"), fnp.ones((1, 9, 8), "float64")
        return ft.lax.scan(body, (w, total + start, many, 0), (xs, ys), reverse=reverse)

    rng = np.random.default_rng(0)
    shapes = (9, 8), (9, 8), (7, 4, 9), (7, 4, 8)
    args = [fnp.asarray(rng.normal(size=s)) for s in shapes]
    jaxpr = simplify(ft.make_jaxpr(f)(*args).jaxpr)
    check_jaxpr(jaxpr)
    (loop,) = (e for e in jaxpr.eqns if e.prim.name == "scan")
    inside = [e.prim.name for e in loop.params["jaxpr"].eqns]
    assert inside.count("dot_general") == 1
    assert [e.prim.name for e in jaxpr.eqns].count("dot_general") == 2
    want = f(*args)
    for got in (eval_jaxpr(jaxpr, *args), ft.tree.leaves(ft.jit(f)(*args))):
        for a, b in zip(got, ft.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_products_that_a_loop_reads_stay_in_it():
    def f(w, xs):
        body = lambda c, x: ((c[0] + x.T @ x, c[1] + c[0].sum()), None)
        return ft.lax.scan(body, (w, 0.0), xs)[0]

    xs = fnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2)))
    jaxpr = simplify(ft.make_jaxpr(f)(xs[0], xs).jaxpr)
    assert "dot_general" not in [e.prim.name for e in jaxpr.eqns]
    for a, b in zip(ft.jit(f)(xs[0], xs), f(xs[0], xs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


# ---------------------------------------------------------------------- gradients of slices
def sliced(cuts, axis=0):
    """Return the sum of an array's pieces, each weighed with an array of its own."""

    def f(x, w):
        total = 0.0
        for k, (a, b) in enumerate(cuts):
            part, weight = (lax.slice_in_dim(v, a, b, axis=axis) for v in (x, w))
            total += (fnp.sin(part * (k + 1)) * weight).sum()
        return total

    return ft.grad(f)


@pytest.mark.parametrize(
    ("cuts", "left"),
    [
        ([(0, 2), (2, 5), (5, 6)], 0),
        ([(2, 5), (0, 2), (5, 6)], 0),
        ([(5, 6), (0, 2), (2, 5)], 0),
        ([(0, 2), (2, 4)], 1),
        ([(1, 3), (3, 4), (1, 3)], 2),
        ([(0, 2), (3, 5)], 2),
        ([(0, 4), (3, 6)], 2),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_of_slices_are_put_together(cuts, left, axis):
    x, w = (np.array(v, F32) for v in (floats(6, 6), floats(6, 6)))
    w[2] = -0.0
    after = check(sliced(cuts, axis), x, w)
    assert names(after).count("pad") == left
    assert names(after).count("add") <= 2 * len(cuts)


def test_what_is_put_together_keeps_the_sign_of_zero():
    def f(x, y):
        zero = np.float32(0)
        return lax.pad(x, zero, [(0, 3, 0)]) + lax.pad(y, zero, [(3, 0, 0)])

    x = np.array([0.0, -0.0, 1.0], F32)
    after = check(f, x, -x)
    assert "pad" not in names(after)


def test_pads_of_other_values_stay():
    def f(x, y):
        one = np.float32(1)
        return lax.pad(x, one, [(0, 3, 0)]) + lax.pad(y, one, [(3, 0, 0)])

    after = check(f, floats(3), floats(3))
    assert names(after).count("pad") == 2


def test_the_gradient_of_split_is_one_concatenate():
    def f(x):
        a, b, c = fnp.split(x, [2, 3], axis=1)
        return (fnp.sin(a) * c[:, :2]).sum() + (b * b).sum()

    after = check(ft.grad(f), floats(3, 6), compare=close)
    assert names(after).count("concatenate") >= 1
    assert names(after).count("pad") <= 1


# ---------------------------------------------------------------------- what steps read
def stacks(jaxpr):
    """Return how many arrays each scan of a program reads and leaves step by step."""
    found = []
    for e in jaxpr.eqns:
        if e.prim.name == "scan":
            p = e.params
            left = len(e.outvars) - p["num_carry"]
            found.append((len(e.invars) - p["num_consts"] - p["num_carry"], left))
    return found


@pytest.mark.parametrize("reverse", [False, True])
def test_slopes_are_computed_from_values_again(reverse):
    """A gradient's loop reads tanh(x), not 1 - tanh(x)**2 beside it."""

    def f(w, xs):
        def body(c, x):
            c = fnp.tanh(c * w + x)
            return c * ft.nn.sigmoid(c), c

        c, ys = lax.scan(body, xs[0], xs, reverse=reverse)
        return (ys * ys).sum() + c.sum()

    w, xs = floats(3), floats(5, 3)
    after = check(ft.grad(f, (0, 1)), w, xs, compare=close)
    forward, backward = stacks(after)
    assert forward == (1, 3)  # two activations and the carry; the ys are the first of them
    assert backward[0] == 3


def test_what_only_a_loop_reads_is_made_in_it():
    def f(xs, b, w):
        ys = xs * 2.0 + b
        return lax.scan(lambda c, y: (c * 0.5 + y, c @ w), xs[0], ys)

    after = check(f, floats(4, 3), floats(3), floats(3, 3))
    assert names(after)[:-1].count("add") == 0
    assert stacks(after) == [(1, 1)]


def test_what_others_read_too_is_made_once_outside():
    def f(xs, b):
        ys = xs * 2.0 + b
        return *lax.scan(lambda c, y: (c * 0.5 + y, c), xs[0], ys), ys

    after = check(f, floats(4, 3), floats(3))
    assert names(after).count("add") == 1


def test_dear_operations_stay_outside():
    def f(xs):
        return lax.scan(lambda c, y: (c * 0.5 + y, c), xs[0], fnp.exp(xs))

    after = check(f, floats(4, 3))
    assert "exp" in names(after)


# ---------------------------------------------------------------------- Jacobians
def logistic(w, x, y):
    return ft.nn.softplus(-y * (x @ w)).mean()


JACOBIANS = {
    "a linear map": (lambda x, a: ft.jacfwd(lambda x: a @ x)(x), [(3,), (4, 3)], 0),
    "from the left": (lambda x, a: ft.jacfwd(lambda x: x @ a)(x), [(3,), (3, 4)], 0),
    "of a map of a map": (lambda x, a: ft.jacfwd(lambda x: a @ fnp.sin(x))(x), [(3,), (4, 3)], 0),
    "scaled twice": (
        lambda x, a: ft.jacfwd(lambda x: a @ (2.0 * fnp.sin(x) * x))(x), [(3,), (4, 3)], 1
    ),
    "backward": (lambda x, a: ft.jacrev(lambda x: a @ fnp.sin(x))(x), [(3,), (4, 3)], 0),
    "of a pytree": (
        lambda x, a: ft.tree.leaves(
            ft.jacfwd(lambda p: a @ p["u"] + fnp.sin(p["v"]) @ a)({"u": x[:3], "v": x[:3] * x[3:]})
        ),
        [(6,), (3, 3)], 0,
    ),
    "Hessian": (lambda w, x, y: ft.hessian(logistic)(w, x, y), [(3,), (5, 3), (5,)], 2),
}  # fmt: skip


@pytest.mark.parametrize("case", JACOBIANS)
def test_jacobians_take_no_products_with_one_hot_matrices(case):
    f, shapes, products = JACOBIANS[case]
    args = [np.random.default_rng(k).normal(size=s).astype(F32) for k, s in enumerate(shapes)]
    after = check(f, *args, compare=close)
    assert names(after).count("dot_general") <= products
    want = [np.asarray(v) for v in ft.tree.leaves(f(*map(fnp.asarray, args)))]
    for a, b in zip(ft.tree.leaves(ft.jit(f)(*args)), want, strict=True):
        close(np.asarray(a), b)


@pytest.mark.parametrize("at", [-1, 0, 2, 3])
@pytest.mark.parametrize(("left", "axis"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_one_hot_matrices_place_and_cut(at, left, axis):
    """Whatever side and axis, and where some columns have no row."""
    rows, columns = 6, 4

    def f(x, w):
        place = [lax.broadcasted_iota(np.int32, (rows, columns), k) for k in (0, 1)]
        hot = (place[0] == place[1] + at).astype(F32) * w * 0.5
        return fnp.tensordot(hot, x, (axis, 1)) if left else fnp.tensordot(x, hot, (1, axis))

    x = floats(3, rows if axis == 0 else columns, 2)
    after = check(f, x, floats(columns), compare=close)
    assert names(after).count("dot_general") == (at not in (0, 2))


def test_transposes_move_behind_what_is_elementwise():
    def f(x, w, y):
        return (fnp.sin(x.T) * w[:, None] + 1.0) @ y

    after = check(f, floats(4, 3), floats(3), floats(4, 2), compare=close)
    assert "transpose" not in names(after)


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_numbers_that_come_twice_make_no_one_hot_matrix(dtype):
    n = 300 if dtype == "uint8" else 2060

    def f(x):
        row, column = (lax.broadcasted_iota(np.dtype(dtype), (n, n), k) for k in (0, 1))
        return (row == column).astype(F32) @ x

    after = check(f, floats(n, 2), compare=close)
    assert "dot_general" in names(after)
