"""Primitives from outside: a package that uses public names only, and mistakes in its rules."""

import subprocess
import sys

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.extend.core import Primitive, jaxpr_as_fun
from funtorch.interpreters import ad, batching, mlir

PACKAGE = '''
"""A package of its own: an operation with all rules, one that is an expansion, one with effects."""
import numpy as np
import funtorch as ft
import funtorch.numpy as fnp
from funtorch import extend


# The solution y of y + y^3 = x, by Newton's method; dy/dx = 1 / (1 + 3 y^2).
def _check(x):
    if x.dtype.kind != "f":
        raise TypeError(f"cubic takes floats, got {x.dtype}")
    return x


def _newton(xp, x):
    y = xp.cbrt(x)
    for _ in range(50):
        y = y - (y + y**3 - x) / (1 + 3 * y * y)
    return y


def _jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    y = cubic(x)
    return y, None if t is None else t / (1 + 3 * y * y)


cubic = extend.primitive(
    "cubics.cubic", type=_check, eager=_newton, jvp=_jvp, batch="elementwise"
)

# Moving averages of width n: linear, and of two results.
def _window(x, *, n):
    c = fnp.cumsum(x)
    total = c[n - 1:] - fnp.concatenate([fnp.zeros(1, x.dtype), c[:-n]])
    return [total / n, total]


averages = extend.primitive("cubics.averages", expand=_window, multiple_results=True)


def _scale_transpose(ct, x, *, factor):
    assert isinstance(x, extend.LinearArg)
    return [scale(ct, factor=factor)]


scale = extend.primitive(
    "cubics.scale",
    type=lambda x, *, factor: x,
    eager=lambda xp, x, *, factor: x * x.dtype.type(factor),
    jvp=lambda p, t, *, factor: (scale(*p, factor=factor), scale(*t, factor=factor)),
    transpose=_scale_transpose,
    batch=lambda axis, args, batched, *, factor: (scale(*args, factor=factor), batched[0]),
)

seen = []


def _tell(xp, x):
    seen.append(float(x))
    return x


tell = extend.primitive("cubics.tell", type=lambda x: x, eager=_tell, effect="io", batch="loop")
'''

USE = """
import cubics
same = np.testing.assert_allclose
x = np.array([0.5, 2.0, 10.0])
y = np.asarray(cubics.cubic(x))
same(y + y**3, x)
slope = 1 / (1 + 3 * y * y)
for t in (lambda f: f, ft.jit):
    same(t(cubics.cubic)(x), y)
    same(t(ft.vmap(cubics.cubic))(x), y)
    same(t(ft.vmap(ft.grad(cubics.cubic)))(x), slope)
    same(t(ft.vmap(ft.grad(ft.grad(cubics.cubic))))(x), -6 * y * slope**3)
    same(t(lambda v: ft.jvp(cubics.cubic, (v,), (v,))[1])(x), slope * x)
    loop = lambda v: ft.lax.scan(lambda c, _: (cubics.cubic(c), None), v, None, 3)[0].sum()
    same(t(ft.grad(ft.checkpoint(loop)))(x), ft.grad(loop)(x))
    a, s = t(lambda v: cubics.averages(v, n=2))(x)
    same(a, [1.25, 6.0])
    same(s, [2.5, 12.0])
    same(t(ft.grad(lambda v: cubics.averages(v, n=2)[0].sum()))(x), [0.5, 1, 0.5])
    (ct,) = t(lambda c: ft.linear_transpose(lambda v: cubics.averages(v, n=2)[0], x)(c))(np.ones(2))
    same(ct, [0.5, 1, 0.5])
    same(t(ft.vmap(lambda v: cubics.averages(v, n=2)[1]))(np.stack([x, x]))[1], s)
    same(t(ft.grad(lambda v: cubics.scale(v, factor=3.0)))(2.0), 3.0)
    same(t(ft.vmap(ft.grad(lambda v: cubics.scale(v, factor=3.0) ** 2)))(x), 18 * x)
    cubics.seen.clear()
    t(lambda v: (cubics.tell(v), cubics.tell(v), ft.vmap(cubics.tell)(v + np.arange(2.0)))[0])(1.0)
    assert cubics.seen == [1.0, 1.0, 1.0, 2.0], cubics.seen
steps = [s.what for s in ft.explain(lambda v: cubics.averages(v, n=2))(x).steps]
assert not any("averages" in s for s in steps), steps
"""


def test_a_package_from_outside(tmp_path):
    (tmp_path / "cubics.py").write_text(PACKAGE)
    program = "import numpy as np\nimport funtorch as ft\n" + USE
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


X = fnp.arange(3.0)
PLAIN = {"type": lambda x: x, "eager": lambda xp, x: x}


def made(**rules):
    return ft.extend.primitive("test.op", **{**PLAIN, **rules})


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (
            lambda: ft.extend.primitive("op", **PLAIN),
            ValueError,
            r"must begin with .* 'mypackage.op'",
        ),
        (
            lambda: ft.extend.primitive("a.op", type=PLAIN["type"]),
            ValueError,
            "needs expand, or both",
        ),
        (lambda: made(batch="all"), ValueError, r"one of \['elementwise', 'loop'\], got 'all'"),
        (lambda: made(effect="print"), ValueError, "effect must be None, 'debug' or 'io'"),
        (lambda: made()(X, n=[1]), TypeError, "parameter n must be hashable, got list"),
        (lambda: made(type=lambda x: 3)(X), TypeError, "type rule of test.op, <lambda>.*got 3"),
        (
            lambda: made(eager=lambda xp, x: x[0])(X),
            TypeError,
            r"eager rule of test.op, <lambda> .*f32\[3\] as result 0, got f32\[\]",
        ),
        (
            lambda: ft.jit(made(eager=lambda xp, x: x.astype("int8")))(X),
            TypeError,
            r"eager rule of test.op.*f32\[3\] as result 0, got i8\[3\]",
        ),
        (
            lambda: ft.jvp(made(jvp=lambda p, t: (p[0], t[0].sum())), (X,), (X,)),
            TypeError,
            r"jvp rule of test.op.*f32\[3\] as result 0, got f32\[\]",
        ),
        (
            lambda: ft.vmap(made(batch=lambda axis, args, b: (args[0][0], True)))(X),
            TypeError,
            r"batch rule of test.op.*f32\[3\] as result 0, got f32\[\]",
        ),
        (
            lambda: ft.linear_transpose(made(transpose=lambda ct, x: [ct, ct]), X)(X),
            TypeError,
            "transpose rule of test.op.*must give 1 results, got 2",
        ),
        (lambda: ft.jvp(made(), (X,), (X,)), NotImplementedError, r"no jvp rule: pass jvp= to"),
        (lambda: ft.vmap(made())(X), NotImplementedError, r"no batch rule: pass batch= to"),
    ],
)
def test_mistakes_in_rules(use, error, message):
    with pytest.raises(error, match=message):
        use()


def test_eager_rules_cannot_write_to_their_arguments():
    def rule(xp, x):
        x += 1
        return x

    with pytest.raises(ValueError, match="read-only"):
        made(eager=rule)(X)
    np.testing.assert_array_equal(X, [0, 1, 2])


# -------------------------------------------------------------------------- primitives as in JAX
def multiply_add():
    prim = Primitive("test_multiply_add")
    prim.def_impl(lambda x, y, z: np.add(np.multiply(x, y), z))
    prim.def_abstract_eval(lambda x, y, z: ft.ShapedArray(x.shape, x.dtype))

    def jvp(primals, tangents):
        x, y, z = primals
        xt, yt, zt = map(ad.instantiate_zeros, tangents)
        return prim.bind(x, y, z), prim.bind(xt, y, prim.bind(x, yt, zt))

    def transpose(ct, x, y, z):
        marked = [ad.is_undefined_primal(a) for a in (x, y, z)]
        by = lambda a: prim.bind(ct, a, ft.numpy.zeros_like(ct))
        return by(y) if marked[0] else None, by(x) if marked[1] else None, ct if marked[2] else None

    def batch(args, dims):
        size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
        front = [batching.bdim_at_front(x, d, size) for x, d in zip(args, dims, strict=True)]
        return ft.numpy.moveaxis(prim.bind(*front), 0, -1), front[0].ndim - 1

    ad.primitive_jvps[prim] = jvp
    ad.primitive_transposes[prim] = transpose
    batching.primitive_batchers[prim] = batch
    return prim


@pytest.mark.parametrize("lowered", [False, True])
def test_a_primitive_with_its_rules_one_by_one(lowered):
    f, f32 = multiply_add(), np.float32
    if lowered:
        mlir.register_lowering(f, mlir.lower_fun(lambda x, y, z: x * y + z, False))
    assert float(f.bind(2.0, 3.0, 4.0)) == float(ft.jit(f.bind)(2.0, 3.0, 4.0)) == 10
    slope = ft.grad(lambda x: f.bind(x, x, f32(1)))
    assert float(slope(f32(3))) == float(ft.jit(slope)(f32(3))) == 6
    x = np.arange(6.0, dtype=f32).reshape(2, 3)
    over = ft.vmap(lambda x, y: f.bind(x, y, x), (0, None))
    assert (over(x, x[1]) == x * x[1] + x).all()
    assert (ft.jit(over)(x, x[1]) == over(x, x[1])).all()
    loop = lambda x: ft.lax.scan(lambda c, _: (f.bind(c, f32(2), f32(1)), None), x, None, 3)[0]
    assert float(ft.grad(loop)(f32(1))) == 8


def test_primitives_with_several_results_and_bilinear_ones():
    several, f32 = Primitive("test_several"), np.float32
    several.multiple_results = True
    several.def_impl(lambda x, *, n: [x] * n)
    several.def_abstract_eval(lambda x, *, n: [x] * n)
    rule = lambda cts, x, *, n: [sum(ct for ct in cts if type(ct) is not ad.Zero)]
    ad.deflinear2(several, rule)
    over = lambda xs, dims, *, n: (several.bind(*xs, n=n), [*dims] * n)
    batching.primitive_batchers[several] = over
    assert float(ft.grad(lambda x: 5 * several.bind(x, n=3)[1])(f32(1))) == 5
    assert [x.tolist() for x in ft.vmap(lambda x: several.bind(x, n=2))(np.ones(2))] == [[1, 1]] * 2
    product = Primitive("test_product")
    product.def_impl(np.multiply), product.def_abstract_eval(lambda x, y: x)
    back = lambda ct, x, y: product.bind(ct, x if ad.is_undefined_primal(y) else y)
    ad.defbilinear(product, back, back)
    batching.defbroadcasting(product)
    square = lambda x: product.bind(x, x)
    assert [float(g(f32(3))) for g in (ft.grad(square), ft.grad(ft.grad(square)))] == [6, 2]
    assert ft.vmap(product.bind, (0, None))(np.arange(3.0), 2.0).tolist() == [0, 2, 4]


def test_missing_rules_are_named():
    foo = Primitive("sin")  # has the name of one of the library's, which keeps its own
    assert ft.core.primitives["sin"] is not foo
    with pytest.raises(NotImplementedError, match="Evaluation rule for 'sin' not implemented"):
        foo.bind(1.0)
    with pytest.raises(NotImplementedError, match="Abstract evaluation for 'sin' not implemented"):
        ft.jit(foo.bind)(1.0)
    with pytest.raises(NotImplementedError, match="there is no MLIR here; pass lower_fun"):
        mlir.register_lowering(foo, lambda ctx, x: x)
    ad.primitive_transposes[foo] = lambda ct, x: []
    foo.def_abstract_eval(lambda x: x)
    with pytest.raises(TypeError, match="gave 0 cotangents for 1 arguments"):
        ft.linear_transpose(foo.bind, 1.0)(1.0)
    twice = jaxpr_as_fun(ft.make_jaxpr(lambda x: 2 * x)(1.0))
    assert [float(x) for x in twice(3.0)] == [6.0]
