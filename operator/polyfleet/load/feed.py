"""The newest reading of every replica, from poll to poll: what the autoscaler's tick calls. Keeps a reading when a later poll gives none,
with its age in its stamp, so that the decision can tell old from absent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from autoscaling.types import Sample
from polyfleet.inputs import Inputs, ModelView
from polyfleet.load.scraper import Scraper
from polyfleet.load.tally import Tally
from polyfleet.load.targets import targets
from polyfleet.snapshot import standings


@dataclass(frozen=True, slots=True)
class Latest:
    """By pod uid. `samples`: the newest of each, whatever its age; `failed`: why the last poll gave none."""

    samples: Mapping[str, Sample] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def scaled(view: ModelView) -> bool:
    return view.spec is not None and view.spec.scaling is not None and not view.spec.suspend


@dataclass(slots=True)
class Feed:
    """`poll` once per tick; `close` at the end. `asks` says of which models."""

    scraper: Scraper
    tally: Tally | None = None
    asks: Callable[[ModelView], bool] = scaled
    _samples: dict[str, Sample] = field(default_factory=dict)

    async def poll(self, inputs: Inputs, now: float) -> Latest:
        """`now`: seconds since 1970. Replicas that are gone are forgotten; so are those of models that nobody asks for any more."""
        models = [key for key, view in sorted(inputs.models.items()) if self.asks(view)]
        found = await self.scraper.poll(targets(inputs, models), now)
        there = set(_uids(inputs.models[key] for key in models))
        self._samples = {uid: each for uid, each in self._samples.items() if uid in there}
        self._samples.update((uid, each) for uid, each in found.items() if isinstance(each, Sample))
        if self.tally is not None:
            self.tally.prune(_uids(inputs.models.values()))
        return Latest(dict(self._samples), {uid: each.text for uid, each in found.items() if not isinstance(each, Sample)})

    async def close(self) -> None:
        await self.scraper.close()


def _uids(views: Iterable[ModelView]) -> list[str]:
    return [item.pod.uid for view in views for item in standings(view)]
