"""Runs `polyfleet bench`: find what is asked for, make sure what it is, measure, print or write the entries.

Everything that can be refused is refused before the first request of the test. An interrupt ends the running phase; what was measured is
printed, marked as partial, and nothing is written.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TextIO

from hwprofiles.model import Throughput
from hwprofiles.schema import SchemaError
from polyfleet import naming
from polyfleet.cli.bench import text as bench_text
from polyfleet.cli.bench.options import Asked, asked, endpoint
from polyfleet.cli.bench.subject import dialect, fits, subject_of
from polyfleet.cli.connect import Connection, connect
from polyfleet.cli.failure import FAILED, FINE, Failure, usage
from polyfleet.cli.text import plain, wrap
from polyfleet.client import Client
from polyfleet.errors import ApiError, Conflict, Forbidden, NotFound
from polyfleet.loadtest import client as http
from polyfleet.loadtest import entries as made
from polyfleet.loadtest import identify, target
from polyfleet.loadtest.measure import Outcome, measure
from polyfleet.loadtest.problem import Problem
from polyfleet.loadtest.readings import foreign
from polyfleet.loadtest.stages import MOST_ERRORS, Stop
from polyfleet.loadtest.workload import Workload
from polyfleet.resources import HARDWARE_PROFILES


@dataclass(frozen=True, slots=True)
class Place:
    """Where the test goes, and what is known of it before it is asked itself."""

    where: http.Where
    text: str
    replica: target.Replica | None
    connection: Connection | None


def run(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    try:
        if chosen.observe:
            from polyfleet.cli.bench import observing as observing

            return asyncio.run(observing.observe(chosen, out, err))
        return asyncio.run(_bench(chosen, asked(chosen), out, err, os.environ))
    except Problem as problem:
        raise Failure(problem.what, problem.why, problem.next) from problem


async def _bench(chosen: argparse.Namespace, asked: Asked, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> int:
    place = await _place(chosen, asked, environ)
    if chosen.apply and place.connection is None:  # before the minutes of the test, not after them
        place = replace(place, connection=await connect(chosen.kubeconfig, chosen.context, environ))
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(http.session(place.where, 4 * asked.most))
        wanted = chosen.served_name or (place.replica.served_name if place.replica is not None else chosen.model)
        server = await identify.server(session, place.where, wanted, strict=place.replica is None and not chosen.served_name)
        subject, notes = subject_of(chosen, place.text, place.replica, server)
        fits(asked, server)
        if chosen.apply and place.connection is not None:
            await _profile_exists(place.connection, subject.profile)
        nonce = secrets.token_hex(4)
        api, scale = await identify.probe(session, place.where, server.model, asked.lengths, nonce, asked.settings.limit_s)
        notes += dialect(api)
        for text in (f"{subject.model} on {subject.profile}: {subject.engine} {subject.engine_version}, {subject.place}", *notes):
            say(err, text)
        sender = http.Client(place.where, api, session)
        before = await identify.scrape(session, place.where)
        outcome = await _measure(sender, Workload(asked.lengths, chosen.seed, nonce, scale), asked, err)
        after = await identify.scrape(session, place.where)
    if outcome.stop is Stop.ERRORS and sender.last_error:
        outcome = replace(outcome, why=f"{outcome.why}: {sender.last_error}")
    disturbed = foreign(before, after, sender.received, sender.unseen)
    entries = [] if disturbed else _entries(subject, outcome, asked, today())
    if disturbed:
        notes.append(f"no entry: {disturbed}")
    _print(chosen, asked, subject, outcome, entries, notes, out, err)
    return await _finish(chosen, place, subject, outcome, entries, asked, err)


async def _place(chosen: argparse.Namespace, asked: Asked, environ: Mapping[str, str]) -> Place:
    if chosen.url and chosen.target:
        raise usage("--url and mdep/NAME exclude each other", "each says what is measured", "leave one of the two out")
    if chosen.url:
        for name in ("profile", "model"):
            if not getattr(chosen, name):
                raise usage(f"--{name} is missing", "an address does not say it", f"polyfleet bench … --url {chosen.url} --{name} NAME")
        where = endpoint(chosen.url, chosen.api_key_env, asked.stall_s, environ)
        return Place(where, where.base, None, None)
    if not chosen.target and not (chosen.profile and chosen.model):
        raise usage("nothing to measure", "neither mdep/NAME nor --url nor --profile with --model is given", "polyfleet bench --help")
    connection = await connect(chosen.kubeconfig, chosen.context, environ)
    async with Client(connection.configuration) as client:
        try:
            if chosen.target:
                namespace, name = target.reference(chosen.target, chosen.namespace or connection.namespace)
            else:
                namespace, name = await target.search(client, chosen.profile, chosen.model)
            replica = await target.replica(client, namespace, name, chosen.profile)
        except ApiError as error:
            raise api_failure(error, "the cluster's objects cannot be read") from error
    if replica.serving and not chosen.yes_it_serves:
        again = f"polyfleet bench mdep/{namespace}/{name} … --yes-it-serves"
        raise Failure(
            f"{namespace}/{name} takes users' traffic, which a load test slows down",
            f"pod {replica.pod} is in service ({naming.SERVING} is True)",
            f"{again}; or learn from its traffic: polyfleet bench --observe mdep/{namespace}/{name}",
        )
    where = target.where(connection.configuration, replica, environ, asked.stall_s)
    return Place(where, replica.place(target.is_direct(replica.address, environ)), replica, connection)


async def _measure(sender: http.Client, workload: Workload, asked: Asked, err: TextIO) -> Outcome:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with interruptible(stop):
        return await measure(
            sender.send,
            workload,
            asked.settings,
            asked.search,
            clock=loop.time,
            sleep=asyncio.sleep,
            stop=stop,
            tell=lambda text: say(err, text),
        )


@contextmanager
def interruptible(stop: asyncio.Event) -> Iterator[None]:
    """The first Ctrl-C sets `stop`, so that what was measured is kept; the second ends the program at once."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except (RuntimeError, ValueError):
        yield  # not the main thread: whoever runs it there has their own way to end it
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _entries(subject: made.Subject, outcome: Outcome, asked: Asked, today: str) -> list[Throughput]:
    """Of every stage that can be trusted; while an SLO is searched for, only of those that hold it."""
    good = [stage for stage in outcome.stages if not stage.unusable and not (asked.until_slo and stage.breaks)]
    fine = [stage for stage in good if stage.seen().error_share <= MOST_ERRORS]
    return made.entries(subject, fine, asked.settings, asked.lengths, today)


def _print(
    chosen: argparse.Namespace,
    asked: Asked,
    subject: made.Subject,
    outcome: Outcome,
    entries: list[Throughput],
    notes: list[str],
    out: TextIO,
    err: TextIO,
) -> None:
    goal = asked.settings.goal
    partial = f"# partial ({outcome.stop}): {outcome.why}" if outcome.partial else ""
    if chosen.form == "json":
        print(bench_text.to_json(subject, outcome, entries, notes, goal.percentile), file=out)
    elif chosen.form == "yaml":
        print("\n".join(part for part in (partial, bench_text.to_yaml(entries).rstrip()) if part), file=out)
    else:
        limited = goal.ttft_s is not None or goal.itl_s is not None
        for line in bench_text.rows(outcome, limited=limited):
            print(line, file=out)
        if entries and not chosen.apply:
            print(
                "\n".join(
                    part for part in (partial, f"# into spec of hwp/{subject.profile}:", bench_text.to_yaml(entries).rstrip()) if part
                ),
                file=out,
            )
    for note in notes:
        if note.startswith("no entry"):
            say(err, note)


async def _finish(
    chosen: argparse.Namespace, place: Place, subject: made.Subject, outcome: Outcome, entries: list[Throughput], asked: Asked, err: TextIO
) -> int:
    failed = outcome.stop is Stop.INTERRUPTED or (outcome.stop is Stop.ERRORS and not asked.until_slo) or not entries
    if not chosen.apply:
        if entries and not failed:
            say(err, f"nothing is written; to write it: repeat with --apply, or kubectl edit hwp/{subject.profile}")
        return FAILED if failed else FINE
    if failed:
        say(err, "nothing is written")
        return FAILED
    assert place.connection is not None
    for change in await write(place.connection, subject.profile, entries):
        say(err, change)
    return FINE


async def write(connection: Connection, profile: str, entries: list[Throughput]) -> list[str]:
    """Merges the entries into the live profile; the changes in words. Failure: nothing was written."""
    from polyfleet.profiledata.write import write_throughput

    async with Client(connection.configuration) as client:
        try:
            done = await write_throughput(client, profile, entries)
        except (ApiError, SchemaError) as error:
            raise api_failure(error, f"hwp/{profile} was not changed") from error
    short = [re.sub(r"^(replaces throughput\[\d+\]) \(.*\): ", r"\1: ", change) for change in done.changes]  # not the sources' differences
    return [f"hwp/{profile}: {change}" for change in short] or [f"hwp/{profile}: it says all of this already"]


async def _profile_exists(connection: Connection, profile: str) -> None:
    async with Client(connection.configuration) as client:
        try:
            await client.get(HARDWARE_PROFILES, profile)
        except ApiError as error:
            raise api_failure(error, f"hwp/{profile} cannot be read, so --apply would fail") from error


def api_failure(error: ApiError | ValueError, what: str) -> Failure:
    """An answer of the API server (or a refused merge) as what, why, next."""
    why = " ".join(str(error).split())[:300]
    if isinstance(error, NotFound):
        return Failure(what, why, "kubectl get hwp,mdep -A")
    if isinstance(error, Forbidden):
        return Failure(what, why, "kubectl auth can-i patch hardwareprofiles.polyfleet.io; docs/bench.md, Rights")
    if isinstance(error, Conflict):
        return Failure(what, why, "somebody else edits it; repeat with --apply")
    return Failure(what, why, "kubectl cluster-info; without --apply the entries are printed")


def say(err: TextIO, text: str) -> None:
    for line in wrap(plain(text), rest="  "):
        print(line, file=err, flush=True)


def today() -> str:
    return datetime.now(UTC).date().isoformat()
