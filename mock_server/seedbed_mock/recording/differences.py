"""What a real service does that the contract does not say: the check of each exchange that passes through the proxy.

A difference has the ID of the clause that it breaks. Where the contract leaves the wording to a dialect, the ID is the
place in the dialect, such as ``dialect/record/costTime/success``. Each difference is reported once, with a count.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET
from seedbed_schemas import job_api
from seedbed_schemas.dialect import dialects
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect
    from seedbed_schemas.validation import Schema


_JSON: Final = "application/json"
_MOST: Final = 1000
"""Number of differences, and of tasks, that are remembered: a service can make up any number of new fields."""

_SHORTEST_MESSAGE = 5
_OK = 200
_PROBE = 10**9
_SECOND = 1000
_PLACEHOLDER = re.compile(r"\{\w+\}")
_SHAPES = {
    "recordInfo": "recordAnswer",
    "credit": "creditAnswer",
    "downloadUrl": "downloadUrlAnswer",
    "models": "modelsAnswer",
    "modelSchema": "modelSchemaAnswer",
}
_shape = cache(job_api().shape)


class Deviation(msgspec.Struct, kw_only=True):
    """Something that the service does and the contract does not say.

    Attributes:
        clause: ID of the clause, or the place in the dialect.
        contract: What the contract or the dialect says.
        service: What the service does, as seen first.
        operation: Operation of the exchange in which it was seen first.
        count: Number of exchanges in which it was seen.
    """

    clause: str
    contract: str
    service: str
    operation: str
    count: int = 1

    def describe(self) -> str:
        """Return the difference in one sentence without a full stop."""
        return f"{self.service}; the contract says {self.contract}"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked of an exchange.

    Attributes:
        operation: Name of the operation, ``callback`` for a callback.
        request: Parsed request body, ``None`` if it has none or is not JSON.
        cases: Cases of the dialect that explain why the request must be refused; empty if it is valid.
        task_id: ID in the query of recordInfo.
        status: HTTP status.
        media_type: Content-Type as sent.
        body: Body without its content encoding; ``None`` if it is not known.
    """

    operation: str
    request: Any = None
    cases: tuple[str, ...] = ()
    task_id: str = ""
    status: int = _OK
    media_type: str = ""
    body: bytes | None = None


class DifferenceLog:
    """The differences that were seen so far.

    Args:
        dialect: Dialect that the service should have.
        contracts: Contracts of the models by name.
        default: Contract of requests that name no known model.
        is_mirror: Whether the service sends its code as HTTP status, too.
    """

    def __init__(
        self, dialect: Dialect, contracts: Mapping[str, Contract], default: Contract, *, is_mirror: bool = False
    ) -> None:
        self._dialect = dialect
        self._contracts = contracts
        self._default = default
        self._is_mirror = is_mirror
        self._codes = {code.name: code for contract in (default, *contracts.values()) for code in contract.codes}
        self._numbers = {code.number for code in self._codes.values()}
        self._numbers |= {number for case in dialect.cases.values() for number in case.numbers(self._codes)}
        self._success = dialect.cases["done"].number(self._codes)
        self._found: dict[str, Deviation] = {}
        self._states: dict[str, str] = {}

    def __iter__(self) -> Iterator[Deviation]:
        """Iterate over the differences, by their IDs."""
        return iter([self._found[clause] for clause in sorted(self._found)])

    def __len__(self) -> int:
        return len(self._found)

    def check(self, seen: Seen) -> tuple[str, ...]:
        """Check an exchange, and return the IDs of its differences."""
        found: dict[str, tuple[str, str]] = {}
        for clause, contract, service in self._differences(seen):
            found.setdefault(clause, (contract, service))
        for clause, (contract, service) in found.items():
            if known := self._found.get(clause):
                known.count += 1
            elif len(self._found) < _MOST:
                self._found[clause] = Deviation(
                    clause=clause, contract=contract, service=service, operation=seen.operation
                )
        return tuple(found)

    def _differences(self, seen: Seen) -> Iterator[tuple[str, str, str]]:
        if seen.body is None:
            return
        if seen.media_type and seen.operation != "callback":
            yield from self._of_media_type(seen.media_type)
        try:
            content = msgspec.json.decode(seen.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield (
                "answer/json",
                "a body is JSON",
                f"a body is not JSON: {for_display(seen.body.decode(errors='replace'))}",
            )
            return
        yield from _of_shape(_shape("envelope"), content)
        if not isinstance(content, dict) or not _is_int(content.get("code")):
            return
        yield from self._of_code(seen, content)
        if seen.operation == "callback":
            yield from _of_shape(_shape("callback"), content)
            yield from self._of_record(content.get("data"), seen, "callback")
        elif content["code"] == self._success:
            yield from self._of_data(seen, content)

    def _of_media_type(self, sent: str) -> Iterator[tuple[str, str, str]]:
        if sent.partition(";")[0].strip().lower() != _JSON:
            yield "answer/content-type", f"the Content-Type is {_JSON}", f"the Content-Type is {for_display(sent)}"
        elif _plain(sent) != _plain(expected := self._dialect.media_type):
            yield "dialect/media_type", f"the Content-Type is {expected}", f"the Content-Type is {for_display(sent)}"

    def _of_code(self, seen: Seen, content: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        code, message = content["code"], content.get("msg")
        if code not in self._numbers:
            known = ", ".join(map(str, sorted(self._numbers)))
            yield f"code/{code}", f"the codes are {known}", f"a response has the code {code} ({for_display(message)})"
        expected_status = code if self._is_mirror else _OK
        if seen.operation != "callback" and seen.status != expected_status:
            yield "answer/http-status", f"the HTTP status is {expected_status}", f"the HTTP status is {seen.status}"
        if seen.operation == "callback":
            return
        name = seen.cases[0] if seen.cases else ""
        if code != self._success:
            name = case_of_message(message, code, self._codes) or name
        if name:
            yield from self._of_case(name, content)

    def _of_case(self, name: str, content: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        case = self._dialect.cases.get(name)
        if case is None:
            return
        numbers = case.numbers(self._codes)
        if content["code"] not in numbers:
            codes = " or ".join(map(str, sorted(numbers)))
            says = f"the code of the case {name} is {codes}"
            yield f"dialect/cases/{name}", says, f"it is {content['code']} ({for_display(content.get('msg'))})"
        if ("data" in content) != case.data:
            with_data, without = "with the key data", "without the key data"
            says, does = (with_data, without) if case.data else (without, with_data)
            yield f"dialect/cases/{name}/data", f"the case {name} is sent {says}", f"it is sent {does}"

    def _of_data(self, seen: Seen, content: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        data = content.get("data")
        if seen.operation == "createTask":
            yield from self._of_creation(seen, content)
        elif shape := _SHAPES.get(seen.operation):
            yield from _of_shape(_shape(shape), content)
        if seen.operation == "recordInfo":
            yield from self._of_record(data, seen, "recordInfo")

    def _of_creation(self, seen: Seen, content: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        contract = self._contract_of(seen.request)
        yield from _of_shape(contract.answer, content)
        data = content.get("data")
        if not isinstance(data, dict):
            return
        documented = contract.part("answer").get("properties", {}).get("data", {}).get("properties", {})
        known = {*documented, *self._dialect.created}
        for name in data:
            if name not in known:
                says = f"data has {', '.join(sorted(known))}"
                yield f"dialect/created/{name}", says, f"data also has {for_display(name)}"
        for name in self._dialect.created:
            if name not in data:
                yield f"dialect/created/{name}", f"data has {name}", f"data has no {name}"
        task_id = data.get(self._dialect.created[0])
        family = contract.model.partition("/")[0]
        if isinstance(task_id, str) and not _id_pattern(self._dialect.task_id, family).fullmatch(task_id):
            says = f"a task ID has the form {self._dialect.task_id}"
            yield "dialect/task_id", says, f"a task ID is {for_display(task_id)}"

    def _contract_of(self, request: Any) -> Contract:
        model = request.get(job_api().fields.model) if isinstance(request, dict) else None
        return self._contracts.get(model, self._default) if isinstance(model, str) else self._default

    def _of_record(self, data: Any, seen: Seen, channel: str) -> Iterator[tuple[str, str, str]]:
        """Yield the differences of a record: what its dialect and its life so far do not allow."""
        states = job_api().states
        if not isinstance(data, dict) or data.get("state") not in (*states.pending, states.success, states.failure):
            return
        state, fields = data["state"], job_api().document["$defs"]["record"]["properties"]
        for name in fields:
            if clash := _field_clash(self._dialect, name, data.get(name, UNSET), state, channel):
                yield f"dialect/record/{name}/{state}/{channel}", *clash
        for name in data.keys() - fields.keys():
            yield f"record/{for_display(name)}", "a record has no such field", f"a record has {for_display(name)}"
        yield from self._of_cost_time(data, state, channel)
        yield from self._of_param(data.get("param"))
        task_id = data.get("taskId")
        if seen.task_id and isinstance(task_id, str) and task_id != seen.task_id:
            yield "record/taskId/same", "a record is that of the requested task", "a record has another taskId"
        if isinstance(task_id, str) and channel == "recordInfo":
            yield from self._of_life(task_id, state)

    def _of_cost_time(self, data: Mapping[str, Any], state: str, channel: str) -> Iterator[tuple[str, str, str]]:
        cost, created, completed = (_integer(data.get(name)) for name in ("costTime", "createTime", "completeTime"))
        written = _integer(self._dialect.record_field("costTime", _PROBE, state, channel=channel))
        if cost is None or created is None or completed is None or not written:
            return
        unit, lifetime = _PROBE // written, completed - created
        other = _SECOND if unit == 1 else 1
        # A short task does not show the unit.
        fits = abs(cost * unit - lifetime) <= _SECOND
        if lifetime >= 2 * _SECOND and not fits and abs(cost * other - lifetime) <= _SECOND:
            units = {1: "milliseconds", _SECOND: "seconds"}
            says = f"costTime is in {units.get(unit, 'another unit')}"
            yield f"dialect/record/costTime/{state}/{channel}", says, f"costTime is in {units[other]}"

    def _of_param(self, text: Any) -> Iterator[tuple[str, str, str]]:
        if not isinstance(text, str):
            return
        try:
            param = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            yield "record/param/same", "param is the request as JSON", "param is not JSON"
            return
        sent = param.get(job_api().fields.input) if isinstance(param, dict) else None
        if sent is not None and isinstance(sent, str) != self._dialect.input_is_text:
            forms = ("a JSON string", "an object")
            says, does = forms if self._dialect.input_is_text else forms[::-1]
            yield "dialect/param/input", f"the input in param is {says}", f"the input in param is {does}"

    def _of_life(self, task_id: str, state: str) -> Iterator[tuple[str, str, str]]:
        states = job_api().states
        before, order = self._states.get(task_id, state), states.pending
        if before in {states.success, states.failure} and state != before:
            yield "life/final", "a final state does not change", f"a task that was {before} is {state} later"
        elif before in order and state in order and order.index(state) < order.index(before):
            yield "life/forward", "a task never goes back", f"a task goes back from {before} to {state}"
        self._states.pop(task_id, None)
        self._states[task_id] = state
        if len(self._states) > _MOST:
            self._states.pop(next(iter(self._states)))


def _of_shape(schema: Schema, content: Any) -> Iterator[tuple[str, str, str]]:
    if not schema.accepts(content):
        for violation in schema.violations(content):
            yield violation.clause, f"the rule {violation.clause} holds", violation.message


def _field_clash(dialect: Dialect, name: str, value: Any, state: str, channel: str) -> tuple[str, str] | None:
    """Return what the dialect says of a field in a state and what was sent; ``None`` if they agree."""
    is_sent = dialect.record_field(name, _PROBE, state, channel=channel) not in (UNSET, None, "")
    empty = dialect.record_field(name, None, state, channel=channel)
    if value not in (UNSET, None, ""):
        agrees = is_sent
    elif empty is UNSET and not is_sent:
        agrees = value is UNSET
    else:
        agrees = empty is not UNSET and value is not UNSET and value == empty
    if agrees:
        return None
    says = f"{name} is sent" if is_sent and empty is UNSET else f"{name} is {_shown(empty)} unless there is a value"
    if not is_sent:
        says = f"{name} is {_shown(empty)}"
    return f"{says} in the state {state}", f"it is {_shown(value)}"


def _shown(value: Any) -> str:
    return "left out" if value is UNSET else {None: "null", "": "empty"}.get(value, for_display(value))


def case_of_message(message: Any, code: Any, codes: Mapping[str, Any]) -> str:
    """Return the case of any dialect that is sent with a message and a code, empty if none is, or several are."""
    if not isinstance(message, str):
        return ""
    found = [
        (length, name)
        for dialect in dialects().values()
        for length, name, numbers, pattern in _messages(dialect.title)
        if code in {_number(each, codes) for each in numbers} and pattern.fullmatch(message[:_SECOND])
    ]
    # The most specific message; several cases of a dialect may share one, of which the request decides.
    if not found:
        return ""
    longest = max(found)[0]
    names = {name for length, name in found if length == longest}
    return names.pop() if len(names) == 1 else ""


def _number(code: str | int, codes: Mapping[str, Any]) -> int:
    return code if isinstance(code, int) else codes[code].number if code in codes else -1


@cache
def _messages(title: str) -> tuple[tuple[int, str, tuple[str | int, ...], re.Pattern[str]], ...]:
    """Return the messages of a dialect that name their case: how specific each is, the case, its codes, a pattern."""
    found = []
    for name, case in dialects()[title].cases.items():
        for message in (case.message, *case.other_messages):
            literal = _PLACEHOLDER.sub("", message).strip(" .:")
            if len(literal) >= _SHORTEST_MESSAGE and not name.startswith("callback_"):
                pattern = re.compile(".{0,300}?".join(map(re.escape, _PLACEHOLDER.split(message))), re.DOTALL)
                found.append((len(literal), name, (case.code, *case.also), pattern))
    return tuple(found)


@cache
def _id_pattern(form: str, family: str) -> re.Pattern[str]:
    parts = {"{family}": re.escape(family), "{milliseconds}": r"\d{13}", "{hex}": "[0-9a-f]{32}"}
    pieces = re.split(r"(\{\w+\})", form)
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces))


def _plain(media_type: str) -> str:
    return "".join(media_type.lower().split())


def _is_int(value: Any) -> bool:
    return _integer(value) is not None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
