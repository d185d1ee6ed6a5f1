"""A dialect: with which code and words each case is answered, and what of a record travels in which state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import UNSET

from seedbed_schemas.job_api import job_api

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
        also: Codes, written like ``code``, with which another server may answer it just as well.
    """

    code: str | int
    message: str
    source: str
    instead_of: str = ""
    data: bool = True
    also: tuple[str | int, ...] = ()

    def number(self, codes: Mapping[str, Code]) -> int:
        """Return the number that travels.

        Args:
            codes: The codes of the contract by name.

        Raises:
            KeyError: The contract has no code of that name.
        """
        return _number(self.code, codes)

    def numbers(self, codes: Mapping[str, Code]) -> frozenset[int]:
        """Return every number that may travel, given and raised as by :meth:`number`."""
        return frozenset(_number(code, codes) for code in (self.code, *self.also))


def _number(code: str | int, codes: Mapping[str, Code]) -> int:
    return code if isinstance(code, int) else codes[code].number


class _FieldRule(NamedTuple):
    """How a field is written in one state, on one channel: in which unit, or what stands in its place."""

    is_told: bool = True
    unit: int = 1
    otherwise: Any = UNSET


_AS_IT_IS = _FieldRule()
_CHANNELS = ("recordInfo", "callback")
_STATES = (*job_api().states.pending, job_api().states.success, job_api().states.failure)


def _field_rule(rule: Mapping[str, Any], state: str, channel: str) -> _FieldRule:
    if channel not in rule.get("channels", (channel,)):
        return _FieldRule(is_told=False)
    return _FieldRule(state in rule.get("states", (state,)), rule.get("milliseconds", 1), rule.get("otherwise", UNSET))


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
        self._rules = {
            (field, state, channel): _field_rule(rule, state, channel)
            for field, rule in document["record"].items()
            for state in _STATES
            for channel in _CHANNELS
        }

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
        return self.record({field: value}, state, channel=channel).get(field, UNSET)

    def record(self, values: Mapping[str, Any], state: str, *, channel: str = "recordInfo") -> dict[str, Any]:
        """Return the fields of a record as this dialect writes them in that state.

        Args:
            values: The values by their names on the wire, ``None`` where there is none.
            state: State of the task.
            channel: Where the record travels, ``recordInfo`` or ``callback``.

        Returns:
            Of each field its value or what stands in its place; without those that do not travel.
        """
        written: dict[str, Any] = {}
        for field, value in values.items():
            rule = self._rules.get((field, state, channel), _AS_IT_IS)
            if value is None or not rule.is_told:
                value = rule.otherwise  # noqa: PLW2901 (what is written in its place)
            elif rule.unit > 1:
                value //= rule.unit  # noqa: PLW2901 (as above)
            if value is not UNSET:
                written[field] = value
        return written


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
