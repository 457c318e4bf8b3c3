"""What `explain` and the analyses tell of a program."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from eager import eagerly

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends.cost import equation_cost
from funtorch.transforms.simplify import simplify


def softmax_loss(w, x):
    scores = fnp.tanh(x @ w)
    return eagerly(fnp.exp(scores)).sum()


W, XS = np.ones((5, 30), np.float32), np.ones((40, 5), np.float32)


def test_explain_names_steps_lines_and_costs():
    found = ft.explain(softmax_loss)(W, ft.ShapeDtypeStruct((40, 5), np.float32))
    kinds = [step.kind for step in found.steps]
    assert kinds[0] == "product"
    assert "kernel" in kinds
    product = found.steps[0]
    assert product.cost.flops == 2 * 40 * 5 * 30
    assert product.bytes == 4 * (40 * 5 + 5 * 30 + 40 * 30)
    line = softmax_loss.__code__.co_firstlineno + 1
    assert product.where == f"test_explain.py:{line}"
    assert product.results == "f32[40,30]"
    text = str(found)
    for part in ("softmax_loss: ", "tanh", f"test_explain.py:{line + 1}", "temporaries", "flops"):
        assert part in text
    assert found.eager == ["test_eagerly"]
    assert "run eagerly: test_eagerly" in text


def test_explain_shows_loops_and_donation():
    def f(x):
        return ft.lax.scan(lambda c, _: (fnp.sin(c) * 2, None), x, None, length=7)[0]

    found = ft.explain(ft.jit(f, donate_argnums=0))(np.ones(3, np.float32))
    assert found.memory.alias_size_in_bytes == 12
    (loop,) = [step for step in found.steps if "scan" in (step.kind, step.what)]
    assert loop.cost.transcendentals == 7 * 3
    assert {b.role for b in found.buffers} >= {"argument", "result"}


def test_the_drawing_is_well_formed(tmp_path):
    found = ft.explain(softmax_loss)(W, XS)
    found.save_svg(tmp_path / "plan.svg")
    root = ElementTree.parse(tmp_path / "plan.svg").getroot()
    boxes = [e for e in root.iter() if e.tag.endswith("title")]
    assert len(boxes) == len(found.steps) + len(found.buffers)
    assert any("f32[40,30]" in (e.text or "") for e in boxes)


@pytest.mark.parametrize(
    ("f", "shapes", "flops", "slow"),
    [
        (lambda a, b: a @ b, ((7, 4, 5), (7, 5, 6)), 2 * 7 * 4 * 5 * 6, 0),
        (lambda a: fnp.exp(a) + a, ((4, 5),), 20, 20),
        (lambda a: fnp.sum(a, 1), ((4, 5),), 20, 0),
        (lambda a: a.T.reshape(-1)[::2], ((4, 5),), 0, 0),
        (fnp.linalg.cholesky, ((2, 6, 6),), None, 0),
        (lambda a: ft.lax.while_loop(lambda x: x[0] < 9, lambda x: x + 1, a), ((3,),), 4, 0),
        (lambda a: ft.lax.cond(a[0] > 0, lambda x: x, lambda x: x * x + 1, a), ((3,),), 7, 0),
        (lambda a: a.at[0].add(a[1]), ((4, 5),), 5, 0),
    ],
)
def test_costs(f, shapes, flops, slow):
    jaxpr = simplify(ft.make_jaxpr(f)(*[ft.ShapeDtypeStruct(s, "float32") for s in shapes]))
    costs = [equation_cost(eqn) for eqn in jaxpr.eqns]
    if flops is not None:
        assert sum(c.flops for c in costs) == flops
    else:
        assert sum(c.flops for c in costs) >= 2 * 6**3 / 3
    assert sum(c.transcendentals for c in costs) == slow
