"""Slow paths that vector code takes only where some element needs them.

The formulas of `math` are branch-free, so LLVM turns a loop over elements into one over vectors.
What a formula cannot do for a few arguments (the sine of 1e30), a slow function does, in a call
that names its variants for vectors: "vector-function-abi-variant". A variant asks whether any lane
needs the slow function, and returns the fast results as they are if none does. A block of another
machine may have a way of its own (`Block.rarely`).

References:
    LLVM Language Reference, "vector-function-abi-variant" (Vector Function ABI), 2025.
"""

from __future__ import annotations

from collections.abc import Callable

from ..block import Block
from .values import Value

__all__ = ["where_rare"]

_LANES = {"float": (4, 8, 16), "double": (2, 4, 8)}
_ATTRIBUTES = "cold noinline nounwind willreturn memory(none)"

Condition = Callable[..., Value]
Slow = Callable[..., Value]


def where_rare(name: str, rare: Condition, slow: Slow, fast: Value, *args: Value) -> Value:
    """Return ``slow(*args)`` where ``rare(*args)`` holds, else ``fast``.

    Args:
        name: a name for the slow function, of its own among all of them.
        rare: the condition, written for scalars and vectors alike.
        slow: the slow function, written for scalars.
        fast: the results where the condition does not hold.
        args: values of the type of ``fast``.
    """
    b, kind = fast.b, fast.kind
    if b.rarely is not None:
        return b.rarely(name, rare, slow, fast, *args)
    function = f"funtorch.{name}.{kind}"
    if function not in b.declared:
        text, needed = _definitions(function, rare, slow, kind, len(args))
        b.declared.update(needed)
        b.declared[function] = text
    variants = ",".join(
        f"_ZGV_LLVM_N{n}{'v' * (len(args) + 1)}_{function}({function}.v{n})" for n in _LANES[kind]
    )
    given = ", ".join(f"{fast.type} {v.name}" for v in (*args, fast))
    attributes = f'nounwind willreturn memory(none) "vector-function-abi-variant"="{variants}"'
    symbol = f"{function}.v{b.lanes}" if b.lanes else function
    return Value(b, b.op(f"call {fast.type} @{symbol}({given}) {attributes}"), kind)


def _definitions(
    function: str, rare: Condition, slow: Slow, kind: str, count: int
) -> tuple[str, dict[str, str]]:
    """Return the text of the scalar function and its variants, and what they declare."""
    needed: dict[str, str] = {}
    texts = [_scalar(function, rare, slow, kind, count, needed)]
    texts += [_variant(function, rare, kind, count, lanes, needed) for lanes in _LANES[kind]]
    return "\n\n".join(texts), needed


def _arguments(b: Block, kind: str, count: int) -> tuple[list[Value], str]:
    names = [*(f"%x{k}" for k in range(count)), "%fast"]
    return [Value(b, n, kind) for n in names], ", ".join(f"{b.type(kind)} {n}" for n in names)


def _scalar(
    function: str, rare: Condition, slow: Slow, kind: str, count: int, needed: dict[str, str]
) -> str:
    test, work = Block(), Block()
    args, given = _arguments(test, kind, count)
    condition = rare(*args[:-1])
    work.count = test.count
    out = slow(*(Value(work, a.name, kind) for a in args[:-1]))
    needed.update(test.declared)
    needed.update(work.declared)
    return "\n".join(
        [
            f"define weak_odr {kind} @{function}({given}) {_ATTRIBUTES} #0 {{",
            *test.lines,
            f"  br i1 {condition.name}, label %slow, label %rest",
            "slow:",
            *work.lines,
            f"  ret {kind} {out.name}",
            "rest:",
            f"  ret {kind} %fast",
            "}",
        ]
    )


def _variant(
    function: str, rare: Condition, kind: str, count: int, lanes: int, needed: dict[str, str]
) -> str:
    b = Block(lanes)
    args, given = _arguments(b, kind, count)
    condition = rare(*args[:-1])
    vector, mask = b.type(kind), b.type("i1")
    reduce_or = f"llvm.vector.reduce.or.v{lanes}i1"
    needed.update(b.declared)
    needed[reduce_or] = f"declare i1 @{reduce_or}({mask})"
    lane = [f"  %e{k} = extractelement {vector} {a.name}, i64 %k" for k, a in enumerate(args[:-1])]
    ones = ", ".join([*(f"{kind} %e{k}" for k in range(count)), f"{kind} %old"])
    return "\n".join(
        [
            f"define weak_odr {vector} @{function}.v{lanes}({given}) {_ATTRIBUTES} #0 {{",
            "entry:",
            *b.lines,
            f"  %any = call i1 @{reduce_or}({mask} {condition.name})",
            "  br i1 %any, label %loop, label %done",
            "loop:",
            "  %k = phi i64 [ 0, %entry ], [ %next, %loop ]",
            f"  %acc = phi {vector} [ %fast, %entry ], [ %new, %loop ]",
            *lane,
            f"  %old = extractelement {vector} %acc, i64 %k",
            f"  %one = call {kind} @{function}({ones})",
            f"  %new = insertelement {vector} %acc, {kind} %one, i64 %k",
            "  %next = add nuw i64 %k, 1",
            f"  %more = icmp ult i64 %next, {lanes}",
            "  br i1 %more, label %loop, label %done",
            "done:",
            f"  %out = phi {vector} [ %fast, %entry ], [ %new, %loop ]",
            f"  ret {vector} %out",
            "}",
        ]
    )
