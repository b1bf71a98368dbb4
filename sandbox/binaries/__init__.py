"""The Go programs of the cluster, compiled once from pinned modules and cached. Entry point: `ensure(progress)`; `cached()` only looks."""

from sandbox.binaries.build import PROGRAMS, cached, ensure

__all__ = ["PROGRAMS", "cached", "ensure"]
