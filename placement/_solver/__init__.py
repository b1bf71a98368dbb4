"""The only part of the placer that knows a solver: HiGHS and CBC, with the traps of both closed.

| module | what |
|---|---|
| `answers` | limits, answers, typed failures, the watchdog |
| `choice` | the solvers in the order of the ladder, `solver(name)` for forms, `mip` for arrays; which passed the self-test |
| `linear` | `Lp`, the warm linear program of the column engine (HiGHS only) |
| `highs`, `native` | HiGHS through PuLP and by its own module; its options, its three statuses |
| `cbc` | CBC through PuLP; its files, its limits |
| `model`, `program` | programs in PuLP and as arrays; the recount |
| `audit`, `selftest` | what every answer goes through; what a solver must know before it is used |
"""

from placement._solver.answers import Answer, InfeasibleError, Limits, LpAnswer, MipAnswer, NoSolutionError, Solve, SolverError, Watchdog
from placement._solver.audit import audited
from placement._solver.choice import ENGINES, NAMES, available, ladder, mip, solver
from placement._solver.linear import Lp
from placement._solver.selftest import Engine, healthy

__all__ = [
    "ENGINES",
    "NAMES",
    "Answer",
    "Engine",
    "InfeasibleError",
    "Limits",
    "Lp",
    "LpAnswer",
    "MipAnswer",
    "NoSolutionError",
    "Solve",
    "SolverError",
    "Watchdog",
    "audited",
    "available",
    "healthy",
    "ladder",
    "mip",
    "solver",
]
