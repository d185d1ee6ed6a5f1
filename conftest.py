"""Settings of all test runs of this project."""

import gc
import signal

from hypothesis import HealthCheck, settings

# How long a test takes says more of the machine than of the code. In CI, Hypothesis's own profile says the same.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("untimed")

# A shell that runs the tests in the background makes them ignore Ctrl-C, and so would the programs that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep the collected tests out of later collections of garbage, each of which would walk over all of them."""
    gc.collect()
    gc.freeze()
