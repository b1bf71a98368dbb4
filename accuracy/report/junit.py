"""A report as JUnit XML, so that any CI shows the gates as tests: one suite, one case per test of a gate.

Block fails the cases that fail; Inconclusive is an error of the suite's verdict, because it is no pass and no proof of a fault.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from accuracy.report import figures, words
from accuracy.report.model import Report
from accuracy.types import GateResult, Verdict


def render(report: Report) -> str:
    """The suite. Times are those of the candidate's requests, in seconds, on the case of the verdict."""
    cases, failures, errors, skipped = [_verdict(report)], 0, 0, 0
    verdict = report.decision.verdict
    failures += verdict is Verdict.BLOCK
    errors += verdict is Verdict.INCONCLUSIVE or verdict is None
    for line in figures.gate_lines(report):
        if line.tests:
            for test in line.tests:
                cases.append(_test(test))
                failures += test.decision == "Fail"
                skipped += test.decision == "Open"
            continue
        inner = ""
        if line.state == "Fail":
            failures += 1
            inner = f"<failure message={_attribute(report.decision.message)}/>"
        elif line.state != "Pass":
            skipped += 1
            inner = f"<skipped message={_attribute(words.STATES[line.state])}/>"
        cases.append(f'    <testcase classname="{line.gate}" name="{line.gate}">{inner}</testcase>')
    head = (
        f'  <testsuite name={_attribute(words.pair(report))} tests="{len(cases)}" failures="{failures}" errors="{errors}" '
        f'skipped="{skipped}" timestamp={_attribute(report.made)}>'
    )
    return "\n".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<testsuites name="polyfleet accuracy">',
            head,
            *cases,
            "  </testsuite>",
            "</testsuites>\n",
        )
    )


def _verdict(report: Report) -> str:
    decision = report.decision
    told = f"{decision.reason}: {decision.message}"
    inner = ""
    if decision.verdict is Verdict.BLOCK:
        suspects = "\n".join(f"{suspect.code}: {suspect.evidence}" for suspect in report.suspects)
        inner = f'<failure message={_attribute(told)} type="{decision.reason}">{escape(words.clean(suspects))}</failure>'
    elif decision.verdict is not Verdict.PROMOTE:
        inner = f'<error message={_attribute(told)} type="{decision.reason}"/>'
    out = f"<system-out>{escape(words.clean(words.headline(report)))}</system-out>"
    seconds = f"{report.cost[1].seconds:.3f}"
    return f'    <testcase classname="Verdict" name={_attribute(words.pair(report))} time="{seconds}">{inner}{out}</testcase>'


def _test(gate: GateResult) -> str:
    name = f"{words.where(gate.stratum)}, {gate.statistic}"
    numbers = (
        f"{gate.prompts} prompts, estimate {words.optional(gate.estimate)}, boundary {words.number(gate.boundary)}, "
        f"evidence {words.evidence(gate.evidence_promote)} for Promote, {words.evidence(gate.evidence_block)} for Block"
    )
    inner = ""
    if gate.decision == "Fail":
        inner = f"<failure message={_attribute(gate.message or numbers)}/>"
    elif gate.decision == "Open":
        inner = f"<skipped message={_attribute(f'open: {gate.message or numbers}')}/>"
    return f'    <testcase classname="{gate.gate}" name={_attribute(name)}>{inner}<system-out>{escape(numbers)}</system-out></testcase>'


def _attribute(text: str) -> str:
    return quoteattr(words.clean(text))
