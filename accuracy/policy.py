"""The effective policy of one pair: every number of the gate, filled from the level, the declared pair's row and what was set.

What wins, from weakest: the level, the built-in row of the declared difference, a number that is set, a pair rule's margins. Nothing here
reads a clock or an endpoint: the same input gives the same policy and the same digest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from accuracy.types import HIT, MISS, Gate, Mode

LEVELS: Mapping[str, Mapping[str, float]] = {
    "Quick": {"alpha": 0.05, "beta": 0.05, "bad_prompt_rate": 0.02, "max_prompts": 600, "repeats": 1},
    "Standard": {"alpha": 0.01, "beta": 0.05, "bad_prompt_rate": 0.02, "max_prompts": 600, "repeats": 1},
    "Critical": {"alpha": 0.01, "beta": 0.05, "bad_prompt_rate": 0.005, "max_prompts": 2000, "repeats": 3},
}
STRATA = (
    "UltraShort",
    "Chat",
    "Code",
    "OtherScripts",
    "RareTokens",
    "Tools",
    "LongContext",
    "BlockEdges",
    "SharedPrefix",
    "MixedLengths",
)
GATES = (Gate.CONTRACT, Gate.HARD_FAULTS, Gate.TOKENS, Gate.TAIL, Gate.BIAS, Gate.SELF_CONSISTENCY)
MODES = (Mode.PROMPT_LOGPROBS, Mode.STEPWISE, Mode.FREE_RUN)
# Tokens tests the mean of a clipped score, so that only HardFaults and Tail bound the tail; Contract is what makes the rest comparable.
NEEDED = (Gate.CONTRACT, Gate.HARD_FAULTS, Gate.TOKENS, Gate.TAIL)
ON_UNAVAILABLE = ("UseGolden", "SelfConsistency", "Hold")
ON_INCONCLUSIVE = ("Hold", "Extend", "RequireApproval")
SQ_PER_KL = 2.0  # for small differences the squared difference of one log-probability is twice the divergence


class PolicyError(ValueError):
    """A value of the policy that cannot be used: field, value, what is allowed, what to change."""


@dataclass(frozen=True, slots=True)
class Margins:
    """How far a candidate may be from the reference. Divergences in nats per token.

    `noise_ratio` None: the ratio does not decide, the cap does (4-bit weights). `floor_sq` and `cap_sq` are the same limits for the
    squared difference of the golden token's log-probability, by default twice those of the divergence.
    """

    noise_ratio: float | None = 2.0  # kappa
    floor_kl: float = 5e-4
    cap_kl: float = 0.01
    floor_sq: float = 1e-3
    cap_sq: float = 0.02
    tail_kl: float = 0.5  # tau, of one position
    flip_margin_nats: float = 1.0  # m, reference margin of a top-1 flip
    bias: float = 0.02  # b, of the mean signed difference
    require_tasks: bool = False
    task_margin_points: float = 3.0  # allowed loss in the tasks, percentage points


@dataclass(frozen=True, slots=True)
class Formats:
    """Declared number formats: bf16, fp16, fp32, w8a8, int8, fp8, w4a8, w4, ...; "" = not stated: as the reference (or, for the reference
    itself, as the weights are stored, which is taken for 16 or 32 bit floating point)."""

    weights: str = ""
    kv: str = ""
    activations: str = ""


@dataclass(frozen=True, slots=True)
class PairRule:
    """Margins for a declared difference, by candidate; empty selectors match all. It applies where the candidate declares every format
    that `declares` names and the reference does not have it."""

    vendors: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    declares: Formats = Formats()
    margins: Mapping[str, float] = field(default_factory=dict)  # names of `Margins`
    require_tasks: bool | None = None  # None: as the built-in row says


@dataclass(frozen=True, slots=True)
class TaskRule:
    """One task score that must hold."""

    name: str
    items: int | None = None
    margin_points: float | None = None
    paired: bool | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What was set, field by field; None or () = not set. Durations in seconds."""

    level: str | None = None
    reference_profile: str | None = None
    max_age_s: float | None = None
    on_unavailable: str | None = None
    modes: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    alpha: float | None = None
    beta: float | None = None
    bad_prompt_rate: float | None = None
    noise_ratio: float | None = None
    noise_kl: float | None = None
    floor_kl: float | None = None
    cap_kl: float | None = None
    tail_kl: float | None = None
    flip_margin_nats: float | None = None
    bias: float | None = None
    min_prompts: int | None = None
    max_prompts: int | None = None
    positions_per_prompt: int | None = None
    top_k: int | None = None
    repeats: int | None = None
    seed: int | None = None
    concurrency: tuple[int, ...] = ()
    prefix_cache: tuple[str, ...] = ()
    per_replica: bool | None = None
    tasks: tuple[TaskRule, ...] = ()
    on_inconclusive: str | None = None
    recheck_every_s: float | None = None
    on_driver_change: bool | None = None
    shadow_percent: float | None = None

    def over(self, base: Settings) -> Settings:
        """These settings over the fleet's: what is set here replaces, tasks are added."""
        changed = {f.name: v for f in fields(self) if f.name != "tasks" and (v := getattr(self, f.name)) not in (None, ())}
        names = {t.name for t in self.tasks}
        return replace(base, **changed, tasks=(*(t for t in base.tasks if t.name not in names), *self.tasks))


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything filled. The defaults are level Standard without a declared difference."""

    level: str = "Standard"
    alpha: float = 0.01  # false promotions, at any stopping time
    beta: float = 0.05  # false blocks
    bad_prompt_rate: float = 0.02  # rho, what is certified
    margins: Margins = Margins()
    noise_kl: float | None = None  # stated by hand: it replaces the measured noise of every prompt
    gates: tuple[Gate, ...] = GATES
    modes: tuple[Mode, ...] = MODES
    strata: tuple[str, ...] = STRATA
    min_prompts: int = 60
    max_prompts: int = 600
    positions_per_prompt: int = 48
    top_k: int = 20
    repeats: int = 1
    seed: int = 20261124
    concurrency: tuple[int, ...] = (1, 8, 64)
    prefix_cache: tuple[str, ...] = (MISS, HIT)
    per_replica: bool = True
    tasks: tuple[TaskRule, ...] = ()
    on_inconclusive: str = "Hold"
    reference_profile: str = ""
    max_age_s: float = 720 * 3600.0
    on_unavailable: str = "UseGolden"
    recheck_every_s: float = 168 * 3600.0
    on_driver_change: bool = True
    shadow_percent: float = 0.0
    declared: str = ""  # "bf16 -> w8a8"; "" = no declared difference
    entry_prompts: int = 32
    entry_max_prompts: int = 96
    entry_max_tokens: int = 256
    entry_evidence: float = 20.0

    @property
    def hard_kl(self) -> float:
        """Mean divergence of one prompt that is a hard fault by itself, nats per token."""
        return max(0.25, 5 * self.margins.cap_kl)

    @property
    def digest(self) -> str:
        """"sha256:..." of every field."""
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical text: sorted keys, numbers as their shortest exact form."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Policy:
        """The policy again; raises PolicyError for text that is none."""
        raise NotImplementedError


def effective(
    settings: Settings,
    *,
    reference: Formats = Formats(),
    candidate: Formats = Formats(),
    pairs: Sequence[PairRule] = (),
    vendor: str = "",
    profile: str = "",
    variant: str = "",
    engine: str = "",
) -> Policy:
    """The policy for one candidate. Raises PolicyError for a value out of range."""
    raise NotImplementedError
