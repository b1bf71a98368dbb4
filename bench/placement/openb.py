"""A real fleet: the GPU nodes of the public openb node list, half taken by pods of the public openb trace.

The pods arrive in shuffled order; 70 % go where they fit tightest, 30 % to any node that has room, until half of the devices is taken.
The list holds no failure domains: a node's is a checksum of its name. Origin and licence of the data: bench/data/README.md.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
DATA = Path(__file__).resolve().parent.parent / "data"
ANYWHERE = 0.3  # of the pods
TAKEN = 0.5  # of the devices


def read(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def places(rng: np.random.Generator, types: Sequence[str], zones: int) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    """(cell, size, free) per node and (type, zone, node size) per cell."""
    nodes = read("openb_nodes.csv.gz")
    size = np.array([int(n["devices"]) for n in nodes])
    kind = np.array([types.index(n["model"]) for n in nodes])
    zone = np.array([zlib.crc32(n["node"].encode()) % zones for n in nodes])
    free = _occupied(rng, size)
    keys = (kind * zones + zone) * 16 + size
    ids, cell = np.unique(keys, return_inverse=True)
    return cell, size, free, ids // 16 // zones, ids // 16 % zones, ids % 16


def _occupied(rng: np.random.Generator, size: Ints) -> Ints:
    free = size.copy()
    asked = np.array([int(p["devices"]) for p in read("openb_pods.csv.gz")])[rng.permutation(len(read("openb_pods.csv.gz")))]
    left = int(size.sum() * TAKEN)
    for devices in asked.tolist():
        fits = np.flatnonzero(free >= devices)
        if devices > left or not len(fits):
            continue
        anywhere = rng.random() < ANYWHERE
        node = int(rng.choice(fits)) if anywhere else int(fits[np.argmin(free[fits])])
        free[node] -= devices
        left -= devices
        if not left:
            break
    return free
