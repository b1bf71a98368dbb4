"""The sequential decision: which tests there are, where they stand after each prompt, and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from accuracy.policy import Policy
from accuracy.types import Condition, Decision, Sample


class DecisionError(ValueError):
    """Input that does not belong to these tests, or a stored state that is none."""


@dataclass(frozen=True, slots=True)
class Tests:
    policy: Policy

    @staticmethod
    def of(
        policy: Policy,
        strata: Mapping[str, int],
        noise: Mapping[str, tuple[float | None, float | None]],
        *,
        top_k: int,
        conditions: Sequence[Condition] = (),
        own_reference: bool = False,
    ) -> Tests:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class State:
    prompts: int

    @staticmethod
    def start(tests: Tests) -> State:
        raise NotImplementedError

    def advance(self, tests: Tests, sample: Sample) -> State:
        raise NotImplementedError

    def to_json(self) -> str:
        raise NotImplementedError

    @staticmethod
    def from_json(tests: Tests, text: str) -> State:
        raise NotImplementedError


def noise_means(
    entries: Iterable[tuple[str, float | None, float | None]], policy: Policy
) -> dict[str, tuple[float | None, float | None]]:
    raise NotImplementedError


def decide(tests: Tests, state: State, *, exhausted: bool = False) -> Decision:
    raise NotImplementedError


def replay(
    policy: Policy,
    strata: Mapping[str, int],
    noise: Mapping[str, tuple[float | None, float | None]],
    samples: Iterable[Sample],
    *,
    top_k: int,
    conditions: Sequence[Condition] = (),
    own_reference: bool = False,
    exhausted: bool = False,
) -> Decision:
    raise NotImplementedError
