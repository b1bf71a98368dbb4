"""etcd, API server, controller manager and scheduler: the real ones, as plain processes.

Two places: on the host's loopback with free ports (process and virtual nodes, and the tests that need only an API server; no
privileges needed), or inside the cluster's network namespace with the usual ports. All admission plugins stay on. The audit
log records every request, which makes it an oracle for tests: who wrote what, with which verb, how often refused.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.api import Api
from sandbox.errors import SandboxError
from sandbox.pki import Pki, make_pki
from sandbox.proc import Processes, tail

ETCD, API_SERVER, CONTROLLERS, SCHEDULER = "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"
ALL = (ETCD, API_SERVER, CONTROLLERS, SCHEDULER)

SERVICE_RANGE = "10.0.0.0/24"
SERVICE_ADDRESS = "10.0.0.1"  # the API server's own Service is the first address of the range

_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""

# Enough for a hundred virtual nodes; the controller manager's default of 20 a second needs 25 s for 600 pods (measured).
_CLIENT_RATE = ("--kube-api-qps=500", "--kube-api-burst=1000")


@dataclass(frozen=True)
class Ports:
    """Where the servers listen."""

    api_server: int = 6443
    etcd: int = 2379
    etcd_peer: int = 2380
    controllers: int = 10257
    scheduler: int = 10259


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody holds at this moment. Somebody may take one before we do: the start then tries others."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            found.append(int(held.getsockname()[1]))
        return found


class ControlPlane:
    """A control plane whose files, logs and records live under one state folder.

    `network` is the pin of the network namespace to run in (None: the host's loopback); `address` is where it is reached there, with the
    usual ports if `fixed_ports` (in a namespace of its own nobody else can hold them), else with free ones.
    `parts` may leave out the controller manager and the scheduler. `api_server_args` and so on are appended, so that a test may
    turn a fault knob of the real server.
    """

    def __init__(
        self,
        state: Path,
        binaries: Path,
        *,
        address: str = "127.0.0.1",
        network: Path | None = None,
        fixed_ports: bool = False,
        parts: Sequence[str] = ALL,
        api_server_args: Sequence[str] = (),
        controllers_args: Sequence[str] = (),
        etcd_args: Sequence[str] = (),
        cgroups: Sequence[Path] = (),
    ) -> None:
        self.state, self.binaries, self.address, self.network = state.resolve(), binaries, address, network
        self.parts = tuple(parts)
        self._fixed_ports = fixed_ports
        self.ports = Ports()
        self._extra = {API_SERVER: tuple(api_server_args), CONTROLLERS: tuple(controllers_args), ETCD: tuple(etcd_args), SCHEDULER: ()}
        self._cgroups = tuple(cgroups)
        self.processes = Processes(self.state)
        self.kubeconfig = self.state / "kubeconfig"
        self.audit_log = self.state / "logs" / "audit.log"
        self.pki: Pki | None = None

    def start(self, *, seconds: float = 60.0) -> None:
        """Start everything and wait until it is healthy. Ports taken in the meantime by somebody else: try others."""
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        for attempt in range(3):
            if not self._fixed_ports:
                self.ports = Ports(*free_ports(5))
            try:
                self._start(seconds)
                return
            except SandboxError:
                self.stop()
                if self._fixed_ports or attempt == 2 or not self._port_was_taken():
                    raise
                shutil.rmtree(self.state / "etcd", ignore_errors=True)
                for part in self.parts:
                    (self.processes.logs / f"{part}.log").unlink(missing_ok=True)

    def make_pki(self) -> Pki:
        """The keys of this control plane, made at the first call."""
        if self.pki is None:
            service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
            self.pki = make_pki(self.state / "pki", sorted({"127.0.0.1", "localhost", SERVICE_ADDRESS, *service, self.address}))
        return self.pki

    def stop(self) -> None:
        """End the processes; the data goes with them (nothing is kept in a state folder between two starts)."""
        self.processes.stop(self.parts)

    @property
    def server(self) -> str:
        """The API server's address as its kubeconfigs name it."""
        return f"https://{self.address}:{self.ports.api_server}"

    def api(self) -> Api:
        """The admin's blocking client."""
        pki = self._pki()
        return Api(self.address, self.ports.api_server, pki.ca, pki.admin, pin=self.network)

    def user_kubeconfig(self, path: Path, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for any user: tests use it to act with exactly the rights of a role."""
        return self._pki().kubeconfig(path, self.server, user, groups=groups)

    def _pki(self) -> Pki:
        if self.pki is None:
            raise SandboxError("the control plane was not started by this process")
        return self.pki

    def _port_was_taken(self) -> bool:
        return any("address already in use" in tail(self.processes.logs / f"{part}.log", 40) for part in self.parts)

    def _start(self, seconds: float) -> None:
        pki = self.make_pki()
        self._launch(ETCD, self._etcd(pki))
        etcd = Api("127.0.0.1", self.ports.etcd, pki.etcd_ca, pki.etcd_client, pin=self.network)
        self._wait(etcd, "/health", ETCD, seconds)
        self._launch(API_SERVER, self._api_server(pki))
        pki.kubeconfig(self.kubeconfig, self.server, "sandbox-admin", pair=pki.admin)
        both = ((CONTROLLERS, self.ports.controllers), (SCHEDULER, self.ports.scheduler))
        self._wait(self.api(), "/readyz", API_SERVER, seconds)  # both end at once when the server or its own roles are not there yet
        clients = [(part, port) for part, port in both if part in self.parts]
        for part, port in clients:
            config = self.state / "pki" / f"{part}.kubeconfig"
            pki.kubeconfig(config, self.server, f"system:{part}")
            self._launch(part, self._client(part, pki, config, port))
        for part, port in clients:
            self._wait(Api("127.0.0.1", port, pki.ca, None, pin=self.network), "/healthz", part, seconds)

    def _launch(self, part: str, argv: Sequence[str]) -> None:
        prefix = ["nsenter", f"--net={self.network}", "--"] if self.network else []
        self.processes.start(part, [str(self.binaries / part), *argv, *self._extra[part]], prefix=prefix, cgroups=self._cgroups)

    def _wait(self, api: Api, path: str, part: str, seconds: float) -> None:
        def alive() -> None:
            for each in self.parts:
                self.processes.check(each)

        api.wait_ok(path, name=part, seconds=seconds, alive=alive)

    def _etcd(self, pki: Pki) -> list[str]:
        clients, peers = f"https://127.0.0.1:{self.ports.etcd}", f"https://127.0.0.1:{self.ports.etcd_peer}"
        return [
            f"--data-dir={self.state / 'etcd'}",
            f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}",
            f"--cert-file={pki.etcd_serving.certificate}", f"--key-file={pki.etcd_serving.key}",
            f"--trusted-ca-file={pki.etcd_ca}", "--client-cert-auth=true",
            f"--peer-cert-file={pki.etcd_serving.certificate}", f"--peer-key-file={pki.etcd_serving.key}",
            f"--peer-trusted-ca-file={pki.etcd_ca}", "--peer-client-cert-auth=true",
            "--unsafe-no-fsync=true", "--log-level=warn",
        ]  # fmt: skip

    def _api_server(self, pki: Pki) -> list[str]:
        policy = self.state / "audit-policy.yaml"
        policy.write_text(_AUDIT_POLICY)
        loopback = self.address == "127.0.0.1"
        # On loopback the server's own Service has no usable endpoint: EndpointSlices refuse 127.0.0.0/8.
        listen = ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"] if loopback else ["--bind-address=0.0.0.0"]
        return [
            *listen, f"--advertise-address={self.address}", f"--secure-port={self.ports.api_server}",
            f"--etcd-servers=https://127.0.0.1:{self.ports.etcd}", f"--etcd-cafile={pki.etcd_ca}",
            f"--etcd-certfile={pki.etcd_client.certificate}", f"--etcd-keyfile={pki.etcd_client.key}",
            "--authorization-mode=Node,RBAC", "--allow-privileged=true", f"--client-ca-file={pki.ca}",
            f"--tls-cert-file={pki.serving.certificate}", f"--tls-private-key-file={pki.serving.key}",
            f"--service-cluster-ip-range={SERVICE_RANGE}", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki.token_public}", f"--service-account-signing-key-file={pki.token_key}",
            "--kubelet-preferred-address-types=InternalIP", f"--kubelet-client-certificate={pki.kubelet_client.certificate}",
            f"--kubelet-client-key={pki.kubelet_client.key}", f"--kubelet-certificate-authority={pki.ca}",
            f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}", "--audit-log-maxsize=200", "--audit-log-maxbackup=2",
        ]  # fmt: skip

    def _client(self, part: str, pki: Pki, config: Path, port: int) -> list[str]:
        common = [
            f"--kubeconfig={config}", f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}",
            "--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={port}",
            f"--tls-cert-file={pki.serving.certificate}", f"--tls-private-key-file={pki.serving.key}", *_CLIENT_RATE,
        ]  # fmt: skip
        if part == SCHEDULER:
            return common
        return [
            *common, f"--root-ca-file={pki.ca}", f"--service-account-private-key-file={pki.token_key}",
            "--use-service-account-credentials=true", "--node-monitor-grace-period=20s",
        ]  # fmt: skip
