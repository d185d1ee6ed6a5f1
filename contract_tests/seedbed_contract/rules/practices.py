"""Good practices: what a robust server does although neither the page nor a standard demands it.

A server that differs is lawful, so each of these findings is a warning. Every practice has a statement and a source, as
the clauses of the contract have.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import Clause

from seedbed_contract.target import OK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.http import Exchange
    from seedbed_contract.target import Expectations


STRICT_JSON: Final = "practice/strict-json"
MEDIA_TYPE: Final = "practice/media-type"
UNKNOWN_FIELDS: Final = "practice/unknown-fields"
CHUNKED: Final = "practice/chunked-bodies"
ODD_QUERIES: Final = "practice/odd-queries"
UNKNOWN_PATHS: Final = "practice/unknown-paths"
OTHER_METHODS: Final = "practice/other-methods"
CALLBACK_PORT: Final = "practice/callback-port"
CALLBACK_HTTP: Final = "practice/callback-http"
CALLBACK_SCHEME: Final = "practice/callback-scheme"
REDIRECTS: Final = "practice/redirects"
ANY_SUCCESS: Final = "practice/any-success"
VISIBLE: Final = "practice/visible-at-once"
ONE_DIALECT: Final = "practice/one-dialect"

_STATEMENTS: Final[dict[str, tuple[str, str]]] = {
    STRICT_JSON: (
        "A body that is not one JSON text in UTF-8 is rejected.",
        "RFC 8259, sections 2 and 8.1; section 9 allows a parser to accept more.",
    ),
    MEDIA_TYPE: (
        "A body that is labelled as something else than JSON is rejected.",
        "The model's page, Body (application/json); RFC 9110, section 15.5.16. Browsers send such bodies across "
        "sites without asking (Fetch standard, CORS-safelisted request headers).",
    ),
    UNKNOWN_FIELDS: (
        "Fields that the page does not name are ignored.",
        "RFC 9413, section 5; newer pages of this service add fields to existing models (H).",
    ),
    "practice/odd-texts": (
        "An empty text, a NUL or a lone surrogate is accepted or rejected, but is no failure of the server.",
        "RFC 8259, section 8.2; RFC 9110, section 15.6: code 5xx means that the server failed.",
    ),
    "practice/odd-numbers": (
        "A number of any size or spelling is accepted or rejected, but is no failure of the server.",
        "RFC 8259, section 6; RFC 9110, section 15.6.",
    ),
    "practice/deep-nesting": (
        "A deeply nested body is rejected, but is no failure of the server.",
        "RFC 8259, section 9: a parser may limit the depth; CWE-674: uncontrolled recursion.",
    ),
    "practice/large-bodies": (
        "A large body is rejected, but is no failure of the server.",
        "RFC 9110, section 15.5.14; CWE-770: allocation of resources without limits.",
    ),
    "practice/repeated-names": (
        "An object with a repeated name is accepted or rejected, but is no failure of the server.",
        "RFC 8259, section 4; RFC 9110, section 15.6.",
    ),
    "practice/odd-headers": (
        "Odd headers of a body are accepted or rejected, but are no failure of the server.",
        "RFC 9110, sections 5.3, 8.3, 8.4 and 15.5.16.",
    ),
    CHUNKED: (
        "A body in chunks, without Content-Length, is accepted.",
        "RFC 9112, section 7.1; RFC 9110, section 15.5.12, allows code 411.",
    ),
    ODD_QUERIES: (
        "An odd query is accepted or rejected, but is no failure of the server.",
        "RFC 3986, section 2.1; RFC 9110, sections 15.5.15 and 15.6.",
    ),
    "practice/key-spelling": (
        "The case of the authorization scheme and the number of spaces after it make no difference.",
        "RFC 9110, sections 11.1 and 11.4.",
    ),
    "practice/strict-key": ("A malformed Authorization header is rejected.", "RFC 9110, section 11.4; RFC 6750, 3.1."),
    "practice/one-key": (
        "A request with two keys, one of them wrong, is rejected.",
        "RFC 9110, section 5.3; CWE-444: servers in a row may read such a request differently.",
    ),
    "practice/odd-keys": (
        "An odd Authorization header is accepted or rejected, but is no failure of the server.",
        "RFC 9110, sections 11.6.2 and 15.6.",
    ),
    UNKNOWN_PATHS: (
        "The response to an unknown path is a refusal in JSON.",
        "Every response is JSON: recorded traffic or several sources (H).",
    ),
    OTHER_METHODS: (
        "A method that an operation does not have is rejected.",
        "RFC 9110, section 15.5.6, which also requires the header Allow in a response with HTTP 405.",
    ),
    CALLBACK_PORT: ("A callBackUrl with a port is accepted.", "The model's page, callBackUrl (format: uri)."),
    CALLBACK_HTTP: ("A callBackUrl with plain http is accepted.", "The model's page, callBackUrl (format: uri)."),
    CALLBACK_SCHEME: (
        "A callBackUrl to which nothing can be POSTed, such as ftp:, is rejected.",
        "The model's page, callBackUrl: receives a POST; CWE-918: server-side request forgery.",
    ),
    REDIRECTS: (
        "A callback does not follow a redirect of the receiver.",
        "OWASP, Server-Side Request Forgery Prevention Cheat Sheet; RFC 9110, section 15.4, leaves it open.",
    ),
    ANY_SUCCESS: (
        "A callback that the receiver accepted with another HTTP status of success than 200 is not sent again.",
        "RFC 9110, section 15.3: every status 2xx means that the request was accepted.",
    ),
    VISIBLE: (
        "A new task can be queried at once.",
        "The model's page, data.taskId: the ID for querying the task; the running service needs a moment (H).",
    ),
    ONE_DIALECT: (
        "A server uses one dialect: the unit of costTime and the form of param fit its codes.",
        "The dialects of Seedbed; recorded traffic or several sources (H).",
    ),
    "practice/single-headers": (
        "A response has a header with one value only once.",
        "RFC 9110, section 5.3.",
    ),
    "practice/unique-names": (
        "The names in an object of a response are unique.",
        "RFC 8259, section 4; RFC 7493, section 2.3.",
    ),
    "practice/identity": (
        "A response is not compressed if the client does not accept that.",
        "RFC 9110, section 12.5.3.",
    ),
    "practice/fresh-records": (
        "A task record may not be taken from a cache.",
        "RFC 9111, section 4.2: a poll would show an old state for as long.",
    ),
}

PRACTICES: Final = {
    name: Clause(name, "behaviour", says, {"source": source}, "warning") for name, (says, source) in _STATEMENTS.items()
}
"""The practices by ID, in the order of a report."""

_SINGLE_HEADERS: Final = frozenset(
    ("age", "content-length", "content-range", "content-type", "date", "etag", "expires", "last-modified", "location")
)
_MAX_AGE: Final = re.compile(r"(?:s-maxage|max-age)\s*=\s*\"?0*[1-9]")
_FAILURE: Final = 500
"""Codes and HTTP statuses from here on say that the server failed."""
_NOT_CACHED: Final = re.compile(r"no-store|no-cache")


def response_practices(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """Yield the ID of each practice that the form of a response does not follow, with a title."""
    response = exchange.response
    if response is None:
        return
    names = Counter(name for name, _ in response.headers if name in _SINGLE_HEADERS)
    for name in (name for name, count in names.items() if count > 1):
        yield "practice/single-headers", f"a response has several {name} headers"
    if (encoding := response.header("content-encoding").strip().lower()) not in {"", "identity"}:
        yield "practice/identity", f"a response is compressed with {encoding}, although the request does not accept it"
    if isinstance(response.json, dict) and _has_repeated_names(response.body):
        yield "practice/unique-names", "an object in a response has a name twice"
    caching = response.header("cache-control").lower()
    is_record = exchange.request.operation == "recordInfo" and isinstance(response.data, dict)
    if is_record and _MAX_AGE.search(caching) and not _NOT_CACHED.search(caching):
        yield "practice/fresh-records", "a cache may keep a task record"


def _has_repeated_names(body: bytes) -> bool:
    repeated = False

    def read(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        repeated = repeated or len(dict(pairs)) < len(pairs)

    json.loads(body, object_pairs_hook=read)
    return repeated


def failure_of(exchange: Exchange, expected: Expectations) -> str:
    """Return how a target fails on a request instead of accepting or refusing it; empty if it does not.

    A dialect may use the code of an internal error for invalid requests too; then the message decides.
    """
    response = exchange.response
    if response is None:
        return "gets no response"
    if response.code is None:
        return f"is answered with HTTP {response.status}" if response.status >= _FAILURE else ""
    if response.code < _FAILURE:
        return ""
    internal, invalid = expected.dialect.cases["internal_error"], expected.codes("request_invalid", "body_malformed")
    if response.code in invalid and response.json.get("msg") != internal.message:
        return ""
    return f"is answered with code {response.code}"


def is_success(exchange: Exchange, expected: Expectations) -> bool:
    """Return whether a call succeeded, by the code or, for a response that has none, by the HTTP status."""
    if exchange.response is None or exchange.code is not None:
        return exchange.code == expected.success
    return exchange.response.status == OK and exchange.request.method != "HEAD"
