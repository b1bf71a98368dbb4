"""What a request of a model looks like lately: mean tokens in and out, and the share of prompts found in the cache.

Sums decay with `MIX_S` seconds, so the means follow a change of the mix; an all-time mean cost 9 % of all hours on `ramp5`. Output tokens
per request are tokens generated over requests that ended plus half of the growth of those that run: a request that runs has generated half
of its output on average, and without that term a rising load looks longer than it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from autoscaling.counters import Rates
from autoscaling.policy import MIX_S, PRIOR_REQUESTS
from autoscaling.types import Costs, Slice


@dataclass(frozen=True, slots=True)
class Mix:
    """Decayed sums of requests and tokens, and the means before any were seen (learned earlier, or stated); None = no idea."""

    begun: float = 0.0
    prompt: float = 0.0
    ended: float = 0.0  # and half of the growth of those that run
    output: float = 0.0
    cached: float = 0.0
    queried: float = 0.0
    first_prompt: float | None = None
    first_output: float | None = None

    @property
    def mean_prompt(self) -> float | None:
        return _mean(self.prompt, self.begun, self.first_prompt)

    @property
    def mean_output(self) -> float | None:
        return _mean(self.output, self.ended, self.first_output)

    @property
    def missed(self) -> float:
        """Share of a prompt that must be computed, 0 to 1."""
        return 1.0 - min(1.0, self.cached / self.queried) if self.queried >= 1.0 else 1.0

    def work(self, costs: Costs, role: Slice, requests: float, prompt: float | None, output: float | None = None) -> float | None:
        """Work of so many requests with these prompt tokens, reference work-seconds (or per second, if the arguments are rates). Without
        `prompt` the mean stands in; `output` stands in for the mean while that is unknown. None = not known."""
        total = 0.0
        if role is not Slice.DECODE and costs.prompt > 0.0:
            if prompt is None:
                mean = self.mean_prompt
                if mean is None:
                    return None if requests > 0.0 else 0.0
                prompt = requests * mean
            total += costs.prompt * prompt * self.missed
        if role is not Slice.PREFILL and costs.output > 0.0:
            mean = self.mean_output
            if mean is None and output is None:
                return None if requests > 0.0 else 0.0
            total += costs.output * (requests * mean if mean is not None else output or 0.0)
        return total


def _mean(tokens: float, requests: float, prior: float | None) -> float | None:
    if prior is None:
        return tokens / requests if requests >= 1.0 else None
    return (tokens + PRIOR_REQUESTS * prior) / (requests + PRIOR_REQUESTS) if requests > 0.0 else prior


def follow(mix: Mix, rates: list[Rates], seconds: float) -> Mix:
    """The mix after `seconds` in which the replicas had these rates; those of unread replicas are left out. While nobody comes the sums
    decay, but what a request looks like is not forgotten: the mean becomes what is known before anything was seen."""
    if seconds <= 0.0 or not rates:
        return mix
    keep = exp(-seconds / MIX_S)
    begun = prompt = ended = output = cached = queried = 0.0
    for r in rates:
        if r.prompt is not None and r.requests is not None:
            begun += max(0.0, r.requests - r.waiting)
            prompt += r.prompt
        if r.output is not None and r.finished is not None:
            ended += r.finished + 0.5 * r.running
            output += r.output
        cached += min(r.cached, r.queried)
        queried += r.queried
    return Mix(
        mix.begun * keep + begun * seconds,
        mix.prompt * keep + prompt * seconds,
        max(0.0, mix.ended * keep + ended * seconds),
        mix.output * keep + output * seconds,
        mix.cached * keep + cached * seconds,
        mix.queried * keep + queried * seconds,
        mix.mean_prompt if begun <= 0.0 else mix.first_prompt,
        mix.mean_output if ended <= 0.0 else mix.first_output,
    )
