"""A profile that is edited under running replicas: they stay, it is said, and only the model's own change replaces them (OC-030)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from polyfleet import naming
from polyfleet.outdated import spec_digest
from polyfleet.state import CustomState, DeploymentState, PodState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done, cycle
from tests.unit.operator.looks import H100, NVIDIA_ONLY, PPU, children, deleted, patches, replace_size

V1, V2 = "sandbox.polyfleet.io/engine:dev", "sandbox.polyfleet.io/engine:v2"
NAME = "sandbox-nvidia"


def engine(**change: Any) -> dict[str, Any]:
    spec = b.profile(NAME).spec["engines"]["sandbox"]
    return {"engines": {"sandbox": {**spec, **change}}}


def model(**spec: Any) -> CustomState:
    return b.model("m", {**NVIDIA_ONLY, "replicas": 2, **spec})


def before(size: int = 2) -> DeploymentState:
    return replace_size(children(model())[NAME], size)


def as_stored(child: DeploymentState) -> DeploymentState:
    """With what the API server adds to every template."""
    spec = child.spec["template"]["spec"]
    full = {**spec, "schedulerName": "default-scheduler", "dnsPolicy": "ClusterFirst", "restartPolicy": "Always"}
    return replace(child, spec={**child.spec, "template": {**child.spec["template"], "spec": full}})


def serving(child: DeploymentState, size: int = 2) -> list[PodState]:
    return [b.replica(child, f"{child.name}-{i}", node="h100-0", serving=True) for i in range(size)]


def look(profiles: list[CustomState], deployments: list[DeploymentState], pods: list[PodState], wanted: CustomState | None = None) -> Done:
    pools = [b.pool(name, name) for name in (NAME, "sandbox-ppu")]
    observed = b.observed(models=[wanted or model()], profiles=profiles, pools=pools, nodes=[H100, PPU], deployments=deployments, pods=pods)
    return cycle(observed, now=b.LATER)


def condition(done: Done, kind: str) -> tuple[str, str, str]:
    return b.condition(done.status("ModelDeployment", "m"), kind)


def still(done: Done) -> bool:
    """Nothing starts, leaves or is deleted."""
    return not done.plan.starts and not done.plan.stop and not patches(done, "DeletionCost") and not deleted(done)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (engine(image=V2), f"image {V1} -> {V2}"),
        (engine(args=["--backend=llamacpp", "--more"]), "args"),
        (engine(env=[{"name": "X", "value": "1"}]), "env"),
        ({"pod": {"mounts": [{"hostPath": "/opt/a", "mountPath": "/opt/a"}]}}, "mounts"),
        ({"pod": {"runtimeClassName": "other"}}, "runtimeClassName"),
    ],
)
def test_an_edit_that_changes_pods_changes_none_and_is_told(change: dict[str, Any], word: str) -> None:
    """Two serving replicas, then the edit: the child keeps both, Ready stays True, Promoted and one event name what differs."""
    child = before()
    done = look([b.profile(NAME, **change)], [child], serving(child))
    assert b.sizes(done.actions) == {child.name: 2}
    assert still(done)
    assert condition(done, "Ready")[0] == "True"
    status, reason, message = condition(done, "Promoted")
    assert (status, reason) == ("False", "ProfileOutdated")
    assert f"HardwareProfile {NAME} or its pool asks for something else now ({word})" in message
    (note,) = [note for note in done.report.events if note.reason == "ProfileEdited"]
    assert (note.kind, note.name, word in note.message) == ("ModelDeployment", "m", True)


def test_the_plan_in_force_stays_the_plan() -> None:
    """The target has not changed, so no PlacementPlan is written for the edit: nobody is asked to approve nothing."""
    child = before()
    first = look([b.profile(NAME)], [child], serving(child))
    assert len(first.written) == 1
    observed = replace(first.observed, profiles=(b.profile(NAME, **engine(image=V2)),), plans=first.plans)
    again = cycle(observed, now=b.LATER)
    assert again.written == ()
    assert still(again)


def test_an_edit_that_is_taken_back_leaves_no_trace() -> None:
    """The first revision is wanted again, and it is what runs."""
    child = before()
    assert condition(look([b.profile(NAME)], [child], serving(child)), "Promoted")[:2] == ("True", "Promoted")


def test_a_change_of_the_model_takes_the_edit_along() -> None:
    """The user's own change rolls as ever: one of the new revision beside two old ones, and it has the edited image too."""
    child = before()
    done = look([b.profile(NAME, **engine(image=V2))], [child], serving(child), model(runtime={"args": ["--user"]}))
    (new,) = [m for m in b.applied(done.actions, "Deployment") if m["metadata"]["name"] != child.name]
    assert b.sizes(done.actions)[child.name] == 2
    assert new["spec"]["replicas"] == 1
    container = new["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["args"][-1]) == (V2, "--user")
    assert condition(done, "Promoted")[1] == "RolloutInProgress"


@pytest.mark.parametrize("spec", [{"replicas": 3}, {"scaling": {"minReplicas": 3, "maxReplicas": 4}, "replicas": None}])
def test_an_added_replica_comes_in_the_new_revision(spec: dict[str, Any]) -> None:
    """2 -> 3: the third runs the new image, the two old ones stay. A size is no change of what pods look like."""
    child = before()
    wanted = model(**spec)
    wanted = replace(wanted, spec={key: value for key, value in wanted.spec.items() if value is not None})
    done = look([b.profile(NAME, **engine(image=V2))], [child], serving(child), wanted)
    (new,) = [m for m in b.applied(done.actions, "Deployment") if m["metadata"]["name"] != child.name]
    assert b.sizes(done.actions) == {child.name: 2, new["metadata"]["name"]: 1}
    assert new["spec"]["template"]["spec"]["containers"][0]["image"] == V2


def test_a_dead_replica_is_replaced_in_its_own_revision() -> None:
    """One of two is gone: its ReplicaSet's new pod gets a node in the old child; an image that nobody has tried replaces nothing."""
    child = as_stored(before())
    waiting = b.replica(child, "again")
    done = look([b.profile(NAME, **engine(image=V2))], [child], [*serving(child, 1), waiting])
    assert b.sizes(done.actions) == {child.name: 2}
    assert sorted(patches(done, "Pin")) == ["again"]


def test_a_dead_replica_and_an_added_one_go_their_ways() -> None:
    """One died while the size went from 2 to 3: one start for the old child, one for the new."""
    child = before()
    done = look([b.profile(NAME, **engine(image=V2))], [child], serving(child, 1), model(replicas=3))
    sizes = b.sizes(done.actions)
    assert (sizes.pop(child.name), list(sizes.values())) == (2, [1])


def test_where_the_old_template_cannot_run_the_new_one_does() -> None:
    """The old pods lack a toleration that the profile has now: the dead replica's place may need it, so the new revision takes it."""
    child = before()
    pod = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}
    done = look([b.profile(NAME, pod=pod, **engine(image=V2))], [child], serving(child, 1))
    sizes = b.sizes(done.actions)
    assert (sizes.pop(child.name), list(sizes.values())) == (1, [1])


def test_a_toleration_is_no_new_revision() -> None:
    """OC-029: what runs stays and is current; only the next pod is made with it."""
    child = before()
    pod = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}
    done = look([b.profile(NAME, pod=pod)], [child], serving(child), model(replicas=3))
    assert condition(done, "Promoted")[:2] == ("False", "RolloutInProgress")  # the third is being made
    (new,) = [m for m in b.applied(done.actions, "Deployment") if m["metadata"]["name"] != child.name]
    assert pod["tolerations"][0] in new["spec"]["template"]["spec"]["tolerations"]
    assert new["metadata"]["labels"][naming.REVISION] == child.labels[naming.REVISION]
    assert not patches(done, "DeletionCost")


@pytest.mark.parametrize("other", [[], ["sandbox-ppu"]])
def test_a_deleted_profile_leaves_its_replicas_alone_and_is_named(other: list[str]) -> None:
    """Also where another profile could take the model, cheaper: nobody asked for a move."""
    child = before()
    wanted = b.model("m", {"replicas": 2})
    child = replace_size(children(wanted, nodes=(H100,))[NAME], 2)
    done = look(list(b.profiles(*other)), [child], serving(child), wanted)
    assert b.sizes(done.actions) == {child.name: 2}
    assert still(done)
    status, reason, message = condition(done, "Promoted")
    assert (status, reason) == ("False", "ProfileOutdated")
    assert f"HardwareProfile {NAME}, on which they run, does not exist" in message
    assert b.condition(done.status("AcceleratorPool", NAME), "Schedulable")[:2] == ("False", "ProfileMissing")
    assert [note.kind for note in done.report.events if note.reason == "ProfileEdited"] == ["ModelDeployment"]


def test_a_profile_that_no_longer_takes_the_model_leaves_its_replicas_alone() -> None:
    """Its only engine lost its image: no option is left, both replicas serve on."""
    child = before()
    done = look([b.profile(NAME, engines={})], [child], serving(child))
    assert b.sizes(done.actions) == {child.name: 2}
    assert still(done)
    assert "no longer takes this model" in condition(done, "Promoted")[2]


def test_the_users_own_lists_still_move_replicas_away() -> None:
    """excludeProfiles is the user's word: the replica's place is no longer allowed, so it is replaced elsewhere."""
    wanted = b.model("m", {"replicas": 1})
    child = replace_size(children(wanted, nodes=(H100,))[NAME], 1)
    excluded = b.model("m", {"replicas": 1, "placement": {"excludeProfiles": [NAME]}})
    done = look(list(b.profiles(NAME, "sandbox-ppu")), [child], serving(child, 1), excluded)
    assert [start.cell for start in done.plan.starts] == ["sandbox-ppu"]


def test_a_child_of_an_earlier_version_rolls_as_it_did() -> None:
    """Without the digest the cause is unknown: an update that was under way when the operator was upgraded goes on."""
    child = before()
    bare = replace(child, annotations={key: text for key, text in child.annotations.items() if key != naming.SPEC})
    done = look([b.profile(NAME, **engine(image=V2))], [bare], serving(bare))
    assert len(b.sizes(done.actions)) == 2


def test_the_digest_is_of_the_users_words_that_shape_pods() -> None:
    """Size, price limit and pace do not count; arguments, size of the model and the variant for this hardware do."""
    from polyfleet.api import ModelDeploymentSpec

    def digest(**spec: Any) -> str:
        return spec_digest(ModelDeploymentSpec.parse({"model": {"uri": b.TINY}, **spec}), NAME, "nvidia")

    base = digest()
    same: list[dict[str, Any]] = [
        {"replicas": 7}, {"priority": 3}, {"placement": {"maxHourlyCost": "9"}}, {"rollout": {"maxSurge": 2}}, {"drainTimeout": "1s"},
        {"runtime": {"engine": "auto"}}, {"variants": [{"name": "v", "match": {"vendors": ["huawei"]}, "runtime": {"args": ["--x"]}}]},
    ]  # fmt: skip
    other: list[dict[str, Any]] = [
        {"runtime": {"args": ["--x"]}}, {"model": {"uri": b.TINY, "footprint": "9Gi"}}, {"workload": {"inputTokens": 9}},
        {"podTemplate": {"metadata": {"labels": {"a": "b"}}}},
        {"variants": [{"name": "v", "match": {"vendors": ["nvidia"]}, "runtime": {"args": ["--x"]}}]},
    ]  # fmt: skip
    assert [digest(**spec) == base for spec in same] == [True] * len(same)
    assert [digest(**spec) == base for spec in other] == [False] * len(other)
