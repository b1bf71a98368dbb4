"""What can go wrong when talking to the API server, as types that a caller can tell apart."""

# ruff: noqa: N818  the names are the API's own words for these answers

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer that is no success. `reason` is the API's own word (AlreadyExists, Expired, ...), `message` its sentence."""

    def __init__(self, status: int, reason: str, message: str, *, where: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{where}: {status} {reason}: {message}" if where else f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details: Mapping[str, Any] = details or {}


class Conflict(ApiError):
    """409: a precondition (uid, resourceVersion), another field manager, or an object that exists already."""


class NotFound(ApiError):
    """404: the object, or the whole resource (a CRD that is not installed), is not there."""


class Forbidden(ApiError):
    """401 or 403: no right, or refused by quota, Pod Security or another admission step."""


class Gone(ApiError):
    """410: the resourceVersion or the continue token is too old; only a new LIST helps."""


class TooMany(ApiError):
    """429: asked to come back later; `retry_after` in seconds."""

    retry_after: float = 1.0


class Invalid(ApiError):
    """400 or 422: the object breaks the schema or a rule; retrying the same bytes cannot help."""


class Unavailable(ApiError):
    """5xx, a time-out or no connection: whether a write was done is unknown, so every write must be repeatable."""


class Fenced(Exception):
    """A write was refused on our side because the Lease is no longer ours."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooMany,
}


def from_status(status: int, body: Mapping[str, Any], where: str, retry_after: str | None = None) -> ApiError:
    """The typed error of one answer; `body` is the API's Status object, or empty when there was none."""
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 or status == 0 else ApiError)
    error = kind(status, str(body.get("reason") or ""), str(body.get("message") or ""), where=where, details=body.get("details") or {})
    if isinstance(error, TooMany) and retry_after and retry_after.isdigit():
        error.retry_after = float(retry_after)
    return error
