"""Where every page stands in the site: the sections of its side bar."""

from __future__ import annotations

from collections.abc import Iterable

SECTIONS: dict[str, tuple[str, ...]] = {
    "Start": (
        "quickstart", "coming-from", "coming-from-jax", "coming-from-pytorch",
        "coming-from-numpy", "examples",
    ),
    "Transforms": (
        "grad", "jvp", "vmap", "jit", "higher-order", "control-flow", "python-control-flow",
        "checkpointing", "custom-rules", "collectives", "sow-and-reap", "checks", "callbacks",
        "dynamic-axes", "programs",
    ),
    "Libraries": (
        "pytrees", "dtypes", "random", "sparse", "nnx", "nnx-training", "nnx-sequences", "optim",
        "data", "saving", "mixed-precision",
    ),
    "Beyond one process": ("gpu", "distributed", "export", "onnx", "serving", "quantization"),
    "How to": (
        "howto-per-example-gradients", "howto-own-rules", "howto-resume", "howto-gpu",
        "howto-distributed", "howto-nans", "howto-saving", "howto-speed", "debugging",
    ),
    "Inside": ("core-from-scratch", "architecture", "compiler", "extending"),
    "Measured": ("performance", "accuracy", "coverage", "differences"),
    "Reference": ("api/index",),
    "Project": ("contributing", "changelog", "versions", "security"),
}  # fmt: skip
"""Pages of each section, in order; those that are not written yet are left out."""

TITLES = {
    "coming-from": "What you know already",
    "grad": "Gradients",
    "jvp": "Forward mode",
    "jit": "Compiling",
    "vmap": "Mapping",
    "sow-and-reap": "Sow, reap, plant",
    "checks": "Checks",
    "callbacks": "Callbacks",
    "checkpointing": "Recomputing",
    "custom-rules": "Custom rules",
    "dynamic-axes": "Several sizes",
    "nnx": "Layers",
    "nnx-training": "Training",
    "nnx-sequences": "Sequences",
    "data": "Data",
    "howto-own-rules": "Own rules",
    "howto-resume": "Resume a run",
    "howto-distributed": "Several processes",
    "howto-gpu": "Use a GPU",
    "howto-nans": "Find nans",
    "howto-saving": "Load weights",
    "howto-speed": "Make it fast",
    "extending": "New primitives",
}
"""What the side bar calls pages whose own titles are long."""

OTHERS = "Inside"
"""The section that takes pages which no section names."""


def sections(pages: Iterable[str]) -> dict[str, list[str]]:
    """Sort pages into the sections.

    Args:
        pages: names of all pages, without suffix.

    Returns:
        The sections that have pages, in order; each page stands in one.
    """
    left = set(pages) - {"index"}
    found = {title: [p for p in named if p in left] for title, named in SECTIONS.items()}
    placed = {p for group in found.values() for p in group}
    found[OTHERS] += sorted(p for p in left - placed if "/" not in p)
    return {title: group for title, group in found.items() if group}
