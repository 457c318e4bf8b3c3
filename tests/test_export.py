"""Exported programs: what they give, any size of an axis, files that are damaged or hostile."""

import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import coverage_matrix
import numpy as np
import pytest
from op_table import arrays

import funtorch as ft
import funtorch.numpy as jnp
from funtorch import export, nnx
from funtorch.io import files
from funtorch.io.programs import NotPortable, decode_jaxpr, encode_jaxpr
from funtorch.jaxpr import stage
from funtorch.transforms.export import _portable

KEYS = ft.random.split(ft.random.key(0), 4)
SPEC = ft.ShapeDtypeStruct


def network():
    return nnx.Sequential(
        nnx.Linear(8, 16, key=KEYS[0]), nnx.LayerNorm(16), nnx.GELU(),
        nnx.Linear(16, 3, key=KEYS[1]),
    )  # fmt: skip


def exported_network(shape=(4, 8)):
    model = network()
    return export.export(lambda x: {"p": ft.nn.softmax(model(x)), "mean": model(x).mean(0)})(
        SPEC(shape, "float32")
    )


# ------------------------------------------------------------------------------ programs
def test_every_primitive_is_written_and_read():
    seen, refused = 0, set()
    for row in coverage_matrix.all_rows():
        ins = arrays(row.samples[0])
        jaxpr = _portable(stage(row.flat, [x.aval for x in ins]).hoisted())
        try:
            node = encode_jaxpr(jaxpr)
        except NotPortable as error:
            refused.add(error.place.split()[0])
            continue
        again = decode_jaxpr(json.loads(json.dumps(node)), {})
        assert str(again) == str(jaxpr), row.name
        seen += 1
    assert seen > 250
    assert refused == {"pure_callback"}


def test_a_program_gives_what_its_function_gives_and_has_its_derivatives():
    model = network()
    exported = export.export(ft.jit(model))(SPEC((4, 8), "float32"))
    again = export.deserialize(exported.serialize())
    x = ft.random.normal(KEYS[2], (4, 8))
    np.testing.assert_allclose(again.call(x), model(x), rtol=1e-6, atol=1e-6)
    for f in (model, again.call):
        assert f(x).shape == (4, 3)
    got, want = (ft.grad(lambda x, f=f: (f(x) ** 2).sum())(x) for f in (again.call, model))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    got, want = (ft.jit(ft.vmap(f))(x[:, None].repeat(4, 1)) for f in (again.call, model))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert [a.shape for a in again.in_avals] == [(4, 8)]
    assert [a.shape for a in again.out_avals] == [(4, 3)]


def test_custom_rules_are_in_files_that_hold_derivatives():
    @ft.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))

    def f(p, x, n):
        return {"y": (clipped(x * p["w"]) ** 2).sum(-1) * n, "next": n + 1}

    (b,) = export.symbolic_shape("b")
    p, x = {"w": jnp.array([1.0, 2.0, 3.0])}, jnp.arange(12.0).reshape(4, 3)
    exported = export.export(f)(p, SPEC((b, 3), "float32"), 1)
    want = ft.grad(lambda p: f(p, x, 2)["y"].sum())(p)["w"]
    files_of = [exported.serialize(vjp_order=k) for k in range(3)]
    assert export.deserialize(files_of[1]).serialize() == files_of[1]
    for order, data in enumerate(files_of):
        again = export.deserialize(data)
        assert again.call(p, x, 2)["next"] == 3
        got = ft.jit(ft.grad(lambda p, again=again: again.call(p, x, 2)["y"].sum()))(p)["w"]
        each = ft.vmap(
            ft.grad(lambda p, x, again=again: again.call(p, x[None], 2)["y"][0]), (None, 0)
        )
        np.testing.assert_allclose(each(p, x)["w"].sum(0), got, rtol=1e-6)
        assert np.allclose(got, want, rtol=1e-6) == (order > 0)
        assert [a.dtype.name for a in again.vjp().out_avals] == ["float32", "float32"]
    other = export.export(jnp.sin)(SPEC((2,), "float32"))
    consts, about = files.loads(bytes(files_of[1]), "it")
    about["vjp"] = {**other._about, "version": 1, "constants": []}
    with pytest.raises(ValueError, match="its derivative is of another program"):
        export.deserialize(files.dumps(consts, about))
    for wrong in ({"constants": [99]}, {"program": 1}, {"symbols": []}, {"inputs": {}}):
        consts, about = files.loads(bytes(files_of[1]), "it")
        about["vjp"].update(wrong)
        with pytest.raises(ValueError, match="exported program"):
            export.deserialize(files.dumps(consts, about))


def test_loops_branches_and_trees():
    def f(state, n):
        def body(carry, x):
            return carry * 0.9 + x, carry.sum()

        last, sums = ft.lax.scan(body, state["x"][0], state["x"])
        twice, _ = ft.lax.while_loop(lambda s: s[1] < 10, lambda s: (s[0] * 2, s[1] + 1), (last, n))
        chosen = ft.lax.cond(n > 3, lambda a: a.sum(), lambda a: a.max(), sums)
        return (twice, [chosen, None]), {"special": ft.scipy.special.bessel_jn(state["x"][0], v=2)}

    state = {"x": ft.random.uniform(KEYS[2], (6, 4)), "unused": ()}
    exported = export.export(f)(state, 1)
    for n in (1, 7):
        got, want = exported.call(state, n), f(state, n)
        assert ft.tree.structure(got) == ft.tree.structure(want)
        for a, b in zip(ft.tree.leaves(got), ft.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_fresh_process_runs_a_file_without_the_code(tmp_path):
    path = tmp_path / "model.ft"
    exported_network().save(path)
    np.save(tmp_path / "x.npy", np.ones((4, 8), np.float32))
    code = (
        "import numpy as np, sys, funtorch as ft\n"
        f"y = ft.export.load({str(path)!r}).call(np.load({str(tmp_path / 'x.npy')!r}))\n"
        "print(float(y['p'].sum()), 'funtorch.nnx' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, has_layers = run.stdout.split()
    assert float(total) == pytest.approx(4, abs=1e-5)
    assert has_layers == "False"


# ------------------------------------------------------------------------------ any size
def test_any_batch_size():
    model = network()
    (b,) = export.symbolic_shape("b")
    again = export.deserialize(exported_network((b, 8)).serialize())
    assert "float32[b,8]" in repr(again)
    for n in (1, 2, 7, 11, 64):
        x = ft.random.normal(KEYS[3], (n, 8))
        got = again.call(x)
        np.testing.assert_allclose(got["p"], ft.nn.softmax(model(x)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got["mean"], model(x).mean(0), rtol=1e-5, atol=1e-6)


def test_sizes_that_depend_on_each_other():
    t, d = export.symbolic_shape("t, d")

    def f(x, y):
        middle = ft.lax.scan(lambda c, a: (c + a.mean(), c), 0.0, x)[1]
        return jnp.concatenate([x, y]).reshape(-1), middle[: x.shape[0] // 2], x.sum() / x.size

    types = SPEC((t, d), "float32"), SPEC((2 * t + 1, d), "float32")
    exported = export.deserialize(export.export(f)(*types).serialize())
    for n, m in ((2, 3), (5, 1), (8, 8)):
        x, y = (ft.random.normal(KEYS[3], shape) for shape in ((n, m), (2 * n + 1, m)))
        for got, want in zip(exported.call(x, y), f(x, y), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match=r"takes float32\[1\+2\*t,d\] as y where t=2, d=3"):
        exported.call(jnp.ones((2, 3)), jnp.ones((4, 3)))


def test_a_function_that_looks_at_a_symbolic_size_is_refused():
    (n,) = export.symbolic_shape("n")
    with pytest.raises(ValueError, match=r"for any n: .* did not do the same"):
        export.export(lambda x: x.sum() if x.shape[0] > 12 else x.max())(SPEC((n,), "float32"))
    with pytest.raises(ValueError, match=r"'b/2' is no size"):
        export.symbolic_shape("b/2, 3")


def test_types_from_arguments():
    args = ({"w": jnp.ones((3, 2))}, jnp.ones((5, 3)))
    specs = export.symbolic_args_specs(args, (None, "b, ..."))
    exported = export.export(lambda p, x: x @ p["w"])(*specs)
    assert repr(exported) == "<exported <lambda>(p['w']: float32[3,2], x: float32[b,3])>"
    assert exported.call(args[0], jnp.ones((2, 3))).shape == (2, 2)


# ------------------------------------------------------------------------------ shared libraries
C_PROGRAM = """#include <stdio.h>
#include "model.h"
int main(void) {
  float x[2 * 36], p[2 * 3]; int32_t best[2];
  for (int k = 0; k < 72; k++) x[k] = (float)k / 72 - 0.5f;
  model_threads(2);
  if (model(x, best, p)) return 1;
  for (int k = 0; k < 6; k++) printf("%.9g ", p[k]);
  printf("%d %d", best[0], best[1]);
  return 0;
}
"""


@pytest.mark.skipif(not (sys.platform == "linux" and shutil.which("cc")), reason="no C compiler")
def test_a_c_program_runs_a_model(tmp_path):
    model = nnx.Sequential(
        nnx.Conv2d(1, 4, 3, key=KEYS[0]), nnx.ReLU(), nnx.MaxPool2d(2), nnx.Flatten(),
        nnx.Linear(16, 64, key=KEYS[1]), nnx.Tanh(), nnx.Linear(64, 3, key=KEYS[2]),
    )  # fmt: skip

    def f(x):
        y = model(x)
        total = ft.lax.fori_loop(0, 5, lambda k, t: t * 0.5 + y, y)
        return {"p": ft.nn.softmax(total), "best": y.argmax(-1)}

    (b,) = export.symbolic_shape("b")
    exported = export.export(f)(SPEC((b, 1, 6, 6), "float32"))
    header = exported.to_shared(tmp_path / "model.so", b=2)
    assert "int model(const float *x, int32_t *result_best, float *result_p);" in header.read_text()
    (tmp_path / "main.c").write_text(C_PROGRAM)
    run = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=tmp_path)
    run(["cc", "main.c", "./model.so", "-o", "main"])
    got = [float(x) for x in run(["./main"]).stdout.split()]
    want = f((jnp.arange(72, dtype="float32") / 72 - 0.5).reshape(2, 1, 6, 6))
    np.testing.assert_allclose(got[:6], want["p"].ravel(), rtol=1e-5)
    assert got[6:] == want["best"].tolist()
    needs = run(["ldd", "model.so"]).stdout
    assert "libc.so" in needs or "statically linked" in needs
    assert not any(word in needs for word in ("python", "LLVM", "openblas", "stdc++"))


@pytest.mark.skipif(not (sys.platform == "linux" and shutil.which("cc")), reason="no C compiler")
def test_threads_call_a_library_that_solves(tmp_path):
    """LAPACK lies beside; calls at the same time have memory of their own."""

    def f(a, b):
        w, v = jnp.linalg.eigh(a @ a.T)
        return jnp.linalg.solve(a, b), (v * w) @ v.T

    exported = export.export(f)(SPEC((6, 6), "float64"), SPEC((6, 2), "float64"))
    exported.to_shared(tmp_path / "solve.so", link="bundle")
    (other,) = (p for p in tmp_path.iterdir() if "openblas" in p.name)
    needs = subprocess.run(["ldd", tmp_path / "solve.so"], capture_output=True, text=True).stdout
    assert str(other) in needs
    function = ctypes.CDLL(str(tmp_path / "solve.so")).solve

    def solved(seed):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(6, 6)), rng.normal(size=(6, 2))
        x, power = np.empty_like(b), np.empty_like(a)
        for _ in range(50):
            assert function(*(v.ctypes.data_as(ctypes.c_void_p) for v in (a, b, x, power))) == 0
        np.testing.assert_allclose(a @ x, b, atol=1e-9)
        np.testing.assert_allclose(power, a @ a.T, atol=1e-9)
        return seed

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(solved, range(8))) == list(range(8))


def test_what_a_library_cannot_hold_is_named(tmp_path):
    exported = export.export(jnp.linalg.eigh)(SPEC((3, 3), "float32"))
    with pytest.raises(NotImplementedError, match=r"calls LAPACK's .* link='bundle'"):
        exported.to_shared(tmp_path / "m.so")
    with pytest.raises(ValueError, match="link='static' is neither 'alone' nor 'bundle'"):
        exported.to_shared(tmp_path / "m.so", link="static")
    with pytest.raises(ValueError, match="is no name of a C function"):
        exported.to_shared(tmp_path / "my-model.so")
    (b,) = export.symbolic_shape("b")
    with pytest.raises(TypeError, match="takes the symbolic sizes: b; got"):
        export.export(jnp.sin)(SPEC((b,), "float32")).to_shared(tmp_path / "m.so")


# ------------------------------------------------------------------------------ bad input
def test_wrong_arguments_are_named():
    exported = exported_network()
    with pytest.raises(TypeError, match=r"takes float32\[4,8\] as x, got f32\[4,7\]"):
        exported.call(jnp.ones((4, 7)))
    with pytest.raises(TypeError, match=r"missing: x; not expected.*\['y'\]"):
        exported.call(y=jnp.ones((4, 8)))


def test_what_is_no_data_is_refused():
    spec = SPEC((2,), "float32")
    with pytest.raises(TypeError, match=r"pure_callback at .*test_export.py:\d+"):
        export.export(lambda x: ft.pure_callback(np.sin, spec, x))(spec)
    with pytest.raises(TypeError, match="dicts, lists and tuples"):
        export.export(lambda x: nnx.Linear(2, 2, key=KEYS[0]))(spec)
    with pytest.raises(TypeError, match="unexpected keyword argument 'platform'"):
        ft.export(lambda x: x, platform="tpu")


def test_damaged_files_are_errors(tmp_path):
    data = bytes(exported_network().serialize())
    rng = np.random.default_rng(0)
    for cut in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match="exported program"):
            export.deserialize(data[:cut])
    for place in rng.integers(0, len(data), 200):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ValueError, match="exported program"):
            export.deserialize(flipped)
    ft.save(tmp_path / "other", {"a": jnp.ones(2)})
    with pytest.raises(ValueError, match="no exported program"):
        export.load(tmp_path / "other")


def test_hostile_programs_are_errors():
    """Files with right checksums whose programs are none: one thing is changed in each."""
    consts, about = files.loads(bytes(exported_network().serialize()), "it")
    equations = about["program"]["equations"]

    def changed(change):
        other = json.loads(json.dumps(about))
        change(other)
        return files.dumps(consts, other)

    def equation(k, part, value):
        return lambda a: a["program"]["equations"][k].__setitem__(part, value)

    hostile = [
        equation(0, 0, "os.system"),
        equation(0, 0, ["eval"]),
        equation(0, 2, [10**9]),
        equation(0, 2, [-1]),
        equation(0, 2, [[]]),
        equation(0, 3, [["float32", [10**15], False]]),
        equation(0, 3, [["object", [2], False]]),
        equation(1, 1, {"__class__": 1}),
        lambda a: a["program"].update(inputs=[]),
        lambda a: a["program"].update(outputs=[10**9]),
        lambda a: a["program"].update(equations=[equations[0]] * 2),
        lambda a: a.update(out_tree=["node", "os.system", [], []]),
        lambda a: a.update(out_tree=["list", [["none"]]]),
        lambda a: a.update(inputs=[]),
        lambda a: a.update(names=["x", "y"]),
        lambda a: a.update(names=[["x"]]),
        lambda a: a["inputs"].__setitem__(0, ["float32", [1 << 60], False]),
        lambda a: a.update(version=99),
        lambda a: a.update(symbols="[" * 100_000),
        lambda a: a.pop("program"),
    ]
    export.deserialize(changed(lambda a: None))
    for data in map(changed, hostile):
        with pytest.raises(ValueError, match="exported program"):
            export.deserialize(data)


def test_programs_changed_at_random_are_errors_or_run():
    """Parts of the description are exchanged, removed and made huge; the checksums are right."""
    pick = random.Random(0)
    consts, about = files.loads(bytes(exported_network().serialize()), "it")
    odd = [0, -1, 1 << 31, 1 << 63, 10**30, "", "float32", "while", None, [], {}, True, 0.5, [[]]]

    def places(node, found):
        for key in node if isinstance(node, dict) else range(len(node)):
            found.append((node, key))
            if isinstance(node[key], (dict, list)):
                places(node[key], found)
        return found

    shown, messages = [], []
    for _ in range(150):
        other = json.loads(json.dumps(about))
        found = places(other, [])
        (node, key), (source, place) = pick.choice(found), pick.choice(found)
        node[key] = pick.choice([*odd, json.loads(json.dumps(source[place]))])
        try:
            made = export.deserialize(files.dumps(consts, other))
            shown.append((repr(made), made.in_avals))
        except ValueError as error:
            messages.append(str(error))
    assert 100 < len(messages) < 150
    assert len(shown) + len(messages) == 150
    assert all("exported program" in m for m in messages)


def test_saving_is_atomic(tmp_path):
    exported_network().save(tmp_path / "m.ft")
    assert os.listdir(tmp_path) == ["m.ft"]
    assert export.load(tmp_path / "m.ft").fun_name == "<lambda>"
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none to write m\.ft to"):
        exported_network().save(tmp_path / "none" / "m.ft")


def test_keys_have_names():
    exported = export.export(lambda k: ft.random.normal(k, (3,)))(ft.random.key(0))
    assert repr(exported) == "<exported <lambda>(k[0]: uint32[2])>"


def test_loops_of_other_sizes_than_their_operands_are_errors():
    """What native code would read beyond an array's end."""

    def f(x):
        y = ft.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (0, x))[1]
        _, z = ft.lax.scan(lambda c, a: (c, c * a), 2.0, y)
        return ft.lax.cond(z[0] > 0, lambda v: v * 2, lambda v: v + 1, z)

    consts, about = files.loads(bytes(export.export(f)(SPEC((2,), "float32")).serialize()), "it")
    for name in ("while", "scan", "cond"):
        other = json.loads(json.dumps(about))
        equations = other["program"]["equations"]
        k = next(k for k, e in enumerate(equations) if e[0] == name)
        text = json.dumps(equations[k]).replace('"float32", [2]', '"float32", [1000000]')
        text = text.replace('["tuple", [2]]', '["tuple", [1000000]]')
        equations[k] = json.loads(text.replace('"length": 2', '"length": 1000000'))
        with pytest.raises(ValueError, match=f"exported program.*({name}|length 1000000)"):
            export.deserialize(files.dumps(consts, other))
    text = json.dumps(about).replace('["while"', '["remat"')
    other = json.loads(text.replace('"body_jaxpr"', '"jaxpr"'))
    with pytest.raises(ValueError, match="exported program"):
        export.deserialize(files.dumps(consts, other))
