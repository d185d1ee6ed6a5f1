"""The application: a mock service of its own, with its operations, results, callbacks and control API."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import unquote

import msgspec
from seedbed_schemas import job_api, local
from seedbed_schemas.dialect import dialects
from seedbed_schemas.validation import for_display
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from seedbed_mock import handlers
from seedbed_mock.agents import AGENT_PATH, LazyEndpoint
from seedbed_mock.asgi import OperationEndpoint
from seedbed_mock.callbacks.auto_clock import AutoAdvance
from seedbed_mock.callbacks.dispatcher import CallbackDispatcher
from seedbed_mock.clock import ContinuedClock, FollowingClock, SharedClock, real_time
from seedbed_mock.control import routes as control
from seedbed_mock.control.api import DOCUMENT_PATH, METRICS_PATH, OPERATIONS, ControlApi
from seedbed_mock.control.openapi import document
from seedbed_mock.control.verify import ServedPath, nearest_path
from seedbed_mock.dashboard import dashboard_routes
from seedbed_mock.faults.connection import BrokenConnectionError
from seedbed_mock.faults.effects import APPLIED_HEADER
from seedbed_mock.faults.scenarios import shipped_scenarios
from seedbed_mock.journal import UNMATCHED, JournalEntry, truncated
from seedbed_mock.options import ServerOptions, keywords_of
from seedbed_mock.protocol import REFUSAL
from seedbed_mock.request_body import read_body
from seedbed_mock.responses import MOCK_HEADERS, ResponseWriter, ServiceError
from seedbed_mock.results.picture import RESULTS, ResultError, picture_of
from seedbed_mock.results.rendering import Renderer
from seedbed_mock.results.serving import respond
from seedbed_mock.settings import CONTROL_ROOT
from seedbed_mock.state import ModelCatalogue, Service
from seedbed_mock.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from seedbed_schemas import JobApi
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from seedbed_mock.clock import Clock
    from seedbed_mock.dashboard.site import Dashboard
    from seedbed_mock.fleet import Fleet
    from seedbed_mock.handlers import Handler
    from seedbed_mock.results.picture import Picture
    from seedbed_mock.stores.store import Store
    from seedbed_mock.tasks import Task

    _Endpoint = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

    class Front(Protocol):
        """An application in front of the mock service.

        Attributes:
            title: Name of the server in the dashboard.
            passes_date: Whether responses have the Date of another server.
        """

        title: str
        passes_date: bool

        def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
            """Respond to a request."""
            ...

        async def close(self) -> None:
            """Release what it holds."""
            ...

    MakeFront = Callable[[Service, ResponseWriter, _Endpoint], Front]


@keywords_of(ServerOptions)
def create_app(**options: Any) -> Starlette:
    """Return the mock service as an ASGI application, for use without a server.

    Args:
        options: The fields of :class:`seedbed_mock.options.ServerOptions`; ``host`` and ``port`` have no effect.

    Raises:
        SettingsError: An option is unknown or invalid.
        StoreError: The file of ``db`` cannot be used.
    """
    return build_app(ServerOptions.from_keywords(options))


def build_app(options: ServerOptions, make_front: MakeFront | None = None) -> Starlette:
    """Return the mock service that these options describe; ``app.state`` holds its service and its dispatcher.

    Args:
        options: Options of the server.
        make_front: Makes what gets all requests except those to the control API.

    Raises:
        SettingsError: An option is invalid.
        StoreError: The file of ``db`` cannot be used.
    """
    options.check()
    if options.replay is not None and make_front is None:
        make_front = partial(_open_replay, Path(options.replay))
    clock = _clock_of(options) if isinstance(options.clock, str) else options.clock
    store, fleet = _store_of(options, clock)
    try:
        service = Service(
            options=options,
            clock=clock,
            catalogue=ModelCatalogue(options.patched_contracts),
            shared=job_api(),
            dialect=dialects()[options.dialect],
            store=store,
            fleet=fleet,
        )
        return (_CrossOriginApp if options.cors_origins else _MockServiceApp)(service, make_front)
    except BaseException:
        store.abandon()
        raise


_EXPOSED_HEADERS: Final = ("Accept-Ranges", "Content-Length", "Content-Range", "ETag", "Retry-After")


def _open_replay(folder: Path, service: Service, writer: ResponseWriter, respond: _Endpoint) -> Front:
    from seedbed_mock.recording.replay import open_replay  # most servers replay nothing

    return open_replay(folder, service, writer, respond)


_SPACE_HEADER = local.SPACE_HEADER.lower().encode()


def _clock_of(options: ServerOptions) -> Clock:
    if options.clock == "follow":
        return FollowingClock()
    speed = 0 if options.clock == "manual" else options.speed
    return SharedClock(speed) if options.has_fleet else ContinuedClock(speed)


def _store_of(options: ServerOptions, clock: Clock) -> tuple[Store, Fleet | None]:
    """Return the store of a server, and what it shares with others beside the store."""
    if options.db is None:
        return MemoryStore(options.keep_tasks), None
    # Imported late: most servers need no database.
    if options.has_fleet and isinstance(clock, SharedClock):
        from seedbed_mock.fleet import Fleet  # see above
        from seedbed_mock.stores.redis import RedisStore  # see above

        store = RedisStore(str(options.db), options.keep_tasks)
        return store, Fleet(store.server, clock)
    from seedbed_mock.stores.sqlite import SqliteStore  # see above

    return SqliteStore(options.db, options.keep_tasks), None


class _MockServiceApp(Starlette):
    """The mock service as an application.

    Args:
        service: The service.
        make_front: Makes what gets all requests except those to the control API.
    """

    def __init__(self, service: Service, make_front: MakeFront | None = None) -> None:
        writer = ResponseWriter(service.catalogue.codes, service.dialect, service.options.http_status)
        dispatcher = CallbackDispatcher(service, writer)
        operations = _operations(service.catalogue, service.shared)
        self._endpoints = {
            (method, path): OperationEndpoint(service, name, steps, writer)
            for (name, method, path), steps in operations.items()
        }
        others = self._others = OtherEndpoints(service, writer, [ServedPath(*each) for each in operations])
        control_api = self._control_api = ControlApi(service, dispatcher, [name for name, *_ in operations])
        self._service = service
        agents = LazyEndpoint(self) if service.options.mcp else None
        super().__init__(
            routes=[
                # The name of a model contains a slash, which is not encoded in the path.
                *(
                    Route(path.replace("{model}", f"{{{handlers.MODEL_PARAMETER}:path}}"), endpoint, methods=[method])
                    for (method, path), endpoint in self._endpoints.items()
                ),
                Route(f"{RESULTS}/{{name}}", others.result),
                *dashboard_routes(self._open_dashboard),
                *([Route(AGENT_PATH, agents)] if agents else []),
                *control.routes(control_api, service.options.control_token or "", service.options.own_hosts),
            ],
            exception_handlers={HTTPException: others.unknown_path, Exception: others.internal_error},
        )
        # The real service serves no path with a slash at its end, and a redirect would repeat the client's Host header.
        self.router.redirect_slashes = False
        self.state.service, self.state.dispatcher, self.state.dashboard = service, dispatcher, None
        self.state.agents = agents
        self._auto = AutoAdvance(service, dispatcher) if service.options.clock == "auto" else None
        self.state.auto_advance = self._auto
        self.state.front = self._front = make_front(service, writer, self._respond) if make_front else None
        control_api.is_proxy = self._front is not None and self._front.passes_date

    def _open_dashboard(self) -> Dashboard:
        # Imported with the first page: most servers are used by programs alone.
        from seedbed_schemas.openapi import openapi_document

        from seedbed_mock.dashboard.site import Dashboard
        from seedbed_mock.dashboard.views import DashboardSource

        service, control_api = self.state.service, self._control_api
        models = service.catalogue.models

        def place_of(clause: str, model: str) -> Mapping[str, str]:
            contract = models.get(model, service.catalogue.shipped).contract
            return next((each.place for each in contract.clauses() if each.id == clause), {})

        source = DashboardSource(
            title=self._front.title if self._front else "Seedbed mock server",
            # The tasks behind a front are not those of this server.
            start="calls" if self._front else "tasks",
            control=control_api,
            operations=OPERATIONS,
            journal=service.spaces.journal,
            token=service.options.control_token or "",
            names=service.options.own_hosts,
            handlers=handlers.descriptions(),
            place_of=place_of,
            bill=lambda: bill.describe() if (bill := service.ledger.bill()) else "",
            thumbnail=self._others.thumbnail,
            refresh=service.fleet.read_journal if service.fleet else None,
            scenarios=tuple(shipped_scenarios()),
            documents={
                # Where a front passes requests on, one that is tried out would reach the paid service.
                name: partial(openapi_document, model.contract, http_status=service.options.http_status)
                for name, model in models.items()
                if not self._front
            }
            | {"Control API": partial(document, OPERATIONS, CONTROL_ROOT, DOCUMENT_PATH, METRICS_PATH)},
        )
        dashboard = self.state.dashboard = Dashboard(source)
        return dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # An application without a server begins with its first request.
        if not self._service.is_open:
            await self._service.open()
        if self._front and not f"{scope['path']}/".startswith(f"{CONTROL_ROOT}/") and scope["method"]:
            await self._front(scope, receive, send)
        else:
            await self._respond(scope, receive, send)

    def endpoint_at(self, method: str, path: str) -> OperationEndpoint | None:
        """Return the operation that may respond before a task of the event loop runs.

        There is none while something else must see the request.
        """
        if self._front or self._auto or not self._service.is_open:
            return None
        return self._endpoints.get((method, path))

    def _respond(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        # Starlette's middleware and router do nothing for the operations, and would take a tenth of each request.
        endpoint: _Endpoint | None = self._endpoints.get((scope.get("method", ""), scope.get("path", "")))
        if endpoint is None and (refusal := scope.get("extensions", {}).get(REFUSAL)):
            endpoint = self._others.refused(refusal)
        response = (endpoint or super().__call__)(scope, receive, send)
        # Pages of the control API keep a stream open.
        if self._auto and not f"{scope.get('path', '')}/".startswith(f"{CONTROL_ROOT}/"):
            return self._auto.follow(scope, response)
        return response


class _CrossOriginApp(_MockServiceApp):
    """The mock service with responses that browsers give to web pages of other origins (CORS).

    The control API is left out: whoever can call it can read all tasks and change what the server does.
    """

    def __init__(self, service: Service, make_front: MakeFront | None = None) -> None:
        from starlette.middleware.cors import CORSMiddleware  # most servers have no use for it

        super().__init__(service, make_front)
        self._cors = CORSMiddleware(
            super().__call__,
            allow_origins=sorted(service.options.cors_origins),
            allow_methods=("GET", "HEAD", "POST"),
            # Authorization, Content-Type and the headers of the mock server; "*" is what the page asks for.
            allow_headers=("*",),
            expose_headers=(*MOCK_HEADERS, APPLIED_HEADER, *_EXPOSED_HEADERS),
            # A page of a public site, as a deployed preview of an app, may call a server on this machine.
            allow_private_network=True,
        )

    def endpoint_at(self, method: str, path: str) -> None:
        """Return nothing: every response needs further headers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        is_control = path == CONTROL_ROOT or path.startswith(f"{CONTROL_ROOT}/")
        await (super().__call__ if is_control else self._cors)(scope, receive, send)


def _operations(catalogue: ModelCatalogue, shared: JobApi) -> dict[tuple[str, str, str], tuple[Handler, ...]]:
    """Return the handlers of each operation by its name, method and path."""
    creations = {model.contract.operation for model in catalogue.models.values()}
    return {
        **{("createTask", each.method, each.path): handlers.CREATE_TASK for each in creations},
        ("recordInfo", shared.record_info.method, shared.record_info.path): handlers.RECORD_INFO,
        ("credit", shared.credit.method, shared.credit.path): handlers.CREDIT,
        ("downloadUrl", shared.download_url.method, shared.download_url.path): handlers.DOWNLOAD_URL,
        ("models", shared.models.method, shared.models.path): handlers.MODELS,
        ("modelSchema", shared.model_schema.method, shared.model_schema.path): handlers.MODEL_SCHEMA,
    }


class OtherEndpoints:
    """The endpoints beside the operations: result images, unknown paths and internal errors.

    Args:
        service: The service.
        writer: Writer of error responses.
        known: The paths of the operations, for the message about an unknown one.
    """

    def __init__(self, service: Service, writer: ResponseWriter, known: Sequence[ServedPath]) -> None:
        gallery, folder = None, service.options.result_dir
        if folder is not None:
            # Imported late: Pillow takes time to load.
            from seedbed_mock.results.gallery import Gallery  # see above

            gallery = Gallery(Path(folder))
        self._service = service
        self._writer = writer
        self._renderer = Renderer(gallery)
        self._known = known

    async def result(self, request: Request) -> Response:
        """Respond with the image of a task while it is kept."""
        name = request.path_params["name"]
        task = await self._service.find_result(name)
        if task is None or handlers.is_expired_link(self._service, name, request.query_params):
            return self._writer.file_error("result_unknown")
        try:
            image = await self._renderer.render(self._picture_of(task))
        except ResultError as error:
            return self._writer.file_error("internal_error", str(error))
        if task.result_fault.is_truncated:
            image = image.truncated()
        # A look by the dashboard, which is a page of this server, is not a fetch by its user's program.
        if request.method == "GET" and request.headers.get("sec-fetch-site") != "same-origin":
            self._service.ledger.note_fetch(task.task_id)
            self._service.fetches.append((self._service.now(), task.task_id))
        response = respond(image, request.method, request.headers)
        if task.fault_rule:
            response.headers[APPLIED_HEADER] = task.fault_rule
        return response

    async def thumbnail(self, task_id: str) -> Response:
        """Respond with a small version of a task's image, which is drawn anew for less time than the image takes."""
        task = await self._service.store.find(task_id)
        if task is None or await self._service.find_result(task.result_name) is None:
            return self._writer.file_error("result_unknown")
        try:
            image = await self._renderer.render(self._picture_of(task).thumbnail(_THUMBNAIL_PIXELS))
            return respond(image, "GET", Headers())
        except ResultError as error:
            return self._writer.file_error("internal_error", str(error))

    def _picture_of(self, task: Task) -> Picture:
        # A task in a database may be of a model that this server does not have; it is drawn like the built-in one.
        models = self._service.catalogue.models
        profile = models.get(task.model, self._service.catalogue.shipped).profile
        values = msgspec.json.decode(task.request).get(self._service.shared.fields.input)
        picture = picture_of(profile, task.model, values, self._service.options.seed)
        return replace(picture, size=task.result_fault.size) if task.result_fault.size else picture

    async def unknown_path(self, request: Request, _: Exception) -> Response:
        """Respond to an unknown path or method, and record it with what it was likely meant for."""
        scope, headers = request.scope, dict(request.scope["headers"])
        body: bytes | None = b""
        # The request stands in the journal even if its client has left.
        with contextlib.suppress(ClientDisconnect):
            body = await read_body(request.receive)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        nearest, hint = nearest_path(scope["method"], path, self._known)
        known = ", ".join(f"{each.method} {each.path}" for each in self._known)
        method, path = for_display(scope["method"]), for_display(scope["path"])
        error = ServiceError("path_unknown", method=method, path=path, known=f"{known}. {hint}".strip(" ."))
        response = self._writer.error(error)
        if body is None:
            # The rest of the body may still arrive, and would be taken for the next request.
            response.headers["connection"] = "close"
        space = self._service.spaces.existing(headers.get(_SPACE_HEADER, b"").decode("latin-1"))
        query = scope["query_string"].decode("latin-1")
        space.journal.add(
            JournalEntry(
                number=space.journal.next_number(),
                at=self._service.now(),
                kind=UNMATCHED,
                operation=UNMATCHED,
                method=for_display(scope["method"]),
                target=f"{scope['path']}?{query}" if query else scope["path"],
                headers=self._service.kept_headers(scope["headers"]),
                request=truncated(body or b""),
                code=response.code,
                status=response.status_code,
                case=response.case,
                answer=truncated(response.body),
                nearest=nearest,
                hint=hint,
                reason=self._writer.reason(error),
            )
        )
        return response

    def refused(self, refusal: Mapping[str, Any]) -> Response:
        """Return the response to a request that the protocol refuses, and record it."""
        response = self._writer.error(
            ServiceError("body_malformed", status=refusal["status"], problem=refusal["problem"])
        )
        journal = self._service.spaces.default.journal
        journal.add(
            JournalEntry(
                number=journal.next_number(),
                at=self._service.now(),
                kind=UNMATCHED,
                operation=UNMATCHED,
                method=refusal["method"],
                target=for_display(refusal["target"]),
                code=response.code,
                status=response.status_code,
                case=response.case,
                answer=response.body,
                hint=refusal["problem"],
                reason=refusal["problem"],
            )
        )
        return response

    async def internal_error(self, request: Request, error: Exception) -> Response:
        """Respond to a request that raised an error of the server itself."""
        # A fault that breaks a connection raises this in process, where there is no connection to break.
        if not isinstance(error, BrokenConnectionError):
            self._service.keep_error(error)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if path.startswith(CONTROL_ROOT):
            return control.internal_error()
        if path.startswith(RESULTS):
            return self._writer.file_error("internal_error")
        return self._writer.error(ServiceError("internal_error"))


_Result = TypeVar("_Result")

_CALL_SECONDS: Final = 60
_THUMBNAIL_PIXELS: Final = 256


class SwappableApp:
    """An ASGI application that can be replaced while the server runs.

    Args:
        app: The first application.
    """

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self._ports: frozenset[int] = frozenset()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Pass a request on."""
        return self.app(scope, receive, send)

    def endpoint_at(self, method: str, path: str) -> OperationEndpoint | None:
        """Return the operation that may respond before a task of the event loop runs."""
        return self.app.endpoint_at(method, path) if isinstance(self.app, _MockServiceApp) else None

    async def start(self, ports: Iterable[int] = ()) -> None:
        """Start in the event loop of the server; callbacks that an earlier server did not deliver are sent.

        Args:
            ports: Ports on which the server listens.

        Raises:
            StoreError: The store cannot be used.
        """
        self._loop, self._ports = asyncio.get_running_loop(), frozenset(ports)
        await _begin(self.app, self._ports)

    def replace(self, app: Starlette) -> None:
        """Replace the application, from a thread other than the server's, and return when it is replaced.

        Raises:
            RuntimeError: The server has stopped.
        """

        async def swap() -> None:
            before, self.app = self.app, app
            await _close(before)
            await _begin(app, self._ports)

        self.run(swap)

    def call(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Send a request without a socket, from a thread other than the server's, and return its status and body.

        Tests replace sockets and HTTP clients, to record what their programs send or to forbid it.

        Raises:
            RuntimeError: The server has stopped.
            TimeoutError: There is no response within a minute.
        """
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("127.0.0.1", None),
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        scope["headers"] = [(b"host", b"127.0.0.1"), *scope["headers"]]
        received: list[Message] = [{"type": "http.request", "body": body}]
        sent: list[Message] = []

        async def receive() -> Message:
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        async def respond() -> None:
            # Starlette raises an error of the server again after it has sent the response to it.
            with contextlib.suppress(Exception):
                await self.app(scope, receive, send)

        self.run(respond)
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], content

    def run(self, function: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run a function in the event loop of the server, from another thread, and return its result.

        Raises:
            RuntimeError: The server has stopped.
            TimeoutError: The function has not ended within a minute.
        """
        if self._loop is None or self._loop.is_closed():
            raise RuntimeError("The server has stopped; its handle works until then.")
        future = asyncio.run_coroutine_threadsafe(function(), self._loop)
        try:
            return future.result(_CALL_SECONDS)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"The server has not responded for {_CALL_SECONDS} seconds.") from None
        except CancelledError:
            raise RuntimeError("The server has stopped meanwhile.") from None

    def shown_time(self) -> float:
        """Return the time of the Date header, in Unix seconds: that of the system, unless the clock follows the test.

        Clients compare this header with their own time, so that a clock which is advanced or faster does not change it.
        """
        clock: Clock = self.app.state.service.clock
        return clock.now() if isinstance(clock, FollowingClock) else real_time()

    def abandon(self) -> None:
        """Release what the application holds, for a server that did not start."""
        self.app.state.service.store.abandon()

    def end_streams(self) -> None:
        """End the streams of all pages, which would otherwise go on until the server has stopped waiting for them."""
        if self.app.state.dashboard:
            self.app.state.dashboard.close()
        if self.app.state.agents:
            self.app.state.agents.end()

    async def close(self) -> None:
        """Stop; a store on disk keeps the callbacks that are not delivered."""
        await _close(self.app)


async def _begin(app: Starlette, ports: frozenset[int]) -> None:
    await app.state.service.open()
    app.state.service.ports |= ports
    if fleet := app.state.service.fleet:
        await fleet.share_ports(ports)
    app.state.dispatcher.wake()
    if isinstance(clock := app.state.service.clock, FollowingClock):
        clock.start_following(asyncio.get_running_loop())


async def _close(app: Starlette) -> None:
    if app.state.agents:
        await app.state.agents.close()
    if app.state.dashboard:
        app.state.dashboard.close()
    if isinstance(clock := app.state.service.clock, FollowingClock):
        clock.stop_following()
    if app.state.auto_advance:
        await app.state.auto_advance.close()
    await app.state.dispatcher.close()
    if app.state.front:
        await app.state.front.close()
    if app.state.service.fleet:
        await app.state.service.fleet.close()
    await app.state.service.store.close()
