"""`polyfleet profile import` without a cluster: what goes into the patch, what is left out, what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.lib import Done, failed, polyfleet
from tests.unit.cli.test_profile import TODAY, shipped

VLLM = {
    "date": "20261120-101500", "model_id": "served", "max_concurrency": 32, "duration": 400.0, "completed": 320, "failed": 0,
    "total_input_tokens": 1_120_000, "total_output_tokens": 320_000, "output_throughput": 800.0, "mean_ttft_ms": 900.0, "mean_itl_ms": 39.1,
}  # fmt: skip
SAID = ("--precision", "fp8", "--engine", "vllm", "--tensor", "2", "--model", "Qwen/Qwen3-32B")


def imported(folder: Path, body: object = VLLM, *more: str, said: tuple[str, ...] = SAID) -> Done:
    path = folder / "run.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
    return polyfleet("profile", "import", "--from", "vllm", str(path), "--profile", "nvidia-h20-96", "--shipped", *said, *TODAY, *more)


def test_an_import_prints_a_patch_and_says_what_it_changes(tmp_path: Path) -> None:
    """The patch alone goes to standard output. 800 of the 1645 tokens/s that two H20 allow at 32 in flight: between 0.1 and 1."""
    done = imported(tmp_path)
    (entry,) = yaml.safe_load(done.out)["spec"]["throughput"]
    assert (done.code, entry["outputTokensPerSecond"], entry["evidence"], entry["date"]) == (0, "800", "Published", "2026-11-20")
    assert done.err.startswith("adds Qwen/Qwen3-32B fp8 on vllm, tensor 2, 3500 in, 1000 out, 32 at once: 800 tok/s, Published")
    assert json.loads(imported(tmp_path, VLLM, "-o", "json").out) == yaml.safe_load(done.out)


def test_a_patch_carries_the_whole_list(tmp_path: Path) -> None:
    """The list is atomic: what the profile has already must be in it."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**VLLM, "output_throughput": 1400.0}), encoding="utf-8")
    said = ("--profile", "nvidia-h100-sxm", "--shipped", *SAID, *TODAY)
    done = polyfleet("profile", "import", "--from", "vllm", str(path), *said)
    before = shipped("nvidia-h100-sxm")["spec"]["throughput"]
    assert yaml.safe_load(done.out)["spec"]["throughput"][:-1] == before


@pytest.mark.parametrize("where", [("--shipped",), ("--snapshot", "demo")])
def test_a_patch_that_is_not_based_on_the_cluster_says_what_it_would_delete(tmp_path: Path, where: tuple[str, ...]) -> None:
    """A merge patch has the whole list, so entries that only the cluster has would be gone; no version is claimed either."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**VLLM, "output_throughput": 1400.0}), encoding="utf-8")
    done = polyfleet("profile", "import", "--from", "vllm", str(path), "--profile", "nvidia-h100-sxm", *where, *SAID, *TODAY)
    said = " ".join(done.err.split())
    assert done.code == 0
    assert f"warning: the patch replaces the whole list spec.throughput and is based on {where[-1].removeprefix('--')}" in said
    assert f"next: repeat without {' '.join(where)} for a patch that is based on the cluster" in said
    assert "kubectl patch" not in said
    assert set(yaml.safe_load(done.out)) == {"spec"}


def test_an_import_in_a_format_that_nobody_knows_asks(tmp_path: Path) -> None:
    """fp9 is imported as it is said, with the question; fp8 without one."""
    odd = tuple("fp9" if word == "fp8" else word for word in SAID)
    assert "warning: precision fp9: bytes of fp9 unknown, 2 assumed" in " ".join(imported(tmp_path, VLLM, said=odd).err.split())
    assert "did you mean" not in imported(tmp_path, VLLM).err


def test_a_faulty_entry_is_shown_and_left_out(tmp_path: Path) -> None:
    """80,000 tokens/s is no output rate of two H20. Alone it is an error; beside a good one the rest is taken and the code is 3."""
    wrong = {**VLLM, "output_throughput": 80_000.0, "max_concurrency": 48}
    what, why, _ = failed_import(tmp_path, wrong)
    assert (what, why) == ("nothing was imported", "1 entry fails the checks (above)")
    both = imported(tmp_path, json.dumps(VLLM) + "\n" + json.dumps(wrong))
    assert (both.code, len(yaml.safe_load(both.out)["spec"]["throughput"]), "RooflineBroken" in both.err) == (3, 1, True)
    kept = imported(tmp_path, wrong, "--keep-faulty")
    assert (kept.code, len(yaml.safe_load(kept.out)["spec"]["throughput"]), "RooflineBroken" in kept.err) == (0, 1, True)


def failed_import(folder: Path, body: object) -> tuple[str, str, str]:
    done = imported(folder, body)
    assert (done.code, done.out) == (1, ""), done
    parts = " ".join(done.err.split()).split("error: ")[1]
    what, rest = parts.split(" why: ")
    why, next_ = rest.split(" next: ")
    return what, why, next_


def test_a_device_that_would_beat_a_better_one_is_flagged(tmp_path: Path) -> None:
    """Within its own roofline, yet three times what the H200 (more compute, bandwidth and memory) does at this load."""
    path = tmp_path / "run.json"
    path.write_text(
        json.dumps({**VLLM, "max_concurrency": 112, "total_output_tokens": 480_000, "output_throughput": 5000.0}), encoding="utf-8"
    )
    said = ("--profile", "nvidia-h100-sxm", "--shipped", *SAID, *TODAY)
    done = polyfleet("profile", "import", "--from", "vllm", str(path), *said)
    assert "puts hwp/nvidia-h200-sxm" in done.err
    assert "NotMonotone" in done.err


def test_malformed_files_write_nothing(tmp_path: Path) -> None:
    assert "the file ends early" in failed_import(tmp_path, json.dumps(VLLM)[:120])[1]
    assert failed_import(tmp_path, {**VLLM, "output_throughput": -1})[0].endswith("field output_throughput")
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(100 << 20)
    why = failed("profile", "import", "--from", "vllm", str(large), "--profile", "nvidia-l20", "--shipped", *SAID)[1]
    assert why == "it has 100 MiB, at most 64 MiB"


def test_a_flag_is_asked_for_where_the_file_is_silent(tmp_path: Path) -> None:
    done = imported(tmp_path, VLLM, said=("--model", "m", "--engine", "vllm", "--precision", "fp8"))
    assert (done.code, "add --tensor N" in done.err) == (1, True)


def test_wva_prices_become_a_cost_with_its_origin(tmp_path: Path) -> None:
    """280 cents are 2.80; the old provenance of the price is replaced."""
    path = tmp_path / "costs.yaml"
    data = {"A100": json.dumps({"device": "NVIDIA-A100-SXM4-80GB", "cost": "280.00"}), "H100": json.dumps({"device": "x", "cost": "500"})}
    path.write_text(yaml.safe_dump({"kind": "ConfigMap", "metadata": {"name": "accelerator-unit-costs"}, "data": data}), encoding="utf-8")
    command = ("profile", "import", "--from", "wva", str(path), "--profile", "nvidia-a100-sxm-80", "--shipped", *TODAY)
    done = polyfleet(*command, "--accelerator", "A100", "--date", "2026-11-20")
    spec = yaml.safe_load(done.out)["spec"]
    assert spec["cost"]["perDeviceHour"] == "2.8"
    assert [row["source"] for row in spec["provenance"] if "cost" in row["fields"]] == [
        "WVA accelerator-unit-costs file costs.yaml; A100, NVIDIA-A100-SXM4-80GB"
    ]
    assert set(spec) == {"cost", "provenance"}
    assert "add --date" in polyfleet(*command, "--accelerator", "A100").err
