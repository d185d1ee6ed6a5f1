"""The endpoints beside the operations: result images, unknown paths and internal errors."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from seedbed_schemas import local
from seedbed_schemas.validation import for_display
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from seedbed_mock import handlers
from seedbed_mock.control import routes as control
from seedbed_mock.control.verify import nearest_path
from seedbed_mock.faults.connection import BrokenConnectionError
from seedbed_mock.faults.effects import APPLIED_HEADER
from seedbed_mock.journal import UNMATCHED, JournalEntry, truncated
from seedbed_mock.request_body import read_body
from seedbed_mock.responses import ServiceError
from seedbed_mock.results.picture import RESULTS, ResultError, picture_of
from seedbed_mock.results.rendering import Renderer
from seedbed_mock.results.serving import respond
from seedbed_mock.settings import CONTROL_ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from seedbed_mock.control.verify import ServedPath
    from seedbed_mock.responses import ResponseWriter
    from seedbed_mock.results.picture import Picture
    from seedbed_mock.state import Service
    from seedbed_mock.tasks import Task


_SPACE_HEADER: Final = local.SPACE_HEADER.lower().encode()
_THUMBNAIL_PIXELS: Final = 256


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
