"""The one place where an outcome becomes an answer: its code, its words and its HTTP status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from seedbed_schemas import __version__
from seedbed_schemas.wire import Envelope
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas import Code
    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.settings import HttpStatus


FAKE: Final = {"X-Seedbed": __version__}
"""Header of every answer, which the real service does not send: it says that this is a fake."""


class Refusal(Exception):
    """A named case in which the service says no.

    Args:
        case: Name of the case, as in the dialect.
        is_caused: Whether something caused it, or somebody just asked for it.
        details: What the dialect's words mention of the cause.
    """

    def __init__(self, case: str, *, is_caused: bool = True, **details: object) -> None:
        super().__init__(case)
        self.case = case
        self.is_caused = is_caused
        self.details = details


class Answers:
    """Writes answers with the contract's codes, in the dialect's words.

    A code for which the dialect has no case is one by itself. A case that nobody caused has no details to tell of, so
    the code's description says it.

    Args:
        codes: The codes by name.
        dialect: What to say in each case.
        http_status: How the code shows in the HTTP status.
    """

    def __init__(self, codes: Mapping[str, Code], dialect: Dialect, http_status: HttpStatus) -> None:
        self._codes = {name: codes[case.code] for name, case in dialect.cases.items()} | dict(codes)
        self._messages = {name: case.message for name, case in dialect.cases.items()}
        self._mirrors = http_status == "mirror"

    def done(self, data: Any) -> Response:
        """Return the answer to a request that succeeded."""
        return self._envelope(self._codes["done"].number, self._messages["done"], data)

    def refused(self, refusal: Refusal) -> Response:
        """Return the answer to a request that was refused."""
        code, message = self._codes[refusal.case], self._messages.get(refusal.case, "")
        words = message.format_map(refusal.details) if refusal.is_caused else code.description
        return self._envelope(code.number, words, None)

    def missing_file(self) -> Response:
        """Return the answer for a file that is not there: files are no API, their HTTP status tells the truth."""
        answer = self.refused(Refusal("result_unknown"))
        answer.status_code = self._codes["result_unknown"].number
        return answer

    def _envelope(self, code: int, message: str, data: Any) -> Response:
        body = msgspec.json.encode(Envelope(code, message, data))
        return Response(body, code if self._mirrors else 200, FAKE, media_type="application/json")
