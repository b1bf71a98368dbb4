"""One item of a golden set from JSON and back. Every key is checked: a misspelt one would silently ask something else. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from accuracy.types import Item

MODALITIES = ("Text", "Image", "Audio", "Video")
ROLES = ("system", "developer", "user", "assistant", "tool")
MOST_TEXT = 1 << 20  # characters of one item; a prompt of 256k tokens has about this many
MOST_MESSAGES, MOST_TOOLS = 256, 128
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,126}")
_STRATUM = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_KEYS = {
    "id": "id",
    "stratum": "stratum",
    "messages": "messages",
    "text": "text",
    "modality": "modality",
    "tools": "tools",
    "schema": "schema",
    "continuation": "continuation",
    "expectTool": "expect_tool",
    "expect_tool": "expect_tool",
    "answer": "answer",
    "mustStop": "must_stop",
    "must_stop": "must_stop",
}
_CAMEL = {"expect_tool": "expectTool", "must_stop": "mustStop"}
_MESSAGE_KEYS = {"role", "content", "name", "tool_calls", "tool_call_id"}


class GoldenError(ValueError):
    """A golden set that cannot be used: field, value, what is allowed, what to do next."""


def read(value: object, at: str) -> Item:
    """One item. `at` names its place for the message. Raises GoldenError."""
    if not isinstance(value, dict):
        raise GoldenError(f"{at}: {shown(value)}; an item is a JSON object with id and messages or text")
    known: dict[str, Any] = {}
    for key in value:
        name = _KEYS.get(key)
        if name is None:
            raise GoldenError(
                f"{at}: unknown key {shown(key)}; allowed: {', '.join(k for k in _KEYS if '_' not in k)}; correct or remove it"
            )
        if name in known:
            raise GoldenError(f"{at}: {_CAMEL[name]} is given in both spellings; remove one")
        known[name] = value[key]
    item_id = known.get("id")
    if not isinstance(item_id, str) or not _ID.fullmatch(item_id):
        raise GoldenError(f"{at}: id is {shown(item_id)}; allowed: 1 to 127 of A-Z a-z 0-9 . _ : / @ + -, a letter or digit first")
    at = f"{at} ({item_id})"
    messages, text = _messages(known.get("messages"), at), _string(known, "text", at)
    if bool(messages) == bool(text):
        raise GoldenError(f"{at}: has {'both' if text else 'neither'} messages {'and' if text else 'nor'} text; give exactly one of them")
    tools, schema = _tools(known.get("tools"), at), known.get("schema")
    if schema is not None and not isinstance(schema, dict):
        raise GoldenError(f"{at}: schema is {shown(schema)}; allowed: a JSON schema as an object")
    if text and tools:
        raise GoldenError(f"{at}: has tools and text; tools need messages")
    if messages and known.get("continuation"):
        raise GoldenError(f"{at}: has a continuation and messages; a natural continuation needs text")
    stratum = known.get("stratum", "Tools" if tools or schema else "Chat")
    if not isinstance(stratum, str) or not _STRATUM.fullmatch(stratum):
        raise GoldenError(f"{at}: stratum is {shown(stratum)}; allowed: a word of letters, digits and hyphens, for example Chat")
    modality = known.get("modality", "Text")
    if modality not in MODALITIES:
        raise GoldenError(f"{at}: modality is {shown(modality)}; allowed: {', '.join(MODALITIES)}")
    if modality != "Text" and not any(isinstance(m["content"], list | tuple) for m in messages):
        raise GoldenError(f"{at}: modality is {modality} and no message has parts; give the content as a list of parts, or modality Text")
    must_stop = known.get("must_stop", False)
    if not isinstance(must_stop, bool):
        raise GoldenError(f"{at}: mustStop is {shown(must_stop)}; allowed: true, false")
    expect = known.get("expect_tool")
    names = [t["function"]["name"] for t in tools]
    if expect is not None and expect != "" and expect not in names:
        raise GoldenError(f"{at}: expectTool is {shown(expect)}; allowed: one of its tools ({', '.join(names) or 'it has none'}), or empty")
    return Item(
        id=item_id,
        stratum=stratum,
        messages=messages,
        text=text,
        modality=modality,
        tools=tools,
        schema=schema,
        continuation=_string(known, "continuation", at),
        expect_tool=expect,
        answer=_string(known, "answer", at),
        must_stop=must_stop,
    )


def plain(item: Item) -> dict[str, Any]:
    """The item as JSON values in the documented spelling, without what equals the default."""
    out: dict[str, Any] = {"id": item.id, "stratum": item.stratum}
    for name in ("messages", "text", "tools", "schema", "continuation", "expect_tool", "answer", "must_stop"):
        value = getattr(item, name)
        if value is not None and (value or name == "expect_tool"):
            out[_CAMEL.get(name, name)] = [dict(v) for v in value] if isinstance(value, tuple) else value
    if item.modality != "Text":
        out["modality"] = item.modality
    return out


def dump(items: Sequence[Item]) -> str:
    """JSON Lines, the form that `parse` reads and the digest is taken of: keys sorted, UTF-8, a line feed after each item."""
    return "".join(json.dumps(plain(i), ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n" for i in items)


def shown(value: object) -> str:
    """A value for a message, short."""
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _string(known: Mapping[str, Any], name: str, at: str) -> str:
    value = known.get(name, "")
    if not isinstance(value, str):
        raise GoldenError(f"{at}: {name} is {shown(value)}; allowed: a string")
    if len(value) > MOST_TEXT:
        raise GoldenError(f"{at}: {name} has {len(value)} characters; allowed: at most {MOST_TEXT}; cut it or leave the item out")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, written as an escape
        raise GoldenError(f"{at}: {name} holds half a character at {error.start}; escape characters above U+FFFF as a pair") from None
    return value


def _messages(value: object, at: str) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_MESSAGES:
        raise GoldenError(f"{at}: messages is {shown(value)}; allowed: a list of 1 to {MOST_MESSAGES}")
    for number, message in enumerate(value):
        where = f"{at}: messages[{number}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise GoldenError(f"{where}: {shown(message)}; allowed: an object with role ({', '.join(ROLES)}) and content")
        unknown = sorted(set(message) - _MESSAGE_KEYS)
        if unknown:
            raise GoldenError(f"{where}: unknown key {shown(unknown[0])}; allowed: {', '.join(sorted(_MESSAGE_KEYS))}")
        content = message.get("content")
        if isinstance(content, list) and content:
            for part in content:
                _part(part, where)
        elif content is None and message.get("tool_calls"):
            message["content"] = ""
        elif not isinstance(content, str):
            raise GoldenError(f"{where}: content is {shown(content)}; allowed: a string, or a list of parts")
        else:
            _string(message, "content", where)
    return tuple(value)


def _part(part: object, at: str) -> None:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise GoldenError(f"{at}: part {shown(part)}; allowed: an object with type, for example {{'type': 'text', 'text': ...}}")
    if part["type"] == "text":
        _string(part, "text", at)
    url = part.get("image_url")
    if part["type"] == "image_url":
        address = url.get("url") if isinstance(url, dict) else url
        # An address outside could change under the digest, and the engine would fetch it with its own rights.
        if not isinstance(address, str) or not address.startswith("data:"):
            raise GoldenError(f"{at}: image_url is {shown(address)}; allowed: a data: URL, because a golden set must hold all it asks")


def _tools(value: object, at: str) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_TOOLS:
        raise GoldenError(f"{at}: tools is {shown(value)}; allowed: a list of at most {MOST_TOOLS}")
    for number, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise GoldenError(f"{at}: tools[{number}] is {shown(tool)}; allowed: an object with type 'function' and function.name")
    return tuple(value)
