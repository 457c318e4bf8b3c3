"""`export`: a function as a program of its own, which runs without the function's code."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.hardware import CPU
from funtorch.io import files, programs, structure
from funtorch.jaxpr import Eqn, Jaxpr, sub_jaxprs
from funtorch.numpy.promotion import asarray
from funtorch.origins import leaf_names

from ..backends import is_plain, kept_by, spelled_out, to_onnx, to_stablehlo, write_shared
from .all_sizes import for_all_sizes, lone_symbol, named_sizes, shown_type, symbols_in
from .arguments import as_arrays, check_callable
from .custom import custom_vjp
from .dynamic import Sizes
from .passes import drop_dead, inline, share
from .programs import jit_p
from .qproducts import by_rows
from .reverse import vjp
from .simplify import simplify
from .sizes import BASES, symbolic_args_specs, symbolic_shape
from .staging import spec_of, stage_tree

__all__ = ["Exported", "deserialize", "export", "load", "symbolic_args_specs", "symbolic_shape"]

_VERSION = 1
_FLAT = re.compile(r"\[<flat index (\d+)>\]")  # in the names of a key's numbers and the like
_MOST_SIZES = 64  # for which an exported program keeps its compiled ones


# ------------------------------------------------------------------------------------ exporting
def export(fun: Callable[..., Any], **options: Any) -> Callable[..., Exported]:
    """Return a function from types of arguments to ``fun`` as an exported program.

    What ``fun`` closes over is a constant of the program. Calls, custom derivatives and batching
    rules become their equations, so a derivative of the exported program is that of its equations.

    Args:
        fun: a function of pytrees of arrays, jitted or not.
        options: ``platforms`` and ``disabled_checks`` are taken as in JAX; one program serves all.

    Returns:
        a function of arrays or `ShapeDtypeStruct`, whose shapes may have symbolic sizes
        (`symbolic_shape`), to an `Exported`.

    Raises:
        TypeError: ``fun`` calls Python while it runs (callbacks), or returns what is no dict, list
            or tuple of arrays.
        ValueError: with symbolic sizes, ``fun`` does not do the same at all sizes.

    Example:
        >>> import funtorch as ft
        >>> from funtorch import export
        >>> w = ft.numpy.arange(3.0)
        >>> exported = export.export(lambda x: x @ w)(ft.ShapeDtypeStruct((2, 3), "float32"))
        >>> data = exported.serialize()
        >>> export.deserialize(data).call(ft.numpy.ones((2, 3)))
        Array([3., 3.], dtype=float32)

    References:
        https://docs.jax.dev/en/latest/export/export.html
    """
    check_callable(fun, "export")
    for name in options:
        if name not in ("platforms", "disabled_checks"):
            raise TypeError(f"export() got an unexpected keyword argument {name!r}")

    def exporter(*args: Any, **kwargs: Any) -> Exported:
        leaves, treedef = tree.flatten((args, kwargs))
        avals = [spec_of(x) for x in leaves]
        names = [_FLAT.sub(r"[\1]", name) for name in leaf_names(fun, args, kwargs)]
        return _exported(fun, treedef, avals, names)

    return exporter


def _pullback(fun: Callable[..., Any], treedef: Any, avals: Sequence[ShapedArray]) -> Any:
    """Return the function from inputs and cotangents of inexact results to those of inexact inputs.

    It is traced through ``fun``, so custom rules are in it.
    """
    moving = [k for k, a in enumerate(avals) if dtypes.is_inexact(a.dtype)]

    def pullback(inputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        def moved(*xs: Any) -> list[Any]:
            given = list(inputs)
            for k, x in zip(moving, xs, strict=True):
                given[k] = x
            args, kwargs = treedef.unflatten(given)
            outs = map(asarray, tree.leaves(fun(*args, **kwargs)))
            return [y for y in outs if dtypes.is_inexact(y.dtype)]

        _, back = vjp(moved, *(inputs[k] for k in moving))
        return list(back(list(cotangents)))

    return pullback


def _exported(
    fun: Callable[..., Any], treedef: Any, avals: Sequence[ShapedArray], names: Sequence[str]
) -> Exported:
    inputs = [programs.encode_aval(a) for a in avals]
    symbols = symbols_in(inputs)

    def traced(sizes: Sizes) -> tuple[Jaxpr, Sequence[Any], Any]:
        here = [programs.decode_aval(a, sizes) for a in inputs]
        jaxpr, out_tree = stage_tree(fun, treedef, here)
        return _portable(jaxpr.hoisted()), jaxpr.consts, out_tree

    name = getattr(fun, "__name__", type(fun).__name__)
    found = for_all_sizes(name, symbols, traced) if symbols else traced({})
    jaxpr, consts, out_tree = found
    outputs = [programs.encode_aval(v.aval) for v in jaxpr.outvars]
    made = Exported(
        {
            "name": name,
            "names": list(names),
            "symbols": list(symbols),
            "inputs": inputs,
            "paths": [tree.keystr(path) for path, _ in _numbered(treedef)],
            "out_tree": _described(out_tree, name),
            "outputs": outputs,
            "program": _encoded(name, jaxpr),
        },
        [np.asarray(c) for c in consts],
    )
    made._origin = fun, treedef
    return made


def _encoded(name: str, jaxpr: Jaxpr) -> Any:
    try:
        return programs.encode_jaxpr(jaxpr)
    except programs.NotPortable as error:
        raise TypeError(
            f"export of {name}: {error.place} holds {error}, which is no data. Callbacks and "
            "debugging have no place in an exported program: leave them out"
        ) from None


def _numbered(treedef: Any) -> list[tuple[Any, Any]]:
    """Return the paths of a structure's leaves, each with its number."""
    return tree.leaves_with_path(treedef.unflatten(range(treedef.num_leaves)))


def _described(treedef: Any, name: str) -> Any:
    """Describe the structure of a result, which must not need the user's classes."""
    try:
        node, _ = structure.encode(treedef.unflatten(range(treedef.num_leaves)))
        structure.decode(node, {})
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(
            f"export of {name}: it returns {treedef}; an exported program returns arrays, and "
            "dicts, lists and tuples of them"
        ) from error
    return node


def _portable(jaxpr: Jaxpr) -> Jaxpr:
    """Return a program without calls, and without what Python functions are parameters of."""
    jaxpr = inline(jaxpr, keeps=by_rows)
    eqns, changed = [], False
    for eqn in jaxpr.eqns:
        params = eqn.params
        if sub_jaxprs(params):
            params = {k: _portable_value(v) for k, v in params.items()}
            changed = True
        eqns.append(Eqn(eqn.prim, eqn.invars, params, eqn.outvars, eqn.source))
    return Jaxpr(jaxpr.invars, eqns, jaxpr.outvars) if changed else jaxpr


def _portable_value(value: Any) -> Any:
    if isinstance(value, Jaxpr):
        return _portable(value)
    if isinstance(value, tuple):
        return tuple(map(_portable_value, value))
    return value


# ------------------------------------------------------------------------------------ exported
class Exported:
    """A function as a program: see `export`.

    Attributes:
        fun_name: the name of the function.
    """

    platforms = ("cpu",)
    nr_devices = 1

    def __init__(self, about: dict[str, Any], consts: Sequence[np.ndarray]) -> None:
        self._about = about
        self._consts = list(consts)
        self._programs: dict[tuple[int, ...], Jaxpr] = {}
        self._origin: tuple[Callable[..., Any], Any] | None = None  # the function, if it is at hand
        self._rule: Exported | None = None  # the derivative that the file holds
        self._out_tree = tree.structure(structure.decode(about["out_tree"], {}))
        self.fun_name: str = about["name"]

    def __repr__(self) -> str:
        shown = map(shown_type, self._about["inputs"])
        given = zip(self._about["names"], shown, strict=True)
        return f"<exported {self.fun_name}({', '.join(': '.join(pair) for pair in given)})>"

    # ---------------------------------------------------------------- types
    @property
    def in_avals(self) -> tuple[Any, ...]:
        """Types of the leaves of the arguments; symbolic sizes belong to a scope of their own."""
        return self._types(self._about["inputs"])

    @property
    def out_avals(self) -> tuple[Any, ...]:
        """Types of the leaves of the result."""
        return self._types(self._about["outputs"])

    def _types(self, nodes: Any) -> tuple[Any, ...]:
        sizes = named_sizes(self._about["symbols"])
        return tuple(programs.decode_aval(a, sizes) for a in nodes)

    # ---------------------------------------------------------------- running
    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program on arguments of the exported types.

        It may be transformed and jitted; outside of them it is compiled for the sizes at hand.

        Raises:
            TypeError: the arguments have another structure or other types; the message names them.
        """
        leaves = as_arrays(self._leaves(args, kwargs), f"argument of {self.fun_name}", None)
        self._sizes([x.aval for x in leaves])
        outs = self._run(*leaves) if self._rule is None else self._ruled()(*leaves)
        return self._out_tree.unflatten(outs)

    def _run(self, *leaves: Any) -> list[Any]:
        jaxpr = self._program(self._sizes([x.aval for x in leaves]))
        consts = map(asarray, self._consts)
        return jit_p.bind(*consts, *leaves, jaxpr=jaxpr, name=self.fun_name)

    def _ruled(self) -> Callable[..., list[Any]]:
        """Return what runs the program, with the derivative that the file holds."""
        rule = self._rule
        assert rule is not None

        kept = [dtypes.is_inexact(a.dtype) for a in self.out_avals]

        def backward(inputs: Sequence[Any], cotangents: Sequence[Any]) -> tuple[Any, ...]:
            given = [c for c, inexact in zip(cotangents, kept, strict=True) if inexact]
            found = iter(rule.call(list(inputs), given))
            return tuple(next(found) if dtypes.is_inexact(x.dtype) else None for x in inputs)

        function = custom_vjp(self._run)
        function.defvjp(lambda *xs: (self._run(*xs), xs), backward)
        return function

    def _leaves(self, args: Any, kwargs: Any) -> list[Any]:
        """Return the leaves of arguments, whose places must be those of the exported ones."""
        found = [(tree.keystr(path), leaf) for path, leaf in tree.leaves_with_path((args, kwargs))]
        wanted, given = self._about["paths"], [path for path, _ in found]
        if given != wanted:
            missing = [self._about["names"][k] for k, p in enumerate(wanted) if p not in given]
            more = [p for p in given if p not in wanted]
            raise TypeError(
                f"{self.fun_name}, an exported program, takes {', '.join(self._about['names'])}; "
                f"missing: {', '.join(missing) or 'none'}; not expected, where [0] are positional "
                f"and [1] keyword arguments: {', '.join(more) or 'none'}"
            )
        return [leaf for _, leaf in found]

    def _sizes(self, avals: Sequence[ShapedArray]) -> Sizes:
        """Return the sizes of the symbols in a call, having checked its types."""
        inputs, names = self._about["inputs"], self._about["names"]
        sizes: Sizes = {}
        for aval, (_, shape, _) in zip(avals, inputs, strict=True):
            for n, node in zip(aval.shape, shape, strict=False):
                symbol = lone_symbol(node)
                if symbol is not None:
                    sizes.setdefault(symbol, n)
        unknown = [s for s in self._about["symbols"] if s not in sizes]
        if unknown:
            raise TypeError(
                f"{self.fun_name}: no axis tells the size{'s' * (len(unknown) > 1)} "
                f"{', '.join(unknown)}: {self!r}"
            )
        for aval, node, name in zip(avals, inputs, names, strict=True):
            wanted = programs.decode_aval(node, sizes)
            if not (aval.shape == wanted.shape and aval.dtype == wanted.dtype):
                where = f" where {', '.join(f'{k}={n}' for k, n in sizes.items())}" if sizes else ""
                raise TypeError(
                    f"{self.fun_name}, an exported program, takes {shown_type(node)} as "
                    f"{name}{where}, got {aval.str_short()}"
                )
        return sizes

    def _program(self, sizes: Sizes) -> Jaxpr:
        key = tuple(sizes[s] for s in self._about["symbols"])
        found = self._programs.pop(key, None)
        if found is None:
            found = programs.decode_jaxpr(self._about["program"], sizes)
        self._programs[key] = found
        while len(self._programs) > _MOST_SIZES:
            del self._programs[next(iter(self._programs))]
        return found

    # ---------------------------------------------------------------- keeping
    def serialize(self, vjp_order: int = 0) -> bytearray:
        """Return the program as bytes, for `deserialize`.

        Args:
            vjp_order: how many derivatives are written too (`vjp`), with the custom rules of the
                function; reverse mode takes them. Without, and beyond, derivatives are those of the
                equations, of any order and mode.
        """
        return bytearray(files.dumps(*self._packed(vjp_order)))

    def save(self, path: str | os.PathLike[str], vjp_order: int = 0) -> None:
        """Write the program to one file: equations in JSON, constants in safetensors.

        Args:
            path: where to.
            vjp_order: as of `serialize`.
        """
        files.write(path, *self._packed(vjp_order))

    def _packed(self, order: int) -> tuple[list[np.ndarray], dict[str, Any]]:
        """Return the constants and the description, with those of derivatives."""
        if order < 0:
            raise ValueError(f"serialize: vjp_order={order}; it is a number of derivatives")
        consts, about = list(self._consts), {**self._about, "version": _VERSION}
        if order == 0 and self._rule is None:
            return consts, about
        inner, rule = self.vjp()._packed(max(order - 1, 0))
        known = {_contents(c): k for k, c in enumerate(consts)}
        for c in inner:
            known.setdefault(_contents(c), len(known))
            consts += [c] * (known[_contents(c)] == len(consts))
        return consts, {
            **about,
            "count": len(self._consts),
            "vjp": {**rule, "constants": [known[_contents(c)] for c in inner]},
        }

    def vjp(self) -> Exported:
        """Return the derivative, as a program of its own.

        Returns:
            a function of two lists, the leaves of the arguments and the cotangents of the results'
            inexact leaves, to the list of the cotangents of the arguments' inexact leaves. It has
            the custom rules of the function that was exported, or those in the file.
        """
        if self._rule is not None:
            return self._rule
        whole = tree.structure((tuple(range(len(self._about["inputs"]))), {}))
        fun, treedef = self._origin or (self._run, whole)
        sizes = named_sizes(self._about["symbols"])
        given = [programs.decode_aval(a, sizes) for a in self._about["inputs"]]
        outs = [programs.decode_aval(a, sizes) for a in self._about["outputs"]]
        outs = [a for a in outs if dtypes.is_inexact(a.dtype)]
        shape = tree.structure((([0] * len(given), [0] * len(outs)), {}))
        names = [*self._about["names"], *(f"cotangent{k}" for k in range(len(outs)))]
        return _exported(_pullback(fun, treedef, given), shape, [*given, *outs], names)

    def to_shared(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        link: str = "alone",
        **sizes: int,
    ) -> Path:
        """Write the program as a shared library with a C header beside it (Linux).

        The library has the native code of the program, the products and threads that it uses, and
        its constants; it needs the C library alone. It is made for this machine's processor.

        Args:
            path: of the library, such as ``'model.so'``.
            name: of the C function; None: that of the file.
            link: ``'alone'``, or ``'bundle'``: programs of linear algebra take the library of
                LAPACK along, as a file that must stay beside theirs.
            sizes: of the symbolic sizes.

        Returns:
            the path of the header, which declares the function.

        Raises:
            TypeError: a symbolic size is missing.
            NotImplementedError: a step needs Python, or LAPACK without ``link='bundle'``.
            RuntimeError: there is no C compiler.
        """
        path = Path(path)
        name = path.stem if name is None else name
        if not name.isidentifier():
            raise ValueError(f"to_shared: {name!r} is no name of a C function; give name=")
        if link not in ("alone", "bundle"):
            raise ValueError(f"to_shared: link={link!r} is neither 'alone' nor 'bundle'")
        closed, names = self._closed(self._fixed("to_shared", sizes))
        return write_shared(simplify(closed, kept_by(CPU)), names, path, name, link == "bundle")

    def to_stablehlo(self, path: str | os.PathLike[str] | None = None, **sizes: int) -> str:
        """Return the program as the text of a StableHLO module, which JAX and XLA compile.

        Args:
            path: where to write the text too; None: nowhere.
            sizes: of the symbolic sizes.

        Returns:
            a module whose function ``main`` takes the leaves of the arguments.

        Raises:
            TypeError: a symbolic size is missing.
            NotImplementedError: a step has no rule; the message names its line.

        Example:
            >>> import funtorch as ft
            >>> spec = ft.ShapeDtypeStruct((2,), "float32")
            >>> print(ft.export(lambda x: x + x)(spec).to_stablehlo())
            module @_lambda_ {
            func.func public @main(%v1: tensor<2xf32>) -> (tensor<2xf32>) {
            %v2 = "stablehlo.add"(%v1, %v1) : (tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>)
            func.return %v2 : tensor<2xf32>
            }
            }
            <BLANKLINE>

        References:
            https://openxla.org/stablehlo/spec
        """
        closed, _ = self._closed(self._fixed("to_stablehlo", sizes))
        text = to_stablehlo(drop_dead(share(inline(closed))), re.sub(r"\W", "_", self.fun_name))
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def mlir_module(self, **sizes: int) -> str:
        """Return the program as the text of a StableHLO module: JAX's name for `to_stablehlo`."""
        return self.to_stablehlo(None, **sizes)

    def _fixed(self, what: str, sizes: Sizes) -> Sizes:
        """Return numbers for the symbolic sizes, each of which must be given."""
        missing = [s for s in self._about["symbols"] if s not in sizes]
        if missing or len(sizes) != len(self._about["symbols"]):
            wanted = ", ".join(self._about["symbols"]) or "none"
            raise TypeError(f"{what} takes the symbolic sizes: {wanted}; got {sizes}")
        return sizes

    def to_onnx(self, path: str | os.PathLike[str] | None = None, **sizes: int) -> Any:
        """Return the program as an ONNX model; symbolic sizes stay symbolic.

        Complex arguments and results become real ones with a last axis of 2: real and imaginary
        parts.

        Args:
            path: where to write the model too; None: nowhere.
            sizes: of the symbolic sizes, if they are to be numbers.

        Returns:
            an ``onnx.ModelProto``. Its inputs and outputs have the names of the arguments' and
            results' leaves.

        Raises:
            TypeError: sizes are given, and one of them is missing.
            NotImplementedError: a step has no counterpart in ONNX; the message names its line.
            ImportError: the package onnx is not installed.
        """
        try:
            import onnx
        except ImportError as error:
            raise ImportError("to_onnx needs the package onnx: pip install onnx") from error
        given = self._fixed("to_onnx", sizes) if sizes else named_sizes(self._about["symbols"])
        jaxpr, names = self._closed(given)
        if given and not sizes and not is_plain(jaxpr):
            jaxpr = self._spelled_out()
        model = to_onnx(drop_dead(share(jaxpr)), names, self.fun_name)
        if path is not None:
            onnx.save(model, os.fspath(path))
        return model

    def _spelled_out(self) -> Jaxpr:
        """Return the program for any size in what ONNX has: rewritten at several sizes, as it was
        traced."""

        def rewritten(sizes: Sizes) -> tuple[Jaxpr, Sequence[Any], Any]:
            found = spelled_out(self._closed(sizes)[0])
            return found.hoisted(), found.consts, None

        symbols = dict(zip(self._about["symbols"], BASES, strict=False))
        try:
            found, consts, _ = for_all_sizes(self.fun_name, symbols, rewritten)
        except ValueError as error:
            told = ", ".join(f"{name}={n}" for name, n in symbols.items())
            raise NotImplementedError(
                f"to_onnx: {error}; with numbers it is a model: to_onnx(path, {told})"
            ) from error
        own, rest = found.invars[: len(consts)], found.invars[len(consts) :]
        return Jaxpr(rest, found.eqns, found.outvars, own, consts)

    def _closed(self, sizes: Sizes) -> tuple[Jaxpr, list[str]]:
        """Return the program with its constants, and the names of its inputs and results."""
        jaxpr, count = self._program(sizes), len(self._consts)
        consts = [asarray(c) for c in self._consts]
        results = tree.leaves_with_path(self._out_tree.unflatten(range(len(jaxpr.outvars))))
        names = [*self._about["names"], *(f"result{tree.keystr(path)}" for path, _ in results)]
        own, rest = jaxpr.invars[:count], jaxpr.invars[count:]
        return Jaxpr(rest, jaxpr.eqns, jaxpr.outvars, own, consts), names

    def has_vjp(self) -> bool:
        """Tell whether the program has derivatives."""
        return True


def _contents(x: np.ndarray) -> tuple[Any, ...]:
    return x.dtype.name, x.shape, x.tobytes()


def deserialize(data: bytes | bytearray) -> Exported:
    """Return the program in the bytes that `Exported.serialize` gave.

    Raises:
        ValueError: the bytes are damaged, or of something else. Nothing in them is run.
    """
    return _read(bytes(data), "the exported program")


def load(path: str | os.PathLike[str]) -> Exported:
    """Return the program in a file that `Exported.save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds something else. Nothing in it is run.

    Example:
        >>> import os, tempfile
        >>> import funtorch as ft
        >>> from funtorch import export
        >>> path = os.path.join(tempfile.mkdtemp(), "double.ft")
        >>> export.export(lambda x: 2 * x)(ft.ShapeDtypeStruct((2,), "float32")).save(path)
        >>> export.load(path)
        <exported <lambda>(x: float32[2])>
    """
    return _read(Path(path).read_bytes(), str(path))


def _read(data: bytes, what: str) -> Exported:
    consts, about = files.loads(data, what)
    return _checked(about, consts, what)


def _check_rule(found: Exported, rule: Exported) -> None:
    """Check that a derivative takes what the program takes and gives, and gives what it takes."""
    inputs, outs = (
        [(a.dtype, a.shape) for a in avals] for avals in (found.in_avals, found.out_avals)
    )
    inexact = [[a for a in part if dtypes.is_inexact(a[0])] for part in (inputs, outs)]
    given, made = ([(a.dtype, a.shape) for a in avals] for avals in (rule.in_avals, rule.out_avals))
    same = found._about["symbols"] == rule._about["symbols"]
    if not same or str(given) != str([*inputs, *inexact[1]]) or str(made) != str(inexact[0]):
        raise ValueError("its derivative is of another program")


_DEEPEST = 8  # derivatives in a file


def _checked(about: Any, consts: Sequence[Any], what: str, depth: int = 0) -> Exported:
    """Return the program that a description and constants are."""
    try:
        rule = about.pop("vjp", None)
        own = consts[: about.pop("count")] if rule is not None else consts
        if about["version"] != _VERSION:
            raise ValueError(
                f"it was written in version {about['version']} of the format; this funtorch reads "
                f"version {_VERSION}"
            )
        if not all(isinstance(about[k], list) for k in ("symbols", "names", "paths", "inputs")):
            raise ValueError("its symbols, names, paths and inputs are no lists")
        if not all(isinstance(s, str) for s in (*about["symbols"], *about["names"], about["name"])):
            raise ValueError("its name and those of its symbols and arguments are no text")
        found = Exported(about, [np.asarray(c) for c in own])
        base = dict(zip(about["symbols"], BASES, strict=False))
        jaxpr, types = found._program(base), [c.aval for c in map(asarray, own)]
        wanted = types + [programs.decode_aval(a, base) for a in about["inputs"]]
        given = [len(about[k]) for k in ("inputs", "names", "paths")]
        fits = len(set(given)) == 1 and len(wanted) == len(jaxpr.invars)
        fits = fits and all(a.same_type(v.aval) for a, v in zip(wanted, jaxpr.invars, strict=True))
        if not fits or found._out_tree.num_leaves != len(jaxpr.outvars):
            raise ValueError("its program does not fit its arguments, constants and results")
        if rule is not None:
            if depth == _DEEPEST:
                raise ValueError(f"it holds more than {_DEEPEST} derivatives")
            inner = [consts[k] for k in rule.pop("constants")]
            found._rule = _checked(rule, inner, what, depth + 1)
            _check_rule(found, found._rule)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{what} is no exported program: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"{what} cannot be read: {error}") from error
    return found
