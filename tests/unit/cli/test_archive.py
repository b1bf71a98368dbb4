"""The snapshot file: read back as it was, no private text in it, and every way in which a file can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from polyfleet import naming, parse
from polyfleet.cli import archive, demo, redact
from polyfleet.cli.codec import FormError, decode, encode, read_json
from polyfleet.cli.failure import Failure
from polyfleet.cli.fleet import prepared, warm_of
from polyfleet.render.deployment import manifest
from polyfleet.state import CustomState, Observed

import placement
from placement.snapshot import to_json
from tests.unit.cli.lib import failed, polyfleet, snapshot_file
from tests.unit.operator import builders as b

SECRET = "planted-7f3a91c2"  # looks like nothing in particular: only its place can give it away
TOKEN = "hf_" + "aB3" * 10
PROMPT = "You are a helpful assistant of ACME"
WHEN = "2026-11-24T10:12:00Z"


def with_secrets() -> Observed:
    """A running fleet with private text everywhere that an object of this cluster can hold it."""
    engines = {
        "vllm": {
            "image": "registry.example/vllm:v1",
            "args": [f"--api-key={SECRET}", "--hf-token", SECRET, f"--chat-template={PROMPT}", f'--extra={{"api_key": "{SECRET}"}}'],
            "env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": SECRET}],
        }
    }
    spec: dict[str, Any] = {
        "model": {"uri": f"s3://user:{SECRET}@bucket/models/m?X-Token={SECRET}", "footprint": "40Gi"},
        "replicas": 3,
        "runtime": {
            "args": [f"--system-prompt={PROMPT}", "--max-model-len=4096"],
            "env": [{"name": "HF_TOKEN", "value": SECRET}, {"name": "NOTE", "value": TOKEN}],
        },
        "variants": [
            {
                "name": "v",
                "match": {"vendors": ["nvidia"]},
                "runtime": {"env": [{"name": "PASSWORD", "value": SECRET}], "args": ["--password", SECRET, f"--note={TOKEN}"]},
            }
        ],
        "accuracy": {"gate": "Disabled", "acknowledgeRisk": f"because {SECRET} and nobody looks"},
        "podTemplate": {
            "metadata": {"labels": {"team": SECRET}, "annotations": {"note": SECRET}},
            "spec": {
                "hostAliases": [{"ip": "10.0.0.9", "hostnames": [SECRET]}],
                "containers": [
                    {
                        "name": "engine",
                        "env": [{"name": "X", "value": SECRET}, {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    },
                    {"name": "sidecar", "image": "registry.example/x:1", "command": ["sh", "-c", f"login {SECRET}"], "args": [SECRET]},
                ],
            },
        },
    }
    annotated = replace(b.model("m", spec), annotations={"note": SECRET, "kubectl.kubernetes.io/last-applied-configuration": SECRET})
    labelled = replace(annotated, labels={"team": SECRET}, status={"conditions": [{"type": "Ready", "message": SECRET}], "url": SECRET})
    profile = replace(b.profile("nvidia-h100-sxm", engines=engines), annotations={"a": SECRET}, status={"x": SECRET})
    base = b.observed(models=[labelled], profiles=[profile], nodes=[b.h100("h100-0"), b.h100("h100-1")])
    return running(base, ["h100-0", "h100-0"])


def running(base: Observed, nodes: list[str]) -> Observed:
    """The only model's replicas serve on these nodes, in a Deployment as the operator renders it; a stranger's pod beside them."""
    (view,) = prepared(base, WHEN).models.values()
    raw = manifest(view.state, view.rendered[0], len(nodes))
    raw["metadata"]["annotations"] = {**raw["metadata"]["annotations"], "note": SECRET}
    child = parse.deployment({**raw, "metadata": {**raw["metadata"], "uid": "uid-child", "resourceVersion": "1"}})
    pods = [b.replica(child, f"m-{number}", node=node, serving=True) for number, node in enumerate(nodes)]
    spoken = [
        replace(
            pod,
            annotations={"secret": SECRET},
            labels={**pod.labels, "team": SECRET},
            conditions={key: replace(item, message=SECRET) for key, item in pod.conditions.items()},
            containers=tuple(replace(item, message=SECRET) for item in pod.containers),
        )
        for pod in pods
    ]
    raw_pod = {
        "metadata": {
            "namespace": "x",
            "name": "y",
            "uid": "u",
            "resourceVersion": "1",
            "annotations": {"a": SECRET},
            "labels": {"l": SECRET},
        },
        "spec": {
            "nodeName": "h100-1",
            "containers": [{"name": "c", "env": [{"name": "E", "value": SECRET}], "resources": {"limits": {b.H100: "1"}}}],
        },
    }
    stranger = parse.pod(raw_pod)
    assert stranger is not None
    return replace(base, pods=(*spoken, stranger), deployments=(child,), replica_sets=(b.replica_set(child),))


def test_no_private_text_is_in_the_file(tmp_path: Path) -> None:
    """Secrets, environment values and prompts, planted in every place that an object has for them."""
    text = snapshot_file(tmp_path, with_secrets(), WHEN).read_text(encoding="utf-8")
    for private in (SECRET, TOKEN, PROMPT, "ACME"):
        assert private not in text
    for kept in ("HF_TOKEN", "--max-model-len=4096", "sidecar", '"x"', "llm"):
        assert kept in text, "names and harmless arguments stay"


def test_the_plan_is_the_same_without_the_private_text(tmp_path: Path) -> None:
    """Two of three replicas run. Emptied environment changes the revision hash, yet both count as wanted: one start, no stop."""
    given = with_secrets()
    inputs = prepared(given, WHEN)
    found = archive.read(str(snapshot_file(tmp_path, given, WHEN)))
    assert found.observed is not None
    again = prepared(found.observed, found.taken_at)
    assert to_json(again.snapshot, again.demand) == to_json(inputs.snapshot, inputs.demand)
    assert found.placement == (inputs.snapshot, inputs.demand)
    plan, _ = placement.plan(again.snapshot, again.demand)
    assert (len(plan.starts), len(plan.stop), len(plan.keep)) == (1, 0, 2)


def test_replicas_of_an_earlier_revision_stay_earlier_ones(tmp_path: Path) -> None:
    """Only an environment value differs between what runs and what is wanted: the file, which has neither, must still tell them apart."""
    given = with_secrets()
    (model,) = given.model_deployments
    edited = {**model.spec, "runtime": {**model.spec["runtime"], "env": [{"name": "HF_TOKEN", "value": "another"}]}}
    given = replace(given, model_deployments=(replace(model, spec=edited),))
    inputs = prepared(given, WHEN)
    assert inputs.models["llm/m"].superseded, "the live cluster replaces them"
    found = archive.read(str(snapshot_file(tmp_path, given, WHEN)))
    assert found.observed is not None
    assert prepared(found.observed, WHEN).models["llm/m"].superseded == inputs.models["llm/m"].superseded


def test_a_plan_that_would_change_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """If leaving text out changed what the placer sees, there is a failure and not a wrong file."""
    whole = redact.custom

    def careless(state: CustomState) -> CustomState:
        done = whole(state)
        return replace(done, spec={**done.spec, "replicas": 1}) if state.kind == "ModelDeployment" else done

    monkeypatch.setattr(redact, "custom", careless)
    with pytest.raises(Failure, match="cannot be written") as caught:
        archive.write(with_secrets(), taken_at=WHEN, source="live", written_by="0", warm=None)
    assert "models" in caught.value.why


def test_what_is_written_is_read_back() -> None:
    """Every value of the demo, replicas and taints included; written twice, the bytes are the same."""
    observed, taken_at = demo.observed()
    assert decode(Observed, json.loads(json.dumps(encode(observed))), "observed") == observed
    texts = [archive.write(observed, taken_at=taken_at, source="s", written_by="0", warm=None) for _ in range(2)]
    assert texts[0] == texts[1]


def test_warm_prices_survive_the_file(tmp_path: Path) -> None:
    """What a plan published as binding rows comes back as the start of the next solve."""
    observed, taken_at = demo.observed()
    rows = [{"name": "limit/ppu-1", "slack": 0, "shadowPrice": "4.1"}, {"name": "bad"}, {"name": "x", "shadowPrice": "NaN"}]
    plan = b.custom(
        "PlacementPlan", "pplan-000001", {"assignments": []},
        status={"state": "Applied", "bindingConstraints": rows, "conditions": [{"type": "Applied", "status": "True", "message": SECRET}]},
    )  # fmt: skip
    plan = replace(plan, annotations={f"{naming.GROUP}/assignments-digest": "sha256:0"})
    observed = replace(observed, plans=(plan,))
    warm = warm_of(observed)
    assert warm is not None
    assert [(row.name, row.price) for row in warm.prices] == [("limit/ppu-1", 4.1)]
    path = tmp_path / "w.json"
    path.write_text(archive.write(observed, taken_at=taken_at, source="s", written_by="0", warm=warm), encoding="utf-8")
    assert archive.read(str(path)).warm == warm
    assert SECRET not in path.read_text(encoding="utf-8")


Edit = Callable[[dict[str, Any]], None]
BAD: dict[str, tuple[Edit, str]] = {
    "another version": (lambda body: body.update(version=99), "version: 99, this polyfleet reads 1"),
    "no version": (lambda body: body.pop("version"), "version: None"),
    "another kind": (lambda body: body.update(kind="Pod"), "kind: 'Pod', must be PolyfleetSnapshot"),
    "nothing observed": (lambda body: body.pop("observed"), "'observed' is missing"),
    "an unknown field": (lambda body: body["observed"].update(surprise=1), "observed: unknown field 'surprise'"),
    "a missing field": (lambda body: body["observed"]["nodes"][0].pop("taints"), "observed.nodes[0]: field 'taints' is missing"),
    "a wrong type": (lambda body: body["observed"]["nodes"][0].update(ready="yes"), "observed.nodes[0].ready: 'yes', must be bool"),
    "a list for an object": (lambda body: body["observed"]["nodes"][0].update(capacity=[]), "capacity: [], must be an object"),
    "a float for a count": (lambda body: body["observed"]["nodes"][0]["capacity"].update({"nvidia.com/gpu": 1.5}), "1.5, must be int"),
    "NaN": (
        lambda body: body["observed"]["nodes"][0]["capacity"].update({"nvidia.com/gpu": float("nan")}),
        "snapshot.observed.nodes[0].capacity.nvidia.com/gpu: nan, must be a finite number",
    ),
    "Infinity": (lambda body: body.update(warm={"prices": [{"price": float("inf")}]}), "snapshot.warm.prices[0].price: inf"),
    "warm of another shape": (lambda body: body.update(warm={"prices": 3}), "warm.prices: 3, must be a list"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_wrong_file_names_the_field_and_the_next_command(tmp_path: Path, name: str) -> None:
    edit, said = BAD[name]
    path = snapshot_file(tmp_path)
    body = json.loads(path.read_text(encoding="utf-8"))
    edit(body)
    path.write_text(json.dumps(body), encoding="utf-8")
    what, why, next_ = failed("plan", "--snapshot", str(path))
    assert what.endswith("is no usable snapshot")
    assert said in why
    assert next_ == "take it anew: polyfleet snapshot -o FILE"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1, column 1"),
        (b'{"kind": ', "line 1, column 10"),
        (b"[1, 2]", "kind: None"),
        (b"null", "kind: None"),
        (b'"text"', "kind: None"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"kind": "PlacementSnapshot", "version": 1}', "snapshot.version: 1 is not supported"),
        (b'{"apiVersion": "polyfleet.io/v1alpha1", "kind": "ModelDeployment"}', "objects go to -f"),
    ],
)
def test_what_is_no_snapshot_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(content)
    what, why, _ = failed("plan", "--snapshot", str(path))
    assert "snapshot" in what
    assert said in why


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    assert failed("plan", "--snapshot", str(tmp_path / "no"))[1] == "No such file or directory"
    assert "directory" in failed("plan", "--snapshot", str(tmp_path))[1]


def test_an_edited_derived_part_is_told_and_not_used(tmp_path: Path) -> None:
    """Somebody changes `placement` only: the plan is that of `observed`, and the output says so."""
    path = snapshot_file(tmp_path)
    before = json.loads(polyfleet("plan", "--snapshot", str(path), "-o", "json").out)
    body = json.loads(path.read_text(encoding="utf-8"))
    body["placement"]["snapshot"]["nodes"] = []
    path.write_text(json.dumps(body), encoding="utf-8")
    after = json.loads(polyfleet("plan", "--snapshot", str(path), "-o", "json").out)
    assert after["plan"] == before["plan"]
    assert before["notes"] == []
    assert "`observed` was used" in after["notes"][0]


def test_an_edited_cluster_is_planned_as_edited(tmp_path: Path) -> None:
    """A node of 16 empty PPUs more does not help, the pool's limit does: what-if by editing the file."""
    path = snapshot_file(tmp_path)
    body = json.loads(path.read_text(encoding="utf-8"))
    pool = next(item for item in body["observed"]["pools"] if item["name"] == "ppu-1")
    pool["spec"]["limits"]["devices"] = 6
    path.write_text(json.dumps(body), encoding="utf-8")
    done = polyfleet("plan", "--snapshot", str(path))
    assert done.code == 2
    assert "SHORTFALL" not in done.out


def test_a_bare_placement_snapshot_is_planned_and_takes_no_objects(tmp_path: Path) -> None:
    """What `placement.snapshot.to_json` writes, with names that no cluster would allow."""
    observed, taken_at = demo.observed()
    inputs = prepared(observed, taken_at)
    text = to_json(inputs.snapshot, inputs.demand).replace("llm/qwen3-32b", "团队/通义千问")
    path = tmp_path / "bare.json"
    path.write_text(text, encoding="utf-8")
    done = polyfleet("plan", "--snapshot", str(path))
    assert done.code == 3
    assert "SHORTFALL 1 团队/通义千问" in done.out
    what, why, next_ = failed("plan", "--snapshot", str(path), "-f", "examples/smol.yaml")
    assert "bare placement snapshot" in why
    assert next_.startswith("polyfleet snapshot")
    assert what.startswith("-f cannot")


def test_read_json_takes_what_json_has() -> None:
    assert read_json('{"a": [1, 2.5, null, true, "x"]}', "s") == {"a": [1, 2.5, None, True, "x"]}
    with pytest.raises(FormError, match=r"s\.a\[0\]: nan"):
        read_json('{"a": [NaN]}', "s")
