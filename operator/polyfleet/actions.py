"""What a cycle wants done: the border between the pure decision and the edge that talks to the API server.

A decision never performs a write; it returns these values and `apply` carries them out. Destructive acts carry the identity
that was observed (uid, resourceVersion), so that a stale view cannot delete a newer object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of one object, whole; `manifest` has apiVersion, kind and metadata."""

    manifest: Mapping[str, Any]
    reason: str
    force: bool = True  # False: seeded profiles, whose edited fields belong to somebody else


@dataclass(frozen=True, slots=True)
class Delete:
    kind: str  # Deployment, Service, PodDisruptionBudget, Pod
    namespace: str
    name: str
    uid: str
    resource_version: str | None  # None: the uid alone is the precondition
    reason: str


@dataclass(frozen=True, slots=True)
class PodPatch:
    """A merge patch of one pod (or its status) that is idempotent and guarded by the uid."""

    kind: Literal["Pin", "Reserve", "Serving", "DeletionCost", "Candidate"]
    namespace: str
    name: str
    uid: str
    body: Mapping[str, Any]
    reason: str
    subresource: Literal["", "status"] = ""
    apply_patch: bool = False  # server-side apply (pod conditions) instead of a merge patch
    # Deployments (namespace, name) of the replicas that are to come instead: if the API server refuses one, nothing leaves for it.
    instead: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Actions:
    """In this order: deletes, applies, pod patches. Within each: sorted by (namespace, name)."""

    deletes: tuple[Delete, ...] = ()
    applies: tuple[Apply, ...] = ()
    pod_patches: tuple[PodPatch, ...] = ()
    failed: tuple[Refusal, ...] = ()  # models on which the decision itself failed: nothing of theirs is touched, and `report` says so


@dataclass(frozen=True, slots=True)
class StatusApply:
    """The whole status of one object by server-side apply on /status; written only if it differs from the stored one."""

    kind: str
    namespace: str
    name: str
    uid: str
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventNote:
    kind: str
    namespace: str
    name: str
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    statuses: tuple[StatusApply, ...] = ()
    events: tuple[EventNote, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)  # for the one log line and the metrics


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write that the API server refused for good (4xx but no conflict): what was to be written, and the server's own words."""

    kind: str
    namespace: str
    name: str
    # HTTP: 422 Invalid, 403 Forbidden (quota, Pod Security, a policy, RBAC), 400 bad request. 0: no write, the decision itself failed
    status: int
    message: str
