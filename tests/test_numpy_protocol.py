"""Operators, conversions, methods, and NumPy's own functions on Arrays and tracers."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import Array, ShapedArray
from funtorch.errors import TracerArrayConversionError, TracerBoolConversionError
from funtorch.jaxpr import eval_jaxpr, stage

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)

CALLS = {
    "sin": lambda x: np.sin(x),
    "add": lambda x: np.add(x, X),
    "reflected": lambda x: X + x,
    "where": lambda x: np.where(x > 2, x, 0.0),
    "concatenate": lambda x: np.concatenate([x, x]),
    "stack": lambda x: np.stack([x, X]),
    "norm": lambda x: np.linalg.norm(x),
    "sum": lambda x: np.sum(x, axis=0),
    "reduce": lambda x: np.add.reduce(x, axis=1),
    "outer": lambda x: np.multiply.outer(x, x),
    "mean": lambda x: np.mean(x),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "matmul": lambda x: np.matmul(X.T, x),
    "dot": lambda x: np.dot(x, X.T),
    "max": lambda x: np.max(x),
    "transpose": lambda x: np.transpose(x),
    "clip": lambda x: np.clip(x, 2, 5),
    "fft": lambda x: np.fft.irfft2(np.fft.rfft2(x, norm="ortho"), x.shape, norm="ortho"),
    "fftshift": lambda x: np.fft.fftshift(x, 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_numpy_functions_on_arrays_and_tracers(name):
    call = CALLS[name]
    want = call(X)
    got = call(fnp.asarray(X))
    assert isinstance(got, Array)
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-5)
    jaxpr = stage(lambda x: [call(x)], [ShapedArray(X.shape, X.dtype)])
    np.testing.assert_allclose(np.asarray(eval_jaxpr(jaxpr, fnp.asarray(X))[0]), want, rtol=1e-5)


def traced(f, dtype=np.float32, shape=()):
    return stage(lambda x: [fnp.asarray(f(x))], [ShapedArray(shape, np.dtype(dtype))])


@pytest.mark.parametrize(
    ("f", "error", "text"),
    [
        (bool, TracerBoolConversionError, "where.*cond"),
        (float, TypeError, "astype"),
        (int, TypeError, "astype"),
        (np.array, TracerArrayConversionError, "funtorch.numpy.array"),
        (lambda x: np.real_if_close(x), TypeError, "no counterpart"),
    ],
)
def test_what_needs_values_says_what_to_write(f, error, text):
    with pytest.raises(error, match=text):
        traced(f)


def test_numpy_arrays_cannot_be_indexed_by_tracers():
    with pytest.raises(TracerArrayConversionError, match=r"funtorch.numpy.array"):
        traced(lambda i: np.arange(3)[i], np.int32)
    with pytest.raises(TypeError, match=r"at\[i\]\.set"):
        traced(lambda x: np.zeros(3).__setitem__(slice(1), x[None]))
    # For a single element NumPy raises its own error, with ours as the cause.
    with pytest.raises(ValueError, match="element") as caught:
        traced(lambda x: np.zeros(3).__setitem__(0, x))
    assert "traced array" in str(caught.value.__cause__)


def test_numpy_view_is_read_only_and_shared():
    x = fnp.asarray(X)
    view = np.asarray(x)
    assert np.shares_memory(view, np.asarray(x))
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 9
    source = X.copy()
    y = fnp.asarray(source)
    source[:] = 0
    assert y.tolist() == X.tolist()


def test_repr_and_dtypes():
    assert repr(fnp.array([1.0, 2.0])) == "Array([1., 2.], dtype=float32)"
    assert repr(fnp.asarray(2.0)) == "Array(2., dtype=float32, weak_type=True)"
    assert fnp.asarray(np.zeros(2)).dtype == np.float64
    assert fnp.array([1, 2]).dtype == np.int32
    assert fnp.array([2**40]).dtype == np.int64
    assert (fnp.array([1], "int8") + 1).dtype == np.int8
    assert (fnp.array([1]) + 1.5).dtype == np.float32
    assert fnp.float32(1).dtype == np.float32
    with pytest.raises(TypeError, match=r"dtype\(.O.\)"):
        fnp.asarray(np.array([None]))


def test_python_protocols():
    x = fnp.array([3.0, 1.0, 2.0])
    assert len(x) == 3
    assert [float(v) for v in x] == [3.0, 1.0, 2.0]
    assert f"{x[0]:.2f}" == "3.00"
    assert 2.0 in x
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    assert pickle.loads(pickle.dumps(x)).tolist() == x.tolist()
    assert copy.deepcopy(x) is x
    assert range(5)[fnp.asarray(2)] == 2
    assert np.from_dlpack(x).tolist() == x.tolist()
    assert x.__array_namespace__() is fnp


def test_methods():
    x = fnp.asarray(X)
    assert x.T.shape == (3, 2)
    assert x.reshape(3, -1).shape == (3, 2)
    assert x.astype("int32").dtype == np.int32
    assert x.sum().item() == 21.0
    assert (x.nbytes, x.itemsize) == (24, 4)
    assert x.view("int32").dtype == np.int32
    assert x.block_until_ready() is x


def test_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zero = fnp.zeros(2)
        assert np.isnan(np.asarray(zero / zero)).all()
        assert fnp.log(zero).tolist() == [-np.inf, -np.inf]
        assert fnp.asarray([1]) // fnp.asarray([0]) is not None


def test_shape_errors_name_the_arguments():
    a, b = fnp.zeros((2, 3)), fnp.zeros((4,))
    with pytest.raises(
        ValueError, match=r"argument 0 is float32\[2,3\], argument 1 is float32\[4\]"
    ):
        a + b
    with pytest.raises(ValueError, match=r"matmul.*a is float32\[2,3\]"):
        a @ b
    with pytest.raises(ValueError, match=r"arrays\[1\] is float32\[2,2\]"):
        fnp.concatenate([a, fnp.zeros((2, 2))])
    with pytest.raises(TypeError, match=r"sin: argument x .* list"):
        fnp.sin([1.0])


@pytest.mark.parametrize(
    "program",
    [
        lambda x: np.sum(np.array([x[0], x[1] ** 2])),
        lambda x: np.sum(np.array(x) ** 2),
        lambda x: np.sum(np.full((2,), x[0])),
        lambda x: np.sum(np.asarray([[x[0], 1.0], [2.0, x[1]]])),
    ],
)
def test_numpy_arrays_of_differentiated_values_are_refused(program):
    """They would hold the values without their derivatives: a wrong gradient, and no word of it."""
    for transform in (ft.grad, ft.jacfwd, ft.hessian):
        with pytest.raises(TracerArrayConversionError, match="would have no derivative") as caught:
            transform(program)(fnp.arange(3.0))
        assert "stop_gradient(x) first" in str(caught.value)
        assert "test_numpy_protocol.py" in str(caught.value)
    plain = ft.grad(lambda x: np.sum(x * np.asarray(ft.stop_gradient(x))))(fnp.arange(3.0))
    assert plain.tolist() == [0.0, 1.0, 2.0]


def test_a_numpy_array_at_traced_places_says_how():
    places = np.array([2, 0])
    with pytest.raises(TracerArrayConversionError, match=r"by funtorch\.numpy\.asarray\(a\)\[i\]"):
        ft.jit(lambda i: np.arange(3.0)[i])(places)


class HasArray:
    """An object with an array, as libraries built on JAX have them."""

    def __init__(self, array):
        self.array = array

    def __jax_array__(self):
        return self.array


def test_objects_that_have_an_array():
    x = HasArray(fnp.arange(3.0))
    assert fnp.asarray(x).tolist() == [0, 1, 2]
    assert fnp.exp2(x).tolist() == [1, 2, 4]
    assert (fnp.ones(3) + x).tolist() == (2 * fnp.ones(3) + x - 1).tolist() == [1, 2, 3]
    assert fnp.array([x, [3, 4, 5]]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert fnp.asarray(x, "int32").dtype == np.int32
    assert ft.grad(lambda c: fnp.dot(HasArray(c * fnp.ones(3)), x))(2.0) == 3
    assert ft.jit(lambda x: x * 2)(x).tolist() == [0, 2, 4]
