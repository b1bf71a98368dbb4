"""What is odd about a pool's devices although they can be counted, in words: for people who wonder about a number in its status."""

from __future__ import annotations

from collections.abc import Iterable

from polyfleet.pools import Fleet, FleetNode, Pool

MAX_NODES = 3


def of_pool(fleet: Fleet, pool: Pool) -> str:
    """One sentence per kind of oddity; "" if there is none."""
    found = [fleet.dra] if fleet.dra and pool.profile is not None and pool.profile.dra is not None else []
    found += _some(f"{node.name}: pods hold {node.held} of {node.allocatable} allocatable" for node in pool.nodes if node.overdrawn)
    found += _some(
        f"{count} device{'s' if count > 1 else ''} on {node.name} {'are' if count > 1 else 'is'} held as {name}"
        for node in pool.nodes
        for name, count in node.elsewhere
    )
    found += _some(f"{node.name}: {node.detail}" for node in pool.nodes if node.detail and not node.shared)
    if staged := [node.name for node in pool.nodes if node.staged]:
        found.append(f"sharing: Shared waits on {_named(staged)} for the exclusive replicas there")
    return "; ".join(found)


def why_left_out(nodes: Iterable[FleetNode]) -> str:
    """The first details of nodes that are not used, as ` (...)`; "" if no word needs one."""
    found = _some(f"{node.name}: {node.detail}" for node in nodes if node.detail)
    return f" ({'; '.join(found)})" if found else ""


def _some(texts: Iterable[str]) -> list[str]:
    found = list(texts)
    return found[:MAX_NODES] + ([f"and {len(found) - MAX_NODES} more"] if len(found) > MAX_NODES else [])


def _named(names: list[str]) -> str:
    return ", ".join(names[:MAX_NODES]) + (f" and {len(names) - MAX_NODES} more" if len(names) > MAX_NODES else "")
