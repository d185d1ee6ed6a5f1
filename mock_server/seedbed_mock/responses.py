"""Responses of the service: the one place where an outcome becomes a code, a message and an HTTP status."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET
from seedbed_schemas import __version__, local
from seedbed_schemas.dialect import dialects
from seedbed_schemas.messages import Envelope
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas import Code
    from seedbed_schemas.dialect import Case, Dialect
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.settings import HttpStatus


MOCK_HEADERS: Final = {local.MARK_HEADER: __version__}
"""Header of every response that distinguishes a mock server from the real service."""

_STATUSES: Final = frozenset(range(200, 600)) - {204, 205, 304}
"""HTTP statuses of responses with a body; a fault can ask for any code."""

_RAW_MOCK_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in MOCK_HEADERS.items()]


@lru_cache(16)
def _content_type(media_type: str) -> tuple[bytes, bytes]:
    return b"content-type", media_type.encode("latin-1")


@lru_cache(16)
def _plain_head(media_type: str) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in (*_RAW_MOCK_HEADERS, _content_type(media_type))]
    return b"".join([*lines, b"content-length: "])


class ServiceError(Exception):
    """The service refuses a request.

    Args:
        case: Name of the case in the dialect.
        is_simulated: Whether a fault asks for the case, so that there are no details of a cause.
        status: HTTP status, if it is not that of the code: what refuses the request is not the service.
        details: Values for the placeholders in the message of the case.
    """

    def __init__(self, case: str, *, is_simulated: bool = False, status: int | None = None, **details: object) -> None:
        super().__init__(case)
        self.case = case
        self.is_simulated = is_simulated
        self.status = status
        self.details = details


class ApiResponse(Response):
    """A response of the service.

    Attributes:
        code: Code in the body.
        case: Name of the case in the dialect.
    """

    body: bytes

    # Starlette's own constructor and __call__ would take a good part of a request; these do what is needed of them.
    def __init__(self, code: int, case: str, body: bytes, status: int, media_type: str = "application/json") -> None:
        self.code = code
        self.case = case
        self.body = body
        self.status_code = status
        self.background = None
        self._media_type = media_type

    @cached_property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]  # most responses are sent without
        """The headers as a list, to which further ones can be added."""
        return [*_RAW_MOCK_HEADERS, _content_type(self._media_type), (b"content-length", b"%d" % len(self.body))]

    @property
    def has_plain_headers(self) -> bool:
        """Whether the response has no further headers than those of every response."""
        return "raw_headers" not in self.__dict__

    @property
    def plain_head(self) -> bytes:
        """The lines of the headers that every response has, and the empty line after them."""
        return b"%b%d\r\n\r\n" % (_plain_head(self._media_type), len(self.body))

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


@dataclass(frozen=True, slots=True)
class _CaseText:
    """How a case is written.

    Attributes:
        code: Code in the body.
        message: Message with placeholders for the details of the cause.
        simulated: Message without a cause.
        data: Value of ``data``; ``UNSET`` leaves it out.
    """

    code: int
    message: str
    simulated: str
    data: object = None

    @classmethod
    def of(cls, case: Case, codes: Mapping[str, Code]) -> _CaseText:
        name = case.instead_of or case.code
        simulated = codes[name].description if "{" in case.message and isinstance(name, str) else case.message
        return cls(case.number(codes), case.message, simulated, None if case.data else UNSET)


class ResponseWriter:
    """Writes responses with the codes of the contract and the messages of the dialect.

    Args:
        codes: The codes by name.
        dialect: The dialect.
        http_status: Whether the code is the HTTP status too.
    """

    def __init__(self, codes: Mapping[str, Code], dialect: Dialect, http_status: HttpStatus) -> None:
        # A code without a case in the dialect is a case by itself, with the code's description as its message.
        self._cases = {name: _CaseText(code.number, "", code.description) for name, code in codes.items()}
        self._cases |= {name: _CaseText.of(case, codes) for name, case in dialect.cases.items()}
        self._cases_of_codes = {code.number: dialect.case_of_code(code.name) for code in codes.values()}
        self._reasons = {name: case.message for name, case in dialects()["documented"].cases.items()}
        self._mirrors = http_status == "mirror"
        self._media_type = dialect.media_type

    def success(self, data: Any, more: Mapping[str, Any] | None = None) -> ApiResponse:
        """Return the response to a successful request, with further fields beside ``data``."""
        text = self._cases["done"]
        response = self._response("done", text.code, text.message, data)
        if more:
            body = {"code": text.code, "msg": text.message, "data": data, **more}
            return ApiResponse(text.code, "done", msgspec.json.encode(body), response.status_code, self._media_type)
        return response

    def success_without_data(self) -> bytes:
        """Return the body of a success that lacks ``data``."""
        text = self._cases["done"]
        return msgspec.json.encode(Envelope(text.code, text.message, UNSET))

    def error(self, error: ServiceError) -> ApiResponse:
        """Return the response to a refused request."""
        text = self._cases[error.case]
        message = text.simulated if error.is_simulated else text.message.format_map(error.details)
        # A detail that ends as a question ends the sentence of the dialect, too.
        message = message[:-1] if message.endswith("?.") else message
        response = self._response(error.case, text.code, message, text.data)
        response.status_code = error.status or response.status_code
        return response

    def reason(self, error: ServiceError) -> str:
        """Return why a request is refused and what to do, in our words; the observed messages hardly say it."""
        return "" if error.is_simulated else self._reasons.get(error.case, "").format_map(error.details)

    def file_error(self, case: str, message: str = "") -> ApiResponse:
        """Return the response in place of a file, whose HTTP status is always the code.

        Args:
            case: Name of the case in the dialect.
            message: Message in place of the dialect's.
        """
        text = self._cases[case]
        response = self._response(case, text.code, message or text.message, text.data)
        response.status_code = text.code
        return response

    def for_code(self, number: int, message: str | None = None) -> ApiResponse:
        """Return a simulated response with a code, and the message of the dialect or another."""
        if (case := self._cases_of_codes.get(number)) is None:
            return self._response(f"code_{number}", number, message or f"Simulated code {number}.", None)
        text = self._cases[case]
        return self._response(case, text.code, text.simulated if message is None else message, text.data)

    def callback(self, case: str, record: Mapping[str, Any]) -> bytes:
        """Return the body of a callback."""
        text = self._cases[case]
        return msgspec.json.encode(Envelope(text.code, text.message, record))

    def _response(self, case: str, code: int, message: str, data: Any) -> ApiResponse:
        body = msgspec.json.encode(Envelope(code, message, data))
        return ApiResponse(code, case, body, code if self._mirrors and code in _STATUSES else 200, self._media_type)
