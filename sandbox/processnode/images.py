"""Which local command stands for which image. A process node pulls nothing: what is not in this table does not exist.

Pure. Tags count: ``:dev`` and tags that start with ``dev`` exist (an upgrade test needs a second one), any other is an image that
no registry has, so that the same manifest fails on process nodes as it fails on real ones.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

REGISTRY = "sandbox.polyfleet.io/"


@dataclass(frozen=True)
class Image:
    """What an image's configuration would say."""

    entrypoint: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    host_flag: str = ""
    """Flag that tells the program its address; added when the pod does not set it."""
    host_variable: str = ""
    """The same, by environment."""


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)


IMAGES: Mapping[str, Image] = {
    "engine": Image(_module("sandbox.engine"), host_flag="--host"),
    "operator": Image(
        _module("polyfleet"),
        # The operator's default folder has to be spelled out, so that it can be rewritten to the volume's local directory.
        env={"POLYFLEET_PROFILES_DIR": "/etc/polyfleet/profiles"},
        host_variable="POLYFLEET_HTTP_HOST",
    ),
    "pause": Image(("sleep", "infinity")),
    "testpod": Image(_module("sandbox.processnode.testpod"), host_flag="--host"),
}


class ImageError(Exception):
    """The image cannot be had. ``reason`` is the waiting reason of the first try."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def find(reference: str, policy: str) -> Image:
    """The image of a reference, or the error that a node without this image would report."""
    repository, _, digest = reference.partition("@")
    head, slash, last = repository.rpartition("/")
    name, _, tag = last.partition(":")
    exists = head + slash == REGISTRY and name in IMAGES and (tag.startswith("dev") or bool(digest and not tag))
    if exists and policy != "Always":
        return IMAGES[name]
    if policy == "Never":
        raise ImageError("ErrImageNeverPull", f'Container image "{reference}" is not present with pull policy of Never')
    if exists:
        raise ImageError("ErrImagePull", f'cannot pull "{reference}": the sandbox has no registry; use imagePullPolicy IfNotPresent')
    known = ", ".join(f"{REGISTRY}{name}:dev" for name in sorted(IMAGES))
    raise ImageError("ErrImagePull", f'cannot pull "{reference}": not found. Images of this node: {known}')


def local_program(argv0: str) -> str:
    """The local program for a container's command: any Python is this one, everything else is looked up in PATH."""
    name = argv0.rsplit("/", 1)[-1]
    return sys.executable if name in ("python", "python3", "python3.11", "python3.12", "python3.13") else argv0
