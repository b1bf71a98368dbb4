"""What people read of the accuracy gate: conditions, counts, columns and events from the first candidate to a blocked rollout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from polyfleet.actions import Report
from polyfleet.api.conditions import EVENTS, MODEL_REASONS, ModelCondition
from polyfleet.api.modeldeployment_status import ModelDeploymentStatus
from polyfleet.decide import prepare, report
from polyfleet.plans.told import Told
from polyfleet.state import Observed, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.test_gate import DIGEST, KEY, World, passed, planned, promote_first, up, verdict, world

NOTEQ = "Tokens in Code: estimate 9.1, limit 2"


@dataclass(frozen=True)
class Said:
    status: dict[str, Any]
    events: dict[str, str]
    whole: Report

    def row(self, kind: str) -> tuple[str, str, str]:
        return b.condition(self.status, kind)


def said(w: World, now: str = b.NOW, seen: Observed | None = None) -> Said:
    """What this cycle says; every word is one that the schema and the tables know."""
    seen = seen if seen is not None else w.seen()
    _, plan = planned(seen, now)
    told = report(seen, plan.inputs, plan.plan, now=now, told=Told())
    (status,) = [dict(item.status) for item in told.statuses if item.kind == "ModelDeployment"]
    assert ModelDeploymentStatus.parse(status).dump_set() == status
    for row in status["conditions"]:
        assert row["status"] == "True" or row["reason"] in MODEL_REASONS[ModelCondition(row["type"])], row
    notes = [note for note in told.events if note.kind == "ModelDeployment"]
    assert {note.reason for note in notes} <= set(EVENTS)
    assert len({note.reason for note in notes}) == len(notes)  # the edge remembers one note for each reason
    return Said(status, {note.reason: note.message for note in notes}, told)


def stored(w: World, was: Said) -> None:
    w.model = replace(w.model, status=was.status)


def tried(replicas: int = 1, **accuracy: Any) -> tuple[World, PodState, str]:
    """A candidate that is up, with its report."""
    w = world(replicas, **accuracy)
    w.turn()
    w.with_reports()
    (pod,), (made,) = w.pods, w.reports
    return w, pod, made.name


def running(text: str = "24 of at most 600 prompts") -> dict[str, Any]:
    rows = [{"type": "AccuracyVerified", "status": "Unknown", "reason": "Running", "message": text}]
    return {"conditions": rows, "prompts": 24, "maxPrompts": 600}


def rolled(w: World, room: bool = True) -> None:
    """Another revision of the image's arguments is wanted; the model was converged before."""
    stored(w, said(w))
    w.model = replace(w.model, spec={**w.model.spec, "runtime": {"args": ["--new"]}}, generation=2)
    if room:
        w.turn()
        w.with_reports()


# ---- the first candidate


def test_a_candidate_counts_as_nothing_but_costs_money() -> None:
    w, _, _ = tried(3)
    found = said(w)
    assert (found.status["replicas"], found.status["readyReplicas"], found.status["desiredReplicas"]) == (0, 0, 3)
    (row,) = found.status["placements"]
    assert (row["replicas"], row["readyReplicas"], row["candidates"]) == (0, 0, 1)
    assert "tokensPerSecond" not in row
    free = replace(w.seen(), pods=())
    assert found.status["summary"]["hourlyCost"] == row["hourlyCost"]
    assert said(w, seen=free).status["summary"]["hourlyCost"] == "0.00"
    assert {key: found.status["summary"].get(key) for key in ("replicas", "accuracy", "hardware")} == {
        "replicas": "0/3",
        "accuracy": "0/1",
        "hardware": None,
    }
    assert "shortfall" not in found.status


def test_the_words_while_the_first_candidate_starts_and_is_tested() -> None:
    """Ready gives the reason that helps: what the engine does until it is up, then what the test does."""
    w = world(1)
    assert said(w).row("Ready")[:2] == ("False", "Loading")  # its pod is about to be made
    w.turn()
    w.with_reports()
    (pod,), (made,) = w.pods, w.reports
    loading = replace(pod, conditions={}, containers=tuple(replace(c, ready=False) for c in pod.containers))
    w.pods = (loading,)
    assert said(w).row("Ready")[:2] == ("False", "Loading")
    w.pods = (pod,)
    first = said(w)
    assert first.row("Placed")[:2] == ("True", "AwaitingAccuracy")
    assert first.row("WorkloadsReady")[0] == "True"
    assert first.row("AccuracyVerified")[:2] == ("Unknown", "Pending")
    w.told(made.name, **running())
    found = said(w)
    word, reason, message = found.row("AccuracyVerified")
    assert (word, reason) == ("Unknown", "Running")
    assert "24 of at most 600 prompts" in message
    assert f"kubectl -n llm describe accr {made.name}" in message
    assert found.row("Ready") == (word, reason, f"0 of 1 replicas serve; {message}")
    assert found.row("Promoted")[:2] == ("False", "AwaitingAccuracy")
    assert "24 of at most 600 prompts" in found.row("Promoted")[2]
    assert found.status["accuracy"] == [{"profile": "sandbox-ppu", "variant": "default", "report": made.name}]
    assert found.events["AccuracyStarted"] == f"sandbox-ppu is under test: kubectl get accr {made.name}"


def test_nothing_changes_while_nothing_happens() -> None:
    w, _, name = tried(3)
    w.told(name, **running())
    stored(w, said(w))
    later = said(w, "2026-11-25T08:09:00Z")
    assert later.status == w.model.status
    assert said(w, "2026-11-25T08:10:00Z").events == later.events


def test_a_passed_pair_is_told_once() -> None:
    w, pod, name = tried()
    w.told(name, **running())
    stored(w, said(w))
    w.told(name, **verdict("Promote", "True", "SelfReference", record="m-record", message="consistent with itself"), replicas=[passed(pod)])
    w.serve(pod.name)
    found = said(w)
    assert found.events["AccuracyPassed"] == "sandbox-ppu (default) may serve: consistent with itself"
    assert found.events["Promoted"] == "the wanted revision serves on sandbox-ppu"
    assert found.row("AccuracyVerified") == ("True", "SelfReference", "sandbox-ppu: consistent with itself")
    assert found.row("Ready")[:2] == ("True", "Ready")
    assert found.row("Promoted")[0] == "True"
    assert found.status["accuracy"][0]["verdict"] == "Promote"
    assert found.status["summary"]["accuracy"] == "1/1"
    stored(w, found)
    assert not {"AccuracyPassed", "AccuracyStarted", "Promoted"} & said(w).events.keys()


def test_its_entry_check_is_told_with_its_node() -> None:
    w, pod, name = tried()
    w.told(name, **verdict("Promote", "True", "SelfReference", record="m-record"))
    word, reason, message = said(w).row("AccuracyVerified")
    assert (word, reason) == ("Unknown", "Running")
    assert f"entry check of the replica on {pod.node}" in message


@pytest.mark.parametrize(
    ("given", "status", "reason"),
    [
        (verdict("Block", "False", "NotEquivalent", message=NOTEQ), "False", "NotEquivalent"),
        (verdict("Block", "False", "HardFault", message="NonFinite"), "False", "HardFault"),
        (verdict("Block", "False", "ContractMismatch", message="token 3 is 17, the reference's 12"), "False", "ContractMismatch"),
        (verdict("Inconclusive", "Unknown", "Inconclusive", message="the prompts are used up"), "Unknown", "Inconclusive"),
        (verdict("Inconclusive", "Unknown", "InputsDiffer", message="sampling: temperature 0.7 and 0"), "Unknown", "InputsDiffer"),
        (verdict("Inconclusive", "Unknown", "CapabilityMissing", message="no logprobs"), "Unknown", "CapabilityMissing"),
        (verdict("Inconclusive", "Unknown", "ReferenceUnavailable", message="connection refused"), "Unknown", "ReferenceUnavailable"),
    ],
)
def test_a_verdict_is_told_in_the_reports_own_words(given: dict[str, Any], status: str, reason: str) -> None:
    """OC-059, 065, 066: and while nothing serves it is why the model is not ready."""
    w, _, name = tried()
    w.told(name, **given)
    found = said(w)
    assert found.row("AccuracyVerified")[:2] == (status, reason)
    assert given["conditions"][0]["message"] in found.row("AccuracyVerified")[2]
    assert found.row("Ready")[:2] == (status, reason)
    assert found.row("Promoted")[0] == "False"
    # Other hardware may still be tried: then that is what the promotion waits for.
    assert found.row("Promoted")[1] in ("AwaitingAccuracy", "RolloutBlocked")
    event = "AccuracyBlocked" if status == "False" else "AccuracyInconclusive"
    assert reason in found.events[event]
    blocked = next(item.status for item in found.whole.statuses if item.kind == "FleetPolicy")["models"]["blocked"]
    assert blocked == (1 if status == "False" else 0)
    if status == "False":
        assert "polyfleet accuracy report mdep/m -n llm --profile sandbox-ppu" in found.row("AccuracyVerified")[2]


def test_an_override_shows_as_what_it_is() -> None:
    w = world(1)
    pod = promote_first(w)
    (made,) = w.reports
    word = {"verdict": "Promote", "by": "me@example.org", "reason": "known and accepted difference", "until": "2026-11-26T00:00:00Z"}
    w.reports = (replace(made, spec={**made.spec, "override": word}),)
    status, reason, message = said(w).row("AccuracyVerified")
    assert (status, reason) == ("True", "Overridden")
    assert "me@example.org until 2026-11-26T00:00:00Z" in message
    assert pod.node == "ppu-0"


def test_devices_that_a_first_candidate_needs_are_what_is_missing() -> None:
    """OC-064: nothing is said of verdicts where there is no room for anybody; the place in the queue is told."""
    w = world(2)
    full = [b.holder("a", "h100-0", b.H100, 8), b.holder("b", "a3-0", b.ASCEND, 16), b.holder("c", "ppu-0", b.PPU, 16)]
    found = said(w, seen=replace(w.seen(), pods=tuple(full)))
    assert found.row("Ready")[:2] == ("False", "DevicesUnavailable")
    assert (found.status["shortfall"]["replicas"], found.status["shortfall"]["queuePosition"]) == (2, 1)
    assert "PlacementShortfall" in found.events


# ---- what serves


def test_a_missing_verdict_is_not_a_passed_one() -> None:
    """OC-060: one vendor serves, another's replica has no verdict; fewer than wanted are verified, so nothing is claimed."""
    w = world(2)
    promote_first(w)
    other = next(p for p in candidates_elsewhere(w) if p.node != "ppu-0")
    w.pods = (*w.pods, other)
    found = said(w)
    assert found.row("AccuracyVerified")[:2] == ("Unknown", "Pending")
    assert found.row("Ready")[0] != "True"
    assert found.status["summary"]["accuracy"] == "1/2"
    assert (found.status["replicas"], found.status["readyReplicas"]) == (1, 1)


def candidates_elsewhere(w: World) -> list[PodState]:
    """A replica of every other profile, as the first cycle of a model that is kept to it would start it."""
    found: list[PodState] = []
    for profile, node in (("sandbox-nvidia", "h100-0"), ("sandbox-ascend", "a3-0")):
        only = World(replace(w.model, spec={**w.model.spec, "placement": {"profiles": [profile]}}), w.policy)
        only.turn()
        w.deployments = (*w.deployments, *only.deployments)
        found += [up(owner, f"{profile}-1", node) for owner in only.deployments]
    return found


def test_a_replica_that_fails_its_entry_check_is_named_with_its_node() -> None:
    w = world(2)
    promote_first(w)
    w.turn()
    (bad,) = [pod for pod in w.pods if pod.conditions.get("polyfleet.io/serving") is None]
    (made,) = w.reports
    rows = [*made.status["replicas"], {**passed(bad, "Failed"), "message": "evidence 0.02 after 96 prompts"}]
    w.told(made.name, replicas=rows)
    found = said(w)
    status, reason, message = found.row("AccuracyVerified")
    assert (status, reason) == ("False", "NotEquivalent")
    assert f"the replica on {bad.node} takes no traffic: its entry check failed: evidence 0.02 after 96 prompts" in message
    assert f"kubectl -n llm delete pod {bad.name}" in message
    assert bad.node in found.events["AccuracyBlocked"]


def test_another_image_under_replicas_that_serve() -> None:
    """OC-067: Unknown, told as an event; they go on serving."""
    w = world(1)
    promote_first(w)
    stored(w, said(w))
    w.pods = tuple(replace(p, containers=tuple(replace(c, image_id=f"x@{DIGEST[:-1]}b") for c in p.containers)) for p in w.pods)
    found = said(w)
    assert found.row("AccuracyVerified")[:2] == ("Unknown", "FingerprintChanged")
    assert found.row("Ready")[:2] == ("Unknown", "FingerprintChanged")
    assert found.status["readyReplicas"] == 1
    assert "sandbox-ppu" in found.events["FingerprintChanged"]
    assert found.status["summary"]["accuracy"] == "0/1"


def test_the_last_capacity_goes_on_and_says_that_it_is_wrong() -> None:
    w = world(1)
    promote_first(w)
    (made,) = w.reports
    w.told(made.name, **verdict("Block", "False", "NotEquivalent", record="m-record", message=NOTEQ))
    found = said(w)
    status, reason, message = found.row("AccuracyVerified")
    assert (status, reason) == ("False", "NotEquivalent")
    assert NOTEQ in message
    assert "what serves goes on" in message
    assert found.status["readyReplicas"] == 1
    assert found.row("Available")[0] == "True"


# ---- rollouts


def test_a_rollout_leaves_a_serving_model_ready() -> None:
    w = world(1)
    promote_first(w)
    rolled(w)
    found = said(w)
    assert found.row("Ready")[:2] == ("True", "Ready")
    assert found.row("AccuracyVerified")[:2] == ("True", "SelfReference")
    status, reason, message = found.row("Promoted")
    assert (status, reason) == ("False", "AwaitingAccuracy")
    assert "the old version keeps serving" in message
    assert (found.status["replicas"], found.status["readyReplicas"]) == (1, 1)
    assert [row.get("candidates") for row in found.status["placements"]] == [1]
    assert found.status["summary"]["accuracy"] == "1/2"


def test_a_blocked_rollout_says_so_in_words() -> None:
    w = world(1)
    w.model = replace(w.model, spec={**w.model.spec, "placement": {"profiles": ["sandbox-ppu"]}})
    promote_first(w)
    rolled(w)
    new = w.reports[-1]
    w.told(new.name, **verdict("Block", "False", "NotEquivalent", message=NOTEQ))
    found = said(w)
    assert found.row("Ready")[:2] == ("True", "Ready")
    status, reason, message = found.row("Promoted")
    assert (status, reason) == ("False", "RolledBack")
    assert f"sandbox-ppu: NotEquivalent: {NOTEQ}; the old version keeps serving" in message
    assert found.events["PromotionBlocked"] == f"sandbox-ppu: NotEquivalent: {NOTEQ}; the old version keeps serving"
    assert {row["report"]: row["verdict"] for row in found.status["accuracy"]}[new.name] == "Block"
    # The candidate leaves after a while; what it showed stays to be read.
    w.pods = w.pods[:1]
    later = said(w, "2026-11-25T08:20:00Z")
    assert later.row("Promoted")[1] == "RolledBack"
    assert {row["report"]: row["verdict"] for row in later.status["accuracy"]}[new.name] == "Block"
    w.model = replace(w.model, spec={**w.model.spec, "rollout": {"autoRollback": False}})
    assert said(w).row("Promoted")[1] == "RolloutBlocked"


def test_a_block_of_one_profile_is_told_though_others_may_be_tried() -> None:
    """The three profiles are all allowed; the one that serves keeps its earlier revision."""
    w = world(1)
    promote_first(w)
    rolled(w)
    w.told(w.reports[-1].name, **verdict("Block", "False", "HardFault", message="NonFinite"))
    assert said(w).row("Promoted")[1] == "RolledBack"
    assert "sandbox-ppu: HardFault: NonFinite" in said(w).row("Promoted")[2]


def test_a_shortfall_names_the_hardware_that_waits_for_a_verdict() -> None:
    w = world(3)
    promote_first(w)
    w.pods = (*w.pods, candidates_elsewhere(w)[0])
    seen = w.seen()
    found = said(w, seen=replace(seen, pods=(*seen.pods, b.holder("x", "ppu-0", b.PPU, 15))))
    status, reason, message = found.row("Placed")
    assert (status, reason) == ("False", "DevicesUnavailable")
    assert "AwaitingAccuracy: not used: sandbox-nvidia: Pending: its check has not begun; no verdict yet on sandbox-ascend" in message
    assert found.status["shortfall"]["replicas"] == 2
    # The Event is the same sentence while the check of the candidate goes on.
    event = found.events["PlacementShortfall"]
    assert "not used: no verdict yet on sandbox-ascend, sandbox-nvidia" in event
    w.with_reports()
    w.told(w.reports[-1].name, **running())
    seen = w.seen()
    later = said(w, seen=replace(seen, pods=(*seen.pods, b.holder("x", "ppu-0", b.PPU, 15))))
    assert "24 of at most 600 prompts" in later.row("Placed")[2]
    assert later.events["PlacementShortfall"] == event


def test_a_full_fleet_says_what_a_rollout_needs() -> None:
    """OC-055: never missing capacity, always the way out."""
    w = world(1)
    w.model = replace(w.model, spec={**w.model.spec, "placement": {"profiles": ["sandbox-ppu"]}})
    promote_first(w)
    rolled(w, room=False)
    seen = w.seen()
    seen = replace(seen, pods=(*seen.pods, b.holder("x", "ppu-0", b.PPU, 15)))
    found = said(w, seen=seen)
    assert found.row("Placed")[0] == "True"
    assert "shortfall" not in found.status
    assert found.row("Ready")[:2] == ("True", "Ready")
    status, reason, message = found.row("Promoted")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "needs 1 free devices in sandbox-ppu (largest free 0)" in message
    assert "or spec.rollout.allowDowntime: true" in message
    assert "needs 1 free devices in sandbox-ppu, or spec.rollout.allowDowntime: true" in found.events["PromotionBlocked"]
    assert found.whole.summary["short"] == 0
    assert next(item.status for item in found.whole.statuses if item.kind == "FleetPolicy")["models"]["short"] == 0
    assert "PlacementShortfall" not in found.events


def test_steps_without_a_gateway_are_told_and_harm_nobody() -> None:
    w = world(1)
    w.model = replace(w.model, spec={**w.model.spec, "rollout": {"steps": [5, 25, 100]}})
    promote_first(w)
    found = said(w)
    assert found.row("Ready")[0] == "True"
    assert found.row("RouteReady")[:2] == ("True", "ServiceReady")
    assert "spec.rollout.steps [5, 25, 100] is treated as [100]" in found.row("RouteReady")[2]


def test_a_suspended_model_has_no_verdict_to_wait_for() -> None:
    w = world(1)
    w.model = replace(w.model, spec={**w.model.spec, "suspend": True})
    assert said(w).row("AccuracyVerified") == ("", "", "")
    assert prepare(w.seen(), now=b.NOW).models[KEY].target == 0
