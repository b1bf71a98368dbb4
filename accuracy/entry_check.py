"""The entry check of one new replica against the stored record: Contract, HardFaults and Tokens, and the reference is not asked.

The replica's fingerprint is verified already; the question is whether this node and these shards are as they should be. So the record's age
does not matter here, prompts are short, and not many requests are in flight at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from accuracy import contract
from accuracy.begin import StopError, agree_with_record, probed
from accuracy.decision import noise_means
from accuracy.design import Planned, plan_order, stratum_of
from accuracy.entry import EntryState, advance, decide_entry
from accuracy.golden import GoldenError, combine
from accuracy.http.client import Client, RefusedError, UnavailableError, connect
from accuracy.http.endpoint import Endpoint, EndpointError
from accuracy.http.examine import Examiner
from accuracy.http.facts import facts
from accuracy.http.windows import send, windows
from accuracy.policy import Policy
from accuracy.record import Record, RecordItem
from accuracy.types import GoldenSet, Item, Reason, Verdict

log = logging.getLogger("accuracy")

MOST_IN_FLIGHT = 8
TOLD = 0.5  # share of the positions that must be comparable, once `TOLD_FROM` prompts were asked
TOLD_FROM = 8


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
    """Asks `policy.entry_prompts` to `policy.entry_max_prompts` prompts of at most `policy.entry_max_tokens` tokens. `golden` are the sets
    that the record was made with. `now` (RFC 3339) is part of the signature that all checks share. Never raises but CancelledError."""
    state: EntryState | None = None
    try:
        plan = _plan(record, policy, golden)
        async with connect(endpoint, clock=clock) as client:
            agreed = agree_with_record(record, await probed(client, candidate=True), policy.top_k)
            await _contract(client, record, golden)
            known = {item.item: item for item in record.items}
            entries = ((stratum_of(p.item), known[p.item.id].noise_kl, known[p.item.id].noise_sq) for p in plan)
            state = EntryState.start(policy, noise_means(entries, policy), top_k=agreed.top_k)
            examiner = Examiner(policy, agreed.mode, agreed.top_k, consistency=False)
            asked = told = 0
            message = ""
            for window in windows(0, len(plan), MOST_IN_FLIGHT):
                for one in await send(examiner, {"": client}, [plan[at] for at in window], known):
                    state = advance(state, one.sample)
                    asked, told = asked + len(one.scores.positions), told + one.sample.positions
                    message = message or (one.message if one.sample.hard else "")
                    found = decide_entry(state, policy)
                    if found.opens is not None:
                        break
                if found.opens is not None:
                    break
                if found.prompts >= TOLD_FROM and told < TOLD * asked:
                    raise StopError(Reason.CAPABILITY_MISSING, f"only {told} of {asked} positions can be compared with the record")
            if found.opens is None:
                return _result(state, Reason.INCONCLUSIVE, f"{found.message}; {_FEW}", None)
            reason = Reason.EQUIVALENT if found.opens else Reason.HARD_FAULT if state.hard else Reason.NOT_EQUIVALENT
            return EntryOutcome(found.opens, reason, ": ".join(filter(None, (found.message, message)))[:500], found.evidence, found.prompts)
    except StopError as stop:
        passed = False if stop.decision.verdict is Verdict.BLOCK else None
        return _result(state, stop.decision.reason, stop.decision.message, passed)
    except UnavailableError as error:
        return _result(state, Reason.CANDIDATE_UNAVAILABLE, f"the replica does not answer any more: {error.message}", None)
    except RefusedError as error:
        return _result(state, Reason.CAPABILITY_MISSING, f"the replica refuses what the reference took: {error.message}", None)
    except (EndpointError, GoldenError) as error:
        return _result(state, Reason.CAPABILITY_MISSING, str(error), None)
    except Exception as error:  # a defect here must neither open nor end the caller
        log.exception("the entry check failed")
        return _result(state, Reason.PENDING, f"internal error of the checker, {type(error).__name__}: {error}"[:500], None)


_FEW = "the record has no more prompts that are short enough: add some to the golden sets"


def _plan(record: Record, policy: Policy, golden: Sequence[GoldenSet]) -> tuple[Planned, ...]:
    """Raises StopError, GoldenError."""
    known = {item.item: item for item in record.items}
    digests = {digest for _, digest in record.golden}
    items = [i for i in combine([one for one in golden if one.digest in digests] or golden) if _short(i, known.get(i.id), policy)]
    few = tuple(n for n in policy.concurrency if n <= MOST_IN_FLIGHT) or (MOST_IN_FLIGHT,)
    plan = plan_order(items, replace(policy, concurrency=few))[: policy.entry_max_prompts]
    if not plan:
        made = ", ".join(name for name, _ in record.golden)
        raise StopError(
            Reason.GOLDEN_STALE, f"the record holds no prompt of these golden sets (it was made with {made}); capture the reference again"
        )
    return plan


def _short(item: Item, golden: RecordItem | None, policy: Policy) -> bool:
    if golden is None or not golden.positions:
        return False
    tokens = golden.prompt_tokens if golden.prompt_tokens is not None else len(golden.prompt_ids)
    return 0 < tokens <= policy.entry_max_tokens and item.modality == "Text"


async def _contract(client: Client, record: Record, golden: Sequence[GoldenSet]) -> None:
    if record.facts is None:
        return
    mine = await facts(client, [item for one in golden for item in one.items], like=record.facts, habits=False)
    result = contract.compare(record.facts, mine)
    if result.reason is not None:
        breach = result.reason is Reason.CONTRACT_MISMATCH
        raise StopError(result.reason, result.message, Verdict.BLOCK if breach else Verdict.INCONCLUSIVE)


def _result(state: EntryState | None, reason: Reason, message: str, passed: bool | None) -> EntryOutcome:
    if state is None:
        return EntryOutcome(passed, reason, message, 0.0, 0)
    return EntryOutcome(passed, reason, message, decide_entry(state, state.policy).evidence, state.prompts)
