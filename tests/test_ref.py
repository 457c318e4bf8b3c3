"""Mutable references, and where they end."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import ref as refs


def edited(x):
    r = ft.new_ref(x)
    r[0] = 5.0
    r[1:] += 1
    refs.addupdate(r, fnp.array([2, 2]), 1.0)
    before = refs.swap(r, 1, 7.0)
    refs.set(r, 0, r.get()[0] + before)
    return ft.freeze(r)


def test_references_under_transforms():
    x = np.array([1.0, 2.0, 3.0])
    assert edited(x).tolist() == ft.jit(edited)(x).tolist() == [8, 7, 6]
    assert ft.vmap(edited)(np.stack([x, x + 1])).tolist() == [[8, 7, 6], [9, 7, 7]]
    slopes = ft.grad(lambda x: (edited(x) * np.array([2.0, 3.0, 5.0])).sum())
    assert slopes(x).tolist() == ft.jit(slopes)(x).tolist() == [0, 2, 5]
    assert x.tolist() == [1, 2, 3]


def test_a_reference_knows_its_type():
    r = ft.empty_ref((2, 3), "int32")
    assert (r.shape, r.dtype, r.ndim, r.size, len(r)) == ((2, 3), np.int32, 2, 6, 2)
    r.set(2.7)
    assert r[...].dtype == np.int32
    assert r[1, 2] == 2
    assert "Ref(Array(" in repr(r)
    assert not ft.new_ref(1.0)[...].weak_type
    assert isinstance(r, ft.Ref)


def test_references_end_and_do_not_cross_borders():
    r = ft.new_ref(np.zeros(2))
    match = r"a Ref made outside of <lambda> .*Pass in ref.*return the new value"
    with pytest.raises(NotImplementedError, match=match):
        ft.jit(lambda x: r.set(x))(1.0)
    with pytest.raises(NotImplementedError, match=match):
        ft.lax.scan(lambda c, x: (r[...], x), np.zeros(2), np.ones(3))
    with pytest.raises(TypeError, match=r"is Ref.* of type Ref"):
        ft.jit(lambda r: r)(r)
    ft.free_ref(r)
    for use in (lambda: r[...], lambda: r.set(1.0), lambda: ft.freeze(r)):
        with pytest.raises(ValueError, match="was frozen or freed: make a new one with new_ref"):
            use()
