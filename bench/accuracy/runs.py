"""Many runs of the gate at once: prompts are drawn anew from those measured, and the tests of `accuracy.decision` are kept for all runs
side by side, in the same whole numbers. A test holds single runs against `accuracy.decision`.

Each prompt may be drawn more than once: the measured ones stand for the population. A fault in a share of the requests is drawn per
request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from accuracy.evidence import Bets, evidence_of, steps_of
from accuracy.layout import BIAS_DOWN, BIAS_UP, KL, RATE, SQ, WIDTH, Tests, allowed
from accuracy.policy import Policy
from accuracy.types import Gate
from bench.accuracy.distances import Bools, Floats
from bench.accuracy.observed import Observed, bad, doubted, hard

Ints = npt.NDArray[np.int64]
NEVER = 1 << 30
PART = 60  # prompts at a time; runs that are over take no part in the next


@dataclass(frozen=True, slots=True)
class Setup:
    """What does not depend on the candidate."""

    policy: Policy
    tests: Tests
    noise: Observed
    strata: Sequence[str]  # of each measured prompt
    names: tuple[str, ...]  # of the strata, in the order of a round
    wide: tuple[Floats, Floats] = field(repr=False)  # c of kl and sq, by stratum in that order
    limits: tuple[Floats, Floats] = field(repr=False)  # B of kl and sq, by prompt


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of each run: whether it promoted, whether it blocked, and after how many prompts it was over."""

    promoted: Bools
    blocked: Bools
    prompts: Ints

    @property
    def promote(self) -> float:
        return float(self.promoted.mean())

    @property
    def block(self) -> float:
        return float(self.blocked.mean())

    @property
    def median(self) -> float:
        return float(np.median(self.prompts))


def setup(policy: Policy, noise: Observed, strata: Sequence[str], *, width: float | None = None) -> Setup:
    """`strata`: one of each measured prompt; a single name makes one stratum of all. `width`: c is this times B at the stratum's mean
    noise, instead of what `accuracy.layout` takes."""
    names = tuple(dict.fromkeys(strata))
    top_k = 1 if noise.kl is None else policy.top_k
    limits, means, counted = [], [], np.array(strata)
    for statistic, values in ((KL, noise.kl), (SQ, noise.sq)):
        floor = policy.margins.floor_kl if statistic == KL else policy.margins.floor_sq
        known = np.zeros(len(strata)) if values is None else values
        limits.append(np.array([allowed(policy, statistic, float(value)) for value in known]))
        means.append([float(np.maximum(known[counted == name], floor).mean()) for name in names])
    told = {name: (None if noise.kl is None else means[0][at], means[1][at]) for at, name in enumerate(names)}
    tests = Tests.of(policy, dict.fromkeys(names, policy.max_prompts), told, top_k=top_k)
    scales = np.array([tests.scales[tests.place[name]] for name in names])
    scales *= 1 if width is None else width / WIDTH
    wide = (scales[:, 0], scales[:, 1])
    return Setup(policy, tests, noise, strata, names, wide, (limits[0], limits[1]))


def draw(at: Setup, runs: int, seed: int) -> Ints:
    """[run, turn]: measured prompts, the strata taking turns, each draw with replacement."""
    chance = np.random.default_rng(seed)
    members = [np.flatnonzero(np.array(at.strata) == name) for name in at.names]
    order = np.empty((runs, at.policy.max_prompts), np.int64)
    for turn in range(at.policy.max_prompts):
        own = members[turn % len(members)]
        order[:, turn] = own[chance.integers(0, len(own), runs)]
    return order


def simulate(at: Setup, seen: Observed, *, runs: int, seed: int, healthy: Observed | None = None, share: float = 1.0) -> Outcome:
    """Runs against a candidate that answers as `seen`, or in a share below 1 of the requests so and else as `healthy`."""
    order = draw(at, runs, seed)
    chance = np.random.default_rng(seed + 1)
    acts = chance.random(order.shape) < share
    again = chance.random(order.shape) < share  # when a prompt is asked once more
    parts = [seen] if healthy is None else [seen, healthy]
    rows = [_Prompts(at, each) for each in parts]
    ends = _Race(at, runs)
    for start in range(0, at.policy.max_prompts, PART):
        live = ends.live()
        if not len(live):
            break
        turns = slice(start, min(start + PART, at.policy.max_prompts))
        which = order[live, turns]
        on = acts[live, turns] if healthy is not None else np.ones_like(which, bool)
        ends.run(live, start, _Turns(rows, which, on, again[live, turns]))
    return ends.outcome()


class _Prompts:
    """What each measured prompt says, under one behaviour of the candidate."""

    def __init__(self, at: Setup, seen: Observed) -> None:
        stratum = np.array([at.names.index(name) for name in at.strata])
        self.hard, self.doubted, self.bad = hard(seen, at.policy), doubted(seen), bad(seen, at.policy)
        lean = 0.5 + np.nan_to_num(seen.bias) / (8 * at.policy.margins.bias)
        up = np.where(np.isnan(seen.bias), 1.0, np.clip(lean, 0, 1))
        self.x: dict[str, Floats] = {BIAS_UP: up, BIAS_DOWN: 1 - up}
        for place, (statistic, values) in enumerate(((KL, seen.kl), (SQ, seen.sq))):
            if values is not None:
                score = np.clip(0.5 + (values - at.limits[place]) / (2 * at.wide[place][stratum]), 0, 1)
                self.x[statistic] = np.where(np.isnan(values), 1.0, score)


class _Turns:
    """Prompts [run, turn] as they were drawn."""

    def __init__(self, rows: Sequence[_Prompts], which: Ints, on: Bools, again: Bools) -> None:
        self._rows, self._which, self._on = rows, which, on
        doubted = self._of("doubted")
        repeats = doubted & (again | (np.ones_like(again) if len(rows) == 1 else ~on))
        self.hard: Bools = self._of("hard") | repeats
        self._bad: Bools = self._of("bad") | doubted

    def x(self, statistic: str) -> Floats:
        if statistic == RATE:
            return self._bad.astype(float)
        return np.asarray(self._chosen([row.x[statistic] for row in self._rows]), np.float64)

    def _of(self, name: str) -> Bools:
        return np.asarray(self._chosen([getattr(row, name) for row in self._rows]), np.bool_)

    def _chosen(self, values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        first = values[0][self._which]
        return first if len(values) == 1 else np.where(self._on, first, values[1][self._which])


class _Race:
    """All tests of all runs."""

    def __init__(self, at: Setup, runs: int) -> None:
        self._at = at
        # Self-consistency beside a reference waits for prompts that measure it; here none does. It counts in M.
        self._specs = [spec for spec in at.tests.specs if spec.gate in (Gate.TOKENS, Gate.TAIL, Gate.BIAS)]
        self._passed = np.full((len(self._specs), runs), NEVER, np.int64)  # turn after which it was reached
        self._failed = np.full(runs, NEVER, np.int64)
        self._up = [np.zeros((runs, len(spec.promote.lambdas)), np.int64) for spec in self._specs]
        self._down = [np.zeros((runs, len(spec.block.lambdas)), np.int64) for spec in self._specs]
        self._over = np.full(runs, NEVER, np.int64)
        self._promoted, self._blocked = np.zeros(runs, bool), np.zeros(runs, bool)

    def live(self) -> Ints:
        return np.flatnonzero(self._over == NEVER)

    def run(self, live: Ints, start: int, turns: _Turns) -> None:
        strata, tests = len(self._at.names), self._at.tests
        failed = np.where(turns.hard.any(1), start + turns.hard.argmax(1) + 1, NEVER)
        end = start + turns.hard.shape[1]
        for number, spec in enumerate(self._specs):
            x = turns.x(spec.statistic)
            own = np.arange(x.shape[1])
            if not spec.pooled:
                own = own[(start + own) % strata == self._at.names.index(spec.stratum)]
            if not len(own):
                continue
            readable = own if not spec.pooled else own[(start + own + 1) % strata == 0]
            picked = np.searchsorted(own, readable)
            for bets, logs, threshold in (
                (spec.promote, self._up[number], tests.promote_at),
                (spec.block, self._down[number], tests.block_at),
            ):
                path = logs[live][:, None, :] + np.cumsum(steps_of(bets, x[:, own]), axis=1)
                logs[live] = path[:, -1]
                first = _first(bets, path[:, picked], threshold, start + readable + 1)
                if bets is spec.promote:
                    self._passed[number, live] = np.minimum(self._passed[number, live], first)
                else:
                    failed = np.minimum(failed, first)
        self._settle(live, failed, end)

    def _settle(self, live: Ints, failed: Ints, end: int) -> None:
        policy = self._at.policy
        passed = np.maximum(self._passed[:, live].max(0), policy.min_prompts)
        blocked = (failed <= passed) & (failed < NEVER)
        promoted = ~blocked & (passed <= end)
        self._blocked[live], self._promoted[live] = blocked, promoted
        over = np.where(blocked, failed, np.where(promoted, passed, NEVER))
        if end >= policy.max_prompts:
            over = np.where(over == NEVER, policy.max_prompts, over)
        self._over[live] = over

    def outcome(self) -> Outcome:
        return Outcome(self._promoted, self._blocked, self._over)


def _first(bets: Bets, path: Ints, threshold: float, turn: Ints) -> Ints:
    """Of each run the turn after which the evidence is enough for the first time."""
    if not path.shape[1]:
        return np.full(len(path), NEVER, np.int64)
    reached = evidence_of(bets, path) >= threshold
    return np.where(reached.any(1), turn[reached.argmax(1)], NEVER)
