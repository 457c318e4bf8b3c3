"""Primitives from outside: a package that uses public names only, and mistakes in its rules."""

import subprocess
import sys

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp

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
