"""Mixed precision: what autocast narrows, through every transform, and scaled losses."""

from __future__ import annotations

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import amp, lax, nnx, optim, random

KEY = random.key(0)
X = random.normal(random.key(1), (8, 16))
W = random.normal(random.key(2), (16, 16)) / 4


def dot(x, w):
    return (fnp.tanh(x @ w) ** 2).sum()


def dots(jaxpr) -> list[tuple[str, str]]:
    """List the dtypes of operand and result of every product in a program, inner ones too."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.prim.name in ("dot_general", "conv_general_dilated"):
            found.append((eqn.invars[0].aval.dtype.name, eqn.outvars[0].aval.dtype.name))
        for value in eqn.params.values():
            for sub in value if isinstance(value, tuple) else (value,):
                if hasattr(sub, "eqns"):
                    found += dots(sub)
    return found


@ft.custom_vjp
def square(x, w):
    return (x @ w) ** 2


def _forward(x, w):
    y = x @ w
    return y**2, (x, w, y)


def _backward(res, ct):
    x, w, y = res
    return 2 * (ct * y) @ w.T, 2 * x.T @ (ct * y)


square.defvjp(_forward, _backward)


@ft.custom_jvp
def cube(x, w):
    return (x @ w) ** 3


@cube.defjvp
def _cube_jvp(primals, tangents):
    (x, w), (tx, tw) = primals, tangents
    y = x @ w
    return y**3, 3 * y**2 * (tx @ w + x @ tw)


def looped(x, w):
    return lax.scan(lambda c, _: (fnp.tanh(c @ w), None), x, None, length=3)[0]


def convolved(x, w):
    return (lax.conv(x, w, (1, 1), "SAME") ** 2).sum()


PROGRAMS = {
    "product": dot,
    "jit": ft.jit(dot),
    "scan": lambda x, w: (looped(x, w) ** 2).sum(),
    "fori": lambda x, w: (lax.fori_loop(0, 3, lambda _, c: fnp.tanh(c @ w), x) ** 2).sum(),
    "cond": lambda x, w: lax.cond(x[0, 0] > 9, lambda: x.sum(), lambda: dot(x, w)),
    "remat": ft.checkpoint(dot),
    "vmap": lambda x, w: ft.vmap(lambda row: dot(row, w))(x).sum(),
    "custom vjp": lambda x, w: square(x, w).sum(),
    "custom jvp": lambda x, w: abs(cube(x, w)).sum(),
    "conv": lambda x, w: (
        lax.conv(x[None, None], w[None, None, :3, :3], (1, 1), "SAME") ** 2
    ).sum(),
}
TRANSFORMS = {
    "autocast": ft.autocast,
    "jit(autocast)": lambda f: ft.jit(ft.autocast(f)),
    "autocast(jit)": lambda f: ft.autocast(ft.jit(f)),
    "grad(autocast)": lambda f: ft.grad(ft.autocast(f), (0, 1)),
    "autocast(grad)": lambda f: ft.autocast(ft.grad(f, (0, 1))),
    "jit(grad(autocast))": lambda f: ft.jit(ft.grad(ft.autocast(f), (0, 1))),
    "jvp(autocast)": lambda f: lambda x, w: ft.jvp(ft.autocast(f), (x, w), (x, w)),
}


def grads(f):
    return ft.grad(f, (0, 1))


PLAIN = {  # the same without autocast
    "autocast": lambda f: f,
    "jit(autocast)": ft.jit,
    "autocast(jit)": ft.jit,
    "grad(autocast)": grads,
    "autocast(grad)": grads,
    "jit(grad(autocast))": grads,
    "jvp(autocast)": lambda f: lambda x, w: ft.jvp(f, (x, w), (x, w)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_product_is_narrow_and_nothing_else(program: str, transform: str) -> None:
    f, change = PROGRAMS[program], TRANSFORMS[transform]
    narrow = change(f)
    found = dots(ft.make_jaxpr(narrow)(X, W).jaxpr)
    assert found
    assert all(pair == ("bfloat16", "bfloat16") for pair in found)
    wide = PLAIN[transform](f)
    for got, expected in zip(ft.tree.leaves(narrow(X, W)), ft.tree.leaves(wide(X, W)), strict=True):
        assert got.dtype == np.float32
        scale = float(abs(expected).max())
        np.testing.assert_allclose(got, expected, atol=0.05 * scale)
        assert not np.array_equal(got, expected)


def test_equals_casting_by_hand() -> None:
    def by_hand(x, w):
        y = x.astype(fnp.bfloat16) @ w.astype(fnp.bfloat16)
        return (fnp.tanh(y.astype(fnp.float32)) ** 2).sum()

    for change in (lambda f: f, lambda f: ft.grad(f, (0, 1)), ft.jit):
        ours, theirs = change(ft.autocast(dot))(X, W), change(by_hand)(X, W)
        for a, b in zip(ft.tree.leaves(ours), ft.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, fnp.bfloat16, np.int32, np.complex64])
def test_other_dtypes_stay(dtype) -> None:
    x = fnp.ones((2, 2), dtype)
    assert ft.autocast(lambda x: x @ x)(x).dtype == x.dtype
    assert dots(ft.make_jaxpr(ft.autocast(lambda x: x @ x))(x).jaxpr)[0][0] == fnp.dtype(dtype).name


def test_autocast_in_a_part_and_in_itself() -> None:
    f = ft.autocast(lambda x: ft.autocast(lambda y: y @ y, dtype=fnp.float16)(x) @ x)
    assert dots(ft.make_jaxpr(f)(W).jaxpr) == [("float16",) * 2, ("bfloat16",) * 2]
    assert dots(ft.make_jaxpr(lambda x: ft.autocast(dot)(x, W) + dot(x, W))(X).jaxpr) == [
        ("bfloat16",) * 2, ("float32",) * 2
    ]  # fmt: skip


def test_what_autocast_refuses() -> None:
    with pytest.raises(ValueError, match="bfloat16 or float16, got float32"):
        ft.autocast(dot, dtype=fnp.float32)
    with pytest.raises(TypeError, match="autocast"):
        ft.autocast(3)


def test_a_model_trains_as_in_float32() -> None:
    model = nnx.Sequential(
        nnx.Linear(8, 32, key=random.key(1)), nnx.ReLU(), nnx.Linear(32, 2, key=random.key(2))
    )
    x = random.normal(random.key(3), (64, 8))
    y = (x[:, 0] * x[:, 1] > 0).astype(fnp.int32)
    loss = lambda model: nnx.cross_entropy(model(x), y)
    optimizer = optim.adam(1e-2)

    def train(loss):
        @ft.jit
        def step(model, state):
            value, grads = ft.value_and_grad(loss)(model)
            updates, state = optimizer.update(grads, state, model)
            return optim.apply_updates(model, updates), state, value

        trained, state = model, optimizer.init(model)
        for _ in range(60):
            trained, state, value = step(trained, state)
        return float(value)

    wide, narrow = train(loss), train(ft.autocast(loss))
    assert abs(wide - narrow) < 0.03
    assert narrow < 0.5


# ------------------------------------------------------------------------------------- loss scales
def test_small_gradients_survive_in_float16() -> None:
    w = fnp.full((4, 4), 1e-4)
    small = ft.autocast(lambda w: (w @ w).sum() * 1e-6, dtype=fnp.float16)
    lost = ft.grad(small)(w)
    scale = amp.DynamicLossScale(fnp.float32(2.0**20))
    kept = scale.unscale(ft.grad(lambda w: scale.scale(small(w)))(w))
    expected = ft.grad(lambda w: (w @ w).sum() * 1e-6)(w)
    assert float(abs(lost).max()) == 0
    np.testing.assert_allclose(kept, expected, rtol=2e-3)


def test_overflow_skips_a_step_and_recovers() -> None:
    f = ft.autocast(lambda w: ((w @ w) ** 2).sum(), dtype=fnp.float16)
    optimizer = optim.sgd(1e-3)

    @ft.jit
    def step(w, state, scale):
        grads = scale.unscale(ft.grad(lambda w: scale.scale(f(w)))(w))
        finite = amp.all_finite(grads)
        updates, new = optimizer.update(grads, state, w)
        w, state = amp.select_tree(finite, (optim.apply_updates(w, updates), new), (w, state))
        return w, state, scale.adjust(finite), finite

    w = fnp.eye(4) * 2
    state, scale = optimizer.init(w), amp.DynamicLossScale(fnp.float32(2.0**18), period=3)
    history = []
    for _ in range(24):
        before = w
        w, state, scale, finite = step(w, state, scale)
        history.append(bool(finite))
        assert bool(finite) != bool((before == w).all())
        assert bool(fnp.isfinite(w).all())
    assert not history[0]
    assert sum(history) > 12
    assert float(scale.loss_scale) < 2.0**18


def test_the_factor_grows_and_shrinks() -> None:
    scale = amp.DynamicLossScale(fnp.float32(8), period=2, min_loss_scale=fnp.float32(4))
    seen = []
    for finite in (True, True, True, False, False, False, True, True):
        scale = scale.adjust(finite)
        seen.append((float(scale.loss_scale), int(scale.counter)))
    assert seen == [(8, 1), (16, 0), (16, 1), (8, 0), (4, 0), (4, 0), (4, 1), (8, 0)]
    top = amp.DynamicLossScale(fnp.float32(3e38), period=1).adjust(True)
    assert np.isfinite(top.loss_scale)


@pytest.mark.parametrize("scale", [amp.NoOpLossScale(), amp.StaticLossScale(4.0)])
def test_scales_that_stay(scale) -> None:
    assert scale.adjust(False) == scale
    tree = {"a": fnp.ones(2), "b": fnp.ones(1, fnp.bfloat16)}
    back = scale.unscale(scale.scale(tree))
    assert [x.dtype for x in back.values()] == [x.dtype for x in tree.values()]
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert float(scale.scale(1.0)) == scale.loss_scale


# ------------------------------------------------------------------------------------- policies
def test_policies() -> None:
    policy = amp.get_policy("compute=bf16, output=half")
    assert [np.dtype(d).name for d in policy] == ["float32", "bfloat16", "float16"]
    tree = {"w": fnp.ones(2), "n": fnp.arange(3), "key": KEY, "s": 1.5}
    cast = policy.cast_to_compute(tree)
    assert (cast["w"].dtype, cast["n"].dtype, cast["s"]) == (fnp.bfloat16, np.int32, 1.5)
    assert policy.cast_to_param(cast)["w"].dtype == np.float32
    out = policy.wrap(lambda x: x * 2)(fnp.ones(2))
    assert out.dtype == np.float16
    assert amp.get_policy("half") == amp.Policy(*[np.dtype(np.float16)] * 3)
    assert policy.with_output_dtype(np.float64).output_dtype == np.float64
    for text in ("computed=half", "compute=quarter"):
        with pytest.raises(ValueError, match="a policy"):
            amp.get_policy(text)
