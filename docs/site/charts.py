"""Pictures of what performance.md's table says, as SVG in colours for light and dark pages."""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from pathlib import Path

WIDTH, LABEL, ROW, TOP = 900, 450, 22, 46
COLOURS = {"yes": "#2a9d5c", "NO": "#d1495b", "": "#8d99ae"}


@dataclass
class Bar:
    """A row of the table: how many times faster, what was to be reached, and whether it was."""

    title: str
    ratio: float
    target: float | None
    met: str


def charts(docs: Path) -> dict[str, str]:
    """Draw all pictures of the pages.

    Args:
        docs: the folder of the pages.

    Returns:
        The text of each SVG file by its name.
    """
    bars = recorded((docs / "performance.md").read_text(encoding="utf-8"))
    return {"benchmarks": draw(bars)}


def recorded(page: str) -> list[Bar]:
    """Read the rows of the table of measurements."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    start = next(k for k, line in enumerate(lines) if line.startswith("| work  "))
    header = [cell.strip() for cell in lines[start].strip("|").split("|")]
    bars = []
    for line in lines[start + 2 :]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        row = dict(zip(header, cells, strict=False))
        if "ratio" not in row or not row["ratio"].endswith("x"):
            break
        target = re.match(r"([\d.]+)x(?! copy)", row["target"])
        bars.append(
            Bar(
                row["work"], float(row["ratio"][:-1]), float(target[1]) if target else None,
                row["met"].partition(",")[0],
            )
        )  # fmt: skip
    return bars


def draw(bars: list[Bar]) -> str:
    """Draw one bar for each row on a logarithmic scale, from 1; a tick marks the target."""
    low = min(0.25, *(b.ratio for b in bars))
    high = max(b.ratio for b in bars) * 1.6
    scale = (WIDTH - LABEL - 60) / (math.log(high) - math.log(low))

    def place(ratio: float) -> float:
        return LABEL + (math.log(ratio) - math.log(low)) * scale

    height = TOP + ROW * len(bars) + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12">',
        "<title>How many times faster FunTorch is than the better one of JAX and PyTorch</title>",
        "<style>text { fill: #7d8590 } .axis { stroke: #8884 } .tick { stroke: #7d8590 }</style>",
    ]
    for power in (0.5, 1, 2, 5, 10, 100, 1000):
        if low <= power <= high:
            x = place(power)
            out.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="24" y2="{height - 8}"/>')
            out.append(f'<text x="{x:.1f}" y="16" text-anchor="middle">{power:g}x</text>')
    for k, bar in enumerate(bars):
        y = TOP - 14 + ROW * k
        a, b = sorted((place(1), place(bar.ratio)))
        out.append(
            f'<text x="{LABEL - 12}" y="{y + 12}" text-anchor="end">{html.escape(bar.title)}</text>'
        )
        out.append(
            f'<rect x="{a:.1f}" y="{y + 2}" width="{max(b - a, 1):.1f}" height="{ROW - 7}" rx="2" '
            f'fill="{COLOURS.get(bar.met, COLOURS[""])}"/>'
        )
        end = max(b, place(bar.target or 1), place(1))
        if bar.target:
            x = place(bar.target)
            out.append(
                f'<line class="tick" stroke-width="2" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" '
                f'y2="{y + ROW - 3}"/>'
            )
        out.append(f'<text x="{end + 6:.1f}" y="{y + 12}">{bar.ratio:.3g}x</text>')
    return "\n".join([*out, "</svg>", ""])


def main() -> None:
    """Write the pictures into docs/images, where pages show them."""
    docs = Path(__file__).resolve().parent.parent
    for name, text in charts(docs).items():
        (docs / "images" / f"{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
