"""Ways from this machine to a model's Service or a pod: the sandbox's own forwarder, or kubectl port-forward on any other cluster."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

PORT = 8000


class DoorError(AssertionError):
    """No way to the target; carries what the program said."""


def local_port(line: str) -> int:
    """The port in kubectl's "Forwarding from 127.0.0.1:40123 -> 8000"."""
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if found is None:
        raise DoorError(f"kubectl port-forward said {line.strip()!r} instead of a port")
    return int(found[1])


@dataclass
class PortForwards:
    """Open port-forwards of one cluster, each kept until `close`; one that ended (its pod is gone) is opened anew when asked for."""

    kubectl: str
    env: Mapping[str, str]
    _open: dict[str, tuple[subprocess.Popen[str], int]] = field(default_factory=dict)

    def url(self, target: str, namespace: str = "default") -> str:
        """Address of `pod/NAME` or `svc/NAME`."""
        key = f"{namespace}/{target}"
        process, port = self._open.get(key, (None, 0))
        if process is None or process.poll() is not None:
            process, port = self._start(target, namespace)
            self._open[key] = (process, port)
        return f"http://127.0.0.1:{port}"

    def _start(self, target: str, namespace: str) -> tuple[subprocess.Popen[str], int]:
        command = [self.kubectl, "port-forward", "-n", namespace, "--address=127.0.0.1", target, f":{PORT}"]
        process = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()  # comes when the door is open; end of file when kubectl gave up
        if not line:
            raise DoorError(f"{' '.join(command[1:])}: {process.communicate()[1].strip()}")
        return process, local_port(line)

    def close(self) -> None:
        for process, _ in self._open.values():
            process.terminate()
            process.communicate()
        self._open.clear()
