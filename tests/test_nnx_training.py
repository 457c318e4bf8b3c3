"""Training through transforms equals a Python loop; parts of models are taken apart and joined."""

import functools
import re

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nnx, optim, random

KEY = random.key(7)


class Recurrent(nnx.Module):
    """An LSTM of two layers, with dropout between them, on sequences of length 4."""

    lstm: nnx.LSTM

    def __call__(self, x):
        return self.lstm(x)[0]


class Twice(nnx.Module):
    """One layer that is called twice."""

    norm: nnx.BatchNorm1d

    def __call__(self, x):
        return self.norm(self.norm(x) ** 2 + x)


MODELS = {  # name -> a maker of a model of (4, 3) arrays
    "BatchNorm": lambda key: nnx.BatchNorm1d(3).replace(weight=random.normal(key, (3,))),
    "InstanceNorm": lambda key: nnx.InstanceNorm1d(4, affine=True, track_running_stats=True),
    "Dropout": lambda key: nnx.Sequential(nnx.Linear(3, 3, key=key), nnx.Dropout(0.5)),
    "Sequential": lambda key: nnx.Sequential(
        nnx.Linear(3, 5, key=key), nnx.BatchNorm1d(5), nnx.AlphaDropout(0.5), nnx.Tanh(),
        nnx.Linear(5, 3, key=key),
    ),
    "SpectralNorm": lambda key: nnx.SpectralNorm(nnx.Linear(3, 3, key=key), key=key),
    "LSTM": lambda key: Recurrent(nnx.LSTM(3, 3, num_layers=2, dropout=0.5, key=key)),
    "twice": lambda key: Twice(nnx.BatchNorm1d(3, momentum=None)),
}  # fmt: skip
RANDOM = {"Dropout", "Sequential", "LSTM"}


def batches(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 4, 3)).astype(np.float32)


def assert_same(got, wanted, rtol=2e-4, atol=2e-5):
    left, right = map(ft.tree_util.tree_leaves_with_path, (got, wanted))
    assert [p for p, _ in left] == [p for p, _ in right]
    assert ft.tree.structure(got) == ft.tree.structure(wanted)
    for (path, a), (_, b) in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol, atol, err_msg=ft.tree_util.keystr(path))
        assert np.asarray(a).dtype == np.asarray(b).dtype


def loop(model, xs):
    return fnp.stack([model(x) for x in xs])


def scanned(model, xs):
    return lax.scan(lambda carry, x: (carry, model(x)), None, xs)[1]


def in_checkpoint(model, xs):
    return fnp.stack([ft.checkpoint(lambda m, x: m(x))(model, x) for x in xs])


WAYS = {  # how the model is called inside of train
    "jit": ft.jit(loop),
    "vmap": lambda model, xs: ft.vmap(model)(xs),
    "jit(vmap)": lambda model, xs: ft.jit(ft.vmap(model))(xs),
    "scan": scanned,
    "scan of vmap": lambda model, xs: scanned(ft.vmap(model), xs[None])[0],
    "vmap of scan": lambda model, xs: ft.vmap(lambda x: scanned(model, x))(xs[None])[0],
    "checkpoint": in_checkpoint,
}


def cost(model, key, xs, way=loop):
    y, model = nnx.train(model, key, method=way)(xs)
    return (y * fnp.arange(y.size).reshape(y.shape)).sum() ** 2 / 1e3, model


@functools.cache
def looped(name):
    """Return value, new model and gradient by a Python loop."""
    return nnx.value_and_grad(cost, has_aux=True)(MODELS[name](KEY), KEY, batches())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_calls_inside_equal_a_python_loop(name, way):
    model = MODELS[name](KEY)
    step = nnx.value_and_grad(lambda m, k, x: cost(m, k, x, WAYS[way]), has_aux=True)
    step = ft.jit(step) if way in ("scan of vmap", "checkpoint") else step
    assert_same(step(model, KEY, batches()), looped(name), 2e-3, 1e-3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_gradients_inside_equal_those_outside(name, way):
    def inside(model, xs):
        return nnx.grad(lambda m: cost_of(WAYS[way](m, xs)))(model)

    def cost_of(y):
        return (y * fnp.arange(y.size).reshape(y.shape)).sum() ** 2 / 1e3

    model = MODELS[name](KEY)
    if way == "checkpoint" and name in RANDOM:
        with pytest.raises(NotImplementedError, match="computed again for a derivative"):
            nnx.train(model, KEY, method=inside)(batches())
        return
    (_, new), gradient = looped(name)
    assert_same(nnx.train(model, KEY, method=inside)(batches()), (gradient, new), 2e-3, 1e-3)


def stacked(trees):
    return ft.tree.map(lambda *leaves: fnp.stack(leaves), *trees)


TRANSFORMS = {  # of a function of (model, key, batch): each with the loop that it must equal
    "grad": nnx.grad,
    "jit(grad)": lambda f: ft.jit(nnx.grad(f)),
    "hvp": lambda f: of_parameters(f, lambda g, p: ft.jvp(ft.grad(g), (p,), (p,))[1]),
    "jit(hvp)": lambda f: ft.jit(
        of_parameters(f, lambda g, p: ft.jvp(ft.grad(g), (p,), (p,))[1])
    ),
}  # fmt: skip


def of_parameters(f, transform):
    def g(model, key, x):
        parameters, rest = nnx.partition(model)
        return transform(lambda p: f(nnx.combine(p, rest), key, x), parameters)

    return g


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", MODELS)
def test_vmap_over_training_equals_a_python_loop(name, transform):
    models = nnx.vmap_init(MODELS[name], 3, KEY)
    keys, xs = random.split(KEY, 3), batches()
    f = TRANSFORMS[transform](lambda m, k, x: cost(m, k, x[None])[0])
    single = [ft.tree.map(lambda leaf: leaf[i], models) for i in range(3)]
    wanted = stacked([f(m, k, x) for m, k, x in zip(single, keys, xs, strict=True)])
    assert_same(ft.vmap(f)(models, keys, xs), wanted, 2e-3, 2e-3)


@pytest.mark.parametrize("name", MODELS)
def test_an_ensemble_in_training_equals_its_members(name):
    models = nnx.vmap_init(MODELS[name], 3, KEY)
    keys, xs = random.split(KEY, 3), batches()
    single = [ft.tree.map(lambda leaf: leaf[i], models) for i in range(3)]
    news = ft.jit(ft.vmap(lambda m, k, x: nnx.train(m, k)(x)))(models, keys, xs)
    wanted = stacked([nnx.train(m, k)(x) for m, k, x in zip(single, keys, xs, strict=True)])
    assert_same(news, wanted)


@pytest.mark.parametrize("name", MODELS)
def test_scan_over_stacked_layers(name):
    layers, x = nnx.vmap_init(MODELS[name], 4, KEY), batches()[0]
    single = [ft.tree.map(lambda leaf: leaf[i], layers) for i in range(4)]

    def deep(model, x):
        return lax.scan(lambda h, layer: (layer(h), None), x, model)[0]

    h, news = x, []
    for layer in single:
        h, layer = nnx.train(layer, KEY)(h)
        news.append(layer)
    y, new = ft.jit(lambda m: nnx.train(m, KEY, method=deep)(x))(layers)
    if name in RANDOM:  # other keys than those of single layers
        assert not np.allclose(y, deep(layers, x))
        assert ft.tree.structure(new) == ft.tree.structure(layers)
    else:
        assert_same((y, new), (h, stacked(news)))
    # Steps around the layers: state advances by all of them.
    _, new = nnx.train(layers, KEY, method=lambda m, xs: lax.map(lambda x: deep(m, x), xs))(
        batches()
    )
    counts = [c for path, c in nnx.state_dict(new).items() if path.endswith("batches_tracked")]
    calls = {"InstanceNorm": 0, "twice": 6}.get(name, 3)
    for count in counts:
        np.testing.assert_array_equal(count, [calls] * 4)
    assert bool(counts) == (name not in ("Dropout", "SpectralNorm", "LSTM"))


def test_loops_inside_and_around_stacked_layers():
    layers, xs = nnx.vmap_init(lambda key: nnx.BatchNorm1d(3), 3, KEY), batches(3)
    single = [ft.tree.map(lambda leaf: leaf[i], layers) for i in range(3)]

    def deep(call, model, x):
        return lax.scan(lambda h, layer: (call(layer)(h), None), x, model)[0]

    h, news = fnp.asarray(xs), []
    for layer in single:
        h, layer = nnx.train(layer, method=loop)(h)
        news.append(layer)
    wanted = (h, stacked(news))
    assert_same(nnx.train(layers, method=lambda m, x: deep(ft.vmap, m, x))(xs), wanted)
    around = lambda m, x: ft.vmap(lambda x: deep(lambda layer: layer, m, x))(x)
    assert_same(nnx.train(layers, method=around)(xs), wanted)
    steps = lambda m, x: lax.map(lambda x: deep(lambda layer: layer, m, x), x)
    assert_same(nnx.train(layers, method=steps)(xs), wanted)
    members = lambda m, x: ft.vmap(lambda layer: scanned(layer, x))(m)
    many = [nnx.train(layer, method=loop)(xs) for layer in single]
    assert_same(nnx.train(layers, method=members)(xs), stacked(many))


def test_axes_that_cannot_be_told_apart():
    layers = nnx.vmap_init(lambda key: nnx.BatchNorm1d(3), 2, KEY)

    def inside_out(model, xs):
        return ft.vmap(lambda x: ft.vmap(lambda layer: layer(x))(model))(xs)

    with pytest.raises(ValueError, match=r"stands for \(2,\) stacked ones.*inside of other loops"):
        nnx.train(layers, method=inside_out)(batches(3))


# ------------------------------------------------------------------------------------- keys
def test_every_call_and_layer_draws_other_numbers():
    model, x = [nnx.Dropout(0.5), nnx.Dropout(0.5)], fnp.ones(200)

    def call(model, x):
        return [model[0](x), model[0](x), model[1](x)]

    a, b, c = np.asarray(nnx.train(model, KEY, method=call)(x)[0])
    assert (a != b).any()
    assert (b != c).any()
    assert (a != c).any()
    again = nnx.train(model, KEY, method=call)(x)[0]
    np.testing.assert_array_equal(again, [a, b, c])
    other = nnx.train(model, random.key(8), method=call)(x)[0][0]
    assert (np.asarray(other) != a).any()
    # A key is that of the layer's name: what else the model has changes nothing.
    alone = nnx.train([nnx.Dropout(0.5)], KEY, method=lambda m, x: m[0](x))(x)[0]
    np.testing.assert_array_equal(alone, a)


def test_lanes_draw_their_own_numbers_only_where_there_are_lanes():
    drop, x = nnx.Dropout(0.5), fnp.ones((3, 100))
    y = np.asarray(nnx.train(drop, KEY, method=lambda m, x: ft.vmap(m)(x))(x)[0])
    assert (y[0] != y[1]).any()
    assert y.shape == (3, 100)
    empty = nnx.train(drop, KEY, method=lambda m, x: ft.vmap(m)(x))(fnp.ones((3, 0)))[0]
    assert empty.shape == (3, 0)


def test_raw_keys_and_keys_given_in_the_call():
    drop, x = nnx.Dropout(0.5), fnp.ones(64)
    raw = nnx.train(drop, random.PRNGKey(7))(x)[0]
    np.testing.assert_array_equal(raw, nnx.train(drop, KEY)(x)[0])
    own = nnx.train(drop, method=lambda m, x: m(x, key=KEY))(x)[0]
    np.testing.assert_array_equal(own, drop(x, key=KEY))
    np.testing.assert_array_equal(nnx.train(drop)(x, deterministic=True)[0], x)


def test_what_needs_a_key_says_so():
    model = {"encoder": [nnx.ReLU(), nnx.Dropout(0.5)]}
    with pytest.raises(
        ValueError, match=r"'encoder.1' draws random numbers .*nnx.train\(model, key"
    ):
        nnx.train(model, method=lambda m, x: m["encoder"][1](x))(fnp.ones(3))
    nnx.train(nnx.Dropout(0.0))(fnp.ones(3))
    with pytest.raises(ValueError, match=r"Dropout.fresh_key is for training.*self.training"):
        nnx.Dropout(0.5).fresh_key()
    with pytest.raises(TypeError, match="takes a model that can be called, or method="):
        nnx.train({"a": 1})


@pytest.mark.parametrize(
    ("layer", "shape", "mask"),
    [
        ("Dropout", (4, 5, 6), (4, 5, 6)),
        ("Dropout1d", (8, 5, 6), (8, 5, 1)),
        ("Dropout1d", (20, 6), (20, 1)),
        ("Dropout2d", (4, 8, 3, 3), (4, 8, 1, 1)),
        ("Dropout2d", (4, 8, 3), (4, 8, 1)),
        ("Dropout3d", (4, 8, 3, 2, 2), (4, 8, 1, 1, 1)),
        ("Dropout3d", (16, 3, 2, 2), (16, 1, 1, 1)),
        ("AlphaDropout", (4, 5, 6), (4, 5, 6)),
        ("FeatureAlphaDropout", (6, 8, 3), (6, 8, 1)),
    ],
)
def test_dropout_drops_what_goes_together(layer, shape, mask):
    x = fnp.ones(shape)
    y = np.asarray(nnx.train(getattr(nnx, layer)(0.4), KEY)(x)[0])
    if "Alpha" in layer:
        alpha = -1.7580993408473766
        scale = (0.6 * (1 + 0.4 * alpha**2)) ** -0.5
        low, high = scale * (alpha - 0.4 * alpha), scale * (1 - 0.4 * alpha)
    else:
        low, high = 0.0, 1 / 0.6
    first = y[tuple(slice(0, n) for n in mask)]
    np.testing.assert_array_equal(y, np.broadcast_to(first, shape))
    np.testing.assert_allclose(np.unique(y), [low, high], rtol=1e-6)
    assert 0.1 < (first == first.min()).mean() < 0.8
    np.testing.assert_array_equal(getattr(nnx, layer)(0.4)(x), x)
    assert not np.asarray(getattr(nnx, layer)(1.0)(x, key=KEY)).any()


def test_other_layers_that_draw_numbers_in_training():
    x = -np.arange(1.0, 257.0, dtype="f4").reshape(1, 1, 16, 16)
    for layer in (nnx.RReLU(), nnx.FractionalMaxPool2d(2, 7)):
        assert not np.allclose(nnx.train(layer, KEY)(x)[0], layer(x))


@pytest.mark.parametrize(("layer", "shape"), [("Dropout1d", (3,)), ("Dropout2d", (3, 3)),
                                              ("FeatureAlphaDropout", (3,))])  # fmt: skip
def test_dropout_refuses_shapes(layer, shape):
    with pytest.raises(ValueError, match=rf"{layer}\(rate=0.5\) takes .*{re.escape(str(shape))}"):
        getattr(nnx, layer)()(fnp.ones(shape), key=KEY)


# ------------------------------------------------------------------------------------- parts
def net(key=KEY):
    k1, k2 = random.split(key)
    return nnx.Sequential(
        nnx.Linear(3, 8, key=k1), nnx.BatchNorm1d(8), nnx.ReLU(), nnx.Dropout(0.2),
        nnx.Linear(8, 2, key=k2),
    )  # fmt: skip


def names(model):
    return list(nnx.state_dict(model))


def test_parameters_leave_out_buffers():
    model = net()
    assert names(nnx.parameters(model)) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias",
    ]  # fmt: skip
    assert names(nnx.filter(model, inverse=True)) == [
        "1.running_mean", "1.running_var", "1.num_batches_tracked",
    ]  # fmt: skip
    assert nnx.param_count(model) == 3 * 8 + 8 + 16 + 18
    mask = nnx.is_parameter(model)
    assert ft.tree.leaves(mask) == [True] * 4 + [False] * 3 + [True] * 2
    assert type(mask) is nnx.Sequential


def test_partition_and_combine():
    tree = {"a": [fnp.ones(2), None, fnp.arange(3)], "b": 1.5}
    some, rest = nnx.partition(tree)
    assert some["a"][2] is None
    assert some["b"] == 1.5
    assert rest["b"] is None
    joined = nnx.combine(some, rest)
    assert ft.tree.structure(joined) == ft.tree.structure(tree)
    some, rest = nnx.partition(tree, {"a": [True, None, False], "b": lambda x: x > 2})
    assert some["a"][0] is not None
    assert some["b"] is None
    assert nnx.filter(tree, lambda x: fnp.ndim(x) == 0)["b"] == 1.5
    with pytest.raises(TypeError, match="holds functions and bools; this one holds 'a'"):
        nnx.partition(tree, "a")
    with pytest.raises(ValueError, match="one or more trees"):
        nnx.combine()


def test_tree_at():
    model = net()
    new = nnx.tree_at(lambda m: m[0].bias, model, fnp.ones(8))
    np.testing.assert_array_equal(new[0].bias, np.ones(8))
    assert new[4].weight is model[4].weight
    two = nnx.tree_at(lambda m: (m[0].bias, m[4]), model, (None, nnx.Identity()))
    assert two[0].bias is None
    assert isinstance(two[4], nnx.Identity)
    assert nnx.tree_at(lambda m: m[0].bias, two, fnp.zeros(8))[0].bias.shape == (8,)
    doubled = nnx.tree_at(
        lambda t: [t["a"], t["b"][0]], {"a": 1, "b": (2, 3)}, replace_fn=lambda x: 2 * x
    )
    assert doubled == {"a": 2, "b": (4, 3)}
    assert nnx.tree_at(lambda t: t, [1, 2], 5) == 5
    assert nnx.tree_at(lambda t: t["b"], {"a": 1, "b": (2, 3)}, 7) == {"a": 1, "b": 7}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nnx.tree_at(lambda m: 3, [1, 2], 4), ValueError, "must pick nodes of the tree"),
        (lambda: nnx.tree_at(lambda m: net(), [1, 2], 4), ValueError, "it is a Sequential that is"),
        (lambda: nnx.tree_at(lambda m: [m[0], m[0]], [1, 2], [4, 5]), ValueError, "one node twice"),
        (lambda: nnx.tree_at(lambda m: [m[0]], [1, 2], [4, 5]), ValueError, "picks 1 nodes; 2 val"),
        (lambda: nnx.tree_at(lambda m: m[0], [1, 2]), TypeError, "replace or replace_fn"),
        (lambda: nnx.tree_at(lambda m: m[3].rate, net(), 4), ValueError, "Static fields are no"),
        (lambda: nnx.freeze([fnp.ones(2)], lambda m: m[0]), ValueError, "or in no module"),
        (lambda: nnx.vmap_init(net, -1, KEY), ValueError, "it was given -1"),
        (lambda: nnx.grad(lambda m: m, 2)(1.0), ValueError, "argnums=2"),
        (lambda: nnx.grad(3), TypeError, "takes a function first"),
    ],
)  # fmt: skip
def test_mistakes(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_freezing_keeps_a_part_as_it_is():
    model = nnx.freeze(net(), lambda m: (m[0].weight, m[1]))
    assert names(nnx.parameters(model)) == ["0.bias", "4.weight", "4.bias"]
    assert nnx.param_count(model) == nnx.param_count(net())
    assert "16 parameters, frozen" in repr(model)
    x = batches()[0]
    _, new = nnx.train(model, KEY)(x)
    assert_same(new, model)
    g = nnx.grad(lambda m: (nnx.train(m, KEY)(x)[0] ** 2).sum())(model)
    assert g[0].weight is None
    assert g[0].bias.shape == (8,)
    whole = nnx.freeze(net())
    assert names(nnx.parameters(whole)) == []
    assert_same(nnx.train(whole)(x)[0], whole(x))
    head = nnx.unfreeze(whole, lambda m: m[4])
    assert names(nnx.parameters(head)) == ["4.weight", "4.bias"]
    assert ft.tree.structure(nnx.unfreeze(whole)) == ft.tree.structure(net())
    assert names(nnx.parameters(nnx.unfreeze(model))) == names(nnx.parameters(net()))


class Tied(nnx.Module):
    first: nnx.Linear
    norm: nnx.BatchNorm1d
    second: nnx.Linear
    last: nnx.BatchNorm1d

    def __init__(self, key):
        k1, k2 = random.split(key)
        self.first, self.second = nnx.Linear(3, 3, key=k1), nnx.Linear(3, 3, key=k2)
        self.norm, self.last = nnx.BatchNorm1d(3), nnx.BatchNorm1d(3)

    def __call__(self, x):
        return self.last(self.second(self.norm(self.first(x))))


def test_shared_parameters_stay_one():
    model = nnx.Shared(
        Tied(KEY), lambda m: (m.second.weight, m.last), lambda m: (m.first.weight, m.norm)
    )
    assert names(nnx.parameters(model)) == [
        "first.weight", "first.bias", "norm.weight", "norm.bias", "second.bias",
    ]  # fmt: skip
    x = batches()[0]
    assert_same(nnx.nonfinite(nnx.grad(lambda m: (m(x) ** 2).sum())(model)), {})
    whole = model.whole()
    gradient = nnx.grad(lambda m: (nnx.train(m)(x)[0] ** 2).sum())
    apart, together = gradient(whole), gradient(model).model
    np.testing.assert_allclose(
        together.first.weight, apart.first.weight + apart.second.weight, rtol=1e-4, atol=1e-4
    )
    _, new = nnx.train(model)(x)
    assert int(new.model.norm.num_batches_tracked) == 2
    assert new.model.last is None
    with pytest.raises(ValueError, match=r"shapes \[\(3,\)\] in the place of \[\(3, 3\)\]"):
        nnx.Shared(Tied(KEY), lambda m: m.second.weight, lambda m: m.first.bias)


def test_methods_and_parts_in_evaluation():
    class Coder(nnx.Module):
        norm: nnx.BatchNorm1d
        other: nnx.BatchNorm1d

        def encode(self, x):
            return nnx.evaluation(self.other)(self.norm(x))

    model, x = Coder(nnx.BatchNorm1d(3), nnx.BatchNorm1d(3)), batches()[0]
    for method in ("encode", Coder.encode):
        _, new = nnx.train(model, method=method)(x)
        assert [int(m.num_batches_tracked) for m in (new.norm, new.other)] == [1, 0]
    got, _ = nnx.train(model, method=lambda m: m.norm)()
    assert not got.training
    assert not model.training


def test_a_layer_of_ones_own_with_state():
    class Counter(nnx.Module):
        calls: ft.Array = nnx.buffer()

        def __call__(self, x):
            if self.training:
                self.observe(calls=self.calls + x)
            return x + self.calls

    counter = Counter(fnp.zeros((), int))
    y, new = ft.jit(lambda c: nnx.train(c)(2))(counter)
    assert (int(y), int(new.calls), int(counter.calls)) == (2, 2, 0)
    with pytest.raises(ValueError, match=r"Counter.observe is for training"):
        counter.observe(calls=1)


def test_names_that_modules_need_themselves():
    with pytest.raises(TypeError, match="Mine has fields named 'training', which is what modules"):

        class Mine(nnx.Module):
            training: bool = nnx.static(True)


@pytest.mark.parametrize("jit", [False, True])
def test_branches_that_only_draw_numbers(jit):
    def call(model, x):
        return lax.cond(x.sum() > 0, model, lambda x: x, x)

    f = lambda x: nnx.train(nnx.Dropout(0.5), KEY, method=call)(x)[0]
    f = ft.jit(f) if jit else f
    x = fnp.ones(50)
    np.testing.assert_array_equal(f(-x), -x)
    np.testing.assert_array_equal(f(x), nnx.train(nnx.Dropout(0.5), KEY)(x)[0])


def test_scan_over_steps_of_training_equals_a_python_loop():
    model, xs, keys = MODELS["Sequential"](KEY), batches(), random.split(KEY, 3)

    def step(model, now):
        key, x = now
        (value, model), g = nnx.value_and_grad(lambda m: cost(m, key, x[None]), has_aux=True)(model)
        return optim.apply_updates(model, ft.tree.map(lambda d: -1e-3 * d, g)), value

    one, wanted = model, []
    for now in zip(keys, xs, strict=True):
        one, value = step(one, now)
        wanted.append(value)
    assert_same(ft.jit(lambda m: lax.scan(step, m, (keys, xs)))(model), (one, fnp.stack(wanted)))


def test_nonfinite_names_arrays():
    model = net()
    bad = nnx.tree_at(lambda m: m[4].weight, model, model[4].weight.at[0, :2].set(np.inf))
    assert nnx.nonfinite(model) == {}
    assert {k: int(n) for k, n in nnx.nonfinite(bad).items()} == {"4.weight": 2}
    counts = ft.jit(nnx.nonfinite)(bad)
    assert int(counts["4.weight"]) == 2
    assert int(counts["0.bias"]) == 0


def test_a_training_loop_learns_and_compiles_once():
    model, optimizer = net(), optim.adam(1e-2)
    x = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int32)
    opt_state = optimizer.init(nnx.parameters(model))
    traces = []

    @ft.jit
    def step(model, opt_state, key, x, y):
        traces.append(1)

        def loss(model):
            logits, model = nnx.train(model, key)(x)
            return nnx.cross_entropy(logits, y), model

        (value, model), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        updates, opt_state = optimizer.update(grads, opt_state, nnx.parameters(model))
        return optim.apply_updates(model, updates), opt_state, value

    losses = []
    for key in random.split(KEY, 120):
        model, opt_state, value = step(model, opt_state, key, x, y)
        losses.append(float(value))
    assert len(traces) == 1
    assert losses[-1] < 0.6 * losses[0]
    assert int(model[1].num_batches_tracked) == 120
    assert (np.asarray(model(x)).argmax(1) == y).mean() > 0.9


def test_training_costs_nothing_compiled():
    model, x = net(), batches()[0]
    f = ft.make_jaxpr(lambda m, k, x: nnx.train(m, k)(x))(model, KEY, x)
    assert "sow" not in str(f)
    evaluated = ft.make_jaxpr(lambda m, x: m(x))(model, x)
    assert "threefry" not in str(evaluated)
