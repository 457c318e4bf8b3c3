"""What can be known of the speed of kernels without a GPU: how they read, and what they take."""

import functools
import re

import numpy as np
import pytest
from gpu_programs import benchmark
from test_cuda_kernels import needs_nvrtc

import funtorch as ft
from funtorch.backends.cuda import nvrtc
from funtorch.backends.cuda.attention import has_kernel
from funtorch.backends.cuda.code import module_text
from funtorch.backends.cuda.instructions import Run
from funtorch.backends.cuda.runtime import plan_for
from funtorch.transforms.simplify import simplify

ROWS = {row.name: row for row in benchmark.ROWS}
LIMITS = {"threads": 2048, "registers": 65536, "blocks": 32, "shared": 164 << 10}  # of an A100's SM


@functools.cache
def plan_of(name):
    """Return the list of a row of the benchmark, at its full size."""
    row = ROWS[name]
    f = lambda *xs: row.fn(benchmark.our_names(), *xs)
    f = ft.grad(f, tuple(range(len(row.sizes)))) if row.grad else f
    args = [ft.ShapeDtypeStruct(s, row.dtype) for s in row.sizes]
    return plan_for(simplify(ft.jit(f).lower(*args)._program.jaxpr, has_kernel))[0]


@functools.cache
def usage(name, arch):
    return nvrtc.library().usage(module_text(plan_of(name).codes), arch)


def occupancy(used, launch):
    """Return the part of a multiprocessor's threads that a launch's blocks may take."""
    warps = -(-launch.block // 32)
    each = -(-used.registers * 32 // 256) * 256 * warps
    blocks = min(LIMITS["threads"] // (32 * warps), LIMITS["registers"] // each, LIMITS["blocks"])
    if launch.shared:
        blocks = min(blocks, LIMITS["shared"] // (launch.shared + 1024))
    return blocks * 32 * warps / LIMITS["threads"]


def accesses(name):
    """Return the widths in bits of what kernels read and write, as PTX says: by kind."""
    text = nvrtc.library().assembly(module_text(plan_of(name).codes), "compute_80")
    found = {"ld": [], "st": []}
    for kind, vector, bits in re.findall(
        r"\b(ld|st)\.global(?:\.nc)?(?:\.v(\d))?\.[a-z](\d+)", text.decode()
    ):
        found[kind].append(int(vector or 1) * int(bits))
    return found


def instructions(ptx):
    """Return how many instructions PTX has."""
    lines = [line.strip() for line in ptx[ptx.index(".entry") :].splitlines()]
    return sum(line.endswith(";") and not line.startswith(".") for line in lines)


@needs_nvrtc
@pytest.mark.parametrize("name", ["scaled", "elementwise", "softmax", "layer norm"])
def test_memory_is_read_and_written_once_and_16_bytes_at_a_time(name):
    """So that as many bytes move as in a copy, in instructions of the greatest width."""
    plan = plan_of(name)
    assert len(plan.instructions) == 1
    found = accesses(name)
    assert set(found["ld"]) == set(found["st"]) == {128}
    (code,) = plan.codes
    assert len(code.launches) == 1
    loads = re.findall(r"load_vector<4>\(b0", code.text)
    assert len(loads) == len(re.findall(r"store_vector\(b1", code.text)) == 1


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_nothing_spills(arch):
    for name in ROWS:
        for function, used in usage(name, arch).items():
            assert (used.spilled, used.stack) == (0, 0), (name, function, used)


@needs_nvrtc
@pytest.mark.parametrize(
    ("name", "least"),
    [("scaled", 1.0), ("elementwise", 1.0), ("softmax", 0.5), ("layer norm", 0.5),
     ("sum of columns", 0.75)],
)  # fmt: skip
def test_enough_threads_are_there_at_a_time(name, least):
    used = usage(name, "sm_80")
    for code in plan_of(name).codes:
        for launch in code.launches:
            found = occupancy(used[launch.name], launch)
            assert found >= least, (launch, used[launch.name], found)


def test_steps_are_a_few_launches():
    counts = {"launch": 1, "MLP step": 9, "CNN step": 11, "transformer": 24}
    for name, most in counts.items():
        plan = plan_of(name)
        launches = [len(plan.codes[x.code].launches) for x in plan.instructions
                    if isinstance(x, Run)]  # fmt: skip
        others = sum(not isinstance(x, Run) for x in plan.instructions)
        assert sum(launches) + others <= most, (name, sum(launches), others)


def test_a_figure_of_occupancy():
    class Launch:
        block, shared = 256, 0

    used = nvrtc.Usage(64, 0, 0)
    assert occupancy(used, Launch) == 0.5
    assert np.isclose(occupancy(nvrtc.Usage(32, 0, 0), Launch), 1)
