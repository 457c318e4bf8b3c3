"""Programs whose Python decides by values: `if`, `while`, `and`, `or`, `not`, `assert`, `return`.

SMOOTH are differentiable functions of one number, with points at which no decision is close.
DISCRETE are functions of integers or arrays. They hold as plain Python, on NumPy numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funtorch.numpy as jnp


class Program(NamedTuple):
    """A function, and what to call it with: one argument, or tuple of arguments, per call."""

    fun: Callable[..., Any]
    points: list[Any]


# ------------------------------------------------------------------------------------ smooth
def distance(x):
    return x * x if x > 0 else -x


def newton_root(a):
    x, dx = a, 1.0
    while abs(dx) > 1e-4:
        dx = (x * x - a) / (2 * x)
        x = x - dx
    return x


def series_of_exp(x):
    """Add terms until they do not count."""
    total, term = 1.0 + 0 * x, 1.0 + 0 * x
    for n in range(1, 60):
        term = term * x / n
        total = total + term
        if abs(term) < 1e-4:
            return total
    return total


def tree(x):
    """Decide by several features, as a decision tree does."""
    y = jnp.sin(3 * x)
    if x > 1.0 and not y > 0.5:
        return x * y if y < -0.5 or x > 3.0 else x + y
    if x < -1.0 or (y > 0.0 and x < 0.5):
        return jnp.cos(x)
    return x**3


def huber(x):
    assert abs(x) < 100.0, "too far out"
    if not abs(x) < 1.5:
        sign = 1.0 if x > 0 else -1.0
        return 1.5 * sign * x - 1.125
    return 0.5 * x * x


def folded(x):
    """Leave a nest of loops early."""
    total = 0.0 * x
    for i in range(3):
        for j in range(3):
            total = total + x * (i + j)
            if total > 4.0:
                break
        else:
            continue
        if total > 6.0:
            break
        total = total - 1.0
    return total * total


SMOOTH = {
    "distance": Program(distance, [2.0, -3.0, 0.5]),
    "newton_root": Program(newton_root, [2.0, 9.5, 30.0]),
    "series_of_exp": Program(series_of_exp, [0.1, -0.5, 1.0]),
    "tree": Program(tree, [1.2, -1.7, 0.3]),
    "huber": Program(huber, [0.7, -4.0, 2.0]),
    "folded": Program(folded, [0.3, 1.7, -0.6]),
}


# ---------------------------------------------------------------------------------- discrete
def mandelbrot(c, n=24):
    z = 0 * c
    for i in range(n):
        if abs(z) > 2:
            return i
        z = z * z + c
    return n


def collatz(n):
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def gcd(pair):
    a, b = pair
    while b:
        a, b = b, a % b
    return a


def bisection(a):
    low, high = 0.0 * a, a + 1.0
    for _ in range(12):
        middle = (low + high) / 2
        if middle**3 > a:
            high = middle
        else:
            low = middle
    return low, high


def parse(tokens):
    """Sum runs of tokens: 0 ends, 1 adds, 2 doubles, what is negative is an error."""
    total, k = 0, 0
    while k < len(tokens):
        token = tokens[k]
        if token < 0:
            return {"value": -1, "at": k}
        if token == 0:
            return {"value": total, "at": k}
        if token == 1 and k + 1 < len(tokens):
            total = total + tokens[k + 1]
            k += 2
            continue
        total = total * 2
        k += 1
    return {"value": total, "at": k}


def bubble_sort(xs):
    xs = [xs[k] for k in range(4)]
    for end in range(3, 0, -1):
        for k in range(end):
            if xs[k] > xs[k + 1]:
                xs[k], xs[k + 1] = xs[k + 1], xs[k]
    return jnp.stack([jnp.asarray(x) for x in xs])


def largest(xs):
    """Python's own functions compare."""
    return max(xs[0], xs[1], xs[2]), min(xs[1], xs[3]), sorted([xs[3], xs[0]])[0]


def _ints(*values):
    return [np.int32(v) for v in values]


DISCRETE = {
    "mandelbrot": Program(
        mandelbrot,
        [np.complex64(c) for c in (0.1 + 0.1j, 1 + 1j, -2.1 + 0j, -0.7 + 0.4j, 0.3 + 0.6j)],
    ),
    "collatz": Program(collatz, _ints(1, 6, 7, 16, 19)),
    "gcd": Program(gcd, [np.array(p, np.int32) for p in ((12, 18), (7, 0), (17, 5), (270, 192))]),
    "bisection": Program(bisection, [np.float64(a) for a in (2.0, 30.0, 0.4)]),
    "parse": Program(
        parse,
        [
            np.array(t, np.int32)
            for t in ((1, 5, 2, 0, 9), (0, 1, 1, 1, 1), (2, 1, 3, -4, 0), (1, 1, 1, 1, 1))
        ],
    ),
    "bubble_sort": Program(
        bubble_sort, [np.array(t, np.float32) for t in ((3, 1, 2, 0), (1, 2, 3, 4), (4, 4, 1, 2))]
    ),
    "largest": Program(
        largest, [np.array(t, np.float32) for t in ((3, 1, 2, 0), (1, 2, 3, 4), (4, 4, 5, 2))]
    ),
}
