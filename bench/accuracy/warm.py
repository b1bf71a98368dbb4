"""`warm`: computes every variant that the tables need, so that the tables themselves are a matter of seconds."""

from __future__ import annotations

import time

from bench.accuracy import models


def variants(model: models.Model) -> list[str]:
    """All that the tables read, the replicate and the healthy one first."""
    wanted = [models.NOISE, models.HEALTHY, models.NAN, *model.benign.values(), *model.faults.values(), *model.declared.values()]
    if model.declared and model.faults:
        wanted += [models.under(declared, fault) for declared in models.UNDER for fault in models.ON_TOP]
    return list(dict.fromkeys(wanted))


def command() -> int:
    for model in models.every():
        start, todo = time.monotonic(), variants(model)
        for number, variant in enumerate(todo, 1):
            model.columns(variant)
            print(f"{model.name}: {number} of {len(todo)}, {time.monotonic() - start:.0f} s: {variant or 'rerun'}", flush=True)
    return 0
