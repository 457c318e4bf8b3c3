"""Program to program: grad, jvp, vmap, jit and their relatives."""

from . import attention as _attention
from . import large as _large
from . import policies as checkpoint_policies
from . import repeated as _repeated
from .associative import associative_scan
from .autocast import autocast
from .batching import vmap
from .branches import cond, platform_dependent, switch
from .callbacks import effects_barrier, pure_callback
from .collectives import (
    all_gather,
    all_to_all,
    axis_index,
    axis_size,
    pcast,
    pmax,
    pmean,
    pmin,
    ppermute,
    pshuffle,
    psum,
    psum_scatter,
    pswapaxes,
    pvary,
)
from .constraints import auto_axes, explicit_axes, reshard, with_sharding_constraint
from .custom import custom_jvp, custom_vjp
from .forward import jvp, linearize
from .harvest import plant, reap, sow
from .jacobian import hessian, hvp, jacfwd, jacobian, jacrev
from .jit import clear_caches, disable_jit, explain, jit
from .loops import fori_loop, while_loop
from .norms import per_example_norms
from .remat import checkpoint, remat
from .residuals import closure_convert, custom_gradient, fwd_and_bwd
from .reverse import grad, linear_transpose, value_and_grad, vjp
from .scan import map, scan
from .scopes import ensure_compile_time_eval, named_call, named_scope
from .shard_map import pmap, shard_map
from .smap import smap
from .solvers import custom_linear_solve, custom_root
from .sparse import sparse_hessian, sparse_jacobian
from .staging import ShapeDtypeStruct, eval_shape, make_jaxpr

__all__ = [
    "ShapeDtypeStruct",
    "all_gather",
    "all_to_all",
    "associative_scan",
    "autocast",
    "axis_index",
    "axis_size",
    "checkpoint",
    "checkpoint_policies",
    "clear_caches",
    "closure_convert",
    "cond",
    "custom_gradient",
    "custom_jvp",
    "custom_linear_solve",
    "custom_root",
    "custom_vjp",
    "disable_jit",
    "effects_barrier",
    "ensure_compile_time_eval",
    "eval_shape",
    "explain",
    "fori_loop",
    "fwd_and_bwd",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "map",
    "named_call",
    "named_scope",
    "per_example_norms",
    "plant",
    "platform_dependent",
    "pcast",
    "pmap",
    "pmax",
    "pmean",
    "pmin",
    "ppermute",
    "pshuffle",
    "psum",
    "psum_scatter",
    "pswapaxes",
    "pvary",
    "pure_callback",
    "reap",
    "remat",
    "scan",
    "shard_map",
    "smap",
    "auto_axes",
    "explicit_axes",
    "reshard",
    "with_sharding_constraint",
    "sow",
    "sparse_hessian",
    "sparse_jacobian",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
