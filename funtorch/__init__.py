"""FunTorch: functional arrays and transformations.

Pure functions over immutable arrays, transformed by `grad`, `vmap` and `jit`.
"""

from funtorch import dtypes, errors, numpy, random, tree, tree_util  # noqa: I001  (numpy first: it attaches Array's methods)
import importlib as _importlib
from typing import Any as _Any

from funtorch import core, flatten_util, nn, scipy, sharding, tracebacks, typing
from funtorch.config import (
    config,
    default_matmul_precision,
    enable_custom_prng,
    enable_x64,
    log_compiles,
    numpy_rank_promotion,
    threads,
)
from funtorch.contexts import (
    allow_f16_reductions,
    array_garbage_collection_guard,
    debug_key_reuse,
    default_prng_impl,
    enable_checks,
    explain_cache_misses,
    legacy_prng_key,
    numpy_dtype_promotion,
    softmax_custom_jvp,
    thread_guard,
    threefry_partitionable,
    transfer_guard,
    transfer_guard_device_to_device,
    transfer_guard_device_to_host,
    transfer_guard_host_to_device,
)
from funtorch.core import ShapedArray, typeof
from funtorch.device import (
    Device,
    block_until_ready,
    copy_to_host_async,
    default_backend,
    default_device,
    device_count,
    device_get,
    device_put,
    devices,
    local_device_count,
    local_devices,
    process_count,
    process_index,
)
from funtorch.dtypes import float0
from funtorch.io import load, save
from funtorch.lazy import later as _later
from funtorch.sharding import Mesh, NamedSharding, P, PartitionSpec, Shard, make_mesh, set_mesh
from funtorch.leaks import check_leaks, check_tracer_leaks, checking_leaks
from funtorch.nans import debug_infs, debug_nans
from funtorch.typing import Array
from funtorch.transforms import (
    ShapeDtypeStruct,
    auto_axes,
    autocast,
    checkpoint,
    checkpoint_policies,
    clear_caches,
    closure_convert,
    custom_gradient,
    custom_jvp,
    custom_vjp,
    disable_jit,
    effects_barrier,
    ensure_compile_time_eval,
    eval_shape,
    explain,
    explicit_axes,
    fwd_and_bwd,
    grad,
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    jit,
    jvp,
    linear_transpose,
    linearize,
    make_jaxpr,
    named_call,
    named_scope,
    per_example_norms,
    plant,
    pmap,
    pure_callback,
    reap,
    remat,
    reshard,
    shard_map,
    smap,
    sow,
    sparse_hessian,
    sparse_jacobian,
    value_and_grad,
    vjp,
    vmap,
)
from funtorch import (
    ad_checkpoint,
    amp,
    custom_batching,
    custom_derivatives,
    debug,
    func,
    image,
    lax,
    ops,
)
import funtorch.numpy.ufuncs  # completes funtorch.numpy
from funtorch.lax import stop_gradient

__version__ = "0.1.0"
__version_info__ = tuple(int(part) for part in __version__.split("."))

__all__ = [
    "Array",
    "Device",
    "Mesh",
    "NamedSharding",
    "P",
    "PartitionSpec",
    "ShapeDtypeStruct",
    "ShapedArray",
    "Shard",
    "ad_checkpoint",
    "allow_f16_reductions",
    "amp",
    "array_garbage_collection_guard",
    "autocast",
    "block_until_ready",
    "check_leaks",
    "check_tracer_leaks",
    "checking_leaks",
    "checkpoint",
    "checkpoint_policies",
    "clear_caches",
    "closure_convert",
    "config",
    "copy_to_host_async",
    "custom_batching",
    "custom_derivatives",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "debug",
    "debug_infs",
    "debug_key_reuse",
    "debug_nans",
    "default_backend",
    "default_device",
    "default_matmul_precision",
    "default_prng_impl",
    "device_count",
    "device_get",
    "device_put",
    "devices",
    "disable_jit",
    "dtypes",
    "effects_barrier",
    "enable_checks",
    "enable_custom_prng",
    "enable_x64",
    "ensure_compile_time_eval",
    "errors",
    "eval_shape",
    "explain",
    "explain_cache_misses",
    "flatten_util",
    "float0",
    "func",
    "fwd_and_bwd",
    "grad",
    "hessian",
    "hvp",
    "image",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "lax",
    "legacy_prng_key",
    "linear_transpose",
    "linearize",
    "load",
    "local_device_count",
    "local_devices",
    "log_compiles",
    "make_jaxpr",
    "make_mesh",
    "named_call",
    "named_scope",
    "nn",
    "numpy",
    "numpy_dtype_promotion",
    "numpy_rank_promotion",
    "ops",
    "per_example_norms",
    "plant",
    "pmap",
    "process_count",
    "process_index",
    "pure_callback",
    "random",
    "reap",
    "remat",
    "reshard",
    "save",
    "scipy",
    "set_mesh",
    "shard_map",
    "smap",
    "sharding",
    "softmax_custom_jvp",
    "sow",
    "sparse_hessian",
    "sparse_jacobian",
    "stop_gradient",
    "thread_guard",
    "threads",
    "threefry_partitionable",
    "tracebacks",
    "transfer_guard",
    "transfer_guard_device_to_device",
    "transfer_guard_device_to_host",
    "transfer_guard_host_to_device",
    "tree",
    "tree_util",
    "typeof",
    "typing",
    "value_and_grad",
    "vjp",
    "vmap",
]

# Modules and names of modules that are imported when they are first asked for, since not every
# program trains.
_MODULES = (
    "ad", "api_util", "data", "distributed", "dlpack", "example_libraries", "experimental",
    "export", "extend", "interpreters", "nnx", "onnx", "optim", "parallel", "profiler", "quant",
    "ref", "stages", "test_util", "version",
)  # fmt: skip
_LATER = {
    **{name: f".{name}" for name in _MODULES},
    **dict.fromkeys(["Ref", "empty_ref", "free_ref", "freeze", "new_ref"], ".ref"),
    "from_onnx": ".onnx",
    "make_array_from_callback": ".distributed",
    "make_array_from_process_local_data": ".distributed",
    "make_array_from_single_device_arrays": ".distributed",
}
__all__ += [
    "ad", "api_util", "data", "distributed", "dlpack", "example_libraries", "experimental",
    "export", "extend", "interpreters", "nnx", "onnx", "optim", "parallel", "profiler", "quant",
    "ref", "stages", "test_util", "version", "Ref", "empty_ref", "free_ref", "freeze", "from_onnx",
    "make_array_from_callback", "make_array_from_process_local_data",
    "make_array_from_single_device_arrays", "new_ref",
]  # fmt: skip
__getattr__ = _later("funtorch", _LATER)


def _named_by_jax(name: str) -> _Any:
    """Return what jax.core has and higher floors than core's define."""
    if name.startswith("_"):
        raise AttributeError(f"module 'funtorch.core' has no attribute {name!r}")
    return _importlib.import_module("funtorch.extend.jax_core").find(name)


core.__getattr__ = _named_by_jax  # type: ignore[method-assign]

# What divides arrays is found beside what says how.
for _function in (reshard, auto_axes, explicit_axes):
    setattr(sharding, _function.__name__, _function)
del _function

# Last, when all else has imported what it calls: only users call through boundaries.
for _owner in (
    numpy, lax, nn, random, image, debug, func, "funtorch",
    numpy.linalg, numpy.fft, scipy.linalg, scipy.special, scipy.signal,
    core.Array, numpy.indexing.AtIndex, numpy.indexing.AtView, numpy.ufuncs.ufunc,
    custom_jvp, custom_vjp, custom_batching.custom_vmap,
):  # fmt: skip
    tracebacks.add_boundaries(_owner)
del _owner
