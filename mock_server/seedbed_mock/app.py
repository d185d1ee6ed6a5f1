"""The application: which path leads where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seedbed_schemas import job_api
from seedbed_schemas.dialect import dialects
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from seedbed_mock.answers import Answers
from seedbed_mock.callbacks.courier import Courier
from seedbed_mock.catalogue import Catalogue
from seedbed_mock.clock import RealClock
from seedbed_mock.control.operations import Control
from seedbed_mock.control.routes import routes as control_routes
from seedbed_mock.endpoint import Endpoint
from seedbed_mock.pages import Pages
from seedbed_mock.results.picture import RESULTS
from seedbed_mock.results.rendering import Renderer
from seedbed_mock.service import Service
from seedbed_mock.settings import Settings
from seedbed_mock.steps import CREATE_TASK, CREDIT, DOWNLOAD_URL, MODEL_PARAMETER, MODEL_SCHEMA, MODELS, RECORD_INFO
from seedbed_mock.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from seedbed_schemas import Contract, JobApi
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.clock import Clock
    from seedbed_mock.results.gallery import Gallery
    from seedbed_mock.steps import Step
    from seedbed_mock.stores.store import Store


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
    catalogue, shared, dialect = Catalogue(contracts), job_api(), dialects()[settings.dialect]
    service = Service(
        settings=settings,
        clock=clock or RealClock(),
        catalogue=catalogue,
        shared=shared,
        dialect=dialect,
        store=store or MemoryStore(settings.keep_tasks),
    )
    answers = Answers(catalogue.codes, dialect, settings.http_status)
    operations = _operations(catalogue, shared)
    endpoints = {
        (method, path): Endpoint(service, name, steps, answers) for (name, method, path), steps in operations.items()
    }
    routes = [
        # A model's name has a slash in it, which stays one in the path.
        Route(path.replace("{model}", f"{{{MODEL_PARAMETER}:path}}"), endpoint, methods=[method])
        for (method, path), endpoint in endpoints.items()
    ]
    courier = Courier(service, answers)
    known = ", ".join(f"{method} {path}" for _, method, path in operations)
    pages = Pages(service, answers, Renderer(_gallery(settings)), known)
    app = _Fake(
        endpoints,
        routes=[
            *routes,
            Route(f"{RESULTS}/{{name}}", pages.result),
            *control_routes(Control(service, courier, [name for name, *_ in operations]), settings.control_token or ""),
        ],
        exception_handlers={HTTPException: pages.unknown_path, Exception: pages.last_resort},
    )
    # The service knows its paths without a slash at the end only, and a redirect would repeat the client's Host.
    app.router.redirect_slashes = False
    app.state.service, app.state.courier = service, courier
    return app


def _operations(catalogue: Catalogue, shared: JobApi) -> dict[tuple[str, str, str], tuple[Step, ...]]:
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


class _Fake(Starlette):
    """An application that knows its busiest paths by heart.

    Starlette's middleware has nothing to do for them, and that and the search for the route are a tenth of a call.
    """

    def __init__(self, endpoints: Mapping[tuple[str, str], Endpoint], **options: Any) -> None:
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
