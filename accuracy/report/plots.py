"""The pictures of a report: evidence over prompts with its thresholds, noise ratio by stratum with its boundary, every single prompt.

Each is one inline SVG without scripts. All vertical axes of evidence and all axes of ratios are logarithmic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accuracy.report import svg
from accuracy.report.figures import Curve, Ratio, distance, limit_of, noise_of
from accuracy.report.model import Report
from accuracy.report.words import evidence as amount
from accuracy.report.words import number, statistic, where
from accuracy.suspects import violates

WIDTH = 980.0
_LEFT, _RIGHT = 56.0, 226.0  # room for the axis and for the labels at the lines' ends
_PANEL = 190.0
_Of = Callable[[tuple[int, float, float]], float]  # which evidence of a curve's point
_DECADES = 9  # of evidence that one panel shows at most


def evidence(curves: Sequence[Curve], promote: float, block: float) -> str:
    """Two panels over the same prompts. `promote` = 1/alpha and `block` = M/beta are the thresholds of all tests."""
    last = max((curve.points[-1][0] for curve in curves), default=0)
    if not last:
        return ""
    x = svg.Scale(0, last, _LEFT, WIDTH - _RIGHT)
    parts = [
        *_panel(curves, x, 22, promote, "for Promote", "every test must reach", lambda point: point[1], lowest=True),
        *_panel(curves, x, 22 + _PANEL + 44, block, "for Block", "one test is enough", lambda point: point[2], lowest=False),
    ]
    bottom = 22 + 2 * _PANEL + 44
    parts += [svg.text(x(tick), bottom + 16, f"{tick:g}", "tick", "middle") for tick in x.steps(10) if tick == int(tick)]
    parts.append(svg.text(x(last / 2), bottom + 34, "prompts", "axis", "middle"))
    return svg.picture(WIDTH, bottom + 42, "Evidence over prompts", parts)


def _panel(
    curves: Sequence[Curve], x: svg.Scale, top: float, threshold: float, title: str, hint: str, of: _Of, *, lowest: bool
) -> list[str]:
    values = [of(point) for curve in curves for point in curve.points]
    high = max(threshold * 30, min(max(values), threshold * (300 if lowest else 1e5)))
    low = min(0.1, max(min(values), high / 10**_DECADES))
    y = svg.Scale(max(low, 1e-9), high, top + _PANEL, top, log=True)
    parts = [svg.rect(x.start, top, x.end - x.start, _PANEL, "frame"), svg.text(x.start, top - 8, f"Evidence {title}", "title")]
    for tick in y.decades():
        parts += [svg.line(x.start, y(tick), x.end, y(tick), "grid"), svg.text(x.start - 8, y(tick) + 4, svg.power(tick), "tick", "end")]
    parts += [svg.rect(x.start, top, x.end - x.start, y(threshold) - top, "won" if lowest else "lost")]
    parts += [svg.line(x.start, y(threshold), x.end, y(threshold), "limit good" if lowest else "limit bad")]
    for curve in curves:
        points = [(x(0), y(1.0)), *((x(point[0]), y(of(point))) for point in curve.points)]
        parts.append(svg.path(points, f"curve {curve.gate}", f"{_name(curve)}: {amount(of(curve.points[-1]))}"))
        crossed = next((point for point in curve.points if of(point) >= threshold), None)
        if crossed is not None:
            parts.append(svg.dot(x(crossed[0]), y(of(crossed)), 3, f"mark {curve.gate}", f"{_name(curve)} at prompt {crossed[0]}"))
    told = svg.text(x.start + 8, y(threshold) - 6, f"{number(threshold)}: {hint}", "hint")  # last: lines run beneath it
    return [*parts, *_ends(curves, x, y, top, of, lowest=lowest), told]


def _ends(curves: Sequence[Curve], x: svg.Scale, y: svg.Scale, top: float, of: _Of, *, lowest: bool) -> list[str]:
    """Beside the panel one label per gate: its slowest test for Promote, its strongest for Block. Labels keep clear of each other."""
    chosen: dict[str, Curve] = {}
    for curve in curves:
        known = chosen.get(curve.gate)
        better = known is None or (of(curve.points[-1]) < of(known.points[-1])) == lowest
        if better:
            chosen[curve.gate] = curve
    placed = sorted(((y(of(curve.points[-1])), curve) for curve in chosen.values()), key=lambda item: item[0])
    parts: list[str] = []
    least = top + 8.0
    for place, curve in placed:
        at = max(least, min(place + 4, top + _PANEL - 14.0 * (len(placed) - 1 - len(parts) // 2)))
        parts.append(svg.line(x.end, place, x.end + 12, at - 4, f"lead {curve.gate}"))
        parts.append(svg.text(x.end + 15, at, f"{_name(curve)} {amount(of(curve.points[-1]))}", f"end {curve.gate}"))
        least = at + 14
    return parts


def _name(curve: Curve) -> str:
    parts = (str(curve.gate), where(curve.stratum) if curve.stratum else "", statistic(curve.statistic))
    return " ".join(part for part in parts if part)


def ratios(rows: Sequence[Ratio]) -> str:
    """One row per stratum: the ratio with its interval, the boundary, the reference's own noise at 1."""
    shown = [row for row in rows if row.ratio is not None]
    if not shown:
        return ""
    low = min(0.3, *(row.ratio for row in shown if row.ratio), *(row.low for row in shown if row.low))
    high = max(4.0, *(1.3 * (row.boundary or 1) for row in shown), *(1.15 * (row.high or row.ratio or 1) for row in shown))
    left, right, step, top = 128.0, 250.0, 25.0, 38.0
    x = svg.Scale(max(low * 0.8, 1e-3), high, left, WIDTH - right, log=True)
    bottom = top + step * len(rows)
    parts = [svg.rect(left, top - 6, x.end - left, bottom - top + 6, "frame")]
    for tick in _log_ticks(x):
        parts += [svg.line(x(tick), top - 6, x(tick), bottom, "grid"), svg.text(x(tick), bottom + 16, f"{tick:g}", "tick", "middle")]
    parts += [svg.line(x(1), top - 6, x(1), bottom, "one"), svg.text(x(1), top - 14, "the reference's own noise", "hint", "middle")]
    columns = ((x.end + 62, "ratio"), (x.end + 128, "boundary"), (x.end + 186, "prompts"), (x.end + 236, "bad"))
    parts += [svg.text(at, top - 14, name, "hint", "end") for at, name in columns]
    for place, row in enumerate(rows):
        parts += _ratio_row(row, x, top + step * (place + 0.5) - 3, step, [at for at, _ in columns])
    parts.append(svg.text((left + x.end) / 2, bottom + 34, "mean distance over mean noise, with its 95 % interval", "axis", "middle"))
    return svg.picture(WIDTH, bottom + 42, "Noise ratio by stratum", parts)


def _ratio_row(row: Ratio, x: svg.Scale, y: float, step: float, columns: Sequence[float]) -> list[str]:
    parts = [svg.text(x.start - 10, y + 4, row.name, "label", "end")]
    over = row.ratio is not None and row.boundary is not None and row.ratio >= row.boundary
    if row.ratio is not None:
        if row.boundary is not None:
            parts.append(svg.rect(x(row.boundary), y - step / 2 + 1, x.end - x(row.boundary), step - 2, "beyond"))
            parts.append(svg.line(x(row.boundary), y - step / 2 + 1, x(row.boundary), y + step / 2 - 1, "boundary"))
        tone = "bad" if over else "fine"
        if row.low is not None and row.high is not None:
            parts.append(svg.line(x(max(row.low, x.low)), y, x(row.high), y, f"whisker {tone}"))
        parts.append(svg.dot(x(row.ratio), y, 4.5, f"point {tone}", f"{row.name}: {number(row.ratio)}"))
    shown = (
        "–" if row.ratio is None else "< 0.001" if 0 < row.ratio < x.low else number(row.ratio),  # as far as the axis goes
        "–" if row.boundary is None else number(row.boundary),
        str(row.prompts),
        str(row.bad),
    )
    styles = ("value bad" if over else "value", "value dim", "value dim", "value bad" if row.bad else "value dim")
    return [*parts, *(svg.text(at, y + 4, value, style, "end") for at, value, style in zip(columns, shown, styles, strict=True))]


def _log_ticks(x: svg.Scale) -> list[float]:
    """1, 2, 5 per decade where there are few decades, else the decades."""
    decades = x.decades()
    if len(decades) > 3:
        return decades
    return [mark for mark in (base * 10.0**p for p in range(-3, 8) for base in (1, 2, 5)) if x.low <= mark <= x.high]


def prompts(report: Report, which: str) -> str:
    """Every prompt in the run's order: its distance over its own boundary. Hard faults stand at the top edge."""
    if not report.samples:
        return ""
    height, top = 150.0, 22.0
    last = len(report.samples)
    x = svg.Scale(0, max(last, 2) * 1.01, _LEFT, WIDTH - 20)  # the last mark lies inside the frame
    rows = []
    for place, sample in enumerate(report.samples, 1):
        far = distance(sample, which)
        limit = limit_of(noise_of(sample, report.policy, which), report.policy, which)
        rows.append((place, sample, None if far is None or far != far or limit <= 0 else far / limit))
    known = [value for _, _, value in rows if value]
    y = svg.Scale(max(min([0.05, *known]), 1e-4), min(max([4.0, *known]) * 1.5, 1e6), top + height, top, log=True)
    parts = [svg.rect(x.start, top, x.end - x.start, height, "frame")]
    for tick in y.decades():
        parts += [svg.line(x.start, y(tick), x.end, y(tick), "grid"), svg.text(x.start - 8, y(tick) + 4, svg.power(tick), "tick", "end")]
    parts += [svg.rect(x.start, top, x.end - x.start, y(1) - top, "lost"), svg.line(x.start, y(1), x.end, y(1), "limit bad")]
    parts.append(
        svg.text(x.end - 6, top - 8, "distance of each prompt over its own boundary; bad prompts in red, hard faults as ×", "hint", "end")
    )
    for place, sample, value in rows:
        condition = sample.condition
        where = " ".join(
            part for part in (f"{condition.concurrency} in flight", f"cache {condition.prefix_cache}", condition.replica) if part
        )
        title = f"{place}. {sample.item} ({sample.stratum}), {where}: {'no number' if value is None else number(value)}"
        tone = "bad" if violates(sample, report.policy) else "fine"
        if sample.hard:
            parts.append(svg.text(x(place), top + 12, "×", "cross", "middle"))
        elif value is not None:
            parts.append(svg.dot(x(place), y(value), 3 if tone == "bad" else 2.2, f"prompt {tone}", title))
    parts += [svg.text(x(tick), top + height + 16, f"{tick:g}", "tick", "middle") for tick in x.steps(10) if tick == int(tick)]
    parts.append(svg.text((x.start + x.end) / 2, top + height + 34, "prompts in the order of the run", "axis", "middle"))
    return svg.picture(WIDTH, top + height + 42, "Every prompt", parts)
