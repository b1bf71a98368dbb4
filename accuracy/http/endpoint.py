"""Where one side answers, and how it may be asked. Plain values; tokens never show in a printed one."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class EndpointError(ValueError):
    """An address or a setting that cannot be used: the field, its value, what is allowed and what to do next."""


@dataclass(slots=True)
class Meter:
    """What was sent to one engine, counted while it happens, so that its owner can tell it from users' load. A request counts when it
    leaves, as the engine has it from then on, and no more once it was turned away; tokens count when the answer tells them."""

    requests: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One OpenAI-compatible endpoint.

    `url` is the address with or without the final /v1. `model` is the name it is asked for ("" = the only one that it lists). `name` labels
    the side in messages and reports ("" = "endpoint"); the address itself never appears there. `token` goes out as a bearer token.
    `ca_file` names a PEM file of authorities ("" = the system's). `max_rps` bounds the requests per second (None = no bound). `timeout_s`
    bounds the silence and the whole of one request, in seconds. `meter` is added to with each completion that is asked for.
    """

    url: str
    model: str = ""
    name: str = ""
    token: str = field(default="", repr=False)
    ca_file: str = ""
    max_rps: float | None = None
    timeout_s: float = 120.0
    chat_path: str = "/v1/chat/completions"
    completions_path: str = "/v1/completions"
    models_path: str = "/v1/models"
    tokenize_path: str = "/tokenize"
    meter: Meter | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            shown = self.url if "@" not in self.url else "(not shown: it holds credentials)"
            raise EndpointError(
                f"url {shown!r}: must be http://HOST:PORT or https://HOST:PORT, with or without /v1; give the engine's address"
            )
        if parts.username or parts.password:
            raise EndpointError("url: must not hold credentials; give the token in an environment variable")
        if parts.query or parts.fragment:
            raise EndpointError(f"url {self.base!r}: must not have a query or a fragment; leave out what follows the path")
        if self.max_rps is not None and not 0 < self.max_rps <= 1e6:
            raise EndpointError(f"max_rps {self.max_rps}: must be more than 0 and at most 1000000; leave it out for no bound")
        if not 0 < self.timeout_s <= 3600:
            raise EndpointError(f"timeout_s {self.timeout_s}: must be more than 0 and at most 3600 seconds")

    @property
    def base(self) -> str:
        """The address without /v1: engines answer /tokenize beside it."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/").removesuffix("/v1")
        return f"{parts.scheme}://{parts.netloc}{path}"

    @property
    def label(self) -> str:
        return self.name or "endpoint"

    def tls(self) -> ssl.SSLContext | bool:
        """The context for this endpoint; reads `ca_file`, so call it off the event loop. Raises EndpointError."""
        if not self.ca_file:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise EndpointError(f"ca_file {self.ca_file!r}: {error}; give a PEM file of certificate authorities") from error
