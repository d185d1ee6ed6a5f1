"""How the checks are spread over the workers of pytest-xdist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

from seedbed_contract.checks import CHECKS

if TYPE_CHECKING:
    from xdist.remote import Producer  # type: ignore[import-untyped]


_OURS: Final = "contract.py"
_ALL: Final = "seedbed"
_MAKES_TASKS: Final = {check.name: check.makes_tasks for check in CHECKS}
_SPREAD: Final = frozenset({"load", "loadgroup", "worksteal"})


def scheduler(config: pytest.Config, log: Producer, *, is_local: bool) -> LoadGroupScheduling | None:
    """Return what spreads the tests, ``None`` where the user's choice keeps the checks together anyway.

    Raises:
        UsageError: Every worker is to make every check, all on the one account.
    """
    how: Any = config.getoption("dist")
    if how == "each":
        raise pytest.UsageError("The checks share one account, so they cannot run with --dist each.")
    return CheckScheduling(config, log, is_local=is_local) if how in _SPREAD else None


class CheckScheduling(LoadGroupScheduling):  # type: ignore[misc]
    """Keeps checks that share tasks on one worker, and those that only ask for refusals on one, too.

    What one check has found tells the next what to look for, and a random search where it begins. On a target that is
    not local all are kept together: rates and credits are counted by one run.
    """

    def __init__(self, config: pytest.Config, log: Producer, *, is_local: bool) -> None:
        super().__init__(config, log)
        self._is_local = is_local

    def _split_scope(self, nodeid: str) -> str:
        path, _, name = nodeid.rpartition("::")
        if name not in _MAKES_TASKS or path.rpartition("/")[2] != _OURS:
            return str(super()._split_scope(nodeid))
        return f"{_ALL} {_MAKES_TASKS[name]}" if self._is_local else _ALL
