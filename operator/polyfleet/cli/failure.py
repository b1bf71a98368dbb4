"""What a command line may end with: stable exit codes, and failures that say what, why and which command comes next."""

from __future__ import annotations

# Stable (docs/cli.md). If several apply: FAILED, then BLOCKED, SHORT, INCONCLUSIVE, CHANGES.
FINE, FAILED, CHANGES, SHORT, BLOCKED, INCONCLUSIVE, USAGE = 0, 1, 2, 3, 4, 5, 64


class Failure(Exception):  # noqa: N818  an end of the command, with an exit code, more often than an error
    """Ends a command with a message for people; never a traceback."""

    def __init__(self, what: str, why: str, next_: str, code: int = FAILED) -> None:
        super().__init__(what)
        self.what, self.why, self.next, self.code = what, why, next_, code

    def lines(self) -> list[str]:
        from polyfleet.cli.text import plain, wrap

        parts = (("error: ", self.what), ("  why:  ", self.why), ("  next: ", self.next))
        return [line for label, text in parts for line in wrap(plain(text), first=label)]


def usage(what: str, why: str, next_: str) -> Failure:
    return Failure(what, why, next_, USAGE)


def nearest(name: str, known: list[str], count: int = 3) -> list[str]:
    """The known names that look most like it, best first: before all others those of which it is the beginning."""
    from difflib import get_close_matches

    by_last = {item.rsplit("/", 1)[-1]: item for item in reversed(known)}
    begun = sorted((item for item in known if name and (item.startswith(name) or item.rsplit("/", 1)[-1].startswith(name))), key=len)
    found = begun + get_close_matches(name, known, count, 0.5) + [by_last[n] for n in get_close_matches(name, list(by_last), count, 0.5)]
    return list(dict.fromkeys(found))[:count]


def listed(names: list[str], most: int = 8) -> str:
    """Names as a phrase: at most `most`, then how many more there are."""
    shown = ", ".join(names[:most]) or "none"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
