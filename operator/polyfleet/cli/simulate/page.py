"""The report of a simulation as one HTML page that stands by itself: figures, plots as inline SVG, every decision. No scripts, nothing from
outside; everything that comes from a cluster or a file is escaped, and the page's own policy (CSP) forbids scripts and requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from accuracy.report.style import CSS
from polyfleet.cli.failure import Failure
from polyfleet.cli.simulate import plots, text
from polyfleet.cli.simulate.loop import Run
from polyfleet.cli.text import Column

_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write(name: str, run: Run) -> None:
    try:
        Path(name).write_text(render(run), encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {name}", error.strerror or str(error), "ls -ld of its folder; or another --report FILE") from error


def render(run: Run) -> str:
    title = f"Simulation of {run.subject.model}"
    tone = "Promote" if run.reached and not run.short_s else "Block"
    word = "REACHED" if run.reached else "MISSED"
    told = f"trace {run.trace.name}, {len(run.trace.arrival)} requests in {text.span(run.trace.span_s)} · snapshot: {run.subject.source}"
    lead, *rest = text.figures(run)
    columns, rows = text.usage_table(run)
    events = [Column("at"), Column("what"), Column("reason"), Column("change"), Column("why")]
    body = [
        f'<section class="verdict {tone}"><h1><span class="word">{word}</span>{escape(title)}</h1>',
        f'<p class="lead">{escape(lead)}</p>',
        *(f'<p class="why">{escape(line)}</p>' for line in rest),
        f'<p class="why">{escape(told)} · policy {escape(run.policy)} · seed {run.seed}</p></section>',
        *plots.sections(run),
        "<h2>Device types</h2>",
        _table(columns, rows),
        "<h2>Decisions and events</h2>",
        _table(events, [text.event_row(event) for event in run.events]),
        *(f'<p class="soft">{escape(note)}</p>' for note in run.subject.notes),
    ]
    footer = (
        "Latencies come from an iteration-level model of continuous batching, made as fast as each option is planned with;"
        " they are no measurement of a device. Decisions and plans are the operator's own functions."
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_CSP}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}{plots.CSS}</style>
</head>
<body>
<main>
{chr(10).join(body)}
<footer>{footer}</footer>
</main>
</body>
</html>
"""


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column.title.lower())}</th>" for column in columns)
    lines = ("<tr>" + "".join(f"<td>{escape(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
