"""Settings of the accuracy gate, shared by FleetPolicy (the fleet's) and ModelDeployment (one model's override).

The numbers have no schema default on purpose: a default would set every number, and `level`, which fills what is not set, could
never act. The operator fills them in and each report records the effective policy by digest.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from polyfleet.api.types import (
    Bool,
    Count,
    Decimal,
    Duration,
    Model,
    Names,
    ObjectName,
    Percent,
    Positive,
    ShortText,
    Word,
    Words,
    list_map,
)

Gate = Literal["Contract", "HardFaults", "Tokens", "Tail", "Bias", "SelfConsistency", "Tasks", "Shadow"]
Mode = Literal["PromptLogprobs", "Stepwise", "FreeRun", "TextOnly"]


class Reference(Model):
    profile: Annotated[ObjectName | None, Field(description="HardwareProfile whose outputs are the reference.")] = None
    max_age: Annotated[Duration | None, Field(description="Older captures are taken anew.")] = None
    on_unavailable: Annotated[Literal["UseGolden", "SelfConsistency", "Hold"] | None, Field(description="Without reference hardware.")] = (
        None
    )


class ConfigMapGoldenSet(Model):
    name: Annotated[ObjectName, Field(description="ConfigMap.")]
    key: Annotated[ShortText | None, Field(description="Key; absent = the only one.")] = None


class FleetConfigMapGoldenSet(ConfigMapGoldenSet):
    namespace: Annotated[ObjectName | None, Field(description="Namespace; absent = the operator's.")] = None


class GoldenSet(Model):
    cel_rules = (("has(self.builtin) != has(self.configMap)", "a golden set is either builtin or a configMap"),)
    builtin: Annotated[Word | None, Field(description="A set that comes with polyfleet.")] = None
    config_map: Annotated[ConfigMapGoldenSet | None, Field(description="A set of your own.")] = None


class FleetGoldenSet(Model):
    cel_rules = (("has(self.builtin) != has(self.configMap)", "a golden set is either builtin or a configMap"),)
    builtin: Annotated[Word | None, Field(description="A set that comes with polyfleet.")] = None
    config_map: Annotated[FleetConfigMapGoldenSet | None, Field(description="A set of your own.")] = None


class Load(Model):
    concurrency: Annotated[tuple[Positive, ...], Field(max_length=8, description="Requests in flight.")] = ()
    prefix_cache: Annotated[tuple[Literal["Miss", "Hit"], ...], Field(max_length=2, description="States of the prefix cache.")] = ()
    per_replica: Annotated[Bool | None, Field(description="Each replica by itself, not through the Service.")] = None


class Margins(Model):
    noise_ratio: Annotated[Decimal | None, Field(description="kappa.")] = None
    floor_kl: Annotated[Decimal | None, Field(description="Lowest limit of the mean divergence, nats.")] = None
    cap_kl: Annotated[Decimal | None, Field(description="Highest limit of the mean divergence, nats.")] = None
    tail_kl: Annotated[Decimal | None, Field(description="tau.")] = None
    flip_margin_nats: Annotated[Decimal | None, Field(description="Margin of a confident flip.")] = None
    bias: Annotated[Decimal | None, Field(description="Allowed systematic shift.")] = None


class PairCandidate(Model):
    vendors: Annotated[Words, Field(description="Vendors.")] = ()
    profiles: Annotated[Names, Field(description="Profiles.")] = ()
    variants: Annotated[Words, Field(description="Variants.")] = ()
    engines: Annotated[Words, Field(description="Engines.")] = ()


class Declares(Model):
    weights: Annotated[Word | None, Field(description="Number format of the weights.")] = None
    kv: Annotated[Word | None, Field(description="Number format of the KV cache.")] = None
    activations: Annotated[Word | None, Field(description="Number format of the activations.")] = None


class Pair(Model):
    candidate: Annotated[PairCandidate, Field(description="Candidates that it is for; empty = all.")] = PairCandidate()
    declares: Annotated[Declares, Field(description="Declared difference of number formats.")]
    margins: Annotated[Margins, Field(description="Limits for this difference.")]
    require_tasks: Annotated[Bool | None, Field(description="Tasks must pass too.")] = None


class Task(Model):
    name: Annotated[Word, Field(description="Task.")]
    items: Annotated[Positive | None, Field(description="Number of items.")] = None
    margin_points: Annotated[Decimal | None, Field(description="Allowed loss, percentage points.")] = None
    paired: Annotated[Bool | None, Field(description="Both sides answer the same items.")] = None


class Recheck(Model):
    every: Annotated[Duration | None, Field(description="Time between checks of a promoted pair.")] = None
    on_driver_change: Annotated[Bool | None, Field(description="Also when a node's driver changes.")] = None
    shadow_percent: Annotated[Percent | None, Field(description="Share of live traffic that is compared; without effect so far.")] = None


class AccuracyFields(Model):
    """Everything that both places may set."""

    level: Annotated[Literal["Quick", "Standard", "Critical"] | None, Field(description="Fills every number that is not set.")] = None
    reference: Annotated[Reference | None, Field(description="What outputs are compared with.")] = None
    modes: Annotated[tuple[Mode, ...], Field(max_length=4, description="Ways of comparing, in order of preference.")] = ()
    gates: Annotated[tuple[Gate, ...], Field(max_length=8, description="Gates, in order.")] = ()
    strata: Annotated[Words, Field(description="Kinds of prompts that must be covered.")] = ()
    alpha: Annotated[Decimal | None, Field(description="False promotions allowed, at any stopping time.")] = None
    beta: Annotated[Decimal | None, Field(description="False blocks allowed.")] = None
    bad_prompt_rate: Annotated[Decimal | None, Field(description="rho, the rate of bad prompts that is certified.")] = None
    noise_ratio: Annotated[Decimal | None, Field(description="kappa, allowed distance over the reference's own noise.")] = None
    noise_kl: Annotated[Decimal | None, Field(description="The noise, stated by hand where it cannot be measured.")] = None
    floor_kl: Annotated[Decimal | None, Field(description="Lowest limit of the mean divergence, nats.")] = None
    cap_kl: Annotated[Decimal | None, Field(description="Highest limit of the mean divergence, nats.")] = None
    tail_kl: Annotated[Decimal | None, Field(description="tau, divergence of a bad position, nats.")] = None
    flip_margin_nats: Annotated[Decimal | None, Field(description="Margin of a confident flip.")] = None
    bias: Annotated[Decimal | None, Field(description="Allowed systematic shift.")] = None
    min_prompts: Annotated[Positive | None, Field(description="Prompts before a verdict.")] = None
    max_prompts: Annotated[Positive | None, Field(description="Prompts before giving up.")] = None
    positions_per_prompt: Annotated[Positive | None, Field(description="Positions compared per prompt.")] = None
    top_k: Annotated[Positive | None, Field(description="Log-probabilities per position.")] = None
    repeats: Annotated[Positive | None, Field(description="Repetitions of each prompt.")] = None
    seed: Annotated[Count | None, Field(description="Order of prompts.", le=2_147_483_647)] = None
    conditions: Annotated[Load | None, Field(description="Load under which outputs are compared.")] = None
    pairs: Annotated[tuple[Pair, ...], Field(max_length=16, description="Limits for declared differences of number formats.")] = ()
    tasks: Annotated[tuple[Task, ...], Field(max_length=16, description="Task scores.", json_schema_extra=list_map("name"))] = ()
    on_inconclusive: Annotated[Literal["Hold", "Extend", "RequireApproval"] | None, Field(description="When the prompts are used up.")] = (
        None
    )
    recheck: Annotated[Recheck | None, Field(description="Checks after promotion.")] = None
