"""What is served beside the operations: results, and answers to calls that lead nowhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from seedbed_schemas.refusals import shown

from seedbed_mock import downloads
from seedbed_mock.addresses import CONTROL_ROOT
from seedbed_mock.answers import Refusal
from seedbed_mock.control.routes import at_fault
from seedbed_mock.faults.answering import APPLIED_HEADER
from seedbed_mock.faults.wire import BrokenWire
from seedbed_mock.results.picture import RESULTS, ResultError, picture_of
from seedbed_mock.results.serving import respond

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from seedbed_mock.answers import Answers
    from seedbed_mock.results.picture import Picture
    from seedbed_mock.results.rendering import Renderer
    from seedbed_mock.service import Service
    from seedbed_mock.tasks import Task


class Pages:
    """Results, and answers to calls that lead nowhere.

    Args:
        service: Whose results they are.
        answers: How a refusal is written.
        renderer: What makes the images.
        known: The paths that lead somewhere.
    """

    def __init__(self, service: Service, answers: Answers, renderer: Renderer, known: str) -> None:
        self._service = service
        self._answers = answers
        self._renderer = renderer
        self._known = known

    async def result(self, request: Request) -> Response:
        """Answer with the image of a task, as long as it is kept."""
        name = request.path_params["name"]
        task = self._service.result(name)
        if task is None or downloads.is_over(self._service, name, request.query_params):
            return self._answers.refused_file("result_unknown")
        try:
            rendered = await self._renderer.render(self._picture(task))
        except ResultError as error:
            return self._answers.refused_file("internal_error", str(error))
        if task.quirk == "cut":
            rendered = rendered.cut()
        answer = respond(rendered, request.method, request.headers)
        if task.fault:
            answer.headers[APPLIED_HEADER] = task.fault
        return answer

    def _picture(self, task: Task) -> Picture:
        """Return what a task's result shows; of a model that is played no more, what the shipped one would."""
        models = self._service.catalogue.models
        profile = models.get(task.model, self._service.catalogue.shipped).profile
        asked = msgspec.json.decode(task.request).get(self._service.shared.fields.input)
        picture = picture_of(profile, task.model, asked, self._service.settings.seed)
        return replace(picture, size=task.size) if task.size else picture

    async def unknown_path(self, request: Request, _: Exception) -> Response:
        """Answer to a path or a method that leads nowhere."""
        method, path = shown(request.method), shown(request.url.path)
        return self._answers.refused(Refusal("path_unknown", method=method, path=path, known=self._known))

    async def last_resort(self, request: Request, error: Exception) -> Response:
        """Answer where the server itself is at fault."""
        # A connection that a fault breaks, where there is none, is no mistake of the server's.
        if not isinstance(error, BrokenWire):
            self._service.errors.append(error)
        if request.url.path.startswith(CONTROL_ROOT):
            return at_fault()
        if request.url.path.startswith(RESULTS):
            return self._answers.refused_file("internal_error")
        return self._answers.refused(Refusal("internal_error"))
