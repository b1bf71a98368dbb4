"""Rollouts on a full fleet with real controllers and a real scheduler (OC-055): no surge, no pod that waits, and the words for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from polyfleet import naming
from polyfleet.state import Observed

from tests.control.cycling import A, Kubectl, condition, model, operator, policy, ready, replicas, run, states

pytestmark = pytest.mark.control


def test_a_full_node_rolls_one_at_a_time_and_a_last_replica_waits_for_leave(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """Four replicas of two devices on eight: at least three serve in every look. Then one replica of eight devices: it stays on its
    revision and says what it needs, with no pod beside it, until allowDowntime lets it be replaced in place."""

    def engine(tensor: int, *args: str) -> dict[str, object]:
        return {"parallelism": {"tensor": tensor}, "args": list(args)}

    def runs(seen: Observed, name: str) -> set[str]:
        return {pod.labels[naming.REVISION] for pod in replicas(seen, name)}

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            change = {"rollout": {"maxUnavailable": 1}, "replicas": 4}
            await op.apply(policy(), model("b", runtime=engine(2), **change))
            seen = await op.until("four serve", lambda seen: ready(seen, "b") == 4)
            old, least = runs(seen, "b"), [4]

            def rolled(seen: Observed) -> bool:
                least.append(ready(seen, "b"))
                assert len([pod for pod in replicas(seen, "b") if pod.node and not pod.deleting]) <= 4
                return condition(seen, "b", "Promoted")[0] == "True" and not runs(seen, "b") & old

            await op.apply(model("b", runtime=engine(2, "--new"), **change))
            seen = await op.until("the new revision serves", rolled, 120)
            assert min(least) == 3
            assert {pod.node for pod in replicas(seen, "b")} == {A}
            await op.until("the plan is done", lambda seen: list(states(seen).values())[-1] == "Applied")
            await op.rests()

            await op.hand("delete", "mdep", "b", "-n", "plans")
            await op.apply(model("a", runtime=engine(8)))
            seen = await op.until("one serves", lambda seen: ready(seen, "a") == 1)
            (before,) = replicas(seen, "a")
            await op.apply(model("a", runtime=engine(8, "--new")))
            seen = await op.until("it says so", lambda seen: condition(seen, "a", "Promoted")[1] == "RolloutBlocked")
            assert "needs 8 free devices" in condition(seen, "a", "Promoted")[2]
            seen = await op.rests()
            assert [pod.uid for pod in replicas(seen, "a")] == [before.uid]
            assert condition(seen, "a", "Ready")[0] == "True"
            await op.apply(model("a", runtime=engine(8, "--new"), rollout={"allowDowntime": True}))
            seen = await op.until("replaced in place", lambda seen: condition(seen, "a", "Promoted")[0] == "True")
            assert before.uid not in {pod.uid for pod in replicas(seen, "a")}
            assert ready(seen, "a") == 1

    run(scenario)
