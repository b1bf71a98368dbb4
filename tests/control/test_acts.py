"""The order of acts on a real API server: free first, then fill; what is freed is promised; nobody leaves for what cannot be made."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from polyfleet import naming
from polyfleet.state import Observed, PodState

from tests.control.cycling import NAMESPACE, A, Kubectl, Turning, condition, model, operator, policy, ready, replicas, run, states

pytestmark = pytest.mark.control

HOLD = "example.com/hold"


def size(devices: int, priority: int, **spec: Any) -> dict[str, Any]:
    return {"runtime": {"parallelism": {"tensor": devices}}, "priority": priority, **spec}


async def low_and_high(op: Turning) -> Observed:
    """Two models of low priority fill the node, four devices each; then one of high priority wants all eight."""
    await op.apply(policy(), model("a", **size(4, 1)), model("b", **size(4, 1)))
    await op.until("a and b serve", lambda seen: ready(seen, "a") == ready(seen, "b") == 1)
    (pod,) = replicas(op.cache.observe(), "b")
    # B's engine takes its time to end: the kubelet's part is finished, the object stays.
    await op.hand("-n", NAMESPACE, "patch", "pod", pod.name, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": [HOLD]}}))
    await op.apply(model("c", **size(8, 9)))
    return op.cache.observe()


def held(seen: Observed) -> int:
    """Devices of the pods that are bound to the node or told to go there."""
    return sum(sum(pod.requests.values()) for pod in seen.pods if pod.node == A or pod.pinned_node == A)


def test_what_two_victims_free_one_by_one_is_kept_for_the_winner(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """OC-099: A goes at once, B much later. A's four devices stay C's: A's next pod gets no node, each victim leaves once, and an operator
    that is restarted meanwhile keeps the promise. At no time is more held than the node has."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            before = await low_and_high(op)
            victims = {pod.uid for name in "ab" for pod in replicas(before, name)}

            def a_is_gone(seen: Observed) -> bool:
                assert held(seen) <= 8
                promised = any(naming.PLANNED_NODE in pod.annotations for pod in replicas(seen, "c"))
                return promised and not {pod.uid for pod in replicas(seen, "a")} & victims

            seen = await op.until("a is gone, c has its promise", a_is_gone)
            (c,) = replicas(seen, "c")
            assert (c.node, c.pinned_node, c.gates) == ("", "", (naming.GATE,))
            assert c.annotations[naming.PLANNED_NODE] == A
            assert all(pod.node == "" for pod in replicas(seen, "a"))
            events = json.loads(await op.hand("-n", NAMESPACE, "get", "events", "--field-selector=reason=Preempted", "-o", "json"))["items"]
            uids = {state.uid: state.name for state in seen.model_deployments}
            assert sorted(uids[e["involvedObject"]["uid"]] for e in events if e["involvedObject"]["uid"] in uids) == ["a", "b"]
        async with operator(apiserver, clean, folder=tmp_path) as again:
            for _ in range(3):
                seen = await again.turn()
                assert held(seen) <= 8
            assert [(pod.uid, pod.node) for pod in replicas(seen, "c")] == [(c.uid, "")]
            assert all(pod.node == "" for pod in replicas(seen, "a"))
            (b,) = [pod for pod in replicas(seen, "b") if pod.uid in victims]
            await again.hand("-n", NAMESPACE, "patch", "pod", b.name, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
            seen = await again.until("c serves", lambda seen: ready(seen, "c") == 1)
            assert [(pod.uid, pod.node) for pod in replicas(seen, "c")] == [(c.uid, A)]
            assert held(seen) == 8
            for name in "ab":
                assert condition(seen, name, "Placed")[:2] == ("False", "DevicesUnavailable")

    run(scenario)


def test_a_promise_that_is_not_kept_in_time_ends(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """OC-099, the other end: B never goes. Eleven minutes later C's pod has been replaced by one without a promise, one of the low models
    serves on the four devices that were free, and C says what happened. At no time is more held than the node has."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            before = await low_and_high(op)
            victims = {pod.uid for name in "ab" for pod in replicas(before, name)}

            def promised(seen: Observed) -> bool:
                notes = [pod.annotations for pod in replicas(seen, "c")]
                return any(naming.RESERVED_SINCE in each for each in notes) and not {pod.uid for pod in replicas(seen, "a")} & victims

            seen = await op.until("a is gone, c has its promise", promised)
            (c,) = replicas(seen, "c")
            later = datetime.now(UTC) + timedelta(minutes=11)
            op.cycle.now = lambda: later.isoformat(timespec="seconds")

            def taken(seen: Observed) -> bool:
                assert held(seen) <= 8
                return any(pod.node == A and pod.uid not in victims for name in "ab" for pod in replicas(seen, name))

            seen = await op.until("somebody else has the free devices", taken)
            assert c.uid not in {pod.uid for pod in replicas(seen, "c")}
            assert all(naming.PLANNED_NODE not in pod.annotations and pod.node == "" for pod in replicas(seen, "c"))
            assert condition(seen, "c", "Placed")[:2] == ("False", "DevicesUnavailable")
            found = await op.hand("-n", NAMESPACE, "get", "events", "--field-selector=reason=ReservationEnded", "-o", "json")
            (event,) = json.loads(found)["items"]
            assert event["message"].startswith(f"{A} was held for it for 10m, and its 8 devices did not all come free: ")
            (b,) = [pod for pod in replicas(seen, "b") if pod.uid in victims]
            assert f"{NAMESPACE}/{b.name} did not leave" in event["message"]
            await op.hand("-n", NAMESPACE, "patch", "pod", b.name, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))

    run(scenario)


def leaves(pod: PodState) -> bool:
    return pod.deleting or pod.labels.get(naming.DRAINING) == "true"


PROBE: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "c-probe", "namespace": NAMESPACE},
    "spec": {
        "selector": {"matchLabels": {"x": "y"}},
        "template": {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}},
    },
}
DENY: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "no-c"},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}
            ]
        },
        "validations": [{"expression": "!object.metadata.name.startsWith('c-')", "message": "no deployment of c today"}],
    },
}
BIND: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "no-c"},
    "spec": {"policyName": "no-c", "validationActions": ["Deny"]},
}


def test_nobody_leaves_for_a_replica_that_the_server_refuses(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """The Deployment of the winner is denied: the two that would have made room go on serving, and the plan says which part is refused.
    Once it is allowed, the same plan goes on."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(DENY, BIND)

            async def denied() -> bool:
                return clean("create", "--dry-run=server", "-f", "-", stdin=json.dumps(PROBE)).returncode != 0

            while not await denied():  # the server takes a moment to learn a policy, and tells nobody when it has
                await op.turn()
            await low_and_high(op)
            seen = await op.until("refused", lambda seen: condition(seen, "c", "Accepted")[1] == "InvalidSpec")
            for _ in range(3):
                seen = await op.turn()
            assert (ready(seen, "a"), ready(seen, "b")) == (1, 1)
            plan = max(seen.plans, key=lambda item: item.name)
            (row,) = plan.status["conditions"]
            assert (plan.status["state"], row["reason"]) == ("Applying", "PartRefused")
            assert "no deployment of c today" in row["message"]
            count = len(seen.plans)

            await op.hand("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "no-c")
            while await denied():
                await op.turn()
            seen = await op.until("both leave", lambda seen: all(leaves(pod) for name in "ab" for pod in replicas(seen, name) if pod.node))
            assert len(states(seen)) == count

    try:
        run(scenario)
    finally:
        clean("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "no-c", "--ignore-not-found")
        for pod in clean("-n", NAMESPACE, "get", "pods", "-o", "name").stdout.split():
            clean("-n", NAMESPACE, "patch", pod, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
