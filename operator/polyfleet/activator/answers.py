"""Answers of the activator itself, in the form of OpenAI's API: what went wrong, and what to do. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from polyfleet.wake.slices import Route

DEFAULT_RETRY_S = 60  # where no start was measured yet


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def retry_s(route: Route) -> int:
    return max(1, round(route.wake_s)) if route.wake_s is not None else DEFAULT_RETRY_S


def error(status: int, code: str, message: str, retry: int | None = None) -> Answer:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Answer(status, json.dumps(body).encode(), {"Retry-After": str(retry)} if retry is not None else {})


def full(route: Route, what: str) -> Answer:
    wait = retry_s(route)
    return error(503, "too_many_waiting", f"{route.served} is asleep and wakes; {what}; try again in about {wait} s", wait)


def late(route: Route, held_s: float) -> Answer:
    text = (
        f"{route.served} did not wake within {held_s:.0f} s; see status.conditions: kubectl describe mdep {route.name} -n {route.namespace}"
    )
    return error(504, "wake_too_slow", text, retry_s(route))


def leaving(route: Route) -> Answer:
    return error(503, "restarting", f"{route.served} wakes, and who held this request restarts; send it again", 1)


def nobody() -> Answer:
    """A port that is no model's any more."""
    return error(503, "no_model", "no model waits here any more; send the request again", 1)


def other(route: Route) -> Answer:
    return error(503, "asleep", f"{route.served} is asleep; a POST to /v1/... wakes it", retry_s(route))


def too_large(most: int) -> Answer:
    return error(413, "body_too_large", f"while the model wakes, a body may have at most {most} bytes")


def slow(seconds: float) -> Answer:
    return error(408, "body_too_slow", f"the body did not come within {seconds:.0f} s")


def upgrade() -> Answer:
    return error(501, "no_upgrade", "while the model wakes, a connection cannot be upgraded; use plain HTTP")


def lost(detail: str) -> Answer:
    return error(502, "replica_lost", f"the replica ended the connection before it answered: {detail}")


def health(route: Route) -> Answer:
    return Answer(200, json.dumps({"status": "asleep", "model": route.served}).encode())


def models(route: Route) -> Answer:
    listed = {"object": "list", "data": [{"id": route.served, "object": "model", "created": 0, "owned_by": "polyfleet"}]}
    return Answer(200, json.dumps(listed).encode())
