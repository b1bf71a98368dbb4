"""docs/autoscaling.md states constants of the policy: those that hold today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoscaling import policy

PAGE = " ".join((Path(__file__).parents[3] / "docs" / "autoscaling.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("told", "constants"),
    [
        (r"The mean of the last minutes \((\d+) s\)", (policy.LEVEL_S,)),
        (r"grow when level \+ ([\d.]+) standard deviations .*?, to level \+ ([\d.]+)\.", (policy.ASK_SIGMAS, policy.GIVE_SIGMAS)),
        (r"the highest need of the window \((\d+) s, or", (policy.WINDOW_S,)),
        (r"first window \(the longer of (\d+) s and ([\d.]+) horizons\)", (policy.FIRST_S, policy.FIRST_HORIZONS)),
        (r"absent, stale for (\d+) s", (policy.STALE_S,)),
        (r"more late requests than the percentile allows, for (\d+) s", (policy.GUARD_HOT_S,)),
    ],
)
def test_the_page_states_the_constants_of_today(told: str, constants: tuple[float, ...]) -> None:
    found = re.search(told, PAGE)
    assert found is not None, told
    assert tuple(float(number) for number in found.groups()) == constants
