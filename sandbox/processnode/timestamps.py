"""Times as Kubernetes writes them: seconds for objects, microseconds for leases, nanoseconds in logs."""

from datetime import UTC, datetime


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def seconds(moment: datetime) -> str:
    """RFC 3339 with seconds, the form of metav1.Time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micros(moment: datetime) -> str:
    """RFC 3339 with microseconds, the form of metav1.MicroTime."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str) -> datetime:
    """Read an RFC 3339 time; digits beyond microseconds are dropped."""
    head, dot, fraction = text.removesuffix("Z").partition(".")
    if not text.endswith("Z"):
        return datetime.fromisoformat(text)
    return datetime.fromisoformat(f"{head}{dot}{fraction[:6].ljust(6, '0') if dot else ''}+00:00")
