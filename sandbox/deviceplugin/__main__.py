"""`python -m sandbox.deviceplugin`: the DaemonSet's command."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from sandbox.deviceplugin import nodelabels
from sandbox.deviceplugin.kinds import KINDS, LABEL_COUNT, LABEL_KIND, LABEL_RESOURCE, LabelError, advertisement
from sandbox.deviceplugin.plugin import run

EXIT_BAD_INPUT = 2
READ_ATTEMPTS, READ_PAUSE_SECONDS = 30, 1.0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.deviceplugin", description="Advertise the devices that the node's labels describe."
    )
    parser.add_argument("--node", default=os.environ.get("NODE_NAME", ""), help="node name (default: environment variable NODE_NAME)")
    parser.add_argument("--plugin-dir", type=Path, default=Path("/var/lib/kubelet/device-plugins"), help="the kubelet's plugin folder")
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/polyfleet-sandbox/devices"), help="folder of the file `withdrawn`")
    parser.add_argument("--kind", choices=sorted(KINDS), help="do not read the node's labels, advertise this kind")
    parser.add_argument("--count", type=int, help="with --kind: how many devices")
    parser.add_argument("--resource", default="", help="with --kind: another resource name")
    return parser.parse_args(argv)


async def _node_labels(node: str) -> dict[str, str]:
    """The API server may not be reachable yet from a node that just started: dying would cost the kubelet's restart back-off."""
    for _ in range(READ_ATTEMPTS - 1):
        try:
            return await asyncio.to_thread(nodelabels.read, node)
        except OSError as error:
            logging.getLogger(__name__).warning("cannot read the labels of node %s yet: %s", node, error)
            await asyncio.sleep(READ_PAUSE_SECONDS)
    return await asyncio.to_thread(nodelabels.read, node)


async def _until_signalled(arguments: argparse.Namespace) -> None:
    if arguments.kind:
        labels = {LABEL_KIND: arguments.kind, LABEL_COUNT: str(arguments.count), LABEL_RESOURCE: arguments.resource.replace("/", "_", 1)}
    else:
        labels = await _node_labels(arguments.node)
    offer = advertisement(arguments.node, labels)
    task = asyncio.ensure_future(run(offer, arguments.plugin_dir, arguments.state_dir))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        logging.getLogger(__name__).info("stopped by a signal")


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status (the DaemonSet restarts the container with back-off)."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    if not arguments.node:
        print("no node name: give --node NAME or set the environment variable NODE_NAME", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        asyncio.run(_until_signalled(arguments))
    except LabelError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"node {arguments.node}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
