"""What `polyfleet bench` was asked for, checked: every error names the option, its value, the allowed range and what to write instead."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from pydantic import ValidationError

from hwprofiles.model import Layout
from hwprofiles.schema import SchemaError, duration_seconds
from polyfleet.cli.failure import Failure, usage
from polyfleet.loadtest.client import Where, no_headers
from polyfleet.loadtest.measure import Goal, Search, Settings
from polyfleet.loadtest.stages import MOST_CONCURRENCY, from_list, until_slo
from polyfleet.loadtest.workload import Lengths

MOST_ROWS, MOST_TOKENS = 100_000, 1_000_000
_STAGES = (1, 2, 4, 8)
_WORD = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
_AGAIN = "polyfleet bench --help"


@dataclass(frozen=True, slots=True)
class Asked:
    settings: Settings
    search: Search
    stages: tuple[int, ...]  # () = until the SLO breaks
    lengths: Lengths
    stall_s: float
    most: int  # in flight at most

    @property
    def until_slo(self) -> bool:
        return not self.stages


def asked(chosen: argparse.Namespace) -> Asked:
    for name, text in (("--engine", chosen.engine), ("--engine-version", chosen.engine_version), ("--precision", chosen.precision)):
        if text and (not _WORD.match(text) or len(text) > 63):
            raise usage(f"{name} {text} is not right", "letters, digits, dots and dashes, at most 63", _AGAIN)
    _whole("--percentile", chosen.percentile, 1, 99)
    most = _whole("--max-concurrency", chosen.max_concurrency, 1, MOST_CONCURRENCY)
    goal = Goal(_optional("--ttft", chosen.ttft), _optional("--itl", chosen.itl), chosen.percentile)
    if chosen.until_slo and chosen.concurrency:
        raise usage("--until-slo and --concurrency exclude each other", "the one finds what the other states", "leave one of the two out")
    if chosen.until_slo and goal.ttft_s is None and goal.itl_s is None:
        raise usage("--until-slo needs an SLO", "neither --ttft nor --itl is given", "polyfleet bench … --until-slo --ttft 2s --itl 60ms")
    settings = Settings(
        mode=chosen.mode,
        duration_s=_duration("--duration", chosen.duration, 1, 3600),
        limit_s=_duration("--limit", chosen.limit, 1, 86400),
        most_requests=_whole("--max-requests", chosen.max_requests, 1, 10_000_000),
        goal=goal,
    )
    stages = () if chosen.until_slo else _stages(chosen.concurrency)
    search: Search = partial(until_slo, most=most) if chosen.until_slo else partial(from_list, stages)
    stall = _duration("--stall", chosen.stall, 1, 3600)
    return Asked(settings, search, stages, lengths(chosen), stall, max(stages, default=most))


def _stages(text: str) -> tuple[int, ...]:
    if not text:
        return _STAGES
    parts = text.split(",")
    if not all(re.fullmatch(r"[0-9]{1,5}", part.strip()) for part in parts):
        raise usage(
            f"--concurrency {text} is not right", "whole numbers with commas between them", "polyfleet bench … --concurrency 1,2,4,8"
        )
    found = sorted({_whole("--concurrency", int(part), 1, MOST_CONCURRENCY) for part in parts})
    return tuple(found)


def lengths(chosen: argparse.Namespace) -> Lengths:
    if not chosen.lengths:
        return Lengths(_whole("--input", chosen.input, 4, MOST_TOKENS), _whole("--output", chosen.tokens, 2, MOST_TOKENS))
    try:
        if os.path.getsize(chosen.lengths) > MOST_ROWS * 32:
            raise Failure(f"{chosen.lengths} is too large", f"at most {MOST_ROWS} rows are read", "give a sample of its rows")
        with open(chosen.lengths, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {chosen.lengths}", getattr(error, "strerror", "") or str(error), f"ls -l {chosen.lengths}") from error
    return Lengths.of_rows(rows(text, chosen.lengths))


def rows(text: str, name: str) -> tuple[tuple[int, int], ...]:
    """Lines `INPUT,OUTPUT`; empty lines and lines that begin with # are left out."""
    found: list[tuple[int, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9]{1,7})\s*,\s*([0-9]{1,7})", line)
        if match is None or not 4 <= int(match[1]) <= MOST_TOKENS or not 2 <= int(match[2]) <= MOST_TOKENS:
            allowed = f"it must be INPUT,OUTPUT in tokens: 4 to {MOST_TOKENS} and 2 to {MOST_TOKENS}"
            raise Failure(f"{name} line {number} is not right: {line[:60]}", allowed, "write for example 512,128")
        found.append((int(match[1]), int(match[2])))
    if not found:
        raise Failure(f"{name} holds no lengths", "it has no line INPUT,OUTPUT", "write for example 512,128")
    return tuple(found)


def endpoint(url: str, key_env: str, stall_s: float, environ: Mapping[str, str]) -> Where:
    """The address without /v1, with the key of the variable `key_env` in each request and in no message."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise usage(f"--url {url} is not right", "it must be http(s)://HOST:PORT/v1", "polyfleet bench … --url http://10.0.0.7:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise usage(
            "--url holds credentials", "they would stand in the entry's source", "export KEY=…; polyfleet bench … --api-key-env KEY"
        )
    base = url.rstrip("/").removesuffix("/v1")
    if not key_env:
        return Where(base, no_headers, True, stall_s)
    key = environ.get(key_env, "")
    if not key:
        raise Failure(f"--api-key-env {key_env}: the variable is not set", "the endpoint's key is read from it", f"export {key_env}=…")

    async def headers() -> Mapping[str, str]:
        return {"Authorization": f"Bearer {key}"}

    return Where(base, headers, True, stall_s)


def layout(chosen: argparse.Namespace, known: Layout) -> Layout:
    """The layout that is known, with what the options state."""
    stated = {name: getattr(chosen, name) for name in ("tensor", "pipeline", "data", "expert", "span") if getattr(chosen, name) is not None}
    try:
        return Layout.parse({"tensor": 1, **known.dump_set(), **stated})
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        raise usage(f"--{name} {stated.get(str(name))} is not right", "a whole number from 1 to 1024", _AGAIN) from error


def _optional(name: str, text: str) -> float | None:
    return _duration(name, text, 0.001, 3600) if text else None


def _duration(name: str, text: str, low: float, high: float) -> float:
    try:
        value = duration_seconds(text)
    except SchemaError as error:
        raise usage(f"{name} {text} is not right", str(error), f"polyfleet bench … {name} 30s") from error
    if not low <= value <= high:
        raise usage(f"{name} {text} is not right", f"from {low:g}s to {high:g}s", f"polyfleet bench … {name} 30s")
    return value


def _whole(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise usage(f"{name} {value} is not right", f"a whole number from {low} to {high}", _AGAIN)
    return value


def observed_for(chosen: argparse.Namespace) -> float:
    return _duration("--for", chosen.observe_for, 1, 86400)
