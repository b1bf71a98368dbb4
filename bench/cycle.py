"""What one cycle of the operator costs when one model of many grows: CPU seconds of each stage, the solver's among them.

Everything but network and watches: the real stages and the real placer in this process, on a cluster that the tests' play of kubelets and
ReplicaSets moves on. Models are scaled automatically, one replica carries 1 work/s, and three devices of different price fit each. The
first row is a cycle in which nothing changed. Usage: python -m bench.cycle [--models 50] [--nodes 99] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from polyfleet.state import NodeState, Observed

from tests.unit.operator import builders as b
from tests.unit.operator import rolling
from tests.unit.operator.forces import force

PROFILES = ("sandbox-nvidia", "sandbox-ascend", "sandbox-ppu")
STAGES = {"prepare": "prepare", "at_once": "plan", "act": "act", "report": "report"}  # name in `rolling` -> as it is told
GROWN = 5


@dataclass
class Scaled(rolling.Cluster):
    """A cluster whose models follow `load`, in work/s."""

    load: dict[str, float] = field(default_factory=dict)

    def seen(self) -> Observed:
        said = {f"{self.models[name].namespace}/{name}": force(work, model=f"llm/{name}") for name, work in self.load.items()}
        return replace(super().seen(), scaling=said)


@contextmanager
def timed(spent: Counter[str]) -> Iterator[None]:
    """CPU seconds of the stages of every turn meanwhile."""
    before: dict[str, Callable[..., Any]] = {name: getattr(rolling, name) for name in STAGES}

    def watched(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            began = time.process_time()
            try:
                return before[name](*args, **more)
            finally:
                spent[STAGES[name]] += time.process_time() - began  # type: ignore[assignment]

        return call

    for name in STAGES:
        setattr(rolling, name, watched(name))
    try:
        yield
    finally:
        for name, original in before.items():
            setattr(rolling, name, original)


def grown(models: int, nodes: int, seed: int) -> Scaled:
    dice = random.Random(seed)
    kinds = (b.h100, b.a3, b.ppu)
    machines: tuple[NodeState, ...] = tuple(b.sandbox(kinds[i % 3](f"n{i:04}")) for i in range(nodes))
    names = [f"m{i:04}" for i in range(models)]
    asked = {name: b.model(name, {"scaling": {"minReplicas": 1, "maxReplicas": 8}}) for name in names}
    load = {name: float(dice.choice((1, 2, 3, 4))) for name in names}
    cluster = Scaled(asked, machines, b.ungated(), b.profiles(*PROFILES), load=load)
    cluster.turns(4)
    return cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--nodes", type=int, default=99)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cluster = grown(given.models, given.nodes, given.seed)
    print(f"{given.models} models, {given.nodes} nodes, {sum(cluster.serving(name) for name in cluster.models)} replicas; CPU seconds")
    print(f"{'':12}{''.join(f'{stage:>9}' for stage in STAGES.values())}{'sum':>9}")
    for name in [None, *sorted(cluster.models)[:GROWN]]:
        if name is not None:
            cluster.load[name] += 1.0
        spent: Counter[str] = Counter()
        with timed(spent):
            starts = len(cluster.turn().plan.starts)
        row = "".join(f"{spent[stage]:9.3f}" for stage in STAGES.values())
        print(f"{'unchanged' if name is None else f'+1, starts {starts}':12}{row}{sum(spent.values()):9.3f}")


if __name__ == "__main__":
    main()
