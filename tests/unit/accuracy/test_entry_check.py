"""The entry check of one replica over HTTP against the stored record."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from accuracy.entry_check import EntryOutcome, check
from accuracy.http import client as http
from accuracy.http.endpoint import Endpoint
from accuracy.types import Mode, Reason
from tests.unit.accuracy.servers import NOW, REFERENCE, engine, golden, policy, record


def entered(*flags: str, count: int = 64, **changed: Any) -> EntryOutcome:
    async def main() -> EntryOutcome:
        async with engine(*flags) as replica:
            found = await check(Endpoint(replica.url, name="replica"), made, chosen, (golden(count),), now=NOW)
            assert len({tuple(p) for p in replica.scored()}) <= chosen.entry_max_prompts
            return found

    made = changed.pop("made", None) or record()
    chosen = policy(**changed)
    return asyncio.run(main())


def test_a_good_replica_enters_after_the_least_number_of_prompts_however_old_the_record_is() -> None:
    found = entered("--dtype=fp32", made=replace(record(), made="2020-01-01T00:00:00Z"))
    assert (found.passed, found.reason, found.prompts) == (True, Reason.EQUIVALENT, 32)
    assert found.evidence >= 20


def test_stepwise_serves_as_well() -> None:
    made = record(Mode.STEPWISE, REFERENCE, 34)
    found = entered("--dtype=fp32", made=made, count=34, modes=(Mode.STEPWISE,), entry_prompts=20)
    assert (found.passed, found.prompts) == (True, 20)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("nan", Reason.HARD_FAULT),
        ("stale=1", Reason.HARD_FAULT),
        ("extra-bos", Reason.CONTRACT_MISMATCH),
        ("rope-base=1e5", Reason.NOT_EQUIVALENT),
    ],
)
def test_a_bad_one_stays_out(fault: str, reason: Reason) -> None:
    found = entered("--dtype=bf16", f"--fault={fault}")
    assert (found.passed, found.reason) == (False, reason), found.message
    assert found.prompts <= 32


def test_what_cannot_be_checked_stays_out_without_being_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LOST_PAUSE_S", 0.0)
    made = record()
    few = entered("--dtype=fp32", made=replace(made, items=made.items[:6]))
    assert (few.passed, few.reason, few.prompts) == (None, Reason.INCONCLUSIVE, 6)
    other = entered("--dtype=fp32", made=replace(made, items=()))
    assert (other.passed, other.reason) == (None, Reason.GOLDEN_STALE)
    nobody = asyncio.run(check(Endpoint("http://127.0.0.1:9", timeout_s=1.0), made, policy(), (golden(64),), now=NOW))
    assert (nobody.passed, nobody.reason, nobody.prompts) == (None, Reason.CANDIDATE_UNAVAILABLE, 0)


def test_only_short_prompts_are_asked() -> None:
    made = record()
    long = replace(made, items=tuple(replace(i, prompt_tokens=300) if n % 2 else i for n, i in enumerate(made.items)))
    found = entered("--dtype=fp32", made=long, entry_prompts=16)
    assert found.passed
    assert found.prompts == 16
    none = entered("--dtype=fp32", made=long, entry_max_tokens=8)
    assert (none.passed, none.reason) == (None, Reason.GOLDEN_STALE)
