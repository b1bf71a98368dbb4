"""Draw docs/img/architecture.svg: the path of the data and the rooms, from one list, so that text and picture agree."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from tools.paths import ROOT

STAGES = (
    ("observe", "operator", "cluster cache → Observed (frozen)"),
    ("demand", "operator", "how many replicas each model needs"),
    ("place", "placement", "integer program in a child process → Plan"),
    ("judge", "operator", "which plan is acted on; ask first"),
    ("render", "operator", "Deployments, Services, budgets"),
    ("apply", "operator", "PlacementPlan; then apply, pin, lift gates"),
    ("report", "operator", "status, conditions, events, metrics"),
    ("certify", "accuracy", "candidates against the reference"),
)
PURE = {"demand", "place", "judge", "render"}
LATER = {"certify"}
WIDTH, ROW, LEFT, TOP = 860, 54, 310, 70


def _text(x: float, y: float, text: str, size: int = 13, weight: str = "400", fill: str = "#1b2733", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}">{escape(text)}</text>'


def _box(x: float, y: float, w: float, h: float, fill: str, stroke: str, dash: str = "") -> str:
    extra = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="8" fill="{fill}" stroke="{stroke}" stroke-width="1.4"{extra}/>'


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#51606f" stroke-width="1.6" marker-end="url(#tip)"/>'


def svg() -> str:
    height = TOP + ROW * len(STAGES) + 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif">',
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="#51606f"/></marker></defs>'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 34, "ONE CYCLE of the leader", 15, "700"),
        _text(LEFT, 54, "level-triggered; nothing between observe and apply touches the API or a clock", 12, fill="#51606f"),
    ]
    sources = (
        ("Your objects", ("ModelDeployment · FleetPolicy", "AcceleratorPool · HardwareProfile")),
        ("The cluster", ("nodes, pods, devices, children", "lists and watches of its own")),
        ("Engines", ("metrics of every replica", "(the autoscaler reads them later)")),
        ("Command line", ("polyfleet plan · explain · snapshot", "the same functions; writes nothing")),
    )
    for index, (title, lines) in enumerate(sources):
        y = TOP + 4 + index * 96
        out += [_box(20, y, 246, 72, "#eef4fb", "#7aa2cf"), _text(34, y + 22, title, 14, "700")]
        out += [_text(34, y + 42 + 17 * i, line, 12, fill="#33475b") for i, line in enumerate(lines)]
    out += [_arrow(266, TOP + 40, LEFT - 6, TOP + 22), _arrow(266, TOP + 134, LEFT - 6, TOP + 30)]
    out.append(_text(272, TOP + 96, "dirty", 11, fill="#51606f"))
    out.append(_arrow(266, TOP + 312, LEFT - 6, TOP + 2 * ROW + 26))
    for index, (stage, room, what) in enumerate(STAGES):
        y = TOP + ROW * index
        fill, stroke = ("#e9f6ec", "#6fae7d") if stage in PURE else ("#fdf3e3", "#d3a04d")
        out.append(
            _box(
                LEFT,
                y,
                380,
                42,
                "#f4f4f6" if stage in LATER else fill,
                "#9aa3ad" if stage in LATER else stroke,
                "5 4" if stage in LATER else "",
            )
        )
        out += [_text(LEFT + 12, y + 26, stage, 14, "700"), _text(LEFT + 88, y + 26, what, 12, fill="#33475b")]
        out.append(_text(LEFT + 392, y + 26, f"{room}/", 13, "600", "#51606f"))
        if index:
            out.append(_arrow(LEFT + 30, y - 12, LEFT + 30, y - 1))
    legend = height - 30
    for x, fill, stroke, label in (
        (20, "#e9f6ec", "#6fae7d", "pure: same input, same bytes"),
        (260, "#fdf3e3", "#d3a04d", "edge: talks to the API server"),
        (500, "#f4f4f6", "#9aa3ad", "designed, not built yet"),
    ):
        out += [_box(x, legend - 13, 18, 18, fill, stroke), _text(x + 26, legend + 1, label, 12)]
    return "\n".join([*out, "</svg>"]) + "\n"


def generate() -> dict[Path, str]:
    return {ROOT / "docs/img/architecture.svg": svg()}


if __name__ == "__main__":
    for path, text in generate().items():
        path.write_text(text, encoding="utf-8")
        print(path, file=sys.stderr)
