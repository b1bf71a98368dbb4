"""The activator's settings, read once from the environment. A wrong value names the variable, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyfleet.config import choice, number
from polyfleet.wake.names import METRICS_PORT


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is held at most. Bytes are those of bodies, and of headers above 8 KiB of a request (`proxy`)."""

    requests: int = 1000
    total_bytes: int = 256 << 20
    model_requests: int = 250
    model_bytes: int = 64 << 20
    body_bytes: int = 16 << 20  # of one request
    passing: int = 1000  # requests that are being answered by replicas


@dataclass(frozen=True, slots=True)
class Settings:
    bounds: Bounds = Bounds()
    most_hold_s: float = 900.0
    host: str = "0.0.0.0"  # whatever comes through the Services comes from outside the pod
    http_port: int = METRICS_PORT
    log_format: str = "json"
    header_s: float = 10.0  # until a whole header has come
    body_s: float = 30.0  # until a whole body has come


def load(environ: Mapping[str, str]) -> Settings:
    """The settings, or a ConfigError that says which variable to correct."""
    base, most = Settings(), Bounds()

    def whole(name: str, default: int, low: int, high: int) -> int:
        return int(number(environ, f"POLYFLEET_ACTIVATOR_{name}", default, low, high, whole=True))

    bounds = Bounds(
        requests=whole("REQUESTS", most.requests, 1, 100_000),
        total_bytes=whole("MIB", most.total_bytes >> 20, 1, 65_536) << 20,
        model_requests=whole("MODEL_REQUESTS", most.model_requests, 1, 100_000),
        model_bytes=whole("MODEL_MIB", most.model_bytes >> 20, 1, 65_536) << 20,
        body_bytes=whole("BODY_MIB", most.body_bytes >> 20, 1, 1024) << 20,
        passing=whole("PASSING", most.passing, 1, 100_000),
    )
    return Settings(
        bounds=bounds,
        most_hold_s=number(environ, "POLYFLEET_ACTIVATOR_HOLD", base.most_hold_s, 10, 86_400),
        host=environ.get("POLYFLEET_HTTP_HOST") or base.host,
        http_port=int(number(environ, "POLYFLEET_HTTP_PORT", base.http_port, 0, 65_535, whole=True)),
        log_format=choice(environ, "POLYFLEET_LOG_FORMAT", base.log_format, ("json", "text")),
    )
