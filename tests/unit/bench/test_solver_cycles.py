"""The long run of case OC-074 in short: it sees what is left behind, and a few cycles of each kind leave nothing."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from bench import solver_cycles


def test_a_few_cycles_of_each_kind_leave_nothing(tmp_path: Path) -> None:
    asked = argparse.Namespace(cycles=9, killed=2, errors=2, seed=1)
    run = asyncio.run(solver_cycles.cycles(tmp_path, asked, limited=False))
    assert run.faults == []
    ended = dict(run.ended)
    assert (ended["Killed"], ended["Cancelled"], ended["Error"], ended["Greedy"]) == (1, 1, 1, 1)
    assert sum(ended.values()) == 9
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_left_is_a_fault(tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        run = solver_cycles.Run(tmp_path, 0)
        (run.solver._folder / "1-pulp.mps").touch()
        run.look(7)
        await run.solver.close()
        return run.faults

    (fault,) = asyncio.run(scenario())
    assert fault.startswith("cycle 7: left [")
    assert "1-pulp.mps" in fault
