"""What a run saw, and the report that is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from accuracy.contract import Facts
from accuracy.http.client import Client, HttpError
from accuracy.http.examine import Examined
from accuracy.http.prompts import prompt_of
from accuracy.http.scoring import generate
from accuracy.record import RecordItem
from accuracy.report.model import MOST_OUTPUT, MOST_WORST, Report, Side, Worst
from accuracy.suspects import Trace, suspects
from accuracy.types import Capabilities, Condition, Cost, Decision, Gate, Mode, Sample

if TYPE_CHECKING:
    from accuracy.certify import Job

MOST_TRACES = 200
QUOTED, QUOTED_TOKENS = 3, 32


@dataclass(slots=True)
class Seen:
    """Collected while a run goes on."""

    samples: list[Sample] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    uncovered: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # stratum -> why it is not judged
    scarce: str = ""  # why nothing can be promoted
    replicas: tuple[str, ...] = ()
    capabilities: tuple[Capabilities, Capabilities] = (Capabilities(), Capabilities())
    mode: Mode | None = None
    top_k: int = 0
    strata: Mapping[str, int] = field(default_factory=dict)
    noise: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    facts: tuple[Facts, Facts] | None = None
    contract: str = ""
    message: str = ""  # of the latest fault
    asked: int = 0
    usable: int = 0
    exhausted: bool = False
    cost: tuple[Cost, Cost] = (Cost(), Cost())
    models: tuple[str, str] = ("", "")

    def notes(self) -> tuple[str, ...]:
        """What is known before the first prompt of what the run cannot show."""
        left = (f"stratum {name} is left out: {why}" for name, why in sorted(self.left_out.items()))
        return (*left, *([self.scarce] if self.scarce else []))

    def took(self, one: Examined) -> None:
        self.samples.append(one.sample)
        self.asked += len(one.scores.positions)
        self.usable += one.sample.positions
        self.message = one.message or self.message
        if one.trace and len(self.traces) < MOST_TRACES:
            self.traces.append(Trace(one.sample.item, one.trace))

    async def quote(self, job: Job, clients: Mapping[str, Client], known: Mapping[str, RecordItem]) -> None:
        """Asks for the beginning of the candidate's answer to the worst built-in items."""
        built_in = {item.id: item for one in job.golden if one.builtin for item in one.items}
        for sample in _worst(self.samples)[:QUOTED]:
            if sample.item not in built_in or sample.item not in known:
                continue
            client = clients.get(sample.condition.replica) or next(iter(clients.values()))
            told = client.dialect.capabilities.max_model_len if client.dialect is not None else None
            ids = known[sample.item].prompt_ids
            room = QUOTED_TOKENS if told is None else min(QUOTED_TOKENS, told - len(ids) - 1)
            if room < 1:
                continue
            try:
                said = await generate(client, built_in[sample.item], prompt_of(built_in[sample.item], ids), room, 0)
            except HttpError:
                return  # the verdict does not depend on it
            self.outputs[sample.item] = said.text[:MOST_OUTPUT]


def cost_of(clients: Sequence[Client], seconds: float) -> Cost:
    """What these were asked, within `seconds`."""
    return Cost(sum(c.requests for c in clients), sum(c.prompt_tokens for c in clients), sum(c.generated_tokens for c in clients), seconds)


def conclude(job: Job, seen: Seen, decision: Decision, now: str) -> Report:
    """The report of a run that ended in any way."""
    reference = "itself" if job.own_reference else job.reference.label if job.reference is not None else "record"
    names = {endpoint.label for endpoint in job.candidates}
    record = job.record
    model = seen.models[0] or (record.model if record is not None else "")
    return Report(
        made=now,
        decision=decision,
        policy=job.policy,
        reference=Side(reference, model, job.reference_fingerprint),
        candidate=Side(", ".join(sorted(names)) if len(names) <= 3 else f"{len(names)} replicas", seen.models[1], job.fingerprint),
        golden=tuple((one.name, one.digest, len(one.items)) for one in job.golden),
        mode=seen.mode,
        declared=job.policy.declared,
        strata=tuple(sorted(seen.strata.items())),
        noise=tuple((stratum, kl, sq) for stratum, (kl, sq) in sorted(seen.noise.items())),
        samples=tuple(seen.samples),
        uncovered=tuple(_uncovered(job, seen)),
        suspects=suspects(
            seen.samples,
            job.policy,
            contract=seen.contract,
            token_differences=_differences(seen.facts),
            long_ends=_ends(seen.facts),
            traces=seen.traces,
        ),
        worst=tuple(Worst(s.item, s.worst, s.max_kl, seen.outputs.get(s.item, "")) for s in _worst(seen.samples)[:MOST_WORST]),
        cost=seen.cost,
        capabilities=seen.capabilities,
        own_reference=job.own_reference,
        top_k=seen.top_k,
        replicas=seen.replicas,
        seed=job.policy.seed,
        conditions=seen.conditions,
        exhausted=seen.exhausted,
    )


def _worst(samples: Sequence[Sample]) -> list[Sample]:
    bad = [s for s in samples if s.max_kl > 0 or s.hard or s.intermittent]
    return sorted(bad, key=lambda s: (not s.hard, -s.max_kl, s.index))


def _uncovered(job: Job, seen: Seen) -> list[str]:
    out = list(seen.uncovered)
    have = {item.stratum for one in job.golden for item in one.items}
    for stratum in job.policy.strata:
        if seen.strata and stratum not in seen.strata:
            nothing = "no golden item has it" if stratum not in have else "no item of it fits the context, or the reference took none"
            out.append(f"stratum {stratum}: {seen.left_out.get(stratum, nothing)}")
    if seen.scarce:
        out.append(seen.scarce)
    if seen.mode is not None and seen.mode is not Mode.PROMPT_LOGPROBS:
        part = "a few positions of each prompt" if seen.mode is Mode.STEPWISE else "each prompt up to the first difference"
        out.append(f"mode {seen.mode} covers {part} only")
    left = next((note for note in seen.capabilities[0].notes if note.startswith("left out")), "")
    if left:
        out.append(f"the reference {left}")
    if Gate.SHADOW in job.policy.gates or job.policy.shadow_percent > 0:
        out.append(f"gate {Gate.SHADOW}: {_NO_SHADOW}")
    return out


# Accepted so that a policy can say now what it wants once there are routes; told, so that nobody relies on it.
_NO_SHADOW = "no live traffic passes by here, so none is re-scored; only re-checks find what begins after promotion"


def _differences(facts: tuple[Facts, Facts] | None) -> tuple[int, ...]:
    """The candidate's prompt tokens less the reference's."""
    if facts is None:
        return ()
    known = {item.item: item.prompt_tokens for item in facts[0].items}
    pairs = [(known.get(item.item), item.prompt_tokens) for item in facts[1].items]
    return tuple(mine - theirs for theirs, mine in pairs if theirs is not None and mine is not None)


def _ends(facts: tuple[Facts, Facts] | None) -> tuple[int, int, int] | None:
    if facts is None:
        return None
    known = {item.item: item.finish_reason for item in facts[0].items if item.must_stop and item.finish_reason}
    both = [(known[i.item], i.finish_reason) for i in facts[1].items if i.item in known and i.finish_reason]
    if not both:
        return None
    return sum(mine == "length" for _, mine in both), sum(theirs == "length" for theirs, _ in both), len(both)
