"""A report on a terminal: the verdict in one line, the gates, what speaks for a cause, what the run does not show."""

from __future__ import annotations

from collections.abc import Iterator

from accuracy.report import figures, words
from accuracy.report.model import Report
from accuracy.types import Verdict
from polyfleet.cli.failure import BLOCKED, FAILED, FINE, INCONCLUSIVE
from polyfleet.cli.text import Column, Style, plain, table, wrap

_GATES = (
    Column("GATE"), Column("STATE"), Column("TESTS", right=True), Column("NEXT TO FAIL OR LAST TO PASS", shrinks=True, least=20),
    Column("ESTIMATE", right=True), Column("BOUNDARY", right=True), Column("EVIDENCE +/-", right=True),
)  # fmt: skip
_STRATA = (
    Column("STRATUM"), Column("PROMPTS", right=True), Column("RATIO", right=True), Column("95 %", right=True),
    Column("BOUNDARY", right=True), Column("BAD", right=True),
)  # fmt: skip


def code(verdict: Verdict | None) -> int:
    """The exit code of a verdict; a run without one has failed."""
    if verdict is None:
        return FAILED
    return {Verdict.PROMOTE: FINE, Verdict.BLOCK: BLOCKED, Verdict.INCONCLUSIVE: INCONCLUSIVE}[verdict]


def line(report: Report, style: Style) -> str:
    """The verdict in one line."""
    return f" {plain(words.pair(report))}  {tone(report.decision.verdict, words.verdict_word(report), style)}  {words.headline(report)}"


def tone(verdict: Verdict | str | None, word: str, style: Style) -> str:
    return style.good(word) if verdict == Verdict.PROMOTE else style.bad(word) if verdict == Verdict.BLOCK else style.bold(word)


def render(report: Report, style: Style) -> Iterator[str]:
    decision = report.decision
    yield line(report, style)
    yield from wrap(plain(words.meaning(report)), first=" ", rest="   ")
    yield from wrap(f"{decision.reason}: {plain(decision.message)}", first=" ", rest="   ")
    yield ""
    yield from table(_GATES, [_gate(row) for row in figures.gate_lines(report)])
    ratios = figures.ratios(report, lambda sample: sample.stratum)
    if ratios:
        yield ""
        yield from table(_STRATA, [_ratio(row) for row in ratios])
    if report.suspects:
        yield ""
        yield style.bold("Suspects")
        for suspect in report.suspects:
            text = f"{suspect.code} ({words.percent(round(suspect.weight, 3))}): {plain(suspect.evidence)}"
            yield from wrap(text, first=" ", rest="   ")
    yield ""
    yield style.bold("What this does not show")
    for text in (words.certified(report), *(f"not covered: {plain(text)}" for text in report.uncovered), *words.limits(report)):
        yield from wrap(text, first=" ", rest="   ")
    yield ""
    for side, cost in zip(("reference", "candidate"), report.cost, strict=True):
        yield f" {side}: {words.cost(cost)}"
    yield from wrap(f"{words.mode(report)}; level {report.policy.level}; seed {report.seed}", first=" ", rest="   ")


def _gate(row: figures.GateLine) -> list[str]:
    tests = [test for test in row.tests if test.decision == "Fail"] or sorted(row.tests, key=lambda test: test.evidence_promote)
    if not tests:
        return [row.gate, words.STATES[row.state], words.DASH, "", "", "", ""]
    cells = words.gate_row(tests[0])
    shown = f"{len(row.tests) - row.open}/{len(row.tests)}"
    return [row.gate, words.STATES[row.state], shown, f"{cells[1]} {cells[2]}", words.optional(tests[0].estimate), cells[5], cells[6]]


def _ratio(row: figures.Ratio) -> list[str]:
    interval = words.DASH if row.low is None or row.high is None else f"{words.number(row.low)} to {words.number(row.high)}"
    return [row.name, str(row.prompts), words.optional(row.ratio), interval, words.optional(row.boundary), str(row.bad)]
