"""One test for each check, named after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest

from seedbed_contract.checks import CHECKS
from seedbed_contract.detection import CannotCheckError
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.suite.run import BrokenClauseError, Suite
from seedbed_contract.target import DialectName, HttpStatusName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

    from seedbed_contract.checks import Check


class SuiteFile(pytest.File):
    """Collects the checks."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each check."""
        for check in CHECKS:
            yield CheckItem.from_parent(self, name=check.name, check=check)


class CheckItem(pytest.Item):
    """A check as a test."""

    def __init__(self, *, check: Check, **words: Any) -> None:
        super().__init__(**words)
        self.check = check

    def runtest(self) -> None:
        """Make the check.

        Raises:
            BrokenClauseError: It found something.
        """
        result, found = Suite.of(self.config).make(self.check)
        if result.reason:
            self.user_properties.append(("not judged", result.reason))
        if found:
            raise BrokenClauseError(found)
        if not result.is_checked:
            pytest.skip(result.reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Tell what is wrong with the target without how this was found out."""
        if isinstance(excinfo.value, BrokenClauseError | CannotCheckError | OutOfTimeError):
            return Suite.of(self.config).told(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return where the test is, and what it is called."""
        return self.path, None, self.name


_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "--target": {"metavar": "URL", "help": "Where the server is that shall be judged."},
    "--key": {"metavar": "KEY", "help": "A key to it; else SEEDBED_API_KEY, else the local fake's own."},
    "--second-key": {"metavar": "KEY", "default": "", "help": "A key of another account."},
    "--signing-key": {"metavar": "KEY", "default": "", "help": "What signs the callbacks of the account."},
    "--dialect": {"choices": get_args(DialectName), "default": "auto", "help": "How it answers."},
    "--http-status": {"choices": get_args(HttpStatusName), "default": "auto", "help": "How it carries its codes."},
    "--fail-prompt": {"metavar": "TEXT", "default": "", "help": "A prompt that makes a task of it fail."},
    "--callback-host": {"metavar": "HOST", "default": "", "help": "How it reaches this machine, if not by loopback."},
    "--require": {"metavar": "NAME", "action": "append", "default": [], "help": "What it must have; repeatable."},
    "--spend": {"metavar": "CREDITS", "default": "0", "help": "What may be spent where it is not on this machine."},
    "--max-examples": {"metavar": "N", "type": int, "default": 100, "help": "Random requests of each search."},
    "--time-limit": {"metavar": "S", "type": float, "default": 60.0, "help": "Seconds that the checks may take."},
}
_COLLECTED: Final = Path(__file__).with_name("contract.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``seedbed check``; the seed is that of ``--hypothesis-seed``."""
    group = parser.getgroup("seedbed", "contract tests")
    for name, words in _OPTIONS.items():
        group.addoption(name, dest=f"seedbed_{name.removeprefix('--').replace('-', '_')}", **words)


def pytest_configure(config: pytest.Config) -> None:
    """Take the options.

    Raises:
        UsageError: There is no target, or it cannot be judged like this.
    """
    if not config.option.help:
        config.pluginmanager.register(Suite(config), Suite.NAME)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the suite by its own rules, whatever the names of tests in the project that runs it."""
    return SuiteFile.from_parent(parent, path=file_path) if file_path == _COLLECTED else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the order of the checks, which build on each other, where something else has shuffled the tests."""
    Suite.of(config).order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    """Keep what makes tasks on one worker, so that plain ``-n 2`` does it."""
    from seedbed_contract.suite.spread import scheduler  # noqa: PLC0415  there need not be pytest-xdist

    return scheduler(config, log, is_local=Suite.of(config).is_local)
