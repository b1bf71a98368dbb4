"""The life of a check: started, told, stored, stopped, taken up again after a kill; golden sets and records in ConfigMaps."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from polyfleet.certify.run import Limits
from polyfleet.certify.store import PART_BYTES, Owner, SourceError, Store, TakenError
from polyfleet.clearance.work import Entered, GoldenSource, RecordRef
from polyfleet.errors import Fenced

from accuracy import record as records
from accuracy.golden import builtin
from accuracy.report import as_json
from accuracy.types import Reason, Verdict
from tests.control.checks import (
    EQUIVALENT,
    NAMESPACE,
    Desk,
    certify,
    decision,
    desk,
    enter,
    record,
    replica,
    samples,
    wanted,
)
from tests.control.cycling import Kubectl
from tools.paths import ROOT

pytestmark = pytest.mark.control
Scenario = Callable[[Desk], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


@pytest.fixture(scope="module")
def place(kubectl: Kubectl) -> Iterator[Kubectl]:
    files = [argument for path in sorted((ROOT / "crds").glob("*.yaml")) for argument in ("-f", str(path))]
    kubectl("apply", "--server-side", "--force-conflicts", *files, check=True)
    kubectl(
        "wait", '--for=jsonpath={.status.conditions[?(@.type=="Established")].status}=True', "crd", "--all", "--timeout=60s", check=True
    )
    kubectl("create", "namespace", NAMESPACE, check=True)
    try:
        yield kubectl
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def at_the_desk(apiserver: Path, place: Kubectl) -> Iterator[Run]:
    def run(scenario: Scenario) -> None:
        async def main() -> None:
            async with desk(apiserver, place) as made:
                await scenario(made)

        asyncio.run(main())

    try:
        yield run
    finally:
        place("-n", NAMESPACE, "delete", "accuracyreports,configmaps", "--all", check=True)


# ---- a run


def test_a_promotion_is_told_when_everything_behind_it_is_stored(at_the_desk: Run) -> None:
    """Progress first, without a verdict. Then the record (owned by the model) and the report (owned by the AccuracyReport, readable by
    `polyfleet accuracy verify`), then the verdict. What the cycle stores of it, the schema takes, and the finding goes."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        item = certify(state, own_reference=True, capture_as="m-record")
        d.certifier.update(wanted(item))
        await d.until(lambda: bool(d.calls))
        (call,) = d.calls
        assert (call.job.golden[0].digest, call.job.resume, call.job.own_reference) == (builtin().digest, "", True)
        assert [each.name for each in call.job.candidates] == ["a"]
        call.progress(2, "s2")
        await d.until(lambda: d.finding().verified[1] == "Running")
        assert d.finding().status["verdict"] is None
        assert d.finding().status["resumeState"] == "s2"
        d.certifier.update(wanted(item))  # each cycle says it again: it goes on
        assert (len(d.calls), d.certifier.running) == (1, 1)

        call.end(found=record())
        await d.until(lambda: d.finding().complete[0] == "True")
        finding = d.finding()
        assert finding.verified == ("True", "Equivalent", "at most 2 % bad prompts")
        stored = await d.config_map("m-record")
        assert stored["metadata"]["ownerReferences"][0]["kind"] == "ModelDeployment"
        content = base64.b64decode(stored["binaryData"]["record.gz"])
        assert finding.status["record"] == {"configMap": "m-record", "digest": records.digest(content), "made": record().made}
        assert records.decode(content) == records.rounded(record())
        told = await d.config_map("r")
        assert told["metadata"]["ownerReferences"][0]["kind"] == "AccuracyReport"
        written = as_json.loads(base64.b64decode(told["binaryData"]["report.json.gz"]))
        assert (written.decision, written.samples, written.record_digest) == (EQUIVALENT, samples(4), records.digest(content))
        assert (finding.status["reportConfigMap"], told["data"]["state"]) == ("r", "end")
        # One and the same look: what was wanted before the result was known is answered.
        d.certifier.update(wanted(item))
        assert d.certifier.running == 0

        after = await d.store_finding()
        assert after.status["verdict"] == "Promote"
        assert d.look().findings == {}

    at_the_desk(scenario)


def test_a_run_goes_on_where_it_was_after_a_stop_and_after_a_kill(at_the_desk: Run) -> None:
    """A stop (its pod was replaced) keeps the evidence in memory, a kill finds it in the ConfigMap; both with the samples behind it, so
    that the report is whole. Another replica more is no reason to stop."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        d.certifier.update(wanted(certify(state)))
        await d.until(lambda: len(d.calls) == 1)
        d.calls[0].progress(3, "s3")
        d.look()
        d.certifier.update(wanted(certify(state, replicas=(replica("a"), replica("b")))))
        assert len(d.calls) == 1
        assert not d.calls[0].result.cancelled()
        d.certifier.update(wanted(certify(state, replicas=(replica("b"),), resume="old")))
        await d.until(lambda: len(d.calls) == 2)
        assert d.calls[0].result.cancelled()
        assert (d.calls[1].job.resume, d.calls[1].job.earlier) == ("s3", samples(3))

        d.calls[1].progress(5, "s5")
        await d.until(lambda: d.finding().status.get("resumeState") == "s5")
        await d.state_is("r", "s5")
        await d.certifier.close()
        d.begin()
        d.look()
        d.certifier.update(wanted(certify(state, resume="s3")))
        await d.until(lambda: len(d.calls) == 3)
        assert (d.calls[2].job.resume, d.calls[2].job.earlier) == ("s5", samples(5))

    at_the_desk(scenario)


def test_evidence_counts_only_against_the_record_that_it_was_taken_with(at_the_desk: Run) -> None:
    """A run that captures its own record stores it before the evidence; killed, it goes on with both. The record gone, it begins anew."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        item = certify(state, own_reference=True, capture_as="m-record")
        d.certifier.update(wanted(item))
        await d.until(lambda: len(d.calls) == 1)
        d.calls[0].progress(0, "", record())
        d.calls[0].progress(2, "s2", record())
        await d.state_is("r", "s2")
        await d.certifier.close()
        d.begin()
        d.look()
        d.certifier.update(wanted(item))
        await d.until(lambda: len(d.calls) == 2)
        assert (d.calls[1].job.resume, d.calls[1].job.record) == ("s2", records.rounded(record()))
        await d.certifier.close()
        await d.hand("delete", "configmap", "r-run")
        d.begin()
        d.look()
        d.certifier.update(wanted(item))
        await d.until(lambda: len(d.calls) == 3)
        assert (d.calls[2].job.resume, d.calls[2].job.earlier, d.calls[2].job.record) == ("", (), None)

    at_the_desk(scenario)


def test_what_may_pass_is_tried_again_after_a_pause_and_only_once(at_the_desk: Run) -> None:
    """No logprobs: Inconclusive CapabilityMissing, told with the time of the next attempt. Cycle after cycle asks for it; there is one
    attempt per pause, also after a restart, and when the stored time is over the next one begins."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        d.certifier.update(wanted(certify(state)))
        await d.until(lambda: len(d.calls) == 1)
        d.calls[0].end(decision(Verdict.INCONCLUSIVE, Reason.CAPABILITY_MISSING), state="")
        await d.until(lambda: d.finding().complete[1] == "Retrying")
        found = d.finding()
        assert found.verified[:2] == ("Unknown", "CapabilityMissing")
        assert (found.status["attempts"], found.status["nextAttempt"]) == (1, "2026-11-25T08:00:30Z")
        stored = await d.store_finding()
        again = certify(stored, attempt=1)
        for _ in range(5):
            d.look()
            d.certifier.update(wanted(again))
            await asyncio.sleep(0)
        assert (len(d.calls), d.certifier.running) == (1, 1)
        await d.certifier.close()
        d.begin()
        d.look()
        d.certifier.update(wanted(again))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(d.calls) == 1
        await d.certifier.close()
        d.moment = "2026-11-25T08:00:31Z"
        d.begin()
        d.look()
        d.certifier.update(wanted(again))
        await d.until(lambda: len(d.calls) == 2)

    at_the_desk(scenario)


@pytest.mark.parametrize("how", ["defect", "hangs", "no verdict", "golden", "policy"])
def test_a_run_that_cannot_be_made_never_promotes(at_the_desk: Run, how: str) -> None:
    """A defect of the checker, a run without progress, an answer without a verdict, a golden set that is not there, a policy that
    contradicts itself: a reason, a message, a next attempt."""
    reasons = {"hangs": "CandidateUnavailable", "golden": "ReferenceMissing"}

    async def scenario(d: Desk) -> None:
        state = await d.report()
        item = certify(state)
        if how == "hangs":
            d.begin(Limits(progress_s=0, checkpoint_s=0, stall_s=0.05))
        if how == "golden":
            item = replace(item, golden=(GoldenSource(namespace=NAMESPACE, name="mine"),))
        if how == "policy":
            item = replace(item, settings=replace(item.settings, alpha=7.0))
        d.look()
        d.certifier.update(wanted(item))
        if how in ("defect", "no verdict"):
            await d.until(lambda: bool(d.calls))
            d.calls[0].fail(ZeroDivisionError("oops")) if how == "defect" else d.calls[0].end(replace(EQUIVALENT, verdict=None))
        await d.until(lambda: d.finding().complete[1] == "Retrying")
        finding = d.finding()
        assert finding.verified[:2] == ("Unknown", reasons.get(how, "Pending"))
        assert finding.status["verdict"] is None
        assert finding.status["nextAttempt"] == "2026-11-25T08:00:30Z"
        if how == "golden":
            assert f"golden set {NAMESPACE}/mine: there is no ConfigMap" in finding.verified[2]
        await d.store_finding()

    at_the_desk(scenario)


def test_nobody_wants_it_any_more(at_the_desk: Run) -> None:
    """The deployment is gone: the run is stopped, and no finding comes of it."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        d.certifier.update(wanted(certify(state)))
        await d.until(lambda: bool(d.calls))
        d.certifier.update(wanted())
        assert d.certifier.running == 0
        await d.certifier.close()
        assert d.calls[0].result.cancelled()
        assert d.look().findings == {}

    at_the_desk(scenario)


def test_a_recheck_keeps_the_verdict_unless_it_blocks(at_the_desk: Run) -> None:
    """Clean: only the time of the last run moves, the report behind the verdict stays as it was. An endpoint that is away: nothing
    changes but the next attempt. A fault: Block, with its own report."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        d.certifier.update(wanted(certify(state)))
        await d.until(lambda: len(d.calls) == 1)
        d.calls[0].end()
        await d.until(lambda: d.finding().complete[0] == "True")
        state = await d.store_finding()
        before = await d.config_map("r")
        d.moment = "2026-12-02T08:00:00Z"
        for said in (EQUIVALENT, decision(Verdict.INCONCLUSIVE, Reason.CANDIDATE_UNAVAILABLE, "no answer")):
            item = certify(state, recheck=True, resume="end")
            d.look()
            d.certifier.update(wanted(item))
            await d.until(lambda: not d.calls[-1].result.done())
            assert (d.calls[-1].job.resume, d.calls[-1].job.earlier) == ("", ())
            d.calls[-1].progress(2, "x")
            d.calls[-1].end(said)
            await d.until(lambda: d.certifier.running == 0)
            state = await d.store_finding()
            assert state.status["verdict"] == "Promote"
            assert (await d.config_map("r"))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        assert (state.status["checkedAt"], state.status["nextAttempt"]) == ("2026-12-02T08:00:00Z", "2026-12-02T08:00:30Z")
        await d.certifier.close()
        d.begin()
        d.moment = "2026-12-02T08:00:30Z"
        d.look()
        d.certifier.update(wanted(certify(state, recheck=True, attempt=1)))
        await d.until(lambda: not d.calls[-1].result.done())
        d.calls[-1].end(decision(Verdict.BLOCK, Reason.HARD_FAULT, "NaN in chat-003"))
        await d.until(lambda: d.certifier.running == 0)
        state = await d.store_finding()
        assert (state.status["verdict"], state.status["conditions"][1]["reason"]) == ("Block", "HardFault")
        written = as_json.loads(base64.b64decode((await d.config_map("r"))["binaryData"]["report.json.gz"]))
        assert written.decision.verdict is Verdict.BLOCK

    at_the_desk(scenario)


def test_a_result_that_cannot_be_stored_is_not_told_but_a_block_is(at_the_desk: Run) -> None:
    """Somebody's own ConfigMap has the name. It is not touched; a promotion waits, a block is told at once."""

    async def scenario(d: Desk) -> None:
        await d.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "r", "namespace": NAMESPACE}, "data": {"mine": "1"}})
        state = await d.report()
        for said, told in ((EQUIVALENT, ("Unknown", "Running")), (decision(Verdict.BLOCK, Reason.HARD_FAULT), ("False", "HardFault"))):
            await d.certifier.close()
            d.begin()
            d.look()
            d.certifier.update(wanted(certify(state)))
            await d.until(lambda: bool(d.calls) and not d.calls[-1].result.done())
            d.calls[-1].end(said)
            await d.until(lambda told=told: d.finding().verified[:2] == told)  # type: ignore[misc]
        assert (await d.config_map("r"))["data"] == {"mine": "1"}

    at_the_desk(scenario)


def test_after_the_lease_is_lost_nothing_is_written_or_told(at_the_desk: Run) -> None:
    """The run ends when its first write is refused on our side; the process ends by the lease itself."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        d.certifier.update(wanted(certify(state)))
        await d.until(lambda: bool(d.calls))

        def lost() -> float:
            raise Fenced("the Lease is somebody else's")

        d.client.fence = lost
        d.writes.clear()
        d.calls[0].end()
        await d.until(lambda: d.certifier.running == 0)
        assert (d.look().findings, d.writes) == ({}, [])

    at_the_desk(scenario)


# ---- entry checks


def test_entry_checks_tell_each_replica_by_its_container(at_the_desk: Run) -> None:
    """Four at a time. One passes, one fails and names its node, one cannot be asked and is asked again after a pause; a restarted
    container is asked anew."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        digest = await Store(d.client).write_record(NAMESPACE, "m-record", record(), Owner("AccuracyReport", "r", state.uid), {})
        ref = RecordRef(NAMESPACE, "m-record", digest)
        items = [enter(state, replica(f"p{n}", f"c{n}", f"node-{n}"), ref) for n in range(6)]
        d.certifier.update(wanted(*items))
        await d.until(lambda: len(d.entering) == 4)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(d.entering) == 4
        assert d.entering[0].record == records.rounded(record())
        by_pod = {call.endpoint.name: call for call in d.entering}
        by_pod["p0"].end(True, "32 prompts")
        by_pod["p1"].end(False, "12 of 32 prompts differ")
        by_pod["p2"].end(None, "no answer")
        await d.until(lambda: len(d.entering) == 6)
        entered = {key: each for key, each in _entered(d).items() if each.message != "the entry check runs"}
        assert {pod: each.passed for pod, each in entered.items()} == {"p0": True, "p1": False, "p2": None}
        assert entered["p1"].message == "node node-1: 12 of 32 prompts differ"
        assert entered["p2"].message == "could not be checked, next attempt in 30 s: no answer"
        d.look()
        restarted = enter(state, replica("p3", "c3-again", "node-3"), ref)
        d.certifier.update(wanted(items[2], *items[4:], restarted))
        await d.until(lambda: len(d.entering) == 7)
        assert by_pod["p3"].result.cancelled()
        assert len([call for call in d.entering if call.endpoint.name == "p2"]) == 1

    at_the_desk(scenario)


def _entered(d: Desk) -> dict[str, Entered]:
    found = d.certifier.board.findings().get(f"{NAMESPACE}/r")
    return {each.pod: each for each in found.entered} if found is not None else {}


@pytest.mark.parametrize("what", ["missing", "another", "garbage"])
def test_no_replica_enters_without_its_record(at_the_desk: Run, what: str) -> None:
    """A record that is gone, captured again, or damaged: the replica stays out and says what is wrong."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        if what != "missing":
            await Store(d.client).write_record(NAMESPACE, "m-record", record(), Owner("AccuracyReport", "r", state.uid), {})
        if what == "garbage":
            await d.hand("patch", "configmap", "m-record", "--type=merge", "-p", json.dumps({"binaryData": {"record.gz": "AAAA"}}))
        digest = "sha256:0" if what == "another" else ""
        d.certifier.update(wanted(enter(state, replica("p", "c"), RecordRef(NAMESPACE, "m-record", digest))))
        words = {"missing": "there is no ConfigMap", "another": "captured again", "garbage": "do not make up"}
        await d.until(lambda: words[what] in _entered(d).get("p", Entered("", "", True)).message)
        assert _entered(d)["p"].passed is None
        assert d.entering == []

    at_the_desk(scenario)


# ---- ConfigMaps


def test_what_does_not_fit_one_config_map_is_split_and_read_as_one(at_the_desk: Run) -> None:
    """Two and a half parts; half of a set is no set; a shorter content leaves nothing of the longer one behind."""

    async def scenario(d: Desk) -> None:
        state = await d.report()
        owner = Owner("AccuracyReport", "r", state.uid)
        kept, content = Store(d.client), secrets.token_bytes(PART_BYTES * 5 // 2)
        await kept.write_report(NAMESPACE, "big", lambda: content, "state", owner, {})
        assert await kept.report(NAMESPACE, "big") == (content, "state")
        assert [len((await d.config_map(name))["binaryData"]["report.json.gz"]) for name in ("big", "big-1", "big-2")] == [
            933_336, 933_336, 466_668,
        ]  # fmt: skip
        await d.hand("delete", "configmap", "big-1")
        assert await kept.report(NAMESPACE, "big") is None
        await kept.write_report(NAMESPACE, "big", lambda: b"short", "", owner, {})
        assert await kept.report(NAMESPACE, "big") == (b"short", "")
        await kept.clear(NAMESPACE, "big", owner)
        assert "binaryData" not in await d.config_map("big")

    at_the_desk(scenario)


def test_a_config_map_of_somebody_else_is_never_written_to(at_the_desk: Run) -> None:
    async def scenario(d: Desk) -> None:
        await d.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "r", "namespace": NAMESPACE}, "data": {"mine": "1"}})
        state = await d.report()
        with pytest.raises(TakenError, match="belongs to somebody else"):
            await Store(d.client).write_report(NAMESPACE, "r", lambda: b"x", "", Owner("AccuracyReport", "r", state.uid), {})
        await Store(d.client).clear(NAMESPACE, "r", Owner("AccuracyReport", "r", state.uid))
        assert (await d.config_map("r"))["data"] == {"mine": "1"}

    at_the_desk(scenario)


LINE = '{"id": "one", "stratum": "Chat", "messages": [{"role": "user", "content": "Hello"}]}\n'


def test_golden_sets_come_from_config_maps_and_wrong_ones_are_refused_in_words(at_the_desk: Run) -> None:
    """Text or binary, by key or the only key; an edit is seen; what is missing or broken names itself."""

    async def scenario(d: Desk) -> None:
        kept = Store(d.client)
        source = GoldenSource(namespace=NAMESPACE, name="mine")

        async def put(**body: Any) -> None:
            await d.hand("delete", "configmap", "mine", "--ignore-not-found")
            await d.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": NAMESPACE}, **body})

        async def refused(key: str = "") -> str:
            with pytest.raises(SourceError) as caught:
                await kept.golden(replace(source, key=key))
            assert caught.value.reason is Reason.REFERENCE_MISSING
            return caught.value.message

        assert "there is no ConfigMap of that name; create it" in await refused()
        await put(data={"set.jsonl": LINE})
        first = await kept.golden(source)
        assert [item.id for item in first.items] == ["one"]
        assert await kept.golden(replace(source, key="set.jsonl")) == first
        assert "no key other; the ConfigMap has set.jsonl" in await refused("other")
        await put(binaryData={"set.jsonl": base64.b64encode(LINE.replace("one", "two").encode()).decode()})
        assert [item.id for item in (await kept.golden(source)).items] == ["two"]
        await put(data={"a": LINE, "b": LINE})
        assert "has keys a, b; name the one" in await refused()
        await put(data={"a": LINE + LINE})
        assert f"golden set {NAMESPACE}/mine" in await refused()
        await put(data={})
        assert "has keys none" in await refused()
        with pytest.raises(SourceError, match="builtin golden set 'cor'"):
            await kept.golden(GoldenSource(builtin="cor"))

    at_the_desk(scenario)
