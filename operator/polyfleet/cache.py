"""The cluster as the cycle sees it: one reflector per resource and namespace, read together as one `Observed`.

Reading is consistent because everything here runs on one event loop and `observe` does not wait. Pods are two sources: every
unfinished pod (they hold devices, whoever owns them) and the finished pods of ours; a finished pod of others holds nothing.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from polyfleet import parse, parse_dra
from polyfleet.client import Client
from polyfleet.queue import Clock
from polyfleet.reflector import Reflector, Source, Timing
from polyfleet.resources import (
    ACCELERATOR_POOLS,
    ACCURACY_REPORTS,
    BUDGETS,
    DEPLOYMENTS,
    DEVICE_CLASSES,
    ENDPOINT_SLICES,
    FLEET_POLICIES,
    HARDWARE_PROFILES,
    HPAS,
    MODEL_DEPLOYMENTS,
    NODES,
    OWN_KINDS,
    PLACEMENT_PLANS,
    PODS,
    REPLICA_SETS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SERVICES,
    Resource,
)
from polyfleet.state import CustomState, EndpointsState, Observed
from polyfleet.wake import names, slices

OURS = parse.DEPLOYMENT_LABEL
POLICY_NAME = "default"
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"
FINISHED = "status.phase!=Pending,status.phase!=Running,status.phase!=Unknown"

# Without these a missing object cannot be told from an unreadable one, so nothing may be decided. Nodes and pods are not among them:
# a decision knows that their stock is unknown, freezes and says so.
REQUIRED = frozenset(
    resource.plural
    for resource in (
        MODEL_DEPLOYMENTS, HARDWARE_PROFILES, ACCELERATOR_POOLS, FLEET_POLICIES, PLACEMENT_PLANS, ACCURACY_REPORTS, REPLICA_SETS,
        DEPLOYMENTS, SERVICES, BUDGETS,
    )
)  # fmt: skip


def sources(home: str = "") -> tuple[Source[Any], ...]:
    """`home`: the namespace of the activator, whose Service's slices count there only; "" = there is none."""
    wake = Source(
        "endpointslices", ENDPOINT_SLICES, partial(slices.parse, home=home), label_selector=names.ROLE, everywhere=True, optional=True
    )
    children = (
        Source("replicasets", REPLICA_SETS, parse.replica_set, label_selector=OURS),
        Source("deployments", DEPLOYMENTS, parse.deployment, label_selector=OURS),
        # These two carry the model's own name, which somebody else's object may have already: so all of them are listed.
        Source("services", SERVICES, parse.named),
        Source("poddisruptionbudgets", BUDGETS, parse.named),
    )
    own = tuple(Source(resource.plural, resource, partial(parse.custom, resource.kind)) for resource in OWN_KINDS)
    dra = (
        Source("resourceslices", RESOURCE_SLICES, parse_dra.resource_slice, optional=True),
        Source("resourceclaims", RESOURCE_CLAIMS, parse_dra.resource_claim, optional=True, everywhere=True),
        Source("deviceclasses", DEVICE_CLASSES, parse_dra.device_class, optional=True),
    )
    return (
        Source("nodes", NODES, parse.node),
        Source("pods", PODS, parse.pod, field_selector=UNFINISHED, everywhere=True),
        Source("pods-finished", PODS, parse.pod, field_selector=FINISHED, label_selector=OURS),
        *children,
        *own,
        *dra,
        # Who else writes the sizes of our children. Without the right to see them only their edits are noticed.
        Source("horizontalpodautoscalers", HPAS, parse.scaler, optional=True),
        *([wake] if home else []),
    )


class Cache:
    """`changed` is called with a source's name whenever its content changed."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        changed: Callable[[str], None] = lambda _: None,
        namespaces: tuple[str, ...] = (),
        timing: Timing | None = None,
        seed: int = 0,
        home: str | None = None,
    ) -> None:
        """`home`: where the activator is; "" = there is none, None = nobody asks."""
        self._clock, self._home = clock, home
        self._pulse = asyncio.Event()
        self._reflectors: dict[str, list[Reflector[Any]]] = {}
        self._merged: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {}  # what was read -> the same as one
        for source in sources(home or ""):
            # Pods and claims count for their devices wherever they are, so they are always read from the whole cluster.
            everywhere = not source.resource.namespaced or source.everywhere or not namespaces
            self._reflectors[source.name] = [
                Reflector(client, source, namespace, changed, self._moved, clock, timing or Timing(), seed)
                for namespace in (("",) if everywhere else namespaces)
            ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for reflector in self._all():
                group.create_task(reflector.run(), name=f"reflector {reflector.source.name} {reflector.namespace}")

    def _all(self) -> Iterable[Reflector[Any]]:
        return (reflector for group in self._reflectors.values() for reflector in group)

    def _moved(self) -> None:
        self._pulse.set()

    async def wait_for(self, wanted: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until `wanted` is true, looking again whenever anything was read; False after the time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                while not wanted():
                    self._pulse.clear()
                    await self._pulse.wait()
        except TimeoutError:
            return False
        return True

    # ---- state of the cache itself

    @property
    def synced(self) -> bool:
        """Every resource was listed, or is known to be unreadable."""
        return all(reflector.tried.is_set() for reflector in self._all())

    @property
    def usable(self) -> bool:
        """A cycle is possible: every resource was tried, and those without which nothing may be decided are readable."""
        return self.synced and not REQUIRED & self.unknown().keys()

    async def read_once(self) -> dict[str, Exception]:
        """Lists everything once without watching, for a command that looks and ends. Returns what could not be read: resource -> error."""
        reflectors = list(self._all())
        answers = await asyncio.gather(*(reflector.list_once() for reflector in reflectors), return_exceptions=True)
        failed: dict[str, Exception] = {}
        for reflector, answer in zip(reflectors, answers, strict=True):
            if isinstance(answer, Exception):
                failed.setdefault(reflector.source.resource.plural, answer)
            elif isinstance(answer, BaseException):
                raise answer
        return dict(sorted(failed.items()))

    async def wait_synced(self) -> None:
        for reflector in self._all():
            await reflector.tried.wait()

    def unknown(self) -> dict[str, str]:
        """Resource -> reason, for everything that could not be listed."""
        return {
            reflector.source.resource.plural: reflector.unknown
            for reflector in sorted(self._all(), key=lambda r: r.source.name)
            if reflector.unknown
        }

    async def wait_for_unknown(self, plural: str, timeout_s: float) -> bool:
        """Waits until a resource is known to be unreadable."""
        return await self.wait_for(lambda: plural in self.unknown(), timeout_s)

    def watch_ages(self) -> dict[str, float]:
        """Seconds since the API server last said anything, per source."""
        now = self._clock()
        living = {name: [r for r in group if not r.resting] for name, group in self._reflectors.items()}
        return {name: max(now - r.last_contact for r in group) for name, group in living.items() if group}

    # ---- reading

    def reader(self, source: str) -> Reflector[Any]:
        """The first reader of a source, by the source's name."""
        return self._reflectors[source][0]

    def find(self, kind: str, namespace: str, name: str) -> Any:
        """The cached value of one object, or None."""
        for reflector in self._of_kind(kind):
            found = reflector.items.get((namespace, name))
            if found is not None:
                return found
        return None

    def read_up_to(self, kind: str, namespace: str) -> int:
        """The resourceVersion up to which everything of the kind in a namespace was read. Finished pods are not looked at: their stream
        stands still for minutes, and nobody writes to them."""
        readers = (r for r in self._of_kind(kind) if r.namespace in ("", namespace) and r.source.field_selector != FINISHED)
        return min((reader.version for reader in readers), default=0)

    def holds(self, kind: str) -> bool:
        return any(True for _ in self._of_kind(kind))

    def relist(self, kind: str) -> None:
        for reflector in self._of_kind(kind):
            reflector.relist()

    def lists(self, kind: str) -> int:
        """How often the kind was listed successfully, at least by every reflector."""
        return min((reflector.lists for reflector in self._of_kind(kind)), default=0)

    def _of_kind(self, kind: str) -> Iterable[Reflector[Any]]:
        return (reflector for reflector in self._all() if reflector.source.resource.kind == kind)

    def _sorted(self, *resources: Resource) -> tuple[Any, ...]:
        """The content of all readers of these resources, sorted: the same tuple, and the same objects in it, until something changes."""
        readers = [r for resource in resources for r in self._of_kind(resource.kind)]
        parts = tuple(r.values() for r in readers)
        name = "/".join(resource.kind for resource in resources)
        known = self._merged.get(name)
        if known is None or len(known[0]) != len(parts) or any(a is not b for a, b in zip(known[0], parts, strict=True)):
            known = self._merged[name] = (parts, merged(readers))
        return known[1]

    def _endpoints(self) -> tuple[EndpointsState, ...] | None:
        if self._home is None or ENDPOINT_SLICES.plural in self.unknown():
            return None
        found: tuple[EndpointsState, ...] = self._sorted(ENDPOINT_SLICES)
        return found

    def observe(self) -> Observed:
        """Everything, as one frozen value; no waiting inside, so no half-seen change."""
        policies: tuple[CustomState, ...] = self._sorted(FLEET_POLICIES)
        return Observed(
            model_deployments=self._sorted(MODEL_DEPLOYMENTS),
            profiles=self._sorted(HARDWARE_PROFILES),
            pools=self._sorted(ACCELERATOR_POOLS),
            policy=next((policy for policy in policies if policy.name == POLICY_NAME), None),
            plans=self._sorted(PLACEMENT_PLANS),
            nodes=self._sorted(NODES),
            pods=self._sorted(PODS),
            replica_sets=self._sorted(REPLICA_SETS),
            deployments=self._sorted(DEPLOYMENTS),
            services=self._sorted(SERVICES),
            budgets=self._sorted(BUDGETS),
            unknown=self.unknown(),
            slices=self._sorted(RESOURCE_SLICES),
            claims=self._sorted(RESOURCE_CLAIMS),
            device_classes=self._sorted(DEVICE_CLASSES),
            reports=self._sorted(ACCURACY_REPORTS),
            scalers=self._sorted(HPAS),
            endpoints=self._endpoints(),
        )


def merged(readers: Sequence[Reflector[Any]]) -> tuple[Any, ...]:
    """One sorted tuple of all; of an object in several the last reader's counts. Made for one large reader and some small ones."""
    filled = [reader for reader in readers if reader.items]
    if not filled:
        return ()
    if len(filled) == 1:
        return filled[0].values()
    first, rest = filled[0], filled[1:]
    if sum(len(reader.items) for reader in rest) > 64:
        together = {key: state for reader in filled for key, state in reader.items.items()}
        return tuple(together[key] for key in sorted(together))
    keys, values = list(first.keys()), list(first.values())
    for reader in rest:
        for key, state in reader.items.items():
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                values[at] = state
            else:
                keys.insert(at, key)
                values.insert(at, state)
    return tuple(values)
