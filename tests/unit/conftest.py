"""What holds for all unit tests: no example has a deadline, and what a test is done with is let go.

No test asserts timing, so no property test asserts that an example takes less than so long either: others may have the cores meanwhile.
"""

import gc
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

settings.register_profile("polyfleet", deadline=None)  # else as it is by default, which differs in continuous integration
settings.load_profile("polyfleet")


def pytest_collection_finish() -> None:
    """Some 5,000 tests and their modules live to the end: no collection need look through them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def let_servers_go() -> Callable[[], None]:
    """aiohttp remembers the handlers of the last 1,024 routes that were asked, and with them their servers and what these loaded: 3 GB in
    the end. The memory is aiohttp's own affair; where it has another name this frees nothing."""

    def let_go() -> None:
        remembered = getattr(sys.modules.get("aiohttp.web_app"), "_cached_build_middleware", None)
        if remembered is not None and remembered.cache_info().currsize:
            remembered.cache_clear()
            gc.collect()

    return let_go


@pytest.fixture(scope="module", autouse=True)
def _servers_gone(let_servers_go: Callable[[], None]) -> Iterator[None]:
    yield
    let_servers_go()
