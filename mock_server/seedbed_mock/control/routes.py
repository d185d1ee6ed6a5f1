"""The control API over HTTP: who is let in, what is read, and what is answered."""

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

from seedbed_mock.control import schemas
from seedbed_mock.control.api import DOCUMENTATION, OPERATIONS, ROOT, ConflictError, UnknownResourceError
from seedbed_mock.control.auth import ForbiddenError, check_access
from seedbed_mock.control.openapi import document
from seedbed_mock.handlers import parse_json, read_body
from seedbed_mock.responses import MOCK_HEADERS, ServiceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from msgspec import Struct
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.control.api import ControlApi, ControlOperation

    _Run = Callable[[Scope, Mapping[bytes, bytes], bytes | None], Awaitable[object]]

_SPACE_HEADER = local.SPACE_HEADER.lower().encode()


def routes(control: ControlApi, token: str) -> list[Route]:
    """Return the routes of the control API.

    Args:
        control: What does the work.
        token: What callers must show, empty where they need not.
    """
    found = [
        Route(f"{ROOT}{each.path}", _Guarded(_Runner(each, control), token), methods=[each.method])
        for each in OPERATIONS
    ]
    found.append(Route(f"{ROOT}{DOCUMENTATION}", _Guarded(_documentation, token), methods=["GET"]))
    elsewhere = _Guarded(_Elsewhere(found), token)
    return [*found, Route(ROOT, elsewhere), Route(f"{ROOT}/{{rest:path}}", elsewhere)]


class _Guarded:
    """An ASGI application that answers those only who may call the control API."""

    def __init__(self, run: _Run, token: str) -> None:
        self._run = run
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            check_access(scope, self._token)
            body = await read_body(receive)
            answer = _json(200, await self._run(scope, headers, body))
        except ClientDisconnect:
            return
        except Exception as error:
            answer = _refusal(error)
        await answer(scope, receive, send)


class _Runner:
    """An operation, fed from a request."""

    def __init__(self, operation: ControlOperation, control: ControlApi) -> None:
        self._operation = operation
        self._control = control

    async def __call__(self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes | None) -> object:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        asked = msgspec.convert(query, self._operation.query, strict=False)
        told = _read(body, self._operation.body)
        space = headers.get(_SPACE_HEADER, b"").decode("latin-1")
        return await self._operation.run(
            self._control, scope["path_params"], _in_space(asked, space), _in_space(told, space)
        )


def _in_space(asked: Struct, space: str) -> Struct:
    """Return what was asked, in the space of the header where it names none itself."""
    if not space or not isinstance(asked, schemas.InSpace) or asked.space is not None:
        return asked
    return replace(asked, space=msgspec.convert({"space": space}, schemas.InSpace).space)


class _WrongMethodError(Exception):
    """There is such a path, but not for that method.

    Args:
        allowed: The methods that there are.
        sentence: What to do instead.
    """

    def __init__(self, allowed: Iterable[str], sentence: str) -> None:
        super().__init__(sentence)
        self.allowed = ", ".join(allowed)


class _Elsewhere:
    """What answers calls that lead to no operation, and tells which lead to one.

    Args:
        found: The routes that do.
    """

    def __init__(self, found: Iterable[Route]) -> None:
        self._found = tuple(found)

    async def __call__(self, scope: Scope, *_: object) -> object:
        near = [route for route in self._found if route.matches(scope)[0] is Match.PARTIAL]
        called, known = (
            f"{for_display(scope['method'])} {for_display(scope['path'])}",
            ", ".join(map(_call, near or self._found)),
        )
        sentence = f"The control API has no {called}; it has {known}."
        if near:
            raise _WrongMethodError({method for route in near for method in route.methods or ()}, sentence)
        raise UnknownResourceError(sentence)


def _call(route: Route) -> str:
    # Starlette answers HEAD wherever it answers GET.
    return f"{'/'.join(sorted((route.methods or set()) - {'HEAD'}))} {route.path}"


async def _documentation(*_: object) -> object:
    return document(OPERATIONS, ROOT, DOCUMENTATION)


def _read(body: bytes | None, shape: type[Struct]) -> Struct:
    if body is not None and not body.strip():
        return msgspec.convert({}, shape)
    try:
        return msgspec.convert(parse_json(body)[0], shape)
    except ServiceError as error:
        raise ValueError(error.details["problem"]) from error


_PLACE = re.compile(r" - at `\$\.(.+)`$")
"""Where msgspec found a value that is not as it should be."""

_STATUSES: dict[type[Exception], int] = {
    UnknownResourceError: 404,
    _WrongMethodError: 405,
    ConflictError: 409,
    msgspec.ValidationError: 422,
    ValueError: 422,
}


def _refusal(error: Exception) -> Response:
    if isinstance(error, ForbiddenError):
        return _json(error.status, schemas.Problem(str(error)))
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)
    if status is None:
        raise error
    sentence = _PLACE.sub(r" for \1", " ".join(str(error).split())).removesuffix(" - at `$`")
    sentence = sentence[:1].upper() + sentence[1:]
    answer = _json(status, schemas.Problem(sentence if sentence.endswith(".") else f"{sentence}."))
    if isinstance(error, _WrongMethodError):
        answer.headers["allow"] = error.allowed
    return answer


def at_fault() -> Response:
    """Return the answer where the server itself is at fault."""
    return _json(500, schemas.Problem("The server itself is at fault, which is a bug of Seedbed."))


def _json(status: int, value: object) -> Response:
    return Response(msgspec.json.encode(value), status, MOCK_HEADERS, media_type="application/json")
