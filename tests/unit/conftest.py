"""No test asserts timing, so no property test has a deadline for an example either: others may have the cores for longer than that."""

from hypothesis import settings

settings.register_profile("polyfleet", deadline=None)  # else as it is by default, which differs in continuous integration
settings.load_profile("polyfleet")
