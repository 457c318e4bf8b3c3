"""The table of public functions: one row each, or the reason why there is none.

A row says how a function is called: its arguments, where NumPy arrays are what is mapped over,
cast and differentiated in, and the rest stays as it is. `tests/test_surface.py` checks that every
public function is here, and the generic properties of every row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.ndimage
import scipy.signal
import scipy.special
import scipy.stats

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

SPACES = {
    "numpy": fnp, "numpy.linalg": fnp.linalg, "numpy.fft": fnp.fft, "lax": lax,
    "lax.linalg": lax.linalg, "nn": ft.nn, "nn.initializers": ft.nn.initializers,
    "random": ft.random, "image": ft.image, "ops": ft.ops, "scipy.special": ft.scipy.special,
    "scipy.linalg": ft.scipy.linalg, "scipy.stats": ft.scipy.stats,
    "scipy.signal": ft.scipy.signal, "scipy.fft": ft.scipy.fft,
    "scipy.ndimage": ft.scipy.ndimage, "scipy.optimize": ft.scipy.optimize,
    "scipy.integrate": ft.scipy.integrate, "scipy.interpolate": ft.scipy.interpolate,
    "scipy.cluster.vq": ft.scipy.cluster.vq,
    "scipy.spatial.transform": ft.scipy.spatial.transform,
    "scipy.sparse.linalg": ft.scipy.sparse.linalg,
}  # fmt: skip
_DISTRIBUTIONS = {
    "norm": (), "cauchy": (), "expon": (), "laplace": (), "logistic": (), "gumbel_l": (),
    "gumbel_r": (), "pareto": (2.5,), "uniform": (), "gamma": (2.5,), "chi2": (3.0,),
    "beta": (2.0, 3.0), "t": (4.0,), "gennorm": (1.5,), "truncnorm": (-1.0, 2.0),
    "vonmises": (1.3,), "wrapcauchy": (0.4,),
}  # fmt: skip
_COUNTED = {
    "bernoulli": (0.3,), "binom": (6.0, 0.3), "betabinom": (6.0, 2.0, 3.0), "geom": (0.3,),
    "nbinom": (3.0, 0.4), "poisson": (2.5,),
}  # fmt: skip
_OF_VECTORS = ("dirichlet", "multinomial", "multivariate_normal")
SPACES |= {
    f"scipy.stats.{n}": getattr(ft.scipy.stats, n)
    for n in (*_DISTRIBUTIONS, *_COUNTED, *_OF_VECTORS)
}
_MODULES = {
    "numpy": np, "numpy.linalg": np.linalg, "numpy.fft": np.fft, "scipy.special": scipy.special,
    "scipy.linalg": scipy.linalg, "scipy.signal": scipy.signal, "scipy.fft": scipy.fft,
    "scipy.ndimage": scipy.ndimage,
}  # fmt: skip

RNG = np.random.default_rng(5)
X, Y = RNG.uniform(0.2, 0.8, (3, 4)), RNG.uniform(0.2, 0.8, (3, 4))
V, W = np.array([3.0, 1.0, 2.0, 5.0]), np.array([0.5, 1.5, 0.25, 2.0])
S, S2 = RNG.normal(size=(3, 3)) + 2 * np.eye(3), RNG.normal(size=(3, 3))
P = S @ S.T + np.eye(3)
TALL, CUBE = RNG.normal(size=(5, 3)), RNG.normal(size=(2, 3, 4))
K, J = RNG.integers(1, 6, (3, 4)).astype(np.int32), RNG.integers(1, 6, (3, 4)).astype(np.int32)
N = np.arange(4, dtype=np.int32)
M = X > 0.5
Z = X + 1j * Y
KEY = np.array([7, 11], np.uint32)
IMAGES, KERNEL = RNG.normal(size=(2, 3, 6, 5)), RNG.normal(size=(4, 3, 3, 2))
SIGNAL = RNG.normal(size=64)
UNIT = np.clip(X, 0.01, 0.99)


@dataclass(frozen=True)
class Row:
    """How a function is called, and what is expected of it.

    Attributes:
        args, kw: its arguments.
        call: calls the function with them, if not ``f(*args, **kw)``.
        reference: the same of NumPy arrays; None finds the function of this name in NumPy or SciPy.
        apart: why there is no reference, and what compares its values instead.
        smooth: whether to compare derivatives with differences, if any argument is a float array.
        fixed: False where shapes of results depend on values: not under jit and vmap.
        dtypes: further dtypes to run all float arguments in.
        rtol: how far values may be from the reference, in float64.
        slope: how far derivatives may be from differences.
        reals: False where float32 is not to be tried.
    """

    args: tuple[Any, ...]
    kw: dict[str, Any] = field(default_factory=dict)
    call: Callable[..., Any] | None = None
    reference: Callable[..., Any] | None = None
    apart: str = ""
    smooth: bool = True
    fixed: bool = True
    dtypes: tuple[str, ...] = ()
    rtol: float = 1e-9
    slope: float = 1e-5
    reals: bool = True


ROWS: dict[str, Row] = {}
REASONS: dict[str, str] = {}


def rows(space: str, names: str, *args: Any, **options: Any) -> None:
    """Give several functions of a namespace the same row."""
    for name in names.split():
        ROWS[f"{space}.{name}"] = Row(args, **options)


def none(space: str, names: str, why: str) -> None:
    for name in names.split():
        REASONS[f"{space}.{name}"] = why


def referenced(
    space: str, args: tuple[Any, ...], table: dict[str, Callable[..., Any]], **options: Any
):
    """Give functions that NumPy has under no name their rows with a reference each."""
    for name, reference in table.items():
        ROWS[f"{space}.{name}"] = Row(args, reference=reference, **options)


def reference_of(name: str) -> Callable[..., Any] | None:
    """Return the function of NumPy or SciPy that a row's values are compared with."""
    row = ROWS[name]
    if row.reference is not None or row.apart:
        return row.reference
    space, _, last = name.rpartition(".")
    found = getattr(_MODULES[space], last)
    if row.call is None:
        return lambda *args: found(*args, **row.kw)
    return lambda *args: row.call(found, *args, **row.kw)
