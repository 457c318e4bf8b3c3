"""Where operations come from, under the names of jax.extend.source_info_util."""

from __future__ import annotations

from funtorch.core import source_of
from funtorch.errors import Source, exclude_frames
from funtorch.transforms import named_scope as extend_name_stack

__all__ = ["SourceInfo", "current", "extend_name_stack", "register_exclusion", "summarize"]

SourceInfo = Source


def register_exclusion(path: str) -> None:
    """Pass over the functions of a file, or of a folder, where errors name the user's line.

    Args:
        path: the file or folder, as code objects spell it.
    """
    exclude_frames(path)


def current() -> Source:
    """Return the user's line that operations come from now."""
    return source_of()


def summarize(source_info: Source, num_frames: int = 1) -> str:
    """Return a place as text."""
    return str(source_info)
