"""The agent of one node: puts the parts together and hands every pod of the node to a worker of its own."""

import asyncio
import fcntl
import logging
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.deviceplugin.inotify import Watch
from sandbox.deviceplugin.kinds import withdrawn_ids
from sandbox.processnode import kube as api
from sandbox.processnode import scenario, store
from sandbox.processnode.addresses import AddressPool
from sandbox.processnode.context import NodeContext
from sandbox.processnode.devices import DeviceManager
from sandbox.processnode.events import EventRecorder
from sandbox.processnode.fleetnode import FleetNode
from sandbox.processnode.kubeletapi import KubeletApi, server_context
from sandbox.processnode.nodestatus import NodeStatus
from sandbox.processnode.pod import PodWorker
from sandbox.processnode.process import Run

_LOG = logging.getLogger(__name__)
_WORKER_RETRY_SECONDS = 5.0
_ORPHAN_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Options:
    """The command line."""

    kubeconfig: Path
    node: str
    fleet_node: FleetNode
    state: Path
    pod_cidr: str
    port: int
    scenario: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Agent:
    """One node."""

    def __init__(self, options: Options) -> None:
        self._options = options
        config = api.KubeConfig.load(options.kubeconfig)
        client = api.Kube(config)
        self._config = config
        self.node = NodeContext(
            name=options.node,
            kube=client,
            state=options.state,
            addresses=AddressPool(options.pod_cidr),
            devices=DeviceManager(options.fleet_node.offer(options.node)),
            events=EventRecorder(client, options.node),
            allocatable={},
        )
        self.node.online.set()
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._saved: dict[str, dict[str, Any]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled. The pods' processes go on: the next agent with the same state directory takes them over."""
        lock = _take_lock(self.node)
        kubelet = KubeletApi(lambda: list(self._workers.values()))
        try:
            self._saved = store.load_all(self.node.state)
            for uid, saved in self._saved.items():
                self.node.devices.restore(uid, saved["devices"])
                self.node.addresses.reserve(saved["ip"])
            tls = server_context(self._config, self.node.host_ip, self._options.certificate, self._options.key)
            port = await kubelet.start(self.node.host_ip, self._options.port, tls)
            self._status = NodeStatus(self.node, self._options.fleet_node, port)
            self._read_files()
            await self._status.register()
            _LOG.info("node %s is registered, address %s port %d", self.node.name, self.node.host_ip, port)
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._status.report_loop())
                group.create_task(self._status.lease_loop())
                group.create_task(self._watch_files())
                group.create_task(self._watch_pods())
        finally:
            await kubelet.stop()
            await self.node.kube.close()
            os.close(lock)

    # -- files that change while it runs -------------------------------------------------------------------------------------------

    @property
    def _withdrawn(self) -> Path:
        return self.node.state / "withdrawn"

    async def _watch_files(self) -> None:
        folders = {self._withdrawn.parent}
        if self._options.scenario:
            folders.add(self._options.scenario.resolve().parent)
        with Watch(*sorted(folders)) as watch:
            while True:
                watch.take_created()
                self._read_files()
                await watch.changed.wait()

    def _read_files(self) -> None:
        if self._options.scenario:
            try:
                self._apply(scenario.read(self._options.scenario))
            except (ValueError, OSError) as error:
                _LOG.error("the scenario stays as it was: %s", error)
        withdrawn: frozenset[str] = frozenset()
        with suppress(FileNotFoundError):
            withdrawn = withdrawn_ids(self._withdrawn.read_text())
        if self.node.devices.mark_unhealthy(withdrawn | self.node.scenario.devices.lost):
            _LOG.info("unhealthy devices: %s", ", ".join(sorted(self.node.devices.unhealthy)) or "none")
            self._status.recompute()

    def _apply(self, new: scenario.Scenario) -> None:
        if new == self.node.scenario:
            return
        self.node.scenario = new
        if new.node.silent:
            self.node.online.clear()
        elif not self.node.online.is_set():
            self.node.online.set()
            self._status.came_back()
        for worker in self._workers.values():
            worker.refresh()

    # -- pods ----------------------------------------------------------------------------------------------------------------------

    async def _watch_pods(self) -> None:
        query = {"fieldSelector": f"spec.nodeName={self.node.name}"}
        async for event in api.reflect(self.node.kube, "/api/v1/pods", query):
            await self.node.online.wait()
            if isinstance(event, api.Replaced):
                present = {item["metadata"]["uid"] for item in event.items}
                for uid in sorted(set(self._workers) - present):
                    self._workers[uid].removed()
                for item in event.items:
                    self._see(item)
                for uid in sorted(set(self._saved) - present):
                    self._spawn(uid, self._end_orphan(uid))
                self._saved = {}
            elif isinstance(event, api.Deleted):
                worker = self._workers.get(event.object["metadata"]["uid"])
                if worker is not None:
                    worker.removed()
            else:
                self._see(event.object)

    def _see(self, obj: dict[str, Any]) -> None:
        uid = str(obj["metadata"]["uid"])
        if uid in self._workers:
            self._workers[uid].update(obj)
        elif uid not in self._tasks:
            self._spawn(uid, self._work(uid, obj, self._saved.get(uid)))

    def _spawn(self, uid: str, work: Any) -> None:
        assert self._group is not None
        self._tasks[uid] = self._group.create_task(work)

    async def _work(self, uid: str, obj: dict[str, Any], saved: dict[str, Any] | None) -> None:
        """Run a worker; one that fails is an error of ours, and is started again from its record."""
        while True:
            worker = PodWorker(self.node, obj, saved, self._workers.values())
            self._workers[uid] = worker
            try:
                await worker.run()
                break
            except Exception:
                _LOG.exception("worker of pod %s failed; again in %.0f s", worker.pod.label, _WORKER_RETRY_SECONDS)
            await asyncio.sleep(_WORKER_RETRY_SECONDS)
            obj, saved = worker.pod.object, store.load_all(self.node.state).get(uid)
        del self._workers[uid], self._tasks[uid]

    async def _end_orphan(self, uid: str) -> None:
        """End what runs for a pod that was deleted while no agent was there."""
        folder = store.pod_folder(self.node.state, uid)
        runs = [run for record in sorted(folder.glob("containers/*/*/shim.json")) if (run := Run.find(record.parent)) is not None]
        for run in runs:
            run.send(signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for run in runs:
                if run.alive:
                    run.send(number)
            for run in runs:
                with suppress(TimeoutError):
                    await asyncio.wait_for(run.wait(), _ORPHAN_GRACE_SECONDS)
        self.node.devices.release(uid)
        store.remove(folder)
        self._tasks.pop(uid, None)


def _take_lock(node: NodeContext) -> int:
    """One agent per state directory. Shims look at the lock for an instant, so a first refusal means nothing."""
    node.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(node.lock, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            time.sleep(0.05)
    os.close(descriptor)
    raise RuntimeError(f"another agent works with the state directory {node.state}; stop it first, or give --state another directory")
