"""A dialect: with which code and words each case is answered, and what of a record travels in which state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import UNSET


@dataclass(frozen=True, slots=True)
class Case:
    """How one named case is answered.

    Attributes:
        code: Name of the code, as in the contract.
        message: The words, with ``{placeholders}`` for the details of the case.
    """

    code: str
    message: str


class Dialect:
    """One way in which the service answers.

    Args:
        document: A file of the folder ``dialects``.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.task_id: str = document["task_id"]
        """Form of a task's name, with ``{placeholders}``."""
        self.cases: dict[str, Case] = {name: Case(**case) for name, case in document["cases"].items()}
        self._record: dict[str, dict[str, Any]] = document["record"]

    def case_of_code(self, code: str) -> str:
        """Return the first case that is answered with the code of that name; where none is, the name itself."""
        return next((name for name, case in self.cases.items() if case.code == code), code)

    def written(self, field: str, value: Any, state: str) -> Any:
        """Return a record's field as this dialect writes it in that state.

        Args:
            field: Name on the wire.
            value: The value, ``None`` where there is none.
            state: State of the task.

        Returns:
            The value, what stands in its place, or ``UNSET`` where the field does not travel.
        """
        rule = self._record.get(field, {})
        if value is None or state not in rule.get("states", (state,)):
            return rule.get("otherwise", UNSET)
        return value


@cache
def documented() -> Dialect:
    """Return the documented dialect, loaded once."""
    path = Path(__file__).parent / "dialects" / "documented.json"
    return Dialect(json.loads(path.read_text(encoding="utf-8")))
