"""`python -m sandbox.engine.faults`: what faults there are, and those of a running replica on this machine.

list                      all switches and triggers
show [--url URL]          the faults of the replica at URL (http://127.0.0.1:8000)
set FAULT... [--url URL]  replaces what earlier calls set
clear [--url URL]         takes back what calls set
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence

from sandbox.engine.faults.switches import SWITCHES, FaultError, parse
from sandbox.engine.faults.triggers import KINDS

TIMEOUT_SECONDS = 30.0


def listing() -> str:
    """All switches and triggers, a line each."""
    lines = ["Faults: NAME[=VALUE[:VALUE]][@TRIGGER...]; a value in brackets may be left out"]
    for name, switch in SWITCHES.items():
        numbers = ":".join(n.name if n.default is None else f"[{n.name}]" for n in switch.numbers)
        lines.append(f"  {name + ('=' + numbers if numbers else ''):30} {switch.text}{' (harmless)' if switch.harmless else ''}")
    lines.append("Triggers, all of which must hold:")
    lines += [f"  @{name + (f'={kind.value}' if kind.value else ''):29} {kind.text}" for name, kind in KINDS.items()]
    return "\n".join(lines)


def ask(url: str, faults: Sequence[str] | None) -> str:
    """Sets the faults of the replica at `url` (None: asks for them); returns its answer. Raises OSError, FaultError."""
    for text in faults or ():
        parse(text)
    body = None if faults is None else json.dumps({"faults": list(faults)}).encode()
    request = urllib.request.Request(f"{url.rstrip('/')}/sandbox/fault", body, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            told: str = response.read().decode()
            return told
    except urllib.error.HTTPError as error:
        with error:
            message = error.read().decode(errors="replace")
        raise FaultError(f"the replica at {url} refuses ({error.code}): {message}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.engine.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("list", "show", "set", "clear"))
    parser.add_argument("fault", nargs="*")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    options = parser.parse_args(argv)
    if bool(options.fault) != (options.action == "set"):
        parser.error("`set` needs at least one fault, and the other actions take none")
    if options.action == "list":
        print(listing())
        return 0
    try:
        print(ask(options.url, {"show": None, "clear": [], "set": options.fault}[options.action]))
    except (OSError, FaultError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
