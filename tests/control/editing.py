"""What the scenarios of edited profiles share: the release, a started operator, edits as a user makes them, and how to read the result."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from polyfleet import main
from polyfleet.config import Config
from polyfleet.state import CustomState, Observed

from sandbox import fleet, install
from tests.control import cycling
from tests.control.cycling import Kubectl, Turning, operator, ready, replicas, states

NAMESPACE = "editing"
A, B, P = "edit-a", "edit-b", "edit-p"  # eight, eight and sixteen devices; B is tainted
NVIDIA, PPU = "sandbox-nvidia", "sandbox-ppu"
TAINT = fleet.Taint("gpu", "dedicated", "NoSchedule")
V1, V2 = "sandbox.polyfleet.io/engine:dev", "sandbox.polyfleet.io/engine:v2"
ON_NVIDIA = {"placement": {"profiles": [NVIDIA]}}
OWN = "modeldeployments,placementplans,fleetpolicies,acceleratorpools,hardwareprofiles"


def model(name: str, **spec: Any) -> dict[str, Any]:
    found = cycling.model(name, **spec)
    return {**found, "metadata": {**found["metadata"], "namespace": NAMESPACE}}


def ppu_node(name: str) -> fleet.Node:
    labels = {"aliyun.accelerator/xpu_type": "ppu", "aliyun.accelerator/ppu_name": "PPU-ZW810E", "polyfleet.io/sandbox": "true"}
    return fleet.Node(name, labels, (), fleet.Devices("alibabacloud.com/ppu", 16, "ppu"))


def helm(kubeconfig: Path, chart: Path, *values: str) -> None:
    """`helm upgrade --install` of this chart. The CRDs are there already, the pod finds no node."""
    install.helm(
        kubeconfig, "upgrade", "--install", install.RELEASE, str(chart), "--namespace", install.NAMESPACE, "--create-namespace",
        "--set", "crds.install=false,profiles.builtin={sandbox}", "--set-string", r"operator.nodeSelector.no\.such/node=", *values,
    )  # fmt: skip


@asynccontextmanager
async def started(kubeconfig: Path, hand: Kubectl, folder: Path) -> AsyncIterator[Turning]:
    """An operator that has just come up: seeded with what the release's ConfigMap and Deployment say now."""
    mounted = folder / "profiles"
    shutil.rmtree(mounted, ignore_errors=True)
    mounted.mkdir()
    where = ("-n", install.NAMESPACE, "-o", "json")
    files = json.loads(hand("get", "configmap", f"{install.RELEASE}-profiles", *where, check=True).stdout)["data"]
    for name, text in files.items():
        (mounted / name).write_text(text, encoding="utf-8")
    pod = json.loads(hand("get", "deployment", install.RELEASE, *where, check=True).stdout)["spec"]["template"]["spec"]
    env = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    config = Config(profiles_dir=mounted, overwrite_edited=env["POLYFLEET_OVERWRITE_EDITED"] == "true")
    async with operator(kubeconfig, hand, folder=folder) as op:
        assert await main.seed_objects(config, op.client, op.cycle)
        assert not op.cycle.seeded.failed
        yield op


async def edit(op: Turning, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str) -> None:
    """`kubectl edit hwp/NAME`, with sed in place of a person's editor."""
    monkeypatch.setenv("KUBE_EDITOR", f"sed -i s#{old}#{new}#")
    assert "edited" in await op.hand("edit", f"hwp/{name}")
    await caught_up(op, name)


async def patch(op: Turning, name: str, body: Any, kind: str = "merge") -> None:
    await op.hand("patch", "hwp", name, f"--type={kind}", "-p", json.dumps(body))
    await caught_up(op, name)


async def caught_up(op: Turning, name: str) -> None:
    await op.seen("HardwareProfile", json.loads(await op.hand("get", "hwp", name, "-o", "json"))["metadata"])


def profile(seen: Observed, name: str) -> CustomState:
    return next(state for state in seen.profiles if state.name == name)


def row(state: CustomState, kind: str) -> tuple[str, str, str]:
    found = next((item for item in state.status.get("conditions") or () if item["type"] == kind), {})
    return str(found.get("status", "")), str(found.get("reason", "")), str(found.get("message", ""))


async def told(op: Turning, reason: str, name: str) -> list[str]:
    """The notes of all Events of one reason about one object, whoever of its name."""
    found = json.loads(await op.hand("get", "events", "-A", f"--field-selector=reason={reason}", "-o", "json"))["items"]
    return [item["message"] for item in found if item["involvedObject"]["name"] == name]


def uids(seen: Observed, name: str) -> dict[str, str]:
    return {pod.uid: pod.node for pod in replicas(seen, name) if not pod.deleting}


def serves(name: str, size: int) -> Callable[[Observed], bool]:
    return lambda seen: ready(seen, name) == size and not any(pod.deleting for pod in replicas(seen, name))


def of_ours(seen: Observed) -> list[str]:
    return sorted(states(seen))
