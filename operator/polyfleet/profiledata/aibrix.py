"""AIBrix GPU profiles: the JSON that its GPU optimizer's `gen_profile.py` writes and its gateway reads.

Format (vllm-project/aibrix, python/aibrix/aibrix/gpu_optimizer/optimizer/profiling/gen_profile.py, and pkg/cache `ModelGPUProfile`):

    gpu      deployment that was profiled           cost     price of the device, in units of the user's choice
    tputs    requests/s that kept the SLOs          indexes  [output tokens, input tokens] of the rows and columns
    e2e      mean seconds of a request              ttft     mean seconds to the first token (only with a TTFT goal)
    created  Unix time                              slos     percentile and goals

A cell of zero means that no request rate kept the goals: no entry. Output tokens/s = requests/s x output tokens of the row. Requests in
flight are not recorded and follow from Little's law, requests/s x mean seconds of a request, rounded. The price is not taken over: its
unit is not part of the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from polyfleet.profiledata.entry import Given, Imported, Reading, build
from polyfleet.profiledata.fields import ReadError, as_number, mapping, needed, parse_json, shown, text

TOOL = "AIBrix profile"


def read(content: str, given: Given) -> Imported:
    body = mapping(parse_json(content, TOOL)[0], "(document)")
    rows, columns = _indexes(body)
    tputs = _matrix(body, "tputs", len(rows), len(columns))
    e2e = _matrix(body, "e2e", len(rows), len(columns))
    if tputs is None or e2e is None:
        missing = "tputs" if tputs is None else "e2e"
        raise ReadError(f"field {missing} is missing", "an AIBrix profile has tputs, indexes, created and e2e")
    ttft = _matrix(body, "ttft", len(rows), len(columns))
    created = datetime.fromtimestamp(min(needed(body, "created", TOOL), 4e9), UTC).date().isoformat()
    readings, empty = [], 0
    for i, out in enumerate(rows):
        for j, into in enumerate(columns):
            rate, seconds = tputs[i][j], e2e[i][j]
            if rate == 0:
                empty += 1
                continue
            first = ttft[i][j] if ttft is not None and ttft[i][j] > 0 else None
            readings.append(
                Reading(
                    rate=rate * out,
                    input_tokens=into,
                    output_tokens=out,
                    concurrency=max(1.0, rate * seconds),
                    ttft_s=first,
                    itl_s=(seconds - first) / (out - 1) if first is not None and out > 1 and seconds > first else None,
                    date=created,
                    how="requests in flight by Little's law",
                )
            )
    if not readings:
        raise ReadError("field tputs", "every cell is 0: no request rate kept the goals", "profile again with looser goals")
    notes = [f"deployment {text(body, 'gpu') or 'not named'}; the field cost is not taken over, its unit is not part of the format"]
    if empty:
        notes.append(f"{empty} of {len(rows) * len(columns)} cells are 0 (no request rate kept the goals): no entry for them")
    return Imported(build(TOOL, readings, given), notes=tuple(notes))


def _indexes(body: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    found = body.get("indexes")
    if not isinstance(found, list) or len(found) != 2:
        raise ReadError("field indexes", f"{shown(found)}, must be [output tokens, input tokens]")
    return _numbers(found[0], "indexes[0]", 1.0), _numbers(found[1], "indexes[1]", 1.0)


def _numbers(value: Any, at: str, least: float) -> list[float]:
    if not isinstance(value, list) or not value:
        raise ReadError(f"field {at}", f"{shown(value)}, must be a list of numbers")
    result = []
    for index, item in enumerate(value):
        number = as_number(item, f"{at}[{index}]", least=least)
        if number is None:
            raise ReadError(f"field {at}[{index}]", f"null, must be a number of at least {least:g}")
        result.append(number)
    return result


def _matrix(body: Mapping[str, Any], name: str, rows: int, columns: int) -> list[list[float]] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != rows:
        size = len(value) if isinstance(value, list) else shown(value)
        raise ReadError(f"field {name}", f"{size} rows, must be {rows}, as many as indexes[0]")
    result = [_numbers(row, f"{name}[{index}]", 0.0) for index, row in enumerate(value)]
    for index, row in enumerate(result):
        if len(row) != columns:
            raise ReadError(f"field {name}[{index}]", f"{len(row)} cells, must be {columns}, as many as indexes[1]")
    return result
