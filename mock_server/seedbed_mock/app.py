"""The application: which path leads to which steps, and how HTTP comes in and goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from seedbed_schemas import job_api
from seedbed_schemas.dialect import dialects
from seedbed_schemas.refusals import shown
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from seedbed_mock.addresses import base_url
from seedbed_mock.answers import Answers, Refusal
from seedbed_mock.bodies import read_body
from seedbed_mock.catalogue import Catalogue
from seedbed_mock.clock import RealClock
from seedbed_mock.results.picture import RESULTS, ResultError
from seedbed_mock.results.rendering import Renderer
from seedbed_mock.results.serving import respond
from seedbed_mock.service import Call, Service
from seedbed_mock.settings import Settings
from seedbed_mock.steps import CREATE_TASK, CREDIT, MODEL_PARAMETER, MODEL_SCHEMA, MODELS, RECORD_INFO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas import Contract
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.clock import Clock
    from seedbed_mock.results.gallery import Gallery
    from seedbed_mock.steps import Step


def create_app(
    settings: Settings | None = None, *, clock: Clock | None = None, contracts: Iterable[Contract] = ()
) -> Starlette:
    """Return a fake service of its own, with its own accounts and tasks.

    Args:
        settings: How to play; the defaults where there are none.
        clock: What time it is; real time where there is none.
        contracts: Contracts of models to play beside the shipped one, or in its place.

    Raises:
        SettingsError: The folder of results cannot be used.
    """
    settings = settings or Settings()
    catalogue, shared, dialect = Catalogue(contracts), job_api(), dialects()[settings.dialect]
    service = Service(
        settings=settings, clock=clock or RealClock(), catalogue=catalogue, shared=shared, dialect=dialect
    )
    answers = Answers(catalogue.codes, dialect, settings.http_status)
    creations = [model.contract.operation for model in catalogue.models.values()]
    operations = {
        **{(operation.method, operation.path): CREATE_TASK for operation in creations},
        (shared.record_info.method, shared.record_info.path): RECORD_INFO,
        (shared.credit.method, shared.credit.path): CREDIT,
        (shared.models.method, shared.models.path): MODELS,
        (shared.model_schema.method, shared.model_schema.path): MODEL_SCHEMA,
    }
    routes = [
        # A model's name has a slash in it, which stays one in the path.
        Route(
            path.replace("{model}", f"{{{MODEL_PARAMETER}:path}}"), _Endpoint(service, steps, answers), methods=[method]
        )
        for (method, path), steps in operations.items()
    ]
    pages = _Pages(
        service,
        answers,
        Renderer(_gallery(settings)),
        known=", ".join(f"{method} {path}" for method, path in operations),
    )
    app = Starlette(
        routes=[*routes, Route(f"{RESULTS}/{{name}}", pages.result)],
        exception_handlers={HTTPException: pages.unknown_path, Exception: pages.last_resort},
    )
    # The service knows its paths without a slash at the end only, and a redirect would repeat the client's Host.
    app.router.redirect_slashes = False
    return app


def _gallery(settings: Settings) -> Gallery | None:
    if settings.result_dir is None:
        return None
    # Imported only where it is wanted, since Pillow takes its time to load.
    from seedbed_mock.results.gallery import Gallery  # noqa: PLC0415

    return Gallery(settings.result_dir)


class _Endpoint:
    """An operation as an ASGI application: reads the request, takes the steps, sends the answer."""

    def __init__(self, service: Service, steps: tuple[Step, ...], answers: Answers) -> None:
        self._service = service
        self._steps = steps
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive)
        except ClientDisconnect:
            return
        answer = self._answer(scope, body)
        if body is None:
            # What is left of it may still be on its way, and must not be taken for the next request.
            answer.headers["connection"] = "close"
        await answer(scope, receive, send)

    def _answer(self, scope: Scope, body: bytes | None) -> Response:
        call = Call(
            headers=dict(scope["headers"]),
            query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
            path=scope["path_params"],
            body=body,
            base_url=_base_url(scope),
        )
        try:
            for step in self._steps:
                step(self._service, call)
        except Refusal as refusal:
            return self._answers.refused(refusal)
        return self._answers.done(call.data)


def _base_url(scope: Scope) -> str:
    """Return where this server was reached, by its own socket: the Host header is the client's word alone."""
    host, port = scope["server"]
    return base_url(host, port)


class _Pages:
    """What is served beside the operations: results, and answers to calls that lead nowhere."""

    def __init__(self, service: Service, answers: Answers, renderer: Renderer, known: str) -> None:
        self._service = service
        self._answers = answers
        self._renderer = renderer
        self._known = known

    async def result(self, request: Request) -> Response:
        picture = self._service.result(request.path_params["name"])
        if picture is None:
            return self._answers.refused_file("result_unknown")
        try:
            rendered = await self._renderer.render(picture)
        except ResultError as error:
            return self._answers.refused_file("internal_error", str(error))
        return respond(rendered, request.method, request.headers)

    async def unknown_path(self, request: Request, _: Exception) -> Response:
        method, path = shown(request.method), shown(request.url.path)
        return self._answers.refused(Refusal("path_unknown", method=method, path=path, known=self._known))

    async def last_resort(self, request: Request, _: Exception) -> Response:
        if request.url.path.startswith(RESULTS):
            return self._answers.refused_file("internal_error")
        return self._answers.refused(Refusal("internal_error"))
