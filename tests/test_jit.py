"""jit: what it does with arguments, its look-ups, its stages; against JAX where that is there."""

import functools
import inspect
import re
import sys

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, tree
from funtorch.config import config
from funtorch.treecode import MISMATCH, builder, extractor

F32 = np.float32
ONES = np.ones(3, F32)


def calls_of(f):
    """Return f, and the list that grows whenever its Python code runs."""
    ran = []

    @functools.wraps(f)
    def counted(*args, **kwargs):
        ran.append(1)
        return f(*args, **kwargs)

    return counted, ran


# ---------------------------------------------------------------------- look-ups
def test_a_call_of_known_types_runs_no_python():
    f, ran = calls_of(lambda t, y=0.0: tree.map(lambda x: x + y, t))
    g = ft.jit(f)
    t = {"b": (fnp.ones(3), [fnp.zeros((2, 2))]), "a": None}
    for _ in range(3):
        out = g(t)
    assert len(ran) == 1
    assert out["a"] is None
    np.testing.assert_array_equal(out["b"][1][0], np.zeros((2, 2)))
    g({"b": (fnp.ones(3), [np.zeros((2, 2), F32)]), "a": None})  # NumPy in place of an Array
    g({"a": None, "b": (2 * fnp.ones(3), [fnp.zeros((2, 2))])})  # another order
    g({"b": (fnp.ones((3, 3))[:, 1], [fnp.zeros((2, 2)).T]), "a": None})  # not contiguous
    assert len(ran) == 1
    g({"b": (fnp.ones(3), (fnp.zeros((2, 2)),)), "a": None})
    g({"b": (fnp.ones(3), [fnp.zeros((2, 2), "float64")]), "a": None})
    g(t, fnp.ones(1))
    g(t, y=fnp.ones(1))
    assert len(ran) == 5
    g(t)
    g(t, y=fnp.ones(1))
    assert len(ran) == 5
    assert g._cache_size() == 5


def test_structures_alternate():
    f, ran = calls_of(lambda t: sum(tree.leaves(t)))
    g = ft.jit(f)
    x = fnp.ones(2)
    for _ in range(3):
        for t in ([x], (x,), {"a": x}, {"a": x, "b": x}, [x, [x, [x]]], None, x):
            g(t)
    assert len(ran) == 7


def test_modules_are_arguments_and_results():
    model = nnx.Linear(3, 2, key=ft.random.key(0)).replace(bias=fnp.zeros(2))
    f, ran = calls_of(lambda m, x: (m.replace(bias=m.bias + 1), m(x)))
    g = ft.jit(f)
    for _ in range(3):
        model, y = g(model, ONES)
    assert len(ran) == 1
    assert isinstance(model, nnx.Linear)
    np.testing.assert_allclose(model.bias, [3, 3])
    assert y.shape == (2,)


def test_numbers_are_weak_and_settings_count():
    f, ran = calls_of(lambda x, y: x * y)
    g = ft.jit(f)
    assert g(ONES, 2).dtype == F32
    assert g(ONES, 2.5).dtype == F32
    assert g(ONES, True).dtype == F32
    assert g(ONES, 3).dtype == F32
    assert len(ran) == 3
    with config.override(default_float="float64"):
        assert g(2.0, 3.0).dtype == np.float64
        assert g(2.0, 3.0).dtype == np.float64
    assert g(2.0, 3.0).dtype == F32
    assert len(ran) == 5


def test_a_nan_key_or_an_unhashable_value_does_not_break_the_look_up():
    g = ft.jit(lambda x, n: x, static_argnums=1)
    g(ONES, 1)
    with pytest.raises(ValueError, match="static argument 1 must be hashable, got list"):
        g(ONES, [1])
    with pytest.raises(TypeError, match=r"argument of <lambda>.*leaf 0 is 'a' of type str"):
        ft.jit(lambda x: x)("a")


def test_bounded_caches(monkeypatch):
    monkeypatch.setattr(sys.modules["funtorch.transforms.jit"], "CACHE_SIZE", 3)
    g = ft.jit(lambda x, n: x + n, static_argnums=1)
    for n in range(10):
        assert float(g(1.0, n)) == 1 + n
    assert g._cache_size() == 3
    g.clear_cache()
    assert g._cache_size() == 0
    assert float(g(1.0, 9)) == 10


def test_arguments_are_not_kept_alive_or_shared():
    x = np.ones(3, F32)
    f = ft.jit(lambda x: x)
    f(x)
    y = f(x)
    x[0] = 5
    assert float(y[0]) == 1


# ---------------------------------------------------------------------- why it compiles
def test_misses_explain_themselves(capsys):
    def f(params, x, n, scale=1.0):
        return params["w"][0] * x * n * scale

    g = ft.jit(f, static_argnums=2)
    w = {"w": [fnp.ones(3)]}
    steps = [
        ((w, 1.0, 2), {}, r"first call, with params\['w'\]\[0\]: f32\[3\], x: f32\[\] \(weak\)"),
        ((w, fnp.float32(1), 2), {}, r"argument x was f32\[\] \(weak\), is f32\[\]$"),
        ((w, 1.0, 3), {}, r"static argument 2 was 2, is 3$"),
        (
            ({"w": [fnp.ones((4, 3))]}, 1.0, 3),
            {},
            r"params\['w'\]\[0\] was f32\[3\], is f32\[4,3\]$",
        ),
        ((w, 1.0, 2), {"scale": 2.0}, r"the structure .*, now .*'scale'"),
    ]
    for args, kwargs, want in steps:
        with config.override(debug=1):
            g(*args, **kwargs)
        lines = [s for s in capsys.readouterr().err.splitlines() if "is traced" in s]
        assert len(lines) == 1
        assert lines[0].startswith("jit of f (test_jit.py:")
        assert re.search(want, lines[0]), lines[0]
    with config.override(debug=1):
        g(w, 1.0, 2)
        assert capsys.readouterr().err == ""
        with config.override(default_int="int64"):
            g(w, 1.0, 2)
    assert "config.default_int was int32, is int64" in capsys.readouterr().err


# ---------------------------------------------------------------------- donation
def test_donated_arrays_are_gone():
    step = ft.jit(lambda p, g: (p - g, p.sum()), donate_argnums=0)
    p, g = fnp.ones(3), fnp.ones(3)
    q, _ = step(p, g)
    assert p.is_deleted()
    assert not g.is_deleted()
    assert not q.is_deleted()
    assert p.shape == (3,)
    message = r"Array has been deleted: f32\[3\] It was donated to <lambda>"
    uses = (lambda: p + 1, lambda: np.asarray(p), lambda: step(p, g), lambda: p.sum(), lambda: p[0])
    for use in uses:
        with pytest.raises(RuntimeError, match=message):
            use()
    place = np.asarray(q).ctypes.data
    q2, _ = step(q, g)
    assert q.is_deleted()
    assert np.asarray(q2).ctypes.data == place  # the result took the argument's memory
    np.testing.assert_array_equal(q2, -np.ones(3))


def test_donated_memory_that_others_see_is_copied():
    step = ft.jit(lambda p: p + 1, donate_argnums=0)
    theirs = np.ones(3, np.float32)
    p = fnp.ones(3)
    view = np.asarray(p)
    for _ in range(2):
        step(theirs)
    step(p)
    np.testing.assert_array_equal(view, np.ones(3))
    np.testing.assert_array_equal(theirs, np.ones(3))
    twice = ft.jit(lambda a, b: (a + 1, b + a), donate_argnums=(0, 1))
    p = fnp.ones(3)
    a, b = twice(p, p)
    np.testing.assert_array_equal(a, 2 * np.ones(3))
    np.testing.assert_array_equal(b, 2 * np.ones(3))


def test_donations_of_no_use_are_kept():
    f = ft.jit(lambda x: x.sum(), donate_argnums=0)
    x = fnp.ones(3)
    f(x)
    assert not x.is_deleted()
    x.delete()
    with pytest.raises(RuntimeError, match=r"deleted: f32\[3\] by its method"):
        x + 1


# ---------------------------------------------------------------------- results
def test_results_that_are_no_arrays():
    with pytest.raises(TypeError, match=r"returned 'a', of type str, at output\['b'\]\[1\]"):
        ft.jit(lambda x: {"b": [x, "a"]})(1.0)


# ---------------------------------------------------------------------- stages
def test_stages():
    f = ft.jit(lambda x, n=2: {"y": fnp.sin(x) * n}, static_argnames="n")
    traced = f.trace(ft.ShapeDtypeStruct((3,), F32), n=3)
    assert traced.fun_name == "<lambda>"
    assert traced.out_info["y"].shape == (3,)
    assert next(eqn.prim.name for eqn in traced.jaxpr.eqns) == "sin"
    lowered = traced.lower()
    assert "sin" in lowered.as_text()
    assert lowered.args_info[0][0].dtype == F32
    compiled = lowered.compile()
    np.testing.assert_allclose(compiled(ONES)["y"], 3 * np.sin(ONES), rtol=1e-6)
    with pytest.raises(TypeError, match=r"takes f32\[3\] as leaf 0, got f32\[2\] \(argument x\)"):
        compiled(fnp.ones(2))
    cost = compiled.cost_analysis()
    assert cost["flops"] == 3
    assert cost["transcendentals"] == 3
    assert cost["bytes accessed"] == lowered.cost_analysis()["bytes accessed"] == 24
    memory = compiled.memory_analysis()
    assert (memory.argument_size_in_bytes, memory.output_size_in_bytes) == (12, 12)
    assert (memory.temp_size_in_bytes, memory.alias_size_in_bytes) == (0, 0)
    assert memory.peak_memory_in_bytes == 24


def test_cost_of_products_and_loops():
    def f(a, b):
        return ft.lax.scan(lambda c, _: (fnp.tanh(c @ b), None), a, None, length=10)[0]

    cost = ft.jit(f).lower(fnp.ones((4, 5)), fnp.ones((5, 5))).cost_analysis()
    assert cost["flops"] == 10 * 2 * 4 * 5 * 5
    assert cost["transcendentals"] == 10 * 4 * 5


def test_memory_counts_donated_and_temporary_arrays():
    f = ft.jit(lambda a, b: a @ b @ b, donate_argnums=0)
    memory = f.lower(fnp.ones((40, 80)), fnp.ones((80, 80))).compile().memory_analysis()
    assert memory.alias_size_in_bytes == 40 * 80 * 4
    assert memory.temp_size_in_bytes >= 40 * 80 * 4


# ---------------------------------------------------------------------- against JAX
class Scaler:
    def __init__(self, k):
        self.k = k

    def scale(self, x):
        return x * self.k

    def __call__(self, x):
        return x + self.k


# Each case: a function of (the library, its numpy) that returns values to compare.
CASES = {
    "defaults of static names": lambda lib, np_: [
        (f := lib.jit(lambda x, n=3: x * n, static_argnames="n"))(2.0), f(2.0, 4), f(2.0, n=4)
    ],
    "static numbers by name": lambda lib, np_: [
        (f := lib.jit(lambda x, n=3: x * n, static_argnums=1))(2.0), f(2.0, 4), f(2.0, n=5)
    ],
    "negative static number": lambda lib, np_: lib.jit(lambda x, n: x * n, static_argnums=-1)(2, 3),
    "kwargs in any order": lambda lib, np_: [
        (f := lib.jit(lambda **kw: kw["a"] - kw["b"]))(a=1.0, b=2.0),
        f(b=2.0, a=1.0), f._cache_size(),
    ],
    "weak types": lambda lib, np_: [
        (f := lib.jit(lambda x: x * 2))(1.0).weak_type, f(np_.float32(1)).weak_type,
        f(np_.ones(())).weak_type, f(1).dtype.name, f._cache_size(),
    ],
    "bound methods": lambda lib, np_: [lib.jit(Scaler(3).scale)(2.0), lib.jit(Scaler(3))(2.0)],
    "partials": lambda lib, np_: lib.jit(functools.partial(lambda a, b: a - b, b=2.0))(1.0),
    "nested": lambda lib, np_: lib.jit(lambda x: lib.jit(lib.jit(np_.sin))(x) + 1)(0.5),
    "pytrees": lambda lib, np_: lib.jit(lambda t: (t["a"], [t["b"], None]))({"a": 1, "b": 2.0}),
    "eval_shape": lambda lib, np_: lib.jit(lambda x: x[None]).eval_shape(np_.ones(3)).shape,
    "out_info": lambda lib, np_: lib.jit(lambda x: x + 1).lower(1.0).out_info.dtype.name,
    "donation": lambda lib, np_: [
        lib.jit(lambda x, y: x + y, donate_argnums=0)(x := np_.ones(3), np_.ones(3)),
        x.is_deleted(),
    ],
    "keep_unused and inline": lambda lib, np_: lib.jit(
        lambda x, y: x, keep_unused=True, inline=True
    )(1.0, 2.0),
    "empty results": lambda lib, np_: lib.jit(lambda x: ())(1.0),
    "vmap of jit of grad": lambda lib, np_: lib.vmap(lib.jit(lib.grad(np_.sin)))(np_.ones(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_jax_does(name):
    jax = pytest.importorskip("jax")
    want, got = CASES[name](jax, jax.numpy), CASES[name](ft, fnp)
    want_leaves, got_leaves = jax.tree.leaves(want), tree.leaves(got)
    assert len(want_leaves) == len(got_leaves)
    for a, b in zip(want_leaves, got_leaves, strict=True):
        if isinstance(a, (bool, int, str)):
            assert a == b
        else:
            np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=1e-6)
            assert np.asarray(a).dtype == np.asarray(b).dtype


def test_methods_decorated_in_a_class():
    class Model:
        k = 2.0

        @functools.partial(ft.jit, static_argnums=0)
        def scaled(self, x):
            return x * self.k

    model = Model()
    assert float(model.scaled(3.0)) == 6
    assert float(model.scaled(4.0)) == 8


# ---------------------------------------------------------------------- code for structures
TREES = [
    1, None, (), [], {}, (1,), [1, 2], {"a": 1}, {"b": 1, "a": (2, [3, None])}, {1: 2, 0: 3},
    {("x", 1): [1, (2, {"z": 3})]}, [[[[[1]]]]], {"quote'\"\\": 1},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TREES)))
def test_structure_code(number):
    t = TREES[number]
    leaves, treedef = tree.flatten(t)
    take = extractor(treedef)
    assert list(take(t)) == leaves
    assert builder(treedef)(leaves) == t
    for other in TREES:
        _other_leaves, other_def = tree.flatten(other)
        if other_def == treedef:
            continue
        try:
            found = take(other)
        except MISMATCH:
            continue
        # It may take a node for a leaf, never lose one.
        assert found is None or any(type(x) in (tuple, list, dict, type(None)) for x in found)


def test_structure_code_of_classes():
    model = {"m": nnx.Linear(3, 2, key=ft.random.key(0)), "n": None}
    leaves, treedef = tree.flatten(model)
    take = extractor(treedef)
    assert [id(x) for x in take(model)] == [id(x) for x in leaves]
    assert isinstance(builder(treedef)(leaves)["m"], nnx.Linear)
    assert take({"m": nnx.Linear(4, 2, key=ft.random.key(0)), "n": None}) is None
    big = [0] * 10_000
    assert extractor(tree.structure(big)) is None
    assert builder(tree.structure(big))(big) == big


def test_a_call_that_donates_finds_its_program_at_once(monkeypatch):
    f = ft.jit(lambda x: x + 1, donate_argnums=0)
    x = f(fnp.zeros(3))
    monkeypatch.setattr(type(f), "_call", None)
    np.testing.assert_array_equal(f(f(x)), 3)
    assert x.is_deleted()


def test_wrappers_keep_their_own_attributes_beside_those_of_a_callable_object():
    class Doubled:
        def __init__(self):
            self._call = self._cache = self.fun = "its own"

        def __call__(self, x):
            return x * 2.0

    for wrap in (ft.jit, ft.custom_jvp, ft.custom_vjp):
        f = wrap(Doubled())
        if wrap is ft.custom_jvp:
            f.defjvp(lambda p, t: (p[0] * 2.0, t[0] * 2.0))
        if wrap is ft.custom_vjp:
            f.defvjp(lambda x: (x * 2.0, None), lambda _, ct: (ct * 2.0,))
        assert float(f(3.0)) == 6.0
    assert float(ft.jit(fnp.add)(1.0, 2.0)) == 3.0


def test_the_only_device_may_be_named():
    f = ft.jit(lambda x: x + 1, device=ft.devices()[0], backend="cpu", compiler_options={})
    assert float(f(1.0)) == 2.0
    with pytest.raises(ValueError, match="jit: there is no device tpu"):
        ft.jit(lambda x: x, backend="tpu")


def test_a_jitted_function_has_the_signature_of_what_it_runs():
    f = ft.jit(lambda x, y=2, *, z: x + y + z)
    for follow in (True, False):
        assert str(inspect.signature(f, follow_wrapped=follow)) == "(x, y=2, *, z)"
