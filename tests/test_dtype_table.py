"""Result dtypes and weakness of functions x kinds of arguments, against recorded answers of JAX.

`dtype_table.json` maps function -> result -> the argument kinds that give it; a star marks a weak
result. The rows with a float64 argument were recorded in JAX's 64-bit mode, the others in its
default mode, so that the default float is float32 in all of them.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nn

TABLE = json.loads(Path(__file__).with_name("dtype_table.json").read_text(encoding="utf-8"))
# fmt: off
SHORT = {
    "bool": "bool", "int8": "i8", "uint8": "u8", "int32": "i32", "uint32": "u32", "float32": "f32",
    "bfloat16": "bf16", "float64": "f64", "complex64": "c64", "complex128": "c128",
}
# fmt: on
KINDS = {
    "2": 2,
    "2.": 2.0,
    "2j": 2j,
    "i32": fnp.asarray(np.int32(2)),
    "u8": fnp.asarray(np.uint8(2)),
    "f32": fnp.asarray(np.float32(2)),
    "f64": fnp.asarray(np.float64(2)),
    "bool": fnp.asarray(np.bool_(True)),
    "bf16": fnp.asarray(2, dtype="bfloat16"),
    "w*": fnp.multiply(fnp.asarray(2.0), 1),  # weak, but no Python scalar
}


def line(a):
    return fnp.atleast_1d(a)


# What is not simply the function of that name in funtorch.numpy, lax or nn.
PROGRAMS = {
    "where": lambda a, b: fnp.where(True, a, b),
    "clip_low": fnp.clip,
    "divmod0": lambda a, b: fnp.divmod(a, b)[0],
    "hstack2": lambda a, b: fnp.hstack([line(a), line(b)]),
    "stack2": lambda a, b: fnp.stack([fnp.asarray(a), fnp.asarray(b)]),
    "concatenate2": lambda a, b: fnp.concatenate([line(a), line(b)]),
    "at.add": lambda a, b: line(a).at[0].add(b),
    "at.max": lambda a, b: line(a).at[0].max(b),
    "at.min": lambda a, b: line(a).at[0].min(b),
    "at.set": lambda a, b: line(a).at[0].set(b),
    "select": lambda a, b: fnp.select([fnp.array(True)], [fnp.asarray(a)], b),
    "sum_product": lambda a, b: fnp.sum(fnp.asarray(a) * b),
    "mean_axis": lambda a: fnp.mean(line(a), axis=0),
    "index": lambda a: line(a)[0],
    "index_array": lambda a: line(a)[fnp.array([0])],
    "reshape": lambda a: fnp.reshape(a, (1,)),
    "broadcast_to": lambda a: fnp.broadcast_to(a, (2,)),
    "astype_f32": lambda a: fnp.asarray(a).astype("float32"),
    "jit": ft.jit(lambda x: x),
    "jit_double": ft.jit(lambda x: x * 2),
    "vmap": lambda a: ft.vmap(lambda x: x * 2)(line(a)),
    "grad_square": ft.grad(lambda x: x**2),
    "grad_sin": ft.grad(fnp.sin),
    "grad_where": ft.grad(lambda x: fnp.where(x > 0, x * x, 0.0)),
    "jvp_exp": lambda a: ft.jvp(fnp.exp, (a,), (a,))[1],
    "vjp_mul": lambda a: ft.vjp(lambda x: x * x, a)[1](fnp.multiply(a, 1))[0],
    "hessian_cube": ft.hessian(lambda x: x**3),
    "scan_carry": lambda a: lax.scan(lambda c, _: (c * 1, None), a, None, length=2)[0],
    "scan_stack": lambda a: lax.scan(lambda c, _: (c, c), a, None, length=2)[1],
    "while": lambda a: lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1]), (0, a))[1],
    "fori": lambda a: lax.fori_loop(0, 2, lambda i, c: c * 1, a),
    "fori_index": lambda a: lax.fori_loop(0, 2, lambda i, c: c + i, a),
    "map": lambda a: lax.map(lambda x: x * 2, line(a)),
    "checkpoint": ft.checkpoint(lambda x: x * 2),
    "nn.softmax": lambda a: nn.softmax(line(a)),
    "nn.log_softmax": lambda a: nn.log_softmax(line(a)),
    "lax.integer_pow": lambda a: lax.integer_pow(a, 2),
    "lax.select": lambda a, b: lax.select(fnp.array(True), fnp.asarray(a), fnp.asarray(b)),
}
# Where we differ on purpose: (function, arguments) -> ours. See docs/differences.md.
OURS = {
    ("power", "u8 i32"): "i32",
    ("power", "bool u8"): "u8",
    ("power", "2 u8"): "u8",
    ("nn.one_hot", "f64"): "f32",
    ("count_nonzero", "f64"): "i32",
    ("lax.cond", "f32 2."): "f32",
}
PROGRAMS["nn.one_hot"] = lambda a: nn.one_hot(fnp.asarray(a).astype(int), 3)
PROGRAMS["lax.cond"] = ft.jit(lambda a, b: lax.cond(a > 0, lambda: a, lambda: b))


def result(name, kinds):
    function = PROGRAMS.get(name)
    if function is None:
        space, _, tail = name.rpartition(".")
        function = getattr({"": fnp, "lax": lax, "nn": nn}[space], tail)
    out = function(*[KINDS[k] for k in kinds.split()])
    return SHORT[str(out.dtype)] + "*" * out.weak_type


@pytest.mark.parametrize("name", TABLE)
def test_dtype_and_weakness_are_those_of_jax(name):
    wrong = {}
    for expected, rows in TABLE[name].items():
        for kinds in rows.split(", "):
            found = result(name, kinds)
            if found != expected:
                wrong[kinds] = f"{found}, in JAX {expected}"
    assert not wrong


@pytest.mark.parametrize(("name", "kinds"), OURS)
def test_deliberate_differences_stand(name, kinds):
    assert result(name, kinds) == OURS[name, kinds]


def test_arrays_of_python_scalars_are_weak():
    assert fnp.array(2.0).weak_type
    assert fnp.asarray(2).weak_type
    assert not fnp.array([2.0]).weak_type
    assert not fnp.array(2.0, dtype=float).weak_type
    assert (fnp.array(2.0) * fnp.ones(2, "bfloat16")).dtype == "bfloat16"
    assert fnp.asarray(range(3)).tolist() == [0, 1, 2]
    assert fnp.array(range(0)).shape == (0,)
