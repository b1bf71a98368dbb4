"""The fault corpus on the byte model, small enough for unit tests: 96 windows stand for the 800 of the benchmark."""

from __future__ import annotations

from functools import cache

from accuracy.policy import Margins, Policy
from bench.accuracy import models
from bench.accuracy.models import Model
from bench.accuracy.observed import Observed, observe
from bench.accuracy.runs import Setup, setup

WINDOWS, RUNS = 96, 200
# The byte model's distributions are narrow, so that the design takes half of the default tail for it.
POLICY = Policy(margins=Margins(tail_kl=0.25))


@cache
def model() -> Model:
    return models.byte(WINDOWS)


@cache
def seen(variant: str, top: int = 20) -> Observed:
    return observe(model().columns(variant), top=top)


@cache
def gate(*, top: int = 20, strata: int = 1, policy: Policy = POLICY) -> Setup:
    """With one stratum, or the windows in turns over so many."""
    return setup(policy, seen(models.NOISE, top), [f"part {at % strata}" for at in range(WINDOWS)])
