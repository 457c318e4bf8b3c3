"""Rules of primitives under the names of jax.interpreters: `ad`, `batching`, `mlir`.

They are for those of `funtorch.extend.core`.
"""

from funtorch.interpreters import ad, batching, mlir

__all__ = ["ad", "batching", "mlir"]
