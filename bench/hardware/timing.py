"""How long a piece of work takes: CPU seconds of this process, the best of several runs, because other work only ever adds to them."""

from __future__ import annotations

import time
from collections.abc import Callable


def least(runs: int, work: Callable[[], object]) -> float:
    """Lowest CPU seconds of `runs` runs."""
    taken = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)
