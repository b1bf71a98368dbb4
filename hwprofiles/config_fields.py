"""Checked reading of a model's config.json: every number has a range, and what is out of it is refused by name.

A config.json is written by whoever published the weights, so nothing in it is trusted: a layer count of ten billion, a NaN or a string
where a number belongs gives a SchemaError that names the field, the value, the allowed range and what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwprofiles.schema import SchemaError

REMEDY = "correct config.json, or set spec.model.shape (paramsB, layers, ...) or spec.model.footprint on the ModelDeployment"

# The widest value of each kind that is still taken for a model of today, with room: the largest published ones have 126 layers,
# 16384 wide, 896 experts, a vocabulary of 262208 and a context of ten million tokens.
LAYERS, WIDTH, HEADS, HEAD_DIM, EXPERTS, VOCABULARY, CONTEXT = 1_000, 1_000_000, 8_192, 65_536, 65_536, 10_000_000, 1_000_000_000


def shown(value: object) -> str:
    """A value for a message, cut."""
    text = repr(value) if not isinstance(value, Mapping | list) or len(value) < 8 else f"{type(value).__name__} of {len(value)}"
    return text if len(text) <= 80 else text[:77] + "..."


def refuse(field: str, value: object, allowed: str) -> SchemaError:
    return SchemaError(f"config.json: {field} is {shown(value)}; allowed: {allowed}; {REMEDY}")


class Fields:
    """One (possibly nested) object of a config.json with the path that leads to it."""

    def __init__(self, values: Mapping[str, object], path: str = "", defaults: Mapping[str, int] | None = None) -> None:
        self.values = values
        self.path = path
        self._defaults = defaults or {}

    def name(self, field: str) -> str:
        return f"{self.path}{field}"

    def has(self, *fields: str) -> bool:
        return any(self.values.get(field) is not None for field in fields)

    def integer(self, *fields: str, most: int, least: int = 1) -> int:
        """The first of these fields that is there, or its default; missing everywhere is an error."""
        found = self.maybe(*fields, most=most, least=least)
        if found is None:
            also = f" (or {', '.join(fields[1:])})" if len(fields) > 1 else ""
            raise SchemaError(
                f"config.json: {self.name(fields[0])}{also} is missing; allowed: a whole number from {least} to {most}; {REMEDY}"
            )
        return found

    def maybe(self, *fields: str, most: int, least: int = 1) -> int | None:
        """The first of these fields that is there, or its default, or None."""
        for field in fields:
            value = self.values.get(field)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise refuse(self.name(field), value, f"a whole number from {least} to {most}")
            return value
        return next((self._defaults[field] for field in fields if field in self._defaults), None)

    def flag(self, field: str, default: bool) -> bool:
        value = self.values.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise refuse(self.name(field), value, "true or false")
        return value

    def text(self, field: str) -> str:
        """A word, lower case; "" where it is absent."""
        value = self.values.get(field)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > 200:
            raise refuse(self.name(field), value, "a word of at most 200 characters")
        return value.lower()

    def words(self, field: str, length: int) -> list[str] | None:
        """One word per layer."""
        value = self.values.get(field)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length or not all(isinstance(item, str) for item in value):
            raise refuse(self.name(field), value, f"a list of {length} words, one per layer")
        return [str(item) for item in value]

    def numbers(self, field: str, most_items: int, most: int) -> list[int] | None:
        value = self.values.get(field)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > most_items:
            raise refuse(self.name(field), value, f"a list of at most {most_items} numbers")
        for item in value:
            if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= most:
                raise refuse(self.name(field), value, f"whole numbers from 0 to {most}")
        return list(value)

    def child(self, field: str, defaults: Mapping[str, int] | None = None) -> Fields | None:
        value = self.values.get(field)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise refuse(self.name(field), value, "an object")
        return Fields(value, f"{self.path}{field}.", defaults)
