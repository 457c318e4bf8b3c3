"""Every kernel of the op table compiles for GPUs, and means on the CPU what NumPy says it means."""

import dataclasses
import re

import cuda_proof
import cuda_shim
import numpy as np
import pytest
from cuda_cases import F32
from cuda_proof import ProvingDriver, share_of
from cuda_shim import ShimError
from test_cuda_kernels import ARCHS, EVERY, needs_gxx, needs_nvrtc

from funtorch.backends.cuda import nvrtc
from funtorch.backends.cuda.code import module_text
from funtorch.backends.cuda.kernels import print_kernel
from funtorch.backends.kernel import Affine, Kernel, Op, Store

DTYPES = cuda_proof.ALL if EVERY else cuda_proof.DTYPES
TOOLS = [
    pytest.param("shim", marks=needs_gxx),
    *(pytest.param(a, marks=needs_nvrtc) for a in ARCHS),
]


LEAST = {"programs": 140, "words": 200}  # kernels; a share of the table has 150 to 370


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("which", [*range(cuda_proof.SHARES), *cuda_proof.OTHERS])
def test_every_kernel(cupy, which, tool):
    share = share_of(which, DTYPES)
    assert len(share.codes) >= LEAST.get(which, 150)
    if tool != "shim":
        assert nvrtc.library().compile(module_text(share.codes), tool)[:4] == b"\x7fELF"
        return
    driver = ProvingDriver(share)
    for program in share.programs:
        driver.prove(program)
    driver.prove_branches()
    assert driver.proved == set(share.numbers)
    assert not driver.wrong, f"{len(driver.wrong)} differ; the first:\n{driver.wrong[0]}"


@needs_gxx
def test_a_wrong_kernel_is_found(cupy):
    share = share_of(0, DTYPES)
    wrong = [
        dataclasses.replace(c, text=re.sub(r"= (\w+) \+ (\w+);", r"= \1 - \2;", c.text))
        for c in share.codes
    ]
    driver, caught = ProvingDriver(dataclasses.replace(share, codes=wrong)), 0
    for program in share.programs:
        try:
            driver.prove(program)
        except ShimError:  # a wrong place
            caught += 1
    changed = sum(a != b for a, b in zip(wrong, share.codes, strict=True))
    assert len(driver.wrong) + caught >= changed > 10


@needs_gxx
def test_kernels_that_work_in_place(cupy):
    """No thread reads what another one has overwritten: the shim would call it a race."""
    found = cuda_proof.in_place(2000 if EVERY else 120, 1)
    share = cuda_proof.gathered(found, cuda_proof.SUMMED, donate=True)
    kernels = [k.kernel for p in share.programs for k in p.kernels if k.kernel is not None]
    stored = [{s.buffer for s in k.stores} for k in kernels]
    reads = [{op.attr for op in k.body if op.name == "load"} for k in kernels]
    assert sum(not a.isdisjoint(b) for a, b in zip(stored, reads, strict=True)) > 60
    driver = ProvingDriver(share)
    for program in share.programs:
        driver.prove(program)
    assert not driver.wrong, driver.wrong[0]


@needs_gxx
def test_a_kernel_that_must_not_work_in_place_is_found():
    body = (Op("load", (), F32, 0, Affine(1, (1,))),)
    kernel = Kernel("k", (300,), (False,), (F32,), body, (Store(0, 0, Affine(0, (1,))),))
    code = print_kernel(kernel)
    with pytest.raises(ShimError, match="a race of a"):
        cuda_shim.load([code]).run(code, [np.zeros(301, F32)], "backwards")
