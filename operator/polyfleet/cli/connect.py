"""Which API server: kubeconfig files, context and namespace as kubectl finds them, else the pod's own ServiceAccount.

Order for the file: `--kubeconfig`, the KUBECONFIG list, `~/.kube/config`, the pod's ServiceAccount.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import client as kube
from kubernetes.aio import config as kube_config
from kubernetes.aio.config import ConfigException

from polyfleet.cli.failure import Failure, listed, nearest

_IN_POD = "KUBERNETES_SERVICE_HOST"
OFFLINE = "work without a cluster: add --snapshot demo, or --snapshot FILE"


@dataclass(frozen=True, slots=True)
class Connection:
    configuration: kube.Configuration
    context: str  # "" in a pod
    namespace: str


async def connect(kubeconfig: str = "", context: str = "", environ: Mapping[str, str] = os.environ) -> Connection:
    files = _files(kubeconfig, environ)
    if not files:
        if environ.get(_IN_POD):
            return _in_pod(context)
        raise Failure(
            "no cluster is configured",
            "KUBECONFIG is not set and ~/.kube/config does not exist",
            f"export KUBECONFIG=FILE, or give --kubeconfig FILE; or {OFFLINE}",
        )
    contexts, current = _contexts(files)
    chosen = context or current
    if context and context not in contexts:
        near = nearest(context, sorted(contexts))
        raise Failure(
            f"no context named {context}",
            f"{_names(files)} has: {listed(sorted(contexts))}",
            f"polyfleet … --context {near[0]}" if near else "kubectl config get-contexts",
        )
    configuration = kube.Configuration()
    try:
        await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=os.pathsep.join(map(str, files)),
            context=chosen or None,
            client_configuration=configuration,
            persist_config=False,
        )
    except (ConfigException, OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise Failure(
            f"the kubeconfig {_names(files)} cannot be used",
            _short(error),
            f"kubectl --kubeconfig {files[0]} get nodes  # the same credentials through kubectl",
        ) from error
    namespace = str((contexts.get(chosen) or {}).get("namespace") or "default")
    return Connection(configuration, chosen, namespace)


def _files(kubeconfig: str, environ: Mapping[str, str]) -> list[Path]:
    if kubeconfig:
        path = Path(kubeconfig).expanduser()
        if not path.is_file():
            raise Failure(f"cannot read {kubeconfig}", "there is no such file", "give --kubeconfig an existing file")
        return [path]
    given = [Path(part).expanduser() for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if given:
        found = [path for path in given if path.is_file()]
        if not found:
            raise Failure(
                f"cannot read KUBECONFIG={environ['KUBECONFIG']}",
                "none of its files exists",
                f"export KUBECONFIG=FILE with an existing file; or {OFFLINE}",
            )
        return found
    home = Path(environ.get("HOME") or "~").expanduser() / ".kube" / "config"
    return [home] if home.is_file() else []


def _contexts(files: list[Path]) -> tuple[dict[str, dict[str, Any]], str]:
    """All contexts of the files and the current one; the first file that names a thing wins, as with kubectl."""
    contexts: dict[str, dict[str, Any]] = {}
    current = ""
    for path in files:
        try:
            body = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(body, dict) or not body.get("clusters"):
                raise ValueError("it names no cluster")
            for item in body.get("contexts") or ():
                contexts.setdefault(str(item["name"]), item.get("context") or {})
            current = current or str(body.get("current-context") or "")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"cannot read {path}", _short(error), "check the file's rights, or give another --kubeconfig") from error
        except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failure(f"{path} is no kubeconfig", _short(error), "give the file that `kubectl config view` shows") from error
    return contexts, current


def _in_pod(context: str) -> Connection:
    if context:
        raise Failure(
            "--context needs a kubeconfig", "in a pod without one there is a single context, the ServiceAccount", "leave --context out"
        )
    configuration = kube.Configuration()
    try:
        kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise Failure("the pod's ServiceAccount cannot be used", _short(error), "mount its token, or set KUBECONFIG") from error
    return Connection(configuration, "", "default")


def _names(files: list[Path]) -> str:
    return ", ".join(map(str, files))


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
