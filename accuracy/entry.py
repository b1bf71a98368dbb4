"""Whether one new replica of a verified fingerprint may take traffic: a few prompts against the stored record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accuracy.policy import Policy
from accuracy.types import Sample


@dataclass(frozen=True, slots=True)
class EntryDecision:
    """`opens` None: it goes on."""

    opens: bool | None
    message: str
    evidence: float
    prompts: int


@dataclass(frozen=True, slots=True)
class EntryState:
    prompts: int = 0

    @staticmethod
    def start(policy: Policy, noise: Mapping[str, tuple[float | None, float | None]], *, top_k: int) -> EntryState:
        raise NotImplementedError


def advance(state: EntryState, sample: Sample) -> EntryState:
    raise NotImplementedError


def decide_entry(state: EntryState, policy: Policy) -> EntryDecision:
    raise NotImplementedError
