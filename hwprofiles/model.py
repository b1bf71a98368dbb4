"""The schema of `HardwareProfile.spec`: what polyfleet knows about one schedulable unit of silicon.

One profile describes one sub-model (the 752 TFLOPS bin of the 910C is not the 560 one), because compute, memory and often the
image differ. Vendor, family, engine, precision and scheduler names are free words: a new device needs a file, not a release.
Physical quantities have no default; what is not known is absent.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hwprofiles.schema import (
    Annotations,
    Argument,
    Bool,
    Count,
    Currency,
    Date,
    Decimal,
    Duration,
    Image,
    LabelKey,
    Labels,
    LabelValue,
    Model,
    Positive,
    Quantity,
    ShortText,
    Text,
    Tokens,
    Word,
)

Evidence = Literal["Measured", "Published", "Estimated"]
Confidence = Literal["High", "Medium", "Low"]
Support = Literal["Native", "Emulated", "WeightOnly", "Unsupported"]
Size = Annotated[int, Field(strict=True, ge=1, le=1024)]
_Value = Annotated[str, Field(max_length=63)]
_Pattern = Annotated[str, Field(max_length=256)]


class Unit(Model):
    kind: Annotated[Literal["card", "die", "slice"], Field(description="What one schedulable device is.")]
    per_card: Annotated[Size, Field(description="Devices on one card.")] = 1
    per_node: Annotated[Size | None, Field(description="Devices of a full node.")] = None
    memory: Annotated[Quantity, Field(description="Memory of one device.")]
    usable_fraction: Annotated[Decimal | None, Field(description="Share of the memory that an engine may use.")] = None


class MatchEntry(Model):
    """All parts of one entry must hold."""

    cel_rules = (("has(self.labels) || has(self.labelPatterns)", "a match entry needs labels or labelPatterns"),)
    labels: Annotated[
        dict[LabelKey, Annotated[tuple[_Value, ...], Field(min_length=1, max_length=32)]] | None,
        Field(max_length=16, description="Node labels with the values that fit."),
    ] = None
    label_patterns: Annotated[
        dict[LabelKey, _Pattern] | None,
        Field(max_length=16, description="Node labels with a regular expression that the whole value matches."),
    ] = None
    not_labels: Annotated[
        dict[LabelKey, Annotated[tuple[_Value, ...], Field(max_length=32)]] | None,
        Field(max_length=16, description="Node labels with values that exclude; an empty list excludes any value."),
    ] = None
    units_per_node: Annotated[Size | None, Field(description="Devices that the node must have installed.")] = None


class ResourceAlias(Model):
    name: Annotated[LabelKey, Field(description="Extended resource that the device plugin advertises.")]
    schedulers: Annotated[tuple[Word, ...], Field(max_length=16, description="Schedulers that use this name.")] = ("default",)
    memory_resource: Annotated[LabelKey | None, Field(description="Extra resource that holds device memory in MiB.")] = None


class Dra(Model):
    device_class: Annotated[ShortText, Field(description="DeviceClass of the vendor's DRA driver.")]


class Allocation(Model):
    sizes: Annotated[tuple[Size, ...], Field(min_length=1, max_length=64, description="Devices that one pod may request.")]
    align_to: Annotated[Size, Field(description="Above 1 a request is a multiple of this and takes whole cards.")] = 1
    whole_node_schedulers: Annotated[
        tuple[Word, ...],
        Field(max_length=16, description="With these schedulers only single devices or whole nodes are safe."),
    ] = ()
    round_up_schedulers: Annotated[
        tuple[Word, ...],
        Field(max_length=16, description="These schedulers round a request up to a multiple of alignTo."),
    ] = ()


class Topology(Model):
    node_link_gbps: Annotated[Decimal | None, Field(description="Link of one device inside the node, GB/s one way.")] = None
    cross_node_link_gbps: Annotated[Decimal | None, Field(description="Link of one device between nodes, GB/s one way.")] = None
    domain_label: Annotated[LabelKey | None, Field(description="Node label that names the fast-network domain.")] = None


class Assume(Model):
    """Stated assumptions in place of unknown quantities; shown wherever a result that rests on them is shown."""

    peak_tflops: Annotated[dict[Word, Decimal] | None, Field(max_length=16, description="Dense peak by precision.")] = None
    bandwidth_tbps: Annotated[Decimal | None, Field(description="Memory bandwidth, TB/s.")] = None


class Efficiency(Model):
    mfu: Annotated[Decimal | None, Field(description="Share of peak compute that is reached.")] = None
    mbu: Annotated[Decimal | None, Field(description="Share of memory bandwidth that is reached.")] = None
    step_overhead_ms: Annotated[Decimal | None, Field(description="Fixed time of one decode step, ms.")] = None


class Derate(Model):
    in_node: Annotated[Decimal | None, Field(description="Inside one node.")] = None
    pd_wide_ep: Annotated[Decimal | None, Field(description="Split prefill and decode with wide expert parallelism.")] = None
    wide_moe: Annotated[Decimal | None, Field(description="Mixture of experts on more than 8 devices or over 200B.")] = None
    cross_node: Annotated[Decimal | None, Field(description="One replica across nodes.")] = None


class EnvVar(Model):
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128, description="Variable name.")]
    value: Annotated[Argument | None, Field(description="Literal value.")] = None
    field_path: Annotated[Text | None, Field(description="Field of the pod (downward API) in place of a value.")] = None


class Requirement(Model):
    node_label: Annotated[LabelKey, Field(description="Node label with a number or version.")]
    min: Annotated[Word, Field(description="Lowest value that works.")]


class EngineModel(Model):
    model: Annotated[Text, Field(min_length=1, description="Exact model name, or a prefix with *.")]
    min_version: Annotated[Word, Field(description="Lowest engine version that serves it, else EngineTooOld.")]


class Engine(Model):
    image: Annotated[Image | None, Field(description="Container image.")] = None
    version: Annotated[Word | None, Field(description="Engine version of the image.")] = None
    args: Annotated[tuple[Argument, ...], Field(max_length=64, description="Arguments, before those of the model.")] = ()
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64, description="Environment, merged by name.")] = ()
    quant_flag: Annotated[Word | None, Field(description="Value of the engine's quantisation flag.")] = None
    metrics: Annotated[Word | None, Field(description="Which engine's metric names it exports.")] = None
    config_style: Annotated[Literal["args", "json"], Field(description="Configured by arguments or by a file.")] = "args"
    requires: Annotated[tuple[Requirement, ...], Field(max_length=16, description="What a node must have, else DriverTooOld.")] = ()
    models: Annotated[tuple[EngineModel, ...], Field(max_length=64, description="Models that need a version of the engine.")] = ()


class Toleration(Model):
    key: Annotated[LabelKey | None, Field(description="Taint key; absent with Exists tolerates all.")] = None
    operator: Annotated[Literal["Exists", "Equal"], Field(description="Exists or Equal.")] = "Equal"
    value: Annotated[LabelValue | None, Field(description="Taint value.")] = None
    effect: Annotated[Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None, Field(description="Effect; absent = all.")] = None


class Mount(Model):
    host_path: Annotated[Text, Field(description="Path on the node.")]
    mount_path: Annotated[Text, Field(description="Path in the container.")]
    read_only: Annotated[Bool, Field(description="Mounted read-only.")] = True


class SchedulerConvention(Model):
    scheduler_name: Annotated[Word | None, Field(description="The pod's schedulerName.")] = None
    labels: Annotated[Labels | None, Field(description="Labels that the scheduler reads.")] = None
    annotations: Annotated[Annotations | None, Field(description="Annotations that the scheduler reads.")] = None
    env: Annotated[tuple[EnvVar, ...], Field(max_length=16, description="Environment that it needs.")] = ()


class PodConventions(Model):
    runtime_class_name: Annotated[Word | None, Field(description="RuntimeClass; absent = the node's default.")] = None
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32, description="Tolerations of the vendor's usual taints.")] = ()
    mounts: Annotated[tuple[Mount, ...], Field(max_length=16, description="Host paths, as far as Pod Security allows them.")] = ()
    per_scheduler: Annotated[
        dict[Word, SchedulerConvention] | None,
        Field(max_length=8, description="What each scheduler wants on the pod."),
    ] = None


class Cost(Model):
    per_device_hour: Annotated[Decimal, Field(description="Price of one device for one hour.")]
    currency: Annotated[Currency, Field(description="ISO 4217 code.")] = "USD"


class Layout(Model):
    tensor: Annotated[Size, Field(description="Tensor parallel size.")] = 1
    pipeline: Annotated[Size, Field(description="Pipeline stages.")] = 1
    data: Annotated[Size, Field(description="Data parallel groups.")] = 1
    expert: Annotated[Size | None, Field(description="Expert parallel size.")] = None
    span: Annotated[Size, Field(description="Nodes of one replica.")] = 1

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data


class Range(Model):
    min: Annotated[Count, Field(description="Lowest.")]
    max: Annotated[Tokens, Field(description="Highest.")]


class ValidFor(Model):
    input_tokens: Annotated[Range | None, Field(description="Input tokens of a request.")] = None
    output_tokens: Annotated[Range | None, Field(description="Output tokens of a request.")] = None
    concurrency: Annotated[Range | None, Field(description="Requests in flight.")] = None


class Throughput(Model):
    """What one replica of one model does in one layout at one load."""

    model: Annotated[Text, Field(description="Model name, as in its URI.")]
    precision: Annotated[Word | None, Field(description="Number format of the weights.")] = None
    engine: Annotated[Word, Field(description="Serving engine.")]
    engine_version: Annotated[Word | None, Field(description="Version of the engine.")] = None
    parallelism: Annotated[Layout, Field(description="Layout of the replica.")] = Layout()
    input_tokens: Annotated[Tokens | None, Field(description="Input tokens of a request.")] = None
    output_tokens: Annotated[Tokens | None, Field(description="Output tokens of a request.")] = None
    concurrency: Annotated[Positive | None, Field(description="Requests in flight.")] = None
    output_tokens_per_second: Annotated[Decimal | None, Field(description="Output tokens/s of the whole replica.")] = None
    accepted_length: Annotated[Decimal | None, Field(description="Mean tokens per step with speculative decoding.")] = None
    error_percent: Annotated[Decimal | None, Field(description="Half width of the 95 % confidence interval, percent of the rate.")] = None
    ttft: Annotated[Duration | None, Field(description="Time to the first token.")] = None
    itl: Annotated[Duration | None, Field(description="Time between tokens.")] = None
    footprint: Annotated[Quantity | None, Field(description="Memory of one replica over all its devices.")] = None
    cold_start: Annotated[Duration | None, Field(description="From bound to serving.")] = None
    valid_for: Annotated[ValidFor | None, Field(description="Loads to which it applies; default half to double.")] = None
    evidence: Annotated[Evidence, Field(description="Where the number comes from.")]
    confidence: Annotated[Confidence, Field(description="How far to trust it.")] = "Low"
    source: Annotated[Text, Field(min_length=1, description="Who says so.")]
    date: Annotated[Date, Field(description="YYYY-MM or YYYY-MM-DD.")]


class Provenance(Model):
    fields: Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=64, description="Fields it covers, with all below.")]
    evidence: Annotated[Evidence, Field(description="Where the numbers come from.")]
    confidence: Annotated[Confidence, Field(description="How far to trust them.")] = "Low"
    source: Annotated[Text, Field(min_length=1, description="Who says so.")]
    date: Annotated[Date, Field(description="YYYY-MM or YYYY-MM-DD.")]


class HardwareProfileSpec(Model):
    cel_rules = (
        (
            "self.allocation.sizes.all(s, s == 1 || s % self.allocation.alignTo == 0)",
            "every size above 1 must be a multiple of allocation.alignTo",
        ),
        (
            "!has(self.unit.perNode) || self.unit.perNode % self.allocation.alignTo == 0",
            "allocation.alignTo must divide unit.perNode",
        ),
        (
            "!has(self.unit.perNode) || self.allocation.sizes.all(s, s <= self.unit.perNode)",
            "no size may exceed unit.perNode",
        ),
        ("self.unit.kind != 'slice' || self.allocation.sizes == [1]", "a slice profile has sizes [1]"),
        (
            (
                "!has(self.throughput) || !has(self.dtypes) || self.throughput.all(t, !has(t.precision)"
                " || !(t.precision in self.dtypes) || self.dtypes[t.precision] != 'Unsupported')"
            ),
            "a throughput entry names a precision that dtypes marks Unsupported",
        ),
        (
            (
                "!has(self.throughput) || self.throughput.all(t, self.allocation.sizes.exists(s,"
                " s * t.parallelism.span == t.parallelism.tensor * t.parallelism.pipeline * t.parallelism.data))"
            ),
            "a throughput entry needs devices per node (tensor x pipeline x data / span) among allocation.sizes",
        ),
    )
    vendor: Annotated[Word, Field(description="Maker of the silicon.")]
    family: Annotated[Word, Field(description="Product family.")]
    display_name: Annotated[Text | None, Field(description="Name for people.")] = None
    unit: Annotated[Unit, Field(description="The schedulable unit; every other number is per unit.")]
    match: Annotated[
        tuple[MatchEntry, ...],
        Field(max_length=16, description="Nodes that have it: any entry; absent = only pools that name the profile."),
    ] = ()
    resources: Annotated[
        tuple[ResourceAlias, ...],
        Field(min_length=1, max_length=16, description="Resource names; the first that a node advertises is used."),
    ]
    dra: Annotated[Dra | None, Field(description="Dynamic resource allocation.")] = None
    allocation: Annotated[Allocation, Field(description="Legal requests.")]
    topology: Annotated[Topology | None, Field(description="Links.")] = None
    peak_tflops: Annotated[dict[Word, Decimal] | None, Field(max_length=16, description="Dense peak by precision, TFLOPS or TOPS.")] = None
    bandwidth_tbps: Annotated[Decimal | None, Field(description="Memory bandwidth, decimal TB/s.")] = None
    assume: Annotated[Assume | None, Field(description="Stated assumptions where quantities are unknown.")] = None
    dtypes: Annotated[dict[Word, Support] | None, Field(max_length=16, description="Precisions; absent = unknown.")] = None
    efficiency: Annotated[Efficiency | None, Field(description="Parameters of the estimator.")] = None
    derate: Annotated[dict[Word, Derate] | None, Field(max_length=8, description="Factors by engine and layout class.")] = None
    engines: Annotated[dict[Word, Engine] | None, Field(max_length=8, description="Serving engines by name.")] = None
    pod: Annotated[PodConventions | None, Field(description="What pods on this hardware need.")] = None
    cost: Annotated[Cost | None, Field(description="Price.")] = None
    kv_transfer: Annotated[tuple[Word, ...], Field(max_length=8, description="KV transfer paths that it shares with others.")] = ()
    throughput: Annotated[tuple[Throughput, ...], Field(max_length=128, description="What models do on it.")] = ()
    provenance: Annotated[
        tuple[Provenance, ...],
        Field(max_length=64, description="Origin of every number outside throughput."),
    ] = ()
