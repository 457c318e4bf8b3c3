"""Rules of one's own: symbolic zeros, jvp of custom_vjp, batching rules, functions with state."""

import functools

import numpy as np
import pytest

import funtorch as ft
import funtorch.nnx
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.custom_derivatives import SymbolicZero, zero_from_primal

X = np.array([0.5, -1.0, 2.0])
TRANSFORMS = {"eager": lambda f: f, "jit": ft.jit}
both = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


def close(got, want):
    ft.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)


# ------------------------------------------------------------------------------------ custom_jvp
def symbolic_product(seen):
    @ft.custom_jvp
    def f(x, y):
        return x * y

    def rule(primals, tangents):
        seen.append(tuple(type(t) is SymbolicZero for t in tangents))
        (x, y), (tx, ty) = primals, tangents
        terms = [5 * t for t in (tx, ty) if type(t) is not SymbolicZero]
        return f(x, y), sum(terms) if terms else zero_from_primal(x, symbolic_zeros=True)

    f.defjvp(rule, symbolic_zeros=True)
    return f


@both
def test_custom_jvp_symbolic_zeros(transform):
    seen = []
    f = symbolic_product(seen)
    close(transform(ft.grad(f, argnums=1))(2.0, 3.0), 5.0)
    assert seen == [(True, False)]
    close(
        transform(ft.jvp)(f, (2.0, 3.0), (1.0, 1.0))[1], 10.0
    ) if transform is not ft.jit else None
    close(transform(ft.vmap(ft.grad(f), in_axes=(0, None)))(X, 3.0), np.full(3, 5.0))
    assert seen[-1] == (False, True)


def test_custom_jvp_defjvps_and_nondiff():
    @functools.partial(ft.custom_jvp, nondiff_argnums=(0,), nondiff_argnames="scale")
    def apply(g, x, scale):
        return g(x) * scale

    @apply.defjvp
    def rule(g, scale, primals, tangents):
        return apply(g, *primals, scale), 100 * scale * tangents[0]

    close(ft.jit(ft.grad(lambda x: apply(fnp.sin, x, scale=2.0)))(1.0), 200.0)
    f = ft.custom_jvp(lambda x, y: x * y)
    f.defjvps(lambda t, out, x, y: 3 * t, None)
    close(ft.grad(f, argnums=(0, 1))(2.0, 5.0), (3.0, 0.0))
    with pytest.raises(ValueError, match=r"no argument named 'g'.*\['x'\]"):
        ft.custom_jvp(lambda x: x, nondiff_argnames=("g",))


def test_closing_over_what_is_differentiated_is_an_error():
    def of(c, transform):
        f = ft.custom_jvp(lambda x: c * x)
        f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
        return transform(f)(2.0)

    with pytest.raises(ValueError, match=r"<lambda>.*closes over.*Pass the value as an argument"):
        ft.grad(lambda c: of(c, ft.jit))(1.0)
    with pytest.raises(ft.errors.UnexpectedTracerError, match="pass it to that function"):
        ft.grad(lambda c: of(c, lambda f: f))(1.0)


# ------------------------------------------------------------------------------------ custom_vjp
def test_custom_vjp_symbolic_zeros():
    log = []

    @ft.custom_vjp
    def f(x, y):
        return x * y, x + y

    def fwd(x, y):
        log.append((x.perturbed, y.perturbed))
        return f(x.value, y.value), (x.value, y.value)

    def bwd(residuals, cts):
        log.append(tuple(type(ct) is SymbolicZero for ct in cts))
        x, y = residuals
        a, b = (0.0 if type(ct) is SymbolicZero else ct for ct in cts)
        return 10 * a * y + b, a * x + b

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    close(ft.grad(lambda x: f(x, 3.0)[0])(2.0), 30.0)
    assert log == [(True, False), (False, True)]
    close(ft.jit(ft.vmap(ft.grad(lambda x: f(x, 3.0)[1])))(X), np.ones(3))
    close(ft.jit(ft.grad(lambda x, y: f(x, y)[0], argnums=(0, 1)))(2.0, 3.0), (30.0, 2.0))


def doubled(n=1):
    """Return sin with ten times its derivative, by a bwd rule that is no single operation."""

    @ft.custom_vjp
    def f(x):
        return fnp.sin(x)

    def bwd(x, ct):
        c, _ = lax.scan(lambda c, _: (c * fnp.cos(x) * 10, None), ct, None, n)
        return (c,)

    f.defvjp(lambda x: (f(x), x), bwd, optimize_remat=True)
    return f


@both
def test_jvp_of_custom_vjp(transform):
    f = doubled()
    slope = 10 * np.cos(X)
    cases = {
        "jvp": lambda x: ft.jvp(f, (x,), (fnp.ones(3, x.dtype),))[1],
        "jvp of jit": lambda x: ft.jvp(ft.jit(f), (x,), (fnp.ones(3, x.dtype),))[1],
        "jacfwd": lambda x: ft.jacfwd(f)(x).sum(0),
        "linearize": lambda x: ft.linearize(f, x)[1](fnp.ones(3, x.dtype)),
        "vmap jvp": ft.vmap(lambda v: ft.jvp(f, (v,), (fnp.ones((), v.dtype),))[1]),
        "jvp of scan": lambda x: ft.jvp(
            lambda y: lax.scan(lambda c, _: (c, f(y)), 0.0, None, 1)[1][0],
            (x,),
            (fnp.ones(3, x.dtype),),
        )[1],
        "remat": lambda x: ft.jvp(ft.checkpoint(f), (x,), (fnp.ones(3, x.dtype),))[1],
    }
    for name, case in cases.items():
        np.testing.assert_allclose(transform(case)(fnp.asarray(X)), slope, err_msg=name)
    second = transform(ft.vmap(ft.jacfwd(ft.grad(f))))(fnp.asarray(X))
    np.testing.assert_allclose(second, -10 * np.sin(X))
    other = transform(ft.vmap(ft.grad(lambda x: ft.jvp(f, (x,), (1.0,))[1])))(fnp.asarray(X))
    np.testing.assert_allclose(other, -10 * np.sin(X))


def test_linearized_custom_vjp_compiles_to_native_code():
    f_jvp = ft.linearize(doubled(), fnp.asarray(X))[1]
    steps = ft.explain(f_jvp)(fnp.asarray(X)).steps
    assert "custom_lin" not in " ".join(step.what for step in steps)


# ------------------------------------------------------------------------------------ custom_vmap
def rule_by_case():
    @ft.custom_batching.custom_vmap
    def f(x, y):
        return x + y**2

    @f.def_vmap
    def rule(size, batched, x, y):
        assert size == 3
        if all(batched):
            return x * y, True
        return (x - y, True) if batched[0] else (x + 3 * y, True)

    return f


@both
def test_custom_vmap(transform):
    f, x = rule_by_case(), fnp.asarray(X)
    close(transform(f)(1.0, 2.0), 5.0)
    close(transform(ft.vmap(f))(x, x), X * X)
    close(transform(ft.vmap(f, in_axes=(0, None)))(x, 2.0), X - 2)
    close(transform(ft.vmap(lambda y: f(2.0, y=y)))(x), 2 + 3 * X)
    nested = transform(ft.vmap(ft.vmap(f)))(fnp.ones((3, 3)), fnp.full((3, 3), 2.0))
    close(nested, np.full((3, 3), 2.0))


@both
def test_custom_vmap_derivatives(transform):
    f, x = rule_by_case(), fnp.asarray(X)
    _, pushed = transform(ft.vmap(lambda a, b: ft.jvp(f, (a, b), (a, b))))(x, x)
    close(pushed, 2 * X * X)  # of x * y
    one = fnp.ones((), x.dtype)
    close(transform(ft.vmap(lambda a: ft.jvp(lambda v: f(v, 2.0), (a,), (one,))[1]))(x), np.ones(3))
    close(transform(ft.vmap(ft.grad(f, argnums=1)))(x, x), 2 * X)
    value, grad = transform(ft.vmap(ft.value_and_grad(f)))(x, x)
    close((value, grad), (X * X, np.ones(3)))
    close(
        transform(ft.linear_transpose(ft.custom_batching.custom_vmap(lambda v: 3 * v), 1.0))(2.0)
        if 0
        else 1,
        1,
    )


def test_custom_vmap_mistakes():
    f = ft.custom_batching.custom_vmap(fnp.sin)
    with pytest.raises(
        AttributeError, match="No batching rule defined for custom_vmap function sin"
    ):
        f(1.0)
    cases = [
        (lambda n, b, x: x, TypeError, r"must return \(output, which parts are batched\)"),
        (lambda n, b, x: ((x, x), True), ValueError, "batching specification .* do not match"),
        (lambda n, b, x: ((x, x), (True, True)), ValueError, "does not match that of original"),
        (
            lambda n, b, x: (x[0], True),
            ValueError,
            r"gave output 0 as f64\[\]; it must be f64\[3\]",
        ),
    ]
    for rule, error, message in cases:
        f.def_vmap(rule)
        with pytest.raises(error, match=message):
            ft.vmap(f)(X)
    g = ft.custom_batching.custom_vmap(lambda x: x)
    g.def_vmap(lambda n, b, x: (x, True))

    def closing(c):
        h = ft.custom_batching.custom_vmap(lambda x: x * c)
        h.def_vmap(lambda n, b, x: (x, True))
        return h(1.0)

    with pytest.raises(ValueError, match="pass the value as an argument"):
        ft.jit(ft.vmap(closing))(X)


@both
def test_sequential_vmap(transform):
    shapes = []

    @ft.custom_batching.sequential_vmap
    def f(x, y):
        shapes.append((x.shape, y.shape))
        return {"product": x * y, "x": x}

    got = transform(ft.vmap(f, in_axes=(0, None)))(X, X)
    close(got, {"product": np.outer(X, X), "x": X})
    assert set(shapes) == {((), (3,))}


# ------------------------------------------------------------------------------------ state
@both
def test_custom_gradient(transform):
    f = ft.custom_gradient(lambda x, y: (x * y, lambda ct: (ct * y * 2, ct * fnp.sin(x))))
    close(transform(f)(2.0, 3.0), 6.0)
    close(transform(ft.grad(f, argnums=(0, 1)))(2.0, 0.0), (0.0, np.sin(np.float32(2.0))))
    one = ft.custom_gradient(lambda x: (x**2, lambda ct: 3 * ct * x))
    close(transform(ft.vmap(ft.grad(one)))(X), 3 * X)
    close(transform(ft.vmap(ft.grad(ft.grad(one))))(X), np.full(3, 3.0))
    close(transform(ft.vmap(lambda x: ft.jvp(one, (x,), (x,))[1]))(X), 3 * X * X)
    with pytest.raises(TypeError, match=r"custom_gradient: .*must return \(output, rule\)"):
        ft.custom_gradient(lambda x: x)(1.0)


@both
def test_closure_convert(transform):
    def minimize(f, x):
        converted, values = ft.closure_convert(f, x)

        @ft.custom_vjp
        def run(x, *values):
            return converted(x, *values)

        run.defvjp(lambda *args: (run(*args), args), lambda args, ct: (ct, *[5 * ct] * len(values)))
        return run(x, *values)

    close(transform(ft.grad(lambda c: minimize(lambda x: x * c, 2.0)))(3.0), 5.0)
    converted, values = ft.closure_convert(lambda x: x * X, 1.0)
    assert values == []
    with pytest.raises(TypeError, match="takes arguments of structure"):
        converted((1.0, 2.0))


@pytest.mark.parametrize("jitted", [False, True])
def test_fwd_and_bwd(jitted):
    def f(x, w):
        return fnp.sin(x * w), {"aux": x}

    fwd, bwd = ft.fwd_and_bwd(f, argnums=(0, 1), has_aux=True, jitted=jitted)
    for scale in (1.0, 2.0):
        x, w = X * scale, X + scale
        out, residuals, aux = fwd(x, w)
        close((out, aux), (np.sin(x * w), {"aux": x}))
        close(bwd(residuals, np.ones(3)), (np.cos(x * w) * w, np.cos(x * w) * x))
    if jitted:
        assert bwd._cache_size() == 1
    fwd, bwd = ft.fwd_and_bwd(lambda x, n: x * n, argnums=0, jitted=jitted)
    close(bwd(fwd(2.0, 3)[1], 1.0), 3.0)
    with pytest.raises(TypeError, match=r"bwd of <lambda>.*structure"):
        bwd(fwd(2.0, 3)[1], (1.0, 1.0))


# ------------------------------------------------------------------------------------ modules
def test_modules_as_functions():
    models = [ft.nnx.Linear(2, 3, key=k) for k in ft.random.split(ft.random.key(0), 4)]
    x = fnp.ones(2)
    stacked = ft.func.stack_module_state(models)
    got = ft.jit(ft.vmap(lambda m: m(x)))(stacked)
    np.testing.assert_allclose(got, np.stack([np.asarray(m(x)) for m in models]), rtol=1e-5)
    swap = {"weight": models[1].weight}
    swapped = ft.func.functional_call(models[0], swap, x) - models[0].bias
    np.testing.assert_allclose(swapped, models[1].weight @ x, rtol=1e-5)
    close(ft.func.functional_call(models[0], models[1], (x,)), models[1](x))
    with pytest.raises(KeyError, match=r"no parameters \['w'\]; it has \['weight', 'bias'\]"):
        ft.func.functional_call(models[0], {"w": x}, x)
    with pytest.raises(TypeError, match="must have the module's structure"):
        ft.func.functional_call(models[0], [x], x)
    with pytest.raises(ValueError, match="model 1 has the structure"):
        ft.func.stack_module_state(
            [models[0], ft.nnx.Linear(2, 3, key=ft.random.key(1), bias=False)]
        )


def test_custom_vmap_takes_and_gives_arrays_outside_of_transforms():
    seen = []

    @ft.custom_batching.custom_vmap
    def f(x, y):
        seen.append((type(x), type(y)))
        return x * y

    f.def_vmap(lambda size, batched, x, y: (x + y, True))
    out = f(3.0, y=np.float64(2))
    assert isinstance(out, ft.Array)
    assert (float(out), out.dtype) == (6.0, np.float64)
    assert all(issubclass(kind, ft.Array) for kinds in seen for kind in kinds)


def test_func_has_the_arguments_of_torch():
    x, w = np.arange(15.0).reshape(5, 3), np.arange(3.0)
    for chunk in (None, 2, 5):
        vmap = functools.partial(ft.func.vmap, chunk_size=chunk)
        close(vmap(lambda x, w: (x @ w, x), (0, None), (0, 1))(x, w), (x @ w, x.T))
        close(vmap(lambda x, d: x * d["k"], in_dims=(-1, {"k": 0}))(x, {"k": w}), (x * w).T)
        close(vmap(lambda x, *, y: x + y, out_dims=-1)(x, y=x), 2 * x.T)
    f = lambda x: ((x**2).sum(), x)
    close(ft.func.grad_and_value(f, has_aux=True)(w), (2 * w, (5.0, w)))
    close(ft.func.grad_and_value(lambda a, b: a * b, (0, 1))(2.0, 3.0), ((3.0, 2.0), 6.0))


# ------------------------------------------------------------------------------------ linear_call
def divided(x, by):
    return ft.custom_derivatives.linear_call(
        lambda by, x: {"y": x / by}, lambda by, ct: 7 * ct["y"] / by, by, x
    )["y"]


@both
def test_linear_functions_with_transposes_of_their_own(transform):
    by = np.array([2.0, 4.0, 5.0])
    close(transform(divided)(X, by), X / by)
    close(transform(ft.vmap(ft.grad(divided)))(X, by), 7 / by)
    close(transform(ft.vmap(ft.grad(divided), (None, 0)))(X[2], by), 7 / by)
    close(transform(ft.vmap(ft.grad(divided, 1)))(X, by), -X / by**2)  # the function's own
    close(ft.jvp(divided, (X, by), (by, X))[1], 1 - X * X / by**2)
    turned = lambda f: lambda ct: ft.linear_transpose(f, X)(ct)[0]
    once = turned(lambda x: divided(x, by))
    twice = turned(once)
    close([once(X), twice(X), turned(twice)(X)], [7 * X / by, X / by, 7 * X / by])
    step = lambda c, _: (ft.checkpoint(divided)(c, by), None)
    loop = lambda x: lax.scan(step, x, None, 2)[0]
    close(transform(ft.grad(lambda x: loop(x).sum()))(X), 49 / by**2)


def test_rules_of_a_function_inside_are_set_from_outside():
    @ft.custom_vjp
    @ft.custom_batching.custom_vmap
    def f(x, y):
        return fnp.sin(x) * y

    @f.def_vmap
    def rule(size, batched, xs, ys):
        return fnp.cos(xs) * ys, True

    f.defvjp(lambda x, y: (f(x, y), y), lambda y, ct: (5 * ct * y, ct))
    close(ft.vmap(f)(np.zeros(3), X), X)
    close(ft.grad(f)(0.0, 3.0), 15.0)
    with pytest.raises(AttributeError, match="'custom_jvp' object has no attribute 'def_vmap'"):
        ft.custom_jvp(fnp.sin).def_vmap


def test_one_cotangent_may_stand_for_several_leaves():
    f = ft.custom_vjp(lambda p, x: p[0] * p[1]["a"] * x)
    f.defvjp(lambda p, x: (f(p, x), None), lambda _, ct: ((2 * ct, 3 * ct), None))
    close(ft.grad(f)((1.0, {"a": 2.0, "b": 5.0}), 4.0), (2.0, {"a": 3.0, "b": 3.0}))


# ------------------------------------------------------------------ closures, nested rules, pytrees
@both
def test_functions_with_rules_may_close_over_mapped_values(transform):
    def by_jvp(c):
        f = ft.custom_jvp(lambda x: c * x)
        f.defjvp(lambda p, t: (c * p[0], 3 * c * t[0]))
        return f

    def by_vjp(c):
        f = ft.custom_vjp(lambda x: c * x)
        f.defvjp(lambda x: (f(x), (c, x)), lambda res, ct: (3 * res[0] * ct,))
        return f

    for made in (by_jvp, by_vjp):
        over = lambda x: ft.vmap(lambda c: made(c)(x))(X)
        close(transform(over)(2.0), 2 * X)
        close(transform(ft.jvp)(over, (2.0,), (1.0,))[1], 3 * X) if transform is not ft.jit else 0
        close(transform(ft.grad(lambda x: (over(x) * X).sum()))(2.0), 3 * (X * X).sum())
        close(transform(ft.vmap(lambda c, x: made(c)(x)))(X, X), X * X)
        close(transform(ft.vmap(lambda c: ft.grad(made(c))(2.0)))(X), 3 * X)
        twice = ft.vmap(lambda c: ft.vmap(lambda d: made(c)(d) + made(d)(c))(X))
        close(transform(twice)(X), 2 * np.outer(X, X))
    unmapped = ft.vmap(lambda c: by_vjp(2.0)(5.0), out_axes=None)
    close(transform(unmapped)(X), 10.0)


def test_static_arguments_of_rules_may_be_mapped():
    @functools.partial(ft.custom_jvp, nondiff_argnums=(0,))
    def f(c, x):
        return c * x

    f.defjvp(lambda c, p, t: (f(c, *p), 5 * t[0]))
    close(ft.vmap(f)(X, X), X * X)
    close(ft.jvp(lambda x: ft.vmap(f)(X, x), (X,), (X,))[1], 5 * X)


def test_a_collective_in_a_function_with_rules():
    f = ft.custom_vjp(lambda x: lax.psum(x, "lanes"))
    f.defvjp(lambda x: (f(x), None), lambda _, ct: (ct,))
    over = ft.vmap(lambda _, x: f(x), (0, None), None, axis_name="lanes")
    close(over(X, 2.0), 6.0)


def test_a_linear_call_inside_a_rule_is_transposed():
    f = ft.custom_jvp(lambda a, x: a * x)
    f.defjvp(lambda p, t: (f(*p), 2 * f(t[0], p[1]) + t[1]))
    close(ft.grad(f)(3.0, 5.0), 10.0)
    close(ft.grad(lambda a: ft.vmap(f, (None, 0))(a, X).sum())(3.0), 2 * X.sum())
    loop = lambda a: lax.scan(lambda c, _: (f(a, c), None), 5.0, None, 1)[0]
    close(ft.jit(ft.grad(loop))(3.0), 10.0)


def test_what_a_partial_fixes_by_name_is_no_argument():
    fixed = functools.partial(lambda x, y, a: x + y * a, a=0.1)
    f = ft.custom_jvp(fixed)
    f.defjvp(lambda p, t: ft.jvp(fixed, p, t))
    close(ft.tree.map(np.float32, ft.grad(lambda xs: f(*xs))((1.0, 2.0))), (1.0, np.float32(0.1)))
    with pytest.raises(TypeError, match="no signature to find the positions of keyword arguments"):
        f(1.0, y=2.0)


def test_pullbacks_and_linearized_functions_are_pytrees():
    f = lambda x, y: (x * fnp.sin(y), y)
    x, y = X[:1], X[1:]
    _, back = ft.vjp(f, x, y)
    again = ft.tree.map(lambda r: r, back)
    ct = (np.ones(2), np.zeros(2))
    close(again(ct), back(ct))
    made = ft.jit(lambda x: ft.vjp(f, x, y)[1])(x)
    close(ft.jit(lambda back, ct: back(ct))(made, ct), back(ct))
    lanes = ft.vmap(lambda x: ft.vjp(fnp.sin, x)[1])(X)
    close(ft.vmap(lambda back, ct: back(ct)[0])(lanes, X), X * np.cos(X))
    _, push = ft.jit(lambda x: ft.linearize(fnp.sin, x))(X)
    close(ft.jit(lambda push, t: push(t))(push, X), X * np.cos(X))
    g = ft.custom_vjp(fnp.sin)
    g.defvjp(lambda x: ft.vjp(fnp.sin, x), lambda back, ct: back(ct))
    close(ft.vmap(ft.grad(g))(X), np.cos(X))
    with pytest.raises(TypeError, match="takes one cotangent, of the structure of the output"):
        back(*ct)


def test_a_symbolic_zero_of_another_shape_is_an_error():
    f = ft.custom_vjp(lambda x, y: (x, y))
    fwd = lambda x, y: ((x.value, y.value), None)
    f.defvjp(fwd, lambda _, cts: (cts[1], cts[0]), symbolic_zeros=True)
    with pytest.raises(ValueError, match=r"leaf 0 a SymbolicZero of shape \(1, 1\).*return None"):
        ft.grad(lambda x, y: f(x, y)[0].sum(), (0, 1))(np.ones(1), np.ones((1, 1)))
    g = ft.custom_jvp(lambda x, y=1: x * y)
    g.defjvp(lambda p, t: (g(*p), t[0]))
    with pytest.raises(TypeError, match=r"was called with other arguments: missing a required"):
        g()
