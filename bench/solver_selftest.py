"""The self-test against any version of HiGHS: does it catch the version that called a wrong plan optimal (1.14.0, OC-075)?

Usage: python -m bench.solver_selftest [VERSION ...]. Without a version: the installed one. With versions: each is installed into a folder
of its own (removed afterwards; needs a package index or a folder of wheels) and tested in a process of its own. Prints one line per version
and solver. Exit code 1 if the installed version fails, or if 1.14.0 was asked for and passes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

KNOWN_WRONG = "1.14.0"
_CHILD = """
from placement import _solver
for name, fault in _solver.available():
    print(name, fault or "passes", sep="|")
"""


def results(folder: str | None = None) -> dict[str, str]:
    """Self-test per solver, in a process of its own, with `folder` before everything else on its path."""
    path = os.pathsep.join(p for p in (folder, os.getcwd(), os.environ.get("PYTHONPATH")) if p)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True, timeout=300, env={**os.environ, "PYTHONPATH": path}
    )
    return dict(line.split("|", 1) for line in done.stdout.splitlines() if "|" in line)


def installed_into(folder: str, version: str) -> None:
    target = ["--target", folder, "--no-deps", f"highspy=={version}"]
    subprocess.run([sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--quiet", *target], check=True, timeout=600)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of highspy, for instance {KNOWN_WRONG}")
    versions = parser.parse_args().versions
    failed = False
    for name, result in results().items():
        print(f"{'installed':>10}  {name:6}  {result}")
        failed = failed or result != "passes"
    for version in versions:
        with tempfile.TemporaryDirectory(prefix="polyfleet-highspy-") as folder:
            installed_into(folder, version)
            result = results(folder)["HiGHS"]
        print(f"{version:>10}  {'HiGHS':6}  {result}")
        failed = failed or (version == KNOWN_WRONG and result == "passes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
