"""To zero and back on a real API server with its EndpointSlice controller: what stands in a model's Service when, and who leaves it alone.

What is read of the load and what is decided is scripted. The activator's pods are played by KWOK; the controller makes their slice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from polyfleet.state import EndpointsState, Observed
from polyfleet.wake import slices
from polyfleet.wake.names import HELD, PODS, SERVING

from autoscaling.types import Direction, Why
from tests.control.cycling import NAMESPACE, A, Kubectl, condition, model, operator, policy, run
from tests.control.test_scaling import NAME, Script, Ticking, serving, status, uids

pytestmark = pytest.mark.control
SLEEPER = {"minReplicas": 0, "maxReplicas": 4, "scaleToZero": {}}


def activator() -> list[dict[str, Any]]:
    """A Service and one pod behind it, as the chart makes them."""
    labels = {"app": "activator"}
    meta = {"name": "activator", "namespace": NAMESPACE}
    port = {"name": "metrics", "port": 8080, "targetPort": 8080}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**meta, "labels": {"polyfleet.io/activator": "pods"}},
        "spec": {"clusterIP": "None", "selector": labels, "ports": [port]},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**meta, "labels": labels},
        "spec": {"nodeName": A, "containers": [{"name": "a", "image": "none"}], "tolerations": [{"operator": "Exists"}]},
    }
    return [service, pod]


def found(seen: Observed, role: str) -> list[EndpointsState]:
    return [each for each in seen.endpoints or () if slices.role(each) == role]


def addresses(seen: Observed, role: str) -> list[str]:
    return [item.address for each in found(seen, role) for item in slices.ready(each)]


def test_the_activator_steps_in_before_the_last_replica_leaves_and_out_when_one_serves(
    apiserver: Path, clean: Kubectl, tmp_path: Path
) -> None:
    async def scenario() -> None:
        script = Script()
        async with operator(apiserver, clean, folder=tmp_path, scaler=script.scaler, home=NAMESPACE) as op:
            run_ = Ticking(op, script)
            await op.apply(policy(), model(NAME, scaling=SLEEPER))
            await op.hand("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": activator()}))
            seen = await run_.until("one serves", serving(1))
            seen = await run_.until("the controller bears the label", lambda seen: len(addresses(seen, SERVING)) == 1)
            (pod,) = addresses(seen, PODS)
            seen = await run_.rests()
            (mine,) = found(seen, HELD)
            assert (addresses(seen, HELD), mine.owner_uid) == ([], next(m.uid for m in seen.model_deployments if m.name == NAME))

            # To zero: our slice is written in a turn in which no pod is touched.
            script.says(0.0, Direction.DOWN, Why.IDLE, shrink=True)
            op.writes.clear()
            seen = await run_.turn()
            assert "EndpointSlice" in [kind for kind, _, _ in op.writes]
            assert "Pod" not in [kind for kind, _, _ in op.writes]
            assert addresses(seen, HELD) == [pod]
            script.direction = Direction.HOLD
            await run_.until("nobody is left", lambda seen: not uids(seen) and status(seen)["desiredReplicas"] == 0)
            seen = await run_.rests()
            assert (addresses(seen, HELD), addresses(seen, SERVING)) == ([pod], [])

            # And back: out of the way when the controller's own slice has the replica.
            script.says(1.0, Direction.UP, Why.WAKE)
            gone: list[bool] = []

            def back(seen: Observed) -> bool:
                gone.append(bool(addresses(seen, HELD)) or bool(addresses(seen, SERVING)))
                return bool(addresses(seen, SERVING)) and not addresses(seen, HELD)

            await run_.until("a replica serves", back)
            assert all(gone)  # somebody stood in the Service all the time
            script.direction = Direction.HOLD
            seen = await run_.rests()
            (after,) = found(seen, HELD)
            assert (after.uid, slices.port(after)) == (mine.uid, slices.port(mine))  # the controller left it alone

            await op.apply(model(NAME, scaling={"minReplicas": 1, "maxReplicas": 4}))
            await run_.until("the slice is gone", lambda seen: not found(seen, HELD))
            await run_.until("and the label", lambda seen: not found(seen, SERVING))
            await run_.rests()

    run(scenario)


def test_without_an_activator_it_is_refused_and_one_replica_serves(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    async def scenario() -> None:
        script = Script(work=0.0, shrink=True, direction=Direction.DOWN, why=Why.IDLE)
        async with operator(apiserver, clean, folder=tmp_path, scaler=script.scaler, home="") as op:
            run_ = Ticking(op, script)
            await op.apply(policy(), model(NAME, scaling=SLEEPER))
            seen = await run_.until("one serves", serving(1))
            assert condition(seen, NAME, "Accepted")[:2] == ("False", "NoWakePath")
            ours = await op.hand("get", "endpointslices", "-n", NAMESPACE, "-l", f"polyfleet.io/activator={HELD}", "-o", "name")
            assert ours == ""

    run(scenario)
