"""Keys: where random bits come from, and how one key becomes many.

A key is two 32-bit words. Bits are drawn by encrypting counters 0, 1, 2, ... with the key, so equal
keys give equal bits on every machine and in every transform. A child key is the cipher of the
child's number under its parent.

References:
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
    1, 2, 3", SC 2011 (Random123, Threefry-2x32).
    JAX, "JAX PRNG design", https://docs.jax.dev/en/latest/jep/263-prng.html. Counters are laid out
    as under its flag jax_threefry_partitionable, which is on by default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from funtorch import dtypes, tree
from funtorch.config import config
from funtorch.core import Array, ArrayImpl, ShapedArray
from funtorch.numpy import indexing, manipulation, promotion
from funtorch.numpy.direct import compiled_if_large
from funtorch.ops import elementwise, families
from funtorch.ops import shape as shape_ops
from funtorch.ops.bits import threefry2x32
from funtorch.treedef import register_node

__all__ = [
    "KeyArray",
    "PRNGKey",
    "clone",
    "fold_in",
    "key",
    "key_data",
    "key_dtype",
    "key_impl",
    "split",
    "wrap_key_data",
]

IMPL = "threefry2x32"
_WORD = 0xFFFF_FFFF


_KEY_TYPE = dtypes.KeyType()


class KeyArray:
    """An immutable array of random keys, as `key` and `split` make them.

    It can be indexed, iterated over and mapped over with `vmap`; it has no arithmetic. In a pytree
    it is a leaf; transforms see the array in it, the words of the keys: uint32 of shape
    ``(*shape, 2)``.

    Example:
        >>> keys = split(key(0), 3)
        >>> keys.shape, keys.dtype, keys[1].shape
        ((3,), key<fry>, ())
    """

    __slots__ = ("_words",)
    dtype = _KEY_TYPE
    weak_type = False
    itemsize = 8
    squeeze = manipulation.squeeze
    swapaxes = manipulation.swapaxes
    take = indexing.take

    def __init__(self, words: Any) -> None:
        self._words = words

    @property
    def shape(self) -> tuple[int, ...]:
        return self._words.shape[:-1]

    @property
    def abstract_value(self) -> ShapedArray:
        """What `typeof` gives."""
        return ShapedArray(self.shape, self.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.itemsize * self.size

    @property
    def T(self) -> KeyArray:
        return manipulation.transpose(self)

    @property
    def at(self) -> _KeysAt:
        """Index it to update some of the keys: ``keys.at[i].set(key)`` gives a copy."""
        return _KeysAt(self)

    @property
    def device(self) -> Any:
        return self._words.device

    @property
    def sharding(self) -> Any:
        return self._words.sharding

    def devices(self) -> Any:
        """Return the set of devices that hold the keys."""
        return self._words.devices()

    def block_until_ready(self) -> KeyArray:
        """Return the keys once they are computed; on the CPU that is at once."""
        return self

    def copy(self) -> KeyArray:
        """Return a copy."""
        return KeyArray(self._words.copy())

    def transpose(self, *axes: Any) -> KeyArray:
        """Permute the axes; without arguments reverse them."""
        given = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        return manipulation.transpose(self, given or None)

    def reshape(self, *shape: Any) -> KeyArray:
        """Return the keys in another shape, given as one tuple or as separate sizes."""
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        sizes = tuple(wanted)
        if -1 in sizes:
            k = sizes.index(-1)
            known = math.prod(sizes[:k] + sizes[k + 1 :])
            sizes = (*sizes[:k], self.size // known if known else 0, *sizes[k + 1 :])
        if math.prod(sizes) != self.size:
            raise ValueError(f"cannot reshape keys of shape {self.shape} into shape {wanted}")
        return KeyArray(shape_ops.reshape(self._words, shape=(*sizes, 2)))

    def ravel(self) -> KeyArray:
        """Return the keys in a row."""
        return self.reshape(self.size)

    flatten = ravel

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a single key has no length; split it to get several")
        return self.shape[0]

    def __iter__(self) -> Iterator[KeyArray]:
        if not self.shape:
            raise TypeError("a single key cannot be iterated over; split it to get several")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> KeyArray:
        return KeyArray(self._words[self._of_words(index)])

    def _of_words(self, index: Any) -> tuple[Any, ...]:
        """Return the index of the words of the keys that an index is of."""
        items = index if isinstance(index, tuple) else (index,)
        used = sum(item is not None and item is not Ellipsis for item in items)
        if used > self.ndim:
            raise IndexError(f"{used} indices for keys of shape {self.shape}")
        if any(item is Ellipsis for item in items):
            items = (*items, slice(None))
        return items

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, KeyArray):
            return NotImplemented
        return (self._words == other._words).all(axis=-1)

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def move_parts(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Apply a function that only moves elements: to the first words, and to the second."""

        def of_words(k: int) -> Any:
            def part(x: Any) -> Any:
                return x._words[..., k] if isinstance(x, KeyArray) else x

            parts = tree.map(part, (args, kwargs), is_leaf=lambda x: x is None)
            return function(*parts[0], **parts[1])

        def keys(*words: Any) -> KeyArray:
            return KeyArray(
                shape_ops.concatenate(*(w[..., None] for w in words), axis=words[0].ndim)
            )

        return tree.map(keys, of_words(0), of_words(1))

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("keys are no numbers; random.key_data(keys) gives the words in them")

    def __repr__(self) -> str:
        words = self._words
        inside = f" overlaying:\n{words._data}" if type(words) is ArrayImpl else f" of {words!r}"
        return f"Array({self.shape}, dtype={self.dtype}){inside}"


class _KeysAt:
    """``keys.at``, and with an index ``keys.at[i]``, which has `set` and `get`."""

    __slots__ = ("_index", "_keys")

    def __init__(self, keys: KeyArray, index: Any = ...) -> None:
        self._keys, self._index = keys, keys._of_words(index)

    def __getitem__(self, index: Any) -> _KeysAt:
        return _KeysAt(self._keys, index)

    def set(self, values: Any, **options: Any) -> KeyArray:
        """Return a copy with the indexed keys replaced; options as of arrays."""
        if not isinstance(values, KeyArray):
            raise TypeError(f"keys.at[...].set takes keys, got {type(values).__name__}")
        return KeyArray(self._keys._words.at[self._index].set(values._words, **options))

    def get(self, **options: Any) -> KeyArray:
        """Return the indexed keys."""
        return KeyArray(self._keys._words.at[self._index].get(**options))


register_node(
    KeyArray, lambda keys: ((keys._words,), None), lambda _, words: KeyArray(words[0]), opaque=True
)

# --- taking keys apart and putting them together -------------------------------------------


def words_of(function: str, value: Any, single: bool = True) -> Any:
    """Return the words of a key in either form, uint32[..., 2]."""
    words = value._words if isinstance(value, KeyArray) else value
    if isinstance(words, np.ndarray):
        words = promotion.asarray(words)
    if not isinstance(words, Array):
        raise TypeError(
            f"{function}: key must come from random.key or random.PRNGKey, "
            f"got {type(value).__name__}: {value!r:.80}"
        )
    if words.dtype != dtypes.uint32 or words.shape[-1:] != (2,):
        raise TypeError(
            f"{function}: a raw key is uint32[2], as random.PRNGKey makes it; "
            f"got {promotion.describe(words)}"
        )
    if single and words.ndim != 1:
        raise ValueError(
            f"{function} takes a single key, got keys of shape {words.shape[:-1]}; "
            "use vmap to draw with each of them"
        )
    return words


def _word(words: Any, k: int) -> Any:
    if type(words) is ArrayImpl:
        return ArrayImpl(words._data[..., k])
    row = shape_ops.slice(words, start=(k,), limit=(k + 1,), stride=(1,))
    return shape_ops.reshape(row, shape=())


def _counters(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the high and low words of 0, 1, 2, ... in a shape."""
    size = math.prod(shape)
    if size <= _WORD + 1:
        row = shape_ops.iota(shape=(size,), axis=0, dtype=dtypes.uint32)
        return families.full(shape, 0, dtypes.uint32), shape_ops.reshape(row, shape=shape)
    row = shape_ops.iota(shape=(size,), axis=0, dtype=dtypes.uint64)
    count = shape_ops.reshape(row, shape=shape)
    high = elementwise.shift_right_logical(count, families.full_like(count, 32))
    return promotion.convert(high, dtypes.uint32), promotion.convert(count, dtypes.uint32)


def cipher(words: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Encrypt the counters of a shape with one key: two uint32 arrays of that shape."""
    spread = [families.broadcast_in_dim(_word(words, k), shape=shape, dims=()) for k in (0, 1)]
    return threefry2x32(*spread, *_counters(shape))


def _join(high: Any, low: Any) -> Any:
    """Stack two arrays of words into keys, along a new last axis."""
    columns = [shape_ops.reshape(w, shape=(*w.shape, 1)) for w in (high, low)]
    return shape_ops.concatenate(*columns, axis=high.ndim)


def split_words(words: Any, num: int = 2) -> list[Any]:
    """Return the words of ``num`` children, each uint32[2]."""
    children = split_to(words, (num,))
    rows = [
        shape_ops.slice(children, start=(i, 0), limit=(i + 1, 2), stride=(1, 1)) for i in range(num)
    ]
    return [shape_ops.reshape(row, shape=(2,)) for row in rows]


@compiled_if_large
def split_to(words: Any, shape: tuple[int, ...]) -> Any:
    return _join(*cipher(words, shape))


def _like(original: Any, words: Any) -> Any:
    """Return words in the form the original key had."""
    return KeyArray(words) if isinstance(original, KeyArray) else words


# --- the public functions ------------------------------------------------------------------


def _check_impl(function: str, impl: Any) -> None:
    if impl is not None and str(impl) not in (IMPL, dtypes.KeyType.name):
        raise ValueError(f"{function}: the generator is {IMPL!r}; got impl={impl!r}")


def _seed_words(function: str, seed: Any) -> Any:
    if isinstance(seed, KeyArray):
        raise TypeError(f"{function} takes an integer seed, got a key; use that, or split it")
    wide = config.default_int == dtypes.int64
    if isinstance(seed, (int, np.integer)):
        number = int(seed)
        if not -(1 << 63) <= number < 1 << 64:
            raise OverflowError(f"{function}: seed {number} does not fit in 64 bits")
        high = number >> 32 & _WORD if wide else 0
        return ArrayImpl(np.array([high, number & _WORD], dtypes.uint32))
    seed = promotion.to_array(seed, function, "seed")
    if seed.shape or not dtypes.is_integer(seed.dtype):
        raise TypeError(
            f"{function}: the seed must be one integer, got {promotion.describe(seed)}"
            + ("; use vmap to make several keys" if seed.shape else "")
        )
    low = promotion.convert(seed, dtypes.uint32)
    if not wide or seed.dtype.itemsize < 8:
        return _join(families.zeros_like(low), low)
    high = elementwise.shift_right_logical(seed, families.full_like(seed, 32))
    return _join(promotion.convert(high, dtypes.uint32), low)


def key(seed: Any, *, impl: Any = None) -> KeyArray:
    """Make a random key from an integer seed.

    Args:
        seed: an int or integer array of shape (). Its low 32 bits count, and all 64 where
            `config.enable_x64` is set, as in JAX.
        impl: None or 'threefry2x32', the only generator.

    Returns:
        A `KeyArray` of shape ().

    Raises:
        TypeError: the seed is no single integer.
        OverflowError: the seed does not fit in 64 bits.

    Example:
        >>> key(42)
        Array((), dtype=key<fry>) overlaying:
        [ 0 42]
    """
    _check_impl("key", impl)
    return KeyArray(_seed_words("key", seed))


def PRNGKey(seed: Any, *, impl: Any = None) -> Any:
    """Make a raw random key, a plain uint32 array of two words, from an integer seed.

    Args:
        seed: as for `key`.
        impl: as for `key`.

    Returns:
        uint32[2]; under `enable_custom_prng` what `key` returns.

    Example:
        >>> PRNGKey(42).tolist()
        [0, 42]
    """
    _check_impl("PRNGKey", impl)
    words = _seed_words("PRNGKey", seed)
    return KeyArray(words) if config.enable_custom_prng else words


def split(key: Any, num: Any = 2) -> Any:
    """Make new keys from one; the old one should then not be used again.

    Args:
        key: a single key, typed or raw.
        num: how many, an int or a shape.

    Returns:
        Keys of shape ``(num,)``, in the form of `key`; a raw key gives uint32[num, 2].

    Raises:
        TypeError: `key` is no key.
        ValueError: `key` is several keys.

    Example:
        >>> first, second = split(PRNGKey(0))
        >>> first.tolist()
        [1797259609, 2579123966]
    """
    words = words_of("split", key)
    return _like(key, split_to(words, promotion.canonical_shape(num, "split")))


def fold_in(key: Any, data: Any) -> Any:
    """Make a new key from a key and a number, such as the number of a step.

    Args:
        key: a single key, typed or raw.
        data: a Python int from 0 to 2**32 - 1, or an integer array of shape (), of which the low
            32 bits count.

    Returns:
        A key in the form of `key`.

    Raises:
        TypeError: `data` is no single integer.
        OverflowError: a Python int is out of range.

    Example:
        >>> fold_in(PRNGKey(1), 5).tolist()
        [3243370355, 1313272271]
    """
    words = words_of("fold_in", key)
    if isinstance(data, int) and not 0 <= data <= _WORD:
        raise OverflowError(f"fold_in: data must be from 0 to 2**32 - 1, got {data}")
    data = promotion.to_array(data, "fold_in", "data")
    if data.shape or not dtypes.is_integer(data.dtype):
        raise TypeError(
            f"fold_in: data must be one integer, got {promotion.describe(data)}"
            + ("; use vmap to fold in several" if data.shape else "")
        )
    low = promotion.convert(data, dtypes.uint32)
    return _like(key, _folded(words, low))


@compiled_if_large
def _folded(words: Any, low: Any) -> Any:
    return _join(*threefry2x32(_word(words, 0), _word(words, 1), families.zeros_like(low), low))


def key_data(keys: Any) -> Array:
    """Return the words that keys are made of.

    Args:
        keys: keys of any shape, typed or raw.

    Returns:
        uint32[..., 2].

    Example:
        >>> key_data(key(7)).tolist()
        [0, 7]
    """
    return words_of("key_data", keys, single=False)


def wrap_key_data(key_bits_array: Any, *, impl: Any = None, dtype: Any = None) -> KeyArray:
    """Make keys from their words, the inverse of `key_data`.

    Args:
        key_bits_array: uint32[..., 2].
        impl, dtype: None or 'threefry2x32', or the dtype of keys; the same.

    Returns:
        A `KeyArray` of shape ``key_bits_array.shape[:-1]``.

    Example:
        >>> wrap_key_data(PRNGKey(3)).shape
        ()
    """
    for named in (impl, dtype):
        _check_impl("wrap_key_data", named)
    return KeyArray(words_of("wrap_key_data", key_bits_array, single=False))


def key_dtype(impl: Any = None) -> Any:
    """Return the dtype of keys of a generator.

    Example:
        >>> key_dtype() == key(0).dtype
        True
    """
    _check_impl("key_dtype", impl)
    return _KEY_TYPE


def key_impl(keys: Any) -> str:
    """Return the name of the keys' generator.

    Example:
        >>> key_impl(key(0))
        'threefry2x32'
    """
    words_of("key_impl", keys, single=False)
    return IMPL


def clone(key: Any) -> Any:
    """Return the same key, to say that it is used twice on purpose.

    Example:
        >>> clone(PRNGKey(1)).tolist()
        [0, 1]
    """
    words_of("clone", key, single=False)
    return key
