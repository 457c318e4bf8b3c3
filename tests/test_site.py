"""The documentation site builds without a warning, its links lead somewhere, browsers take it."""

import contextlib
import functools
import http.server
import importlib
import os
import re
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest
from browser import browser, found

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "docs" / "site"
FOREIGN = {"coming-from-jax": "jax", "coming-from-pytorch": "torch", "coming-from-numpy": "numpy"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, once for all workers of pytest."""
    pytest.importorskip("sphinx", reason="the site needs pip install '.[docs]'")
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    log = base / "site.log"
    try:
        (base / "site-sources").mkdir()
    except FileExistsError:  # another worker builds it
        end = time.monotonic() + 600
        while not log.exists() and time.monotonic() < end:
            time.sleep(0.2)
    else:
        done = subprocess.run(
            [sys.executable, str(SOURCES / "build.py"), str(base / "site")],
            cwd=base, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        text = f"{done.returncode}\n{done.stdout}{done.stderr}"
        log.with_suffix(".new").write_text(text, encoding="utf-8")
        log.with_suffix(".new").rename(log)
    text = log.read_text(encoding="utf-8")
    assert text.startswith("0\n"), text
    return base / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    """Map the path of every page to its text."""
    found = {p.relative_to(site).as_posix(): p for p in site.rglob("*.html")}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items()}


def public_modules() -> dict[str, types.ModuleType]:
    """Return all modules that can be reached from funtorch through names in `__all__`."""
    left, seen = [importlib.import_module("funtorch")], {}
    while left:
        module = left.pop()
        if module.__name__ in seen or not hasattr(module, "__all__"):
            continue
        seen[module.__name__] = module
        values = [getattr(module, name) for name in module.__all__]
        modules = [v for v in values if isinstance(v, types.ModuleType)]
        left += [m for m in modules if m.__name__.startswith("funtorch.")]
    return seen


def test_links_and_assets_are_there(site: Path, pages: dict[str, str]) -> None:
    ids = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in pages.items()}
    lost = []
    for page, text in pages.items():
        for link in set(re.findall(r'\b(?:href|src)="([^"]*)"', text)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = urljoin(page, unquote(parts.path)) if parts.path else page
            anchor = unquote(parts.fragment)
            if target in pages:
                good = not anchor or anchor in ids[target] or anchor == "top"
            else:
                good = (site / target).is_file()
            if not good:
                lost.append(f"{page}: {link}")
    assert len(pages) > 150
    assert not lost, lost[:20]


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, str]) -> None:
    loaded = re.compile(r'<(?:script|img|iframe)\b[^>]*\bsrc="(\w+:)?//[^"]*"|<link\b[^>]*"https?:')
    assert not [name for name, text in pages.items() if loaded.search(text)]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:", sheet.read_text(encoding="utf-8")), sheet


def test_every_public_name_is_in_the_reference(pages: dict[str, str]) -> None:
    shown = {i for name, text in pages.items() if name.startswith("api/")
             for i in re.findall(r'\bid="([^"]+)"', text)}  # fmt: skip
    missing = []
    for path, module in public_modules().items():
        missing += [] if f"module-{path}" in shown else [path]
        for name in module.__all__:
            if not isinstance(getattr(module, name), types.ModuleType):
                missing += [] if f"{path}.{name}" in shown else [f"{path}.{name}"]
    assert len(shown) > 1500
    assert not missing, missing[:20]


def test_every_page_and_example_is_in_the_navigation(pages: dict[str, str]) -> None:
    side = pages["index.html"].partition("sidebar-tree")[2]
    for path in ROOT.glob("docs/*.md"):
        if path.stem != "index":
            assert f'href="{path.stem}.html"' in side, f"docs/site/navigation.py lacks {path.stem}"
    for path in ROOT.glob("examples/*.py"):
        assert f"examples/{path.stem}.html" in pages["examples.html"], path


def test_code_in_text_links_to_the_reference(pages: dict[str, str]) -> None:
    assert re.search(r'href="api/funtorch\.html#funtorch\.vmap"[^>]*><code', pages["vmap.html"])
    text = pages["api/funtorch.html"]
    assert 'href="#funtorch.value_and_grad"' in text  # grad's docstring names it


def test_picture_is_that_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SOURCES))
    charts = importlib.import_module("charts")
    for name, text in charts.charts(ROOT / "docs").items():
        kept = (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
        assert kept == text, "run python docs/site/charts.py"
        assert text.count("<rect") > 40


@pytest.mark.parametrize("page", FOREIGN)
def test_ported_programs_print_the_same(page: str, tmp_path: Path) -> None:
    pytest.importorskip(FOREIGN[page])
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    numbers = []
    for language in ("py", "python"):
        blocks = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        program = tmp_path / f"{language}_page.py"
        program.write_text("\n\n".join(blocks), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(program)],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        numbers.append([float(n) for n in re.findall(r"-?\d+\.\d*(?:e-?\d+)?", done.stdout)])
    assert len(numbers[0]) > 1
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=0.02)


def test_code_of_other_libraries_stands_only_where_it_is_compared() -> None:
    for path in ROOT.glob("docs/*.md"):
        languages = set(re.findall(r"^```(\w*)\n(?!```)", path.read_text(encoding="utf-8"), re.M))
        assert "py" not in languages or path.stem in FOREIGN, path
        assert languages <= {"", "python", "py", "sh", "text", "c", "toml"}, (path, languages)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine, and give its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


RESULTS = "[...document.querySelectorAll('#search-results li a')].map(a => a.getAttribute('href'))"
SEARCHES = {  # what is typed, and a page that must be among the first results
    "vmap": "vmap.html",
    "funtorch.vmap": "api/funtorch.html#funtorch.vmap",
    "per-example gradients": "howto-per-example-gradients.html",
    "MultiheadAttention": "funtorch.nnx.MultiheadAttention",
    "straight-through": "howto-own-rules.html",
}


def test_in_a_browser(site: Path, pages: dict[str, str]) -> None:
    path = found()
    if path is None:
        pytest.skip("there is no browser: apt-get install chromium")
    visited = [p for p in pages if "/" not in p] + [p for p in pages if "/" in p][::20]
    with served(site) as home, browser(path) as page:
        for name in visited:
            page.open(f"{home}/{name}")
            empty = page.run("document.querySelector('article').innerText.length < 5")
            assert name == "search.html" or not empty, name
            assert page.complaints() == [], name
            elsewhere = [r for r in page.requests() if not r.startswith((home, "data:"))]
            assert not elsewhere, (name, elsewhere)
        for query, expected in SEARCHES.items():
            page.open(f"{home}/index.html")
            page.run("document.querySelector('input.sidebar-search').focus()")
            page.type(query)
            page.wait_for("location.pathname.endsWith('search.html')")
            place = f"{RESULTS}.slice(0, 8).findIndex(link => link.includes('{expected}'))"
            page.wait_for(f"{place} >= 0")  # results come one after the other
            page.run(f"document.querySelectorAll('#search-results li a')[{place}].click()")
            page.wait_for("!location.pathname.endsWith('search.html') && document.title")
            assert page.complaints() == [], query
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=390, height=800, deviceScaleFactor=1, mobile=True,
        )  # fmt: skip
        for name in ("index.html", "coming-from-jax.html", "api/funtorch.html", "coverage.html"):
            page.open(f"{home}/{name}")
            wide = page.run("document.documentElement.scrollWidth")
            assert wide <= 391, f"{name} is {wide} pixels wide on a phone"


def test_search_works_without_a_server(site: Path) -> None:
    path = found()
    if path is None:
        pytest.skip("there is no browser: apt-get install chromium")
    with browser(path) as page:
        page.open(f"{site.as_uri()}/search.html?q=vmap")
        first = page.wait_for(f"{RESULTS}.length > 0 && {RESULTS}.slice(0, 8)")
        assert any("funtorch.vmap" in link for link in first)
