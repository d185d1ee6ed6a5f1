"""The one place where an outcome becomes an answer: its code, its words and its HTTP status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from seedbed_schemas.wire import Envelope
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas import Code
    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.settings import HttpStatus


class Refusal(Exception):
    """A named case in which the service says no.

    Args:
        case: Name of the case, as in the dialect.
        details: What the dialect's words mention.
    """

    def __init__(self, case: str, **details: object) -> None:
        super().__init__(case)
        self.case = case
        self.details = details


class Answers:
    """Writes answers with the contract's codes, in the dialect's words.

    A code for which the dialect has no case is one by itself, and goes by its own name and description.

    Args:
        codes: The codes by name.
        dialect: What to say in each case.
        http_status: How the code shows in the HTTP status.
    """

    def __init__(self, codes: Mapping[str, Code], dialect: Dialect, http_status: HttpStatus) -> None:
        self._cases = {name: (code.number, code.description) for name, code in codes.items()}
        self._cases |= {name: (case.number(codes), case.message) for name, case in dialect.cases.items()}
        self._mirrors = http_status == "mirror"

    def done(self, data: Any) -> Response:
        """Return the answer to a request that succeeded."""
        code, message = self._cases["done"]
        return self._envelope(code, message, data)

    def refused(self, refusal: Refusal) -> Response:
        """Return the answer to a request that was refused."""
        code, message = self._cases[refusal.case]
        return self._envelope(code, message.format_map(_Details(refusal.details)), None)

    def missing_file(self) -> Response:
        """Return the answer for a file that is not there: files are no API, their HTTP status tells the truth."""
        answer = self.refused(Refusal("result_unknown"))
        answer.status_code, _ = self._cases["result_unknown"]
        return answer

    def _envelope(self, code: int, message: str, data: Any) -> Response:
        body = msgspec.json.encode(Envelope(code, message, data))
        return Response(body, code if self._mirrors else 200, media_type="application/json")


class _Details(dict[str, object]):
    """The details of a case; those of a case that was asked for and not caused are left open."""

    def __missing__(self, name: str) -> str:
        return "..."
