"""Startup, readiness and liveness of one container: the kubelet's rules as a state machine without I/O and without a clock.

A probe's answer becomes its result only after enough equal answers in a row (successThreshold, failureThreshold). Until the startup
probe has succeeded the other two do not count. A failed startup or liveness result asks for a restart, once. Readiness starts as
failed, liveness as succeeded; without a probe the state is what a success would make it. (Kubernetes documentation, "Configure
Liveness, Readiness and Startup Probes".)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

STARTUP, READINESS, LIVENESS = "startup", "readiness", "liveness"


@dataclass(frozen=True)
class ProbeSpec:
    """One probe, with the API's defaults."""

    handler: Mapping[str, Any]
    initial_delay_seconds: float = 0.0
    period_seconds: float = 10.0
    timeout_seconds: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_seconds: float | None = None

    @classmethod
    def parse(cls, probe: Mapping[str, Any]) -> Self:
        """From a container's probe field."""
        return cls(
            handler=probe,
            initial_delay_seconds=float(probe.get("initialDelaySeconds") or 0),
            period_seconds=float(probe.get("periodSeconds") or 10),
            timeout_seconds=float(probe.get("timeoutSeconds") or 1),
            success_threshold=int(probe.get("successThreshold") or 1),
            failure_threshold=int(probe.get("failureThreshold") or 3),
            grace_seconds=probe.get("terminationGracePeriodSeconds"),
        )


@dataclass
class Counter:
    """Turns single answers into a result."""

    spec: ProbeSpec
    result: bool
    _last: bool | None = None
    _row: int = 0

    def observe(self, success: bool) -> bool:
        """Count one answer; True when the threshold for it is met, so that ``result`` now holds it."""
        self._row = self._row + 1 if success == self._last else 1
        self._last = success
        if self._row < (self.spec.success_threshold if success else self.spec.failure_threshold):
            return False
        self.result = success
        return True


@dataclass
class ContainerProbes:
    """The probes of one run of one container."""

    specs: Mapping[str, ProbeSpec]
    started: bool = False
    ready: bool = False
    restart_because: str = ""
    _counters: dict[str, Counter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        initial = {STARTUP: False, READINESS: False, LIVENESS: True}
        self._counters = {kind: Counter(spec, initial[kind]) for kind, spec in self.specs.items()}
        self.started = STARTUP not in self.specs
        self._settle()

    @classmethod
    def of(cls, container: Mapping[str, Any]) -> Self:
        """The probes of a container's specification."""
        kinds = [kind for kind in (STARTUP, READINESS, LIVENESS) if container.get(f"{kind}Probe")]
        return cls({kind: ProbeSpec.parse(container[f"{kind}Probe"]) for kind in kinds})

    def resume(self, started: bool, ready: bool) -> None:
        """Take over what was known about a run that is already under way, so that the agent's restart flips nothing."""
        self.started = self.started or started
        if READINESS in self._counters:
            self._counters[READINESS].result = ready
        self._settle()

    def wants(self, kind: str) -> bool:
        """Whether this probe should be asked at this point."""
        if kind not in self.specs or self.restart_because:
            return False
        return not self.started if kind == STARTUP else self.started

    def observe(self, kind: str, success: bool) -> None:
        """Take one answer of a probe."""
        if not self.wants(kind) or not self._counters[kind].observe(success):
            return
        if kind == STARTUP:
            self.started = success
        if kind != READINESS and not success:
            self.restart_because = kind
        self._settle()

    def _settle(self) -> None:
        self.ready = self.started and (READINESS not in self._counters or self._counters[READINESS].result)
