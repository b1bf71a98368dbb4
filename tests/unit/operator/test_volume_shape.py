"""Weights in a volume: who is read, what the reader answers, what is believed of it, and when a reader comes and goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polyfleet import naming, volume_pod, volume_reader, volume_shape
from polyfleet.api import ModelDeploymentSpec
from polyfleet.state import ContainerState, CustomState, Observed, PodState

from hwprofiles.config_json import shape_from_config
from hwprofiles.shape import Shape
from tests.unit.operator import builders

URI = "pvc://models/glm-9b"
IMAGE = "registry.example/polyfleet@sha256:0"
CONFIG: dict[str, Any] = {
    "model_type": "glm4",
    "num_hidden_layers": 40,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 13696,
    "vocab_size": 151552,
    "max_position_embeddings": 32768,
    "attention_bias": True,
    "torch_dtype": "bfloat16",
}
SHAPE, PRECISION = shape_from_config(CONFIG)


def spec(**fields: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.parse({"model": {"uri": URI}, **fields})


def state(name: str = "glm") -> CustomState:
    return builders.model(name, {"model": {"uri": URI}})


def reader(text: str, *, phase: str = "Succeeded", owner: str = "", name: str = "", **more: Any) -> PodState:
    ended = ContainerState(
        volume_shape.CONTAINER, "", False, 0, "terminated" if phase in ("Succeeded", "Failed") else "running", "Completed", text
    )
    return builders.pod(
        name or volume_shape.reader_name("glm", URI),
        namespace="llm",
        owner=owner or state().uid,
        phase=phase,
        labels={naming.DEPLOYMENT: volume_shape.READER},
        containers=[ended],
        **more,
    )


def seen(*pods: PodState) -> Observed:
    return builders.observed(models=[state()], pods=pods)


# ---- which weights are read


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (URI,)),
        ({"model": {"uri": "hf://nobody/private-9b"}}, ()),
        ({"model": {"uri": URI, "shape": {"paramsB": "9.4"}}}, ()),
        ({"model": {"uri": URI, "footprint": "24Gi"}}, ()),
        ({"runtime": {"parallelism": {"tensor": 2}}}, ()),
        ({"runtime": {"parallelism": {"data": 2}}}, (URI,)),
        ({"model": {"uri": "pvc://Qwen/Qwen3-32B"}}, ()),  # a claim and a path that together are a name of the catalogue
        ({"model": {"uri": "pvc://models/../../etc"}}, ()),
        (
            {"variants": [{"name": "a", "match": {"vendors": ["huawei"]}, "model": {"uri": "pvc://models/glm-9b-w8a8"}}]},
            (URI, "pvc://models/glm-9b-w8a8"),
        ),
        (
            {"variants": [{"name": "a", "match": {"vendors": ["huawei"]}, "model": {"uri": "pvc://models/w8", "footprint": "12Gi"}}]},
            (URI,),
        ),
        (
            {
                "model": {"uri": "hf://Qwen/Qwen3-8B"},
                "variants": [{"name": "a", "match": {"vendors": ["huawei"]}, "model": {"uri": "pvc://m/x"}}],
            },
            ("pvc://m/x",),
        ),
    ],
)
def test_only_what_nothing_else_tells(fields: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert volume_shape.wanted(spec(**fields)) == expected


# ---- the answer


def test_the_answer_comes_back_whole_and_is_small() -> None:
    text = volume_shape.answer(SHAPE, PRECISION)
    found = volume_shape.understood(text)
    assert found is not None
    assert (found.shape, found.precision) == (SHAPE, "bf16")
    assert len(text) < 500


def test_a_refusal_comes_back_as_words() -> None:
    found = volume_shape.understood(volume_shape.refusal("x" * 9_000))
    assert found is not None
    assert found.shape is None
    assert found.message == "x" * 1_000


GOOD = json.loads(volume_shape.answer(SHAPE, PRECISION))


@pytest.mark.parametrize(
    "spoilt",
    [
        {"format": 2},
        {"precision": 7},
        {"precision": "bf16; rm"},
        {"shape": None},
        {"shape": {"layers": 40}},
        {"shape": {**GOOD["shape"], "layers": 10**9}},
        {"shape": {**GOOD["shape"], "layers": True}},
        {"shape": {**GOOD["shape"], "params_b": -1}},
        {"shape": {**GOOD["shape"], "params_b": 1e300}},
        {"shape": {**GOOD["shape"], "active_params_b": GOOD["shape"]["params_b"] * 2}},
        {"shape": {**GOOD["shape"], "price": 1}},
    ],
)
def test_a_forged_answer_is_not_believed(spoilt: dict[str, Any]) -> None:
    assert volume_shape.understood(json.dumps({**GOOD, **spoilt})) is None


@given(st.text(max_size=200) | st.recursive(st.none() | st.floats() | st.integers() | st.text(max_size=5), st.lists).map(str))
def test_no_text_makes_it_fail(text: str) -> None:
    assert volume_shape.understood(text) is None


@pytest.mark.parametrize(
    "text", ["", "[" * 3_000, "NaN", "{}", '{"format": 1}', '{"format":1,"shape":{"params_b":NaN,"active_params_b":NaN}}']
)
def test_odd_texts(text: str) -> None:
    assert volume_shape.understood(text) is None


# ---- what is known


def test_a_finished_reader_is_the_stored_answer() -> None:
    found = volume_shape.readings(volume_shape.readers(seen(reader(volume_shape.answer(SHAPE, PRECISION)))), state(), spec())
    assert found[URI].shape == SHAPE
    assert found[URI].precision == "bf16"
    assert URI in found[URI].message


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        ([reader("", phase="Pending")], "Pending"),
        ([reader("", phase="Running")], "Running"),
        ([reader(volume_shape.refusal("config.json: num_hidden_layers is -1"))], "num_hidden_layers is -1"),
        ([reader("", phase="Failed", reason="DeadlineExceeded")], "DeadlineExceeded"),
        ([reader("garbage")], "no answer"),
    ],
)
def test_why_there_is_no_shape_yet(pods: list[PodState], words: str) -> None:
    found = volume_shape.known(seen(*pods), state(), URI)
    assert found is not None
    assert found.shape is None
    assert words in found.message
    if pods[0].finished:
        assert f"kubectl -n llm delete pod {pods[0].name}" in found.message


def test_nobody_was_asked() -> None:
    assert volume_shape.known(seen(), state(), URI) is None


@pytest.mark.parametrize(
    "stranger",
    [
        reader(volume_shape.answer(SHAPE, PRECISION), owner="uid-of-an-earlier-model"),
        reader(volume_shape.answer(SHAPE, PRECISION), name="other"),
        reader(volume_shape.answer(SHAPE, PRECISION), deleting=True),
    ],
)
def test_pods_of_others_are_not_asked(stranger: PodState) -> None:
    assert volume_shape.known(seen(stranger), state(), URI) is None


# ---- readers come and go


def test_one_reader_per_volume_path_until_it_is_there() -> None:
    applies, deletes = volume_pod.acts(seen(), [(state(), spec())], IMAGE)
    assert [act.manifest["metadata"]["name"] for act in applies] == [volume_shape.reader_name("glm", URI)]
    assert deletes == ()
    for phase in ("Pending", "Succeeded", "Failed"):
        assert volume_pod.acts(seen(reader("", phase=phase)), [(state(), spec())], IMAGE) == ((), ())


def test_without_an_image_nothing_is_created() -> None:
    assert volume_pod.acts(seen(), [(state(), spec())], "") == ((), ())


def test_a_reader_goes_when_the_spec_tells_more_or_the_weights_change() -> None:
    pod = reader(volume_shape.answer(SHAPE, PRECISION))
    told = spec(model={"uri": URI, "footprint": "24Gi"})
    applies, deletes = volume_pod.acts(seen(pod), [(state(), told)], IMAGE)
    assert applies == ()
    assert [(act.kind, act.name, act.uid) for act in deletes] == [("Pod", pod.name, pod.uid)]
    applies, deletes = volume_pod.acts(seen(pod), [(state(), spec(model={"uri": "pvc://models/other"}))], IMAGE)
    assert len(applies) == len(deletes) == 1


def test_a_name_that_somebody_has_is_left_alone() -> None:
    foreign = reader("", owner="somebody")
    assert volume_pod.acts(seen(foreign), [(state(), spec())], IMAGE) == ((), ())


def test_the_pod_is_restricted_bounded_and_reads_only() -> None:
    """Pod Security `restricted`, no token, no device, no write to the volume, an end; and no Service of a model selects it."""
    pod = volume_pod.manifest(state(), spec(), URI, IMAGE)
    body, container = pod["spec"], pod["spec"]["containers"][0]
    assert body["volumes"] == [{"name": "model", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}]
    assert container["volumeMounts"] == [{"name": "model", "mountPath": "/models", "readOnly": True}]
    assert container["command"][-1] == "/models/glm-9b"
    assert container["image"] == IMAGE
    assert body["restartPolicy"] == "Never"
    assert body["activeDeadlineSeconds"] == 300
    assert body["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert pod["metadata"]["ownerReferences"][0]["uid"] == state().uid
    assert pod["metadata"]["labels"][naming.DEPLOYMENT] == volume_shape.READER != naming.label_value(volume_shape.READER.lower())
    assert len(pod["metadata"]["name"]) <= 63


def test_where_the_volume_can_be_mounted_comes_from_the_pod_template() -> None:
    template = {"spec": {"nodeSelector": {"disk": "local"}, "tolerations": [{"operator": "Exists"}], "hostNetwork": True}}
    body = volume_pod.manifest(state(), spec(podTemplate=template), URI, IMAGE)["spec"]
    assert body["nodeSelector"] == {"disk": "local"}
    assert body["tolerations"] == [{"operator": "Exists"}]
    assert "hostNetwork" not in body


# ---- inside the pod


def folder(path: Path, **files: object) -> Path:
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


def told(text: str) -> tuple[Shape | None, str | None, str]:
    found = volume_shape.understood(text)
    assert found is not None
    return found.shape, found.precision, found.message


def test_the_reader_answers_with_the_shape(tmp_path: Path) -> None:
    assert told(volume_reader.read(folder(tmp_path, config=CONFIG))) == (SHAPE, "bf16", "")


@pytest.mark.parametrize(
    ("name", "content", "precision"),
    [
        ("hf_quant_config", {"quantization": {"quant_algo": "NVFP4"}}, "fp4"),
        ("quant_model_description", {"model_quant_type": "W8A8_DYNAMIC", "model.layers.0.x": "W8A8"}, "w8a8"),
        ("hf_quant_config", {"quantization": 7}, "bf16"),
        ("quant_model_description", [1], "bf16"),
    ],
)
def test_a_format_beside_the_file_counts(tmp_path: Path, name: str, content: object, precision: str) -> None:
    assert told(volume_reader.read(folder(tmp_path, config=CONFIG, **{name: content})))[1] == precision


def test_what_cannot_be_read_is_an_answer_too(tmp_path: Path) -> None:
    assert "No such file" in told(volume_reader.read(tmp_path))[2]
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    assert "not JSON" in told(volume_reader.read(tmp_path))[2]
    folder(tmp_path, config={**CONFIG, "num_hidden_layers": -1})
    assert "num_hidden_layers is -1" in told(volume_reader.read(tmp_path))[2]
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(8 << 20)
    assert "more than" in told(volume_reader.read(tmp_path))[2]


def test_as_the_pod_runs_it(tmp_path: Path) -> None:
    message = tmp_path / "message"
    command = [sys.executable, *volume_pod.manifest(state(), spec(), URI, IMAGE)["spec"]["containers"][0]["command"][1:3]]
    done = subprocess.run([*command, str(folder(tmp_path, config=CONFIG)), str(message)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert told(message.read_text(encoding="utf-8"))[0] == SHAPE
