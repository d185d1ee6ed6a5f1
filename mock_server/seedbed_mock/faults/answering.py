"""Answers that stand in the place of the service's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed_mock.answers import Answer
from seedbed_mock.faults import effects

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_mock.answers import Answers
    from seedbed_mock.faults.effects import OnAnswer

APPLIED_HEADER = "x-seedbed-fault-applied"
"""Header of every answer that a rule touched, with the rule."""

_JSON = "application/json"
_HTML = "text/html; charset=utf-8"


class Replaced(Exception):
    """The call is answered by a fault.

    Args:
        effect: What it is answered with.
    """

    def __init__(self, effect: OnAnswer) -> None:
        super().__init__(effect.name)
        self.effect = effect


def replaced(effect: OnAnswer, answers: Answers) -> Answer:
    """Return the answer that an effect gives."""
    return _WRITERS[type(effect)](effect, answers)


def _code(effect: effects.Code, answers: Answers) -> Answer:
    return _with_retry_after(answers.of_code(effect.code, effect.message), effect.retry_after)


def _status(effect: effects.Status, _: Answers) -> Answer:
    return _with_retry_after(_answer(effect.status, b"", _HTML), effect.retry_after)


def _html(effect: effects.Html, _: Answers) -> Answer:
    # No answer with these has a body.
    if effect.status in {204, 205, 304}:
        return _answer(effect.status, b"", _HTML)
    title = {403: "403 Forbidden", 502: "502 Bad Gateway"}.get(effect.status, str(effect.status))
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    return _answer(effect.status, f"{page}<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n".encode(), _HTML)


def _empty(_: effects.Empty, __: Answers) -> Answer:
    return _answer(200, b"", _JSON)


def _wrong_type(effect: effects.WrongType, answers: Answers) -> Answer:
    return _answer(200, answers.done(None).body, effect.type)


def _not_json(_: effects.NotJson, answers: Answers) -> Answer:
    body = answers.done(None).body
    return _answer(200, body[: len(body) // 2], _JSON)


def _other_shape(_: effects.OtherShape, __: Answers) -> Answer:
    return _answer(200, b'[{"status":"ok"}]', _JSON)


def _no_data(_: effects.NoData, answers: Answers) -> Answer:
    return _answer(200, answers.without_data(), _JSON)


def _answer(status: int, body: bytes, media_type: str) -> Answer:
    return Answer(0, "fault", body, status, media_type)


def _with_retry_after(answer: Answer, seconds: int | None) -> Answer:
    if seconds is not None:
        answer.headers["retry-after"] = str(seconds)
    return answer


_WRITERS: dict[type[OnAnswer], Callable[..., Answer]] = {
    effects.Code: _code,
    effects.Status: _status,
    effects.Html: _html,
    effects.Empty: _empty,
    effects.WrongType: _wrong_type,
    effects.NotJson: _not_json,
    effects.OtherShape: _other_shape,
    effects.NoData: _no_data,
}
