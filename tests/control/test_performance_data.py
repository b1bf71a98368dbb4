"""What a profile's numbers decide, on the real API server with the operator's own cycle: refused, mended by an edit, and decided alike
after a restart."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from polyfleet.state import Observed

from tests.control.cycling import Kubectl, condition, model, operator, policy, profile, ready, replicas, run

pytestmark = pytest.mark.control

FAR = {"inputTokens": 20_000, "outputTokens": 64}
RESOLVED = ("True", "Resolved")


def with_entries(*entries: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(profile())
    found["spec"]["throughput"] += entries
    return found


def entry(**more: Any) -> dict[str, Any]:
    return {
        "model": "polyfleet/byte-tiny", "precision": "fp32", "engine": "sandbox", "engineVersion": "dev", "parallelism": {"tensor": 1},
        "inputTokens": 20_000, "outputTokens": 64, "concurrency": 2, "outputTokensPerSecond": "40", "evidence": "Measured",
        "confidence": "High", "source": "this test", "date": "2026-11-01", **more,
    }  # fmt: skip


def status(seen: Observed, name: str) -> dict[str, Any]:
    return dict(next(item.status for item in seen.model_deployments if item.name == name))


def test_a_load_outside_the_range_is_refused_until_somebody_measures_it(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """20,000 input tokens, data up to 8,192: ProfilesResolved=False with the range and the command, no pod. An entry that covers it is
    added to the profile: the next cycle places the model with its number and evidence. A model of fixed size beside it never waited."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(policy(), model("far", workload=FAR), model("plain"))
            seen = await op.turn()
            seen = await op.turn()
            word, reason, message = condition(seen, "far", "ProfilesResolved")
            assert (word, reason) == ("False", "LoadOutsideProfileRange")
            for part in ("20000", "8192", "polyfleet bench --profile sandbox-nvidia --model polyfleet/byte-tiny"):
                assert part in message
            row = next(item for item in status(seen, "far")["rejected"] if item["profile"] == "sandbox-nvidia")
            assert (row["reason"], "polyfleet bench" in row["hint"]) == ("LoadOutsideProfileRange", True)
            assert replicas(seen, "far") == []
            assert condition(seen, "plain", "ProfilesResolved")[:2] == RESOLVED

            await op.apply(with_entries(entry()))
            seen = await op.turn()
            assert condition(seen, "far", "ProfilesResolved")[0] == "True"
            seen = await op.until("it serves", lambda seen: ready(seen, "far") == 1)
            (place,) = status(seen, "far")["placements"]
            assert (place["tokensPerSecond"], place["evidence"]) == ("40", "Measured")

    run(scenario)


def test_a_faulty_entry_is_left_out_and_a_restart_decides_alike(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """An entry from next year covers the load and is not believed; the model is refused as before, by this operator and by the next.
    The entry beside it for other lengths still counts."""
    faulty = entry(evidence="Published", date="2099-01")

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(policy(), with_entries(faulty), model("far", workload=FAR), model("near", workload={"inputTokens": 128}))
            await op.until("near serves", lambda seen: ready(seen, "near") == 1)
            first = condition(await op.rests(), "far", "ProfilesResolved")
        async with operator(apiserver, clean, folder=tmp_path) as op:
            again = condition(await op.rests(), "far", "ProfilesResolved")
            assert first == again
            assert first[:2] == ("False", "LoadOutsideProfileRange")
            (stored,) = [item for item in op.cache.observe().profiles if item.name == "sandbox-nvidia"]
            assert json.dumps(stored.spec).count("2099-01") == 1

    run(scenario)


def test_a_goal_out_of_reach_takes_no_device(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """The data is usable, so ProfilesResolved holds; Placed says that 20 ms between tokens is not reached, and nothing starts. A goal
    that can be reached is taken at once."""

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            await op.apply(policy(), with_entries(entry(itl="50ms")), model("fast", workload=FAR, slo={"itl": "20ms"}))
            await op.turn()
            seen = await op.turn()
            assert condition(seen, "fast", "ProfilesResolved")[:2] == RESOLVED
            word, reason, message = condition(seen, "fast", "Placed")
            assert (word, reason) == ("False", "SloUnreachable")
            assert "50" in message
            assert replicas(seen, "fast") == []
            await op.apply(model("fast", workload=FAR, slo={"itl": "60ms"}))
            await op.until("it serves", lambda seen: ready(seen, "fast") == 1)

    run(scenario)
