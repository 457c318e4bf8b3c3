"""Programs that compute something, as their authors write them for JAX, after changing the imports.

`programs.py` records what they give in JAX; `test_programs.py` compares.
"""

import functools

import funtorch as jax
import funtorch.numpy as jnp
from funtorch import grad, hessian, jacfwd, jit, lax, random, vjp, vmap


# --- models --------------------------------------------------------------------------------
def mlp_training():
    def init(key, sizes):
        keys = random.split(key, len(sizes))
        return [
            (1e-1 * random.normal(k, (n, m)), jnp.zeros(n))
            for m, n, k in zip(sizes[:-1], sizes[1:], keys, strict=False)
        ]

    def predict(params, image):
        for w, b in params[:-1]:
            image = jax.nn.relu(jnp.dot(w, image) + b)
        logits = jnp.dot(params[-1][0], image) + params[-1][1]
        return logits - jax.scipy.special.logsumexp(logits)

    def loss(params, images, targets):
        return -jnp.mean(vmap(predict, in_axes=(None, 0))(params, images) * targets)

    @jit
    def update(params, x, y):
        grads = grad(loss)(params, x, y)
        return [
            (w - 0.5 * dw, b - 0.5 * db) for (w, b), (dw, db) in zip(params, grads, strict=True)
        ]

    x = random.normal(random.key(1), (6, 8))
    y = jax.nn.one_hot(jnp.arange(6) % 3, 3)
    params = init(random.PRNGKey(0), [8, 16, 3])
    for _ in range(3):
        params = update(params, x, y)
    return params, loss(params, x, y)


def optimizers_by_hand():
    f = lambda p: jnp.sum((p["x"] - 1.0) ** 2) + jnp.sum(jnp.abs(p["y"]) ** 1.5)
    p = {"x": jnp.zeros(2), "y": jnp.array([2.0, -1.0, 0.5])}

    @jit
    def adam(i, state):
        p, m, v = state
        g = grad(f)(p)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
        scale = lambda m, v: (
            (m / (1 - 0.9 ** (i + 1))) / (jnp.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8)
        )
        return jax.tree.map(lambda p, m, v: p - 0.1 * scale(m, v), p, m, v), m, v

    zeros = jax.tree.map(jnp.zeros_like, p)
    state = (p, zeros, zeros)
    for i in range(3):
        state = adam(i, state)
    looped = lax.fori_loop(0, 3, adam, (p, zeros, zeros))
    return state[0], looped


def rnn_scan():
    ks = random.split(random.key(0), 3)
    p = {"x": random.normal(ks[0], (3, 5)) * 0.1, "h": random.normal(ks[1], (5, 5)) * 0.1}
    xs = random.normal(ks[2], (7, 2, 3))

    def run(p, xs, reverse=False):
        def body(h, x):
            h = jnp.tanh(x @ p["x"] + h @ p["h"])
            return h, h

        return lax.scan(body, jnp.zeros((2, 5)), xs, reverse=reverse)

    loss = lambda p: run(p, xs)[1].sum()
    return (
        run(p, xs)[0],
        run(p, xs, True)[0],
        jit(grad(loss))(p),
        vmap(lambda x: run(p, x[:, None])[0], 1)(xs),
    )


def lstm_unrolled():
    W = random.normal(random.key(2), (8, 16)) / 4

    def cell(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(jnp.concatenate([h, x]) @ W, 4)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), h

    xs = random.normal(random.key(3), (5, 4))
    start = (jnp.zeros(4), jnp.zeros(4))
    return (
        lax.scan(cell, start, xs),
        lax.scan(cell, start, xs, unroll=5)[0],
        grad(lambda xs: lax.scan(cell, start, xs)[0][0].sum())(xs),
    )


def attention_causal():
    q, k, v = random.normal(random.key(0), (3, 2, 6, 4))
    scores = jnp.einsum("btd,bsd->bts", q, k) / jnp.sqrt(4)
    mask = jnp.tril(jnp.ones((6, 6), bool))
    out = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1) @ v
    return out, grad(lambda q: (jax.nn.softmax(q @ k[0].T) @ v[0]).sum())(q[0])


def attention_in_blocks():
    q, k, v = random.normal(random.key(4), (3, 8, 4))

    def block(carry, kv):
        out, top, total = carry
        s = q @ kv[0].T
        new = jnp.maximum(top, s.max(-1))
        p, scale = jnp.exp(s - new[:, None]), jnp.exp(top - new)
        return (out * scale[:, None] + p @ kv[1], new, total * scale + p.sum(-1)), None

    start = (jnp.zeros((8, 4)), jnp.full(8, -jnp.inf), jnp.zeros(8))
    (out, _, total), _ = lax.scan(block, start, (k.reshape(4, 2, 4), v.reshape(4, 2, 4)))
    return out / total[:, None] - jax.nn.softmax(q @ k.T) @ v < 1e-5, out / total[:, None]


def layer_norm_and_dropout():
    x = random.normal(random.key(5), (4, 6))
    norm = lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    keep = random.bernoulli(random.key(6), 0.7, x.shape)
    return norm(x), grad(lambda x: (norm(x) ** 3).sum())(x), jnp.where(keep, x / 0.7, 0)


def mixed_precision():
    w = random.normal(random.key(7), (4, 4))

    def loss(w, x):
        h = jnp.dot(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
        return jnp.mean(h.astype(jnp.float32) ** 2)

    x = jnp.ones((2, 4))
    h = jnp.float16(60000.0) * 2
    return (
        loss(w, x).dtype.name,
        grad(loss)(w, x).dtype.name,
        h,
        jnp.dot(
            jnp.ones(3, "bfloat16"), jnp.ones(3, "bfloat16"), preferred_element_type=jnp.float32
        ),
    )


def logistic_regression_newton():
    X = jnp.stack([jnp.linspace(-2, 2, 12), jnp.ones(12)], 1)
    y = (jnp.arange(12) > 4).astype(float)
    nll = lambda w: jnp.mean(jnp.logaddexp(0.0, X @ w) - y * (X @ w)) + 0.01 * w @ w
    step = lambda w, _: (w - jnp.linalg.solve(hessian(nll)(w), grad(nll)(w)), nll(w))
    return lax.scan(step, jnp.zeros(2), None, length=4)


def newton_while():
    f = lambda x: x**3 - 2 * x - 5
    step = lambda c: (c[0] - f(c[0]) / grad(f)(c[0]), c[1] + 1)
    return jit(lambda x: lax.while_loop(lambda c: jnp.abs(f(c[0])) > 1e-5, step, (x, 0)))(2.0)


def neural_ode_rk4():
    p = {"A": random.normal(random.key(3), (3, 3)), "s": 0.5}
    ts = jnp.linspace(0, 1, 6)

    def solve(p, y0):
        f = lambda y, t: jnp.tanh(p["A"] @ y + t) * p["s"]

        def body(y, t):
            h = 0.2
            k1 = f(y, t)
            k2 = f(y + h / 2 * k1, t + h / 2)
            k3 = f(y + h / 2 * k2, t + h / 2)
            return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(y + h * k3, t + h)), y

        return lax.scan(body, y0, ts[:-1])

    loss = lambda p, y: jnp.sum(solve(p, y)[0] ** 2)
    return (
        solve(p, jnp.ones(3)),
        jit(grad(loss))(p, jnp.ones(3)),
        vmap(grad(loss), (None, 0))(p, jnp.eye(3)),
    )


def gaussian_process():
    x = jnp.linspace(0, 1, 6)
    y = jnp.sin(6 * x)
    kernel = lambda p, a, b: jnp.exp(p[0]) * jnp.exp(-0.5 * (a - b) ** 2 / jnp.exp(p[1]) ** 2)
    gram = lambda p, a, b: vmap(lambda a: vmap(lambda b: kernel(p, a, b))(b))(a)

    def nll(p):
        L = jnp.linalg.cholesky(gram(p, x, x) + 0.1 * jnp.eye(6))
        alpha = jnp.linalg.solve(L.T, jnp.linalg.solve(L, y))
        return 0.5 * y @ alpha + jnp.sum(jnp.log(jnp.diag(L)))

    p = jnp.array([0.1, -1.0])
    mean = gram(p, jnp.array([0.3]), x) @ jnp.linalg.solve(gram(p, x, x) + 0.1 * jnp.eye(6), y)
    return nll(p), jit(grad(nll))(p), mean


def kalman_filter():
    A, Q, R = jnp.array([[1.0, 0.1], [0.0, 1.0]]), 0.01 * jnp.eye(2), 0.5

    def step(carry, z):
        m, P = carry
        m, P = A @ m, A @ P @ A.T + Q
        K = P[:, 0] / (P[0, 0] + R)
        m, P = m + K * (z - m[0]), P - jnp.outer(K, P[0])
        return (m, P), m[0]

    zs = jnp.array([0.9, 1.2, 1.1, 1.6])
    run = lambda q: lax.scan(step, (jnp.zeros(2), q * jnp.eye(2)), zs)
    return run(1.0), grad(lambda q: run(q)[1].sum())(1.0)


def hamiltonian_monte_carlo():
    logp = lambda q: -0.5 * jnp.sum(q**2 / jnp.array([1.0, 4.0]))

    def kernel(state, key):
        q, accepted = state
        k1, k2 = random.split(key)
        p = random.normal(k1, q.shape)

        def leap(_, c):
            q, p = c
            p = p + 0.1 * grad(logp)(q)
            return q + 0.2 * p, p + 0.1 * grad(logp)(q + 0.2 * p)

        q2, p2 = lax.fori_loop(0, 3, leap, (q, p))
        ok = jnp.log(random.uniform(k2)) < logp(q2) - logp(q) + 0.5 * (p @ p - p2 @ p2)
        return (jnp.where(ok, q2, q), accepted + ok), q

    run = jit(lambda key: lax.scan(kernel, (jnp.zeros(2), 0), random.split(key, 5)))
    return run(random.key(0)), vmap(run)(random.split(random.key(1), 2))


def random_walk_metropolis():
    def step(state, key):
        x, lp = state
        k1, k2 = random.split(key)
        new = x + 0.5 * random.normal(k1)
        new_lp = -jnp.abs(new)
        take = random.uniform(k2) < jnp.exp(new_lp - lp)
        return (jnp.where(take, new, x), jnp.where(take, new_lp, lp)), x

    return lax.scan(step, (0.0, 0.0), random.split(random.PRNGKey(9), 8))


def k_means():
    x = jnp.concatenate(
        [random.normal(random.key(0), (6, 2)), random.normal(random.key(1), (6, 2)) + 4]
    )

    def step(_, c):
        nearest = jnp.argmin(((x[:, None] - c) ** 2).sum(-1), axis=1)
        member = jax.nn.one_hot(nearest, 2)
        return (member.T @ x) / member.sum(0)[:, None]

    return lax.fori_loop(0, 3, step, x[jnp.array([0, 7])])


def power_iteration_and_pca():
    A = jnp.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    step = lambda v, _: ((w := A @ v) / jnp.linalg.norm(w), jnp.linalg.norm(w))
    v, norms = lax.scan(step, jnp.ones(3), None, length=20)
    X = A - A.mean(0)
    return v, norms[-1], jnp.linalg.eigh(A)[0], jnp.linalg.svd(X, compute_uv=False)


def linear_algebra():
    A = jnp.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    b = jnp.arange(1.0, 4.0)
    L = jnp.linalg
    return [
        L.solve(A, b),
        grad(lambda A: L.solve(A, b).sum())(A),
        L.slogdet(A),
        grad(lambda A: L.slogdet(A)[1])(A),
        jacfwd(L.inv)(A)[0, 0],
        grad(lambda A: L.eigh(A)[0][0])(A),
        grad(lambda A: L.svd(A, compute_uv=False).sum())(A),
        jnp.abs(L.qr(A)[1]),
        L.norm(A),
        L.norm(A, axis=0),
        L.matrix_power(A, 3),
        L.det(A),
        vmap(L.solve)(jnp.stack([A, 2 * A]), jnp.stack([b, b])),
    ]


def game_of_life():
    board = (
        jnp.zeros((6, 6), jnp.int32)
        .at[jnp.array([0, 1, 2, 2, 2]), jnp.array([1, 2, 0, 1, 2])]
        .set(1)
    )

    @jit
    def step(b):
        n = sum(
            jnp.roll(b, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)
        )
        return ((n == 3) | ((b == 1) & (n == 2))).astype(jnp.int32)

    return functools.reduce(lambda b, _: step(b), range(4), board)


def sudoku_row_checks():
    grid = (jnp.arange(16).reshape(4, 4) * 5 + jnp.arange(4)[:, None]) % 4
    counts = vmap(lambda row: jnp.bincount(row, length=4))(grid)
    return (counts == 1).all(axis=1), jnp.unique(grid), jnp.argwhere(grid == 2)


def mandelbrot():
    x, y = jnp.meshgrid(jnp.linspace(-2, 1, 6), jnp.linspace(-1, 1, 5))
    c = x + 1j * y

    def body(_, s):
        z, n = s
        inside = jnp.abs(z) <= 2
        return jnp.where(inside, z * z + c, z), n + inside

    return lax.fori_loop(0, 8, body, (jnp.zeros_like(c), jnp.zeros(c.shape, int)))[1]


def signals_without_fft():
    x = jnp.sin(jnp.arange(16.0))
    smooth = lambda x: lax.scan(lambda m, v: ((n := 0.8 * m + 0.2 * v), n), 0.0, x)[1]
    return (
        jnp.convolve(x, jnp.ones(3) / 3, mode="same"),
        smooth(x),
        jnp.cumsum(x),
        jnp.diff(x),
        jnp.interp(2.5, jnp.arange(16.0), x),
        jnp.pad(x[:3], (1, 2), mode="edge"),
    )


def heat_equation():
    @jit
    def step(u, _):
        lap = jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)
        return u + 0.1 * lap, u.sum()

    u0 = jnp.zeros(10).at[5].set(1.0)
    final = lambda u: lax.scan(step, u, None, length=5)
    return final(u0), grad(lambda u: final(u)[0][3])(u0)


def physics_by_gradient():
    lagrangian = lambda q, v: 0.5 * jnp.sum(v**2) + jnp.cos(q).sum()

    def acceleration(q, v):
        mass = hessian(lagrangian, 1)(q, v)
        force = grad(lagrangian, 0)(q, v) - jacfwd(grad(lagrangian, 1), 0)(q, v) @ v
        return jnp.linalg.solve(mass, force)

    return jit(acceleration)(jnp.array([0.5, 1.0]), jnp.array([0.1, 0.2]))


def implicit_layer():
    @jax.custom_vjp
    def layer(w, x):
        return lax.fori_loop(0, 20, lambda _, z: jnp.tanh(w @ z + x), jnp.zeros_like(x))

    def fwd(w, x):
        z = layer(w, x)
        return z, (w, x, z)

    def bwd(res, g):
        w, x, z = res
        _, pull = vjp(lambda z: jnp.tanh(w @ z + x), z)
        u = lax.fori_loop(0, 20, lambda _, u: g + pull(u)[0], g)
        return vjp(lambda w, x: jnp.tanh(w @ z + x), w, x)[1](u)

    layer.defvjp(fwd, bwd)
    w, x = 0.3 * jnp.eye(3) + 0.1, jnp.arange(3.0)
    return layer(w, x), jit(grad(lambda w, x: layer(w, x).sum(), (0, 1)))(w, x)


def variational_inference():
    def elbo(params, key):
        mean, log_std = params
        z = mean + jnp.exp(log_std) * random.normal(key, mean.shape)
        return jnp.mean(-0.5 * (z - 2.0) ** 2) + jnp.mean(log_std)

    batched = lambda p: -jnp.mean(vmap(elbo, (None, 0))(p, random.split(random.key(0), 4)))
    return jit(jax.value_and_grad(batched))((jnp.zeros(2), jnp.zeros(2)))


def policy_gradient():
    theta = jnp.zeros((3, 2))
    states, actions = jnp.array([0, 1, 2, 1]), jnp.array([1, 0, 1, 1])
    rewards = jnp.array([1.0, 0.0, -1.0, 2.0])

    def returns(r):
        return lax.scan(lambda g, r: ((n := r + 0.9 * g), n), 0.0, r, reverse=True)[1]

    def loss(theta):
        logp = jax.nn.log_softmax(theta[states])
        return -jnp.sum(jnp.take_along_axis(logp, actions[:, None], 1)[:, 0] * returns(rewards))

    return returns(rewards), grad(loss)(theta)


def cross_entropies():
    logits, labels = jnp.array([[2.0, 1.0, 0.1], [0.0, 1000.0, -1000.0]]), jnp.array([0, 1])
    a = lambda z: -jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], axis=1).mean()
    b = lambda z: -(jax.nn.one_hot(labels, 3) * jax.nn.log_softmax(z)).sum(-1).mean()
    c = lambda z: (jax.scipy.special.logsumexp(z, axis=-1) - z[jnp.arange(2), labels]).mean()
    return [jax.value_and_grad(f)(logits) for f in (a, b, c)]


def activations():
    x = jnp.array([-3.0, -0.5, 0.0, 0.5, 3.0])
    names = "relu gelu silu softplus elu leaky_relu selu celu relu6 hard_tanh log_sigmoid mish"
    return {
        n: (getattr(jax.nn, n)(x), vmap(grad(getattr(jax.nn, n)))(x + 0.1)) for n in names.split()
    }


def initializers():
    make, key = jax.nn.initializers, random.key(3)
    names = "glorot_uniform glorot_normal he_normal he_uniform lecun_normal lecun_uniform"
    return {n: getattr(make, n)()(key, (6, 4), jnp.float32) for n in names.split()}


def embeddings_and_gather():
    table, ids = jnp.arange(12.0).reshape(4, 3), jnp.array([[0, 3], [3, 3]])
    return (
        table[ids],
        grad(lambda t: (t[ids] ** 2).sum())(table),
        jnp.take(table, ids, axis=0).sum(),
        lax.dynamic_slice(table, (1, 0), (2, 2)),
    )


def einsum_family():
    a, b = jnp.arange(6.0).reshape(2, 3), jnp.arange(12.0).reshape(3, 4)
    return [
        jnp.einsum("ij,jk->ik", a, b),
        jnp.einsum("ij->ji", a),
        jnp.einsum("ii->i", b[:, :3]),
        jnp.einsum("ij,jk,kl->il", a, b, b.T),
        jnp.einsum("...j,jk->...k", a[None], b),
        jnp.tensordot(a, b, 1),
        grad(lambda a: jnp.einsum("ij,ij->", a, a))(a),
        jnp.outer(a[0], a[1]),
        jnp.kron(a, jnp.eye(2)).sum(),
    ]


def lax_toolbox():
    x = jnp.arange(12.0).reshape(3, 4)
    return [
        lax.dynamic_update_slice(x, jnp.zeros((1, 1)), (0, 3)),
        lax.dynamic_index_in_dim(x, 1, keepdims=False),
        lax.slice(x, (0, 0), (2, 4), (1, 2)),
        lax.pad(x, 0.0, ((1, 0, 1), (0, -1, 0))),
        lax.dot_general(x, x, (((1,), (1,)), ((), ()))),
        lax.cumsum(x, 1, reverse=True),
        lax.clamp(0.0, x, 3.0),
        lax.rsqrt(x + 1),
        lax.select(x > 3, x, -x),
        lax.broadcasted_iota(jnp.int32, (2, 2), 1),
        lax.bitcast_convert_type(x[0], jnp.int32),
        lax.top_k(x[0], 2),
        lax.rev(x, (0,)),
        lax.expand_dims(x, [0]).shape,
        lax.convert_element_type(x, jnp.int32).sum(),
    ]


def numpy_toolbox():
    x = jnp.arange(12.0).reshape(3, 4)
    return [
        jnp.roll(x, 1, 1),
        jnp.tile(x[0], 2),
        jnp.repeat(x[:2, :2], 2, axis=0),
        jnp.cov(x),
        jnp.gradient(x[0] ** 2),
        jnp.quantile(x, jnp.array([0.1, 0.9]), axis=1),
        jnp.select([x > 5, x > 2], [x, -x], 9.0),
        jnp.unravel_index(5, (3, 4)),
        jnp.flip(x, 1),
        jnp.searchsorted(jnp.arange(5.0), jnp.array([2.5, -1, 9])),
        jnp.unique(jnp.array([3, 1, 3]), return_counts=True),
        jnp.histogram(jnp.arange(10.0), bins=3)[0],
        jnp.lexsort((jnp.array([1, 0, 1]), jnp.array([0, 0, 0]))),
        jnp.nanmean(jnp.array([1.0, jnp.nan, 3.0])),
        jnp.cross(x[0, :3], x[1, :3]),
        jnp.polyval(jnp.array([1.0, 2.0, 3.0]), 2.0),
        jnp.linspace(0, 1, 5),
        jnp.divmod(7, 3),
        jnp.bincount(jnp.array([0, 1, 1, 5]), length=4),
        jnp.allclose(x, x + 1e-9),
        jnp.heaviside(x[0] - 1, 0.5),
        jnp.round(jnp.array([0.5, 1.5, 2.345]), 2),
    ]


def random_numbers():
    key = random.key(7)
    keys = random.split(key, (2, 3))
    return [
        random.key_data(key),
        keys.shape,
        random.uniform(keys[0, 0], (3,)),
        random.normal(random.fold_in(key, 3), (2,)),
        random.permutation(key, 5),
        random.choice(key, jnp.arange(5.0), (3,), replace=False),
        random.randint(key, (4,), 0, 10),
        random.bernoulli(key, 0.3, (4,)),
        random.categorical(key, jnp.zeros((2, 3))),
        random.exponential(key, (2,)),
        random.gumbel(key, (2,)),
        random.gamma(key, 2.0, (3,)),
        random.poisson(key, 3.0, (4,)),
        vmap(random.normal)(random.split(key, 3)),
        lax.scan(lambda k, _: (random.split(k)[0], random.normal(k)), key, None, length=3)[1],
        jit(lambda seed: random.normal(random.key(seed)))(3),
    ]
