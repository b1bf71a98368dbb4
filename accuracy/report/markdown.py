"""A report as Markdown, for a pull request or a chat: the same order as the HTML page, without its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from accuracy.report import figures, words
from accuracy.report.model import Report

_RIGHT = "---:"


def render(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    decision = report.decision
    yield f"# {words.verdict_word(report)}: {_safe(words.pair(report))}"
    yield ""
    yield _safe(words.meaning(report))
    yield ""
    yield f"**{decision.reason}.** {_safe(decision.message)}"
    yield ""
    yield f"{words.headline(report)} · level {report.policy.level} · {words.mode(report)}"
    yield ""
    yield words.certified(report)
    yield from _gates(report)
    yield from _ratios(report)
    if report.suspects:
        yield from _head("Suspects")
        rows = [(f"**{s.code}**", words.percent(round(s.weight, 3)), s.evidence) for s in report.suspects]
        yield from _table(("likely cause", "fits", "evidence"), rows, right=(1,))
    yield from _head("What this does not show")
    yield from (f"- not covered: {_safe(text)}" for text in report.uncovered)
    yield from (f"- {text}" for text in words.limits(report))
    if report.worst:
        yield from _head(words.WORST)
        yield words.worst(report)
        yield ""
        worst = [(w.item, words.DASH if w.position is None else w.position, words.number(w.kl), w.output) for w in report.worst]
        yield from _table(("item", "token", "KL there", "output"), worst, right=(1, 2))
    yield from _run(report)


def _gates(report: Report) -> Iterator[str]:
    yield from _head("Gates")
    rows = []
    for line in figures.gate_lines(report):
        tests = f"{len(line.tests) - line.open} of {len(line.tests)}" if line.tests else words.DASH
        rows.append((line.gate, words.STATES[line.state], tests, words.ASKS[line.gate]))
    yield from _table(("gate", "", "tests pass", "asks"), rows)
    if report.decision.gates:
        promote, block = figures.thresholds(report)
        yield ""
        yield f"Evidence needed: {words.number(promote)} in every test for Promote, {words.number(block)} in any one for Block."
        yield ""
        heads = ("gate", "prompts", "statistic", "n", "estimate [interval]", "boundary", "evidence promote / block", "")
        yield from _table(heads, (words.gate_row(gate) for gate in report.decision.gates), right=(3, 4, 5, 6))


def _ratios(report: Report) -> Iterator[str]:
    ways = (("stratum", lambda sample: sample.stratum), *figures.margins_of_design(report))
    rows = [(name, row) for name, way in ways for row in figures.ratios(report, way)]
    if rows:
        yield from _head("Distance over the reference's own noise")
        cells = [(name, row.name, row.prompts, words.optional(row.ratio), words.optional(row.boundary), row.bad) for name, row in rows]
        yield from _table(("by", "", "prompts", "ratio", "boundary", "bad"), cells, right=(2, 3, 4, 5))


def _run(report: Report) -> Iterator[str]:
    yield from _head("The run")
    yield f"- made {report.made}, seed {report.seed}, policy `{words.short(report.policy.digest)}`"
    if report.declared:
        yield f"- declared pair: {words.arrow(report.declared)}"
    for name, digest, items in report.golden:
        yield f"- golden set {_safe(name)}: {items} items, `{_code(words.short(digest))}`"
    yield f"- reference record: {f'`{_code(words.short(report.record_digest))}`' if report.record_digest else 'not stored'}"
    for title, side, cost in zip(("reference", "candidate"), (report.reference, report.candidate), report.cost, strict=True):
        parts = ", ".join(f"{name} `{_code(value)}`" for name, value in words.fingerprint(side.fingerprint))
        yield f"- {title} {_safe(side.name)}: {words.cost(cost)}{f'; {parts}' if parts else ''}"
    yield ""
    yield "`polyfleet accuracy verify report.json` computes the verdict again from the per-prompt numbers."


def _head(title: str) -> tuple[str, str, str]:
    return "", f"## {title}", ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "|".join(_RIGHT if at in right else "---" for at in range(len(heads))) + "|"
    for row in rows:
        yield "| " + " | ".join(_safe(str(cell)).replace("|", "\\|") for cell in row) + " |"


def _safe(text: str) -> str:
    """One line, and no HTML: what an endpoint said must not become part of the page."""
    return " ".join(words.clean(text).split()).replace("<", "&lt;").replace("`", "'")


def _code(text: str) -> str:
    """Inside backticks, where HTML is only text."""
    return " ".join(words.clean(text).split()).replace("`", "'").replace("<", "‹")
