"""`polyfleet bench --observe`: what saturated replicas show of their capacity, as a Measured entry, or why nothing can be learned."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TextIO

from hwprofiles.learn import Key, NotLearned, Observed, learn, merge_learned
from hwprofiles.model import Throughput
from polyfleet.cli.bench import text as bench_text
from polyfleet.cli.bench.benching import api_failure, interruptible, say, today
from polyfleet.cli.bench.options import observed_for
from polyfleet.cli.connect import Connection, connect
from polyfleet.cli.failure import FAILED, FINE, usage
from polyfleet.client import Client
from polyfleet.errors import ApiError, Conflict
from polyfleet.loadtest import client as http
from polyfleet.loadtest import identify, target
from polyfleet.loadtest.observe import Scrape, renewed
from polyfleet.loadtest.observe import observe as collect
from polyfleet.loadtest.problem import Problem
from polyfleet.profiledata.write import ATTEMPTS, MANAGER
from polyfleet.resources import HARDWARE_PROFILES

Group = tuple[str, Key]  # profile, and what its replicas run
Groups = dict[Group, list[target.Replica]]


async def observe(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    if chosen.url or chosen.target:
        raise usage("--observe stands alone", "it measures the replicas of its mdep/NAME", "leave the other target out")
    seconds = observed_for(chosen)
    connection = await connect(chosen.kubeconfig, chosen.context, os.environ)
    namespace, name = target.reference(chosen.observe, chosen.namespace or connection.namespace)
    groups = await _groups(connection, namespace, name, chosen, err)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        scrapes: dict[str, Scrape] = {}
        for replicas in groups.values():
            for replica in replicas:
                where = target.where(connection.configuration, replica, os.environ)
                session = await stack.enter_async_context(http.session(where, 1))
                scrapes[replica.pod] = partial(identify.scrape, session, where)
        say(err, f"{namespace}/{name}: {len(scrapes)} replicas are read for {seconds:.0f} s; nothing is sent to them")
        loop = asyncio.get_running_loop()
        with interruptible(stop):
            seen = {
                one.replica: one for one in await collect(scrapes, seconds, clock=loop.time, stop=stop, tell=lambda text: say(err, text))
            }
    results = {
        profile: learn([seen[replica.pod] for replica in replicas], key, owner=f"{namespace}/{name}", today=today())
        for (profile, key), replicas in sorted(groups.items(), key=lambda item: item[0][0])
    }
    _print(chosen, results, stop.is_set(), out)
    good = {profile: found for profile, found in results.items() if isinstance(found, Throughput)}
    if not good or stop.is_set():
        say(err, "nothing is written")
        return FAILED
    if chosen.apply:
        for profile, entry in good.items():
            say(err, f"hwp/{profile}: {await _write(connection, profile, entry)}")
    else:
        say(err, "nothing is written; to write it: repeat with --apply")
    return FINE


async def _groups(connection: Connection, namespace: str, name: str, chosen: argparse.Namespace, err: TextIO) -> Groups:
    """Ready replicas by profile and by what they run. What the cluster does not say is asked from the replica or from the options."""
    groups: Groups = {}
    async with Client(connection.configuration) as client:
        try:
            pods = [pod for pod in await target.replicas(client, namespace, name) if target.is_ready(pod)]
            for pod in pods:
                found = await target.describe(client, namespace, name, pod)
                if chosen.profile and found.profile != chosen.profile:
                    continue
                key = await _key(connection, found, chosen)
                groups.setdefault((found.profile, key), []).append(found)
        except ApiError as error:
            raise api_failure(error, f"{namespace}/{name} cannot be read") from error
    if not groups:
        raise Problem(f"no replica of {namespace}/{name} can be observed", "none is ready", f"kubectl get pods -n {namespace}")
    return groups


async def _key(connection: Connection, found: target.Replica, chosen: argparse.Namespace) -> Key:
    where = target.where(connection.configuration, found, os.environ)
    async with http.session(where, 1) as session:
        server = await identify.server(session, where, found.served_name, strict=False)
    told = server.version if server.version[:1].isdigit() else ""
    engine = found.engine or chosen.engine or server.engine
    version = told or found.engine_version or chosen.engine_version or server.version
    if not engine or not version:
        raise Problem(
            "the engine or its version is not known", f"pod {found.pod} does not say it", "repeat with --engine and --engine-version"
        )
    precision = found.precision or chosen.precision or server.precision or None
    return Key(found.model, precision, engine, version, found.layout)


def _print(chosen: argparse.Namespace, results: dict[str, Throughput | NotLearned], partial_: bool, out: TextIO) -> None:
    if chosen.form == "json":
        body: dict[str, Any] = {"partial": partial_, "profiles": {}}
        for profile, found in results.items():
            if isinstance(found, Throughput):
                body["profiles"][profile] = {"entry": found.dump_set()}
            else:
                body["profiles"][profile] = {"reason": found.reason, "message": found.message, "hint": found.hint}
        print(json.dumps(body, indent=2, ensure_ascii=False), file=out)
        return
    if partial_:
        print("# partial: interrupted", file=out)
    for profile, found in results.items():
        if isinstance(found, Throughput):
            print(f"# into spec of hwp/{profile}:", file=out)
            print(bench_text.to_yaml([found]).rstrip(), file=out)
        else:
            print(f"# hwp/{profile}: {found.reason}: {found.message}", file=out)
            print(f"#   next: {found.hint}", file=out)


async def _write(connection: Connection, profile: str, entry: Throughput) -> str:
    """Read, lay over, write under the version that was read; again if somebody was faster."""
    async with Client(connection.configuration) as client:
        try:
            for attempt in range(ATTEMPTS):
                live = await client.get(HARDWARE_PROFILES, profile)
                merged = renewed(list((live.get("spec") or {}).get("throughput") or ()), entry, merge_learned)
                body = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "spec": {"throughput": merged}}
                try:
                    await client.merge_patch(HARDWARE_PROFILES, profile, body, manager=MANAGER)
                except Conflict:
                    if attempt == ATTEMPTS - 1:
                        raise
                    continue
                break
        except (ApiError, ValueError) as error:
            raise api_failure(error, f"hwp/{profile} was not changed") from error
    return f"learned: {entry.output_tokens_per_second} tok/s at {entry.concurrency} in flight; delete the entry to forget it"


__all__ = ["Observed", "observe"]
