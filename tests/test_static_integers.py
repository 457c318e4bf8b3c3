"""NumPy integers given as sizes, axes and places become plain ints before they reach a program."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.jaxpr import Jaxpr

N = np.int64
CALLS = {
    "zeros": lambda x: fnp.zeros((N(3),)),
    "full": lambda x: fnp.full(np.array([2, 3]), 1.0),
    "reshape": lambda x: x.reshape(N(2), -1),
    "broadcast": lambda x: lax.broadcast(x, (N(2),)),
    "broadcast_to": lambda x: fnp.broadcast_to(x, (N(2), *x.shape)),
    "iota": lambda x: lax.broadcasted_iota(np.int32, (N(3), 2), N(0)),
    "normal": lambda x: ft.random.normal(ft.random.PRNGKey(0), (N(3),)),
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (0, 0), (N(2), N(3))),
    "slice": lambda x: lax.slice(x, (N(0), N(0)), (N(2), N(2)), (N(1), N(2))),
    "pad": lambda x: lax.pad(x, 0.0, [(N(1), N(1), N(0)), (0, N(0), N(1))]),
    "top_k": lambda x: lax.top_k(x, N(2))[0],
    "diag": lambda x: fnp.diag(x[0], N(1)),
    "unique": lambda x: fnp.unique(x, size=N(3)),
    "index": lambda x: x[N(0) : N(2), N(1)],
    "split": lambda x: fnp.split(x, np.array([1, 3]), axis=1)[1],
    "fft": lambda x: fnp.fft.irfft(x + 0j, N(7)),
    "scan": lambda x: lax.scan(lambda c, _: (c, c), x, None, length=N(3))[1],
    "sum": lambda x: x.sum(axis=N(0)),
    "repeat": lambda x: fnp.repeat(x, np.array([1, 2, 0, 1]), axis=0),
}


def integers(jaxpr):
    """Yield all integers in the types and parameters of a program."""

    def inside(value):
        if isinstance(value, Jaxpr):
            yield from integers(value)
        elif isinstance(value, (tuple, list)):
            for v in value:
                yield from inside(v)
        elif isinstance(value, (int, np.integer)):
            yield value

    for v in (*jaxpr.invars, *(v for e in jaxpr.eqns for v in (*e.invars, *e.outvars))):
        yield from v.aval.shape
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            yield from inside(value)


@pytest.mark.parametrize("name", CALLS)
def test_programs_hold_plain_integers(name):
    jaxpr = ft.make_jaxpr(CALLS[name])(np.arange(24.0).reshape(4, 6)).jaxpr
    assert {type(n) for n in integers(jaxpr)} <= {int, bool}


def test_described_arrays_have_plain_sizes():
    struct = ft.ShapeDtypeStruct((N(3), 2), np.float32)
    assert [type(n) for n in struct.shape] == [int, int]
    with pytest.raises(TypeError, match="float"):
        ft.ShapeDtypeStruct((2.0,), np.float32)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: lax.slice(x, (0.5, 0), (2, 2)), "slice: start_indices must be an integer"),
        (lambda x: lax.dynamic_slice(x, (0, 0), (1.5, 1)), "slice_sizes must be an integer"),
        (lambda x: lax.pad(x, 0.0, [(1.5, 0, 0)] * 2), "padding_config must be an integer"),
        (lambda x: lax.top_k(x, 1.5), "top_k: k must be an integer"),
        (lambda x: fnp.diag(x[0], 0.5), "diag: k must be an integer"),
    ],
)
def test_other_numbers_are_refused(call, text):
    with pytest.raises(TypeError, match=text):
        call(fnp.ones((4, 6)))
