"""Every kernel of the op table compiles for GPUs, and means on the CPU what NumPy says it means."""

import cuda_proof
import pytest
from cuda_proof import ProvingDriver, share_of
from test_cuda_kernels import ARCHS, EVERY, needs_gxx, needs_nvrtc

from funtorch.backends.cuda import nvrtc
from funtorch.backends.cuda.code import module_text

DTYPES = cuda_proof.ALL if EVERY else cuda_proof.DTYPES
TOOLS = [
    pytest.param("shim", marks=needs_gxx),
    *(pytest.param(a, marks=needs_nvrtc) for a in ARCHS),
]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("number", range(cuda_proof.SHARES))
def test_the_op_table(cupy, number, tool):
    share = share_of(number, DTYPES)
    assert len(share.codes) > 120
    if tool != "shim":
        assert nvrtc.library().compile(module_text(share.codes), tool)[:4] == b"\x7fELF"
        return
    driver = ProvingDriver(share)
    for program in share.programs:
        driver.prove(program)
    assert driver.proved == set(share.numbers)
    assert not driver.wrong, f"{len(driver.wrong)} differ; the first:\n{driver.wrong[0]}"
