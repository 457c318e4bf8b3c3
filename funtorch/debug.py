"""Look at values of running programs: the names of jax.debug."""

from funtorch.transforms.callbacks import debug_breakpoint as breakpoint
from funtorch.transforms.callbacks import debug_callback as callback
from funtorch.transforms.callbacks import debug_log as log
from funtorch.transforms.callbacks import debug_print as print

__all__ = ["breakpoint", "callback", "log", "print"]
