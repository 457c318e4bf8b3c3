"""State without hidden state: `sow` names a value, `reap` returns it, `plant` puts another there.

A sown value is itself; two primitives mark it and its tangent in programs. `Harvest` is the
interpreter that looks for them, also in the programs inside loops, branches and calls, which get
more results (what was sown) and more operands (what is planted).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from funtorch import arraytree as tree
from funtorch.core import Primitive, ShapedArray, Trace, _state, aval_of, current, source_of
from funtorch.jaxpr import Eqn, Jaxpr, eval_jaxpr, stage, sub_jaxprs
from funtorch.ops.families import linear, zeros
from funtorch.ops.shape import slice as slice_
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis
from .restage import Restaged, pick, split, stage_hoisted
from .staging import ShapeDtypeStruct

__all__ = ["plant", "reap", "recomputed", "sow"]

MODES = ("strict", "append", "clobber")


class Sown(NamedTuple):
    """One array that was sown: leaf number ``leaf`` of what has the name."""

    name: str
    tag: str
    mode: str
    leaf: int
    treedef: Any
    again: bool = False  # in what is computed again for a derivative


# ------------------------------------------------------------------------------------ primitives
def _same(x: ShapedArray, *, sown: Sown) -> ShapedArray:
    return x


def _pass_on(axis: Axis, args: Any, batched: Any, *, sown: Sown) -> tuple[Any, bool]:
    return sow_p.bind(*args, sown=sown), batched[0]


# What a sown value's tangents and cotangents go through: where it is planted they are zero.
sown_tangent_p = linear(
    "sown_tangent",
    type=_same,
    eager=lambda xp, t, *, sown: t,
    transpose=lambda ct, t, *, sown: [sown_tangent_p.bind(ct, sown=sown)],
    batch=lambda axis, args, batched, *, sown: (sown_tangent_p.bind(*args, sown=sown), batched[0]),
)
sown_tangent_p.expand = lambda t, *, sown: t

sow_p = Primitive("sow", keeps_weak=True)
sow_p.type, sow_p.batch = _same, _pass_on
sow_p.eager = lambda xp, x, *, sown: x
sow_p.expand = lambda x, *, sown: x
sow_p.transpose = lambda ct, x, *, sown: [ct]


def _sow_jvp(primals: Any, tangents: Any, *, sown: Sown) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    return sow_p.bind(x, sown=sown), sown_tangent_p.bind(t, sown=sown)


sow_p.jvp = _sow_jvp


# ------------------------------------------------------------------------------------ interpreter
Resolve = Callable[[Sown, ShapedArray], Any]


class Harvest(Trace):
    """Note what is sown with a tag; ``resolve`` gives what is planted in its place, or None."""

    __slots__ = ("places", "planted", "resolve", "tag", "values")
    collects = True

    def __init__(self, parent: Trace, tag: str, resolve: Resolve, fun: Any) -> None:
        super().__init__(parent, fun)
        self.tag = tag
        self.resolve = resolve
        self.values: list[tuple[Sown, Any]] = []
        self.places: dict[tuple[str, int], Any] = {}
        self.planted: set[str] = set()

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if prim is sow_p and params["sown"].tag == self.tag:
            return self._sow(args[0], params["sown"])
        saved, _state.trace = _state.trace, self.parent
        try:
            if prim is sown_tangent_p and params["sown"].tag == self.tag:
                # Its value was planted before its tangent comes by.
                if params["sown"].name in self.planted:
                    return zeros(aval_of(args[0]))
                return prim.bind(*args, **params)
            rule = _RULES.get(prim.name)
            if rule is not None:
                return rule(self, prim, args, params)
            if any(_marks(j, self.tag) for j in sub_jaxprs(params)):
                raise NotImplementedError(
                    f"what is sown inside of {prim.name} cannot be reaped or planted (tag "
                    f"{self.tag!r}): sow it outside"
                )
            return prim.bind(*args, **params)
        finally:
            _state.trace = saved

    def _sow(self, x: Any, sown: Sown) -> Any:
        there = self.resolve(sown, aval_of(x))
        if there is not None:
            self.planted.add(sown.name)
            return there
        self.note(sown, x)
        return x

    def note(self, sown: Sown, value: Any) -> None:
        """Take in a value that was sown."""
        if sown.again:
            self.values.append((sown, value))
            return
        place, source = (sown.name, sown.leaf), source_of()
        if sown.mode == "strict" and place in self.places:
            raise ValueError(
                f"sow: the name {sown.name!r} (tag {sown.tag!r}) is used twice, at "
                f"{self.places[place]} and at {source}: give each value a name of its own, or "
                "choose mode='append' to get all, mode='clobber' to get the last"
            )
        self.places[place] = source
        self.values.append((sown, value))


def _marks(jaxpr: Jaxpr, tag: str) -> bool:
    """Tell whether a program sows something with a tag."""
    key = ("sows", tag)
    if key not in jaxpr.memo:
        jaxpr.memo[key] = any(
            (eqn.prim in (sow_p, sown_tangent_p) and eqn.params["sown"].tag == tag)
            or any(_marks(sub, tag) for sub in sub_jaxprs(eqn.params))
            for eqn in jaxpr.eqns
        )
    return jaxpr.memo[key]


def _harvest_flat(
    f: Callable[..., Sequence[Any]], args: Sequence[Any], tag: str, resolve: Resolve, fun: Any = ""
) -> tuple[list[Any], Harvest]:
    trace = Harvest(current(), tag, resolve, fun)
    with trace:
        outs = list(f(*args))
    return outs, trace


class _Program(NamedTuple):
    """A program with what it sows as more results and what is planted as more leading operands."""

    restaged: Restaged
    sown: list[Sown]  # reaped
    avals: list[ShapedArray]  # of those
    planted: frozenset[str]


def _nothing(sown: Sown, aval: ShapedArray) -> Any:
    return None


def _all_sown(jaxpr: Jaxpr, tag: str) -> _Program:
    return _program(jaxpr, tag, None, frozenset())


def _program(
    jaxpr: Jaxpr, tag: str, flags: tuple[bool, ...] | None, planted: frozenset[str]
) -> _Program:
    """Return the program (planted values, inputs) -> (outputs, values sown).

    Args:
        flags: which of the values that it sows, in order, are planted; None: none.
        planted: names planted before, whose tangents are zero.
    """
    key = ("harvest", tag, flags, planted)
    if key in jaxpr.memo:
        return jaxpr.memo[key]
    given_avals: list[ShapedArray] = []
    if flags is not None:
        given_avals = pick(_all_sown(jaxpr, tag).avals, flags)
    box: list[Any] = []

    def f(*args: Any) -> list[Any]:
        given = iter(args[: len(given_avals)])
        marks = iter(flags or ())

        def resolve(sown: Sown, aval: ShapedArray) -> Any:
            return next(given) if flags is not None and next(marks) else None

        trace = Harvest(current(), tag, resolve, "")
        trace.planted.update(planted)
        with trace:
            outs = eval_jaxpr(jaxpr, *args[len(given_avals) :])
        box.append(([s for s, _ in trace.values], frozenset(trace.planted)))
        values = [v for _, v in trace.values]
        box.append([aval_of(v) for v in values])
        return [*outs, *values]

    staged, consts = stage_hoisted(f, [*given_avals, *jaxpr.in_avals])
    (sown, names), avals = box
    found = _Program(Restaged(staged, consts, None), sown, avals, names)
    jaxpr.memo[key] = found
    return found


def _planted(
    trace: Harvest, program: _Program, outside: Callable[[Sown, ShapedArray], ShapedArray]
) -> tuple[tuple[bool, ...], list[Any]]:
    """Return which values of a program are planted, and what with."""
    found = [
        trace.resolve(s, outside(s, a)) for s, a in zip(program.sown, program.avals, strict=True)
    ]
    return tuple(v is not None for v in found), [v for v in found if v is not None]


def _as_it_is(sown: Sown, aval: ShapedArray) -> ShapedArray:
    return aval


# ------------------------------------------------------------------------------------ rules
def _call(trace: Harvest, prim: Primitive, args: Any, params: Any) -> Any:
    """Calls: jit, remat."""
    jaxpr = params["jaxpr"]
    if not _marks(jaxpr, trace.tag):
        return prim.bind(*args, **params)
    flags, given = _planted(trace, _all_sown(jaxpr, trace.tag), _as_it_is)
    made = _program(jaxpr, trace.tag, flags, frozenset(trace.planted))
    results = prim.bind(
        *made.restaged.consts, *given, *args, **{**params, "jaxpr": made.restaged.jaxpr}
    )
    return _noted(trace, made, results, len(jaxpr.outvars))


def _noted(trace: Harvest, made: _Program, results: Sequence[Any], n: int) -> list[Any]:
    trace.planted.update(made.planted)
    for sown, value in zip(made.sown, results[n:], strict=True):
        trace.note(sown, value)
    return list(results[:n])


def _custom(trace: Harvest, prim: Primitive, args: Any, params: Any) -> Any:
    """Custom rules give results; what is sown inside is computed, and differentiated, beside."""
    fun, jaxpr = params["fun"], params["jaxpr"]
    if jaxpr is None:
        jaxpr = stage(fun, [aval_of(a) for a in args])
    if not _marks(jaxpr, trace.tag):
        return prim.bind(*args, **params)
    with_consts = [*jaxpr.consts, *args] if jaxpr.constvars else args
    hoisted = jaxpr.hoisted()
    flags, given = _planted(trace, _all_sown(hoisted, trace.tag), _as_it_is)
    made = _program(hoisted, trace.tag, flags, frozenset(trace.planted))
    outs = prim.bind(*args, **params)
    results = eval_jaxpr(made.restaged.jaxpr, *made.restaged.consts, *given, *with_consts)
    n = len(hoisted.outvars)
    if any(flags):  # the rules know nothing of what is planted
        return _noted(trace, made, results, n)
    return _noted(trace, made, [*outs, *results[n:]], n)


def _inline(trace: Harvest, prim: Primitive, args: Any, params: Any) -> Any:
    """Calls whose rules do not fit a program of more results."""
    jaxpr = params["jaxpr"]
    if not _marks(jaxpr, trace.tag):
        return prim.bind(*args, **params)
    _state.trace = trace
    return eval_jaxpr(jaxpr, *args)


def _scan(trace: Harvest, prim: Primitive, args: Any, params: Any) -> Any:
    """Values of all steps are stacked; of mode 'clobber' there is the last one."""
    jaxpr, n_carry, length = params["jaxpr"], params["num_carry"], params["length"]
    if not _marks(jaxpr, trace.tag):
        return prim.bind(*args, **params)

    def outside(sown: Sown, aval: ShapedArray) -> ShapedArray:
        return aval if sown.mode == "clobber" else aval.update(shape=(length, *aval.shape))

    every = _all_sown(jaxpr, trace.tag)
    flags, given = _planted(trace, every, outside)
    made = _program(jaxpr, trace.tag, flags, frozenset(trace.planted))
    kept = [s.mode == "clobber" for s, f in zip(every.sown, flags, strict=True) if f]
    fixed, moving = pick(given, kept), pick(given, [not k for k in kept])
    consts, init, xs = split(args, params["num_consts"], n_carry)
    n_k = len(made.restaged.consts)

    # The program takes (its constants, planted, consts, carry, xs).
    def body(*ins: Any) -> list[Any]:
        own, still, others, carry, going, rest = split(
            ins, n_k, len(fixed), len(consts), n_carry, len(moving)
        )
        of_fixed, of_moving = iter(still), iter(going)
        planted = [next(of_fixed) if k else next(of_moving) for k in kept]
        return eval_jaxpr(made.restaged.jaxpr, *own, *planted, *others, *carry, *rest)

    in_avals = jaxpr.in_avals
    step_avals = [a.update(shape=a.shape[1:]) for a in map(aval_of, moving)]
    c_avals, carry_avals, x_avals = split(in_avals, len(consts), n_carry)
    avals = [
        *map(aval_of, made.restaged.consts),
        *map(aval_of, fixed),
        *c_avals,
        *carry_avals,
        *step_avals,
        *x_avals,
    ]
    staged, more = stage_hoisted(body, avals)
    results = prim.bind(
        *more,
        *made.restaged.consts,
        *fixed,
        *consts,
        *init,
        *moving,
        *xs,
        **{**params, "jaxpr": staged, "num_consts": len(more) + n_k + len(fixed) + len(consts)},
    )
    n = len(jaxpr.outvars)
    values = [
        _last(v, params["reverse"]) if s.mode == "clobber" else v
        for s, v in zip(made.sown, results[n:], strict=True)
    ]
    return _noted(trace, made, [*results[:n], *values], n)


def _last(x: Any, reverse: bool) -> Any:
    size, rest = x.shape[0], x.shape[1:]
    if size == 0:
        return zeros(aval_of(x).update(shape=rest))
    at = 0 if reverse else size - 1
    none = (0,) * len(rest)
    cut = slice_(x, start=(at, *none), limit=(at + 1, *rest), stride=(1,) * (len(rest) + 1))
    return cut.reshape(rest)


def _while(trace: Harvest, prim: Primitive, args: Any, params: Any) -> Any:
    """The last value of mode 'clobber' is carried; the number of steps is not known."""
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    if _marks(cond, trace.tag):
        raise ValueError(
            f"sow: the condition of while_loop cannot sow (tag {trace.tag!r}): sow in the body"
        )
    if not _marks(body, trace.tag):
        return prim.bind(*args, **params)
    every = _all_sown(body, trace.tag)
    for sown in every.sown:
        if sown.mode != "clobber" and not sown.again:
            raise ValueError(
                f"sow: {sown.name!r} (tag {sown.tag!r}) is sown in a while_loop, whose number of "
                "steps is not known: choose mode='clobber' to get the last value, or use scan"
            )
    flags, given = _planted(trace, every, _as_it_is)
    made = _program(body, trace.tag, flags, frozenset(trace.planted))
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    conds, consts, init = split(args, n_cond, n_body)
    extra = [zeros(a) for a in made.avals]
    before = [*made.restaged.consts, *given, *consts]
    n, at = len(init), len(before)

    def step(*xs: Any) -> list[Any]:
        return eval_jaxpr(made.restaged.jaxpr, *xs[: at + n])

    ins = made.restaged.jaxpr.in_avals
    staged, more = stage_hoisted(step, [*ins, *map(aval_of, extra)])
    goes_on, more_cond = stage_hoisted(
        lambda *xs: eval_jaxpr(cond, *xs[: n_cond + n]), [*cond.in_avals, *map(aval_of, extra)]
    )
    results = prim.bind(
        *more_cond,
        *conds,
        *more,
        *before,
        *init,
        *extra,
        cond_jaxpr=goes_on,
        body_jaxpr=staged,
        cond_nconsts=len(more_cond) + n_cond,
        body_nconsts=len(more) + at,
    )
    return _noted(trace, made, results, n)


def _cond(trace: Harvest, prim: Primitive, args: Any, params: Any) -> Any:
    """All branches must sow the same, or else all that they sow is planted."""
    branches = params["branches"]
    if not any(_marks(b, trace.tag) for b in branches):
        return prim.bind(*args, **params)
    every = [_all_sown(b, trace.tag) for b in branches]
    said = [[(s, a.shape, a.dtype) for s, a in zip(p.sown, p.avals, strict=True)] for p in every]
    same = all(s == said[0] for s in said)
    found = [_planted(trace, p, _as_it_is) for p in (every[:1] if same else every)]
    if not (same or all(all(flags) for flags, _ in found)):
        raise _uneven(trace.tag, every)
    found = found * len(every) if same else found
    names = frozenset(trace.planted)
    made = [_program(b, trace.tag, f[0], names) for b, f in zip(branches, found, strict=True)]
    fronts = [[*m.restaged.consts, *f[1]] for m, f in zip(made, found, strict=True)]
    before = [x for front in fronts for x in front]
    avals = [aval_of(x) for x in (*before, *args[1:])]
    staged = []
    for k, m in enumerate(made):
        lo = sum(map(len, fronts[:k]))

        def run(*xs: Any, lo: int = lo, m: _Program = m, own: int = len(fronts[k])) -> list[Any]:
            return eval_jaxpr(m.restaged.jaxpr, *xs[lo : lo + own], *xs[len(before) :])

        staged.append(stage(run, avals))
        trace.planted.update(m.planted)
    results = prim.bind(args[0], *before, *args[1:], branches=tuple(staged))
    return _noted(trace, made[0], results, len(branches[0].outvars))


def _uneven(tag: str, every: list[_Program]) -> ValueError:
    def listed(p: _Program) -> str:
        pairs = zip(p.sown, p.avals, strict=True)
        return ", ".join(f"{s.name!r} {a.str_short()}" for s, a in pairs) or "nothing"

    shown = "; ".join(f"branch {k} sows {listed(p)}" for k, p in enumerate(every))
    return ValueError(
        f"sow: what is sown under cond or switch must be sown by every branch, with the same types "
        f"(tag {tag!r}): {shown}"
    )


def _rewind(trace: Harvest, prim: Primitive, args: Any, params: Any) -> Any:
    """The derivative of a while_loop: its steps, done again, sow nothing new."""
    body = params["body"]
    if _marks(body, trace.tag):
        every = _all_sown(body, trace.tag)
        if any(_planted(trace, every, _as_it_is)[0]):
            raise NotImplementedError(
                f"plant: what is sown in a while_loop (tag {trace.tag!r}) cannot be planted where "
                "the loop is differentiated in reverse: use scan"
            )
    return prim.bind(*args, **params)


_RULES: dict[str, Callable[[Harvest, Primitive, Any, Any], Any]] = {
    "jit": _call,
    "remat": _call,
    "custom_jvp_call": _custom,
    "custom_vjp_call": _custom,
    "custom_vmap_call": _inline,
    "custom_linear_solve": _inline,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "rewound": _rewind,
    "rewind": _rewind,
    "swayed": _rewind,
}


def recomputed(jaxpr: Jaxpr) -> Jaxpr:
    """Return a program that is run once more than the user wrote: what it sows is known."""
    if "recomputed" not in jaxpr.memo:
        eqns = [_again(eqn) for eqn in jaxpr.eqns]
        same = all(a is b for a, b in zip(eqns, jaxpr.eqns, strict=True))
        jaxpr.memo["recomputed"] = (
            jaxpr
            if same
            else Jaxpr(jaxpr.invars, eqns, jaxpr.outvars, jaxpr.constvars, jaxpr.consts)
        )
    return jaxpr.memo["recomputed"]


def _is_same(a: Any, b: Any) -> bool:
    if type(b) is tuple:
        return all(x is y for x, y in zip(a, b, strict=True))
    return a is b


def _again(eqn: Eqn) -> Eqn:
    def seen(value: Any) -> Any:
        if isinstance(value, Sown):
            return value._replace(again=True)
        if isinstance(value, Jaxpr):
            return recomputed(value)
        if type(value) is tuple and any(isinstance(v, Jaxpr) for v in value):
            return tuple([seen(v) for v in value])
        return value

    params = {key: seen(value) for key, value in eqn.params.items()}
    if all(_is_same(params[key], value) for key, value in eqn.params.items()):
        return eqn
    return Eqn(eqn.prim, eqn.invars, params, eqn.outvars, eqn.source)


# ------------------------------------------------------------------------------------ public
def sow(value: Any, *, name: str, tag: str = "state", mode: str = "strict") -> Any:
    """Name a value, so that `reap` can return it from outside, and `plant` replace it.

    Args:
        value: pytree of arrays.
        name: its name.
        tag: what kind of value it is; `reap` and `plant` look for one tag.
        mode: what a second value of the name is: 'strict', an error; 'append', one more;
            'clobber', the one that counts. In loops 'clobber' gives the last step's value, the
            others stack those of all steps.

    Returns:
        The same value. Use it instead of the argument, so that it can be planted.

    Example:
        >>> import funtorch as ft
        >>> def f(x):
        ...     h = ft.sow(x * 2, name="hidden", tag="activations")
        ...     return h + 1
        >>> out, sown = ft.reap(f, tag="activations")(3)
        >>> int(out), int(sown["hidden"])
        (7, 6)
        >>> int(ft.plant(f, tag="activations")({"hidden": 10}, 3))
        11
    """
    if not isinstance(name, str) or not isinstance(tag, str):
        raise TypeError(
            f"sow: name and tag must be strings, got {type(name).__name__} and {type(tag).__name__}"
        )
    if mode not in MODES:
        raise ValueError(f"sow: mode must be one of {MODES}, got {mode!r}")
    leaves, treedef = tree.flatten(value)
    arrays = as_arrays(leaves, "value", sow)
    outs = [sow_p.bind(x, sown=Sown(name, tag, mode, k, treedef)) for k, x in enumerate(arrays)]
    return treedef.unflatten(outs)


def _collected(values: Sequence[tuple[Sown, Any]]) -> dict[str, Any]:
    """Return what was sown by name: a value, or a tuple of values of mode 'append'."""
    found: dict[str, Any] = {}
    parts: dict[str, list[Any]] = {}
    for sown, value in values:
        if sown.again:
            continue
        own = parts.setdefault(sown.name, [])
        own.append(value)
        if len(own) == sown.treedef.num_leaves:
            whole = sown.treedef.unflatten(own)
            if sown.mode == "append":
                found[sown.name] = (*found.get(sown.name, ()), whole)
            else:
                found[sown.name] = whole
            parts[sown.name] = []
    return found


def reap(fun: Callable[..., Any], *, tag: str = "state") -> Callable[..., Any]:
    """Make a function that returns, beside the result of ``fun``, what it sows with a tag.

    Args:
        fun: a function of arrays or pytrees of arrays.
        tag: the tag.

    Returns:
        A function of the same arguments that returns ``(result, values by name)``. Values sown
        under `vmap` have the mapped axis in front, those in `scan` the steps.

    Raises:
        ValueError: if a name is used twice, or only some branches of `cond` sow it.

    Example:
        >>> import funtorch as ft
        >>> step = lambda c, x: (c + ft.sow(x * x, name="square"), None)
        >>> (total, _), sown = ft.reap(lambda xs: ft.lax.scan(step, 0, xs))(ft.numpy.arange(3))
        >>> int(total), sown["square"]
        (5, Array([0, 1, 4], dtype=int32))
    """
    check_callable(fun, "reap")

    @boundary
    @functools.wraps(fun)
    def reaped(*args: Any, **kwargs: Any) -> Any:
        box: list[Any] = []

        def run() -> list[Any]:
            box.append(fun(*args, **kwargs))
            return []

        _, trace = _harvest_flat(run, (), tag, _nothing, fun)
        return box[0], _collected(trace.values)

    return reaped


class _Plants:
    """Hands out planted leaves in the order in which they are asked for."""

    def __init__(self, plants: dict[str, Any], tag: str, fun: Any) -> None:
        self.plants, self.tag, self.fun = dict(plants), tag, fun
        self.used: set[str] = set()
        self.queues: dict[str, Iterator[Any]] = {}
        self.now: dict[str, Any] = {}  # the value that is being handed out leaf by leaf

    def __call__(self, sown: Sown, aval: ShapedArray) -> Any:
        if sown.name not in self.plants:
            return None
        self.used.add(sown.name)
        value = self.plants[sown.name]
        if sown.mode == "append":
            if sown.again:
                raise _again_and_several(sown)
            if sown.leaf == 0:
                queue = self.queues.setdefault(sown.name, iter(value))
                self.now[sown.name] = next(queue, None)
            value = self.now[sown.name]
            if value is None:
                return None
        leaves, treedef = tree.flatten(value)
        if treedef != sown.treedef:
            raise TypeError(
                f"plant: {sown.name!r} (tag {self.tag!r}) in {function_name(self.fun)} has the "
                f"structure {sown.treedef}; given is {treedef}"
            )
        return _fitting(leaves[sown.leaf], sown, aval, self.tag, self.fun)


class _Asked:
    """Asks a function what to plant, once for each array that is sown."""

    def __init__(self, ask: Callable[[str, ShapeDtypeStruct], Any], tag: str, fun: Any) -> None:
        self.ask, self.tag, self.fun = ask, tag, fun
        self.given: dict[tuple[str, int], list[Any]] = {}

    def __call__(self, sown: Sown, aval: ShapedArray) -> Any:
        earlier = self.given.setdefault((sown.name, sown.leaf), [])
        if sown.again:
            if len(earlier) > 1:
                raise _again_and_several(sown)
            return earlier[0]
        value = self.ask(sown.name, ShapeDtypeStruct(aval.shape, aval.dtype))
        if value is not None:
            value = _fitting(value, sown, aval, self.tag, self.fun)
        earlier.append(value)
        return value


def _again_and_several(sown: Sown) -> NotImplementedError:
    return NotImplementedError(
        f"plant: {sown.name!r}, of mode 'append', is computed again for a derivative "
        "(checkpoint): give each value a name of its own"
    )


def _fitting(value: Any, sown: Sown, aval: ShapedArray, tag: str, fun: Any) -> Any:
    (leaf,) = as_arrays([value], f"planted {sown.name!r}", fun)
    if leaf.weak_type and leaf.dtype != aval.dtype:
        leaf = leaf.astype(aval.dtype)
    if leaf.shape != aval.shape or leaf.dtype != aval.dtype:
        raise TypeError(
            f"plant: {sown.name!r} (tag {tag!r}) in {function_name(fun)} is "
            f"{aval.str_short()}; given is {leaf.aval.str_short()}"
        )
    return leaf


def plant(fun: Callable[..., Any], *, tag: str = "state") -> Callable[..., Any]:
    """Make a function in which values sown with a tag are replaced by given ones.

    Args:
        fun: a function of arrays or pytrees of arrays.
        tag: the tag.

    Returns:
        A function ``(plants, *args)`` that returns what ``fun`` returns with the values of
        ``plants``, a dictionary by name as `reap` gives it, in the place of those sown. What is
        planted does not depend on the arguments, so the derivative through it is zero.
        ``plants`` may also be a function ``(name, like)`` that is asked, in the program's order,
        for each array that is sown: ``like`` has the shape, with the steps of a scan in front,
        and dtype; None leaves the value as it is.

    Raises:
        TypeError: if a planted value has another structure, shape or dtype than the sown one.
        ValueError: if nothing of a name is sown.

    Example:
        >>> import funtorch as ft
        >>> f = lambda x: ft.sow(x * x, name="square") + x
        >>> float(ft.plant(f)({"square": 100.0}, 3.0))
        103.0
        >>> float(ft.grad(lambda x: ft.plant(f)({"square": 100.0}, x))(3.0))
        1.0
    """
    check_callable(fun, "plant")

    @boundary
    @functools.wraps(fun)
    def planted(plants: Any, *args: Any, **kwargs: Any) -> Any:
        given: Any = _Asked(plants, tag, fun) if callable(plants) else _Plants(plants, tag, fun)
        box: list[Any] = []

        def run() -> list[Any]:
            box.append(fun(*args, **kwargs))
            return []

        _harvest_flat(run, (), tag, given, fun)
        unused = [] if callable(plants) else sorted(plants.keys() - given.used)
        if unused:
            raise ValueError(
                f"plant: {function_name(fun)} sows nothing named {', '.join(map(repr, unused))} "
                f"with tag {tag!r}"
            )
        return box[0]

    return planted
