"""`python -m sandbox.images [NAME…]`: build what is missing and print reference and archive of each image (tab-separated)."""

from __future__ import annotations

import argparse
import sys

from sandbox.errors import SandboxError
from sandbox.images.build import ensure, with_engine


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.images", description="Build the sandbox's images into the cache.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="operator, engine, device-plugin, pause (default: all)")
    parser.add_argument("--engine", metavar="PROGRAM", help="build into this container engine instead (docker, podman); prints references")
    arguments = parser.parse_args(argv)
    try:
        if arguments.engine:
            print("\n".join(with_engine(arguments.engine, _say)))
            return 0
        for reference, path in ensure(_say, arguments.names or None).items():
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
