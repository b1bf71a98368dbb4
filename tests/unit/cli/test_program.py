"""The program around the commands: usage, version, completion, entry points, what is imported when, and which cluster is meant."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from polyfleet.cli import live
from polyfleet.cli.connect import Connection, connect
from polyfleet.cli.failure import Failure
from polyfleet.cli.program import completion, version
from polyfleet.errors import ApiError, Unavailable, from_status

from tests.unit.cli.lib import ROOT, failed, polyfleet, untimed

CLUSTER = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
USER = {"name": "u", "user": {"token": "t"}}


def kubeconfig(folder: Path, name: str = "config", *, contexts: tuple[str, ...] = ("main",), current: str = "main") -> Path:
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [CLUSTER],
        "users": [USER],
        "contexts": [{"name": item, "context": {"cluster": "c", "user": "u", "namespace": f"ns-{item}"}} for item in contexts],
        "current-context": current,
    }
    path = folder / name
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return path


# ---- usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "COMMAND"),
        (("pln",), "known: run, version, plan, explain, snapshot"),
        (("plan", "-o", "xml"), "invalid choice: 'xml'"),
        (("plan", "--nope"), "--nope"),
        (("explain",), "mdep/NAME"),
        (("plan", "-n", "a", "-A", "--snapshot", "demo"), "-n a names one namespace"),
        (("plan", "--snapshot", "demo", "--context", "x"), "a snapshot needs no cluster"),
        (("plan", "--snapshot", "demo", "--kubeconfig", "x"), "a snapshot needs no cluster"),
    ],
)
def test_usage_errors_end_with_64_and_never_with_2(arguments: tuple[str, ...], said: str) -> None:
    """2 means changes. Each says what to do next."""
    _, why, next_ = failed(*arguments, code=64)
    assert said in why
    assert next_


def test_a_typing_error_offers_the_command() -> None:
    assert failed("pln", code=64)[2] == "polyfleet plan"
    assert failed("snapshoot", code=64)[2] == "polyfleet snapshot"


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert polyfleet("--help").code == 0
    assert "explain" in capsys.readouterr().out


def test_version() -> None:
    assert polyfleet("version").out.strip() == version()


def test_entry_points_resolve() -> None:
    """pyproject names functions that exist, the plug-in's and its completion's among them."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert {"polyfleet", "kubectl-polyfleet", "kubectl_complete-polyfleet"} <= scripts.keys()
    for name in ("polyfleet", "kubectl-polyfleet", "kubectl_complete-polyfleet"):
        module, function = scripts[name].split(":")
        assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("arguments", [["version"], ["plan", "--nope"], ["--version"]])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    """No numpy, no solver, no pydantic, no cluster client for a version or a usage error."""
    code = (
        "import sys, io\nfrom polyfleet.cli.program import call\n"
        f"call({arguments!r}, io.StringIO(), io.StringIO())\n"
        "heavy = {'numpy', 'pulp', 'highspy', 'pydantic', 'kubernetes', 'kopf', 'aiohttp', 'yaml', 'placement'} & set(sys.modules)\n"
        "print('heavy', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy []"


def test_a_plan_of_a_file_needs_no_cluster_client() -> None:
    code = (
        "import sys, io\nfrom polyfleet.cli.program import call\n"
        "assert call(['plan', '--snapshot', 'demo'], io.StringIO(), io.StringIO()) == 3\n"
        "print(sorted({'kubernetes', 'kopf', 'aiohttp', 'prometheus_client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """`polyfleet plan | true`."""
    command = [sys.executable, "-m", "polyfleet", "plan", "--snapshot", "demo", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pl"], ["plan"]),
        (["plan", "--snapshot", ""], ["demo"]),
        (["plan", "-o", "j"], ["json"]),
        (["explain", "--why"], ["--why-not"]),
        (["plan", "-f", ""], []),
    ],
)
def test_completion(words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """kubectl asks with the words of the line, the last one unfinished; the last line is a directive."""
    monkeypatch.setattr("sys.argv", ["kubectl_complete-polyfleet", *words])
    assert completion() == 0
    *found, directive = capsys.readouterr().out.splitlines()
    assert found == expected
    assert directive in (":0", ":4")


# ---- which cluster


def connected(environ: dict[str, str], kubeconfig: str = "", context: str = "") -> Connection:
    return asyncio.run(connect(kubeconfig, context, environ))


def test_kubeconfig_is_found_as_kubectl_finds_it(tmp_path: Path) -> None:
    """The flag, then the list in KUBECONFIG, then ~/.kube/config; context and namespace of the file or as asked."""
    (tmp_path / ".kube").mkdir()
    home = kubeconfig(tmp_path / ".kube", contexts=("home",), current="home")
    first, second = kubeconfig(tmp_path, "one"), kubeconfig(tmp_path, "two", contexts=("other", "third"), current="other")
    assert home.exists()
    assert connected({"HOME": str(tmp_path)}).context == "home"
    environ = {"HOME": str(tmp_path), "KUBECONFIG": f"{tmp_path / 'missing'}:{first}:{second}"}
    assert (connected(environ).context, connected(environ).namespace) == ("main", "ns-main")
    assert connected(environ, context="third").namespace == "ns-third"
    assert connected(environ, kubeconfig=str(second)).context == "other"
    assert connected(environ).configuration.host == "https://127.0.0.1:1"


def test_no_cluster_names_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        connected({"HOME": str(tmp_path)})
    assert caught.value.what == "no cluster is configured"
    assert "--snapshot demo" in caught.value.next


def test_an_unknown_context_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        connected({"KUBECONFIG": str(kubeconfig(tmp_path))}, context="mian")
    assert caught.value.what == "no context named mian"
    assert caught.value.next == "polyfleet … --context main"


@pytest.mark.parametrize("text", ["", "[", "just text", "clusters: []", "clusters: [{}]\ncontexts: [{}]", "\x00"])
def test_a_broken_kubeconfig_is_said(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))
    what, why, next_ = failed("plan")
    assert str(path)[:40] in what.replace(" ", "")
    assert why
    assert next_


def test_a_missing_kubeconfig_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed("plan", "--kubeconfig", str(tmp_path / "no"))[1] == "there is no such file"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no"))
    assert failed("snapshot")[1] == "none of its files exists"


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port of this machine that nobody listens on."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path)))
    what, why, next_ = failed("plan")
    assert what == "the API server https://127.0.0.1:1 does not answer"
    assert why.startswith("Client") or "onnect" in why
    assert next_.startswith("kubectl cluster-info --context main; or work without a cluster")


def failure(**errors: ApiError) -> Failure:
    connection = asyncio.run(_nowhere())
    return live.explain(dict(errors), connection)


async def _nowhere() -> Connection:
    from kubernetes.aio import client as kube

    return Connection(kube.Configuration(), "ctx", "default")


def test_answers_of_the_api_server_become_causes() -> None:
    """401, 403, 404 of a CRD, 500: what, why, next; the first cause hides what follows from it."""
    forbidden = from_status(403, {"reason": "Forbidden", "message": 'nodes is forbidden: User "x" cannot list'}, "GET /api/v1/nodes")
    unauthorized = from_status(401, {"message": "Unauthorized"}, "GET /")
    missing = from_status(404, {"message": "the server could not find the requested resource"}, "GET /")
    broken = from_status(500, {"message": "etcdserver: no leader"}, "GET /api/v1/pods")
    found = failure(nodes=forbidden, modeldeployments=missing)
    assert found.what == "these credentials may not list nodes"
    assert "cannot list" in found.why
    assert found.next.startswith("kubectl auth can-i list nodes -A --context ctx")
    assert failure(nodes=unauthorized, pods=unauthorized).what == "the API server does not accept these credentials"
    gone = failure(modeldeployments=missing, hardwareprofiles=missing)
    assert gone.what == "the cluster does not know hardwareprofiles.polyfleet.io, modeldeployments.polyfleet.io"
    assert gone.next.startswith("helm install polyfleet")
    assert failure(pods=broken).what == "cannot list pods"
    assert "no leader" in failure(pods=broken).why
    dead = Unavailable(0, "NoConnection", "refused", where="GET /")
    assert "does not answer" in failure(pods=dead, nodes=forbidden).what


@pytest.mark.parametrize(("name", "count"), [("cli.md", 7), ("simulate.md", 1)])
def test_the_page_shows_what_the_commands_print(name: str, count: int) -> None:
    """Every block of the page that is one command on the demo shows what that command prints; only the solve's time is free.

    POLYFLEET_REGENERATE_GOLDEN writes the page anew."""
    path = ROOT / "docs" / name
    page = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```\n\$ polyfleet ((?:[^\n]*\\\n)*[^\n]*)\n(.*?)```", page, re.DOTALL)
    blocks = [(command.replace("\\\n", " "), text) for command, text in blocks if "demo" in command]
    assert len(blocks) == count
    for command, text in blocks:
        line, _, tail = command.partition(" | tail -")
        printed = polyfleet(*shlex.split(line)).out
        if tail:
            printed = "".join(printed.splitlines(keepends=True)[-int(tail) :])
        if os.environ.get("POLYFLEET_REGENERATE_GOLDEN") and untimed(text) != untimed(printed):
            page = page.replace(text, printed)
            path.write_text(page, encoding="utf-8")
        else:
            assert untimed(text) == untimed(printed)
