"""Compiled code on disk: files, keys, processes; and the linker that puts code into memory."""

import ctypes
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends import cache
from funtorch.backends.cpu import codegen, image
from funtorch.config import config
from funtorch.transforms.simplify import simplify


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Give the cache a folder of its own."""
    monkeypatch.setenv("FUNTORCH_CACHE_DIR", str(tmp_path / "codes"))
    return tmp_path / "codes"


# ---------------------------------------------------------------------- files
def test_what_was_saved_is_loaded(place):
    name = cache.key("text", b"bytes")
    assert cache.load(name) is None
    cache.save(name, b"code" * 1000)
    assert cache.load(name) == b"code" * 1000
    assert [p.suffix for p in place.iterdir()] == [".code"]
    assert place.stat().st_mode & 0o777 == 0o700
    cache.clear()
    assert cache.load(name) is None
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"\x7fELF" + data[4:],
        lambda data: data + b"more",
    ],
)
def test_damaged_files_count_as_absent(place, damage, capsys):
    cache.save("name", b"some code")
    path = place / "name.code"
    path.write_bytes(damage(path.read_bytes()))
    with config.override(debug=1):
        assert cache.load("name") is None
    assert "is damaged and will be written anew" in capsys.readouterr().err
    cache.save("name", b"some code")
    assert cache.load("name") == b"some code"


def test_folders_that_cannot_be_written_are_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FUNTORCH_CACHE_DIR", str(tmp_path / "file"))
    cache.save("name", b"code")
    assert cache.load("name") is None
    monkeypatch.setenv("FUNTORCH_CACHE_DIR", "/proc/no/such")
    cache.save("name", b"code")
    assert cache.load("name") is None
    cache.clear()


def test_folders_of_everybody_are_not_trusted(place, capsys):
    if not hasattr(os, "getuid"):
        pytest.skip("needs users")
    cache.save("name", b"code")
    place.chmod(0o777)
    with config.override(debug=1):
        assert cache.load("name") is None
    assert "can be written by other users" in capsys.readouterr().err


def test_where_the_cache_is(monkeypatch, tmp_path):
    for text in ("off", "OFF", "0", "", " "):
        monkeypatch.setenv("FUNTORCH_CACHE_DIR", text)
        assert cache.folder() is None
        cache.save("name", b"code")
        assert cache.load("name") is None
    monkeypatch.delenv("FUNTORCH_CACHE_DIR")
    if sys.platform != "win32":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache.folder() == tmp_path / "funtorch"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache.folder() == tmp_path / ".cache" / "funtorch"


def test_the_oldest_files_go_first(place, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 5000)
    monkeypatch.setattr(cache, "_EVERY", 1)
    for k in range(10):
        cache.save(f"n{k}", bytes(900))
        os.utime(place / f"n{k}.code", (k, k))
        cache.load("n0")  # used, so kept
    kept = {p.stem for p in place.iterdir()}
    assert "n0" in kept
    assert "n9" in kept
    assert "n1" not in kept
    assert sum(p.stat().st_size for p in place.iterdir()) <= 5000


# ---------------------------------------------------------------------- keys
def test_programs_are_spelled_exactly():
    def text(f, *args):
        return cache.spelled(simplify(ft.make_jaxpr(f)(*args)))

    x = np.ones(3, np.float32)
    base = text(lambda x: fnp.sin(x) * 2.0, x)
    assert base == text(lambda y: 2.0 * fnp.sin(y), x) or base is not None
    assert base == text(lambda y: fnp.sin(y) * 2.0, x)
    others = [
        text(lambda x: fnp.sin(x) * 2.0000002, x),
        text(lambda x: fnp.cos(x) * 2.0, x),
        text(lambda x: fnp.sin(x) * 2.0, np.ones(4, np.float32)),
        text(lambda x: fnp.sin(x) * 2.0, x.astype("float64")),
        text(lambda x: fnp.sin(x) * -0.0, x),
        text(lambda x: fnp.sin(x) * 0.0, x),
        text(lambda x: fnp.sum(x), x),
        text(lambda x: fnp.max(x), x),
        text(lambda x: ft.lax.scan(lambda c, _: (c * 2, None), x, None, length=3)[0], x),
        text(lambda x: ft.lax.scan(lambda c, _: (c * 2, None), x, None, length=4)[0], x),
        text(lambda x: ft.lax.scan(lambda c, _: (c * 3, None), x, None, length=3)[0], x),
    ]
    assert len({base, *others}) == 1 + len(others)


def test_keys_keep_parts_apart():
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key("ab") == cache.key(b"ab")


# ---------------------------------------------------------------------- code in memory
TEXT = """
declare void @given(ptr, i64)
declare double @cos(double)
@place = external global i8
@table = private unnamed_addr constant [4 x float] [float 1.0, float 2.0, float 3.0, float 4.0]
@addresses = private unnamed_addr constant [2 x ptr] [ptr @inner, ptr @table]
@counter = internal global i64 5
define internal float @inner(ptr %a, i64 %n) noinline {
  %k = and i64 %n, 3
  %p = getelementptr [4 x float], ptr @table, i64 0, i64 %k
  %t = load float, ptr %p
  %u = fmul float %t, 0x3FF3333340000000
  store float %u, ptr %a
  ret float %u
}
define double @run(ptr %a, i64 %n) {
  %c = load i64, ptr @counter
  %d = add i64 %c, %n
  store i64 %d, ptr @counter
  %w = and i64 %n, 0
  %fp = getelementptr [2 x ptr], ptr @addresses, i64 0, i64 %w
  %f = load ptr, ptr %fp
  %x = call float %f(ptr %a, i64 %n)
  call void @given(ptr @place, i64 %d)
  %y = fpext float %x to double
  %z = call double @cos(double %y)
  ret double %z
}
"""


def object_code(text):
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(opt=3, reloc="pic", codemodel="small")
    return machine.emit_object(llvm.parse_assembly(text))


needs_linker = pytest.mark.skipif(not image.can_link(), reason="no linker of our own here")


@needs_linker
def test_the_linker_runs_code():
    seen = []
    given = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_int64)(lambda *a: seen.append(a))
    outside = {"given": ctypes.cast(given, ctypes.c_void_p).value, "place": id(seen)}
    code = object_code(TEXT)
    images = [image.Image([code], outside) for _ in range(3)]
    for made in images:
        run = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_int64)(made["run"])
        out = np.zeros(1, np.float32)
        for n in range(6):
            want = np.float32([1, 2, 3, 4][n % 4]) * np.float32(1.2)
            assert run(out.ctypes.data, n) == pytest.approx(np.cos(float(want)))
            assert out[0] == want
    assert seen == [(id(seen), 5 + n * (n + 1) // 2) for n in range(6)] * 3


@needs_linker
def test_the_linker_joins_objects():
    first = "declare i64 @second(i64)\n" + (
        "define i64 @first(i64 %n) {\n  %x = call i64 @second(i64 %n)\n  ret i64 %x\n}\n"
    )
    second = "@table = private constant [3 x i64] [i64 5, i64 6, i64 7]\n" + (
        "define hidden i64 @second(i64 %n) {\n"
        "  %p = getelementptr i64, ptr @table, i64 %n\n  %x = load i64, ptr %p\n  ret i64 %x\n}\n"
    )
    made = image.Image([object_code(first), object_code(second)], {})
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(made["first"])
    assert [run(n) for n in range(3)] == [5, 6, 7]


@needs_linker
def test_the_linker_refuses_what_it_does_not_know():
    code = object_code(TEXT)
    with pytest.raises(image.Unsupported, match="no symbol 'place'"):
        image.Image([code], {"given": 1})
    for bad in (b"", code[:100], b"MZ" + code[2:], code[:-64]):
        with pytest.raises(image.Unsupported):
            image.Image([bad], {"given": 1, "place": 1})


# ---------------------------------------------------------------------- processes
CHILD = """
import sys
import textwrap
import numpy as np
import funtorch as ft
import funtorch.numpy as fnp

def f(w, x):
    total = ft.lax.scan(lambda c, a: (fnp.tanh(c @ w) + a, None), x, fnp.ones((5, *x.shape)))[0]
    return {"total": total.sum(axis=1), "w": w * 2}

f = ft.jit(f, donate_argnums=0)
for _ in range(2):
    out = f(fnp.full((4, 4), 0.25), fnp.ones((3, 4)))
np.testing.assert_allclose(out["w"], 0.5)
print(out["total"].sum(), "llvmlite" in sys.modules)
"""


def child(place, *, code=CHILD, wait=True):
    """Run a program in a process of its own; return what it printed and what it said."""
    env = {**os.environ, "FUNTORCH_CACHE_DIR": str(place), "FUNTORCH_DEBUG": "1"}
    pipe = subprocess.PIPE
    started = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, stdout=pipe, stderr=pipe, text=True
    )
    return finished(started) if wait else started


def finished(started):
    out, err = started.communicate(timeout=120)
    assert started.returncode == 0, err
    value, llvm = out.split()
    return float(value), llvm == "True", err


def test_a_second_process_needs_no_compiler(tmp_path):
    first, llvm, said = child(tmp_path)
    assert llvm
    assert "from disk" not in said
    second, llvm, said = child(tmp_path)
    assert second == first
    assert "from disk" in said
    if image.can_link():
        assert not llvm
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    third, llvm, said = child(tmp_path)
    assert third == first
    assert llvm
    assert "is damaged and will be written anew" in said
    assert "from disk" in child(tmp_path)[2]


def test_processes_at_the_same_time(tmp_path):
    started = [child(tmp_path, wait=False) for _ in range(3)]
    assert len({finished(s)[0] for s in started}) == 1
    assert all(p.suffix == ".code" for p in tmp_path.iterdir())
    assert "from disk" in child(tmp_path)[2]


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path):
    (tmp_path / "file").write_text("")
    first, llvm, said = child(tmp_path / "file" / "sub")
    assert llvm
    assert said.count("compiled code is not kept: ") == 1
    assert first == child("off")[0]


def test_code_that_is_no_program_is_built_anew(place):
    """A file whose checksum is right and whose content is not, as after a change of the format."""
    f = ft.jit(lambda x: fnp.sin(x) * 3.0)
    x = np.ones(3, np.float32)
    want = f(x)
    saved = list(place.iterdir())
    assert saved
    for path in saved:
        cache.save(path.stem, b"nonsense")
    ft.clear_caches()
    g = ft.jit(lambda x: fnp.sin(x) * 3.0)
    np.testing.assert_array_equal(g(x), want)


def test_clear_caches_deletes_files_when_asked(place):
    ft.jit(lambda x: x * 5.0)(np.ones(3, np.float32))
    assert list(place.iterdir())
    ft.clear_caches()
    assert list(place.iterdir())
    ft.clear_caches(disk=True)
    assert list(place.iterdir()) == []


def test_llvm_links_where_we_cannot():
    code = codegen.object_code("define i64 @seven() {\n  ret i64 7\n}\n")
    library = codegen.link(code, ["seven"], {}, "seven")
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(library["seven"])() == 7


def test_modules_are_cut_into_units_that_call_each_other(monkeypatch):
    """A program compiled in many units gives what it gives compiled in one."""

    def f(w, xs):
        step = lambda c, x: (fnp.sin(c @ w) + fnp.exp(-(x**2)), fnp.cos(c).sum())
        total, sums = ft.lax.scan(step, xs[0], xs)
        return fnp.sort(total), fnp.tanh(sums), ft.nn.softmax(xs) @ w

    w, xs = np.full((4, 4), 0.3, np.float32), np.linspace(-90, 90, 24, dtype=np.float32)
    xs = xs.reshape(6, 4)
    monkeypatch.setenv("FUNTORCH_CACHE_DIR", "off")
    results, counts = [], []
    for size, processors in ((1 << 30, 1), (200, 8)):
        monkeypatch.setattr(codegen, "_UNIT", size)
        monkeypatch.setattr(codegen, "default_threads", lambda n=processors: n)
        cut = codegen.units
        monkeypatch.setattr(
            codegen, "units", lambda text, most, cut=cut: counts.append(r := cut(text, most)) or r
        )
        results.append(ft.tree.leaves(ft.jit(lambda w, xs: f(w, xs))(w, xs)))
        monkeypatch.setattr(codegen, "units", cut)
    assert max(map(len, counts)) > 2
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_linker
def test_what_is_cold_is_a_module_that_is_not_optimised(monkeypatch):
    text = """define internal i64 @twice(i64 %n) noinline nounwind optsize #0 {
  %x = add i64 %n, %n
  ret i64 %x
}
define i64 @next(i64 %n) noinline optnone nounwind #0 {
  %x = call i64 @twice(i64 %n)
  %y = add i64 %x, 1
  ret i64 %y
}"""
    efforts = []
    target = codegen._Machine.target
    monkeypatch.setattr(
        codegen._Machine, "target", lambda m, effort=3: efforts.append(effort) or target(m, effort)
    )
    code = codegen.object_code(text, codegen.NONE)
    assert efforts == [3, 0]
    made = image.Image(codegen.files(code), {})
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(made["next"])
    assert [run(n) for n in (0, 3, -2)] == [1, 7, -3]


def test_a_program_that_changed_a_little_compiles_only_what_changed(monkeypatch, tmp_path):
    monkeypatch.setenv("FUNTORCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(codegen, "_UNIT", 200)
    texts = []
    compile_unit = codegen._Machine.unit
    monkeypatch.setattr(
        codegen._Machine, "unit", lambda m, unit: texts.append(unit.text) or compile_unit(m, unit)
    )

    def program(scale):
        def f(x, w):
            hidden = fnp.tanh(x @ w).sum(0) + 1.0
            return ft.nn.softmax(hidden * x), fnp.exp(fnp.sort(x) * scale)

        return f

    x = np.linspace(-1, 1, 200 * 200, dtype=np.float32).reshape(200, 200)
    first = ft.jit(program(2.0))(x, x)
    compiled = len(texts)
    texts.clear()
    second = ft.jit(program(3.0))(x, x)
    assert 0 < len(texts) < compiled
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_allclose(second[1], np.exp(np.sort(x) * 3), rtol=1e-6)


def test_without_llvmlites_inner_functions_units_take_turns(monkeypatch):
    """The public methods of llvmlite make the same code."""
    text = "define i64 @seven() {\n  ret i64 7\n}\n"
    want = codegen.object_code(text)
    monkeypatch.setattr(codegen, "_machines", [])
    monkeypatch.setattr(codegen.ctypes, "CDLL", lambda name: object())
    assert codegen.object_code(text) == want
