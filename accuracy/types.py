"""Values that cross the borders of this room: what is asked, what came back, what one prompt says, what follows from it.

All are frozen and hold plain numbers and tuples, so that a run can be written down, read again and decided again bit for bit.
Log-probabilities are natural logarithms; a divergence is in nats per token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

MISS, HIT = "Miss", "Hit"  # states of the prefix cache in which a prompt is sent


class Verdict(StrEnum):
    PROMOTE = "Promote"
    BLOCK = "Block"
    INCONCLUSIVE = "Inconclusive"  # holds: it never becomes Promote by waiting


class Reason(StrEnum):
    """Why; the words of the condition `AccuracyVerified`."""

    EQUIVALENT = "Equivalent"
    SELF_REFERENCE = "SelfReference"  # the reference hardware itself, or its stand-in: consistent with itself
    OVERRIDDEN = "Overridden"
    NOT_EQUIVALENT = "NotEquivalent"
    HARD_FAULT = "HardFault"
    CONTRACT_MISMATCH = "ContractMismatch"
    PENDING = "Pending"
    RUNNING = "Running"
    INCONCLUSIVE = "Inconclusive"  # the prompts are used up
    INPUTS_DIFFER = "InputsDiffer"
    REFERENCE_MISSING = "ReferenceMissing"
    REFERENCE_UNAVAILABLE = "ReferenceUnavailable"
    CANDIDATE_UNAVAILABLE = "CandidateUnavailable"
    CAPABILITY_MISSING = "CapabilityMissing"
    GOLDEN_STALE = "GoldenStale"
    NOISE_UNMEASURED = "NoiseUnmeasured"
    FINGERPRINT_CHANGED = "FingerprintChanged"
    DISABLED = "Disabled"


class Mode(StrEnum):
    """How an answer's tokens are scored, from the strongest (`accuracy/README.md`)."""

    PROMPT_LOGPROBS = "PromptLogprobs"  # the whole golden continuation in one request
    STEPWISE = "Stepwise"  # one generated token after each of a few prefixes
    FREE_RUN = "FreeRun"  # the candidate's own continuation, up to the first divergence
    TEXT_ONLY = "TextOnly"  # no log-probabilities at all; only where the policy lists it


class Gate(StrEnum):
    """G0 to G7, in this order."""

    CONTRACT = "Contract"
    HARD_FAULTS = "HardFaults"
    TOKENS = "Tokens"
    TAIL = "Tail"
    BIAS = "Bias"
    SELF_CONSISTENCY = "SelfConsistency"
    TASKS = "Tasks"
    SHADOW = "Shadow"


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt of a golden set. Either `messages` (chat) or `text` (raw)."""

    id: str
    stratum: (
        str  # UltraShort, Chat, Code, OtherScripts, RareTokens, Tools, LongContext, BlockEdges, SharedPrefix, MixedLengths, or a user's
    )
    messages: tuple[Mapping[str, Any], ...] = ()  # {"role": ..., "content": text, or parts for images}
    text: str = ""
    modality: str = "Text"
    tools: tuple[Mapping[str, Any], ...] = ()  # OpenAI tool definitions
    schema: Mapping[str, Any] | None = None  # JSON schema that the answer must satisfy
    continuation: str = ""  # natural continuation of `text`, scored instead of a sampled one
    expect_tool: str | None = None  # name of the tool that a right answer calls; "" = none may be called; None = not judged
    answer: str = ""  # right answer of a task item, compared after trimming
    must_stop: bool = False  # the answer ends by itself within 64 tokens


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Items in stored order. `digest` names the content ("sha256:..."); a set never changes under its digest."""

    name: str
    digest: str
    items: tuple[Item, ...]
    builtin: bool = False  # only built-in items may be quoted in reports


@dataclass(frozen=True, slots=True)
class Condition:
    """Under what load one prompt is sent: requests in flight, state of the prefix cache, and to which replica."""

    concurrency: int = 1
    prefix_cache: Literal["Miss", "Hit"] = "Miss"
    replica: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """One alternative. `id` None: the endpoint told only the string, which may be ambiguous."""

    id: int | None
    text: str
    logprob: float  # natural logarithm; NaN if the endpoint said NaN or null in its place


@dataclass(frozen=True, slots=True)
class Position:
    """One scored position: the golden token's own log-probability, and the most likely alternatives, most likely first."""

    token: Token
    top: tuple[Token, ...] = ()
    index: int = 0  # of the position in the continuation, from 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something at one request that no number describes: a code of `accuracy.hard`, and what was seen."""

    code: str  # NonFinite, PositiveLogprob, MassAboveOne, ServerError, EmptyReply, MissingLogprob, Sentinels, LowOverlap, Degenerate, ...
    detail: str = ""
    position: int | None = None
    status: int | None = None  # HTTP


@dataclass(frozen=True, slots=True)
class Scores:
    """One side's answer to one item under one condition."""

    item: str
    mode: Mode
    condition: Condition
    positions: tuple[Position | None, ...]  # None: this position could not be used
    prompt_ids: tuple[int, ...] = ()  # rendered prompt, where the endpoint tells; () = not told
    prompt_tokens: int | None = None  # usage.prompt_tokens
    text: str = ""  # generated text, truncated
    finish_reason: str = ""
    generated: tuple[int, ...] = ()  # generated ids, where told
    events: tuple[Event, ...] = ()
    seconds: float = 0.0
    requests: int = 0
    tokens: int = 0  # prompt and generated tokens that were paid for


@dataclass(frozen=True, slots=True)
class Sample:
    """What one prompt says, in numbers: everything that the decision reads, and nothing else."""

    index: int  # place in the run's order, from 0
    item: str
    stratum: str
    modality: str
    condition: Condition
    mode: Mode
    d_kl: float | None  # mean KL over the positions, nats per token; None where k = 1
    d_sq: float | None  # mean squared difference of the golden token's logprob, each clipped at 2 nats
    noise_kl: float | None  # the same of the reference against its own replicate
    noise_sq: float | None
    bias: float | None  # mean signed difference of the golden token's logprob, each clipped at +-2 nats
    max_kl: float = 0.0  # of the worst position
    worst: int | None = None  # that position
    flip: float | None = None  # largest reference margin of a top-1 flip, nats; None: no flip or no alternatives
    positions: int = 0  # usable ones
    hard: str = ""  # code of a hard fault at first sight or confirmed: Block
    intermittent: str = ""  # code of a fault that did not repeat: a violation of Tail
    consistent_kl: float | None = None  # SelfConsistency: the candidate against itself under another condition
    consistent_sq: float | None = None
    task: float | None = None  # Tasks: candidate's score less the reference's, from -1 to 1


@dataclass(frozen=True, slots=True)
class GateResult:
    """One test of one gate, as it stands."""

    gate: Gate
    stratum: str  # "" = pooled; "concurrency=8", "prefixCache=Hit", "replica=..." are margins of the design
    statistic: str  # kl, sq, rate, bias+, bias-, ...
    prompts: int
    estimate: float | None
    interval: tuple[float, float] | None
    boundary: float
    evidence_promote: float
    evidence_block: float
    decision: Literal["Pass", "Fail", "Open"]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a run stands. `verdict` None: it goes on."""

    verdict: Verdict | None
    reason: Reason
    message: str
    prompts: int
    gates: tuple[GateResult, ...] = ()
    noise_ratio: float | None = None  # mean distance over mean noise
    certified_rate: float | None = None  # upper bound of the bad-prompt rate ...
    confidence: float | None = None  # ... at this confidence; None: nothing is certified yet


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint can do, as probed; None = could not be found out."""

    top_k: int = 0  # alternatives per generated position, 0 = no logprobs
    prompt_logprobs: bool = False  # scores a given continuation in one request
    prompt_top_k: int = 0
    token_ids_in: bool = False
    token_ids_out: bool = False
    tokenize: bool = False
    chat: bool = False
    completions: bool = False
    streaming: bool = False
    max_model_len: int | None = None
    model: str = ""
    engine: str = ""  # guessed from what it tells: vllm, sglang, mindie, tgi, llama.cpp, ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suspect:
    """A likely cause. `weight` is the share of the evidence that fits it, 0 to 1."""

    code: str
    weight: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost, per side."""

    requests: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a verdict holds for. Empty parts are not known."""

    profile: str = ""
    weights: str = ""
    tokenizer: str = ""
    template: str = ""
    engine_image: str = ""
    driver: str = ""
    flags: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
