"""`python -m polyfleet.activator`."""

import sys

from polyfleet.activator.main import main

sys.exit(main())
