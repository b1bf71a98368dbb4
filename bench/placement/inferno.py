"""WVA's and inferno's limited-mode greedy, re-implemented from its published behaviour (Apache-2.0 project llm-inferno). Not their code.

Each service takes one accelerator alone, in the number of replicas that covers its demand. A list of services is kept in the order
priority, then regret (the dearer the next best choice than this one, the sooner; no next choice counts as endless), then the dearer
choice first. The head takes its choice if the stock has it; otherwise it moves on to its next choice and goes back into the list. Costs and
counts are those of the instance file, so that every planner faces the same candidates.
"""

from __future__ import annotations

import math

from bench.placement.services import Instance

Choice = tuple[float, str, str, int, int]  # cost, accelerator, device type, devices, replicas


def solve(instance: Instance) -> list[tuple[str, str, int]]:
    """(service, accelerator, replicas) of the services that it places."""
    left = dict(instance.stock)
    choices: dict[str, list[Choice]] = {}
    for s in instance.services:
        usable = [(c, c.replicas(s.demand)) for c in s.candidates if c.rate > 0]
        choices[s.name] = sorted((n * c.cost, c.accelerator, c.device_type, n * c.devices, n) for c, n in usable)
    priority = {s.name: s.priority for s in instance.services}
    at = {name: 0 for name, mine in choices.items() if mine}
    taken: list[tuple[str, str, int]] = []

    def key(name: str) -> tuple[int, float, float, str]:
        mine, i = choices[name], at[name]
        regret = mine[i + 1][0] - mine[i][0] if i + 1 < len(mine) else math.inf
        return priority[name], -regret, -mine[i][0], name

    while at:
        name = min(at, key=key)
        _, accelerator, kind, devices, replicas = choices[name][at[name]]
        if left.get(kind, 0) >= devices:
            left[kind] -= devices
            taken.append((name, accelerator, replicas))
            del at[name]
            continue
        at[name] += 1
        if at[name] == len(choices[name]):
            del at[name]
    return sorted(taken)
