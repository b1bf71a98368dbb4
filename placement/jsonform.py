"""A plan as versioned JSON, and back."""

from __future__ import annotations

import json

from placement._codec import decode, encode
from placement.types import PlacementError, Plan

PLAN_VERSION = 2


def to_json(plan: Plan, *, indent: int | None = None) -> str:
    body = {"kind": "PlacementPlanResult", "version": PLAN_VERSION, "plan": encode(plan)}
    return json.dumps(body, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)


def plan_from_json(text: str) -> Plan:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlacementError(f"plan: no JSON: {error}") from error
    if not isinstance(body, dict) or body.get("kind") != "PlacementPlanResult":
        raise PlacementError('plan: the document must be an object with kind "PlacementPlanResult"')
    if body.get("version") != PLAN_VERSION:
        raise PlacementError(f"plan.version: {body.get('version')!r} is not supported, allowed is {PLAN_VERSION}; make the plan anew")
    return decode(Plan, body.get("plan"), "plan")
