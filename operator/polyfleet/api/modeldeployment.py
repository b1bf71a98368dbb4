"""ModelDeployment: one model on any silicon. The only kind that everybody has to know."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from polyfleet.api.accuracy_settings import AccuracyFields, GoldenSet
from polyfleet.api.modeldeployment_status import ModelDeploymentStatus
from polyfleet.api.types import (
    Annotations,
    Approval,
    Argument,
    Bool,
    Decimal,
    Duration,
    EnvVar,
    Image,
    IntOrPercent,
    LabelKey,
    Labels,
    Model,
    ModelUri,
    Names,
    ObjectName,
    Positive,
    Quantity,
    Sharing,
    ShortText,
    Text,
    Tokens,
    Word,
    Words,
    list_map,
)

Size = Annotated[int, Field(strict=True, ge=1, le=1024)]
Replicas = Annotated[int, Field(strict=True, ge=0, le=10000)]
Seconds = Annotated[int, Field(strict=True, ge=0, le=86400)]
Number = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
Modality = Literal["Text", "Image", "Audio", "Video"]


class ModelShape(Model):
    """Architecture numbers for a model outside the built-in catalogue."""

    params_b: Annotated[Decimal | None, Field(description="Parameters, billions.")] = None
    active_params_b: Annotated[Decimal | None, Field(description="Parameters used per token, billions.")] = None
    layers: Annotated[Number | None, Field(description="Layers.")] = None
    hidden: Annotated[Number | None, Field(description="Width.")] = None
    heads: Annotated[Number | None, Field(description="Attention heads.")] = None
    kv_heads: Annotated[Number | None, Field(description="Key-value heads.")] = None
    head_dim: Annotated[Number | None, Field(description="Width of a head.")] = None
    experts: Annotated[Number | None, Field(description="Experts.")] = None
    experts_per_token: Annotated[Number | None, Field(description="Experts used per token.")] = None
    kv_lora: Annotated[Number | None, Field(description="Rank of the compressed KV cache (MLA).")] = None
    max_context: Annotated[Number | None, Field(description="Longest context, tokens.")] = None


class _Weights(Model):
    revision: Annotated[ShortText | None, Field(description="Revision of the weights.")] = None
    precision: Annotated[Word | None, Field(description="Declared number format; absent = what the weights say.")] = None
    kv_precision: Annotated[Word | None, Field(description="Declared number format of the KV cache.")] = None
    activation_precision: Annotated[
        Word | None, Field(description="Declared number format of the activations, where the engine rounds them.")
    ] = None
    secret_name: Annotated[ObjectName | None, Field(description="Secret with credentials; named in the pod, never read.")] = None
    footprint: Annotated[Quantity | None, Field(description="Memory of one replica over all its devices.")] = None
    shape: Annotated[ModelShape | None, Field(description="Architecture of a model outside the catalogue.")] = None


class ModelSource(_Weights):
    uri: Annotated[ModelUri, Field(description="Weights: hf, ms, pvc, s3, oss, obs or oci.")]
    name: Annotated[Text | None, Field(description="Served name; absent = the object's name.")] = None
    modalities: Annotated[tuple[Modality, ...], Field(max_length=4, description="What goes in.")] = ("Text",)


class VariantModel(_Weights):
    uri: Annotated[ModelUri | None, Field(description="Other weights.")] = None


class ScaleUp(Model):
    stabilization_window_seconds: Annotated[Seconds | None, Field(description="Time that a need must last, s.")] = None
    max_events_per_hour: Annotated[Positive | None, Field(description="Changes per hour.")] = None


class ScaleDown(Model):
    stabilization_window_seconds: Annotated[Seconds | None, Field(description="Time that a surplus must last, s.")] = None
    max_events_per_hour: Annotated[Positive | None, Field(description="Changes per hour.")] = None


class Behavior(Model):
    scale_up: Annotated[ScaleUp | None, Field(description="Growing.")] = None
    scale_down: Annotated[ScaleDown | None, Field(description="Shrinking.")] = None


class Fallback(Model):
    replicas: Annotated[Replicas, Field(description="Size while load is unknown.")]
    failure_threshold: Annotated[Positive, Field(description="Unknown polls before it applies.")] = 3
    behavior: Annotated[
        Literal["Static", "CurrentReplicas", "CurrentReplicasIfHigher"], Field(description="Only Static may lower the size.")
    ] = "CurrentReplicasIfHigher"


class ScaleToZero(Model):
    cel_rules = (("duration(self.idleAfter) >= duration('10m')", "idleAfter must be at least 10m"),)
    idle_after: Annotated[Duration, Field(description="True zero load for this long.")] = "30m"
    max_wake_seconds: Annotated[Positive | None, Field(description="Longest acceptable cold start, s.")] = None


class Floor(Model):
    schedule: Annotated[ShortText, Field(description="Cron expression of the start.")]
    duration: Annotated[Duration, Field(description="How long it holds.")]
    time_zone: Annotated[ShortText, Field(description="IANA time zone.")] = "UTC"
    min_replicas: Annotated[Replicas, Field(description="Lowest size meanwhile.")]


class Scaling(Model):
    cel_rules = (
        ("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas"),
        (
            "(self.minReplicas == 0) == has(self.scaleToZero)",
            "minReplicas 0 needs a scaleToZero block, and the block needs minReplicas 0",
        ),
        ("self.metric == 'Work' || has(self.targetPerReplica)", "every metric but Work needs targetPerReplica"),
        ("!has(self.fallback) || self.fallback.replicas <= self.maxReplicas", "fallback.replicas must not exceed maxReplicas"),
    )
    min_replicas: Annotated[Replicas, Field(description="Lowest size.")] = 1
    max_replicas: Annotated[Annotated[int, Field(strict=True, ge=1, le=10000)], Field(description="Highest size.")]
    mode: Annotated[Literal["Auto", "Advise", "External"], Field(description="Who writes the size: polyfleet, nobody, another scaler.")] = (
        "Auto"
    )
    metric: Annotated[Literal["Work", "RequestRate", "InFlight", "KVCacheUse"], Field(description="What is followed.")] = "Work"
    target_per_replica: Annotated[Decimal | None, Field(description="Target of the metric on the reference profile.")] = None
    behavior: Annotated[Behavior | None, Field(description="Damping.")] = None
    fallback: Annotated[Fallback | None, Field(description="While load is unknown.")] = None
    scale_to_zero: Annotated[ScaleToZero | None, Field(description="Opt-in to no replicas when idle.")] = None
    floors: Annotated[tuple[Floor, ...], Field(max_length=16, description="Lowest sizes by the clock.")] = ()


class Workload(Model):
    request_rate: Annotated[Decimal | None, Field(description="Expected requests/s.")] = None
    input_tokens: Annotated[Tokens, Field(description="Mean input tokens.")] = 1024
    output_tokens: Annotated[Tokens, Field(description="Mean output tokens.")] = 256
    prefix_hit_ratio: Annotated[Decimal | None, Field(description="Share of input found in the prefix cache.")] = None


class Slo(Model):
    class_: Annotated[Literal["Strict", "Standard", "Batch"], Field(description="Head-room class.")] = "Standard"
    ttft: Annotated[Duration | None, Field(description="Time to the first token.")] = None
    itl: Annotated[Duration | None, Field(description="Time between tokens.")] = None
    e2e_latency: Annotated[Duration | None, Field(description="Time of a whole request.")] = None
    percentile: Annotated[Annotated[int, Field(strict=True, ge=1, le=99)], Field(description="Percentile that must hold.")] = 95


class Spread(Model):
    min_vendors: Annotated[Size | None, Field(description="Vendors that must serve (hard).")] = None
    max_vendor_share_percent: Annotated[
        Annotated[int, Field(strict=True, ge=1, le=100)] | None, Field(description="Highest share of one vendor (hard).")
    ] = None
    topology_key: Annotated[LabelKey | None, Field(description="Node label to spread over.")] = None
    mode: Annotated[Literal["Soft", "Hard"], Field(description="Of topologyKey.")] = "Soft"


class Placement(Model):
    cel_rules = (
        (
            "!has(self.profiles) || !has(self.excludeProfiles) || self.profiles.all(p, !(p in self.excludeProfiles))",
            "a profile is both allowed and excluded",
        ),
    )
    objective: Annotated[Literal["Inherit", "MinCost", "MaxThroughput", "Balanced"], Field(description="Inherit = the fleet's.")] = (
        "Inherit"
    )
    profiles: Annotated[Names, Field(description="Allow-list; empty = every compatible one.")] = ()
    exclude_profiles: Annotated[Names, Field(description="Never these.")] = ()
    pools: Annotated[Names, Field(description="Allow-list of pools; empty = all.")] = ()
    spread: Annotated[Spread | None, Field(description="Over vendors and domains.")] = None
    sharing: Annotated[Sharing, Field(description="Shared = sliced devices are acceptable.")] = "Exclusive"
    max_hourly_cost: Annotated[Decimal | None, Field(description="Highest cost per hour.")] = None


class Parallelism(Model):
    cel_rules = (
        (
            "!(has(self.tensor) && has(self.tensorChoices))",
            "set tensor for one size or tensorChoices for a choice, not both",
        ),
    )
    tensor: Annotated[Size | None, Field(description="Tensor parallel size.")] = None
    tensor_choices: Annotated[tuple[Size, ...] | None, Field(min_length=1, max_length=16, description="Sizes to choose from.")] = None
    pipeline: Annotated[Size | None, Field(description="Pipeline stages.")] = None
    data: Annotated[Size | None, Field(description="Data parallel groups.")] = None
    expert: Annotated[Size | None, Field(description="Expert parallel size.")] = None
    span: Annotated[Size | None, Field(description="Nodes per replica; absent = 1.")] = None


class _Runtime(Model):
    image: Annotated[Image | None, Field(description="Container image; absent = the profile's.")] = None
    args: Annotated[tuple[Argument, ...], Field(max_length=64, description="Appended to the profile's arguments.")] = ()
    env: Annotated[
        tuple[EnvVar, ...],
        Field(max_length=64, description="Environment, merged by name.", json_schema_extra=list_map("name")),
    ] = ()
    parallelism: Annotated[Parallelism | None, Field(description="Layout of a replica.")] = None


class Runtime(_Runtime):
    engine: Annotated[Word, Field(description="auto = best data for this model on each profile.")] = "auto"


class VariantRuntime(_Runtime):
    engine: Annotated[Word | None, Field(description="Serving engine.")] = None


class VariantMatch(Model):
    cel_rules = (
        (
            "has(self.vendors) && size(self.vendors) > 0 || has(self.profiles) && size(self.profiles) > 0",
            "match needs vendors or profiles",
        ),
    )
    vendors: Annotated[Words | None, Field(description="Vendors.")] = None
    profiles: Annotated[Names | None, Field(description="HardwareProfiles.")] = None


class Variant(Model):
    name: Annotated[Word, Field(description="Name in plans and status.")]
    match: Annotated[VariantMatch, Field(description="Hardware that it is for; the first that fits is used.")]
    model: Annotated[VariantModel | None, Field(description="Differences of the weights.")] = None
    runtime: Annotated[VariantRuntime | None, Field(description="Differences of the engine.")] = None


class AccuracyOverride(AccuracyFields):
    cel_rules = (
        (
            "!has(self.gate) || self.gate != 'Disabled' || has(self.acknowledgeRisk)",
            "turning the gate off needs acknowledgeRisk: a sentence that says why",
        ),
    )
    gate: Annotated[Literal["Inherit", "Required", "Observe", "Disabled"], Field(description="Whether a verdict is needed to serve.")] = (
        "Inherit"
    )
    acknowledge_risk: Annotated[str | None, Field(min_length=20, max_length=512, description="Why the gate may be off.")] = None
    golden_sets: Annotated[tuple[GoldenSet, ...], Field(max_length=16, description="More golden sets.")] = ()


class Rollout(Model):
    approval: Annotated[Approval, Field(description="Manual waits for an approved plan.")] = "Automatic"
    steps: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=1, le=100)], ...],
        Field(min_length=1, max_length=16, description="Traffic percentages of a promoted candidate."),
    ] = (100,)
    max_surge: Annotated[IntOrPercent, Field(description="Extra replicas while changing.")] = "25%"
    max_unavailable: Annotated[IntOrPercent, Field(description="Missing replicas while changing.")] = 0
    allow_downtime: Annotated[Bool, Field(description="May stop the old before the new serves.")] = False
    auto_rollback: Annotated[Bool, Field(description="Go back when the new revision fails.")] = True
    progress_deadline: Annotated[Duration, Field(description="Longest time without progress.")] = "30m"


class PodTemplateMetadata(Model):
    labels: Annotated[Labels | None, Field(description="More labels.")] = None
    annotations: Annotated[Annotations | None, Field(description="More annotations.")] = None


class PodTemplate(Model):
    metadata: Annotated[PodTemplateMetadata | None, Field(description="Labels and annotations.")] = None
    spec: Annotated[
        dict[str, Any] | None,
        Field(
            description="Merged over the generated PodSpec; tested by a dry run.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None


_SIZE = "(has(self.scaling) ? self.scaling.maxReplicas : has(self.replicas) ? self.replicas : 1)"


class ModelDeploymentSpec(Model):
    cel_rules = (
        (
            "!(has(self.replicas) && has(self.scaling)) || self.scaling.mode != 'Auto'",
            "use replicas for a fixed size and scaling for autoscaling; both only with scaling.mode Advise or External",
        ),
        (
            "!has(self.scaling) || self.scaling.mode != 'External' || has(self.replicas)",
            "scaling.mode External needs a first value in replicas",
        ),
        (
            (f"!has(self.placement.spread) || !has(self.placement.spread.minVendors) || self.placement.spread.minVendors <= {_SIZE}"),
            "spread.minVendors needs at least as many replicas",
        ),
    )
    model: Annotated[ModelSource, Field(description="What is served.")]
    replicas: Annotated[Replicas | None, Field(description="Fixed size; also written by kubectl scale.")] = None
    scaling: Annotated[Scaling | None, Field(description="Autoscaling.")] = None
    workload: Annotated[Workload, Field(description="Shape of the load.")] = Workload()
    slo: Annotated[Slo, Field(description="Goals.")] = Slo()
    priority: Annotated[Annotated[int, Field(strict=True, ge=-1000, le=1000)], Field(description="Who wins when devices are short.")] = 0
    drain_timeout: Annotated[Duration, Field(description="Time for requests in flight at every removal.")] = "5m"
    placement: Annotated[Placement, Field(description="Where.")] = Placement()
    runtime: Annotated[Runtime, Field(description="How it is served.")] = Runtime()
    variants: Annotated[
        tuple[Variant, ...],
        Field(max_length=16, description="What differs per hardware.", json_schema_extra=list_map("name")),
    ] = ()
    accuracy: Annotated[AccuracyOverride, Field(description="This model's accuracy gate.")] = AccuracyOverride()
    rollout: Annotated[Rollout, Field(description="How changes arrive.")] = Rollout()
    suspend: Annotated[Bool, Field(description="Remove all replicas, keep the object.")] = False
    paused: Annotated[Bool, Field(description="Change nothing, only replace dead pods.")] = False
    pod_template: Annotated[PodTemplate | None, Field(description="Escape hatch for the pods.")] = None


class ModelDeployment(Model):
    """Serves one model on any silicon that fits, behind one endpoint."""

    spec: Annotated[ModelDeploymentSpec, Field(description="What is wanted.")]
    status: Annotated[ModelDeploymentStatus | None, Field(description="What is.")] = None
