"""PlacementPlan objects on a real API server: written before acted on, crash in between, approval, history, size, and nothing at rest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from polyfleet.plans import entries, stored
from polyfleet.plans.entries import Entry
from polyfleet.plans.judge import New
from polyfleet.plans.writer import PlanWriter
from polyfleet.resources import PLACEMENT_PLANS
from polyfleet.state import Observed

from sandbox import install
from sandbox.controlplane import ControlPlane
from tests.control.cycling import (
    NAMESPACE,
    A,
    B,
    Kubectl,
    Turning,
    condition,
    model,
    newest,
    operator,
    policy,
    ready,
    replicas,
    run,
    states,
)

pytestmark = pytest.mark.control


def test_a_plan_is_written_before_anything_of_it_is_done_and_nothing_at_rest(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """Order of writes: the object, its status, then the child. When all serves it is Applied; further turns, also of a restarted
    operator and after new lists, write nothing."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(policy(), model("m", replicas=2))
            await op.turn()
            kinds = [kind for kind, _, _ in op.writes]
            assert kinds[:2] == ["PlacementPlan", "PlacementPlan"]
            assert kinds.index("Deployment") > 1
            seen = await op.until("both serve", lambda seen: ready(seen, "m") == 2 and states(seen) == {"pplan-000001": "Applied"})
            (plan,) = seen.plans
            (row,) = plan.spec["assignments"]
            assert (row["replicas"], row["nodes"]) == (2, [{"name": A, "replicas": 2}])
            assert {pod.node for pod in replicas(seen, "m")} == {A}
            assert (plan.spec["trigger"], plan.spec["approval"], plan.status["changesText"]) == ("SpecChanged", "NotNeeded", "+2 ~0 -0")
            model_state = seen.model_deployments[0]
            assert model_state.status["plan"]["name"] == "pplan-000001"
            assert seen.policy is not None
            assert seen.policy.status["plan"] == "pplan-000001"
            seen = await op.rests()
        async with operator(apiserver, clean, folder=tmp_path) as again:
            after = await again.rests()  # after a restart each child is applied once more, which changes nothing
            assert [(p.name, p.resource_version) for p in after.plans] == [(p.name, p.resource_version) for p in seen.plans]

    run(scenario)


class Dies(PlanWriter):
    """The process is killed when the object was written; `after_status` tells whether its first status was, too."""

    after_status = False

    async def write(self, new: New) -> bool:
        if self.after_status:
            await super().write(new)
        else:
            await self._client.create(PLACEMENT_PLANS, new.manifest)
        raise Killed


class DiesLater(Dies):
    after_status = True


class Killed(BaseException):
    pass


@pytest.mark.parametrize("writer", [Dies, DiesLater])
def test_a_crash_between_write_and_act_ends_in_the_written_plan(
    writer: type[PlanWriter], apiserver: Path, clean: Kubectl, tmp_path: Path
) -> None:
    """The next operator finds the object, writes no other, and carries it out."""

    async def scenario() -> None:
        async with operator(apiserver, clean, writer=writer, folder=tmp_path) as op:
            await op.apply(policy(), model("m", replicas=2))
            with pytest.raises(Killed):
                await op.turn()
            assert not any(kind == "Deployment" for kind, _, _ in op.writes)
        async with operator(apiserver, clean, folder=tmp_path) as again:
            seen = await again.until("both serve", lambda seen: ready(seen, "m") == 2 and "Applied" in states(seen).values())
            assert states(seen) == {"pplan-000001": "Applied"}
            assert seen.plans[0].status["hourlyCost"] == "6.00"
            assert ("PlacementPlan", "create", "200") not in again.writes

    run(scenario)


class Cordons(PlanWriter):
    """While the first plan is written somebody cordons its node and opens the other one."""

    hand: Turning | None = None

    async def write(self, new: New) -> bool:
        done = await super().write(new)
        hand, Cordons.hand = Cordons.hand, None
        if hand is not None:
            await hand.hand("cordon", A)
            await hand.hand("uncordon", B)
            assert await hand.cache.wait_for(
                lambda: {n.name: n.unschedulable for n in hand.cache.observe().nodes} == {A: True, B: False}, 30
            )
        return done


def test_a_plan_that_is_stale_before_its_first_act_is_solved_again(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """The plan names node A, which is cordoned between the write and the first act: the second plan names B, nothing was pinned to A."""

    async def scenario() -> None:
        async with operator(apiserver, clean, writer=Cordons, folder=tmp_path) as op:
            await op.apply(policy(), model("m"))
            Cordons.hand = op
            seen = await op.until("it serves", lambda seen: ready(seen, "m") == 1 and "Applied" in states(seen).values())
            assert states(seen) == {"pplan-000001": "Superseded", "pplan-000002": "Applied"}
            first, second = seen.plans
            assert [row["nodes"][0]["name"] for plan in (first, second) for row in plan.spec["assignments"]] == [A, B]
            assert seen.plans[1].spec["trigger"] == "InventoryChanged"
            assert [(pod.pinned_node, pod.node) for pod in replicas(seen, "m")] == [(B, B)]

    run(scenario)


def ours(seen: Observed) -> list[str]:
    """Deployments in these tests' namespace: other tests of the same control plane leave some elsewhere."""
    return [d.name for d in seen.deployments if d.namespace == NAMESPACE]


def patch(word: str) -> tuple[str, ...]:
    return ("--type=merge", "-p", json.dumps({"spec": {"approval": word}}))


def test_a_person_approves_and_rejects(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """Manual: the plan waits, nothing moves. Approved: it is carried out, and no answer can be changed. Rejected: it stays."""

    async def answer(op: Turning, name: str, word: str) -> None:
        await op.hand("patch", "pplan", name, *patch(word))
        found = json.loads(await op.hand("get", "pplan", name, "-o", "json"))
        await op.seen("PlacementPlan", found["metadata"])

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(policy(approval="Manual"), model("m"))
            seen = await op.until("it asks", lambda seen: condition(seen, "m", "Placed")[1] == "AwaitingApproval")
            assert (states(seen), newest(seen).spec["approval"], ours(seen)) == ({"pplan-000001": "Proposed"}, "Pending", [])
            await op.rests()
            events = json.loads(await op.hand("-n", NAMESPACE, "get", "events", "-o", "json"))["items"]
            assert [e["reason"] for e in events if e["involvedObject"]["uid"] == seen.model_deployments[0].uid] == ["AwaitingApproval"]

            await answer(op, "pplan-000001", "Approved")
            seen = await op.until("it serves", lambda seen: ready(seen, "m") == 1 and states(seen) == {"pplan-000001": "Applied"})
            refused = clean("patch", "pplan", "pplan-000001", *patch("Rejected"))
            assert "approval moves only away from Pending" in refused.stderr

            await op.apply(model("m", replicas=3))
            seen = await op.until("it asks again", lambda seen: len(seen.plans) == 2)
            await answer(op, "pplan-000002", "Rejected")
            seen = await op.until("it stays", lambda seen: states(seen) == {"pplan-000001": "Applied", "pplan-000002": "Rejected"})
            seen = await op.rests()
            assert (len(replicas(seen, "m")), len(seen.plans)) == (1, 2)
            assert "was rejected" in condition(seen, "m", "Placed")[2]

    run(scenario)


def test_an_approved_plan_whose_inputs_changed_asks_again(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """Between the question and the answer the size changed: the approved plan is not carried out, the other one is Pending."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(policy(approval="Manual"), model("m"))
            await op.until("it asks", lambda seen: len(seen.plans) == 1)
            await op.apply(model("m", replicas=2))
            await op.hand("patch", "pplan", "pplan-000001", *patch("Approved"))
            seen = await op.until("it asks again", lambda seen: states(seen).get("pplan-000002") == "Proposed")
            assert states(seen)["pplan-000001"] == "Superseded"
            assert (newest(seen).spec["approval"], ours(seen)) == ("Pending", [])

    run(scenario)


def test_the_history_keeps_twenty_and_the_plan_in_force(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """One plan carried out, then 22 that are asked for and never answered: 20 objects are left, the one in force among them."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(policy(), model("m"))
            await op.until("it serves", lambda seen: states(seen) == {"pplan-000001": "Applied"})
            await op.apply(policy(approval="Manual"))
            for turn in range(22):
                await op.apply(model("m", replicas=2 + turn % 2))
                seen = await op.turn()
            names = [plan.name for plan in seen.plans]
            assert len(names) == 20
            assert names[0] == "pplan-000001"
            assert names[-1] == "pplan-000023"
            assert states(seen)["pplan-000001"] == "Applied"

    run(scenario)


def test_a_plan_of_2001_nodes_is_stored_without_them_and_one_of_2000_with_them(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """The real server takes both; the digest is of the whole target in both."""

    def new(name: str, count: int) -> New:
        target = (Entry("llm/m", "p", "default", "vllm", 8, "00000000", count, tuple((f"node-{i:05d}", 1) for i in range(count))),)
        rows, truncated = entries.rows(target)
        spec = {
            "trigger": "Resync",
            "inputsDigest": "sha256:0",
            "assignments": rows,
            "approval": "Pending",
            **({"truncated": True} if truncated else {}),
        }
        metadata = {"name": name, "annotations": {stored.DIGEST: entries.digest(target)}}
        return New(
            {"apiVersion": "polyfleet.io/v1alpha1", "kind": "PlacementPlan", "metadata": metadata, "spec": spec}, {"state": "Proposed"}
        )

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            for name, count in (("pplan-000001", 2000), ("pplan-000002", 2001)):
                assert await op.cycle.plans.write(new(name, count))
            assert await op.cycle.expectations.settle()
            full, cut = stored.read(op.cache.observe().plans)
            assert (len(full.entries[0].nodes), full.truncated) == (2000, False)
            assert (cut.entries[0].nodes, cut.entries[0].replicas, cut.truncated) == ((), 2001, True)
            assert not await op.cycle.plans.write(new("pplan-000002", 3)), "a name that is taken is a sign of an old view, not an error"

    run(scenario)


def test_the_charts_rights_are_enough_and_no_more(control_plane: ControlPlane, clean: Kubectl, tmp_path: Path) -> None:
    """The whole way of a plan with the rights of the chart's role alone; nothing is refused, and an approval cannot be given with them."""
    helm = [install.helm_path(), "template", "polyfleet", str(install.chart_dir()), "--namespace", "polyfleet"]
    rendered = yaml.safe_load_all(subprocess.run(helm, capture_output=True, text=True, check=True).stdout)
    role = next(item for item in rendered if item and item["kind"] == "ClusterRole" and item["metadata"]["name"] == "polyfleet-operator")
    role["metadata"] = {"name": "plans-operator"}
    subject = {"kind": "User", "name": "plans-operator", "apiGroup": "rbac.authorization.k8s.io"}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "plans-operator"}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "plans-operator"},
        "roleRef": ref, "subjects": [subject],
    }  # fmt: skip
    for item in (role, binding):
        clean("apply", "-f", "-", stdin=json.dumps(item), check=True)
    kubeconfig = control_plane.user_kubeconfig(tmp_path / "kubeconfig", "plans-operator")

    async def scenario() -> None:
        async with operator(kubeconfig, clean, folder=tmp_path) as op:
            await op.apply(policy(), model("m"))
            await op.until("it serves", lambda seen: ready(seen, "m") == 1 and states(seen) == {"pplan-000001": "Applied"})
            assert [write for write in op.writes if write[2] != "200"] == []
        for verb in ("patch", "update"):
            answer = clean("auth", "can-i", verb, "placementplans.polyfleet.io", "--as", "plans-operator")
            assert answer.stdout.strip() == "no"

    try:
        run(scenario)
    finally:
        clean("delete", "clusterrole,clusterrolebinding", "plans-operator")
