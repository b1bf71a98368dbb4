"""What the solvers cost the column engine: the warm linear program, the integer master by HiGHS and by CBC, the self-test.

Usage: python -m bench.solver [--models 500] [--links 100] [--columns 24] [--nodes 200] [--seed 1]. A synthetic column master: a model takes
one of its columns, each column uses two links of a limited stock, missing stock is dear. The integer master is the same with fewer links
(one in eight) and models (one in four). Times are CPU seconds of this process and its children, so that a busy machine changes them
little; steps, sizes, objectives and bounds do not depend on the machine.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from placement import _solver
from placement._solver import Limits, Lp

Made = TypeVar("Made")
MISSING = 300.0  # price of one device more than there is


def cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def timed(run: Callable[[], Made]) -> tuple[float, Made]:
    begin = cpu()
    made = run()
    return cpu() - begin, made


@dataclass(frozen=True, slots=True)
class Master:
    models: int
    links: int
    cost: npt.NDArray[np.float64]
    model: npt.NDArray[np.int64]  # of each column
    link: npt.NDArray[np.int64]  # two per column, different
    used: npt.NDArray[np.float64]  # devices on each of the two
    stock: npt.NDArray[np.float64]

    @classmethod
    def made(cls, models: int, links: int, columns: int, seed: int) -> Master:
        rng = np.random.default_rng(seed)
        price = rng.uniform(1.0, 10.0, links)
        model = np.repeat(np.arange(models), columns)
        work = rng.lognormal(3.0, 1.0, models)[model]
        first = rng.integers(links, size=len(model))
        link = np.stack([first, (first + rng.integers(1, links, len(model))) % links], axis=1)
        speed = rng.uniform(0.5, 2.0, link.shape) * price[link]
        share, served = rng.uniform(size=len(model)), rng.choice([1.0, 0.75, 0.5], len(model))
        used = np.ceil(np.stack([share, 1.0 - share], axis=1) * (served * work)[:, None] / speed)
        cost = (used * price[link]).sum(axis=1) + (1.0 - served) * 100.0 * work
        best = np.array([np.flatnonzero(model == m)[np.argmin(cost[model == m])] for m in range(models)])
        stock = np.bincount(link[best].ravel(), weights=used[best].ravel(), minlength=links)
        return cls(models, links, cost, model, link, used, np.floor(0.6 * stock + 1.0))

    def row_bounds(self) -> tuple[Any, Any]:
        return np.append(np.full(self.links, -np.inf), np.ones(self.models)), np.append(self.stock, np.ones(self.models))

    def lp(self) -> Lp:
        lp, n, k = Lp(*self.row_bounds()), len(self.cost), self.links
        lp.add_columns(np.full(k, MISSING), np.zeros(k), np.full(k, np.inf), np.arange(k + 1), np.arange(k), -np.ones(k))
        rows = np.column_stack([self.link, self.links + self.model])
        values = np.column_stack([self.used, np.ones(n)])
        lp.add_columns(self.cost, np.zeros(n), np.ones(n), np.arange(0, 3 * n + 1, 3), rows.ravel(), values.ravel())
        return lp

    def integer(self) -> dict[str, Any]:
        """The same program compressed by row, columns of the models whole."""
        n, k = len(self.cost), self.links
        columns = np.concatenate([np.arange(k), k + np.repeat(np.arange(n), 3)])
        rows = np.concatenate([np.arange(k), np.column_stack([self.link, self.links + self.model]).ravel()])
        values = np.concatenate([-np.ones(k), np.column_stack([self.used, np.ones(n)]).ravel()])
        order = np.lexsort((columns, rows))
        low, high = self.row_bounds()
        return {
            "cost": np.append(np.full(k, MISSING), self.cost),
            "lower": np.zeros(n + k),
            "upper": np.append(np.full(k, np.inf), np.ones(n)),
            "integer": np.append(np.zeros(k, bool), np.ones(n, bool)),
            "row_lower": low,
            "row_upper": high,
            "ptr": np.searchsorted(rows[order], np.arange(k + self.models + 1)),
            "cols": columns[order],
            "values": values[order],
        }


def linear(master: Master) -> None:
    lp = master.lp()
    seconds, answer = timed(lambda: lp.solve(seconds=600.0))
    print(f"LP cold              {seconds:8.3f} s  {answer.iterations:6d} steps  value {answer.objective:.1f}")
    seconds, answer = timed(lambda: lp.solve(seconds=600.0))
    print(f"LP again             {seconds:8.3f} s  {answer.iterations:6d} steps")
    spent, steps, rounds = 0.0, 0, 0
    for _ in range(20):  # a dive: an eighth of the fractional columns is fixed
        x = answer.x[master.links :]
        fractional = np.flatnonzero((x > 0.01) & (x < 0.99))
        if not len(fractional):
            break
        fixed = fractional[np.argsort(-x[fractional], kind="stable")[: max(1, len(fractional) // 8)]]
        fixed = fixed[np.unique(master.model[fixed], return_index=True)[1]]  # one column of a model
        lp.set_bounds(np.sort(fixed) + master.links, np.ones(len(fixed)), np.ones(len(fixed)))
        seconds, answer = timed(lambda: lp.solve(seconds=600.0))
        spent, steps, rounds = spent + seconds, steps + answer.iterations, rounds + 1
    if rounds:
        print(f"LP in a dive, mean   {spent / rounds:8.3f} s  {steps / rounds:6.0f} steps  of {rounds} rounds")


def integer(master: Master, nodes: int) -> None:
    arrays, found = master.integer(), {}
    for name in _solver.NAMES:
        limits = Limits(nodes=nodes, relative_gap=1e-4, seconds=300.0)
        seconds, answer = timed(lambda name=name, limits=limits: _solver.mip(**arrays, limits=limits, solver=name))  # type: ignore[misc]
        found[name] = (seconds, answer)
        bound = "none" if answer.bound is None else f"{answer.bound:.1f}"
        print(f"master by {name:10} {seconds:8.3f} s  value {answer.objective:.1f}  bound {bound}  proven {answer.proven}")
    (first, one), (second, two) = found["HiGHS"], found["CBC"]
    print(f"CBC / HiGHS: CPU {second / first:.2f}, value {two.objective / one.objective:.6f}")
    seconds, answer = timed(lambda: _solver.mip(**arrays, start=one.x, limits=Limits(nodes=nodes, seconds=300.0)))
    print(f"master, warm start   {seconds:8.3f} s  value {answer.objective:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("models", 500), ("links", 100), ("columns", 24), ("seed", 1), ("nodes", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    master = Master.made(asked.models, asked.links, asked.columns, asked.seed)
    print(f"{asked.links + asked.models} rows, {len(master.cost) + asked.links} columns, seed {asked.seed}; CPU seconds")
    for name in _solver.NAMES:
        seconds, fault = timed(lambda name=name: _solver.healthy(_solver.ENGINES[name]))  # type: ignore[misc]
        print(f"self-test {name:10} {seconds:8.3f} s  {fault or 'passes'}")
    linear(master)
    small = Master.made(max(1, asked.models // 4), max(2, asked.links // 8), asked.columns, asked.seed)
    print(f"integer: {small.links + small.models} rows, {len(small.cost) + small.links} columns, {asked.nodes} nodes at most")
    integer(small, asked.nodes)


if __name__ == "__main__":
    main()
