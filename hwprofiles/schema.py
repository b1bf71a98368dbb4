"""The vocabulary of polyfleet's API models: the base class, string types with patterns, and their parsers.

It lives here because a HardwareProfile is the lowest kind of the API and the pure packages import nothing of `polyfleet`;
`polyfleet.api` builds the other five kinds of the same parts.

Money, rates and ratios are decimal strings and never floats, durations are strings of ms, s, m and h, memory is a binary
quantity. Every string and list is bounded, because the API server refuses CEL rules of unbounded cost. Unknown is absence:
an explicit null is dropped before validation, as the API server does it.
"""

from __future__ import annotations

import re
from decimal import Decimal as _Decimal
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

# Names that the camel-case rule would spell wrongly: units keep their case (GB/s is not Gb/s), Python keywords lose the "_".
_SPECIAL = {
    "bandwidth_tbps": "bandwidthTBps",
    "node_link_gbps": "nodeLinkGBps",
    "cross_node_link_gbps": "crossNodeLinkGBps",
    "params_b": "paramsB",
    "active_params_b": "activeParamsB",
    "e2e_latency": "e2eLatency",
    "top_k": "topK",
    "kl": "kl",
    "noise_kl": "noiseKL",
    "floor_kl": "floorKL",
    "cap_kl": "capKL",
    "tail_kl": "tailKL",
    "pd_wide_ep": "pdWideEP",
    "wide_moe": "wideMoE",
    "class_": "class",
}


def camel(name: str) -> str:
    """The API's spelling of a Python field name."""
    if name in _SPECIAL:
        return _SPECIAL[name]
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class Model(BaseModel):
    """Base of everything that a user writes: frozen, unknown fields refused, API spelling in and out."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        # Names such as `model_x` are ordinary here.
        protected_namespaces=(),
    )
    # CEL rules of this object: (expression, message in plain words).
    cel_rules: ClassVar[tuple[tuple[str, str], ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.cel_rules:
            target = handler.resolve_ref_schema(schema)
            target["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in cls.cel_rules]
        return schema

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: v for k, v in value.items() if v is not None}
        return value

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Validate a decoded YAML or JSON value by the API's field names only."""
        return cls.model_validate(value, by_alias=True, by_name=False)

    def dump(self) -> dict[str, Any]:
        """API spelling, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def dump_set(self) -> dict[str, Any]:
        """API spelling, only what was given: what a writer that owns just these fields applies."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)


class StatusModel(Model):
    """Base of what the operator writes: a field that this version does not know is skipped, not an error."""

    model_config = ConfigDict(extra="ignore")


DECIMAL_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,9})?$"
DURATION_PATTERN = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"
QUANTITY_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti)?$"
DATE_PATTERN = r"^[0-9]{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?$"
URI_PATTERN = r"^(hf|ms|pvc|s3|oss|obs|oci)://.+"
_WORD_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
_DNS_PATTERN = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
_KEY_PATTERN = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"

Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=22)]
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=32)]
Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=20)]
Date = Annotated[str, Field(pattern=DATE_PATTERN, max_length=10)]
ModelUri = Annotated[str, Field(pattern=URI_PATTERN, max_length=1024)]
Word = Annotated[str, Field(pattern=_WORD_PATTERN, max_length=63)]  # vendors, families, engines, precisions, schedulers
ObjectName = Annotated[str, Field(pattern=_DNS_PATTERN, max_length=253)]
LabelKey = Annotated[str, Field(pattern=_KEY_PATTERN, max_length=316)]
LabelValue = Annotated[str, Field(max_length=63)]
ShortText = Annotated[str, Field(max_length=253)]
Text = Annotated[str, Field(max_length=1024)]
Image = Annotated[str, Field(min_length=1, max_length=512)]
Argument = Annotated[str, Field(max_length=2048)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", max_length=3)]
Bool = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Positive = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Tokens = Annotated[int, Field(strict=True, ge=1, le=100_000_000)]
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64)]
Annotations = Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]

_QUANTITY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(Ki|Mi|Gi|Ti)?")
_BINARY = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_DURATION_PART = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class SchemaError(ValueError):
    """A value that does not have the form its type asks for."""


def quantity_bytes(value: str) -> int:
    """Bytes of a binary quantity, `64Gi` or `98304Mi`; fractions of a byte are cut."""
    found = _QUANTITY.fullmatch(value)
    if found is None:
        raise SchemaError(f"quantity {value!r} is not a number with Ki, Mi, Gi or Ti; write for example 64Gi")
    return int(_Decimal(found[1]) * _BINARY[found[2] or ""])


def duration_seconds(value: str) -> float:
    """Seconds of a duration, `1h30m` or `250ms`."""
    if re.fullmatch(DURATION_PATTERN, value) is None:
        raise SchemaError(f"duration {value!r} is not made of ms, s, m and h (no d); write for example 90s, 15m or 168h")
    return sum(int(part[1]) * _SECONDS[part[2]] for part in _DURATION_PART.finditer(value))


def decimal(value: str) -> _Decimal:
    """The exact value of a decimal string."""
    if re.fullmatch(DECIMAL_PATTERN, value) is None:
        raise SchemaError(f'decimal {value!r} is not a non-negative decimal string; write for example "2.20" in quotes')
    return _Decimal(value)


def decimal_float(value: str) -> float:
    return float(decimal(value))


def format_decimal(value: float | int | _Decimal, places: int = 2) -> str:
    """A decimal string with a fixed number of places, the form in which status shows money and rates."""
    return f"{_Decimal(str(value)):.{places}f}"
