"""Seeding against the real API server where the edited field is one key with dots: how conflicts spell it, and that an upgrade passes."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.client import Client, load_configuration
from polyfleet.errors import Conflict
from polyfleet.seed import Seeded, conflicting, seed

from hwprofiles.shipped_profiles import SHIPPED
from tests.control.cycling import Kubectl
from tools.paths import ROOT

pytestmark = pytest.mark.control

NAME, KEY = "seeded-910c", "huawei.com/schedule_policy"
PATH = f"pod.perScheduler.volcano.annotations.{KEY}"


@pytest.fixture
def hand(kubectl: Kubectl) -> Iterator[Kubectl]:
    files = [argument for path in sorted((ROOT / "crds").glob("*.yaml")) for argument in ("-f", str(path))]
    kubectl("apply", "--server-side", "--force-conflicts", *files, check=True)
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", check=True)
    yield kubectl
    kubectl("delete", "hwp", NAME, "--ignore-not-found", check=True)


def test_an_edited_annotation_stays_and_the_rest_follows_the_chart(apiserver: Path, hand: Kubectl, tmp_path: Path) -> None:
    """The shipped 910C with another schedule_policy and an added label with a dot in its key: both edits stay through an upgrade, the name
    beside them follows the chart, and a second start passes alike."""
    chart = yaml.safe_load((SHIPPED / "huawei-910c-752.yaml").read_text(encoding="utf-8"))
    chart["metadata"]["name"] = NAME
    chart["spec"]["dtypes"]["x.y"] = "Native"  # a second key with a dot, of a map of texts
    later = copy.deepcopy(chart)
    later["spec"]["pod"]["perScheduler"]["volcano"]["annotations"][KEY] = "of-the-new-chart"
    later["spec"]["dtypes"]["x.y"] = "Emulated"
    later["spec"]["displayName"] = "upgraded"
    edit = {"spec": {"dtypes": {"x.y": "WeightOnly"}, "pod": {"perScheduler": {"volcano": {"annotations": {KEY: "mine"}}}}}}

    async def start(manifest: dict[str, Any]) -> Seeded:
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
        async with Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as client:
            return await seed(client, tmp_path)

    async def refused() -> list[str]:
        async with Client(await load_configuration({"KUBECONFIG": str(apiserver)})) as client:
            with pytest.raises(Conflict) as error:
                await client.apply(later, force=False)
        return conflicting(error.value)

    assert asyncio.run(start(chart)).failed == {}
    hand("patch", "hwp", NAME, "--type=merge", "-p", json.dumps(edit), check=True)
    assert asyncio.run(refused()) == [".spec.dtypes.x.y", f".spec.{PATH}"]  # how the API server spells them
    for _ in range(2):
        seeded = asyncio.run(start(later))
        assert seeded.failed == {}
        assert seeded.edited[f"HardwareProfile/{NAME}"].paths == ("dtypes.x.y", PATH)
        spec = json.loads(hand("get", "hwp", NAME, "-o", "json", check=True).stdout)["spec"]
        assert spec["pod"]["perScheduler"]["volcano"]["annotations"] == {KEY: "mine"}
        assert (spec["dtypes"]["x.y"], spec["displayName"]) == ("WeightOnly", "upgraded")
