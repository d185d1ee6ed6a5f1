"""A request, what came back, and how that is read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

Headers = tuple[tuple[str, str], ...]

NOT_JSON: Final = object()
"""Stands for the content of a body that is no JSON text."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as it is to be sent.

    Attributes:
        operation: Name of the operation, such as ``createTask``.
        method: HTTP method.
        target: Path and query.
        headers: Headers in order, a name as often as it is to be sent.
        body: Bytes of the body, ``None`` where there is none.
    """

    operation: str
    method: str
    target: str
    headers: Headers = field(default=(), repr=False)
    body: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Attributes:
        status: HTTP status.
        headers: Headers in order, names in lower case.
        body: Bytes of the body, as far as they were read.
        is_whole: Whether all of the body was read.
    """

    status: int
    headers: Headers
    body: bytes
    is_whole: bool = True

    def header(self, name: str) -> str:
        """Return a header, empty where there is none."""
        return next((value for known, value in self.headers if known == name.lower()), "")

    @property
    def media_type(self) -> str:
        """The media type without its parameters, in lower case."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @cached_property
    def json(self) -> Any:
        """The content, or :data:`NOT_JSON`; what only a lenient parser takes, such as NaN, is none."""
        return parse_json(self.body) if self.is_whole else NOT_JSON

    @property
    def code(self) -> int | None:
        """The outcome; a number written as text is taken for one, so that a judgement can go on."""
        code = self.json.get("code") if isinstance(self.json, dict) else None
        if isinstance(code, str) and code.isascii() and code.isdigit():
            return int(code)
        if isinstance(code, float) and code.is_integer():
            return int(code)  # to JSON Schema, 200.0 is an integer
        return code if isinstance(code, int) and not isinstance(code, bool) else None

    @property
    def data(self) -> Any:
        """What is given back, ``None`` where nothing is."""
        return self.json.get("data") if isinstance(self.json, dict) else None

    @property
    def task_id(self) -> str:
        """The name of the task that is given back, empty where none is."""
        task_id = self.data.get("taskId") if isinstance(self.data, dict) else None
        return str(task_id) if isinstance(task_id, str | int) and not isinstance(task_id, bool) else ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came of it.

    Attributes:
        ask: The request.
        answer: The answer, ``None`` where there was none.
        problem: Why there was none, a phrase.
        started: When it was sent, in Unix seconds.
        ended: When the answer had been read, in Unix seconds.
    """

    ask: Ask
    answer: Answer | None
    problem: str = ""
    started: float = 0.0
    ended: float = 0.0

    @property
    def code(self) -> int | None:
        """The outcome, ``None`` where it cannot be told."""
        return self.answer.code if self.answer else None

    @property
    def data(self) -> Any:
        """What was given back, ``None`` where nothing was."""
        return self.answer.data if self.answer else None

    @property
    def task_id(self) -> str:
        """The name of the task that was given back, empty where none was."""
        return self.answer.task_id if self.answer else ""


def parse_json(body: bytes | str) -> Any:
    """Return the value of a JSON text by the letter of RFC 8259, or :data:`NOT_JSON`."""
    try:
        text = body.decode("utf-8") if isinstance(body, bytes) else body
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NOT_JSON


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
