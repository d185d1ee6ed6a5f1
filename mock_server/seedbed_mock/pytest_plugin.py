"""The pytest plugin: fixtures of running mock servers, of which ``seedbed`` starts over for every test.

The plugin also loads the plugin of the contract test suite, whose options pytest must know before it collects tests.

It is imported in every test run where Seedbed is installed, so that it imports only pytest before a test uses it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from seedbed_mock.testing import AsyncMockServer, MockServer


_FIXTURE = "seedbed"
_SUITE = "seedbed_contract.suite"
_KEEP = "keep_state"

# Tests do not wait, and cannot run out of credits, unless a marker says otherwise.
_OPTIONS: dict[str, Any] = {"task_seconds": 0, "rate_limit": "off", "credits": 1_000_000}

_servers = pytest.StashKey[list["MockServer"]]()
_kept = pytest.StashKey[tuple[object, ...] | None]()


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load the plugin of the contract test suite if the command line names that suite."""
    if any(_SUITE in arg.replace("/", ".").replace("\\", ".") for arg in args):
        early_config.pluginmanager.import_plugin(f"{_SUITE}.plugin")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "seedbed(**options): options of the fixture seedbed in this test, such as task_seconds=30, "
        'clock="manual" or dialect="observed"; see seedbed serve --help. With keep_state=True, the server does not '
        "start over between the tests of a module that have the same options.",
    )
    config.stash[_servers] = []
    config.stash[_kept] = None


@pytest.fixture(scope="session")
def seedbed_factory(pytestconfig: pytest.Config) -> Iterator[Callable[..., MockServer]]:
    """A function that starts mock servers: ``seedbed_factory(task_seconds=30)``, with options of ``seedbed serve``.

    What an option does not set is as with the fixture ``seedbed``. A server runs until the end of the session, until
    its ``with`` block ends, or until its ``stop()`` is called. The fixture can be used in fixtures of any scope.
    """
    # See the module's docstring.
    from seedbed_mock.options import ServerOptions
    from seedbed_mock.server import start_server

    with ExitStack() as stack:

        def start(**options: Any) -> MockServer:
            server = stack.enter_context(start_server(ServerOptions.from_keywords({**_OPTIONS, **options})))
            pytestconfig.stash[_servers].append(server)
            return server

        yield start


@pytest.fixture(scope="session")
def seedbed(seedbed_factory: Callable[..., MockServer]) -> MockServer:
    """A mock server on a free port, which starts over for every test.

    Its tasks end at once and its accounts have a million credits; the marker ``seedbed`` changes this and more.
    """
    return seedbed_factory()


@pytest.fixture
def aseedbed(seedbed: MockServer) -> AsyncMockServer:
    """The server of the fixture ``seedbed`` for async tests: its methods are awaited, with asyncio or trio."""
    from seedbed_mock.testing import AsyncMockServer  # see the module's docstring

    return AsyncMockServer(seedbed)


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
    module = request.node.getparent(pytest.Module)
    kept = (module, repr(sorted(options.items()))) if options.pop(_KEEP, False) else None
    if kept is None or request.config.stash[_kept] != kept:
        # None first, in case the options are invalid.
        request.config.stash[_kept] = None
        try:
            server.play(**{**_OPTIONS, **options})
        except ValueError as error:
            pytest.fail(f"The marker seedbed has an invalid option: {error}", pytrace=False)
        request.config.stash[_kept] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Fail the set-up of a test if a server has an internal error in it."""
    return (yield from _with_errors_of_servers(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test in which a server has an internal error."""
    return (yield from _with_errors_of_servers(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fail the tear-down of a test if a server has an internal error in it."""
    return (yield from _with_errors_of_servers(item))


def _with_errors_of_servers(item: pytest.Item) -> Generator[None, object, object]:
    try:
        result = yield
    except BaseException as failure:
        for error in _take_errors(item):
            failure.add_note(f"The mock server failed here, too: {error!r}")
        raise
    if errors := _take_errors(item):
        raise errors[0] if len(errors) == 1 else ExceptionGroup("The mock server failed here", errors)
    return result


def _take_errors(item: pytest.Item) -> list[Exception]:
    errors: list[Exception] = []
    for server in item.config.stash[_servers]:
        errors += server.errors
        server.errors.clear()
    return errors
