"""Rotations and their interpolation against SciPy's."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Reference
from scipy.spatial.transform import Slerp as ReferenceSlerp

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.scipy.spatial.transform import Rotation, Slerp

SEQUENCES = ["".join(s) for s in itertools.product("xyz", repeat=3) if s[0] != s[1] != s[2]]
RNG = np.random.default_rng(0)
V, Q = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 4))


@pytest.mark.parametrize("seq", [*SEQUENCES, *map(str.upper, SEQUENCES)])
def test_angles(seq):
    """There and back; also where the first and the third axis fall together."""
    angles = RNG.uniform(-3, 3, (5, 3))
    ours, theirs = Rotation.from_euler(seq, angles), Reference.from_euler(seq, angles)
    assert np.allclose(ours.as_matrix(), theirs.as_matrix())
    assert np.allclose(ours.as_euler(seq), theirs.as_euler(seq))
    angles[:, 1] = 0 if seq[0] == seq[2] else np.pi / 2
    ours = Rotation.from_euler(seq, angles)
    assert (ours.as_euler(seq)[:, 2] == 0).all()
    again = Rotation.from_euler(seq, ours.as_euler(seq))
    assert np.allclose(again.as_matrix(), Reference.from_euler(seq, angles).as_matrix(), atol=1e-6)


def test_forms():
    ours, theirs = Rotation.from_rotvec(V), Reference.from_rotvec(V)
    for name in ("as_quat", "as_matrix", "as_rotvec", "as_mrp", "magnitude"):
        assert np.allclose(getattr(ours, name)(), getattr(theirs, name)()), name
    for options in ({"canonical": True}, {"scalar_first": True}):
        assert np.allclose(ours.as_quat(**options), theirs.as_quat(**options))
    matrix = Reference.from_quat(Q).as_matrix()
    assert np.allclose(Rotation.from_matrix(matrix).as_quat(),
                       Reference.from_matrix(matrix).as_quat())  # fmt: skip
    assert np.allclose(Rotation.from_mrp(V).as_matrix(), Reference.from_mrp(V).as_matrix())
    assert Rotation.identity(2).as_quat().tolist() == [[0, 0, 0, 1]] * 2


def test_operations():
    ours, theirs = Rotation.from_rotvec(V), Reference.from_rotvec(V)
    p, q = Rotation.from_quat(Q), Reference.from_quat(Q)
    assert np.allclose((ours * p).as_matrix(), (theirs * q).as_matrix())
    for inverse in (False, True):
        assert np.allclose(ours.apply(V, inverse), theirs.apply(V, inverse))
        assert np.allclose(ours[0].apply(V, inverse), theirs[0].apply(V, inverse))
    assert np.allclose((ours * ours.inv()).magnitude(), 0, atol=1e-6)
    weights = np.arange(1.0, 7)
    assert np.allclose(ours.mean(weights).as_matrix(), theirs.mean(weights).as_matrix())
    assert len(Rotation.concatenate([ours, p])) == 12
    assert ours[0].single
    times, at = np.arange(6.0), np.linspace(0, 5, 17)
    want = ReferenceSlerp(times, theirs)(at).as_matrix()
    assert np.allclose(Slerp.init(times, ours)(at).as_matrix(), want)


def test_transforms_take_rotations():
    assert ft.jit(lambda r: r.as_matrix())(Rotation.random(ft.random.key(0), 2)).shape == (2, 3, 3)
    assert ft.vmap(lambda r: r.magnitude())(Rotation.from_rotvec(V)).shape == (6,)
    there_and_back = ft.grad(lambda v: Rotation.from_rotvec(v).as_rotvec().sum())
    assert np.allclose(there_and_back(fnp.zeros(3)), 1)


def test_errors():
    with pytest.raises(ValueError, match=r"must have 1 to 3 letters.*got 'xYz'"):
        Rotation.from_euler("xYz", V)
    with pytest.raises(ValueError, match="consecutive axes must differ, got 'xxy'"):
        Rotation.from_euler("xxy", V)
    with pytest.raises(ValueError, match=r"one for each of 'xyz', got shape \(6, 4\)"):
        Rotation.from_euler("xyz", Q)
    with pytest.raises(ValueError, match=r"times must have shape \(6,\)"):
        Slerp(np.arange(5.0), Rotation.from_rotvec(V))
