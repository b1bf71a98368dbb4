"""Why a load test cannot be done, in the three parts of every failure: what, why, next command."""

from __future__ import annotations


class Problem(Exception):  # noqa: N818  the command line turns it into a Failure; it is not always a fault
    def __init__(self, what: str, why: str, next_: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what, self.why, self.next = what, why, next_
