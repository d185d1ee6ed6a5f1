"""One test for each check, named after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from seedbed_contract.checks import CHECKS
from seedbed_contract.detection import CannotJudge
from seedbed_contract.suite.judging import Broken, Suite
from seedbed_contract.wire import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Iterator

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
            Broken: It found something.
        """
        result, found = Suite.of(self.config).make(self.check)
        if result.reason:
            self.user_properties.append(("not judged", result.reason))
        if found:
            raise Broken(found)
        if not result.judged:
            pytest.skip(result.reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Tell what is wrong with the target without how this was found out."""
        if isinstance(excinfo.value, Broken | CannotJudge | OutOfTime):
            return Suite.of(self.config).told(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return where the test is, and what it is called."""
        return self.path, None, self.name
