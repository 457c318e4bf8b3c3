"""The base class of layers and models: an immutable record that is a pytree of its parameters.

Nothing here knows about training. A module is data, so every transform takes one as it takes a list
of arrays: ``grad`` gives a module of gradients, ``vmap`` a module of stacked parameters.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform

import funtorch as ft
import funtorch.numpy as fnp

from .locate import located

__all__ = ["Module", "field", "load_state_dict", "param_count", "state_dict", "static"]

M = TypeVar("M", bound="Module")


def field(*, static: bool = False, transparent: bool = False, **options: Any) -> Any:
    """Declare a field of a module with options.

    Args:
        static: whether the value is part of the module's structure rather than of its arrays.
        transparent: whether the names of what the field holds stand alone, without the field's, in
            state dicts and messages: a sequence of layers has ``0.weight``, not ``layers.0.weight``.
        **options: what `dataclasses.field` takes: ``default``, ``default_factory``, ``kw_only`` ...

    Returns:
        The field, to be assigned in the class body.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> class Scale(nnx.Module):
        ...     factor: ft.Array
        ...     axes: tuple[int, ...] = nnx.field(static=True, default=(0, 1))
        >>> Scale(fnp.ones(3)).axes
        (0, 1)
    """
    return dataclasses.field(metadata={"static": static, "transparent": transparent}, **options)


def static(default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """Declare a field that belongs to a module's structure: a size, a name, a function.

    Transforms leave it alone, and ``jit`` compiles anew for each of its values; so it must be
    hashable and comparable.

    Args:
        default: its value where none is given.
        **options: what `dataclasses.field` takes.

    Returns:
        The field, to be assigned in the class body.

    Example:
        >>> import funtorch as ft
        >>> from funtorch import nnx
        >>> class Power(nnx.Module):
        ...     exponent: int = nnx.static(2)
        ...
        ...     def __call__(self, x):
        ...         return x**self.exponent
        >>> ft.tree.leaves(Power(3))
        []
    """
    return field(static=True, default=default, **options)


class _HiddenKey(ft.tree_util.GetAttrKey):
    """A step of a key path that dotted names leave out."""


def _register(cls: Any) -> None:
    names, statics = cls._children, cls._statics
    keys = tuple(
        (_HiddenKey if name in cls._transparent else ft.tree_util.GetAttrKey)(name)
        for name in names
    )

    def flatten(module: Module) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = vars(module)
        return tuple([values[n] for n in names]), tuple([values[n] for n in statics])

    def flatten_with_keys(module: Module) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, aux = flatten(module)
        return tuple(zip(keys, children, strict=True)), aux

    def unflatten(aux: tuple[Any, ...], children: Any) -> Module:
        # Not through __init__: transforms put tracers, axis numbers or None where arrays were.
        module = object.__new__(cls)
        values = vars(module)
        values.update(zip(names, children, strict=True))
        values.update(zip(statics, aux, strict=True))
        return module

    ft.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


@dataclass_transform(field_specifiers=(dataclasses.field, field, static))
class _ModuleType(type):
    """Makes each subclass of Module a dataclass and a pytree, and freezes what it constructs."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
        written = owner is not object and not vars(owner).get("_generated_init", False)
        cls._generated_init = not written
        dataclasses.dataclass(init=not written, eq=False, repr=False)(cls)  # type: ignore[arg-type]
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        cls._children = tuple(f.name for f in fields if not f.metadata.get("static"))
        cls._statics = tuple(f.name for f in fields if f.metadata.get("static"))
        cls._transparent = frozenset(f.name for f in fields if f.metadata.get("transparent"))
        if "__call__" in namespace:
            cls.__call__ = located(namespace["__call__"])  # type: ignore[method-assign]
        _register(cls)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        module: Any = cls.__new__(cls, *args, **kwargs)  # type: ignore[arg-type]
        object.__setattr__(module, "_open", True)
        try:
            module.__init__(*args, **kwargs)
        finally:
            object.__delattr__(module, "_open")
        _complete(module)
        _check(module)
        return module


class Module(metaclass=_ModuleType):
    """Base of layers and models.

    A subclass lists its fields with annotations, as a dataclass does. Fields are parameters, other
    modules, or lists, tuples and dicts of these; those declared with `static` are part of the
    structure. Either take the constructor that the fields give, or write an ``__init__`` that
    assigns all of them. After construction a module never changes: `replace` makes changed copies.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> class MLP(nnx.Module):
        ...     l1: nnx.Linear
        ...     l2: nnx.Linear
        ...
        ...     def __init__(self, key):
        ...         k1, k2 = random.split(key)
        ...         self.l1 = nnx.Linear(64, 32, key=k1)
        ...         self.l2 = nnx.Linear(32, 10, key=k2)
        ...
        ...     def __call__(self, x):
        ...         return self.l2(nnx.relu(self.l1(x)))
        >>> model = MLP(random.key(0))
        >>> model(fnp.ones((5, 64))).shape
        (5, 10)
        >>> model
        MLP  # 2,410 parameters
          l1: Linear(in_features=64, out_features=32)  # 2,080 parameters
            weight: float32[32,64]
            bias: float32[32]
          l2: Linear(in_features=32, out_features=10)  # 330 parameters
            weight: float32[10,32]
            bias: float32[10]
        >>> gradients = ft.grad(lambda m, x: m(x).sum())(model, fnp.ones((5, 64)))
        >>> type(gradients).__name__, gradients.l2.weight.shape
        ('MLP', (10, 32))
    """

    # A slot, so that it is no entry of the instance's __dict__ and so no part of its state.
    __slots__ = ("__dict__", "__weakref__", "_open")

    _children: ClassVar[tuple[str, ...]]
    _statics: ClassVar[tuple[str, ...]]
    _transparent: ClassVar[frozenset[str]]
    _generated_init: ClassVar[bool]

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(self, "_open"):
            raise dataclasses.FrozenInstanceError(
                f"cannot assign to field {name!r} of {type(self).__name__}: a module does not "
                f"change after it is made. Make a changed copy: module.replace({name}=...)"
            )
        known = self._children + self._statics
        if name not in known:
            kind = "ft.Array" if _is_array(value) else type(value).__name__
            raise AttributeError(
                f"{type(self).__name__}.__init__ assigned {name!r}, which is not a field of the "
                f"class (fields: {_listed(known)}). Annotate it in the class body: "
                f"`{name}: {kind}`, with `= nnx.static()` after it if it is no array and holds none"
            )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(
            f"cannot delete field {name!r} of {type(self).__name__}: a module does not change "
            "after it is made"
        )

    def replace(self: M, **changes: Any) -> M:
        """Make a copy with some fields changed; ``__init__`` does not run again.

        Args:
            **changes: the new values by field name.

        Returns:
            A module of the same class; unchanged fields are shared with this one.

        Raises:
            TypeError: a name is not a field, or a static value cannot be hashed.

        Example:
            >>> import funtorch.numpy as fnp
            >>> from funtorch import nnx, random
            >>> layer = nnx.Linear(3, 2, key=random.key(0))
            >>> layer.replace(bias=fnp.ones(2)).bias
            Array([1., 1.], dtype=float32)
        """
        known = self._children + self._statics
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise TypeError(
                f"{type(self).__name__}.replace got {_listed(unknown)}, which the class does not "
                f"have; its fields are {_listed(known)}"
            )
        module = object.__new__(type(self))
        vars(module).update({**vars(self), **changes})
        _check(module)
        return module

    def __repr__(self) -> str:
        return "\n".join(_lines("", self, ""))


def _complete(module: Module) -> None:
    """Fill in defaults that a written ``__init__`` left out; complain of fields it did not set."""
    values, missing = vars(module), []
    for f in dataclasses.fields(module):  # type: ignore[arg-type]
        if f.name in values:
            continue
        if f.default is not dataclasses.MISSING:
            values[f.name] = f.default
        elif f.default_factory is not dataclasses.MISSING:
            values[f.name] = f.default_factory()
        else:
            missing.append(f.name)
    if missing:
        raise TypeError(
            f"{type(module).__name__}.__init__ did not set {_listed(missing)}: every annotated "
            "field needs a value there, or a default in the class body"
        )


def _check(module: Module) -> None:
    """Complain of static values that cannot be hashed and of children that can be no array."""
    name = type(module).__name__
    for static_name in module._statics:
        value = getattr(module, static_name)
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"static field {static_name!r} of {name} must be hashable, but it holds a "
                f"{type(value).__name__}. Use a tuple for a list; an array belongs in a field that "
                "is not static"
            ) from None
    for child_name in module._children:
        for leaf in ft.tree.leaves(getattr(module, child_name)):
            if callable(leaf) or isinstance(leaf, (str, bytes)):
                raise TypeError(
                    f"field {child_name!r} of {name} holds {leaf!r:.60}, which is no array. "
                    f"Declare it as structure: `{child_name}: ... = nnx.static()`"
                )


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "none"


# ----------------------------------------------------------------------------------------- printing
def title(module: Module) -> str:
    """Name a module in one line: its class and static fields.

    Args:
        module: the module.

    Returns:
        Text such as ``Linear(in_features=64, out_features=10)``.
    """
    settings = ", ".join(f"{name}={_plain(getattr(module, name))}" for name in module._statics)
    return type(module).__name__ + (f"({settings})" if settings else "")


def _plain(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def _lines(label: str, value: Any, indent: str) -> Iterator[str]:
    """Yield the lines of the tree below ``value``, one node a line."""
    head = f"{indent}{label}"
    if isinstance(value, Module):
        count = param_count(value)
        yield f"{head}{title(value)}" + (f"  # {_counted(count)}" if count else "")
        children: Any = [(name, getattr(value, name)) for name in value._children]
    elif isinstance(value, (list, tuple, dict)) and value:
        yield f"{head}{type(value).__name__}"
        children = value.items() if isinstance(value, dict) else enumerate(value)
    else:
        yield head + (_typed(value) if _is_array(value) else repr(value))
        return
    for name, child in children:
        yield from _lines(f"{name}: ", child, indent + "  ")


def _counted(count: int) -> str:
    return f"{count:,} parameter" + ("" if count == 1 else "s")


def _typed(x: Any) -> str:
    return f"{fnp.dtype(x.dtype).name}[{','.join(map(str, x.shape))}]"


# --------------------------------------------------------------------------------------- parameters
def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def param_count(model: Any) -> int:
    """Count the numbers in the floating-point and complex arrays of a model.

    Args:
        model: a module, or any pytree of arrays.

    Returns:
        How many there are; integer arrays, such as counters, do not count.

    Example:
        >>> from funtorch import nnx, random
        >>> nnx.param_count(nnx.Linear(64, 10, key=random.key(0)))
        650
    """
    return sum(
        leaf.size
        for leaf in ft.tree.leaves(model)
        if _is_array(leaf) and fnp.issubdtype(leaf.dtype, fnp.inexact)
    )


def _named_leaves(model: Any) -> tuple[list[tuple[str, Any]], Any]:
    leaves, treedef = ft.tree_util.tree_flatten_with_path(model)
    name_of = functools.partial(ft.tree_util.keystr, simple=True, separator=".")
    named = [
        (name_of(tuple(key for key in path if type(key) is not _HiddenKey)), leaf)
        for path, leaf in leaves
    ]
    seen: set[str] = set()
    for name, _ in named:
        if name in seen:
            raise ValueError(
                f"two arrays of the model have the dotted name {name!r}: a dict in it has a key "
                "with a dot in it. Rename that key"
            )
        seen.add(name)
    return named, treedef


def state_dict(model: Any) -> dict[str, Any]:
    """List the arrays of a model by their dotted paths.

    Args:
        model: a module, or any pytree of arrays.

    Returns:
        A dict such as ``{'l1.weight': ..., 'l1.bias': ...}``, ready for `funtorch.io.save`.

    Raises:
        ValueError: two arrays have the same dotted path.

    Example:
        >>> from funtorch import nnx, random
        >>> list(nnx.state_dict(nnx.Sequential(nnx.Linear(2, 3, key=random.key(0)), nnx.ReLU())))
        ['0.weight', '0.bias']
    """
    return {name: leaf for name, leaf in _named_leaves(model)[0] if _is_array(leaf)}


def load_state_dict(model: M, state: Mapping[str, Any]) -> M:
    """Make a copy of a model whose arrays are those of a state dict.

    Arrays are converted to the model's dtypes within one kind (float to float), and never change
    shape.

    Args:
        model: a module, or any pytree of arrays; only its structure, shapes and dtypes matter.
        state: arrays by dotted path, as from `state_dict` or `funtorch.io.load`.

    Returns:
        A model of the same structure.

    Raises:
        ValueError: names are missing or unknown, or shapes or kinds differ; all of them are named.

    Example:
        >>> from funtorch import nnx, random
        >>> a, b = (nnx.Linear(2, 3, key=random.key(i)) for i in range(2))
        >>> c = nnx.load_state_dict(b, nnx.state_dict(a))
        >>> bool((c.weight == a.weight).all())
        True
    """
    named, treedef = _named_leaves(model)
    wanted = {name: leaf for name, leaf in named if _is_array(leaf)}
    state = {name: x if _is_array(x) else fnp.asarray(x) for name, x in state.items()}
    problems = [f"missing: {name} {_typed(wanted[name])}" for name in wanted if name not in state]
    problems += [f"unknown: {name} {_typed(state[name])}" for name in state if name not in wanted]
    problems += [
        f"different: {name} is {_typed(wanted[name])} in the model, {_typed(state[name])} given"
        for name in wanted
        if name in state and not _fits(state[name], wanted[name])
    ]
    if problems:
        raise ValueError(
            f"the state dict does not fit {type(model).__name__}:\n  " + "\n  ".join(problems)
        )
    leaves = [
        fnp.asarray(state[name], dtype=leaf.dtype) if name in wanted else leaf
        for name, leaf in named
    ]
    return ft.tree_util.tree_unflatten(treedef, leaves)


def _fits(given: Any, wanted: Any) -> bool:
    same_kind = _kind(given) == _kind(wanted)
    return tuple(given.shape) == tuple(wanted.shape) and same_kind


def _kind(x: Any) -> str:
    kinds = ("floating", "complexfloating", "integer", "bool_")
    matches = (kind for kind in kinds if fnp.issubdtype(x.dtype, getattr(fnp, kind)))
    return next(matches, str(x.dtype))
