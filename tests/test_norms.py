"""`per_example_norms`: equal to the norms of vmap(grad), without the gradients in memory."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

rng = np.random.default_rng(0)


def array(*shape, dtype=np.float64):
    return rng.normal(size=shape).astype(dtype)


def by_vmap(loss, argnums=0, in_axes=0):
    def norms(*args):
        nums = (argnums,) if isinstance(argnums, int) else argnums
        axes = tuple(None if k in nums else in_axes for k in range(len(args)))
        axes = in_axes if isinstance(in_axes, tuple) else axes
        grads = ft.vmap(ft.grad(loss, argnums=nums), in_axes=axes)(*args)
        return fnp.sqrt(
            sum((abs(g) ** 2).reshape(g.shape[0], -1).sum(1) for g in ft.tree.leaves(grads))
        )

    return norms


def mlp(p, x, y):
    return ((fnp.tanh(x @ p["w"] + p["b"]) @ p["v"] * p["s"] - y) ** 2).sum()


def sequence(p, x):
    h = fnp.tanh(x @ p["w"] + p["b"])
    return ((h @ p["w"].T - x) ** 2).mean()  # the weight is used twice


def attention(p, x):
    q, k, v = (h.reshape(7, 2, 3).swapaxes(0, 1) for h in fnp.split(x @ p["qkv"], 3, -1))
    o = ft.nn.softmax(q @ k.swapaxes(-1, -2)) @ v
    x = x + o.swapaxes(0, 1).reshape(7, 6) @ p["out"]
    return (p["scale"] * fnp.sin(x)).sum()


def heads(w, x):
    return fnp.tanh(fnp.einsum("td,hdk->htk", x, w)).sum()


def table(p, i):
    e = p["e"][i]
    return (fnp.sin(e) @ p["w"]).sum() + (p["e"][i[0]] ** 2).sum()


def convolution(p, x):
    h = lax.conv(x[None], p["k"], (2, 2), "SAME")
    return (fnp.tanh(h) ** 2).sum()


def recurrent(p, x):
    return lax.scan(lambda h, v: (fnp.tanh(h @ p["w"] + v @ p["u"]), None), p["h"], x)[0].sum()


def wide(p, x):
    return (x @ p).sum() * fnp.cos(x).sum()


def unused(p, x):
    return (p["w"] * x).sum()


INDICES = rng.integers(0, 30, (5, 4))
CASES = {
    "mlp": (
        mlp,
        (
            {"w": array(3, 4), "b": array(4), "v": array(4, 2), "s": array()},
            array(5, 3),
            array(5, 2),
        ),
    ),
    "sequence": (sequence, ({"w": array(9, 10), "b": array(10)}, array(5, 3, 9))),
    "long sequence": (sequence, ({"w": array(3, 4), "b": array(4)}, array(5, 30, 3))),
    "attention": (
        attention,
        ({"qkv": array(6, 18), "out": array(6, 6), "scale": array(6)}, array(5, 7, 6)),
    ),
    "heads": (heads, (array(3, 6, 5), array(4, 2, 6))),
    "table": (table, ({"e": array(30, 4), "w": array(4, 4)}, INDICES)),
    "many rows": (table, ({"e": array(30, 4), "w": array(4, 4)}, rng.integers(0, 30, (5, 25)))),
    "convolution": (convolution, ({"k": array(4, 3, 3, 3)}, array(5, 3, 8, 8))),
    "recurrent": (recurrent, ({"w": array(4, 4), "u": array(3, 4), "h": array(4)}, array(5, 7, 3))),
    "a factor": (wide, (array(6, 2), array(5, 6))),
    "complex": (lambda p, x: abs((p * x).sum()) ** 2, (array(3) + 1j * array(3), array(5, 3))),
    "unused": (unused, ({"w": array(3), "z": array(2)}, array(5, 3))),
    "the same": (lambda p, x: (p**2).sum() + 0 * x, (array(3, 2), array(5))),
    "jit and remat": (lambda *args: ft.jit(ft.checkpoint(mlp))(*args), None),
    "loop": (
        lambda p, x: lax.fori_loop(0, 3, lambda k, h: fnp.tanh(h @ p), x).sum(),
        (array(4, 4), array(5, 4)),
    ),
    "where": (
        lambda p, x: fnp.where(x > 0, x @ p, fnp.log(x @ p)).sum(),
        (abs(array(4, 4)), abs(array(5, 4))),
    ),
    "half": (
        lambda p, x: ((x @ p["w"].astype("float16")) ** 2).sum().astype("float32"),
        ({"w": array(3, 4, dtype=np.float32)}, array(5, 3, dtype=np.float16)),
    ),
}
CASES["jit and remat"] = (CASES["jit and remat"][0], CASES["mlp"][1])


@pytest.mark.parametrize("name", CASES)
def test_norms_are_those_of_vmap_of_grad(name):
    loss, args = CASES[name]
    want = np.asarray(by_vmap(loss)(*args))
    tolerance = {"rtol": 5e-3} if name == "half" else {"rtol": 1e-10, "atol": 1e-12}
    for transform in (lambda f: f, ft.jit):
        got = transform(ft.per_example_norms(loss))(*args)
        np.testing.assert_allclose(got, want, **tolerance)
        assert got.shape == (5,) or name == "heads"
        assert got.dtype == want.dtype


def bytes_of(f, *args):
    return ft.jit(f).lower(*args).compile().memory_analysis().temp_size_in_bytes


def stacked(ws, x):
    for w in ws:
        x = fnp.tanh(x @ w)
    return (x * x).sum()


# Most of the bytes that the gradient of all losses takes, and least of those of vmap of grad.
LARGE = {
    "matrices": (stacked, ([array(256, 256, dtype=np.float32)] * 4, (64, 256)), 1.1, 1.3),
    "sequences": (stacked, ([array(256, 256, dtype=np.float32)] * 4, (32, 16, 256)), 1.2, 14),
    "long sequences": (stacked, ([array(64, 64, dtype=np.float32)] * 2, (256, 99, 64)), 1.2, 1.2),
    "tables": (
        lambda p, i: fnp.sin(p[0][i]).sum(),
        ([array(4096, 16, dtype=np.float32)], (32, 8)),
        1.6,
        100,
    ),
    "filters": (
        lambda p, x: fnp.sin(lax.conv(x[None], p, (1, 1), "SAME")).sum(),
        (array(64, 64, 3, 3, dtype=np.float32), (64, 64, 2, 2)),
        2.5,
        50,
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_gradients_are_never_in_memory(name):
    """The norms take about the memory of one gradient of the whole batch.

    What compiles vmap of grad keeps outer products out of memory by itself, but no others.
    """
    loss, (params, shape), most, least = LARGE[name]
    batch = rng.integers(0, 4096, shape) if name == "tables" else array(*shape, dtype=np.float32)
    total = ft.grad(lambda p, b: ft.vmap(loss, (None, 0))(p, b).sum())
    needed = bytes_of(ft.per_example_norms(loss), params, batch)
    assert needed < most * bytes_of(total, params, batch)
    assert bytes_of(by_vmap(loss), params, batch) > least * needed
    some = batch[:3]
    np.testing.assert_allclose(
        ft.jit(ft.per_example_norms(loss))(params, some), by_vmap(loss)(params, some), rtol=1e-4
    )


def test_arguments_and_axes():
    loss = lambda x, w, b, k: k * fnp.tanh(x @ w + b).sum()
    x, w, b = array(3, 5), array(3, 2), array(2)
    axes = (1, None, None, None)
    got = ft.per_example_norms(loss, argnums=(1, 2), in_axes=axes)(x, w, b, 2.0)
    np.testing.assert_allclose(got, by_vmap(loss, (1, 2), axes)(x, w, b, 2.0), rtol=1e-12)
    f = lambda p, ex: (ex["x"] @ p).sum() * ex["k"]
    got = ft.per_example_norms(f, in_axes=(None, {"x": 0, "k": None}))(w, {"x": x.T, "k": 3.0})
    np.testing.assert_allclose(got, 3 * np.sqrt(2) * np.linalg.norm(x.T, axis=1), rtol=1e-12)
    empty = ft.per_example_norms(f, in_axes=(None, {"x": 0, "k": None}))(
        w, {"x": x.T[:0], "k": 3.0}
    )
    assert empty.shape == (0,)
    large = lambda p, ex: fnp.sin(lax.conv(ex["x"][None], p, (1, 1), "SAME")).sum() * ex["k"]
    axes = (None, {"x": 1, "k": None})
    args = array(64, 64, 3, 3), {"x": array(64, 3, 2, 2), "k": 2.0}
    np.testing.assert_allclose(
        ft.per_example_norms(large, in_axes=axes)(*args), by_vmap(large, 0, axes)(*args), rtol=1e-10
    )


def test_norms_can_be_transformed():
    loss, args = CASES["sequence"]
    total = lambda f: lambda p: f(loss)(p, *args[1:]).sum()
    for a, b in zip(
        ft.tree.leaves(ft.grad(total(ft.per_example_norms))(args[0])),
        ft.tree.leaves(ft.grad(total(by_vmap))(args[0])),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    batches = np.stack([args[1], 2 * args[1]])
    got = ft.vmap(ft.per_example_norms(loss), (None, 0))(args[0], batches)
    np.testing.assert_allclose(got[1], by_vmap(loss)(args[0], batches[1]), rtol=1e-10)


def test_clipping_sums_of_gradients():
    """Differentially private steps: a second pass gives the sum of clipped gradients."""
    loss, (params, x, y) = CASES["mlp"]

    @ft.jit
    def clipped(params, x, y):
        scale = fnp.minimum(1, 2.0 / ft.per_example_norms(loss)(params, x, y))
        losses = ft.vmap(loss, (None, 0, 0))
        return ft.grad(lambda p: (ft.stop_gradient(scale) * losses(p, x, y)).sum())(params)

    each = ft.vmap(ft.grad(loss), (None, 0, 0))(params, x, y)
    norms = by_vmap(loss)(params, x, y)
    for got, g in zip(ft.tree.leaves(clipped(params, x, y)), ft.tree.leaves(each), strict=True):
        scale = np.minimum(1, 2 / norms).reshape(-1, *[1] * (g.ndim - 1))
        np.testing.assert_allclose(got, (scale * g).sum(0), rtol=1e-10)


def test_mistakes():
    loss, args = CASES["mlp"]
    with pytest.raises(ValueError, match="argument 0 is differentiated and shared"):
        ft.per_example_norms(loss, in_axes=(0, 0, 0))(*args)
    with pytest.raises(TypeError, match="scalar output"):
        ft.per_example_norms(lambda p, x: p * x)(array(3), array(5))
    with pytest.raises(TypeError, match="float or complex"):
        ft.per_example_norms(lambda p, x: (p * x).sum())(np.arange(3), array(5))
    with pytest.raises(ValueError, match="one size"):
        ft.per_example_norms(loss)(args[0], args[1], args[2][:3])
    with pytest.raises(TypeError, match="takes a function"):
        ft.per_example_norms(3)
