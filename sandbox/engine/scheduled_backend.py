"""Runs the scheduler in a thread of its own, so that the event loop (and with it /health) answers while a model computes.

numpy lets go of the interpreter lock inside its loops and products, so one thread is enough; no second process with a second
copy of the weights is needed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sandbox.engine.backend import BackendError, EventStream, Job, Load, QueueFullError
from sandbox.engine.kv_blocks import BlockPool
from sandbox.engine.scheduler import Limits, Run, Scheduler
from sandbox.engine.step_model import StepModel
from sandbox.engine.threads import run_in_daemon

log = logging.getLogger("sandbox.engine")


class ScheduledBackend:
    """A `Backend` over any step model. `make_model` is called in `start`, off the event loop: it may read weights for seconds."""

    prompt_logprobs = True

    def __init__(
        self,
        make_model: Callable[[], StepModel],
        pool: BlockPool,
        limits: Limits,
        end_ids: frozenset[int],
        *,
        max_queue: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_model: Callable[[], StepModel] | None = make_model
        self._pool, self._limits, self._end_ids = pool, limits, end_ids
        self._bound, self._max_queue, self._clock = limits.max_sequences + max_queue, max_queue, clock
        self.kv_blocks, self.kv_block_size = pool.count, pool.size
        self._wake = threading.Condition()
        self._inbox: deque[Run] = deque()
        self._closing = False
        self._fault: str | None = None
        self._scheduler: Scheduler | None = None
        self._thread: threading.Thread | None = None
        self._streams: dict[Run, EventStream] = {}  # jobs that the server still listens to

    async def start(self) -> None:
        make, self._make_model = self._make_model, None  # what it holds (an open file, its vocabulary) is not needed again
        if make is None:
            raise RuntimeError("started twice")
        model = await run_in_daemon(make, "engine-load")
        scheduler = Scheduler(model, self._pool, self._limits, self._end_ids, self._clock)
        self._scheduler = scheduler
        scheduler.end_ids = self._end_ids  # as told while the model was loading
        self._thread = threading.Thread(target=self._work, args=(scheduler,), name="engine-scheduler", daemon=True)
        self._thread.start()

    def _work(self, scheduler: Scheduler) -> None:
        try:
            while True:
                with self._wake:
                    while not (self._inbox or scheduler.busy or self._closing):
                        self._wake.wait()
                    if self._closing:
                        return
                    while self._inbox:
                        scheduler.add(self._inbox.popleft())
                scheduler.step()
        except Exception as error:
            log.exception("the scheduler failed")
            self._fault = f"the scheduler failed: {error}"
            for stream in list(self._streams.values()):
                stream.put(BackendError(self._fault))

    def open(self, job: Job) -> EventStream:
        if self._fault is not None:
            raise BackendError(self._fault)
        if len(self._streams) >= self._bound:
            raise QueueFullError(self._max_queue)

        def on_close() -> None:
            run.aborted = True
            self._streams.pop(run, None)
            with self._wake:
                self._wake.notify()

        stream = EventStream(on_close)
        run = Run(job=job, emit=stream.put, arrived=self._clock(), rng=np.random.default_rng(job.sampling.seed))
        self._streams[run] = stream
        with self._wake:
            self._inbox.append(run)
            self._wake.notify()
        return stream

    def end_at(self, end_ids: frozenset[int]) -> None:
        """From now on these tokens end an answer."""
        self._end_ids = end_ids
        if self._scheduler is not None:
            self._scheduler.end_ids = end_ids

    def load(self) -> Load:
        if self._scheduler is None:
            return Load(0, 0, 0.0, 0, 0, 0)
        load = self._scheduler.load()
        return replace(load, waiting=load.waiting + len(self._inbox))

    def fault(self) -> str | None:
        return self._fault

    async def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:  # it ends after the iteration that it is in
            await run_in_daemon(self._thread.join, "engine-close")
