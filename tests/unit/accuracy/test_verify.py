"""Verification without the endpoints: what a run decided follows from its numbers, and what somebody changed in the file is found."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy import layout
from accuracy.policy import Settings, effective
from accuracy.report import figures
from accuracy.report.as_json import dumps, loads, pack
from accuracy.report.model import Report
from accuracy.types import HIT, Condition, Decision, Reason, Verdict
from accuracy.verify import check, verify
from tests.unit.accuracy.reports import crossed, decided, report, sample

QUICK = effective(Settings(level="Quick"))
PROMOTED = decided(crossed(240), QUICK)
BLOCKED = decided(crossed(240, prefix_cache=HIT), QUICK)
OPEN = decided(crossed(100), QUICK)
HARD = decided((*crossed(20), sample(20, hard="NonFinite", d_kl=math.nan)), QUICK)


def test_the_four_ends_of_a_run() -> None:
    """Each is what its numbers make of it. A clean run at level Quick ends at its 172nd prompt or a little later (the design's table)."""
    assert [made.decision.verdict for made in (PROMOTED, BLOCKED, OPEN, HARD)] == ["Promote", "Block", "Inconclusive", "Block"]
    assert HARD.decision.reason is Reason.HARD_FAULT
    assert 172 <= PROMOTED.decision.prompts <= 180


@pytest.mark.parametrize("made", [PROMOTED, BLOCKED, OPEN, HARD])
def test_a_run_is_reproduced_bit_for_bit_through_its_file(made: Report) -> None:
    for again in (made, loads(dumps(made)), loads(dumps(made, indent=None)), loads(pack(made))):
        found = check(again)
        assert found.ok, found.message
        assert found.decision == made.decision
        assert "reproduced bit for bit" in found.message


def test_what_another_version_judged_by_other_rules_is_not_judged_again() -> None:
    """Neither confirmed nor refuted, and no curve of evidence is drawn that the run never had."""
    written = json.loads(dumps(PROMOTED))
    assert written.pop("rules") == layout.RULES
    for older in (replace(PROMOTED, rules=1), loads(json.dumps(written)), loads(dumps(replace(PROMOTED, rules=1)))):
        found = check(older)
        assert not found.ok
        assert f"judged by rules 1 and this version judges by rules {layout.RULES}" in found.message
        assert figures.curves(older) == ()


def body() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dumps(PROMOTED))
    return found


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(whole: dict[str, Any]) -> None:
        place: Any = whole
        for key in path[:-1]:
            place = place[key]
        assert place[path[-1]] != to
        place[path[-1]] = to

    return change


def _swap(whole: dict[str, Any]) -> None:
    rows = whole["samples"]
    rows[3], rows[4] = rows[4], rows[3]


def _dropped(whole: dict[str, Any]) -> None:
    whole["samples"].pop()


def _renumbered(whole: dict[str, Any]) -> None:
    """A bad prompt taken out, and the others moved up."""
    whole["samples"].pop(7)
    for index, row in enumerate(whole["samples"]):
        row["index"] = index


def _repeated(whole: dict[str, Any]) -> None:
    whole["samples"].append(whole["samples"][-1])


def _ulp(whole: dict[str, Any]) -> None:
    gate = whole["decision"]["gates"][0]
    gate["evidencePromote"] = math.nextafter(gate["evidencePromote"], math.inf)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("samples", 5, "dKl", to=0.5), "in the report and"),
        (_set("samples", 5, "maxKl", to=9.0), "Tail"),
        (_set("samples", 5, "bias", to=-2.0), "Bias"),
        (_set("samples", 5, "hard", to="NonFinite"), "verdict is Promote in the report and Block from its samples"),
        (_set("samples", 5, "stratum", to="Poems"), "'Poems' is none of these tests"),
        (_set("samples", 5, "condition", "replica", to="d"), "in the report and"),
        (_swap, "sample 4 (item-004) is not the next one, which is 3"),
        (_dropped, "prompts is"),
        (_renumbered, "prompts is"),
        (_repeated, "none counts twice"),
        (_ulp, "evidence_promote"),
        (_set("policy", "alpha", to=0.0001), "verdict is Promote in the report and absent from its samples"),
        (_set("policy", "margins", "noiseRatio", to=1.5), "estimate"),
        (_set("policy", "badPromptRate", to=0.5), "Tail"),
        (_set("decision", "noiseRatio", to=0.5), "noise_ratio is 0.5 in the report"),
        (_set("decision", "certifiedRate", to=0.001), "certified_rate is 0.001 in the report"),
        (_set("decision", "confidence", to=0.999), "confidence is 0.999 in the report"),
        (_set("decision", "prompts", to=600), "prompts is 600 in the report"),
        (_set("decision", "gates", to=[]), "is missing in the report"),
        (_set("strata", to=[["Chat", 240]]), "is none of these tests"),
        (_set("noise", to=[]), "in the report and"),
        (_set("conditions", to=[]), "does not follow from the samples"),
        (_set("ownReference", to=True), "does not follow from the samples"),
        (_set("topK", to=0), "top_k: 0"),
    ],
)
def test_a_change_in_the_file_is_found(change: Callable[[dict[str, Any]], None], said: str) -> None:
    whole = body()
    change(whole)
    found = check(loads(json.dumps(whole)))
    assert not found.ok
    assert said in "; ".join((found.message, *found.differences))


@pytest.mark.parametrize("made", [BLOCKED, OPEN, HARD])
def test_another_verdict_is_not_believed(made: Report) -> None:
    """Head and decision changed alike, so that the file itself agrees."""
    whole = json.loads(dumps(made))
    for part in (whole, whole["decision"]):
        part["verdict"], part["reason"] = "Promote", "Equivalent"
    ok, message = verify(loads(json.dumps(whole)))
    assert not ok
    assert f"verdict is Promote in the report and {made.decision.verdict} from its samples" in message


def test_verdicts_that_no_file_can_repeat() -> None:
    """They rest on what an endpoint did; Promote never does."""
    for verdict, reason in ((Verdict.BLOCK, Reason.CONTRACT_MISMATCH), (Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING)):
        made = replace(OPEN, decision=replace(OPEN.decision, verdict=verdict, reason=reason))
        ok, message = verify(made)
        assert ok
        assert "which a file cannot repeat; 100 prompts are consistent with it" in message
    nothing = report(samples=(), decision=Decision(Verdict.INCONCLUSIVE, Reason.REFERENCE_UNAVAILABLE, "", 0))
    assert verify(nothing)[1].endswith("no prompt was scored")
    for reason in (Reason.OVERRIDDEN, Reason.CONTRACT_MISMATCH):
        made = replace(PROMOTED, decision=replace(PROMOTED.decision, reason=reason))
        assert not verify(made)[0]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.none() | st.floats(), st.none() | st.floats(), st.floats(), st.none() | st.floats()), min_size=1, max_size=6),
    st.dictionaries(st.sampled_from(["Chat", "Code"]), st.integers(-1, 9)),
)
def test_no_file_ends_in_anything_but_an_answer(rows: list[tuple[Any, ...]], strata: dict[str, int]) -> None:
    samples = tuple(
        sample(n, d_kl=kl, noise_kl=noise, max_kl=worst, bias=noise, condition=Condition(1 + n))
        for n, (kl, noise, worst, _) in enumerate(rows)
    )
    verify(report(samples=samples, strata=tuple(strata.items()), noise=(("Chat", rows[0][0], rows[0][1]),)))


def test_the_curves_end_where_the_gates_do() -> None:
    """The plot of evidence is the same run: its last points are the evidence of the decision, its thresholds 1/alpha and M/beta."""
    for made in (PROMOTED, BLOCKED):
        ends = {(c.gate, c.stratum, c.statistic): c.points[-1][1:] for c in figures.curves(made)}
        told = {(g.gate, g.stratum, g.statistic): (g.evidence_promote, g.evidence_block) for g in made.decision.gates if g.prompts}
        assert ends == told
        assert figures.thresholds(made) == (pytest.approx(20), pytest.approx(len(made.decision.gates) / 0.05))
    assert figures.curves(replace(PROMOTED, strata=())) == ()
