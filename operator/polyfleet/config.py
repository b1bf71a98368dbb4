"""The operator's settings, read once from the environment. A wrong value names the variable, the value and what is allowed."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class ConfigError(ValueError):
    """One environment variable holds a value that is not allowed."""


@dataclass(frozen=True, slots=True)
class Config:
    namespace: str = "polyfleet"  # where the operator itself runs
    watch_namespaces: tuple[str, ...] = ()  # empty: every namespace
    profiles_dir: Path = Path("/etc/polyfleet/profiles")
    overwrite_edited: bool = False  # True: seeded profiles win over edits
    http_host: str = "0.0.0.0"  # the kubelet's probes and the scraper come from outside the pod
    http_port: int = 8080
    lease_namespace: str = "kube-system"  # one fixed place, so that two releases exclude each other
    lease_name: str = "polyfleet"
    lease_duration_s: int = 15
    log_format: str = "json"
    debounce_idle_s: float = 1.0  # a cycle starts when nothing new came for this long ...
    debounce_max_s: float = 10.0  # ... or this long after the first change
    resync_s: float = 300.0  # every resource is listed anew, and a cycle runs, this often
    solver_deadline_s: float = 60.0  # wall clock of one solve before the child is killed
    solver_memory_mib: int = 4096  # address space of the solver's child; 0 = no limit
    image: str = ""  # this operator's own, which the readers of volumes run (`volume_shape`); "": none is created
    prometheus_url: str = ""  # second source of the load, for replicas that do not answer themselves; "": none
    prometheus_ca_file: Path | None = None  # None: the CAs of the image
    prometheus_token_file: Path | None = None
    activator: bool = False  # one runs in `namespace`: models may go to zero
    identity: str = ""


def load(environ: Mapping[str, str]) -> Config:
    """The settings, or a ConfigError that says which variable to correct."""
    base = Config()
    return Config(
        namespace=_label(environ, "POLYFLEET_NAMESPACE", base.namespace),
        watch_namespaces=_labels(environ, "POLYFLEET_WATCH_NAMESPACES"),
        profiles_dir=Path(environ.get("POLYFLEET_PROFILES_DIR") or base.profiles_dir),
        overwrite_edited=_flag(environ, "POLYFLEET_OVERWRITE_EDITED", base.overwrite_edited),
        http_host=environ.get("POLYFLEET_HTTP_HOST") or base.http_host,
        http_port=int(number(environ, "POLYFLEET_HTTP_PORT", base.http_port, 0, 65535, whole=True)),
        lease_namespace=_label(environ, "POLYFLEET_LEASE_NAMESPACE", base.lease_namespace),
        lease_name=_label(environ, "POLYFLEET_LEASE_NAME", base.lease_name),
        lease_duration_s=int(number(environ, "POLYFLEET_LEASE_DURATION", base.lease_duration_s, 3, 600, whole=True)),
        log_format=choice(environ, "POLYFLEET_LOG_FORMAT", base.log_format, ("json", "text")),
        debounce_idle_s=number(environ, "POLYFLEET_DEBOUNCE_IDLE", base.debounce_idle_s, 0, 60),
        debounce_max_s=number(environ, "POLYFLEET_DEBOUNCE_MAX", base.debounce_max_s, 0, 600),
        resync_s=number(environ, "POLYFLEET_RESYNC", base.resync_s, 10, 86400),
        solver_deadline_s=number(environ, "POLYFLEET_SOLVER_DEADLINE", base.solver_deadline_s, 1, 3600),
        solver_memory_mib=int(number(environ, "POLYFLEET_SOLVER_MEMORY_MIB", base.solver_memory_mib, 0, 1 << 20, whole=True)),
        image=environ.get("POLYFLEET_IMAGE", "").strip(),
        **_prometheus(environ),
        activator=_flag(environ, "POLYFLEET_ACTIVATOR", base.activator),
        identity=environ.get("POD_NAME") or socket.gethostname(),
    )


def _prometheus(environ: Mapping[str, str]) -> _Prometheus:
    name, files = "POLYFLEET_PROMETHEUS_URL", ("POLYFLEET_PROMETHEUS_CA_FILE", "POLYFLEET_PROMETHEUS_TOKEN_FILE")
    text = environ.get(name, "").strip()
    ca, token = (Path(path) if (path := environ.get(file, "").strip()) else None for file in files)
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fits = False
    if text and (not fits or parts.query or parts.fragment or "@" in parts.netloc or any(sign <= " " for sign in text)):
        shown = text.rpartition("@")[2] if "@" in text else text  # a password is not shown
        raise ConfigError(
            f"{name}={shown!r}: must be http:// or https:// with host, port and path of a Prometheus server, no user and no query"
        )
    if (ca or token) and not text.startswith("https://"):
        file = files[0] if ca else files[1]
        raise ConfigError(f"{file}={str(ca or token)!r}: needs {name} with https://, as nothing secret goes over an open connection")
    return {"prometheus_url": text.rstrip("/").removesuffix("/api/v1"), "prometheus_ca_file": ca, "prometheus_token_file": token}


class _Prometheus(TypedDict):
    prometheus_url: str
    prometheus_ca_file: Path | None
    prometheus_token_file: Path | None


def number(environ: Mapping[str, str], name: str, default: float, low: float, high: float, *, whole: bool = False) -> float:
    """A variable's number, or its default where it is empty."""
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(int(text)) if whole else float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{name}={text!r}: must be {kind} from {low:g} to {high:g}")
    return value


def _flag(environ: Mapping[str, str], name: str, default: bool) -> bool:
    return choice(environ, name, "true" if default else "false", ("true", "false")) == "true"


def choice(environ: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    """A variable's word, or its default where it is empty."""
    text = environ.get(name, "").strip() or default
    if text not in allowed:
        raise ConfigError(f"{name}={text!r}: must be one of {', '.join(allowed)}")
    return text


def _label(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name, "").strip() or default
    if not _DNS_LABEL.fullmatch(text):
        raise ConfigError(f"{name}={text!r}: must be a DNS label (lower-case letters, digits and '-', at most 63 characters)")
    return text


def _labels(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    parts = [part.strip() for part in environ.get(name, "").split(",") if part.strip()]
    for part in parts:
        if not _DNS_LABEL.fullmatch(part):
            raise ConfigError(f"{name}={environ[name]!r}: {part!r} is no namespace name; give a comma-separated list, or nothing for all")
    return tuple(sorted(set(parts)))
