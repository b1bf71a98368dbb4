"""End every process that a node's state directory records: ``python -m sandbox.processnode.cleanup --state DIR``.

For `polyfleet-sandbox down`, after the agent itself was ended. Processes are found by pid and start time, never by name.
"""

import argparse
import sys
from pathlib import Path

from sandbox.proc import Ticket, wait_gone
from sandbox.processnode.process import kill_recorded

WAIT_SECONDS = 10.0


def end_all(state: Path) -> list[str]:
    """End all pods' processes of the node with this state directory; returns the run folders whose processes would not end."""
    tickets: list[Ticket] = []
    for record in sorted((state / "pods").glob("*/containers/*/*/shim.json")):
        ticket = kill_recorded(record.parent)
        if ticket is not None:
            tickets.append(ticket)
    return [ticket.name for ticket in wait_gone(tickets, WAIT_SECONDS)]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.processnode.cleanup", description="End the pods' processes of a node.")
    parser.add_argument("--state", type=Path, required=True, help="the state directory that the node was started with")
    left = end_all(parser.parse_args().state)
    for folder in left:
        print(f"still running after {WAIT_SECONDS:.0f} s: {folder}; its shim.json and started.json hold the process ids", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
