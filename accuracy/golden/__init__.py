"""Golden sets: the prompts that both sides are asked. The format, its bounds, and the set that comes with polyfleet. Pure.

A set is JSON Lines, one item a line (a JSON list works too, and so does a capture written by `polyfleet accuracy capture`); all may be
gzipped. Keys: `id` and either `messages` or `text` must be there; `stratum`, `modality`, `tools`, `schema`, `continuation`, `expectTool`,
`answer` and `mustStop` may be (`accuracy.types.Item` says what each means).
"""

from __future__ import annotations

from accuracy.golden.builtin import builtin
from accuracy.golden.items import GoldenError, dump
from accuracy.golden.sets import combine, digest, estimate_tokens, fits, parse

__all__ = ["GoldenError", "builtin", "combine", "digest", "dump", "estimate_tokens", "fits", "parse"]
