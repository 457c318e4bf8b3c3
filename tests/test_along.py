"""Products of rows by rows, of floats and of small integers, which are read along their sums."""

import ctypes
import mmap
import sys

import numpy as np
import pytest
from test_kernels import steps

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import export
from funtorch.backends.cpu import along, vectors
from funtorch.backends.cpu.blas import library_of
from funtorch.backends.cpu.codegen import NONE, object_code
from funtorch.backends.cpu.runtime import load
from funtorch.ops import narrow
from funtorch.transforms import qproducts  # noqa: F401  (which has the rules)

RNG = np.random.default_rng(5)
MACHINES = {"avx512": (64, 24), "avx2": (32, 12), "neon or sse": (16, 12)}


def narrow_dot(*operands):
    return narrow.narrow_dot(*map(fnp.asarray, operands))


def normal(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def weights(kind, n, k, groups):
    """Return the operands after the floats, and what they stand for in float64."""
    if kind.startswith("float"):
        b = normal(n, k, dtype=kind)
        return (b,), b.astype(np.float64)
    most = 8 if kind == "nibbles" else 128
    q = RNG.integers(-most, most, (n, groups, k // groups))
    scale = RNG.random((n, groups)).astype(np.float32) + 0.5
    if kind == "bytes":
        return (q.reshape(n, k).astype(np.int8),), q.reshape(n, k).astype(np.float64)
    whole = (q * scale[..., None].astype(np.float64)).reshape(n, k)
    if kind == "scaled":
        return (q.reshape(n, k).astype(np.int8), scale), whole
    half = k // groups // 2
    both = (q + 8).astype(np.uint8)
    packed = both[..., :half] | (both[..., half:] << 4)
    return (packed.reshape(n, k // 2), scale), whole


SIZES = [(1, 5, 64, 1), (3, 9, 66, 1), (5, 17, 96, 3), (8, 7, 130, 1), (11, 40, 192, 2)]


@pytest.mark.parametrize("kind", ["bytes", "scaled", "nibbles"])
def test_rows_of_integers(kind):
    run = ft.jit(narrow_dot)
    for m, n, k, groups in [*SIZES, (70, 33, 256, 4), (2, 3, 2, 1)]:
        x = normal(m, k)
        given, whole = weights(kind, n, k, groups)
        want = x.astype(np.float64) @ whole.T
        limit = 1e-6 * np.abs(x) @ np.abs(whole.T)
        for f in (run, narrow_dot):
            assert np.all(np.abs(np.asarray(f(x, *given)) - want) <= limit), (m, n, k, groups)


def test_the_library_makes_them_and_fuses_what_follows():
    given, whole = weights("nibbles", 300, 64, 1)
    f = lambda x: ft.nn.relu(narrow_dot(x, *given) + 1.0).max(1)
    x = normal(200, 64)
    assert "dot_general, then" in str(ft.explain(f)(x))
    assert np.allclose(ft.jit(f)(x), np.maximum(x @ whole.T + 1.0, 0).max(1), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["bytes", "scaled", "nibbles"])
def test_transforms(kind):
    given, whole = weights(kind, 5, 32, 1 if kind == "bytes" else 2)
    f = lambda x: narrow_dot(x, *given)
    x, t, ct, xs = normal(3, 32), normal(3, 32), normal(3, 5), normal(4, 3, 32)
    for g in (f, ft.jit(f)):
        assert np.allclose(ft.vjp(g, x)[1](ct)[0], ct @ whole, atol=1e-4, rtol=1e-4)
        assert np.allclose(ft.jvp(g, (x,), (t,))[1], t @ whole.T, atol=1e-4, rtol=1e-4)
        assert np.allclose(ft.vmap(g)(xs), xs @ whole.T, atol=1e-4, rtol=1e-4)
    many = [np.stack([x] * 2) for x in given]
    assert np.allclose(ft.jit(ft.vmap(narrow_dot))(xs[:2], *many), xs[:2] @ whole.T, atol=1e-3)


def test_operands_that_do_not_fit_are_named():
    x, q, dot = normal(2, 8), np.zeros((3, 8), np.int8), ft.jit(narrow_dot)
    with pytest.raises(TypeError, match=r"takes a float32 \(M, K\).*got f64\[2,8\]"):
        dot(x.astype(np.float64), q)
    with pytest.raises(TypeError, match=r"rows of one length.*i8\[3,8\]"):
        dot(x[:, :6], q)
    with pytest.raises(TypeError, match="rows of one length"):
        dot(x, q, np.ones((3, 3), np.float32))


def at_the_end_of_a_page(x, held):
    """Return a copy of an array behind which reading is an error."""
    page = mmap.PAGESIZE
    size = -(-x.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    held.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(ctypes.c_void_p(start + size), ctypes.c_size_t(page), 0) == 0
    there = np.frombuffer(memory, np.uint8, x.nbytes, size - x.nbytes)
    there = there.view(x.dtype).reshape(x.shape)
    there[...] = x
    return there


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", ["float32", "float64", "bytes", "scaled", "nibbles"])
def test_nothing_is_read_beyond_the_end_on_any_machine(kind, machine, monkeypatch):
    if along.registers()[0] < MACHINES[machine][0]:
        pytest.skip("the processor has shorter vectors")
    for module in (along, vectors):
        monkeypatch.setattr(module, "registers", lambda: MACHINES[machine])
    lanes, held = vectors.lanes_of(along.ALONG[kind]), []
    for m, n, k, groups in [(3, 9, 66, 1), (8, 5, 96, 3)]:
        groups = groups if kind in ("scaled", "nibbles") else 1
        for rows in (1, 3):
            for copied in (False, True):
                given, whole = weights(kind, n, k, groups)
                a = at_the_end_of_a_page(normal(m, k, dtype=whole.dtype), held)
                a = at_the_end_of_a_page(a.astype(np.float64 if kind == "float64" else "f4"), held)
                given = [at_the_end_of_a_page(x, held) for x in given]
                out = at_the_end_of_a_page(np.full((m, n), np.nan, a.dtype), held)
                b = given[0]
                if kind not in ("float32", "float64"):
                    b = np.array([x.ctypes.data for x in given], np.uint64)
                runs = groups * 2 * -(-k // groups // lanes) + 2 * groups
                slot = rows * runs * lanes * a.itemsize
                table = np.array(
                    [-(-n // 4), 1, m, n, m, 4, k // groups, groups, 0, 0, 0, k,
                     given[0].shape[1], n, 0, 64, slot, int(copied)], np.int64,
                )  # fmt: skip
                assert len(table) == len(along.ALONG_FIELDS)
                scratch = np.zeros(64 + slot, np.uint8)
                symbol = along.along_symbol(kind, rows)
                code = object_code(along.along_text(kind, rows), NONE)
                (address,), library = load(code, [symbol], ())
                types = [*[ctypes.c_void_p] * 5, ctypes.c_int64, ctypes.c_int64]
                run = ctypes.CFUNCTYPE(None, *types)(address)
                run(*(x.ctypes.data for x in (a, b, out, table, scratch)), 0, table[0])
                assert library is not None
                assert np.allclose(out, a.astype(np.float64) @ whole.T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_of_few_rows_are_read_along_sums(dtype):
    f = ft.jit(lambda x, w: x[1:, 3:] @ w[2:, :-3].T)
    for m, n, k in [(3, 5, 70), (9, 33, 259), (4, 70, 1024), (300, 5, 131), (40, 20, 700)]:
        x, w = normal(m, k, dtype=dtype), normal(n, k, dtype=dtype)
        want = x[1:, 3:].astype(np.float64) @ w[2:, :-3].T
        assert np.allclose(f(x, w), want, rtol=1e-5, atol=1e-4), (m, n, k)
    heads = ft.jit(lambda x, w: fnp.einsum("abik,abjk->abij", x, w))
    x, w = normal(2, 3, 4, 100, dtype=dtype), normal(2, 3, 7, 100, dtype=dtype)
    assert np.allclose(heads(x, w), np.einsum("abik,abjk->abij", x, w), atol=1e-4)
    (step,) = [
        s
        for s in steps(lambda x, w: x @ w.T, (8, 1024), (90, 1024), dtype=np.dtype(dtype))
        if hasattr(s, "sums")
    ]
    assert library_of(step) == along.along_symbol(np.dtype(dtype).name, 8)
    x, w = normal(8, 1024, dtype=dtype), normal(90, 1024, dtype=dtype)
    w[7, 5], x[2, 9] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        want = x @ w.T
    assert np.allclose(ft.jit(lambda x, w: x @ w.T)(x, w), want, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("kind", ["bytes", "scaled", "nibbles"])
def test_exported_programs_and_models_of_onnx_have_them(kind, tmp_path):
    given, whole = weights(kind, 5, 32, 1 if kind == "bytes" else 2)
    x = normal(3, 32)
    exported = ft.export(lambda x: narrow_dot(x, *given))(x)
    exported.save(tmp_path / "rows.ft")
    loaded = export.load(tmp_path / "rows.ft")
    assert "dot_general" in str(ft.explain(loaded.call)(x))
    assert np.allclose(loaded.call(x), x @ whole.T, rtol=1e-4, atol=1e-3)
    assert "stablehlo" in exported.to_stablehlo()
    reference = pytest.importorskip("onnx.reference")
    model = exported.to_onnx()
    operators = {node.op_type for node in model.graph.node}
    assert "MatMul" in operators
    assert ("DequantizeLinear" in operators) == (kind != "nibbles")
    (y,) = reference.ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})
    assert np.allclose(y, x @ whole.T, rtol=1e-4, atol=1e-3)
