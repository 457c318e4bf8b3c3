"""Primitives and their rules, by family.

For users: the names of jax.ops, which `funtorch.numpy.segments` puts here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from funtorch.numpy.segments import segment_max as segment_max
    from funtorch.numpy.segments import segment_min as segment_min
    from funtorch.numpy.segments import segment_prod as segment_prod
    from funtorch.numpy.segments import segment_sum as segment_sum
