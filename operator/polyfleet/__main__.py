"""`python -m polyfleet`: runs the operator, the same as `polyfleet run`."""

import sys

from polyfleet.cli import main

sys.exit(main(sys.argv[1:] or ["run"]))
