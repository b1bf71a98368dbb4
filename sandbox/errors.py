"""The one exception of this room: a plain sentence for the user that says what is wrong and which command comes next."""

from __future__ import annotations


class SandboxError(Exception):
    """Something the user can act on. The command line prints the text without a traceback and exits 1."""
