"""Reading answers, of whichever dialect, and whether the code travels in the body or as HTTP status."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
import seedbed_schemas
from seedbed_schemas.messages import Envelope

from seedbed_client.errors import ApiError, InvalidResponseError, RateLimitError, code_of, errors_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx2
    from seedbed_schemas import Contract


_LONGEST_PAUSE: Final = 10**7
_CODE, _MESSAGE, _DATA = Envelope.__struct_encode_fields__
_OTHER_MESSAGE: Final = "message"
"""What some clones call ``msg``."""


def data_of(response: httpx2.Response, contracts: Iterable[Contract] = ()) -> Any:
    """Return what an answer gives back.

    Args:
        response: The answer, with its body.
        contracts: Contracts whose codes count beside those of the shipped one.

    Raises:
        ApiError: It tells another code than success.
        InvalidResponseError: It is none of the service.
    """
    body, pause = _body(response), retry_after(response)
    code = body.get(_CODE, None if response.is_success and _DATA not in body else _status(response))
    if not isinstance(code, int) or isinstance(code, bool):
        raise InvalidResponseError(response.status_code, "it has no code", retry_after=pause)
    if code != code_of("success"):
        message = body.get(_MESSAGE) or body.get(_OTHER_MESSAGE) or ""
        raise _class_of(code, str(message), contracts)(code, str(message), retry_after=pause)
    return body.get(_DATA)


def _status(response: httpx2.Response) -> int:
    return code_of("success") if response.is_success else response.status_code


def _body(response: httpx2.Response) -> dict[str, Any]:
    pause = retry_after(response)
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if response.status_code == code_of(
            "rate_limited"
        ):  # whoever is in front of the service has let nothing through
            raise RateLimitError(
                code_of("rate_limited"), "refused without an answer of the service", retry_after=pause
            ) from error
        raise InvalidResponseError(response.status_code, str(error), retry_after=pause) from error
    if not isinstance(body, dict):
        raise InvalidResponseError(response.status_code, "it is no JSON object", retry_after=pause)
    return body


def _class_of(code: int, message: str, contracts: Iterable[Contract]) -> type[ApiError]:
    classes = dict(errors_of(seedbed_schemas.default_contract()))
    for contract in contracts:
        classes |= errors_of(contract)
    other = (cls for number, pattern, cls in _stand_ins() if number == code and pattern.fullmatch(message))
    return next(other, None) or classes.get(code, ApiError)


@cache
def _stand_ins() -> tuple[tuple[int, re.Pattern[str], type[ApiError]], ...]:
    """Return the codes that travel in the place of others, with the words that tell so, and what is meant."""
    from seedbed_schemas.dialect import dialects  # noqa: PLC0415 (read with the first answer that needs it)

    documented, codes = (
        dialects()["documented"].cases,
        {code.name: code for code in seedbed_schemas.default_contract().codes},
    )
    found = []
    for name, case in ((name, case) for dialect in dialects().values() for name, case in dialect.cases.items()):
        meant = documented[name].number(codes)
        # The words for a balance that is too small were seen with 500, too, whatever the dialect.
        numbers = {case.number(codes)} | (
            {code_of("server_error")} if meant == code_of("insufficient_credits") else set()
        )
        if _tells_enough(case.message):
            found += [
                (number, _pattern(case.message), errors_of(seedbed_schemas.default_contract())[meant])
                for number in numbers - {meant}
            ]
    return tuple(found)


def _tells_enough(message: str) -> bool:
    return len(re.sub(r"\{\w+\}", "", message).strip()) >= len("is required")


def _pattern(message: str) -> re.Pattern[str]:
    return re.compile(".{1,200}".join(map(re.escape, re.split(r"\{\w+\}", message))))


def retry_after(response: httpx2.Response) -> float | None:
    """Return for how many seconds the header ``Retry-After`` asks to be left alone, ``None`` where it does not."""
    text = response.headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), _LONGEST_PAUSE)
    return _seconds_until(text) if text else None


def _seconds_until(date: str) -> float | None:
    from datetime import UTC, datetime  # noqa: PLC0415 (this form is rare)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 (as above)

    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, IndexError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0)
