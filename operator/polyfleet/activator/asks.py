"""What a request asks for while nothing serves: work, which wakes the model, or only how things stand, which does not. Pure.

Work is a POST to a path under which engines take work: everything below /v1/ and /v2/ (OpenAI's and the open inference protocol), and the
engines' own. A health check, a list of the models, a scanner's GET of anything wakes nobody, or a fleet would never sleep.
"""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import unquote

# The engines' own: TGI and SGLang (generate), vLLM (pooling, score, rerank, tokenize, classify, invocations), TEI (embed).
WORK = frozenset(
    f"/{each}"
    for each in (
        "generate", "generate_stream", "encode", "classify", "pooling", "score", "rerank", "embed", "invocations", "tokenize", "detokenize",
        "completion", "completions", "infill", "embedding", "embeddings", "chat/completions",
    )
)  # fmt: skip
HEALTH = frozenset({"/health", "/healthz", "/health_generate", "/livez", "/readyz", "/ping", "/version"})
MODELS = "/v1/models"


class Ask(StrEnum):
    WORK = "work"  # counted, held, and what wakes
    HEALTH = "health"  # answered: the model is well, it sleeps
    MODELS = "models"  # answered with the model's name
    OTHER = "other"  # refused


def kind(method: str, path: str) -> Ask:
    """`path` as it stands in the request, without a query."""
    plain = "/" + unquote(path).strip("/")
    if method == "POST":
        return Ask.WORK if plain in WORK or plain.startswith(("/v1/", "/v2/")) else Ask.OTHER
    if method in ("GET", "HEAD"):
        if plain in HEALTH:
            return Ask.HEALTH
        if plain == MODELS:
            return Ask.MODELS
    return Ask.OTHER
