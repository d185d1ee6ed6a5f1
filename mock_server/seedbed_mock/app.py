"""The application: a mock service of its own, with its operations, results, callbacks and control API."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from seedbed_schemas import job_api
from seedbed_schemas.dialect import dialects
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from seedbed_mock import handlers
from seedbed_mock.agents import AGENT_PATH, LazyEndpoint
from seedbed_mock.asgi import OperationEndpoint
from seedbed_mock.callbacks.auto_clock import AutoAdvance
from seedbed_mock.callbacks.dispatcher import CallbackDispatcher
from seedbed_mock.catalogue import ModelCatalogue
from seedbed_mock.clock import ContinuedClock, FollowingClock, SharedClock
from seedbed_mock.control import routes as control
from seedbed_mock.control.api import DOCUMENT_PATH, METRICS_PATH, OPERATIONS, ControlApi
from seedbed_mock.control.openapi import document
from seedbed_mock.control.verify import ServedPath
from seedbed_mock.dashboard import dashboard_routes
from seedbed_mock.faults.effects import APPLIED_HEADER
from seedbed_mock.faults.scenarios import shipped_scenarios
from seedbed_mock.options import ServerOptions, keywords_of
from seedbed_mock.other_endpoints import OtherEndpoints
from seedbed_mock.protocol import REFUSAL
from seedbed_mock.responses import MOCK_HEADERS, ResponseWriter
from seedbed_mock.results.picture import RESULTS
from seedbed_mock.settings import CONTROL_ROOT
from seedbed_mock.state import Service
from seedbed_mock.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from seedbed_schemas import JobApi
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.clock import Clock
    from seedbed_mock.dashboard.site import Dashboard
    from seedbed_mock.fleet import Fleet
    from seedbed_mock.handlers import Handler
    from seedbed_mock.stores.store import Store

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
