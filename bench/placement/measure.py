"""CPU seconds of this process and its ended children, and the peak of memory. Wall time is not used: beside other work it says nothing."""

from __future__ import annotations

import resource


def cpu_seconds() -> float:
    """Since the process began, user and system, threads and ended children included."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


def peak_mb() -> float:
    """The largest resident size so far of this process or of one ended child."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
