"""cuDNN's frontend on the stand-in for a GPU, through NumPy, from its definitions.

It has the names, methods and keywords of nvidia-cudnn-frontend 1.28.0 that are used, and no others.
As the real one it refuses filters with gaps.
"""

import enum
import itertools
import math

import numpy as np
from fake_cupy import cuda
from fake_libraries import flat

from funtorch.dtypes import bfloat16

WORKSPACE = 4096


class data_type(enum.Enum):
    FLOAT = np.dtype(np.float32)
    HALF = np.dtype(np.float16)
    BFLOAT16 = np.dtype(bfloat16)


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
        dtype = self.kind.value
        held = flat(address, dtype, reach + 1)
        steps = [dtype.itemsize * s for s in self.stride]
        return np.lib.stride_tricks.as_strided(held, self.dim, steps)


class pygraph:
    built = ()

    def __init__(
        self, *, io_data_type, intermediate_data_type, compute_data_type, handle=None
    ):  # fmt: skip
        assert intermediate_data_type is compute_data_type is data_type.FLOAT
        self.notes, self.kind_of_all = [], io_data_type
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

    def sdpa(self, *, q, k, v, attn_scale, use_causal_mask, generate_stats):
        assert generate_stats
        self.kind, self.geometry = "sdpa", (attn_scale, use_causal_mask)
        self.parts = [q, k, v, _Tensor(), _Tensor()]
        return self.parts[3:]

    def sdpa_backward(
        self, *, q, k, v, o, dO, stats, attn_scale, use_causal_mask, use_deterministic_algorithm
    ):
        assert use_deterministic_algorithm
        self.kind, self.geometry = "sdpa_backward", (attn_scale, use_causal_mask)
        self.parts = [q, k, v, o, dO, stats, _Tensor(), _Tensor(), _Tensor()]
        return self.parts[6:]

    def _validate_attention(self):
        q, k, v, *rest = self.parts
        sums = {id(self.parts[4 if self.kind == "sdpa" else 5])}
        for t in self.parts:
            single = id(t) in sums
            assert t.kind is (data_type.FLOAT if single else self.kind_of_all)
            assert len(t.dim) == 4
            assert t.stride[3] == 1
        assert q.dim[1] % k.dim[1] == 0
        assert k.dim[1] == v.dim[1]
        if q.dim[3] % 8 or v.dim[3] % 8 or max(q.dim[3], v.dim[3]) > 128:
            raise cudnnGraphNotSupportedError("hidden_dim should be a multiple of 8")
        assert all(t.output for t in rest[0 if self.kind == "sdpa" else 3 :])

    def validate(self):
        if self.kind.startswith("sdpa"):
            self._validate_attention()
            return
        image, weight, result = self.parts
        g = self.geometry
        assert all(t.kind is self.kind_of_all for t in self.parts)
        assert image.dim[0] == result.dim[0]
        assert weight.dim[0] == result.dim[1]
        assert image.dim[1] % weight.dim[1] == 0
        for d in range(len(image.dim) - 2):
            wide = image.dim[2 + d] + g["pre_padding"][d] + g["post_padding"][d]
            left = wide - g["dilation"][d] * (weight.dim[2 + d] - 1) - 1
            assert left // g["stride"][d] + 1 == result.dim[2 + d]

    def build_operation_graph(self):
        if self.kind.startswith("sdpa"):
            return
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
        assert set(pack) == {t.uid for t in self.parts}
        run = self._attend if self.kind.startswith("sdpa") else self._run
        cuda._do(("cudnn", self.kind), lambda: run(pack), handle.stream)

    def _attend(self, pack):
        arrays = [t.at(pack[t.uid]) for t in self.parts]
        scale, causal = self.geometry
        group = arrays[0].shape[1] // arrays[1].shape[1]
        q, k, v, *rest = (a.astype(np.float64) for a in arrays)
        k, v = (np.repeat(x, group, 1) for x in (k, v))
        logits = np.einsum("bhte,bhse->bhts", q, k) * scale
        if causal:
            hidden = np.arange(k.shape[2]) > np.arange(q.shape[2])[:, None]
            logits[..., hidden] = -np.inf
        if self.kind == "sdpa":
            top = logits.max(-1, keepdims=True)
            stats = top + np.log(np.exp(logits - top).sum(-1, keepdims=True))
            arrays[3][...] = np.exp(logits - stats) @ v
            arrays[4][...] = stats
            return
        out, ct, stats = rest[:3]
        weights = np.exp(logits - stats)
        moved = weights * (ct @ v.swapaxes(2, 3) - (ct * out).sum(-1, keepdims=True)) * scale
        joined = (k.shape[0], -1, group, *k.shape[2:3])
        arrays[6][...] = moved @ k
        for target, x in ((7, moved.swapaxes(2, 3) @ q), (8, weights.swapaxes(2, 3) @ ct)):
            arrays[target][...] = x.reshape(*joined, x.shape[-1]).sum(2)

    def _run(self, pack):
        image, weight, result = (t.at(pack[t.uid]) for t in self.parts)
        targets = {"fprop": result, "wgrad": weight, "dgrad": image}
        image, weight, result = (x.astype(np.float32) for x in (image, weight, result))
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
            targets["fprop"][...] = made.reshape(result.shape)
        elif self.kind == "wgrad":
            targets["wgrad"][...] = made.reshape(weight.shape)
        else:
            inside = tuple(
                slice(p, p + m) for p, m in zip(g["pre_padding"], image.shape[2:], strict=True)
            )
            targets["dgrad"][...] = wide[(slice(None), slice(None), *inside)]
