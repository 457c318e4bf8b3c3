"""One compiled program for several sizes: equal to one for each size, with few compiles."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends.sized import compile_sized
from funtorch.config import config
from funtorch.dims import Dim, NotDynamic, Scope, fixed, larger, smaller
from funtorch.transforms.dynamic import align
from funtorch.transforms.simplify import inline, simplify
from funtorch.transforms.staging import make_jaxpr

RNG = np.random.default_rng(7)


def floats(*shape, dtype="float32"):
    return RNG.normal(size=shape).astype(dtype)


def close(got, want, tol=2e-5):
    for a, b in zip(ft.tree.leaves(got), ft.tree.leaves(want), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol * (1 + np.abs(b).max(initial=0)))


def shared(stats):
    """Tell whether all programs but those of sizes 0 and 1 are for any size."""
    return all(c.sizes.startswith("for any") for c in stats.compiles)


# ------------------------------------------------------------------------------------------ models
def dense(sizes):
    return [(fnp.array(floats(m, n) * 0.3), fnp.zeros(n)) for m, n in itertools.pairwise(sizes)]


def cross_entropy(logits, labels):
    picked = ft.nn.log_softmax(logits) * ft.nn.one_hot(labels, logits.shape[-1])
    return -picked.sum(-1).mean()


def descend(loss):
    def step(params, x, y):
        value, grads = ft.value_and_grad(loss)(params, x, y)
        return value, ft.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    return step


def mlp(params, x, y):
    for w, b in params[:-1]:
        x = ft.nn.relu(x @ w + b)
    w, b = params[-1]
    return cross_entropy(x @ w + b, y)


def cnn(params, x, y):
    for k in params[:-1]:
        x = ft.nn.relu(ft.lax.conv_general_dilated(x, k, (1, 1), "SAME"))
        x = ft.lax.reduce_window(x, -np.inf, ft.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return cross_entropy(x.reshape(x.shape[0], -1) @ params[-1], y)


def labels(n):
    return RNG.integers(0, 10, n).astype("int32")


def test_a_training_step_of_200_batch_sizes_is_compiled_twice_at_most():
    params = dense((12, 16, 10))
    step = ft.jit(descend(mlp), dynamic_axes={"x": 0, "y": 0})
    for n in range(2, 202):
        x, y = floats(n, 12), labels(n)
        got = step(params, x, y)
        if n % 40 == 2:
            close(got, descend(mlp)(params, x, y))
    stats = step.stats()
    assert stats.calls == 200
    assert len(stats.compiles) <= 2
    assert stats.compiles[0].sizes == "for any x.shape[0]"
    assert "for any x.shape[0]" in str(stats)


def test_a_second_size_makes_it_automatic():
    params = dense((12, 16, 10))
    step = ft.jit(descend(mlp))
    for n in (32, 7, 100, 2, 33, 7):
        x, y = floats(n, 12), labels(n)
        close(step(params, x, y), descend(mlp)(params, x, y))
    first, second = step.stats().compiles
    assert first.sizes == ""
    assert second.sizes == "for any x.shape[0]"


def test_a_convolutional_step():
    params = [fnp.array(floats(*s) * 0.2) for s in ((4, 1, 3, 3), (6, 4, 3, 3), (54, 10))]
    step = ft.jit(descend(cnn))
    for n in (8, 5, 2, 19, 70):
        x, y = floats(n, 1, 12, 12), labels(n)
        close(step(params, x, y), descend(cnn)(params, x, y))
    assert len(step.stats().compiles) == 2


def attention(x, w, u):
    batch, length, width = x.shape
    q, k, v = (
        z.reshape(batch, length, 2, width // 2).transpose(0, 2, 1, 3)
        for z in fnp.split(x @ w, 3, axis=-1)
    )
    scores = fnp.einsum("bhqd,bhkd->bhqk", q, k) / 2.0
    scores = fnp.where(fnp.tril(fnp.ones((length, length), bool)), scores, -1e9)
    out = fnp.einsum("bhqk,bhkd->bhqd", ft.nn.softmax(scores), v)
    return out.transpose(0, 2, 1, 3).reshape(batch, length, width) @ u


def test_attention_with_two_dynamic_axes():
    w, u = floats(8, 24), floats(8, 8)
    loss = ft.grad(lambda x, w, u: (attention(x, w, u) ** 2).mean(), argnums=(0, 1))
    f = ft.jit(loss, dynamic_axes={"x": {0: "batch", 1: "length"}})
    for batch, length in ((3, 9), (2, 4), (5, 31), (4, 4), (7, 2)):
        x = floats(batch, length, 8)
        close(f(x, w, u), loss(*map(fnp.array, (x, w, u))))
    (only,) = f.stats().compiles
    assert only.sizes == "for any batch, length"


def norm_softmax(x, g):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return ft.nn.softmax((x - mean) / fnp.sqrt(var + 1e-5) * g)


def running_state(x):
    return ft.lax.scan(lambda c, y: (fnp.tanh(c * 0.5 + y), c.sum()), fnp.zeros(4), x)


G = floats(33)
PROGRAMS = {
    "elementwise": (lambda x: fnp.exp(fnp.sin(x)) / (1 + x * x), lambda n: (floats(n, 5),)),
    "rows": (norm_softmax, lambda n: (floats(n, 33), G)),
    "columns": (lambda x: ft.nn.softmax(x, axis=0), lambda n: (floats(n, 6),)),
    "long rows": (norm_softmax, lambda n: (floats(6, n), floats(n))),
    "gradient of rows": (
        ft.grad(lambda x, g: (norm_softmax(x, g) ** 2).sum(), argnums=(0, 1)),
        lambda n: (floats(n, 33), G),
    ),
    "sums": (lambda x: (x.sum(0), x.sum(1), x.sum()), lambda n: (floats(n, 7),)),
    "moments": (lambda x: (x.mean(0), x.var(), x.max(1)), lambda n: (floats(n, 4),)),
    "square": (lambda x, y: x @ y + x.T, lambda n: (floats(n, n), floats(n, n))),
    "gram": (lambda x: x.T @ x, lambda n: (floats(n, 6),)),
    "scan": (running_state, lambda n: (floats(n, 4),)),
    "gradient of a scan": (
        ft.grad(lambda x: running_state(x)[0].sum()), lambda n: (floats(n, 4),)
    ),
    "vmap of grad": (
        ft.vmap(ft.grad(lambda x: (fnp.sin(x) * x).sum())), lambda n: (floats(n, 3),)
    ),
    "map": (lambda x: ft.lax.map(lambda r: (r * r).sum(), x), lambda n: (floats(n, 3),)),
    "branch": (
        lambda x: ft.lax.cond(x.sum() > 0, fnp.sin, lambda x: x - 1, x), lambda n: (floats(n, 3),)
    ),
    "while": (
        lambda x: ft.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + fnp.abs(c) + 1, x),
        lambda n: (floats(n, 3),),
    ),
    "joined": (
        lambda x, y: fnp.concatenate([x, y, 2 * x]), lambda n: (floats(n, 3), floats(n + 2, 3))
    ),
    "neighbours": (ft.grad(lambda x: ((x[1:] - x[:-1]) ** 2).sum()), lambda n: (floats(n, 3),)),
    "strided": (lambda x: (x[::2], x[::-1]), lambda n: (floats(n, 3),)),
    "numbers": (lambda x: x * fnp.arange(x.shape[0]) / x.shape[0], lambda n: (floats(n),)),
    "gather": (
        ft.grad(lambda x, i: (x[i] ** 2).sum()),
        lambda n: (floats(n, 3), RNG.integers(0, n, 2 * n).astype("int32")),
    ),
    "update": (lambda x: x.at[1].set(3.0).at[:1].add(1.0), lambda n: (fnp.array(floats(n, 3)),)),
    "best": (lambda x: (x.argmax(0), x.argmin(1)), lambda n: (floats(n, 5),)),
    "running sum": (lambda x: (x.cumsum(0), x.cumsum(1)), lambda n: (floats(n, 3),)),
    "random": (lambda x: x + ft.random.normal(ft.random.key(1), x.shape), lambda n: (floats(n),)),
    "doubles": (lambda x: (x @ x.T).sum(), lambda n: (floats(n, 4, dtype="float64"),)),
    "complex": (lambda x: (x * (1 + 2j)).sum(0), lambda n: (floats(n, 3),)),
    "halves": (lambda x: (x * 2).sum(1), lambda n: (floats(n, 9).astype("float16"),)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_any_size_equal_those_of_one(name):
    fun, make = PROGRAMS[name]
    f = ft.jit(fun)
    for n in (6, 9, 2, 3, 17, 130, 700):
        args = make(n)
        close(f(*args), fun(*map(fnp.array, args)), 2e-3 if name == "halves" else 2e-5)
    compiles = f.stats().compiles
    assert len(compiles) == 2, f.stats()
    assert compiles[1].sizes.startswith("for any"), f.stats()


def test_sizes_0_and_1_have_programs_of_their_own():
    f = ft.jit(lambda x: (x + x.sum(), x.shape[0]), dynamic_axes={"x": 0})
    for n in (5, 1, 0, 4):
        total, size = f(np.ones(n, "float32"))
        assert total.tolist() == [1.0 + n] * n
        assert int(size) == n
    kinds = [c.sizes for c in f.stats().compiles]
    assert kinds[0] == "for any x.shape[0]"
    assert kinds[1:] == ["for these sizes alone: sizes 0 and 1 have programs of their own"] * 2


# --------------------------------------------------------------------------- what depends on sizes
def test_python_that_looks_at_sizes():
    def f(x):
        n = x.shape[0]
        scale = 10.0 if n > 20 else 1.0 / n
        return x[:4].sum() * scale + (x[-1] if n % 2 else x[0]) * fnp.sqrt(float(n))

    g = ft.jit(f)
    for n in (5, 9, 12, 20, 21, 40, 41, 3, 2):
        x = floats(n)
        close(g(x), f(fnp.array(x)))


def test_closed_over_arrays_that_depend_on_sizes():
    table = {n: floats(n) for n in (3, 5, 8, 13)}
    f = ft.jit(lambda x: (x * table[x.shape[0]]).sum())
    for n, row in table.items():
        close(f(np.ones(n, "float32")), row.sum())
    assert len(f.stats().compiles) == 2


def test_what_cannot_be_dynamic_is_compiled_for_each_size():
    f = ft.jit(lambda x: fnp.sort(x))
    for n in (5, 9, 12, 30):
        x = floats(n)
        close(f(x), np.sort(x))
    last = f.stats().compiles[-1]
    assert len(f.stats().compiles) == 4
    assert last.sizes.startswith("for these sizes alone: ")


def test_a_function_that_takes_few_sizes():
    f = ft.jit(lambda x: (x.reshape(4, -1) ** 2).sum(1), dynamic_axes={"x": 0})
    for n in (8, 4, 20, 100):
        x = floats(n)
        close(f(x), (x.reshape(4, -1) ** 2).sum(1))
    assert len(f.stats().compiles) <= 2
    with pytest.raises(ValueError, match="does not fit into shape"):
        f(floats(6))
    close(f(np.ones(8, "float32")), np.full(4, 2.0, "float32"))


def test_results_do_not_depend_on_the_number_of_threads():
    f = ft.jit(lambda x: (x.sum(), (x * x).sum(0), x.T @ x, fnp.exp(x).sum(1)))
    for n in (3000, 4096):
        f(floats(n, 64))
    x = floats(3511, 64)
    with ft.threads(1):
        one = ft.tree.map(np.array, f(x))
    with ft.threads(4):
        many = ft.tree.map(np.array, f(x))
    assert shared(f.stats()._replace(compiles=f.stats().compiles[1:]))
    for a, b in zip(one, many, strict=True):
        assert a.tobytes() == b.tobytes()


def test_donated_arguments_are_used_for_any_size():
    f = ft.jit(lambda x, y: x * 2 + y.sum(), donate_argnums=0, dynamic_axes=(0, None))
    for n in (40, 50, 3000):
        x = fnp.array(floats(n))
        want = np.asarray(x) * 2 + 3
        close(f(x, np.ones(3, "float32")), want)
        with pytest.raises(RuntimeError, match="donated"):
            np.asarray(x)
    assert len(f.stats().compiles) <= 2


def test_a_size_seen_before_is_not_traced_again():
    traced = []

    @ft.jit
    def f(x):
        traced.append(x.shape[0])
        return x * 2

    for n in (4, 6, 9, 4, 6, 9, 9):
        f(np.ones(n, "float32"))
    assert traced == [4, 6, 9]


def test_far_larger_sizes_get_a_program_that_is_good_for_them():
    f = ft.jit(lambda x: (x * x).sum(), dynamic_axes={"x": 0})
    for n in (100, 900, 400_000, 300_000, 50):
        x = floats(n)
        close(f(x), (x.astype("float64") ** 2).sum().astype("float32"))
    assert len(f.stats().compiles) == 2


def test_the_flag_turns_it_off():
    f = ft.jit(lambda x: x + 1)
    with config.override(dynamic_sizes=False):
        for n in (2, 3, 4):
            f(np.ones(n, "float32"))
    assert [c.sizes for c in f.stats().compiles] == ["", "", ""]


def test_other_dtypes_and_static_values_are_other_families():
    f = ft.jit(lambda x, k: x * k, static_argnums=1)
    for dtype in ("float32", "int32"):
        for k in (2, 3):
            for n in (4, 5, 6):
                x = np.arange(n).astype(dtype)
                close(f(x, k), x * dtype_of(k, dtype))
    assert len(f.stats().compiles) == 8


def dtype_of(k, dtype):
    return np.asarray(k, dtype)


def test_arguments_that_are_trees_and_keywords():
    f = ft.jit(
        lambda batch, *, mask: (batch["x"] * mask[:, None]).sum(0) + batch["y"].sum(),
        dynamic_axes={"batch": {"x": 0, "y": {0: "n"}}, "mask": {-1: "n"}},
    )
    for n in (6, 11, 3):
        x, y, mask = floats(n, 4), floats(n), floats(n)
        got = f({"x": x, "y": y}, mask=mask)
        close(got, (x * mask[:, None]).sum(0) + y.sum())
    (only,) = f.stats().compiles
    assert only.sizes == "for any n"


# ------------------------------------------------------------------------------------------ errors
def test_axes_and_arguments_that_are_not_there():
    def f(x, y):
        return x.sum() + y.sum()

    with pytest.raises(ValueError, match=r"jit of f .*: dynamic_axes names 'z'.*\['x', 'y'\]"):
        ft.jit(f, dynamic_axes={"z": 0})
    with pytest.raises(ValueError, match="dynamic_axes has 3 entries for 2 arguments"):
        ft.jit(f, dynamic_axes=(0, 0, 0))
    with pytest.raises(TypeError, match="dynamic_axes is a dict from arguments' names to axes"):
        ft.jit(f, dynamic_axes=0)
    ones = np.ones((2, 3), "float32")
    with pytest.raises(ValueError, match=r"axis 2 of argument x, which has shape \(2, 3\)"):
        ft.jit(f, dynamic_axes={"x": 2})(ones, ones)
    with pytest.raises(ValueError, match=r"a key 'w' where the argument has \['v'\]"):
        ft.jit(lambda p: p["v"], dynamic_axes={"p": {"w": 0}})({"v": ones})
    with pytest.raises(ValueError, match="2 entries where the argument has 1"):
        ft.jit(lambda p: p[0], dynamic_axes={"p": [None, {0: "n"}]})([ones])
    with pytest.raises(ValueError, match="says 'a' of an argument of type ndarray"):
        ft.jit(f, dynamic_axes={"x": "a"})(ones, ones)


def test_axes_of_one_name_have_one_size():
    f = ft.jit(lambda x, y: x.sum() + y.sum(), dynamic_axes={"x": {0: "n"}, "y": {1: "n"}})
    f(floats(4, 2), floats(3, 4))
    with pytest.raises(ValueError, match=r"'n', to axes of sizes 5 and 6 \(y.shape\[1\]\)"):
        f(floats(5, 2), floats(3, 6))


# -------------------------------------------------------------------------------------------- dims
OPERATIONS = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a * 3 + 2 * b - 5,
    lambda a, b: (a * b * 6) // 3,
    lambda a, b: a // 4,
    lambda a, b: -(-a // 4),
    lambda a, b: a % 7,
    lambda a, b: (a * b + 1) // b,
    lambda a, b: divmod(a, 3)[1] + a**2,
    smaller,
    larger,
]


@settings(max_examples=60)
@given(st.integers(2, 300), st.integers(2, 300), st.lists(st.sampled_from(OPERATIONS), max_size=4))
def test_sizes_compute_as_numbers_do(n, m, operations):
    scope = Scope()
    a, b = scope.symbol("a", 90), scope.symbol("b", 40)
    x, y = a, n
    for f in operations:
        if y < 0 or int(x) < 0:
            break
        x, y = f(x, b), f(y, m)
        assert int(x) == int(f(90, 40)) if f is operations[0] and len(operations) == 1 else True
    atoms = scope.values({"a": n, "b": m})
    assert (x.at(atoms) if isinstance(x, Dim) else x) == y


def test_sizes_compare_for_all_values_or_note_a_guard():
    scope = Scope()
    n, m = scope.symbol("n", 64), scope.symbol("m", 64)
    assert n != 64
    assert n != m
    assert n == n * 1
    assert n * m == m * n
    assert hash(n + m) == hash(m + n)
    assert n > 1
    assert n * m >= n
    assert not n < 2
    assert n + 1 > n
    assert n * 3 != 0
    assert not scope.guards
    assert n > 20
    assert not n > 100
    assert scope.holds(scope.values({"n": 30, "m": 2}))
    assert not scope.holds(scope.values({"n": 20, "m": 2}))
    assert not scope.holds(scope.values({"n": 101, "m": 2}))
    assert isinstance(n - m + m, Dim)
    assert fixed(n - n + 3)
    assert smaller(n, n * 2) is n
    assert larger(n, 1) is n


def test_a_program_that_depends_on_the_hint_is_refused():
    ones = [(n, np.ones(n, "float32")) for n in (5, 7)]

    def variant(hint):
        at = [inline(make_jaxpr(lambda x: x[-3:] * 2)(x)) for n, x in ones]
        template = align(at, [{"n": 5}, {"n": 7}], {"n": hint})
        eqn = next(e for e in template.jaxpr.eqns if e.prim.name == "slice")
        eqn.params["start"] = (hint - 3,)  # a size that became a number
        return simplify(template.jaxpr), template.scope

    with pytest.raises(NotDynamic, match="its code depends on the sizes"):
        compile_sized([variant(128), variant(129)], frozenset())


def test_a_program_that_hints_decide_about_is_compiled_for_all_sizes_too():
    def loss(weights, x, y):
        for w in weights:
            x = fnp.tanh(x @ w)
        return ((x - y) ** 2).sum()

    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(64, 64)).astype(np.float32) for _ in range(3)]
    step = ft.jit(ft.value_and_grad(loss))
    for n in (8, 16, 24, 32, 5):
        x, y = rng.normal(size=(2, n, 64)).astype(np.float32)
        value, grads = step(weights, x, y)
        with ft.disable_jit():
            want, wanted = ft.value_and_grad(loss)(weights, x, y)
        np.testing.assert_allclose(value, want, rtol=1e-5)
        for g, w in zip(grads, wanted, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-4)
    assert len(step.stats().compiles) == 2
