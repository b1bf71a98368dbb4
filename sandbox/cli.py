"""The command `polyfleet-sandbox`: one cluster per checkout, on this machine, without a container engine."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox import binaries, cluster, devices, faulty, fleet, forwarder, processkind, realnode, state
from sandbox.errors import SandboxError
from sandbox.proc import Processes, tail

ENGINE_PORT = 8000

_EPILOG = """\
First steps:
  polyfleet-sandbox up                     a cluster of three vendors
  export KUBECONFIG=$(polyfleet-sandbox kubeconfig)
  kubectl get nodes
  polyfleet-sandbox down                   end it; nothing stays but the cache
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="polyfleet-sandbox", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring the cluster up (does nothing when it is)")
    up.add_argument("--fleet", help="three-vendors (default), tiny, mixed:N, or a file")
    up.add_argument("--nodes", choices=cluster.KINDS, help="kind of nodes; by default the best that this machine allows")
    commands.add_parser("down", help="end the cluster and remove every trace of it")
    commands.add_parser("status", help="what runs; exit status 0 when the cluster is whole")
    commands.add_parser("kubeconfig", help="print the path of the kubeconfig")
    url = commands.add_parser("url", help="print an address on 127.0.0.1 that leads to a model or a pod")
    url.add_argument("target", help="mdep/NAME or pod/NAME")
    url.add_argument("-n", "--namespace", default="default")
    url.add_argument("--port", type=int, default=ENGINE_PORT, help="the port inside (default 8000)")
    device = commands.add_parser("device", help="make a device of a node fail, or bring it back, while the cluster runs")
    device.add_argument("action", choices=("withdraw", "restore"))
    device.add_argument("node")
    device.add_argument("id", help="the device's id as the kubelet knows it: GPU-<node>-<i>, Ascend910-<i> or ppu-<i>")
    fault = commands.add_parser(
        "fault",
        help="make the engines of a node, or one replica, compute wrongly; without a fault: as they should again",
        epilog="what there is: python -m sandbox.engine.faults list",
    )
    fault.add_argument("target", help="node/NAME (replicas that start later too) or pod/NAME (until its container ends)")
    fault.add_argument("fault", nargs="*", help="NAME[=VALUE][@TRIGGER], such as rope-base=500 or nan@share=0.1")
    fault.add_argument("-n", "--namespace", default="default")
    logs = commands.add_parser("logs", help="list the logs, or print the end of one")
    logs.add_argument("name", nargs="?", help="a process, such as kube-apiserver or kubelet-h100-0")
    logs.add_argument("--lines", type=int, default=200)
    execute = commands.add_parser("exec", help="run kubectl, helm or any command in the cluster's network: exec -- CMD ...")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = _parser().parse_args(arguments)
    # An end from outside takes the same way as Ctrl-C: what was started is removed before the command ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    _interrupted.clear()
    try:
        return _run(options)
    except SandboxError as error:
        print(f"polyfleet-sandbox: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output went away (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # An interrupt inside subprocess.Popen closes its pipe twice and comes out as "Bad file descriptor": an interrupt all the same.
        if _interrupted and error.errno == errno.EBADF:
            return _told_interrupted()
        print(f"polyfleet-sandbox: {_plain(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _told_interrupted()


def _told_interrupted() -> int:
    print("polyfleet-sandbox: interrupted", file=sys.stderr)
    return 130


def _plain(error: OSError) -> str:
    """An error of the operating system as a sentence with the next command."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full{where}. Free some space, then run the command again; `polyfleet-sandbox down` removes what is here"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission{where}. The cluster may have been started by another user: run the command as that user"
    return f"{error.strerror or error}{where}. See: polyfleet-sandbox status"


_interrupted: list[int] = []  # signals that asked this command to end


def _interrupt(number: int, frame: object) -> None:
    _interrupted.append(number)
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, flush=True)


def _run(options: argparse.Namespace) -> int:
    folder = state.state_dir()
    match options.command:
        case "up":
            cluster.up(cluster.Wanted(options.fleet, options.nodes), _say)
        case "down":
            cluster.down(_say)
        case "status":
            return _status(folder)
        case "kubeconfig":
            state.require(folder)
            print(folder / "kubeconfig")
        case "url":
            print(_url(folder, options.target, options.namespace, options.port))
        case "device":
            print(devices.change(folder, state.require(folder), options.action, options.node, options.id))
        case "fault":
            print(_fault(folder, options.target, options.namespace, options.fault))
        case "logs":
            _logs(folder, options.name, options.lines)
        case "exec":
            _exec(folder, options.argv)
    return 0


def _status(folder: Path) -> int:
    found = state.load(folder)
    if found is None or not found.ready:
        running = "a cluster that is not complete" if cluster.remains(folder) else "no cluster"
        print(f"{running} in {folder.parent}. Start one: polyfleet-sandbox up")
        return 1
    print(f"{found.kind} nodes ({found.why}), fleet {found.fleet}")
    for name, alive in Processes(folder).alive().items():
        if not alive or name in found.processes:
            print(f"  {'running' if alive else 'ENDED  '}  {name}")
    problem = cluster.healthy(folder, found)
    if problem:
        print(f"not whole: {problem}. Bring it up anew: polyfleet-sandbox up")
        return 1
    listed = cluster.api(folder, found).get_json("/api/v1/nodes")["items"]
    wanted = {node.name: node for node in fleet.parse(found.fleet_text, found.fleet).nodes}
    for item in listed:
        name = item["metadata"]["name"]
        lack = cluster.missing_on_node(wanted[name], item["status"]) if name in wanted else "not of this fleet"
        print(f"  node {name}: {lack or 'Ready'}")
    print(f"export KUBECONFIG={folder / 'kubeconfig'}")
    return 0


def _object(folder: Path, found: state.Cluster, path: str, what: str) -> dict[str, Any]:
    status, body = cluster.api(folder, found).get(path)
    if status == 404:
        raise SandboxError(f"there is no {what}. See what there is: kubectl get mdep,pods -A")
    if status != 200:
        raise SandboxError(f"the API server answered {status} for {what}: {body[:200].decode(errors='replace')}")
    read: dict[str, Any] = json.loads(body)
    return read


def _fault(folder: Path, target: str, namespace: str, faults: Sequence[str]) -> str:
    match = re.fullmatch(r"(node|pod)/([a-z0-9]([-a-z0-9.]*[a-z0-9])?)", target)
    if match is None:
        raise SandboxError(f"target is {target!r}; allowed: node/NAME or pod/NAME")
    found, kind, name = state.require(folder), match[1], match[2]
    if kind == "node":
        return faulty.on_node(folder, found, name, faults)
    pod = _object(folder, found, f"/api/v1/namespaces/{namespace}/pods/{name}", f"pod/{name} in namespace {namespace}")
    return faulty.in_pod(found, pod, faults)


def service_of(model: dict[str, Any], what: str) -> str:
    """The Service behind a model, as the model's own status tells it (http://SERVICE.NAMESPACE.svc:8000/v1)."""
    match = re.match(r"https?://([^./:]+)\.", str(model.get("status", {}).get("url", "")))
    if match is None:
        raise SandboxError(f"{what} has no address yet; is the operator running? Wait: kubectl get mdep -w")
    return match[1]


def _url(folder: Path, target: str, namespace: str, port: int) -> str:
    match = re.fullmatch(r"(mdep|pod)/([a-z0-9]([-a-z0-9.]*[a-z0-9])?)", target)
    if match is None:
        raise SandboxError(f"target is {target!r}; allowed: mdep/NAME or pod/NAME")
    found, kind, name = state.require(folder), match[1], match[2]
    if not 1 <= port <= 65535:
        raise SandboxError(f"--port is {port}; allowed: 1 to 65535")
    if found.kind == "virtual":
        raise SandboxError("virtual pods do not run, so nothing answers at an address. Use --nodes real or process")
    what = f"{kind}/{name} in namespace {namespace}"
    if kind == "mdep":
        path = f"/apis/polyfleet.io/v1alpha1/namespaces/{namespace}/modeldeployments/{name}"
        name = service_of(_object(folder, found, path, what), what)
    if found.kind == "process":
        return processkind.url(folder, kind, namespace, name, port)
    if kind == "pod":
        pod = _object(folder, found, f"/api/v1/namespaces/{namespace}/pods/{name}", what)
        host = pod.get("status", {}).get("podIP")
        if not host:
            raise SandboxError(f"{what} has no address yet (phase {pod.get('status', {}).get('phase')}). Wait: kubectl get pod {name} -w")
    else:
        service = _object(folder, found, f"/api/v1/namespaces/{namespace}/services/{name}", f"Service for {what}")
        host = service["spec"]["clusterIP"]
    answer = forwarder.ask(forwarder.control_path(folder), {"name": f"{kind}/{namespace}/{name}/{port}", "host": host, "port": port})
    return f"http://127.0.0.1:{answer['port']}"


def _logs(folder: Path, name: str | None, lines: int) -> None:
    logs = folder / "logs"
    names = sorted(path.stem for path in logs.glob("*.log")) if logs.is_dir() else []
    if name is None:
        for each in names:
            print(logs / f"{each}.log")
        return
    if name not in names:
        raise SandboxError(f"there is no log {name!r}; there are: {', '.join(names) or 'none'}")
    print(tail(logs / f"{name}.log", lines))


def _exec(folder: Path, argv: list[str]) -> None:
    found = state.require(folder)
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command:
        raise SandboxError("exec needs a command: polyfleet-sandbox exec -- CMD ...")
    inside = folder / "run" / "inside.kubeconfig"
    config = inside if found.kind == "real" else folder / "kubeconfig"
    prefix = realnode.enter(folder) if found.kind == "real" else []
    # This environment's kubectl, what the caller has, and what was built for the cluster: its helm, where the machine has none.
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), str(binaries.cached() or "")]
    environment = {**os.environ, "KUBECONFIG": str(config), "PATH": ":".join(filter(None, path))}
    with contextlib.suppress(FileNotFoundError):
        os.execvpe((prefix + command)[0], prefix + command, environment)
    raise SandboxError(f"cannot run {command[0]}: there is no such program")


if __name__ == "__main__":
    sys.exit(main())
