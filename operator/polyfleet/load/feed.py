"""The newest reading of every replica, from poll to poll: what the autoscaler's tick calls. Keeps a reading when a later poll gives none,
with its age in its stamp, so that the decision can tell old from absent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from autoscaling.types import Sample
from polyfleet.inputs import Inputs, ModelView
from polyfleet.load.prometheus import Prometheus
from polyfleet.load.scraper import Failed, Found, Scraper
from polyfleet.load.tally import Tally
from polyfleet.load.targets import Target, targets
from polyfleet.snapshot import standings

log = logging.getLogger(__name__)
_MOST_NAMED, _MOST_TEXT = 5, 300


@dataclass(frozen=True, slots=True)
class Latest:
    """By pod uid. `samples`: the newest of each, whatever its age; `failed`: why the last poll gave none; `second`: those whose newest
    sample is of Prometheus."""

    samples: Mapping[str, Sample] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    second: frozenset[str] = frozenset()


def scaled(view: ModelView) -> bool:
    return view.spec is not None and view.spec.scaling is not None and not view.spec.suspend


@dataclass(slots=True)
class Feed:
    """`poll` once per tick; `close` at the end. `asks` says of which models. `prometheus` answers for replicas that do not."""

    scraper: Scraper
    tally: Tally | None = None
    asks: Callable[[ModelView], bool] = scaled
    prometheus: Prometheus | None = None
    _samples: dict[str, Sample] = field(default_factory=dict)
    _second: set[str] = field(default_factory=set)
    _silent: dict[str, bool] = field(default_factory=dict)  # pod uid that gave nothing at the last poll -> whether that was told

    async def poll(self, inputs: Inputs, now: float) -> Latest:
        """`now`: seconds since 1970. Replicas that are gone are forgotten; so are those of models that nobody asks for any more."""
        models = [key for key, view in sorted(inputs.models.items()) if self.asks(view)]
        asked = targets(inputs, models)
        found = dict(await self.scraper.poll(asked, now))
        there = set(_uids(inputs.models[key] for key in models))
        self._samples = {uid: each for uid, each in self._samples.items() if uid in there}
        self._second = {uid for uid in self._second if uid in there and not isinstance(found.get(uid), Sample)}
        if self.prometheus is not None and (silent := [item for item in asked if not isinstance(found.get(item.uid), Sample)]):
            self._take(found, await self.prometheus.poll(silent, now))
        self._samples.update((uid, each) for uid, each in found.items() if isinstance(each, Sample))
        if self.tally is not None:
            self.tally.prune(_uids(inputs.models.values()))
        failed = {uid: each.text for uid, each in found.items() if not isinstance(each, Sample)}
        self._say(asked, failed)
        return Latest(dict(self._samples), failed, frozenset(self._second & self._samples.keys()))

    def _take(self, found: dict[str, Sample | Failed], second: Found) -> None:
        """What Prometheus has is taken where it is no older than what the replica said itself."""
        for uid, each in second.items():
            first, before = found.get(uid), self._samples.get(uid)
            if isinstance(each, Failed):
                found[uid] = Failed(f"{first.text}; {each.text}" if isinstance(first, Failed) else each.text)
            elif before is None or each.at >= before.at:
                found[uid] = each
                self._second.add(uid)

    def _say(self, asked: Iterable[Target], failed: Mapping[str, str]) -> None:
        """Each replica once, at the second poll in a row without a reading: condition MetricsAvailable sends its reader to this line."""
        new = [item for item in asked if item.uid in failed and self._silent.get(item.uid) is False]
        if new:
            detail = "; ".join(f"{item.namespace}/{item.pod}: {failed[item.uid][:_MOST_TEXT]}" for item in new[:_MOST_NAMED])
            more = f"; and {len(new) - _MOST_NAMED} more" if len(new) > _MOST_NAMED else ""
            log.warning("replicas give no load", extra={"detail": detail + more})
        self._silent = {uid: uid in self._silent for uid in failed}

    async def close(self) -> None:
        await self.scraper.close()
        if self.prometheus is not None:
            await self.prometheus.close()


def _uids(views: Iterable[ModelView]) -> list[str]:
    return [item.pod.uid for view in views for item in standings(view)]
