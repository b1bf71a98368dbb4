"""The command line: `polyfleet`, and the same program as `kubectl polyfleet`.

Entry point: `main`. Nothing heavy is imported until a command needs it, so `polyfleet version` and a usage error answer at once.
Rooms: `program` parses and dispatches, `source` says where the fleet comes from (live, a snapshot file, the demo), `planning` calls the
operator's own functions and the placer, the `*_text` modules write tables. Every failure is a `Failure`: what, why, next command.
"""

from polyfleet.cli.program import completion, main

__all__ = ["completion", "main"]
