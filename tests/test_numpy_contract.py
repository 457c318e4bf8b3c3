"""What jax.numpy and numpy promise beyond values: who converts, what wraps, which errors come."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as jnp

A = np.arange(12, dtype=np.float32).reshape(3, 4)
V = np.array([3.0, 1.0, 2.0], np.float32)
Z = np.array([1 + 2j, -1j, 3], np.complex64)


class Wrapper:
    """Says by JAX's protocol which array it stands for."""

    def __jax_array__(self):
        return jnp.asarray(V)


class Host:
    def __array__(self, dtype=None, copy=None):
        return V


@pytest.mark.parametrize("through", [lambda f: f, ft.jit])
def test_jax_array_protocol(through):
    w = Wrapper()
    rows = [
        (lambda x: x + w, V + V),
        (lambda x: w * x, V * V),
        (lambda x: w**x, V**V),
        (lambda x: x @ w, V @ V),
        (lambda x: x < w, V < V),
        (lambda x: jnp.stack([w, x]), np.stack([V, V])),
        (lambda x: jnp.sum(jnp.array(w) + x), np.sum(V + V)),
    ]
    for f, want in rows:
        np.testing.assert_allclose(through(f)(jnp.asarray(V)), want, rtol=1e-6)
    assert jnp.array([w, w]).shape == (2, 3)
    assert jnp.array([Host(), Host()]).shape == (2, 3)
    assert ft.grad(lambda x: (x * w).sum())(jnp.asarray(V)).tolist() == V.tolist()


@pytest.mark.parametrize("through", [lambda f: f, ft.jit])
def test_python_ints_wrap_as_in_programs(through):
    small, unsigned = jnp.ones(2, "int8"), jnp.array([1, 2], "uint8")
    assert through(lambda x: x * 1000)(small).tolist() == [-24, -24]
    assert through(lambda x: x + (-1))(unsigned).tolist() == [0, 1]
    assert through(lambda x: x < -1)(unsigned).tolist() == [True, True]
    assert through(lambda x: jnp.maximum(x, 1000))(small).tolist() == [1, 1]
    assert through(lambda x: x & 0xFFFFFFFF)(jnp.array([5], "uint32")).tolist() == [5]
    with pytest.raises(OverflowError, match="add: the Python int 1099511627776 does not fit"):
        through(lambda x: x + 2**40)(jnp.array([1]))


def test_integer_powers_of_negative_exponents():
    base, exponent = jnp.array([1, 2, -1, 0]), jnp.array([2, -1, -3, -1])
    assert (base**exponent).tolist() == ft.jit(jnp.power)(base, exponent).tolist() == [1, 0, -1, 0]
    for error in (TypeError, ValueError):
        with pytest.raises(error, match="cannot be raised to negative powers, got -1"):
            base**-1


@pytest.mark.parametrize("other", [[3, 1, 2], (3, 1, 2), {1}, {"a": 1}])
def test_containers_are_no_operands(other):
    x = jnp.array([3, 1, 2])
    operations = [lambda: x == other, lambda: x != other, lambda: x + other, lambda: x**other]
    for f in [*operations, lambda: other * jnp.int32(2), lambda: jnp.int32(2) * other]:
        with pytest.raises(TypeError, match="unsupported operand type"):
            f()
    assert (x == "a") is False


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    ("old", "new"),
    [("float32", "int8"), ("float32", "uint16"), ("float32", "float64"), ("uint8", "uint32")]
    + [("int64", "float16"), ("complex64", "float32"), ("complex64", "uint8"), ("uint8", "int64")]
    + [("float32", "complex64"), ("complex64", "complex128"), ("bool", "int8")],
)
def test_view_of_another_size(old, new, jit):
    x = np.arange(32).reshape(2, 16).astype(old)
    f = (lambda x: x.view(new)) if not jit else ft.jit(lambda x: x.view(new))
    got, want = f(jnp.array(x)), x.view(new)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert got.tobytes() == want.tobytes()


def test_bytes_of_arrays():
    x = jnp.array([1.0, -2.5])
    words = ft.lax.bitcast_convert_type(x, "uint8")
    assert words.shape == (2, 4)
    assert ft.lax.bitcast_convert_type(words, "float32").tolist() == x.tolist()
    assert x.byteswap().tobytes() == np.asarray(x).byteswap().tobytes()
    with pytest.raises(ValueError, match="its size must be a divisor of the total size in bytes"):
        jnp.zeros(3, "uint8").view("uint16")
    with pytest.raises(ValueError, match="0d array is only supported if the itemsize is unchanged"):
        jnp.float32(1).view("int8")


def test_scalar_types_are_classes():
    assert isinstance(np.float32(1), jnp.float32)
    assert not isinstance(np.float64(1), jnp.float32)
    assert jnp.float32.__name__ == "float32"
    assert jnp.float32("1.5") == 1.5
    assert np.zeros(2, jnp.bfloat16).dtype == jnp.bfloat16
    assert {np.dtype("int8"): 1}[jnp.int8] == 1
    with pytest.raises(OverflowError, match="out of bounds for int8"):
        jnp.int8(300)
    assert not jnp.issubdtype(object, np.number)
    assert not jnp.issubdtype(np.dtype("U3"), np.number)


def test_updates_with_repeated_indices():
    x, i = jnp.array([1.0, 2.0, 3.0]), jnp.array([1, 1])
    assert x.at[i].power(2).tolist() == [1, 16, 3]  # squared twice
    assert x.at[i].divide(2).tolist() == [1, 0.5, 3]
    assert jnp.arange(3).at[1].divide(2).dtype == jnp.float32
    assert jnp.arange(3).at[1].power(-1).tolist() == [0, 1, 2]


METHODS = ["averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen"]


@pytest.mark.parametrize("method", [*METHODS, "weibull", "median_unbiased", "normal_unbiased"])
def test_quantile_methods(method):
    x = np.random.RandomState(0).randn(3, 8)
    q = np.array([0, 0.1, 0.25, 3 / 8, 0.5, 0.77, 1])
    want = np.quantile(x, q, axis=1, method=method)
    np.testing.assert_allclose(jnp.quantile(jnp.array(x), jnp.array(q), 1, method=method), want)
    y = np.append(x[0], np.nan)
    want = np.nanquantile(y, q, method=method)
    np.testing.assert_allclose(jnp.nanquantile(jnp.array(y), jnp.array(q), method=method), want)


def test_values():
    eq = np.testing.assert_array_equal
    assert jnp.quantile(A, -0.5) == 0
    assert jnp.quantile(A, 1.5) == 11
    assert jnp.isnan(jnp.var(V, ddof=3))
    assert jnp.isnan(jnp.linspace(0, 1, 1, retstep=True)[1])
    want = np.log(np.exp(V) + np.exp(Z))
    np.testing.assert_allclose(jnp.logaddexp(V, Z), want, rtol=1e-5)
    eq(jnp.isclose(jnp.array([1.0, np.inf, np.nan]), 0, atol=np.inf), [True, True, False])
    eq(jnp.round(A, 1000), A)
    got = jnp.unwrap(jnp.array([0, 3, 6, 9]), period=4)
    assert (got.dtype, got.tolist()) == (np.int32, [0, -1, -2, -3])
    eq(jnp.roll(A, (1, 2), 0), np.roll(A, (1, 2), 0))
    assert round(jnp.float32(2.5)).dtype == np.int32
    assert repr(jnp.array([])) == "Array([], shape=(0,), dtype=float32)"
    assert jnp.hanning(5.0).shape == jnp.kaiser(np.array(5), 14).shape == (5,)
    assert jnp.fft.fftfreq(5.0).shape == (5,)
    assert jnp.linalg.norm(jnp.zeros(0), np.inf) == 0
    eq(jnp.cov(A, ddof=1.5), np.full((3, 3), 2.0))
    assert jnp.add.accumulate(A, axis=None).shape == (12,)
    assert jnp.isscalar("a")
    assert jnp.fromiter(iter([1, 2]), "int32").tolist() == [1, 2]
    assert jnp.nanvar(jnp.array([1.0, 2.0, np.nan]), correction=1) == 0.5
    assert jnp.einsum_path("ij,jk", A, A.T)[0] == [(0, 1)]


def test_written_files(tmp_path):
    V.tofile(tmp_path / "v")
    assert jnp.fromfile(tmp_path / "v", "float32").tolist() == V.tolist()


# call, the errors that NumPy or JAX raise, text
ERRORS = [
    (lambda: jnp.clip(Z), ValueError, "complex values have no ordering and cannot be clipped"),
    (lambda: jnp.hypot(Z, Z), (ValueError, TypeError), "hypot does not accept dtype complex64"),
    (lambda: jnp.tensordot(A, V, 2), (TypeError, ValueError), "exceeds input ranks"),
    (lambda: jnp.tensordot(A, A, ([0], [0, 1])), TypeError, "lists to have equal length"),
    (lambda: jnp.tensordot(A, A, "xyz"), TypeError, "axes argument must be an int, a pair of ints"),
    (lambda: jnp.concatenate([V, A]), (TypeError, ValueError), "sizes must agree"),
    (lambda: jnp.matmul(A, A), (TypeError, ValueError), "the contracted sizes differ"),
    (lambda: jnp.argmax(jnp.zeros((2, 0)), 1), ValueError, "attempt to get argmax of an empty"),
    (lambda: jnp.max(jnp.zeros(0)), ValueError, "zero-size array to reduction operation max"),
    (lambda: jnp.sum(A, where=A), (TypeError, ValueError), "where must be None or a boolean"),
    (lambda: jnp.sum(V, initial=V), ValueError, "initial value must be a scalar"),
    (lambda: jnp.var(V, ddof=1, correction=1), ValueError, "ddof and correction can't be"),
    (lambda: jnp.median(Z), (TypeError, ValueError), "complex numbers have no order"),
    (lambda: jnp.take(V, jnp.array([0.5])), (TypeError, ValueError), "indices must be integers"),
    (lambda: jnp.take(V, 0, mode="raise"), NotImplementedError, "mode='raise' is not supported"),
    (lambda: jnp.choose(V, [V]), (TypeError, ValueError), "choose: a must be integers"),
    (lambda: jnp.gcd(1.5, 2), (TypeError, ValueError), "must be integers"),
    (lambda: jnp.ldexp(V, V), (TypeError, ValueError), "ldexp: not supported for input types"),
    (lambda: jnp.vander(V, -1), ValueError, "N must be nonnegative"),
    (lambda: jnp.compress(A > 3, V), ValueError, "condition must be a 1D array"),
    (lambda: jnp.put(V, 0, 1), (ValueError, NotImplementedError), "inplace=False"),
    (lambda: jnp.bincount(A.astype(int)), ValueError, "only 1-dimensional input supported"),
    (lambda: jnp.cov(A, fweights=V), TypeError, "fweights must be integer"),
    (lambda: jnp.cov(A, aweights=V), RuntimeError, "incompatible numbers of samples"),
    (lambda: jnp.cov(jnp.ones((2, 2, 2))), ValueError, "at most 2 dimensions"),
    (lambda: jnp.interp(V, V, V, left="x"), ValueError, "only valid string value of `left`"),
    (lambda: jnp.interp(V, V[:0], V[:0]), ValueError, "array of sample points is empty"),
    (lambda: jnp.linalg.qr(V), (TypeError, ValueError), "qr: argument a must hold matrices"),
    (lambda: jnp.linalg.cross(V[:2], V[:2]), ValueError, "3-dimensional vectors"),
    (lambda: jnp.linalg.outer(A, V), ValueError, "must be one-dimensional"),
    (lambda: jnp.fft.rfft(Z), (TypeError, ValueError), "argument a must be real"),
    (lambda: jnp.fft.fftfreq([5]), ValueError, "fftfreq: n must be a single number"),
    (lambda: jnp.polyfit(A, V, 1), (TypeError, ValueError), "x must be a vector"),
    (lambda: jnp.isin(V, V, method="x"), ValueError, "method='x' is not implemented"),
    (lambda: jnp.searchsorted(V, 1, method="x"), ValueError, "invalid argument method='x'"),
    (lambda: jnp.roll(A, (1, 2, 3), (0, 1)), ValueError, "3 shifts were given for 2 axes"),
    (lambda: jnp.block([[V], V]), ValueError, "mismatched list depths"),
    (lambda: jnp.block([]), ValueError, "an empty list"),
    (lambda: jnp.array(A)[0.5], (IndexError, TypeError), "an index must be an int"),
    (lambda: jnp.array(A)[V], (IndexError, TypeError), "integers or bool|integer or bool"),
    (lambda: jnp.array(A)[np.zeros(2, int), np.zeros(3, int)], (IndexError, ValueError), "do not"),
    (lambda: ft.jit(lambda x, i: x[i:])(V, 1), (IndexError, TypeError), "a slice bound"),
    (lambda: jnp.array(A).reshape(5, -1), (TypeError, ValueError), "does not fit into shape"),
    (lambda: jnp.array(A).transpose(0), (TypeError, ValueError), "is no permutation"),
    (lambda: jnp.zeros(-1), (TypeError, ValueError), "has a negative size"),
    (lambda: jnp.array(None), (TypeError, ValueError), "None is not a valid value"),
    (lambda: jnp.array(A).view("int8", type=1), NotImplementedError, "type= is not supported"),
]


@pytest.mark.parametrize("row", range(len(ERRORS)))
def test_errors(row):
    call, kinds, text = ERRORS[row]
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        with pytest.raises(kind, match=text):
            call()
