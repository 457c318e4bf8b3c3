"""The benchmark as a picture: how many times faster each row is, and what it must reach."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import Result

COLOURS = {True: "#2a9d5c", False: "#d1495b", None: "#8d99ae"}


def draw(results: list[Result], path: Path) -> None:
    """Draw one bar for each row that was compared, longer for faster; a tick marks its target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = []
    for result in results:
        for target, met in list(result.verdicts())[:1]:
            ratio = result.ratio(target.against)
            if ratio is not None:
                bars.append((result.row.title, ratio, target, met))
    if not bars:
        return
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.28 * len(bars)))
    for k, (_, ratio, target, met) in enumerate(reversed(bars)):
        axes.barh(k, ratio - 1, left=1, color=COLOURS[met])
        axes.plot([target.factor] * 2, [k - 0.45, k + 0.45], color="black", linewidth=1.5)
        axes.text(max(ratio, target.factor, 1) * 1.05, k, f"{ratio:.2g}x", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [title for title, *_ in reversed(bars)], fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_ylim(-0.7, len(bars) - 0.3)
    axes.margins(x=0.1)
    axes.set_xlabel("times faster than the best of JAX and PyTorch; the black tick must be reached")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
