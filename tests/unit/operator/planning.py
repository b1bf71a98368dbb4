"""Shared by the tests of PlacementPlan objects: one model on one node of eight devices, and plans as the API server holds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyfleet.api import parse_object
from polyfleet.plans import entries, stored
from polyfleet.state import CustomState

from tests.unit.operator import builders as b
from tests.unit.operator.cycle import Done
from tests.unit.operator.looks import NVIDIA_ONLY, children, look, replace_size

MANUAL = b.policy({"approval": "Manual"})
NODE = b.sandbox(b.h100())
TWO: dict[str, Any] = {**NVIDIA_ONLY, "replicas": 2}


def small(spec: dict[str, Any] | None = None, **more: Any) -> Done:
    """One look at one model on one node of 8 devices."""
    return look(b.model("m", {**NVIDIA_ONLY, **(spec or {})}), nodes=more.pop("nodes", (NODE,)), **more)


def answered(plan: CustomState, word: str) -> CustomState:
    """A person has set spec.approval."""
    return replace(plan, spec={**plan.spec, "approval": word}, generation=2)


def states(done: Done) -> dict[str, str]:
    return {plan.name: str(plan.status.get("state")) for plan in done.plans}


def running(size: int, *, nodes: tuple[Any, ...] = (NODE,), spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """The model's child with that many serving replicas on h100-0."""
    child = replace_size(children(b.model("m", {**NVIDIA_ONLY, **(spec or {})}), nodes=nodes)["sandbox-nvidia"], size)
    return {"deployments": (child,), "pods": tuple(b.replica(child, f"pod-{i}", node="h100-0", serving=True) for i in range(size))}


def fits(plan: CustomState) -> None:
    """The object is what the schema takes."""
    value = {"spec": plan.spec, "status": plan.status}
    parse_object({"apiVersion": "polyfleet.io/v1alpha1", "kind": "PlacementPlan", "metadata": {"name": plan.name}, **value})


def other_tie(done: Done, node: str) -> CustomState:
    """The plan as a solver that breaks ties otherwise would have written it: the one replica on another node of the same kind."""
    (entry,) = stored.read(done.plans)[0].entries
    moved = (replace(entry, nodes=((node, entry.replicas),)),)
    plan = done.plans[0]
    rows, _ = entries.rows(moved)
    return replace(plan, spec={**plan.spec, "assignments": rows}, annotations={stored.DIGEST: entries.digest(moved)})
