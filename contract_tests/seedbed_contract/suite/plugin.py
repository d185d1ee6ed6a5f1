"""What the suite brings to a run of pytest; loaded in those runs alone that ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest

from seedbed_contract.suite.contract import SuiteFile
from seedbed_contract.suite.judging import Suite
from seedbed_contract.target import DialectName, HttpStatusName

if TYPE_CHECKING:
    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped, unused-ignore]

_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "--target": {"metavar": "URL", "help": "Where the server is that shall be judged."},
    "--target-key": {"metavar": "KEY", "help": "A key to it; else SEEDBED_API_KEY, else the local fake's own."},
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
