"""Kernels as CUDA C++: NVRTC compiles them, and run on the CPU, they mean what they mean."""

import dataclasses
import os
import re

import cuda_cases as cases
import cuda_shim
import numpy as np
import pytest
from cuda_cases import F32
from cuda_shim import ShimError
from test_kernels import FUSED, loaded, place, reduced, steps

from funtorch.backends.cuda import nvrtc
from funtorch.backends.cuda.code import module_text
from funtorch.backends.cuda.kernels import print_kernel
from funtorch.backends.kernel import Kernel, Op, Store, check_kernel, run_kernel

EVERY = os.environ.get("FUNTORCH_CUDA_TESTS") == "all"  # the whole product of dtypes
ARCHS = ("sm_80", "sm_90")
needs_gxx = pytest.mark.skipif(
    not cuda_shim.have_compiler(), reason="running CUDA text on the CPU takes g++"
)
needs_nvrtc = pytest.mark.skipif(
    nvrtc.find_library() is None,
    reason="there is no NVRTC library: pip install nvidia-cuda-nvrtc-cu12",
)


def printed(case, name):
    kernel = dataclasses.replace(case.kernel, name=name)
    check_kernel_of(kernel)
    return print_kernel(kernel, [b.size for b in case.buffers] if case.lengths else None)


def check_kernel_of(kernel):
    stored = {s.buffer for s in kernel.stores}
    if stored.isdisjoint(op.attr for op in kernel.body if op.name == "load"):
        check_kernel(kernel)


def meaning(case):
    """Return what NumPy makes of a kernel; what works in place reads a copy."""
    kernel, buffers = case.kernel, [b.copy() for b in case.buffers]
    stored = {s.buffer for s in kernel.stores}
    if not stored.isdisjoint(op.attr for op in kernel.body if op.name == "load"):
        extra = tuple(kernel.buffers)
        body = tuple(
            dataclasses.replace(op, attr=op.attr + len(extra)) if op.name == "load" else op
            for op in kernel.body
        )
        kernel = dataclasses.replace(kernel, buffers=extra * 2, body=body)
        run_kernel(kernel, [*buffers, *(b.copy() for b in case.buffers)])
    else:
        run_kernel(kernel, buffers)
    return buffers


def same(got, want, tol, label):
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, label)
        return
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    tiny = 0 if got.dtype.itemsize >= 8 and got.dtype.kind == "f" else 1e-38
    got, want = got.astype(wide), want.astype(wide)
    np.testing.assert_allclose(got, want, rtol=tol, atol=max(tol / 4, tiny), err_msg=label)


def check(made):
    """Run cases through the shim in several orders of threads, and compile them for GPUs."""
    made = list(made)
    codes = [printed(case, f"case{k}") for k, case in enumerate(made)]
    module = cuda_shim.load(codes)
    for k, (case, code) in enumerate(zip(made, codes, strict=True)):
        want, first, orders = meaning(case), None, list(cuda_shim.ORDERS)
        if not EVERY and max(b.size for b in case.buffers) > 20_000:
            orders = orders[k % 3 :][:1]
        for order in orders:
            got = [b.copy() for b in case.buffers]
            module.run(code, got, order)
            for g, w in zip(got, want, strict=True):
                same(g, w, case.tol, f"{case.label}, threads {order}")
            if first is not None and case.same:
                for g, f in zip(got, first, strict=True):
                    assert g.tobytes() == f.tobytes(), f"{case.label}: the order of threads shows"
            first = got
    return codes


def compiled(codes):
    text = module_text(codes)
    for arch in ARCHS:
        assert nvrtc.library().compile(text, arch)[:4] == b"\x7fELF"


FAMILIES = {
    "fused": cases.fused,
    "reductions": cases.reductions,
    "running": cases.running,
    "running shared out": cases.shared_out,
    "indexed": cases.indexed,
    "in place": cases.in_place,
    "random": lambda: cases.random_kernels(400 if EVERY else 40),
    "elementwise": lambda: cases.elementwise(EVERY),
}


@needs_gxx
@pytest.mark.parametrize("family", FAMILIES)
def test_text_on_the_cpu_means_what_kernels_mean(family):
    check(FAMILIES[family]())


@needs_nvrtc
@pytest.mark.parametrize("family", FAMILIES)
def test_nvrtc_compiles_every_kernel(family):
    made = list(FAMILIES[family]())
    if not EVERY:
        made = made[
            :: {"elementwise": 6, "indexed": 6, "random": 8, "reductions": 3}.get(family, 1)
        ]
    compiled(printed(case, f"case{k}") for k, case in enumerate(made))


# ---------------------------------------------------------------------- schedules
def code_of(sizes, inner, dtype=F32, what="reduce_sum"):
    return print_kernel(reduced(sizes, inner, dtype, what))


def copied(sizes, dtype=F32, offset=0):
    body = (dataclasses.replace(loaded(sizes, dtype=dtype), where=place(sizes)),)
    where = dataclasses.replace(place(sizes), offset=offset)
    return Kernel("k", sizes, (False,) * len(sizes), (dtype, dtype), body, (Store(1, 0, where),))


def test_neighbours_are_read_as_vectors_where_they_are_aligned():
    assert "load_vector<4>" in print_kernel(copied((1 << 12,))).text
    assert "store_vector" in print_kernel(copied((1 << 12,))).text
    assert "load_vector<2>" in print_kernel(copied((1 << 12,), np.dtype("float64"))).text
    assert "load_vector<8>" in print_kernel(copied((1 << 12,), np.dtype("float16"))).text
    assert "load_vector" not in print_kernel(copied((1001,))).text
    assert "store_vector" not in print_kernel(copied((1 << 12,), offset=1)).text


def test_places_have_64_bits_only_where_sizes_need_them():
    assert "s64" not in print_kernel(copied((1 << 20,))).text
    assert "(s64 unit" in print_kernel(copied((1 << 16, 1 << 16))).text


def test_few_long_rows_are_shared_out_and_joined_by_a_second_launch():
    code = code_of((3, 1 << 20), (False, True))
    first, second = code.launches
    assert first.grid[1] > 16
    assert second.name == "k_end"
    assert code.scratch >= 3 * first.grid[1] * 4
    (alone,) = code_of((3000, 1000), (False, True)).launches
    assert alone.shared == 0  # warps join by shuffles alone


def test_launches_keep_to_what_devices_allow():
    for sizes, inner in (
        ((1 << 30,), (True,)),
        ((1 << 30, 2), (True, False)),
        ((1 << 26, 3), (False, True)),
        ((2, 1 << 28), (False, True)),
        ((1 << 20, 1000), (True, False)),
    ):
        for launch in code_of(sizes, inner).launches:
            assert launch.grid[0] < 1 << 31
            assert max(launch.grid[1:]) < 1 << 16
            assert launch.block <= 1024
            assert launch.shared <= 48 << 10


def test_nothing_is_launched_for_nothing():
    assert print_kernel(copied((0, 4))).launches == ()


def test_code_depends_on_nothing_but_the_kernel():
    first, second = (code_of((200, 300), (False, True)) for _ in range(2))
    assert first == second


# ---------------------------------------------------------------------- what the shim finds
def run_changed(kernel, buffers, old, new, count=1):
    """Run a kernel whose text was changed."""
    code = print_kernel(kernel)
    assert old in code.text, code.text
    text = re.sub(re.escape(old), new, code.text, count=count)
    wrong = dataclasses.replace(code, text=text)
    module = cuda_shim.load([wrong])
    for order in cuda_shim.ORDERS:
        module.run(wrong, [b.copy() for b in buffers], order)


ROWS = reduced((3, 5000), (False, True), F32, "reduce_sum")
ROWS_MEMORY = [np.ones(15000, F32), np.zeros(3, F32)]


def normalized():
    """Return a kernel whose blocks go through several rows, and its memory."""
    sizes = (40, 5000)
    body = (loaded(sizes), Op("reduce", (0,), F32, "reduce_sum"), Op("mul", (0, 1), F32))
    stores = (Store(1, 2, place(sizes, [1]), None, "reduce_sum"),)
    kernel = Kernel("k", sizes, (False, True), (F32, F32), body, stores)
    return kernel, [np.ones(200_000, F32), np.zeros(5000, F32)]


@needs_gxx
def test_a_missing_barrier_is_found():
    kernel, memory = normalized()
    variants = []
    for which in range(-1, 7):
        code = print_kernel(dataclasses.replace(kernel, name=f"k{which + 1}"))
        parts = code.text.split("__syncthreads();")
        assert len(parts) == 8
        text = parts[0]
        for n, part in enumerate(parts[1:]):
            text += part if n == which else f"__syncthreads();{part}"
        variants.append(dataclasses.replace(code, text=text))
    module = cuda_shim.load(variants)
    found = []
    for code in variants:
        try:
            module.run(code, [b.copy() for b in memory])
        except ShimError as error:
            found.append(bool(re.search("a race of a|a read of what nobody wrote", str(error))))
        else:
            found.append(False)
    # Nothing comes before the first one of the last launch, which other schedules need.
    assert found == [False, True, True, False, True, True, True, True]


@needs_gxx
def test_an_access_out_of_bounds_is_found():
    with pytest.raises(ShimError, match="out of bounds: b1 at byte 4004, thread"):
        run_changed(copied((1001,)), [np.ones(1001, F32), np.ones(1001, F32)], "b1[", "b1[1 + ", 9)
    kernel, memory = copied((1024,)), [np.ones(1024, F32), np.ones(1024, F32)]
    with pytest.raises(ShimError, match="not aligned: b0"):
        run_changed(kernel, memory, "load_vector<4>(b0 + ", "load_vector<4>(b0 + 1 + ")


@needs_gxx
def test_threads_that_write_to_one_place_are_found():
    with pytest.raises(ShimError, match="a race of two writes: b1 at byte 0"):
        run_changed(copied((1001,)), [np.ones(1001, F32), np.ones(1001, F32)], "b1[", "b1[0 * ", 9)


@needs_gxx
def test_barriers_that_not_all_threads_reach_are_found():
    with pytest.raises(ShimError, match=r"different barriers, or for threads that have ended"):
        run_changed(ROWS, ROWS_MEMORY, "__syncthreads();", "if (threadIdx.x < 32) __syncthreads();")


@needs_gxx
def test_scratch_that_nobody_wrote_is_found():
    kernel = reduced((1 << 16,), (True,), F32, "reduce_sum")
    code = print_kernel(kernel)
    assert len(code.launches) == 2
    wrong = dataclasses.replace(code, launches=code.launches[1:])
    with pytest.raises(ShimError, match="a read of what nobody wrote: scratch"):
        cuda_shim.load([code]).run(wrong, [np.ones(1 << 16, F32), np.zeros(1, F32)])


# ---------------------------------------------------------------------- NVRTC
@needs_nvrtc
def test_what_is_kept_is_in_registers():
    made = []
    for name in ("softmax gradient", "layer norm gradients"):
        f, shapes, _ = FUSED[name]
        for rows, width in ((64, 48), (4096, 1000), (512, 8192)):
            given = [(rows, width) if len(s) > 1 else (width,) for s in shapes]
            made += [s.kernel for s in steps(f, *given)]
    codes = [print_kernel(dataclasses.replace(k, name=f"k{n}")) for n, k in enumerate(made)]
    usage = nvrtc.library().usage(module_text(codes), "sm_90")
    assert len(usage) > len(made)
    for name, used in usage.items():
        assert used.stack == used.spilled == 0, name
        assert used.registers <= 128, name


@needs_nvrtc
def test_what_nvrtc_refuses_is_shown_with_its_function_and_line():
    code = print_kernel(copied((1001,)))
    wrong = dataclasses.replace(code, text=code.text.replace("b1[", "b7["))
    with pytest.raises(nvrtc.NvrtcError, match=r"(?s)sm_90.*b7.*in extern.*void.*k\(.*line \d+: "):
        nvrtc.library().compile(module_text([wrong]), "sm_90")


def test_a_missing_nvrtc_says_what_brings_it(monkeypatch):
    monkeypatch.setattr(nvrtc, "find_library", lambda: None)
    nvrtc.library.cache_clear()
    try:
        with pytest.raises(nvrtc.NvrtcError, match="pip install nvidia-cuda-nvrtc-cu12"):
            nvrtc.library()
    finally:
        nvrtc.library.cache_clear()


@needs_nvrtc
def test_cubins_are_kept_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("FUNTORCH_CACHE_DIR", str(tmp_path))
    text = module_text([print_kernel(copied((1001,)))])
    first = nvrtc.compile_cubin(text, "sm_80")
    monkeypatch.setattr(nvrtc.Nvrtc, "compile", lambda *args: pytest.fail("compiled again"))
    assert nvrtc.compile_cubin(text, "sm_80") == first
