"""The version of the library, under the names of jax.version."""

from funtorch import __version__, __version_info__

__all__ = ["__version__", "__version_info__"]
