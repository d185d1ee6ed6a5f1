"""The one place where an outcome becomes an answer: its code, its words and its HTTP status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET
from seedbed_schemas import __version__, local
from seedbed_schemas.messages import Envelope
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas import Code
    from seedbed_schemas.dialect import Case, Dialect
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.settings import HttpStatus


MOCK_HEADERS: Final = {local.MARK_HEADER: __version__}
"""Header of every answer, which the real service does not send: it says that this is a fake."""

_HEADERS: Final = [
    *((name.lower().encode(), value.encode()) for name, value in MOCK_HEADERS.items()),
]


class ServiceError(Exception):
    """A named case in which the service says no.

    Args:
        case: Name of the case, as in the dialect.
        is_simulated: Whether a fault raises it, so that there are no details.
        details: What the dialect's words mention of the cause.
    """

    def __init__(self, case: str, *, is_simulated: bool = False, **details: object) -> None:
        super().__init__(case)
        self.case = case
        self.is_simulated = is_simulated
        self.details = details


class ApiResponse(Response):
    """An answer of the service; written out here, since Starlette's own way costs a good part of a request.

    Attributes:
        code: The code in the body.
        case: Which case it is.
    """

    body: bytes

    def __init__(self, code: int, case: str, body: bytes, status: int, media_type: str = "application/json") -> None:
        self.code = code
        self.case = case
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            *_HEADERS,
            (b"content-type", media_type.encode("latin-1")),
            (b"content-length", str(len(body)).encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002, D102 (ASGI says what)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


@dataclass(frozen=True, slots=True)
class _Words:
    """How one case is answered: its code, what to say where it was caused and where not, what stands for data."""

    code: int
    caused: str
    asked_for: str
    empty: object = None


class ResponseWriter:
    """Writes answers with the contract's codes, in the dialect's words.

    A code for which the dialect has no case is one by itself. A case that nobody caused has no details to tell of, so
    the code's description says it.

    Args:
        codes: The codes by name.
        dialect: What to say in each case.
        http_status: How the code shows in the HTTP status.
    """

    def __init__(self, codes: Mapping[str, Code], dialect: Dialect, http_status: HttpStatus) -> None:
        self._words = {name: _Words(code.number, "", code.description) for name, code in codes.items()}
        self._words |= {name: _words(case, codes) for name, case in dialect.cases.items()}
        self.cases_of_codes = {code.number: dialect.case_of_code(code.name) for code in codes.values()}
        """Names of the cases that stand for the documented codes."""
        self._mirrors = http_status == "mirror"

    def success(self, data: Any) -> ApiResponse:
        """Return the answer to a request that succeeded."""
        words = self._words["done"]
        return self._answer("done", words.code, words.caused, data)

    def error(self, refusal: ServiceError) -> ApiResponse:
        """Return the answer to a request that was refused."""
        words = self._words[refusal.case]
        message = words.asked_for if refusal.is_simulated else words.caused.format_map(refusal.details)
        return self._answer(refusal.case, words.code, message, words.empty)

    def file_error(self, case: str, message: str = "") -> ApiResponse:
        """Return the answer in place of a file: files are no API, their HTTP status always tells the truth.

        Args:
            case: Name of the case, as in the dialect.
            message: What to say in place of the dialect's words, where these tell less.
        """
        words = self._words[case]
        answer = self._answer(case, words.code, message or words.caused, words.empty)
        answer.status_code = words.code
        return answer

    def for_code(self, number: int, message: str | None = None) -> ApiResponse:
        """Return the answer with a documented code that nobody caused, in the dialect's words or in others."""
        case = self.cases_of_codes[number]
        words = self._words[case]
        return self._answer(case, words.code, words.asked_for if message is None else message, words.empty)

    def success_without_data(self) -> bytes:
        """Return the body of a success that has no ``data``."""
        words = self._words["done"]
        return msgspec.json.encode(Envelope(words.code, words.caused, UNSET))

    def callback(self, case: str, record: Mapping[str, Any]) -> bytes:
        """Return what is POSTed when a task has ended."""
        words = self._words[case]
        return msgspec.json.encode(Envelope(words.code, words.caused, record))

    def _answer(self, case: str, code: int, message: str, data: Any) -> ApiResponse:
        body = msgspec.json.encode(Envelope(code, message, data))
        return ApiResponse(code, case, body, code if self._mirrors else 200)


def _words(case: Case, codes: Mapping[str, Code]) -> _Words:
    name = case.instead_of or case.code
    asked_for = codes[name].description if "{" in case.message and isinstance(name, str) else case.message
    return _Words(case.number(codes), case.message, asked_for, None if case.data else UNSET)
