"""Loops, branches, rules, names and callbacks that do not fit: the error says what and where."""

import functools
import traceback

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

X = np.array([1.0, 2.0, 3.0], np.float32)


def square(x):
    return x * x


def twice(p):
    return p["a"] * 2


def solver(matvec, b):
    return b[:2]


def jvp_rule(rule, f=square):
    g = ft.custom_jvp(f)
    g.defjvp(rule)
    return lambda x: g(x).sum()


def jvp_rules(f, *rules):
    g = ft.custom_jvp(f)
    g.defjvps(*rules)
    return g


def vjp_rule(fwd, bwd, f=square):
    g = ft.custom_vjp(f)
    g.defvjp(fwd, bwd)
    return lambda x: g(x).sum()


def kept(x):
    return x * x, x


def vmap_rule(rule, f=square):
    g = ft.custom_batching.custom_vmap(f)
    g.def_vmap(rule)
    return ft.vmap(g)


def sown(x):
    return ft.sow(x, name="hidden", tag="t") + ft.sow(2 * x, name="hidden", tag="t")


def in_one_branch(x):
    return lax.cond(x.sum() > 0, lambda y: ft.sow(y, name="h", tag="t"), lambda y: y, x)


THIS = "test_bad_programs.py"
MISTAKES = {
    # Carries: the key path and both types.
    "scan": (
        lambda: lax.scan(lambda c, x: ({"a": {"n": c["a"]["n"] + 1.5}}, x), {"a": {"n": X[0]}}, X),
        None,
    ),
    "scan of integers": (
        lambda: lax.scan(
            lambda c, x: ({"a": {"n": c["a"]["n"] + 1.5}}, x), {"a": {"n": np.int32(1)}}, X
        ),
        ["scan", "carry['a']['n']", "i32[]", "f32[]", "astype"],
    ),
    "scan structure": (
        lambda: lax.scan(lambda c, x: ((c, c), x), 0.0, X),
        ["scan", "PyTreeDef(*)", "PyTreeDef((*, *))"],
    ),
    "while_loop": (
        lambda: lax.while_loop(
            lambda c: c["k"] < 3,
            lambda c: {"k": c["k"] + 1, "v": [c["v"][0][:2]]},
            {"k": 0, "v": [X]},
        ),
        ["while_loop", "carry['v'][0]", "f32[3]", "f32[2]"],
    ),
    "while_loop structure": (
        lambda: lax.while_loop(lambda c: c["k"] < 3, lambda c: {"k": 1}, {"k": 0, "v": [X]}),
        ["while_loop", "{'k': *, 'v': [*]}", "{'k': *}"],
    ),
    "fori_loop": (
        lambda: lax.fori_loop(0, 3, lambda i, c: {"w": c["w"].astype("float16")}, {"w": X}),
        ["fori_loop", "carry['w']", "f32[3]", "f16[3]"],
    ),
    "fori_loop of traced length": (
        lambda: ft.jit(lambda n: lax.fori_loop(0, n, lambda i, c: {"w": c["w"][:2]}, {"w": X}))(3),
        ["fori_loop", "carry['w']", "f32[3]", "f32[2]"],
    ),
    # Branches: both trees, or both types.
    "cond": (
        lambda: lax.cond(True, lambda x: {"a": x}, lambda x: {"a": x, "b": (x,)}, X),
        ["cond", "{'a': *}", "{'a': *, 'b': (*,)}"],
    ),
    "switch": (
        lambda: lax.switch(1, [lambda x: (x,), lambda x: (x,), lambda x: [x]], X),
        ["switch", "PyTreeDef((*,))", "PyTreeDef([*])"],
    ),
    "switch types": (
        lambda: lax.switch(1, [lambda x: x, lambda x: x[:1]], X),
        ["switch", "f32[3]", "f32[1]"],
    ),
    # Custom rules: the rule, the function, what is expected and what was given.
    "tangent shape": (
        lambda: ft.jvp(jvp_rule(lambda p, t: (p[0] ** 2, t[0][:2])), (X,), (X,)),
        ["jvp rule", "square", "f32[3]", "f32[2]"],
    ),
    "tangent dtype": (
        lambda: ft.grad(jvp_rule(lambda p, t: (p[0] ** 2, t[0].astype("float16"))))(X),
        ["jvp rule", "square", "f32[3]", "f16[3]"],
    ),
    "tangent alone": (
        lambda: ft.grad(jvp_rule(lambda p, t: p[0]))(X),
        ["jvp rule", "square", "(output, tangent)"],
    ),
    "jvp output": (
        lambda: ft.jvp(ft.jit(jvp_rule(lambda p, t: (p[0][:2], t[0][:2]))), (X,), (X,)),
        ["jvp rule", "square", "output 0", "f32[2]", "f32[3]"],
    ),
    "jvp outputs": (
        lambda: ft.jvp(
            ft.jit(jvp_rule(lambda p, t: (p[0], t[0]), lambda x: fnp.stack([x, x])[0])), (X,), (X,)
        ),
        None,
    ),
    "rules per argument": (
        lambda: ft.jvp(jvp_rules(lambda x, y: x * y, lambda t, o, x, y: t), (X, X), (X, X)),
        ["defjvps", "1 rules", "2 arguments"],
    ),
    "cotangent shape": (
        lambda: ft.grad(vjp_rule(kept, lambda r, ct: (ct[:2],)))(X),
        ["bwd rule", "square", "f32[3]", "f32[2]"],
    ),
    "cotangent dtype": (
        lambda: ft.jit(ft.grad(vjp_rule(kept, lambda r, ct: (ct.astype("int32"),))))(X),
        ["bwd rule", "square", "f32[3]", "i32[3]"],
    ),
    "cotangents": (
        lambda: ft.grad(vjp_rule(kept, lambda r, ct: (ct, ct)))(X),
        ["bwd rule", "square", "(1)", "length 2"],
    ),
    "bare cotangent": (
        lambda: ft.grad(vjp_rule(kept, lambda r, ct: ct))(X),
        ["bwd rule", "square", "tuple"],
    ),
    "cotangent structure": (
        lambda: ft.grad(vjp_rule(lambda p: (p["a"] * 2, None), lambda r, ct: ({"b": ct},), twice))(
            {"a": X}
        ),
        ["bwd rule", "twice", "{'b': *}", "{'a': *}"],
    ),
    "fwd alone": (
        lambda: ft.grad(vjp_rule(lambda x: x * x, lambda r, ct: (ct,)))(X),
        ["fwd rule", "square", "(output, residuals)"],
    ),
    "fwd output": (
        lambda: ft.grad(ft.jit(vjp_rule(lambda x: (x[:2], x), lambda r, ct: (r,))))(X),
        ["fwd rule", "square", "f32[2]", "f32[3]"],
    ),
    "vmap rule": (
        lambda: vmap_rule(lambda n, b, x: (x[:2], True))(X),
        ["vmap rule", "square", "f32[2]", "f32[3]"],
    ),
    "vmap rule alone": (
        lambda: vmap_rule(lambda n, b, x: x)(X),
        ["vmap rule", "square", "(output, which parts are batched)"],
    ),
    "custom_gradient": (
        lambda: ft.grad(
            lambda x: ft.custom_gradient(lambda x: (x * x, lambda ct: ct[:2]))(x).sum()
        )(X),
        ["bwd rule", "f32[2]", "f32[3]"],
    ),
    "custom_linear_solve": (
        lambda: lax.custom_linear_solve(lambda x: 2 * x, X, solver),
        ["custom_linear_solve", "solver", "f32[3]", "f32[2]"],
    ),
    # Names.
    "sown twice": (lambda: ft.reap(sown, tag="t")(X), ["'hidden'", "twice", f"{THIS}:", "append"]),
    "sown in one branch": (
        lambda: ft.reap(in_one_branch, tag="t")(X),
        ["branch 0 sows nothing", "branch 1 sows 'h' f32[3]"],
    ),
    "planted shape": (
        lambda: ft.plant(lambda x: ft.sow(x, name="h"))({"h": X[:2]}, X),
        ["'h'", "f32[3]", "f32[2]"],
    ),
    "planted name": (
        lambda: ft.plant(lambda x: ft.sow(x, name="h"))({"g": X}, X),
        ["nothing named 'g'"],
    ),
    "unbound name": (lambda: lax.psum(X, "i"), ["psum|axis name", "'i'", "axis_name='i'"]),
    "another name": (
        lambda: ft.vmap(lambda x: lax.pmean(x, "j"), axis_name="i")(X),
        ["'j'", "there is 'i'"],
    ),
    "outside of its axis": (
        lambda: ft.jit(lambda x: ft.vmap(lax.sin, axis_name="i")(x) + lax.axis_index("i"))(X),
        ["'i'", "there is none"],
    ),
}
FINE = [name for name, (_, words) in MISTAKES.items() if words is None]


@pytest.mark.parametrize("name", [n for n in MISTAKES if n not in FINE])
def test_errors_name_what_does_not_fit(name):
    attempt, words = MISTAKES[name]
    with pytest.raises((TypeError, ValueError, NameError)) as error:
        attempt()
    text = str(error.value)
    missing = [w for w in words if not any(v in text for v in w.split("|"))]
    assert not missing, f"{missing} not in: {text}"
    assert len(text.splitlines()) <= 15
    assert traceback.extract_tb(error.value.__traceback__)[-1].filename.endswith(THIS)


@pytest.mark.parametrize("name", FINE)
def test_what_fits_is_no_error(name):
    MISTAKES[name][0]()


def raising(v):
    raise KeyError("mine")


CALLBACKS = {
    "pure": lambda x: ft.pure_callback(raising, x, x),
    "io": lambda x: ft.experimental.io_callback(raising, x, x),
    "debug": lambda x: (ft.debug.callback(raising, x), x)[1],
}


@pytest.mark.parametrize("kind", CALLBACKS)
def test_what_a_callback_raises_comes_out_and_nothing_breaks(kind):
    f = CALLBACKS[kind]
    places = [
        f,
        ft.jit(f),
        ft.jit(lambda x: lax.scan(lambda c, v: (f(c), v), x, X)[0]),
        ft.jit(lambda x: lax.cond(x > 0, f, lambda y: y, x)),
        functools.partial(lax.map, f),
    ]
    for g in places:
        x = fnp.asarray(X) if g is places[-1] else fnp.float32(1)
        for _ in range(2):
            with pytest.raises(KeyError) as error:
                g(x)
            assert error.value.args == ("mine",)
        assert float(ft.jit(lambda x: x + 1)(1.0)) == 2.0
    assert float(places[3](fnp.float32(-1))) == -1.0
