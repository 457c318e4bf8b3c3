"""The base class of layers and models: an immutable record that is a pytree of its parameters.

A module is data, so every transform takes one as it takes a list of arrays: ``grad`` gives a module
of gradients, ``vmap`` a module of stacked parameters. What differs in training is said by three
methods, `Module.fresh_key`, `Module.observe` and `Module.absorb`, which `train` answers to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .locate import located, methods_of

__all__ = ["Module", "buffer", "field", "param_count", "static"]

M = TypeVar("M", bound="Module")

# What layers ask for and say in training; `train` plants the one and reaps the other.
KEYS, SEEN = "nnx.keys", "nnx.seen"


def field(
    *, static: bool = False, buffer: bool = False, transparent: bool = False, **options: Any
) -> Any:
    """Declare a field of a module with options.

    Args:
        static: whether the value is part of the module's structure rather than of its arrays.
        buffer: whether its arrays are state rather than parameters, as `buffer` says.
        transparent: whether state dicts and messages name what the field holds without the field:
            a sequence of layers has ``0.weight``, not ``layers.0.weight``.
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
    metadata = {"static": static, "buffer": buffer, "transparent": transparent}
    return dataclasses.field(metadata=metadata, **options)


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


def buffer(default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """Declare a field of arrays that are state, not parameters: running statistics, counters.

    They are leaves, so transforms see them and `state_dict` lists them; `parameters`, `grad` and
    `value_and_grad` leave them out.

    Args:
        default: its value where none is given.
        **options: what `dataclasses.field` takes.

    Returns:
        The field, to be assigned in the class body.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> class Standardize(nnx.Module):
        ...     gain: ft.Array
        ...     mean: ft.Array = nnx.buffer()
        >>> nnx.parameters(Standardize(fnp.ones(2), fnp.zeros(2))).mean is None
        True
    """
    return field(buffer=True, default=default, **options)


class Mark(NamedTuple):
    """What is said of one module, beside its fields; part of its structure.

    ``path`` is its dotted name in the model that is in training, None where there is none;
    ``frozen`` are the fields that are no parameters here; one that is ``still`` does not train.
    ``watch`` is who is told of its calls, and by which name.
    """

    path: str | None = None
    frozen: frozenset[str] = frozenset()
    still: bool = False
    watch: tuple[Any, str] | None = None


def _register(cls: Any) -> None:
    names, statics = cls._children, cls._statics
    keys = tuple(ft.tree_util.GetAttrKey(name) for name in names)

    def flatten(module: Module) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = vars(module)
        aux = [values[n] for n in statics]
        aux.append(values.get("_mark"))
        return tuple([values[n] for n in names]), tuple(aux)

    def flatten_with_keys(module: Module) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, aux = flatten(module)
        return tuple(zip(keys, children, strict=True)), aux

    def unflatten(aux: tuple[Any, ...], children: Any) -> Module:
        # Not through __init__: transforms put tracers, axis numbers or None where arrays were.
        module = object.__new__(cls)
        values = vars(module)
        values.update(zip(names, children, strict=True))
        values.update(zip(statics, aux[:-1], strict=True))
        if aux[-1] is not None:
            values["_mark"] = aux[-1]
        return module

    ft.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


@dataclass_transform(field_specifiers=(dataclasses.field, field, static, buffer))
class _ModuleType(type):
    """Makes each subclass of Module a dataclass and a pytree, and freezes what it constructs."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
        written = owner is not object and not vars(owner).get("_generated_init", False)
        cls._generated_init = not written
        dataclasses.dataclass(init=not written, eq=False, repr=False)(cls)  # type: ignore[arg-type]
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        taken = [f.name for f in fields if f.name in vars(cls.__mro__[-2])]
        if taken:
            raise TypeError(
                f"{name} has fields named {_listed(taken)}, which is what modules call something "
                "of theirs; choose another name"
            )
        cls._children = tuple(f.name for f in fields if not f.metadata.get("static"))
        cls._statics = tuple(f.name for f in fields if f.metadata.get("static"))
        cls._transparent = frozenset(f.name for f in fields if f.metadata.get("transparent"))
        cls._buffers = frozenset(f.name for f in fields if f.metadata.get("buffer"))
        for method in methods_of(namespace, cls._children + cls._statics):
            setattr(cls, method, located(namespace[method]))
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
    _buffers: ClassVar[frozenset[str]]
    _transparent: ClassVar[frozenset[str]]
    _generated_init: ClassVar[bool]
    _mark: ClassVar[Mark | None] = None  # of an instance that has one: in its __dict__

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(self, "_open"):
            raise dataclasses.FrozenInstanceError(
                f"cannot assign to field {name!r} of {type(self).__name__}: a module does not "
                f"change after it is made. Make a changed copy: module.replace({name}=...)"
            )
        known = self._children + self._statics
        if name not in known:
            kind = "ft.Array" if is_array(value) else type(value).__name__
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
        module = changed(self, **changes)
        _check(module)
        return module

    def __repr__(self) -> str:
        return "\n".join(_lines("", self, ""))

    # ------------------------------------------------------------------------------- training
    @property
    def training(self) -> bool:
        """Whether this is a layer of a model that `train` runs."""
        return self._mark is not None and self._mark.path is not None

    def fresh_key(self, *like: Any) -> Any:
        """Return a random key for this call of a layer in training.

        Each call gets another one, and so does each step of a `scan`. Under `vmap` each lane gets
        one of its own if one of ``like`` has lanes, as a Python loop over them would.

        Args:
            *like: the arrays that are to be treated at random.

        Returns:
            A random key.

        Raises:
            ValueError: the layer is not in training.

        Example:
            >>> import funtorch.numpy as fnp
            >>> from funtorch import nnx, random
            >>> class Noise(nnx.Module):
            ...     def __call__(self, x):
            ...         return x + random.normal(self.fresh_key(x), x.shape) if self.training else x
            >>> noisy, _ = nnx.train(Noise(), random.key(0))(fnp.zeros(3))
            >>> bool((noisy != 0).all())
            True
        """
        path = self._path("fresh_key")
        words: Any = fnp.zeros(2, fnp.uint32)
        for x in like:
            x = fnp.asarray(x)
            if x.size:  # zeros that are mapped over wherever x is
                words = words + (x.ravel()[:1] != x.ravel()[:1]).astype(fnp.uint32)
        return random.wrap_key_data(ft.sow(words, name=path, tag=KEYS, mode="append"))

    def observe(self, **seen: Any) -> None:
        """Say what this call of a layer in training has seen; `absorb` will be told.

        Args:
            **seen: pytrees of arrays by name.

        Raises:
            ValueError: the layer is not in training.
        """
        path = self._path("observe")
        own = next(iter(ft.tree.leaves(self)), 0)
        seen, own = ft.tree.map(ft.lax.stop_gradient, (seen, own))
        # What a layer of several sees has their lanes, whatever it was computed from.
        some = (fnp.asarray(own) != own).any()
        seen = ft.tree.map(lambda x: fnp.where(some, x, x), seen)
        ranks = tuple(fnp.ndim(x) for x in ft.tree.leaves(seen))
        number = fnp.zeros((), fnp.uint8)
        ft.sow(Seen(seen, own, number, ranks, fnp.ndim(own)), name=path, tag=SEEN, mode="append")

    def absorb(self: M, *args: Any, **seen: Any) -> M:
        """Make the layer as it is after what one call has seen. Replaces fields by default.

        Args:
            **seen: what `observe` was given.

        Returns:
            A module of the same structure.

        Example:
            >>> import funtorch as ft
            >>> import funtorch.numpy as fnp
            >>> from funtorch import nnx
            >>> class Largest(nnx.Module):
            ...     bound: ft.Array = nnx.buffer()
            ...
            ...     def __call__(self, x):
            ...         if self.training:
            ...             self.observe(bound=abs(x).max())
            ...         return x / self.bound
            ...
            ...     def absorb(self, bound):
            ...         return self.replace(bound=fnp.maximum(self.bound, bound))
            >>> _, layer = nnx.train(Largest(fnp.ones(())))(fnp.array([1.0, -3.0]))
            >>> float(layer.bound)
            3.0
        """
        return self.replace(*args, **seen)

    def _path(self, method: str) -> str:
        if not self.training:
            raise ValueError(
                f"{type(self).__name__}.{method} is for training, and the layer is in evaluation. "
                "Ask `self.training` first; nnx.train(model, key)(x) is training"
            )
        return self._mark.path  # type: ignore[union-attr, return-value]

    def dotted_name(self, field: str) -> str:
        """Name a field in dotted paths, as `state_dict` has them: as it is, unless overridden.

        Args:
            field: the field.

        Returns:
            Its part of the path; '' to leave it out.
        """
        return "" if field in self._transparent else field


class Seen(Module):
    """What one call has seen, and one of the module's arrays, with the ranks they had then.

    What is reaped has more axes: those of loops around the call, then those of mapped lanes. The
    module's array has lanes only where modules are stacked, and a number none at all.
    """

    values: dict[str, Any]
    own: Any
    number: Any
    ranks: tuple[int, ...] = static()
    own_rank: int = static()


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
        frozen = ", frozen" if value._mark is not None and value._mark.still else ""
        yield f"{head}{title(value)}" + (f"  # {_counted(count)}{frozen}" if count else "")
        children: Any = [(name, getattr(value, name)) for name in value._children]
    elif isinstance(value, (list, tuple, dict)) and value:
        yield f"{head}{type(value).__name__}"
        children = value.items() if isinstance(value, dict) else enumerate(value)
    else:
        yield head + (typed(value) if is_array(value) else repr(value))
        return
    for name, child in children:
        yield from _lines(f"{name}: ", child, indent + "  ")


def _counted(count: int) -> str:
    return f"{count:,} parameter" + ("" if count == 1 else "s")


def typed(x: Any) -> str:
    """Write an array's dtype and shape."""
    return f"{fnp.dtype(x.dtype).name}[{','.join(map(str, x.shape))}]"


# --------------------------------------------------------------------------------------- parameters
def is_array(x: Any) -> bool:
    """Tell whether x is an array, or stands for one."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def param_count(model: Any) -> int:
    """Count the numbers in the parameters of a model, frozen ones too.

    Args:
        model: a module, or any pytree of arrays.

    Returns:
        How many there are; buffers and integer arrays, such as counters, do not count.

    Example:
        >>> from funtorch import nnx, random
        >>> nnx.param_count(nnx.Linear(64, 10, key=random.key(0)))
        650
    """
    return sum(
        leaf.value.size
        for leaf in named_leaves(model)
        if is_array(leaf.value) and is_inexact(leaf.value) and not leaf.buffer
    )


def is_inexact(x: Any) -> bool:
    """Tell whether x is a floating-point or complex array or number, which has derivatives."""
    if is_array(x):
        return fnp.issubdtype(x.dtype, fnp.inexact)
    return isinstance(x, (float, complex))


class Leaf(NamedTuple):
    """A leaf of a model, with its dotted path and what fields that hold it are declared as."""

    name: str
    value: Any
    buffer: bool
    frozen: bool


def is_module(x: Any) -> bool:
    """Tell whether x is a module; what tree functions take as ``is_leaf``."""
    return isinstance(x, Module)


def joined(*parts: str) -> str:
    """Join the parts of a dotted path that are not empty."""
    return ".".join(filter(None, parts))


def dotted(path: Any) -> str:
    """Write a key path of a pytree with dots."""
    return ft.tree_util.keystr(path, simple=True, separator=".")


def named_leaves(
    tree: Any, prefix: str = "", buffer: bool = False, frozen: bool = False
) -> Iterator[Leaf]:
    """Yield the leaves of a model in the order in which pytrees have them.

    Args:
        tree: a module, or any pytree of modules and arrays.
        prefix: its dotted path.
        buffer: whether it is in a field of buffers.
        frozen: whether it is in a frozen field; modules in it say so themselves.
    """
    for path, node in ft.tree_util.tree_leaves_with_path(tree, is_leaf=is_module):
        name = joined(prefix, dotted(path))
        if not is_module(node):
            yield Leaf(name, node, buffer, frozen)
            continue
        still = node._mark.frozen if node._mark is not None else ()
        for field_name in node._children:
            yield from named_leaves(
                getattr(node, field_name),
                joined(name, node.dotted_name(field_name)),
                buffer or field_name in node._buffers,
                field_name in still,
            )


def map_modules(
    function: Callable[[str, Any], Any], tree: Any, prefix: str = "", short: bool = False
) -> Any:
    """Rebuild a model, applying ``function(path, module)`` to every module, inner ones first.

    Args:
        function: what to apply.
        tree: a module, or any pytree of modules and arrays.
        prefix: its dotted path.
        short: whether paths are those of `Module.dotted_name`, where a module may have the path of
            one that holds it, or of the names of all fields.

    Returns:
        The new model.
    """

    def at(path: Any, node: Any) -> Any:
        if not is_module(node):
            return node
        name = joined(prefix, dotted(path))
        changes = {}
        for field_name in node._children:
            value = getattr(node, field_name)
            if not is_array(value) and value is not None:
                step = node.dotted_name(field_name) if short else field_name
                changes[field_name] = map_modules(function, value, joined(name, step), short)
        return function(name, changed(node, **changes))

    return ft.tree_util.tree_map_with_path(at, tree, is_leaf=is_module)


def changed(module: M, **changes: Any) -> M:
    """Copy a module with other values in it, which need not be arrays; `replace` checks them."""
    copy = object.__new__(type(module))
    vars(copy).update({**vars(module), **changes})
    return copy


def marked(module: M, mark: Mark | None) -> M:
    """Copy a module with a mark."""
    copy = changed(module)
    if mark is None or mark == Mark():
        vars(copy).pop("_mark", None)
    else:
        vars(copy)["_mark"] = mark
    return copy
