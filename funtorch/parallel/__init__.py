"""Training in several processes: averaged gradients, and states and models that are divided.

What stands here works inside of `funtorch.shard_map`, across a named axis of its mesh; outside of
any, it does what one process does alone. See docs/distributed.md.
"""

from .averaging import BUCKET_BYTES, average, average_gradients, averaged, per_process
from .layouts import copied, pipeline, summed
from .sequence import ring_attention
from .steps import data_parallel
from .zero import divided_axis, divided_specs, gathered, own_part, scattered, zero

__all__ = [
    "BUCKET_BYTES",
    "average",
    "average_gradients",
    "averaged",
    "copied",
    "data_parallel",
    "divided_axis",
    "divided_specs",
    "gathered",
    "own_part",
    "per_process",
    "pipeline",
    "ring_attention",
    "scattered",
    "summed",
    "zero",
]
