"""The command line. Imports wait until a command needs them, so that `polyfleet version` answers at once."""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="polyfleet", description="Places, scales and verifies models over mixed accelerators.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", help="run the operator against the cluster of KUBECONFIG, or of the pod it runs in")
    commands.add_parser("version", help="print the version")
    chosen = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if chosen.command == "version":
        return _version()
    from polyfleet.main import main as run

    return run()


def _version() -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        print(version("polyfleet"))
    except PackageNotFoundError:
        print("unknown (not installed as a package)")
    return 0
