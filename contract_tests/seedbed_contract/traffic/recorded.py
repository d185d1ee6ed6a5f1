"""One exchange as a recorder kept it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedbed_contract.exchange import Headers

Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One exchange as a recorder kept it.

    Attributes:
        index: Its place in the file, from 0.
        method: HTTP method, in capitals.
        url: Where it went, without user name, password and fragment.
        path: Path of the URL, as it was sent.
        query: Names and values of the query, decoded, in order.
        request_headers: Headers of the request in order.
        request_body: Its bytes; ``None`` where there is none, or it was not recorded.
        status: HTTP status; 0 where no answer came.
        response_headers: Headers of the answer in order, names in lower case.
        response_body: Bytes of the answer, content encodings undone; ``None`` where they were not recorded.
        started: When the request was sent, in Unix seconds; 0 where that was not recorded.
        seconds: How long it took until the answer was there.
        aside: Why it says nothing of the service, a phrase; empty where it does.
    """

    index: int
    method: str
    url: str
    path: str
    query: Query
    request_headers: Headers = field(repr=False)
    request_body: bytes | None
    status: int
    response_headers: Headers = field(repr=False)
    response_body: bytes | None
    started: float
    seconds: float
    aside: str = ""

    @property
    def ended(self) -> float:
        """When the answer was there, in Unix seconds."""
        return self.started + self.seconds

    def values(self, name: str) -> list[str]:
        """Return the values of a parameter of the query, in order."""
        return [value for known, value in self.query if known == name]


def header(headers: Headers, name: str) -> str:
    """Return a header, empty where there is none."""
    return next((value for known, value in headers if known.lower() == name.lower()), "")
