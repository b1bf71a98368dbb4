"""Who decides in a simulation: the operator's own decision, a fixed size, or another autoscaler at its documented defaults.

The others are the re-implementations of the benchmarks (`autoscaling.replay.baselines`). They ask for a number of replicas, one as good as
the other; where those run is still the placer's choice, so a comparison shows what the decision costs and not what the placement does.
"""

from __future__ import annotations

from collections.abc import Callable

from autoscaling.decide import decide
from autoscaling.replay.baselines import dynamo, hpa, keda, knative, wva
from autoscaling.replay.harness import Policy as Scaler
from polyfleet.cli.failure import usage
from polyfleet.cli.simulate.loop import TICK_S, Policy
from polyfleet.cli.simulate.subject import Subject

# By name: what makes a fresh one, and what it is in words. Knobs at their documented defaults, as in the benchmarks.
OTHERS: dict[str, tuple[Callable[[], Scaler], str]] = {
    "hpa": (lambda: hpa.Hpa(0.7), "HPA, 70 % of the slots in flight"),
    "keda": (lambda: keda.Keda(5.0), "KEDA, 5 waiting per replica"),
    "kpa": (lambda: knative.Kpa(0.7), "Knative KPA, 70 % of the slots in flight"),
    "wva": (lambda: wva.V1(0.8), "WVA V1, cache use of 80 %"),
    "dynamo": (lambda: dynamo.Sla(0.5), "Dynamo SLA, first token within 0.5 s"),
}
NAMES = ("auto", "static", "static=N", *OTHERS)


def check(name: str) -> None:
    """Usage failure for a name that is none."""
    word, equals, number = name.partition("=")
    if not equals and word in (*OTHERS, "auto", "static"):
        return
    if word == "static" and number.isascii() and number.isdigit() and 1 <= int(number) <= 10_000:
        return
    raise usage(f"--policy: {name!r} is not known", f"allowed: {', '.join(NAMES)} with N from 1 to 10000", "--policy static=8")


def policy(name: str, about: Subject) -> Policy:
    """Of a checked name. A model without `spec.scaling` and without bounds keeps its size, whatever is asked."""
    word, _, number = name.partition("=")
    if about.automatic and word == "auto":
        return Policy("auto", decide)
    if about.automatic and word in OTHERS:
        make, told = OTHERS[word]
        made = make()
        return Policy(told, count=made, tick_s=made.tick_s)
    there = sum(1 for row in about.snapshot.replicas if row.model == about.model)
    size = int(number) if number else max(1, about.row.min_replicas, there)
    return Policy(f"static, {size} replicas", fixed=size, tick_s=TICK_S)
