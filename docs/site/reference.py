"""Pages of reference, made from the docstrings of every public name."""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sphinx.ext.napoleon import Config, GoogleDocstring

from funtorch.core import Primitive

ROOTS = ("funtorch", "funtorch.io", "funtorch.testing", "funtorch.nnx", "funtorch.optim")
"""Modules from which all others are reached, by the names in their `__all__`."""

SHORT = {
    "ft": "funtorch",
    "fnp": "funtorch.numpy",
    "jnp": "funtorch.numpy",
    "lax": "funtorch.lax",
    "nn": "funtorch.nn",
    "nnx": "funtorch.nnx",
    "optim": "funtorch.optim",
    "random": "funtorch.random",
    "tree": "funtorch.tree",
    "checkify": "funtorch.experimental.checkify",
    "amp": "funtorch.amp",
    "io": "funtorch.io",
}
"""What the pages call modules."""

LARGE = 60
"""A module of more names has a page for each of its files."""

SMALL = 4
"""Files of fewer names share a page."""

NAPOLEON = Config(napoleon_use_rtype=False, napoleon_use_param=True, napoleon_use_ivar=True)


def public_modules() -> dict[str, types.ModuleType]:
    """Map the dotted name of every public module to it, in the order in which they are met."""
    found: dict[str, types.ModuleType] = {}

    def walk(name: str, module: types.ModuleType) -> None:
        if name in found or not hasattr(module, "__all__"):
            return
        found[name] = module
        for short in sorted(module.__all__):
            below = getattr(module, short)
            if isinstance(below, types.ModuleType) and below.__name__.startswith("funtorch."):
                walk(below.__name__, below)

    for root in ROOTS:
        walk(root, importlib.import_module(root))
    return found


@dataclass
class Entry:
    """A public name: what it is, and where its text stands."""

    name: str
    module: str
    value: Any
    page: str = ""
    alias: str = ""  # the full name of the entry that has the text, where this one has none

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def kind(self) -> str:
        if inspect.isclass(self.value):
            return "class"
        return "function" if callable(self.value) and doc_of(self.value) else "data"


@dataclass
class Reference:
    """All public names, and the pages they stand on."""

    entries: dict[str, Entry] = field(default_factory=dict)
    modules: dict[str, types.ModuleType] = field(default_factory=public_modules)
    groups: dict[str, dict[str, list[Entry]]] = field(default_factory=dict)  # module, group, names

    def __post_init__(self) -> None:
        for path, module in self.modules.items():
            listed = dict.fromkeys(module.__all__)
            own = [Entry(name, path, getattr(module, name)) for name in listed]
            own = [e for e in own if not isinstance(e.value, types.ModuleType)]
            self.entries |= {e.full: e for e in own}
            self.groups[path] = grouped(module, own, self.modules)
            for title, group in self.groups[path].items():
                for entry in group:
                    entry.page = f"api/{path}" + (f".{title}" if title else "")
        self._mark_aliases()

    def _mark_aliases(self) -> None:
        """Of several names for one object, let the one nearest to its definition have the text."""
        same: dict[int, list[Entry]] = {}
        for entry in self.entries.values():
            if doc_of(entry.value):
                same.setdefault(id(entry.value), []).append(entry)
        for entries in same.values():
            home = getattr(entries[0].value, "__module__", None) or ""
            chief = max(entries, key=lambda e: (common(e.module, home), len(e.module) == len(home)))
            for entry in entries:
                entry.alias = "" if entry is chief else chief.full

    def resolve(self, text: str, module: str = "") -> str:
        """Return the full name of the public name or module that code means, or ''."""
        name = re.sub(r"\(.*\)$", "", text.strip(), flags=re.DOTALL)
        if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", name):
            return ""
        head, _, rest = name.partition(".")
        tries = [name, f"{SHORT[head]}.{rest}".rstrip(".")] if head in SHORT else [name]
        while module:
            tries.insert(0, f"{module}.{name}")
            module = module.rpartition(".")[0]
        return next((t for t in tries if t in self.entries or t in self.modules), "")

    def tops(self) -> list[str]:
        """Return the modules that the reference's first page lists."""
        return [
            m
            for m in self.modules
            if m.rpartition(".")[0] in {"", "funtorch"} - {m}
            or m.rpartition(".")[0] not in self.modules
        ]

    def pages(self) -> Iterator[tuple[str, str]]:
        """Yield the path (without suffix) and the reStructuredText of every page."""
        for path, module in self.modules.items():
            groups = self.groups[path]
            below = [
                p for p in self.modules if p.rpartition(".")[0] == path and p not in self.tops()
            ]
            yield f"api/{path}", self._module_page(path, module, groups, below)
            for title, group in groups.items():
                if title:
                    what = summary(file_of(module, title)) or "Further names."
                    text = heading(f"{path}: {title}") + f"{rst(what, self, path)}\n\n"
                    yield f"api/{path}.{title}", text + "".join(map(self._entry, group))

    def _module_page(
        self, path: str, module: types.ModuleType, groups: dict[str, list[Entry]], below: list[str]
    ) -> str:
        parts = [heading(path), f".. py:module:: {path}\n\n", docstring(module, self, path), "\n\n"]
        for title, group in groups.items():
            if title:
                parts.append(heading(title, "-") + f":doc:`All of it <{path}.{title}>`\n\n")
            parts.append(self._table(group))
        if below:
            parts.append(heading("Modules", "-"))
            parts += [
                f"- :doc:`{b} <{b}>`: {rst(summary(self.modules[b]), self, b)}\n" for b in below
            ]
        hidden = [f"   {path}.{title}\n" for title in groups if title]
        hidden += [f"   {b}\n" for b in below]
        if hidden:
            parts += ["\n.. toctree::\n   :hidden:\n   :titlesonly:\n\n", *hidden, "\n"]
        if groups.get(""):
            parts += [heading("Reference", "-"), *map(self._entry, groups[""])]
        return "".join(parts)

    def _table(self, group: list[Entry]) -> str:
        if not group:
            return ""
        rows = [".. list-table::\n   :class: summary\n   :widths: auto\n\n"]
        for e in group:
            about = rst(summary(e.value), self, e.module) if doc_of(e.value) else plain(e.value)
            rows.append(f"   * - :py:obj:`{e.name} <{e.full}>`\n     - {about}\n")
        return "".join(rows) + "\n"

    def _entry(self, entry: Entry) -> str:
        kind, value = entry.kind, entry.value
        head = f".. py:{kind}:: {entry.name}" + (signature(value) if kind != "data" else "")
        head += f"\n   :module: {entry.module}\n"
        if entry.alias:
            body = f"Another name of :py:obj:`{entry.alias}`."
        elif not doc_of(value):
            body = plain(value)
        else:
            body = docstring(value, self, entry.module)
        if kind == "class" and not entry.alias:
            body += "\n\n" + "".join(self._member(entry, *m) for m in members(value))
        return f"{head}\n{indent(body)}\n\n"

    def _member(self, entry: Entry, name: str, value: Any) -> str:
        kind = "property" if isinstance(value, property) else "method"
        call = (
            "" if kind == "property" else signature(getattr(value, "__func__", value), bound=True)
        )
        if isinstance(value, staticmethod):
            call = signature(value.__func__)
        head = f".. py:{kind}:: {entry.name}.{name}{call}\n   :module: {entry.module}\n"
        return f"{head}\n{indent(docstring(value, self, entry.module))}\n\n"


def grouped(
    module: types.ModuleType, entries: list[Entry], public: Collection[str]
) -> dict[str, list[Entry]]:
    """Divide the names of a large module by the file that defines them, unless that is public."""
    if len(entries) <= LARGE or not hasattr(module, "__path__") or module.__name__ == "funtorch":
        return {"": entries}
    files = {}
    for info in pkgutil.iter_modules(module.__path__):
        below = importlib.import_module(f"{module.__name__}.{info.name}")
        if not info.ispkg and below.__name__ not in public:
            files[info.name] = set(getattr(below, "__all__", ()))
    groups: dict[str, list[Entry]] = {name: [] for name in files}
    others = []
    for entry in entries:
        home = next((f for f, names in files.items() if defines(module, f, entry)), None)
        home = home or next((f for f, names in files.items() if entry.name in names), None)
        (groups[home] if home else others).append(entry)
    for name in [n for n, g in groups.items() if len(g) < SMALL]:
        others += groups.pop(name)
    return groups | ({"others": others} if others else {})


def defines(module: types.ModuleType, file: str, entry: Entry) -> bool:
    return getattr(entry.value, "__module__", "") == f"{module.__name__}.{file}"


def file_of(module: types.ModuleType, title: str) -> Any:
    """Return the module of a group's file, or None for the names of several."""
    if title == "others":
        return None
    return importlib.import_module(f"{module.__name__}.{title}")


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the documented public methods and properties that a class of ours has itself."""
    seen = set()
    for base in cls.__mro__:
        if base is not cls and cls.__name__ != base.__name__:  # Array stands for core's Array
            continue
        for name, value in vars(base).items():
            fun = getattr(value, "__func__", value)
            fits = isinstance(value, (property, classmethod, staticmethod, types.FunctionType))
            if fits and not name.startswith("_") and name not in seen and inspect.getdoc(fun):
                seen.add(name)
                yield name, value


def common(a: str, b: str) -> int:
    """Count the leading parts that two dotted names share."""
    pairs = zip(a.split("."), b.split("."), strict=False)
    return next(
        (k for k, (x, y) in enumerate(pairs) if x != y), min(a.count("."), b.count(".")) + 1
    )


def doc_of(value: Any) -> str:
    """Return the docstring that FunTorch wrote for an object: not NumPy's, nor that of its type."""
    doc = getattr(value, "__doc__", None)
    if isinstance(value, (classmethod, staticmethod)):
        doc = value.__func__.__doc__
    if not doc or not isinstance(doc, str) or isinstance(value, Primitive):
        return ""  # primitives share the text of their class
    own = str(getattr(value, "__module__", "") or type(value).__module__).startswith("funtorch")
    own = own or isinstance(value, (property, classmethod, staticmethod, types.ModuleType))
    of_type = type(value).__module__.partition(".")[0] != "funtorch" and (
        not isinstance(value, type) and doc == getattr(type(value), "__doc__", None)
    )
    if doc == getattr(getattr(np, getattr(value, "__name__", ""), None), "__doc__", None):
        return ""  # NumPy's own
    if inspect.isclass(value) and doc.startswith((f"{value.__name__}(", "Create a collection")):
        return ""  # what dataclass and Enum write
    return inspect.cleandoc(doc) if own and not of_type else ""


def plain(value: Any) -> str:
    """Describe an object that has no text of ours."""
    shown = re.sub(r" at 0x\w+", "", repr(value))
    if inspect.isclass(value) or callable(value):
        shown = f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', shown)}"
    return f"``{shown[:160]}``"


class Written:
    """An annotation that shows as it was written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def signature(value: Any, bound: bool = False) -> str:
    """Return the signature of a callable in one line, without annotations that say nothing."""
    if inspect.isclass(value):
        value, bound = value.__dict__.get("__init__") or value, "__init__" in value.__dict__
    if isinstance(value, enum.EnumType):
        return ""
    try:
        sig = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    params = list(sig.parameters.values())[1 if bound else 0 :]
    shown = [p.replace(annotation=written(p.annotation), default=default(p)) for p in params]
    text = str(sig.replace(parameters=shown, return_annotation=written(sig.return_annotation)))
    return text.replace("\n", " ").replace("\\", "\\\\").removesuffix(" -> None")


def written(annotation: Any) -> Any:
    if annotation in (inspect.Parameter.empty, "Any", Any):
        return inspect.Parameter.empty
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return Written(re.sub(r"\b(funtorch|typing|numpy)\.(\w+\.)*", "", text).replace("'", ""))


def default(p: inspect.Parameter) -> Any:
    if p.default is inspect.Parameter.empty:
        return p.default
    if callable(p.default) and hasattr(p.default, "__name__"):
        return Written(p.default.__name__)
    return Written(re.sub(r" at 0x\w+", "", repr(p.default)).replace("\n", " "))


def summary(value: Any) -> str:
    """Return the first sentence or paragraph of an object's text, as it stands there."""
    return " ".join(doc_of(value).partition("\n\n")[0].split())


def docstring(value: Any, names: Reference, module: str) -> str:
    """Return an object's text as reStructuredText."""
    text = doc_of(value)
    lines = rst(text, names, module).splitlines()
    return "\n".join(GoogleDocstring(lines, NAPOLEON).lines())


def rst(text: str, names: Reference, module: str) -> str:
    """Turn a docstring's words and `code` into reStructuredText, which reads more into signs."""
    out: list[str] = []
    example, last, drawn = False, "", None  # drawn: the indent that a block of signs must exceed
    for line in text.splitlines():
        inner = len(line) - len(line.lstrip())
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if drawn is not None and line.strip() and inner <= drawn:
            drawn = None
        base = len(last) - len(last.lstrip())
        new = out and not out[-1].strip() and inner > base and not example
        if line.strip() and drawn is None and new and last.rstrip()[-1:] in (":", "."):
            drawn = base
            if not last.rstrip().endswith("::"):
                out += [" " * base + "::", ""]
        out.append(line if example or drawn is not None else marked(line, names, module))
        last = line if line.strip() else last
    return "\n".join(out)


def marked(line: str, names: Reference, module: str) -> str:
    """Escape a line's signs outside of code, and link code that names something."""
    parts = re.split(r"(``.+?``|`[^`]+`)", line)
    for k, part in enumerate(parts):
        if k % 2 == 0:
            part = part.replace("\\", "\\\\")
            parts[k] = re.sub(r"([*|`]|(?<=\w)_(?!\w))", r"\\\1", part)
            continue
        code = part.strip("`")
        target = names.resolve(code, module)
        role = f":py:obj:`{code} <{target}>`" if target else f"``{code}``"
        before = parts[k - 1]
        # Inline markup must stand apart from letters: an escaped space does it, unseen.
        glue = "\\ " if before and (before[-1].isalnum() or before[-1] in "_\\") else ""
        after = parts[k + 1] if k + 1 < len(parts) else ""
        parts[k] = (
            glue + role + ("\\ " if after and (after[0].isalnum() or after[0] == "_") else "")
        )
    return "".join(parts)


def heading(text: str, sign: str = "=") -> str:
    return f"{text}\n{sign * (len(text) + 2)}\n\n"


def indent(text: str) -> str:
    return "\n".join(f"   {line}" if line else "" for line in text.splitlines())
