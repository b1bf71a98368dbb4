"""The operator's process: config, client, warm cache, HTTP; then the Lease; then kopf and the cycle, until a signal or its loss.

Exit codes: 0 ended by a signal; 1 a part failed; 2 the configuration is wrong; 3 the Lease was lost (the restarted pod waits as standby).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import kopf
from kubernetes.aio.config import ConfigException

from polyfleet import handlers, http, logs, seed
from polyfleet.apply import Applier
from polyfleet.cache import Cache
from polyfleet.certify.runner import Certifier
from polyfleet.client import Client, load_configuration
from polyfleet.config import Config, ConfigError, load
from polyfleet.cycle import Cycle, now
from polyfleet.errors import Fenced
from polyfleet.events import EventPoster
from polyfleet.expectations import Expectations
from polyfleet.in_flight import Counter
from polyfleet.inputs import Inputs
from polyfleet.lease import Lease, LeaseLost
from polyfleet.load.feed import Feed
from polyfleet.load.prometheus import Prometheus
from polyfleet.load.scraper import Scraper
from polyfleet.load.tally import Tally
from polyfleet.metrics import Metrics
from polyfleet.plans.writer import PlanWriter
from polyfleet.queue import Backoff, DirtyQueue
from polyfleet.reflector import Timing
from polyfleet.scaling.look import Readings
from polyfleet.scaling.runner import Autoscaler, Poll
from polyfleet.scaling.series import ScalingSeries
from polyfleet.scaling.store import Store
from polyfleet.solver_process import SolverProcess
from polyfleet.wake.reader import Reader

log = logging.getLogger(__name__)

OK, FAILED, BAD_CONFIG, LEASE_LOST = 0, 1, 2, 3
clock = time.monotonic


def main(environ: Mapping[str, str] = os.environ) -> int:
    try:
        config = load(environ)
    except ConfigError as error:
        logs.setup("text")
        log.error("%s", error)
        return BAD_CONFIG
    logs.setup(config.log_format)
    try:
        return asyncio.run(run(config, environ))
    except ConfigError as error:
        log.error("%s", error)
        return BAD_CONFIG
    except (ConfigException, OSError, ValueError) as error:
        log.error("cannot start: %s; set KUBECONFIG to a readable file, or run in a pod with a ServiceAccount", error)
        return BAD_CONFIG


async def run(config: Config, environ: Mapping[str, str]) -> int:
    """Runs until stopped; returns the exit code."""
    stop = asyncio.Event()
    catch_signals(stop)
    async with AsyncExitStack() as stack:
        metrics = Metrics(clock)
        health = http.Health(clock, metrics.loop_lag.set)
        client = await stack.enter_async_context(Client(await load_configuration(environ), on_write=metrics.wrote))
        lease = Lease(
            client,
            namespace=config.lease_namespace,
            name=config.lease_name,
            duration_s=config.lease_duration_s,
            identity=config.identity,
            one_at_a_time=bool(environ.get("POD_NAME")),
        )
        client.fence = lease.fence
        queue = DirtyQueue(clock, idle=config.debounce_idle_s, longest=config.debounce_max_s)
        cache = Cache(
            client,
            clock,
            changed=queue.mark,
            namespaces=config.watch_namespaces,
            timing=Timing(resync_s=config.resync_s),
            home=config.namespace if config.activator else "",
        )
        health.ready = lambda: "" if cache.usable else "the cache is not synced"

        def scrape() -> bytes:
            metrics.watches(cache.watch_ages(), cache.unknown())
            return metrics.render()

        try:
            runner = await http.start(http.application(health, scrape), config.http_host, config.http_port)
        except OSError as error:
            raise ConfigError(f"POLYFLEET_HTTP_PORT={config.http_port}: cannot listen on {config.http_host}: {error}") from error
        stack.push_async_callback(runner.cleanup)
        # Everything that may end the process; the first to end decides how.
        parts = {
            asyncio.create_task(stop.wait(), name="signal"),
            asyncio.create_task(health.run(), name="health"),
            asyncio.create_task(cache.run(), name="cache"),
            asyncio.create_task(lead(config, client, lease, queue, cache, metrics, stop), name="lead"),
        }
        stack.push_async_callback(lease.release)
        stack.push_async_callback(cancel, parts)
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        return exit_code(done)


async def lead(
    config: Config, client: Client, lease: Lease, queue: DirtyQueue, cache: Cache, metrics: Metrics, stop: asyncio.Event
) -> None:
    """Waits for the Lease with a warm cache, then runs everything that writes."""
    await lease.acquire()
    metrics.leader.set(1)
    async with AsyncExitStack() as stack:
        solver = SolverProcess(clock, deadline_s=config.solver_deadline_s, memory_mib=config.solver_memory_mib)
        stack.push_async_callback(solver.close)
        expectations = Expectations(cache)
        tally = Tally()
        certifier = Certifier(client, clock, now=now, mark=queue.mark, meters=tally.to)
        stack.push_async_callback(certifier.close)
        counter = Counter(now, queue.mark)
        stack.push_async_callback(counter.close)
        feed = Feed(Scraper(clock, sent=tally.of), tally, prometheus=second_source(config, tally))
        stack.push_async_callback(feed.close)
        door = Reader()
        stack.push_async_callback(door.close)
        scaler = Autoscaler(
            time.time, queue.mark, Store(client), poll=polled(feed, door), knock=knocked(door), series=ScalingSeries(metrics.registry)
        )
        cycle = Cycle(
            queue,
            cache,
            expectations,
            solver,
            Applier(client, cache, expectations, queue.mark_later, clock),
            EventPoster(client, config.identity),
            metrics,
            clock,
            PlanWriter(client, cache, expectations),
            certifier=certifier,
            counter=counter,
            scaler=scaler,
            image=config.image,
            namespace=config.namespace,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(lease.keep(), name="lease")
            await cache.wait_synced()
            # Before the first cycle: the policy decides what may serve, so no cycle may run on its absence.
            if not await seed_objects(config, client, cycle):
                group.create_task(seed_again(config, client, cycle), name="seed")
            group.create_task(run_kopf(config, client, queue, stop), name="kopf")
            group.create_task(resync(config, queue), name="resync")
            queue.mark("start")
            group.create_task(cycle.run(), name="cycle")
            group.create_task(scaler.run(), name="autoscaler")


def polled(feed: Feed, door: Reader) -> Poll:
    """What the replicas and the activator say, in the autoscaler's words."""

    async def poll(inputs: Inputs, now: float) -> Readings:
        latest, gateways = await asyncio.gather(feed.poll(inputs, now), door.poll(inputs, now))
        return Readings(latest.samples, latest.failed, gateways, second=latest.second)

    return poll


def knocked(door: Reader) -> Poll:
    """What the activator says."""

    async def knock(inputs: Inputs, now: float) -> Readings:
        return Readings(gateways=await door.poll(inputs, now))

    return knock


def second_source(config: Config, tally: Tally) -> Prometheus | None:
    if not config.prometheus_url:
        return None
    return Prometheus(config.prometheus_url, config.prometheus_ca_file, config.prometheus_token_file, sent=tally.of)


async def seed_objects(config: Config, client: Client, cycle: Cycle) -> bool:
    """Applies the chart's profiles and policy; True if nothing is left that may pass later."""
    cycle.seeded = await seed.seed(client, config.profiles_dir, overwrite=config.overwrite_edited)
    for answer in cycle.seeded.answers:
        cycle.expectations.wrote(answer["kind"], answer)
    cycle.queue.mark("seed")
    return not cycle.seeded.retry


async def seed_again(config: Config, client: Client, cycle: Cycle) -> None:
    """For what failed at the start and may pass: the CRDs are not established yet, the API server restarts."""
    backoff = Backoff(first=2.0)
    while True:
        await asyncio.sleep(backoff.failed("seed", clock()))
        if await seed_objects(config, client, cycle):
            return


async def resync(config: Config, queue: DirtyQueue) -> None:
    """A cycle at least this often, whatever the watches said."""
    while True:
        await asyncio.sleep(config.resync_s)
        queue.mark("resync")


async def run_kopf(config: Config, client: Client, queue: DirtyQueue, stop: asyncio.Event) -> None:
    ready, ended = asyncio.Event(), asyncio.Event()
    where: dict[str, Any] = {"namespaces": config.watch_namespaces} if config.watch_namespaces else {"clusterwide": True}
    operator = asyncio.create_task(
        kopf.operator(
            registry=handlers.build(queue, client.configuration),
            settings=handlers.settings(),
            standalone=True,
            stop_flag=ended,
            ready_flag=ready,
            **where,
        ),
        name="kopf.operator",
    )
    try:
        await ready.wait()
        catch_signals(stop)  # kopf has installed its own, and would end before our writes have
        await operator
    finally:
        ended.set()
        operator.cancel()


def catch_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def exit_code(done: set[asyncio.Task[Any]]) -> int:
    """A signal is a good end; a lost Lease is told apart from a failure."""
    failures = [error for task in done if not task.cancelled() and (error := task.exception()) is not None]
    if not failures:
        return OK if any(task.get_name() == "signal" for task in done) else FAILED
    lost: list[BaseException] = []
    other: list[BaseException] = []
    for failure in failures:
        for error in leaves(failure):
            (lost if isinstance(error, LeaseLost | Fenced) else other).append(error)
    for error in lost:
        log.error("the Lease was lost: %s", error)
    for error in other:
        log.error("a part of the operator failed", exc_info=error)
    return FAILED if other else LEASE_LOST


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]
