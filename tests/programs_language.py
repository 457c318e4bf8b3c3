"""Programs about the language, as their authors write them for JAX, after changing the imports.

`programs.py` records what they give in JAX; `test_programs.py` compares.
"""

import dataclasses
import functools
from functools import partial
from typing import Any, NamedTuple

import funtorch as jax
import funtorch.numpy as jnp
from funtorch import grad, hessian, jacfwd, jacrev, jit, jvp, lax, random, vjp, vmap


# --- first steps ---------------------------------------------------------------------------
def quickstart_selu():
    def selu(x, alpha=1.67, lmbda=1.05):
        return lmbda * jnp.where(x > 0, x, alpha * jnp.exp(x) - alpha)

    x = random.normal(random.key(1701), (50,))
    return selu(jnp.arange(5.0)), jit(selu)(x), selu(3), selu(-1.0)


def quickstart_grad():
    def sum_logistic(x):
        return jnp.sum(1.0 / (1.0 + jnp.exp(-x)))

    x = jnp.arange(3.0)
    finite = jnp.array(
        [(sum_logistic(x + 1e-3 * v) - sum_logistic(x - 1e-3 * v)) for v in jnp.eye(3)]
    )
    return grad(sum_logistic)(x), finite.shape, grad(jit(grad(jit(grad(sum_logistic)))))(1.0)


def quickstart_vmap():
    k1, k2 = random.split(random.key(1))
    mat, batch = random.normal(k1, (15, 10)), random.normal(k2, (4, 10))
    naive = jnp.stack([jnp.dot(mat, v) for v in batch])
    return naive, jit(vmap(partial(jnp.dot, mat)))(batch), jacfwd(jnp.cos)(batch[0, :3])


def sharp_bits():
    x = jnp.zeros((3, 3))
    y = x.at[1, :].set(1.0).at[::2, 1:].add(7.0)
    return y, jnp.arange(10.0).at[11].get(mode="fill"), jnp.sum(jnp.arange(10))


def dtype_promotion():
    return [
        jnp.arange(3) * 2.5,
        jnp.float32(1) + jnp.int32(2),
        jnp.bfloat16(1.5) * 2,
        jnp.array(True) + 1,
        jnp.uint8(200) + jnp.int8(3),
        jnp.ones(2, jnp.float16) + jnp.ones(2, jnp.bfloat16),
        jnp.asarray(2) * jnp.float16(3),
        jnp.array([1, 2.5, True]),
        1j * jnp.float32(2),
    ]


# --- automatic differentiation cookbook ----------------------------------------------------
def cookbook_logistic_regression():
    inputs = jnp.array(
        [[0.52, 1.12, 0.77], [0.88, -1.08, 0.15], [0.52, 0.06, -1.30], [0.74, -2.49, 1.39]]
    )
    targets = jnp.array([True, True, False, True])

    def predict(W, b):
        return 0.5 * (jnp.tanh((jnp.dot(inputs, W) + b) / 2) + 1)

    def loss(W, b):
        preds = predict(W, b)
        return -jnp.sum(jnp.log(preds * targets + (1 - preds) * (1 - targets)))

    W, b = jnp.array([0.1, -0.4, 0.3]), 0.2
    y, back = vjp(lambda W: predict(W, b), W)
    return {
        "grad": grad(loss, (0, 1))(W, b),
        "both": jax.value_and_grad(lambda p: loss(p["W"], p["b"]))({"W": W, "b": b}),
        "hessian": hessian(loss)(W, b),
        "hessians": hessian(loss, argnums=(0, 1))(W, b),
        "jac": jacrev(lambda W: predict(W, b))(W),
        "vjp": back(jnp.ones_like(y)),
        "hvp": jvp(lambda W: grad(loss)(W, b), (W,), (W,))[1],
    }


def cookbook_jacobians_by_hand():
    f = lambda x: jnp.sin(x) * x[::-1]
    x = jnp.arange(1.0, 4.0)
    _, back = vjp(f, x)
    _, push = jax.linearize(f, x)
    return (
        vmap(back)(jnp.eye(3)),
        vmap(push, out_axes=1)(jnp.eye(3)),
        jacfwd(jacrev(f))(x).sum((1, 2)),
    )


def cookbook_complex():
    def f(z):
        x, y = jnp.real(z), jnp.imag(z)
        return (x**2 - y**2) + 1j * (2 * x * y)

    A = jnp.array([[5.0, 2.0 + 3j], [2.0 - 3j, 7.0]])
    return (
        grad(f, holomorphic=True)(jnp.complex64(1 + 2j)),
        grad(lambda z: jnp.sin(z), holomorphic=True)(3.0 + 4j),
        grad(lambda z: jnp.abs(z) ** 2)(jnp.complex64(1 + 2j)),
        grad(lambda X: jnp.real(jnp.sum(jnp.linalg.cholesky(X) ** 2)))(A),
        jnp.conj(A) @ A,
    )


def advanced_stop_gradient_td():
    value_fn = lambda theta, state: jnp.dot(theta, state)
    theta = jnp.array([0.1, -0.1, 0.0])
    s, r, s1 = jnp.array([1.0, 2.0, -1.0]), 1.0, jnp.array([2.0, 1.0, 0.0])

    def td_loss(theta):
        target = r + value_fn(theta, s1)
        return -0.5 * (lax.stop_gradient(target) - value_fn(theta, s)) ** 2

    straight_through = lambda x: x + lax.stop_gradient(jnp.round(x) - x)
    return grad(td_loss)(theta), straight_through(3.2), grad(straight_through)(3.2)


def advanced_per_example_gradients():
    loss = lambda p, x, y: jnp.square(x @ p["w"] + p["b"] - y).sum()
    p = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    X, Y = jnp.arange(12.0).reshape(4, 3), jnp.ones((4, 2))
    each = jit(vmap(grad(loss), in_axes=(None, 0, 0)))(p, X, Y)
    norms = jax.tree.map(lambda g: jnp.linalg.norm(g.reshape(4, -1), axis=1), each)
    return each, norms, jax.tree.reduce(jnp.add, jax.tree.map(jnp.square, norms))


def advanced_maml():
    def net(p, x):
        return jnp.tanh(x @ p[0]) @ p[1]

    p = [
        random.normal(k, s) / 3
        for k, s in zip(random.split(random.key(0)), [(1, 8), (8, 1)], strict=True)
    ]
    loss = lambda p, x, y: jnp.mean((net(p, x) - y) ** 2)

    def inner(p, x, y):
        return jax.tree.map(lambda w, g: w - 0.1 * g, p, grad(loss)(p, x, y))

    def outer(p, x1, y1, x2, y2):
        return jnp.mean(vmap(lambda *b: loss(inner(p, b[0], b[1]), b[2], b[3]))(x1, y1, x2, y2))

    x = random.uniform(random.key(1), (3, 5, 1), minval=-5.0, maxval=5.0)
    return jit(jax.value_and_grad(outer))(p, x, jnp.sin(x), x + 0.1, jnp.cos(x))


def custom_jvp_log1pexp():
    @jax.custom_jvp
    def f(x):
        return jnp.log(1.0 + jnp.exp(x))

    @f.defjvp
    def f_jvp(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), (1 - 1 / (1 + jnp.exp(x))) * t

    return jit(f)(3.0), grad(f)(100.0), vmap(jit(grad(f)))(jnp.arange(3.0)), grad(grad(f))(1.0)


def custom_jvp_parts():
    @jax.custom_jvp
    def f(x, y):
        return jnp.sin(x) * y

    f.defjvps(lambda t, out, x, y: jnp.cos(x) * t * y, lambda t, out, x, y: jnp.sin(x) * t)

    @partial(jax.custom_jvp, nondiff_argnums=(0,))
    def apply(g, x):
        return g(x)

    apply.defjvp(lambda g, p, t: (apply(g, *p), 2.0 * t[0]))
    return (
        grad(f, (0, 1))(2.0, 3.0),
        jvp(f, (2.0, 3.0), (1.0, 0.0)),
        grad(partial(apply, lambda x: x**3))(3.0),
    )


def custom_vjp_clip():
    @jax.custom_vjp
    def clip_gradient(lo, hi, x):
        return x

    clip_gradient.defvjp(
        lambda lo, hi, x: (x, (lo, hi)), lambda res, g: (None, None, jnp.clip(g, res[0], res[1]))
    )
    return vmap(grad(lambda x: jnp.sin(clip_gradient(-0.75, 0.75, x))))(jnp.linspace(0, 6, 7))


def custom_vjp_fixed_point():
    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def fixed_point(f, a, x0):
        cond = lambda c: jnp.abs(c[0] - c[1]) > 1e-6
        return lax.while_loop(cond, lambda c: (c[1], f(a, c[1])), (x0, f(a, x0)))[1]

    def fwd(f, a, x0):
        x = fixed_point(f, a, x0)
        return x, (a, x)

    def rev(f, res, ct):
        a, x = res
        _, vjp_a = vjp(lambda a: f(a, x), a)
        step = lambda packed, u: ct + vjp(lambda x: f(packed[0], x), packed[1])[1](u)[0]
        (a_bar,) = vjp_a(fixed_point(step, (a, x), ct))
        return a_bar, jnp.zeros_like(x)

    fixed_point.defvjp(fwd, rev)
    sqrt = lambda a: fixed_point(lambda a, x: 0.5 * (x + a / x), a, a)
    return sqrt(2.0), grad(sqrt)(2.0), grad(grad(sqrt))(2.0)


def checkpoint_policy_free():
    g = lambda W, x: jnp.sin(jnp.dot(W, x))
    f = lambda ws, x: jnp.sum(jax.checkpoint(g)(ws[1], jax.checkpoint(g)(ws[0], x)))
    ws = [jnp.ones((4, 3)) * 0.1, jnp.ones((2, 4)) * 0.2]
    return (
        f(ws, jnp.arange(3.0)),
        grad(f)(ws, jnp.arange(3.0)),
        jit(grad(jax.remat(f)))(ws, jnp.arange(3.0)),
    )


def linear_transpose_of_convolution():
    k = jnp.array([1.0, 2.0, 3.0])
    f = lambda x: jnp.convolve(x, k, mode="valid")
    x = jnp.arange(6.0)
    (t,) = jax.linear_transpose(f, x)(f(x))
    return f(x), t


def jacobian_vector_tricks():
    def f(x):
        return jnp.sum(jnp.exp(x) * x[::-1])

    x = jnp.array([0.1, 0.5, -0.3])
    laplacian = jnp.trace(hessian(f)(x))
    by_vmap = vmap(lambda v: jvp(lambda x: jvp(f, (x,), (v,))[1], (x,), (v,))[1])(jnp.eye(3)).sum()
    return laplacian, by_vmap, jvp(grad(f), (x,), (jnp.ones(3),)), vjp(grad(f), x)[1](jnp.ones(3))


def mixed_derivatives():
    f = lambda x, y: jnp.sin(x * y) + x**3 * y
    return (
        grad(grad(f, 1), 0)(1.0, 2.0),
        jacfwd(jacrev(f, 1), 0)(1.0, 2.0),
        hessian(f, (0, 1))(1.0, 2.0),
    )


def gradients_at_kinks():
    at = lambda f, x: grad(f)(x)
    return [
        at(jnp.sqrt, 4.0),
        at(lambda x: jnp.maximum(x, 0.0), 0.0),
        at(jax.nn.relu, 0.0),
        at(lambda x: jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), 0.0), 0.0),
        at(lambda x: jnp.max(x), jnp.ones(3)),
        at(lambda x: jnp.clip(x, 0.0, 1.0), 0.5),
        at(lambda x: jnp.prod(x), jnp.array([0.0, 2.0, 3.0])),
        at(lambda x: jnp.sort(x)[0], jnp.array([3.0, 1.0, 2.0])),
        at(lambda x: jnp.median(x), jnp.array([3.0, 1.0, 2.0, 5.0])),
        at(lambda x: x**2, 0.0),
        at(lambda x: x % 3.0, 4.0),
        at(lambda x: jnp.cumsum(x)[-1] * x[0], jnp.arange(3.0)),
    ]


# --- pytrees, state, control flow ----------------------------------------------------------
class Point(NamedTuple):
    x: Any
    y: Any


@jax.tree_util.register_pytree_node_class
class Special:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def tree_flatten(self):
        return (self.x,), self.y

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(*children, aux)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    w: Any
    b: Any
    name: str = dataclasses.field(metadata={"static": True}, default="layer")


def pytrees_map_and_paths():
    t = {"a": [1, (2.0, None)], "b": Point(3, jnp.arange(2))}
    named = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(t)]
    return (
        jax.tree.map(lambda x: x * 2, t),
        " ".join(named),
        jax.tree.structure(t).num_leaves,
        jax.tree.transpose(
            jax.tree.structure([0, 0]), jax.tree.structure((0, 0)), [(1, 2), (3, 4)]
        ),
        jax.tree.reduce(lambda a, b: a + jnp.sum(b), t, 0),
        jax.tree.map(lambda x: x is None, [None, 1], is_leaf=lambda x: x is None),
    )


def pytrees_registered():
    s = jit(lambda s: Special(s.x * 2 + s.y, s.y))(Special(jnp.arange(2.0), 3))
    d = grad(lambda z: jnp.sum(z.w * 2 + z.b) * len(z.name))(Layer(jnp.ones(2), 1.0))
    flat, unravel = jax.flatten_util.ravel_pytree({"w": jnp.ones((2, 2)), "b": jnp.arange(2)})
    return s.x, s.y, d.w, d.b, d.name, flat, unravel(flat * 2)


def stateful_counter():
    class State(NamedTuple):
        mean: Any
        count: Any

    def update(state, x):
        count = state.count + 1
        return State(state.mean + (x - state.mean) / count, count), state.mean

    return lax.scan(update, State(0.0, 0), jnp.array([1.0, 4.0, 7.0]))


def control_flow_cond_switch():
    f = lambda x: lax.cond(x > 0, lambda x: x**2, lambda x: -x, x)
    g = lambda i, x: lax.switch(i, [lambda x: x, jnp.sin, lambda x: x * x], x)
    return (
        f(3.0),
        grad(f)(-3.0),
        vmap(f)(jnp.array([-1.0, 2.0])),
        [g(i, 2.0) for i in range(-1, 4)],
        jit(vmap(g))(jnp.arange(3), jnp.ones(3)),
        jit(vmap(grad(g, 1)))(jnp.arange(3), jnp.ones(3)),
    )


def control_flow_loops():
    fact = lambda n: lax.while_loop(lambda c: c[0] > 0, lambda c: (c[0] - 1, c[1] * c[0]), (n, 1))[
        1
    ]
    fib = lambda n: lax.fori_loop(2, n, lambda i, x: x.at[i].set(x[i - 1] + x[i - 2]), jnp.ones(10))
    return (
        fact(5),
        jit(fact)(6),
        vmap(fact)(jnp.array([3, 4, 5])),
        fib(10),
        jit(fib)(7),
        grad(lambda x: lax.fori_loop(0, 3, lambda i, v: v * x + i, 1.0))(2.0),
        lax.map(lambda t: t[0] * t[1], (jnp.arange(3.0), jnp.ones(3))),
        jvp(lambda x: lax.while_loop(lambda v: v < 50.0, lambda v: v * x, x), (3.0,), (1.0,)),
    )


def static_arguments():
    @partial(jit, static_argnums=0, static_argnames=("scale",))
    def power(n, x, scale=1):
        for _ in range(n):
            x = x * x
        return x * scale

    calls = []

    @jit
    def counted(x):
        calls.append(x.shape)
        return x + 1

    counted(jnp.ones(2)), counted(jnp.zeros(2)), counted(jnp.ones(3))
    return power(2, 3.0), power(1, 2, scale=5), len(calls), jit(lambda x, *, k: x * k)(2.0, k=3)


class Model:
    def __init__(self, w):
        self.w = w

    @partial(jit, static_argnums=0)
    def __call__(self, x):
        return x * self.w


def methods_and_closures():
    m = Model(jnp.arange(3.0))
    fs = [lambda x, k=k: x**k for k in range(3)]
    return (
        m(2.0),
        [grad(f)(2.0) for f in fs],
        functools.reduce(lambda f, _: grad(f), range(3), jnp.sin)(1.0),
    )


def eval_shape_and_jaxprs():
    f = lambda p, x: jnp.tanh(x @ p["w"])
    spec = jax.eval_shape(f, {"w": jax.ShapeDtypeStruct((3, 2), "float32")}, jnp.ones((4, 3)))
    jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(1.0)
    return spec.shape, str(spec.dtype), len(jaxpr.eqns), jaxpr.out_avals[0].shape


def vmap_axes():
    f = lambda x, y: jnp.dot(x, y)
    x, y = jnp.arange(6.0).reshape(2, 3), jnp.arange(12.0).reshape(3, 4)
    return (
        vmap(f, in_axes=(None, 1), out_axes=1)(x, y),
        vmap(vmap(f, (None, 1)), (0, None))(x, y),
        vmap(lambda d: d["a"] + d["b"], in_axes=({"a": 0, "b": None},))({"a": x, "b": y[0, :3]}),
        vmap(lambda x: lax.psum(x, "i"), axis_name="i")(jnp.arange(4.0)),
        vmap(lambda x: x / lax.pmax(x, "batch"), axis_name="batch")(jnp.arange(1.0, 4.0)),
        vmap(jnp.argsort)(jnp.array([[2, 1], [1, 2]])),
        vmap(lambda i, x: x[i], (0, None))(jnp.array([2, 0]), jnp.arange(3.0)),
    )


def indexed_updates():
    x, i = jnp.zeros((3, 4)), jnp.array([0, 2, 2])
    return [
        x.at[0].set(1),
        x.at[i].add(1.0),
        x.at[i, 1].max(5.0),
        x.at[1, 2].mul(3),
        x.at[::2, -1].set(jnp.arange(2.0)),
        x.at[jnp.array([True, False, True])].set(9.0),
        x.at[jnp.array(5)].set(4.0, mode="drop"),
        x.at[0, 0].apply(jnp.cos),
        grad(lambda x, v: (x.at[i].set(v) ** 2).sum(), (0, 1))(
            jnp.ones((3, 4)), jnp.full((3, 4), 2.0)
        ),
        jnp.zeros(3, int).at[0].set(2),
    ]
