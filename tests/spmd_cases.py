"""Programs of shard_map that run in FunTorch, in one process or among ranks, and in JAX.

Each is (function of a module with `lax`, `numpy`, `grad` ..., in_specs, out_specs); specs are
tuples. Their arguments are X, W and V; the mesh is `MESH`.
"""

import numpy as np

MESH = (2, 2)
NAMES = ("a", "b")
rng = np.random.default_rng(3)
X = rng.normal(size=(8, 4))
W = rng.normal(size=(4, 6))
V = rng.normal(size=(4,))
ARGS = {"X": X, "W": W, "V": V}

AB = (("a", "b"),)


def _mlp(ft, reduce):
    """Return the loss of a part of the rows."""
    lax, np_ = ft.lax, ft.numpy

    def loss(w, x):
        return reduce(lax, (np_.tanh(x @ w) ** 2).mean())

    return loss


def _scan(ft):
    def run(x, w):
        def step(w, _):
            loss = _mlp(ft, lambda lax, v: lax.pmean(v, NAMES))
            value, g = ft.value_and_grad(loss)(w, x)
            return w - 0.1 * g, value

        return ft.lax.scan(step, w, None, length=3)

    return run


def _fori(ft):
    loss = _mlp(ft, lambda lax, v: v)

    def run(x, w):
        return ft.lax.fori_loop(0, 3, lambda i, w: w - 0.1 * ft.grad(loss)(w, x), w)

    return run


def _cond(ft):
    def run(x, v):
        y = ft.lax.cond(
            v.sum() > 100.0, lambda x, v: (x * 2) @ v, lambda x, v: ft.numpy.sin(x) @ v, x, v
        )
        return ft.lax.psum(y.sum(), NAMES)

    return run


def _tensor_parallel(ft):
    """Rows of X over a; columns, then rows, of the weights over b."""
    lax, np_ = ft.lax, ft.numpy

    def loss(w, x):
        h = np_.tanh(x @ w)
        y = lax.psum(h @ w.T, "b")
        return lax.pmean((y**2).mean(), "a")

    return lambda x, w: ft.grad(loss)(w, x)


def _mixed(ft):
    """A loss of the devices' own and one of all."""
    lax = ft.lax

    def loss(w, x):
        return (ft.numpy.sin(x @ w).sum() + (w**2).sum()) * lax.psum(w.sum(), "a")

    return lambda x, w: ft.grad(loss)(w, x)


# name: function, in_specs, out_specs, arguments
CASES = {
    "psum": (lambda ft: lambda x: ft.lax.psum(x, "a"), [("a", "b")], (None, "b"), "X"),
    "psum of two": (lambda ft: lambda x: ft.lax.psum(x, NAMES), [("a", "b")], (), "X"),
    "psum of the same": (lambda ft: lambda x, v: x * ft.lax.psum(v, "a"), [AB, ()], AB, "XV"),
    "pmean": (lambda ft: lambda x: x - ft.lax.pmean(x, NAMES), [("a", "b")], ("a", "b"), "X"),
    "pmax pmin": (
        lambda ft: lambda x: ft.lax.pmax(x, "a") - ft.lax.pmin(x, "a"),
        [("a", "b")],
        (None, "b"),
        "X",
    ),
    "all_gather": (
        lambda ft: lambda x: ft.lax.all_gather(x, "b", axis=1) * 2,
        [("a", "b")],
        ("a", None, "b"),
        "X",
    ),
    "all_gather tiled": (
        lambda ft: lambda x: ft.lax.all_gather(x, NAMES, axis=0, tiled=True),
        [AB],
        AB,
        "X",
    ),
    "psum_scatter": (
        lambda ft: lambda x: ft.lax.psum_scatter(x, "a", scatter_dimension=1, tiled=True),
        [("b",)],
        ("b", "a"),
        "X",
    ),
    "all_to_all": (
        lambda ft: lambda x: ft.lax.all_to_all(x, "a", 1, 0, tiled=True),
        [("a", "b")],
        ("b", "a"),
        "X",
    ),
    "ppermute": (
        lambda ft: lambda x: ft.lax.ppermute(x, "a", [(0, 1)]) + x,
        [("a", "b")],
        ("a", "b"),
        "X",
    ),
    "pshuffle": (
        lambda ft: lambda x: ft.lax.pshuffle(x, "b", [1, 0]),
        [("a", "b")],
        ("a", "b"),
        "X",
    ),
    "pswapaxes": (lambda ft: lambda x: ft.lax.pswapaxes(x, "b", 1), [("b", "a")], ("b", "a"), "X"),
    "axis_index": (
        lambda ft: lambda x: x * (ft.lax.axis_index(NAMES) + ft.lax.axis_size("a")),
        [("b", "a")],
        ("b", "a"),
        "X",
    ),
    "matmul": (lambda ft: lambda x, w: ft.lax.psum(x @ w, "b"), [("a", "b"), ("b",)], ("a",), "XW"),
    "grad inside, own loss": (
        lambda ft: lambda x, w: ft.grad(_mlp(ft, lambda lax, v: v))(w, x),
        [AB, ()],
        (),
        "XW",
    ),
    "grad inside, mean loss": (
        lambda ft: lambda x, w: ft.grad(_mlp(ft, lambda lax, v: lax.pmean(v, NAMES)))(w, x),
        [AB, ()],
        (),
        "XW",
    ),
    "grad inside, one axis": (
        lambda ft: lambda x, w: ft.grad(_mlp(ft, lambda lax, v: lax.psum(v, "a")))(w, x),
        [AB, ()],
        (),
        "XW",
    ),
    "grad inside, own weights": (
        lambda ft: lambda x, w: ft.grad(_mlp(ft, lambda lax, v: lax.pmean(v, NAMES)))(w, x),
        [AB, (None, "b")],
        (None, "b"),
        "XW",
    ),
    "grad inside, jit": (
        lambda ft: lambda x, w: ft.jit(ft.grad(_mlp(ft, lambda lax, v: v)))(w, x),
        [AB, ()],
        (),
        "XW",
    ),
    "grad of grad inside": (
        lambda ft: (
            lambda x, w: ft.grad(lambda w: (ft.grad(_mlp(ft, lambda lax, v: v))(w, x) ** 2).sum())(
                w
            )
        ),
        [AB, ()],
        (),
        "XW",
    ),
    "grad inside, mixed": (_mixed, [AB, ()], (), "XW"),
    "tensor parallel": (_tensor_parallel, [("a",), (None, "b")], (None, "b"), "XW"),
    "vjp inside": (
        lambda ft: lambda x, w: ft.vjp(lambda w: x @ w, w)[1](x @ w)[0],
        [AB, ()],
        (),
        "XW",
    ),
    "scan": (_scan, [AB, ()], [(), ()], "XW"),
    "pcast": (
        lambda ft: (
            lambda x, v: ft.lax.fori_loop(
                0, 3, lambda i, c: c * x[0] + v, ft.lax.pcast(v * 0, NAMES, to="varying")
            )
        ),
        [AB, ()],
        AB,
        "XV",
    ),
    "fori": (_fori, [AB, ()], (), "XW"),
    "cond": (_cond, [AB, ()], (), "XV"),
}
UNCHECKED = {
    "unchecked": (
        lambda ft: lambda x, w: ft.lax.pmean(ft.grad(_mlp(ft, lambda lax, v: v))(w, x), NAMES),
        [AB, ()],
        (),
        "XW",
    ),
    "unchecked psum": (
        lambda ft: lambda x, w: ft.grad(_mlp(ft, lambda lax, v: lax.psum(v, "a")))(w, x),
        [AB, ()],
        AB,
        "XW",
    ),
    "unchecked gather": (
        lambda ft: lambda x: ft.lax.all_gather(x, NAMES, tiled=True) * 2,
        [AB],
        (),
        "X",
    ),
}
# Of which derivatives are taken from outside, in all arguments.
OUTSIDE = [
    "psum",
    "psum of two",
    "psum of the same",
    "pmean",
    "pmax pmin",
    "all_gather",
    "all_gather tiled",
    "psum_scatter",
    "all_to_all",
    "ppermute",
    "axis_index",
    "matmul",
    "grad inside, own loss",
    "grad inside, mean loss",
    "grad inside, mixed",
    "tensor parallel",
    "scan",
    "pcast",
    "unchecked gather",
]

DERIVED = ["psum of the same", "all_to_all", "matmul", "grad inside, mixed", "scan"]
EAGER = ["psum of two", "pmax pmin", "all_gather", "psum_scatter", "all_to_all", "ppermute", "scan"]


def mapped(ft, mesh, P, name):
    """Return a case as a function of whole arrays, and its arguments."""
    check = name in CASES
    make, ins, outs, names = (CASES if check else UNCHECKED)[name]
    out_specs = tuple(P(*s) for s in outs) if isinstance(outs, list) else P(*outs)
    f = ft.shard_map(
        make(ft),
        mesh=mesh,
        in_specs=tuple(P(*s) for s in ins),
        out_specs=out_specs,
        check_vma=check,
    )
    return f, [ARGS[n] for n in names]


def total(ft, f):
    """Return a function to a number, which tells every element of the result apart."""

    def of(*args):
        out = f(*args)
        outs = out if isinstance(out, tuple) else (out,)
        return sum(
            (ft.numpy.cos(o) * ft.numpy.arange(1.0, o.size + 1).reshape(o.shape)).sum()
            for o in outs
        )

    return of


def run(ft, mesh, P, gather, few=False):
    """Yield (how, results by name) of all cases, and of derivatives of some.

    With ``few``, of fewer; and operation by operation, of collectives alone.
    """
    functions, arguments = {}, {}
    for name in [*CASES, *UNCHECKED]:
        functions[name], arguments[name] = mapped(ft, mesh, P, name)
        if name in (DERIVED if few else OUTSIDE):
            both = tuple(range(len(arguments[name])))
            functions[f"grad of {name}"] = ft.grad(total(ft, functions[name]), both)
            arguments[f"grad of {name}"] = arguments[name]

    def everything(given):
        return {name: functions[name](*args) for name, args in given.items()}

    yield "compiled", {k: gather(v) for k, v in ft.jit(everything)(arguments).items()}
    chosen = EAGER if few else functions
    eager = everything({name: arguments[name] for name in chosen})
    yield "eager", {k: gather(v) for k, v in eager.items()}
