"""Two small libraries that many JAX programs are written with: `stax` and `optimizers`.

New programs use `funtorch.nnx` and `funtorch.optim`.
"""

from funtorch.example_libraries import optimizers, stax

__all__ = ["optimizers", "stax"]
