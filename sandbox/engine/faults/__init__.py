"""Deliberate differences of the numpy engine: faults as devices have shown them, and harmless ones that nobody may report.

`NAME[=VALUE[:VALUE]][@TRIGGER...]`, such as `rope-base=5e3`, `zero-v=16@above=28`, `nan@share=0.01`. `switches` lists the names,
`triggers` says when one acts. Light to import: the command line is checked with it before numpy is set up.
"""

from __future__ import annotations

from sandbox.engine.faults.switches import SWITCHES, Fault, FaultError, parse, parse_file

__all__ = ["SWITCHES", "Fault", "FaultError", "parse", "parse_file"]
