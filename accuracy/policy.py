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
# On average, and with a longer tail: one unlikely golden token moves by a nat where the divergence of its position stays small. So its
# cap is twice as wide again, but where the cap itself is the limit (docs/benchmarks-accuracy.md, ways).
CAP_SQ_PER_KL = 4.0


class PolicyError(ValueError):
    """A value of the policy that cannot be used: field, value, what is allowed, what to change."""


@dataclass(frozen=True, slots=True)
class Margins:
    """How far a candidate may be from the reference. Divergences in nats per token.

    `noise_ratio` None: the ratio does not decide, the cap does (4-bit weights). `floor_sq` and `cap_sq` are the same limits for the
    squared difference of the golden token's log-probability, by default twice and four times those of the divergence (the cap twice where
    it decides).
    """

    noise_ratio: float | None = 2.0  # kappa
    floor_kl: float = 5e-4
    cap_kl: float = 0.02
    floor_sq: float = 1e-3
    cap_sq: float = 0.08
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
    def tasks_wanted(self) -> bool:
        """Whether task scores must hold as well."""
        return Gate.TASKS in self.gates or self.margins.require_tasks

    @property
    def hard_kl(self) -> float:
        """Mean divergence of one prompt that is a hard fault by itself, nats per token."""
        return max(0.25, 5 * self.margins.cap_kl)

    @property
    def digest(self) -> str:
        """ "sha256:..." of every field."""
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical text: sorted keys, numbers as their shortest exact form."""
        raw = asdict(self)
        # JSON has no infinity, and a flip margin without limit is one.
        raw["margins"] = {k: "inf" if v == math.inf else v for k, v in raw["margins"].items()}
        return json.dumps(raw, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Policy:
        """The policy again; raises PolicyError for text that is none."""
        try:
            raw: dict[str, Any] = json.loads(text)
            unknown = sorted(set(raw) - {f.name for f in fields(Policy)})
            if unknown:
                raise PolicyError(f"policy: unknown field {unknown[0]!r}; it was written by another version")
            filled: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            margins: dict[str, Any] = {k: math.inf if v == "inf" else v for k, v in raw["margins"].items()}
            policy = Policy(
                **{
                    **filled,
                    "margins": Margins(**margins),
                    "gates": tuple(map(Gate, raw["gates"])),
                    "modes": tuple(map(Mode, raw["modes"])),
                    "tasks": tuple(TaskRule(**t) for t in raw["tasks"]),
                }
            )
            _check(policy)
        except PolicyError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise PolicyError(f"policy: not the text of a policy ({e})") from None
        return policy


# What a declared difference allows (reference -> candidate), nats per token. Several differences: the widest of each.
_ROWS: Mapping[str, Margins] = {
    "": Margins(),
    "kv8": Margins(3.0, 1e-3, 0.03, 2e-3, 0.12, 0.5, 1.0, 0.03),  # int8 KV cache
    "kvfp8": Margins(6.0, 2e-3, 0.03, 4e-3, 0.12, 1.0, 2.0, 0.03),
    "activations8": Margins(6.0, 2e-3, 0.03, 4e-3, 0.12, 1.0, 2.0, 0.03),  # the engine quantises activations, same weights
    "weights8": Margins(12.0, 5e-3, 0.10, 1e-2, 0.40, 1.5, 3.0, 0.05, True),
    # The floor is no limit here (the cap decides); a tail of 3 nats is beyond what a flip margin adds.
    "weights4": Margins(None, 5e-3, 0.10, 1e-2, 0.20, 3.0, math.inf, 0.10, True, 2.0),
}
_FLOAT = ("bf16", "fp16", "fp32", "bfloat16", "float16", "float32", "half", "f16", "f32")
_FOUR = ("w4", "int4", "fp4", "nvfp4", "mxfp4", "q4", "iq4", "awq", "gptq", "nf4")
_EIGHT = ("w8", "int8", "fp8", "q8", "mxfp8", "hif8", "f8", "float8")


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
    """The policy for one candidate, of which `vendor`, `profile`, `variant` and `engine` are known and its number formats declared.

    An undeclared format is as the reference's; a format that this module does not know is judged as if undeclared, unless a pair rule
    names it. Of several matching pair rules the last one wins, number by number. Raises PolicyError for a value out of range.
    """
    level = settings.level or "Standard"
    if level not in LEVELS:
        raise PolicyError(f"level: {level!r}, allowed {', '.join(LEVELS)}")
    differences = _differences(reference, candidate)
    margins = _widest([_ROWS[row] for row in _rows(reference, candidate)])
    given = {f.name: v for f in fields(Margins) if (v := getattr(settings, f.name, None)) is not None}
    margins = _set(margins, given)
    who = (("vendors", vendor), ("profiles", profile), ("variants", variant), ("engines", engine))
    for rule in pairs:
        chosen = all(not getattr(rule, names) or is_ in getattr(rule, names) for names, is_ in who)
        wanted = {f.name: v.lower() for f in fields(Formats) if (v := getattr(rule.declares, f.name))}
        if chosen and wanted and all(name in differences and differences[name][1] == v for name, v in wanted.items()):
            margins = _set(margins, rule.margins)
            if rule.require_tasks is not None:
                margins = replace(margins, require_tasks=rule.require_tasks)
    points = [t.margin_points for t in settings.tasks if t.margin_points is not None]
    if points:
        margins = replace(margins, task_margin_points=min(points))
    filled: dict[str, Any] = {**LEVELS[level]}
    for name in _PLAIN:
        if (value := getattr(settings, name)) not in (None, ()):
            filled[name] = value
    policy = Policy(
        **{
            **filled,
            "level": level,
            "margins": margins,
            "gates": _gates(settings.gates),
            "modes": tuple(_word("modes", m, Mode) for m in settings.modes) or MODES,
            "declared": ", ".join(
                ("" if name == "weights" else name + " ") + f"{a or 'as stored'} -> {b}" for name, (a, b) in differences.items()
            ),
        }
    )
    _check(policy)
    return policy


_PLAIN = tuple(f.name for f in fields(Settings) if f.name in {p.name for p in fields(Policy)} - {"level", "gates", "modes"})


def _differences(reference: Formats, candidate: Formats) -> dict[str, tuple[str, str]]:
    """Format by format, where the candidate declares another one than the reference has: (reference's, candidate's)."""
    both = {f.name: (getattr(reference, f.name).lower(), getattr(candidate, f.name).lower()) for f in fields(Formats)}
    return {name: (a, b) for name, (a, b) in both.items() if b and a != b and not (_bits(b) == 16 and (not a or _bits(a) == 16))}


FORMATS = "bf16, fp16, fp32, or a word that begins with int8, fp8, w8, q8, int4, fp4, w4 or q4 (w8a8, q4_1), or awq, gptq, nf4"


def known_format(word: str) -> bool:
    """Whether margins depend on this number format (`FORMATS`, and their other spellings). Others are judged as if undeclared."""
    return _bits(word.lower()) > 0


def _bits(word: str) -> int:
    """16 for any floating point of 16 or 32 bits, 8, 4; 0 = not known. What w4a8 says of its weights counts."""
    if word in _FLOAT:
        return 16
    if word.startswith(_FOUR):
        return 4
    return 8 if word.startswith(_EIGHT) else 0


def _rows(reference: Formats, candidate: Formats) -> list[str]:
    """The rows of the declared differences; the direction does not matter, for a distance has none."""
    rows = [""]
    for name, pair in _differences(reference, candidate).items():
        narrow = min((b for w in pair if w and (b := _bits(w))), default=0)
        if 0 in [_bits(w) for w in pair if w] or narrow in (0, 16):
            continue
        if name == "weights":
            rows.append("weights4" if narrow == 4 else "weights8")
        elif narrow == 8 and name == "activations":
            rows.append("activations8")
        elif narrow == 8:
            rows.append("kvfp8" if any("fp8" in w or w.startswith(("f8", "float8", "hif8")) for w in pair) else "kv8")
    return rows


def _widest(rows: Sequence[Margins]) -> Margins:
    def of(name: str) -> Any:
        values = [getattr(r, name) for r in rows]
        if None in values:
            return None
        return min(values) if name == "task_margin_points" else max(values)

    return Margins(**{f.name: of(f.name) for f in fields(Margins)})


def _set(margins: Margins, given: Mapping[str, float]) -> Margins:
    """`given` wins; the limits of the squared difference follow those of the divergence unless they are given themselves."""
    names = {f.name for f in fields(Margins)} - {"require_tasks"}
    unknown = sorted(set(given) - names)
    if unknown:
        raise PolicyError(f"margins: unknown field {unknown[0]!r}, allowed {', '.join(sorted(names))}")
    follow: dict[str, Any] = {}
    if "floor_kl" in given:
        follow["floor_sq"] = given["floor_kl"] * SQ_PER_KL
    if "cap_kl" in given:
        decides = given.get("noise_ratio", margins.noise_ratio) is None
        follow["cap_sq"] = given["cap_kl"] * (SQ_PER_KL if decides else CAP_SQ_PER_KL)
    return replace(margins, **{**follow, **given})


def _gates(given: Sequence[str]) -> tuple[Gate, ...]:
    if not given:
        return GATES
    gates = {_word("gates", g, Gate) for g in given}
    missing = [g for g in NEEDED if g not in gates]
    if missing:
        raise PolicyError(
            f"gates: {', '.join(given)}, must have {', '.join(NEEDED)} ({', '.join(missing)} missing): none of them holds alone; "
            "to go without the gate set gate: Disabled"
        )
    return tuple(g for g in Gate if g in gates)


def _word(field_name: str, value: str, kind: Any) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise PolicyError(f"{field_name}: {value!r}, allowed {', '.join(kind)}") from None


# field: lowest, highest; both exclusive for shares and limits, inclusive for counts
_OPEN = {
    "alpha": (0.0, 0.5),
    "beta": (0.0, 0.5),
    "bad_prompt_rate": (0.0, 0.5),
    "noise_kl": (0.0, 10.0),
    "entry_evidence": (1.0, math.inf),
}
_MARGINS_OPEN = {
    "noise_ratio": (0.0, 1000.0),
    "floor_kl": (0.0, 10.0),
    "cap_kl": (0.0, 10.0),
    "floor_sq": (0.0, 4.0),
    "cap_sq": (0.0, 4.0),
    "tail_kl": (0.0, 50.0),
    "bias": (0.0, 0.5),
    "task_margin_points": (0.0, 50.0),
}
_COUNTS = {
    "min_prompts": (1, 100_000),
    "max_prompts": (1, 100_000),
    "positions_per_prompt": (1, 1024),
    "top_k": (1, 1000),
    "repeats": (1, 16),
    "seed": (0, 2**31 - 1),
    "entry_prompts": (1, 1000),
    "entry_max_prompts": (1, 1000),
    "entry_max_tokens": (1, 1_000_000),
}


def _check(policy: Policy) -> None:
    for of, ranges in ((policy, _OPEN), (policy.margins, _MARGINS_OPEN)):
        for name, (low, high) in ranges.items():
            value = getattr(of, name)
            if value is None and name in ("noise_kl", "noise_ratio"):
                continue
            if not _number(value) or not low < value < high:
                raise PolicyError(f"{name}: {value!r}, must be a number above {low:g} and below {high:g}")
    if not _number(policy.margins.flip_margin_nats) or not policy.margins.flip_margin_nats > 0:
        raise PolicyError(f"flip_margin_nats: {policy.margins.flip_margin_nats!r}, must be a number above 0")
    for name, (lowest, highest) in _COUNTS.items():
        value = getattr(policy, name)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise PolicyError(f"{name}: {value!r}, must be a whole number from {lowest} to {highest}")
    if policy.min_prompts > policy.max_prompts:
        raise PolicyError(f"min_prompts: {policy.min_prompts}, must be at most max_prompts ({policy.max_prompts})")
    for name, words in (("on_inconclusive", ON_INCONCLUSIVE), ("on_unavailable", ON_UNAVAILABLE), ("level", tuple(LEVELS))):
        if getattr(policy, name) not in words:
            raise PolicyError(f"{name}: {getattr(policy, name)!r}, allowed {', '.join(words)}")
    if not policy.concurrency or any(not isinstance(n, int) or not 1 <= n <= 1024 for n in policy.concurrency):
        raise PolicyError(f"conditions.concurrency: {policy.concurrency!r}, must be whole numbers from 1 to 1024")
    if not policy.prefix_cache or any(s not in (MISS, HIT) for s in policy.prefix_cache):
        raise PolicyError(f"conditions.prefix_cache: {policy.prefix_cache!r}, allowed {MISS}, {HIT}")
    for name in ("concurrency", "prefix_cache", "strata"):
        if len(set(getattr(policy, name))) < len(getattr(policy, name)):
            raise PolicyError(f"{name}: {getattr(policy, name)!r}, must not say a value twice")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
