"""Programs that run on a GPU as on the CPU: one table for the stand-in and for real ones."""

import importlib.util
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nn, optim


def _benchmark():
    """Return benchmarks/gpu.py as a module: with the root on the path, `transforms` would be
    importable as a second, bare copy."""
    path = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("gpu_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their names
    spec.loader.exec_module(module)
    return module


benchmark = _benchmark()


def normal(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def norm(x, scale):
    return (x - x.mean(-1, keepdims=True)) / fnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale


def attend(q, k, v):
    scores = fnp.einsum("bhqd,bhkd->bhqk", q, k) / 2
    scores = fnp.where(fnp.tril(fnp.ones(scores.shape[-2:], bool)), scores, -1e9)
    return fnp.einsum("bhqk,bhkd->bqhd", nn.softmax(scores), v)


ADAM = optim.adamw(1e-2)
PARAMS = {"w": normal(7, 16), "b": normal(16), "v": normal(16, 3)}


def attended(q, k, v, **options):
    return nn.dot_product_attention(q, k, v, is_causal=True, **options)


def layered(params, x):
    """A loop over layers of attention, whose gradient recomputes them."""

    def layer(x, w):
        q, k, v = fnp.split((x @ w).reshape(2, 9, 2, 12), 3, -1)
        return x + attended(q, k, v).reshape(2, 9, 8), None

    return lax.scan(ft.remat(layer), x, params)[0]


def train(params, state, x, y):
    def loss(p):
        return ((fnp.tanh(x @ p["w"] + p["b"]) @ p["v"] - y) ** 2).mean()

    value, grads = ft.value_and_grad(loss)(params)
    updates, state = ADAM.update(grads, state, params)
    return optim.apply_updates(params, updates), state, value


def convolve(x, w):
    made = nn.relu(lax.conv_general_dilated(x, w, (2, 2), "SAME"))
    return (
        lax.reduce_window(made, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "VALID") ** 2
    ).sum()


def squares(f):
    return lambda *args: (f(*args) ** 2).sum()


STEPS = {
    "rows": (lambda x: (nn.softmax(x), fnp.exp(x).sum(0), x[:, ::2] * 2, x.T), normal(6, 33)),
    "layer norm": (ft.grad(squares(norm), (0, 1)), normal(6, 33), normal(33)),
    "adamw": (train, PARAMS, ADAM.init(PARAMS), normal(10, 7), normal(10, 3)),
    "attention": (
        ft.grad(squares(attend), (0, 1, 2)), *(normal(2, 3, 5, 4, seed=k) for k in range(3))
    ),
    "attention of all kinds": (
        lambda q, k, v, m: (
            ft.vmap(ft.grad(lambda q: (attended(q, k, v) ** 2).sum()))(fnp.stack([q, q + 1])),
            nn.dot_product_attention(q, k, v, bias=m, local_window_size=(3, 2)),
            ft.grad(lambda m: (attended(q, k, v, bias=m) ** 2).sum())(m),
            ft.jvp(lambda k: attended(q, k, v), (k,), (v,))[1],
            ft.hvp(lambda q: (attended(q, k, v) ** 2).sum(), (q,), (q,)),
            ft.autocast(attended)(q, k, v).astype(ml_dtypes.bfloat16),
        ),
        normal(2, 9, 4, 8), normal(2, 9, 2, 8), normal(2, 9, 2, 8, seed=3), normal(4, 9, 9),
    ),
    "layers of attention": (
        ft.grad(squares(layered), (0, 1)), normal(3, 8, 24) / 9, normal(2, 9, 8)
    ),
    "convolution": (ft.grad(convolve, (0, 1)), normal(2, 3, 9, 8), normal(4, 3, 3, 3)),
    "products": (
        lambda a, b, c, d: (
            a.T @ b.T, fnp.einsum("bij,kbj->ibk", c, d), a @ a[0], fnp.outer(a[0], a[1])
        ),
        normal(5, 6), normal(4, 5), normal(3, 2, 4), normal(6, 3, 4),
    ),
    "sums": (lambda x: (x.sum(), x.max(), (x * x).mean(0), fnp.cumsum(x, 1)), normal(30, 90)),
    "doubles": (
        lambda a, b: (a @ b, fnp.exp(a)), normal(5, 6).astype("f8"), normal(6, 4).astype("f8")
    ),
    "integers": (
        lambda a, b: (a @ b, a % 3, a // 2, fnp.sort(a, 1), fnp.argsort(a, 0)),
        np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::-1].copy(),
        np.arange(8, dtype=np.int32).reshape(4, 2),
    ),
    "halves": (
        lambda a, b: ((a @ b).astype("float32"), (b * 2).sum(0)),
        normal(5, 6).astype(ml_dtypes.bfloat16), normal(6, 4).astype(ml_dtypes.bfloat16),
    ),
    "indices": (
        lambda x, i, u: (x.at[i].add(u), x.at[i].set(u), x[i], x.at[1:3].set(0.0), x.at[i].max(u)),
        normal(9, 3), np.array([1, 3, 1, 8], np.int32), normal(4, 3),
    ),
    "random": (
        lambda k: (ft.random.normal(k, (5,)), ft.random.randint(k, (4,), 0, 10)),
        np.array([0, 3], np.uint32),
    ),
    "edges": (
        lambda a, s, x: (a.sum(0), a * 2, fnp.zeros((0, 3)), s * 2 + 1, fnp.arange(5.0), x, s),
        np.zeros((0, 4), np.float32), np.float32(3), normal(3),
    ),
}  # fmt: skip
"""By name a function and its arguments; all of them without decisions of the host."""


def unrolled(w, x):
    return lax.scan(lambda c, r: (fnp.tanh(w @ c + r), c * 2), x[0], x)


LOOPS = {
    "scan": (unrolled, normal(5, 5), normal(7, 5)),
    "scan's gradient": (
        ft.grad(lambda w, x: (unrolled(w, x)[1] ** 2).sum()), normal(5, 5), normal(7, 5)
    ),
    "while": (
        lambda x: lax.while_loop(
            lambda c: (c[0] ** 2).sum() < 100, lambda c: (c[0] * 1.5, c[1] + 1, c[0]), (x, 0, x)
        ),
        normal(5),
    ),
    "cond": (
        lambda p, x: lax.cond(p.sum() > 0, lambda x: x * 2, lambda x: fnp.sin(x), x),
        normal(3), normal(5),
    ),
    "switch": (
        lambda i, x: lax.switch(i, [lambda x: x + 1, lambda x: x * 3, lambda x: x @ x], x),
        np.int32(2), normal(4, 4),
    ),
    "a loop for each lane": (
        ft.vmap(lambda x: lax.while_loop(lambda c: c < 10, lambda c: c * 1.7, x)),
        np.abs(normal(6)) + 1,
    ),
    "an update in place": (
        lambda x: lax.fori_loop(0, 4, lambda i, c: c.at[i].set(c[i] * 2 + i), x), normal(6)
    ),
    "transforms": (
        lambda x: (fnp.fft.fft(x).real, fnp.fft.irfft(fnp.fft.rfft(x))), normal(3, 12)
    ),
    "matrices": (
        lambda a, b: (fnp.linalg.solve(a, b), fnp.linalg.cholesky(a @ a.T + 5 * fnp.eye(4))),
        normal(4, 4) + 3 * np.eye(4, dtype=np.float32), normal(4, 2),
    ),
}  # fmt: skip
"""The same of what the host decides about."""


def together(table):
    """Return one function of all arguments of a table that gives all its results."""

    def run(args):
        return {name: f(*args[name]) for name, (f, *_) in table.items()}

    return run, {name: tuple(args) for name, (_, *args) in table.items()}


def assert_same(got, want, tol=2e-5):
    """Compare results on a GPU with those on the CPU: types, and values."""
    pairs = zip(ft.tree.leaves_with_path(got), ft.tree.leaves_with_path(want), strict=True)
    for (where, g), (_, w) in pairs:
        assert (g.shape, g.dtype, g.weak_type) == (w.shape, w.dtype, w.weak_type), where
        assert g.device == "cuda:0", where
        loose = 3e-2 if w.dtype.itemsize == 2 else tol
        np.testing.assert_allclose(
            np.asarray(g).astype("f8"), np.asarray(w).astype("f8"), loose, loose, err_msg=str(where)
        )


def smooth(x):
    return (fnp.tanh(x) * x).sum()


def choosing(x):
    return (x * x).sum() if x.sum() > 0 else (x**3).sum()


@ft.custom_vjp
def twice(x):
    return x * 2


twice.defvjp(lambda x: (x * 2, x), lambda x, g: (g * 3 + x,))

WORDS = {
    "jacfwd": lambda x: ft.jacfwd(fnp.sin)(x[0]),
    "jacrev": lambda x: ft.jacrev(fnp.sin)(x[0]),
    "hessian": lambda x: ft.hessian(smooth)(x[0]),
    "jvp": lambda x: ft.jvp(smooth, (x,), (x,)),
    "vjp": lambda x: ft.vjp(smooth, x)[1](fnp.ones(())),
    "linearize": lambda x: ft.linearize(smooth, x)[1](x),
    "remat": lambda x: ft.grad(ft.remat(smooth))(x),
    "vmap of grad": lambda x: ft.vmap(ft.grad(smooth))(x),
    "if under grad": lambda x: ft.grad(choosing)(x),
    "if under vmap": lambda x: ft.vmap(choosing)(x),
    "custom rule": lambda x: ft.grad(lambda a: twice(a).sum())(x),
    "while_loop": lambda x: lax.while_loop(lambda c: c.sum() < 50, lambda c: c * 2, fnp.abs(x) + 1),
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: c + i, x),
    "cond": lambda x: lax.cond(x[0, 0] > 0, lambda a: a, lambda a: a * 2, x),
    "scan": lambda x: ft.grad(lambda a: lax.scan(lambda c, r: (c + r * r, c), a[0], a)[0].sum())(x),
    "map": lambda x: lax.map(lambda r: r * 2, x),
    "associative_scan": lambda x: lax.associative_scan(fnp.add, x),
    "indexing": lambda x: (x[1], x[:, 0], x[fnp.array([0, 2])], x[x > 0], x[x[:, 0].argmax()]),
    "updates": lambda x: x.at[0].set(1).at[1].mul(2.0),
    "sorting": lambda x: (fnp.sort(x), fnp.argsort(x), fnp.argmax(x, 0)),
    "sums": lambda x: (x.mean(), x.std(0), fnp.median(x), x.argmax(1), x.cumsum(0), x.prod()),
    "movement": lambda x: (
        fnp.pad(x, 1),
        fnp.tile(x, 2),
        fnp.stack([x, x]),
        x.T[::-1],
        fnp.roll(x, 1),
    ),
    "products": lambda x: (x @ x.T, fnp.einsum("ij,kj->ik", x, x), fnp.linalg.norm(x)),
    "NumPy's functions": lambda x: (np.sin(x), np.concatenate([x, x]), np.add(x, x)),
    "complex numbers": lambda x: (fnp.exp(1j * x).real, abs(fnp.fft.fft(x))),
    "matrices": lambda x: (fnp.linalg.inv(x[:3]), fnp.linalg.svd(x)[1]),
    "trees": lambda x: ft.tree.map(lambda a, b: a + b, {"a": x}, {"a": x}),
}
"""What users write outside of jit, of an array of shape (4, 3)."""
