"""`funtorch.nn` and `funtorch.scipy.special`: values of JAX and SciPy, derivatives at kinks."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn, random
from funtorch.scipy import special

X = np.linspace(-7, 7, 140, dtype=np.float32).reshape(2, 7, 10)
ACTIVATIONS = [
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
]


@pytest.mark.parametrize("name", [*ACTIVATIONS, "glu"])
def test_activations(name: str) -> None:
    jax_nn = pytest.importorskip("jax.nn")
    got, expected = getattr(nn, name)(fnp.asarray(X)), np.asarray(getattr(jax_nn, name)(X))
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_at_kinks(name: str) -> None:
    jax = pytest.importorskip("jax")
    points = [-3.0, -1.0, 0.0, 1.0, 3.0, 6.0]
    got = [float(ft.grad(getattr(nn, name))(p)) for p in points]
    expected = [float(jax.grad(getattr(jax.nn, name))(p)) for p in points]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


AXIS = ["softmax", "log_softmax", "logsumexp", "logmeanexp", "standardize"]


@pytest.mark.parametrize("name", AXIS)
@pytest.mark.parametrize("axis", [-1, 1, (0, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_functions_along_axes(name: str, axis: object, masked: bool) -> None:
    jax_nn = pytest.importorskip("jax.nn")
    where = np.random.default_rng(0).random(X.shape) > 0.4 if masked else None
    mask = None if where is None else fnp.asarray(where)
    got = getattr(nn, name)(fnp.asarray(X), axis=axis, where=mask)
    expected = getattr(jax_nn, name)(X, axis=axis, where=where)
    np.testing.assert_allclose(got, np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_one_hot() -> None:
    assert nn.one_hot(np.array([1, -1]), 2).tolist() == [[0, 1], [0, 0]]
    assert nn.one_hot(np.array([1, 0, 5]), 2, axis=0).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"local_window_size": (1, 2)},
        {"query_seq_lengths": np.int32([3, 5])},
        {"key_value_seq_lengths": np.int32([3, 5])},
    ],
)
def test_attention(options: dict[str, object]) -> None:
    jax_nn = pytest.importorskip("jax.nn")
    rng = np.random.default_rng(1)
    query, key, value = (
        rng.normal(size=s).astype("float32") for s in ((2, 5, 4, 8), (2, 6, 2, 8), (2, 6, 2, 8))
    )
    ours = {n: fnp.asarray(v) if isinstance(v, np.ndarray) else v for n, v in options.items()}
    got = nn.dot_product_attention(query, key, value, **ours)
    expected = jax_nn.dot_product_attention(query, key, value, **options)
    np.testing.assert_allclose(got, np.asarray(expected), rtol=1e-5, atol=1e-6)


def test_attention_names_what_does_not_fit() -> None:
    x = fnp.ones((1, 4, 3, 8))
    with pytest.raises(ValueError, match=r"N a multiple of K; got query float32\[1,4,3,8\]"):
        nn.dot_product_attention(x, x[:, :, :2], x[:, :, :2])


MAKERS = [
    "truncated_normal",
    "uniform",
    "normal",
    "glorot_uniform",
    "glorot_normal",
    "lecun_uniform",
    "lecun_normal",
    "he_uniform",
    "he_normal",
    "orthogonal",
]


@pytest.mark.parametrize("name", MAKERS)
def test_initializers(name: str) -> None:
    jax = pytest.importorskip("jax")
    shape = (3, 3, 4, 6)
    got = getattr(nn.initializers, name)()(random.key(3), shape)
    expected = getattr(jax.nn.initializers, name)()(jax.random.key(3), shape)
    np.testing.assert_allclose(got, np.asarray(expected), rtol=1e-5, atol=1e-6)


def test_initializers_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="at least two axes"):
        nn.initializers.he_normal()(random.key(0), (3,))
    with pytest.raises(ValueError, match="mode must be one of fan_in"):
        nn.initializers.variance_scaling(1.0, "fan", "normal")


P, POSITIVE, REAL = np.linspace(0, 1, 21), np.linspace(0.1, 20, 50), np.linspace(-5.1, 5, 41)
SPECIAL = {
    "beta": (POSITIVE, POSITIVE[::-1].copy()),
    "betaln": (POSITIVE, POSITIVE[::-1].copy()),
    "digamma": (POSITIVE,),
    "entr": (REAL,),
    "erf": (REAL,),
    "erfc": (REAL,),
    "erfinv": (P,),
    "expit": (REAL,),
    "factorial": (POSITIVE,),
    "gamma": (REAL,),
    "gammaln": (REAL,),
    "kl_div": (P, P[::-1].copy()),
    "log_ndtr": (REAL * 8,),
    "log_softmax": (REAL,),
    "logit": (P,),
    "logsumexp": (REAL,),
    "ndtr": (REAL,),
    "ndtri": (P,),
    "poch": (POSITIVE, P[3] + 0 * POSITIVE),
    "rel_entr": (P, P[::-1].copy()),
    "softmax": (REAL,),
    "xlog1py": (P, P),
    "xlogy": (P, P),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name: str) -> None:
    scipy_special = pytest.importorskip("scipy.special")
    got = getattr(special, name)(*map(fnp.asarray, SPECIAL[name]))
    with np.errstate(all="ignore"):
        expected = getattr(scipy_special, name)(*SPECIAL[name])
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-12)


def test_special_functions_with_static_order() -> None:
    scipy_special = pytest.importorskip("scipy.special")
    x = fnp.asarray(POSITIVE + 2)
    for got, expected in [
        (special.polygamma(2, x), scipy_special.polygamma(2, POSITIVE + 2)),
        (special.zeta(3, x), scipy_special.zeta(3, POSITIVE + 2)),
        (special.multigammaln(x, 3), scipy_special.multigammaln(POSITIVE + 2, 3)),
    ]:
        np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_logsumexp_with_factors_and_sign() -> None:
    a, b = np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[1.0, -1.0], [2.0, 0.0]])
    out, sign = special.logsumexp(a, axis=1, b=b, return_sign=True)
    np.testing.assert_allclose(out, np.log([np.e - 1, 2 * np.exp(2)]))
    assert sign.tolist() == [-1, 1]
    assert float(special.logsumexp(fnp.array([-np.inf, -np.inf]))) == -np.inf
