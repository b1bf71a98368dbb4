"""Ends every process that a node's state directory records: by pid and start time, never by name."""

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
