"""Parts that several kinds share: list types with merge keys, conditions, tolerations, environment, accuracy numbers.

The plain string types come from `hwprofiles.schema`, the lowest room that has models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from hwprofiles.model import Cost, EnvVar, Evidence, Toleration
from hwprofiles.schema import (
    Annotations,
    Argument,
    Bool,
    Count,
    Currency,
    Date,
    Decimal,
    Duration,
    Image,
    LabelKey,
    Labels,
    Model,
    ModelUri,
    ObjectName,
    Percent,
    Positive,
    Quantity,
    SchemaError,
    ShortText,
    StatusModel,
    Text,
    Tokens,
    Word,
    decimal,
    decimal_float,
    duration_seconds,
    format_decimal,
    quantity_bytes,
)

# Longest text that status accepts; the writer truncates to it, because a longer one would lose the whole status.
MESSAGE_MAX = 4096

Message = Annotated[str, Field(max_length=MESSAGE_MAX)]
ReasonWord = Annotated[str, Field(max_length=128)]
Time = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
Approval = Literal["Automatic", "Manual"]
Sharing = Literal["Exclusive", "Shared"]
Verdict = Literal["Promote", "Block", "Inconclusive"]
Generation = Annotated[int, Field(strict=True, ge=0, json_schema_extra={"format": "int64"})]
Names = Annotated[tuple[ObjectName, ...], Field(max_length=64)]
Words = Annotated[tuple[Word, ...], Field(max_length=32)]


def list_map(*keys: str) -> dict[str, Any]:
    """Marks a list whose items are told apart by keys, so that two writers may own different items."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


class _IntOrPercent:
    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"x-kubernetes-int-or-string": True, "pattern": r"^(100|[0-9]{1,2})%$", "maxLength": 4, "minimum": 0}


IntOrPercent = Annotated[
    Annotated[int, Field(strict=True, ge=0, le=10000)] | Annotated[str, Field(pattern=r"^(100|[0-9]{1,2})%$")],
    _IntOrPercent,
]


class Condition(StatusModel):
    type: Annotated[ReasonWord, Field(description="What is judged.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="True, False or Unknown.")]
    reason: Annotated[ReasonWord, Field(description="CamelCase code.")]
    message: Annotated[Message, Field(description="Numbers and the way out.")]
    last_transition_time: Annotated[Time, Field(description="When status last changed.")]
    observed_generation: Annotated[Generation | None, Field(description="Generation that was judged.")] = None


Conditions = Annotated[
    tuple[Condition, ...],
    Field(max_length=32, description="What is true of the object now.", json_schema_extra=list_map("type")),
]
ObservedGeneration = Annotated[Generation | None, Field(description="Generation that this status describes.")]

__all__ = [
    "MESSAGE_MAX",
    "Annotations",
    "Approval",
    "Argument",
    "Bool",
    "Condition",
    "Conditions",
    "Cost",
    "Count",
    "Currency",
    "Date",
    "Decimal",
    "Duration",
    "EnvVar",
    "Evidence",
    "Generation",
    "Image",
    "IntOrPercent",
    "LabelKey",
    "Labels",
    "Message",
    "Model",
    "ModelUri",
    "Names",
    "ObjectName",
    "ObservedGeneration",
    "Percent",
    "Positive",
    "Quantity",
    "ReasonWord",
    "SchemaError",
    "Sharing",
    "ShortText",
    "StatusModel",
    "Text",
    "Time",
    "Tokens",
    "Toleration",
    "Verdict",
    "Word",
    "Words",
    "decimal",
    "decimal_float",
    "duration_seconds",
    "format_decimal",
    "list_map",
    "quantity_bytes",
]
