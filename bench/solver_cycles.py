"""Case OC-074 at full size: 1,000 planning cycles, 50 of them ended in mid-solve, 50 with solver errors, in 64 MiB of temporary space.

Usage: python -m bench.solver_cycles [--cycles 1000] [--killed 50] [--errors 50] [--space-mib 64] [--seed 0]   (minutes; for a nightly run)

Every cycle is the operator's own: a request to its solver's child process. Fleet and solver change from cycle to cycle (CBC, which writes
files, in two of three). Of the ended ones half lose their child by SIGKILL and half are cancelled, each while CBC is running. Of the errors
half are a defect in the placer and half solvers that all fail, which must end in the greedy plan. In ten further cycles the space is full.

After each cycle: no file in the solver's folder, no process of its group but the child that waits for the next request, and none at all of
an ended cycle. Needs the right to mount for the space (a tmpfs); without it the space is not limited, the full cycles are left out, and
the line says so. Prints one JSON line; exit code 1 if anything was left behind or any cycle ended otherwise than it must.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from polyfleet.solver_process import Solved, SolverFailed, SolverProcess

import placement
from placement import _solver
from placement.types import Cell, Demand, Model, ModelDemand, Node, Option, Plan, Replica, Snapshot
from tests.unit.operator.groups import members

HERE = "bench.solver_cycles"
FULL = 10  # cycles without any space left
PATIENCE_S = 60.0  # until a process must have started or ended

_real = placement.plan
_solvers = _solver.solver


# ---- in the child


def use(solvers: list[str]) -> None:
    """From now on these solvers only."""
    _solver.solver = _solvers
    placement.plan = partial(_real, solvers=solvers)


def defect() -> None:
    def plan(*_: Any, **__: Any) -> Any:
        raise ValueError("a defect")

    placement.plan = plan


def failing() -> None:
    """Both solvers are called healthy and fail."""

    def solver(name: str) -> Callable[..., Any]:
        def fails(*_: Any, **__: Any) -> Any:
            raise _solver.SolverError(f"{name} fails")

        return fails

    _solver.solver = solver
    placement.plan = partial(_real, solvers=["HiGHS", "CBC"])


def long_cbc() -> None:
    """Minutes of CBC."""
    from placement._solver.selftest import market_split

    _solvers("CBC")(*market_split(60, 7), _solver.Limits(nodes=10**9, relative_gap=0.0, seconds=600.0))


# ---- in the operator


def fleet(draw: random.Random) -> tuple[Snapshot, Demand]:
    """Six nodes of 8, four models with 4 to 12 replicas of 1, 2 or 4 devices, some of which run."""
    cell = Cell("c", "c", "h100", "nvidia", (1, 2, 4, 8), per_node=8, cost_per_device_hour=2.5)
    nodes = tuple(Node(f"n{i}", "c", 8, 8, 0) for i in range(6))
    free = {n.name: 8 for n in nodes}
    models: list[Model] = []
    options: list[Option] = []
    running: list[Replica] = []
    for i in range(4):
        name, size, count = f"ns/m{i}", draw.choice((1, 2, 4)), draw.randint(4, 12)
        options.append(Option(f"{name}|h100", name, "h100", "nvidia", "default", "vllm", size))
        models.append(Model(name, priority=draw.choice((0, 0, 5)), min_replicas=count, max_replicas=count))
        for k in range(draw.randint(0, count)):
            at = draw.choice(sorted(free))
            if free[at] >= size:
                free[at] -= size
                running.append(Replica(f"m{i}-{k}", name, options[-1].id, at, size))
    return Snapshot((cell,), nodes, tuple(models), tuple(options), tuple(running)), Demand(tuple(ModelDemand(m.name) for m in models))


@contextlib.contextmanager
def space(mib: int) -> Iterator[tuple[Path, bool]]:
    """A folder of that size, and whether the size really is a limit."""
    folder = Path(tempfile.mkdtemp(prefix="polyfleet-cycles-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", str(folder)], capture_output=True).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


async def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(what)
        await asyncio.sleep(0.01)


class Run:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.solver = SolverProcess(asyncio.get_running_loop().time, deadline_s=120.0, folder=folder)
        self.ended: Counter[str] = Counter()
        self.faults: list[str] = []
        self.groups: set[int] = set()
        self.mode: tuple[int | None, str] = (None, "")  # of the child with this pid
        self.peak = 0

    async def watch(self) -> None:
        """The most bytes that the solver's files held at once, as far as a look every 10 ms sees them."""
        while True:
            with contextlib.suppress(OSError):  # what ends while it is looked at
                found = [path.stat() for path in self.solver._folder.rglob("*") if path.is_file()]
                self.peak = max(self.peak, sum(stat.st_blocks * 512 for stat in found))
            await asyncio.sleep(0.01)

    async def set(self, call: str, *arguments: Any) -> None:
        """The child in this mode; a new child is told anew."""
        mode = f"{call}{arguments}"
        if self.solver.pid is None or self.mode != (self.solver.pid, mode):
            failed = await self.solver.request("call", (f"{HERE}.{call}", arguments))
            if failed is not None:
                self.faults.append(f"{mode}: {failed}")
            self.mode = (self.solver.pid, mode)
        self.groups.add(self.solver.pid or 0)

    async def planned(self, number: int) -> None:
        await self.set("use", ["HiGHS"] if number % 3 == 0 else ["CBC"])
        self.expect(number, await self.solve(), ("Optimal", "Feasible"))

    async def solve(self) -> tuple[Any, Snapshot, Demand]:
        snapshot, demand = fleet(self.draw)
        return await self.solver.solve(snapshot, demand, None), snapshot, demand

    def expect(self, number: int, got: tuple[Any, Snapshot, Demand], outcomes: tuple[str, ...]) -> None:
        found, snapshot, demand = got
        plan: Plan | None = found.plan if isinstance(found, Solved) else None
        if plan is None or str(plan.outcome) not in outcomes:
            self.faults.append(f"cycle {number}: {found if plan is None else plan.outcome}, must be {' or '.join(outcomes)}")
        elif violations := placement.check(snapshot, demand, plan):
            self.faults.append(f"cycle {number}: {violations[0]}")
        else:
            self.ended[str(plan.outcome)] += 1

    async def killed(self, number: int, *, cancelled: bool) -> None:
        task = asyncio.create_task(self.solver.request("call", (f"{HERE}.long_cbc", ())))
        await until(lambda: self.solver.pid is not None, "the child starts")
        group = self.solver.pid or 0
        self.groups.add(group)
        await until(lambda: "cbc" in members(group).values(), "CBC starts")
        if cancelled:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        else:
            os.kill(group, signal.SIGKILL)
            outcome = await task
            if not isinstance(outcome, SolverFailed) or outcome.kind != "Crashed":
                self.faults.append(f"cycle {number}: killed, and answered {outcome}")
        await self.nobody(number, group)
        self.ended["Cancelled" if cancelled else "Killed"] += 1

    async def nobody(self, number: int, group: int) -> None:
        """A killed process is one for a moment more."""
        try:
            await until(lambda: not members(group), "all of the group end")
        except TimeoutError:
            self.faults.append(f"cycle {number}: {sorted(members(group).values())} live on")

    async def error(self, number: int, *, inside: bool) -> None:
        if inside:
            await self.set("defect")
            found, _, _ = await self.solve()
            if isinstance(found, SolverFailed) and found.kind == "Error" and "a defect" in found.message:
                self.ended["Error"] += 1
            else:
                self.faults.append(f"cycle {number}: a defect, and answered {found}")
        else:
            await self.set("failing")
            self.expect(number, await self.solve(), ("Greedy",))

    async def full(self, number: int) -> None:
        """Not one byte is left: CBC cannot write its model."""
        await self.set("use", ["CBC"])
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError as fault:
                if fault.errno != errno.ENOSPC:
                    raise
        self.expect(number, await self.solve(), ("Greedy",))
        self.look(number, besides=1)
        filler.unlink()

    def look(self, number: int, besides: int = 0) -> None:
        own = list(self.solver._folder.iterdir())
        others = [path for path in self.folder.iterdir() if path != self.solver._folder]
        if own or len(others) != besides:
            self.faults.append(f"cycle {number}: left {[str(p) for p in (*own, *others)][:3]}")
        extra = [name for group in self.groups for pid, name in members(group).items() if name == "cbc" or group != self.solver.pid]
        if extra:
            self.faults.append(f"cycle {number}: processes {extra} survive it")
        self.groups &= {self.solver.pid or 0}


async def cycles(folder: Path, asked: argparse.Namespace, limited: bool) -> Run:
    run = Run(folder, asked.seed)
    kinds = [*["killed"] * asked.killed, *["error"] * asked.errors]
    kinds += ["planned"] * max(0, asked.cycles - len(kinds))
    run.draw.shuffle(kinds)
    counts: Counter[str] = Counter()
    watching = asyncio.create_task(run.watch())
    try:
        for number, kind in enumerate(kinds):
            counts[kind] += 1
            if kind == "killed":
                await run.killed(number, cancelled=counts[kind] % 2 == 0)
            elif kind == "error":
                await run.error(number, inside=counts[kind] % 2 == 0)
            else:
                await run.planned(number)
            run.look(number)
        for number in range(len(kinds), len(kinds) + FULL * limited):
            await run.full(number)
            run.ended["Full"] += 1
    finally:
        watching.cancel()
        await run.solver.close()
    for group in sorted(run.groups):
        await run.nobody(len(kinds), group)
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("cycles", 1000), ("killed", 50), ("errors", 50), ("space-mib", 64), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    if asked.killed + asked.errors > asked.cycles or min(asked.killed, asked.errors) < 0 or asked.space_mib < 1:
        parser.error("--killed and --errors are parts of --cycles, none below 0; --space-mib is at least 1")
    started = time.monotonic()
    with space(asked.space_mib) as (folder, limited):
        run = asyncio.run(cycles(folder, asked, limited))
        if left := list(folder.iterdir()):
            run.faults.append(f"at the end: {left[:3]}")
    line = {
        "cycles": asked.cycles,
        "ended": dict(sorted(run.ended.items())),
        "space_mib": asked.space_mib if limited else None,
        "peak_mib": round(run.peak / 2**20, 2),
        "faults": len(run.faults),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(line))
    for fault in run.faults[:20]:
        print(fault, file=sys.stderr)
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
