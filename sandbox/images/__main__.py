"""`python -m sandbox.images [NAME…]`: build what is missing and print reference and archive of each image."""

from __future__ import annotations

import argparse
import sys

from sandbox.errors import SandboxError
from sandbox.images import ensure


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.images", description="Build the sandbox's images into the cache.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="operator, engine, device-plugin, pause (default: all)")
    names = parser.parse_args(argv).names
    try:
        for reference, path in ensure(lambda line: print(line, file=sys.stderr, flush=True), names or None).items():
            print(f"{reference}\t{path}")
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what is finished stays in the cache", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
