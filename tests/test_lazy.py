"""What is imported when, and namespaces whose names are imported when they are asked for."""

import subprocess
import sys

import pytest

import funtorch as ft
from funtorch import backends
from funtorch.lazy import later

PROGRAM = """
import sys
import funtorch as ft

def loaded(*prefixes):
    names = tuple("funtorch.backends." + p for p in prefixes)
    return [m for m in sys.modules if m.startswith(names)]

assert not loaded("cpu", "cuda", "onnx", "stablehlo", "fuse", "plan"), loaded("")
assert "llvmlite" not in sys.modules
x = ft.numpy.ones(3)
assert float(ft.grad(lambda x: ft.nn.softmax(x)[0])(x)[1]) < 0
assert not loaded("cpu", "cuda", "onnx", "stablehlo", "fuse", "plan")
assert ft.jit(lambda x: x + 1)(x).tolist() == [2, 2, 2]
assert loaded("cpu") and not loaded("onnx", "stablehlo")
"""


def test_the_compiler_is_imported_with_the_first_program():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", backends.__all__)
def test_names_of_backends_are_found(name):
    assert getattr(backends, name) is getattr(backends, name)
    assert name in vars(backends)  # the second time without a search


def test_unknown_names_are_named():
    get = later("funtorch.nn", {"silu": ".functions"})
    assert get("silu") is ft.nn.functions.silu
    with pytest.raises(AttributeError, match=r"module 'funtorch\.nn' has no attribute 'sliu'"):
        get("sliu")
