"""The pictures of a simulation: load against capacity, capacity by device type, goals met, what waits and what it costs.

All share one time axis. Ticks are drawn as at most `POINTS` columns: of a column the mean of what flows and the highest of what waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from accuracy.report import svg
from polyfleet.cli.simulate import data
from polyfleet.cli.simulate.loop import Run, Tick
from polyfleet.cli.simulate.text import clock

WIDTH = 980.0
_LEFT, _RIGHT, _TOP, _HEIGHT = 56.0, 24.0, 22.0, 170.0
POINTS = 480
COLOURS = 6  # device types with a colour of their own; the rest share the last
CSS = """
.load{fill:none;stroke:var(--soft);stroke-width:1}.asked{fill:none;stroke:var(--bad);stroke-width:1.6}.level{fill:none;stroke:var(--run);
stroke-width:1.2}.met{fill:none;stroke:var(--good);stroke-width:1.6}.queue{fill:none;stroke:var(--hold);stroke-width:1.4}
.money{fill:none;stroke:var(--tail);stroke-width:1.6}.event{stroke:var(--bad);stroke-width:1;stroke-dasharray:2 3}
.d0{fill:#4493f8}.d1{fill:#3fb950}.d2{fill:#d29922}.d3{fill:#ab7df8}.d4{fill:#39c5cf}.d5{fill:#9198a1}.coming{fill-opacity:.35}
.legend span{margin-right:18px;white-space:nowrap}.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px}
.legend .d0{background:#4493f8}.legend .d1{background:#3fb950}.legend .d2{background:#d29922}.legend .d3{background:#ab7df8}
.legend .d4{background:#39c5cf}.legend .d5{background:#9198a1}
"""


def sections(run: Run) -> Iterator[str]:
    columns = _columns(run.ticks)
    x = svg.Scale(0.0, max(run.ticks[-1].at + run.tick_s, run.tick_s), _LEFT, WIDTH - _RIGHT)
    profiles = sorted({name for tick in run.ticks for name, _ in (*tick.ready, *tick.pending)})
    yield "<h2>Load and capacity</h2>"
    yield '<p class="legend soft">grey: load that arrived · blue: level as measured · red: asked of the placer, all in work/s</p>'
    yield _lines(run, x, columns)
    yield "<h2>Capacity by device type, ready and on its way</h2>"
    names = "".join(f'<span><i class="{_tone(place)}"></i>{escape(name)}</span>' for place, name in enumerate(profiles))
    yield f'<p class="legend soft">{names}<span>pale: on its way</span></p>'
    yield _stack(run, x, columns, profiles)
    yield f"<h2>Requests whose first token came within {run.subject.goal[0]:g} s</h2>"
    yield _met(run, x)
    yield "<h2>Requests that wait</h2>"
    yield _single(run, x, columns, "queue", "requests waiting", lambda column: float(max(tick.waiting for tick in column)))
    yield "<h2>Cost per hour</h2>"
    yield _single(run, x, columns, "money", "cost per hour", lambda column: _mean([tick.hourly_cost for tick in column]))


def _columns(ticks: Sequence[Tick]) -> list[Sequence[Tick]]:
    size = max(1, -(-len(ticks) // POINTS))
    return [ticks[place : place + size] for place in range(0, len(ticks), size)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _frame(run: Run, x: svg.Scale, y: svg.Scale, label: Callable[[float], str] = lambda value: f"{value:g}") -> list[str]:
    bottom = _TOP + _HEIGHT
    parts = [svg.rect(x.start, _TOP, x.end - x.start, _HEIGHT, "frame")]
    for value in y.steps(5):
        parts += [svg.line(x.start, y(value), x.end, y(value), "grid"), svg.text(x.start - 8, y(value) + 4, label(value), "tick", "end")]
    for step in (60, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800):
        if x.high / step <= 10:
            break
    parts += [svg.text(x(float(at)), bottom + 16, clock(at), "tick", "middle") for at in range(0, int(x.high) + 1, step)]
    for event in run.events:
        if event.what in ("Fault", "Restored"):
            parts.append(svg.line(x(event.at), _TOP, x(event.at), bottom, "event"))
            parts.append(svg.text(x(event.at) + 3, _TOP + 12, event.text.split(";")[0], "hint"))
    return parts


def _picture(label: str, parts: Sequence[str]) -> str:
    return svg.picture(WIDTH, _TOP + _HEIGHT + 26, label, parts)


def _scale(highest: float) -> svg.Scale:
    return svg.Scale(0.0, highest * 1.08 if highest > 0 else 1.0, _TOP + _HEIGHT, _TOP)


_Of = Callable[[Sequence[Tick]], float | None]


def _steps(x: svg.Scale, y: svg.Scale, columns: Sequence[Sequence[Tick]], of: _Of) -> list[list[tuple[float, float]]]:
    """Polylines, broken where the value is unknown."""
    lines: list[list[tuple[float, float]]] = [[]]
    for column in columns:
        value = of(column)
        if value is None:
            if lines[-1]:
                lines.append([])
        else:
            lines[-1].append((x(column[0].at), y(value)))
    return [line for line in lines if len(line) > 1]


def _level(column: Sequence[Tick]) -> float | None:
    known = [tick.level for tick in column if tick.level is not None]
    return _mean(known) if known else None


def _lines(run: Run, x: svg.Scale, columns: Sequence[Sequence[Tick]]) -> str:
    y = _scale(max(max(tick.load, tick.asked, tick.level or 0.0, sum(v for _, v in tick.ready)) for tick in run.ticks))
    parts = _frame(run, x, y)
    area = [(x(column[0].at), y(_mean([sum(v for _, v in tick.ready) for tick in column]))) for column in columns]
    parts.append(_area([(x(columns[0][0].at), y(0.0)), *area, (x(columns[-1][0].at), y(0.0))], "d0 coming", "capacity that serves"))
    kinds: tuple[tuple[str, str, Callable[[Sequence[Tick]], float | None]], ...] = (
        ("load", "load", lambda column: _mean([tick.load for tick in column])),
        ("level", "level", _level),
        ("asked", "asked of the placer", lambda column: _mean([tick.asked for tick in column])),
    )
    for style, title, of in kinds:
        parts += [svg.path(line, style, title) for line in _steps(x, y, columns, of)]
    return _picture("Load and capacity over time", parts)


def _area(points: Sequence[tuple[float, float]], style: str, title: str) -> str:
    commands = " ".join(f"{'L' if place else 'M'}{svg.px(a)} {svg.px(b)}" for place, (a, b) in enumerate(points))
    return f'<path d="{commands} Z" class="{style}"><title>{escape(title)}</title></path>'


def _tone(place: int) -> str:
    return f"d{min(place, COLOURS - 1)}"


def _stack(run: Run, x: svg.Scale, columns: Sequence[Sequence[Tick]], profiles: Sequence[str]) -> str:
    """Ready capacity of each type upon the others, and above them what is on its way."""
    layers: list[tuple[str, str, list[float]]] = []
    for coming in (False, True):
        for place, name in enumerate(profiles):
            values = [_mean([dict(tick.pending if coming else tick.ready).get(name, 0.0) for tick in column]) for column in columns]
            layers.append((f"{_tone(place)}{' coming' if coming else ''}", f"{name}{', on its way' if coming else ''}", values))
    totals = [sum(values[place] for _, _, values in layers) for place in range(len(columns))]
    y = _scale(max(totals, default=1.0))
    parts = _frame(run, x, y)
    below = [0.0] * len(columns)
    for style, title, values in layers:
        above = [low + value for low, value in zip(below, values, strict=True)]
        if any(values):
            places = [x(column[0].at) for column in columns]
            up = [(at, y(value)) for at, value in zip(places, above, strict=True)]
            back = [(at, y(value)) for at, value in zip(reversed(places), reversed(below), strict=True)]
            parts.append(_area([*up, *back], style, title))
        below = above
    return _picture("Capacity by device type over time", parts)


def _met(run: Run, x: svg.Scale) -> str:
    y = svg.Scale(0.0, 1.0, _TOP + _HEIGHT, _TOP)
    parts = _frame(run, x, y, lambda value: f"{value:.0%}")
    goal = run.subject.settings(run.subject.base).slo.percentile / 100.0
    parts.append(svg.line(x.start, y(goal), x.end, y(goal), "limit good"))
    line: list[tuple[float, float]] = []
    for begin, end, share in data.shares(run, min(120, max(1, int(run.trace.span_s // (3 * run.tick_s))))):
        if share is not None:
            line += [(x(begin), y(share)), (x(end), y(share))]
    if line:
        parts.append(svg.path(line, "met", "share of requests within the goal"))
    return _picture("Goals met over time", parts)


def _single(
    run: Run, x: svg.Scale, columns: Sequence[Sequence[Tick]], style: str, label: str, of: Callable[[Sequence[Tick]], float]
) -> str:
    y = _scale(max(of(column) for column in columns))
    parts = _frame(run, x, y)
    parts += [svg.path(line, style, label) for line in _steps(x, y, columns, of)]
    return _picture(f"{label} over time", parts)
