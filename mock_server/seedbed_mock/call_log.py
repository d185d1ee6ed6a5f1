"""The log of a running server: one line for each call and callback, written as fast as its reader can take them.

It reads the journal ten times a second, so that the path of a call knows nothing of it. A thread writes the lines; if
more calls arrive than anyone can read, or the reader is slow, it shows a part of them and counts the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TextIO

import msgspec
from cyclopts import Parameter
from seedbed_schemas.validation import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_mock.journal import JournalEntry, JournalReader

    Entries = list[tuple[str, JournalEntry]]


LogFormat = Literal["text", "json", "off"]
LogLevel = Literal["debug", "info", "warning"]

_SECONDS = 0.1
"""How often the journal is read."""

_LINES_AT_ONCE = 50
"""Lines of one reading; more than that many ten times a second nobody can read."""

_READ_AT_ONCE = 1000
"""Entries of one reading among which problems are looked for first."""

_WAITING_BATCHES = 20
_CLOSE_SECONDS = 0.3
"""How long the end of the server waits until everything is written; a full pipe may never be read again."""

_LONGEST_FIELD = 400
_WIDTH_OF_FILES: Final = 4096
_NARROWEST, _NARROW = 30, 60

LATEST: Final = 253_402_300_799_000
"""The last moment that Python's dates have, in Unix milliseconds; a clock that is advanced can be beyond it."""

_RED, _YELLOW, _MAGENTA, _DIM, _PLAIN = "31", "33", "35", "2", ""


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What a server logs to standard error.

    Attributes:
        log_format: "text" for people, "json" for one object per line, "off" for nothing. Default: text if standard
            error is a terminal, otherwise off.
        log_level: "debug" adds the bodies, "warning" shows only what went wrong: refused calls, injected faults, calls
            that match no operation, and callbacks that were not delivered.
    """

    log_format: Annotated[LogFormat | None, Parameter(show_default=False)] = None
    log_level: LogLevel = "info"

    def open(self, reader: JournalReader, stream: TextIO) -> JournalLog | None:
        """Return the log on a stream, ``None`` if it is off."""
        chosen = self.log_format or ("text" if _is_terminal(stream) else "off")
        if chosen == "off":
            return None
        formatter = _JsonFormat(self.log_level) if chosen == "json" else _TextFormat(self.log_level, stream)
        return JournalLog(reader, stream, formatter, self.log_level)


def is_problem(entry: JournalEntry) -> bool:
    """Return whether an entry is a refusal, an injected fault, an unmatched call or a callback without success."""
    if entry.kind == "callback":
        return entry.status not in range(200, 300)
    return entry.kind == "unmatched" or entry.case != "done" or bool(entry.fault)


class JournalLog:
    """Reads the journal of a server, and writes what is new in it.

    Args:
        reader: Reads the journal.
        stream: Where the lines are written.
        formatter: Makes text of entries.
        level: Least level of the entries.
    """

    def __init__(
        self, reader: JournalReader, stream: TextIO, formatter: _TextFormat | _JsonFormat, level: LogLevel
    ) -> None:
        self._reader = reader
        self._stream = stream
        self._format = formatter
        self._level = level
        self._batches = queue.Queue[tuple["Entries", int] | None](_WAITING_BATCHES)
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writer = threading.Thread(target=self._write, name="seedbed log", daemon=True)

    def start(self) -> None:
        """Begin, in the event loop of the server."""
        self._writer.start()
        self._tick(asyncio.get_running_loop())

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._read()
        self._timer = loop.call_later(_SECONDS, self._tick, loop)

    def _read(self) -> None:
        found, missed = self._reader.read(_READ_AT_ONCE)
        if self._level == "warning":
            found, missed = [each for each in found if is_problem(each[1])], 0
        if len(found) > _LINES_AT_ONCE:
            # Problems come first, and the newest of all others next.
            problems = [each for each in found if is_problem(each[1])][-_LINES_AT_ONCE:]
            room, others = _LINES_AT_ONCE - len(problems), (each for each in reversed(found) if not is_problem(each[1]))
            chosen = sorted([*problems, *islice(others, room)], key=lambda each: each[1].number)
            missed += len(found) - len(chosen)
            found = chosen
        missed += self._dropped
        if not found and not missed:
            return
        try:
            self._batches.put_nowait((found, missed))
            self._dropped = 0
        except queue.Full:
            self._dropped = missed + len(found)

    def _write(self) -> None:
        # A closed pipe or a full disk ends the log, not the server.
        with contextlib.suppress(OSError, ValueError):
            while (batch := self._batches.get()) is not None:
                found, missed = batch
                lines = [self._format.line(space, entry) for space, entry in found]
                if missed:
                    lines.append(self._format.missed(missed))
                self._stream.write("".join(f"{line}\n" for line in lines))
                self._stream.flush()

    def close(self) -> None:
        """Write what is left, and end."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._read()
        with contextlib.suppress(queue.Full):
            self._batches.put(None, timeout=_CLOSE_SECONDS)
        self._writer.join(_CLOSE_SECONDS)


class _JsonFormat:
    """One JSON object for each entry.

    Args:
        level: Level of the log.
    """

    def __init__(self, level: LogLevel) -> None:
        self._has_bodies = level == "debug"

    def line(self, space: str, entry: JournalEntry) -> str:
        """Return an entry as a line of JSON in ASCII, so that no text of a client can change its meaning."""
        at = min(max(entry.at, 0), LATEST)
        values: dict[str, Any] = {
            "time": f"{_utc_second(at // 1000)}.{at % 1000:03}+00:00",
            "level": "warning" if is_problem(entry) else "info",
            "space": space,
        }
        for name, value in zip(_JSON_FIELDS, _json_fields(entry), strict=True):
            # Most fields of most entries are empty.
            if value or type(value) is int:
                values[name] = value[:_LONGEST_FIELD] if type(value) is str else value
        values["duration"] = round(entry.duration, 3)
        if entry.kind == "callback" and entry.answer:
            values["reason"] = _text(entry.answer)
        bodies = (("request", entry.request), ("answer", entry.answer)) if self._has_bodies else ()
        values |= {name: _text(body) for name, body in bodies if body}
        return _ascii(values)

    def missed(self, number: int) -> str:
        """Return a line that counts the entries that are not shown."""
        return _ascii({"level": "info", "kind": "missed", "number": number})


_JSON_FIELDS = (
    *("number", "kind", "operation", "method", "target", "code", "status", "case", "account", "task_id", "fault"),
    *("violations", "attempt", "handler", "reason", "nearest", "hint"),
)
_json_fields = attrgetter(*_JSON_FIELDS)


class _TextFormat:
    """A line for each entry, and a second one that says why a call was refused, as wide as the terminal.

    Args:
        level: Level of the log.
        stream: Where the lines are written; decides on the width and on colours.
    """

    def __init__(self, level: LogLevel, stream: TextIO) -> None:
        self._has_bodies = level == "debug"
        self._stream = stream
        self._is_terminal = _is_terminal(stream)
        # https://no-color.org: any value but an empty one.
        self._has_colours = self._is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def line(self, space: str, entry: JournalEntry) -> str:
        """Return an entry as one line, with further lines for its reason and its bodies."""
        width = self._width()
        columns = _callback_columns(entry) if entry.kind == "callback" else _call_columns(entry, width)
        if space != "default":
            columns.append((f"space {space}", _DIM))
        lines = [self._fitted(columns, width)]
        # What the reason says is often longer than the terminal is wide, and the end has the remedy.
        reasons = [_reason(entry)] if is_problem(entry) else []
        if self._has_bodies:
            answer = b"" if entry.kind == "callback" else entry.answer
            bodies = (("request", entry.request), ("response", answer))
            reasons += [f"{name}: {_text(body)}" for name, body in bodies if body]
        for reason in filter(None, reasons):
            lines += [self._coloured(f"  {part}", _DIM) for part in _wrapped(printable(reason), width - 2)]
        return "\n".join(lines)

    def missed(self, number: int) -> str:
        """Return a line that counts the entries that are not shown."""
        return self._coloured(f"... {number} more not shown", _DIM)

    def _width(self) -> int:
        if not self._is_terminal:
            return _WIDTH_OF_FILES
        # Asked for each line, since a window can change its size.
        try:
            return max(os.get_terminal_size(self._stream.fileno()).columns or 80, _NARROWEST)
        except (OSError, ValueError):
            return 80

    def _fitted(self, columns: Iterable[tuple[str, str]], width: int) -> str:
        parts, left = list[str](), width
        for text, colour in columns:
            if left <= 0 or not text:
                continue
            shown = text[:_LONGEST_FIELD]
            # Nearly always, and a tenth of the time that escaping takes.
            shown = shown if shown.isprintable() else printable(shown)
            # A character of East Asia takes two columns, so that the line could still wrap: harmless, and rare in URLs.
            shown = shown if len(shown) <= left else f"{shown[: left - 1]}…"
            left -= len(shown) + 1
            parts.append(self._coloured(shown, colour))
        return " ".join(parts)

    def _coloured(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and self._has_colours else text


def _call_columns(entry: JournalEntry, width: int) -> list[tuple[str, str]]:
    """Return the columns of a call with their colours, the most important ones first."""
    colour = _PLAIN
    if entry.kind == "unmatched":
        colour = _MAGENTA
    elif is_problem(entry):
        colour = _YELLOW if entry.fault else _RED
    path = entry.target
    if width < _NARROW:
        path = entry.operation if entry.kind == "call" else path
    unmatched = [("no such call", _MAGENTA)] if entry.kind == "unmatched" else []
    return [
        (_clock(entry, width), _DIM),
        (entry.method, colour),
        (path, colour),
        (str(entry.code or entry.status or ""), colour),
        *unmatched,
        (f"{entry.duration:.1f}ms" if entry.kind == "call" else "", _DIM),
        *([(f"fault {entry.fault}", _YELLOW)] if entry.fault else []),
        (entry.task_id, _PLAIN),
        (entry.account, _DIM),
    ]


def _callback_columns(entry: JournalEntry) -> list[tuple[str, str]]:
    colour = _RED if is_problem(entry) else _PLAIN
    return [
        (_clock(entry, _NARROW), _DIM),
        ("callback", colour),
        (f"attempt {entry.attempt}", colour),
        (str(entry.status or "no response"), colour),
        (f"{entry.duration:.0f}ms", _DIM),
        (entry.target, colour),
        (entry.task_id, _PLAIN),
        (entry.account, _DIM),
    ]


def _reason(entry: JournalEntry) -> str:
    if entry.kind == "callback":
        return _text(entry.answer) or f"The receiver responded with {entry.status}; it has to respond with 200."
    broken = f" (broken clauses: {', '.join(entry.violations)})" if entry.violations else ""
    # The hint at an unmatched call is shorter than its reason, which lists all operations.
    return f"{entry.hint or entry.reason}{broken}".strip()


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text as lines. Bodies have long words, so that a line ends at a blank only if there is one near."""
    lines, text = list[str](), text[: _WIDTH_OF_FILES - 2]
    while len(text) > width:
        end = text.rfind(" ", width // 2, width + 1)
        end = width if end < 0 else end
        lines.append(text[:end])
        text = text[end:].lstrip()
    return [*lines, text]


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(min(max(at, 0), LATEST) / 1000, UTC)


def _clock(entry: JournalEntry, width: int) -> str:
    shown = _second(entry.at // 1000)
    return shown if width <= _NARROW else f"{shown}.{entry.at % 1000:03}"


@lru_cache(16)
def _second(second: int) -> str:
    return _moment(second * 1000).astimezone().strftime("%H:%M:%S")


@lru_cache(16)
def _utc_second(second: int) -> str:
    return _moment(second * 1000).strftime("%Y-%m-%dT%H:%M:%S")


def _text(body: bytes) -> str:
    return body[:_LONGEST_FIELD].decode(errors="replace")


def _ascii(values: dict[str, Any]) -> str:
    text = msgspec.json.encode(values).decode()
    return text if text.isascii() else json.dumps(values)


def _is_terminal(stream: TextIO) -> bool:
    with contextlib.suppress(ValueError):  # the stream is closed
        return stream.isatty()
    return False
