"""What the command makes of its arguments and of the cluster's objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import cli
from sandbox.errors import SandboxError


def test_service_of_a_model_is_what_its_status_says() -> None:
    """A Service's name may not begin with a digit, so that of mdep/7b is another than the model's; only the status knows it."""
    assert cli.service_of({"status": {"url": "http://m-7b-1f2e3d.default.svc:8000/v1"}}, "mdep/7b") == "m-7b-1f2e3d"


@pytest.mark.parametrize("model", [{}, {"status": {}}, {"status": {"url": ""}}])
def test_model_without_an_address_says_what_to_wait_for(model: dict[str, object]) -> None:
    """A model that the operator has not seen yet has no status."""
    with pytest.raises(SandboxError, match=r"mdep/smol has no address yet.*kubectl get mdep -w"):
        cli.service_of(model, "mdep/smol")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["url", "svc/x"], "allowed: mdep/NAME or pod/NAME"),
        (["url", "mdep/x"], "Start one: polyfleet-sandbox up"),
        (["logs", "x"], "there are: none"),
    ],
)
def test_refusals_are_one_sentence_and_exit_status_1(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback; the sentence names what is allowed or the next command."""
    monkeypatch.setenv("POLYFLEET_SANDBOX_STATE", str(tmp_path / "none"))
    assert cli.main(arguments) == 1
    assert told in capsys.readouterr().err
