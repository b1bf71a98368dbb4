"""`warm`: computes every variant that the tables need, so that the tables themselves are a matter of seconds."""

from __future__ import annotations

import time

from bench.accuracy import models


def variants(model: models.Model) -> list[str]:
    """All that the tables read of single differences, the replicate and the healthy one first."""
    wanted = [models.NOISE, models.HEALTHY, models.NAN, *model.benign.values(), *model.faults.values(), *model.declared.values()]
    return list(dict.fromkeys(wanted))


def on_top(model: models.Model) -> list[str]:
    """Faults on top of a declared difference, which only two tables read: last, for they take a third of the time."""
    if not (model.declared and model.faults):
        return []
    return [models.under(declared, fault) for declared in models.UNDER for fault in models.ON_TOP]


def command() -> int:
    found = list(models.every())
    start = time.monotonic()
    for model, todo in [*((model, variants(model)) for model in found), *((model, on_top(model)) for model in found)]:
        for number, variant in enumerate(todo, 1):
            model.columns(variant)
            print(f"{model.name}: {number} of {len(todo)}, {time.monotonic() - start:.0f} s: {variant or 'rerun'}", flush=True)
    return 0
