"""`jit(memory_budget=)`: what is computed again fits, changes no value, and is reported."""

import re

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.budget import _Search
from funtorch.backends.cost import memory_analysis
from funtorch.backends.layout import check_layout, lay_out
from funtorch.backends.recompute import rewritten, schedule
from funtorch.jaxpr import check_jaxpr
from funtorch.transforms.simplify import simplify

rng = np.random.default_rng(0)


def array(*shape):
    return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)


def layers(ws, x):
    for w in ws:
        x = fnp.tanh(x @ w)
    return (x * x).mean()


def normalized(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / fnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def attention(ps, x):
    for p in ps:
        y = normalized(x)
        q, k, v = y @ p["q"], y @ p["k"], y @ p["v"]
        x = x + ft.nn.softmax(q @ k.swapaxes(-1, -2) / 4, axis=-1) @ v
        x = x + ft.nn.gelu(normalized(x) @ p["up"]) @ p["down"]
    return (x * x).mean()


def accumulated(ws, xs):
    """Add up losses in a scan, with the gradient inside of its body."""

    def step(total, x):
        g = ft.grad(layers)(ws, x)
        return [a + b for a, b in zip(total, g, strict=True)], None

    return lax.scan(step, [fnp.zeros_like(w) for w in ws], xs)[0]


def convolved(ws, x):
    for w in ws:
        x = fnp.maximum(lax.conv(x, w, (1, 1), "SAME"), 0) + x
    return (x * x).mean()


def draws(ws, x):
    key = ft.random.key(0)
    for k, w in enumerate(ws):
        mask = ft.random.bernoulli(ft.random.fold_in(key, k), 0.8, x.shape)
        x = fnp.where(mask, fnp.exp(-((x @ w) ** 2)), 0) + lax.cond(
            x.sum() > 0, fnp.sin, fnp.cos, x
        )
    return x.mean()


BLOCKS = [
    {n: array(16, 16) for n in "qkv"} | {"up": array(16, 64), "down": array(64, 16)}
    for _ in range(3)
]
PROGRAMS = {
    "layers": (ft.grad(layers), ([array(32, 32)] * 16, array(256, 32)), 0.45),
    "attention": (ft.value_and_grad(attention), (BLOCKS, array(4, 32, 16)), 0.45),
    "convolutions": (ft.grad(convolved), ([array(8, 8, 3, 3)] * 8, array(2, 8, 16, 16)), 0.8),
    "in a scan": (accumulated, ([array(32, 32)] * 12, array(3, 128, 32)), 0.67),
    "random": (ft.grad(draws), ([array(16, 16)] * 5, array(128, 16)), 0.75),
}


def needs(f, args):
    memory = ft.explain(f)(*args).memory  # of the program, which is not compiled for that
    return memory.peak_memory_in_bytes, memory.temp_size_in_bytes


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_fit_and_give_the_same_values(name):
    f, args, share = PROGRAMS[name]
    peak, temporary = needs(f, args)
    budget = peak - int(temporary * (1 - share))
    g = ft.jit(f, memory_budget=budget)
    memory = g.lower(*args).compile().memory_analysis()
    assert memory.peak_memory_in_bytes <= budget < peak
    want, got = ft.jit(f)(*args), g(*args)
    for a, b in zip(ft.tree.leaves(want), ft.tree.leaves(got), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-6, atol=1e-7)
    (compiled,) = g.stats().compiles
    fitted = compiled.memory
    assert (fitted.budget, fitted.before) == (budget, peak)
    assert fitted.peak == memory.peak_memory_in_bytes
    assert fitted.again
    assert 0 < fitted.cost < 0.6
    assert all("test_memory_budget.py" in r.where for r in fitted.again if r.what == "tanh")
    for report in (str(g.stats()), str(ft.explain(g)(*args))):
        assert f"memory budget {budget} bytes: peak {fitted.peak}, was {peak};" in report


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_choice_is_a_right_program(name):
    f, args, _ = PROGRAMS[name]
    search = _Search(simplify(ft.jit(f).lower(*args).jaxpr), frozenset())
    graph = search.graph
    found = graph.candidates(1024)
    same = rewritten(graph, schedule(graph, ()).ops)
    check_jaxpr(same)
    assert memory_analysis(same) == search.memory
    values = [np.asarray(x) for x in ft.tree.leaves(args)]
    want = ft.extend.eval_jaxpr(search.jaxpr, *map(fnp.asarray, values))
    for trial in range(3):
        chosen = {v for v in found if rng.random() < (0.2, 0.5, 1.0)[trial]}
        program = rewritten(graph, schedule(graph, chosen).ops)
        check_jaxpr(program)
        check_layout(lay_out(ft.backends.compile.plan_of(program)))
        got = ft.extend.eval_jaxpr(program, *map(fnp.asarray, values))
        for a, b in zip(want, got, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_budget_that_is_enough_changes_nothing():
    f, args, _ = PROGRAMS["layers"]
    peak, _ = needs(f, args)
    g = ft.jit(f, memory_budget=peak)
    g(*args)
    assert str(g.stats().compiles[0].memory) == (
        f"memory budget {peak} bytes: peak {peak}, nothing is computed again"
    )
    assert g.lower(*args).as_text() == ft.jit(f).lower(*args).as_text()
    assert ft.jit(f).stats().compiles == ()


def test_less_memory_takes_more_time_but_no_more_than_another_forward_pass():
    f, args, _ = PROGRAMS["layers"]
    peak, temporary = needs(f, args)
    costs = []
    for share in (0.9, 0.7, 0.6, 0.45):
        g = ft.jit(f, memory_budget=peak - int(temporary * (1 - share)))
        costs.append(ft.explain(g)(*args).fitted.cost)
    assert costs == sorted(costs)
    assert costs[0] < 0.1
    assert costs[-1] < 0.34  # one of three products per layer


def test_what_cannot_be_reached_is_an_error_that_names_what_can():
    f, args, _ = PROGRAMS["layers"]
    with pytest.raises(ValueError, match="memory_budget=1000 bytes cannot be met") as error:
        ft.jit(f, memory_budget=1000)(*args)
    text = str(error.value)
    assert "f32[256,32], 32768 bytes, from tanh" in text
    assert "test_memory_budget.py" in text
    assert "arguments 98304, results 65536" in text
    assert len(text.splitlines()) <= 15
    least = int(re.search("least peak found is ([0-9]+) bytes", text)[1])
    assert least < needs(f, args)[0] * 0.6
    g = ft.jit(f, memory_budget=least)
    np.testing.assert_allclose(g(*args)[0], ft.jit(f)(*args)[0], rtol=1e-6)
    for budget in (-1, 1.5, "1G"):
        with pytest.raises(ValueError, match="memory_budget is a number of bytes"):
            ft.jit(f, memory_budget=budget)


def test_donated_arguments_and_effects():
    seen = []

    def step(ws, x):
        ft.debug.callback(seen.append, x[0, 0])
        return [w - 0.1 * g for w, g in zip(ws, ft.grad(layers)(ws, x), strict=True)]

    _, (ws, x), _ = PROGRAMS["layers"]
    ws = [w + 0 for w in ws]
    memory = ft.explain(ft.jit(step, donate_argnums=0))(ws, x).memory
    peak, temporary = memory.peak_memory_in_bytes, memory.temp_size_in_bytes
    g = ft.jit(step, donate_argnums=0, memory_budget=peak - temporary // 2)
    want = ft.jit(step)(ws, x)
    got = g([fnp.array(w) for w in ws], x)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert len(seen) == 2
    after = ft.explain(g)(ws, x).memory
    assert after.alias_size_in_bytes == memory.alias_size_in_bytes


def test_as_a_decorator_and_inside_other_transforms():
    @ft.jit(memory_budget=10**6)
    def f(x):
        return fnp.sin(x) * x

    x = array(5)
    np.testing.assert_allclose(ft.vmap(ft.grad(f))(x), np.cos(x) * x + np.sin(x), rtol=1e-5)
    np.testing.assert_allclose(ft.jit(f)(x), np.sin(x) * x, rtol=1e-6)
