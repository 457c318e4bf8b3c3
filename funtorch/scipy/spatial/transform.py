"""Rotations of space and interpolation between them, with SciPy's names.

References:
    scipy.spatial.transform
    F. L. Markley, Unit quaternion from rotation matrix (2008).
    E. Bernardes and S. Viollet, Quaternion to Euler angles conversion (2022).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes, random
from funtorch import numpy as fnp
from funtorch.tree import register_pytree_node_class

__all__ = ["Rotation", "Slerp"]


def _floats(x: Any) -> Any:
    x = fnp.asarray(x)
    return x.astype(dtypes.to_inexact(x.dtype))


def _norm(x: Any) -> Any:
    """Return the length of vectors, whose derivative at 0 is 0."""
    square = (x * x).sum(-1, keepdims=True)
    zero = square == 0
    return fnp.where(zero, 0, fnp.sqrt(fnp.where(zero, 1, square)))


def _product(p: Any, q: Any) -> Any:
    """Return the product of quaternions (x, y, z, w)."""
    a, b = p[..., :3], q[..., :3]
    v, w = p[..., 3:], q[..., 3:]
    xyz = v * b + w * a + fnp.cross(a, b)
    return fnp.concatenate([xyz, v * w - (a * b).sum(-1, keepdims=True)], -1)


def _axes(seq: str) -> tuple[list[int], bool]:
    """Return the axes that a sequence of letters names, and whether they turn with the body."""
    if not re.fullmatch("[xyz]{1,3}|[XYZ]{1,3}", seq):
        raise ValueError(
            "a sequence of axes must have 1 to 3 letters, all of xyz (fixed axes) or all of XYZ "
            f"(axes that turn with the body), got {seq!r}"
        )
    if any(a == b for a, b in itertools.pairwise(seq)):
        raise ValueError(f"consecutive axes must differ, got {seq!r}")
    return ["xyz".index(c) for c in seq.lower()], seq.isupper()


@register_pytree_node_class
class Rotation:
    """One rotation, or an array of them, kept as unit quaternions (x, y, z, w).

    Args:
        quat: array of shape (4,) or (n, 4). The methods ``from_...`` normalise theirs.

    Example:
        >>> r = Rotation.from_euler("z", 90, degrees=True)
        >>> fnp.round(r.apply(fnp.array([1.0, 0.0, 0.0])), 4)
        Array([0., 1., 0.], dtype=float32)
    """

    def __init__(self, quat: Any) -> None:
        self.quat = quat

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        """Return the quaternions."""
        return (self.quat,), None

    @classmethod
    def tree_unflatten(cls, static: None, parts: Sequence[Any]) -> Rotation:
        """Build the rotation from what `tree_flatten` gave."""
        return cls(parts[0])

    def __repr__(self) -> str:
        return f"Rotation(quat={self.quat!r})"

    # ------------------------------------------------------------------------------ made from
    @classmethod
    def from_quat(cls, quat: Any, *, scalar_first: bool = False) -> Rotation:
        """Return the rotations of quaternions (x, y, z, w), or (w, x, y, z)."""
        quat = _floats(quat)
        quat = fnp.roll(quat, -1, -1) if scalar_first else quat
        return cls(quat / _norm(quat))

    @classmethod
    def from_matrix(cls, matrix: Any) -> Rotation:
        """Return the rotations of orthogonal matrices of shape (3, 3) or (n, 3, 3)."""
        m = _floats(matrix)
        trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
        rows = []
        for i in range(3):  # the largest component is divided by
            j, k = (i + 1) % 3, (i + 2) % 3
            parts = [None] * 3
            parts[i] = 1 - trace + 2 * m[..., i, i]
            parts[j] = m[..., j, i] + m[..., i, j]
            parts[k] = m[..., k, i] + m[..., i, k]
            rows.append(fnp.stack([*parts, m[..., k, j] - m[..., j, k]], -1))
        last = [m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0]]
        last += [m[..., 1, 0] - m[..., 0, 1], 1 + trace]
        rows.append(fnp.stack(last, -1))
        sizes = fnp.stack([m[..., 0, 0], m[..., 1, 1], m[..., 2, 2], trace], -1)
        best = fnp.argmax(sizes, -1)[..., None, None]
        return cls.from_quat(fnp.take_along_axis(fnp.stack(rows, -2), best, -2)[..., 0, :])

    @classmethod
    def from_rotvec(cls, rotvec: Any, degrees: bool = False) -> Rotation:
        """Return the rotations about vectors, by angles that are their lengths."""
        v = fnp.deg2rad(_floats(rotvec)) if degrees else _floats(rotvec)
        angle = _norm(v)
        small, a2 = angle <= 1e-3, angle * angle
        safe = fnp.where(small, 1, angle)
        series = 0.5 - a2 / 48 + a2 * a2 / 3840
        scale = fnp.where(small, series, fnp.sin(safe / 2) / safe)
        return cls(fnp.concatenate([scale * v, fnp.cos(angle / 2)], -1))

    @classmethod
    def from_mrp(cls, mrp: Any) -> Rotation:
        """Return the rotations of modified Rodrigues parameters."""
        p = _floats(mrp)
        square = (p * p).sum(-1, keepdims=True)
        return cls(fnp.concatenate([2 * p, 1 - square], -1) / (1 + square))

    @classmethod
    def from_euler(cls, seq: str, angles: Any, degrees: bool = False) -> Rotation:
        """Return the rotations by angles about a sequence of axes.

        Args:
            seq: 1 to 3 letters of xyz (fixed axes) or XYZ (axes that turn with the body).
            angles: shape (len(seq),) or (n, len(seq)); of one axis also () or (n,).
            degrees: whether angles are degrees instead of radians.
        """
        axes, intrinsic = _axes(seq)
        angles = fnp.deg2rad(_floats(angles)) if degrees else _floats(angles)
        if len(axes) == 1 and (not angles.ndim or angles.shape[-1] != 1):
            angles = angles[..., None]
        if angles.shape[-1:] != (len(axes),):
            raise ValueError(
                f"from_euler: angles must have {len(axes)} along their last axis, one for each of "
                f"{seq!r}, got shape {angles.shape}"
            )
        out = None
        for k, axis in enumerate(axes):
            half = angles[..., k] / 2
            parts = [fnp.zeros_like(half)] * 3
            parts[axis] = fnp.sin(half)
            turn = fnp.stack([*parts, fnp.cos(half)], -1)
            if out is None:
                out = turn
            else:
                out = _product(out, turn) if intrinsic else _product(turn, out)
        return cls(out)

    @classmethod
    def identity(cls, num: int | None = None, dtype: Any = float) -> Rotation:
        """Return one rotation that changes nothing, or ``num`` of them."""
        one = fnp.asarray([0, 0, 0, 1], dtype)
        return cls(one if num is None else fnp.tile(one, (num, 1)))

    @classmethod
    def random(cls, random_key: Any, num: int | None = None) -> Rotation:
        """Return one random rotation, or ``num`` of them, uniform over all rotations."""
        return cls.from_quat(random.normal(random_key, (4,) if num is None else (num, 4)))

    @classmethod
    def concatenate(cls, rotations: Sequence[Rotation]) -> Rotation:
        """Join arrays of rotations."""
        return cls(fnp.concatenate([fnp.atleast_2d(r.quat) for r in rotations]))

    # -------------------------------------------------------------------------------- turned to
    def as_quat(self, canonical: bool = False, scalar_first: bool = False) -> Any:
        """Return the quaternions; canonical ones have a positive first nonzero of w, x, y, z."""
        quat = _canonical(self.quat) if canonical else self.quat
        return fnp.roll(quat, 1, -1) if scalar_first else quat

    def as_matrix(self) -> Any:
        """Return the matrices, shape (3, 3) or (n, 3, 3)."""
        x, y, z, w = (self.quat[..., k] for k in range(4))
        rows = [
            [x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), -x * x + y * y - z * z + w * w, 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), -x * x - y * y + z * z + w * w],
        ]
        return fnp.stack([fnp.stack(row, -1) for row in rows], -2)

    def as_rotvec(self, degrees: bool = False) -> Any:
        """Return the axes, as long as the angles."""
        quat = fnp.where(self.quat[..., 3:] < 0, -self.quat, self.quat)
        v = quat[..., :3]
        angle = 2 * fnp.arctan2(_norm(v), quat[..., 3:])
        small, a2 = angle <= 1e-3, angle * angle
        safe = fnp.where(small, 1, angle)
        series = 2 + a2 / 12 + 7 * a2 * a2 / 2880
        out = fnp.where(small, series, safe / fnp.sin(safe / 2)) * v
        return fnp.rad2deg(out) if degrees else out

    def as_mrp(self) -> Any:
        """Return modified Rodrigues parameters."""
        sign = fnp.where(self.quat[..., 3:] < 0, -1, 1)
        return sign * self.quat[..., :3] / (1 + sign * self.quat[..., 3:])

    def as_euler(self, seq: str, degrees: bool = False) -> Any:
        """Return the angles about a sequence of three axes, as `from_euler` takes them.

        Where the first and the third axis fall together, the third angle is 0.
        """
        axes, intrinsic = _axes(seq)
        if len(axes) != 3:
            raise ValueError(f"as_euler: seq must name three axes, got {seq!r}")
        i, j, k = axes[::-1] if intrinsic else axes
        symmetric = i == k
        k = 3 - i - j if symmetric else k
        sign = (i - j) * (j - k) * (k - i) // 2
        q = [self.quat[..., n] for n in range(4)]
        if symmetric:
            a, b, c, d = q[3], q[i], q[j], q[k] * sign
        else:
            a, b = q[3] - q[j], q[i] + q[k] * sign
            c, d = q[j] + q[3], q[k] * sign - q[i]
        middle = 2 * fnp.arctan2(fnp.hypot(c, d), fnp.hypot(a, b))
        low, high = fnp.abs(middle) <= 1e-7, fnp.abs(middle - np.pi) <= 1e-7
        half_sum, half_difference = fnp.arctan2(b, a), fnp.arctan2(d, c)
        locked = fnp.where(low, 2 * half_sum, 2 * half_difference * (1 if intrinsic else -1))
        near, far = half_sum - half_difference, half_sum + half_difference
        first, third = (far, near) if intrinsic else (near, far)
        degenerate = low | high
        first = fnp.where(degenerate, locked, first)
        third = fnp.where(degenerate, 0, third)
        if not symmetric:
            first, third = (sign * first, third) if intrinsic else (first, sign * third)
            middle = middle - np.pi / 2
        out = fnp.stack([first, middle, third], -1)
        out = fnp.where(out < -np.pi, out + 2 * np.pi, out)
        out = fnp.where(out > np.pi, out - 2 * np.pi, out)
        return fnp.rad2deg(out) if degrees else out

    # -------------------------------------------------------------------------------- operations
    def apply(self, vectors: Any, inverse: bool = False) -> Any:
        """Turn vectors of shape (3,) or (n, 3), or turn them back."""
        matrix = self.as_matrix()
        return fnp.einsum("...ji,...j->...i" if inverse else "...ij,...j->...i", matrix, vectors)

    def __mul__(self, other: Rotation) -> Rotation:
        """Return the rotation that does the other one first, then this."""
        return Rotation.from_quat(_product(self.quat, other.quat))

    def inv(self) -> Rotation:
        """Return the rotation back."""
        return Rotation(self.quat * fnp.asarray([-1, -1, -1, 1], self.quat.dtype))

    def magnitude(self) -> Any:
        """Return the angle, from 0 to pi."""
        length = _norm(self.quat[..., :3])[..., 0]
        return 2 * fnp.arctan2(length, fnp.abs(self.quat[..., 3]))

    def mean(self, weights: Any = None) -> Rotation:
        """Return the rotation that is nearest to all, by squared distances of matrices."""
        quat = fnp.atleast_2d(self.quat)
        weights = fnp.ones(quat.shape[0], quat.dtype) if weights is None else fnp.asarray(weights)
        _, vectors = fnp.linalg.eigh(fnp.einsum("w,wi,wj->ij", weights, quat, quat))
        return Rotation.from_quat(vectors[:, -1])

    @property
    def single(self) -> bool:
        """Whether it is one rotation, not an array of them."""
        return self.quat.ndim == 1

    def __len__(self) -> int:
        if self.single:
            raise TypeError("a single rotation has no len()")
        return self.quat.shape[0]

    def __getitem__(self, index: Any) -> Rotation:
        if self.single:
            raise TypeError("a single rotation has no elements")
        return Rotation(self.quat[index])


def _canonical(quat: Any) -> Any:
    """Give quaternions the sign of a positive first nonzero among w, x, y, z."""
    negative = fnp.zeros(quat.shape[:-1], bool)
    zero = fnp.ones(quat.shape[:-1], bool)
    for k in (3, 0, 1, 2):
        negative = negative | (zero & (quat[..., k] < 0))
        zero = zero & (quat[..., k] == 0)
    return fnp.where(negative[..., None], -quat, quat)


@register_pytree_node_class
class Slerp:
    """Interpolation between rotations, with constant angular velocity between two of them.

    Args:
        times: when the rotations are reached, increasing, shape (n,).
        rotations: n rotations, at least two.

    Raises:
        ValueError: there is one rotation only, or their number is not that of the times.

    Example:
        >>> turns = Rotation.from_euler("z", fnp.array([0.0, 90.0]), degrees=True)
        >>> fnp.round(fnp.rad2deg(Slerp(fnp.array([0.0, 1.0]), turns)(0.5).magnitude()), 2)
        Array(45., dtype=float32)
    """

    def __init__(self, times: Any, rotations: Rotation) -> None:
        if not isinstance(rotations, Rotation) or rotations.single:
            raise ValueError("Slerp: rotations must be a Rotation of at least two")
        self.times = _floats(times)
        if self.times.shape != (len(rotations),):
            raise ValueError(
                f"Slerp: times must have shape ({len(rotations)},), one for each rotation, got "
                f"{self.times.shape}"
            )
        self.rotations = rotations

    @classmethod
    def init(cls, times: Any, rotations: Rotation) -> Slerp:
        """Return the interpolation; JAX makes it so."""
        return cls(times, rotations)

    def tree_flatten(self) -> tuple[tuple[Any, Any], None]:
        """Return times and rotations."""
        return (self.times, self.rotations), None

    @classmethod
    def tree_unflatten(cls, static: None, parts: Sequence[Any]) -> Slerp:
        """Build the interpolation from what `tree_flatten` gave."""
        made = object.__new__(cls)
        made.times, made.rotations = parts
        return made

    def __call__(self, times: Any) -> Rotation:
        """Return the rotations at times, which have any shape of rank 0 or 1."""
        times = _floats(times)
        count = self.times.shape[0]
        at = fnp.clip(fnp.searchsorted(self.times, times, side="right") - 1, 0, count - 2)
        start, end = Rotation(self.rotations.quat[at]), Rotation(self.rotations.quat[at + 1])
        part = (times - self.times[at]) / (self.times[at + 1] - self.times[at])
        return start * Rotation.from_rotvec((start.inv() * end).as_rotvec() * part[..., None])
