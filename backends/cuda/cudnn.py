"""Convolutions through cuDNN's graphs, where that is asked for: FUNTORCH_CUDNN=1.

It has never been run on a GPU, so that kernels of our own are what convolutions are without it, and
whatever cuDNN has no plan for is one in any case.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import hardware
from funtorch.hardware import Device

from .convolutions import Convolution, Tensor

__all__ = ["Cudnn", "build", "cudnn_of", "load", "wanted"]

Run = Callable[[Any, int, int, int], None]
"""From a stream and the addresses of x, w and y of a correlation."""


def wanted() -> bool:
    """Tell whether convolutions shall be cuDNN's."""
    return os.environ.get("FUNTORCH_CUDNN", "").strip() not in ("", "0")


@functools.cache
def load() -> Any:
    """Return cuDNN's frontend; None, after a warning that says what brings it, if it is not there.

    It is imported where it is wanted only.
    """
    major = hardware.cuda_majors()[0]
    try:
        module = importlib.import_module("cudnn")
        module.backend_version()
    except (ImportError, RuntimeError) as error:
        warnings.warn(
            f"FUNTORCH_CUDNN=1, but cuDNN is not there ({error}): pip install "
            f"nvidia-cudnn-frontend==1.28.0 nvidia-cudnn-cu{major} brings it; convolutions are "
            "kernels of our own meanwhile",
            stacklevel=2,
        )
        return None
    return module


def build(cudnn: Any, spec: Convolution, **options: Any) -> Any:
    """Return the graph of a convolution with a plan; None where cuDNN has none.

    Args:
        cudnn: its module.
        spec: the convolution.
        options: of the graph: a handle, or a description of a GPU.
    """
    kind = cudnn.data_type.FLOAT
    graph = cudnn.pygraph(
        io_data_type=kind, intermediate_data_type=kind, compute_data_type=kind, **options
    )

    def tensor(t: Tensor, uid: int) -> Any:
        sizes, strides = list(map(int, t.sizes)), list(map(int, t.strides))
        return graph.tensor(dim=sizes, stride=strides, data_type=kind, uid=uid)

    geometry = {
        "pre_padding": list(map(int, spec.before)),
        "post_padding": list(map(int, spec.after)),
        "stride": list(map(int, spec.stride)),
        "dilation": list(map(int, spec.dilation)),
    }
    places = dict(zip(_PARTS, (spec.image, spec.filter, spec.result), strict=True))
    uids = {part: 1 + at for part, at in zip(_PARTS, spec.order, strict=True)}
    names, out = _KINDS[spec.kind]
    given = {name: tensor(places[part], uids[part]) for part, name in names.items()}
    made = getattr(graph, f"conv_{spec.kind}")(**given, **geometry)
    made.set_output(True).set_data_type(kind).set_uid(uids[out])
    made.set_dim(list(map(int, places[out].sizes))).set_stride(list(places[out].strides))
    try:
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        if not spec.tf32:  # what rounds float32 so bears this note
            graph.deselect_numeric_notes([cudnn.numerical_note.TENSOR_CORE])
        graph.check_support()
        graph.build_plans()
    except (cudnn.cudnnGraphNotSupportedError, RuntimeError, ValueError):
        return None
    return graph


_PARTS = ("image", "filter", "result")
_KINDS: dict[str, tuple[dict[str, str], str]] = {
    "fprop": ({"image": "image", "filter": "weight"}, "result"),
    "dgrad": ({"result": "loss", "filter": "filter"}, "image"),
    "wgrad": ({"image": "image", "result": "loss"}, "filter"),
}
"""Parameters of cuDNN's functions by what they are of the forward convolution; what is made."""


class Cudnn:
    """cuDNN on one GPU."""

    def __init__(self, device: Device, module: Any) -> None:
        self.module = module
        self.plans: dict[Convolution, Any] = {}
        with hardware.cupy().cuda.Device(device.id):
            self.handle = module.create_handle()

    def plan(self, spec: Convolution) -> Run | None:
        """Return what does a convolution, with memory of its own; None where cuDNN cannot."""
        if spec not in self.plans:
            self.plans[spec] = build(self.module, spec, handle=self.handle)
        graph = self.plans[spec]
        if graph is None:
            return None
        size = max(int(graph.get_workspace_size()), 1)
        workspace = hardware.cupy().empty((size,), np.dtype(np.uint8))
        starts = [0, 0, 0]
        for tensor, at in zip((spec.image, spec.filter, spec.result), spec.order, strict=True):
            starts[at] = int(tensor.offset) * spec.dtype.itemsize

        def run(stream: Any, x: int, w: int, y: int) -> None:
            self.module.set_stream(self.handle, stream.ptr)
            places = {1 + k: at + starts[k] for k, at in enumerate((x, w, y))}
            graph.execute(places, workspace.data.ptr, self.handle)

        return run


@functools.cache
def cudnn_of(device: Device) -> Cudnn | None:
    """Return cuDNN on a GPU, the same each time; None where it is not there, or not asked for."""
    module = load() if wanted() else None
    return None if module is None else Cudnn(device, module)
