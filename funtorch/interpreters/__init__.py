"""What interprets programs under the names of jax.interpreters: `ad`, `batching`, `mlir`,
`partial_eval`, `xla`.

They are for those of `funtorch.extend.core`.
"""

from funtorch.interpreters import ad, batching, mlir, partial_eval, xla

__all__ = ["ad", "batching", "mlir", "partial_eval", "xla"]
