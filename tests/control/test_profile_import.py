"""Importing into a live profile: one write under the version that was read, nothing lost to a race, nothing half applied, whose it is."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.cli.program import call
from polyfleet.client import Client, load_configuration
from polyfleet.errors import Conflict, Invalid, NotFound
from polyfleet.profiledata.write import ATTEMPTS, MANAGER, write_throughput
from polyfleet.resources import HARDWARE_PROFILES, Resource

from hwprofiles.model import Throughput
from hwprofiles.shipped_profiles import SHIPPED
from tools.paths import ROOT

pytestmark = pytest.mark.control

NAME = "imported-into"
VLLM = {
    "date": "20261120-101500", "model_id": "served", "max_concurrency": 32, "duration": 400.0, "completed": 320, "failed": 0,
    "total_input_tokens": 1_120_000, "total_output_tokens": 320_000, "output_throughput": 800.0, "mean_ttft_ms": 900.0, "mean_itl_ms": 39.1,
}  # fmt: skip


@pytest.fixture
def live(kubectl: Any) -> Iterator[Any]:
    """The shipped H20 under a name of its own; without throughput entries."""
    crds = [argument for path in sorted((ROOT / "crds").glob("*.yaml")) for argument in ("-f", str(path))]
    kubectl("apply", "--server-side", "--force-conflicts", *crds, check=True)
    established = '--for=jsonpath={.status.conditions[?(@.type=="Established")].status}=True'
    kubectl("wait", established, "crd", "--all", "--timeout=60s", check=True)
    body = yaml.safe_load((SHIPPED / "nvidia-h20-96.yaml").read_text(encoding="utf-8"))
    body["metadata"]["name"] = NAME
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(body), check=True)
    yield kubectl
    kubectl("delete", "hwp", NAME, "--ignore-not-found", check=True)


def stored(kubectl: Any) -> dict[str, Any]:
    return dict(json.loads(kubectl("get", "hwp", NAME, "-o", "json", "--show-managed-fields", check=True).stdout))


def entry(**change: Any) -> Throughput:
    body = {
        "model": "Qwen/Qwen3-32B", "precision": "fp8", "engine": "vllm", "parallelism": {"tensor": 2}, "inputTokens": 3500,
        "outputTokens": 1000, "concurrency": 32, "outputTokensPerSecond": "800", "evidence": "Published", "source": "test",
        "date": "2026-11-20",
    }  # fmt: skip
    return Throughput.parse({**body, **change})


def polyfleet(kubeconfig: Path, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = call([*arguments, "--kubeconfig", str(kubeconfig)], out, err)
    return code, out.getvalue(), err.getvalue()


def test_apply_writes_once_and_owns_what_it_wrote(apiserver: Path, live: Any, tmp_path: Path) -> None:
    """The entry is in the cluster, its manager is ours (so an upgrade keeps it); a second run changes nothing, not even the version."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps(VLLM), encoding="utf-8")
    command = ("profile", "import", "--from", "vllm", str(path), "--profile", NAME, "--apply", "--today", "2026-11-28")
    said = ("--precision", "fp8", "--engine", "vllm", "--tensor", "2", "--model", "Qwen/Qwen3-32B")
    code, out, err = polyfleet(apiserver, *command, *said)
    assert (code, out.startswith("written: adds Qwen/Qwen3-32B fp8 on vllm")) == (0, True), err
    first = stored(live)
    assert [item["outputTokensPerSecond"] for item in first["spec"]["throughput"]] == ["800"]
    owners = [item["manager"] for item in first["metadata"]["managedFields"] if "f:throughput" in item["fieldsV1"].get("f:spec", {})]
    assert owners == [MANAGER]
    assert polyfleet(apiserver, *command, *said)[:2] == (0, "nothing: all of it is there already\n")
    assert stored(live)["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    code, out, _ = polyfleet(apiserver, "profile", "diff", f"live/{NAME}", "shipped/nvidia-h20-96")
    assert (code, "throughput[Qwen/Qwen3-32B fp8 vllm tp2 3500/1000 x32 Published]: 800 tok/s" in " ".join(out.split())) == (2, True)
    assert NAME in polyfleet(apiserver, "profile", "list")[1]


def test_a_patch_of_the_cluster_is_refused_where_somebody_wrote_meanwhile(apiserver: Path, live: Any, tmp_path: Path) -> None:
    """The printed patch names the version that it is based on: kubectl applies it once, and after another edit not at all."""
    path, patch = tmp_path / "run.json", tmp_path / "patch.yaml"
    path.write_text(json.dumps(VLLM), encoding="utf-8")
    said = ("--precision", "fp8", "--engine", "vllm", "--tensor", "2", "--model", "Qwen/Qwen3-32B", "--today", "2026-11-28")
    code, out, err = polyfleet(apiserver, "profile", "import", "--from", "vllm", str(path), "--profile", NAME, *said)
    assert (code, yaml.safe_load(out)["metadata"]) == (0, {"resourceVersion": stored(live)["metadata"]["resourceVersion"]})
    assert "kubectl patch" in err
    assert "warning" not in err
    patch.write_text(out, encoding="utf-8")
    command = ("patch", "hwp", NAME, "--type", "merge", "--patch-file", str(patch))
    live("label", "hwp", NAME, "edited=yes", check=True)
    late = live(*command)
    assert (late.returncode, "the object has been modified" in late.stderr) == (1, True), late.stderr
    assert "throughput" not in stored(live)["spec"]
    patch.write_text(polyfleet(apiserver, "profile", "import", "--from", "vllm", str(path), "--profile", NAME, *said)[1], encoding="utf-8")
    live(*command, check=True)
    assert [item["outputTokensPerSecond"] for item in stored(live)["spec"]["throughput"]] == ["800"]


def test_what_the_api_server_refuses_is_not_half_applied(apiserver: Path, live: Any) -> None:
    """Three devices are no legal size: the good entry beside it is not written either."""

    async def write() -> None:
        async with Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as client:
            await write_throughput(client, NAME, [entry(), entry(parallelism={"tensor": 3})])

    before = stored(live)
    with pytest.raises(Invalid, match=r"allocation\.sizes"):
        asyncio.run(write())
    assert stored(live) == before


def test_a_profile_that_does_not_exist_is_said(apiserver: Path, live: Any, tmp_path: Path) -> None:
    async def write() -> None:
        async with Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as client:
            await write_throughput(client, "nobody", [entry()])

    with pytest.raises(NotFound):
        asyncio.run(write())
    path = tmp_path / "run.json"
    path.write_text(json.dumps(VLLM), encoding="utf-8")
    said = ("--precision", "fp8", "--engine", "vllm", "--tensor", "2", "--model", "Qwen/Qwen3-32B")
    code, _, err = polyfleet(apiserver, "profile", "import", "--from", "vllm", str(path), "--profile", "imported-in", "--apply", *said)
    assert (code, f"repeat with {NAME}" in err) == (1, True)


class Racing(Client):
    """Somebody else writes the profile between our read and our write, `races` times."""

    races = 0

    async def get(self, resource: Resource, name: str, namespace: str = "") -> dict[str, Any]:
        found = await super().get(resource, name, namespace)
        if self.races:
            self.races -= 1
            body = {"spec": {"displayName": f"edited {self.races}", "throughput": [entry(concurrency=self.races + 1).dump_set()]}}
            await super().merge_patch(HARDWARE_PROFILES, name, body, manager="somebody")
        return found


@pytest.mark.parametrize(("races", "wins"), [(1, True), (ATTEMPTS - 1, True), (ATTEMPTS, False)])
def test_an_edit_between_read_and_write_is_never_lost(apiserver: Path, live: Any, races: int, wins: bool) -> None:
    """The last edit of the other one (concurrency 1) stands beside ours; after eight lost races nothing of ours is written."""

    async def write() -> None:
        async with Racing(await load_configuration({"KUBECONFIG": str(apiserver)})) as client:
            client.races = races
            await write_throughput(client, NAME, [entry()])

    if wins:
        asyncio.run(write())
    else:
        with pytest.raises(Conflict):
            asyncio.run(write())
    spec = stored(live)["spec"]
    assert spec["displayName"] == "edited 0"
    assert [item["concurrency"] for item in spec["throughput"]] == ([1, 32] if wins else [1])
