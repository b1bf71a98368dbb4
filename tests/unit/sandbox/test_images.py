"""The image room without building anything: the lock's subset, OCI archives, recipes, and what decides an image's hash."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from sandbox.errors import SandboxError
from sandbox.images import PAUSE, oci, recipes, reference, weights
from sandbox.images.build import ensure, source_files
from sandbox.images.lock import normal, parse, subset
from sandbox.images.packages import platforms

NOT_RUN_IN_IMAGES = {"sandbox/deviceplugin/proto.py", "autoscaling/replay/compiled.py"}
"""Development tools that lie beside what runs, and what only asks whether a faster way is installed."""

LOCK = """\
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via
    #   polyfleet (pyproject.toml)
    #   kopf
attrs==26.1.0 \\
    --hash=sha256:bb
    # via aiohttp
huggingface-hub==2.4.0 \\
    --hash=sha256:cc
    # via tokenizers
idna==3.20 \\
    --hash=sha256:dd
    # via
    #   huggingface-hub
    #   yarl
tokenizers==0.23.3 \\
    --hash=sha256:ee
    # via polyfleet (pyproject.toml)
"""


def names(requirements: str) -> list[str]:
    return [line.split("==")[0] for line in requirements.splitlines() if "==" in line]


def test_lock_is_read_with_versions_hashes_and_parents() -> None:
    """`# via` on one line and over several lines both name parents; hashes stay with their package."""
    pins = parse(LOCK)
    assert sorted(pins) == ["aiohttp", "attrs", "huggingface-hub", "idna", "tokenizers"]
    assert pins["aiohttp"].parents == {"polyfleet", "kopf"}
    assert pins["attrs"].parents == {"aiohttp"}
    assert pins["aiohttp"].text == "aiohttp==3.14.5 \\\n    --hash=sha256:aa \\\n    --hash=sha256:ab"


def test_subset_follows_requirements_and_leaves_out_what_only_the_left_out_need() -> None:
    """tokenizers pulls huggingface-hub, which pulls idna; without the hub neither is there."""
    assert names(subset(LOCK, ["aiohttp"])) == ["aiohttp", "attrs"]
    assert names(subset(LOCK, ["Tokenizers"])) == ["huggingface-hub", "idna", "tokenizers"]
    assert names(subset(LOCK, ["tokenizers"], without=["huggingface_hub"])) == ["tokenizers"]


def test_a_root_that_is_not_locked_is_an_error_with_the_next_command() -> None:
    with pytest.raises(SandboxError, match=r"does not pin numpy.*make lock"):
        subset(LOCK, ["numpy"])


def test_every_recipe_is_covered_by_the_lock_and_its_files_exist() -> None:
    """Each image's Dockerfile and sources are there; the locked part names every root with at least one hash."""
    text = (recipes.ROOT / "requirements.lock").read_text()
    for recipe in recipes.recipes():
        pinned = subset(text, recipe.requires, recipe.without)
        assert set(recipe.requires) <= set(names(pinned)), recipe.name
        assert pinned.count("--hash=sha256:") >= len(names(pinned)), recipe.name
        assert (recipes.ROOT / recipe.dockerfile).is_file()
        assert all((recipes.ROOT / source).exists() for source, _below in recipe.sources)


def test_every_third_party_import_is_in_the_image() -> None:
    """What an image's sources import anywhere is among its pinned packages, so that no pod dies of a missing module."""
    owners = metadata.packages_distributions()
    text = (recipes.ROOT / "requirements.lock").read_text()
    for recipe in recipes.recipes():
        inside = set(names(subset(text, recipe.requires, recipe.without)))
        for name, path in source_files(recipe):
            if not name.endswith(".py") or name in NOT_RUN_IN_IMAGES:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules = [node.module or ""]
                for module in modules:
                    top = module.split(".")[0]
                    distributions = {normal(owner) for owner in owners.get(top, [])} - {"polyfleet"}
                    assert not distributions or distributions & inside, f"{recipe.name}: {name} imports {module}"


def test_operator_image_has_exactly_the_projects_dependencies() -> None:
    """Known from pyproject.toml; version specifiers are cut off."""
    found = recipes.operator_requirements()
    assert {"kopf", "kubernetes", "pydantic", "pulp", "highspy", "pyyaml"} <= set(found)
    assert not any(sign in name for name in found for sign in "<>=~ ")


def test_image_sources_hold_no_byte_code_and_no_dockerfile() -> None:
    """What a test run leaves in the checkout must not change an image."""
    for recipe in recipes.recipes():
        found = [name for name, _path in source_files(recipe)]
        assert found == sorted(found, key=found.index)
        assert not [name for name in found if "__pycache__" in name or name.endswith((".pyc", "Dockerfile"))]
        assert "sandbox/deviceplugin/api_pb2.py" in found or recipe.name != "device-plugin"


def test_an_unknown_image_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SandboxError, match="no image is called gpu; allowed: device-plugin, engine, operator, pause"):
        ensure(print, ["gpu"])


def test_written_image_is_a_complete_oci_archive(tmp_path: Path) -> None:
    """Every descriptor's digest and size are those of its blob, the layer holds the program, the index carries the name twice."""
    layer = oci.layer_of({"pause": (b"program", 0o755)})
    oci.write_image(tmp_path / "image.tar", PAUSE, layer, {"Entrypoint": ["/pause"], "User": "65535:65535"})
    with tarfile.open(tmp_path / "image.tar") as archive:
        members = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        blobs = {name: stream.read() for name, stream in members.items() if stream is not None}
    assert json.loads(blobs["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(blobs["index.json"])["manifests"]
    assert set(entry["annotations"].values()) == {"sandbox.polyfleet.io/pause:dev"}

    def blob(descriptor: dict[str, object]) -> bytes:
        data = blobs["blobs/" + str(descriptor["digest"]).replace(":", "/")]
        assert descriptor["digest"] == "sha256:" + hashlib.sha256(data).hexdigest()
        assert descriptor["size"] == len(data)
        return data

    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    assert config["config"] == {"Entrypoint": ["/pause"], "User": "65535:65535"}
    (only,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [only["digest"]]
    with tarfile.open(fileobj=io.BytesIO(blob(only))) as content:
        (program,) = content.getmembers()
        assert (program.name, program.mode, program.mtime) == ("pause", 0o755, 0)


def test_the_same_image_is_written_with_the_same_bytes(tmp_path: Path) -> None:
    layer = oci.layer_of({"b": (b"2", 0o644), "a": (b"1", 0o644)})
    for name in ("one", "two"):
        oci.write_image(tmp_path / name, PAUSE, layer, {"Entrypoint": ["/a"]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_plain_folder_of_buildah_becomes_an_archive_with_its_manifest_first(tmp_path: Path) -> None:
    """A reader that streams meets the manifest before the layers; the layer file is taken as it is."""
    folder = tmp_path / "plain"
    folder.mkdir()
    parts: dict[str, dict[str, object]] = {}
    for kind, data in (("config", b"{}"), ("layer", b"tar")):
        digest = hashlib.sha256(data).hexdigest()
        (folder / digest).write_bytes(data)
        parts[kind] = {"digest": f"sha256:{digest}", "size": len(data)}
    (folder / "manifest.json").write_text(json.dumps({"config": parts["config"], "layers": [parts["layer"]]}))
    oci.archive_plain(folder, tmp_path / "image.tar", reference("engine"))
    with tarfile.open(tmp_path / "image.tar") as archive:
        found = archive.getnames()
    manifest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert found[:3] == ["oci-layout", "index.json", f"blobs/sha256/{manifest}"]
    assert set(found[3:]) == {"blobs/" + str(part["digest"]).replace(":", "/") for part in parts.values()}


def test_wheel_platforms_are_debian_twelves() -> None:
    """glibc 2.36 (Debian 12) runs manylinux_2_28 and manylinux2014 wheels, not manylinux_2_39."""
    found = platforms("x86_64")
    assert {"manylinux_2_28_x86_64", "manylinux2014_x86_64"} <= set(found)
    assert "manylinux_2_39_x86_64" not in found


def test_a_wrong_model_file_is_refused(tmp_path: Path) -> None:
    """The size is named, and the command that installs the right one."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(SandboxError, match=r"4 bytes; expected 98362432.*pip install"):
        weights._checked(path)


def test_the_plugins_manifest_asks_for_no_more_than_it_needs() -> None:
    """One verb on nodes, no privilege, no capability; both folders of the node and only those."""
    path = recipes.ROOT / "sandbox/manifests/device-plugin.yaml"
    objects = {item["kind"]: item for item in yaml.safe_load_all(path.read_text())}
    assert objects["ClusterRole"]["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == reference("device-plugin")
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    paths = {volume["hostPath"]["path"] for volume in pod["volumes"]}
    assert paths == {"/var/lib/kubelet/device-plugins", "/var/lib/polyfleet-sandbox/devices"}


def test_kind_nodes_are_the_fleet_three_vendors() -> None:
    """sandbox/kind.yaml repeats the labels and counts of the fleet file, node by node."""
    fleet = yaml.safe_load((recipes.ROOT / "sandbox/fleets/three-vendors.yaml").read_text())["nodes"]
    kind = yaml.safe_load((recipes.ROOT / "sandbox/kind.yaml").read_text())["nodes"]
    assert len(kind) == len(fleet) == 4
    for ours, theirs in zip(fleet, kind, strict=True):
        expected = {**ours["labels"], "polyfleet.io/sandbox": "true"}
        if devices := ours.get("devices"):
            expected["sandbox.polyfleet.io/device-kind"] = devices["kind"]
            expected["sandbox.polyfleet.io/device-count"] = str(devices["count"])
        assert theirs["labels"] == expected, ours["name"]
