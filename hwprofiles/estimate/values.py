"""What goes into an estimate and what comes out of it. Plain values; no arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that one replica serves: mean lengths in tokens and how many are in flight.

    `concurrency` None = the largest number that memory and the SLO allow.
    """

    input_tokens: int
    output_tokens: int
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits on the means, in seconds; None = no limit."""

    ttft_s: float | None = None
    itl_s: float | None = None


class LayoutClass(StrEnum):
    """How a layout is known to fall short of the closed form; the names are those of `HardwareProfile.spec.derate`."""

    IN_NODE = "inNode"
    PD_WIDE_EP = "pdWideEP"
    WIDE_MOE = "wideMoE"
    CROSS_NODE = "crossNode"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one replica is expected to do. Never a measurement: a planner uses `lower`."""

    output_tokens_per_s: float  # point, after the derate
    lower: float  # tokens/s to plan with
    upper: float | None  # tokens/s; None where no upper bound is claimed
    ttft_s: float  # mean, closed loop: own prompt, prompts taken into the same step, waiting above max_concurrency
    itl_s: float  # mean time per output token, interruptions by other prompts included
    concurrency: int  # requests being served at once
    max_concurrency: int  # what memory holds at these lengths, over the whole replica
    kv_tokens: int  # tokens of context that the whole replica holds
    weight_bytes_per_unit: int
    layout_class: LayoutClass
    derate: float
    assumptions: tuple[str, ...]  # every number that nobody published or measured

    @property
    def underated(self) -> float:
        """Output tokens/s of the closed form itself, before the derate."""
        return self.output_tokens_per_s / self.derate


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no number, with the values, the allowed range, and the next command."""

    reason: str
    message: str
    hint: str = ""


MODEL_TOO_LARGE = "ModelTooLarge"
PRECISION_UNSUPPORTED = "PrecisionUnsupported"
NO_PERFORMANCE_DATA = "NoPerformanceData"
LOAD_OUTSIDE_RANGE = "LoadOutsideProfileRange"
SLO_UNREACHABLE = "SloUnreachable"
MODEL_SHAPE_UNKNOWN = "ModelShapeUnknown"


def bench_command(profile: str | None, model: str | None, load: Load | None = None) -> str:
    """The command that measures this model on this hardware; what is not known is written as a word to replace."""
    parts = ["polyfleet bench", f"--profile {profile or 'PROFILE'}", f"--model {model or 'MODEL'}"]
    if load is not None:
        parts += [f"--input-tokens {load.input_tokens}", f"--output-tokens {load.output_tokens}"]
        if load.concurrency is not None:
            parts.append(f"--concurrency {load.concurrency}")
    return " ".join(parts)
