"""checkpoint: what is kept, what is computed again, also in compiled programs; policies obeyed."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.ad_checkpoint import checkpoint_name, print_saved_residuals

policies = ft.checkpoint_policies
rng = np.random.default_rng(1)
X, W = rng.normal(size=(6, 5)), rng.normal(size=(5, 5))


def layer(x, w):
    h = checkpoint_name(fnp.tanh(x @ w), "hidden")
    return checkpoint_name(fnp.exp(h @ w / 9), "out") * fnp.sin(x)


def residuals(f, *args, capsys):
    print_saved_residuals(f, *args)
    return capsys.readouterr().out.splitlines()


def compiled(f, *args):
    return ft.jit(f).lower(*args).as_text()


POLICIES = {
    "none": (None, 0),
    "everything": (policies.everything_saveable, None),
    "nothing": (policies.nothing_saveable, 0),
    "dots": (policies.dots_saveable, 2),
    "plain dots": (policies.dots_with_no_batch_dims_saveable, 2),
    "hidden": (policies.save_only_these_names("hidden"), 1),
    "not hidden": (policies.save_any_names_but_these("hidden"), 1),
    "both": (
        policies.save_from_both_policies(
            policies.save_only_these_names("hidden"), policies.save_only_these_names("out")
        ),
        2,
    ),
    "offload": (
        policies.save_and_offload_only_these_names(
            names_which_can_be_saved=["hidden"],
            names_which_can_be_offloaded=["out"],
            offload_src="device",
            offload_dst="pinned_host",
        ),
        2,
    ),
    "own": (lambda prim, *avals, **params: prim.name == "tanh" and avals[0].shape == (6, 5), 1),
}


@pytest.mark.parametrize("name", POLICIES)
def test_policies_keep_what_they_say(name, capsys):
    policy, extra = POLICIES[name]
    f = ft.checkpoint(layer, policy=policy)
    kept = residuals(f, X, W, capsys=capsys)
    arguments = [line for line in kept if "argument" in line]
    if extra is not None:
        assert len(kept) - len(arguments) == extra, kept
    else:
        assert len(kept) > 4
    for transform in (lambda g: g, ft.jit):
        grads = transform(ft.grad(lambda x, w: f(x, w).sum(), argnums=(0, 1)))(X, W)
        want = ft.grad(lambda x, w: layer(x, w).sum(), argnums=(0, 1))(X, W)
        for a, b in zip(grads, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("policy", "dots", "tanhs"),
    [
        (None, 2 + 2 + 4, 2),
        (policies.dots_saveable, 2 + 4, 2),
        (policies.save_only_these_names("hidden"), 2 + 1 + 4, 1),
    ],
)
def test_compiled_programs_compute_again(policy, dots, tanhs):
    f = ft.checkpoint(layer, policy=policy)
    text = compiled(ft.value_and_grad(lambda x, w: f(x, w).sum(), argnums=(0, 1)), X, W)
    assert text.count("= dot_general") == dots
    assert text.count("= tanh") == tanhs
    plain = compiled(
        ft.value_and_grad(
            lambda x, w: ft.checkpoint(layer, prevent_cse=False)(x, w).sum(), argnums=(0, 1)
        ),
        X,
        W,
    )
    assert plain.count("= tanh") == 1


def test_compiled_programs_need_less_memory():
    ws = list(rng.normal(size=(12, 64, 64)) / 8)
    x = rng.normal(size=(512, 64))

    def block(x, w):
        for _ in range(3):
            x = fnp.tanh(x @ w)
        return x

    def needs(g):
        def loss(ws, x):
            for w in ws:
                x = g(x, w)
            return (x * x).sum()

        program = ft.jit(ft.grad(loss)).lower(ws, x).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert needs(ft.checkpoint(block)) < 0.6 * needs(block)


def test_batched_dots_are_told_from_plain_ones(capsys):
    f = ft.checkpoint(lambda a, b: fnp.sin(fnp.sin(a @ b) @ b), policy=policies.dots_saveable)
    g = ft.checkpoint(
        lambda a, b: fnp.sin(fnp.sin(a @ b) @ b), policy=policies.dots_with_no_batch_dims_saveable
    )
    stack = rng.normal(size=(3, 4, 4))
    count = lambda h: sum("remat" in s for s in residuals(h, stack, stack, capsys=capsys))
    assert (count(f), count(g)) == (2, 0)


def test_policies_inside_transforms():
    f = ft.checkpoint(layer, policy=policies.save_only_these_names("hidden"))
    want = ft.grad(lambda x: layer(x, W).sum())(X)
    looped = lambda x: lax.scan(lambda c, r: (c, f(r[None], W).sum()), 0.0, x)[1].sum()
    mapped = lambda x: ft.vmap(lambda r: f(r[None], W).sum())(x).sum()
    jitted = lambda x: ft.jit(f)(x, W).sum()
    branch = lambda x: lax.cond(True, lambda y: f(y, W), lambda y: y, x).sum()
    inside = lambda x: ft.checkpoint(
        ft.jit(layer), policy=policies.save_only_these_names("hidden")
    )(x, W).sum()
    for g in (looped, mapped, jitted, branch, inside):
        for transform in (lambda h: h, ft.jit):
            np.testing.assert_allclose(transform(ft.grad(g))(X), want, rtol=1e-12)
    h = lambda x: f(x, W).sum()
    np.testing.assert_allclose(
        ft.jit(ft.hessian(h))(X), ft.hessian(lambda x: layer(x, W).sum())(X), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(ft.jvp(h, (X,), (X,))[1], (want * X).sum(), rtol=1e-12)


def test_static_arguments_and_mistakes():
    @ft.checkpoint(static_argnums=(1,), static_argnames=("mode",))
    def f(x, n, *, mode="a"):
        for _ in range(n):
            x = fnp.sin(x) if mode == "a" else fnp.cos(x)
        return x

    np.testing.assert_allclose(
        ft.grad(lambda x: f(x, 2, mode="b"))(0.5), ft.grad(lambda x: fnp.cos(fnp.cos(x)))(0.5)
    )
    with pytest.raises(TypeError, match="policy must be a function"):
        ft.checkpoint(layer, policy="dots")
    with pytest.raises(TypeError, match="takes a string as name, got int"):
        checkpoint_name(X, 3)
    with pytest.raises(ValueError, match="not both: \\['a'\\]"):
        policies.save_and_offload_only_these_names(
            names_which_can_be_saved=["a"],
            names_which_can_be_offloaded=["a"],
            offload_src="",
            offload_dst="",
        )


def test_barriers_and_names_are_identities():
    tree = {"a": fnp.asarray(X), "b": fnp.float32(1)}
    for transform in (lambda f: f, ft.jit):
        got = transform(lambda t: lax.optimization_barrier(checkpoint_name(t, "t")))(tree)
        np.testing.assert_array_equal(got["a"], X)
        assert got["b"].dtype == np.float32
        g = transform(ft.grad(lambda x: lax.optimization_barrier((x * x, x))[0].sum()))(X)
        np.testing.assert_allclose(g, 2 * X)
        v = transform(ft.vmap(lambda x: lax.optimization_barrier((x, 2.0))[0] * 2))(X)
        np.testing.assert_allclose(v, 2 * X)
    assert "optimization_barrier" in compiled(lambda x: lax.optimization_barrier(x) + 1, X)
