"""Kernels behind products run on blocks of their results: same values, one pass less."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends import epilogue
from funtorch.backends.cost import cost_analysis, memory_analysis
from funtorch.backends.fuse import fuse
from funtorch.backends.kernel import check_kernel, run_kernel
from funtorch.backends.layout import check_layout, lay_out
from funtorch.backends.plan import Conv, Dot, Launch
from funtorch.transforms.simplify import simplify

rng = np.random.default_rng(5)


def normal(shape, dtype="float32"):
    return fnp.asarray(rng.normal(size=shape).astype("float32")).astype(dtype)


def program(f, *args):
    return simplify(ft.make_jaxpr(f)(*args).jaxpr)


def separate(jaxpr, monkeypatch):
    """Return the plan of a program whose kernels and products are steps of their own."""
    with monkeypatch.context() as m:
        m.setitem(epilogue._RULES, "bytes", 1 << 60)
        return fuse(jaxpr)


def gates(x, w, b):
    i, f, g, o = fnp.split(x @ w + b, 4, axis=-1)
    return ft.nn.sigmoid(o) * fnp.tanh(ft.nn.sigmoid(f) * 0.5 + ft.nn.sigmoid(i) * fnp.tanh(g))


def attention(q, k, v):
    scores = fnp.einsum("bthd,bshd->bhts", q, k) * 0.25
    seen = fnp.arange(q.shape[1])[:, None] >= fnp.arange(q.shape[1])
    weights = ft.nn.softmax(fnp.where(seen, scores, -1e30))
    return fnp.einsum("bhts,bshd->bthd", weights, v)


def normed(x, w, b):
    z = x @ w + b
    z = z - z.mean(-1, keepdims=True)
    return z * ft.lax.rsqrt((z * z).mean(-1, keepdims=True) + 1e-5)


def normed_gradients(x, w, scale, ct):
    """The last of the results is a sum over the rows of a product."""

    def f(scale, z):
        z = z - z.mean(-1, keepdims=True)
        return z * ft.lax.rsqrt((z * z).mean(-1, keepdims=True) + 1e-5) * scale

    z, pull = ft.vjp(lambda s: f(s, x @ w), scale)
    return ft.vjp(f, scale, x)[1](ct @ w.T)[1], z, pull(ct)


X, W, B = (131, 67), (67, 257), (257,)
ODD = {
    "bias and relu": (lambda x, w, b: ft.nn.relu(x @ w + b), X, W, B),
    "weights turned": (lambda x, w, b: ft.nn.relu(x @ w.T + b), X, (257, 67), B),
    "input turned": (lambda x, w, b: ft.nn.relu(x.T @ w + b), (67, 131), W, B),
    "gelu, several blocks": (lambda x, w, b: ft.nn.gelu(x @ w + b), (707, 19), (19, 1001), (1001,)),
    "residual": (lambda x, w, b, r: r + x @ w + b, (4, 131, 67), W, B, (4, 131, 257)),
    "residual that is an operand": (lambda x, w: x + x @ w, (257, 257), (257, 257)),
    "bias for every sample": (lambda x, w, b: x @ w + b[:, None], (5, 41, 67), W, (5, 257)),
    "products in a batch": (lambda x, w: fnp.tanh(x @ w) * 2, (7, 41, 30), (7, 30, 133)),
    "scale, bias for each row": (lambda x, w, b: 2 * (x @ w) + b[:, None], X, W, (131,)),
    "softmax": (lambda x, w, b: ft.nn.softmax(x @ w + b), X, W, B),
    "softmax of short rows": (lambda x, w: ft.nn.softmax(x @ w), (3001, 7), (7, 43)),
    "log softmax in a batch": (lambda x, w: ft.nn.log_softmax(x @ w), (3, 65, 32), (3, 32, 257)),
    "layer norm": (normed, X, W, B),
    "layer norm, rows in order of heads": (attention, *((3, 67, 4, 16),) * 3),
    "gates": (gates, (131, 40), (40, 256), (256,)),
    "two kernels read it": (lambda x, w, b: (x @ w, ft.nn.relu(x @ w + b)), X, W, B),
    "and a sum over its rows": (lambda x, w: (fnp.exp(x @ w), (x @ w).sum(0)), X, W),
    "and the greatest of its columns": (lambda x, w: ((x @ w) * 2, (-(x @ w)).max(0)), X, W),
    "gradient of a bias": (
        lambda x, w, z: (lambda g: (g, g.sum((0, 1))))(fnp.where(z > 0, x @ w, 0)),
        (3, 131, 67), W, (3, 131, 257),
    ),
    "of two products, the later": (lambda x, y, w: (x @ w) * (y @ w), X, X, W),
    "layer norm gradients": (normed_gradients, (131, 67), (67, 260), (260,), (131, 260)),
}  # fmt: skip


def check(f, args, tolerance, monkeypatch):
    jaxpr = program(f, *args)
    plan, plain = fuse(jaxpr), separate(jaxpr, monkeypatch)
    check_layout(lay_out(plan, frozenset(range(len(args)))))
    made = [s.after for s in plan.steps if isinstance(s, (Conv, Dot)) and s.after]
    assert made, str(plan)
    for after in made:
        check_kernel(after.launch.kernel)
    assert len(plan.steps) < len(plain.steps)
    want, run = f(*args), ft.jit(f)
    got = run(*args)
    for g, w in zip(ft.tree.leaves(got), ft.tree.leaves(want), strict=True):
        assert g.dtype == w.dtype
        g, w = np.asarray(g, np.float64), np.asarray(w, np.float64)
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * np.abs(w).max())
    with ft.threads(1):
        for g, w in zip(ft.tree.leaves(got), ft.tree.leaves(run(*args)), strict=True):
            np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("name", [n for n in ODD if n != "layer norm gradients"])
def test_kernels_behind_products_equal_separate_ones(name, monkeypatch):
    f, *shapes = ODD[name]
    check(f, [normal(shape) for shape in shapes], 2e-5, monkeypatch)


def conv(x, w, **options):
    return ft.lax.conv_general_dilated(x, w, (1,) * (x.ndim - 2), "SAME", **options)


def halved(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))


def relu_after(x, w, b):
    return ft.nn.relu(conv(x, w) + b)


CONVOLUTIONS = {
    "blocks of rows": (relu_after, (2, 16, 56, 55), (32, 16, 3, 3), (32, 1, 1)),
    "odd sizes": (relu_after, (3, 5, 37, 41), (19, 5, 3, 3), (19, 1, 1)),
    "one tap": (relu_after, (4, 16, 23, 23), (33, 16, 1, 1), (33, 1, 1)),
    "one axis": (relu_after, (4, 16, 2500), (32, 16, 3), (32, 1)),
    "groups": (
        lambda x, w, b: ft.nn.relu(conv(x, w, feature_group_count=3) + b),
        (4, 9, 33, 33), (21, 3, 3, 3), (21, 1, 1),
    ),
    "residual that is the operand": (lambda x, w: x + conv(x, w), (4, 8, 56, 56), (8, 8, 3, 3)),
    "wider": (lambda x, w: conv(x, w).astype("float64"), (2, 8, 56, 55), (32, 8, 3, 3)),
    "pooled": (
        lambda x, w, b: halved(relu_after(x, w, b)), (4, 3, 28, 32), (19, 3, 3, 3), (19, 1, 1),
    ),
    "rows of places": (lambda x, w: ft.nn.softmax(conv(x, w)), (4, 8, 25, 25), (32, 8, 3, 3)),
    "read again": (lambda x, w: (conv(x, w), fnp.exp(conv(x, w))), (3, 5, 37, 41), (19, 5, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_kernels_behind_convolutions_equal_separate_ones(name, monkeypatch):
    monkeypatch.setitem(epilogue._RULES, "far", 0)
    f, *shapes = CONVOLUTIONS[name]
    check(f, [normal(shape) for shape in shapes], 2e-5, monkeypatch)


def test_many_features_are_made_in_several_blocks(monkeypatch):
    monkeypatch.setitem(epilogue._RULES, "far", 0)
    args = [normal(s) for s in ((1, 4, 9, 1100), (200, 4, 3, 3), (200, 1, 1))]
    check(relu_after, args, 2e-5, monkeypatch)
    args = [
        normal(s).astype("float64") for s in ((2, 1500, 12, 12), (130, 1500, 3, 3), (130, 1, 1))
    ]
    check(relu_after, args, 1e-12, monkeypatch)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32"])
def test_of_other_dtypes(dtype, monkeypatch):
    x, w, b = ((4 * normal(shape)).astype(dtype) for shape in (X, W, B))
    tolerance = {"float64": 1e-13, "float16": 2e-3, "bfloat16": 1.6e-2, "int32": 0}[dtype]
    check(lambda x, w, b: fnp.maximum(x @ w + b, 0), (x, w, b), tolerance, monkeypatch)


def test_what_it_makes_may_have_another_dtype(monkeypatch):
    args = [normal(s) for s in (X, W, B)]
    check(lambda x, w, b: (x @ w + b).astype("bfloat16"), args, 1e-2, monkeypatch)
    check(lambda x, w, b: x @ w + b > 0, args, 0, monkeypatch)


def test_totals_of_rows_are_equal_for_any_number_of_threads(monkeypatch):
    """A kernel of rows that sums over all rows too: every block leaves its part of the sum."""

    def f(x, w, scale):
        z = x @ w
        z = z - z.mean(-1, keepdims=True)
        return z * scale, (z * z).sum(tuple(range(z.ndim - 1)))

    args = [normal(s) for s in ((500, 30), (30, 129), (129,))]
    check(f, args, 2e-5, monkeypatch)
    check(f, [normal(s) for s in ((7, 61, 30), (7, 30, 129), (129,))], 2e-5, monkeypatch)


def test_donated_residuals_are_written_in_place():
    x, w, r = (normal(s) for s in (X, W, (131, 257)))
    jaxpr = program(lambda x, w, r: r + x @ w, x, w, r)
    (dot,) = fuse(jaxpr).steps
    layout = lay_out(fuse(jaxpr), frozenset([2]))
    assert isinstance(dot, Dot)
    assert layout.pairs == {(2, 0)}
    want = np.asarray(r + x @ w)
    got = ft.jit(lambda x, w, r: r + x @ w, donate_argnums=2)(x, w, r)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_operands_of_the_product_are_never_written_in_place():
    x, w = normal((257, 257)), normal((257, 257))
    jaxpr = program(lambda x, w: x + x @ w, x, w)
    assert lay_out(fuse(jaxpr), frozenset([0, 1])).pairs == frozenset()


def test_bytes_and_memory_of_the_pass_are_saved(monkeypatch):
    x, w, b = (normal(s) for s in ((512, 64), (64, 256), (256,)))
    jaxpr = program(lambda x, w, b: ft.nn.relu(x @ w + b).astype("bfloat16"), x, w, b)
    size = 512 * 256 * 4
    bytes_, memory = cost_analysis(jaxpr)["bytes accessed"], memory_analysis(jaxpr)
    assert memory.temp_size_in_bytes == 0
    with monkeypatch.context() as m:
        m.setitem(epilogue._RULES, "bytes", 1 << 60)
        assert cost_analysis(jaxpr)["bytes accessed"] == bytes_ + 2 * size
        assert memory_analysis(jaxpr).temp_size_in_bytes == size


def test_explain_shows_the_epilogue():
    x, w, b = (normal(s) for s in ((512, 64), (64, 256), (256,)))
    found = ft.explain(lambda x, w, b: ft.nn.gelu(x @ w + b))(x, w, b)
    (row,) = found.steps
    assert (row.kind, row.what) == ("product", "dot_general, then add+mul+tanh")
    assert row.cost.transcendentals == 512 * 256
    assert "b1=block" in str(found.plan) or "b0=block" in str(found.plan)


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (lambda x, w: ft.nn.relu(x @ w), ((20, 30), (30, 40))),  # small
        (lambda x, w: ft.nn.relu(x @ w), ((128, 4096), (4096, 256))),  # a sum in pieces
        (lambda x, w: ft.nn.softmax(x @ w), ((128, 512), (512, 4096))),  # long rows, long sums
        (lambda x, w: x @ w - (x @ w).sum(0), ((131, 67), (67, 257))),  # after a total
        (lambda x, w: (x @ w)[::-1] * 2, ((131, 67), (67, 257))),  # not in order
        (lambda x, w: (x @ w).cumsum(0) * 2, ((131, 67), (67, 257))),
    ],
    ids=["small", "pieces", "long", "total", "backwards", "running"],
)  # fmt: skip
def test_other_kernels_stay_separate(f, shapes):
    args = [normal(s) for s in shapes]
    steps = fuse(program(f, *args)).steps
    assert all(s.after is None for s in steps if isinstance(s, Dot))
    assert any(isinstance(s, Launch) for s in steps)
    got, want = ft.jit(f)(*args), f(*args)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_in_loops_and_gradients():
    x, w = normal((300, 128)), normal((128, 128)) * 0.05

    def loss(x, w):
        def body(x, _):
            return fnp.tanh(x @ w) + x, None

        return (ft.lax.scan(body, x, None, length=4)[0] ** 2).mean()

    f = ft.value_and_grad(loss, (0, 1))
    (got, got_grads), (want, want_grads) = ft.jit(f)(x, w), f(x, w)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for g, v in zip(got_grads, want_grads, strict=True):
        np.testing.assert_allclose(g, v, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["bias and relu", "softmax", "layer norm", "gates"])
def test_kernels_of_epilogues_mean_the_same_to_numpy(name):
    f, *shapes = ODD[name]
    args = [normal(shape) for shape in shapes]
    jaxpr = program(f, *args)
    (dot,) = fuse(jaxpr).steps
    assert isinstance(dot, Dot)
    assert dot.after is not None
    env = {v: np.asarray(a) for v, a in zip(jaxpr.invars, args, strict=True)}
    env[dot.out] = env[dot.a] @ env[dot.b]
    launch = dot.after.launch
    buffers = [env.setdefault(v, np.empty(v.aval.shape, v.aval.dtype)) for v in launch.vars]
    run_kernel(launch.kernel, [np.ascontiguousarray(b) if b.ndim else b for b in buffers])
    (out,) = dot.after.writes()
    np.testing.assert_allclose(ft.jit(f)(*args), env[out], rtol=2e-5, atol=2e-5)
