"""Work done by library routines: random numbers, gathers, sorting, FFT, linear algebra."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.harness import Run, Target, row

DRAWS = 10_000_000


@row("normal", "random normal, 10M", Target(1.5), agree=None)
def normal(lib: ModuleType) -> Run:
    f, key = lib.jit(lambda key: lib.random.normal(key, (DRAWS,))), lib.random.PRNGKey(0)
    return lambda: f(key)


@normal.also("torch")
def _(torch: ModuleType) -> Run:
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(DRAWS, generator=generator)


WORDS, WIDTH, TOKENS = 50_000, 64, 4096


def embedding_args() -> tuple[np.ndarray, ...]:
    """Return the table, the words read from it, and a cotangent."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(WORDS, WIDTH)).astype(np.float32),
        rng.integers(0, WORDS, TOKENS).astype(np.int32),
        rng.normal(size=(TOKENS, WIDTH)).astype(np.float32),
    )


@row("embedding", "embedding gradient, 50k x 64, 4096 tokens", Target(1.5))
def embedding(lib: ModuleType) -> Run:
    table, words, ct = (lib.numpy.asarray(x) for x in embedding_args())
    f = lib.jit(lib.grad(lambda table, words, ct: (table[words] * ct).sum()))
    return lambda: f(table, words, ct)


@embedding.also("torch")
def _(torch: ModuleType) -> Run:
    table, words, ct = (torch.tensor(x) for x in embedding_args())
    table.requires_grad_()
    return lambda: torch.autograd.grad(torch.nn.functional.embedding(words, table), table, ct)[0]


SORTED, TRANSFORMED = 1_000_000, 2**20


def numbers(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=size).astype(np.float32)


@row("sort", "sort, 1M", Target(1.0), agree=0.0)
def sort(lib: ModuleType) -> Run:
    x, f = lib.numpy.asarray(numbers(SORTED)), lib.jit(lib.numpy.sort)
    return lambda: f(x)


@sort.also("torch")
def _(torch: ModuleType) -> Run:
    x = torch.tensor(numbers(SORTED))
    return lambda: torch.sort(x).values


def waves() -> np.ndarray:
    return (numbers(TRANSFORMED) + 1j * numbers(TRANSFORMED)[::-1]).astype(np.complex64)


@row("fft", "FFT of 2^20 complex numbers", Target(1.0))
def fft(lib: ModuleType) -> Run:
    x, f = lib.numpy.asarray(waves()), lib.jit(lib.numpy.fft.fft)
    return lambda: f(x)


@fft.also("torch")
def _(torch: ModuleType) -> Run:
    x = torch.tensor(waves())
    return lambda: torch.fft.fft(x)


def symmetric(n: int) -> np.ndarray:
    a = numbers(n * n).reshape(n, n)
    return (a + a.T) / 2


def definite(n: int) -> np.ndarray:
    a = numbers(n * n).reshape(n, n)
    return (a @ a.T / n + np.eye(n)).astype(np.float32)


@row("cholesky", "Cholesky and its gradient, 512 x 512", Target(1.0))
def cholesky(lib: ModuleType) -> Run:
    ct = lib.numpy.asarray(symmetric(512))
    f = lib.jit(lib.grad(lambda a, ct: (lib.numpy.linalg.cholesky(a) * ct).sum()))
    a = lib.numpy.asarray(definite(512))
    return lambda: f(a, ct)


@cholesky.also("torch")
def _(torch: ModuleType) -> Run:
    a, ct = torch.tensor(definite(512), requires_grad=True), torch.tensor(symmetric(512)).tril()
    return lambda: torch.autograd.grad(torch.linalg.cholesky(a), a, ct)[0]


# Eigenvectors have no sign that all must agree on.
@row("eigh", "eigh, 256 x 256", Target(1.0), agree=None)
def eigh(lib: ModuleType) -> Run:
    def both(a: Any) -> Any:
        w, v = lib.numpy.linalg.eigh(a)
        return w, v

    a, f = lib.numpy.asarray(symmetric(256)), lib.jit(both)
    return lambda: f(a)


@eigh.also("torch")
def _(torch: ModuleType) -> Run:
    a = torch.tensor(symmetric(256))
    return lambda: tuple(torch.linalg.eigh(a))
