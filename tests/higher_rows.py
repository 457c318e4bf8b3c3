"""Rows of the op table for the primitives that take programs: loops, branches, rules of one's own.

Each row is a small program in which the primitive stands, written for any dtype that multiplies.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from op_table import BF16, Row

import funtorch as ft
from funtorch import lax
from funtorch.core import aval_of
from funtorch.ops.bits import threefry2x32
from funtorch.ops.elementwise import add, div, mul, square
from funtorch.ops.fft import fft_table
from funtorch.ops.matrices import adjoint
from funtorch.ops.shape import iota
from funtorch.scipy.linalg.divided import matrix_function

# fmt: off
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", BF16, "float32", "float64", "complex64", "complex128",
)
# fmt: on
rng = np.random.default_rng(5)


def scanned(xs: Any) -> list[Any]:
    return list(lax.scan(lambda c, x: (add(mul(c, x), x), mul(c, c)), xs[0], xs))


def looped(n: Any, x: Any) -> Any:
    return lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, add(mul(s[1], x), x)), (0, x))[1]


def branched(flag: Any, x: Any) -> Any:
    return lax.cond(flag, lambda x: mul(x, mul(x, x)), lambda x: add(x, x), x)


@ft.custom_jvp
def own_forward(x: Any) -> Any:
    return mul(x, mul(x, x))


@own_forward.defjvp
def _own_forward_rule(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    square = mul(x, x)
    return mul(x, square), mul(t, add(square, add(square, square)))


@ft.custom_vjp
def own_backward(x: Any) -> Any:
    return mul(x, mul(x, x))


def _backward_rule(x: Any, ct: Any) -> Any:
    square = mul(x, x)
    return (mul(ct, add(square, add(square, square))),)


own_backward.defvjp(lambda x: (mul(x, mul(x, x)), x), _backward_rule)


@ft.custom_batching.custom_vmap
def own_batch(x: Any) -> Any:
    return mul(x, mul(x, x))


@own_batch.def_vmap
def _own_batch_rule(size: int, batched: Any, x: Any) -> Any:
    return mul(x, mul(x, x)), True


def solved(a: Any, b: Any) -> Any:
    """Solve by dividing: the matrix is diagonal."""
    return lax.custom_linear_solve(
        lambda x: mul(a, x), b, lambda _, y: div(y, a), transpose_solve=lambda _, y: div(y, a)
    )


def called_linearly(a: Any, b: Any) -> Any:
    return ft.custom_derivatives.linear_call(lambda r, x: mul(r, x), lambda r, ct: mul(r, ct), a, b)


def quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return b // a if a.dtype.kind in "iu" else b / a


def called_back(x: Any) -> Any:
    like = ft.ShapeDtypeStruct(aval_of(x).shape, aval_of(x).dtype)
    return ft.pure_callback(np.add, like, x, x, vmap_method="expand_dims")


def higher_rows() -> list[Row]:
    """Return the rows."""
    x, y = rng.uniform(0.5, 1.5, (2, 3)), rng.uniform(0.5, 1.5, (2, 3))

    symmetric = np.array([[2.0, 0.5, 0.25], [0.5, 1.0, 0.75], [0.25, 0.75, 3.0]])

    def cube(v: Any) -> Any:
        return v * v * v

    return [
        Row("scan", scanned, [(x,), (y,)], scan_reference),
        Row("while", looped, [(np.int32(2) + np.zeros((), np.int32), x)], while_reference),
        Row("cond", branched, [(np.array(True), x), (np.array(False), x)], cond_reference),
        Row("custom_jvp_call", own_forward, [(x,), (y,)], cube),
        Row("custom_vjp_call", own_backward, [(x,), (y,)], cube),
        Row("custom_vmap_call", own_batch, [(x,), (y,)], cube),
        Row("jit", ft.jit(own_cube), [(x,), (y,)], cube),
        Row("remat", ft.checkpoint(own_cube), [(x,), (y,)], cube),
        Row("sow", lambda x: mul(ft.sow(mul(x, x), name="square"), x), [(x,), (y,)], cube),
        Row("custom_linear_solve", solved, [(x + 1, y), (y + 1, x)], quotient),
        Row("linear_call", called_linearly, [(x, y), (y, x)], lambda a, b: a * b),
        Row("numeric", ft.scipy.special.i0e, [(x,), (y,)], i0e_reference),
        *(
            Row(
                f"matrix_function-{hermitian}",
                partial(function_of_matrix, hermitian=hermitian),
                [(symmetric,), (symmetric[::-1].copy(),)],
                partial(exponential, hermitian=hermitian),
                ulps=256,
            )
            for hermitian in (True, False)
        ),
        Row("pure_callback", called_back, [(x,), (y,)], lambda x: x + x, differentiable=False),
        *(
            Row(
                f"iota-{dtype}",
                partial(iota, shape=(2, 3), axis=1, dtype=np.dtype(dtype)),
                [()],
                partial(np.array, [[0, 1, 2]] * 2, np.dtype(dtype)),
            )
            for dtype in DTYPES
        ),
        *(
            Row(
                f"fft_table-{dtype}",
                partial(fft_table, what="roots", n=5, size=7, dtype=np.dtype(dtype)),
                [()],
                lambda: np.exp(-2j * np.pi * np.arange(7) / 5),
            )
            for dtype in ("complex64", "complex128")
        ),
        Row(
            "threefry2x32",
            threefry2x32,
            [tuple(rng.integers(0, 2**32, (4, 3), np.uint32))],
            threefry_reference,
        ),
    ]


def function_of_matrix(x: Any, hermitian: bool) -> Any:
    x = add(x, adjoint(x)) if hermitian else add(x, square(x))
    return matrix_function(x, ft.numpy.exp, hermitian)


def exponential(x: np.ndarray, hermitian: bool) -> np.ndarray:
    w, v = np.linalg.eig(x + (x.conj().T if hermitian else x * x))
    return (v * np.exp(w)) @ np.linalg.inv(v)


def own_cube(x: Any) -> Any:
    return mul(x, mul(x, x))


def scan_reference(xs: np.ndarray) -> list[np.ndarray]:
    c, seen = xs[0], []
    for x in xs:
        seen.append(c * c)
        c = c * x + x
    return [c, np.stack(seen)]


def while_reference(n: np.ndarray, x: np.ndarray) -> np.ndarray:
    out = x
    for _ in range(int(n)):
        out = out * x + x
    return out


def cond_reference(flag: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x * x * x if flag else x + x


def i0e_reference(x: np.ndarray) -> np.ndarray:
    """The Fourier integral of exp(x cos t) by the trapezoidal rule, which converges at once."""
    t = np.linspace(0, 2 * np.pi, 65)[:-1]
    return np.exp(np.multiply.outer(x, np.cos(t)) - np.abs(x)[..., None]).mean(-1)


def threefry_reference(*words: np.ndarray) -> list[np.ndarray]:
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011, "Parallel random numbers"), word by word."""
    outs = [np.empty_like(words[0]), np.empty_like(words[0])]
    for at in np.ndindex(words[0].shape):
        k0, k1, a, b = (int(w[at]) for w in words)
        keys = (k0, k1, k0 ^ k1 ^ 0x1BD11BDA)
        a, b = (a + k0) % 2**32, (b + k1) % 2**32
        for r in range(20):
            turn = ((13, 15, 26, 6), (17, 29, 16, 24))[r // 4 % 2][r % 4]
            a = (a + b) % 2**32
            b = (b << turn | b >> (32 - turn)) % 2**32 ^ a
            if r % 4 == 3:
                step = r // 4 + 1
                a = (a + keys[step % 3]) % 2**32
                b = (b + keys[(step + 1) % 3] + step) % 2**32
        outs[0][at], outs[1][at] = a, b
    return outs
