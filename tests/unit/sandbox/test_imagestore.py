"""The shared store of images: big files are shared, databases are not, and its key says what is in it."""

from __future__ import annotations

from pathlib import Path

from sandbox import imagestore


def _store(root: Path) -> Path:
    content = root / "store" / "containerd"
    blob = content / "io.containerd.content.v1.content" / "blobs" / "sha256" / "abc"
    layer = content / "io.containerd.snapshotter.v1.overlayfs" / "snapshots" / "1" / "fs" / "bin" / "x"
    for path in (blob, layer, content / "io.containerd.metadata.v1.bolt" / "meta.db", layer.parents[4] / "metadata.db"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (root / "store" / "description.json").write_text("{}")
    return root / "store"


def test_nodes_share_layers_but_not_databases(tmp_path: Path) -> None:
    """A layer's file is the same inode on every node, a database is a file of its own with the same content."""
    store = _store(tmp_path)
    imagestore.copy(store, tmp_path / "node" / "containerd")
    same, own = set[str](), set[str]()
    for path in sorted((tmp_path / "node" / "containerd").rglob("*")):
        if path.is_file():
            twin = store / "containerd" / path.relative_to(tmp_path / "node" / "containerd")
            assert path.read_text() == twin.read_text()
            (same if path.stat().st_ino == twin.stat().st_ino else own).add(path.name)
    assert (same, own) == ({"abc", "x"}, {"meta.db", "metadata.db"})


def test_key_follows_archives_and_unpacking(tmp_path: Path) -> None:
    """Another archive or another way of unpacking is another store."""
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_text(name)
    first = imagestore.key({"x:dev": tmp_path / "a.tar"}, "overlayfs")
    assert first == imagestore.key({"x:dev": tmp_path / "a.tar"}, "overlayfs")
    assert (
        len({first, imagestore.key({"x:dev": tmp_path / "b.tar"}, "overlayfs"), imagestore.key({"x:dev": tmp_path / "a.tar"}, "native")})
        == 3
    )
