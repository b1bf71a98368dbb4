"""What the shipped profiles cost: reading all of them, and judging them the first time and again.

`python -m bench.hardware.profiles` prints one JSON object; CPU seconds, the lowest of `--runs`. The limit is 0.3 s for loading.
"""

from __future__ import annotations

import argparse
import json
import platform

import yaml

from bench.hardware.timing import least
from hwprofiles import load_shipped, trust
from hwprofiles.trust import trusted

LIMIT_LOAD_S = 0.3
TODAY = "2026-11-28"


def measure(runs: int) -> dict[str, object]:
    profiles = load_shipped()

    def fresh() -> None:
        trust.forget()
        trusted(profiles, today=TODAY)

    load = least(runs, load_shipped)
    first, again = least(runs, fresh), least(runs, lambda: trusted(profiles, today=TODAY))
    return {
        "profiles": len(profiles),
        "entries": sum(len(spec.throughput) for spec in profiles.values()),
        "load_cpu_s": round(load, 4),
        "load_limit_s": LIMIT_LOAD_S,
        "met": load <= LIMIT_LOAD_S,
        "trusted_first_cpu_s": round(first, 4),
        "trusted_again_cpu_s": round(again, 6),
        "libyaml": bool(getattr(yaml, "__with_libyaml__", False)),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="cost of the shipped profiles")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement; the lowest counts (default 5)")
    print(json.dumps(measure(parser.parse_args().runs), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
