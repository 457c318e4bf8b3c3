"""Loads of sizes that are known when a program runs, from its record of them."""

from __future__ import annotations

import re

__all__ = ["loads", "with_sizes"]


def loads(text: str) -> list[str]:
    """Return the lines that load the sizes that a text mentions."""
    lines = []
    for k in sorted({int(found) for found in re.findall(r"%z(\d+)\b", text)}):
        lines.append(f"  %zp{k} = getelementptr i64, ptr %sizes, i64 {k}")
        lines.append(f"  %z{k} = load i64, ptr %zp{k}, align 8")
    return lines


def with_sizes(text: str) -> str:
    """Return the functions of a kernel, which mention sizes, with a pointer to these."""
    if "%z" not in text:
        return text
    pieces = re.split(r"(?m)^(?=define )", text)
    for k, piece in enumerate(pieces):
        head, end, body = piece.partition("{\n")
        head, found = re.subn(r"ptr (noalias )?%scratch", r"ptr noalias %sizes, \g<0>", head)
        if found:
            start = "entry:\n" if body.startswith("entry:\n") else ""
            given = "".join(f"{line}\n" for line in loads(body))
            pieces[k] = head + end + start + given + body[len(start) :]
    return "".join(pieces)
