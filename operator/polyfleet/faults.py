"""Words for a failure of this program on one object, so that the object can say it and every other goes on."""

from __future__ import annotations

_LIMIT = 300


def internal(error: BaseException) -> str:
    text = " ".join(str(error).split())[:_LIMIT]
    return (
        f"the operator failed on this object ({type(error).__name__}{': ' if text else ''}{text}); it is held as it is, other objects are"
        " not affected; see the operator's log, and report it with the object's spec"
    )
