"""AccuracyReport: whether one (model, variant, device, engine) gives the reference's outputs, for exactly one fingerprint.

Written by the operator; a human sets only `spec.override`. Per-prompt numbers live in a ConfigMap, never here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from polyfleet.api.types import (
    Conditions,
    Count,
    Decimal,
    Message,
    Model,
    ObjectName,
    ObservedGeneration,
    ReasonWord,
    ShortText,
    StatusModel,
    Text,
    Time,
    Verdict,
    Word,
    list_map,
)

_FIXED = ("deployment", "candidate", "reference", "fingerprint", "policyDigest")
_Digest = Annotated[str, Field(max_length=128)]


class CandidatePair(Model):
    profile: Annotated[ObjectName, Field(description="HardwareProfile.")]
    variant: Annotated[Word, Field(description="Variant.")]
    engine: Annotated[Word, Field(description="Serving engine.")]


class GoldenSetUsed(Model):
    name: Annotated[ShortText, Field(description="Golden set.")]
    digest: Annotated[_Digest, Field(description="Its content.")]


class ReferenceUsed(Model):
    profile: Annotated[ObjectName | None, Field(description="HardwareProfile; absent = an imported capture.")] = None
    golden_sets: Annotated[tuple[GoldenSetUsed, ...], Field(max_length=16, description="Golden sets.")] = ()


class Fingerprint(Model):
    profile: Annotated[ObjectName, Field(description="HardwareProfile.")]
    weights: Annotated[_Digest | None, Field(description="Weights.")] = None
    tokenizer: Annotated[_Digest | None, Field(description="Tokenizer.")] = None
    template: Annotated[_Digest | None, Field(description="Chat template.")] = None
    engine_image: Annotated[_Digest | None, Field(description="Container image.")] = None
    driver: Annotated[_Digest | None, Field(description="Driver of the nodes.")] = None
    flags: Annotated[_Digest | None, Field(description="Arguments and environment.")] = None


class Override(Model):
    verdict: Annotated[Verdict, Field(description="What holds instead.")]
    by: Annotated[ShortText, Field(min_length=1, description="Who says so; the audit log is the proof.")]
    reason: Annotated[str, Field(min_length=20, max_length=1024, description="Why.")]
    until: Annotated[Time | None, Field(description="When it ends.")] = None


class AccuracyReportSpec(Model):
    cel_rules = (
        *(
            (
                f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
                f"{name} of a report cannot change; only override can",
            )
            for name in _FIXED
        ),
    )
    deployment: Annotated[ObjectName, Field(description="ModelDeployment in this namespace.")]
    candidate: Annotated[CandidatePair, Field(description="What is judged.")]
    reference: Annotated[ReferenceUsed, Field(description="What it is compared with.")]
    fingerprint: Annotated[Fingerprint, Field(description="What the verdict holds for.")]
    policy_digest: Annotated[_Digest, Field(description="Effective policy.")]
    override: Annotated[Override | None, Field(description="A human's verdict.")] = None


class Certified(StatusModel):
    bad_prompt_rate_upper: Annotated[Decimal | None, Field(description="Upper bound of bad prompts.")] = None
    confidence: Annotated[Decimal | None, Field(description="With this confidence.")] = None


class GateResult(StatusModel):
    name: Annotated[ReasonWord, Field(description="Gate.")]
    stratum: Annotated[ReasonWord | None, Field(description="Kind of prompts; absent = all.")] = None
    statistic: Annotated[ReasonWord | None, Field(description="What is measured.")] = None
    prompts: Annotated[Count | None, Field(description="Prompts used.")] = None
    estimate: Annotated[ShortText | None, Field(description="Measured value.")] = None
    interval: Annotated[tuple[ShortText, ...], Field(max_length=2, description="Its interval.")] = ()
    boundary: Annotated[ShortText | None, Field(description="Limit.")] = None
    evidence_promote: Annotated[ShortText | None, Field(description="Evidence for Promote.")] = None
    evidence_block: Annotated[ShortText | None, Field(description="Evidence for Block.")] = None
    decision: Annotated[Literal["Pass", "Fail", "Open"] | None, Field(description="Pass, Fail or Open.")] = None
    message: Annotated[Message | None, Field(description="In words.")] = None


class Suspect(StatusModel):
    code: Annotated[ReasonWord, Field(description="Likely cause.")]
    weight: Annotated[Decimal | None, Field(description="Share of the evidence.")] = None
    evidence: Annotated[Message | None, Field(description="The numbers.")] = None


class WorstItem(StatusModel):
    item: Annotated[ShortText, Field(description="Golden item.")]
    position: Annotated[Count | None, Field(description="Token position.")] = None
    kl: Annotated[Decimal | None, Field(description="Divergence, nats.")] = None
    output: Annotated[Text | None, Field(description="Truncated output; built-in items only.")] = None


class ReplicaCheck(StatusModel):
    pod: Annotated[ShortText, Field(description="Pod.")]
    container_id: Annotated[ShortText | None, Field(description="Container that was checked.")] = None
    result: Annotated[Literal["Passed", "Failed", "Running"], Field(description="Entry check.")]
    at: Annotated[Time | None, Field(description="When.")] = None
    message: Annotated[Message | None, Field(description="In words.")] = None


class StoredRecord(StatusModel):
    config_map: Annotated[ObjectName, Field(description="ConfigMap in this namespace.")]
    digest: Annotated[_Digest | None, Field(description="Its content.")] = None
    made: Annotated[Time | None, Field(description="When it was captured.")] = None


class AccuracyReportStatus(StatusModel):
    observed_generation: ObservedGeneration = None
    verdict: Annotated[Verdict | None, Field(description="Absent while it runs.")] = None
    declared: Annotated[ShortText | None, Field(description="Declared difference of number formats.")] = None
    mode: Annotated[ReasonWord | None, Field(description="Way of comparing.")] = None
    capabilities: Annotated[dict[Word, ShortText] | None, Field(max_length=16, description="What the endpoint can do.")] = None
    prompts: Annotated[Count | None, Field(description="Prompts used.")] = None
    max_prompts: Annotated[Count | None, Field(description="Prompts at most.")] = None
    noise_ratio: Annotated[Decimal | None, Field(description="Distance over the reference's own noise.")] = None
    certified: Annotated[Certified | None, Field(description="What is certified.")] = None
    gates: Annotated[tuple[GateResult, ...], Field(max_length=128, description="Gates, with their numbers.")] = ()
    gates_omitted: Annotated[Count | None, Field(description="Gates that did not fit here.")] = None
    suspects: Annotated[tuple[Suspect, ...], Field(max_length=16, description="Likely causes of a difference.")] = ()
    worst: Annotated[tuple[WorstItem, ...], Field(max_length=10, description="Worst items.")] = ()
    replicas: Annotated[
        tuple[ReplicaCheck, ...],
        Field(max_length=256, description="Entry checks.", json_schema_extra=list_map("pod")),
    ] = ()
    replicas_omitted: Annotated[Count | None, Field(description="Entry checks that did not fit here.")] = None
    record: Annotated[StoredRecord | None, Field(description="Reference record that this pair captured.")] = None
    report_config_map: Annotated[ShortText | None, Field(description="Per-prompt numbers.")] = None
    report_digest: Annotated[_Digest | None, Field(description="Its content.")] = None
    resume_state: Annotated[Annotated[str, Field(max_length=8192)] | None, Field(description="Where a restarted operator goes on.")] = None
    attempts: Annotated[Count | None, Field(description="Runs in a row that ended without a verdict.")] = None
    next_attempt: Annotated[Time | None, Field(description="When it is tried again.")] = None
    checked_at: Annotated[Time | None, Field(description="End of the last run.")] = None
    conditions: Conditions = ()


class AccuracyReport(Model):
    """Verdict on one model, variant, device and engine."""

    spec: Annotated[AccuracyReportSpec, Field(description="What is judged.")]
    status: Annotated[AccuracyReportStatus | None, Field(description="The verdict and its numbers.")] = None
