"""stax and optimizers: shapes and values by formulas, and beside JAX's own where it is there."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import dlpack, random, stages, test_util
from funtorch.example_libraries import optimizers, stax

OPTIMIZERS = {
    "sgd": (0.1,),
    "momentum": (0.1, 0.9),
    "nesterov": (0.1, 0.9),
    "adagrad": (0.1,),
    "rmsprop": (0.1,),
    "rmsprop_momentum": (0.1,),
    "adam": (0.1,),
    "adamax": (0.1,),
    "sm3": (0.1,),
}
SCHEDULES = {
    "constant": (0.1,),
    "exponential_decay": (0.1, 3, 0.5),
    "inverse_time_decay": (0.1, 3, 0.5, True),
    "polynomial_decay": (0.1, 4, 0.01, 2.0),
    "piecewise_constant": ([2, 5], [0.1, 0.05, 0.01]),
}


def _residual(st):
    def block(filters):
        main = st.serial(
            st.Conv(filters, (1, 1), (2, 2)), st.BatchNorm(), st.Relu,
            st.Conv(filters, (3, 3), padding="SAME"), st.BatchNorm(scale=False),
        )  # fmt: skip
        shortcut = st.serial(st.Conv(filters, (1, 1), (2, 2)), st.BatchNorm(center=False))
        return st.serial(st.FanOut(2), st.parallel(main, shortcut), st.FanInSum, st.Relu)

    return st.serial(
        st.GeneralConv(("HWCN", "OIHW", "NHWC"), 8, (3, 3), padding="SAME"), st.BatchNorm(),
        st.Relu, st.MaxPool((3, 3), strides=(2, 2)), block(8), st.AvgPool((2, 2), padding="SAME"),
        st.SumPool((2, 2)), st.Flatten, st.Dense(7), st.LogSoftmax,
    )  # fmt: skip


def test_a_network_knows_its_shapes_whatever_the_batch():
    init, apply = _residual(stax)
    x = np.random.default_rng(0).normal(size=(16, 16, 3, 4)).astype("float32")
    shape, params = init(random.key(0), (16, 16, 3, -1))
    assert shape == (-1, 7)
    assert init(random.key(0), (16, 16, 3, 5))[0] == (5, 7)
    out = ft.jit(apply)(params, x)
    assert out.shape == (4, 7)
    np.testing.assert_allclose(fnp.exp(out).sum(1), np.ones(4), rtol=1e-5)


def test_branches_dropout_and_layers_that_depend_on_shapes():
    init, apply = stax.serial(
        stax.Dropout(0.5), stax.FanOut(2), stax.parallel(stax.Identity, stax.Dense(2)),
        stax.FanInConcat(), stax.shape_dependent(lambda shape: stax.Dense(shape[-1])),
    )  # fmt: skip
    shape, params = init(random.key(0), (-1, 3))
    assert shape == (-1, 5)
    x = fnp.ones((4, 3))
    assert apply(params, x, rng=random.key(1)).shape == (4, 5)
    kept = stax.Dropout(0.75)[1]((), fnp.ones(10000), rng=random.key(2))
    assert set(np.asarray(kept).tolist()) == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert abs(float((kept > 0).mean()) - 0.75) < 0.02
    with pytest.raises(ValueError, match=r"Dropout needs a random key: apply_fun\("):
        apply(params, x)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_go_down_and_give_their_state_away(name):
    init, update, get_params = getattr(optimizers, name)(*OPTIMIZERS[name])
    params = {"w": fnp.arange(6.0).reshape(2, 3) / 4, "b": fnp.asarray([1.0, -2.0])}
    loss = lambda p: (p["w"] ** 2).sum() + (p["b"] ** 4).sum() / 4
    step = ft.jit(lambda i, state: update(i, ft.grad(loss)(get_params(state)), state))
    state = init(params)
    for i in range(60):
        state = step(i, state)
        state = optimizers.pack_optimizer_state(optimizers.unpack_optimizer_state(state))
    assert loss(get_params(state)) < 0.2 * loss(params)
    assert get_params(state)["w"].dtype == params["w"].dtype
    with pytest.raises(TypeError, match="structure"):
        update(0, [fnp.ones(2)], state)


def test_schedules_are_their_formulas():
    values = {
        name: [float(getattr(optimizers, name)(*args)(i)) for i in range(7)]
        for name, args in SCHEDULES.items()
    }
    i = np.arange(7)
    np.testing.assert_allclose(values["constant"], np.full(7, 0.1))
    np.testing.assert_allclose(values["exponential_decay"], 0.1 * 0.5 ** (i / 3), rtol=1e-6)
    np.testing.assert_allclose(values["inverse_time_decay"], 0.1 / (1 + 0.5 * (i // 3)), rtol=1e-6)
    np.testing.assert_allclose(
        values["polynomial_decay"], 0.09 * (1 - np.minimum(i, 4) / 4) ** 2 + 0.01, rtol=1e-6
    )
    np.testing.assert_allclose(
        values["piecewise_constant"], np.asarray([0.1] * 3 + [0.05] * 3 + [0.01]), rtol=1e-6
    )
    with pytest.raises(ValueError, match="one value more than boundaries"):
        optimizers.piecewise_constant([1, 2], [0.1, 0.2])
    with pytest.raises(TypeError, match="a step size is a number or a function"):
        optimizers.sgd(np.ones(3))


def test_clipping_keeps_the_direction():
    grads = {"a": fnp.asarray([3.0, 0.0]), "b": fnp.asarray(4.0)}
    assert float(optimizers.l2_norm(grads)) == 5
    clipped = optimizers.clip_grads(grads, 1.0)
    np.testing.assert_allclose(clipped["a"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(optimizers.clip_grads(grads, 6.0)["b"], 4.0)


def test_beside_jax():
    jax = pytest.importorskip("jax")
    from jax.example_libraries import optimizers as jax_optimizers
    from jax.example_libraries import stax as jax_stax

    x = np.random.default_rng(0).normal(size=(16, 16, 3, 4)).astype("float32")
    theirs, ours = _residual(jax_stax), _residual(stax)
    _, their_params = theirs[0](jax.random.PRNGKey(0), x.shape)
    _, our_params = ours[0](random.PRNGKey(0), x.shape)
    pairs = zip(jax.tree.leaves(their_params), ft.tree.leaves(our_params), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-8)
    np.testing.assert_allclose(
        theirs[1](their_params, x), ours[1](our_params, x), rtol=2e-4, atol=1e-5
    )
    g = x[0, 0]
    for name, args in OPTIMIZERS.items():
        pair = []
        for lib in (jax_optimizers, optimizers):
            init, update, get_params = getattr(lib, name)(*args)
            state = init({"w": g})
            for i in range(5):
                state = update(i, {"w": np.sin(g)}, state)
            pair.append(get_params(state)["w"])
        np.testing.assert_allclose(*pair, rtol=3e-5, atol=1e-6, err_msg=name)


def test_other_modules_by_jax_names():
    f = ft.jit(lambda x: fnp.sin(x) ** 2)
    assert isinstance(f, stages.Wrapped)
    assert isinstance(f.trace(1.0), stages.Traced)
    assert isinstance(f.lower(1.0), stages.Lowered)
    assert isinstance(f.lower(1.0).compile(), stages.Compiled)
    test_util.check_grads(f, (0.5,), order=2)
    x = np.arange(3.0)
    assert np.array_equal(dlpack.from_dlpack(x), x)
