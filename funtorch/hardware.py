"""Devices: the places where arrays live and programs run, and which of them are there.

GPUs are reached through CuPy, which is optional, heavy and imported when a GPU is first asked for.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Any

from funtorch.config import config

__all__ = [
    "CPU",
    "Device",
    "NoDevice",
    "absence",
    "cuda_majors",
    "cuda_versions",
    "cpus",
    "cupy",
    "device_of",
    "find",
    "gpus",
    "processes",
    "synchronize",
]

_CUDA = ("cuda", "gpu")


class NoDevice(RuntimeError, ValueError):
    """There is no such device; the message says why."""


@dataclass(frozen=True, eq=False)
class Device:
    """A place where arrays live and programs run. It is equal to its name.

    Args:
        platform: ``'cpu'`` or ``'cuda'``.
        id: number of the device on its platform.

    Example:
        >>> Device("cpu") == "cpu", Device("cpu", 1) == "cpu", Device("cpu", 1) == "cpu:1"
        (True, False, True)
        >>> Device("cuda", 1) == "gpu:1"
        True
    """

    platform: str
    id: int = 0

    @property
    def device_kind(self) -> str:
        """What the platform calls this kind of device."""
        return self.platform if self.platform == "cpu" else _kind(self.id)

    @property
    def process_index(self) -> int:
        """Number of the process that owns the device."""
        return self.id if self.platform == "cpu" and processes.count > 1 else processes.index

    @property
    def name(self) -> str:
        """The platform, and the number of any but its first device."""
        return f"{self.platform}:{self.id}" if self.id else self.platform

    def __str__(self) -> str:
        return f"{self.platform}:{self.id}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Device):
            return self.name == other.name
        return other in self._names() if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def _names(self) -> tuple[str, ...]:
        """Return the names that it goes by."""
        names = (self.platform, "gpu") if self.platform == "cuda" else (self.platform,)
        return tuple(f"{n}:{self.id}" for n in names) + (() if self.id else names)


CPU = Device("cpu")


class _Processes:
    """The processes of the program, each of which is one device; `funtorch.processes` counts
    them."""

    index = 0
    count = 1
    near = False  # whether all run on one machine


processes = _Processes()


@functools.cache
def _cpus(count: int) -> tuple[Device, ...]:
    return tuple(Device("cpu", k) for k in range(count))


def cpus() -> tuple[Device, ...]:
    """Return the devices that are processors: one for each process, or, in a single one, as many
    as ``config.num_cpu_devices`` says.

    Example:
        >>> cpus()
        (Device(platform='cpu', id=0),)
    """
    return _cpus(processes.count if processes.count > 1 else config.num_cpu_devices or 1)


# ------------------------------------------------------------------------------------ what is there
@functools.cache
def _driver() -> bool:
    """Tell whether NVIDIA's driver is installed."""
    for name in ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


@functools.cache
def _probe() -> tuple[Any, int, str]:
    """Return CuPy, how many GPUs it finds, and if there is none, why."""
    if importlib.util.find_spec("cupy") is None:
        advice = "pip install cupy-cuda12x (or cupy-cuda13x for a driver of CUDA 13)"
        return None, 0, f"CuPy, through which GPUs are reached, is not installed: {advice}"
    if not _driver():
        return (
            None,
            0,
            (
                "NVIDIA's driver (libcuda) is not installed: install it, or in a container pass "
                "the GPU on (docker run --gpus all)"
            ),
        )
    try:
        module = importlib.import_module("cupy")
    except Exception as error:  # whatever keeps a broken installation from being imported
        return None, 0, f"CuPy cannot be imported: {error}"
    runtime = module.cuda.runtime
    try:
        count = int(runtime.getDeviceCount())
    except Exception as error:
        has, wants = _version(runtime, "driverGetVersion"), _version(runtime, "runtimeGetVersion")
        if "InsufficientDriver" in str(error):
            return (
                module,
                0,
                (
                    f"NVIDIA's driver is too old: it is for CUDA {has}, CuPy for CUDA {wants}; "
                    "update the driver, or install the CuPy for its version (cupy-cuda12x, "
                    "cupy-cuda13x)"
                ),
            )
        return module, 0, f"CuPy finds none: {error}"
    if count and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)
    return module, count, "" if count else "CuPy finds none"


_FORKED = (
    "this process was forked from one that looked for GPUs, and CUDA does not work in it: begin it "
    "anew (multiprocessing.get_context('spawn')), or ask for GPUs in it alone"
)


def _forked() -> None:
    """Let a forked process know of no GPU: the driver's state is of no use in it."""
    global _probe
    module = _probe()[0]
    _probe = functools.cache(lambda: (module, 0, _FORKED))


def _version(runtime: Any, name: str) -> str:
    """Return a version of CUDA as people write it."""
    try:
        number = int(getattr(runtime, name)())
    except Exception as error:
        return f"? ({error})"
    return f"{number // 1000}.{number % 1000 // 10}" if number else "?"


def cupy() -> Any:
    """Return the module CuPy.

    Raises:
        NoDevice: there is no GPU; it says why.
    """
    module, count, reason = _probe()
    if not count:
        raise NoDevice(f"there is no GPU: {reason}")
    return module


def absence() -> str:
    """Return why there is no GPU; an empty text if there is one."""
    return _probe()[2]


@functools.cache
def _gpus(count: int) -> tuple[Device, ...]:
    return tuple(Device("cuda", k) for k in range(count))


def gpus() -> tuple[Device, ...]:
    """Return the GPUs, none if there are none."""
    return _gpus(_probe()[1])


@functools.cache
def _kind(number: int) -> str:
    """Return the model of a GPU."""
    found = cupy().cuda.runtime.getDeviceProperties(number)["name"]
    return found.decode() if isinstance(found, bytes) else str(found)


def find(device: Any, function: str) -> Device:
    """Return the device that is meant.

    Args:
        device: a `Device`, a sharding, or a name: ``'cpu'``, ``'cuda'``, ``'gpu'``, with ``:0``.
        function: who asks, for the error.

    Raises:
        NoDevice: it is not there.

    Example:
        >>> find("cpu:0", "device_put")
        Device(platform='cpu', id=0)
    """
    name = str(device)
    platform, _, number = name.partition(":")
    if platform == "cpu" and (number or "0").isdecimal() and int(number or 0) < len(cpus()):
        return CPU  # they are one memory
    if platform not in ("cpu", *_CUDA) or not (number or "0").isdecimal():
        known = ", ".join(str(d) for d in (*cpus(), *gpus()))
        raise NoDevice(f"{function}: there is no device {name}; devices are {known}")
    there = (CPU,) if platform == "cpu" else gpus()
    if int(number or 0) < len(there):
        return there[int(number or 0)]
    known = ", ".join(str(d) for d in (CPU, *gpus()))
    why = f". There is no GPU: {absence()}" if platform in _CUDA and absence() else ""
    raise NoDevice(f"{function}: there is no device {name}; devices are {known}{why}")


def device_of(buffer: Any) -> Device:
    """Return the device of a CuPy array."""
    return gpus()[int(buffer.device.id)]


def synchronize(device: Device) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.platform != "cpu":
        with cupy().cuda.Device(device.id) as current:
            current.synchronize()


def cuda_majors() -> tuple[int, ...]:
    """Return the major version of CUDA that CuPy is for; all that it may be where it is not there.

    Example:
        >>> set(cuda_majors()) <= {12, 13}
        True
    """
    module = _probe()[0]
    if module is None:
        return 12, 13
    return (int(module.cuda.runtime.runtimeGetVersion()) // 1000,)


def cuda_versions() -> list[str]:
    """Return the versions of CUDA that the driver, and CuPy, are for."""
    module = _probe()[0]
    if module is None:
        return []
    runtime = module.cuda.runtime
    return [
        f"{who} for CUDA {_version(runtime, name)}"
        for who, name in (("driver", "driverGetVersion"), ("CuPy", "runtimeGetVersion"))
    ]
