"""Where profiles come from: the cluster, a snapshot, the demo, the shipped files, or files of the user. Raw specs and what became of them.

A profile that does not fit the schema is a value with its fault and not an exception: one broken object must not hide the others.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from pydantic import ValidationError

from hwprofiles import HardwareProfileSpec
from hwprofiles.shipped_profiles import load_objects
from polyfleet.api.objects import describe
from polyfleet.cli.failure import Failure, listed, nearest, usage

WAYS_OUT = "work without a cluster: add --shipped, --snapshot demo, or --snapshot FILE"


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    spec: Mapping[str, Any]  # as it was read
    parsed: HardwareProfileSpec | None
    fault: str = ""  # why it could not be parsed
    status: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    version: str = ""  # resourceVersion; "" = not read from a cluster


@dataclass(frozen=True, slots=True)
class Profiles:
    items: Mapping[str, Profile]
    source: str  # for people: shipped, live, context main, ...
    option: str  # to be repeated in commands that are shown: " --shipped", ...
    today: str
    fleet: bool  # whether numbers of nodes and devices can be known

    @property
    def specs(self) -> dict[str, HardwareProfileSpec]:
        return {name: item.parsed for name, item in self.items.items() if item.parsed is not None}

    def find(self, name: str) -> Profile:
        found = self.items.get(name.removeprefix("hwp/"))
        if found is None:
            near = nearest(name, sorted(self.items), 1)
            next_ = f"repeat with {near[0]}" if near else f"polyfleet profile list{self.option}"
            raise Failure(f"no profile named {name}", f"{self.source}: {listed(sorted(self.items))}", next_)
        return found


def profile(name: str, spec: object, status: Mapping[str, Any] | None = None, created: str = "", version: str = "") -> Profile:
    raw: Mapping[str, Any] = spec if isinstance(spec, Mapping) else {}
    try:
        return Profile(name, raw, HardwareProfileSpec.parse(spec), "", status or {}, created, version)
    except ValidationError as error:
        return Profile(name, raw, None, describe(error, "spec"), status or {}, created, version)


def profiles(chosen: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Profiles:
    """By --shipped, --snapshot, or from the cluster."""
    shipped, snapshot = bool(getattr(chosen, "shipped", False)), str(getattr(chosen, "snapshot", ""))
    for flag, value in (("--context", chosen.context), ("--kubeconfig", chosen.kubeconfig)):
        if value and (shipped or snapshot):
            raise usage(
                f"{'--shipped' if shipped else '--snapshot'} and {flag} exclude each other",
                "the former needs no cluster",
                f"leave {flag} out",
            )
    if shipped and snapshot:
        raise usage("--shipped and --snapshot exclude each other", "each says where profiles come from", "leave one of the two out")
    asked = str(getattr(chosen, "today", ""))
    if shipped:
        return of_shipped(day(asked))
    if snapshot:
        return of_snapshot(snapshot, asked)
    return of_cluster(chosen.kubeconfig, chosen.context, day(asked), environ)


def day(asked: str = "") -> str:
    """The day as of which ages count: the one that was asked for, else today (UTC)."""
    if not asked:
        return datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        return datetime.date.fromisoformat(asked).isoformat() if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", asked) else _no_day(asked)
    except ValueError:
        return _no_day(asked)


def _no_day(asked: str) -> str:
    raise usage(f"--today {asked} is no day", "it must be a day of the calendar, YYYY-MM-DD", "leave --today out for today")


def of_shipped(today: str) -> Profiles:
    items = {name: profile(name, item.get("spec")) for name, item in sorted(load_objects().items())}
    return Profiles(items, "shipped", " --shipped", today, fleet=False)


def of_snapshot(path: str, asked: str = "") -> Profiles:
    if path == "demo":
        from polyfleet.cli import demo

        observed, taken = demo.observed()
    else:
        from polyfleet.cli import archive

        found = archive.read(path)
        if found.observed is None:
            raise Failure(
                f"{path} holds no profiles",
                "it is a bare placement snapshot",
                "polyfleet snapshot -o FILE  # writes one that holds the objects too",
            )
        observed, taken = found.observed, found.taken_at
    today = day(asked or taken[:10])
    computed = _statuses(observed, taken) if not any(state.status for state in observed.profiles) else {}
    items = {
        state.name: profile(state.name, state.spec, state.status or computed.get(state.name), state.created)
        for state in sorted(observed.profiles, key=lambda state: state.name)
    }
    return Profiles(items, "demo" if path == "demo" else os.path.basename(path), f" --snapshot {path}", today, fleet=True)


def _statuses(observed: Any, taken: str) -> dict[str, Mapping[str, Any]]:
    """What the operator would write: the demo's profiles were never seen by one."""
    from polyfleet.cli.fleet import prepared
    from polyfleet.status import fleet as statuses

    inputs = prepared(observed, taken)
    return {parsed.name: statuses.profile(inputs, parsed, taken) for parsed in inputs.objects.profiles}


def of_cluster(kubeconfig: str, context: str, today: str, environ: Mapping[str, str] = os.environ) -> Profiles:
    from polyfleet import parse
    from polyfleet.cli import connect, live
    from polyfleet.client import Client
    from polyfleet.errors import ApiError
    from polyfleet.resources import HARDWARE_PROFILES

    async def read() -> tuple[list[Any], str]:
        connection = await connect.connect(kubeconfig, context, environ)
        found: list[Any] = []
        async with Client(connection.configuration) as client:
            try:
                async for page in client.list_pages(HARDWARE_PROFILES):
                    found += page.items
            except ApiError as error:
                raise live.explain({HARDWARE_PROFILES.plural: error}, connection) from error
        return found, f"live, context {connection.context}" if connection.context else "live"

    try:
        raw, source = asyncio.run(read())
    except Failure as failure:
        raise Failure(failure.what, failure.why, failure.next.replace(connect.OFFLINE, WAYS_OUT), failure.code) from failure
    states = sorted((parse.custom(HARDWARE_PROFILES.kind, item) for item in raw), key=lambda state: state.name)
    items = {state.name: profile(state.name, state.spec, state.status, state.created, state.resource_version) for state in states}
    option = f" --context {context}" if context else ""
    return Profiles(items, source, option, today, fleet=True)


def read_text(path: str, stdin: TextIO, most_mib: int) -> str:
    """A file's text, or standard input for `-`. A file that is too large is refused before it is read."""
    try:
        if path == "-":
            return stdin.read()
        size = os.stat(path).st_size
        if size > most_mib << 20:
            raise Failure(f"cannot read {path}", f"it has {size >> 20} MiB, at most {most_mib} MiB", "give the summary file of the run")
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise Failure(f"cannot read {path}", error.strerror or str(error), f"ls -l {path}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"cannot read {path}", "it is not UTF-8 text", "give a YAML or JSON file") from error
