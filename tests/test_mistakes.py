"""Sixty mistakes of users: the traceback ends in their file, and the message says what to do."""

import inspect
import os
import pickle
import subprocess
import sys
import traceback

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import errors, lax, nnx, optim
from funtorch.config import config

X = np.array([1.0, 2.0, 3.0], np.float32)
A, B = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
KEY = ft.random.key(0)


def arrays(*shapes):
    return [fnp.ones(s) for s in shapes]


def loss(params, x):
    hidden = fnp.tanh(x @ params["w1"])
    return (hidden @ params["w2"]).sum()


PARAMS = {"w1": np.ones((3, 4), np.float32), "w2": np.ones((4, 1), np.float32)}
WRONG = {**PARAMS, "w2": np.ones((5, 1), np.float32)}


def donated_twice():
    f = ft.jit(lambda x: x + 1, donate_argnums=0)
    x = fnp.ones(3)
    f(x)
    return x + 1


def assign(x):
    x[0] = 1.0
    return x


def kept(transform):
    box = []

    def keep(x):
        box.append(x * 2)
        return x.sum()

    transform(keep)(fnp.asarray(X))
    return box[0] + 1


def leaked():
    box = []
    with ft.check_leaks():
        ft.jit(lambda x: box.append(x * 2))(X)


def early(x):
    if x.sum() > 0:
        return x
    return -x


def strictly(f, x):
    with config.override(python_control_flow=False):
        return f(x)


def raises_itself(x):
    return {"a": x}["b"]


# What is done, and words that its message must have.
MISTAKES = {
    "matmul": (lambda: fnp.asarray(A) @ fnp.asarray(B), ["[2,3]", "[4,5]", "axis 1"]),
    "matmul under jit": (
        lambda: ft.jit(lambda a, b: a @ b)(A, B),
        ["a is float32[2,3]", "b is float32[4,5]", "transpose"],
    ),
    "matmul under grad": (
        lambda: ft.grad(loss)(WRONG, A),
        ["[2,4]", "in loss (", "params['w2'] is float32[5,1]", "transpose"],
    ),
    "matmul under vmap": (
        lambda: ft.vmap(loss, (None, 0))(WRONG, A),
        ["[4]", "params['w2'] is float32[5,1]"],
    ),
    "matmul under all": (
        lambda: ft.jit(ft.vmap(ft.value_and_grad(loss), (None, 0)))(WRONG, A),
        ["[4]", "params['w2'] is float32[5,1]"],
    ),
    "a view": (
        lambda: ft.jit(lambda params, x: x @ params["w1"].T)(PARAMS, A),
        ["x is float32[2,3]", "params['w1'] as float32[4,3]"],
    ),
    "a view under grad": (
        lambda: ft.grad(lambda params, x: (x @ params["w1"].T).sum())(PARAMS, A),
        ["x is float32[2,3]", "params['w1'] as float32[4,3]"],
    ),
    "a loop": (
        lambda: lax.scan(lambda c, rows: (c @ rows["w"], None), A, {"w": fnp.ones((2, 4, 3))}),
        ["c is float32[2,3]", "rows['w'] is float32[4,3]"],
    ),
    "parameters of a convolution": (
        lambda: ft.jit(lambda p, x: lax.conv(x, p["k"], (1, 1), "SAME"))(
            {"k": np.ones((4, 2, 3, 3), np.float32)}, np.ones((1, 3, 8, 8), np.float32)
        ),
        ["x is float32[1,3,8,8]", "p['k'] is float32[4,2,3,3]"],
    ),
    "a loop's carry loses its kind": (
        lambda: lax.scan(lambda c, x: (c.astype("int32"), x), 0.0, X),
        ["carry goes in as f32[] and comes out as i32[]"],
    ),
    "a loop's carry meets a NumPy number": (
        lambda: lax.fori_loop(0, 2, lambda _, c: c * np.sqrt(2.0), X),
        ["goes in as f32", "comes out as f64", "NumPy's own numbers are float64", "math.sqrt(2.0)"],
    ),
    "branches of two kinds": (
        lambda: lax.cond(True, lambda x: x, lambda x: x.astype("int32"), 1.0),
        ["output 0 of <lambda>", "f32[]", "i32[]", "convert"],
    ),
    "a condition that is a tuple": (
        lambda: lax.while_loop(lambda n: (n < 3,), lambda n: n + 1, 0),
        ["one boolean scalar", "PyTreeDef((*,)) of bool[]"],
    ),
    "a bound that is a float": (
        lambda: lax.fori_loop(0, 4.5, lambda i, x: x, 0),
        ["upper must be an integer", "f32[]"],
    ),
    "unroll": (
        lambda: lax.scan(lambda c, x: (c, x), 0.0, X, unroll=-1),
        ["unroll must be", "got -1"],
    ),
    "a platform": (
        lambda: lax.platform_dependent(X, tpu=lambda x: x),
        ["no function for 'cpu'", "only for 'tpu'", "pass default"],
    ),
    "a transpose of another shape": (
        lambda: ft.custom_derivatives.linear_call(
            lambda _, x: x.sum(), lambda _, ct: ct, (), fnp.asarray(X)
        ),
        ["like linear_args", "of f32[3]", "returned PyTreeDef(*) of f32[]"],
    ),
    "lax operands": (
        lambda: ft.jit(lambda p: lax.add(p[0], p[1]))((X, A)),
        ["p[0] is float32[3]", "p[1] is float32[2,3]", "broadcasts"],
    ),
    "a list of arrays": (
        lambda: ft.jit(lambda p: fnp.concatenate([p["a"], p["b"]]))({"a": A, "b": B}),
        ["p['a'] is float32[2,3]", "p['b'] is float32[4,5]"],
    ),
    "parameters of a layer": (
        lambda: ft.jit(lambda layer, x: layer(x))(nnx.Linear(3, 4, key=KEY), fnp.ones((2, 5))),
        ["x is float32[2,5]"],
    ),
    "dot": (lambda: fnp.dot(A, B), ["dot", "[2,3]", "[4,5]"]),
    "tensordot": (lambda: fnp.tensordot(A, B, 1), ["tensordot", "[2,3]", "[4,5]"]),
    "einsum output": (lambda: fnp.einsum("ij,jk->q", A, A.T), ["ij,jk->q", "'q'"]),
    "einsum sizes": (lambda: fnp.einsum("ij,jk->ik", A, B), ["ij,jk->ik", "[2,3]", "[4,5]"]),
    "einsum operands": (lambda: fnp.einsum("ij,jk->ik", A), ["ij,jk->ik"]),
    "add": (lambda: fnp.asarray(A) + fnp.asarray(B), ["add", "[2,3]", "[4,5]", "x[:, None]"]),
    "add under jit": (
        lambda: ft.jit(lambda a, b: a + b)(A, B),
        ["add", "[2,3]", "[4,5]", "x[:, None]"],
    ),
    "where": (lambda: fnp.where(A > 0, A, B), ["where", "[2,3]", "[4,5]"]),
    "broadcast_to": (lambda: fnp.broadcast_to(A, (5, 2)), ["[2,3]", "(5, 2)"]),
    "concatenate": (lambda: fnp.concatenate([A, B]), ["arrays[1]", "[2,3]", "[4,5]"]),
    "concatenate one": (lambda: fnp.concatenate([]), ["concatenate", "at least one"]),
    "stack": (lambda: fnp.stack([fnp.asarray(A), fnp.asarray(B)]), ["stack", "[2,3]", "[4,5]"]),
    "reshape": (lambda: fnp.asarray(A).reshape(4, 2), ["[2,3]", "(4, 2)", "6"]),
    "reshape twice -1": (lambda: fnp.reshape(A, (-1, -1)), ["-1"]),
    "transpose": (lambda: fnp.transpose(A, (0, 0)), ["transpose", "(0, 0)"]),
    "squeeze": (lambda: fnp.squeeze(A, 0), ["squeeze", "axis 0", "2"]),
    "axis": (lambda: fnp.sum(A, axis=2), ["sum", "axis 2", "2 axes", "-2 to 1"]),
    "axis under jit": (lambda: ft.jit(lambda a: a.mean(axis=3))(A), ["mean", "axis 3", "2 axes"]),
    "split": (lambda: fnp.split(fnp.ones(7), 3), ["7", "3"]),
    "conv features": (
        lambda: lax.conv(fnp.ones((1, 3, 8, 8)), fnp.ones((4, 2, 3, 3)), (1, 1), "SAME"),
        ["conv", "3", "2"],
    ),
    "conv rank": (
        lambda: lax.conv(fnp.ones((3, 8, 8)), fnp.ones((4, 3, 3, 3)), (1, 1), "SAME"),
        ["conv", "axes", "[3,8,8]", "[4,3,3,3]"],
    ),
    "item assignment": (lambda: assign(fnp.ones(3)), ["immutable", "x.at[i].set"]),
    "item assignment under jit": (lambda: ft.jit(assign)(X), ["immutable", "x.at[i].set"]),
    "if": (lambda: strictly(ft.jit(early), X), ["bool[]", "early", "lax.cond", "where"]),
    "float": (lambda: ft.jit(lambda x: float(x.sum()))(X), ["float32[]|f32[]", "astype(float)"]),
    "int": (lambda: ft.jit(lambda x: int(x[0]))(X), ["Python int", "astype('int32')"]),
    "item": (lambda: ft.jit(lambda x: x.sum().item())(X), [".item()"]),
    "np.array": (lambda: ft.jit(lambda x: np.array(x))(X), ["NumPy array", "funtorch.numpy"]),
    "range": (lambda: ft.jit(lambda n: sum(range(n)))(3), ["index", "static_argnums"]),
    "list index": (lambda: ft.jit(lambda i: [1, 2][i])(1), ["asarray(seq)[i]"]),
    "shape from a tracer": (lambda: ft.jit(lambda n: fnp.zeros(n))(3), ["static_argnums"]),
    "boolean mask": (lambda: ft.jit(lambda x: x[x > 0])(X), ["where"]),
    "vmap sizes": (
        lambda: ft.vmap(lambda p, x: x)({"w1": A}, X),
        ["args[0]['w1'] (p['w1'])", "args[1] has shape (3,)", "(x)", "size", "in_axes"],
    ),
    "vmap in_axes length": (lambda: ft.vmap(fnp.add, in_axes=(0,))(X, X), ["1 entries", "2"]),
    "vmap in_axes range": (lambda: ft.vmap(fnp.sin, in_axes=1)(X), ["axis 1", "(3,)"]),
    "vmap scalar": (lambda: ft.vmap(fnp.add)(X, 1.0), ["args[1]", "scalar", "None"]),
    "grad of a vector": (lambda: ft.grad(lambda x: x * 2)(X), ["scalar", "(3,)", "jacrev"]),
    "grad of an integer": (lambda: ft.grad(lambda x: x * 2.0)(3), ["int32", "3.0", "allow_int"]),
    "grad of an integer leaf": (
        lambda: ft.grad(lambda p: p["n"] * 1.0)({"n": 3}),
        ["argument 0['n'] (p['n'])", "int32"],
    ),
    "grad without has_aux": (lambda: ft.grad(lambda x: (x, x))(1.0), ["has_aux=True"]),
    "jvp tangent": (lambda: ft.jvp(fnp.sin, (X,), (A,)), ["f32[3]", "f32[2,3]"]),
    "vjp cotangent": (lambda: ft.vjp(fnp.sin, X)[1](A), ["f32[3]", "f32[2,3]"]),
    "scan carry": (lambda: lax.scan(lambda c, x: (c + X, x), 0.0, X), ["carry", "f32[]", "f32[3]"]),
    "scan result": (lambda: lax.scan(lambda c, x: c, 0.0, X), ["pair"]),
    "cond branches": (
        lambda: lax.cond(True, lambda x: x, lambda x: x[:2], X),
        ["f32[3]", "f32[2]"],
    ),
    "cond predicate": (lambda: lax.cond(X > 0, fnp.sin, fnp.cos, X), ["bool[3]", "where"]),
    "while condition": (lambda: lax.while_loop(lambda v: v, fnp.sin, 1.0), ["boolean", "f32[]"]),
    "while carry": (
        lambda: lax.while_loop(lambda v: v.sum() < 9, lambda v: v[:2], X),
        ["f32[3]", "f32[2]"],
    ),
    "number as a key": (lambda: ft.random.normal(3, (2,)), ["key", "random.key"]),
    "no key": (lambda: ft.random.normal((2, 3)), ["key"]),
    "static list": (
        lambda: ft.jit(lambda x, n: x, static_argnums=1)(X, [1]),
        ["static argument 1", "list", "tuple"],
    ),
    "static array": (
        lambda: ft.jit(lambda x, n: x, static_argnames="n")(X, n=fnp.ones(2)),
        ["'n'", "hashable"],
    ),
    "string to jit": (
        lambda: ft.jit(lambda x, mode: x)(X, "sum"),
        ["str (mode)", "'sum'", "static"],
    ),
    "donated": (donated_twice, ["donated", "copy"]),
    "kept tracer": (lambda: kept(ft.jit), ["keep", "test_mistakes.py", "return them"]),
    "kept tracer of grad": (lambda: kept(ft.grad), ["keep", "return them"]),
    "leak": (leaked, ["f32[3]", "test_mistakes.py", "return them"]),
    "dtype": (lambda: fnp.ones(3, "flaot32"), ["flaot32"]),
    "bits of floats": (lambda: fnp.asarray(X) & 1, ["bitwise", "float32"]),
    "axis name": (lambda: ft.vmap(lambda x: lax.psum(x, "b"))(X), ["'b'", "axis_name"]),
    "optimizer tree": (lambda: optim.apply_updates(PARAMS, {"w1": PARAMS["w1"]}), ["w2"]),
    "layer input": (lambda: nnx.Linear(3, 4, key=KEY)(fnp.ones((2, 5))), ["(..., 3)", "(2, 5)"]),
    "loss shapes": (lambda: nnx.mse(fnp.ones((4, 1)), fnp.ones(4)), ["(4, 1)", "(4,)", "Reshape"]),
    "at too many": (lambda: fnp.ones(3).at[0, 0].set(1.0), ["too many", "1", "2"]),
    "at float index": (lambda: fnp.ones(3).at[1.5].set(1.0), ["integer", "float"]),
    "at value shape": (lambda: fnp.ones(3).at[:2].set(fnp.ones(3)), ["[3]", "(2,)"]),
    "index": (lambda: fnp.ones(3)[5], ["5", "3"]),
    "float index": (lambda: fnp.ones(3)[1.0], ["integer", "float"]),
    "inverse": (lambda: fnp.linalg.inv(A), ["inv", "square", "[2,3]"]),
    "cholesky": (lambda: fnp.linalg.cholesky(A), ["square", "[2,3]"]),
    "truth value": (lambda: bool(fnp.ones(3)), [".any()", ".all()"]),
    "jit of a number": (lambda: ft.jit(3), ["jit", "function", "int"]),
    "custom_vjp": (lambda: ft.custom_vjp(lambda x: x)(1.0), ["defvjp"]),
    "error of the user": (lambda: ft.jit(ft.vmap(raises_itself))(X), ["'b'"]),
}


def caught(attempt):
    try:
        attempt()
    except Exception as error:
        return error
    raise AssertionError("no error")


@pytest.fixture(autouse=True)
def filtering():
    with config.override(traceback_filtering="on"):
        yield


def test_there_are_sixty():
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name):
    attempt, words = MISTAKES[name]
    error = caught(attempt)
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[-1].filename == __file__, f"the last frame is {frames[-1]}"
    assert {f.filename for f in frames} <= {__file__}
    message = str(error)
    assert len(message.splitlines()) <= 15
    missing = [w for w in words if not any(v in message for v in w.split("|"))]
    assert not missing, f"{missing} not in: {message}"
    shown = "".join(traceback.format_exception(error))
    assert "During handling" not in shown
    assert "site-packages/funtorch" not in shown


def test_internal_frames_are_shown_when_asked():
    with config.override(traceback_filtering="off"):
        error = caught(MISTAKES["matmul"][0])
    assert traceback.extract_tb(error.__traceback__)[-1].filename.endswith("contractions.py")


def test_frames_of_user_functions_stay():
    frames = traceback.extract_tb(caught(MISTAKES["error of the user"][0]).__traceback__)
    assert frames[-1].name == "raises_itself"
    assert [f.name for f in frames] == ["caught", "<lambda>", "raises_itself"]


def test_what_the_user_was_handling_stays():
    def handle():
        try:
            raise KeyError("mine")
        except KeyError:
            fnp.ones(3)[5]

    assert "KeyError: 'mine'" in "".join(traceback.format_exception(caught(handle)))


@pytest.mark.parametrize(("value", "shown"), [("off", True), ("on", False), ("", False)])
def test_environment(value, shown):
    ran = subprocess.run(
        [sys.executable, "-c", "import funtorch as ft; ft.numpy.ones(3)[5]"],
        env={**os.environ, "FUNTORCH_TRACEBACK_FILTERING": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ("indexing.py" in ran.stderr) == shown
    assert "IndexError" in ran.stderr


def test_values_of_the_option():
    for value in ("off", False):
        with config.override(jax_traceback_filtering=value):
            assert config.traceback_filtering is False
    for value in ("auto", "remove_frames", True):
        with config.override(traceback_filtering=value):
            assert config.traceback_filtering is True
    with pytest.raises(ValueError, match="'of'"):
        config.update("traceback_filtering", "of")


def test_public_functions_keep_their_faces():
    assert pickle.loads(pickle.dumps(fnp.reshape)) is fnp.reshape
    assert list(inspect.signature(fnp.reshape).parameters)[:2] == ["a", "shape"]
    assert fnp.reshape.__name__ == "reshape"
    assert fnp.absolute is fnp.abs


# ------------------------------------------------------------------------------------------- leaks
@pytest.mark.parametrize("transform", [ft.jit, ft.vmap, ft.hessian])
def test_leaks_are_named(transform):
    box = []

    def keep(x):
        box.append(x * 2)
        return (x * x).sum()

    where = r"test_mistakes\.py:\d+ \(.*keep\)"
    with pytest.raises(errors.UnexpectedTracerError, match=where), ft.checking_leaks():
        transform(keep)(X)
    with ft.check_leaks():  # what leaked before does not count
        pass


def test_nothing_leaks_where_nothing_is_kept():
    def f(x):
        return (fnp.sin(x) * x).sum()

    with ft.check_leaks():
        ft.jit(ft.grad(f))(X)
        ft.vmap(ft.grad(f))(A)
        pullback = ft.vjp(f, X)[1]
        linear = ft.linearize(f, X)[1]
        lax.scan(lambda c, x: (c + x, c), 0.0, X)
        ft.make_jaxpr(f)(X)
    pullback(fnp.float32(1))
    linear(X)


def test_leaks_do_not_hide_an_error_of_the_block():
    with pytest.raises(KeyError), ft.check_leaks():
        raise KeyError(1)


# ------------------------------------------------------------------------------------------- stats
def test_stats_say_why_it_was_compiled_again():
    @ft.jit
    def step(params, rate):
        return params["w"] * rate

    assert step.stats() == (0, (), ())
    for size in (3, 3, 4, 4):
        step({"w": fnp.ones(size)}, 0.1)
    step({"w": fnp.ones(4)}, fnp.float32(1))
    stats = step.stats()
    assert stats.calls == 5
    assert [c.reason for c in stats.compiles] == [
        "first call, with params['w']: f32[3], rate: f32[] (weak)",
        "argument params['w'] was f32[3], is f32[4]",
        "argument rate was f32[] (weak), is f32[]",
    ]
    assert all(c.seconds > 0 for c in stats.compiles)
    assert stats.seconds == sum(c.seconds for c in stats.compiles)
    assert str(stats).startswith("5 calls, 3 compiles in ")
