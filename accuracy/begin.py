"""What a run settles before its first prompt: whether the other side answers, what it can do, and how both are scored.

Whatever stands in the way ends in `StopError`, which carries the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accuracy.http.client import Client, FailedError, UnavailableError
from accuracy.http.probe import TOO_FAST, Agreement, ProbeError, agree, probe
from accuracy.http.scoring import event_of
from accuracy.record import Record
from accuracy.types import Capabilities, Decision, Reason, Verdict


class StopError(Exception):
    """The run ends here, with this decision."""

    def __init__(self, reason: Reason, message: str, verdict: Verdict = Verdict.INCONCLUSIVE) -> None:
        super().__init__(message)
        self.decision = Decision(verdict, reason, message, 0)


async def probed(client: Client, *, candidate: bool) -> Capabilities:
    """What the endpoint can do. Raises StopError; a candidate that fails (5xx) at a plain request, twice, is blocked."""
    gone = Reason.CANDIDATE_UNAVAILABLE if candidate else Reason.REFERENCE_UNAVAILABLE
    failure: FailedError | None = None
    for _ in range(2):
        try:
            told = await probe(client)
            break
        except UnavailableError as error:
            raise StopError(gone, f"{client.name} does not answer: {error.message}") from error
        except ProbeError as error:
            raise StopError(Reason.CAPABILITY_MISSING, str(error)) from error
        except FailedError as error:
            failure = error
    else:
        assert failure is not None
        if not candidate:
            raise StopError(gone, f"{client.name} fails: {failure.message}")
        event = event_of(failure)
        raise StopError(Reason.HARD_FAULT, f"{event.code}: {client.name} fails twice at a plain request: {event.detail}", Verdict.BLOCK)
    fast = next((note for note in told.notes if note.startswith(TOO_FAST)), "")
    if fast:
        raise StopError(Reason.CAPABILITY_MISSING, f"{client.name}: {fast}; ask the engine itself, without a cache in between")
    return told


def common(told: Sequence[Capabilities]) -> Capabilities:
    """What all of them can do."""
    lengths = [t.max_model_len for t in told if t.max_model_len is not None]
    return replace(
        told[0],
        top_k=min(t.top_k for t in told),
        prompt_logprobs=all(t.prompt_logprobs for t in told),
        prompt_top_k=min(t.prompt_top_k for t in told),
        token_ids_in=all(t.token_ids_in for t in told),
        completions=all(t.completions for t in told),
        chat=all(t.chat for t in told),
        max_model_len=min(lengths, default=None),
    )


def agree_with_record(record: Record, mine: Capabilities, top_k: int) -> Agreement:
    """How a candidate is scored to be comparable with this record. Raises StopError."""
    ids = any(item.prompt_ids or any(i is not None for i in item.continuation) for item in record.items)
    theirs = replace(record.capabilities, top_k=record.top_k, prompt_top_k=record.top_k, token_ids_in=ids)
    found = agree(theirs, mine, (record.mode,), min(record.top_k, top_k))
    if isinstance(found, str) or found.ids != ids:
        why = found if isinstance(found, str) else "the record holds token ids, which the candidate does not take"
        raise StopError(Reason.CAPABILITY_MISSING, f"{why}; the record was made in mode {record.mode}")
    return found
