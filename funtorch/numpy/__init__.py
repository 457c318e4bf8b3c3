"""The functions of NumPy, with the names and semantics of jax.numpy.

They take Arrays, tracers, NumPy arrays and numbers (lists hide slow conversions), promote dtypes
by the lattice of `funtorch.dtypes`, and can be differentiated, batched and compiled. Importing the
package also attaches the operators, methods and protocols of `Array`.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from funtorch.core import Array
from funtorch.dtypes import finfo, iinfo, issubdtype, promote_types
from funtorch.numpy import linalg, methods, protocols
from funtorch.numpy.calculus import (
    convolve, corrcoef, correlate, cov, diff, ediff1d, gradient, interp, polyadd, polyder,
    polyint, polymul, polysub, polyval, trapezoid, unwrap,
)
from funtorch.numpy.contractions import (
    cross, diagonal, dot, einsum, einsum_path, inner, kron, matmul, matvec, outer, tensordot,
    trace, vdot, vecdot, vecmat,
)
from funtorch.numpy.creation import (
    arange, astype, bartlett, blackman, copy, diag, diag_indices, diag_indices_from, diagflat,
    empty, empty_like, eye, from_dlpack, frombuffer, fromfunction, full, full_like, geomspace,
    hamming, hanning, identity, indices, ix_, linspace, logspace, meshgrid, ones, ones_like, tri,
    tril, tril_indices, tril_indices_from, triu, triu_indices, triu_indices_from, vander, zeros,
    zeros_like,
)
from funtorch.numpy.elementwise import (
    abs, absolute, acos, acosh, add, allclose, angle, arccos, arccosh, arcsin, arcsinh, arctan,
    arctan2, arctanh, around, array_equal, array_equiv, asin, asinh, atan, atan2, atanh,
    bitwise_and, bitwise_count, bitwise_invert, bitwise_left_shift, bitwise_not, bitwise_or,
    bitwise_right_shift, bitwise_xor, cbrt, ceil, clip, conj, conjugate, copysign, cos, cosh,
    deg2rad, degrees, divide, divmod, equal, exp, exp2, expm1, fabs, fix, float_power, floor,
    floor_divide, fmax, fmin, fmod, greater, greater_equal, heaviside, hypot, imag, invert,
    isclose, iscomplex, iscomplexobj, isfinite, isinf, isnan, isneginf, isposinf, isreal,
    isrealobj, isscalar, ldexp, left_shift, less, less_equal, log, log1p, log2, log10, logaddexp,
    logaddexp2, logical_and, logical_not, logical_or, logical_xor, maximum, minimum, mod, modf,
    multiply, nan_to_num, negative, nextafter, not_equal, positive, pow, power, rad2deg, radians,
    real, reciprocal, remainder, right_shift, rint, round, select, sign, signbit, sin, sinc, sinh,
    sqrt, square, subtract, tan, tanh, true_divide, trunc,
)
from funtorch.numpy.indexing import put_along_axis, take, take_along_axis
from funtorch.numpy.manipulation import (
    append, array_split, atleast_1d, atleast_2d, atleast_3d, block, column_stack, concat,
    concatenate, dsplit, dstack, expand_dims, flip, fliplr, flipud, hsplit, hstack,
    matrix_transpose, moveaxis, ndim, pad, permute_dims, ravel, repeat, reshape, resize, roll,
    rollaxis, rot90, shape, size, split, squeeze, stack, swapaxes, tile, transpose, unstack,
    vsplit, vstack,
)
from funtorch.numpy.promotion import (
    array, asarray, broadcast_arrays, broadcast_shapes, broadcast_to, result_type,
)
from funtorch.numpy.reductions import (
    all, amax, amin, any, argmax, argmin, average, count_nonzero, cumprod, cumsum,
    cumulative_prod, cumulative_sum, max, mean, median, min, nanargmax, nanargmin, nancumprod,
    nancumsum, nanmax, nanmean, nanmedian, nanmin, nanpercentile, nanprod, nanquantile, nanstd,
    nansum, nanvar, percentile, prod, ptp, quantile, std, sum, var,
)
from funtorch.numpy.scalars import (
    bfloat16, bool_, complex64, complex128, float16, float32, float64, int8, int16, int32, int64,
    uint8, uint16, uint32, uint64,
)
from funtorch.numpy.sorting import (
    argsort, argwhere, bincount, compress, delete, digitize, extract, flatnonzero, histogram,
    histogram_bin_edges, insert, intersect1d, isin, lexsort, nonzero, partition, searchsorted,
    setdiff1d, setxor1d, sort, union1d, unique, unique_counts, unique_inverse, unique_values,
    where,
)

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "all", "allclose", "amax", "amin", "angle", "any",
    "append", "arange", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh",
    "argmax", "argmin", "argsort", "argwhere", "around", "array", "array_equal", "array_equiv",
    "array_split", "asarray", "asin", "asinh", "astype", "atan", "atan2", "atanh", "atleast_1d",
    "atleast_2d", "atleast_3d", "average", "bartlett", "bfloat16", "bincount", "bitwise_and",
    "bitwise_count", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "blackman", "block", "bool", "bool_",
    "broadcast_arrays", "broadcast_shapes", "broadcast_to", "cbrt", "cdouble", "ceil", "clip",
    "column_stack", "complex128", "complex64", "complex_", "complexfloating", "compress",
    "concat", "concatenate", "conj", "conjugate", "convolve", "copy", "copysign", "corrcoef",
    "correlate", "cos", "cosh", "count_nonzero", "cov", "cross", "csingle", "cumprod", "cumsum",
    "cumulative_prod", "cumulative_sum", "deg2rad", "degrees", "delete", "diag", "diag_indices",
    "diag_indices_from", "diagflat", "diagonal", "diff", "digitize", "divide", "divmod", "dot",
    "double", "dsplit", "dstack", "dtype", "e", "ediff1d", "einsum", "einsum_path", "empty",
    "empty_like", "equal", "euler_gamma", "exp", "exp2", "expand_dims", "expm1", "extract", "eye",
    "fabs", "finfo", "fix", "flatnonzero", "flip", "fliplr", "flipud", "float16", "float32",
    "float64", "float_", "float_power", "floating", "floor", "floor_divide", "fmax", "fmin",
    "fmod", "from_dlpack", "frombuffer", "fromfunction", "full", "full_like", "generic",
    "geomspace", "gradient", "greater", "greater_equal", "hamming", "hanning", "heaviside",
    "histogram", "histogram_bin_edges", "hsplit", "hstack", "hypot", "identity", "iinfo", "imag",
    "indices", "inexact", "inf", "inner", "insert", "int16", "int32", "int64", "int8", "int_",
    "integer", "interp", "intersect1d", "invert", "isclose", "iscomplex", "iscomplexobj",
    "isfinite", "isin", "isinf", "isnan", "isneginf", "isposinf", "isreal", "isrealobj",
    "isscalar", "issubdtype", "ix_", "kron", "ldexp", "left_shift", "less", "less_equal",
    "lexsort", "linalg", "linspace", "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2",
    "logical_and", "logical_not", "logical_or", "logical_xor", "logspace", "matmul",
    "matrix_transpose", "matvec", "max", "maximum", "mean", "median", "meshgrid", "min",
    "minimum", "mod", "modf", "moveaxis", "multiply", "nan", "nan_to_num", "nanargmax",
    "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin",
    "nanpercentile", "nanprod", "nanquantile", "nanstd", "nansum", "nanvar", "ndarray", "ndim",
    "negative", "newaxis", "nextafter", "nonzero", "not_equal", "number", "ones", "ones_like",
    "outer", "pad", "partition", "percentile", "permute_dims", "pi", "polyadd", "polyder",
    "polyint", "polymul", "polysub", "polyval", "positive", "pow", "power", "prod",
    "promote_types", "ptp", "put_along_axis", "quantile", "rad2deg", "radians", "ravel", "real",
    "reciprocal", "remainder", "repeat", "reshape", "resize", "result_type", "right_shift",
    "rint", "roll", "rollaxis", "rot90", "round", "searchsorted", "select", "setdiff1d",
    "setxor1d", "shape", "sign", "signbit", "signedinteger", "sin", "sinc", "single", "sinh",
    "size", "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum",
    "swapaxes", "take", "take_along_axis", "tan", "tanh", "tensordot", "tile", "trace",
    "transpose", "trapezoid", "tri", "tril", "tril_indices", "tril_indices_from", "triu",
    "triu_indices", "triu_indices_from", "true_divide", "trunc", "uint", "uint16", "uint32",
    "uint64", "uint8", "union1d", "unique", "unique_counts", "unique_inverse", "unique_values",
    "unsignedinteger", "unstack", "unwrap", "vander", "var", "vdot", "vecdot", "vecmat", "vsplit",
    "vstack", "where", "zeros", "zeros_like",
]

pi, e, inf, nan, euler_gamma = math.pi, math.e, math.inf, math.nan, np.euler_gamma
newaxis = None
ndarray = Array
dtype = np.dtype
bool, single, double, csingle, cdouble = bool_, float32, float64, complex64, complex128
float_, int_, uint, complex_ = float32, int32, uint32, complex64
generic, number, integer, inexact, floating = (
    np.generic,
    np.number,
    np.integer,
    np.inexact,
    np.floating,
)
signedinteger, unsignedinteger = np.signedinteger, np.unsignedinteger
complexfloating = np.complexfloating

protocols.attach(sys.modules[__name__])
