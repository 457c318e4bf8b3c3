"""A program as a StableHLO module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funtorch.jaxpr import Jaxpr

from .rules import RULES
from .text import Text

__all__ = ["to_stablehlo"]


def to_stablehlo(jaxpr: Jaxpr, title: str) -> str:
    """Return a program as the text of a module with a function ``main``.

    Args:
        jaxpr: the program; its sizes are numbers.
        title: of the module.

    Raises:
        NotExpressible: a step has no rule; the message names it and its line.
    """
    text = Text(RULES)
    given = [text.fresh(v.aval.shape, v.aval.dtype) for v in jaxpr.invars]
    consts = [text.const(np.asarray(c._data)) for c in jaxpr.consts]
    text.names.update(zip(jaxpr.constvars, consts, strict=True))
    outs = text.run(jaxpr, given)

    def types(names: Sequence[str]) -> str:
        return ", ".join(map(text.type, names))

    arguments = ", ".join(f"{x}: {text.type(x)}" for x in given)
    last = f"func.return {', '.join(outs)} : {types(outs)}" if outs else "func.return"
    body = "\n".join([*text.lines, last])
    return (
        f"module @{title} {{\nfunc.func public @main({arguments}) -> ({types(outs)}) {{\n"
        f"{body}\n}}\n}}\n"
    )
