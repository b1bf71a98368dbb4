"""An answer that is an error, in the form of the OpenAI API: message, type, the field that is wrong, status."""

from __future__ import annotations

from typing import Any


class RequestError(Exception):
    """The client's fault unless `status` says otherwise; `param` names the field."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.retry_after_seconds = message, param, status, retry_after_seconds

    def body(self) -> dict[str, Any]:
        return error_body(self.status, self.message, self.param)

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    kinds = {
        400: "BadRequestError",
        403: "PermissionDeniedError",
        404: "NotFoundError",
        413: "BadRequestError",
        429: "RateLimitError",
        503: "ServiceUnavailableError",
    }
    return {"error": {"message": message, "type": kinds.get(status, "InternalServerError"), "param": param, "code": status}}
