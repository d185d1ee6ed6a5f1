"""Reading responses, in any dialect of the service.

Depending on the dialect, the code of a response is in the body or is the HTTP status, and one code may be sent in place
of another.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
import seedbed_schemas
from seedbed_schemas.messages import Envelope

from seedbed_client.errors import ApiError, InvalidResponseError, RateLimitError, code_of, errors_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import httpx2
    from seedbed_schemas import Contract


_CODE, _MESSAGE, _DATA = Envelope.__struct_encode_fields__
_TYPES: Final = {_CODE: "integer", _MESSAGE: "string", _DATA: "object"}
_OTHER_MESSAGE: Final = "message"
"""The name that some clones of the service use for ``msg``."""

_PLACEHOLDER: Final = re.compile(r"\{\w+\}")
_MAX_RETRY_AFTER: Final = 10**7
_MIN_MESSAGE_LENGTH: Final = len("is required")
"""Shortest message that identifies a case; shorter ones would match by accident."""


def data_of(response: httpx2.Response, contracts: Iterable[Contract] = ()) -> Any:
    """Return the data of a successful response.

    Args:
        response: The response, with its body.
        contracts: Contracts whose codes are known in addition to those of the shipped one.

    Raises:
        ApiError: The response has another code than success.
        InvalidResponseError: The response does not have the form that the service documents.
    """
    body, pause = _body(response), retry_after(response)
    code_name, message_name, data_name = (_name_in(body, usual, contracts) for usual in (_CODE, _MESSAGE, _DATA))
    code = body.get(code_name)
    if code_name not in body and (data_name in body or not response.is_success):
        # A clone of the service that uses HTTP statuses alone.
        code = code_of("success") if response.is_success else response.status_code
    if not isinstance(code, int) or isinstance(code, bool):  # in Python, True is an int
        raise InvalidResponseError(response.status_code, "it has no code", retry_after=pause)
    if code != code_of("success"):
        message = str(body.get(message_name) or body.get(_OTHER_MESSAGE) or "")
        raise _error_class(code, message, contracts)(code, message, retry_after=pause)
    return body.get(data_name)


def _name_in(body: Mapping[str, Any], usual: str, contracts: Iterable[Contract]) -> str:
    """Return the name that a field of the envelope has in a response: the usual one, or that of a contract."""
    names = (_documented_name(contract, usual) for contract in contracts)
    return usual if usual in body else next((name for name in names if name in body), usual)


@cache
def _documented_name(contract: Contract, usual: str) -> str:
    """Return the name of a field of the envelope: the usual one, or that of the only field that can be it."""
    fields = contract.part("answer").get("properties", {})
    others = [name for name, schema in fields.items() if schema.get("type") == _TYPES[usual] and name not in _TYPES]
    return others[0] if usual not in fields and len(others) == 1 else usual


def _body(response: httpx2.Response) -> dict[str, Any]:
    pause = retry_after(response)
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        rate_limited = code_of("rate_limited")
        if response.status_code == rate_limited:
            # A proxy in front of the service rejected the request, so the service never received it.
            message = "rejected by a proxy in front of the service"
            raise RateLimitError(rate_limited, message, retry_after=pause) from error
        raise InvalidResponseError(response.status_code, str(error), retry_after=pause) from error
    if not isinstance(body, dict):
        raise InvalidResponseError(response.status_code, "it is not a JSON object", retry_after=pause)
    return body


def _error_class(code: int, message: str, contracts: Iterable[Contract]) -> type[ApiError]:
    classes = dict(errors_of(seedbed_schemas.default_contract()))
    for contract in contracts:
        classes |= errors_of(contract)
    other = (cls for number, pattern, cls in _misleading_codes() if number == code and pattern.fullmatch(message))
    return next(other, None) or classes.get(code, ApiError)


@cache
def _misleading_codes() -> tuple[tuple[int, re.Pattern[str], type[ApiError]], ...]:
    """Return codes that are sent in place of others, each with the message that reveals it and the actual error."""
    from seedbed_schemas.dialect import dialects  # read with the first error

    codes = {code.name: code for code in seedbed_schemas.default_contract().codes}
    documented, classes = dialects()["documented"].cases, errors_of(seedbed_schemas.default_contract())
    found = []
    for name, case in ((name, case) for dialect in dialects().values() for name, case in dialect.cases.items()):
        actual = documented[name].number(codes)
        numbers = {case.number(codes)}
        if actual == code_of("insufficient_credits"):
            # Every dialect was seen to report a balance that is too small with 500, too.
            numbers.add(code_of("server_error"))
        if len(_PLACEHOLDER.sub("", case.message).strip()) >= _MIN_MESSAGE_LENGTH:
            parts = map(re.escape, _PLACEHOLDER.split(case.message))
            # A placeholder stands for a value of the request, which may be long; the limit bounds the matching.
            pattern = re.compile(".{1,200}".join(parts))
            found += [(number, pattern, classes[actual]) for number in numbers - {actual}]
    return tuple(found)


def retry_after(response: httpx2.Response) -> float | None:
    """Return the seconds that the header ``Retry-After`` asks to wait, or ``None`` without a valid one."""
    text = response.headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), _MAX_RETRY_AFTER)
    return _seconds_until(text) if text else None


def _seconds_until(date: str) -> float | None:
    from datetime import UTC, datetime  # this form is rare
    from email.utils import parsedate_to_datetime  # as above

    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, IndexError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0)
