"""`python -m sandbox.engine`: sets the thread count of the numeric libraries before they are loaded, then serves."""

from __future__ import annotations

import asyncio
import logging
import os
import sys


def main() -> int:
    from sandbox.engine.config import parse, threads

    config = parse(sys.argv[1:], os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    count = threads(os.environ)
    from sandbox.engine.runner import serve

    return asyncio.run(serve(config, os.environ, count))


for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, os.environ.get("POLYFLEET_THREADS", "1"))
# A child that is forked by a tokenizer call would inherit its locks; there is no such child, this silences the warning.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if __name__ == "__main__":
    sys.exit(main())
