"""Columns around what runs: exactly the running replicas, and one more or one less of each option.

Running counts are usually off the grid of `columns`; without these "keep what runs" would be no column, and every solve would move
somebody.
"""

from __future__ import annotations

import numpy as np

from placement.columnform import Ints
from placement.columns import Columns, Generator, covered_pair
from placement.coverage import covered
from placement.master import WIDTH


def keepers(generator: Generator, models: Ints | None = None) -> Columns:
    """Columns of the models that run something, sorted by model."""
    form = generator.form
    wanted = np.unique(form.model[form.running > 0]) if models is None else models
    owner: list[int] = []
    rows: list[list[tuple[int, int]]] = []
    for m in wanted:
        low, high = int(form.first[m]), int(form.first[m + 1])
        now = {o: int(form.running[o]) for o in range(low, high) if form.running[o]}
        if not now or len(now) > WIDTH:
            continue
        kinds = [now]
        for o in now:
            kinds.append({**now, o: now[o] + 1})
            kinds.append({p: n for p, n in {**now, o: now[o] - 1}.items() if n})
        for kind in kinds:
            if kind:
                owner.append(int(m))
                rows.append(sorted(kind.items()))
    option = np.zeros((len(rows), WIDTH), np.int32)
    count = np.zeros((len(rows), WIDTH), np.int32)
    for i, row in enumerate(rows):
        for e, (o, n) in enumerate(row):
            option[i, e], count[i, e] = o, n
    owners = np.array(owner, np.int64)
    return generator.priced(owners, option, count, phi_of(generator, owners, option, count))


def phi_of(generator: Generator, owner: Ints, option: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Coverage of each row: up to two families at once for all rows, a small program for more."""
    form = generator.form
    phi = np.ones(len(owner))
    families: list[dict[int, int]] = []
    for i in range(len(owner)):
        mine: dict[int, int] = {}
        for o, n in zip(option[i], count[i], strict=True):
            if n:
                family = int(generator.family[o])
                mine[family] = mine.get(family, 0) + int(n)
        families.append(mine)
    few = [i for i, mine in enumerate(families) if len(mine) <= 2]
    if few:
        pairs = [[*sorted(families[i].items()), (next(iter(families[i])), 0)][:2] for i in few]
        first = np.array([generator.lead[p[0][0]] for p in pairs])
        second = np.array([generator.lead[p[1][0]] for p in pairs])
        n1 = np.array([float(p[0][1]) for p in pairs])
        n2 = np.array([float(p[1][1]) for p in pairs])
        phi[few] = covered_pair(generator.ratio[first], generator.ratio[second], n1, n2)
    for i, mine in enumerate(families):
        if len(mine) > 2:
            loads = tuple(float(x) for x in form.load[owner[i]])
            supply = [(tuple(float(x) for x in form.rate[generator.lead[f]]), n) for f, n in sorted(mine.items())]
            phi[i] = covered(loads, supply) if sum(loads) > 0 else 1.0
    phi[generator.counts_only[owner]] = 1.0
    return phi
