"""``python -m sandbox.processnode.cleanup --state DIR``: end the pods' processes of a node whose agent has been ended."""

import argparse
import sys
from pathlib import Path

from sandbox.processnode.ending import WAIT_SECONDS, end_all


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
