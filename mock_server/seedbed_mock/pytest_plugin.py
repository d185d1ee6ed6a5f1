"""The pytest plugin: the fixture ``seedbed``, a live fake that begins afresh with every test.

It is also the door of the suite of contract tests, whose options pytest has to know before it collects anything.

Loaded in every test run of every project beside which Seedbed is installed, so it imports nothing but pytest before
a test asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from seedbed_mock.testing import MockServer


_FIXTURE = "seedbed"
_SUITE = "seedbed_contract.suite"
_WORDS: dict[str, Any] = {"task_seconds": 0, "rate_limit": "off", "credits": 1_000_000}
"""How the fixture plays where no marker says otherwise: tests wait for nothing, and money is no object."""


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load what the suite of contract tests brings, its options above all, in the runs that ask for that suite."""
    if any(_SUITE in arg.replace("/", ".").replace("\\", ".") for arg in args):
        early_config.pluginmanager.import_plugin(f"{_SUITE}.plugin")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "seedbed(**words): how the fixture seedbed plays in this test; the flags of `seedbed serve` without dashes, "
        'such as task_seconds=30, clock="manual" or dialect="observed".',
    )


@pytest.fixture(scope="session")
def seedbed() -> Iterator[MockServer]:
    """A fake service on a free port, which begins afresh with every test.

    Its tasks take no time and can be paid for as long as the test runs; the marker ``seedbed`` says otherwise.
    """
    from seedbed_mock.server import running  # noqa: PLC0415 (see the module's docstring)

    with running(**_WORDS) as server:
        yield server


@pytest.fixture(autouse=True)
def _seedbed_begins_afresh(request: pytest.FixtureRequest) -> None:
    if _FIXTURE not in request.fixturenames:
        return
    server: MockServer = request.getfixturevalue(_FIXTURE)
    words: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(_FIXTURE))):
        if marker.args:
            pytest.fail(
                f"The marker seedbed takes words such as task_seconds=30, not {marker.args[0]!r}.", pytrace=False
            )
        words |= marker.kwargs
    server.play(**{**_WORDS, **words})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test fail in which the server itself did."""
    try:
        result = yield
    except BaseException as failure:
        for error in _taken_errors(item):
            failure.add_note(f"Seedbed failed in this test, too: {error!r}")
        raise
    if errors := _taken_errors(item):
        raise errors[0] if len(errors) == 1 else ExceptionGroup("Seedbed failed in this test", errors)
    return result


def _taken_errors(item: pytest.Item) -> list[Exception]:
    server: MockServer | None = getattr(item, "funcargs", {}).get(_FIXTURE)
    errors = list(server.errors) if server else []
    if server:
        server.errors.clear()
    return errors
