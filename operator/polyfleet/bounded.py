"""Bodies of answers that somebody else wrote, read up to a bound. Network; raises what aiohttp raises."""

from __future__ import annotations

import aiohttp


async def body(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes | None:
    """The whole body; None = it is larger, and its connection was closed, for it is of no more use."""
    if (answer.content_length or 0) > most_bytes:
        answer.close()
        return None
    parts: list[bytes] = []
    size = 0
    while part := await answer.content.readany():
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            answer.close()
            return None
    return parts[0] if len(parts) == 1 else b"".join(parts)
