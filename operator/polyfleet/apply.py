"""Carries out what a cycle decided: deletes, then applies, then pod patches (who leaves before who comes); sixteen at a time; nothing
that is already so.

An apply is left out when this process has applied the same manifest before *and* the live object still says it (`compare.covers`),
or has not changed since our apply was answered. After a restart each object is therefore applied once, which the API server
answers without a write if nothing differs, and which takes back fields that an older version had set. A failed object rests with a growing
delay while the others go on; a precondition that failed means that the view was old, so the next cycle looks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from polyfleet import compare
from polyfleet.actions import Actions, Apply, Delete, PodPatch, Refusal, StatusApply
from polyfleet.cache import Cache
from polyfleet.client import Client, Object
from polyfleet.errors import ApiError, Conflict, Invalid, NotFound, TooMany
from polyfleet.expectations import Expectations
from polyfleet.queue import Backoff, Clock
from polyfleet.resources import BY_KIND, PODS

log = logging.getLogger(__name__)

CONCURRENCY = 16
SERVING_MANAGER = "polyfleet-serving"

FILL = ("Pin", "Reserve")  # pod patches that give devices out
REFUSED = (400, 403, 422)  # answers that the same write will get again

Step = Coroutine[Any, Any, None]


class Retry(Protocol):
    def __call__(self, key: str, delay: float) -> None: ...


@dataclass(slots=True)
class Written:
    """What one pass did: counted for the log line, failures by reason."""

    done: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # object -> message
    skipped: int = 0  # resting after a failure
    refusals: tuple[Refusal, ...] = ()  # what is refused as things stand, objects that rest included

    def count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1


@dataclass(frozen=True, slots=True)
class _Applied:
    want: str  # digest of the manifest
    live: str  # digest of the object that the API server answered


class Applier:
    def __init__(self, client: Client, cache: Cache, expectations: Expectations, retry: Retry, clock: Clock, *, seed: int = 0) -> None:
        self._client, self._cache, self._expectations, self._retry, self._clock = client, cache, expectations, retry, clock
        self._backoff = Backoff(seed=seed)
        self._applied: dict[str, _Applied] = {}
        self._refused: dict[str, Refusal] = {}
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def carry_out(self, actions: Actions) -> Written:
        written = Written()
        await self._all(written, ((_key(d.kind, d.namespace, d.name), self._delete(d, written)) for d in actions.deletes))
        await self._all(written, ((_manifest_key(a.manifest), self._apply(a, written)) for a in actions.applies if self._differs(a)))
        # Free first, then fill. Nobody leaves for a replica that cannot be made: then the old one stays.
        going = [p for p in actions.pod_patches if p.kind not in FILL and not self._refuses(p)]
        coming = [p for p in actions.pod_patches if p.kind in FILL]
        for patches in (going, coming):
            await self._all(written, ((_key("Pod", p.namespace, p.name) + f"/{p.kind}", self._patch(p, written)) for p in patches))
        self._forget(actions)
        written.refusals = tuple(self._refused[key] for key in sorted(self._refused))
        return written

    def _refuses(self, patch: PodPatch) -> bool:
        return any(_key("Deployment", *child) in self._refused for child in patch.instead)

    async def write_statuses(self, statuses: Iterable[StatusApply], written: Written) -> None:
        statuses = tuple(statuses)
        known = {_key(s.kind, s.namespace, s.name) + "/status" for s in statuses}
        for key in [key for key in self._applied if key.endswith("/status") and key not in known]:
            del self._applied[key]
        await self._all(
            written,
            ((_key(s.kind, s.namespace, s.name) + "/status", self._status(s, written)) for s in statuses if self._status_differs(s)),
        )

    # ---- one step: bounded, resting objects left out, failures recorded

    async def _all(self, written: Written, steps: Iterable[tuple[str, Step]]) -> None:
        async def run(key: str, step: Step) -> None:
            async with self._slots:
                await self._guarded(key, step, written)

        ready: list[tuple[str, Step]] = []
        for key, step in steps:
            if self._backoff.resting(key, self._clock()):
                written.skipped += 1
                step.close()  # never started: closed, so that nobody warns
            else:
                ready.append((key, step))
        async with asyncio.TaskGroup() as group:
            for key, step in ready:
                group.create_task(run(key, step))

    async def _guarded(self, key: str, step: Step, written: Written) -> None:
        try:
            await step
        except ApiError as error:
            delay = self._backoff.failed(key, self._clock(), error.retry_after if isinstance(error, TooMany) else 0.0)
            self._retry(key, delay)
            if error.status in REFUSED:
                kind, namespace, name = key.split("/")[:3]
                self._refused[key] = Refusal(kind, namespace, name, error.status, error.message)
            written.failed[key] = f"{error.status} {error.reason}: {error.message}"[:500]
            log.warning("a write failed", extra={"object": key, "detail": str(error)[:500], "retry_in_s": round(delay, 1)})
        else:
            self._backoff.succeeded(key)
            self._refused.pop(key, None)

    def _stale(self, kind: str, namespace: str, name: str) -> None:
        """The object changed since it was seen: decide again, a little later each time, and after the second time on a new list."""
        key = f"stale {_key(kind, namespace, name)}"
        if self._backoff.failures(key):
            self._cache.relist(kind)
        self._retry(key, self._backoff.failed(key, self._clock()))

    # ---- deletes

    async def _delete(self, act: Delete, written: Written) -> None:
        try:
            await self._client.delete(BY_KIND[act.kind], act.name, act.namespace, uid=act.uid, resource_version=act.resource_version)
        except NotFound:
            pass
        except Conflict:
            self._stale(act.kind, act.namespace, act.name)
            return
        self._expectations.deleted(act.kind, act.namespace, act.name, act.uid)
        written.count(f"delete {act.kind}")

    # ---- applies

    def _differs(self, act: Apply) -> bool:
        metadata = act.manifest["metadata"]
        live = self._cache.find(act.manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        known = self._applied.get(_manifest_key(act.manifest))
        if live is None or known is None or known.want != compare.digest(act.manifest):
            return True
        view = compare.live_view(live)
        return not (compare.covers(view, compare.wanted_view(act.manifest)) or compare.digest(view) == known.live)

    async def _apply(self, act: Apply, written: Written) -> None:
        kind = act.manifest["kind"]
        try:
            answer = await self._client.apply(act.manifest, force=act.force)
        except Invalid:
            # An item that somebody put into a list of ours stays there by the rules of apply, and may contradict ours (two ports of one
            # name). A merge patch replaces the lists; it cannot create, so a manifest that is wrong by itself stays an error.
            metadata = act.manifest["metadata"]
            namespace, name = metadata.get("namespace", ""), metadata["name"]
            if not act.force or self._cache.find(kind, namespace, name) is None:
                raise
            change = {"spec": act.manifest["spec"]} if "spec" in act.manifest else dict(compare.body(act.manifest))
            answer = await self._client.merge_patch(BY_KIND[kind], name, change, namespace)
        self._expectations.wrote(kind, answer)
        self._applied[_manifest_key(act.manifest)] = _Applied(compare.digest(act.manifest), compare.digest(_answer_view(answer)))
        written.count(f"apply {kind}")

    def _forget(self, actions: Actions) -> None:
        """Objects that are wanted no more: else the tables would grow with every revision."""
        wanted = {_manifest_key(act.manifest) for act in actions.applies}
        for key in [key for key in self._applied if key not in wanted and not key.endswith("/status")]:
            del self._applied[key]
        # A refused delete, patch or status is tried anew in each cycle that still wants it; only a wanted object's refusal stays.
        for key in [key for key in self._refused if key not in wanted]:
            del self._refused[key]
        self._backoff.prune(self._clock())

    # ---- pods

    async def _patch(self, act: PodPatch, written: Written) -> None:
        guard = {"uid": act.uid}
        metadata = {**act.body.get("metadata", {}), **guard}
        try:
            if act.apply_patch:
                manifest = {
                    "apiVersion": "v1", "kind": "Pod", **act.body,
                    "metadata": {**metadata, "name": act.name, "namespace": act.namespace},
                }  # fmt: skip
                manager = SERVING_MANAGER if act.kind == "Serving" else "polyfleet"
                answer: Object = await self._client.apply(manifest, subresource=act.subresource, manager=manager)
            else:
                body = {**act.body, "metadata": metadata}
                answer = await self._client.merge_patch(PODS, act.name, body, act.namespace, subresource=act.subresource)
        except (NotFound, Conflict, Invalid) as error:
            if isinstance(error, Invalid) and not _another_uid(error):
                raise
            self._stale("Pod", act.namespace, act.name)  # gone, or another pod of that name
            return
        self._expectations.wrote("Pod", answer)
        written.count(f"patch Pod {act.kind}")

    # ---- status

    def _status_differs(self, act: StatusApply) -> bool:
        live = self._cache.find(act.kind, act.namespace, act.name)
        if live is None or live.uid != act.uid or live.deleting:
            return False  # gone, or another object under the same name: its own report comes with the next cycle
        if _plain(live.status) == _plain(act.status):
            return False
        known = self._applied.get(_key(act.kind, act.namespace, act.name) + "/status")
        return known != _Applied(compare.digest(act.status), compare.digest(live.status))

    async def _status(self, act: StatusApply, written: Written) -> None:
        resource = BY_KIND[act.kind]
        metadata: dict[str, Any] = {"name": act.name, "uid": act.uid}
        if act.namespace:
            metadata["namespace"] = act.namespace
        manifest = {"apiVersion": resource.api_version, "kind": act.kind, "metadata": metadata, "status": act.status}
        try:
            answer = await self._client.apply(manifest, subresource="status")
        except (NotFound, Conflict):
            return  # deleted or replaced meanwhile
        self._expectations.wrote(act.kind, answer)
        key = _key(act.kind, act.namespace, act.name) + "/status"
        self._applied[key] = _Applied(compare.digest(act.status), compare.digest(answer.get("status") or {}))
        written.count(f"status {act.kind}")


def _another_uid(error: Invalid) -> bool:
    """A merge patch that names a uid is refused in these words if the object of that name is another one."""
    return any(cause.get("field") == "metadata.uid" for cause in error.details.get("causes") or ())


def _plain(value: Any) -> Any:
    """A JSON value without empty parts, which the API server may drop or keep; tuples become lists."""
    if isinstance(value, Mapping):
        parts = {key: _plain(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part not in (None, {}, [])}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _answer_view(answer: Object) -> dict[str, Any]:
    metadata = answer.get("metadata") or {}
    view = {"labels": metadata.get("labels") or {}, "annotations": metadata.get("annotations") or {}}
    return {"metadata": view, "spec": compare.body(answer)}


def _key(kind: str, namespace: str, name: str) -> str:
    return f"{kind}/{namespace}/{name}"


def _manifest_key(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    return _key(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
