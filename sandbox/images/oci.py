"""OCI image archives, written by hand: a tar of a layout, its layers uncompressed so that a node imports it without unpacking twice.

Only what containerd, podman and kind read: one manifest, its config, its layers, and an index that carries the image's name.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EPOCH = 0
"""Time of every entry: the same input gives the same bytes."""

_CREATED = "1970-01-01T00:00:00Z"
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def architecture() -> str:
    """This machine's architecture in OCI's (Go's) words."""
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's content."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, EPOCH
    archive.addfile(entry, io.BytesIO(data))


def layer_of(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """A layer that holds these files: path → (content, mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            _add(archive, name, *files[name])
    return buffer.getvalue()


def _name(manifest: dict[str, Any], reference: str) -> dict[str, Any]:
    # containerd reads its own annotation first, other tools the standard's.
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    return {**manifest, "annotations": names}


def write_image(target: Path, reference: str, layer: bytes | Path, run: Mapping[str, object]) -> None:
    """Write a single-layer image; `run` is the OCI config's `config` object (Entrypoint, User, Env)."""
    digest = file_digest(layer) if isinstance(layer, Path) else _digest(layer)
    size = layer.stat().st_size if isinstance(layer, Path) else len(layer)
    config = _json(
        {
            "architecture": architecture(),
            "config": dict(run),
            "created": _CREATED,
            "history": [{"created": _CREATED, "created_by": "polyfleet sandbox"}],  # buildah counts layers by it
            "os": "linux",
            "rootfs": {"diff_ids": [digest], "type": "layers"},
        }
    )
    manifest = _json(
        {
            "config": {"digest": _digest(config), "mediaType": _CONFIG, "size": len(config)},
            "layers": [{"digest": digest, "mediaType": _LAYER, "size": size}],
            "mediaType": _MANIFEST,
            "schemaVersion": 2,
        }
    )
    entry = _name({"digest": _digest(manifest), "mediaType": _MANIFEST, "size": len(manifest)}, reference)
    blobs: dict[str, bytes | Path] = {_digest(config): config, digest: layer, _digest(manifest): manifest}
    _write(target, entry, blobs)


def archive_plain(folder: Path, target: Path, reference: str) -> None:
    """Pack what `buildah push dir:FOLDER` wrote (manifest.json and blobs by their hash) under a name that every importer reads."""
    manifest = (folder / "manifest.json").read_bytes()
    content = json.loads(manifest)
    blobs: dict[str, bytes | Path] = {_digest(manifest): manifest}
    for part in (content["config"], *content["layers"]):
        blobs[part["digest"]] = folder / part["digest"].removeprefix("sha256:")
    entry = _name({"digest": _digest(manifest), "mediaType": content.get("mediaType", _MANIFEST), "size": len(manifest)}, reference)
    _write(target, entry, blobs)


def _write(target: Path, entry: dict[str, Any], blobs: Mapping[str, bytes | Path]) -> None:
    index = _json({"manifests": [entry], "mediaType": _INDEX, "schemaVersion": 2})
    with tarfile.open(target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", index)
        for digest in _ordered(entry, blobs):
            name, blob = "blobs/" + digest.replace(":", "/"), blobs[digest]
            if isinstance(blob, bytes):
                _add(archive, name, blob)
                continue
            item = tarfile.TarInfo(name)
            item.size, item.mode, item.mtime = blob.stat().st_size, 0o644, EPOCH
            with blob.open("rb") as stream:
                archive.addfile(item, stream)


def _ordered(entry: Mapping[str, Any], blobs: Mapping[str, bytes | Path]) -> Sequence[str]:
    """The manifest first, so that a reader that streams knows what the rest is."""
    first = str(entry["digest"])
    return [first, *sorted(digest for digest in blobs if digest != first)]
