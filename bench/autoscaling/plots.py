"""One run as a page that needs nothing else: load, demand, capacity that serves and that comes, times to the first token, decisions.

Work is by true outputs and so is known to the picture only, not to the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np

from accuracy.report import svg
from accuracy.report.style import CSS
from autoscaling.replay.harness import Result, Tick
from autoscaling.replay.loads import Load

WIDTH, LEFT, RIGHT = 980.0, 56.0, 120.0
PANEL, GAP = 180.0, 46.0
BINS = 360  # of the whole run, for load and latencies
_STYLE = (
    ".ready{fill:none;stroke:var(--run);stroke-width:1.6}.coming{fill:none;stroke:var(--hold);stroke-width:1.2;stroke-dasharray:4 2}"
    ".work{fill:none;stroke:var(--soft);stroke-width:1}.p50{fill:none;stroke:var(--good);stroke-width:1}"
    ".p99{fill:none;stroke:var(--bad);stroke-width:1}.up{fill:var(--bad)}.down{fill:var(--good)}"
)


def page(load: Load, result: Result, title: str, within_s: float) -> str:
    """HTML with inline SVG. The result must have been recorded."""
    met = result.attainment(within_s)
    lead = (
        f"{100 * met:.2f} % of first tokens in time ({within_s:g} s), {result.replica_hours:.1f} replica-hours, {result.events} events,"
        f" {result.starts} starts."
    )
    rows = "".join(
        f"<tr><td class=r>{tick.at:.0f} s</td><td class=r>{tick.ready} + {tick.loading}</td><td class=r>{tick.wanted}</td>"
        f"<td>{escape(tick.reason)}</td><td>{escape(tick.message)}</td></tr>"
        for tick in changes(result.ticks)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{CSS}{_STYLE}</style></head>'
        f"<body><main><h1>{escape(title)}</h1><p>{escape(lead)}</p>{picture(load, result, within_s)}<h2>Decisions</h2>"
        "<table><tr><th class=r>at</th><th class=r>ready + loading</th><th class=r>wanted</th><th>reason</th><th>numbers</th></tr>"
        f"{rows}</table></main></body></html>\n"
    )


def changes(ticks: Sequence[Tick]) -> list[Tick]:
    """Ticks that changed the wanted size."""
    return [now for before, now in pairwise(ticks) if now.wanted != before.wanted]


def picture(load: Load, result: Result, within_s: float) -> str:
    """Three panels over the same time: requests, capacity and demand, times to the first token."""
    end = float(load.arrival[-1])
    x = svg.Scale(0.0, end / 60.0, LEFT, WIDTH - RIGHT)
    edges = np.linspace(0.0, end, BINS + 1)
    place = np.clip(np.digitize(load.arrival, edges) - 1, 0, BINS - 1)
    width = end / BINS
    middles = [(a + width / 2.0) / 60.0 for a in edges[:-1]]
    rate = np.bincount(place, minlength=BINS) / width
    work = np.bincount(place, weights=load.work, minlength=BINS) / width
    parts = _axes(x, 22.0, 0.0, float(rate.max()) * 1.05, "Load, requests/s")
    y = svg.Scale(0.0, float(rate.max()) * 1.05, 22.0 + PANEL, 22.0)
    parts.append(svg.path(((x(m), y(float(v))) for m, v in zip(middles, rate, strict=True)), "work"))
    parts += _capacity(x, 22.0 + PANEL + GAP, result.ticks, middles, work)
    parts += _latency(x, 22.0 + 2.0 * (PANEL + GAP), result, place, middles, within_s)
    bottom = 22.0 + 3.0 * PANEL + 2.0 * GAP
    parts += [svg.text(x(tick), bottom + 16.0, f"{tick:g}", "tick", "middle") for tick in x.steps(10)]
    parts.append(svg.text((x.start + x.end) / 2.0, bottom + 34.0, "minutes", "axis", "middle"))
    return svg.picture(WIDTH, bottom + 42.0, "One run", parts)


def _axes(x: svg.Scale, top: float, low: float, high: float, title: str, *, log: bool = False) -> list[str]:
    y = svg.Scale(low, high, top + PANEL, top, log=log)
    parts = [svg.rect(x.start, top, x.end - x.start, PANEL, "frame"), svg.text(x.start, top - 8.0, title, "title")]
    for tick in y.decades() if log else y.steps(6):
        parts += [svg.line(x.start, y(tick), x.end, y(tick), "grid"), svg.text(x.start - 8.0, y(tick) + 4.0, f"{tick:g}", "tick", "end")]
    return parts


def _capacity(x: svg.Scale, top: float, ticks: Sequence[Tick], middles: Sequence[float], work: np.ndarray) -> list[str]:
    high = max(float(np.percentile(work, 99.5)), *(float(tick.ready + tick.loading) for tick in ticks)) * 1.05
    y = svg.Scale(0.0, high, top + PANEL, top)
    parts = _axes(x, top, 0.0, high, "Demand by true work, and replicas")
    parts.append(svg.path(((x(m), y(float(v))) for m, v in zip(middles, work, strict=True)), "work", "demand, work/s"))
    for style, values in (("coming", [t.ready + t.loading for t in ticks]), ("ready", [t.ready for t in ticks])):
        points: list[tuple[float, float]] = []
        for tick, value in zip(ticks, values, strict=True):
            if points and points[-1][1] != y(value):
                points.append((x(tick.at / 60.0), points[-1][1]))
            if not points or points[-1][1] != y(value):
                points.append((x(tick.at / 60.0), y(value)))
        points.append((x(ticks[-1].at / 60.0), points[-1][1]))
        parts.append(svg.path(points, style, style))
    for before, now in pairwise(ticks):
        if now.wanted != before.wanted:
            up = now.wanted > before.wanted
            label = f"{now.at:.0f} s: {before.wanted} → {now.wanted} {now.reason}"
            parts.append(svg.dot(x(now.at / 60.0), top + PANEL - 6.0, 2.6, "up" if up else "down", label))
    names = (("ready", "serves"), ("coming", "and on its way"), ("work", "demand"))
    for number, (style, name) in enumerate(names):
        at = top + 14.0 + 16.0 * number
        parts += [svg.line(x.end + 8.0, at - 4.0, x.end + 28.0, at - 4.0, style), svg.text(x.end + 32.0, at, name, "hint")]
    return parts


def _latency(x: svg.Scale, top: float, result: Result, place: np.ndarray, middles: Sequence[float], within_s: float) -> list[str]:
    low, high = 0.01, max(20.0, float(result.ttft.max()) * 1.2)
    y = svg.Scale(low, high, top + PANEL, top, log=True)
    parts = _axes(x, top, low, high, "Time to the first token, s: median and 99th percentile", log=True)
    parts.append(svg.line(x.start, y(within_s), x.end, y(within_s), "limit bad"))
    order = np.argsort(place, kind="stable")
    pieces = np.split(result.ttft[order], np.searchsorted(place[order], np.arange(1, BINS)))
    for style, share in (("p50", 50.0), ("p99", 99.0)):
        points = [(x(m), y(float(np.percentile(piece, share)))) for m, piece in zip(middles, pieces, strict=True) if len(piece)]
        parts.append(svg.path(points, style, style))
    return parts
