"""Continuous batching: which tokens of which sequences go into the next iteration.

Every iteration takes one token of each running sequence and fills the rest of a token budget with pieces of waiting prompts
(chunked prefill), in order of arrival. A sequence holds cache blocks for what is computed; when none is left, the youngest one
gives its blocks back and is computed again later (preemption). `Scheduler.step` is one iteration and knows no thread, no clock
but the one it is given and no HTTP; `scheduled_backend.py` runs it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sandbox.engine.backend import Event, Finished, FinishReason, Job, Load, PromptScored, Started, Token, TokenLogprobs
from sandbox.engine.kv_blocks import BlockPool, block_digests
from sandbox.engine.numerics import F32
from sandbox.engine.sampling import choose, describe
from sandbox.engine.step_model import Chunk, StepModel

LOGIT_ROWS = 32  # rows of logits at a time: 32 x 49152 float32 = 6 MB


@dataclass(frozen=True)
class Limits:
    """`max_sequences` run at once; `max_tokens` enter one iteration."""

    max_sequences: int
    max_tokens: int


@dataclass(eq=False)
class Run:
    """One job on its way. `tokens` are prompt and answer; of these `computed` lie in the cache."""

    job: Job
    emit: Callable[[Event], None]
    arrived: float
    rng: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    cached: int = 0
    blocks: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    scored: list[TokenLogprobs] = field(default_factory=list)
    started: bool = False
    aborted: bool = False
    number: int = 0

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.job.prompt)


class Scheduler:
    def __init__(self, model: StepModel, pool: BlockPool, limits: Limits, end_ids: frozenset[int], clock: Callable[[], float]) -> None:
        self._model, self._pool, self._limits, self._clock = model, pool, limits, clock
        self.end_ids = end_ids  # may be set from another thread
        self.waiting: deque[Run] = deque()
        self.running: list[Run] = []
        self._prefix_queries = self._prefix_hits = self._preemptions = self._added = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, run: Run) -> None:
        run.tokens = list(run.job.prompt)
        run.number, self._added = self._added, self._added + 1
        self.waiting.append(run)

    def load(self) -> Load:
        return Load(
            running=len(self.running),
            waiting=len(self.waiting),
            kv_used=self._pool.used / self._pool.count,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
            preemptions=self._preemptions,
        )

    def step(self) -> None:
        """One iteration: admit, choose tokens, compute, sample, tell."""
        self._drop_aborted()
        self._admit()
        plan = self._plan()
        if not plan:
            return
        chunks = [self._chunk(run, count) for run, count in plan.items()]
        hidden = self._model.forward(chunks)
        ready: list[tuple[Run, int]] = []
        low = 0
        for run, chunk in zip(plan, chunks, strict=True):
            high = low + len(chunk.tokens)
            self._score_prompt(run, chunk, hidden[low:high])
            run.computed += len(chunk.tokens)
            self._publish(run)
            if run.pending == 0:
                ready.append((run, high - 1))
            low = high
        self._sample(ready, hidden)

    def _drop_aborted(self) -> None:
        for run in [r for r in self.running if r.aborted]:
            self._leave(run)
        if any(run.aborted for run in self.waiting):
            self.waiting = deque(run for run in self.waiting if not run.aborted)

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self._limits.max_sequences:
            run = self.waiting[0]
            # a cached prefix has no logits, so a job that wants the prompt scored computes all of it
            wants_scores = run.job.sampling.prompt_logprobs is not None
            prefix = [] if wants_scores else self._pool.take_prefix(run.tokens)
            if self._pool.free < self._pool.blocks_for(len(run.tokens) + 1) - len(prefix):
                self._pool.release(prefix)
                return
            self.waiting.popleft()
            run.blocks, run.computed = prefix, len(prefix) * self._pool.size
            run.digests = block_digests(run.tokens[: run.computed], self._pool.size)
            self.running.append(run)
            if not run.started:
                run.started, run.cached = True, run.computed
                self._prefix_queries += len(run.tokens)
                self._prefix_hits += run.cached
                run.emit(Started(self._clock() - run.arrived, run.cached))

    def _plan(self) -> dict[Run, int]:
        """Tokens per run: decodes first, then prompts by arrival, within the token budget and the free blocks."""
        plan: dict[Run, int] = {}
        budget = self._limits.max_tokens
        decodes = [run for run in self.running if run.pending == 1]
        for run in decodes + [run for run in self.running if run.pending > 1]:
            count = min(run.pending, budget)
            if count and run in self.running and self._reserve(run, count, plan):
                plan[run] = count
                budget -= count
        return plan

    def _reserve(self, run: Run, count: int, plan: dict[Run, int]) -> bool:
        """Takes the blocks that the run needs; the youngest run gives its own back while none is free. False: that was this one."""
        while len(run.blocks) < self._pool.blocks_for(run.computed + count):
            block = self._pool.take()
            if block is not None:
                run.blocks.append(block)
                continue
            victim = self.running[-1]
            self._leave(victim)
            victim.computed = 0
            plan.pop(victim, None)
            self.waiting.appendleft(victim)
            self._preemptions += 1
            if victim is run:
                return False
        return True

    def _chunk(self, run: Run, count: int) -> Chunk:
        prefill = run.generated == 0 or run.pending > 1
        tokens = tuple(run.tokens[run.computed : run.computed + count])
        logprobs = run.job.sampling.logprobs is not None or run.job.sampling.prompt_logprobs is not None
        return Chunk(tokens, run.computed, tuple(run.blocks), run.cached, prefill, run.number, logprobs)

    def _publish(self, run: Run) -> None:
        if run.computed // self._pool.size > len(run.digests):
            before = len(run.digests)
            run.digests = block_digests(run.tokens[: run.computed], self._pool.size, run.digests)
            for index in range(before, len(run.digests)):
                self._pool.publish(run.blocks[index], run.digests[index])

    def _score_prompt(self, run: Run, chunk: Chunk, hidden: F32) -> None:
        wanted = run.job.sampling.prompt_logprobs
        if wanted is None:
            return
        first = len(run.scored)  # position whose next token is scored next; earlier ones were done before a preemption
        last = min(chunk.start + len(chunk.tokens), len(run.job.prompt) - 1)
        for low in range(max(first, chunk.start), last, LOGIT_ROWS):
            high = min(low + LOGIT_ROWS, last)
            rows = self._model.logits(hidden[low - chunk.start : high - chunk.start])
            run.scored += [describe(row, run.tokens[low + i + 1], wanted) for i, row in enumerate(rows)]

    def _sample(self, ready: Sequence[tuple[Run, int]], hidden: F32) -> None:
        for low in range(0, len(ready), LOGIT_ROWS):
            part = ready[low : low + LOGIT_ROWS]
            if all(run.job.sampling.max_tokens == 0 for run, _ in part):
                rows = hidden  # nobody samples: no head needed
            else:
                rows = self._model.logits(hidden[[row for _, row in part]])
            for (run, _), logits in zip(part, rows, strict=False):
                self._advance(run, logits)

    def _advance(self, run: Run, logits: F32) -> None:
        """Appends the next token and ends the run if this was its last."""
        sampling = run.job.sampling
        if run.generated == 0 and sampling.prompt_logprobs is not None:
            run.emit(PromptScored(tuple(run.scored)))
        if sampling.max_tokens == 0:
            self._finish(run, "length")
            return
        token = choose(logits, sampling, run.rng)
        run.tokens.append(token)
        run.emit(Token(token, None if sampling.logprobs is None else describe(logits, token, sampling.logprobs)))
        if token in self.end_ids and not sampling.ignore_eos:
            self._finish(run, "stop")
        elif token in sampling.stop_token_ids:
            self._finish(run, "stop", token)
        elif run.generated >= sampling.max_tokens:
            self._finish(run, "length")

    def _finish(self, run: Run, reason: FinishReason, stop_token: int | None = None) -> None:
        self._leave(run)
        run.emit(Finished(reason, stop_token))

    def _leave(self, run: Run) -> None:
        self.running.remove(run)
        self._pool.release(run.blocks)
        run.blocks, run.digests = [], []
