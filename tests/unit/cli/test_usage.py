"""`polyfleet usage` on the demo: figures counted by hand from its description, and plans for one vendor that the referee accepts."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.unit.cli.lib import failed, polyfleet, snapshot_file


def body(*more: str) -> dict:
    done = polyfleet("usage", "--snapshot", "demo", "-o", "json", *more)
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_replicas_devices_and_money_are_those_of_the_demo():
    rows = {(row["model"], row["profile"]): row for row in body("--no-counterfactual")["rows"]}
    # fleet.yaml: 2 llama-70b on 4 dies each, 3 + 3 + 1 qwen3-32b on 4, 2 and 2 devices, 2 embed on 1; prices 2.2, 5 and 2.4 a device.
    assert {key: (row["replicaHours"], row["deviceHours"], row["cost"]) for key, row in rows.items()} == {
        ("llm/llama-70b", "huawei-910c-752"): (2.0, 8.0, 17.6),
        ("llm/qwen3-32b", "alibaba-ppu-810e"): (1.0, 2.0, 4.8),
        ("llm/qwen3-32b", "huawei-910c-752"): (3.0, 12.0, 26.4),
        ("llm/qwen3-32b", "nvidia-h100-sxm"): (3.0, 6.0, 30.0),
        ("search/embed", "alibaba-ppu-810e"): (2.0, 2.0, 4.8),
    }
    assert {row["work"] for row in rows.values()} == {None}  # nobody stated a load


def test_pools_by_hand():
    pools = {item["pool"]: item for item in body("--no-counterfactual")["pools"]}
    # h100: 32, of which 8 + 8 + 8 + 1 are others' and 6 ours; the one left is too few for any model.
    assert [pools["h100-a"][key] for key in ("installed", "ours", "others", "free", "stranded", "closed")] == [32, 6, 25, 1, 1, 0]
    # a3: node 4 is in repair (16), node 2 has 16 - 4 - 10 = 2 left where a replica wants 4.
    assert [pools["a3-east"][key] for key in ("installed", "ours", "others", "free", "stranded", "closed")] == [64, 20, 26, 18, 2, 16]
    # ppu: 20 free, but the pool's limit of 5 leaves one.
    assert [pools["ppu-1"][key] for key in ("installed", "ours", "others", "free", "stranded", "closed")] == [32, 4, 8, 20, 0, 19]


def test_a_stated_rate_gives_utilisation(tmp_path):
    path = tmp_path / "rate.yaml"
    spec = {"model": {"uri": "hf://Qwen/Qwen3-8B"}, "replicas": 2, "placement": {"profiles": ["alibaba-ppu-810e"]}, "priority": 100}
    spec["workload"] = {"requestRate": "1", "inputTokens": 1024, "outputTokens": 256}
    head = {"apiVersion": "polyfleet.io/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "embed", "namespace": "search"}}
    path.write_text(yaml.safe_dump({**head, "spec": spec}))
    (row,) = [row for row in body("-f", str(path), "--no-counterfactual")["rows"] if row["model"] == "search/embed"]
    assert row["utilisation"] == pytest.approx(256 * 3600 / row["capacity"], abs=1e-4)


def test_one_vendor_only():
    found = {item["vendor"]: item for item in body()["oneVendor"]}
    assert sorted(found) == ["alibaba", "huawei", "nvidia"]
    # llama-70b is limited to h100 and 910c, embed to PPU: each is short wherever its devices are not.
    assert "llm/llama-70b" in found["alibaba"]["short"]
    assert "search/embed" in found["huawei"]["short"]
    assert "search/embed" in found["nvidia"]["short"]
    assert all(item["placed"] + item["missing"] == 12 for item in found.values())  # 8 + 2 + 2 are wanted
    assert found["alibaba"]["placed"] == 3  # 5 devices under the limit: 2 for embed, one replica of 2, one device left


def test_text_names_units_and_the_next_command(tmp_path):
    done = polyfleet("usage", "--snapshot", str(snapshot_file(tmp_path)))
    assert done.code == 0
    assert "polyfleet simulate" in done.out
    assert "If one vendor only" in done.out
    assert all(len(line) <= 100 for line in done.lines)
    assert polyfleet("usage", "--snapshot", "demo", "-o", "md").out.count("|---") >= 3


def test_an_unknown_namespace_is_said():
    what, _, next_ = failed("usage", "--snapshot", "demo", "-n", "lmm")
    assert "lmm" in what
    assert "llm" in next_
