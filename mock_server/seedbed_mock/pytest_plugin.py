"""The pytest plugin: fixtures of running mock servers, of which ``seedbed`` starts over for every test.

The plugin also loads the plugin of the contract test suite, whose options pytest must know before it collects tests.

At the end of a run it says what the calls to all servers of the run would have cost at the real service.

It is imported in every test run where Seedbed is installed, so that it imports only pytest before a test uses it.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from decimal import Decimal

    from seedbed_mock.bill import Bill
    from seedbed_mock.testing import AsyncMockServer, MockServer


_FIXTURE = "seedbed"
_SUITE = "seedbed_contract.suite"
_KEEP = "keep_state"
_SCENARIO = "seedbed_scenario"

# Tests do not wait, and cannot run out of credits, unless a marker says otherwise.
_OPTIONS: dict[str, Any] = {"task_seconds": 0, "rate_limit": "off", "credits": 1_000_000}

_servers = pytest.StashKey[list["MockServer"]]()
_kept = pytest.StashKey[tuple[object, ...] | None]()
_run = pytest.StashKey["_Run"]()


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load the plugin of the contract test suite if the command line names that suite."""
    if any(_SUITE in arg.replace("/", ".").replace("\\", ".") for arg in args):
        early_config.pluginmanager.import_plugin(f"{_SUITE}.plugin")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the limit on what a run would cost."""
    parser.getgroup("seedbed").addoption(
        "--seedbed-max-credits",
        metavar="N",
        help="Fail the run if its calls to mock servers would have cost more than N credits at the real service.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and start the bill of the run."""
    config.addinivalue_line(
        "markers",
        "seedbed(**options): options of the fixture seedbed in this test, such as task_seconds=30, "
        'clock="manual" or dialect="observed"; see seedbed serve --help. With keep_state=True, the server does not '
        "start over between the tests of a module that have the same options.",
    )
    config.addinivalue_line(
        "markers",
        "seedbed_scenario(name): the scenario of the fixture seedbed in this test, by name or file; then "
        "seedbed.verdict() says what the test has lost.",
    )
    config.stash[_servers] = []
    config.stash[_kept] = None
    config.stash[_run] = _Run(config)


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
    if scenario := request.node.get_closest_marker(_SCENARIO):
        if len(scenario.args) != 1 or scenario.kwargs:
            pytest.fail('The marker seedbed_scenario takes one name, such as "storm".', pytrace=False)
        options = {"scenario": scenario.args[0], **options}
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
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Note how a test begins, for its bill."""
    item.config.stash[_run].begin_test()
    return (yield)


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
    """Fail the tear-down of a test if a server has an internal error in it, and note what the test would have cost."""
    item.user_properties += item.config.stash[_run].properties_of_test()
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


# The bill of the run


_WORKER_BILL = "seedbed_bill"


class _Run:
    """The bill of a run; with xdist, that of one worker, or the sum of all in the process that starts them.

    Args:
        config: Configuration of the run.

    Raises:
        pytest.UsageError: The limit is not a number of credits.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.limit = _limit_of(config.getoption("--seedbed-max-credits"))
        # A run inside of another one, as pytester makes it, has a bill of its own.
        self._at_start = self._at_test = _process_bill()
        self._workers: Bill | None = None
        self.lost_workers = 0

    @property
    def bill(self) -> Bill | None:
        """What the run would have cost, ``None`` if it used no server."""
        own = _process_bill()
        if own and self._at_start:
            own -= self._at_start
        return own + self._workers if own and self._workers else own or self._workers

    @property
    def is_too_dear(self) -> bool:
        """Whether the run would have cost more than its limit."""
        bill = self.bill
        return self.limit is not None and bill is not None and bill.credits > self.limit

    def add_worker(self, text: str | None) -> None:
        """Add the bill that a worker of xdist sent at its end; ``None`` if it sent none."""
        if text is None:
            self.lost_workers += 1
        elif text:
            from seedbed_mock.bill import Bill  # see the module's docstring

            self._workers = (self._workers or Bill()) + Bill.from_text(text)

    def begin_test(self) -> None:
        """Note that a test begins."""
        self._at_test = _process_bill()

    def properties_of_test(self) -> list[tuple[str, object]]:
        """Return what a report says of the test that ends; nothing if it would have cost nothing."""
        bill = _process_bill()
        if bill and self._at_test:
            bill -= self._at_test
        return list(_properties(bill).items()) if bill else []


def _limit_of(text: str | None) -> Decimal | None:
    if text is None:
        return None
    from decimal import Decimal, InvalidOperation  # most runs set no limit

    try:
        limit = Decimal(text)
    except InvalidOperation:
        limit = Decimal(-1)
    if not limit.is_finite() or limit < 0:
        raise pytest.UsageError(f"--seedbed-max-credits takes a number of credits, such as 100, not {text!r}.")
    return limit


def _process_bill() -> Bill | None:
    """Return the bill of all servers of this process, ``None`` if there was none."""
    module = sys.modules.get("seedbed_mock.bill")
    bill: Bill | None = module.PROCESS.total() if module else None
    return bill


def _properties(bill: Bill) -> dict[str, object]:
    from seedbed_mock.bill import plain  # see the module's docstring

    wasted = {name: getattr(bill, name) for name in ("paid_twice", "not_fetched", "lost")}
    amounts = {"credits": bill.credits, **{name: amount for name, amount in wasted.items() if amount}}
    properties: dict[str, object] = {f"seedbed_{name}": plain(amount) for name, amount in amounts.items()}
    return properties | {"seedbed_images": bill.images}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Add the bill of a worker of xdist that has ended, or crashed."""
    output = getattr(node, "workeroutput", None)
    node.config.stash[_run].add_worker(None if output is None or error else output.get(_WORKER_BILL, ""))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the bill to the process that collects it, and fail a run that would have cost too much."""
    run, config = session.config.stash[_run], session.config
    bill = run.bill
    output: dict[str, str] | None = getattr(config, "workeroutput", None)
    if output is not None:
        output[_WORKER_BILL] = bill.to_text() if bill else ""
        return
    if run.is_too_dear and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if bill and getattr(config.option, "xmlpath", None):
        # pytest has no public way to add a property of the suite, and writes the file after this hook.
        from _pytest.junitxml import xml_key  # a run without a report does not load it

        if xml := config.stash.get(xml_key, None):
            for name, value in _properties(bill).items():
                xml.add_global_property(name, value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the bill of the run."""
    run = config.stash[_run]
    bill = run.bill
    if not bill and not (run.lost_workers and run.limit is not None):
        return
    terminalreporter.section("seedbed", sep="-")
    if bill:
        terminalreporter.write_line(f"At the real service: {bill.describe()}.")
    if run.lost_workers:
        terminalreporter.write_line(f"Without the calls of {run.lost_workers} crashed worker(s), which are not known.")
    if run.limit is not None and bill and run.is_too_dear:
        from seedbed_mock.bill import plain  # see the module's docstring

        terminalreporter.write_line(
            f"FAILED: {plain(bill.credits)} credits are more than --seedbed-max-credits {plain(run.limit)}.", red=True
        )
