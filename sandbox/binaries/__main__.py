"""`python -m sandbox.binaries`: compile what the cache lacks and print the folder."""

from __future__ import annotations

import signal
import sys

from sandbox.binaries import ensure
from sandbox.errors import SandboxError


def main() -> int:
    """Entry point; returns the exit status."""
    signal.signal(signal.SIGTERM, _interrupt)  # an end from outside must end the compilers too, as Ctrl-C does
    try:
        print(ensure(lambda line: print(line, file=sys.stderr, flush=True)))
    except SandboxError as error:
        print(f"sandbox.binaries: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sandbox.binaries: interrupted; what is built stays, run the command again", file=sys.stderr)
        return 130
    return 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
