"""The pytest plugin: the fixture ``seedbed``, a running mock server that starts over for every test.

The plugin also loads the plugin of the contract test suite, whose options pytest must know before it collects tests.

It is imported in every test run where Seedbed is installed, so that it imports only pytest before a test uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from seedbed_mock.testing import MockServer


_FIXTURE = "seedbed"
_SUITE = "seedbed_contract.suite"

# Tests do not wait, and cannot run out of credits, unless a marker says otherwise.
_OPTIONS: dict[str, Any] = {"task_seconds": 0, "rate_limit": "off", "credits": 1_000_000}


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load the plugin of the contract test suite if the command line names that suite."""
    if any(_SUITE in arg.replace("/", ".").replace("\\", ".") for arg in args):
        early_config.pluginmanager.import_plugin(f"{_SUITE}.plugin")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "seedbed(**options): options of the fixture seedbed in this test, such as task_seconds=30, "
        'clock="manual" or dialect="observed"; see seedbed serve --help.',
    )


@pytest.fixture(scope="session")
def seedbed() -> Iterator[MockServer]:
    """A mock server on a free port, which starts over for every test.

    Its tasks end at once and its accounts have a million credits; the marker ``seedbed`` changes this and more.
    """
    from seedbed_mock.server import running  # see the module's docstring

    with running(**_OPTIONS) as server:
        yield server


@pytest.fixture(autouse=True)
def _seedbed_starts_over(request: pytest.FixtureRequest) -> None:
    if _FIXTURE not in request.fixturenames:
        return
    server: MockServer = request.getfixturevalue(_FIXTURE)
    options: dict[str, Any] = {}
    # The nearest marker comes first, and takes precedence.
    for marker in reversed(list(request.node.iter_markers(_FIXTURE))):
        if marker.args:
            pytest.fail(
                f"The marker seedbed takes options by name, such as task_seconds=30, not {marker.args[0]!r}.",
                pytrace=False,
            )
        options |= marker.kwargs
    server.play(**{**_OPTIONS, **options})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test in which the server had an internal error."""
    try:
        result = yield
    except BaseException as failure:
        for error in _take_errors(item):
            failure.add_note(f"The mock server failed in this test, too: {error!r}")
        raise
    if errors := _take_errors(item):
        raise errors[0] if len(errors) == 1 else ExceptionGroup("The mock server failed in this test", errors)
    return result


def _take_errors(item: pytest.Item) -> list[Exception]:
    server: MockServer | None = getattr(item, "funcargs", {}).get(_FIXTURE)
    errors: list[Exception] = list(server.errors) if server else []
    if server:
        server.errors.clear()
    return errors
