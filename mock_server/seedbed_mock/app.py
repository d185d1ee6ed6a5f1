"""What is served beside the operations: results, and answers to calls that lead nowhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.dialect import dialects
from seedbed_schemas.validation import for_display
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from seedbed_mock import handlers
from seedbed_mock.asgi import OperationEndpoint
from seedbed_mock.callbacks.dispatcher import CallbackDispatcher
from seedbed_mock.clock import RealClock
from seedbed_mock.control.api import ControlApi
from seedbed_mock.control.routes import internal_error
from seedbed_mock.control.routes import routes as control_routes
from seedbed_mock.faults.connection import BrokenConnectionError
from seedbed_mock.faults.effects import APPLIED_HEADER
from seedbed_mock.handlers import CREATE_TASK, CREDIT, DOWNLOAD_URL, MODEL_PARAMETER, MODEL_SCHEMA, MODELS, RECORD_INFO
from seedbed_mock.options import ServerOptions
from seedbed_mock.responses import ResponseWriter, ServiceError
from seedbed_mock.results.picture import RESULTS, ResultError, picture_of
from seedbed_mock.results.rendering import Renderer
from seedbed_mock.results.serving import respond
from seedbed_mock.settings import CONTROL_ROOT, Settings
from seedbed_mock.state import ModelCatalogue, Service
from seedbed_mock.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from seedbed_schemas import Contract, JobApi
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.clock import Clock
    from seedbed_mock.handlers import Handler
    from seedbed_mock.options import ServerKeywords
    from seedbed_mock.results.gallery import Gallery
    from seedbed_mock.results.picture import Picture
    from seedbed_mock.settings import ClockKind
    from seedbed_mock.stores.store import Store
    from seedbed_mock.tasks import Task


class ResultPages:
    """Results, and answers to calls that lead nowhere.

    Args:
        service: Whose results they are.
        answers: How a refusal is written.
        renderer: What makes the images.
        known: The paths that lead somewhere.
    """

    def __init__(self, service: Service, answers: ResponseWriter, renderer: Renderer, known: str) -> None:
        self._service = service
        self._answers = answers
        self._renderer = renderer
        self._known = known

    async def result(self, request: Request) -> Response:
        """Answer with the image of a task, as long as it is kept."""
        name = request.path_params["name"]
        task = self._service.result(name)
        if task is None or handlers.is_over(self._service, name, request.query_params):
            return self._answers.file_error("result_unknown")
        try:
            rendered = await self._renderer.render(self._picture(task))
        except ResultError as error:
            return self._answers.file_error("internal_error", str(error))
        if task.result_fault.is_truncated:
            rendered = rendered.cut()
        answer = respond(rendered, request.method, request.headers)
        if task.fault_rule:
            answer.headers[APPLIED_HEADER] = task.fault_rule
        return answer

    def _picture(self, task: Task) -> Picture:
        """Return what a task's result shows; of a model that is played no more, what the shipped one would."""
        models = self._service.catalogue.models
        profile = models.get(task.model, self._service.catalogue.shipped).profile
        asked = msgspec.json.decode(task.request).get(self._service.shared.fields.input)
        picture = picture_of(profile, task.model, asked, self._service.settings.seed)
        return replace(picture, size=size) if (size := task.result_fault.size) else picture

    async def unknown_path(self, request: Request, _: Exception) -> Response:
        """Answer to a path or a method that leads nowhere."""
        method, path = for_display(request.method), for_display(request.url.path)
        return self._answers.error(ServiceError("path_unknown", method=method, path=path, known=self._known))

    async def last_resort(self, request: Request, error: Exception) -> Response:
        """Answer where the server itself is at fault."""
        # A connection that a fault breaks, where there is none, is no mistake of the server's.
        if not isinstance(error, BrokenConnectionError):
            self._service.errors.append(error)
        if request.url.path.startswith(CONTROL_ROOT):
            return internal_error()
        if request.url.path.startswith(RESULTS):
            return self._answers.file_error("internal_error")
        return self._answers.error(ServiceError("internal_error"))


def create_app(
    settings: Settings | None = None,
    *,
    clock: Clock | None = None,
    contracts: Iterable[Contract] = (),
    store: Store | None = None,
) -> Starlette:
    """Return a fake service of its own, with its own accounts and tasks.

    Args:
        settings: How to play; the defaults where there are none.
        clock: What time it is; real time where there is none.
        contracts: Contracts of models to play beside the shipped one, or in its place.
        store: Where tasks are kept; in memory where there is none.

    Raises:
        SettingsError: The folder of results cannot be used, or no callback can be allowed as is told.
    """
    settings = settings or Settings()
    catalogue, shared, dialect = ModelCatalogue(contracts), job_api(), dialects()[settings.dialect]
    service = Service(
        settings=settings,
        clock=clock or RealClock(),
        catalogue=catalogue,
        shared=shared,
        dialect=dialect,
        store=store or MemoryStore(settings.keep_tasks),
    )
    answers = ResponseWriter(catalogue.codes, dialect, settings.http_status)
    operations = _operations(catalogue, shared)
    endpoints = {
        (method, path): OperationEndpoint(service, name, steps, answers)
        for (name, method, path), steps in operations.items()
    }
    routes = [
        # A model's name has a slash in it, which stays one in the path.
        Route(path.replace("{model}", f"{{{MODEL_PARAMETER}:path}}"), endpoint, methods=[method])
        for (method, path), endpoint in endpoints.items()
    ]
    dispatcher = CallbackDispatcher(service, answers)
    known = ", ".join(f"{method} {path}" for _, method, path in operations)
    pages = ResultPages(service, answers, Renderer(_gallery(settings)), known)
    app = _MockServiceApp(
        endpoints,
        routes=[
            *routes,
            Route(f"{RESULTS}/{{name}}", pages.result),
            *control_routes(
                ControlApi(service, dispatcher, [name for name, *_ in operations]), settings.control_token or ""
            ),
        ],
        exception_handlers={HTTPException: pages.unknown_path, Exception: pages.last_resort},
    )
    # The service knows its paths without a slash at the end only, and a redirect would repeat the client's Host.
    app.router.redirect_slashes = False
    app.state.service, app.state.dispatcher = service, dispatcher
    return app


def _operations(catalogue: ModelCatalogue, shared: JobApi) -> dict[tuple[str, str, str], tuple[Handler, ...]]:
    """Return the steps of each operation by its name, method and path."""
    creations = {model.contract.operation for model in catalogue.models.values()}
    return {
        **{("createTask", each.method, each.path): CREATE_TASK for each in creations},
        ("recordInfo", shared.record_info.method, shared.record_info.path): RECORD_INFO,
        ("credit", shared.credit.method, shared.credit.path): CREDIT,
        ("downloadUrl", shared.download_url.method, shared.download_url.path): DOWNLOAD_URL,
        ("models", shared.models.method, shared.models.path): MODELS,
        ("modelSchema", shared.model_schema.method, shared.model_schema.path): MODEL_SCHEMA,
    }


class _MockServiceApp(Starlette):
    """An application that knows its busiest paths by heart.

    Starlette's middleware has nothing to do for them, and that and the search for the route are a tenth of a call.
    """

    def __init__(self, endpoints: Mapping[tuple[str, str], OperationEndpoint], **options: Any) -> None:
        super().__init__(**options)
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get((scope.get("method", ""), scope.get("path", "")))
        await (endpoint or super().__call__)(scope, receive, send)


def _gallery(settings: Settings) -> Gallery | None:
    if settings.result_dir is None:
        return None
    # Imported only where it is wanted, since Pillow takes its time to load.
    from seedbed_mock.results.gallery import Gallery  # noqa: PLC0415

    return Gallery(settings.result_dir)


def assemble(flags: ServerOptions, *, clock: Clock | None = None, contracts: Iterable[Contract] = ()) -> Starlette:
    """Return a fake that plays as it is told.

    Args:
        flags: What it is told.
        clock: What time it is; the clock of the flags where there is none.
        contracts: Contracts of models to play beside the shipped one, or in its place.

    Raises:
        SettingsError: A word cannot be used.
        StoreError: The file of the store cannot be used.
    """
    settings = flags.settings()
    store = _open_store(flags)
    try:
        return create_app(settings, clock=clock or flags.open_clock(store), contracts=contracts, store=store)
    except BaseException:
        store.close()
        raise


def app_of(words: ServerKeywords, clock: Clock | ClockKind, contracts: Iterable[Contract]) -> Starlette:
    """Return a fake that plays as a Python program tells it; see :func:`assemble`."""
    if isinstance(clock, str):
        return assemble(ServerOptions.of(words, clock), contracts=contracts)
    return assemble(ServerOptions.of(words), clock=clock, contracts=contracts)


def _open_store(flags: ServerOptions) -> Store:
    if flags.db is None:
        return MemoryStore(flags.keep_tasks)
    from seedbed_mock.stores.sqlite import SqliteStore  # noqa: PLC0415 (most runs need no database)

    return SqliteStore(flags.db, flags.keep_tasks)
