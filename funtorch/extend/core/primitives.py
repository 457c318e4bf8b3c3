"""The primitives of programs under the names of jax.extend.core.primitives."""

from __future__ import annotations

from typing import Any

from funtorch.extend.core.primitive import CallPrimitive
from funtorch.extend.core.programs import jaxpr_as_fun
from funtorch.lax import primitives as _lax
from funtorch.lax.primitives import *  # noqa: F403
from funtorch.ops.bits import threefry2x32_p
from funtorch.ops.linalg import cholesky_p, lu_p
from funtorch.ops.marks import name_p
from funtorch.ops.orthogonal import hessenberg_p, householder_product_p, qr_p, tridiagonal_p
from funtorch.ops.solves import triangular_solve_p, tridiagonal_solve_p
from funtorch.ops.spectra import eig_p, eigh_p, schur_p, svd_p
from funtorch.transforms.custom import custom_jvp_call_p, custom_lin_p, custom_vjp_call_p
from funtorch.transforms.programs import jit_p
from funtorch.transforms.remat import remat_p

__all__ = [
    "call_p",
    "cholesky_p",
    "closed_call_p",
    "custom_jvp_call_p",
    "custom_lin_p",
    "custom_vjp_call_p",
    "eig_p",
    "eigh_p",
    "hessenberg_p",
    "householder_product_p",
    "jit_p",
    "lu_p",
    "name_p",
    "qr_p",
    "remat_p",
    "schur_p",
    "svd_p",
    "threefry2x32_p",
    "triangular_solve_p",
    "tridiagonal_p",
    "tridiagonal_solve_p",
]
__all__ += _lax.__all__


class _ClosedCall(CallPrimitive):
    """Runs the program ``call_jaxpr``."""

    __slots__ = ()

    def bind(self, *args: Any, **params: Any) -> list[Any]:
        """Run the program in place, on arrays and numbers."""
        return jaxpr_as_fun(params["call_jaxpr"])(*args)


call_p = CallPrimitive("call")
closed_call_p = _ClosedCall("closed_call")
