"""Does the live object already say what we want? Pure; the reason that a converged cluster sees no write.

`covers(live, want)`: every field that we want is there with that value; fields that the API server or others added do not matter.
Numbers and quantities are compared by value, because the server writes 1 as "1" and keeps "1024Mi" as it was given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from polyfleet.parse import quantity


def covers(live: Any, want: Any) -> bool:
    if want is None:
        return True  # null in an applied object means "not given"
    if isinstance(want, Mapping):
        if live is None:
            return not want  # the API server drops an empty object where it means nothing
        return isinstance(live, Mapping) and all(covers(live.get(key), value) for key, value in want.items())
    if isinstance(want, Sequence) and not isinstance(want, str):
        if live is None:
            return not want
        if not isinstance(live, Sequence) or isinstance(live, str) or len(live) != len(want):
            return False
        return all(covers(a, b) for a, b in zip(live, want, strict=True))
    return _same_scalar(live, want)


def _same_scalar(live: Any, want: Any) -> bool:
    if live == want and isinstance(live, bool) == isinstance(want, bool):
        return True
    if live is None or isinstance(live, bool | Mapping | list) or isinstance(want, bool):
        # "" and 0 and false are dropped by many Go types; they equal an absent field.
        return live is None and want in ("", 0, False)
    number = quantity(live)
    return number is not None and number == quantity(want)


def digest(value: Any) -> str:
    """A short name for a JSON value, equal for equal values whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def live_view(state: Any) -> dict[str, Any]:
    """The comparable part of a cached object, in the shape of a manifest."""
    return {"metadata": {"labels": dict(state.labels), "annotations": dict(state.annotations)}, "spec": state.spec}


def wanted_view(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a manifest that `live_view` can answer for."""
    metadata = manifest.get("metadata") or {}
    return {
        "metadata": {"labels": metadata.get("labels") or {}, "annotations": metadata.get("annotations") or {}},
        "spec": body(manifest),
    }


def body(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an object says: its spec, or all there is where a kind has none."""
    if "spec" in manifest:
        return manifest["spec"] or {}
    return {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata", "status")}
