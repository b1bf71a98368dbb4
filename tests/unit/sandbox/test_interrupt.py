"""An interrupt ends the command with 130, also where Python turns it into another error."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from sandbox import cli


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_inside_popen_is_an_interrupt(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`subprocess.Popen` that is interrupted closes its error pipe twice: OSError EBADF comes out instead of KeyboardInterrupt."""

    def run(options: object) -> int:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.close(1_000_000)  # no such descriptor
        return 0

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(cli, "_run", run)
    try:
        assert cli.main(["status"]) == 130
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert capsys.readouterr().err == "polyfleet-sandbox: interrupted\n"


def test_the_same_error_without_an_interrupt_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(options: object) -> int:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(cli, "_run", run)
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert cli.main(["status"]) == 1
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert "Bad file descriptor. See: polyfleet-sandbox status" in capsys.readouterr().err
