"""The pytest plugin of the suite: its options, one test for each check, and their groups under pytest-xdist.

Checks share state. A check that creates tasks uses the tasks of the checks before it, and a random search skips the
clauses that already have a finding. So all checks that create tasks form one ``xdist_group``, and the others form a
second one; each group runs on one worker. If the target is remote, all checks form one group, because credits and
rates are counted by one run. Groups need ``--dist loadgroup``, which the plugin sets when you pass ``-n``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest

from seedbed_contract.checks import CHECKS
from seedbed_contract.detection import CannotCheckError
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.suite.run import CheckFailedError, Suite
from seedbed_contract.target import DialectName, HttpStatusName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.checks import Check


_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "--target": {"metavar": "URL", "help": "Base URL of the server to check."},
    "--key": {"metavar": "KEY", "help": "API key; default: SEEDBED_API_KEY, or the mock server's key on this machine."},
    "--second-key": {"metavar": "KEY", "default": "", "help": "API key of another account."},
    "--signing-key": {"metavar": "KEY", "default": "", "help": "Key that signs the callbacks of the account."},
    "--dialect": {"choices": get_args(DialectName), "default": "auto", "help": "Dialect of the server."},
    "--http-status": {
        "choices": get_args(HttpStatusName),
        "default": "auto",
        "help": "HTTP status mode of the server.",
    },
    "--fail-prompt": {"metavar": "TEXT", "default": "", "help": "Prompt that makes a task fail on the server."},
    "--callback-host": {"metavar": "HOST", "default": "", "help": "Host name of this machine, as the server sees it."},
    "--require": {"metavar": "NAME", "action": "append", "default": [], "help": "Required capability; repeatable."},
    "--spend": {"metavar": "CREDITS", "default": "0", "help": "Credits that a run may spend on a remote server."},
    "--max-examples": {"metavar": "N", "type": int, "default": 100, "help": "Random requests of each search."},
    "--time-limit": {"metavar": "S", "type": float, "default": 60.0, "help": "Time limit of the run in seconds."},
}
_SPREADING: Final = frozenset({"load", "worksteal"})
"""Modes of ``--dist`` that send each test to any worker, whatever its group."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``seedbed check``; ``--hypothesis-seed`` sets the seed."""
    group = parser.getgroup("seedbed", "contract tests")
    for name, settings in _OPTIONS.items():
        group.addoption(name, dest=f"seedbed_{name.removeprefix('--').replace('-', '_')}", **settings)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, and let pytest-xdist keep the groups together.

    Raises:
        UsageError: The target is missing, an option is invalid, or every worker would run every check.
    """
    if config.option.help:
        return
    config.pluginmanager.register(Suite(config), Suite.NAME)
    distribution = getattr(config.option, "dist", "no")  # absent if pytest-xdist is not installed
    if distribution == "each":
        raise pytest.UsageError("The checks share one account, so they cannot run with --dist each.")
    if distribution in _SPREADING:
        # Read by pytest-xdist in its own pytest_configure, which runs last.
        config.option.dist = "loadgroup"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the checks from this file, whatever pattern the project has for its test files."""
    return SuiteFile.from_parent(parent, path=file_path) if file_path == Path(__file__) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Restore the order of the checks, which build on each other, if another plugin shuffled the tests.

    Other tests keep their places.
    """
    rank = {check.name: place for place, check in enumerate(CHECKS)}
    places = [place for place, item in enumerate(items) if isinstance(item, CheckItem)]
    checks = sorted((items[place] for place in places), key=lambda item: rank[item.name])
    for place, item in zip(places, checks, strict=True):
        items[place] = item


class SuiteFile(pytest.File):
    """Collects one test for each check."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the tests."""
        is_local = Suite.of(self.config).is_local
        for check in CHECKS:
            item = CheckItem.from_parent(self, name=check.name, check=check)
            if self.config.pluginmanager.hasplugin("xdist"):  # which registers the marker
                group = "seedbed-tasks" if check.makes_tasks or not is_local else "seedbed-refusals"
                item.add_marker(pytest.mark.xdist_group(group))
            yield item


class CheckItem(pytest.Item):
    """A check as a test."""

    def __init__(self, *, check: Check, **named: Any) -> None:
        super().__init__(**named)
        self.check = check

    def runtest(self) -> None:
        """Run the check.

        Raises:
            CheckFailedError: The check has new findings.
        """
        result, findings = Suite.of(self.config).run_check(self.check)
        if result.reason:
            self.user_properties.append(("not checked", result.reason))
        if findings:
            raise CheckFailedError(findings)
        if not result.is_checked:
            pytest.skip(result.reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the findings, or the reason why the target cannot be checked, without a traceback."""
        if isinstance(excinfo.value, CheckFailedError | CannotCheckError | OutOfTimeError):
            return Suite.of(self.config).describe_failure(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return the file and the name of the test."""
        return self.path, None, self.name
