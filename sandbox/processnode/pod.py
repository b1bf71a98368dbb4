"""One pod's life on this node: admission, volumes, init containers, main containers, termination, deletion."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from sandbox.processnode import admission, status, store, timestamps
from sandbox.processnode.container import Supervisor
from sandbox.processnode.context import NodeContext, Pod
from sandbox.processnode.deadline import Deadline
from sandbox.processnode.devices import AdmissionError
from sandbox.processnode.kube import CONNECTION_ERRORS, ApiError
from sandbox.processnode.records import ContainerRecord, Waiting
from sandbox.processnode.reporter import Reporter
from sandbox.processnode.volumes import VolumeError, Volumes

_LOG = logging.getLogger(__name__)
_VOLUME_RETRY_SECONDS = 0.5


class PodWorker:
    """Drives one pod. ``saved`` is the record of an earlier agent, if there is one."""

    def __init__(self, node: NodeContext, obj: dict[str, Any], saved: dict[str, Any] | None, others: "Iterable[PodWorker]") -> None:
        self._node = node
        self._others = others
        self._saved = saved
        uid = str(obj["metadata"]["uid"])
        folder = store.pod_folder(node.state, uid)
        ip = saved["ip"] if saved else ""
        volumes = Volumes(node.kube, obj, folder / "volumes", pod_ip=ip, host_ip=node.host_ip, allocatable=node.allocatable)
        devices = {name: tuple(ids) for name, ids in saved["devices"].items()} if saved else {}
        self.pod = Pod(obj, folder, ip, volumes, devices)
        began = (obj.get("status") or {}).get("startTime")
        began = saved["startedAt"] if saved else began
        self._started_at = timestamps.parse(began) if began else timestamps.now()
        self._sandbox_ready = False
        self._ended = False
        self._rejected: tuple[str, str] | None = None
        self._stop = asyncio.Event()
        self._removed = False
        self._recorded: dict[str, Any] = {}
        self._deadline: Deadline | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        spec = obj["spec"]
        policy = spec.get("restartPolicy", "Always")
        init_policy = "Never" if policy == "Never" else "OnFailure"
        self.init = [self._supervisor(c, init_policy, is_init=True) for c in spec.get("initContainers") or []]
        self.main = [self._supervisor(c, policy, is_init=False) for c in spec["containers"]]
        self.reporter = Reporter(node, self.pod, self._status)

    def _supervisor(self, spec: dict[str, Any], policy: str, *, is_init: bool) -> Supervisor:
        first = Waiting("PodInitializing" if self.pod.object["spec"].get("initContainers") and not is_init else "ContainerCreating")
        record = ContainerRecord(spec["name"], spec["image"], first, is_init=is_init)
        if self._saved and record.name in self._saved["containers"]:
            record.restore(self._saved["containers"][record.name])
        return Supervisor(self._node, self.pod, spec, record, policy, self._changed)

    # -- what the manager tells --------------------------------------------------------------------------------------------------

    def update(self, obj: dict[str, Any]) -> None:
        """A newer state of the object was seen."""
        if not self.reporter.observe(obj):
            return
        self.pod.volumes.pod = obj
        if obj["metadata"].get("deletionTimestamp"):
            if self._deadline is not None:
                self._deadline.at_most(self._grace_seconds)
            self._stop.set()

    def removed(self) -> None:
        """The object is gone from the API server."""
        self._removed = True
        self._stop.set()

    def refresh(self) -> None:
        """The scenario has changed."""
        for supervisor in (*self.init, *self.main):
            supervisor.refresh()

    @property
    def finished(self) -> bool:
        """Whether it holds no resources of the node any more."""
        return self._ended or self._rejected is not None or self._status()["phase"] in status.TERMINAL

    @property
    def _grace_seconds(self) -> float:
        metadata, spec = self.pod.object["metadata"], self.pod.object["spec"]
        grace = metadata.get("deletionGracePeriodSeconds")
        grace = spec.get("terminationGracePeriodSeconds", 30) if grace is None else grace
        return max(float(grace), 1.0)  # the kubelet grants one second even to a forced deletion

    # -- its life ----------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the first sight of the pod to its end."""
        adopted = [supervisor.adopt() for supervisor in (*self.init, *self.main)]
        self._sandbox_ready = any(adopted)
        reporting = asyncio.create_task(self.reporter.run())
        try:
            self.update(self.pod.object)
            if (self.pod.object.get("status") or {}).get("phase") in status.TERMINAL and not self._saved:
                await self._stop.wait()  # an earlier agent has finished this pod
            elif self._admit():
                await self._live()
            self._node.devices.release(self.pod.uid)
            await self._stop.wait()
            reporting.cancel()
            if not self._removed:
                await self.reporter.delete()
            self._forget()
        finally:
            reporting.cancel()

    def _admit(self) -> bool:
        """Give the pod its address and devices, or reject it; an earlier agent's admission stands."""
        if self._saved:
            if self._saved.get("rejected"):
                self._rejected = (self._saved["rejected"][0], self._saved["rejected"][1])
            return self._rejected is None
        spec, offer = self.pod.object["spec"], self._node.devices.offer
        try:
            if offer is not None:
                init = admission.device_requests(spec.get("initContainers") or [], offer.resource)
                main = admission.device_requests(spec["containers"], offer.resource)
                if init or main:
                    self.pod.devices = self._node.devices.allocate(self.pod.uid, init, main)
                    self._tell_devices()
            others = [worker.pod.object for worker in self._others if worker is not self and not worker.finished]
            admission.check_room(self.pod.object, others, self._node.allocatable)
        except AdmissionError as error:
            self._node.devices.release(self.pod.uid)
            self._rejected = (error.reason, str(error))
            _LOG.warning("%s rejected: %s", self.pod.label, error)
            self._changed()
            return False
        self.pod.ip = self._node.host_ip if spec.get("hostNetwork") else self._node.addresses.take()
        self.pod.volumes.set_pod_ip(self.pod.ip)
        self._changed()
        return True

    def _tell_devices(self) -> None:
        """In the words of the device plugin, which writes the same line on a real node."""
        for _, ids in sorted(self.pod.devices.items()):
            envs = self._node.devices.environment(ids)
            _LOG.info("%s: allocated %s", self.pod.label, " ".join(f"{name}={value}" for name, value in sorted(envs.items())))

    async def _live(self) -> None:
        life = asyncio.create_task(self._containers())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({life, stop}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()
                return  # every container has ended by itself
            life.cancel()
            await self._terminate()
        finally:
            life.cancel()
            stop.cancel()
            for task in self._running.values():  # only after an error or when the agent ends; the processes themselves go on
                task.cancel()

    async def _containers(self) -> None:
        while True:
            try:
                await self.pod.volumes.provide()
                break
            except VolumeError as error:
                await self._node.events.record(self.pod.object, "Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
            except (ApiError, *CONNECTION_ERRORS) as error:
                _LOG.warning("%s: volumes: %s", self.pod.label, error)
            await asyncio.sleep(_VOLUME_RETRY_SECONDS)
        self._sandbox_ready = True
        fresh = asyncio.create_task(self.pod.volumes.keep_fresh())
        try:
            for supervisor in self.init:
                await self._wait_for([supervisor])
                if not status.initialized(supervisor.record):
                    return
            for supervisor in self.main:
                if isinstance(supervisor.record.state, Waiting) and supervisor.record.state.reason == "PodInitializing":
                    supervisor.record.state = Waiting("ContainerCreating")
            self._changed()
            await self._wait_for(self.main)
        finally:
            fresh.cancel()

    async def _wait_for(self, supervisors: list[Supervisor]) -> None:
        for supervisor in supervisors:
            self._running[supervisor.record.name] = asyncio.create_task(supervisor.run())
        tasks = [self._running[supervisor.record.name] for supervisor in supervisors]
        # Not gather: a cancelled wait must leave the supervisors alone, they are stopped in order below.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def _terminate(self) -> None:
        self._deadline = Deadline(self._grace_seconds)
        supervisors = [*self.init, *self.main]
        async with asyncio.TaskGroup() as group:
            for supervisor in supervisors:
                group.create_task(supervisor.stop(self._deadline))
        if self._running:
            await asyncio.wait(self._running.values())
        for supervisor in supervisors:
            supervisor.conclude()
        self._ended = True
        self._changed()

    def _forget(self) -> None:
        self._node.devices.release(self.pod.uid)
        if self.pod.ip != self._node.host_ip:
            self._node.addresses.release(self.pod.ip)
        store.remove(self.pod.folder)
        _LOG.info("%s is gone", self.pod.label)

    # -- what is known about it --------------------------------------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        facts = status.PodFacts(
            self.pod.object, self.pod.ip, self._node.host_ip, self._started_at, self._sandbox_ready, self._ended, self._rejected
        )
        known = {condition["type"]: condition for condition in (self.pod.object.get("status") or {}).get("conditions") or []}
        return status.pod_status(facts, [s.record for s in self.init], [s.record for s in self.main], known, timestamps.now())

    def _changed(self) -> None:
        metadata = self.pod.object["metadata"]
        record = {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "ip": self.pod.ip,
            "startedAt": timestamps.micros(self._started_at),
            "rejected": self._rejected,
            "devices": {name: list(ids) for name, ids in sorted(self.pod.devices.items())},
            "containers": {s.record.name: s.record.to_json() for s in (*self.init, *self.main)},
        }
        if record != self._recorded:
            store.save(self.pod.folder, record)
            self._recorded = record
        self.reporter.dirty.set()
