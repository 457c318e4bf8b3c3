"""StableHLO text: what it says, and what XLA computes with it."""

import zlib

import coverage_matrix
import numpy as np
import pytest
from op_table import arrays
from test_onnx import REFUSED, without_signs

import funtorch as ft
import funtorch.numpy as jnp
from funtorch import export, nnx
from funtorch.backends import to_stablehlo
from funtorch.backends.onnx.without import REASONS
from funtorch.backends.stablehlo.rules import RULES
from funtorch.core import primitives
from funtorch.jaxpr import eval_jaxpr, stage
from funtorch.transforms.export import _portable

KEYS = ft.random.split(ft.random.key(0), 4)
SPEC = ft.ShapeDtypeStruct


@pytest.fixture
def xla():
    """Return what compiles a module's text and runs it on arrays."""
    jax = pytest.importorskip("jax")
    from jaxlib import _jax

    client, devices = jax.devices()[0].client, _jax.DeviceList(tuple(jax.devices()))
    if not hasattr(client, "compile_and_load"):
        pytest.skip("this jaxlib compiles modules in another way")

    def run(text, *inputs):
        with jax.enable_x64(True):
            given = [jax.device_put(np.asarray(x)) for x in inputs]
            compiled = client.compile_and_load(text, devices)
            return [np.asarray(x) for x in compiled.execute(given)]

    return run


def test_every_rule_is_of_a_primitive():
    names = {n for n in primitives if not n.startswith("test_") and "." not in n}
    assert names == set(RULES) | set(REASONS)
    assert not set(RULES) & set(REASONS)


@pytest.mark.parametrize("part", [40, pytest.param(1, marks=pytest.mark.parity)])
@pytest.mark.filterwarnings("ignore")
def test_xla_computes_the_op_table(xla, part):
    """A share of the rows in every run, all of them with -m parity."""
    compared, seen = 0, set()
    for row in coverage_matrix.all_rows():
        if zlib.crc32(row.name.encode()) % part:
            continue
        ins = arrays([np.asarray(a) for a in row.samples[0]])
        jaxpr = _portable(stage(row.flat, [x.aval for x in ins]))
        if row.name in REFUSED:
            with pytest.raises(NotImplementedError, match="StableHLO"):
                to_stablehlo(jaxpr, "row")
            continue
        outs = xla(to_stablehlo(jaxpr, "row"), *(x._data for x in ins))
        wanted = eval_jaxpr(jaxpr, *ins)
        outs, wanted = (without_signs(row.name, found) for found in (outs, wanted))
        for got, want in zip(outs, wanted, strict=True):
            got, want = np.asarray(got), np.asarray(want)
            assert (got.shape, got.dtype) == (want.shape, want.dtype), row.name
            wide = "complex128" if want.dtype.kind == "c" else "float64"
            got, want = got.astype(wide), want.astype(wide)
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-5, err_msg=row.name)
        compared += 1
        seen.update(eqn.prim.name for eqn in jaxpr.eqns)
    assert compared > (10 if part > 1 else 780)
    assert part > 1 or set(RULES) <= seen


def test_xla_trains_a_network_with_loops(xla):
    model = nnx.Sequential(
        nnx.Conv2d(1, 4, 3, key=KEYS[0]), nnx.GELU(), nnx.MaxPool2d(2), nnx.Flatten(),
        nnx.Linear(36, 3, key=KEYS[1]),
    )  # fmt: skip

    def f(x, key):
        def loss(x):
            y = ft.nn.log_softmax(model(x))
            y = ft.lax.fori_loop(0, 3, lambda k, y: y * 0.5 + y, y)
            return ft.lax.scan(lambda c, a: (c + a.max(), c), 0.0, y)[0]

        noise = ft.random.normal(ft.random.wrap_key_data(key), x.shape)
        n = jnp.argmax(x.sum((1, 2, 3)))
        return ft.grad(loss)(x + 0.1 * noise), ft.lax.switch(n, [jnp.sum, jnp.max], x)

    x, key = ft.random.normal(KEYS[2], (2, 1, 8, 8)), ft.random.key_data(KEYS[3])
    (b,) = export.symbolic_shape("b")
    exported = export.export(f)(SPEC((b, 1, 8, 8), "float32"), SPEC((2,), "uint32"))
    text = exported.to_stablehlo(b=2)
    assert exported.mlir_module(b=2) == text
    for got, want in zip(xla(text, x, key), f(x, key), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_text_and_errors(tmp_path):
    exported = export.export(lambda x: jnp.tanh(x) @ x.T)(SPEC((2, 3), "float32"))
    text = exported.to_stablehlo(tmp_path / "f.mlir")
    assert (tmp_path / "f.mlir").read_text() == text
    assert '"stablehlo.tanh"(%v1) : (tensor<2x3xf32>) -> (tensor<2x3xf32>)' in text
    assert "rhs_contracting_dimensions" in text
    exported = export.export(ft.scipy.linalg.schur)(SPEC((2, 2), "float32"))
    with pytest.raises(NotImplementedError, match=r"schur at .*: of real matrices.* StableHLO"):
        exported.to_stablehlo()
    (b,) = export.symbolic_shape("b")
    with pytest.raises(TypeError, match="to_stablehlo takes the symbolic sizes: b; got"):
        export.export(jnp.sin)(SPEC((b,), "float32")).to_stablehlo()
