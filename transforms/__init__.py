"""Program to program: grad, jvp, vmap, jit and their relatives."""

from .associative import associative_scan
from .batching import vmap
from .branches import cond, switch
from .callbacks import effects_barrier, pure_callback
from .collectives import all_gather, axis_index, axis_size, pmax, pmean, pmin, ppermute, psum
from .custom import custom_jvp, custom_vjp
from .forward import jvp, linearize
from .jacobian import hessian, jacfwd, jacobian, jacrev
from .jit import clear_caches, disable_jit, explain, jit
from .loops import fori_loop, while_loop
from .remat import checkpoint, remat
from .reverse import grad, linear_transpose, value_and_grad, vjp
from .scan import map, scan
from .solvers import custom_linear_solve, custom_root
from .staging import ShapeDtypeStruct, eval_shape, make_jaxpr

__all__ = [
    "ShapeDtypeStruct",
    "all_gather",
    "associative_scan",
    "axis_index",
    "axis_size",
    "checkpoint",
    "clear_caches",
    "cond",
    "custom_jvp",
    "custom_linear_solve",
    "custom_root",
    "custom_vjp",
    "disable_jit",
    "effects_barrier",
    "eval_shape",
    "explain",
    "fori_loop",
    "grad",
    "hessian",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "map",
    "pmax",
    "pmean",
    "pmin",
    "ppermute",
    "psum",
    "pure_callback",
    "remat",
    "scan",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
