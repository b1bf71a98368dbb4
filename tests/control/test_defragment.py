"""Case OC-012 on a real API server: a replica moves so that another fits, and nobody serves less meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from polyfleet.state import Observed

from tests.control.cycling import NAMESPACE, A, B, Kubectl, model, newest, operator, policy, ready, replicas, run

pytestmark = pytest.mark.control


def test_one_moves_so_that_another_fits(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    """Two nodes of eight, each with a 4 and a 2: two free on each. A 4 is wanted. With the field off nobody moves. With it one of the 2s
    serves on the other node before it leaves its own, and then the 4 serves there."""

    def of_size(name: str, devices: int) -> dict[str, object]:
        return model(name, runtime={"parallelism": {"tensor": devices}})

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            stay = {"minResidence": "0s"}
            await op.apply(policy(stability=stay), of_size("p", 4), of_size("q", 2), of_size("filler", 2))
            await op.until("the first node is full", lambda seen: all(ready(seen, name) == 1 for name in ("p", "q", "filler")))
            await op.hand("uncordon", B)
            await op.apply(of_size("r", 4), of_size("s", 2))
            await op.until("the second serves", lambda seen: all(ready(seen, name) == 1 for name in "rs"))
            await op.hand("-n", NAMESPACE, "delete", "modeldeployment.polyfleet.io", "filler")
            seen = await op.until("two are free on each", lambda seen: not replicas(seen, "filler"))
            assert {name: replicas(seen, name)[0].node for name in "pqrs"} == {"p": A, "q": A, "r": B, "s": B}

            await op.apply(of_size("a", 4))
            seen = await op.until("a is short", lambda seen: any(state.name == "a" and state.status for state in seen.model_deployments))
            assert all(len(replicas(seen, name)) == 1 for name in "pqrs")
            await op.apply(policy(stability={**stay, "defragment": True}))

            def there(seen: Observed) -> bool:
                for name in "pqrs":
                    assert ready(seen, name) >= 1, name
                for where in (A, B):
                    assert sum(sum(pod.requests.values()) for pod in seen.pods if where in (pod.node, pod.pinned_node)) <= 8
                return ready(seen, "a") == 1 and all(len(replicas(seen, name)) == 1 for name in "pqrs")

            seen = await op.until("a serves", there)
            at = {name: replicas(seen, name)[0].node for name in "apqrs"}
            assert (at["p"], at["r"]) == (A, B)
            assert at["q"] == at["s"] != at["a"]
            await op.rests()
            plan = newest(op.cache.observe())
            assert (plan.status["state"], plan.status["changes"]) == ("Applied", {"add": 1, "move": 1, "remove": 0})
            steps = [(step["deployment"], step["delta"], step["reason"]) for step in plan.status["steps"]]
            moved = "q" if at["q"] == B else "s"
            assert steps == [(f"{NAMESPACE}/{moved}", 0, "MovedForRoom"), (f"{NAMESPACE}/a", 1, "RoomMade")]
            found = await op.hand("-n", NAMESPACE, "get", "events", "--field-selector=reason=MovedForRoom", "-o", "json")
            assert {event["involvedObject"]["name"] for event in json.loads(found)["items"]} == {moved}

    run(scenario)
