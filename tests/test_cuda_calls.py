"""Calls of compiled programs on the stand-in for a GPU: memory of results, copies, streams."""

import numpy as np
import pytest
from fake_cupy import Stream, cuda
from gpu_programs import normal

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import placement
from funtorch.backends.cuda import rooms


@pytest.fixture
def silent(cupy, monkeypatch):
    """Kernels need not run: only what is asked of the driver counts."""
    monkeypatch.setattr(cuda, "run_kernels", lambda *a: None)


def there(x):
    return ft.device_put(x, "cuda:0")


def product(a):
    return a @ a  # of which the stand-in needs no compiler


def counted(what):
    return sum(c[0] == what for c in cuda.calls)


def test_results_that_are_held_stay_as_they_are(cupy):
    f, kept = ft.jit(product), []
    xs = [normal(4, 4, seed=k) for k in range(9)]
    for k, x in enumerate(xs):
        kept.append(f(there(x)))
        if k == 4:
            del kept[1::2]  # their memory may be used again
    values = [xs[k] for k in (0, 2, 4, *range(5, 9))]
    assert len({a.unsafe_buffer_pointer() for a in kept}) == len(kept) == len(values)
    for got, x in zip(kept, values, strict=True):
        np.testing.assert_allclose(np.asarray(got), x @ x, rtol=1e-5, atol=1e-5)
        assert got._address == got._buffer.data.ptr


def test_results_seen_by_others_stay_as_they_are(cupy):
    f, x = ft.jit(product), there(normal(4, 4))
    want = np.asarray(x) @ np.asarray(x)
    buffer, view = f(x)._buffer, f(x)._buffer[1:]
    host = f(x)
    host.copy_to_host_async()
    for k in range(5):
        f(there(normal(4, 4, seed=k)))
    np.testing.assert_allclose(buffer.get(), want, rtol=1e-5)
    np.testing.assert_allclose(view.get(), want[1:], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(host), want, rtol=1e-5)


def test_a_training_loop_is_replayed_though_losses_are_kept(cupy):
    """Its addresses stay the same, so that its graph does; nothing is allocated but the losses."""

    @ft.jit
    def step(w, x):
        return fnp.swapaxes(x.T @ w, 0, 1), (w @ x) @ x

    w, x, losses = there(normal(4, 4) / 4), there(normal(4, 4) / 4), []
    want = np.asarray(w)
    for k in range(12):
        if k == 8:
            cuda.calls.clear()
        before = np.asarray(want)
        w, loss = step(w, x)
        losses.append(loss)
        want = (np.asarray(x).T @ before).T
        np.testing.assert_allclose(np.asarray(w), want, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            np.asarray(loss), before @ np.asarray(x) @ np.asarray(x), rtol=1e-4, atol=1e-6
        )
    assert counted("graph") == 4
    assert counted("begin_capture") == counted("gemm") == 0
    assert counted("alloc") == counted("memcpy") == 4


def test_large_results_come_from_the_pool(silent, monkeypatch):
    monkeypatch.setattr(rooms, "_SMALL", 100)
    f, x = ft.jit(lambda a: (a @ a, a[0, :4] * 2)), there(normal(8, 8))
    for _ in range(4):
        f(x)
    cuda.calls.clear()
    f(x)
    assert [c for c in cuda.calls if c[0] == "alloc"] == [("alloc", 256)]


def test_streams_have_memory_of_their_own(cupy):
    f, x = ft.jit(product), there(normal(4, 4))
    first = f(x).unsafe_buffer_pointer()
    with Stream(non_blocking=True):
        other = {f(x).unsafe_buffer_pointer() for _ in range(4)}
    assert first not in other
    assert len(other) == 1


def test_arguments_that_do_not_lie_well_are_copied_each_time(cupy):
    f = ft.jit(product)
    whole = there(np.arange(20, dtype=np.float32))
    part = placement.DeviceArray(whole._buffer[1:17].reshape(4, 4))
    for _ in range(4):
        x = np.asarray(part)
        np.testing.assert_allclose(np.asarray(f(part)), x @ x)
        assert not part._address


def test_numbers_and_arrays_of_the_host_go_there(cupy):
    f, x = ft.jit(lambda a, b: a @ b), normal(4, 4)
    for y in (x, fnp.array(x), there(x)):
        np.testing.assert_allclose(np.asarray(f(there(x), y)), x @ x, rtol=1e-5)


@pytest.mark.parametrize("leaves", [10, 100])
def test_a_replayed_call_asks_for_one_thing(silent, leaves):
    """However many arrays go in and come out: no allocations, no streams, one graph."""
    f = ft.jit(lambda xs: [x * 2 + 1 for x in xs])
    xs = there([normal(3, seed=k) for k in range(leaves)])
    for _ in range(4):
        f(xs)
    cuda.calls.clear()
    f(xs)
    assert [c[0] for c in cuda.calls] == ["graph"]
