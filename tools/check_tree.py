"""Refuse tracked files that name this machine or a package index, Python files that outgrew their room, and pages that lost track:
a room's README that does not name one of its modules, a link to a file that is not there.

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
# Rooms with so many modules that a missing one would not be noticed: folder -> the README that lists them.
LISTED = {
    "placement": "placement/README.md",
    "placement/_solver": "placement/README.md",
    "bench/placement": "bench/README.md",
    "bench/autoscaling": "bench/README.md",
    "autoscaling/replay": "autoscaling/README.md",
    "autoscaling/replay/baselines": "autoscaling/README.md",
}
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


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


def unlisted(root: Path, paths: list[Path]) -> list[str]:
    """Modules that their room's README does not name in backticks."""
    found: list[str] = []
    texts = {page: (root / page).read_text(encoding="utf-8") for page in sorted(set(LISTED.values())) if (root / page).is_file()}
    for path in paths:
        page = LISTED.get(path.parent.relative_to(root).as_posix(), "")
        if path.suffix == ".py" and not path.stem.startswith("__") and page in texts and f"`{path.stem}`" not in texts[page]:
            found.append(f"{page}: does not name the module `{path.stem}` ({path.relative_to(root)})")
    return found


def broken_links(root: Path, paths: list[Path]) -> list[str]:
    """Links of Markdown pages to files that are not there; addresses on the web are not asked."""
    found: list[str] = []
    for path in paths:
        if path.suffix != ".md" or not path.is_file():
            continue
        here = _LINK.findall(path.read_text(encoding="utf-8"))
        gone = [
            target for target in here if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists()
        ]
        found += [f"{path.relative_to(root)}: link to {target}, which is not there" for target in gone]
    return found


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    paths = [path for path in tracked(root) if path.is_file()]
    found = findings(root) + unlisted(root, paths) + broken_links(root, paths)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
