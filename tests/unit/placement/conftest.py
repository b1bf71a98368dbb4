"""A plan has the time that it needs: its default limit of ten seconds is for an operator's cycle, and no test asserts timing."""

import pytest

from placement import Policy
from placement._solver.answers import Watchdog


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds of the clock are less than one of the processor where others have the cores. A test that names a limit has that one."""
    begin, default = Watchdog.__init__, Policy().time_limit_s

    def patient(self: Watchdog, seconds: float) -> None:
        begin(self, 60 * seconds if seconds == default else seconds)

    monkeypatch.setattr(Watchdog, "__init__", patient)
