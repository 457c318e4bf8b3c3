"""Dtypes, promotion, configuration and the note of the user's line."""

import threading

import ml_dtypes
import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import dtypes, errors
from funtorch.config import (
    Config,
    config,
    default_matmul_precision,
    enable_x64,
    log_compiles,
    numpy_rank_promotion,
)

# Row: the dtype of the left operand, column: that of the right one, in the order of dtypes.ALL; a
# star marks weak results. As JAX with x64 promotes, with float32 as the default float.
TABLE = """
bool bool u8   u16  u32  u64  i8   i16  i32  i64  bf16 f16  f32  f64  c64  c128
u8   u8   u8   u16  u32  u64  i16  i16  i32  i64  bf16 f16  f32  f64  c64  c128
u16  u16  u16  u16  u32  u64  i32  i32  i32  i64  bf16 f16  f32  f64  c64  c128
u32  u32  u32  u32  u32  u64  i64  i64  i64  i64  bf16 f16  f32  f64  c64  c128
u64  u64  u64  u64  u64  u64  f32* f32* f32* f32* bf16 f16  f32  f64  c64  c128
i8   i8   i16  i32  i64  f32* i8   i16  i32  i64  bf16 f16  f32  f64  c64  c128
i16  i16  i16  i32  i64  f32* i16  i16  i32  i64  bf16 f16  f32  f64  c64  c128
i32  i32  i32  i32  i64  f32* i32  i32  i32  i64  bf16 f16  f32  f64  c64  c128
i64  i64  i64  i64  i64  f32* i64  i64  i64  i64  bf16 f16  f32  f64  c64  c128
bf16 bf16 bf16 bf16 bf16 bf16 bf16 bf16 bf16 bf16 bf16 f32  f32  f64  c64  c128
f16  f16  f16  f16  f16  f16  f16  f16  f16  f16  f32  f16  f32  f64  c64  c128
f32  f32  f32  f32  f32  f32  f32  f32  f32  f32  f32  f32  f32  f64  c64  c128
f64  f64  f64  f64  f64  f64  f64  f64  f64  f64  f64  f64  f64  f64  c128 c128
c64  c64  c64  c64  c64  c64  c64  c64  c64  c64  c64  c64  c64  c128 c64  c128
c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128
"""
# The same with the Python scalars 1, 1.0 and 1j on the right.
SCALARS = """
bool i32* f32* c64*
u8   u8   f32* c64*
u64  u64  f32* c64*
i8   i8   f32* c64*
i64  i64  f32* c64*
bf16 bf16 bf16 c64
f16  f16  f16  c64
f32  f32  f32  c64
f64  f64  f64  c128
c64  c64  c64  c64
c128 c128 c128 c128
"""


def written(result):
    dtype, weak = result
    return dtypes.short_name(dtype) + "*" * weak


def rows(text):
    return [line.split() for line in text.strip().splitlines()]


NAMES = [row[0] for row in rows(TABLE)]
BY_NAME = dict(zip(NAMES, dtypes.ALL, strict=True))


@pytest.mark.parametrize("row", rows(TABLE), ids=lambda row: row[0])
def test_promotion_of_arrays(row):
    a = BY_NAME[row[0]]
    assert [written(dtypes.promote(a, False, b, False)) for b in dtypes.ALL] == row[1:]
    assert [written(dtypes.promote(b, False, a, False)) for b in dtypes.ALL] == row[1:]


@pytest.mark.parametrize("row", rows(SCALARS), ids=lambda row: row[0])
def test_promotion_with_python_scalars(row):
    a = BY_NAME[row[0]]
    pairs = [dtypes.scalar_type(x) for x in (1, 1.0, 1j)]
    assert [written(dtypes.promote(a, False, *pair)) for pair in pairs] == row[1:]
    assert [written(dtypes.promote(*pair, a, False)) for pair in pairs] == row[1:]
    assert dtypes.promote(a, False, *dtypes.scalar_type(True)) == (a, False)


def test_promotion_is_that_of_jax():
    jax = pytest.importorskip("jax", reason="compares the promotion table with installed JAX")
    with jax.enable_x64(True), config.override(jax_enable_x64=True):
        for a in dtypes.ALL:
            one = jax.numpy.ones((), a)
            for b in dtypes.ALL:
                expected = jax.dtypes.result_type(
                    one, jax.numpy.ones((), b), return_weak_type_flag=True
                )
                assert dtypes.promote(a, False, b, False) == expected, (a, b)
            for x in (True, 1, 1.0, 1j):
                expected = jax.dtypes.result_type(one, x, return_weak_type_flag=True)
                assert dtypes.promote(a, False, *dtypes.scalar_type(x)) == expected, (a, x)


def test_weak_operands_among_themselves():
    i, f, c = (dtypes.scalar_type(x) for x in (1, 1.0, 1j))
    assert [written(dtypes.promote(*i, *x)) for x in (i, f, c)] == ["i32*", "f32*", "c64*"]
    assert written(dtypes.promote(*f, *c)) == "c64*"
    assert dtypes.promote_types(int, float) == np.float32
    assert dtypes.promote_types(float, "float16") == np.float16


def test_large_ints_are_not_cut():
    assert dtypes.promote(dtypes.bool_, False, *dtypes.scalar_type(2**40)) == (dtypes.int64, True)


def test_result_type_does_not_depend_on_the_order():
    operands = [(dtypes.int32, True), (dtypes.float32, True), (dtypes.bfloat16, False)]
    assert dtypes.result_type_weak(*operands) == (dtypes.bfloat16, False)
    assert dtypes.result_type_weak(*operands[::-1]) == (dtypes.bfloat16, False)
    assert dtypes.result_type_weak(operands[0]) == (dtypes.int32, True)
    with pytest.raises(TypeError, match="at least one"):
        dtypes.result_type_weak()


def test_defaults_follow_the_config():
    pair = dtypes.uint64, False, dtypes.int8, False
    assert dtypes.promote(*pair) == (dtypes.float32, True)
    with config.override(default_float="float64"):
        assert dtypes.promote(*pair) == (dtypes.float64, True)
        assert dtypes.scalar_type(1.0) == (dtypes.float64, True)
        assert dtypes.default_complex() == dtypes.to_inexact(complex) == np.complex128
        assert dtypes.canonical(float) == dtypes.to_inexact("int8") == np.float64
    with config.override(default_float=ml_dtypes.bfloat16):
        assert dtypes.canonical(float) == dtypes.bfloat16
    assert dtypes.promote(*pair) == (dtypes.float32, True)
    assert dtypes.canonical(float) == np.float32


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (float, "float32"), (int, "int32"), (complex, "complex64"), (bool, "bool"),
        (np.float64, "float64"), ("float64", "float64"), (np.int64, "int64"), ("i8", "int64"),
        (np.dtype(">f4"), "float32"), (np.longlong, "int64"), (np.ones(1, "int8"), "int8"),
    ],
)  # fmt: skip
def test_canonical(given, expected):
    assert dtypes.canonical(given) == np.dtype(expected)
    assert dtypes.canonical(given).isnative


@pytest.mark.parametrize("given", [None, object, "U3", "nonsense", "datetime64[s]", np.longdouble])
def test_canonical_refuses(given):
    with pytest.raises(TypeError, match="is not supported; use one of bool, uint8"):
        dtypes.canonical(given)


def test_canonical_bfloat16():
    for given in ("bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)):
        assert dtypes.canonical(given) is dtypes.bfloat16


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (True, ("bool", False)), (1, ("int32", True)), (2**31 - 1, ("int32", True)),
        (2**31, ("int64", True)), (-(2**31) - 1, ("int64", True)), (2**63, ("uint64", True)),
        (1.5, ("float32", True)), (1j, ("complex64", True)), (np.float64(1), ("float64", False)),
        (np.complex128(1), ("complex128", False)), (np.bool_(True), ("bool", False)),
        (np.int8(1), ("int8", False)),
    ],
)  # fmt: skip
def test_scalar_type(x, expected):
    assert dtypes.scalar_type(x) == (np.dtype(expected[0]), expected[1])


def test_scalar_type_refuses():
    with pytest.raises(OverflowError, match=str(2**64)):
        dtypes.scalar_type(2**64)
    with pytest.raises(TypeError, match="'one' of type str"):
        dtypes.scalar_type("one")


def test_predicates():
    kinds = {
        dtypes.is_bool: {"bool"},
        dtypes.is_integer: {"u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"},
        dtypes.is_float: {"bf16", "f16", "f32", "f64"},
        dtypes.is_complex: {"c64", "c128"},
        dtypes.is_inexact: {"bf16", "f16", "f32", "f64", "c64", "c128"},
        dtypes.is_signed: set(NAMES) - {"bool", "u8", "u16", "u32", "u64"},
    }
    for predicate, expected in kinds.items():
        assert {name for name in NAMES if predicate(BY_NAME[name])} == expected
    assert not dtypes.is_float(object)
    assert not dtypes.is_inexact(dtypes.float0)


def test_issubdtype():
    assert dtypes.issubdtype("bfloat16", np.floating)
    assert dtypes.issubdtype(ml_dtypes.bfloat16, np.number)
    assert dtypes.issubdtype("bfloat16", "bfloat16")
    assert not dtypes.issubdtype("bfloat16", np.integer)
    assert not dtypes.issubdtype("bfloat16", np.float32)
    assert dtypes.issubdtype(np.floating, np.inexact)
    assert dtypes.issubdtype(bool, np.bool_)


def test_related_dtypes():
    assert dtypes.to_inexact("int8") == dtypes.to_inexact(bool) == np.float32
    assert dtypes.to_inexact("bfloat16") == dtypes.bfloat16
    assert dtypes.real_dtype("complex128") == np.float64
    assert dtypes.real_dtype("int8") == np.int8
    assert dtypes.complex_dtype("bfloat16") == dtypes.complex_dtype("int8") == np.complex64
    assert dtypes.complex_dtype("float64") == np.complex128


def test_limits():
    assert float(dtypes.finfo("bfloat16").max) == float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    assert dtypes.finfo("complex64").eps == np.finfo(np.float32).eps
    assert dtypes.iinfo("uint8").max == 255
    with pytest.raises(ValueError, match="use iinfo"):
        dtypes.finfo("int8")
    with pytest.raises(ValueError, match="got float32"):
        dtypes.iinfo("float32")


# --- config --------------------------------------------------------------------------------


def test_override_ends_also_after_an_error():
    def fail():
        with config.override(debug_nans=True):
            with config.override(debug_nans=False, debug=3):
                assert (config.debug_nans, config.debug) == (False, 3)
            assert config.debug_nans
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not config.debug_nans


def test_overrides_are_local_to_the_thread_and_updates_are_not():
    seen = []
    try:
        config.update("jax_debug_nans", True)
        with config.override(disable_jit=True):
            look = threading.Thread(
                target=lambda: seen.append((config.debug_nans, config.disable_jit))
            )
            look.start()
            look.join()
    finally:
        config.update("debug_nans", False)
    assert seen == [(True, False)]


def test_enable_x64():
    with config.override(jax_enable_x64=True):
        assert (config.default_float, config.default_int) == (np.float64, np.int64)
        assert config.jax_enable_x64
        with config.override(enable_x64=False):
            assert dtypes.canonical(int) == np.int32
    assert not config.jax_enable_x64


def test_trace_key_tells_settings_apart():
    before = config.trace_key()
    with config.override(default_float="float64"):
        assert config.trace_key() != before
    assert config.trace_key() == before


def test_config_refuses():
    with pytest.raises(AttributeError, match=r"no option 'colour'.*default_float.*enable_x64"):
        config.update("colour", 1)
    with pytest.raises(AttributeError, match="the options are"):
        config.jax_colour
    with pytest.raises(TypeError, match=r"config\.debug_nans must be True or False; got 1"):
        config.debug_nans = 1
    for bad in ("int8", None, "nonsense"):
        with pytest.raises(ValueError, match=r"config\.default_float must be one of bfloat16"):
            config.update("default_float", bad)
    assert "default_float=float32" in repr(Config())


def test_flags_of_jax_that_change_nothing():
    before = config.trace_key(), config.token
    config.update("jax_default_matmul_precision", "float32")
    config.update("jax_platform_name", "cpu")
    assert config.jax_default_matmul_precision == "float32"
    assert config.jax_numpy_rank_promotion == "allow"
    assert (config.trace_key(), config.token) == before
    with pytest.raises(ValueError, match=r"config\.platforms is 'cpu'.*got 'tpu'"):
        config.update("jax_platforms", "tpu")
    with log_compiles(), default_matmul_precision("high"), numpy_rank_promotion("allow"):
        assert config.debug == 1
    with enable_x64(), enable_x64(False):
        assert dtypes.canonicalize_dtype("float64") == np.float32
    with pytest.raises(ValueError, match="numpy_rank_promotion must be one of allow, warn, raise"):
        numpy_rank_promotion("refuse").__enter__()


def test_promotion_of_ranks_may_be_refused():
    row, x, one = fnp.ones(3), fnp.ones((2, 3)), fnp.ones(())
    for mode, caught in (
        ("raise", lambda: pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(3,\) have diff")),
        ("warn", lambda: pytest.warns(UserWarning, match=r"shapes \(2, 3\) and \(3,\) have diff")),
    ):
        with numpy_rank_promotion(mode):
            for f in (lambda: x + row, lambda: ft.jit(lambda a, b: fnp.maximum(a, b))(x, row)):
                with caught():
                    f()
            assert (x + one + 1.0 + row[None]).shape == (2, 3)
            assert ft.nn.softmax(x).shape == fnp.cov(x, rowvar=False)[:2].shape  # its own business
    assert (x + row).shape == (2, 3)


def test_promotion_of_dtypes_may_be_refused():
    i, f, h = fnp.ones(2, "int32"), fnp.ones(2, "float32"), fnp.ones(2, "float16")
    with config.override(numpy_dtype_promotion="strict"):
        for x, y in ((i, f), (f, h), (i, 1.5), (f, True), (f, f > 0), (i, np.int8(1))):
            for g in (lambda x, y: x + y, fnp.logaddexp, lambda x, y: fnp.where(x > 0, x, y)):
                with pytest.raises(dtypes.TypePromotionError, match="'strict': convert one"):
                    g(x, y)
            with pytest.raises(dtypes.TypePromotionError, match="'strict': convert one"):
                ft.jit(lambda x, y=y: x * y)(x)
        assert (f + 1).dtype == (h * 2.5).astype("float32").dtype == np.float32
        assert (i + 1).dtype == np.int32
        assert ft.nn.softmax(h).dtype == np.float16
    assert (i + f).dtype == np.float32


# --- errors --------------------------------------------------------------------------------


def test_errors_derive_from_the_builtins():
    pairs = [
        (errors.TracerBoolConversionError, TypeError),
        (errors.UnexpectedTracerError, RuntimeError),
        (errors.NonConcreteBooleanIndexError, IndexError),
        (errors.JaxprTypeError, TypeError),
    ]
    for error, builtin in pairs:
        assert issubclass(error, builtin)
        assert issubclass(error, errors.FunTorchError)


def test_user_frame_names_this_line():
    source = errors.user_frame()
    assert source.line == test_user_frame_names_this_line.__code__.co_firstlineno + 1
    assert str(source) == f"{__file__}:{source.line} (test_user_frame_names_this_line)"


def test_user_frame_passes_over_the_package():
    inside = errors.__file__.replace("errors.py", "invented.py")
    scope = {"user_frame": errors.user_frame}
    exec(compile("def f(skip=0):\n    return user_frame(skip)\n", inside, "exec"), scope)

    def user():
        return scope["f"]()

    assert user().function.endswith("user")
    assert scope["f"](skip=1).function == "test_user_frame_passes_over_the_package"
    assert str(errors.Source(None, 0)) == "<unknown>:0 (<unknown>)"
