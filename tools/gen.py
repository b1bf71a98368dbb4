"""Regenerate everything that is generated, or (`--check`) fail with the diff if anything differs from its source.

Sources → results: pydantic models → crds/, the chart's copy of them, docs/reference/ and the FleetPolicy part of the values
schema; hwprofiles/shipped → the chart's copy and the tables of docs/hardware.md; the device plugin's .proto → its Python module; the
chart's values model → values.schema.json; the list of stages and rooms → docs/img/architecture.svg; tools/golden_inputs/ → the built-in
golden set. `--check` also lints the chart with the real helm where the sandbox's binaries are built.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools import chart_values, draw_architecture, gen_crds, gen_hardware, gen_reference, make_golden
from tools.paths import ROOT

Files = dict[Path, str]


def crds() -> Files:
    files = gen_crds.generate()
    out: Files = {}
    for name, text in sorted(files.items()):
        out[ROOT / "crds" / name] = text
        out[ROOT / "charts/polyfleet/files/crds" / name] = text
    return out


def reference() -> Files:
    return {ROOT / "docs/reference" / name: text for name, text in sorted(gen_reference.generate().items())}


def profiles() -> Files:
    shipped = sorted((ROOT / "hwprofiles/shipped").glob("*.yaml"))
    return {ROOT / "charts/polyfleet/files/profiles" / p.name: p.read_text(encoding="utf-8") for p in shipped}


def values_schema() -> Files:
    return {ROOT / "charts/polyfleet/values.schema.json": chart_values.schema_text()}


def protocol() -> Files:
    from sandbox.deviceplugin import proto

    return dict(proto.generate())


GENERATORS: tuple[Callable[[], Files], ...] = (
    crds,
    reference,
    profiles,
    values_schema,
    protocol,
    draw_architecture.generate,
    gen_hardware.generate,
    make_golden.generate,
)
OWNED = ("crds", "charts/polyfleet/files/crds", "charts/polyfleet/files/profiles", "docs/reference")


def everything() -> Files:
    out: Files = {}
    for generator in GENERATORS:
        out.update(generator())
    return out


def stale(files: Files) -> list[Path]:
    """Files in generated folders that no generator makes any more."""
    return [p for folder in OWNED for p in sorted((ROOT / folder).glob("*")) if p.is_file() and p not in files and p.name != "README.md"]


def write(files: Files) -> None:
    for path, text in sorted(files.items()):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    for path in stale(files):
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")


def differences(files: Files) -> list[str]:
    lines: list[str] = []
    for path, text in sorted(files.items()):
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        name = str(path.relative_to(ROOT))
        lines += list(
            difflib.unified_diff(old.splitlines(), text.splitlines(), f"{name} (stored)", f"{name} (generated)", lineterm="", n=1)
        )
    return lines + [f"{p.relative_to(ROOT)}: no generator makes this file" for p in stale(files)]


def lint_chart() -> int:
    """helm lint --strict and helm template, with the helm that the sandbox installs with."""
    from sandbox import binaries

    ready = binaries.cached()
    helm = str(ready / "helm") if ready else shutil.which("helm")
    if not helm:
        print("the chart cannot be linted: no helm is built yet; next: .venv/bin/python -m sandbox.binaries, then again")
        return 1
    chart = str(ROOT / "charts/polyfleet")
    for args in (["lint", "--strict", chart], ["template", "polyfleet", chart, "--namespace", "polyfleet"]):
        done = subprocess.run([helm, *args], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout + done.stderr)
            return 1
    print("chart: helm lint --strict and helm template pass")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="gen", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; print the differences and exit 1 if there are any")
    args = parser.parse_args()
    files = everything()
    if not args.check:
        write(files)
        return 0
    diff = differences(files)
    if diff:
        print("\n".join(diff[:200]))
        print(f"\n{len(diff)} lines differ; next: make gen, then commit the result")
        return 1
    print(f"{len(files)} generated files equal their sources")
    return lint_chart()


if __name__ == "__main__":
    sys.exit(main())
