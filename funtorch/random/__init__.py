"""Random numbers from explicit keys: equal to those of `jax.random` for equal keys.

    key = random.key(0)
    key, sub = random.split(key)
    x = random.normal(sub, (3,))

There is no hidden state: a function that draws takes a key, and a key gives the same numbers each
time, eagerly, under `jit` and under `vmap`.

Example:
    >>> from funtorch import random
    >>> keys = random.split(random.key(0))
    >>> random.randint(keys[0], (3,), 0, 6).shape
    (3,)
"""

from __future__ import annotations

from funtorch.random.distributions import *
from funtorch.random.distributions import __all__ as _distributions
from funtorch.random.draws import *
from funtorch.random.draws import __all__ as _draws
from funtorch.random.keys import *
from funtorch.random.keys import __all__ as _keys

__all__ = [*_keys, *_draws, *_distributions]
