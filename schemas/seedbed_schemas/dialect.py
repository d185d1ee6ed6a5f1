"""A dialect: with which code and words each case is answered, and what of a record travels in which state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas.contract import Code


@dataclass(frozen=True, slots=True)
class Case:
    """How one named case is answered.

    Attributes:
        code: Name of the code, as in the contract, or the number that travels.
        message: The words, with ``{placeholders}`` for the details of the case.
        source: How this is known.
        instead_of: Name of the documented code, where another travels.
        data: Whether the answer has the key ``data``.
    """

    code: str | int
    message: str
    source: str
    instead_of: str = ""
    data: bool = True

    def number(self, codes: Mapping[str, Code]) -> int:
        """Return the number that travels.

        Args:
            codes: The codes of the contract by name.

        Raises:
            KeyError: The contract has no code of that name.
        """
        return self.code if isinstance(self.code, int) else codes[self.code].number


class Dialect:
    """One way in which the service answers.

    Args:
        document: A file of the folder ``dialects``.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.title: str = document["title"]
        self.task_id: str = document["task_id"]
        """Form of a task's name, with ``{placeholders}``: ``family`` and ``milliseconds``, or ``hex``."""
        self.created: tuple[str, ...] = tuple(document["created"])
        """Under which names createTask gives back the task's name."""
        self.input_is_text: bool = document["param"]["input"] == "string"
        """Whether the input in a record's ``param`` is a JSON string of its own."""
        self.cases: dict[str, Case] = {name: Case(**case) for name, case in document["cases"].items()}
        self._violations: dict[str, str] = document["violations"]
        self._record: dict[str, dict[str, Any]] = document["record"]

    def case_of_code(self, code: str) -> str:
        """Return the first case that is about the code of that name; where none is, the name itself."""
        return next((name for name, case in self.cases.items() if code in {case.code, case.instead_of}), code)

    def case_of_violation(self, keyword: str) -> str:
        """Return the case that a broken rule of the contract is, by the keyword of the rule."""
        return self._violations.get(keyword, "request_invalid")

    def written(self, field: str, value: Any, state: str, *, channel: str = "recordInfo") -> Any:
        """Return a record's field as this dialect writes it in that state.

        Args:
            field: Name on the wire.
            value: The value, ``None`` where there is none.
            state: State of the task.
            channel: Where the record travels, ``recordInfo`` or ``callback``.

        Returns:
            The value, what stands in its place, or ``UNSET`` where the field does not travel.
        """
        rule = self._record.get(field, {})
        if channel not in rule.get("channels", (channel,)):
            return UNSET
        if value is None or state not in rule.get("states", (state,)):
            return rule.get("otherwise", UNSET)
        return value // rule["milliseconds"] if "milliseconds" in rule else value


@cache
def dialects() -> dict[str, Dialect]:
    """Return the dialects that ship with the package by their titles, loaded once."""
    folder = Path(__file__).parent / "dialects"
    files = sorted(path for path in folder.glob("*.json") if not path.name.endswith(".schema.json"))
    loaded = (Dialect(json.loads(path.read_text(encoding="utf-8"))) for path in files)
    return {dialect.title: dialect for dialect in loaded}


def documented() -> Dialect:
    """Return the service as its documentation describes it."""
    return dialects()["documented"]


def observed() -> Dialect:
    """Return the service as it is known to behave."""
    return dialects()["observed"]
