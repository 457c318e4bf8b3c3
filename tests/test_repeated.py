"""Functions of several operations that are called often become one function of NumPy arrays."""

import sys

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp

repeated = sys.modules["funtorch.transforms.repeated"]
HARD = np.array([[0.0, -0.0, 1.5, -2.5], [np.nan, np.inf, -np.inf, 1e30]], np.float32)
MASK = np.array([[True, False, True, True], [False, True, True, False]])

CALLS = {
    **{name: (getattr(ft.nn, name), ()) for name in (
        "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
        "log1mexp", "log_sigmoid", "log_softmax", "logmeanexp", "logsumexp", "mish", "relu6",
        "selu", "silu", "soft_sign", "softmax", "softplus", "sparse_plus", "sparse_sigmoid",
        "squareplus", "standardize",
    )},
    "softmax of columns": (lambda x: ft.nn.softmax(x, axis=0), ()),
    "softmax of all": (lambda x: ft.nn.softmax(x, axis=None), ()),
    "softmax where": (lambda x, m: ft.nn.softmax(x, where=m), (MASK,)),
    "softmax of columns in C": (lambda x: ft.nn.softmax(x.T, axis=(0, 1)), ()),
    "exact gelu": (lambda x: ft.nn.gelu(x, approximate=False), ()),
    "elu of alpha": (lambda x: ft.nn.elu(x, 0.5), ()),
    "tril": (fnp.tril, ()),
    "allclose": (lambda x: fnp.allclose(x, x, equal_nan=True), ()),
    "isclose": (fnp.isclose, (np.arange(4, dtype=np.float32),)),
}  # fmt: skip


def bits(x):
    x = np.asarray(x)
    return x.shape, x.dtype, np.ascontiguousarray(x).tobytes()


@pytest.fixture
def known(monkeypatch):
    """Return what is known of calls, nothing at first."""
    found = {}
    monkeypatch.setattr(repeated, "_known", found)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32"])
@pytest.mark.parametrize("name", CALLS)
def test_the_hundredth_call_gives_the_bits_of_the_first(name, dtype, known):
    function, others = CALLS[name]
    numbers = HARD if dtype != "int32" else np.arange(8).reshape(2, 4) - 3
    samples = [numbers, numbers[:, :0], numbers[1, 2]][: 1 if others or name != "gelu" else 3]
    for sample in samples:
        args = [fnp.asarray(sample).astype(dtype), *map(fnp.asarray, others)]
        first = function(*args)
        for _ in range(repeated.AFTER + 2):
            last = function(*args)
        assert bits(first) == bits(last)
        assert first.weak_type == last.weak_type


def test_a_call_is_written_down_after_some(known):
    x = fnp.ones(3)
    for _ in range(repeated.AFTER):
        ft.nn.softmax(x)
    assert set(map(type, known.values())) == {int}
    ft.nn.softmax(x)
    assert set(map(type, known.values())) == {tuple}
    ft.nn.softmax(fnp.ones(4))
    assert len(known) == 2


def test_types_options_and_settings_are_told_apart(known):
    x = fnp.array([-1.0, 1.0])
    for _ in range(repeated.AFTER + 2):
        assert ft.nn.elu(x, 0.0).tolist() == [-0.0, 1.0]
        assert np.signbit(ft.nn.elu(x, 0.0)[0]) != np.signbit(ft.nn.elu(x, -0.0)[0])
        assert ft.nn.one_hot(fnp.array([1]), 2, dtype=fnp.int8).dtype == np.int8
        assert ft.nn.one_hot(fnp.array([1]), 2).dtype == np.float32
        assert ft.nn.softmax(x, axis=0).shape == ft.nn.softmax(x, 0).shape
        with ft.enable_x64(True):
            assert ft.nn.one_hot(fnp.array([1]), 2).dtype == np.float64
        assert not ft.nn.softmax(x).weak_type
        assert ft.nn.silu(2.0).weak_type
        assert ft.nn.silu(np.ones(2, np.float64)).dtype == np.float64


def test_errors_transforms_and_tracers_are_as_before(known):
    x = fnp.ones((2, 3))
    for _ in range(repeated.AFTER + 2):
        with pytest.raises(ValueError, match="axis 2 is out of bounds"):
            ft.nn.softmax(x, axis=2)
        with pytest.raises(ValueError, match="must have an even size"):
            ft.nn.glu(x)
    for _ in range(repeated.AFTER + 2):
        ft.nn.softmax(x)
    grad = ft.grad(lambda x: (ft.nn.softmax(x) ** 2).sum())(x)
    np.testing.assert_allclose(grad, 0, atol=1e-7)
    with ft.debug_nans(True), pytest.raises(FloatingPointError):
        ft.nn.softmax(x * np.nan)
    with ft.disable_jit():
        ft.nn.softmax(x)


def test_python_runs_a_sixth_of_the_lines(known):
    """Once known, a call runs few lines of Python, whatever the machine's clock says."""
    x = fnp.ones(3)

    def lines():
        count = 0

        def note(frame, event, arg):
            nonlocal count
            count += event == "line"
            return note

        sys.settrace(note)
        ft.nn.log_softmax(x)
        sys.settrace(None)
        return count

    first = lines()
    for _ in range(repeated.AFTER + 1):
        ft.nn.log_softmax(x)
    assert lines() < first / 6


@pytest.mark.parametrize("form", [ft.random.key, ft.random.PRNGKey])
@pytest.mark.parametrize(
    "draw",
    [
        lambda k: ft.random.normal(k, (3,)),
        lambda k: ft.random.uniform(k, (2, 3), fnp.float32, -1.0, maxval=2.0),
        lambda k: ft.random.randint(k, (3,), 0, 10),
        lambda k: ft.random.split(k, 3),
        lambda k: ft.random.fold_in(k, 7),
        lambda k: ft.random.bernoulli(k, 0.3, (5,)),
    ],
)
def test_draws_are_the_same_however_often(draw, form, known):
    def words(drawn):
        keys = isinstance(drawn, type(ft.random.key(0)))
        return bits(ft.random.key_data(drawn) if keys else drawn)

    key = form(3)
    first = draw(key)
    for _ in range(repeated.OFTEN + 2):
        last = draw(key)
    assert type(first) is type(last)
    assert words(first) == words(last)
    with ft.disable_jit():
        assert words(draw(form(4))) == words(draw(form(4))) != words(first)
    assert words(draw(form(4))) != words(first)


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129])
def test_few_counters_are_encrypted_as_many_are(size):
    rng = np.random.default_rng(size)
    words = [rng.integers(0, 2**32, size, np.uint32) for _ in range(4)]
    long = [np.tile(w, 200) for w in words]
    rule = ft.core.primitives["threefry2x32"].eager
    for few, many in zip(rule(np, *words), rule(np, *long), strict=True):
        assert few.dtype == np.uint32
        np.testing.assert_array_equal(few, many[:size])
    one = [np.broadcast_to(w[:1], size) for w in words[:2]]
    for few, many in zip(
        rule(np, *one, *words[2:]), rule(np, *[np.array(x) for x in one], *words[2:]), strict=True
    ):
        np.testing.assert_array_equal(few, many)
