"""Rules of ONNX's branches, loops, sequences and optional values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import lax
from funtorch.transforms import eval_shape

from .node import Node, Rule, array, dtype_of, known

__all__ = ["CONTROL"]

_UNROLLED = 1 << 15  # most turns of a call's loops, those inside of each other too, one by one


def _arrays(xs: Sequence[Any]) -> list[Any]:
    return [array(x) if isinstance(x, np.ndarray) else x for x in xs]


def _if(n: Node, condition: Any) -> Any:
    branches = n.need("then_branch"), n.need("else_branch")
    if known(condition):
        chosen = branches[0] if bool(np.asarray(condition).reshape(())) else branches[1]
        return tuple(n.run(chosen, []))
    both = [lambda branch=branch: _arrays(n.run(branch, [])) for branch in branches]
    types = [[(x.shape, x.dtype) for x in eval_shape(f)] for f in both]
    if types[0] != types[1]:
        raise n.unsupported(
            f"its branches give {types[0]} and {types[1]}; when the condition is traced, shapes "
            "must be the same. Outside of jit the model runs, with a condition that is known"
        )
    return tuple(lax.cond(condition.reshape(()), *both))


def _loop(n: Node, count: Any = None, go: Any = None, *carry: Any) -> Any:
    """Known bounds: a scan, or turn by turn where shapes change; else a while loop."""
    body = n.need("body")
    outs = len(body.output) - 1 - len(carry)
    if len(body.input) != 2 + len(carry) or outs < 0:
        raise n.error(f"its body takes {len(body.input)} values, and the loop has {len(carry)}")
    fixed = go is None or known(go)
    if (count is None or known(count)) and fixed and all(map(_is_known, carry)):
        return _turns(n, body, count, go, carry)
    runs = count is not None and known(count) and fixed
    if runs and _always(n, body, go) and _same(n, body, carry):
        return _scanned(n, body, n.number_of(count, "trip count"), carry)
    if outs == 0 and _same(n, body, carry):
        return _while(n, body, count, go, carry)
    if runs:
        return _turns(n, body, count, go, carry)
    raise n.unsupported(
        "its number of turns depends on inputs, and it keeps a result of each turn or changes the "
        "shape of what it carries; outside of jit the model runs"
    )


def _is_known(x: Any) -> bool:
    return known(x) or isinstance(x, list)


def _always(n: Node, body: Any, go: Any) -> bool:
    """Tell whether a body's condition is the one it was given, or constant, and true."""
    if go is not None and not bool(np.asarray(go).reshape(())):
        return False
    made = {name: node for node in body.node for name in node.output}
    name, last = body.output[0].name, body.input[1].name
    while name in made and made[name].op_type in ("Identity", "Cast"):
        name = made[name].input[0]
    if name == last:
        return True
    if name in made and made[name].op_type == "Constant":
        (found,) = n.run(_only(body, name), [np.int64(0), np.True_])
        return bool(np.asarray(found).reshape(()))
    return False


def _only(body: Any, name: str) -> Any:
    """Return a graph with one of its values as the result."""
    found = type(body)()
    found.CopyFrom(body)
    del found.output[1:]
    found.output[0].name = name
    kept = [node for node in found.node if name in node.output]
    del found.node[:]
    found.node.extend(kept)
    return found


def _same(n: Node, body: Any, carry: Sequence[Any]) -> bool:
    """Tell whether what is carried keeps its types."""
    if any(isinstance(x, list) for x in carry):
        return False
    start = _arrays(carry)

    def turn(*values: Any) -> Any:
        return _arrays(n.run(body, [array(np.int64(0)), array(np.True_), *values]))

    outs = eval_shape(turn, *start)[1 : 1 + len(carry)]
    return all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(start, outs, strict=True))


def _scanned(n: Node, body: Any, count: int, carry: Sequence[Any]) -> Any:
    kept = len(carry)

    def turn(state: Any, k: Any) -> Any:
        _, *outs = _arrays(n.run(body, [k, np.asarray(True), *state]))
        return outs[:kept], outs[kept:]

    state, made = lax.scan(turn, _arrays(carry), fnp.arange(count, dtype="int64"))
    return (*state, *made)


def _while(n: Node, body: Any, count: Any, go: Any, carry: Sequence[Any]) -> Any:
    def test(state: Any) -> Any:
        k, alive, _ = state
        return alive if count is None else alive & (k < array(count).reshape(()))

    def turn(state: Any) -> Any:
        k, alive, values = state
        again, *outs = _arrays(n.run(body, [k, alive, *values]))
        return k + 1, again.reshape(()), outs

    alive = fnp.asarray(True) if go is None else array(go).reshape(())
    start = fnp.zeros((), "int64"), alive, _arrays(carry)
    return tuple(lax.while_loop(test, turn, start)[2])


def _turns(n: Node, body: Any, count: Any, go: Any, carry: Sequence[Any]) -> Any:
    """Run a loop turn by turn, whose shapes and sequences may grow."""
    state, made = list(carry), [[] for _ in range(len(body.output) - 1 - len(carry))]
    most = None if count is None else n.number_of(count, "trip count")
    alive = go is None or bool(np.asarray(go).reshape(()))
    k = 0
    while alive and (most is None or k < most):
        n.turns[0] += 1
        if n.turns[0] > _UNROLLED:
            raise n.error(
                f"loops run more than {_UNROLLED} turns one by one; under jit those whose carried "
                "values are traced are compiled"
            )
        again, *outs = n.run(body, [np.asarray(k, np.int64), np.asarray(True), *state])
        state = outs[: len(carry)]
        for line, x in zip(made, outs[len(carry) :], strict=True):
            line.append(array(x))
        alive = bool(n.static(again, "condition").reshape(()))
        k += 1
    if not k and made:
        return (*state, *(_nothing(n, v) for v in body.output[1 + len(carry) :]))
    return (*state, *(fnp.stack(line) for line in made))


def _nothing(n: Node, info: Any) -> Any:
    """Return what no turn of a loop makes."""
    kind = info.type.tensor_type
    shape = [d.dim_value for d in kind.shape.dim]
    return fnp.zeros((0, *shape), dtype_of(kind.elem_type or 1, n.place))


def _scan(n: Node, *xs: Any) -> Any:
    body, read = n.need("body"), int(n.need("num_scan_inputs"))
    if n.opset < 9:
        raise n.unsupported("Scan of version 8 has a batch axis; convert the model to version 13")
    kept = len(xs) - read
    made = len(body.output) - kept
    ways = [n.get(f"scan_{w}_directions", [0] * c) for w, c in (("input", read), ("output", made))]
    axes = [n.get(f"scan_{w}_axes", [0] * c) for w, c in (("input", read), ("output", made))]
    moved = []
    for x, axis, way in zip(xs[kept:], axes[0], ways[0], strict=True):
        x = fnp.moveaxis(array(x), axis, 0)
        moved.append(fnp.flip(x, 0) if way else x)

    def turn(state: Any, items: Any) -> Any:
        outs = _arrays(n.run(body, [*state, *items]))
        return outs[:kept], outs[kept:]

    state, outs = lax.scan(turn, _arrays(xs[:kept]), moved)
    found = []
    for y, axis, way in zip(outs, axes[1], ways[1], strict=True):
        found.append(fnp.moveaxis(fnp.flip(y, 0) if way else y, 0, axis))
    return (*state, *found)


# ------------------------------------------------------------------------------ sequences
def _at(n: Node, place: Any, count: int) -> int:
    k = n.number_of(place, "position")
    if not -count <= k <= count:
        raise n.error(f"position {k} is outside of a sequence of {count}")
    return k + count if k < 0 else k


def _insert(n: Node, xs: Any, x: Any, place: Any = None) -> Any:
    k = len(xs) if place is None else _at(n, place, len(xs))
    return [*xs[:k], x, *xs[k:]]


def _erase(n: Node, xs: Any, place: Any = None) -> Any:
    k = len(xs) - 1 if place is None else _at(n, place, len(xs))
    return [*xs[:k], *xs[k + 1 :]]


def _concat_from(n: Node, xs: Any) -> Any:
    join = fnp.stack if n.get("new_axis", 0) else fnp.concatenate
    return join(list(map(array, xs)), axis=int(n.need("axis")))


def _split_to(n: Node, x: Any, sizes: Any = None) -> Any:
    x = array(x)
    axis = n.axis(x.ndim, 0)
    size = x.shape[axis]
    if sizes is None:
        parts = [1] * size
    elif np.ndim(n.static(sizes, "split")) == 0:
        each = n.number_of(sizes, "split")
        parts = [min(each, size - k) for k in range(0, size, max(each, 1))]
    else:
        parts = n.numbers(sizes, "split")
    cut = fnp.split(x, np.cumsum(parts)[:-1].tolist(), axis=axis)
    if sizes is None and not n.get("keepdims", 1):
        return [fnp.squeeze(p, axis) for p in cut]
    return list(cut)


def _element(n: Node, x: Any = None) -> Any:
    if x is None:
        raise n.error("the optional value is absent")
    return x


CONTROL: dict[str, Rule] = {
    "If": _if, "Loop": _loop, "Scan": _scan,
    "SequenceConstruct": lambda n, *xs: list(xs), "SequenceEmpty": lambda n: [],
    "SequenceAt": lambda n, xs, k: xs[_at(n, k, len(xs))],
    "SequenceLength": lambda n, xs: np.asarray(len(xs), np.int64),
    "SequenceInsert": _insert, "SequenceErase": _erase, "ConcatFromSequence": _concat_from,
    "SplitToSequence": _split_to, "Optional": lambda n, x=None: x, "OptionalGetElement": _element,
    "OptionalHasElement": lambda n, x=None: np.asarray(x is not None),
}  # fmt: skip
