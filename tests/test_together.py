"""Equal kernels: one function in a program, however many arrays it runs on, and one job."""

import re

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import optim
from funtorch.backends.compile import plan_of
from funtorch.backends.cpu.llvm import Code
from funtorch.backends.cpu.program import print_program
from funtorch.backends.cpu.together import Job, Memory, jobs
from funtorch.backends.layout import check_layout, lay_out
from funtorch.transforms.simplify import simplify

OPTIMIZERS = {
    "adamw": optim.adamw(1e-2),
    "clipped": optim.chain(optim.clip_by_global_norm(1.0), optim.adam(1e-2)),
    "momentum": optim.sgd(1e-2, momentum=0.9),
}
SHAPES = {"equal": lambda k: ((40, 50), (300,))[k % 2], "others": lambda k: (40 + k, 50)}


def training(optimizer, shapes):
    rng = np.random.default_rng(0)
    params = [fnp.asarray(rng.normal(size=s).astype(np.float32)) for s in shapes]

    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    return step, (params, optimizer.init(params), params[::-1] if len({*shapes}) == 1 else params)


def text(f, args):
    plan = plan_of(simplify(ft.jit(f).lower(*args).jaxpr))
    layout = lay_out(plan)
    check_layout(layout)
    return print_program(plan, layout).text


@pytest.mark.parametrize(
    ("name", "shapes"),
    [(n, s) for n in OPTIMIZERS for s in SHAPES if (n, s) != ("clipped", "others")],
)
def test_the_number_of_functions_does_not_grow_with_the_arrays(name, shapes):
    """Sums know how many terms they have; everything elementwise is one function for all sizes."""

    def printed(n):
        return text(*training(OPTIMIZERS[name], [SHAPES[shapes](k) for k in range(n)]))

    few, more, most = map(printed, (8, 16, 32))
    assert more.count("\ndefine ") == most.count("\ndefine ")  # of less than four, no tables
    lines = [t.count("\n") for t in (few, more, most)]
    assert lines[2] - lines[1] <= 2.1 * (lines[1] - lines[0])


@pytest.mark.parametrize("n", [3, 9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_values_are_those_of_each_array_by_itself(name, n):
    shapes = [((7, 11), (70, 80), (65,), (5000,), (), (1, 3))[k % 6] for k in range(n)]
    step, args = training(OPTIMIZERS[name], shapes)
    got, want = ft.jit(step)(*args), step(*args)
    for a, b in zip(ft.tree.leaves(got), ft.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-7)


def test_results_do_not_depend_on_the_number_of_threads():
    step, args = training(optim.adamw(1e-2), [(100, 100)] * 30 + [(333,)] * 10)
    before = ft.config.threads
    found = []
    try:
        for threads in (1, 2, 5):
            ft.config.update("threads", threads)
            found.append(ft.tree.leaves(ft.jit(step)(*args)))
    finally:
        ft.config.update("threads", before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_arrays_that_are_updated_in_place_meet_no_other():
    step, args = training(optim.adam(1e-2), [(64, 64)] * 12)
    want = ft.jit(step)(*args)
    copies = ft.tree.map(fnp.array, args)
    got = ft.jit(step, donate_argnums=(0, 1))(*copies)
    for a, b in zip(ft.tree.leaves(got), ft.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)


def job(rng, texts):
    def memory(most):
        places = rng.integers(0, 12, (rng.integers(0, most), 2))
        return tuple(Memory(f"m{p % 2}", int(p), int(p + 1 + q % 3)) for p, q in places)

    code = Code(f"text {rng.integers(texts)}", {}, 4, 0, False, 1 << 20)
    return Job(code, (), memory(4), memory(3))


def meet(a, b):
    """Tell whether two jobs must stay in order."""
    pairs = [(x, y) for x in a.writes for y in (*b.reads, *b.writes)]
    pairs += [(x, y) for x in a.reads for y in b.writes]
    return any(x.name == y.name and x.start < y.stop and y.start < x.stop for x, y in pairs)


def test_jobs_that_meet_in_memory_stay_in_order():
    rng = np.random.default_rng(0)
    together = 0
    for _ in range(200):
        given = [job(rng, 2) for _ in range(8)]
        sets = jobs(given, 1)
        where = {id(j): k for k, found in enumerate(sets) for j in found}
        assert sorted(where) == sorted(map(id, given))
        for k, a in enumerate(given):
            for b in given[k + 1 :]:
                assert not meet(a, b) or where[id(a)] < where[id(b)]
        assert all(len({j.code.text for j in found}) == 1 for found in sets)
        together += len(given) - len(sets)
    assert together > 100


def test_loops_over_arrays_of_a_model_are_right():
    """Inside of a loop, memory of one step is used again by the next ones."""
    step, (params, state, grads) = training(optim.adamw(1e-2), [(50, 60)] * 5 + [(70,)] * 5)

    def many(params, state):
        def body(carry, _):
            return step(*carry, grads), None

        return ft.lax.scan(body, (params, state), None, length=4)[0]

    want = params, state
    for _ in range(4):
        want = step(*want, grads)
    got = ft.jit(many)(params, state)
    for a, b in zip(ft.tree.leaves(got), ft.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_table_has_a_row_for_each_array():
    program = text(lambda *xs: [fnp.sin(x) for x in xs], (fnp.ones(100),) * 5)
    assert len(re.findall(r"^define internal", program, re.M)) == 2  # the kernel, and its rows
    assert len(re.findall(r"inttoptr \(i64 [1-5]00 to ptr\)", program)) == 5
