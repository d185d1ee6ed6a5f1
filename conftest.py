"""Settings of all test runs of this project."""

import gc
import signal
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# How long a test takes says more of the machine than of the code. In CI, Hypothesis's own profile says the same.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("untimed")

_MEASURED = 3
"""How many tests of one function .ci/run runs with coverage, which takes longer than the tests themselves."""

# A shell that runs the tests in the background makes them ignore Ctrl-C, and so would the programs that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep the collected tests out of later collections of garbage, each of which would walk over all of them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that differ from earlier ones in their parameters only, which run the same lines once more."""
    seen: Counter[tuple[object, str]] = Counter()
    for item in items:
        if isinstance(item, pytest.Function):
            test = (item.parent, item.originalname)
            seen[test] += 1
            if seen[test] > _MEASURED:
                item.add_marker("repeated")
