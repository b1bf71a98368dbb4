"""A simulation for a terminal: goals and money first, then where the hours went, then what was decided and why."""

from __future__ import annotations

from polyfleet.cli.simulate import data
from polyfleet.cli.simulate.loop import Event, Run
from polyfleet.cli.text import WIDTH, Column, Style, count, markdown, money, plain, table, wrap

SHOWN = 24  # decisions; all of them with -o wide or json, and in the page


def clock(seconds: float) -> str:
    """0:01:10, hours may be more than 24."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def percent(share: float) -> str:
    """Never rounded up to 100 %."""
    return "100 %" if share == 1.0 else f"{int(share * 1000) / 10:.1f} %"


def figures(run: Run) -> list[str]:
    """The summary, a sentence a line."""
    goal, stated = run.subject.goal
    percentile = run.subject.settings(run.subject.base).slo.percentile
    ranks = [f"{name} {'never' if value is None else f'{value:.2f} s'}" for name, value in data.percentiles(run).items()]
    word = "reached" if run.reached else "MISSED"
    report = data.of_run(run)
    hours = sum(row.replica_hours for row in report.rows)
    lines = [
        f"TTFT within {goal:g} s: {percent(run.met)} of requests, goal {percentile:g} % {word}"
        + ("" if stated else " (spec.slo.ttft is not set; 2 s assumed)"),
        f"TTFT {' · '.join(ranks)}",
        f"{hours:.1f} replica-hours · {money(report.cost)} in {span(run.end)} ({money(report.cost / max(run.end, 1.0) * 3600)} /h)",
        f"{count(run.ups, 'scale-up')} · {count(run.downs, 'scale-down')} · {count(run.starts, 'start')} · {count(run.solves, 'plan')}",
    ]
    if run.lost or run.unserved:
        lines.append(f"{count(run.lost, 'request')} lost with their replicas · {run.unserved} not served at all")
    if run.short_s:
        lines.append(f"SHORTFALL: devices were missing for {span(run.short_s)}")
    return lines


def usage_table(run: Run) -> tuple[list[Column], list[list[str]]]:
    columns = [Column("PROFILE", shrinks=True, least=16)]
    columns += [Column(name, right=True) for name in ("REPL-HOURS", "DEV-HOURS", "COST", "USED", "WORK/S", "START")] + [Column("SOURCE")]
    rows = []
    for row in data.of_run(run).rows:
        mine = [option for option in run.subject.snapshot.options if option.model == run.subject.model and option.profile == row.profile]
        known = [option for option in mine if option.id in run.subject.rates]
        rate = f"{run.subject.rates[known[0].id]:.3g}" if known else "-"
        start = run.subject.starts[known[0].id] if known else None
        used = "-" if row.utilisation is None else f"{row.utilisation:.0%}"
        rows.append(
            [row.profile, f"{row.replica_hours:.2f}", f"{row.device_hours:.2f}", money(row.cost), used, rate,
             "-" if start is None else f"{start.seconds:.0f}s", "" if start is None else start.source]
        )  # fmt: skip
    return columns, rows


def event_row(event: Event) -> list[str]:
    return [clock(event.at), event.what, event.reason, event.change or "-", event.text]


def render(run: Run, *, form: str, style: Style, report: str = "", width: int = WIDTH) -> list[str]:
    if form == "wide":
        width = 10_000
    head = f"Simulation of {run.subject.model}: {count(len(run.trace.arrival), 'request')} in {span(run.trace.span_s)}"
    lines = [style.bold(plain(head))]
    told = f"trace {run.trace.name} · snapshot: {run.subject.source} · policy {run.policy} · seed {run.seed}"
    lines += wrap(plain(told), width)
    for place, line in enumerate(figures(run)):
        bad = (place == 0 and not run.reached) or line.startswith("SHORTFALL")
        lines += [style.bad(part) if bad else part for part in wrap(line, width, first=" ")]
    draw = markdown if form == "md" else lambda columns, rows: table(columns, rows, width)
    lines += ["", *draw(*usage_table(run))]
    shown = run.events if form in ("wide", "md") else run.events[:SHOWN]
    columns = [Column("AT"), Column("WHAT"), Column("REASON"), Column("CHANGE", shrinks=True, least=16), Column("WHY", shrinks=True)]
    lines += ["", *draw(columns, [event_row(event) for event in shown])]
    if len(shown) < len(run.events):
        lines += wrap(f"{len(run.events) - len(shown)} more with -o wide or --report FILE.html", width, first=" ")
    for note in run.subject.notes:
        lines += wrap(plain(note), width, first="note: ")
    if report:
        lines.append(f"report: {report}")
    return lines
