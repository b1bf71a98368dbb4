"""`polyfleet explain`: outputs that somebody has read, names that are found or offered, why-not with numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from polyfleet.cli import demo, origins
from polyfleet.cli.fleet import prepared
from polyfleet.cli.text import cells

from tests.unit.cli.lib import failed, golden, polyfleet, snapshot_file

DEMO = ("--snapshot", "demo")


def test_golden() -> None:
    done = polyfleet("explain", *DEMO, "mdep/qwen3-32b")
    assert (done.code, done.err) == (3, "")
    assert max(map(cells, done.lines)) <= 100
    golden("explain-qwen3-32b.txt", done.out)


def test_golden_of_a_model_that_lacks_nothing() -> None:
    done = polyfleet("explain", *DEMO, "llama-70b")
    assert done.code == 0
    golden("explain-llama-70b.txt", done.out)


@pytest.mark.parametrize("about", ["nvidia-h100-sxm", "h100-a", "ppu-1", "nvidia-l20", "amd-mi300x"])
def test_golden_why_not(about: str) -> None:
    done = polyfleet("explain", *DEMO, "mdep/qwen3-32b", "--why-not", about)
    assert done.code == 3
    golden(f"why-not-{about}.txt", done.out)


def test_why_not_has_the_numbers_of_the_fleet() -> None:
    """By hand: h100-01 has 8, this model holds 3 x 2, a notebook 1, so 1 is free; one more replica costs 2 x 5.00."""
    done = polyfleet("explain", *DEMO, "qwen3-32b", "--why-not", "nvidia-h100-sxm")
    assert "need 2 on one node, largest free 1" in done.out
    assert "llm/qwen3-32b 6, lab/notebook-7 1" in done.out
    assert "cost +10.00 /h, shortfall 1→0" in " ".join(done.out.split())
    same = polyfleet("explain", *DEMO, "qwen3-32b", "--why-not", "hwp/nvidia-h100-sxm")
    assert same.out == done.out


def test_why_not_of_a_model_that_lacks_nothing_is_the_money() -> None:
    """llama-70b takes 4 devices on either: 4 x 5.00 - 4 x 2.20 = 11.2 more."""
    done = polyfleet("explain", *DEMO, "llama-70b", "--why-not", "nvidia-h100-sxm")
    assert done.code == 0
    assert "CostsMore: costs 11.2 more per hour and replica" in done.lines[0]


@pytest.mark.parametrize("given", ["qwen3-32b", "mdep/qwen3-32b", "mdep/llm/qwen3-32b", "llm/qwen3-32b", "ModelDeployment/qwen3-32b"])
def test_a_model_is_found_by_every_way_of_writing_it(given: str) -> None:
    assert polyfleet("explain", *DEMO, given).lines[0].startswith("llm/qwen3-32b: 7 of 8 replicas, 61.20 /h")


def test_an_unknown_model_offers_the_nearest() -> None:
    what, why, next_ = failed("explain", *DEMO, "mdep/qwen-32b")
    assert what == "no ModelDeployment qwen-32b"
    assert why == "did you mean llm/qwen3-32b?"
    assert next_ == "polyfleet explain mdep/llm/qwen3-32b --snapshot demo"
    assert failed("explain", *DEMO, "zzzzzz")[1] == "the fleet has llm/llama-70b, llm/qwen3-32b, search/embed"
    assert failed("explain", *DEMO, "embed", "-n", "llm")[0] == "no ModelDeployment embed in namespace llm"


def test_a_name_in_two_namespaces_asks_which(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    head = {"apiVersion": "polyfleet.io/v1alpha1", "kind": "ModelDeployment"}
    path.write_text(
        yaml.safe_dump({**head, "metadata": {"name": "embed", "namespace": "a"}, "spec": {"model": {"uri": "hf://Qwen/Qwen3-8B"}}})
    )
    what, why, next_ = failed("explain", *DEMO, "-f", str(path), "embed")
    assert (what, why) == ("embed is the name of 2 models", "in namespaces a, search")
    assert next_ == "polyfleet explain mdep/embed -n a --snapshot demo"
    assert polyfleet("explain", *DEMO, "-f", str(path), "embed", "-n", "search").code == 0


@pytest.mark.parametrize("given", ["apool/x", "a/b/c", "/", "mdep/", "mdep/a/b/c"])
def test_what_is_no_model_is_a_usage_error(given: str) -> None:
    failed("explain", *DEMO, given, code=64)


def test_two_namespaces_contradict() -> None:
    assert "two namespaces" in failed("explain", *DEMO, "llm/qwen3-32b", "-n", "search", code=64)[0]


def test_an_unknown_profile_offers_the_nearest() -> None:
    what, why, next_ = failed("explain", *DEMO, "qwen3-32b", "--why-not", "nvidia-h100")
    assert what == "no profile or pool named nvidia-h100"
    assert why.startswith("did you mean nvidia-h100-sxm")
    assert next_ == "polyfleet explain mdep/llm/qwen3-32b --why-not nvidia-h100-sxm --snapshot demo"


def test_every_line_of_the_configuration_has_its_origin() -> None:
    """Profile, spec and variant each give arguments and environment: all are there, in the order of merging, and no value is shown."""
    observed, taken_at = demo.observed()
    spec = {
        "model": {"uri": "hf://Qwen/Qwen3-8B", "secretName": "s"},
        "runtime": {"args": ["--b"], "env": [{"name": "SHARED", "value": "hidden-1"}, {"name": "SPEC", "value": "hidden-2"}]},
        "variants": [
            {
                "name": "v",
                "match": {"profiles": ["nvidia-h100-sxm"]},
                "model": {"precision": "fp8"},
                "runtime": {"image": "r/own:1", "args": ["--c", "--api-key=hidden-3"], "env": [{"name": "SHARED", "value": "hidden-4"}]},
            }
        ],
    }
    profiles = [
        replace(p, spec={**p.spec, "engines": {"vllm": {"image": "r/p:1", "args": ["--a"], "env": [{"name": "P", "value": "hidden-5"}]}}})
        if p.name == "nvidia-h100-sxm"
        else p
        for p in observed.profiles
    ]
    models = [replace(m, spec=spec) if m.name == "embed" else m for m in observed.model_deployments]
    inputs = prepared(replace(observed, profiles=tuple(profiles), model_deployments=tuple(models)), taken_at)
    view = inputs.models["search/embed"]
    assert view.spec is not None
    option = next(item for item in view.resolution.options if item.profile == "nvidia-h100-sxm")
    found = origins.of(view.spec, option)
    args = [(line.value, line.origin) for line in found if line.field == "args" and line.origin != origins.OWN]
    assert args == [
        ("--a", "hwp/nvidia-h100-sxm engines.vllm.args"),
        ("--b", "spec.runtime.args"),
        ("--c", "variants[v].runtime.args"),
        ("--api-key=(left out)", "variants[v].runtime.args"),
    ]
    env = {line.value.split()[0]: line.origin for line in found if line.field == "env"}
    assert env["P"] == "hwp/nvidia-h100-sxm engines.vllm.env"
    assert env["SPEC"] == "spec.runtime.env"
    assert env["SHARED"] == "variants[v].runtime.env", "the last one wins"
    one = {line.field: (line.value, line.origin) for line in found}
    assert one["image"] == ("r/own:1", "variants[v].runtime.image")
    assert one["precision"] == ("fp8", "variants[v].model.precision")
    assert one["model"] == ("hf://Qwen/Qwen3-8B", "spec.model.uri")
    assert not any("hidden" in line.value for line in found)


def test_explain_works_on_a_file_and_says_the_same(tmp_path: Path) -> None:
    path = str(snapshot_file(tmp_path))
    file, live = (polyfleet("explain", "--snapshot", where, "qwen3-32b") for where in (path, "demo"))
    assert file.code == live.code == 3
    assert file.lines[1:] == live.lines[1:]
