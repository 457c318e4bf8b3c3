"""JAX's flags that change nothing here, so that programs which set them run.

`SETTLED` flags choose between ways of which this library has one: setting another is an error.
`NOTED` flags tune machinery that is not here (XLA, its caches, its clients): any value is kept.

References:
    JAX, "Configuration options", https://docs.jax.dev/en/latest/config_options.html
"""

from __future__ import annotations

from typing import Any

__all__ = ["NOTED", "SETTLED", "check_noted", "check_settled"]

# Flag -> the values it may have; the first is what it reads as.
SETTLED: dict[str, tuple[Any, ...]] = {
    "platforms": ("cpu", "", None),
    "platform_name": ("cpu", "", None),
    "default_prng_impl": ("threefry2x32",),
    "threefry_partitionable": (True,),
    "legacy_prng_key": ("allow",),
}

NOTED = frozenset(
    (
        "allow_f16_reductions",
        "array_garbage_collection_guard",
        "captured_constants_warn_bytes",
        "check_tracer_leaks",
        "compilation_cache_dir",
        "compilation_cache_max_size",
        "cpu_collectives_implementation",
        "cpu_enable_async_dispatch",
        "debug_key_reuse",
        "default_matmul_precision",
        "disable_most_optimizations",
        "enable_checks",
        "enable_compilation_cache",
        "persistent_cache_enable_xla_caches",
        "persistent_cache_min_compile_time_secs",
        "persistent_cache_min_entry_size_bytes",
        "pprint_use_color",
        "raise_persistent_cache_errors",
        "softmax_custom_jvp",
        "thread_guard",
        "transfer_guard",
        "transfer_guard_device_to_device",
        "transfer_guard_device_to_host",
        "transfer_guard_host_to_device",
        "use_shardy_partitioner",
    )
)


_GUARDS = ("allow", "log", "disallow", "log_explicit", "disallow_explicit", None)


def check_noted(name: str, value: Any) -> None:
    """Check that a flag that is only noted has one of JAX's values, where those are known.

    Raises:
        ValueError: it has none.
    """
    if name.startswith("transfer_guard") and value not in _GUARDS:
        raise ValueError(f"config.{name} must be one of {_GUARDS}; got {value!r}")


def check_settled(name: str, value: Any) -> None:
    """Check that a settled flag is set to what holds anyway.

    Raises:
        ValueError: the value asks for what is not here.
    """
    allowed = SETTLED[name]
    if value not in allowed:
        raise ValueError(
            f"config.{name} is {allowed[0]!r}, and there is no other way here; got {value!r}. "
            "Leave the flag alone"
        )
