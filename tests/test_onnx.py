"""ONNX models: every primitive that has one, and networks, run by ONNX's reference evaluator."""

import collections
import zlib

import coverage_matrix
import numpy as np
import pytest
from op_table import arrays

import funtorch as ft
import funtorch.experimental
import funtorch.numpy as jnp
from funtorch import dtypes, export, nnx
from funtorch.backends import to_onnx
from funtorch.backends.onnx.rules import RULES
from funtorch.core import primitives
from funtorch.jaxpr import eval_jaxpr, stage
from funtorch.transforms.export import _portable

KEYS = ft.random.split(ft.random.key(0), 8)
SPEC = ft.ShapeDtypeStruct

_COMPLEX = "ONNX's operators have no complex numbers"
_LINEAR = "it has no rule: factorisations whose results are complex, or packed as LAPACK has them"
_PYTHON = "it runs Python"
_GONE = "export writes out what it stands for"
_AXIS = "it needs a mapped axis, which export has no name for"
_WHILE = "it stands in derivatives of while loops that are run backwards, whose length is not known"

WITHOUT = {
    **dict.fromkeys(("complex", "fft", "fft_table", "imag", "real"), _COMPLEX),
    **dict.fromkeys(
        (
            "eig", "geev", "geqp3", "hessenberg", "matrix_function", "qr_pivoting", "schur",
            "schur_shift", "trevc", "tridiagonal",
        ),
        _LINEAR,
    ),
    **dict.fromkeys(("pure_callback", "io_callback", "debug_callback", "numeric"), _PYTHON),
    **dict.fromkeys(
        (
            "attention", "attention_grad", "attention_tangent",
            "check", "custom_jvp_call", "custom_lin", "custom_linear_solve", "custom_vjp_call",
            "custom_vmap_call", "jit", "linear_call", "name", "reduce_precision", "remat", "sow",
            "sown_tangent",
        ),
        _GONE,
    ),
    **dict.fromkeys(
        (
            "all_gather", "all_to_all", "axis_index", "pmax", "pmin", "ppermute", "psum",
            "psum_scatter", "pvary", "shard_map",
        ),
        _AXIS,
    ),
    **dict.fromkeys(("rewind", "rewound", "swayed"), _WHILE),
}  # fmt: skip
"""Primitives that no model of ONNX has: why."""


def evaluator(model):
    return pytest.importorskip("onnx.reference").ReferenceEvaluator(model)


def test_every_primitive_is_in_one_of_the_tables():
    names = {n for n in primitives if not n.startswith("test_") and "." not in n}
    assert names == set(RULES) | set(WITHOUT)
    assert not set(RULES) & set(WITHOUT)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_primitive_that_has_a_counterpart():
    pytest.importorskip("onnx")
    refused, compared = collections.Counter(), set()
    for row in coverage_matrix.all_rows():
        args = [np.asarray(a) for a in row.samples[0]]
        narrow = row.name.partition("-")[0] not in ("bitcast", "scan", "while", "cond")
        if narrow:
            args = [a.astype("float32") if a.dtype == np.float64 else a for a in args]
        ins = arrays(args)
        jaxpr = _portable(stage(row.flat, [x.aval for x in ins]))
        names = [f"x{k}" for k in range(len(jaxpr.invars))]
        made = [f"y{k}" for k in range(len(jaxpr.outvars))]
        try:
            model = to_onnx(jaxpr, [*names, *made], "row")
        except NotImplementedError as error:
            name = str(error).split()[0]
            refused[name if name in WITHOUT or "complex" not in str(error) else _COMPLEX] += 1
            continue
        given = dict(zip(names, (np.asarray(x._data) for x in ins), strict=True))
        outs = evaluator(model).run(None, given)
        wanted = eval_jaxpr(jaxpr, *ins)
        outs, wanted = (coverage_matrix.without_signs(row.name, found) for found in (outs, wanted))
        for got, want in zip(outs, wanted, strict=True):
            got, want = np.asarray(got), np.asarray(want)
            assert (got.shape, got.dtype) == (want.shape, want.dtype), row.name
            got, want = got.astype("float64"), want.astype("float64")
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-5, err_msg=row.name)
        compared.update(eqn.prim.name for eqn in jaxpr.eqns)
    assert set(RULES) <= compared | {"narrow_dot"}  # which test_along.py compares
    assert set(refused) - set(WITHOUT) <= {_COMPLEX}


@pytest.mark.parametrize("dtype", ["int8", "uint16", "float16", "bfloat16", "bool"])
def test_models_have_no_types_that_their_operators_do_not_take(dtype):
    """Rows of the op table in types that few operators take, by onnx's own rules of types."""
    onnx = pytest.importorskip("onnx")
    checked = 0
    for row in coverage_matrix.all_rows():
        if zlib.crc32(row.name.encode()) % 4 and not row.name.startswith("reduce"):
            continue
        args = [np.asarray(a) for a in row.samples[0]]
        args = [a.astype(dtypes.canonical(dtype)) if a.dtype == args[0].dtype else a for a in args]
        try:
            ins = arrays(args)
            jaxpr = _portable(stage(row.flat, [x.aval for x in ins]))
            names = [f"v_{k}" for k in range(len(jaxpr.invars) + len(jaxpr.outvars))]
            model = to_onnx(jaxpr, names, "row")
        except (TypeError, ValueError, NotImplementedError):  # no such program, or no such model
            continue
        onnx.checker.check_model(model, full_check=True)
        checked += 1
    assert checked > 20


def test_factorisations_are_loops():
    pytest.importorskip("onnx")
    a = ft.random.normal(KEYS[0], (2, 5, 5))
    b = ft.random.normal(KEYS[1], (2, 5, 3))
    la = jnp.linalg

    def f(a, b):
        s = a @ a.swapaxes(1, 2) + jnp.eye(5)
        u, d, vt = la.svd(b, full_matrices=False)
        w, v = la.eigh(s)
        return (
            la.solve(a, b), la.cholesky(s), la.cholesky(-s), la.inv(a), la.qr(b)[1], la.det(a),
            la.slogdet(a)[1], d, (u * d[:, None]) @ vt, w, (v * w[:, None]) @ v.swapaxes(1, 2),
            la.pinv(b), la.svd(b[0])[0] @ la.svd(b[0])[0].T, ft.scipy.linalg.expm(a[0]),
            ft.grad(lambda a: la.solve(a, b).sum())(a), la.norm(b.swapaxes(1, 2), 2, (1, 2)),
        )  # fmt: skip

    check(f, a, b, names=["a", "b"], inputs=[(a, b)], tol=1e-3)
    singular = a.at[1, :, 2].set(0.0)
    check(la.solve, a, b, names=["a", "b"], inputs=[(singular, b)], tol=1e-3)


def test_scans_that_keep_nothing():
    pytest.importorskip("onnx")

    def f(x):
        return ft.lax.scan(lambda c, a: (c * 0.5 + a, None), jnp.zeros(3), x)[0]

    x = ft.random.normal(KEYS[2], (4, 3))
    check(f, x, names=["x"], inputs=[(x,)])


def check(function, *types, names, inputs, tol=1e-4):
    """Compare a function with its model at several inputs."""
    exported = ft.export(function)(*types)
    run = evaluator(exported.to_onnx())
    for values in inputs:
        given = dict(zip(names, map(np.asarray, values), strict=True))
        wanted = ft.tree.leaves(exported.call(*values))
        for got, want in zip(run.run(None, given), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=tol, atol=1e-5)


def test_a_convolutional_network_of_any_batch():
    pytest.importorskip("onnx")
    model = nnx.Sequential(
        nnx.Conv2d(1, 4, 3, key=KEYS[0]), nnx.BatchNorm2d(4), nnx.GELU(), nnx.MaxPool2d(2),
        nnx.AvgPool2d(2), nnx.Flatten(), nnx.Linear(16, 3, key=KEYS[1]),
    )  # fmt: skip
    (b,) = export.symbolic_shape("b")

    def f(x):
        y = model(x)
        return ft.nn.softmax(y), y.argmax(-1), y.mean(0)

    inputs = [(ft.random.normal(KEYS[2], (n, 1, 10, 10)),) for n in (1, 5)]
    check(f, SPEC((b, 1, 10, 10), "float32"), names=["x"], inputs=inputs)
    made = ft.export(f)(SPEC((b, 1, 10, 10), "float32")).to_onnx()
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "b"


def test_recurrent_layers_attention_loops_and_branches():
    pytest.importorskip("onnx")
    lstm = nnx.LSTM(4, 8, key=KEYS[3])
    layer = nnx.TransformerEncoderLayer(8, 2, 16, key=KEYS[4])

    def f(x, n):
        y = layer(lstm(x)[0])
        y = ft.lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * 0.5), (0, y))[1]
        return y, ft.lax.switch(n, [jnp.sum, jnp.max, jnp.min], y)

    x = ft.random.normal(KEYS[5], (5, 3, 4))
    types = SPEC(x.shape, "float32"), SPEC((), "int32")
    check(f, *types, names=["x", "n"], inputs=[(x, jnp.int32(n)) for n in (0, 1, 2, 7)])


def test_random_numbers_are_the_same():
    """Keys, bits, uniform and normal numbers: of a key that is an input."""
    pytest.importorskip("onnx")

    def f(key):
        a, b = ft.random.split(ft.random.wrap_key_data(key))
        return (
            ft.random.bits(a, (5,)), ft.random.uniform(a, (3, 4)), ft.random.normal(b, (7,)),
            ft.random.bernoulli(b, 0.3, (9,)), ft.random.permutation(a, 6),
        )  # fmt: skip

    key = ft.random.key_data(ft.random.key(5))
    check(f, SPEC((2,), "uint32"), names=["key"], inputs=[(key,), (key + 1,)], tol=1e-6)


def test_scatters_that_drop_and_sorts_by_several_keys():
    pytest.importorskip("onnx")

    def f(x, i):
        y = x.at[i].set(7.0, mode="drop")
        z = x.at[i, i].set(5.0, mode="drop")
        order = jnp.lexsort((x[:, 0], x[:, 1] > 0))
        return y, z, order, jnp.sort(x > 0, axis=0), x[:0], jnp.cumprod(x, 1)

    x = ft.random.normal(KEYS[6], (4, 3))
    types = SPEC(x.shape, "float32"), SPEC((3,), "int32")
    check(f, *types, names=["x", "i"], inputs=[(x, jnp.array([0, 9, 2], "int32"))])


def test_reductions_of_bools():
    pytest.importorskip("onnx")
    x = jnp.array([[True, False, True], [True, True, True]])
    check(lambda x: (x.all(1), x.any(0), (~x).any()), x, names=["x"], inputs=[(x,), (~x,)])


def test_a_training_step_is_a_model_too(tmp_path):
    onnx = pytest.importorskip("onnx")

    def step(w, x, y):
        return w - 0.1 * ft.grad(lambda w: ((jnp.tanh(x @ w) - y) ** 2).mean())(w)

    w, x, y = (ft.random.normal(k, s) for k, s in zip(KEYS, ((3, 2), (5, 3), (5, 2)), strict=False))
    check(step, w, x, y, names=["w", "x", "y"], inputs=[(w, x, y), (w + 1, x, y)])
    ft.export(step)(w, x, y).to_onnx(tmp_path / "step.onnx")
    assert len(onnx.load(tmp_path / "step.onnx").graph.node) > 5


def test_what_has_no_counterpart_is_named():
    pytest.importorskip("onnx")
    exported = ft.export(lambda x: ft.scipy.linalg.schur(x))(SPEC((2, 2), "float32"))
    with pytest.raises(NotImplementedError, match=r"schur at .*: has no counterpart in ONNX"):
        exported.to_onnx()
    exported = ft.export(lambda x: jnp.exp(x))(SPEC((2,), "complex64"))
    with pytest.raises(NotImplementedError, match="complex64"):
        exported.to_onnx()
