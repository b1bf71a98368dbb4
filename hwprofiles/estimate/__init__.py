"""Capacity estimator: what a model needs and does on a device that nobody measured it on. Closed form, numpy only, no I/O.

`estimate` answers one question, `estimate_many` many with the same arithmetic; `memory_need` and `kv_capacity` need no speed figures;
`speed_of_light` bounds what an entry may claim. The formulas, their calibration and their limits: docs/estimator.md.
"""

from hwprofiles.estimate.bound import speed_of_light
from hwprofiles.estimate.doors import estimate, estimate_many
from hwprofiles.estimate.formats import BYTES, bytes_per_parameter
from hwprofiles.estimate.hardware import DERATE, Hardware, hardware_of
from hwprofiles.estimate.memory import kv_capacity, memory_need
from hwprofiles.estimate.terms import Question
from hwprofiles.estimate.values import Estimate, LayoutClass, Load, Refusal, Slo, bench_command

__all__ = [
    "BYTES",
    "DERATE",
    "Estimate",
    "Hardware",
    "LayoutClass",
    "Load",
    "Question",
    "Refusal",
    "Slo",
    "bench_command",
    "bytes_per_parameter",
    "estimate",
    "estimate_many",
    "hardware_of",
    "kv_capacity",
    "memory_need",
    "speed_of_light",
]
