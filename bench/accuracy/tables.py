"""The measurements behind the tables, each a list of plain rows. Everything follows from the models' columns and a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accuracy.hard import LEAST_OVERLAP
from accuracy.layout import WIDTH
from accuracy.policy import Formats, Policy, Settings, effective
from bench.accuracy import models, others
from bench.accuracy.distances import FEW, TOP
from bench.accuracy.models import Model
from bench.accuracy.observed import Observed, bad, hard, observe
from bench.accuracy.runs import Outcome, Setup, setup, simulate

Row = dict[str, Any]
SHARES = (0.05, 0.02, 0.01, 0.005)
# What the design declares of a variant of SmolLM2 (reference: bf16)
DECLARES: dict[str, Formats] = {
    "int8 KV": Formats(kv="int8"),
    "int8 activations": Formats(activations="int8"),
    "fp8 KV": Formats(kv="fp8"),
    "W8": Formats(weights="int8"),
    "fp8 weights": Formats(weights="fp8"),
    "W8A8": Formats(weights="w8a8"),
    "W4 groups of 64": Formats(weights="w4"),
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the gate."""

    name: str
    top: int = TOP
    positions: int | None = None  # None: all
    strata: bool = True  # False: one stratum
    change: Callable[[Policy], Policy] = lambda policy: policy
    width: float | None = None  # c over B at the mean noise; None: as `accuracy.layout` has it


# Of one position of the byte model: its faults are an order of magnitude smaller than those of SmolLM2
BYTE_TAIL_KL = 0.25


# c over B. With four times the noise instead it would be 2, 2/3 and 1/3 for kappa = 2, 6 and 12.
WIDTHS = (1 / 3, 2 / 3, 1.0, WIDTH, 2.0, 4.0)


def _margins(**given: float) -> Callable[[Policy], Policy]:
    return lambda policy: replace(policy, margins=replace(policy.margins, **given))  # type: ignore[arg-type]


ONE, TEN = Way("one stratum", strata=False), Way("ten strata")
WAYS: tuple[Way, ...] = (
    ONE,
    TEN,
    Way("five alternatives", top=FEW),
    Way("golden token alone (k = 1), one stratum", top=1, strata=False),
    Way("golden token alone (k = 1)", top=1),
    Way("8 positions (Stepwise)", positions=8),
    Way("8 positions (Stepwise), one stratum", positions=8, strata=False),
    Way("16 positions", positions=16),
    Way("8 positions, five alternatives", positions=8, top=FEW),
    Way("8 positions, golden token alone", positions=8, top=1),
    Way("cap of the squared difference .04", change=_margins(cap_sq=0.04)),
    Way("no cap on the divergence", change=_margins(cap_kl=5.0, cap_sq=3.9)),
    Way("b = .05", change=_margins(bias=0.05)),
    Way("cap .01", change=_margins(cap_kl=0.01, cap_sq=0.02)),
    Way("c = B", width=1.0),
    Way("c = 2 B", width=2.0),
    Way("c = 2 B, one stratum", width=2.0, strata=False),
    Way("c = 2 B, cap .01", width=2.0, change=_margins(cap_kl=0.01, cap_sq=0.02)),
    Way("tau = .25", change=_margins(tail_kl=0.25)),
    Way("tau = .5, one stratum", strata=False, change=_margins(tail_kl=0.5)),
    Way("floor of the squared difference 7e-4", change=_margins(floor_sq=7e-4)),
    Way("level Quick", change=lambda policy: replace(policy, level="Quick", alpha=0.05)),
)


def at(model: Model, way: Way, policy: Policy) -> tuple[Setup, Callable[[str], Observed]]:
    """The gate set up for a model, and what a variant looks like to it."""

    def seen(variant: str) -> Observed:
        return observe(model.columns(variant), top=way.top, positions=way.positions)

    strata: Sequence[str] = model.strata if way.strata else ("all",) * len(model.strata)
    return setup(way.change(policy), seen(models.NOISE), strata, width=way.width), seen


def row_1(model: Model) -> Policy:
    """What holds where nothing is declared."""
    return _margins(tail_kl=BYTE_TAIL_KL)(Policy()) if model.name == models.BYTE else Policy()


def figures(outcome: Outcome, model: Model) -> Row:
    return {
        "promote": round(outcome.promote, 4),
        "block": round(outcome.block, 4),
        "prompts": outcome.median,
        "tokens": outcome.median * (64 if model.name == models.BYTE else models.PROMPT),
    }


def groups(model: Model) -> dict[str, Mapping[str, str]]:
    """What a table lists: harmless variants, faults, and what is harmless only where it is declared."""
    faults = {name: variant for name, variant in model.faults.items() if name not in model.inside}
    inside = {name: model.faults[name] for name in model.inside}
    return {"benign": model.benign, "fault": faults, "inside the margin": inside, "undeclared": model.declared}


def corpus(model: Model, *, runs: int, seed: int) -> list[Row]:
    """Every variant under row 1 of the margins, with one stratum and with ten."""
    rows = []
    for way in (ONE, TEN):
        gate, seen = at(model, way, row_1(model))
        for group, variants in groups(model).items():
            for name, variant in variants.items():
                outcome = simulate(gate, seen(variant), runs=runs, seed=seed)
                ratio = _ratio(model, variant)
                rows.append({"way": way.name, "group": group, "variant": name, "ratio": ratio, **figures(outcome, model)})
    return rows


def shares(model: Model, *, runs: int, seed: int) -> list[Row]:
    """Every fault, and NaN, in a share of the requests; the others are answered by the healthy variant."""
    if not model.faults:
        return []
    gate, seen = at(model, TEN, row_1(model))
    rows = []
    for name, variant in {"NaN": models.NAN, **groups(model)["fault"]}.items():
        for share in SHARES:
            outcome = simulate(gate, seen(variant), healthy=seen(models.HEALTHY), share=share, runs=runs, seed=seed)
            rows.append({"variant": name, "share": share, **figures(outcome, model)})
    return rows


def ways(model: Model, *, runs: int, seed: int) -> list[Row]:
    """The whole corpus in each way of running the gate: the worst of the harmless variants, and what becomes of the faults."""
    rows = []
    for way in WAYS:
        gate, seen = at(model, way, row_1(model))
        done = {group: _all(model, gate, seen, variants, runs, seed) for group, variants in groups(model).items() if group != "undeclared"}
        rows.append({"way": way.name, "tests": gate.tests.count, **_summary(done)})
    return rows


def widths(model: Model, *, runs: int, seed: int) -> list[Row]:
    """c at other multiples of B, under row 1 and under the rows of the declared differences: what it does to harmless variants, to faults,
    and to a fault in 5 % of the requests."""
    rows = []
    for name, formats in {"": Formats(), **DECLARES}.items():
        if name and not (model.declared and name in models.UNDER):
            continue
        policy = effective(Settings(), reference=Formats(weights="bf16"), candidate=formats) if name else row_1(model)
        for strata in (False, True):
            for width in WIDTHS:
                gate, seen = at(model, Way("", strata=strata, width=width), policy)
                harmless = model.benign if not name else {name: model.declared[name]}
                faulty = groups(model)["fault"] if not name else {fault: models.under(name, fault) for fault in models.ON_TOP}
                faulty = faulty if model.faults else {}
                fine = _all(model, gate, seen, harmless, runs, seed)
                ill = _all(model, gate, seen, faulty, runs, seed)
                rows.append(
                    {
                        "pair": name or "row 1",
                        "kappa": policy.margins.noise_ratio,
                        "way": (TEN if strata else ONE).name,
                        "width": width,
                        "benign promote": min(row["promote"] for row in fine.values()),
                        "benign prompts": max(row["prompts"] for row in fine.values()),
                        "fault promote": max((row["promote"] for row in ill.values()), default=None),
                        "promoted": {fault: row["promote"] for fault, row in ill.items() if row["promote"] > 0},
                        "fault prompts": max((row["prompts"] for row in ill.values()), default=None),
                        "blocked": sum(row["block"] == 1 for row in ill.values()),
                        "faults": len(ill),
                    }
                )
    return rows


def declared(model: Model, *, runs: int, seed: int) -> list[Row]:
    """Declared differences under their own row of the margins, alone and with a fault on top; without Tasks, which some rows demand."""
    rows = []
    for name, formats in DECLARES.items():
        if name not in model.declared:
            continue
        policy = effective(Settings(), reference=Formats(weights="bf16"), candidate=formats)
        for way in (ONE, TEN):
            gate, seen = at(model, way, policy)
            variants = {"": model.declared[name]}
            if name in models.UNDER and model.faults:
                variants |= {fault: models.under(name, fault) for fault in models.ON_TOP}
            for fault, variant in variants.items():
                outcome = simulate(gate, seen(variant), runs=runs, seed=seed)
                told = _told(seen(variant), policy)
                rows.append({"pair": name, "way": way.name, "fault": fault, **told, **figures(outcome, model)})
    return rows


def overlap(model: Model) -> list[Row]:
    """What a threshold on the shared mass finds, per prompt (mean over its positions) and per position."""
    rows = []
    for top in (TOP, FEW):
        for group, variants in groups(model).items():
            for name, variant in variants.items():
                seen = observe(model.columns(variant), top=top)
                rows.append(
                    {
                        "alternatives": top,
                        "group": group,
                        "variant": name,
                        "least mean": float(seen.overlap.min()),
                        "least position": float(seen.lone.min()),
                        "prompts": float((seen.overlap < LEAST_OVERLAP).mean()),
                        "with a position": float((seen.lone < LEAST_OVERLAP).mean()),
                    }
                )
    return rows


def gates(model: Model, *, runs: int, seed: int) -> list[Row]:
    """Every variant before the gates in use elsewhere."""
    rows = []
    gate, seen = at(model, TEN, row_1(model))
    for group, variants in groups(model).items():
        for name, variant in variants.items():
            ours = simulate(gate, seen(variant), runs=runs, seed=seed)
            passed = others.passed(model.columns(variant), runs=runs, seed=seed)
            rows.append({"group": group, "variant": name, "polyfleet": ours.promote, **passed})
    return rows


def _all(model: Model, gate: Setup, seen: Callable[[str], Observed], variants: Mapping[str, str], runs: int, seed: int) -> dict[str, Row]:
    return {name: figures(simulate(gate, seen(variant), runs=runs, seed=seed), model) for name, variant in variants.items()}


def _summary(done: Mapping[str, Mapping[str, Row]]) -> Row:
    benign, faults = done["benign"], done["fault"]
    slowest = max(benign, key=lambda name: (benign[name]["prompts"], name))
    return {
        "benign promote": min(row["promote"] for row in benign.values()),
        "less": {name: row["promote"] for name, row in benign.items() if row["promote"] < 0.99},
        "benign block": max(row["block"] for row in benign.values()),
        "benign prompts": benign[slowest]["prompts"],
        "slowest": slowest,
        "fault promote": max((row["promote"] for row in faults.values()), default=None),
        "promoted": {name: row["promote"] for name, row in faults.items() if row["promote"] > 0},
        "not always blocked": {name: row["block"] for name, row in faults.items() if row["block"] < 1},
        "fault prompts": float(np.median([row["prompts"] for row in faults.values()])) if faults else None,
        "slowest fault": max((row["prompts"] for row in faults.values()), default=None),
        "inside": {name: row["promote"] for name, row in done["inside the margin"].items()},
    }


def _ratio(model: Model, variant: str) -> float | None:
    kl, noise = model.columns(variant).kl_top, model.noise.kl_top
    ratio = float(kl.mean() / noise.mean())
    return round(ratio, 2) if ratio == ratio else None


def _told(seen: Observed, policy: Policy) -> Row:
    """Why: mean divergence, and how many prompts break the tail or block at sight."""
    kl = float(np.mean(seen.kl)) if seen.kl is not None else None
    return {
        "kl": kl if kl is not None and kl == kl else None,
        "bias": float(np.mean(seen.bias)),
        "bad": float(bad(seen, policy).mean()),
        "hard": float(hard(seen, policy).mean()),
    }
