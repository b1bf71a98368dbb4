"""The accuracy series: names and labels of the interface, the newest report speaks, unknown has no sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet.actions import Report
from polyfleet.metrics import Metrics
from polyfleet.state import CustomState

from tests.unit.operator import builders as b

PAIR = {"candidate": {"profile": "p", "variant": "v", "engine": "vllm"}, "reference": {"profile": "ref"}, "deployment": "m"}
ON = 'model="m",namespace="llm",profile="p",reference="ref",variant="v"'
SIDE = ON.replace("variant", 'side="%s",variant')


def report(name: str, status: dict[str, Any], created: str = b.NOW, **spec: Any) -> CustomState:
    return replace(b.custom("AccuracyReport", name, {**PAIR, **spec}, namespace="llm", status=status), created=created)


def series(*reports: CustomState) -> list[str]:
    metrics = Metrics(lambda: 0.0)
    metrics.reported(replace(b.observed(), reports=reports), Report((), ()))
    return [line for line in metrics.render().decode().splitlines() if line.startswith("polyfleet_accuracy")]


def gate(name: str, promote: str, block: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "evidencePromote": promote, "evidenceBlock": block, **more}


def test_a_promoted_pair() -> None:
    """Ratio and verdict; the weakest gate's evidence for promotion, the strongest's for a block; 3 of 260 prompts were bad."""
    gates = [
        gate("Tokens", "212", "0.02", stratum="Chat", prompts=24),
        gate("Tail", "118", "0.5", estimate="0.01154", prompts=260),
        gate("Tail", "300", "9", stratum="Code", estimate="1", prompts=26),
    ]
    assert series(report("r", {"verdict": "Promote", "noiseRatio": "1.31", "gates": gates})) == [
        f"polyfleet_accuracy_noise_ratio{{{ON}}} 1.31",
        "polyfleet_accuracy_evidence{" + SIDE % "promote" + "} 118.0",
        "polyfleet_accuracy_evidence{" + SIDE % "block" + "} 9.0",
        f"polyfleet_accuracy_violations_total{{{ON}}} 3.0",
        f'polyfleet_accuracy_verdict{{{ON},verdict="Promote"}} 1.0',
    ]


def test_what_is_not_known_has_no_sample() -> None:
    """A pair that was never asked has a state and no numbers; infinite or unreadable evidence is no number either."""
    lines = series(report("r", {"noiseRatio": "x", "gates": [gate("Tail", "inf", "nan")]}))
    assert lines == [f"polyfleet_accuracy_violations_total{{{ON}}} 0.0", f'polyfleet_accuracy_verdict{{{ON},verdict="Running"}} 1.0']


def test_the_newest_fingerprint_speaks_and_violations_are_summed() -> None:
    tail = [gate("Tail", "1", "1", estimate="0.1", prompts=20)]
    old = report("z", {"verdict": "Promote", "noiseRatio": "1", "gates": tail})
    new = report("a", {"verdict": "Block", "noiseRatio": "7", "gates": tail}, created=b.LATER)
    lines = series(new, old)
    assert f"polyfleet_accuracy_noise_ratio{{{ON}}} 7.0" in lines
    assert f'polyfleet_accuracy_verdict{{{ON},verdict="Block"}} 1.0' in lines
    assert f"polyfleet_accuracy_violations_total{{{ON}}} 4.0" in lines
    assert sum("verdict" in line for line in lines) == 1


def test_a_humans_verdict_shows_while_it_holds() -> None:
    """The condition says whether it holds: an override that ended leaves the run's own verdict."""
    override = {"verdict": "Promote", "by": "ana", "reason": "checked by hand on 200 prompts"}
    holds = {"verdict": "Block", "conditions": [{"type": "AccuracyVerified", "status": "True", "reason": "Overridden"}]}
    over = {"verdict": "Block", "conditions": [{"type": "AccuracyVerified", "status": "False", "reason": "NotEquivalent"}]}
    held = series(report("r", holds, override=override))
    assert f"polyfleet_accuracy_override{{{ON}}} 1.0" in held
    assert f'polyfleet_accuracy_verdict{{{ON},verdict="Promote"}} 1.0' in held
    ended = series(report("r", over, override=override))
    assert not [line for line in ended if "override" in line]
    assert f'polyfleet_accuracy_verdict{{{ON},verdict="Block"}} 1.0' in ended


def test_reports_that_are_gone_leave_no_series() -> None:
    assert series() == []
