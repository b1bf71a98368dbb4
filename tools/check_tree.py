"""Refuse tracked files that name this machine or a package index, and Python files that outgrew their room.

A path of a developer's machine or the host of a package mirror works for one person only; the index comes from each machine's
own pip, npm or Go configuration. Image references are fine. The patterns are built from parts so that this file passes itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

MAX_LINES = 500  # a file above this is asked to split (house rule: about 300)

_HOSTS = "|".join(
    re.escape(".".join(parts))
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("deb", "debian", "org"),
        ("crates", "io"),
        ("repo1", "maven", "org"),
    )
)
PATTERNS = (
    (re.compile(_HOSTS), "the host of a package index"),
    (re.compile(r"(?<![\w./-])/(?:work|farm|root|home/\w+)/[A-Za-z.]"), "a path of one machine"),
)
SKIP = {".png", ".gz", ".npz", ".ico"}


def tracked(root: Path) -> list[Path]:
    out = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True).stdout
    return [root / p for p in sorted(out.decode().split("\0")) if p]


def findings(root: Path) -> list[str]:
    found: list[str] = []
    for path in tracked(root):
        if path.suffix in SKIP or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        name = path.relative_to(root)
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{name}:{number}: {what}: {line.strip()[:120]}" for pattern, what in PATTERNS if pattern.search(line)]
        if path.suffix == ".py" and not path.name.endswith("_pb2.py") and text.count("\n") > MAX_LINES:
            found.append(f"{name}: {text.count(chr(10))} lines, allowed are {MAX_LINES}: split it by what its parts are for")
    return found


def main() -> int:
    found = findings(Path(__file__).resolve().parent.parent)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
