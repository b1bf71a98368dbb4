"""Cluster DNS of real nodes: CoreDNS as a plain process on the node network's address, where every pod can reach it.

It answers for `cluster.local` and for the reverse names of Services and pods. There is nothing outside that a sandbox's pod could reach,
so every other name is "no such name" at once, instead of an error that a resolver would try again. Nothing is cached: the answers come
from memory anyway, and a remembered "no such name" would only hide a Service that was just made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.api import Api
from sandbox.errors import SandboxError
from sandbox.pki import Pki
from sandbox.proc import Processes

NAME = "coredns"
DOMAIN = "cluster.local"
USER = "polyfleet-sandbox:dns"
READY_PORT = 8181
_ROLE = "polyfleet-sandbox-dns"


def corefile(address: str, kubeconfig: Path) -> str:
    """CoreDNS's configuration. Two blocks, because within one `template` would answer before `kubernetes` is asked."""
    return f"""{DOMAIN} in-addr.arpa {{
    bind {address}
    errors
    ready 127.0.0.1:{READY_PORT}
    kubernetes {{
        kubeconfig {json.dumps(str(kubeconfig))}
    }}
}}
. {{
    bind {address}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def rights() -> list[tuple[str, dict[str, Any]]]:
    """(path, object) of the least rights that CoreDNS's kubernetes plugin works with."""
    api, kind = "rbac.authorization.k8s.io", "ClusterRole"
    metadata = {"name": _ROLE}
    verbs = ["list", "watch"]
    role = {
        "apiVersion": f"{api}/v1",
        "kind": kind,
        "metadata": metadata,
        "rules": [
            {"apiGroups": [""], "resources": ["namespaces", "services"], "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
        ],
    }
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": api, "kind": kind, "name": _ROLE},
        "subjects": [{"apiGroup": api, "kind": "User", "name": USER}],
    }
    return [(f"/apis/{api}/v1/clusterroles", role), (f"/apis/{api}/v1/clusterrolebindings", binding)]


def start(
    processes: Processes, client: Api, pki: Pki, binaries: Path, address: str, server: str, prefix: Sequence[str], group: Path
) -> None:
    """Grant the rights and start CoreDNS in the cluster's network."""
    for path, content in rights():
        status, body = client.send("POST", path, content)
        if status != 201:
            raise SandboxError(f"the API server answered {status} to POST {path}: {body[:300].decode(errors='replace')}")
    folder = processes.state / "run"
    config = pki.kubeconfig(folder / "coredns.kubeconfig", server, USER)
    written = folder / "Corefile"
    written.write_text(corefile(address, config))
    processes.start(NAME, [binaries / "coredns", f"-conf={written}"], prefix=prefix, cgroups=[group])


def wait(processes: Processes, network: Path) -> None:
    """Wait until it knows every Service."""
    probe = Api("127.0.0.1", READY_PORT, None, None, pin=network)
    probe.wait_ok("/ready", name=NAME, seconds=60, alive=lambda: processes.check(NAME))
