"""Transforms, one by one and as words: every word must do what its letters say."""

import functools
import itertools
import os
import random

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.jaxpr import check_jaxpr
from funtorch.testing import check_grads

A = np.array([[1.2, -0.3, 0.5], [0.1, 0.9, -0.4], [-0.6, 0.2, 1.1]])
B = np.array([[0.4, 0.7, -0.2], [-0.5, 0.3, 0.8], [0.6, -0.1, 0.9]])
X = np.array([0.7, -0.4, 1.3])
V = np.array([0.3, 1.1, -0.8])
W = np.array([1.0, -0.5, 2.0])


# ------------------------------------------------------------------------------------ programs
@ft.jit
def jitted(x):
    return fnp.tanh(A @ x) * x


PROGRAMS = {
    "polynomial": lambda x: x * x * x - 2 * x,
    "closure": lambda x: fnp.sin(x) * fnp.exp(fnp.cos(x)) + W,
    "layers": lambda x: A @ fnp.tanh(B @ x),
    "softmax": lambda x: fnp.exp(x) / fnp.exp(x).sum(),
    "normalize": lambda x: x / fnp.sqrt(1 + (x**2).mean()),
    "gather": lambda x: x[np.array([2, 0, 2])] * x[::-1],
    "update": lambda x: fnp.sin(x).at[1].set(x[0] * x[2]).at[0].add(x[1]),
    "pieces": lambda x: fnp.concatenate([fnp.sin(x[:1]), fnp.stack([x[2], x[0] ** 2])]),
    "cumulative": lambda x: fnp.cumsum(x) * x,
    "piecewise": lambda x: fnp.where(x > 0, x**2, fnp.sin(x)),
    "sorted": lambda x: fnp.sort(x) * W,
    "jitted": jitted,
    "solve": lambda x: fnp.linalg.solve(2 * A + fnp.outer(x, x) / 9, x),
    "numpy": lambda x: np.sin(x) * np.sum(x**2) / 3,
}


# ------------------------------------------------------------------------------------ letters
# Each letter makes a function of a vector from one; beside it stands what it must compute, with the
# inner function only evaluated.
def slope(f, x, v, eps=1e-5):
    """Return a five-point finite difference of f at x along v."""
    at = [np.asarray(f(x + k * eps * v)) for k in (-2, -1, 1, 2)]
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * eps)


def jvp_of(f):
    return lambda x: ft.jvp(f, (x,), (fnp.asarray(V),))[1]


def grad_of(f):
    return ft.grad(lambda x: (W * f(x)).sum())


def vmap_of(f):
    return lambda x: ft.vmap(f, out_axes=1)(fnp.stack([x, x / 2, W * x])).sum(1)


def vmap_by_loop(f, x):
    return sum(np.asarray(f(y)) for y in (x, x / 2, W * x))


def scan_of(f):
    def step(carry, scale):
        y = f(carry * scale)
        return y / 2 + carry / 3, y

    def g(x):
        last, ys = ft.lax.scan(step, x, fnp.asarray([0.5, 1.0]))
        return last + ys.sum(0)

    return g


def scan_by_loop(f, x):
    carry, ys = x, 0.0
    for scale in (0.5, 1.0):
        y = np.asarray(f(carry * scale))
        carry, ys = y / 2 + carry / 3, ys + y
    return carry + ys


def cond_of(f):
    return lambda x: ft.lax.cond(x.sum() > 1, f, lambda y: fnp.sin(y) * 2, x)


def custom_jvp_of(f):
    g = ft.custom_jvp(f)
    g.defjvp(lambda primals, tangents: ft.jvp(f, primals, tangents))
    return g


def custom_vjp_of(f):
    g = ft.custom_vjp(f)
    g.defvjp(lambda x: (f(x), x), lambda x, ct: ft.vjp(f, x)[1](ct))
    return g


def while_of(f):
    def body(c):
        return c[0] + 1, f(c[1] / 2) + c[1] / 3

    return lambda x: ft.lax.while_loop(lambda c: c[0] < 2, body, (0, x))[1]


def while_by_loop(f, x):
    for _ in range(2):
        x = np.asarray(f(x / 2)) + x / 3
    return x


def same(f, x):
    return np.asarray(f(x))


LETTERS = {
    "jit": (ft.jit, same),
    "remat": (ft.checkpoint, same),
    "custom_jvp": (custom_jvp_of, same),
    "custom_vjp": (custom_vjp_of, same),
    "cond": (cond_of, lambda f, x: same(f, x) if x.sum() > 1 else 2 * np.sin(x)),
    "vmap": (vmap_of, vmap_by_loop),
    "scan": (scan_of, scan_by_loop),
    "jvp": (jvp_of, lambda f, x: slope(f, x, V)),
    "grad": (grad_of, lambda f, x: np.array([W @ slope(f, x, e) for e in np.eye(3)])),
}
# Letters that are tried in fewer words, to save time.
MORE = {
    "while": (while_of, while_by_loop),
    "linearize": (
        lambda f: lambda x: ft.linearize(f, x)[1](fnp.asarray(V)),
        lambda f, x: slope(f, x, V),
    ),
    "policy": (lambda f: ft.checkpoint(f, policy=ft.checkpoint_policies.dots_saveable), same),
    "sequential": (lambda f: ft.custom_batching.sequential_vmap(f), same),
    "sown": (lambda f: lambda x: ft.reap(lambda y: ft.sow(f(y), name="y"))(x)[0], same),
    "printed": (lambda f: lambda x: (ft.debug.callback(str, x), f(x))[1], same),
}
EVERY = {**LETTERS, **MORE}


def check_word(program, letters):
    """Compare the outermost letter with its meaning; the inner word has its own, shorter test."""
    *inner, outer = letters
    f = PROGRAMS[program]
    for letter in inner:
        f = EVERY[letter][0](f)
    transform, meaning = EVERY[outer]
    got = np.asarray(transform(f)(fnp.asarray(X)))
    assert got.dtype == np.float64
    np.testing.assert_allclose(
        got, meaning(f, X), rtol=2e-7, atol=2e-7, err_msg=" of ".join(letters[::-1])
    )


SHORT = [*itertools.product(LETTERS), *itertools.product(LETTERS, repeat=2)]
LONG_ON = ("closure", "layers", "piecewise")


@pytest.mark.parametrize("outer", LETTERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_words_up_to_two_letters(program, outer):
    for word in SHORT:
        if word[-1] == outer:
            check_word(program, word)


@pytest.mark.parametrize("outer", list(itertools.product(LETTERS, repeat=2)), ids="-of-".join)
def test_words_of_three_letters(outer):
    for program, inner in itertools.product(LONG_ON, LETTERS):
        check_word(program, (inner, *outer[::-1]))


@pytest.mark.parametrize("letter", MORE)
def test_more_letters_in_words_of_two(letter):
    for other in EVERY:
        check_word("layers", (letter, other))
        check_word("closure", (other, letter))


@pytest.mark.parametrize("outer", [*LETTERS, "linearize"])
def test_while_in_words_of_three_letters(outer):
    for other in ("jit", "vmap", "jvp", "grad", "scan", "linearize"):
        check_word("layers", ("while", other, outer))
        check_word("closure", (other, "while", outer))


# Every word of up to three of these letters, on every program: 20 482 of them. A sample is tried
# here; with FUNTORCH_ALL_WORDS=1 all of them, in about half an hour.
PRODUCT = ("jit", "vmap", "jvp", "grad", "linearize", "remat", "scan", "cond", "while")
PRODUCT += ("custom_jvp", "custom_vjp")
ALL = [w for n in (1, 2, 3) for w in itertools.product(PRODUCT, repeat=n)]
PLACES = {program: k for k, program in enumerate(PROGRAMS)}


def check_word_in_full(program, number):
    """Check a word, and that it gives the same compiled: each word on one of the programs."""
    word = ALL[number]
    check_word(program, word)
    if number % len(PROGRAMS) == PLACES[program]:
        f = PROGRAMS[program]
        for letter in word:
            f = EVERY[letter][0](f)
        x = fnp.asarray(X)
        np.testing.assert_allclose(ft.jit(f)(x), f(x), rtol=1e-8, atol=1e-9, err_msg=str(word))


def test_words_of_all_letters_in_a_sample():
    chosen = random.Random(0)
    for _ in range(60):
        check_word_in_full(chosen.choice(list(PROGRAMS)), chosen.randrange(len(ALL)))
    for number in chosen.sample(range(len(ALL)), 15):
        check_word_in_full(list(PROGRAMS)[number % len(PROGRAMS)], number)


@pytest.mark.skipif(
    not os.environ.get("FUNTORCH_ALL_WORDS"), reason="FUNTORCH_ALL_WORDS is not set"
)
@pytest.mark.parametrize("outer", PRODUCT)
@pytest.mark.parametrize("program", PROGRAMS)
def test_words_of_all_letters(program, outer):
    for number, word in enumerate(ALL):
        if word[-1] == outer:
            check_word_in_full(program, number)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_check_to_second_order(program):
    check_grads(PROGRAMS[program], (X,), order=2)


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_staged_programs_are_well_typed(program, letter):
    f = LETTERS[letter][0](PROGRAMS[program])
    back = lambda x: ft.vjp(f, x)[1](x)
    for g, x in ((f, X), (back, X), (ft.vmap(f), A), (ft.vmap(back), A)):
        jaxpr = ft.make_jaxpr(g)(x)
        check_jaxpr(jaxpr)
        assert str(jaxpr).startswith("{ lambda")


# ------------------------------------------------------------------------------------ nesting
def test_perturbations_are_not_confused():
    inner = lambda x: ft.jvp(lambda y: x * y, (1.0,), (1.0,))[1]
    assert float(ft.jvp(lambda x: x * inner(x), (2.0,), (1.0,))[1]) == 4.0
    assert float(ft.grad(lambda x: x * ft.grad(lambda y: x + y)(1.0))(2.0)) == 1.0
    assert float(ft.grad(lambda x: ft.grad(lambda y: x * y * y)(x))(3.0)) == 12.0


def test_gradients_nest():
    f = ft.jit(lambda x: x**4)
    assert float(ft.grad(ft.grad(ft.grad(f)))(2.0)) == 48.0
    assert float(ft.jit(ft.grad(ft.jit(ft.grad(f))))(2.0)) == 48.0


def test_closure_over_tracers_of_every_transform():
    def outer(x):
        inner = ft.jit(lambda y: ft.lax.scan(lambda c, _: (c * x, None), y, None, length=2)[0])
        return ft.lax.cond(x > 0, lambda: inner(x), lambda: x)

    np.testing.assert_allclose(ft.grad(outer)(2.0), 12.0)
    np.testing.assert_allclose(ft.vmap(ft.grad(outer))(fnp.array([2.0, -1.0])), [12.0, 1.0])
    np.testing.assert_allclose(ft.jit(ft.vmap(ft.grad(outer)))(fnp.array([2.0, -1.0])), [12.0, 1.0])


# ------------------------------------------------------------------------------------ grad and jvp
def test_argnums_select_and_keep_structure():
    f = lambda a, p, c: a * p["w"][0] + p["w"][1] * c
    assert float(ft.grad(f, 2)(1.0, {"w": (2.0, 3.0)}, 4.0)) == 3.0
    a, p = ft.grad(f, argnums=(0, 1))(1.0, {"w": (2.0, 3.0)}, 4.0)
    assert float(a) == 2.0
    assert [float(x) for x in p["w"]] == [1.0, 4.0]
    assert float(ft.grad(f, argnums=-1)(1.0, {"w": (2.0, 3.0)}, 4.0)) == 3.0


def test_has_aux_returns_what_was_computed():
    f = lambda x: (x**2, {"y": 3 * x})
    (value, aux), g = ft.value_and_grad(f, has_aux=True)(2.0)
    assert (float(value), float(aux["y"]), float(g)) == (4.0, 6.0, 4.0)
    g, aux = ft.jit(ft.grad(f, has_aux=True))(2.0)
    assert (float(aux["y"]), float(g)) == (6.0, 4.0)
    value, tangent, aux = ft.jvp(f, (2.0,), (1.0,), has_aux=True)
    assert (float(value), float(tangent), float(aux["y"])) == (4.0, 4.0, 6.0)


def test_holomorphic_gradient_is_the_complex_derivative():
    z = 0.3 + 0.8j
    np.testing.assert_allclose(ft.grad(lambda z: z**3, holomorphic=True)(z), 3 * z**2, rtol=1e-6)
    x = np.array([z, 2j])
    jac = ft.jacfwd(fnp.sin, holomorphic=True)(x)
    np.testing.assert_allclose(jac, np.diag(np.cos(x)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ft.jacrev(fnp.sin, holomorphic=True)(x), jac, atol=1e-12)


@pytest.mark.parametrize("program", PROGRAMS)
def test_jacobians_agree(program):
    f = PROGRAMS[program]
    want = np.stack([slope(f, X, e) for e in np.eye(3)], axis=1)
    np.testing.assert_allclose(ft.jacfwd(f)(X), want, atol=1e-7)
    np.testing.assert_allclose(ft.jacrev(f)(X), want, atol=1e-7)


def test_jacobians_of_pytrees():
    f = lambda p, y: {"out": p["m"] @ y, "sum": (p["m"] * 2).sum()}
    p, y = {"m": fnp.asarray(A[:2])}, fnp.asarray(X)
    for jac in (ft.jacfwd, ft.jacrev):
        got = jac(f, argnums=(0, 1))(p, y)
        assert got["out"][0]["m"].shape == (2, 2, 3)
        np.testing.assert_allclose(got["out"][1], A[:2])
        np.testing.assert_allclose(got["sum"][0]["m"], np.full((2, 3), 2.0))


def test_hessian_is_symmetric_and_right():
    h = np.asarray(ft.hessian(lambda x: (fnp.sin(x) * x[::-1] * x.sum()).sum())(X))
    np.testing.assert_allclose(h, h.T, atol=1e-14)
    np.testing.assert_allclose(ft.hessian(lambda x: x @ A @ x)(X), A + A.T, rtol=1e-12)


def test_linearize_and_vjp_run_the_function_once():
    calls = []

    def f(x):
        calls.append(1)
        return fnp.sin(x) * x

    y, push = ft.linearize(f, fnp.asarray(X))
    _, pull = ft.vjp(f, fnp.asarray(X))
    for v in (V, W):
        np.testing.assert_allclose(push(v), (np.cos(X) * X + np.sin(X)) * v)
        np.testing.assert_allclose(pull(v)[0], (np.cos(X) * X + np.sin(X)) * v)
    assert len(calls) == 2
    np.testing.assert_allclose(y, np.sin(X) * X)


def test_linear_transpose():
    t = ft.linear_transpose(lambda x, y: A @ x - 2 * y, X, X)
    gx, gy = t(fnp.asarray(V))
    np.testing.assert_allclose(gx, A.T @ V)
    np.testing.assert_allclose(gy, -2 * V)


def test_integer_arguments_have_float0_tangents():
    _, back = ft.vjp(lambda x, n: x * n, 2.0, 3)
    gx, gn = back(1.0)
    assert float(gx) == 3.0
    assert gn.dtype == ft.float0
    g = ft.grad(lambda x, n: x * n, argnums=(0, 1), allow_int=True)(2.0, 3)
    assert g[1].dtype == ft.float0


def test_stop_gradient():
    assert float(ft.grad(lambda x: x * ft.stop_gradient(x))(3.0)) == 3.0


def test_python_branches_on_values_are_fine_under_grad():
    f = lambda x: x**2 if x > 0 else -x
    assert float(ft.grad(f)(3.0)) == 6.0
    assert float(ft.grad(f)(-3.0)) == -1.0


# ------------------------------------------------------------------------------------ vmap
def test_vmap_axes_are_pytree_prefixes():
    f = lambda p, y: (p["a"] * y, {"s": p["b"] + y.sum()})
    p = {"a": fnp.asarray(A), "b": fnp.asarray(X)}
    got, rest = ft.vmap(f, in_axes=({"a": 1, "b": None}, 0), out_axes=(1, {"s": 0}))(
        p, fnp.asarray(B)
    )
    np.testing.assert_allclose(got, np.stack([A[:, k] * B[k] for k in range(3)], axis=1))
    np.testing.assert_allclose(rest["s"], np.stack([X + B[k].sum() for k in range(3)]))


def test_vmap_of_unmapped_output_and_negative_axes():
    f = lambda x, y: (x, y)
    a, b = ft.vmap(f, in_axes=(-1, None), out_axes=(-1, None))(fnp.asarray(A), fnp.asarray(X))
    np.testing.assert_allclose(a, A)
    np.testing.assert_allclose(b, X)
    assert ft.vmap(lambda: fnp.zeros(2), axis_size=4)().shape == (4, 2)


def test_vmap_keyword_arguments_map_their_leading_axis():
    got = ft.vmap(lambda x, *, y: x * y)(fnp.asarray(X), y=fnp.asarray(A))
    np.testing.assert_allclose(got, X[:, None] * A)


def test_collectives_over_a_named_axis():
    f = lambda x: x / ft.lax.psum(x, "i") + ft.lax.axis_index("i")
    want = X / X.sum() + np.arange(3)
    np.testing.assert_allclose(ft.vmap(f, axis_name="i")(X), want)
    np.testing.assert_allclose(ft.jit(ft.vmap(f, axis_name="i"))(X), want)
    loss = lambda x: (ft.vmap(lambda v: ft.lax.psum(v**2, "i") * v, axis_name="i")(x)).sum()
    check_grads(loss, (X,), order=2)
    both = ft.vmap(ft.vmap(lambda v: ft.lax.psum(v, ("i", "j")), axis_name="i"), axis_name="j")
    np.testing.assert_allclose(both(A), np.full((3, 3), A.sum()))
    np.testing.assert_allclose(ft.vmap(lambda v: ft.lax.pmax(v, "i"), axis_name="i")(X), [1.3] * 3)
    np.testing.assert_allclose(
        ft.vmap(lambda v: ft.lax.pmean(v, "i"), axis_name="i")(X), [X.mean()] * 3
    )


# ------------------------------------------------------------------------------------ jit
def counted(f):
    calls = []

    @functools.wraps(f)
    def g(*args, **kwargs):
        calls.append(1)
        return f(*args, **kwargs)

    return g, calls


def test_the_second_call_does_not_run_python():
    g, calls = counted(lambda x, k: x * k)
    f = ft.jit(g)
    for x in (X, 2 * X, fnp.asarray(X)):
        np.testing.assert_allclose(f(x, 2.0), np.asarray(x) * 2)
    assert len(calls) == 1
    f(X.astype(np.float32), 2.0)
    f(A, 2.0)
    assert len(calls) == 3
    step, calls = counted(ft.value_and_grad(lambda p: (p["w"] ** 2).sum()))
    for _ in range(3):
        ft.jit(step)({"w": X})
    f = ft.jit(step)
    before = len(calls)
    for _ in range(3):
        f({"w": X})
    assert len(calls) == before + 1


def test_static_arguments_compile_per_value():
    g, calls = counted(lambda x, n, mode="a": x * n if mode == "a" else x + n)
    f = ft.jit(g, static_argnums=1, static_argnames="mode")
    assert [float(f(2.0, 3)), float(f(2.0, 3)), float(f(2.0, 4)), float(f(2.0, 3, mode="b"))] == [
        6,
        6,
        8,
        5,
    ]
    assert float(f(2.0, n=3)) == 6.0
    assert len(calls) <= 4


def test_donated_arguments_give_the_same_result():
    f = ft.jit(lambda p, g: p - 0.1 * g, donate_argnums=0)
    np.testing.assert_allclose(f(fnp.array(X), fnp.array(V)), X - 0.1 * V)


def test_jit_nests_and_takes_methods_and_decorators():
    class Scale:
        k = 3.0

        @functools.partial(ft.jit, static_argnums=0)
        def __call__(self, x):
            return ft.jit(lambda y: y * self.k)(x) + 1

    np.testing.assert_allclose(Scale()(fnp.asarray(X)), X * 3 + 1)


def test_lower_and_compile():
    lowered = ft.jit(lambda x: fnp.sin(x).sum()).lower(ft.ShapeDtypeStruct((3,), np.float64))
    assert lowered.out_info.dtype == np.float64
    assert "sin" in lowered.as_text()
    compiled = lowered.compile()
    np.testing.assert_allclose(compiled(fnp.asarray(X)), np.sin(X).sum())
    with pytest.raises(TypeError, match=r"takes f64\[3\] as leaf 0, got f32\[3\]"):
        compiled(fnp.zeros(3, np.float32))


def test_disable_jit_runs_python():
    seen = []
    f = ft.jit(lambda x: seen.append(float(x)) or x * 2)
    with ft.disable_jit():
        assert float(f(3.0)) == 6.0
    assert seen == [3.0]


def test_make_jaxpr_prints():
    text = str(ft.make_jaxpr(lambda x: fnp.sin(x) * 2.0)(1.0))
    assert text.splitlines() == [
        "{ lambda  ; a:f32[]. let",
        "    b:f32[] = sin a",
        "    c:f32[] = mul b 2.0",
        "  in (c,) }",
    ]
    nested = str(ft.make_jaxpr(lambda x: ft.lax.cond(x > 0, fnp.sin, fnp.cos, x))(1.0))
    assert "branches[0]={ lambda" in nested
    assert "branches[1]={ lambda" in nested


def test_eval_shape_computes_nothing():
    out = ft.eval_shape(lambda a: {"y": a @ a.T}, ft.ShapeDtypeStruct((100_000, 7), np.float64))
    assert out["y"].shape == (100_000, 100_000)
    assert out["y"].dtype == np.float64


# ------------------------------------------------------------------------------------ custom rules
@ft.custom_vjp
def doubled(x, y):
    return fnp.sin(x) * y


doubled.defvjp(
    lambda x, y: (doubled(x, y), (x, y)),
    lambda res, ct: (2 * fnp.cos(res[0]) * res[1] * ct, fnp.sin(res[0]) * ct),
)


@ft.custom_jvp
def tripled(x):
    return fnp.sin(x)


tripled.defjvp(lambda p, t: (tripled(*p), 3 * fnp.cos(p[0]) * t[0]))


def test_custom_vjp_under_vmap_scan_and_jit():
    g = ft.grad(doubled)
    two = np.float64(2)
    np.testing.assert_allclose(g(np.float64(0.5), two), 4 * np.cos(0.5))
    np.testing.assert_allclose(ft.vmap(g, (0, None))(X, two), 4 * np.cos(X))
    np.testing.assert_allclose(ft.jit(ft.vmap(g))(X, X), 2 * np.cos(X) * X)
    unbatched = ft.grad(lambda y: ft.vmap(doubled, (0, None))(fnp.asarray(X), y).sum())
    np.testing.assert_allclose(unbatched(two), np.sin(X).sum())
    loop = lambda x: ft.lax.scan(lambda c, y: (c + doubled(x, y), None), x * 0, fnp.asarray(X))[0]
    np.testing.assert_allclose(ft.grad(loop)(np.float64(0.5)), 2 * np.cos(0.5) * X.sum())
    np.testing.assert_allclose(ft.jit(ft.grad(loop))(np.float64(0.5)), 2 * np.cos(0.5) * X.sum())


def test_jvp_of_custom_vjp_transposes_its_rule():
    y, t = ft.jvp(doubled, (X, X), (V, W))
    np.testing.assert_allclose(y, np.sin(X) * X)
    np.testing.assert_allclose(t, 2 * np.cos(X) * X * V + np.sin(X) * W)


def test_custom_jvp_keeps_its_rule_everywhere():
    want = 3 * np.cos(X)
    each = ft.grad(tripled)
    np.testing.assert_allclose(ft.vmap(each)(X), want)
    np.testing.assert_allclose(ft.jit(ft.vmap(ft.jit(each)))(X), want)
    np.testing.assert_allclose(ft.vmap(ft.grad(lambda x: ft.checkpoint(tripled)(x)))(X), want)
    loop = lambda x: ft.lax.scan(lambda c, _: (tripled(c), None), x, None, length=1)[0]
    np.testing.assert_allclose(ft.vmap(ft.grad(loop))(X), want)


def mixed_scan(x, y, tx, ty):
    """Return a value and a tangent that one loop carries, and collects, together."""

    def body(carry, k):
        a, b = carry
        inner, _ = ft.lax.scan(lambda c, _: ((c[0] * a, c[1] + c[0] * b), None), carry, None, 2)
        return (fnp.sin(inner[0]) + k, b * 1.01 + a * tx + inner[1]), (a, a * b)

    (a, b), (known, tangents) = ft.lax.scan(body, (x, ty), fnp.arange(3.0))
    return a + known.sum(), b * a + tangents.sum()


def mixed_cond(x, y, tx, ty):
    def double(a, b):
        a, b = mixed_scan(a, y, tx, b)
        return fnp.cos(a), b * a

    a, b = ft.lax.cond(x > 0, double, lambda a, b: (a * y, b * y), x, ty)
    return a, a * b + tx * y


@pytest.mark.parametrize("wrap", [ft.jit, lambda f: f, ft.checkpoint], ids=["jit", "no", "remat"])
@pytest.mark.parametrize("rule", [mixed_scan, mixed_cond])
def test_a_rule_may_mix_values_and_tangents_in_control_flow(rule, wrap):
    """Reverse mode divides such loops and branches; forward mode needs no division."""

    @ft.custom_jvp
    def f(x, y):
        return rule(x, y, x, y)[0]

    @f.defjvp
    def _(primals, tangents):
        return wrap(rule)(*primals, *tangents)

    x, y = fnp.float32(0.7), fnp.float32(1.3)
    forward = ft.jacfwd(f, argnums=(0, 1))
    for reverse in (ft.grad, lambda f, argnums: ft.jit(ft.grad(f, argnums))):
        for got, want in zip(reverse(f, (0, 1))(x, y), forward(x, y), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5)
    # In double precision: the loops multiply a float32's rounding, where code is fused or not.
    xs, wide = fnp.linspace(-1.0, 1.0, 4, dtype="float64"), fnp.float64(1.3)
    got = ft.vmap(ft.grad(f), (0, None))(xs, wide)
    np.testing.assert_allclose(got, [float(forward(x, wide)[0]) for x in xs], rtol=1e-12)
    twice = ft.grad(ft.grad(f))(x, y)
    np.testing.assert_allclose(twice, ft.jacfwd(ft.jacfwd(f))(x, y), rtol=1e-4)


def test_compiled_rules_of_custom_jvp():
    f = ft.custom_jvp(lambda x: fnp.sin(x))
    f.defjvp(ft.jit(lambda p, t: (fnp.sin(p[0]), fnp.cos(p[0]) * t[0])))
    for wrap in (lambda g: g, ft.jit, ft.checkpoint):
        got = ft.grad(wrap(lambda x: f(x) * f(f(x))))(np.float64(1.0))
        np.testing.assert_allclose(
            got, ft.grad(lambda x: fnp.sin(x) * fnp.sin(fnp.sin(x)))(np.float64(1.0))
        )


def test_nondiff_arguments_reach_the_rules():
    f = ft.custom_jvp(lambda g, x: g(x), nondiff_argnums=0)
    f.defjvp(lambda g, p, t: (g(p[0]), 7 * t[0]))
    assert float(ft.grad(lambda x: f(fnp.sin, x))(1.0)) == 7.0
    h = ft.custom_vjp(lambda x, n: x**n, nondiff_argnums=(1,))
    h.defvjp(lambda x, n: (x**n, x), lambda n, x, ct: (ct * n * 10,))
    assert float(ft.jit(ft.grad(h), static_argnums=1)(2.0, 3)) == 30.0


# ------------------------------------------------------------------------------------ control flow
def test_while_loop_differentiates_forwards():
    f = lambda x: ft.lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * fnp.sin(c[1]) + x), (0, x)
    )[1]
    check_grads(f, (X,), order=2, modes=("fwd",))
    np.testing.assert_allclose(ft.jit(ft.vmap(f))(A), np.stack([f(r) for r in A]))
    grow = lambda x: ft.lax.while_loop(lambda v: v < 100, lambda v: v * 2, x)
    np.testing.assert_allclose(ft.vmap(grow)(fnp.array([1.0, 3.0, 200.0])), [128, 192, 200])
    np.testing.assert_allclose(ft.jit(ft.vmap(grow))(fnp.array([1.0, 3.0, 200.0])), [128, 192, 200])


def test_branches_with_different_residuals():
    branches = [
        lambda x, y: fnp.sin(x) * fnp.exp(y),
        lambda x, y: x**2,
        lambda x, y: fnp.ones(3) + 0 * x,
    ]
    for k in range(3):
        f = lambda x, y: ft.lax.switch(k, branches, x, y)
        check_grads(f, (X, V), order=2)
        check_grads(ft.jit(f), (X, V), order=1)
    g = ft.vmap(lambda k, x: ft.lax.switch(k, branches, x, x))
    rows = np.stack([np.asarray(branches[k](A[k], A[k])) for k in range(3)])
    np.testing.assert_allclose(g(fnp.arange(3), A), rows)
    np.testing.assert_allclose(ft.jit(g)(fnp.arange(3), A), rows)


def test_scan_outputs_reverse_and_no_inputs():
    f = lambda c, x: (c * x, c + x)
    for reverse in (False, True):
        last, ys = ft.lax.scan(f, 1.0, fnp.asarray(X), reverse=reverse)
        c, want = 1.0, []
        for x in X[::-1] if reverse else X:
            want.append(c + x)
            c = c * x
        np.testing.assert_allclose(last, c, rtol=1e-6)
        np.testing.assert_allclose(ys, want[::-1] if reverse else want, rtol=1e-6)
    check_grads(lambda c, x: ft.lax.scan(f, c, x, reverse=True), (np.float64(0.8), X), order=2)
    assert float(ft.lax.scan(lambda c, _: (c + 1, None), 0.0, None, length=5)[0]) == 5.0
    assert ft.lax.scan(f, 1.0, fnp.zeros(0))[1].shape == (0,)


def test_fori_loop_and_map():
    f = lambda x: ft.lax.fori_loop(0, 3, lambda i, c: c * x + i, x)
    check_grads(f, (X,), order=2)
    n = ft.jit(lambda n: ft.lax.fori_loop(0, n, lambda i, s: s + i, 0))(5)
    assert int(n) == 10
    np.testing.assert_allclose(
        ft.lax.map(lambda r: r.sum(), fnp.asarray(A), batch_size=2), A.sum(1)
    )


def test_remat_keeps_only_inputs():
    f = lambda x: fnp.sin(fnp.sin(fnp.sin(x)))
    whole = ft.make_jaxpr(lambda x: ft.vjp(f, x)[1](x))(X)
    again = ft.make_jaxpr(lambda x: ft.vjp(ft.checkpoint(f), x)[1](x))(X)
    assert "remat" in str(again)
    assert "remat" not in str(whole)
    np.testing.assert_allclose(ft.vjp(ft.checkpoint(f), X)[1](V)[0], ft.vjp(f, X)[1](V)[0])


def test_tracers_hide_no_method_of_arrays():
    """What a tracer keeps for itself has a name that arrays do not have."""
    kinds, found = [ft.core.Tracer], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found += [(kind, name) for name in vars(kind).get("__slots__", ()) if name in dir(ft.Array)]
    assert not found
    assert float(ft.jit(lambda x: x.var() + x.aval.size)(fnp.arange(3.0))) == pytest.approx(
        3.6667, 1e-4
    )
