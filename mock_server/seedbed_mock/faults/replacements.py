"""Answers that stand in the place of the service's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed_mock.faults import effects
from seedbed_mock.responses import ApiResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_mock.faults.effects import ResponseEffect
    from seedbed_mock.responses import ResponseWriter


APPLIED_HEADER = "x-seedbed-fault-applied"
"""Header of every answer that a rule touched, with the rule."""

_JSON = "application/json"
_HTML = "text/html; charset=utf-8"


class ResponseReplacedError(Exception):
    """The call is answered by a fault.

    Args:
        effect: What it is answered with.
    """

    def __init__(self, effect: ResponseEffect) -> None:
        super().__init__(effect.name)
        self.effect = effect


def replacement(effect: ResponseEffect, answers: ResponseWriter) -> ApiResponse:
    """Return the answer that an effect gives."""
    return _WRITERS[type(effect)](effect, answers)


def _code(effect: effects.CodeEffect, answers: ResponseWriter) -> ApiResponse:
    return _with_retry_after(answers.for_code(effect.code, effect.message), effect.retry_after)


def _status(effect: effects.StatusEffect, _: ResponseWriter) -> ApiResponse:
    return _with_retry_after(_answer(effect.status, b"", _HTML), effect.retry_after)


def _html(effect: effects.HtmlResponse, _: ResponseWriter) -> ApiResponse:
    # No answer with these has a body.
    if effect.status in {204, 205, 304}:
        return _answer(effect.status, b"", _HTML)
    title = {403: "403 Forbidden", 502: "502 Bad Gateway"}.get(effect.status, str(effect.status))
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    return _answer(effect.status, f"{page}<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n".encode(), _HTML)


def _empty(_: effects.EmptyResponse, __: ResponseWriter) -> ApiResponse:
    return _answer(200, b"", _JSON)


def _wrong_type(effect: effects.WrongMediaType, answers: ResponseWriter) -> ApiResponse:
    return _answer(200, answers.success(None).body, effect.type)


def _not_json(_: effects.NotJsonResponse, answers: ResponseWriter) -> ApiResponse:
    body = answers.success(None).body
    return _answer(200, body[: len(body) // 2], _JSON)


def _other_shape(_: effects.OtherShapeResponse, __: ResponseWriter) -> ApiResponse:
    return _answer(200, b'[{"status":"ok"}]', _JSON)


def _no_data(_: effects.NoDataResponse, answers: ResponseWriter) -> ApiResponse:
    return _answer(200, answers.success_without_data(), _JSON)


def _answer(status: int, body: bytes, media_type: str) -> ApiResponse:
    return ApiResponse(0, "fault", body, status, media_type)


def _with_retry_after(answer: ApiResponse, seconds: int | None) -> ApiResponse:
    if seconds is not None:
        answer.headers["retry-after"] = str(seconds)
    return answer


_WRITERS: dict[type[ResponseEffect], Callable[..., ApiResponse]] = {
    effects.CodeEffect: _code,
    effects.StatusEffect: _status,
    effects.HtmlResponse: _html,
    effects.EmptyResponse: _empty,
    effects.WrongMediaType: _wrong_type,
    effects.NotJsonResponse: _not_json,
    effects.OtherShapeResponse: _other_shape,
    effects.NoDataResponse: _no_data,
}
