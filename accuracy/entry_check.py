"""The entry check of one new replica against the stored record: Contract, HardFaults and Tokens, and the reference is not asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accuracy.http.endpoint import Endpoint
from accuracy.types import GoldenSet, Reason

if TYPE_CHECKING:
    from accuracy.policy import Policy
    from accuracy.record import Record


@dataclass(frozen=True, slots=True)
class EntryOutcome:
    """`passed` None: the check could not be run, and the replica stays out until it could."""

    passed: bool | None
    reason: Reason
    message: str
    evidence: float
    prompts: int


async def check(
    endpoint: Endpoint,
    record: Record,
    policy: Policy,
    golden: Sequence[GoldenSet],
    *,
    clock: Callable[[], float] = time.monotonic,
    now: str,
) -> EntryOutcome:
    raise NotImplementedError
