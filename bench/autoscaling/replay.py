"""One replay of the shipped decision, with its references at the same attainment: one JSON line.

`clairvoyant_hours` and `static_hours` are interpolated at the policy's own attainment (`code1`: within 10 s, the others within 2 s); null
where no run of the reference attains so much. An event is a tick that changes the wanted size. The seed drives jitter and cold starts.
"""

from __future__ import annotations

import json
from pathlib import Path

from autoscaling.replay.harness import Result, run
from autoscaling.replay.loads import Load, load
from autoscaling.replay.search import Search
from autoscaling.replay.shipped import EPOCH_S, GOALS, Shipped

PAUSE_S = 600.0  # between two passes


def within(name: str) -> float:
    """The limit of the first token that the load's goal states, s."""
    return GOALS[name].ttft_s or 2.0


def passes(
    of: Load, cold_start_s: float, seed: int, number: int = 1, *, record: bool = False, gateway: bool = False
) -> tuple[Result, Shipped]:
    """The load so often in a row, learned state kept as over a restart of the operator; the last pass."""
    policy = Shipped(GOALS[of.name], cold_start_s, gateway)
    result = run(of, policy, cold_start_s=cold_start_s, seed=seed, record=record)
    for done in range(1, number):
        began = EPOCH_S + done * (float(of.arrival[-1]) + PAUSE_S)
        policy = Shipped(GOALS[of.name], cold_start_s, gateway, learned_before=policy.after(), began=began)
        result = run(of, policy, cold_start_s=cold_start_s, seed=seed, record=record)
    return result, policy


def figures(of: Load, result: Result, search: Search) -> dict[str, float | int | None]:
    """The line's values; fractions to six places, hours to three."""
    own = result.attainment(search.within_s)
    clairvoyant, static = search.clairvoyant_hours(own), search.static_hours(own)
    return {
        "attainment_2s": round(result.attainment_2s, 6),
        "attainment_10s": round(result.attainment_10s, 6),
        "replica_hours": round(result.replica_hours, 3),
        "clairvoyant_hours": None if clairvoyant is None else round(clairvoyant, 3),
        "static_hours": None if static is None else round(static, 3),
        "events": result.events,
        "starts": result.starts,
    }


def command(name: str, folder: Path, cold_start_s: float, seed: int, number: int) -> int:
    of = load(name, folder, seed)
    result, _ = passes(of, cold_start_s, seed, number)
    print(json.dumps(figures(of, result, Search(of, cold_start_s, seed, within_s=within(name)))))
    return 0
