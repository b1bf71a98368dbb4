"""What the agent knows about a pod's containers: plain values, kept by the workers and read by `status`."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from sandbox.processnode import timestamps
from sandbox.processnode.backoff import Backoff


@dataclass(frozen=True)
class Waiting:
    """The container does not run yet, or not again yet."""

    reason: str
    message: str = ""

    def to_status(self) -> dict[str, Any]:
        """As a ContainerState."""
        return {"waiting": {"reason": self.reason, **({"message": self.message} if self.message else {})}}


@dataclass(frozen=True)
class Running:
    """The container runs."""

    started_at: datetime

    def to_status(self) -> dict[str, Any]:
        """As a ContainerState."""
        return {"running": {"startedAt": timestamps.seconds(self.started_at)}}


@dataclass(frozen=True)
class Terminated:
    """The container has ended."""

    exit_code: int
    reason: str
    finished_at: datetime
    started_at: datetime | None = None
    signal: int = 0
    message: str = ""
    container_id: str = ""

    def to_status(self) -> dict[str, Any]:
        """As a ContainerState."""
        body: dict[str, Any] = {"exitCode": self.exit_code, "reason": self.reason, "finishedAt": timestamps.seconds(self.finished_at)}
        if self.started_at:
            body["startedAt"] = timestamps.seconds(self.started_at)
        if self.signal:
            body["signal"] = self.signal
        if self.message:
            body["message"] = self.message
        if self.container_id:
            body["containerID"] = self.container_id
        return {"terminated": body}

    @classmethod
    def from_status(cls, body: dict[str, Any]) -> Self:
        """From the state directory, which keeps it in the same form."""
        return cls(
            exit_code=body["exitCode"],
            reason=body["reason"],
            finished_at=timestamps.parse(body["finishedAt"]),
            started_at=timestamps.parse(body["startedAt"]) if "startedAt" in body else None,
            signal=body.get("signal", 0),
            message=body.get("message", ""),
            container_id=body.get("containerID", ""),
        )


@dataclass
class ContainerRecord:
    """One container's life so far."""

    name: str
    image: str
    state: Waiting | Running | Terminated
    is_init: bool = False
    last: Terminated | None = None
    restarts: int = 0
    attempt: int = 0
    """Number of the current or last run; its folder carries this name. 0 = none was started yet."""
    started: bool = False
    ready: bool = False
    done: bool = False
    """No further run will come."""
    container_id: str = ""
    backoff: Backoff = field(default_factory=Backoff)

    def to_json(self) -> dict[str, Any]:
        """What has to survive the agent. Whether the current run is still alive is told by its folder."""
        return {
            "attempt": self.attempt,
            "restarts": self.restarts,
            "last": self.last.to_status()["terminated"] if self.last else None,
            "ended": self.state.to_status()["terminated"] if isinstance(self.state, Terminated) else None,
            "done": self.done,
            "backoff": self.backoff.to_json(),
        }

    def restore(self, data: dict[str, Any]) -> None:
        """Take over what an earlier agent wrote."""
        self.attempt, self.restarts, self.done = data["attempt"], data["restarts"], data["done"]
        self.last = Terminated.from_status(data["last"]) if data["last"] else None
        self.backoff = Backoff.from_json(data["backoff"])
        if data["ended"]:
            self.state = Terminated.from_status(data["ended"])
