"""A summary lists layers with shapes, parameters and operations, and computes nothing."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nnx, random

KEY = random.key(0)
X = ft.ShapeDtypeStruct((2, 1, 8, 8), np.float32)


class Net(nnx.Module):
    body: nnx.Sequential
    blocks: nnx.Linear
    heads: dict
    unused: nnx.Linear

    def __init__(self, key):
        keys = random.split(key, 5)
        conv = nnx.SpectralNorm(nnx.Conv2d(1, 4, 3, key=keys[0]), key=keys[0])
        self.body = nnx.Sequential(conv, nnx.BatchNorm2d(4), nnx.Dropout(0.5), nnx.Flatten())
        self.blocks = nnx.vmap_init(lambda k: nnx.Linear(144, 144, key=k), 3, keys[1])
        self.heads = {"a": nnx.Linear(144, 2, key=keys[2]), "b": nnx.Linear(144, 3, key=keys[3])}
        self.unused = nnx.Linear(1, 1, key=keys[4])

    def __call__(self, x, name="a"):
        h = lax.scan(lambda h, block: (block(h), None), self.body(x), self.blocks)[0]
        assert isinstance(self.heads[name], nnx.Linear)
        return {"y": ft.checkpoint(self.heads[name])(h), "again": self.heads[name](h)}

    def encode(self, x):
        return self.body(x)


def test_rows():
    model = ft.eval_shape(Net, KEY)  # no parameter is ever made
    table = nnx.summary(model, X)
    rows = {row.path: row for row in table.rows}
    assert list(rows) == [
        "", "body", "body.0", "body.1", "body.2", "body.3", "blocks", "heads.a", "heads.b",
        "unused",
    ]  # fmt: skip
    assert rows["body.1"].layer.startswith("BatchNorm2d(num_features=4")
    assert rows["body.1"].inputs == rows["body.1"].outputs == ((2, 4, 6, 6),)
    assert rows["body.0"].layer.startswith("SpectralNorm")
    assert rows["blocks"].inputs == ((2, 144),)
    assert rows["heads.a"].flops == 2 * 2 * 144 * 2 + 4
    assert rows["heads.a"].parameters == 290
    assert rows["unused"].outputs is None
    assert rows["unused"].flops is None
    assert (
        rows[""].parameters
        == nnx.param_count(model)
        == sum(rows[p].parameters for p in ("body", "heads.a", "heads.b", "unused"))
        + 3 * rows["blocks"].parameters
    )
    assert rows[""].outputs == ((2, 2), (2, 2))
    assert rows[""].flops > 3 * rows["blocks"].flops + 2 * rows["heads.a"].flops
    assert table.buffers == 4 + 9 + 4 + 4 + 1
    text = str(table)
    assert "  unused  Linear" in text
    assert "not called" in text
    assert text.splitlines()[-1].startswith(f"{rows[''].parameters:,} parameters, 22 numbers in")


def test_methods_pytrees_and_arrays():
    model = Net(KEY)
    x = np.ones(X.shape, np.float32)
    for method in ("encode", Net.encode):
        table = nnx.summary(model, x, method=method)
        assert table.rows[0].outputs == ((2, 144),)
    table = nnx.summary([model, nnx.ReLU()], x, method=lambda m, x: m[1](m[0].body(x)))
    assert table.rows[0].layer == "list"
    assert [row.path for row in table.rows[:3]] == ["", "0.body", "0.body.0"]
    one = nnx.summary(nnx.Linear(3, 2, key=KEY), fnp.ones(3))
    assert [row.path for row in one.rows] == [""]
    assert "model  Linear  [3]    [2]" in str(one)


def test_errors_are_those_of_the_model():
    with pytest.raises(ValueError, match=r"^body.0.*takes 1 channels"):
        nnx.summary(Net(KEY), ft.ShapeDtypeStruct((2, 3, 8, 8), np.float32))


# ------------------------------------------------------------------------------------- capture
@pytest.mark.parametrize("jit", [False, True])
def test_capture_gives_what_modules_return(jit):
    model, x = Net(KEY), np.random.default_rng(0).normal(size=X.shape).astype("f4")
    capture = lambda m, x: nnx.capture(m)(x)
    result, outputs = (ft.jit(capture) if jit else capture)(model, x)
    names = ["body.0", "body.1", "body.2", "body.3", "body", "blocks", "heads.a"]
    assert list(outputs) == names if not jit else set(outputs) == set(names)
    np.testing.assert_allclose(outputs["body"], model.body(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["body.0"], model.body[0](x), rtol=1e-4, atol=1e-5)
    assert outputs["blocks"].shape == (3, 2, 144)  # those of all steps
    assert len(outputs["heads.a"]) == 2
    for output in outputs["heads.a"]:
        np.testing.assert_allclose(output, result["y"], rtol=1e-4, atol=1e-5)


def test_capture_through_transforms():
    model, xs = Net(KEY), np.random.default_rng(0).normal(size=(3, *X.shape)).astype("f4")
    _, outputs = nnx.capture(model, method=lambda m, xs: ft.vmap(m.encode)(xs))(xs)
    assert outputs["body.1"].shape == (3, 2, 4, 6, 6)

    def loss(model, x):
        (y, outputs), new = nnx.train(model, KEY, method=lambda m, x: nnx.capture(m)(x))(x)
        return (y["y"] ** 2).sum() + (outputs["body.3"] ** 2).sum(), new

    (_, new), g = ft.jit(nnx.value_and_grad(loss, has_aux=True))(model, xs[0])
    assert int(new.body[1].num_batches_tracked) == 1
    assert nnx.nonfinite(g) == {}
    assert type(new) is Net
    part, _ = nnx.capture(model, method=lambda m: m.body)()
    assert type(part) is nnx.Sequential
    assert ft.tree.structure(part) == ft.tree.structure(model.body)
