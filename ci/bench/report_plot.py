"""Comparisons as a picture: bars of ratios on a logarithmic axis, for light pages and dark ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from report_rows import Comparison, Row
from report_table import times

WIDTH, LEFT, RIGHT = 760, 150, 56
TOP, BAR, STEP, HEADING, BELOW = 62, 13, 19, 26, 34
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
STYLE = """  <style>
    .ground { fill: #ffffff; stroke: #d5dde0; }
    .more { fill: #0b6a75; }
    .less { fill: #b3641a; }
    text { font: 12.5px system-ui, sans-serif; fill: #1d2a2e; paint-order: stroke;
      stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
    .title { font-size: 15px; font-weight: 600; }
    .work { font-weight: 600; }
    .small { fill: #56646a; font-size: 12px; }
    .line { stroke: #d5dde0; }
    .one { stroke: #56646a; stroke-width: 1.5; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #15191b; stroke: #3a4347; }
      .more { fill: #5fc9d6; }
      .less { fill: #e9a35a; }
      text { fill: #e6edef; stroke: #15191b; }
      .small { fill: #a9b6bb; }
      .line { stroke: #3a4347; }
      .one { stroke: #a9b6bb; }
    }
  </style>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A logarithmic axis of ratios from left to right."""

    least: float
    most: float

    @classmethod
    def over(cls, ratios: Sequence[float]) -> Axis:
        """Return an axis from tick to tick that holds all ratios, and 1."""
        low, high = min([*ratios, 1.0]), max([*ratios, 1.0])
        least = max((tick for tick in TICKS if tick <= low), default=TICKS[0])
        most = min((tick for tick in TICKS if tick >= high), default=TICKS[-1])
        return cls(least=least, most=most if most > least else 2 * least)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Where lines are drawn."""
        return tuple(tick for tick in TICKS if self.least <= tick <= self.most)

    def at(self, ratio: float) -> float:
        """Return how far from the left a ratio lies; what is beyond the ends lies at them."""
        inside = min(max(ratio, self.least), self.most)
        part = math.log(inside / self.least) / math.log(self.most / self.least)
        return LEFT + part * (WIDTH - LEFT - RIGHT)


def bars(comparisons: Sequence[Comparison]) -> list[tuple[Comparison, list[tuple[Row, float]]]]:
    """Return each work with its bars: each peer's fastest way, and how hfzarr compares."""
    found = []
    for one in comparisons:
        rows = [(row, one.ratio(row)) for row in one.rivals]
        known = [(row, ratio) for row, ratio in rows if ratio is not None]
        if known:
            found.append((one, known))
    return found


def picture(comparisons: Sequence[Comparison], *, title: str, below: str) -> str:
    """Return the picture as SVG.

    Parameters
    ----------
    comparisons
        What is drawn; those without a peer are left out.
    title
        What stands above.
    below
        What stands below the bars: where it was measured.
    """
    works = bars(comparisons)
    axis = Axis.over([ratio for _, rows in works for _, ratio in rows])
    end = TOP + sum(HEADING + STEP * len(rows) for _, rows in works)
    height = end + BELOW + 26
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-labelledby="title desc">',
        f'  <title id="title">{escape(title)}</title>',
        f'  <desc id="desc">{escape(" ".join(_told(works)))}</desc>',
        STYLE,
        f'  <rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" '
        'rx="10"/>',
        f'  <text class="title" x="16" y="26">{escape(title)}</text>',
        '  <text class="small" x="16" y="45">to the right of 1 hfzarr is faster, to the left '
        "the other is; logarithmic</text>",
        *_grid(axis, end),
        *_works(works, axis),
        f'  <text class="small" x="16" y="{height - 12}">{escape(below)}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _told(works: Sequence[tuple[Comparison, list[tuple[Row, float]]]]) -> Iterator[str]:
    for one, rows in works:
        ratios = ", ".join(f"{times(ratio)} {row.way}" for row, ratio in rows)
        yield f"{one.what}: {ratios}."


def _grid(axis: Axis, end: int) -> Iterator[str]:
    for tick in axis.ticks:
        x, kind = axis.at(tick), "one" if tick == 1 else "line"
        yield f'  <line class="{kind}" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{end + 4}"/>'
        yield (
            f'  <text class="small" x="{x:.1f}" y="{end + 20}" text-anchor="middle">{tick:g}</text>'
        )


def _works(
    works: Sequence[tuple[Comparison, list[tuple[Row, float]]]], axis: Axis
) -> Iterator[str]:
    y = TOP
    for one, rows in works:
        yield f'  <text class="work" x="16" y="{y + 18}">{escape(one.what)}</text>'
        y += HEADING
        for row, ratio in rows:
            yield from _bar(row, ratio, axis, y)
            y += STEP


def _bar(row: Row, ratio: float, axis: Axis, y: int) -> Iterator[str]:
    start, end = sorted((axis.at(1.0), axis.at(ratio)))
    kind = "more" if ratio >= 1 else "less"
    yield (
        f'  <rect class="{kind}" x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" '
        f'height="{BAR}" rx="2"/>'
    )
    yield f'  <text x="{LEFT - 10}" y="{y + 11}" text-anchor="end">{escape(row.peer)}</text>'
    # The number stands to the right of the bar, where nothing is in its way.
    yield f'  <text x="{end + 6:.1f}" y="{y + 11}">{escape(times(ratio))}</text>'
