"""cuBLAS and cuSOLVER on the stand-in for a GPU, through NumPy.

Every matrix is checked against the memory that there is, every number against the type that the
headers of CUDA 12.9 give its parameter; types of data and of sums are the numbers of these headers.
What is asked for is done in the order of the stream, and writes NaN into what the libraries leave
undefined.
"""

import ctypes
import inspect
from typing import ClassVar

import numpy as np
from fake_cupy import BF16, cuda, memory_at

# cudaDataType_t of library_types.h: CUDA_R_32F, _64F, _16F, _16BF, CUDA_C_32F, _64F, _R_8I, _32I
DTYPES = {0: np.dtype("f4"), 1: np.dtype("f8"), 2: np.dtype("f2"), 14: BF16, 4: np.dtype("c8"),
          5: np.dtype("c16"), 3: np.dtype("i1"), 10: np.dtype("i4")}  # fmt: skip
LETTERS = {"S": np.dtype("f4"), "D": np.dtype("f8"), "C": np.dtype("c8"), "Z": np.dtype("c16")}


def tf32(x):
    """Round float32 numbers to 10 bits after the point, as tensor cores do."""
    bits = np.ascontiguousarray(x).view(np.uint32) + 0x1000
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def flat(address, dtype, count):
    """Return elements of the GPU's memory."""
    dtype = np.dtype(dtype)
    assert cuda.region(address)[1] >= count * dtype.itemsize, "a library out of bounds"
    assert address % dtype.itemsize == 0, "a library's array is not aligned"
    return np.ndarray((count,), dtype, memory_at(address, count * dtype.itemsize))


def matrices(address, dtype, ld, rows, columns, stride=0, batch=1):
    """Return matrices that lie column by column, (batch, rows, columns)."""
    dtype = np.dtype(dtype)
    assert ld >= max(rows, 1), "a leading dimension is less than the rows of a column"
    extent = (batch - 1) * stride + (columns - 1) * ld + rows
    steps = tuple(s * dtype.itemsize for s in (stride, 1, ld))
    held = flat(address, dtype, extent)
    return np.lib.stride_tricks.as_strided(held, (batch, rows, columns), steps)


def matrix(address, dtype, ld, rows, columns):
    return matrices(address, dtype, ld, rows, columns)[0]


def host(address, dtype):
    """Return one number of the CPU's memory."""
    dtype = np.dtype(dtype)
    raw = (ctypes.c_uint8 * dtype.itemsize).from_address(address)
    return np.frombuffer(raw, dtype)


class Fake:
    """A library: methods are its functions; their ``?`` stands for the letter of a dtype."""

    stream = None
    made = 0

    def __getattr__(self, name):
        for own in dir(type(self)):
            pattern = own.replace("ANY", "?")
            if own.startswith("cu") and len(pattern) == len(name):
                letters = [c for c, p in zip(name, pattern, strict=True) if p == "?"]
                if all(p in ("?", c) for c, p in zip(name, pattern, strict=True)):
                    method = object.__getattribute__(self, own)
                    setattr(self, name, self._call(name, method, letters))
                    return self.__dict__[name]
        raise AttributeError(name)

    def __getattribute__(self, name):
        if name.startswith("cu") and name not in object.__getattribute__(self, "__dict__"):
            raise AttributeError(name)  # by way of __getattr__, which wraps it
        return object.__getattribute__(self, name)

    def _call(self, name, method, letters):
        given = [LETTERS[letters[0]]] if letters else []
        count = len(inspect.signature(method).parameters) - len(given)

        def function(*args):
            assert len(args) == len(function.argtypes) == count, (name, len(args), count)
            for x, kind in zip(args, function.argtypes, strict=True):
                if kind is not ctypes.c_void_p:
                    assert type(x) is int, (name, x)
                    assert kind(x).value == x, (name, x)
            found = method(*given, *args)
            return 0 if found is None else found

        return function

    def _do(self, what, *sizes):
        def later(action):
            assert self.stream is not None, "no stream was given"
            cuda._do((what, *sizes), action, self.stream)

        return later


class FakeBlas(Fake):
    """cuBLAS."""

    # cublasComputeType_t of cublas_api.h, and the types of A and B, C, alpha and beta that the
    # table of cublasGemmEx in cuBLAS's documentation has for it
    COMPUTE: ClassVar = {
        (68, 0, 0): "f4", (77, 0, 0): "f4", (70, 1, 1): "f8", (68, 2, 2): "f4", (68, 2, 0): "f4",
        (68, 14, 14): "f4", (68, 14, 0): "f4", (68, 4, 4): "c8", (70, 5, 5): "c16",
        (72, 3, 10): "i4",
    }  # fmt: skip
    workspace = None

    def cublasCreate_v2(self, handle):
        handle._obj.value = 77

    def cublasSetMathMode(self, handle, mode):
        assert mode == 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION

    def cublasSetStream_v2(self, handle, stream):
        self.stream, self.workspace = stream, None

    def cublasSetWorkspace_v2(self, handle, address, size):
        assert address % 256 == 0
        assert cuda.region(address)[1] >= size
        self.workspace = address

    def cublasGemmStridedBatchedEx(
        self, handle, ta, tb, m, n, k, alpha, a, ka, lda, sa, b, kb, ldb, sb, beta, c, kc,
        ldc, sc, batch, compute, algorithm
    ):  # fmt: skip
        assert self.workspace is not None, "cuBLAS would allocate a workspace"
        assert {ta, tb} <= {0, 1}
        assert algorithm == -1
        assert ka == kb
        factor = np.dtype(self.COMPUTE[compute, ka, kc])
        assert (host(alpha, factor), host(beta, factor)) == (1, 0)
        if ka == 3:
            assert not any(n % 4 for n in (lda, ldb, a, b, sa, sb, k))
            assert (ta, tb) == (1, 0), "only these have kernels for tensor cores"

        @self._do("gemm", batch, m, n, k, compute, ka, kc)
        def run():
            left = matrices(a, DTYPES[ka], lda, *((k, m) if ta else (m, k)), sa, batch)
            right = matrices(b, DTYPES[kb], ldb, *((n, k) if tb else (k, n)), sb, batch)
            out = matrices(c, DTYPES[kc], ldc, m, n, sc, batch)
            left, right = (x.astype(factor) for x in (left, right))
            if compute == 77:
                left, right = (tf32(x) for x in (left, right))
            left = left.transpose(0, 2, 1) if ta else left
            right = right.transpose(0, 2, 1) if tb else right
            with np.errstate(all="ignore"):
                out[...] = np.matmul(left, right)

    def _trsm(self, dtype, side, uplo, trans, diag, m, n, alpha, lefts, lda, rights, ldb):
        assert side == 1, "only X op(A) = B is expected"
        assert host(alpha, dtype) == 1
        for a, b in zip(lefts, rights, strict=True):
            left, x = matrix(a, dtype, lda, n, n), matrix(b, dtype, ldb, m, n)
            left = np.tril(left) if uplo == 0 else np.triu(left)
            if diag:
                left[np.diag_indices(n)] = 1
            left = (left, left.T, left.conj().T)[trans]
            try:
                x[...] = np.linalg.solve(left.T, x.T).T
            except np.linalg.LinAlgError:
                x[...] = np.inf

    def cublasANYtrsm_v2(
        self, dtype, handle, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb
    ):  # fmt: skip
        args = side, uplo, trans, diag, m, n, alpha, [a], lda, [b], ldb
        self._do("trsm", m, n)(lambda: self._trsm(dtype, *args))

    def cublasANYtrsmBatched(
        self, dtype, handle, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb, batch
    ):
        @self._do("trsm", m, n, batch)
        def run():
            left, right = (flat(x, np.uint64, batch).tolist() for x in (a, b))
            self._trsm(dtype, side, uplo, trans, diag, m, n, alpha, left, lda, right, ldb)

    def cublasANYgetrfBatched(self, dtype, handle, n, a, lda, pivots, info, batch):
        @self._do("getrf", n, n, batch)
        def run():
            for k, address in enumerate(flat(a, np.uint64, batch).tolist()):
                held = matrix(address, dtype, lda, n, n)
                found = flat(pivots, np.int32, batch * n)[k * n : (k + 1) * n]
                flat(info, np.int32, batch)[k] = factorise(held, found)

    def cublasANYgetrsBatched(
        self, dtype, handle, trans, n, count, a, lda, pivots, b, ldb, info, batch
    ):
        assert trans == 0

        @self._do("getrs", n, count, batch)
        def run():
            pairs = zip(*(flat(x, np.uint64, batch).tolist() for x in (a, b)), strict=True)
            for k, (left, right) in enumerate(pairs):
                rows = flat(pivots, np.int32, batch * n)[k * n : (k + 1) * n]
                args = matrix(left, dtype, lda, n, n), rows, matrix(right, dtype, ldb, n, count)
                substitute(*args)

        host(info, np.int32)[0] = 0


def factorise(a, pivots):
    """Eliminate in place; return the number of the first pivot that is 0, counted from 1."""
    m, n = a.shape
    failed = 0
    for j in range(min(m, n)):
        p = j + int(np.argmax(np.abs(a[j:, j].real) + np.abs(a[j:, j].imag)))
        pivots[j] = p + 1
        a[[j, p]] = a[[p, j]]
        if a[j, j] == 0:
            failed = failed or j + 1
            continue
        a[j + 1 :, j] /= a[j, j]
        a[j + 1 :, j + 1 :] -= np.outer(a[j + 1 :, j], a[j, j + 1 :])
    return failed


def substitute(a, pivots, b):
    n = len(a)
    for j, p in enumerate(pivots):
        b[[j, p - 1]] = b[[p - 1, j]]
    low, up = np.tril(a, -1) + np.eye(n, dtype=a.dtype), np.triu(a)
    try:
        b[...] = np.linalg.solve(up, np.linalg.solve(low, b))
    except np.linalg.LinAlgError:
        b[...] = np.inf


DEVICE, HOST = 256, 16  # bytes that functions ask for


class FakeSolver(Fake):
    """cuSOLVER."""

    def cusolverDnCreate(self, handle):
        handle._obj.value = 79

    def cusolverDnCreateParams(self, params):
        params._obj.value = 80

    def cusolverDnSetStream(self, handle, stream):
        self.stream = stream

    def _sizes(self, device, here):
        assert not cuda._capturing
        device._obj.value, here._obj.value = DEVICE, HOST

    def _asked(self, device, size, here, count):
        assert (size, count) == (DEVICE, HOST)
        flat(device, np.uint8, size)
        (ctypes.c_uint8 * count).from_address(here)

    def cusolverDnXpotrf_bufferSize(
        self, handle, params, uplo, n, kind, a, lda, compute, device, here
    ):
        self._sizes(device, here)

    def cusolverDnXpotrf(
        self, handle, params, uplo, n, kind, a, lda, compute, device, size, here, count, info
    ):
        self._asked(device, size, here, count)
        assert compute == kind
        self._do("potrf", n)(lambda: self._potrf(DTYPES[kind], uplo, n, [a], lda, info))

    def _potrf(self, dtype, uplo, n, addresses, lda, info):
        assert uplo == 0
        for k, a in enumerate(addresses):
            x = matrix(a, dtype, lda, n, n)
            low, report = np.tril(x), flat(info, np.int32, len(addresses))
            try:
                full = low + np.tril(low, -1).conj().T
                x[np.tril_indices(n)] = np.linalg.cholesky(full)[np.tril_indices(n)]
                report[k] = 0
            except np.linalg.LinAlgError:
                report[k] = 1

    def cusolverDnANYpotrfBatched(self, dtype, handle, uplo, n, a, lda, info, batch):
        @self._do("potrf", n, batch)
        def run():
            self._potrf(dtype, uplo, n, flat(a, np.uint64, batch).tolist(), lda, info)

    def cusolverDnXgetrf_bufferSize(
        self, handle, params, m, n, kind, a, lda, compute, device, here
    ):  # fmt: skip
        self._sizes(device, here)

    def cusolverDnXgetrf(
        self, handle, params, m, n, kind, a, lda, pivots, compute, device, size, here, count, info
    ):
        self._asked(device, size, here, count)
        assert compute == kind

        @self._do("getrf", m, n)
        def run():
            found = flat(pivots, np.int64, min(m, n))
            flat(info, np.int32, 1)[0] = factorise(matrix(a, DTYPES[kind], lda, m, n), found)

    def cusolverDnXgetrs(
        self, handle, params, trans, n, count, kind, a, lda, pivots, kind_b, b, ldb, info
    ):
        assert trans == 0
        assert kind == kind_b

        @self._do("getrs", n, count)
        def run():
            left, right = matrix(a, DTYPES[kind], lda, n, n), matrix(b, DTYPES[kind], ldb, n, count)
            substitute(left, flat(pivots, np.int64, n), right)
            flat(info, np.int32, 1)[0] = 0

    def cusolverDnXgeqrf_bufferSize(
        self, handle, params, m, n, kind, a, lda, kind_tau, tau, compute, device, here
    ):
        self._sizes(device, here)

    def cusolverDnXgeqrf(
        self, handle, params, m, n, kind, a, lda, kind_tau, tau, compute, device, size, here,
        count, info
    ):  # fmt: skip
        self._asked(device, size, here, count)
        assert compute == kind == kind_tau

        @self._do("geqrf", m, n)
        def run():
            x = matrix(a, DTYPES[kind], lda, m, n)
            packed, taus = np.linalg.qr(x, mode="raw")
            x[...], flat(tau, DTYPES[kind], min(m, n))[...] = packed.T, taus
            flat(info, np.int32, 1)[0] = 0

    def cusolverDnANYANYANYgqr_bufferSize(self, dtype, handle, m, n, k, a, lda, tau, size):
        host(size, np.int32)[0] = DEVICE

    def cusolverDnANYANYANYgqr(self, dtype, handle, m, n, k, a, lda, tau, work, size, info):
        assert size == DEVICE
        assert m >= n >= k
        flat(work, dtype, size)

        @self._do("orgqr", m, n, k)
        def run():
            x, taus = matrix(a, dtype, lda, m, n), flat(tau, dtype, k)
            q = np.eye(m, n, dtype=dtype)
            for j in reversed(range(k)):
                v = np.concatenate([np.zeros(j), [1], x[j + 1 :, j]]).astype(dtype)
                q -= taus[j] * np.outer(v, v.conj() @ q)
            x[...] = q
            flat(info, np.int32, 1)[0] = 0

    def cusolverDnXsyevd_bufferSize(
        self, handle, params, job, uplo, n, kind, a, lda, kind_w, w, compute, device, here
    ):
        self._sizes(device, here)

    def cusolverDnXsyevd(
        self, handle, params, job, uplo, n, kind, a, lda, kind_w, w, compute, device, size, here,
        count, info
    ):  # fmt: skip
        self._asked(device, size, here, count)
        self._do("syev", n)(lambda: self._syev(job, uplo, n, kind, a, lda, kind_w, w, info, 1))

    def cusolverDnXsyevBatched_bufferSize(
        self, handle, params, job, uplo, n, kind, a, lda, kind_w, w, compute, device, here, batch
    ):
        self._sizes(device, here)

    def cusolverDnXsyevBatched(
        self, handle, params, job, uplo, n, kind, a, lda, kind_w, w, compute, device, size, here,
        count, info, batch
    ):  # fmt: skip
        self._asked(device, size, here, count)
        given = job, uplo, n, kind, a, lda, kind_w, w, info, batch
        self._do("syev", n, batch)(lambda: self._syev(*given))

    def _syev(self, job, uplo, n, kind, a, lda, kind_w, w, info, batch):
        assert uplo == 0
        x = matrices(a, DTYPES[kind], lda, n, n, lda * n, batch)
        low = np.tril(x)
        assert np.isfinite(low).all(), "who knows what cuSOLVER does with these"
        values, vectors = np.linalg.eigh(low + np.tril(low, -1).conj().swapaxes(-1, -2))
        assert DTYPES[kind_w] == values.dtype
        flat(w, DTYPES[kind_w], batch * n)[...] = values.ravel()
        x[...] = vectors if job else np.nan
        flat(info, np.int32, batch)[...] = 0

    def cusolverDnXgesvd_bufferSize(
        self, handle, params, jobu, jobv, m, n, kind, a, lda, kind_s, s, kind_u, u, ldu, kind_v, v,
        ldv, compute, device, here
    ):  # fmt: skip
        assert m >= n, "Xgesvd takes tall matrices only"
        self._sizes(device, here)

    def cusolverDnXgesvd(
        self, handle, params, jobu, jobv, m, n, kind, a, lda, kind_s, s, kind_u, u, ldu, kind_v, v,
        ldv, compute, device, size, here, count, info
    ):  # fmt: skip
        self._asked(device, size, here, count)
        assert m >= n
        assert jobu == jobv
        assert kind == kind_u == kind_v == compute

        @self._do("gesvd", m, n)
        def run():
            x = matrix(a, DTYPES[kind], lda, m, n)
            assert np.isfinite(x).all(), "who knows what cuSOLVER does with these"
            left, values, right = np.linalg.svd(x, full_matrices=chr(jobu) == "A")
            assert DTYPES[kind_s] == values.dtype
            flat(s, DTYPES[kind_s], n)[...] = values
            if chr(jobu) != "N":
                matrix(u, DTYPES[kind], ldu, *left.shape)[...] = left
                matrix(v, DTYPES[kind], ldv, n, n)[...] = right
            x[...] = np.nan
            flat(info, np.int32, 1)[0] = 0
