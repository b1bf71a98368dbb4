"""One port of the activator per model, so that nothing of a request has to be read to know whose it is. Pure.

A port is remembered where it is used: in the model's slice. A model without one begins at a place that its name gives and takes the first
that is free from there, so that two operators that know the same choose the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from polyfleet.wake.names import FIRST_PORT, LAST_PORT

COUNT = LAST_PORT - FIRST_PORT + 1


def assign(keys: Iterable[str], recorded: Mapping[str, int], foreign: Collection[int] = ()) -> dict[str, int]:
    """A port for each of `keys` (namespace/name). What is recorded is kept; of two models with one port the first by name keeps it.
    `foreign` are somebody else's, and free for nobody; a model for which no port is left gets none."""
    wanted = sorted(set(keys))
    found: dict[str, int] = {}
    taken = {port for port in foreign if FIRST_PORT <= port <= LAST_PORT}
    for key in wanted:
        port = recorded.get(key)
        if port is not None and FIRST_PORT <= port <= LAST_PORT and port not in taken:
            found[key] = port
            taken.add(port)
    for key in wanted:
        if key in found or len(taken) == COUNT:
            continue
        place = begin(key)
        while FIRST_PORT + place in taken:
            place = (place + 1) % COUNT
        found[key] = FIRST_PORT + place
        taken.add(found[key])
    return found


def begin(key: str) -> int:
    """Where the search for a model's port begins, from 0."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % COUNT
