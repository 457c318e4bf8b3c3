"""Quantisation: exact products of int8, and functions and models whose weights are integers."""

import ctypes
import itertools

import numpy as np
import pytest
from test_kernels import steps

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import export, lax, nnx, quant, random
from funtorch.backends.cpu import quads
from funtorch.backends.cpu.blas import dot_code, library_of
from funtorch.backends.cpu.codegen import NONE, object_code
from funtorch.backends.cpu.gemm import gemm_text
from funtorch.backends.cpu.runtime import load

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _drawn_afresh():
    RNG.bit_generator.state = np.random.default_rng(4).bit_generator.state


def floats(*shape):
    return fnp.asarray(RNG.standard_normal(shape).astype(np.float32))


def bytes_of(*shape):
    x = RNG.integers(-128, 128, shape).astype(np.int8)
    x[..., :1] = -128  # the products that are largest
    return x


def product(numbers, dtype="int32"):
    return lambda a, b: lax.dot_general(a, b, numbers, preferred_element_type=dtype)


ROWS_BY_COLUMNS = (((1,), (0,)), ((), ()))
ROWS_BY_ROWS = (((1,), (1,)), ((), ()))


# ------------------------------------------------------------------------------ products of int8
@pytest.mark.parametrize("k", [1, 7, 64, 1030])
def test_products_of_bytes_are_exact(k):
    for m, n in ((1, 5), (2, 3), (17, 50)):
        a, b = bytes_of(m, k), bytes_of(n, k)
        want = a.astype(np.int64) @ b.T.astype(np.int64)
        for run in (lambda f: f, ft.jit):
            assert np.array_equal(run(product(ROWS_BY_ROWS))(a, b), want)
            assert np.array_equal(run(product(ROWS_BY_COLUMNS))(a, b.T), want)
            if k == 64:
                narrow = run(product(ROWS_BY_ROWS, "int8"))(a, b)
                assert narrow.dtype == np.int8
                assert np.array_equal(narrow, want.astype(np.int8))


NUMBERS = {  # of arrays in these shapes
    "ab,bc": ((), (3, 8), (8, 5)),
    "ba,bc": ((), (8, 9), (8, 5)),
    "gab,gbc->gac": ((), (4, 3, 10), (4, 10, 7)),
    "agb,cgb->gac": ((), (3, 4, 10), (7, 4, 10)),
    "abc,dbc->ad": ((), (3, 4, 10), (7, 4, 10)),
    "abc,dcb->ad": ((), (3, 4, 10), (7, 10, 4)),
    "bthd,bshd->bhts": ((), (2, 5, 3, 8), (2, 6, 3, 8)),
}


@pytest.mark.parametrize("formula", NUMBERS)
def test_contractions_of_bytes_are_exact(formula):
    _, *shapes = NUMBERS[formula]
    a, b = (bytes_of(*shape) for shape in shapes)
    want = np.einsum(formula, a.astype(np.int64), b.astype(np.int64))
    f = ft.jit(lambda a, b: fnp.einsum(formula, a, b, preferred_element_type="int32"))
    assert np.array_equal(f(a, b), want)


def test_sums_wrap_around_as_those_of_int32():
    a = np.full((2, 140_000), -128, np.int8)
    want = (a.astype(np.int64) @ a.T.astype(np.int64)).astype(np.int32)
    assert want.max() < 0
    for run in (lambda f: f, ft.jit):
        assert np.array_equal(run(product(ROWS_BY_ROWS))(a, a), want)


@pytest.mark.parametrize("shapes", [((0, 4), (3, 4)), ((2, 0), (3, 0)), ((2, 4), (0, 4))])
def test_empty_products_of_bytes(shapes):
    a, b = (np.zeros(s, np.int8) for s in shapes)
    out = ft.jit(product(ROWS_BY_ROWS))(a, b)
    assert out.dtype == np.int32
    assert np.array_equal(out, a.astype(np.int32) @ b.T.astype(np.int32))


def test_products_read_parts_of_arrays_as_they_lie():
    x = bytes_of(40, 72)
    f = ft.jit(lambda x: product(ROWS_BY_ROWS)(x[3:30:2, 4:68], x[:9, 8:]))
    wide = x.astype(np.int64)
    assert np.array_equal(f(x), wide[3:30:2, 4:68] @ wide[:9, 8:].T)
    odd = ft.jit(lambda x: product(ROWS_BY_ROWS)(x[3:30:2, 3:67], x[:9, 5:69]))
    assert np.array_equal(odd(x), wide[3:30:2, 3:67] @ wide[:9, 5:69].T)


@pytest.mark.parametrize("vnni", [False, True])
def test_products_without_and_with_instructions_for_bytes(vnni, monkeypatch):
    if vnni and not quads.multiplies_bytes():
        pytest.skip("the processor does not multiply bytes")
    monkeypatch.setattr(quads, "multiplies_bytes", lambda: vnni)
    (step,) = [
        s
        for s in steps(product(ROWS_BY_ROWS), (19, 84), (37, 84), dtype=np.dtype(np.int8))
        if hasattr(s, "sums")
    ]
    symbol = library_of(step)
    rows = int(symbol.rsplit("_", 1)[1])
    code = object_code(gemm_text("int8", rows), NONE)
    (address, _), library = load(code, [symbol, f"{symbol}_end"], ())
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5, ctypes.c_int64, ctypes.c_int64)(address)
    (*_, (_, main, _)) = dot_code(step)
    a, b, out = bytes_of(19, 84), bytes_of(37, 84), np.zeros((19, 37), np.int32)
    table = np.array(main.table, np.int64)
    scratch = np.zeros(main.scratch + 64, np.uint8)
    places = [x.ctypes.data for x in (a, b, out, table, scratch)]
    run(*places, 0, main.parts)
    assert library is not None
    assert np.array_equal(out, a.astype(np.int64) @ b.T.astype(np.int64))


CONVOLUTIONS = [  # lhs, rhs, parameters
    ((2, 3, 9, 10), (16, 3, 3, 3), {"padding": "SAME"}),
    ((2, 8, 9, 10), (16, 8, 3, 3), {"padding": "VALID", "window_strides": (2, 1)}),
    ((2, 9, 9, 10), (16, 9, 3, 2), {"padding": ((1, 2), (0, 3)), "rhs_dilation": (2, 1)}),
    ((2, 8, 5, 6), (16, 8, 3, 3), {"padding": ((1, 2), (0, 3)), "lhs_dilation": (2, 2)}),
    ((2, 20, 9, 10), (16, 10, 3, 3), {"padding": "SAME", "feature_group_count": 2}),
    ((2, 8, 9, 10), (8, 1, 3, 3), {"padding": "SAME", "feature_group_count": 8}),
    ((1, 200, 5, 6), (3, 200, 3, 3), {"padding": "SAME"}),  # beyond what float32 holds
    ((0, 8, 5, 6), (8, 8, 3, 3), {"padding": "SAME"}),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_of_bytes_are_exact(case):
    lhs, rhs, params = case
    params = {"window_strides": (1, 1), **params}
    x, w = bytes_of(*lhs), bytes_of(*rhs)
    want = lax.conv_general_dilated(x.astype(np.float64), w.astype(np.float64), **params)
    for run in (lambda f: f, ft.jit):
        f = run(
            lambda x, w: lax.conv_general_dilated(x, w, preferred_element_type="int32", **params)
        )
        assert np.array_equal(f(x, w), want)
        assert f(x, w).dtype == np.int32


# ------------------------------------------------------------------------------ arrays of integers
def test_scales_rounding_and_zero_rows():
    x = fnp.array([[127.0, 0.5, 1.5, 2.5, -0.5, -127.0], [0.0] * 6, [-1e30, 1e30, 0, 0, 0, 0]])
    q = quant.quantize_array(x, axes=(1,))
    assert q.values[0].tolist() == [127, 0, 2, 2, 0, -127]  # halves to even
    assert q.scale[:, 0].tolist() == [1.0, 0.0, np.float32(1e30) / np.float32(127)]
    assert q.values.min() == -127
    assert not np.isnan(q.dequantize()).any()
    assert np.array_equal(q.dequantize()[1], np.zeros(6))


@pytest.mark.parametrize(
    ("shape", "axes", "group", "scales"),
    [
        ((6, 8), (1,), None, (6, 1)), ((6, 8), (0,), 4, (3, 8)), ((3, 20), (1,), 8, (3, 5)),
        ((3, 15), (1,), 4, (3, 5)), ((2, 3, 8), (2,), 4, (2, 3, 2)), ((4, 6), (0, 1), 4, (1, 1)),
        ((0, 8), (1,), None, (0, 1)), ((5, 0), (1,), None, (5, 1)),
    ],
)  # fmt: skip
def test_four_bits(shape, axes, group, scales):
    x = floats(*shape)
    q = quant.quantize_array(x, axes=axes, bits=4, group=group)
    assert q.shape == shape
    assert q.scale.shape == scales
    assert q.integers().shape == shape
    if x.size:
        assert abs(q.integers()).max() == 7
        blocks = [n // s for n, s in zip(shape, scales, strict=True)]
        half = np.kron(q.scale, np.ones(blocks)) / 2
        assert (abs(q.dequantize() - x) <= half * 1.001).all()
    if shape == (6, 8):
        assert q.values.size == 24  # two in a byte


def test_bad_arrays_are_named():
    with pytest.raises(ValueError, match=r"takes bits 8 or 4; it was given 3"):
        quant.quantize_array(fnp.ones(4), axes=(0,), bits=3)
    with pytest.raises(ValueError, match=r"array of floats; it was given one of int32 \[4\]"):
        quant.quantize_array(fnp.arange(4), axes=(0,))
    with pytest.raises(ValueError, match=r"group=None.* got bits=4, group=None"):
        quant.Scheme(bits=4, activations=True)
    with pytest.raises(ValueError, match=r"one of 'int8', .*; got 'int3'"):
        quant.quantize(lambda w, x: x @ w, fnp.eye(2), fnp.eye(2), scheme="int3")


# ------------------------------------------------------------------------------ functions
def network(p, x):
    h = fnp.tanh(x @ p["w1"].T + p["b1"])
    return h @ p["w2"]


PARAMS = {"w1": floats(32, 66), "b1": floats(32), "w2": floats(32, 7)}
WITHIN = {"int8": 0.05, "int8-weights": 0.03, "int4-weights": 0.5}


def floats_of(params):
    held = lambda q: isinstance(q, quant.QArray)
    return ft.tree.map(lambda q: q.dequantize() if held(q) else q, params, is_leaf=held)


@pytest.mark.parametrize("scheme", WITHIN)
@pytest.mark.parametrize("rows", [1, 5, 9])
def test_a_quantised_function_is_near_and_is_one_under_transforms(scheme, rows):
    x = floats(rows, 66)
    small = quant.quantize(network, PARAMS, x, scheme=scheme)
    assert small["w1"].scale.shape == ((32, 3) if scheme == "int4-weights" else (32, 1))
    assert small["w2"].shape == (32, 7)
    assert small["w2"].in_order().scale.shape == (1, 7)
    assert small["w2"].values.shape[0] == 7  # so that terms of sums lie side by side
    assert small["b1"] is PARAMS["b1"]
    f = quant.quantized(network)
    want, got = network(PARAMS, x), f(small, x)
    assert abs(got - want).max() < WITHIN[scheme] * abs(want).max()
    near = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(ft.jit(f)(small, x), got, **near)
    np.testing.assert_allclose(ft.vmap(f, (None, 0))(small, x[:, None])[:, 0], got, **near)
    fake = quant.fake_quantized(network, scheme=scheme)(PARAMS, x)
    np.testing.assert_allclose(fake, got, **near)
    if scheme != "int8":
        np.testing.assert_allclose(network(floats_of(small), x), got, **near)


@pytest.mark.parametrize("scheme", ["int8-weights", "int4-weights"])
def test_weights_alone_leave_activations_differentiable(scheme):
    x = floats(3, 66)
    small = quant.quantize(network, PARAMS, x, scheme=scheme)
    f = quant.quantized(network)
    want = ft.grad(lambda x: network(floats_of(small), x).sum())(x)
    np.testing.assert_allclose(ft.grad(lambda x: f(small, x).sum())(x), want, rtol=1e-3, atol=1e-3)


def test_derivatives_of_integers_name_the_straight_through_way():
    x = floats(3, 66)
    small = quant.quantize(network, PARAMS, x)
    for f in (quant.quantized(network), ft.jit(quant.quantized(network))):
        with pytest.raises(TypeError, match=r"no derivative.*quant\.fake_quantized\(f\).*straight"):
            ft.grad(lambda x, f=f: f(small, x).sum())(x)
    bias = {k: v for k, v in small.items() if k != "b1"}
    with pytest.raises(TypeError, match="fake_quantized"):
        ft.grad(lambda b: quant.quantized(network)({**bias, "b1": b}, x).sum())(small["b1"])


def test_what_is_not_finite_makes_its_row_nan():
    x = np.ones((3, 66), np.float32)
    x[1, 4], x[2, 5] = np.nan, np.inf
    w = quant.quantize(lambda w, x: x @ w, floats(66, 4), x)
    y = ft.jit(quant.quantized(lambda w, x: x @ w))(w, x)
    assert np.isnan(y).all(1).tolist() == [False, True, True]


MOVEMENTS = {
    "transposed": (lambda w, x: x @ w.T, (8, 12)),
    "heads": (lambda w, x: fnp.einsum("td,hde->the", x, w), (2, 12, 4)),
    "joined": (lambda w, x: x @ w.transpose(1, 0, 2).reshape(12, 8), (2, 12, 4)),
    "parts": (lambda w, x: fnp.concatenate([x @ p for p in fnp.split(w, 2, 1)], 1), (12, 8)),
    "rows of it": (lambda w, x: x @ w[:, 1:5], (12, 8)),
    "split sum": (lambda w, x: fnp.einsum("tgd,gde->te", x.reshape(-1, 3, 4), w), (3, 4, 5)),
    "both ways": (lambda w, x: (x @ w) @ w.T, (12, 8)),
    "looked up": (lambda w, x: x @ w.T + w[fnp.array([1, 2, 0])].sum(), (8, 12)),
    "something else": (lambda w, x: x @ w + fnp.sin(w).sum(), (12, 8)),
    "inner calls": (lambda w, x: ft.jit(lambda w: ft.checkpoint(fnp.matmul)(x, w))(w), (12, 8)),
    "mapped": (lambda w, x: ft.vmap(lambda x: x @ w)(x), (12, 8)),
    "a loop": (lambda w, x: lax.fori_loop(0, 2, lambda i, x: x @ w[i], x) + x @ w[0], (2, 12, 12)),
    "convolution": (
        lambda w, x: lax.conv_general_dilated(x[None, None], w, (1, 1), "SAME"), (8, 1, 3, 3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVEMENTS)
@pytest.mark.parametrize("scheme", ["int8", "int4-weights"])
def test_weights_are_followed_to_their_products(name, scheme):
    f, shape = MOVEMENTS[name]
    w, x = floats(*shape), floats(3, 12)
    small = quant.quantize(f, w, x, scheme=scheme)
    assert isinstance(small, quant.QArray)
    run = ft.jit if name in ("heads", "parts", "inner calls") else lambda f: f
    got = run(quant.quantized(f))(small, x)
    fake = quant.fake_quantized(f, scheme=scheme)(w, x)
    assert got.shape == fake.shape
    top = abs(f(w, x)).max()
    assert abs(got - f(w, x)).max() < 2 * WITHIN[scheme] * top
    if name not in ("both ways", "looked up", "a loop", "something else"):
        np.testing.assert_allclose(got, fake, rtol=1e-3, atol=1e-4 * float(top))


def layered(p, x):
    def layer(x, parts):
        w, b = parts
        return fnp.tanh(x @ w.T + b) + x @ p["each"], x.sum()

    x, sums = lax.scan(layer, x, (p["layers"], p["b"]))
    return x @ p["head"].T, sums


@pytest.mark.parametrize("scheme", ["int8", "int4-weights"])
def test_loops_over_layers_multiply_integers(scheme):
    p = {"layers": floats(3, 8, 8) * 0.5, "each": floats(8, 8) * 0.3, "b": floats(3, 8)}
    p["head"], x = floats(5, 8), floats(4, 8)
    small = quant.quantize(layered, p, x, scheme=scheme)
    assert small["layers"].scale.shape == (3, 8, 1)
    f = quant.quantized(layered)
    (loop,) = [e for e in ft.make_jaxpr(f)(small, x).eqns if e.prim.name == "scan"]
    narrow = {v.aval.dtype.itemsize for v in loop.params["jaxpr"].invars if v.aval.ndim == 2}
    assert 1 in narrow
    got, _ = ft.jit(f)(small, x)
    fake, _ = quant.fake_quantized(layered, scheme=scheme)(p, x)
    np.testing.assert_allclose(got, fake, rtol=1e-3, atol=1e-4)
    want, _ = layered(floats_of(small), x)
    assert abs(got - want).max() < 0.05 * abs(want).max()
    if scheme == "int8":
        ranges = quant.calibrate(layered, p, [x])
        assert set(ranges) == {"['each']", "['head']", "['layers']"}
        known = f(quant.quantize(layered, p, x, ranges=ranges), x)[0]
        assert abs(known - want).max() < 0.1 * abs(want).max()
        alike = quant.fake_quantized(layered, ranges=ranges)
        np.testing.assert_allclose(known, alike(p, x)[0], rtol=1e-3, atol=1e-4)
        grads = ft.grad(lambda p: alike(p, x)[0].sum())(p)
        assert (abs(grads["layers"]).max((1, 2)) > 0).all()


def test_products_become_products_of_bytes():
    f = lambda w, x: x @ w.T
    w, x = floats(8, 12), floats(3, 12)
    small = quant.quantize(f, w, x)
    program = ft.make_jaxpr(quant.quantized(f))(small, x)
    (dot,) = [e for e in program.eqns if e.prim.name == "dot_general"]
    assert [v.aval.dtype.name for v in (*dot.invars, *dot.outvars)] == ["int8", "int8", "int32"]


def test_attention_in_integers():
    layer = nnx.MultiheadAttention(16, 2, key=random.key(0), batch_first=True)
    x, call = floats(2, 5, 16), lambda m, x: m(x, x, x)[0]
    small = quant.quantize(call, layer, x)
    assert isinstance(small.in_proj_weight, quant.QArray)
    for products, count in ((False, 2), (True, 4)):
        f = quant.quantized(call, products=products)
        program = str(ft.make_jaxpr(f)(small, x))
        assert program.count("dot_general[") >= 4
        assert program.count("out_dtype=int32") == count
        assert abs(ft.jit(f)(small, x) - call(layer, x)).max() < 0.03
    whole = lambda m, x: m(x, x, x, need_weights=False)[0]
    f = quant.quantized(whole, products=True)  # where attention is one operation
    assert str(ft.make_jaxpr(f)(small, x)).count("out_dtype=int32") == 4
    assert abs(ft.jit(f)(small, x) - call(layer, x)).max() < 0.03


# ------------------------------------------------------------------------------ ranges, training
def test_convolutions_whose_activations_are_used_seldom_stay_floats():
    """1 x 1 with few outputs: rounding costs more than products of int8 gain. Fake ones agree."""
    x = floats(2, 32, 6, 6)

    def layer(w, x):
        return lax.conv(x, w, (1, 1), "SAME")

    for w, whole in ((floats(32, 32, 1, 1), False), (floats(32, 32, 3, 3), True)):
        small = quant.quantize(layer, w, x)
        run = quant.quantized(layer)
        assert ("int32" in str(ft.make_jaxpr(run)(small, x))) == whole
        near = run(small, x) if whole else layer(small.dequantize(), x)
        np.testing.assert_allclose(run(small, x), near, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(quant.fake_quantized(layer)(w, x), near, rtol=1e-3, atol=1e-3)
        with pytest.raises(TypeError, match="int8 activations has no derivative"):
            ft.grad(lambda x, w=small, run=run: run(w, x).sum())(x)


def test_gradients_of_a_quantised_model_say_what_to_do():
    layer = nnx.Linear(4, 2, key=random.key(0))
    small = nnx.quantize(layer, fnp.ones((1, 4)))
    with pytest.raises(TypeError, match=r"it is quantised, and integers.*nnx.FakeQuantized\(model"):
        ft.grad(lambda m: m(fnp.ones((1, 4))).sum())(small)


def test_calibration_on_a_loader_with_labels():
    x = floats(16, 4)
    loader = ft.data.DataLoader(ft.data.ArrayDataset(x, np.arange(16)), batch_size=4)
    layer = nnx.Linear(4, 2, key=random.key(0))
    fixed = nnx.quantize(layer, x, batches=loader)
    np.testing.assert_allclose(fixed.model.weight.range, abs(np.asarray(x)).max(), rtol=1e-6)


def test_calibration():
    batches = [floats(5, 66) for _ in range(3)]
    name = "['w1']"
    most = [float(abs(b).max()) for b in batches]
    found = quant.calibrate(network, PARAMS, batches)
    assert set(found) == {"['w1']", "['w2']"}
    assert found[name] == max(most)
    average = quant.calibrate(network, PARAMS, batches, method="average", momentum=0.5)
    want = 0.5 * (0.5 * most[0] + 0.5 * most[1]) + 0.5 * most[2]
    np.testing.assert_allclose(average[name], want, rtol=1e-6)
    cut = quant.calibrate(network, PARAMS, batches, method="percentile", percentile=90)
    np.testing.assert_allclose(
        cut[name], max(np.percentile(abs(np.asarray(b)), 90) for b in batches), rtol=1e-5
    )
    x = batches[0]
    small = quant.quantize(network, PARAMS, x, ranges=found)
    assert "reduce_max" not in str(ft.make_jaxpr(quant.quantized(network))(small, x))
    got = quant.quantized(network)(small, x)
    assert abs(got - network(PARAMS, x)).max() < 0.06 * abs(got).max()
    fake = quant.fake_quantized(network, ranges=found)(PARAMS, x)
    np.testing.assert_allclose(fake, got, rtol=1e-4, atol=1e-4)


def test_bad_calibration_is_named():
    x = floats(2, 66)
    with pytest.raises(ValueError, match=r"takes method 'largest', .*; got 'best'"):
        quant.calibrate(network, PARAMS, [x], method="best")
    with pytest.raises(ValueError, match="at least one batch"):
        quant.calibrate(network, PARAMS, [])
    with pytest.raises(ValueError, match=r"not finite, at \"\['w1'\]\""):
        quant.calibrate(network, PARAMS, [x * np.inf])
    with pytest.raises(ValueError, match=r"ranges for w9, which no product.*\['w1'\]"):
        quant.quantize(network, PARAMS, x, ranges={"w9": 1.0})
    with pytest.raises(ValueError, match="found no product or convolution of a float32 parameter"):
        quant.quantize(lambda p, x: x + p, fnp.ones((2, 2)), fnp.ones((2, 2)))


def test_straight_through_gradients():
    x = fnp.array([[0.26, -3.0], [1.0, 0.5]])
    f = lambda x: (quant.fake_quantize(x, axes=(1,)) * fnp.array([2.0, 3.0])).sum()
    for run in (ft.grad(f), ft.jit(ft.grad(f))):
        assert run(x).tolist() == [[2.0, 3.0], [2.0, 3.0]]
    cut = ft.grad(lambda x: quant.fake_quantize(x, range=1.0).sum())(x)
    assert cut.tolist() == [[1.0, 0.0], [1.0, 1.0]]
    values = np.unique(np.asarray(quant.fake_quantize(floats(1000), bits=4)))
    assert len(values) in (14, 15)


def test_training_moves_weights_by_the_gradients_of_the_rounded_ones():
    x, scheme = random.normal(random.key(0), (64, 16)), quant.Scheme(bits=4)
    teacher, w = ({"a": floats(16, 32) * 0.3, "b": floats(32, 4) * 0.3} for _ in range(2))

    def f(w, x):
        return fnp.tanh(x @ w["a"]) @ w["b"]

    def loss(f, w):
        return ((f(w, x) - f_of_teacher) ** 2).mean()

    f_of_teacher = f(teacher, x)
    fake = quant.fake_quantized(f, scheme=scheme)
    rounded = ft.tree.map(lambda v: quant.fake_quantize(v, axes=(0,), bits=4), w)
    want = ft.grad(lambda w: loss(f, w))(rounded)
    step = ft.jit(lambda w: ft.grad(lambda w: loss(fake, w))(w))
    for name, grad in step(w).items():
        np.testing.assert_allclose(grad, want[name], rtol=1e-4, atol=1e-6)
    first = loss(fake, w)
    for _ in range(100):
        w = ft.tree.map(lambda p, g: p - 0.3 * g, w, step(w))
    assert loss(fake, w) < 0.2 * first
    small = quant.quantize(f, w, x, scheme=scheme)
    np.testing.assert_allclose(loss(quant.quantized(f), small), loss(fake, w), rtol=1e-4)


# ------------------------------------------------------------------------------ models
def image_model():
    keys = random.split(random.key(0))
    return nnx.Sequential(
        nnx.Conv2d(3, 16, 3, padding=1, key=keys[0]), nnx.ReLU(), nnx.Flatten(),
        nnx.Linear(16 * 64, 10, key=keys[1]),
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["int8", "int4-weights"])
def test_models_are_saved_and_exported_small(scheme, tmp_path):
    model, x = image_model(), floats(2, 3, 8, 8)
    small = nnx.quantize(model, x, scheme=scheme)
    y = small(x)
    assert abs(y - model(x)).max() < (0.02 if scheme == "int8" else 0.15)
    ratio = quant.nbytes(model) / quant.nbytes(small)
    assert ratio > (3.7 if scheme == "int8" else 6)
    ft.save(tmp_path / "small.safetensors", nnx.state_dict(small))
    empty = ft.tree.map(fnp.zeros_like, small)
    again = nnx.load_state_dict(empty, ft.load(tmp_path / "small.safetensors"))
    assert np.array_equal(again(x), y)
    assert (tmp_path / "small.safetensors").stat().st_size < quant.nbytes(small) + 1200
    (batch,) = export.symbolic_shape("b")
    exported = ft.export(small)(ft.ShapeDtypeStruct((batch, 3, 8, 8), "float32"))
    exported.save(tmp_path / "small.ft")
    loaded = export.load(tmp_path / "small.ft")
    np.testing.assert_allclose(loaded.call(x), y, atol=1e-6)
    assert loaded.call(x[:1]).shape == (1, 10)
    many = ft.jit(ft.vmap(small))(x[:, None])
    np.testing.assert_allclose(many[:, 0], y, atol=1e-6)


def test_models_train_and_convert_to_the_same_numbers():
    model, x = image_model(), floats(4, 3, 8, 8)
    ranges = quant.calibrate(lambda m, x: m(x), model, [x])
    fake = nnx.FakeQuantized(model, "int8", ranges)
    grads = ft.jit(ft.grad(lambda m: (m(x) ** 2).sum()))(fake)
    assert all(float(abs(layer.weight).max()) > 0 for layer in grads.model.layers[::3])
    real = fake.quantized(x)
    np.testing.assert_allclose(real(x), fake(x), atol=1e-5)
    assert nnx.param_count(real) == 0
    kept = nnx.quantize(model, x, skip=lambda name: name == ".layers[0].weight")
    assert kept.model.layers[0].weight is model.layers[0].weight
    assert "QArray(int8[10,1024], scale (10, 1))" in str(kept)
    by_batches = nnx.quantize(model, x, batches=[x])
    assert np.array_equal(by_batches(x), real(x))


def test_every_shape_of_a_vector_by_a_matrix():
    for (k, n), turned, scheme in itertools.product(
        ((96, 3), (63, 4), (130, 1)), (False, True), WITHIN
    ):
        f = (lambda w, x: x @ w.T) if turned else (lambda w, x: x @ w)
        w, x = floats(*((n, k) if turned else (k, n))), floats(1, k)
        small = quant.quantize(f, w, x, scheme=scheme)
        got = ft.jit(quant.quantized(f))(small, x)
        if scheme == "int8":
            x = quant.fake_quantize(x)
        np.testing.assert_allclose(got, f(small.dequantize(), x), rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------------------ choices
ZEROS = [quant.Scheme(bits=4, group=16, symmetric=False), quant.Scheme(symmetric=False)]


@pytest.mark.parametrize("scheme", ZEROS, ids=["int4", "int8"])
def test_zero_points_use_all_integers(scheme):
    w = fnp.abs(floats(6, 64)) + 0.1
    options = {"axes": (1,), "bits": scheme.bits, "group": scheme.group}
    q = quant.quantize_array(w, symmetric=False, **options)
    assert q.zero.dtype == np.int8
    assert int(q.integers().max()) - int(q.integers().min()) > 2 ** (scheme.bits - 1)
    worse = abs(quant.quantize_array(w, **options).dequantize() - w).max()
    assert abs(q.dequantize() - w).max() < 0.6 * worse
    assert not abs(quant.quantize_array(0 * w, symmetric=False, **options).dequantize()).any()
    f = lambda p, x: (x @ p["w"].T) @ p["v"]
    p = {"w": w, "v": floats(6, 4)}
    for rows in (1, 9):
        x = floats(rows, 64)
        small = quant.quantize(f, p, x, scheme=scheme)
        want = f(floats_of(small), x)
        for run in (quant.quantized(f), ft.jit(quant.quantized(f))):
            np.testing.assert_allclose(run(small, x), want, rtol=1e-4, atol=1e-3)
        fake = quant.fake_quantized(f, scheme=scheme)(p, x)
        np.testing.assert_allclose(fake, want, rtol=1e-4, atol=1e-3)
    image = floats(1, 3, 8, 8)
    conv = lambda w, x: lax.conv_general_dilated(x, w, (1, 1), "SAME")
    kernel = fnp.abs(floats(8, 3, 3, 3))
    small = quant.quantize(conv, kernel, image, scheme=quant.Scheme(symmetric=False))
    np.testing.assert_allclose(
        ft.jit(quant.quantized(conv))(small, image), conv(small.dequantize(), image), atol=1e-4
    )


def test_bad_schemes_are_named():
    with pytest.raises(ValueError, match=r"group=None and symmetric=True.*symmetric=False"):
        quant.Scheme(activations=True, symmetric=False)
    with pytest.raises(ValueError, match=r"group of 1 or more, or None; got 0"):
        quant.Scheme(bits=4, group=0)


def test_every_weight_may_have_a_scheme_of_its_own():
    x = floats(3, 66)
    own = {"['w1']": "int4-weights", "['w2']": None}
    small = quant.quantize(network, PARAMS, x, scheme=own.get)
    assert small["w1"].bits == 4
    assert small["w2"] is PARAMS["w2"]
    fake = quant.fake_quantized(network, scheme=own.get)(PARAMS, x)
    np.testing.assert_allclose(fake, quant.quantized(network)(small, x), atol=1e-4)
    model = nnx.Sequential(nnx.Linear(8, 8, key=random.key(0)), nnx.Linear(8, 4, key=random.key(1)))
    small = nnx.quantize(model, x[:, :8], scheme=lambda n: "int8" if "layers[0]" in n else None)
    assert isinstance(small.model.layers[0].weight, quant.QArray)
    assert small.model.layers[1].weight.dtype == np.float32


@pytest.mark.parametrize("scheme", [{}, {"bits": 4, "group": 8}, {"bits": 4, "symmetric": False}])
def test_tables_of_embeddings_become_integers_where_that_is_asked_for(scheme):
    def f(p, i):
        return p["table"][i] @ p["head"]

    p, i = {"table": floats(50, 16), "head": floats(16, 3)}, np.array([[1, 49], [0, 7]])
    assert quant.quantize(f, p, i)["table"] is p["table"]
    small = quant.quantize(f, p, i, scheme=quant.Scheme(embeddings=True, **scheme))
    assert small["table"].shape == (50, 16)
    assert small["table"].scale.shape[0] == 50
    want = f(floats_of(small), i)
    jaxpr = ft.make_jaxpr(quant.quantized(f))(small, i)
    assert not [v for e in jaxpr.eqns for v in e.outvars if v.aval.shape == (50, 16)]
    for run in (quant.quantized(f), ft.jit(quant.quantized(f))):
        np.testing.assert_allclose(run(small, i), want, atol=1e-4)
    fake = quant.fake_quantized(f, scheme=quant.Scheme(embeddings=True, **scheme))(p, i)
    np.testing.assert_allclose(fake, want, atol=1e-4)


def test_ranges_by_error_and_by_entropy_leave_out_what_is_rare():
    x = RNG.standard_normal((200, 66)).astype(np.float32)
    x[0, 0] = 60.0  # alone far away
    found = {
        method: float(quant.calibrate(network, PARAMS, [x[:100], x[100:]], method=method)["['w1']"])
        for method in ("largest", "mse", "entropy")
    }
    assert found["largest"] == 60.0
    best = 60.0 / (1 + x.size / (12 * 127**2))  # of (60 - r)² + x.size * (r / 127)² / 12
    assert abs(found["mse"] - best) < 0.03 * best
    assert 3.0 < found["entropy"] < 40.0
    fine, coarse = (
        abs(quant.fake_quantize(x[1:], range=found[k]) - x[1:]).mean()
        for k in ("entropy", "largest")
    )
    assert fine < 0.7 * coarse
    for method in ("mse", "entropy"):
        assert float(quant.calibrate(network, PARAMS, [0 * x], method=method)["['w1']"]) == 0.0
        with pytest.raises(ValueError, match="not finite"):
            quant.calibrate(network, PARAMS, [x * np.nan], method=method)
    p = {"layers": floats(3, 8, 8), "each": floats(8, 8), "b": floats(3, 8), "head": floats(5, 8)}
    ranges = quant.calibrate(layered, p, [floats(4, 8)], method="mse")
    assert set(ranges) == {"['each']", "['head']", "['layers']"}


@pytest.mark.parametrize("name", ["jacrev", "jacfwd", "hessian", "value_and_grad"])
def test_every_derivative_of_integers_says_what_to_do(name):
    small = nnx.quantize(nnx.Linear(4, 2, key=random.key(0)), fnp.ones((1, 4)))
    with pytest.raises(TypeError, match=r"it is quantised, and integers.*nnx.FakeQuantized\(model"):
        getattr(ft, name)(lambda m: m(fnp.ones((1, 4))).sum())(small)
