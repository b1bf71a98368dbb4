"""The part of the kubelet's HTTPS API that is worth having here: logs, the list of pods, health. The rest refuses with a reason.

The caller has to show a certificate of the cluster's CA, which the API server does. The serving certificate is, in this order: the
files given on the command line; the kubeconfig's client certificate, when it also names the node's address; one made on the spot.
"""

import asyncio
import datetime
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.processnode.kube import KubeConfig
from sandbox.processnode.logs import LogOptions, read_log
from sandbox.processnode.pod import PodWorker

_REFUSED = "is not possible on a process node: its pods are plain processes on this machine; look at the process itself, or use a real node"


class KubeletApi:
    """Serves one node."""

    def __init__(self, workers: Callable[[], list[PodWorker]]) -> None:
        self._workers = workers
        self._runner: web.AppRunner | None = None

    async def start(self, address: str, port: int, context: ssl.SSLContext) -> int:
        """Listen; returns the port."""
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/pods", self._pods)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        for path in ("exec", "attach", "run", "portForward"):
            app.router.add_route("*", f"/{path}/{{rest:.*}}", self._refuse)
        # An open `kubectl logs -f` must not hold up the end of the agent.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port, ssl_context=context)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _pods(self, request: web.Request) -> web.Response:
        objects = [worker.pod.object for worker in self._workers()]
        return web.json_response({"apiVersion": "v1", "kind": "PodList", "items": objects})

    async def _refuse(self, request: web.Request) -> web.Response:
        return web.Response(status=501, text=f"{request.path.split('/')[1]} {_REFUSED}\n")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        info = request.match_info
        found = self._find(info["namespace"], info["pod"], info["container"])
        if found is None:
            name = f'container "{info["container"]}" of pod "{info["namespace"]}/{info["pod"]}"'
            return web.Response(status=404, text=f"{name} is not on this node\n")
        worker, attempt = found
        try:
            options = LogOptions.parse(request.query)
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        wanted = attempt - 1 if options.previous else attempt
        folder = worker.pod.folder / "containers" / info["container"] / str(wanted)
        if wanted < 1 or not await asyncio.to_thread((folder / "log").exists):
            what = "previous terminated container" if options.previous else "container"
            return web.Response(status=400, text=f'{what} "{info["container"]}" in pod "{info["pod"]}" has no log: it was not started\n')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async for data in read_log(folder, options):
            await response.write(data)
        await response.write_eof()
        return response

    def _find(self, namespace: str, pod: str, container: str) -> tuple[PodWorker, int] | None:
        for worker in self._workers():
            metadata = worker.pod.object["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, pod):
                for supervisor in (*worker.init, *worker.main):
                    if supervisor.record.name == container:
                        return worker, supervisor.record.attempt
        return None


def server_context(config: KubeConfig, address: str, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS for the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if config.ca:
        context.load_verify_locations(cadata=config.ca.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    if certificate is not None and key is not None:
        context.load_cert_chain(certificate, key)
        return context
    pair = _own_pair(config, address) or _self_signed(address)
    descriptor, name = tempfile.mkstemp(prefix="polyfleet-kubelet-")  # OpenSSL only loads key pairs from files
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pair)
        context.load_cert_chain(name)
    finally:
        os.unlink(name)
    return context


def _own_pair(config: KubeConfig, address: str) -> bytes | None:
    if not config.certificate or not config.key:
        return None
    try:
        names = x509.load_pem_x509_certificate(config.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    if ipaddress.ip_address(address) not in names.get_values_for_type(x509.IPAddress):
        return None
    return config.certificate + b"\n" + config.key


def _self_signed(address: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"process-node-{address}")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM) + private
