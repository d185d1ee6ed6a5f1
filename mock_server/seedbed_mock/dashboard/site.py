"""The pages of the dashboard over HTTP: who may see them, what they load, and what their forms do."""

from __future__ import annotations

import hmac
import re
from functools import cached_property
from hashlib import sha256
from math import inf
from pathlib import Path
from secrets import token_bytes, token_urlsafe
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from seedbed_mock.access import ForbiddenError, check_access
from seedbed_mock.clock import real_monotonic
from seedbed_mock.control.api import ConflictError, UnknownResourceError
from seedbed_mock.dashboard import views
from seedbed_mock.dashboard.live import MOST_STREAMS, LiveStreams
from seedbed_mock.dashboard.views import DashboardSource, Selection
from seedbed_mock.request_body import read_body
from seedbed_mock.responses import MOCK_HEADERS
from seedbed_mock.settings import CONTROL_ROOT, SettingsError, base_url
from seedbed_mock.stores.store import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send


HOME: Final = f"{CONTROL_ROOT}/"
"""Path of the page."""

DOCS: Final = f"{CONTROL_ROOT}/docs"
"""Path of the pages about the APIs."""

PAGES: Final = f"{CONTROL_ROOT}/dashboard"
"""Path of what the page loads."""

_FOLDER = Path(__file__).parent
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

_REFUSALS = (ForbiddenError, UnknownResourceError, ConflictError, StoreUnavailableError, SettingsError, ValueError)

_COMMON_HEADERS: Final = {
    **MOCK_HEADERS,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types htmx"
)
# Swagger UI has its icons in its style sheet, and writes to the page in ways of its own.
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

_NO_TOKEN: Final = 401
"""Status of the refusal of a caller that lacks only the token."""

_BILL_SECONDS: Final = 1.0

_LISTS = ("rules",)
"""Names of values that a form gives as lines of text."""


class Dashboard:
    """The dashboard of a server as an ASGI application.

    Args:
        source: What it shows and controls.
    """

    def __init__(self, source: DashboardSource) -> None:
        self._source = source
        self._streams = LiveStreams()
        # Made anew with each server, so that a session of an earlier one is worth nothing.
        self._session = hmac.digest(token_bytes(32), source.token.encode(), sha256).hex()
        self._views = views.views_of(source)
        self._billed = -inf, ""

    @cached_property
    def _templates(self) -> Environment:
        templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.filters |= {
            "moment": views.moment,
            "date": views.date,
            "amount": views.amount,
            "pretty": views.pretty,
        }
        templates.globals |= {
            "home": HOME,
            "pages": PAGES,
            "prompt_of": views.prompt_of,
            "views": self._views,
            "filters": views.FILTERS,
            "source": self._source,
            "link": lambda selection, **changes: f"{HOME}?{urlencode(selection.query(**changes))}",
            "has": lambda name: self._source.operation(name) is not None,
        }
        return templates

    def close(self) -> None:
        """End all streams, so that a server that stops need not wait for them."""
        self._streams.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        request = Request(scope, receive)
        path = request.url.path.removeprefix(scope.get("root_path", ""))
        try:
            refusal = self._refusal(request)
            if refusal is None and path == f"{PAGES}/events":
                await self._stream(request, receive, send)
                return
            response = await (
                self._respond(request, path) if refusal is None else self._refused(request, path, refusal)
            )
        except ClientDisconnect:
            return
        except (UnknownResourceError, StoreUnavailableError, ValueError) as error:
            statuses = {UnknownResourceError: 404, StoreUnavailableError: 503}
            response = self._page("message.html", statuses.get(type(error), 422), message=_sentence(error))
        await response(scope, receive, send)

    def _refusal(self, request: Request) -> ForbiddenError | None:
        try:
            check_access(request.scope, self._source.token, self._source.names)
        except ForbiddenError as error:
            # Only the token is missing: a browser has a session in its place, since it cannot send one with a page.
            sent = request.cookies.get(self._cookie_name(request), "")
            if error.status == _NO_TOKEN and hmac.compare_digest(sent.encode(), self._session.encode()):
                return None
            return error
        return None

    def _cookie_name(self, request: Request) -> str:
        # Cookies do not belong to a port, and several servers may run on this machine.
        return f"seedbed_session_{request.scope['server'][1]}"

    async def _refused(self, request: Request, path: str, refusal: ForbiddenError) -> Response:
        if path.startswith(f"{PAGES}/static/"):
            return self._file(path.rpartition("/")[2])
        if refusal.status != _NO_TOKEN:
            return self._page("message.html", refusal.status, message=str(refusal))
        if request.method == "POST" and path == f"{PAGES}/login":
            token = (await _form(request)).get("token", "").strip()
            if hmac.compare_digest(token.encode(), self._source.token.encode()):
                response = RedirectResponse(HOME, 303, _COMMON_HEADERS)
                response.set_cookie(
                    self._cookie_name(request), self._session, path=CONTROL_ROOT, httponly=True, samesite="strict"
                )
                return response
            return self._page("login.html", 401, problem="This is not the token of the server.")
        return self._page("login.html", 401, problem="")

    def _selection(self, query: Mapping[str, str]) -> Selection:
        return Selection.of(query, self._views, self._source.start)

    async def _respond(self, request: Request, path: str) -> Response:
        section, _, rest = path.removeprefix(f"{PAGES}/").partition("/")
        section = {HOME: "home", DOCS: "docs"}.get(path, section)
        if found := self._sections.get(section):
            return await found(request, rest)
        raise UnknownResourceError("There is no such page.")

    @cached_property
    def _sections(self) -> dict[str, Callable[[Request, str], Awaitable[Response]]]:
        async def static(_: Request, name: str) -> Response:
            return self._file(name)

        async def details(request: Request, _: str) -> Response:
            html = await self._details(request, self._selection(request.query_params))
            return self._html(html, 200, _POLICY.format(nonce=token_urlsafe(16)))

        async def thumbnail(_: Request, task_id: str) -> Response:
            if self._source.thumbnail is None:
                raise UnknownResourceError("This server has no thumbnails.")
            return await self._source.thumbnail(task_id)

        async def login(_request: Request, _: str) -> Response:
            # The caller has access already, so that there is nothing to do.
            return RedirectResponse(HOME, 303, _COMMON_HEADERS)

        return {
            "home": self._home,
            "docs": self._docs,
            "openapi": self._document,
            "do": self._act,
            "static": static,
            "details": details,
            "thumbnails": thumbnail,
            "login": login,
        }

    async def _home(self, request: Request, _: str) -> Response:
        selection = self._selection(request.query_params)
        parts = await self._parts(selection)
        stream = f"{PAGES}/events?{urlencode(selection.query(opened=''))}"
        details = await self._details(request, selection) if selection.opened else ""
        shown = await views.status(self._source, selection)
        return self._page("page.html", 200, selection=selection, parts=parts, stream=stream, details=details, **shown)

    async def _docs(self, request: Request, _: str) -> Response:
        documents, chosen = self._source.documents, request.query_params.get("api", "")
        if not documents:
            raise UnknownResourceError("This server has no OpenAPI document.")
        chosen = chosen if chosen in documents else next(iter(documents))
        return self._page("docs.html", 200, policy=_DOCS_POLICY, documents=documents, chosen=chosen)

    async def _document(self, _: Request, title: str) -> Response:
        if title not in self._source.documents:
            raise UnknownResourceError("This server has no such OpenAPI document.")
        # Of this server: a request that is tried out must not reach the real one.
        content = msgspec.json.encode({**self._source.documents[title](), "servers": [{"url": "/"}]})
        return Response(content, 200, _COMMON_HEADERS, media_type="application/json")

    async def _parts(self, selection: Selection) -> dict[str, str]:
        """Return the parts of a page that change by themselves, by the IDs of their elements."""
        status = {**await views.status(self._source, selection), "bill": self._bill()}
        found = await views.listed(self._source, selection)
        shown = {"selection": selection, **status, **found}
        return {
            "status": self._templates.get_template("status.html").render(shown),
            "list": self._templates.get_template(f"{selection.view}.html").render(shown),
        }

    def _bill(self) -> str:
        # Adding thousands of tasks up takes time, and a page is rendered ten times a second.
        if (now := real_monotonic()) - self._billed[0] >= _BILL_SECONDS:
            self._billed = now, self._source.bill()
        return self._billed[1]

    async def _details(self, request: Request, selection: Selection) -> str:
        """Return what is opened beside the list."""
        opened = selection.opened
        try:
            if opened.isdecimal() and len(opened) <= views.MOST_DIGITS:
                found = views.find_call(self._source, int(opened))
                url = base_url(*request.scope["server"], request.url.scheme)
                shown = views.call_details(self._source, *found, url)
                template = "call.html"
            else:
                shown, template = await views.task_details(self._source, opened), "task.html"
        except UnknownResourceError as error:
            shown, template = {"message": str(error)}, "gone.html"
        return self._templates.get_template(template).render(selection=selection, **shown)

    async def _act(self, request: Request, name: str) -> Response:
        """Do what a form asks for, with an operation of the control API."""
        if request.method != "POST":
            raise UnknownResourceError("A form sends this; open the dashboard.")
        values: dict[str, Any] = await _form(request)
        selection = self._selection(values)
        for each in _LISTS:
            if each in values:
                values[each] = [line for line in values[each].splitlines() if line.strip()]
        try:
            await self._source.call(name, values)
            problem = ""
        except _REFUSALS as error:
            problem = _sentence(error)
        if "hx-request" in request.headers:
            done = f"{values.get('done') or 'Done'}."
            return self._page("notice.html", 200, problem=problem, done=done)
        if problem:
            return self._page("message.html", 422, message=problem)
        back = {"view": values.get("view", ""), "space": selection.space, "opened": selection.opened}
        return RedirectResponse(f"{HOME}?{urlencode(back)}", 303, _COMMON_HEADERS)

    async def _stream(self, request: Request, receive: Receive, send: Send) -> None:
        selection = self._selection(request.query_params)
        if self._streams.is_full:
            message = f"The server updates {MOST_STREAMS} pages already; close one of them."
            await Response(message, 503, _COMMON_HEADERS)(request.scope, receive, send)
            return

        async def render() -> dict[str, str]:
            parts = await self._parts(selection)
            # A page of older rows stays as it is.
            return parts if selection.before is None else {"status": parts["status"]}

        headers = [(name.lower().encode(), value.encode()) for name, value in _COMMON_HEADERS.items()]
        await self._streams.run(render, self._source.newest, receive, send, headers)

    def _file(self, name: str) -> Response:
        path = _FOLDER / "static" / name
        if not re.fullmatch(r"[\w.-]+", name) or path.suffix not in _TYPES or not path.is_file():
            return self._page("message.html", 404, message="There is no such file.")
        headers = {**_COMMON_HEADERS, "Cache-Control": "no-cache"}
        return Response(path.read_bytes(), 200, headers, media_type=_TYPES[path.suffix])

    def _page(self, template: str, status: int, policy: str = _POLICY, **values: Any) -> Response:
        nonce = token_urlsafe(16)
        html = self._templates.get_template(template).render(nonce=nonce, **values)
        return self._html(html, status, policy.format(nonce=nonce))

    def _html(self, html: str, status: int, policy: str) -> Response:
        return Response(
            html.encode(errors="replace"),
            status,
            {**_COMMON_HEADERS, "Content-Security-Policy": policy},
            media_type="text/html",
        )


async def _form(request: Request) -> dict[str, str]:
    body = await read_body(request.receive)
    return dict(parse_qsl((body or b"").decode(errors="replace"), keep_blank_values=True))


def _sentence(error: Exception) -> str:
    # msgspec appends the place of a value, as in "Expected `int`, got `str` - at `$.limit`".
    text = re.sub(r" - at `\$\.(.+)`$", r" for \1", " ".join(str(error).split())).removesuffix(" - at `$`")
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?")) else f"{text}."
