"""The control API over HTTP: access control, request parsing, and error responses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec
from msgspec.structs import replace
from seedbed_schemas import local
from seedbed_schemas.validation import for_display
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route

from seedbed_mock.access import ForbiddenError, address_of, check_access, url_called
from seedbed_mock.control import schemas
from seedbed_mock.control.api import DOCUMENT_PATH, METRICS_PATH, OPERATIONS, ROOT, ConflictError, UnknownResourceError
from seedbed_mock.control.openapi import document
from seedbed_mock.request_body import parse_json, read_body
from seedbed_mock.responses import MOCK_HEADERS, ServiceError
from seedbed_mock.stores.store import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from msgspec import Struct
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.control.api import ControlApi, ControlOperation

    _Run = Callable[[Scope, Mapping[bytes, bytes], bytes | None], Awaitable[object]]

_SPACE_HEADER = local.SPACE_HEADER.lower().encode()


def routes(control: ControlApi, token: str, names: frozenset[str]) -> list[Route]:
    """Return the routes of the control API.

    Args:
        control: Performs the operations.
        token: Token that callers must send; empty to admit callers on this machine without one.
        names: Host names of the server besides its address and localhost.
    """
    known = [
        Route(f"{ROOT}{each.path}", _GuardedEndpoint(_Operation(each, control), token, names), methods=[each.method])
        for each in OPERATIONS
    ]
    known.append(Route(f"{ROOT}{DOCUMENT_PATH}", _GuardedEndpoint(_openapi_document, token, names), methods=["GET"]))
    known.append(Route(f"{ROOT}{METRICS_PATH}", _GuardedEndpoint(_Metrics(control), token, names), methods=["GET"]))
    # Unknown paths are guarded as well, so that a web page cannot even learn which paths exist.
    unknown = _GuardedEndpoint(_UnknownPath(known), token, names)
    return [*known, Route(ROOT, unknown), Route(f"{ROOT}/{{rest:path}}", unknown)]


class _GuardedEndpoint:
    """An ASGI application that runs a function for callers that have access.

    Args:
        run: Takes the scope, the headers and the body of a request, and returns the value of the response.
        token: Token that callers must send, if any.
        names: Host names of the server besides its address and localhost.
    """

    def __init__(self, run: _Run, token: str, names: frozenset[str]) -> None:
        self._run = run
        self._token = token
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            check_access(scope, self._token, self._names)
            if scope.get("client"):
                # Any host is believed that came with the token.
                names = frozenset("*") if self._token else self._names
                host, scheme = headers.get(b"host", b""), scope.get("scheme", "http")
                schemas.called_url.set(url_called(address_of(scope), host, names, scheme, scope.get("root_path", "")))
            body = await read_body(receive)
            result = await self._run(scope, headers, body)
            response = result if isinstance(result, Response) else _json_response(200, result)
        except ClientDisconnect:
            return
        except Exception as error:
            response = _error_response(error)
        await response(scope, receive, send)


class _Operation:
    """Runs an operation of the table with the parameters of a request."""

    def __init__(self, operation: ControlOperation, control: ControlApi) -> None:
        self._operation = operation
        self._control = control

    async def __call__(self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes | None) -> object:
        parameters = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        query = msgspec.convert(parameters, self._operation.query, strict=False)
        try:
            content = {} if body is not None and not body.strip() else parse_json(body)[0]
        except ServiceError as error:
            raise ValueError(error.details["problem"]) from error
        value = msgspec.convert(content, self._operation.body)
        space = headers.get(_SPACE_HEADER, b"").decode("latin-1")
        return await self._operation.run(
            self._control, scope["path_params"], _with_space(query, space), _with_space(value, space)
        )


def _with_space(value: Struct, space: str) -> Struct:
    """Return a query or a body with the space of the header, unless it names a space itself."""
    if not space or not isinstance(value, schemas.SpaceQuery) or value.space is not None:
        return value
    # Converted for the check of the name.
    return replace(value, space=msgspec.convert({"space": space}, schemas.SpaceQuery).space)


class _WrongMethodError(Exception):
    """The path exists, but not with this method.

    Args:
        allowed: Methods of the path.
        message: What to call instead, in one sentence.
    """

    def __init__(self, allowed: Iterable[str], message: str) -> None:
        super().__init__(message)
        self.allowed = ", ".join(allowed)


class _UnknownPath:
    """Raises an error that lists the operations, for a request that does not match any operation."""

    def __init__(self, known: Iterable[Route]) -> None:
        self._known = tuple(known)

    async def __call__(self, scope: Scope, *_: object) -> object:
        same_path = [route for route in self._known if route.matches(scope)[0] is Match.PARTIAL]
        called = f"{for_display(scope['method'])} {for_display(scope['path'])}"
        # Starlette adds HEAD to every route with GET.
        valid = [
            f"{'/'.join(sorted((route.methods or set()) - {'HEAD'}))} {route.path}"
            for route in same_path or self._known
        ]
        message = f"The control API has no operation {called}; valid operations: {', '.join(valid)}."
        if same_path:
            raise _WrongMethodError({method for route in same_path for method in route.methods or ()}, message)
        raise UnknownResourceError(message)


class _Metrics:
    """Returns the metrics for Prometheus."""

    def __init__(self, control: ControlApi) -> None:
        self._control = control

    async def __call__(self, _: Scope, headers: Mapping[bytes, bytes], *__: object) -> object:
        # Imported with the first scrape: prometheus_client takes a good part of the start-up time.
        from seedbed_mock.control.metrics import exposition

        accept = headers.get(b"accept", b"").decode("latin-1")
        content, media_type = await exposition(self._control.service, accept)
        return Response(content, 200, {**MOCK_HEADERS, "Content-Type": media_type})


async def _openapi_document(*_: object) -> object:
    return document(OPERATIONS, ROOT, DOCUMENT_PATH, METRICS_PATH)


_STATUSES: dict[type[Exception], int] = {
    UnknownResourceError: 404,
    _WrongMethodError: 405,
    ConflictError: 409,
    StoreUnavailableError: 503,
    msgspec.ValidationError: 422,
    ValueError: 422,
}


def _error_response(error: Exception) -> Response:
    """Return the response for an error of the caller; raise any other error again."""
    if isinstance(error, ForbiddenError):
        return refusal(error)
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)
    if status is None:
        raise error
    # msgspec appends the place of a value, as in "Expected `int`, got `str` - at `$.limit`".
    message = re.sub(r" - at `\$\.(.+)`$", r" for \1", " ".join(str(error).split())).removesuffix(" - at `$`")
    message = message[:1].upper() + message[1:]
    response = _json_response(status, schemas.Problem(message if message.endswith(".") else f"{message}."))
    if isinstance(error, _WrongMethodError):
        response.headers["allow"] = error.allowed
    return response


def refusal(error: ForbiddenError) -> Response:
    """Return the response to a caller without access."""
    return _json_response(error.status, schemas.Problem(str(error)))


def internal_error() -> Response:
    """Return the response for an internal error of the server."""
    return _json_response(500, schemas.Problem("Internal error of the mock server; this is a bug in Seedbed."))


def _json_response(status: int, value: object) -> Response:
    return Response(msgspec.json.encode(value), status, MOCK_HEADERS, media_type="application/json")
