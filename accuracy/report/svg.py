"""The few shapes that the plots need, as SVG text: scales, axes, lines. Colours are classes, so that the page's style decides on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to pixels. Logarithmic: values below `low` (also 0) are drawn at `low`, values above `high` at `high`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = (math.log10(value) if self.log else value) - low
        return self.start + (self.end - self.start) * (place / (high - low) if high > low else 0.5)

    def decades(self) -> list[float]:
        """Powers of ten inside the scale, at most about eight of them."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        step = max(1, -(-(last - first) // 8))
        return [10.0**power for power in range(first, last + 1) if power % step == 0]

    def steps(self, most: int = 8) -> list[float]:
        """Round values for a linear axis."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / most
        size = 10.0 ** math.floor(math.log10(raw))
        size *= next(factor for factor in (1, 2, 5, 10) if factor * size >= raw)
        first = math.ceil(self.low / size)
        return [size * k for k in range(first, math.floor(self.high / size) + 1)]


def text(x: float, y: float, value: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{px(x)}" y="{px(y)}" class="{style}" text-anchor="{anchor}">{escape(value)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{px(x1)}" y1="{px(y1)}" x2="{px(x2)}" y2="{px(y2)}" class="{style}"/>'


def path(points: Iterable[tuple[float, float]], style: str, title: str = "") -> str:
    commands = " ".join(f"{'L' if number else 'M'}{px(x)} {px(y)}" for number, (x, y) in enumerate(points))
    return f'<path d="{commands}" class="{style}">{_title(title)}</path>'


def dot(x: float, y: float, radius: float, style: str, title: str = "") -> str:
    return f'<circle cx="{px(x)}" cy="{px(y)}" r="{px(radius)}" class="{style}">{_title(title)}</circle>'


def rect(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect x="{px(x)}" y="{px(y)}" width="{px(max(width, 0))}" height="{px(max(height, 0))}" class="{style}"/>'


def picture(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {px(width)} {px(height)}" role="img" aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
    return "\n".join((head, *parts, "</svg>"))


def px(value: float) -> str:
    """A tenth of a pixel is enough, and keeps the file small."""
    return f"{value:.1f}".removesuffix(".0")


def power(value: float) -> str:
    """1, 10, 100, 1000, then 10⁴; 0.1, 0.01, then 10⁻³."""
    if 0.01 <= value < 9999:
        return f"{value:g}"
    return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _title(value: str) -> str:
    return f"<title>{escape(value)}</title>" if value else ""
