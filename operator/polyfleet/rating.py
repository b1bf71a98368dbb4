"""What one replica of a layout delivers at the model's load, and whether that is good enough to plan on.

A number is demanded only where a decision rests on it: a workload, an SLO or automatic scaling is stated. A model of fixed size with none
of them is placed by its memory alone; whatever is known of its speed is shown, and what is not known stops nothing.

`spec.workload` that says no more than the schema's defaults counts as not stated: the API server writes the defaults into every object,
so nobody can tell them from a person's word. Then the best entry is shown as it is, without a check of its range.

A Measured number older than FleetPolicy `profiles.maxAge` is *stale*: it is used, and everything that shows it says so. Only where the
policy demands Measured data (`minEvidence: Measured`) it no longer counts, except for a profile where the model already runs: time alone
moves nobody. Published and Estimated numbers do not age: a data sheet or a formula is as good as on its first day.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date

from hwprofiles import Throughput
from hwprofiles.entries import covers
from hwprofiles.estimate import Load, Refusal, Slo, bench_command
from hwprofiles.performance import Performance, performance
from hwprofiles.schema import duration_seconds
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.api.modeldeployment import Workload
from polyfleet.merge import Wanted
from polyfleet.sizing import Layout, hardware

NO_PERFORMANCE_DATA = "NoPerformanceData"
LOAD_OUTSIDE = "LoadOutsideProfileRange"
SLO_UNREACHABLE = "SloUnreachable"
PROFILE_STALE = "ProfileStale"

# From the weakest.
EVIDENCE = ("Estimated", "Published", "Measured")
DEFAULT = Load(Workload().input_tokens, Workload().output_tokens)
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Asked:
    """What the numbers have to answer, of one model under one policy."""

    load: Load | None  # as stated; None = nothing is stated
    slo: Slo
    because: str  # the field that demands a number; "" = none does
    min_evidence: str = "Estimated"
    max_age_s: float = float("inf")
    max_age: str = ""  # as the policy writes it
    today: date | None = None  # None: nothing is stale

    @property
    def tokens(self) -> int:
        """Of one request, for the memory of its KV cache."""
        load = self.load or DEFAULT
        return load.input_tokens + load.output_tokens

    def covers(self, entry: Throughput) -> bool:
        return self.load is None or covers(entry, self.load)


@dataclass(frozen=True, slots=True)
class Rated:
    performance: Performance
    stale: str = ""  # why its number is old; "" = it is not


def asked(spec: ModelDeploymentSpec, policy: FleetPolicySpec, today: date | None) -> Asked:
    slo, load = spec.slo, stated_load(spec)
    goals = Slo(
        ttft_s=duration_seconds(slo.ttft) if slo.ttft is not None else None,
        itl_s=duration_seconds(slo.itl) if slo.itl is not None else None,
    )
    because = ""
    if load is not None:
        because = "spec.workload"
    elif goals != Slo():
        because = "spec.slo"
    elif spec.scaling is not None and spec.scaling.mode == "Auto":
        because = "spec.scaling"
    trust = policy.profiles
    return Asked(load, goals, because, trust.min_evidence, duration_seconds(trust.max_age), trust.max_age, today)


def stated_load(spec: ModelDeploymentSpec) -> Load | None:
    """`spec.workload`, or None where it says no more than the defaults."""
    workload = spec.workload
    return Load(workload.input_tokens, workload.output_tokens) if workload != Workload() else None


def entry_name(wanted: Wanted) -> str:
    """The model's name in the profile's entries, which may be that of the URI or the catalogue's: the first that has any."""
    listed = {entry.model for entry in wanted.entries()}
    return next((name for name in wanted.known.names if name in listed), wanted.model_id)


def rate(wanted: Wanted, layout: Layout, ask: Asked, *, running: bool = False) -> Rated | Refusal:
    """`running`: the model has replicas on this profile, so a number that has grown old there does not take the place from them."""
    found = _performance(wanted, layout, ask)
    if isinstance(found, Refusal):
        return found
    stale = staleness(found.evidence, found.date, ask)
    if stale and ask.min_evidence == "Measured" and not running:
        return Refusal(
            PROFILE_STALE,
            f"{wanted.model_id} was {stale}, and FleetPolicy spec.profiles.minEvidence is Measured",
            bench(wanted, ask.load),
        )
    return Rated(found, stale)


def _performance(wanted: Wanted, layout: Layout, ask: Asked) -> Performance | Refusal:
    known, listed = wanted.known, wanted.entries()
    return performance(
        wanted.profile_name,
        wanted.profile,
        model_id=entry_name(wanted),
        shape=known.shape,
        precision=wanted.number_format if listed else wanted.number_format or known.precision,
        engine=wanted.engine,
        engine_version=wanted.engine_version,
        layout=layout,
        load=ask.load,
        slo=ask.slo,
        min_evidence=ask.min_evidence,
        hardware=hardware(wanted),
    )


def staleness(evidence: str, day: str | None, ask: Asked) -> str:
    """In words, "" if it is not stale."""
    if evidence != "Measured" or day is None or ask.today is None:
        return ""
    age = age_days(day, ask.today)
    return f"measured {day}, longer ago than maxAge {ask.max_age}" if age * _DAY_S > ask.max_age_s else ""


def age_days(day: str, today: date) -> int:
    """Whole days since a date of the schema, never below 0; a month counts from its last day, so nothing is called older than it is."""
    year, month, *rest = (int(part) for part in day.split("-"))
    last = calendar.monthrange(year, month)[1]
    return max(0, (today - date(year, month, min(rest[0], last) if rest else last)).days)


def bench(wanted: Wanted, load: Load | None = None) -> str:
    return f"measure it: {bench_command(wanted.profile_name, wanted.model_id, load)}"


def figures(found: Performance) -> str:
    """One line with the numbers and where they come from."""
    bounds = ""
    if found.lower is not None:
        bounds = f", between {found.lower:.0f} and {found.upper:.0f}" if found.upper is not None else f", at least {found.lower:.0f}"
        bounds = f" (point {found.point:.0f}{bounds})"
    parts = [f"{found.output_tokens_per_s:.0f} output tokens/s{bounds}"]
    parts += [f"TTFT {seconds(found.ttft_s)}"] if found.ttft_s is not None else []
    parts += [f"ITL {seconds(found.itl_s)}"] if found.itl_s is not None else []
    parts += [f"{found.concurrency} requests in flight"] if found.concurrency is not None else []
    return ", ".join(parts)


def seconds(value: float | None) -> str:
    """406ms, 1.1s, as durations are written in specs; "unknown"."""
    if value is None:
        return "unknown"
    return f"{value * 1000:.0f}ms" if value < 0.9995 else f"{value:.1f}s"
