"""Random junk for every public function: a result, or an error that says what is wrong."""

import inspect
import warnings

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp

# NameError: an axis name that is not bound, as in JAX.
ALLOWED = (
    TypeError, ValueError, IndexError, OverflowError, NotImplementedError, ZeroDivisionError,
    NameError,
)  # fmt: skip
SPACES = {
    "numpy": fnp, "numpy.linalg": fnp.linalg, "numpy.fft": fnp.fft, "lax": ft.lax, "nn": ft.nn,
    "nn.initializers": ft.nn.initializers, "random": ft.random, "image": ft.image, "ops": ft.ops,
    "scipy.special": ft.scipy.special, "scipy.signal": ft.scipy.signal, "scipy.fft": ft.scipy.fft,
    "scipy.ndimage": ft.scipy.ndimage, "scipy.optimize": ft.scipy.optimize,
    "scipy.sparse.linalg": ft.scipy.sparse.linalg, "scipy.cluster.vq": ft.scipy.cluster.vq,
    "scipy.linalg": ft.scipy.linalg, "scipy.stats": ft.scipy.stats,
    "scipy.interpolate": ft.scipy.interpolate, "scipy.integrate": ft.scipy.integrate,
}  # fmt: skip
# They write files, change how arrays print, or are types of options.
LEFT_OUT = {"save", "savez", "load", "set_printoptions", "printoptions", "get_printoptions"}


def array(*shape, dtype="float32"):
    return fnp.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype))


USUAL = [array(3), array(2, 3), array(3, 3), array(2, 3, 4), array(3, dtype="int32")]
JUNK = [
    None, 0, 1, -1, 2, 7, -9, 1.5, float("nan"), True, "x", "full", 1j, (), (0,), (1, 2), (0, 0),
    [1, 2], [], {}, object(), b"x", array(), array(0), array(3) > 1, array(0, 3),
    array(2, 2, dtype="int64"), array(3, dtype="complex64"), array(2, dtype="uint8"), np.ones(3),
    np.ones((2, 2)), np.array("s"), np.array([None]), np.int8, "float32", "int99", slice(None), ...,
    len, lambda *a: a[0] if a else 1, range(3), -(10**6),
]  # fmt: skip


def functions(space):
    names = getattr(space, "__all__", None) or dir(space)
    found = [getattr(space, n) for n in names if n not in LEFT_OUT and not n.startswith("_")]
    classes = (ft.scipy.interpolate.RegularGridInterpolator,)
    return [f for f in found if callable(f) and (not isinstance(f, type) or f in classes)]


def shape_of_call(function):
    """Return least and most positional arguments, and the names of keywords."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return 1, 3, []
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = sum(p.default is p.empty for p in places)
    return least, max(least, len(places)), [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


@st.composite
def calls(draw, space):
    function = draw(st.sampled_from(functions(space)))
    least, most, keywords = shape_of_call(function)
    args = draw(
        st.lists(st.sampled_from(JUNK + USUAL), min_size=least, max_size=min(most, least + 3))
    )
    if args and draw(st.booleans()):
        args[0] = draw(st.sampled_from(USUAL))
    kwargs = {}
    if keywords and draw(st.booleans()):
        kwargs[draw(st.sampled_from(keywords))] = draw(st.sampled_from(JUNK))
    return function, args, kwargs


@pytest.mark.parametrize("name", SPACES)
def test_junk(name):
    examples = 150 if name in ("numpy", "lax") else 30

    @hypothesis.settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(calls(SPACES[name]))
    def check(call):
        function, args, kwargs = call
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                function(*args, **kwargs)
            except ALLOWED as error:
                if not str(error):
                    raise AssertionError(f"{function} raised {error!r} without a message") from None

    check()
