"""Where the fleet comes from: the cluster, a snapshot file, or the demo; with the objects of `-f` laid over it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from placement.types import Demand, Snapshot, Warm
from polyfleet.cli.failure import Failure
from polyfleet.cli.fleet import prepared, warm_of
from polyfleet.cli.profile_faults import ProfileFault, compared
from polyfleet.inputs import Inputs
from polyfleet.resources import HARDWARE_PROFILES
from polyfleet.state import Observed

DEMO = "demo"


@dataclass(frozen=True, slots=True)
class Where:
    """The global options."""

    snapshot: str = ""  # a file, or `demo`; "" = the cluster
    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""  # "" = not given
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan is made from, and how to speak of it."""

    snapshot: Snapshot
    demand: Demand
    warm: Warm | None
    inputs: Inputs | None  # None: a bare placement snapshot, which has no objects
    observed: Observed | None
    source: str  # for people
    option: str  # to be repeated in commands that are shown: " --snapshot demo", or ""
    taken_at: str
    laid: tuple[tuple[str, str, str], ...] = ()  # (kind, key, new | changed | same)
    notes: tuple[str, ...] = ()
    faults: tuple[ProfileFault, ...] = ()  # of the profiles that -f changed


def situation(where: Where, environ: Mapping[str, str] = os.environ) -> Situation:
    if not where.snapshot:
        observed, source, taken_at, namespace = read_live(where, environ)
        return _build(observed, where, source, "", taken_at, warm_of(observed), namespace, emptied=False)
    option = f" --snapshot {where.snapshot}"
    if where.snapshot == DEMO:
        from polyfleet.cli import demo

        observed, taken_at = demo.observed()
        return _build(observed, where, "demo", option, taken_at, None, where.namespace, emptied=False)
    from polyfleet.cli import archive

    found = archive.read(where.snapshot)
    name = f"{os.path.basename(where.snapshot)}" + (f", taken {found.taken_at}" if found.taken_at else "")
    if found.observed is None:
        return _bare(found, where, name, option)
    built = _build(found.observed, where, name, option, found.taken_at, found.warm, where.namespace, emptied=True)
    if not where.files and found.placement is not None and found.placement != (built.snapshot, built.demand):
        note = f"{where.snapshot}: its part `placement` is not what this polyfleet makes of its part `observed`; `observed` was used"
        return _noted(built, note)
    return built


def read_live(where: Where, environ: Mapping[str, str], namespaces: tuple[str, ...] = ()) -> tuple[Observed, str, str, str]:
    """What the cluster holds, the source in words, when it was read, and the namespace of objects that name none."""
    from polyfleet.cli import connect, live

    async def read() -> tuple[Observed, str, str]:
        connection = await connect.connect(where.kubeconfig, where.context, environ)
        observed = await live.observe(connection, namespaces)
        return observed, f"live, context {connection.context}" if connection.context else "live", connection.namespace

    observed, source, namespace = asyncio.run(read())
    moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return observed, source, moment, where.namespace or namespace


def _build(
    observed: Observed, where: Where, source: str, option: str, taken_at: str, warm: Warm | None, namespace: str, *, emptied: bool
) -> Situation:
    laid: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    before = observed.profiles
    if where.files:
        from polyfleet.cli import overlay

        over = overlay.lay(observed, list(where.files), namespace, emptied=emptied)
        observed, notes = over.observed, over.notes
        laid = tuple((item.kind, item.key, item.change) for item in over.laid)
    inputs = prepared(observed, taken_at)
    if inputs.policy.approval == "Manual":
        notes = (*notes, "FleetPolicy spec.approval is Manual: a plan that changes anything waits for spec.approval of its pplan")
    edited = frozenset(key for kind, key, change in laid if kind == HARDWARE_PROFILES.kind and change != "same")
    faults = compared(edited, before, inputs.profile_faults, taken_at[:10])
    return Situation(inputs.snapshot, inputs.demand, warm, inputs, observed, source, option, taken_at, laid, notes, faults)


def _bare(found: object, where: Where, name: str, option: str) -> Situation:
    from polyfleet.cli.archive import Archive

    assert isinstance(found, Archive)
    assert found.placement is not None  # archive.read gives one of the two
    if where.files:
        raise Failure(
            f"-f cannot be laid over {where.snapshot}",
            "it is a bare placement snapshot: it holds no profiles and no objects",
            "polyfleet snapshot -o FILE  # writes a snapshot that -f can be laid over",
        )
    snapshot, demand = found.placement
    return Situation(snapshot, demand, found.warm, None, None, name, option, "")


def _noted(built: Situation, note: str) -> Situation:
    from dataclasses import replace

    return replace(built, notes=(*built.notes, note))
