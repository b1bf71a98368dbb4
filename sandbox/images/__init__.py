"""The images of the sandbox's pods, built from the project's Dockerfiles without a container engine. Entry point: `ensure(progress)`."""

from sandbox.images.build import ensure
from sandbox.images.recipes import PAUSE, REGISTRY, TAG, reference

__all__ = ["PAUSE", "REGISTRY", "TAG", "ensure", "reference"]
