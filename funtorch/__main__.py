"""``python -m funtorch doctor``: say what the library finds on this machine, and what to do."""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import funtorch
from funtorch import hardware, openblas
from funtorch.backends.cuda import cudnn, nvrtc
from funtorch.backends.cuda.driver import driver_of
from funtorch.backends.cuda.libraries import find_cudnn, load

__all__ = ["Finding", "doctor", "main"]


class Finding(NamedTuple):
    """One line of what the doctor says: about what, what was found, and what to do."""

    what: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        text = f"{self.what:<10} {self.found}"
        return f"{text}\n{'':<10}   -> {self.advice}" if self.advice else text


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _versions() -> Finding:
    names = ("numpy", "ml_dtypes", "llvmlite", "scipy-openblas32")
    shown = ", ".join(f"{n} {_version(n)}" for n in names)
    return Finding(
        "versions", f"funtorch {funtorch.__version__}, Python {sys.version.split()[0]}, {shown}"
    )


def _model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            lines = [line for line in f if line.startswith("model name")]
        return lines[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _cpu() -> Finding:
    count = os.cpu_count() or 1
    limit = os.environ.get("FUNTORCH_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    advice = f"programs run on {limit} threads, as the environment says" if limit else ""
    return Finding("CPU", f"{_model()}, {count} processors, {platform.machine()}", advice)


def _blas() -> Finding:
    library = openblas.load()
    core = library.scipy_openblas_get_corename
    core.restype = ctypes.c_char_p
    name = core().decode()
    told = os.environ.get("OPENBLAS_CORETYPE")
    advice = (
        f"OPENBLAS_CORETYPE={told} chose the kernels; unset it unless you mean it" if told else ""
    )
    return Finding("BLAS", f"OpenBLAS {_version('scipy-openblas32')} for {name}", advice)


def _gpu() -> Finding:
    found = hardware.gpus()
    if not found:
        return Finding("GPU", "none", hardware.absence())
    return Finding(
        "GPU", ", ".join(f"{d}: {d.device_kind}" for d in found), "funtorch.device_put(x, 'cuda:0')"
    )


def _driver() -> Finding:
    made = ", ".join(hardware.cuda_versions()) or "no driver of NVIDIA's"
    wheels = [n for n in ("cupy-cuda12x", "cupy-cuda13x") if _version(n) != "not installed"]
    shown = ", ".join(f"{n} {_version(n)}" for n in wheels) or "CuPy is not installed"
    advice = "" if wheels else "for a GPU: pip install 'funtorch[cuda12]', or [cuda13]"
    if len(wheels) > 1:
        advice = "two versions of CuPy hinder each other: uninstall one"
    return Finding("driver", f"{made}; {shown}", advice)


def _nvrtc() -> Finding:
    try:
        library = nvrtc.library()
        archs = [driver_of(d).arch for d in hardware.gpus()]
        newer = next((a for a in archs if library.target(a) != a), None)
    except nvrtc.NvrtcError as error:
        return Finding("NVRTC", "none: programs cannot be compiled for a GPU", str(error))
    shown = f"{library.version[0]}.{library.version[1]} at {library.place}"
    advice = f"it does not know {newer}: the driver compiles its PTX; a newer one is better"
    return Finding("NVRTC", shown, advice if newer else "")


def _library(name: str, title: str) -> Callable[[], Finding]:
    def check() -> Finding:
        try:
            load(name)
        except RuntimeError as error:
            return Finding(title, "none", str(error))
        return Finding(title, "found")

    return check


def _cudnn() -> Finding:
    place, wanted = find_cudnn(), cudnn.wanted()
    if place is None:
        return Finding("cuDNN", "none: convolutions on a GPU are kernels of our own")
    used = "it does convolutions" if wanted else "FUNTORCH_CUDNN=1 lets it do convolutions"
    return Finding("cuDNN", f"{place}; {used}")


def _graphs() -> Finding:
    if not hardware.gpus():
        return Finding("graphs", "no GPU, which could decide about loops and branches by itself")
    found = driver_of(hardware.gpus()[0]).conditional
    if isinstance(found, str):
        advice = "loops and branches ask the host, which takes some 20 us each time"
        return Finding("graphs", f"without conditional nodes: {found}", advice)
    return Finding("graphs", "the GPU decides about loops and branches by itself")


def _nccl() -> Finding:
    names = ("nvidia-nccl-cu12", "nvidia-nccl-cu13")
    found = [f"{n} {_version(n)}" for n in names if _version(n) != "not installed"]
    shown = ", ".join(found) or "none"
    return Finding("NCCL", f"{shown}; it is not used yet, processes talk through MPI")


def _mpi() -> Finding:
    binding, runner = _version("mpi4py"), shutil.which("mpirun") or shutil.which("mpiexec")
    found = f"mpi4py {binding}; {runner or 'no mpirun on the path'}"
    complete = runner and binding != "not installed"
    advice = "" if complete else "for several processes: pip install 'funtorch[mpi]'"
    return Finding("MPI", found, advice)


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _versions, _cpu, _blas, _gpu, _driver, _nvrtc,
    _library("cublas", "cuBLAS"), _library("cusolver", "cuSOLVER"), _cudnn,
    _graphs, _nccl, _mpi,
)  # fmt: skip


def doctor() -> list[Finding]:
    """Return what the library finds on this machine.

    Example:
        >>> [finding.what for finding in doctor()][:3]
        ['versions', 'CPU', 'BLAS']
    """
    return [check() for check in _CHECKS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m funtorch", description=__doc__)
    parser.add_argument("command", choices=["doctor"], help="what to do")
    parser.parse_args(arguments)
    print("\n".join(map(str, doctor())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
