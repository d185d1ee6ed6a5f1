"""Dialects: the ways in which the service responds, as documented and as observed.

A dialect maps each named case, such as a wrong key, to a code and a message, and it defines which fields of a task
record are sent in which state. Dialects are data, in the directory ``dialects``, so that no code depends on a title.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from seedbed_schemas.job_api import job_api

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas.contract import Code, Contract


@dataclass(frozen=True, slots=True)
class Case:
    """The response to one named case.

    Attributes:
        code: Name of the code in the contract, or the number to send.
        message: The message, with ``{placeholders}`` for the details of the case.
        source: Where this is known from.
        instead_of: Name of the documented code, if the service sends another one.
        data: Whether the response has the key ``data``.
        also: Other acceptable codes, written like ``code``.
        other_messages: Other messages of the same case.
    """

    code: str | int
    message: str
    source: str
    instead_of: str = ""
    data: bool = True
    also: tuple[str | int, ...] = ()
    other_messages: tuple[str, ...] = ()

    def number(self, codes: Mapping[str, Code]) -> int:
        """Return the number to send.

        Args:
            codes: The codes of the contract by name.

        Raises:
            KeyError: The contract has no code with that name.
        """
        return _number(self.code, codes)

    def numbers(self, codes: Mapping[str, Code]) -> frozenset[int]:
        """Return the numbers of all acceptable codes.

        Args:
            codes: The codes of the contract by name.

        Raises:
            KeyError: The contract has no code with one of the names.
        """
        return frozenset(_number(code, codes) for code in (self.code, *self.also))


def _number(code: str | int, codes: Mapping[str, Code]) -> int:
    return code if isinstance(code, int) else codes[code].number


class _FieldRule(NamedTuple):
    """How a record field is sent in one state over one channel.

    Attributes:
        is_sent: Whether the value itself is sent.
        unit: Milliseconds per unit of the sent value.
        otherwise: The value that is sent in its place; ``UNSET`` leaves the field out.
    """

    is_sent: bool = True
    unit: int = 1
    otherwise: Any = UNSET


_UNCHANGED: Final = _FieldRule()
_KEPT_FIELDS: Final = (job_api().fields.input, job_api().fields.callback, job_api().fields.model)
_CHANNELS: Final = ("recordInfo", "callback")
_STATES: Final = (*job_api().states.pending, job_api().states.success, job_api().states.failure)


class Dialect:
    """One way in which the service responds.

    Args:
        document: The content of a file in the directory ``dialects``.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.title: str = document["title"]
        self.task_id: str = document["task_id"]
        """Format of a task ID, with the placeholders ``family`` and ``milliseconds``, or ``hex``."""
        self.media_type: str = document["media_type"]
        """Value of ``Content-Type`` in every response."""
        self.created: tuple[str, ...] = tuple(document["created"])
        """Names of the fields that return the task ID from createTask."""
        self.input_is_text: bool = document["param"]["input"] == "string"
        """Whether the input in a record's ``param`` is encoded as a JSON string."""
        self.is_normalised: bool = document["param"].get("is_normalised", False)
        """Whether the service keeps requests normalised, and takes texts for the numbers and booleans in them."""
        self.empty_callback_is_absent: bool = document["param"].get("empty_callback_is_absent", False)
        """Whether an empty text or null as the callback URL means that there is none."""
        self.cases: dict[str, Case] = {name: Case(**case) for name, case in document["cases"].items()}
        self._violations: dict[str, str] = document["violations"]
        self._rules: dict[tuple[str, str, str], _FieldRule] = {}
        # Precomputed for every state and channel, because `record` runs on every poll.
        for field, rule in document["record"].items():
            otherwise, unit = rule.get("otherwise", UNSET), rule.get("milliseconds", 1)
            for state, channel in product(_STATES, _CHANNELS):
                if channel in rule.get("channels", _CHANNELS):
                    sent = _FieldRule(state in rule.get("states", _STATES), unit, otherwise)
                else:
                    sent = _FieldRule(is_sent=False)
                self._rules[field, state, channel] = sent

    def case_of_code(self, code: str) -> str:
        """Return the name of the first case that sends a code or stands for it.

        Args:
            code: Name of the code.

        Returns:
            The name of the case, or the name of the code if no case has it.
        """
        return next((name for name, case in self.cases.items() if code in {case.code, case.instead_of}), code)

    def case_of_violation(self, keyword: str) -> str:
        """Return the name of the case for a request that breaks a rule with this JSON Schema keyword."""
        return self._violations.get(keyword, "request_invalid")

    def meant(self, request: Any, contract: Contract) -> Any:
        """Return the request for which a service of this dialect takes a request; it may still be invalid."""
        if self.is_normalised:
            request = contract.normalised(request)
        return without_empty_callback(request) if self.empty_callback_is_absent else request

    def kept_request(self, request: Mapping[str, Any], text: str, contract: Contract) -> str:
        """Return a request as the service keeps it, as JSON.

        Args:
            request: The request.
            text: The JSON text that was sent.
            contract: Contract of the model, which gives the defaults and the types.
        """
        if not self.is_normalised:
            return text
        fields, kept = job_api().fields, contract.normalised(request)
        values = kept.get(fields.input, {})
        if isinstance(values, dict):
            values = contract.with_defaults(values)
        kept = {**kept, fields.input: dict(sorted(values.items())) if isinstance(values, dict) else values}
        return msgspec.json.encode({name: kept[name] for name in _KEPT_FIELDS if name in kept}).decode()

    def record_field(self, field: str, value: Any, state: str, *, channel: str = "recordInfo") -> Any:
        """Return one record field as this dialect sends it.

        Args:
            field: Name in the JSON.
            value: The value; ``None`` if there is none.
            state: State of the task.
            channel: ``recordInfo`` or ``callback``.

        Returns:
            The value to send, or ``UNSET`` if the field is left out.
        """
        return self.record({field: value}, state, channel=channel).get(field, UNSET)

    def has_field(self, field: str) -> bool:
        """Return whether a record or a callback can have a field in any state.

        Args:
            field: Name in the JSON.
        """
        return any(
            self.record_field(field, 0, state, channel=channel) is not UNSET
            for state, channel in product(_STATES, _CHANNELS)
        )

    def record(self, values: Mapping[str, Any], state: str, *, channel: str = "recordInfo") -> dict[str, Any]:
        """Return the fields of a record as this dialect sends them.

        Args:
            values: The values by their names in the JSON; ``None`` where there is none.
            state: State of the task.
            channel: ``recordInfo`` or ``callback``.

        Returns:
            The value to send for each field, without the fields that are left out.
        """
        sent: dict[str, Any] = {}
        for field, value in values.items():
            rule = self._rules.get((field, state, channel), _UNCHANGED)
            if value is None or not rule.is_sent:
                if rule.otherwise is not UNSET:
                    sent[field] = rule.otherwise
            elif value is not UNSET:
                sent[field] = value // rule.unit if rule.unit > 1 else value
        return sent


def without_empty_callback(request: Any) -> Any:
    """Return a request without its callback URL if that is an empty text or null."""
    name = job_api().fields.callback
    if isinstance(request, dict) and request.get(name, name) in ("", None):
        return {field: value for field, value in request.items() if field != name}
    return request


@cache
def dialects() -> dict[str, Dialect]:
    """Return the shipped dialects by title; they are loaded once."""
    folder = Path(__file__).parent / "dialects"
    files = sorted(path for path in folder.glob("*.json") if not path.name.endswith(".schema.json"))
    loaded = (Dialect(json.loads(path.read_text(encoding="utf-8"))) for path in files)
    return {dialect.title: dialect for dialect in loaded}


def documented() -> Dialect:
    """Return the dialect of the vendor's documentation."""
    return dialects()["documented"]
