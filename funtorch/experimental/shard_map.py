"""`shard_map` where older programs look for it."""

from funtorch.transforms import shard_map

__all__ = ["shard_map"]
