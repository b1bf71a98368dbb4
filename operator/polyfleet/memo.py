"""Results that depend on one HardwareProfile and on hashable values, kept from one model to the next.

A fleet has thousands of models and few different shapes, loads and profiles, so most questions to the estimator were asked before. The
profile is compared by identity (it is a frozen model, and equality would cost more than the answer) and kept alive with its answers, so
that no other object can take its place. A pure function stays one: the same question gets the same answer, only sooner.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from hwprofiles import HardwareProfileSpec

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """At most `profiles` profiles with `answers` answers each; the profile that was used longest ago goes first."""

    def __init__(self, profiles: int = 64, answers: int = 16_384) -> None:
        self._most, self._answers = profiles, answers
        self._found: OrderedDict[int, tuple[HardwareProfileSpec, dict[Hashable, Value]]] = OrderedDict()

    def get(self, profile: HardwareProfileSpec, key: Hashable, make: Callable[[], Value]) -> Value:
        held = self._found.get(id(profile))
        if held is None:
            held = self._found[id(profile)] = (profile, {})
            if len(self._found) > self._most:
                self._found.popitem(last=False)
        else:
            self._found.move_to_end(id(profile))
        answers = held[1]
        if key in answers:
            return answers[key]
        if len(answers) >= self._answers:
            answers.clear()
        value = answers[key] = make()
        return value
