"""``python -m sandbox.processnode``: run the agent of one process node until SIGTERM or SIGINT. Its pods' processes go on."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from sandbox.deviceplugin.kinds import LabelError
from sandbox.processnode.agent import Agent, Options
from sandbox.processnode.fleetnode import FleetNode
from sandbox.processnode.kube import ApiError

KUBELET_PORT = 10250  # the kubelet's own; every node has an address of its own, so all may use it


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.processnode", description="Run one node whose pods are local processes.")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="credentials of system:node:NAME, group system:nodes")
    parser.add_argument("--node", required=True, help="name of the node")
    parser.add_argument("--fleet-node", required=True, help="the node's entry of the fleet file as JSON, or @FILE")
    parser.add_argument("--state", type=Path, required=True, help="directory of the node: pods, logs, withdrawn")
    parser.add_argument("--pod-cidr", required=True, help="network inside 127.0.0.0/8; the first address is the node's")
    parser.add_argument("--kubelet-port", type=int, default=KUBELET_PORT, help="port of the log server (default 10250; 0 takes a free one)")
    parser.add_argument("--scenario", type=Path, help="YAML file with scripted faults, read again when it changes")
    parser.add_argument("--tls-cert-file", type=Path, help="serving certificate of the log server")
    parser.add_argument("--tls-private-key-file", type=Path, help="its key")
    args = parser.parse_args(arguments)
    try:
        fleet_node = FleetNode.read(args.fleet_node)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return Options(
        args.kubeconfig, args.node, fleet_node, args.state.resolve(), args.pod_cidr, args.kubelet_port,
        args.scenario, args.tls_cert_file, args.tls_private_key_file,
    )  # fmt: skip


async def run(options: Options) -> None:
    """Run until a signal arrives."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(Agent(options).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        logging.getLogger(__name__).info("stopped; the pods' processes go on")


def main() -> int:
    """Command line."""
    options = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        asyncio.run(run(options))
    except (ValueError, LabelError, RuntimeError, OSError, ApiError) as error:
        print(f"node {options.node}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
