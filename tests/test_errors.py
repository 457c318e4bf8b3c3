"""Bad input: each mistake is an error that names the argument, what came, and what to do."""

import re

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import errors
from funtorch.config import config

X = np.array([1.0, 2.0, 3.0])
KEPT = []


def keep(x):
    KEPT.append(x * 2)
    return x


def escape(transform):
    KEPT.clear()
    transform(keep)(X)
    return KEPT[0] + 1


def branch(x):
    return x if x > 0 else -x


def strictly(attempt):
    """Do what JAX does where Python decides by a traced value: raise."""
    with config.override(python_control_flow=False):
        return attempt()


def assign(x):
    x[0] = 1.0


# (what is done, the exception, fragments of its message)
MISTAKES = {
    "grad of a non-scalar": (
        lambda: ft.grad(lambda x: x * 2)(X),
        TypeError,
        [r"scalar output", r"<lambda> \(test_errors\.py:\d+\)", r"shape \(3,\)", "jacrev"],
    ),
    "grad of an integer": (
        lambda: ft.grad(lambda x: x * 2)(3),
        TypeError,
        ["argument 0", "int32", r"for instance 3\.0", "allow_int"],
    ),
    "grad of an integer leaf": (
        lambda: ft.grad(lambda p: p["a"]["n"] * 2.0)({"a": {"n": np.arange(3)}}),
        TypeError,
        [r"argument 0\['a'\]\['n'\]", "int64", r"astype\(float\)"],
    ),
    "grad of an integer result": (
        lambda: ft.grad(lambda x: (x > 0).sum())(X),
        TypeError,
        ["real-valued output", "int"],
    ),
    "grad of a complex result": (
        lambda: ft.grad(lambda x: x * 1j)(1.0),
        TypeError,
        ["real-valued output", "complex", "holomorphic=True"],
    ),
    "grad of a pair": (
        lambda: ft.grad(lambda x: (x, x))(1.0),
        TypeError,
        ["one scalar", "has_aux=True"],
    ),
    "argnums out of range": (
        lambda: ft.grad(lambda x: x, argnums=2)(1.0),
        ValueError,
        ["argnums=2", "1 positional"],
    ),
    "jvp with another structure": (
        lambda: ft.jvp(lambda x: x, (X,), (X, X)),
        TypeError,
        ["same structure"],
    ),
    "jvp with another shape": (
        lambda: ft.jvp(lambda x: x, (X,), (X[:2],)),
        TypeError,
        [r"f64\[3\]", r"f64\[2\]", "must be equal"],
    ),
    "jvp with a bare primal": (
        lambda: ft.jvp(lambda x: x, X, X),
        TypeError,
        ["tuples or lists", r"\(x,\)"],
    ),
    "vjp with another cotangent": (
        lambda: ft.vjp(lambda x: x, X)[1](X[:2]),
        ValueError,
        [r"f64\[3\]", r"f64\[2\]"],
    ),
    "vmap of different sizes": (
        lambda: ft.vmap(lambda a, b, c: a)(X, X, {"u": np.ones((4, 2))}),
        ValueError,
        ["one size", r"args\[2\]\['u'\] has shape \(4, 2\)", "size 3", "in_axes"],
    ),
    "vmap of a scalar": (
        lambda: ft.vmap(lambda a, b: a)(X, 1.0),
        ValueError,
        [r"args\[1\]", "scalar", "None"],
    ),
    "vmap axis out of range": (
        lambda: ft.vmap(lambda a: a, in_axes=2)(X),
        ValueError,
        ["axis 2", r"args\[0\]", r"\(3,\)"],
    ),
    "vmap in_axes of another length": (
        lambda: ft.vmap(lambda a: a, in_axes=(0, 0))(X),
        ValueError,
        ["2 entries for 1 positional"],
    ),
    "vmap in_axes that do not fit": (
        lambda: ft.vmap(lambda a: a["x"], in_axes=({"y": 0},))({"x": X}),
        ValueError,
        ["in_axes"],
    ),
    "vmap over nothing": (lambda: ft.vmap(lambda a: a, in_axes=None)(X), ValueError, ["axis_size"]),
    "vmap out_axes None": (
        lambda: ft.vmap(lambda a: a, out_axes=None)(X),
        ValueError,
        ["out_axes is None for output 0", "depends"],
    ),
    "vmap out_axes out of range": (
        lambda: ft.vmap(lambda a: a, out_axes=3)(X),
        ValueError,
        ["axis 3 of output 0", r"shape \(\)"],
    ),
    "vmap out_axes that do not fit": (
        lambda: ft.vmap(lambda a: (a, a), out_axes=(0, 0, 0))(X),
        ValueError,
        ["out_axes"],
    ),
    "tracer kept from jit": (
        lambda: escape(ft.jit),
        errors.UnexpectedTracerError,
        [r"keep \(test_errors\.py", r"test_errors\.py:\d+ \(keep\)", "return them"],
    ),
    "tracer kept from vmap": (
        lambda: escape(ft.vmap),
        errors.UnexpectedTracerError,
        [r"test_errors\.py:\d+ \(keep\)"],
    ),
    "tracer kept from grad": (
        lambda: escape(lambda f: ft.grad(lambda x: f(x).sum())),
        errors.UnexpectedTracerError,
        [r"test_errors\.py:\d+ \(keep\)"],
    ),
    "bool of a tracer": (
        lambda: strictly(lambda: ft.jit(branch)(1.0)),
        errors.TracerBoolConversionError,
        [
            r"branch \(test_errors\.py",
            r"test_errors\.py:\d+ \(branch\)",
            r"where",
            r"lax\.cond",
            "static_argnums",
        ],
    ),
    "int of a tracer": (
        lambda: ft.jit(lambda x: int(x))(1.0),
        errors.ConcretizationTypeError,
        ["Python int", r"test_errors\.py:\d+"],
    ),
    "float of a tracer": (
        lambda: ft.jit(lambda x: float(x))(1.0),
        errors.ConcretizationTypeError,
        ["Python float", "where"],
    ),
    "index by a tracer": (
        lambda: ft.jit(lambda i: [1, 2, 3][i])(1),
        errors.TracerIntegerConversionError,
        ["index", "asarray"],
    ),
    "range of a tracer": (
        lambda: ft.jit(lambda n: sum(range(n)))(3),
        errors.TracerIntegerConversionError,
        ["static_argnums"],
    ),
    "NumPy array of a tracer": (
        lambda: ft.jit(lambda x: np.array(x))(X),
        errors.TracerArrayConversionError,
        ["NumPy array", r"funtorch\.numpy\.array or stack", r"x\.at\[i\]\.set"],
    ),
    "NumPy array of a list of tracers": (
        lambda: ft.jit(lambda x: np.array([x, x]))(1.0),
        TypeError,
        ["funtorch"],
    ),
    "assignment into a NumPy array": (
        lambda: ft.jit(lambda x: np.zeros(3).__setitem__(0, x))(1.0),
        (TypeError, ValueError),
        ["Python float", "made at"],
    ),
    "boolean index under jit": (
        lambda: ft.jit(lambda x: x[x > 0])(X),
        errors.NonConcreteBooleanIndexError,
        ["where"],
    ),
    "static argument not hashable": (
        lambda: ft.jit(lambda x, n: x, static_argnums=1)(1.0, [1]),
        ValueError,
        ["static argument 1", "hashable", "list", "tuple"],
    ),
    "static keyword not hashable": (
        lambda: ft.jit(lambda x, n: x, static_argnames="n")(1.0, n={}),
        ValueError,
        ["'n'", "hashable", "dict"],
    ),
    "static name unknown": (
        lambda: ft.jit(lambda x: x, static_argnames="y"),
        ValueError,
        ["'y'", r"\['x'\]"],
    ),
    "argument that is no pytree": (
        lambda: ft.jit(lambda x: x)(object()),
        TypeError,
        ["argument", "object", "static_argnums"],
    ),
    "string argument": (
        lambda: ft.grad(lambda x: x)("abc"),
        TypeError,
        ["'abc'", "str", "<lambda>"],
    ),
    "result that is no pytree": (
        lambda: ft.jit(lambda x: "abc")(1.0),
        TypeError,
        ["output", "'abc'"],
    ),
    "not a function": (lambda: ft.jit(3), TypeError, ["jit takes a function", "int"]),
    "matmul shapes": (
        lambda: fnp.ones((2, 3)) @ fnp.ones((4, 5)),
        (TypeError, ValueError),
        [r"\(?2, ?3", r"\(?4, ?5"],
    ),
    "matmul of scalars": (
        lambda: fnp.matmul(fnp.asarray(1.0), fnp.ones(3)),
        (TypeError, ValueError),
        ["matmul"],
    ),
    "concatenate shapes": (
        lambda: fnp.concatenate([fnp.ones((2, 3)), fnp.ones((2, 4, 1))]),
        (TypeError, ValueError),
        ["2, ?3", "2, ?4, ?1"],
    ),
    "concatenate sizes": (
        lambda: fnp.concatenate([fnp.ones((2, 3)), fnp.ones((3, 4))]),
        (TypeError, ValueError),
        ["2, ?3", "3, ?4"],
    ),
    "broadcast shapes": (
        lambda: fnp.ones((2, 3)) + fnp.ones(4),
        (TypeError, ValueError),
        [r"float32\[2,3\]", r"float32\[4\]"],
    ),
    "broadcast_to shape": (
        lambda: fnp.broadcast_to(fnp.ones(3), (2, 4)),
        (TypeError, ValueError),
        [r"float32\[3\]", r"\(2, 4\)"],
    ),
    "reshape size": (
        lambda: fnp.ones(6).reshape(4, 2),
        (TypeError, ValueError),
        ["6", r"\(4, 2\)"],
    ),
    "dtype mismatch": (
        lambda: fnp.sin(fnp.asarray([True])) ^ fnp.asarray(1.5),
        TypeError,
        ["bitwise", "integers or bool", "float32"],
    ),
    "item assignment": (lambda: assign(fnp.ones(3)), TypeError, ["immutable", r"x\.at\["]),
    "index out of range": (lambda: fnp.ones(3)[5], IndexError, ["5", "3"]),
    "negative index out of range": (lambda: fnp.ones((2, 3))[0, -4], IndexError, ["-4", "3"]),
    "too many indices": (lambda: fnp.ones(3)[0, 0], IndexError, ["2", "1"]),
    "scan carry that changes": (
        lambda: ft.lax.scan(
            lambda c, x: ({"n": c["n"].astype("float32")}, None), {"n": fnp.ones(2, "int32")}, X
        ),
        TypeError,
        [r"carry\['n'\]", r"i32\[2\]", r"f32\[2\]"],
    ),
    "scan lengths": (
        lambda: ft.lax.scan(lambda c, x: (c, None), 0.0, (X, X[:2])),
        ValueError,
        [r"\(3,\)", r"\(2,\)"],
    ),
    "scan without length": (
        lambda: ft.lax.scan(lambda c, x: (c, None), 0.0, None),
        ValueError,
        ["pass length"],
    ),
    "cond structures": (
        lambda: ft.lax.cond(True, lambda x: x, lambda x: (x, x), 1.0),
        TypeError,
        ["same structure"],
    ),
    "cond types": (
        lambda: ft.lax.cond(True, lambda x: x, lambda x: x[:2], X),
        TypeError,
        [r"f64\[3\]", r"f64\[2\]"],
    ),
    "cond of an array": (
        lambda: ft.lax.cond(X > 0, lambda x: x, lambda x: x, X),
        TypeError,
        [r"bool\[3\]", "where"],
    ),
    "while_loop backwards with effects": (
        lambda: ft.grad(
            lambda x: ft.lax.while_loop(
                lambda v: v < 9,
                lambda v: v * v + ft.experimental.io_callback(np.sin, v, ft.lax.stop_gradient(v)),
                x,
            )
        )(2.0),
        NotImplementedError,
        ["while_loop", "io_callback", "pure_callback"],
    ),
    "while_loop condition": (
        lambda: ft.lax.while_loop(lambda v: v, lambda v: v, 1.0),
        TypeError,
        ["boolean scalar", r"f32\[\]"],
    ),
    "custom_vjp without rule": (
        lambda: ft.custom_vjp(lambda x: x)(1.0),
        AttributeError,
        ["defvjp"],
    ),
    "axis name not mapped": (
        lambda: ft.lax.psum(1.0, "batch"),
        NameError,
        ["'batch'", "axis_name"],
    ),
    "axis out of range": (
        lambda: fnp.sum(fnp.ones((2, 3)), axis=2),
        (ValueError, IndexError),
        ["2"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_message_says_what_came_and_what_to_do(name):
    attempt, kind, fragments = MISTAKES[name]
    with pytest.raises(kind) as caught:
        attempt()
    # NumPy raises an error of its own when an element cannot become a float; ours is its cause.
    message = f"{caught.value}\n{caught.value.__cause__ or ''}"
    missing = [f for f in fragments if not re.search(f, message)]
    assert not missing, f"{missing} not in: {message}"


def test_message_names_the_line_of_the_mistake():
    line = branch.__code__.co_firstlineno + 1
    with pytest.raises(
        errors.TracerBoolConversionError, match=rf"test_errors\.py:{line} \(branch\)"
    ):
        strictly(lambda: ft.jit(branch)(1.0))


def test_python_decides_by_traced_values_otherwise():
    assert [float(ft.jit(branch)(x)) for x in (2.0, -3.0)] == [2.0, 3.0]


def test_errors_leave_no_trace_behind():
    with pytest.raises(errors.TracerBoolConversionError):
        strictly(lambda: ft.jit(ft.vmap(ft.grad(branch)))(X))
    assert float(ft.grad(lambda x: x * x)(3.0)) == 6.0
    assert float(fnp.asarray(1.0) + 1) == 2.0


def test_indices_out_of_range_are_clamped_under_jit():
    x = fnp.asarray(X)
    assert float(ft.jit(lambda i: x[i])(7)) == 3.0
    np.testing.assert_array_equal(ft.jit(lambda i: x.at[i].set(9.0))(7), X)
    np.testing.assert_array_equal(x.at[np.array([7])].set(9.0, mode="drop"), X)
    assert np.isnan(x.at[np.array([7])].get(mode="fill")[0])


def test_a_key_may_be_used_twice():
    key = ft.random.key(0)
    np.testing.assert_array_equal(ft.random.uniform(key, (3,)), ft.random.uniform(key, (3,)))


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "complex128"])
def test_nothing_is_truncated(dtype):
    value = 2**40 + 1
    for x in (
        fnp.asarray(value, dtype=dtype),
        fnp.full((2,), value, dtype)[0],
        fnp.ones(2).astype(dtype)[0] * 0 + value,
    ):
        assert x.dtype == dtype
        assert int(np.asarray(x).real) == value
    assert fnp.arange(3, dtype=dtype).dtype == dtype
    assert ft.jit(lambda v: v * 1)(np.asarray(value, dtype)).dtype == dtype
