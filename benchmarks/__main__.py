"""Measure every row: `python -m benchmarks [--quick] [--only NAME ...] [--check]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

CHOSEN = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""What would choose OpenBLAS's kernels by hand; users do not, so the benchmark must not either."""

if any(name in os.environ for name in CHOSEN):
    # OpenBLAS reads them when it is loaded, which importing NumPy does: start afresh without them.
    rest = {k: v for k, v in os.environ.items() if k not in CHOSEN}
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], rest)

from benchmarks import (  # noqa: E402
    compile_time,
    data,
    dispatch,
    eager,
    elementwise,
    exported,
    foundation,
    library,
    loops,
    products,
    reductions,
    training,
)
from benchmarks.figure import draw  # noqa: E402
from benchmarks.harness import HEADER, ROWS, Result, cells, judge, table  # noqa: E402

TOPICS = (
    elementwise, reductions, products, training, loops, library, data, dispatch, eager,
    compile_time, exported,
    foundation,
)  # fmt: skip
"""The order in which the rows are shown."""


def machine() -> str:
    """Return what ran the benchmark: processor, threads, versions, BLAS."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [f"{processor()}, {threads} threads, Python {platform.python_version()}"]
    lines += [f"{name} {version}" for name, version in versions()]
    lines += [
        f"{pool['internal_api']} {pool.get('version') or ''}"
        f" {pool.get('architecture', '')}: {pool['num_threads']} threads"
        f" ({Path(pool['filepath']).name})"
        for pool in pools()
    ]
    return "\n".join(lines)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> list[tuple[str, str]]:
    loaded = ((name, sys.modules.get(name)) for name in ("funtorch", "numpy", "jax", "torch"))
    return [(name, module.__version__) for name, module in loaded if module is not None]


def pools() -> list[dict[str, Any]]:
    """Return the thread pools of native libraries that are loaded now."""
    try:
        import threadpoolctl
    except ImportError:
        return []
    return threadpoolctl.threadpool_info()


def chosen(names: list[str]) -> list[Any]:
    """Return the rows whose name or topic was asked for, in the order of the table."""
    order = {topic.__name__.rpartition(".")[2]: k for k, topic in enumerate(TOPICS)}
    rows = sorted(ROWS, key=lambda r: order[r.topic])
    if not names:
        return rows
    found = [r for r in rows if any(n == r.topic or r.name.startswith(n) for n in names)]
    if not found:
        sys.exit(f"no row is called {' or '.join(names)}; there are: {[r.name for r in rows]}")
    return found


def save(results: list[Result], folder: Path) -> None:
    """Write the table as Markdown, JSON and a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"```\n{machine()}\n```\n\n{table(results)}\n"
    (folder / "benchmarks.md").write_text(text, encoding="utf-8")
    record = [
        {"name": r.row.name, "seconds": r.medians, "fastest": r.fastest, "notes": r.notes}
        for r in results
    ]
    (folder / "benchmarks.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    draw(results, folder / "benchmarks.png")


def main() -> None:
    """Run the rows, print each as it ends, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="rows (by prefix) or topics to run")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    parser.add_argument("--rounds", type=int, help="turns each contender takes")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    args = parser.parse_args()
    rows = chosen(args.only)
    if args.list:
        print(*(f"{r.topic:12} {r.name:16} {r.title}" for r in rows), sep="\n")
        return
    rounds = args.rounds or (5 if args.quick else 11)
    results = []
    for count, r in enumerate(rows, 1):
        results.append(judge(r, rounds, 0.02 if args.quick else 0.06))
        line = dict(zip(HEADER, cells(results[-1]), strict=True))
        print(
            f"[{count:2}/{len(rows)}] {line['work'][:56]:56} {line['funtorch']:>8}"
            f"  jax {line['jax']:>8}  torch {line['torch']:>8}  {line['ratio']:>7}"
            f" ({line['fastest']:>6})"
            f" of {line['target']}: {line['met']} {line['notes']}",
            flush=True,
        )
    save(results, args.out)
    verdicts = [met for r in results for _, met in r.verdicts()]
    print(f"\n{machine()}\n\n{table(results)}\n")
    if any(r.row.name == "import" for r in results):
        print(
            f"heavy packages that `import funtorch` imports: {foundation.heavy_imports() or 'none'}"
        )
    print(f"{verdicts.count(True)} of {len(verdicts)} targets met; files in {args.out}/")
    if args.check and verdicts.count(True) < len(verdicts):
        sys.exit(1)


if __name__ == "__main__":
    main()
