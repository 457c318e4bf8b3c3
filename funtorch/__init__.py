"""FunTorch: functional arrays and transformations. Pure functions over immutable arrays,
transformed by
`grad`, `vmap` and `jit`."""

from funtorch import dtypes, errors, numpy, random, tree, tree_util  # noqa: I001  (numpy first: it attaches Array's methods)
from funtorch import flatten_util, nn, optim, scipy, typing
from funtorch.config import config, log_compiles, threads
from funtorch.core import Array, ShapedArray, typeof
from funtorch.device import (
    Device,
    block_until_ready,
    default_backend,
    device_get,
    device_put,
    devices,
)
from funtorch.dtypes import float0
from funtorch.io import load, save
from funtorch.transforms import (
    ShapeDtypeStruct,
    checkpoint,
    clear_caches,
    custom_jvp,
    custom_vjp,
    disable_jit,
    effects_barrier,
    eval_shape,
    explain,
    grad,
    hessian,
    jacfwd,
    jacobian,
    jacrev,
    jit,
    jvp,
    linear_transpose,
    linearize,
    make_jaxpr,
    pure_callback,
    remat,
    value_and_grad,
    vjp,
    vmap,
)
from funtorch import debug, experimental, image, lax, ops
import funtorch.numpy.ufuncs  # completes funtorch.numpy
from funtorch.lax import stop_gradient

__version__ = "0.1.0"

__all__ = [
    "Array",
    "Device",
    "ShapeDtypeStruct",
    "ShapedArray",
    "block_until_ready",
    "checkpoint",
    "clear_caches",
    "config",
    "custom_jvp",
    "custom_vjp",
    "debug",
    "default_backend",
    "device_get",
    "device_put",
    "devices",
    "disable_jit",
    "dtypes",
    "effects_barrier",
    "errors",
    "eval_shape",
    "experimental",
    "explain",
    "flatten_util",
    "float0",
    "grad",
    "hessian",
    "image",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "lax",
    "linear_transpose",
    "linearize",
    "load",
    "log_compiles",
    "make_jaxpr",
    "nn",
    "numpy",
    "ops",
    "optim",
    "pure_callback",
    "random",
    "remat",
    "save",
    "scipy",
    "stop_gradient",
    "threads",
    "tree",
    "tree_util",
    "typeof",
    "typing",
    "value_and_grad",
    "vjp",
    "vmap",
]
