"""The labels of the plugin's own node, read once from the API server with the pod's ServiceAccount. The plugin's only API call."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def read(node: str) -> dict[str, str]:
    """GET /api/v1/nodes/NODE → metadata.labels. Raises OSError (URLError, HTTPError) when the API server does not answer or refuses."""
    try:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    except KeyError as error:
        raise OSError(f"environment variable {error.args[0]} is not set: outside a pod, give --kind and --count") from None
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    token = (ACCOUNT / "token").read_text(encoding="ascii").strip()
    request = urllib.request.Request(
        f"https://{address}/api/v1/nodes/{node}",
        headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        labels: dict[str, str] = json.load(answer)["metadata"].get("labels", {})
    return labels
