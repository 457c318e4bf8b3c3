"""Convolutions and attention through cuDNN's graphs, where that is asked for: FUNTORCH_CUDNN=1.

It has never been run on a GPU, so that kernels of our own are what these are without it, and
whatever cuDNN has no plan for is one in any case.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import hardware
from funtorch.hardware import Device

from .attending import Attending
from .convolutions import Convolution, Tensor

__all__ = ["Cudnn", "build", "cudnn_of", "load", "wanted"]

Run = Callable[[Any, Sequence[int]], None]
"""From a stream and the addresses of all operands, results and scratch of a launch."""

_TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BFLOAT16"}


def wanted() -> bool:
    """Tell whether convolutions and attention shall be cuDNN's."""
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
            f"nvidia-cudnn-frontend==1.28.0 nvidia-cudnn-cu{major} brings it; convolutions and "
            "attention are kernels of our own meanwhile",
            stacklevel=2,
        )
        return None
    return module


def build(cudnn: Any, spec: Convolution | Attending, **options: Any) -> Any:
    """Return the graph of what is asked for with a plan; None where cuDNN has none.

    Args:
        cudnn: its module.
        spec: a convolution, or attention.
        options: of the graph: a handle, or a description of a GPU.
    """
    kinds, single = cudnn.data_type, cudnn.data_type.FLOAT
    kind = getattr(kinds, _TYPES[spec.dtype.name])
    graph = cudnn.pygraph(
        io_data_type=kind, intermediate_data_type=single, compute_data_type=single, **options
    )
    exact = isinstance(spec, Convolution) and kind is single and not spec.tf32
    try:
        if isinstance(spec, Convolution):
            _convolution(graph, spec, kind)
        else:
            _attention(graph, spec, kind, single)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        if exact:  # what rounds float32 so bears this note
            graph.deselect_numeric_notes([cudnn.numerical_note.TENSOR_CORE])
        graph.check_support()
        graph.build_plans()
    except (cudnn.cudnnGraphNotSupportedError, RuntimeError, ValueError):
        return None
    return graph


def _tensor(graph: Any, t: Tensor, kind: Any, uid: int) -> Any:
    sizes, strides = list(map(int, t.sizes)), list(map(int, t.strides))
    return graph.tensor(dim=sizes, stride=strides, data_type=kind, uid=uid)


def _result(made: Any, t: Tensor, kind: Any, uid: int) -> None:
    """Say where a result lies."""
    made.set_output(True).set_data_type(kind).set_uid(uid)
    made.set_dim(list(map(int, t.sizes))).set_stride(list(map(int, t.strides)))


def _convolution(graph: Any, spec: Convolution, kind: Any) -> None:
    geometry = {
        "pre_padding": list(map(int, spec.before)),
        "post_padding": list(map(int, spec.after)),
        "stride": list(map(int, spec.stride)),
        "dilation": list(map(int, spec.dilation)),
    }
    places = dict(zip(_PARTS, (spec.image, spec.filter, spec.result), strict=True))
    uids = {part: 1 + at for part, at in zip(_PARTS, spec.order, strict=True)}
    names, out = _KINDS[spec.kind]
    given = {name: _tensor(graph, places[part], kind, uids[part]) for part, name in names.items()}
    made = getattr(graph, f"conv_{spec.kind}")(**given, **geometry)
    _result(made, places[out], kind, uids[out])


_PARTS = ("image", "filter", "result")
_KINDS: dict[str, tuple[dict[str, str], str]] = {
    "fprop": ({"image": "image", "filter": "weight"}, "result"),
    "dgrad": ({"result": "loss", "filter": "filter"}, "image"),
    "wgrad": ({"image": "image", "result": "loss"}, "filter"),
}
"""Parameters of cuDNN's functions by what they are of the forward convolution; what is made."""


# ---------------------------------------------------------------------- attention
def _attention(graph: Any, s: Attending, kind: Any, single: Any) -> None:
    """Write attention; the numbers of arrays are those of `_ATTENDING`."""
    shapes = {n: (s.batch, s.heads, s.queries, f) for n, f in ((1, s.features), (4, s.values))}
    shapes |= {2: (s.batch, s.shared, s.keys, s.features), 3: (s.batch, s.shared, s.keys, s.values)}
    shapes |= {7: shapes[1], 8: shapes[2], 9: shapes[3], 6: shapes[4]}
    where = {uid: s.places[k] for k, uid in enumerate(_ATTENDING[s.backward]) if uid in shapes}
    at = {uid: Tensor(offset, shapes[uid], strides) for uid, (offset, strides) in where.items()}
    rows = s.batch, s.heads, s.queries, 1
    sums = Tensor(0, rows, (s.heads * s.queries, s.queries, 1, 1))
    given = {
        name: _tensor(graph, at[uid], kind, uid) for uid, name in ((1, "q"), (2, "k"), (3, "v"))
    }
    options: dict[str, Any] = {"attn_scale": s.scale, "use_causal_mask": s.causal}
    if not s.backward:
        out, stats = graph.sdpa(**given, generate_stats=True, **options)
        _result(out, at[4], kind, 4)
        _result(stats, sums, single, 5)
        return
    given |= {name: _tensor(graph, at[uid], kind, uid) for uid, name in ((4, "o"), (6, "dO"))}
    stats = _tensor(graph, sums, single, 5)
    found = graph.sdpa_backward(**given, stats=stats, use_deterministic_algorithm=True, **options)
    for uid, made in zip((7, 8, 9), found, strict=True):
        _result(made, at[uid], kind, uid)


_ATTENDING = {False: (1, 2, 3, 4, 5), True: (1, 2, 3, 4, 0, 0, 6, 7, 8, 9, 5)}
"""By whether it is backward, numbers of the arrays that a launch has addresses of: what softmaxes
come to is what the forward pass subtracts, and scratch in the backward pass."""


class Cudnn:
    """cuDNN on one GPU."""

    def __init__(self, device: Device, module: Any) -> None:
        self.module = module
        self.plans: dict[Convolution | Attending, Any] = {}
        with hardware.cupy().cuda.Device(device.id):
            self.handle = module.create_handle()

    def plan(self, spec: Convolution | Attending) -> Run | None:
        """Return what does it, with memory of its own; None where cuDNN cannot."""
        if spec not in self.plans:
            self.plans[spec] = build(self.module, spec, handle=self.handle)
        graph = self.plans[spec]
        if graph is None:
            return None
        size = max(int(graph.get_workspace_size()), 1)
        workspace = hardware.cupy().empty((size,), np.dtype(np.uint8))
        if isinstance(spec, Convolution):
            uids, starts = (1, 2, 3), [0, 0, 0]
            for tensor, at in zip((spec.image, spec.filter, spec.result), spec.order, strict=True):
                starts[at] = int(tensor.offset) * spec.dtype.itemsize
        else:
            uids = _ATTENDING[spec.backward]  # type: ignore[assignment]
            starts = [offset * spec.dtype.itemsize for offset, _ in spec.places]
            starts += [0] * (len(uids) - len(starts))

        def run(stream: Any, addresses: Sequence[int]) -> None:
            self.module.set_stream(self.handle, stream.ptr)
            places = {
                uid: at + start
                for uid, at, start in zip(uids, addresses, starts, strict=False)
                if uid
            }
            graph.execute(places, workspace.data.ptr, self.handle)

        return run


@functools.cache
def cudnn_of(device: Device) -> Cudnn | None:
    """Return cuDNN on a GPU, the same each time; None where it is not there, or not asked for."""
    module = load() if wanted() else None
    return None if module is None else Cudnn(device, module)
