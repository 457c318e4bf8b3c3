"""cuDNN's frontend on the stand-in for a GPU: convolutions through NumPy, from its definitions.

It has the names, methods and keywords of nvidia-cudnn-frontend 1.28.0 that are used, and no others.
As the real one it refuses filters with gaps.
"""

import enum
import itertools
import math

import numpy as np
from fake_cupy import cuda
from fake_libraries import flat

WORKSPACE = 4096


class data_type(enum.Enum):
    FLOAT = 0


class heur_mode(enum.Enum):
    A = 0
    FALLBACK = 1


class numerical_note(enum.Enum):
    TENSOR_CORE = 0


class cudnnGraphNotSupportedError(RuntimeError):
    pass


def backend_version():
    return 92700


class Handle:
    stream = None


def create_handle():
    return Handle()


def set_stream(handle, stream):
    handle.stream = stream


class _Tensor:
    def __init__(self, dim=None, stride=None, data_type=None, uid=None):
        self.dim, self.stride, self.kind, self.uid = dim, stride, data_type, uid
        self.output = False

    def _set(self, name, value):
        setattr(self, name, value)
        return self

    def set_output(self, value):
        return self._set("output", value)

    def set_data_type(self, value):
        return self._set("kind", value)

    def set_uid(self, value):
        return self._set("uid", value)

    def set_dim(self, value):
        return self._set("dim", value)

    def set_stride(self, value):
        return self._set("stride", value)

    def at(self, address):
        reach = sum((n - 1) * s for n, s in zip(self.dim, self.stride, strict=True))
        assert min(self.stride) >= 0
        held = flat(address, np.float32, reach + 1)
        return np.lib.stride_tricks.as_strided(held, self.dim, [4 * s for s in self.stride])


class pygraph:
    built = ()

    def __init__(
        self, *, io_data_type, intermediate_data_type, compute_data_type, handle=None
    ):  # fmt: skip
        self.notes, self.done = [], []
        self.handle = handle

    def tensor(self, *, dim, stride, data_type, uid):
        return _Tensor(dim, stride, data_type, uid)

    def conv_fprop(self, *, image, weight, **geometry):
        return self._made("fprop", image, weight, None, geometry)

    def conv_dgrad(self, *, loss, filter, **geometry):
        return self._made("dgrad", None, filter, loss, geometry)

    def conv_wgrad(self, *, image, loss, **geometry):
        return self._made("wgrad", image, None, loss, geometry)

    def _made(self, kind, image, weight, result, geometry):
        assert set(geometry) == {"pre_padding", "post_padding", "stride", "dilation"}
        assert min(geometry["pre_padding"] + geometry["post_padding"]) >= 0
        out = _Tensor()
        self.kind, self.geometry = kind, geometry
        self.parts = [out if t is None else t for t in (image, weight, result)]
        if kind == "fprop":
            self.parts[2] = out
        return out

    def validate(self):
        image, weight, result = self.parts
        g = self.geometry
        assert all(t.kind is data_type.FLOAT for t in self.parts)
        assert image.dim[0] == result.dim[0]
        assert weight.dim[0] == result.dim[1]
        assert image.dim[1] % weight.dim[1] == 0
        for d in range(len(image.dim) - 2):
            wide = image.dim[2 + d] + g["pre_padding"][d] + g["post_padding"][d]
            left = wide - g["dilation"][d] * (weight.dim[2 + d] - 1) - 1
            assert left // g["stride"][d] + 1 == result.dim[2 + d]

    def build_operation_graph(self):
        weight = self.parts[1]
        reach = sum((n - 1) * s for n, s in zip(weight.dim, weight.stride, strict=True)) + 1
        if reach != math.prod(weight.dim):
            raise RuntimeError("wDesc.getNumElementsWithStride() != wDesc....WithoutStride()")

    def create_execution_plans(self, modes):
        assert modes == [heur_mode.A, heur_mode.FALLBACK]

    def deselect_numeric_notes(self, notes):
        self.notes += notes

    def check_support(self):
        pass

    def build_plans(self):
        type(self).built = (*type(self).built, self)

    def get_workspace_size(self):
        return WORKSPACE

    def execute(self, pack, workspace, handle):
        assert cuda.region(workspace)[1] >= WORKSPACE
        assert set(pack) == {1, 2, 3}
        cuda._do(("cudnn", self.kind), lambda: self._run(pack), handle.stream)

    def _run(self, pack):
        image, weight, result = (t.at(pack[t.uid]) for t in self.parts)
        g, groups = self.geometry, image.shape[1] // weight.shape[1]
        wide = np.pad(
            image if self.kind != "dgrad" else np.zeros_like(image),
            [(0, 0), (0, 0), *zip(g["pre_padding"], g["post_padding"], strict=True)],
        )
        n, c = image.shape[:2]
        places = wide.reshape(n, groups, c // groups, *wide.shape[2:])
        filters = weight.reshape(groups, -1, *weight.shape[1:])
        y = result.reshape(n, groups, -1, *result.shape[2:])
        if self.kind != "dgrad":
            made = np.zeros((y if self.kind == "fprop" else filters).shape, np.float32)
        for tap in itertools.product(*map(range, weight.shape[2:])):
            window = tuple(
                slice(t * d, t * d + (m - 1) * s + 1, s)
                for t, d, s, m in zip(
                    tap, g["dilation"], g["stride"], result.shape[2:], strict=True
                )
            )
            at = (slice(None), slice(None), slice(None), *window)
            here = (slice(None), slice(None), slice(None), *tap)
            if self.kind == "fprop":
                made += np.einsum("ngc...,gkc->ngk...", places[at], filters[here])
            elif self.kind == "wgrad":
                made[here] += np.einsum("ngcx,ngkx->gkc", *(
                    z.reshape(*z.shape[:3], -1) for z in (places[at], y)))  # fmt: skip
            else:
                places[at] += np.einsum("ngk...,gkc->ngc...", y, filters[here])
        if self.kind == "fprop":
            result[...] = made.reshape(result.shape)
        elif self.kind == "wgrad":
            weight[...] = made.reshape(weight.shape)
        else:
            inside = tuple(
                slice(p, p + m) for p, m in zip(g["pre_padding"], image.shape[2:], strict=True)
            )
            image[...] = wide[(slice(None), slice(None), *inside)]
