"""`polyfleet model list | show`: what it prints can be pasted, and what it cannot read it says in three lines."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from polyfleet.api import ModelDeploymentSpec
from polyfleet.cli.model import command as model_command
from polyfleet.cli.model import terms as model_terms

from hwprofiles import catalogue
from hwprofiles.config_json import shape_from_config
from tests.unit.cli.lib import failed, polyfleet

CONFIG = {
    "model_type": "qwen3",
    "num_hidden_layers": 64,
    "hidden_size": 5120,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 25600,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}


def test_kinds_are_those_of_the_catalogue() -> None:
    assert model_command.KINDS == catalogue.KINDS


def test_list_has_a_line_per_model_and_cuts_at_the_edge() -> None:
    done = polyfleet("model", "list")
    own = [entry for entry in catalogue.entries() if entry.same_as is None]
    assert done.code == 0
    assert done.lines[0] == f"{len(own)} models"
    assert len(done.lines) == len(own) + 3
    assert max(map(len, done.lines)) <= 100
    assert len(polyfleet("model", "list", "--names").lines) == len(catalogue.entries()) + 3


def test_words_and_kind_narrow_the_list() -> None:
    assert polyfleet("model", "list", "QWEN3", "next").lines[0] == "1 model"
    found = json.loads(polyfleet("model", "list", "--kind", "Embedding", "-o", "json").out)["models"]
    assert {item["kind"] for item in found} == {"Embedding"}
    what, why, after = failed("model", "list", "qwen3-33b")
    assert "qwen3-33b" in what
    assert "Qwen/Qwen3-32B" in why
    assert "--config FILE" in after


@pytest.mark.parametrize("name", ["Qwen/Qwen3-32B", "hf://Qwen/Qwen3-32B", "qwen/QWEN3-32b"])
def test_show_prints_what_a_model_deployment_takes(name: str) -> None:
    """The block is a part of spec.model as it stands: the API's own model accepts it."""
    done = polyfleet("model", "show", name)
    assert done.code == 0
    pasted = yaml.safe_load(done.out.partition("\n\n")[2])["spec"]["model"]
    spec = ModelDeploymentSpec.parse({"model": {"uri": "pvc://models/x", **pasted}})
    assert spec.model.shape is not None
    assert (spec.model.shape.params_b, spec.model.shape.layers, spec.model.shape.kv_heads) == ("32.76", 64, 8)
    assert spec.model.precision == "bf16"


def test_every_shape_can_be_pasted() -> None:
    for entry in catalogue.entries():
        model = {"uri": "pvc://models/x", "precision": entry.precision, "shape": model_terms.block(entry.shape)}
        shape = ModelDeploymentSpec.parse({"model": model}).model.shape
        assert shape is not None
        assert shape.layers == entry.shape.layers


def test_latent_width_is_shown_without_its_rotary_part() -> None:
    """DeepSeek publishes kv_lora_rank 512; the cache holds 64 numbers more."""
    body = yaml.safe_load(polyfleet("model", "show", "deepseek-ai/DeepSeek-V3", "-o", "yaml").out)
    assert body["spec"]["model"]["shape"]["kvLora"] == 512
    assert body["shape"]["kvLora"] == 576
    assert body["kvBytesPerToken"] == 70_272


def test_a_config_is_read_from_a_file_a_folder_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(CONFIG)))
    found = [json.loads(polyfleet("model", "show", "--config", given, "-o", "json").out) for given in (str(path), str(tmp_path), "-")]
    assert found[0] == found[1] == found[2]
    assert found[0]["spec"]["model"]["shape"]["layers"] == shape_from_config(CONFIG)[0].layers == 64


def test_a_window_is_said_to_be_lost() -> None:
    assert "12 layers keep only 128 tokens" in polyfleet("model", "show", "openai/gpt-oss-20b").out


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert failed("model", "show", "--config", str(path))[1:] == ("No such file or directory", f"ls -l {tmp_path}")
    path.write_text("[]", encoding="utf-8")
    assert failed("model", "show", "--config", str(path))[1].startswith("config.json is []; allowed: a JSON object")
    path.write_text(json.dumps({**CONFIG, "num_hidden_layers": 10**9}), encoding="utf-8")
    what, why, after = failed("model", "show", "--config", str(path))
    assert what.endswith("gives no shape")
    assert "num_hidden_layers is 1000000000" in why
    assert "1 to 1000" in why
    assert str(path) in after
    assert "Qwen/Qwen3-32B" in failed("model", "show", "Qwen/Qwen3-23B")[1]


@pytest.mark.parametrize("arguments", [[], ["Qwen/Qwen3-32B", "--config", "x"]])
def test_exactly_one_source(arguments: list[str]) -> None:
    assert "--config" in failed("model", "show", *arguments, code=64)[0]
