"""Sparse arrays of funtorch.experimental.sparse against NumPy, in every layout."""

import itertools

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.experimental import sparse

LAYOUTS = [((5,), 0, 0), ((3, 4), 0, 0), ((3, 4), 1, 0), ((3, 4), 0, 1), ((2, 3, 4), 0, 0),
           ((2, 3, 4), 1, 0), ((2, 3, 4), 1, 1), ((2, 3, 4), 2, 0)]  # fmt: skip
RNG = np.random.default_rng(0)


def dense(shape):
    return (RNG.integers(1, 9, shape) * (RNG.random(shape) < 0.5)).astype(np.float32)


def made(x, n_batch=0, n_dense=0):
    return sparse.BCOO.fromdense(fnp.asarray(x), n_batch=n_batch, n_dense=n_dense)


def same(got, want):
    got = got.todense() if hasattr(got, "todense") else got
    assert got.shape == np.shape(want)
    assert np.allclose(got, want)


@pytest.mark.parametrize(("shape", "n_batch", "n_dense"), LAYOUTS)
def test_elementwise_and_movements(shape, n_batch, n_dense):
    x, y = dense(shape), dense(shape)
    X, Y = made(x, n_batch, n_dense), made(y, n_batch, n_dense)
    assert (X.n_batch, X.n_dense, X.n_sparse) == (n_batch, n_dense, len(shape) - n_batch - n_dense)
    rows = [(X, x), (X + Y, x + y), (X - Y, x - y), (X * Y, x * y), (2 * X, 2 * x), (X / 2, x / 2),
            (-X, -x), (X * fnp.asarray(y), x * y), (X + fnp.asarray(y), x + y), (X**2, x**2),
            (X.sum(), x.sum()), (X.sum(0), x.sum(0)), (X[..., 1], x[..., 1]), (X[1:], x[1:]),
            ((X + Y).sum_duplicates(), x + y), ((X + Y).sort_indices(), x + y),
            (sparse.bcoo_rev(X, (0,)), x[::-1]), (X[None], x[None]), (X.astype("int32"), x),
            (sparse.bcoo_concatenate([X, Y], dimension=0), np.concatenate([x, y])),
            (sparse.bcoo_concatenate([X, Y], dimension=x.ndim - 1), np.concatenate([x, y], -1)),
            (sparse.bcoo_extract(X, fnp.asarray(y)), np.where(x != 0, y, 0)
             if not n_dense else None)]  # fmt: skip
    for got, want in rows:
        if want is not None:
            same(got, want)
    if not n_batch and not n_dense:
        same(X.T, x.T)
        same(X.reshape(-1), x.reshape(-1))
    for batch, block in itertools.product(range(len(shape) + 1), repeat=2):
        if batch + block <= len(shape):
            other = X.update_layout(n_batch=batch, n_dense=block, on_inefficient=None)
            assert (other.n_batch, other.n_dense) == (batch, block)
            same(other, x)


@pytest.mark.parametrize(("shape", "n_batch", "n_dense"), LAYOUTS)
def test_products_and_their_gradients(shape, n_batch, n_dense):
    """Contractions with dense arrays on either side, with a batch axis and without."""
    x = dense(shape)
    X = made(x, n_batch, n_dense)
    names = "abc"[: len(shape)]
    for c, b in itertools.product(range(len(shape)), (None, *range(len(shape)))):
        if b == c:
            continue
        y = RNG.normal(size=(*(() if b is None else (shape[b],)), 5, shape[c])).astype(np.float32)
        batch = "" if b is None else names[b]
        numbers = (([c], [y.ndim - 1]), ([] if b is None else [b], [] if b is None else [0]))
        rest = "".join(n for n in names if n not in (names[c], batch))
        want = np.einsum(f"{names},{batch}z{names[c]}->{batch}{rest}z", x, y)
        dot = sparse.bcoo_dot_general
        same(dot(X, fnp.asarray(y), dimension_numbers=numbers), want)
        swapped = tuple(pair[::-1] for pair in numbers)
        want = np.einsum(f"{names},{batch}z{names[c]}->{batch}z{rest}", x, y)
        same(dot(fnp.asarray(y), X, dimension_numbers=swapped), want)
    v = fnp.asarray(RNG.normal(size=shape[-1:]).astype(np.float32))

    def loss(X, v):
        out = X @ v if X.ndim < 3 else (X * v).sum()
        return fnp.sum(out**2)

    got = sparse.grad(loss)(X, v)
    want = ft.grad(loss)(fnp.asarray(x), v)
    assert np.allclose(got.data, sparse.bcoo_extract(X, want).data, rtol=1e-4)


def test_two_sparse_matrices():
    x, y = dense((3, 4)), dense((4, 5))
    same(made(x) @ made(y), x @ y)
    same(made(x).T @ made(x), x.T @ x)
    same(ft.jit(lambda a, b: a @ b)(made(x), made(y)), x @ y)
    indices = fnp.array([[0, 1], [2, 3], [3, 0]])  # the last one is beyond the result
    numbers = (([1], [0]), ([], []))
    got = sparse.bcoo_dot_general_sampled(x, y, indices, dimension_numbers=numbers)
    assert np.allclose(got, [(x @ y)[0, 1], (x @ y)[2, 3], 0])


def test_transforms_take_sparse_arrays():
    x = dense((3, 4))
    v = np.arange(4, dtype=np.float32)
    same(ft.jit(lambda m: m @ v)(made(x)), x @ v)
    batch = made(x, n_batch=1)
    same(ft.vmap(lambda row: row @ fnp.asarray(v))(batch), x @ v)
    same(ft.vmap(lambda row: row * 2)(batch), x * 2)
    assert ft.vmap(lambda row: sparse.BCOO.fromdense(row, nse=4))(fnp.asarray(x)).n_batch == 1
    total, _ = ft.lax.scan(lambda c, _: (c * 2, None), made(x), None, 3)
    same(total, 8 * x)


SPARSIFIED = {
    "sin": lambda m, v: fnp.sin(m), "affine": lambda m, v: (m @ v) * 2 + 1,
    "transpose": lambda m, v: fnp.transpose(m) @ fnp.ones(3), "square": lambda m, v: m * m,
    "norm": lambda m, v: fnp.sqrt((m * m).sum()), "rows": lambda m, v: m * v,
    "columns": lambda m, v: m * fnp.arange(3.0)[:, None], "mean": lambda m, v: m.mean(0),
    "split": lambda m, v: fnp.split(m, 2, 1)[1], "jit": lambda m, v: ft.jit(lambda m: 3 * m)(m),
    "loop": lambda m, v: ft.lax.fori_loop(0, 3, lambda i, w: w * m.sum(), 1.0),
    "cond": lambda m, v: ft.lax.cond(v[1] > 0, lambda m: m * 2, lambda m: m * 3, m),
    "stack": lambda m, v: fnp.concatenate([m, 2 * m]), "dense": lambda m, v: sparse.todense(m) + 1,
}  # fmt: skip


@pytest.mark.parametrize("name", SPARSIFIED)
def test_sparsify(name):
    x, v = dense((3, 4)), fnp.arange(4.0)
    f = SPARSIFIED[name]
    want = f(fnp.asarray(x), v)
    same(sparse.sparsify(f)(made(x), v), want)
    same(sparse.sparsify(f)(sparse.BCSR.fromdense(x), v), want)


@pytest.mark.parametrize("name", ["BCOO", "BCSR", "COO", "CSR", "CSC"])
def test_formats(name):
    kind, x = getattr(sparse, name), dense((3, 4))
    m = kind.fromdense(fnp.asarray(x))
    v = fnp.arange(4.0)
    same(m, x)
    same(m @ v, x @ np.arange(4))
    same(fnp.ones((2, 3)) @ m, np.ones((2, 3)) @ x)
    same(ft.jit(lambda m: m @ v)(m), x @ np.arange(4))
    same(sparse.empty((3, 4), sparse_format=name.lower()), np.zeros((3, 4)))
    if name != "BCSR":
        same(m.T, x.T)
        same(sparse.eye(3, 4, 1, sparse_format=name.lower()), np.eye(3, 4, 1))
    g = sparse.grad(lambda m: (m @ v).sum())(m)
    same(g, np.where(x != 0, np.arange(4), 0))


def test_random_places():
    m = sparse.random_bcoo(ft.random.key(0), (4, 5), nse=0.5, n_batch=1)
    assert (m.nse, m.n_batch, m.shape) == (3, 1, (4, 5))
    assert (np.asarray(m.todense() != 0).sum(1) == 3).all()


def test_errors_say_what_does_not_fit():
    with pytest.raises(ValueError, match=r"data has shape \(2,\).*must be \(3,\)"):
        sparse.BCOO((fnp.ones(2), fnp.zeros((3, 1), int)), shape=(4,))
    with pytest.raises(NotImplementedError, match="sparse rule for exp is not implemented"):
        sparse.sparsify(fnp.exp)(made(dense((3,))))
    with pytest.raises(TypeError, match=r"number of nonzero elements.*give nse= to fix it"):
        ft.jit(lambda x: sparse.BCOO.fromdense(x).data)(fnp.eye(3))
    with pytest.raises(ValueError, match="nse must be specified"):
        ft.jit(lambda m: m.sum_duplicates())(made(dense((3,))))
    with pytest.raises(sparse.SparseEfficiencyError, match="on_inefficient"):
        made(dense((3, 4))).update_layout(n_dense=1)
    with pytest.raises(NotImplementedError, match=r"shape=\(3, 4\), v.shape=\(2, 3, 4\)"):
        sparse.bcoo_multiply_dense(made(dense((3, 4))), fnp.ones((2, 3, 4)))
    with pytest.raises(TypeError, match="must have equal sizes"):
        made(dense((3, 4))) @ fnp.ones(3)
