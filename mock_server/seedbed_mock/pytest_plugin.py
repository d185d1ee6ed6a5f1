"""The pytest plugin: the fixture ``seedbed``.

Loaded in every test run of every project beside which Seedbed is installed, so it imports nothing but pytest before
a test asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_mock.server import Running


@pytest.fixture(scope="session")
def seedbed() -> Iterator[Running]:
    """A fake service on a free port, whose tasks take no time and can be paid for as long as the tests run."""
    from seedbed_mock.server import running  # noqa: PLC0415 (see the module's docstring)

    with running(task_seconds=0, rate_limit="off", credits=1_000_000) as server:
        yield server
