"""Reference pages of the API, from the same models as the CRDs: `generate()` gives file name → Markdown.

One page per kind with a table of spec fields, one of status fields and the rules; one page with conditions, reasons and events.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from typing import Any

from polyfleet.api import conditions
from polyfleet.api.kinds import API_VERSION, CATEGORY, KINDS, Kind

from tools.gen_crds import root_schema
from tools.paths import ROOT

Schema = dict[str, Any]
_NOTE = "<!-- Generated from operator/polyfleet/api by tools/gen_reference.py. Do not edit: change the models and run make gen. -->\n\n"


def generate() -> dict[str, str]:
    pages = {f"{kind.singular}.md": _page(kind) for kind in KINDS}
    pages["conditions.md"] = _conditions()
    pages["index.md"] = _index()
    return pages


def _index() -> str:
    rows = [
        f"| [{kind.name}]({kind.singular}.md) | `{kind.short}` | {'namespaced' if kind.namespaced else 'cluster'}"
        f" | {_cell(root_schema(kind)['description'])} |"
        for kind in KINDS
    ]
    return "\n".join(
        [
            f"{_NOTE}# API reference\n",
            f"All kinds belong to `{API_VERSION}`; `kubectl get {CATEGORY} -A` lists all of them. Use the short names, or full names such",
            "as `modeldeployments.polyfleet.io`: other projects use some of the plurals too.\n",
            "| Kind | Short | Scope | What it is |\n|---|---|---|---|",
            *rows,
            "\n[Conditions, reasons and events](conditions.md)\n",
        ]
    )


def _page(kind: Kind) -> str:
    schema = root_schema(kind)
    scope = "Namespaced" if kind.namespaced else "Cluster-scoped"
    columns = " · ".join(column.name for column in kind.columns if not column.wide)
    parts = [
        f"{_NOTE}# {kind.name}\n",
        f"{schema['description']} {scope}, short name `{kind.short}`, `{API_VERSION}`.\n",
        f"Columns of `kubectl get {kind.short}`: {columns}.\n",
    ]
    for part in ("spec", "status"):
        parts.append(f"## {part}\n\n| Field | Type | Default | Meaning |\n|---|---|---|---|")
        parts.extend(_rows(schema["properties"][part], part))
        parts.append("")
    rules = list(_rules(schema, ""))
    if rules:
        parts.append("## Rules\n\nChecked by the API server; the message is what it answers.\n\n| Where | Message | Rule |\n|---|---|---|")
        parts.extend(rules)
        parts.append("")
    return "\n".join(parts)


def _rows(schema: Schema, path: str) -> Iterator[str]:
    """One line per field, depth first; conditions have a page of their own."""
    required = schema.get("required", ())
    # Inherited fields come first in the models; readers look for what they must set.
    for name, child in sorted(schema.get("properties", {}).items(), key=lambda item: item[0] not in required):
        where = f"{path}.{name}"
        default = "required" if name in required else _literal(child["default"]) if "default" in child and child["default"] != {} else ""
        yield f"| `{where}` | {_type(child)} | {default} | {_cell(child.get('description', ''))} |"
        if name == "conditions":
            continue
        yield from _rows(_inner(child), where + _suffix(child))


def _inner(schema: Schema) -> Schema:
    if schema.get("type") == "array":
        return _inner(schema["items"])
    if "additionalProperties" in schema:
        return _inner(schema["additionalProperties"])
    return schema


def _suffix(schema: Schema) -> str:
    if schema.get("type") == "array":
        return "[]" + _suffix(schema["items"])
    if "additionalProperties" in schema:
        return ".*" + _suffix(schema["additionalProperties"])
    return ""


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or percentage"
    kind = schema.get("type", "object")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    if "enum" in schema:
        return " \\| ".join(schema["enum"])
    if kind == "integer" and "minimum" in schema and "maximum" in schema:
        return f"integer {schema['minimum']} to {schema['maximum']}"
    return str(kind)


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return _cell(", ".join(str(v.get("name", v)) if isinstance(v, dict) else str(v) for v in value))
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _rules(schema: Schema, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"| `{path or 'object'}` | {_cell(rule['message'])} | `{rule['rule'].replace('|', chr(92) + '|')}` |"
    for name, child in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        yield from _rules(_inner(child), where + _suffix(child))


def _conditions() -> str:
    tables = (
        ("ModelDeployment", conditions.MODEL_REASONS),
        ("HardwareProfile", conditions.PROFILE_REASONS),
        ("AcceleratorPool", conditions.POOL_REASONS),
        ("FleetPolicy", conditions.POLICY_REASONS),
        ("PlacementPlan", conditions.PLAN_REASONS),
        ("AccuracyReport", conditions.REPORT_REASONS),
    )
    parts = [f"{_NOTE}# Conditions, reasons and events\n", "Reasons of a condition that is not True (of `Degraded`: that is True).\n"]
    for name, reasons in tables:
        parts.append(f"## {name}\n\n| Condition | Reasons |\n|---|---|")
        for kind, words in reasons.items():
            text = "reason of the first row above that is not True" if name == "ModelDeployment" and kind == "Ready" else ", ".join(words)
            parts.append(f"| `{kind}` | {text} |")
        parts.append("")
    parts.append(f"Nodes that a pool does not use (`status.excluded`): {', '.join(conditions.POOL_EXCLUDED)}.\n")
    parts.append(f"## Events\n\n{', '.join(conditions.EVENTS)}.\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(prog="gen_reference", description="Write docs/reference/*.md from the models.")
    parser.add_argument("--check", action="store_true", help="write nothing; print the differences and exit 1 if there are any")
    args = parser.parse_args()
    failed = False
    for name, text in sorted(generate().items()):
        path = ROOT / "docs/reference" / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            continue
        if args.check:
            failed = True
            print(
                "\n".join(difflib.unified_diff(old.splitlines(), text.splitlines(), f"{name} (stored)", f"{name} (generated)", lineterm=""))
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    if failed:
        print("docs/reference differs from the models; next: make gen")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
