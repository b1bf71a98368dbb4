"""`fragmentation`: what the choice of the node does to whole free nodes. 30,000 starts and ends of replicas on 1,000 nodes of 8.

Replicas of 1, 2, 4 and 8 devices come and go around a level of load; every rule sees the same events. Measured over the second half: whole
free nodes in percent of the most that the free devices could make, and the share of starts of 8 devices that found no node although enough
devices were free. LeastAllocated is kube-scheduler's default score applied to devices; BestFit is the placer's rule.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

NODES, SIZE, EVENTS = 1_000, 8, 30_000
LEVELS = (0.70, 0.85, 0.93)
REQUESTS, SHARES = (1, 2, 4, 8), (0.40, 0.25, 0.20, 0.15)
RULES = ("BestFit", "Random", "LeastAllocated")


@dataclass(frozen=True, slots=True)
class Figure:
    rule: str
    level: float
    whole_percent: float  # of the ideal, mean over the second half of the events
    failed_percent: float  # starts of 8 that failed for fragmentation alone


def simulate(rule: str, level: float, *, events: int = EVENTS, nodes: int = NODES, seed: int = 0) -> Figure:
    """One rule at one level."""
    rng = np.random.default_rng(seed)
    draws = np.random.default_rng(seed + 1)  # of the rule alone, so that all rules see the same events
    free = np.full(nodes, SIZE)
    running: list[tuple[int, int]] = []  # node, devices
    whole, ideal, large, failed = 0, 0, 0, 0
    for event in range(events):
        devices = int(rng.choice(REQUESTS, p=SHARES))
        victim = rng.random()
        used = nodes * SIZE - int(free.sum())
        if used + devices > level * nodes * SIZE and running:
            # As many ends as the new one needs: the level is held, and who ends is a matter of chance.
            while used + devices > level * nodes * SIZE and running:
                i = int(victim * len(running))
                running[i], running[-1] = running[-1], running[i]
                node, gone = running.pop()
                free[node] += gone
                used -= gone
                victim = rng.random()
        node = _choose(rule, free, devices, draws)
        if event >= events // 2:
            whole += int((free == SIZE).sum())
            ideal += int(free.sum()) // SIZE
            large += devices == SIZE
            failed += devices == SIZE and node < 0
        if node >= 0:
            free[node] -= devices
            running.append((node, devices))
    return Figure(rule, level, round(100 * whole / max(1, ideal), 1), round(100 * failed / max(1, large), 1))


def _choose(rule: str, free: np.ndarray[tuple[int], np.dtype[np.int64]], devices: int, draws: np.random.Generator) -> int:
    fits = np.flatnonzero(free >= devices)
    if not len(fits):
        return -1
    if rule == "BestFit":
        return int(fits[np.argmin(free[fits])])
    if rule == "LeastAllocated":
        return int(fits[np.argmax(free[fits])])
    return int(draws.choice(fits))


def command(quick: bool) -> int:
    events, nodes = (3_000, 100) if quick else (EVENTS, NODES)
    for level in LEVELS:
        for rule in RULES:
            figure = simulate(rule, level, events=events, nodes=nodes)
            print(json.dumps({"rule": rule, "load": level, "whole_percent": figure.whole_percent, "failed_percent": figure.failed_percent}))
    return 0
