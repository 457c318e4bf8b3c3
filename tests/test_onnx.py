"""ONNX models: every primitive that has one, and networks, run by ONNX's reference evaluator."""

import collections
import re
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
from funtorch.backends.onnx.pairs import PAIRED
from funtorch.backends.onnx.rules import RULES
from funtorch.backends.onnx.without import REASONS
from funtorch.core import primitives
from funtorch.jaxpr import eval_jaxpr, stage
from funtorch.transforms.export import _portable

KEYS = ft.random.split(ft.random.key(0), 8)
SPEC = ft.ShapeDtypeStruct

_BLOCKS = "real matrices, whose blocks are where the values want them"
REFUSED = {
    **dict.fromkeys(
        (
            "schur_shift-real", "trevc-real", "schur-real", "schur-real-pairs",
            "matrix_function-False", "schur-rebuilt-real", "trevc-rebuilt-real",
            "schur_shift-rebuilt-real",
        ),
        _BLOCKS,
    ),
    **dict.fromkeys(("geev-real", "geev-rebuilt-real"), "LAPACK's packed vectors"),
    "pure_callback": "it runs Python",
}  # fmt: skip
"""Rows of the op table that no model is made of: what the message says."""

NARROW = {"float64": "float32", "complex128": "complex64"}


def evaluator(model):
    return pytest.importorskip("onnx.reference").ReferenceEvaluator(model)


def test_every_primitive_is_in_one_of_the_tables():
    names = {n for n in primitives if not n.startswith("test_") and "." not in n}
    made = set(RULES) | set(PAIRED)
    assert names == made | set(REASONS)
    assert not made & set(REASONS)
    assert all(REASONS.values())


def parts(x):
    """Return an array as models take it: complex numbers along a last axis."""
    x = np.asarray(x)
    return np.stack([x.real, x.imag], -1) if x.dtype.kind == "c" else x


def narrow(row):
    """Return a row's first sample in the types that networks have."""
    args = [np.asarray(a) for a in row.samples[0]]
    if row.name.partition("-")[0] in ("bitcast", "scan", "while", "cond"):
        return arrays(args)
    return arrays([a.astype(NARROW.get(a.dtype.name, a.dtype)) for a in args])


def without_signs(name, outs):
    if name == "eig-real":  # LAPACK lets real vectors have any sign
        return [abs(np.asarray(x)) for x in outs]
    return coverage_matrix.without_signs(name, outs)


def table():
    """Yield rows of the op table with their programs."""
    for row in coverage_matrix.all_rows():
        ins = narrow(row)
        yield row.name, ins, _portable(stage(row.flat, [x.aval for x in ins]))


def check_row(name, ins, jaxpr, run):
    """Compare a row with its model, which ``run`` runs; return whether there is one."""
    names = [f"x{k}" for k in range(len(jaxpr.invars))]
    made = [f"y{k}" for k in range(len(jaxpr.outvars))]
    if name in REFUSED:
        with pytest.raises(NotImplementedError, match=re.escape(REFUSED[name])):
            to_onnx(jaxpr, [*names, *made], "row")
        return False
    model = to_onnx(jaxpr, [*names, *made], "row")
    outs = run(model, dict(zip(names, (parts(x._data) for x in ins), strict=True)))
    wanted = [parts(x._data) for x in eval_jaxpr(jaxpr, *ins)]
    outs, wanted = (without_signs(name, found) for found in (outs, wanted))
    for got, want in zip(outs, wanted, strict=True):
        got, want = np.asarray(got), np.asarray(want)
        assert (got.shape, got.dtype) == (want.shape, want.dtype), name
        got, want = got.astype("float64"), want.astype("float64")
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-4, err_msg=name)
    return True


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_primitive_that_has_a_counterpart():
    """The first rows of the op table that every rule is in, by ONNX's reference evaluator."""
    pytest.importorskip("onnx")
    found, seen = 0, set()
    for name, ins, jaxpr in table():
        kinds = {(e.prim.name, v.aval.dtype.kind) for e in jaxpr.eqns for v in e.invars[:1]}
        kinds |= {(e.prim.name, None) for e in jaxpr.eqns}
        if kinds <= seen and name not in REFUSED:
            continue
        seen |= kinds
        found += check_row(name, ins, jaxpr, lambda m, given: evaluator(m).run(None, given))
    assert found > 150
    assert set(RULES) | set(PAIRED) <= {name for name, _ in seen} | {"narrow_dot"}  # test_along.py


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("engine", ["reference", "onnxruntime"])
def test_the_whole_op_table(engine):
    pytest.importorskip("onnx")
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    run = by_runtime if engine == "onnxruntime" else lambda m, g: evaluator(m).run(None, g)
    compared, missing = 0, collections.Counter()
    for name, ins, jaxpr in table():
        try:
            compared += check_row(name, ins, jaxpr, run)
        except NoKernel as error:
            missing[str(error)] += 1
    print(f"{engine}: {compared} rows compared; no kernels: {dict(missing)}")
    assert compared > 750
    assert sum(missing.values()) <= (40 if engine == "onnxruntime" else 0)


class NoKernel(Exception):
    """An engine has no code for an operator and a type."""


def by_runtime(model, given):
    """Run a model by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        run = onnxruntime.InferenceSession(model.SerializeToString(), options)
        return run.run(None, {v.name: given[v.name] for v in run.get_inputs()})
    except Exception as error:
        if "NOT_IMPLEMENTED" not in str(error) and "umpy" not in str(error):
            raise
        what = re.search(r"for (\w+)\(|(bfloat16|Numpy_type)", str(error))
        raise NoKernel(what.group(0) if what else str(error)) from None


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
    said = r"schur at .*: of real matrices, whose blocks are .*, has no counterpart in ONNX"
    with pytest.raises(NotImplementedError, match=said):
        exported.to_onnx()


def test_complex_numbers_are_pairs_of_reals():
    """In loops, branches and constants too; arguments and results have a last axis of 2."""
    pytest.importorskip("onnx")
    c = ft.random.normal(KEYS[0], (3,), "complex64")

    def f(z, n):
        y = ft.lax.while_loop(
            lambda s: (s[0] < n) & (abs(s[1]).max() < 9),
            lambda s: (s[0] + 1, s[1] * 2j + c),
            (0, z),
        )[1]
        total, each = ft.lax.scan(lambda s, x: (s * x, {"z": s + c[0], "r": x.real}), c[0], z)
        w = ft.lax.switch(n, [jnp.exp, lambda v: v / c, lambda v: v * c.conj()], z)
        return y, total, each, w, {"a": jnp.angle(w), "one": jnp.complex64(1j)}

    z = ft.random.normal(KEYS[1], (3,), "complex64")
    exported = ft.export(f)(SPEC((3,), "complex64"), SPEC((), "int32"))
    model = exported.to_onnx()
    shape = model.graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [3, 2]
    for n in (0, 1, 2):
        outs = evaluator(model).run(None, {"z": parts(z), "n": np.int32(n)})
        for got, want in zip(outs, ft.tree.leaves(exported.call(z, jnp.int32(n))), strict=True):
            np.testing.assert_allclose(got, parts(want), rtol=1e-4, atol=1e-5)


def test_spectra_of_any_batch():
    """Fourier transforms along and across an axis whose size is known later."""
    pytest.importorskip("onnx")
    (b,) = export.symbolic_shape("b")

    def f(x):
        spectrum = jnp.fft.rfft(x, axis=1)
        low = jnp.fft.irfft(spectrum * jnp.exp(-jnp.arange(5) / 2), n=8, axis=1)
        return low, abs(jnp.fft.fft(x, axis=0)), jnp.fft.fft2(x).real, spectrum

    exported = ft.export(f)(SPEC((b, 8), "float32"))
    run = evaluator(exported.to_onnx())
    for n in (2, 7):
        x = ft.random.normal(KEYS[2], (n, 8))
        outs = run.run(None, {"x": np.asarray(x)})
        for got, want in zip(outs, exported.call(x), strict=True):
            np.testing.assert_allclose(got, parts(want), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_complex_functions_at_the_ends():
    """Zeros of both signs, cuts, huge and tiny numbers, infinities."""
    pytest.importorskip("onnx")
    ends = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 1e-20, 1e18, -1e18], "float32")
    z = (ends + 1j * ends[:, None]).astype("complex64")
    z.imag[:] = np.broadcast_to(ends[:, None], z.shape)  # 1j * 0.0 lost signs
    fs = (jnp.sqrt, jnp.log, jnp.abs, jnp.log1p, jnp.arctan, jnp.tanh, jnp.angle)
    exported = ft.export(lambda z: [f(z) for f in fs] + [1 / z, z / (2 - 3j)])(jnp.asarray(z))
    outs = evaluator(exported.to_onnx()).run(None, {"z": parts(z)})
    for got, want in zip(outs, exported.call(z), strict=True):
        np.testing.assert_allclose(got, parts(want), rtol=1e-4, atol=1e-30)


def test_factorisations_of_any_batch():
    """What is written as a program is rewritten at several sizes, and they are compared."""
    pytest.importorskip("onnx")
    (b,) = export.symbolic_shape("b")
    exported = ft.export(lambda a: (jnp.linalg.inv(a), jnp.cumprod(a, 1)))(SPEC((b, 3, 3), "f4"))
    run = evaluator(exported.to_onnx())
    for n in (2, 5):
        a = ft.random.normal(KEYS[0], (n, 3, 3))
        for got, want in zip(run.run(None, {"a": np.asarray(a)}), exported.call(a), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    exported = ft.export(lambda x: jnp.cumprod(x, 0))(SPEC((b, 2), "f4"))
    said = r"number of operations depends on a size.*to_onnx\(path, b=11\)"
    with pytest.raises(NotImplementedError, match=said):
        exported.to_onnx()
    model = exported.to_onnx(b=4)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    x = ft.random.normal(KEYS[1], (4, 2))
    (got,) = evaluator(model).run(None, {"x": np.asarray(x)})
    np.testing.assert_allclose(got, jnp.cumprod(x, 0), rtol=1e-5)
    with pytest.raises(TypeError, match=r"to_onnx takes the symbolic sizes: b; got"):
        exported.to_onnx(n=4)
