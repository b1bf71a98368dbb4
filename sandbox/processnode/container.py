"""One container's life: image, back-off, start, probes, restart, stop. One supervisor per container and pod."""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from sandbox.processnode import images, launch, timestamps
from sandbox.processnode.backoff import Backoff
from sandbox.processnode.context import NodeContext, Pod
from sandbox.processnode.deadline import Deadline
from sandbox.processnode.kube import CONNECTION_ERRORS, ApiError
from sandbox.processnode.probes import ContainerProbes
from sandbox.processnode.probing import Prober, pre_stop
from sandbox.processnode.process import Exit, Run, remove_run
from sandbox.processnode.records import ContainerRecord, Running, Terminated, Waiting
from sandbox.processnode.scenario import Faults

_LOG = logging.getLogger(__name__)
_LEAST_GRACE_SECONDS = 2.0  # what the kubelet leaves for SIGTERM when a preStop handler has used up the grace period
_CONFIG_RETRY_SECONDS = 2.0


class Supervisor:
    """Keeps one container as its pod wants it. ``changed`` is called after every change of the record."""

    def __init__(
        self, node: NodeContext, pod: Pod, spec: Mapping[str, Any], record: ContainerRecord, policy: str, changed: Callable[[], None]
    ) -> None:
        self.record = record
        self.folder = pod.folder / "containers" / record.name
        self._node, self._pod, self._spec, self._policy, self._changed = node, pod, spec, policy, changed
        self._stopping = asyncio.Event()
        self._run: Run | None = None
        self._adopted: Run | None = None
        self._deadline: Deadline | None = None
        self._probes = ContainerProbes({})
        self._restarting: asyncio.Task[None] | None = None
        self._crash: asyncio.Task[None] | None = None
        self._events: set[asyncio.Task[None]] = set()

    # -- what the pod asks for ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live until no further run will come, or until stopped."""
        run, self._adopted = self._adopted, None
        while not self._stopping.is_set() and not (run is None and self.record.done):
            run = run or await self._begin()
            if run is not None:
                await self._attend(run)
                run = None

    async def stop(self, deadline: Deadline) -> None:
        """Stop for good; returns when nothing of the container runs any more."""
        self._deadline = deadline
        self._stopping.set()
        run = self._run or self._adopted
        if run is None:
            return
        self._event("Normal", "Killing", f"Stopping container {self.record.name}")
        await self._end(run, deadline)
        if run is self._adopted:  # stopped before `run` came to attend it
            self._record_end(await run.wait(), run.started_at)

    def conclude(self) -> None:
        """Turn a container that waited when its pod was stopped into one that has ended."""
        if isinstance(self.record.state, Waiting):
            never = Terminated(
                137, "ContainerStatusUnknown", timestamps.now(), message="The container could not be located when the pod was terminated"
            )
            self.record.state = self.record.last or never
        self.record.ready = self.record.started = False

    def refresh(self) -> None:
        """The scenario has changed."""
        if self._run is not None:
            self._settle()
            self._arm_crash(self._run)

    # -- from nothing to a run ---------------------------------------------------------------------------------------------------

    def adopt(self) -> bool:
        """Take over the run that an earlier agent started and did not see the end of; True when there is one.

        Called before anything is reported, so that the agent's restart flips nothing: a run counts as running until its end is read.
        """
        if self.record.attempt == 0 or isinstance(self.record.state, Terminated):
            return False
        self._adopted = Run.find(self.folder / str(self.record.attempt))
        if self._adopted is None:
            return False
        self.record.container_id = self._container_id()
        if self._adopted.started_at is not None:
            self.record.state = Running(self._adopted.started_at)
        pod_status = self._pod.object.get("status") or {}
        for known in pod_status.get("containerStatuses") or []:
            if known["name"] == self.record.name and known.get("containerID") == self.record.container_id:
                self.record.started, self.record.ready = bool(known.get("started")), bool(known.get("ready"))
        return True

    async def _begin(self) -> Run | None:
        """Everything up to a started process; None when stopped meanwhile."""
        image = await self._image()
        if image is None or not await self._back_off():
            return None
        if self._faults.start_delay_seconds and not await self._sleep(self._faults.start_delay_seconds):
            return None
        while True:
            root = self.folder / "root"
            try:
                prepared = await launch.build(self._node, self._pod, self._spec, image, root)
                break
            except launch.ConfigError as error:
                self._set(Waiting("CreateContainerConfigError", str(error)))
                self._event("Warning", "Failed", f"Error: {error}")
            except (ApiError, *CONNECTION_ERRORS) as error:
                _LOG.warning("%s: container %s: %s", self._pod.label, self.record.name, error)
            if not await self._sleep(_CONFIG_RETRY_SECONDS):
                return None
        if isinstance(self.record.state, Terminated):
            self.record.last = self.record.state
        now = timestamps.now()
        if self.record.attempt:
            self.record.restarts += 1
            self.record.backoff = self.record.backoff.raised(self._last_end() or now, now)
        self.record.attempt += 1
        self._set(Waiting("ContainerCreating"))  # saved before the start: a run is looked for under this number after a crash
        run = await Run.start(self.folder / str(self.record.attempt), prepared, self._node.lock)
        if run.started_at is not None:
            self._event("Normal", "Started", f"Started container {self.record.name}")
        self._remove_old_runs()
        return run

    async def _image(self) -> images.Image | None:
        backoff = Backoff()
        while True:
            reference = self.record.image
            try:
                if self._faults.image_error:
                    raise images.ImageError("ErrImagePull", f'cannot pull "{reference}": the scenario says so')
                return images.find(reference, self._spec.get("imagePullPolicy") or "IfNotPresent")
            except images.ImageError as error:
                self._set(Waiting(error.reason, str(error)))
                self._event("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
                now = timestamps.now()
                backoff = backoff.raised(now, now)
                if not await self._sleep(1.0):
                    return None
                if error.reason == "ErrImagePull":
                    self._set(Waiting("ImagePullBackOff", f'Back-off pulling image "{reference}": {error}'))
                    self._event("Normal", "BackOff", f'Back-off pulling image "{reference}"')
                if not await self._sleep(backoff.delay_seconds - 1.0):
                    return None

    async def _back_off(self) -> bool:
        ended = self._last_end()
        if ended is None:
            return not self._stopping.is_set()
        remaining = self.record.backoff.remaining_seconds(ended, timestamps.now())
        if remaining > 0:
            if isinstance(self.record.state, Terminated):
                self.record.last = self.record.state
            metadata = self._pod.object["metadata"]
            where = f"container={self.record.name} pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
            self._set(Waiting("CrashLoopBackOff", f"back-off {self.record.backoff.delay_seconds:.0f}s restarting failed {where}"))
            self._event("Warning", "BackOff", f"Back-off restarting failed container {self.record.name} in pod {metadata['name']}")
        return await self._sleep(remaining)

    # -- while it runs -----------------------------------------------------------------------------------------------------------

    async def _attend(self, run: Run) -> None:
        """Follow one run to its end, and decide what comes after it."""
        self._run = run
        started = run.started_at
        self.record.container_id = self._container_id()
        if started is not None:
            self._probes = ContainerProbes.of(self._spec)
            self._probes.resume(self.record.started, self.record.ready)
            self._settle()
            self._set(Running(started))
            self._arm_crash(run)
        if self._deadline is not None:  # the stop came while the process was being started
            self._restarting = asyncio.create_task(self._end(run, self._deadline))
        prober = Prober(self._spec, self._pod.ip, run.environment, self.folder / "root")
        asking = asyncio.create_task(prober.run(self._probes, self._answered))
        try:
            ended = await run.wait()
        finally:
            asking.cancel()
            for task in (self._crash, self._restarting):
                if task is not None:
                    task.cancel()
            self._crash = self._restarting = self._run = None
        self._record_end(ended, started)

    def _record_end(self, ended: Exit, started: datetime | None) -> None:
        reason = "StartError" if ended.start_error else "Completed" if ended.code == 0 else "Error"
        self.record.done = not self._restarts_after(ended.code)
        self.record.started = self.record.ready = False
        self._set(Terminated(ended.code, reason, ended.finished_at, started, ended.signal, ended.start_error, self.record.container_id))

    def _restarts_after(self, code: int) -> bool:
        if self._stopping.is_set():
            return False
        return self._policy == "Always" or (self._policy == "OnFailure" and code != 0)

    def _answered(self, kind: str, failure: str) -> None:
        run = self._run
        if run is None:
            return
        if failure:
            self._event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {failure}")
        self._settle()
        if self._probes.restart_because and self._restarting is None and not self._stopping.is_set():
            message = f"Container {self.record.name} failed {self._probes.restart_because} probe, will be restarted"
            self._event("Normal", "Killing", message)
            own = self._probes.specs[self._probes.restart_because].grace_seconds
            grace = own if own is not None else self._pod.object["spec"].get("terminationGracePeriodSeconds", 30)
            self._restarting = asyncio.create_task(self._end(run, Deadline(float(grace))))

    def _settle(self) -> None:
        before = (self.record.started, self.record.ready)
        self.record.started = self._probes.started
        self.record.ready = self._probes.ready and not self._faults.never_ready
        if before != (self.record.started, self.record.ready):
            self._changed()

    def _arm_crash(self, run: Run) -> None:
        if self._crash is not None:
            self._crash.cancel()
            self._crash = None
        after = self._faults.crash_after_seconds
        if after is not None and run.started_at is not None:
            remaining = after - (timestamps.now() - run.started_at).total_seconds()
            self._crash = asyncio.create_task(_later(remaining, lambda: run.send(signal.SIGKILL)))

    async def _end(self, run: Run, deadline: Deadline) -> None:
        """preStop, SIGTERM, and SIGKILL at the deadline."""
        passed = asyncio.create_task(deadline.passed())
        over = asyncio.create_task(run.wait())
        try:
            handler = (self._spec.get("lifecycle") or {}).get("preStop")
            if handler and run.alive:
                prober = Prober(self._spec, self._pod.ip, run.environment, self.folder / "root")
                hook = asyncio.create_task(pre_stop(prober, handler, deadline.remaining_seconds))
                await asyncio.wait({hook, over, passed}, return_when=asyncio.FIRST_COMPLETED)
                if hook.done() and not hook.cancelled() and hook.result():
                    self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {hook.result()}")
                hook.cancel()
                deadline.at_least(_LEAST_GRACE_SECONDS)
            if run.alive:
                run.send(signal.SIGTERM)
                passed.cancel()
                passed = asyncio.create_task(deadline.passed())
                await asyncio.wait({over, passed}, return_when=asyncio.FIRST_COMPLETED)
            while run.alive:  # again while the process is still being started
                run.send(signal.SIGKILL)
                await asyncio.wait({over}, timeout=1.0)
        finally:
            passed.cancel()
            over.cancel()

    # -- small things ------------------------------------------------------------------------------------------------------------

    @property
    def _faults(self) -> Faults:
        return self._node.scenario.faults(self._pod.object, self.record.name)

    def _last_end(self) -> datetime | None:
        ended = self.record.state if isinstance(self.record.state, Terminated) else self.record.last
        return ended.finished_at if ended else None

    def _container_id(self) -> str:
        return f"process://{self._pod.uid}.{self.record.name}.{self.record.attempt}"

    def _set(self, state: Waiting | Running | Terminated) -> None:
        self.record.state = state
        self._changed()

    async def _sleep(self, seconds: float) -> bool:
        """Wait; False when the container is being stopped."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
        return not self._stopping.is_set()

    def _event(self, kind: str, reason: str, message: str) -> None:
        task = asyncio.create_task(self._node.events.record(self._pod.object, kind, reason, message, self.record.name))
        self._events.add(task)
        task.add_done_callback(self._events.discard)

    def _remove_old_runs(self) -> None:
        """Keep the current and the previous run (kubectl logs --previous)."""
        for path in self.folder.iterdir():
            if path.name.isdigit() and int(path.name) < self.record.attempt - 1:
                remove_run(path)


async def _later(seconds: float, act: Callable[[], None]) -> None:
    await asyncio.sleep(max(0.0, seconds))
    act()
