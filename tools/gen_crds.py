"""CustomResourceDefinitions from the pydantic models of `polyfleet.api`: `generate()` gives file name → YAML text.

Pydantic's JSON schema is turned into the structural schema that the API server accepts:

- references are put in place, and `anyOf` with null collapses to the plain type, without `nullable` and without null defaults:
  the server drops nulls of non-nullable fields before defaulting, and offline CEL engines would otherwise see another object;
- `additionalProperties: false` goes: a structural schema may not combine it with properties; pruning and strict field validation
  do its job. Maps become `additionalProperties` with the value's schema;
- a default of an object becomes `{}`, so that the defaults of its fields apply when the parent is absent. The server checks the
  rules of that object against the bare `{}`, so a rule asks `has()` before it reads even a field with a default. The default
  `[]` says nothing and goes;
- titles go, keys are sorted, and the order of rules, columns and enumerations is that of the source: the same models give the
  same bytes.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from typing import Any

import yaml
from polyfleet.api.kinds import CATEGORY, GROUP, KINDS, VERSION, Kind

from tools.paths import ROOT

Schema = dict[str, Any]
TOTAL_LIMIT = 128 * 1024
KIND_LIMIT = 64 * 1024
_KEPT = (
    "type",
    "format",
    "description",
    "enum",
    "pattern",
    "default",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
)


class UnsupportedSchemaError(ValueError):
    """A construct of JSON Schema that a structural schema cannot say."""


def structural(schema: Schema, definitions: dict[str, Schema], where: str = "") -> Schema:
    """The structural form of one node of pydantic's schema."""
    node = _resolved(schema, definitions, where)
    unknown = set(node) - {
        *_KEPT,
        "title",
        "properties",
        "items",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
    }
    if unknown:
        raise UnsupportedSchemaError(f"{where}: {', '.join(sorted(unknown))}")
    out: Schema = {key: node[key] for key in _KEPT if key in node}
    properties = node.get("properties")
    if properties is not None:
        out["properties"] = {name: structural(child, definitions, f"{where}.{name}") for name, child in properties.items()}
    elif out.get("type") == "object" and not out.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = structural(_map_value(node, where), definitions, f"{where}[*]")
    if "items" in node:
        out["items"] = structural(node["items"], definitions, f"{where}[]")
    if out.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
    if "default" in out:
        _default(out)
    return out


def _resolved(schema: Schema, definitions: dict[str, Schema], where: str) -> Schema:
    """Follows the reference or the non-null branch; what stands beside it wins (description, default)."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        return _resolved({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, definitions, where)
    if "anyOf" in schema:
        real = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
        if len(real) != 1:
            raise UnsupportedSchemaError(f"{where}: a union of {len(real)} types")
        rest = {k: v for k, v in schema.items() if k != "anyOf"}
        if rest.get("default", 0) is None:
            del rest["default"]
        return _resolved({**real[0], **rest}, definitions, where)
    return schema


def _map_value(node: Schema, where: str) -> Schema:
    if isinstance(node.get("additionalProperties"), dict):
        return dict(node["additionalProperties"])
    patterns = node.get("patternProperties")
    if patterns and len(patterns) == 1:
        return dict(next(iter(patterns.values())))
    raise UnsupportedSchemaError(f"{where}: an object without properties and without a value type")


def _default(out: Schema) -> None:
    if isinstance(out["default"], dict):
        out["default"] = {}
    elif isinstance(out["default"], list):
        items = [_without_nulls(item) for item in out["default"]]
        if items:
            out["default"] = items
        else:
            del out["default"]


def _without_nulls(value: Any) -> Any:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def root_schema(kind: Kind) -> Schema:
    raw = kind.model.model_json_schema(by_alias=True)
    definitions = raw.pop("$defs", {})
    schema = structural(raw, definitions, kind.name)
    meta: Schema = {"type": "object"}
    if any("self.metadata.name" in rule["rule"] for rule in schema.get("x-kubernetes-validations", ())):
        # A rule at the root sees metadata.name only if the schema names it.
        meta["properties"] = {"name": {"type": "string"}}
    schema["properties"] = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": meta, **schema["properties"]}
    return schema


def crd(kind: Kind) -> Schema:
    columns = [{"name": c.name, "type": c.type, "jsonPath": c.path, **({"priority": 1} if c.wide else {})} for c in kind.columns]
    subresources: Schema = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": kind.scale.spec_replicas,
            "statusReplicasPath": kind.scale.status_replicas,
            "labelSelectorPath": kind.scale.selector,
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "labels": {"app.kubernetes.io/name": "polyfleet"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "conversion": {"strategy": "None"},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": columns,
                    "subresources": subresources,
                    "schema": {"openAPIV3Schema": root_schema(kind)},
                }
            ],
        },
    }


def sizes() -> dict[str, int]:
    """Bytes of compact JSON by kind."""
    return {kind.name: len(json.dumps(crd(kind), separators=(",", ":"), ensure_ascii=False).encode()) for kind in KINDS}


def generate() -> dict[str, str]:
    """File name → YAML, one file per kind."""
    measured = sizes()
    for name, size in measured.items():
        if size > KIND_LIMIT:
            raise UnsupportedSchemaError(f"CRD of {name} has {size} bytes, allowed {KIND_LIMIT}: shorten descriptions or move fields")
    if sum(measured.values()) > TOTAL_LIMIT:
        raise UnsupportedSchemaError(f"all CRDs have {sum(measured.values())} bytes, allowed {TOTAL_LIMIT}")
    header = "# Generated from operator/polyfleet/api by tools/gen_crds.py. Do not edit: change the models and run make gen.\n"
    return {
        f"{GROUP}_{kind.plural}.yaml": header + yaml.dump(crd(kind), sort_keys=True, width=140, allow_unicode=True, Dumper=_Dumper)
        for kind in KINDS
    }


class _Dumper(yaml.SafeDumper):
    """Without anchors: the same list twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="gen_crds", description="Write crds/*.yaml from the models.")
    parser.add_argument("--check", action="store_true", help="write nothing; print the differences and exit 1 if there are any")
    args = parser.parse_args()
    failed = False
    for name, text in generate().items():
        path = ROOT / "crds" / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            continue
        if args.check:
            failed = True
            print(
                "\n".join(difflib.unified_diff(old.splitlines(), text.splitlines(), f"{name} (stored)", f"{name} (generated)", lineterm=""))
            )
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote crds/{name}")
    if failed:
        print("crds/ differs from the models; next: make gen")
        return 1
    measured = sizes()
    print(f"compact JSON: {', '.join(f'{k} {v}' for k, v in measured.items())}; total {sum(measured.values())} of {TOTAL_LIMIT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
