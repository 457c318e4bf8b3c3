"""Words about single arguments for ``f_vjp.with_refs``, and what stands in the places of their
gradients.

References:
    JAX, jax.ad.
"""

from funtorch.transforms.pullback import DidntWant, DontWant, GradRef, GradValue

__all__ = ["DidntWant", "DontWant", "GradRef", "GradValue"]
