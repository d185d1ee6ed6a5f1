"""What the dashboard shows: lists of what a server keeps, and the details of one call or task.

It reads the journal and calls the operations of the control API, so that a server with both can have a dashboard. A
view whose operation a server does not have is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from seedbed_mock.bill import plain
from seedbed_mock.call_log import LATEST, is_problem
from seedbed_mock.control.api import UnknownResourceError
from seedbed_mock.control.schemas import body_value
from seedbed_mock.dashboard.copies import as_curl, as_har, as_python

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from starlette.responses import Response

    from seedbed_mock.control.api import ControlOperation
    from seedbed_mock.journal import Journal, JournalEntry


ROWS: Final = 50
"""Number of rows of a list; a page of older ones is a link away."""

_SCANNED_ENTRIES = 2000
"""Largest number of entries that a filter looks at for one page, ten times a second; the next page goes on."""

MOST_DIGITS: Final = 18
"""Digits of the largest number of a call or a task."""

_SHOWN_PROMPT = 200

VIEWS: Final = {
    "tasks": "Tasks",
    "calls": "Calls",
    "callbacks": "Callbacks",
    "accounts": "Accounts",
    "faults": "Faults",
}
"""Titles of the views by the operation that lists them; calls come from the journal."""

FILTERS: Final = {
    "": "All",
    "problem": "Problems",
    "call": "Calls",
    "callback": "Callbacks",
    "unmatched": "Unmatched",
}
"""What the view of the calls can be narrowed to."""


@dataclass(frozen=True, kw_only=True)
class DashboardSource:
    """What a dashboard shows and controls.

    Attributes:
        title: Name of the server.
        start: Name of the view that is shown first.
        control: Performs the operations of the control API.
        operations: The operations that it has.
        journal: Yields the entries of a space or of all before a number, newest first.
        token: Token that callers must send; empty to admit callers on this machine without one.
        names: Host names of the server besides its address and localhost.
        handlers: What each handler does, by its name.
        place_of: Returns where the vendor's page states a clause of a model, empty if that is not known.
        bill: Returns what the calls would have cost, in one line.
        thumbnail: Returns a small version of a task's result.
        scenarios: Names of the scenarios that can be played.
        documents: Return the OpenAPI documents of the server, by their titles.
        refresh: Reads what other servers have added to the journal.
    """

    title: str
    control: Any
    operations: tuple[ControlOperation, ...]
    journal: Callable[[str | None, int | None], Iterator[tuple[int, tuple[Journal, JournalEntry | None]]]]
    start: str = "tasks"
    token: str = ""
    names: frozenset[str] = frozenset()
    handlers: Mapping[str, str] = field(default_factory=dict)
    place_of: Callable[[str, str], Mapping[str, str]] = lambda _clause, _model: {}
    bill: Callable[[], str] = str
    thumbnail: Callable[[str], Awaitable[Response]] | None = None
    scenarios: tuple[str, ...] = ()
    documents: Mapping[str, Callable[[], Mapping[str, Any]]] = field(default_factory=dict)

    refresh: Callable[[], Awaitable[None]] | None = None

    def operation(self, name: str) -> ControlOperation | None:
        """Return the operation of the control API with this name, ``None`` if the server does not have it."""
        return next((each for each in self.operations if each.run.__name__ == name), None)

    def newest(self) -> int:
        """Return the number of the newest entry of the journal, 0 if there is none."""
        return next((number for number, _ in self.journal(None, None)), 0)

    async def call(self, name: str, values: Mapping[str, Any]) -> Any:
        """Call an operation of the control API with the values that it takes, and return its response.

        Args:
            name: Name of the operation.
            values: Parameters of its path, its query and its body; others are left out.

        Raises:
            ValueError: A value is invalid.
        """
        found = self.operation(name)
        if found is None:
            raise ValueError(f"this server has no operation {name}")
        query, body = (
            msgspec.convert(
                {key: values[key] for key in kind.__struct_fields__ if values.get(key) not in (None, "")},
                kind,
                strict=False,
            )
            for kind in (found.query, found.body)
        )
        path = {key: value for key, value in values.items() if f"{{{key}}}" in found.path}
        return await getattr(self.control, name)(path, query, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a page shows.

    Attributes:
        view: Name of the view.
        space: Name of the space, empty for all.
        only: What the calls are narrowed to, empty for all.
        task_id: ID of the task whose calls are shown, empty for all.
        before: Where the page begins, ``None`` for the newest.
        opened: What is opened beside the list: the number of a call or the ID of a task.
    """

    view: str = "tasks"
    space: str = ""
    only: str = ""
    task_id: str = ""
    before: int | None = None
    opened: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str], views: Iterable[str], start: str) -> Selection:
        """Return the selection of a query; what is not valid in it is left out.

        Args:
            query: The query.
            views: Names of the views that the server has.
            start: Name of the view that is shown first.
        """
        before, view, only = query.get("before", ""), query.get("view", ""), query.get("only", "")
        return cls(
            view=view if view in views else start,
            space=query.get("space", "")[:64],
            only=only if only in FILTERS else "",
            task_id=query.get("task_id", "")[:200],
            before=int(before) if before.isdecimal() and len(before) <= MOST_DIGITS else None,
            opened=query.get("opened", "")[:200],
        )

    def query(self, **changes: str | int | None) -> dict[str, str]:
        """Return the query of this selection with some changes."""
        values = {name: getattr(self, name) for name in self.__slots__} | changes
        return {name: str(value) for name, value in values.items() if value not in (None, "")}


def views_of(source: DashboardSource) -> dict[str, str]:
    """Return the titles of the views that a server has."""
    return {name: title for name, title in VIEWS.items() if name == "calls" or source.operation(name)}


async def listed(source: DashboardSource, selection: Selection) -> dict[str, Any]:
    """Return what the list of a view shows, for its template.

    Raises:
        ValueError: The name of the space is invalid.
    """
    if selection.view == "calls":
        return _calls(source, selection)
    limited = {} if selection.view == "faults" else {"limit": ROWS}
    before = {} if selection.view in ("faults", "accounts") else {"before": selection.before}
    after = {"after": selection.before} if selection.view == "accounts" else {}
    found = await source.call(selection.view, {"space": selection.space, **limited, **before, **after})
    older = getattr(found, "before", None) or getattr(found, "after", None)
    return {"found": found, "older": older if isinstance(older, int) else None}


def _calls(source: DashboardSource, selection: Selection) -> dict[str, Any]:
    rows, number = list[dict[str, Any]](), 0
    entries = source.journal(selection.space or None, selection.before)
    for number, (journal, entry) in islice(entries, _SCANNED_ENTRIES):
        if entry is None or not _is_shown(entry, selection):
            continue
        if len(rows) == ROWS:
            return {"rows": rows, "older": number + 1}
        rows.append({"entry": entry, "space": journal.space, "is_problem": is_problem(entry)})
    # A filter that finds little in many entries goes on with the next page.
    return {"rows": rows, "older": number if next(entries, None) else None}


def _is_shown(entry: JournalEntry, selection: Selection) -> bool:
    if selection.task_id and entry.task_id != selection.task_id:
        return False
    return is_problem(entry) if selection.only == "problem" else selection.only in ("", entry.kind)


async def status(source: DashboardSource, selection: Selection) -> dict[str, Any]:
    """Return what the head of every page shows: the clock and the spaces."""
    if source.refresh:
        await source.refresh()
    clock = await source.call("clock", {}) if source.operation("clock") else None
    health = await source.call("health", {}) if source.operation("health") else None
    spaces = list(health.spaces) if health else []
    return {
        "clock": clock,
        "health": health,
        "spaces": spaces,
        # A space comes into being with its first call, and may be looked at before.
        "is_new_space": bool(selection.space) and selection.space not in spaces,
    }


def find_call(source: DashboardSource, number: int) -> tuple[str, JournalEntry]:
    """Return an entry of the journal, and the name of its space.

    Raises:
        UnknownResourceError: The journal has dropped it.
    """
    for found, (journal, entry) in islice(source.journal(None, number + 1), 1):
        if entry and found == number:
            return journal.space, entry
    raise UnknownResourceError("The journal has dropped this call.")


def call_details(source: DashboardSource, space: str, entry: JournalEntry, base_url: str) -> dict[str, Any]:
    """Return what is shown of one call: why it was answered so, its request, its response, and copies of it."""
    body = body_value(entry.request)
    model = body.get("model", "") if isinstance(body, dict) else ""
    return {
        "entry": entry,
        "space": space,
        "is_problem": is_problem(entry),
        "handler": source.handlers.get(entry.handler, ""),
        "clauses": [(each, source.place_of(each, str(model))) for each in entry.violations],
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in entry.headers.fields],
        "request": pretty(entry.request),
        "answer": pretty(entry.answer),
        "curl": as_curl(entry, base_url),
        "python": as_python(entry, base_url),
        "har": as_har(entry, base_url),
    }


async def task_details(source: DashboardSource, task_id: str) -> dict[str, Any]:
    """Return what is shown of one task: its timeline, its image, its record and its callback.

    Raises:
        UnknownResourceError: There is no such task.
    """
    task = await source.call("task", {"task_id": task_id})
    now = (await source.call("clock", {})).now
    record = task.record
    return {
        "task": task,
        "now": now,
        "has_ended": task.ends is not None and task.ends <= now,
        "image": image_path(record),
        "record": json.dumps(record, indent=2, ensure_ascii=False, default=str),
        "param": pretty(str(record.get("param", "")).encode()),
    }


def image_path(record: Mapping[str, Any]) -> str:
    """Return the path of a task's image on this server, empty if it has none."""
    try:
        urls = json.loads(record.get("resultJson") or "{}").get("resultUrls") or [""]
    except (ValueError, AttributeError):
        return ""
    # Without the host: that of the page may be another name of the same server.
    return urlsplit(str(urls[0])).path


def prompt_of(record: Mapping[str, Any]) -> str:
    """Return the beginning of the longest text of a task's input, which is its prompt."""
    values: Any = None
    try:
        values = json.loads(record.get("param") or "{}").get("input", {})
        # The observed dialect writes the input as a text of its own.
        values = json.loads(values) if isinstance(values, str) else values
    except (ValueError, AttributeError):
        pass
    texts = [value for value in values.values() if isinstance(value, str)] if isinstance(values, dict) else []
    return max(texts, key=len, default="")[:_SHOWN_PROMPT]


def pretty(body: bytes) -> str:
    """Return a body as indented JSON, or as text if it is not JSON."""
    value = body_value(body)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, indent=2, ensure_ascii=False)


def moment(milliseconds: float | None) -> str:
    """Return a Unix time as a time of the day in UTC."""
    if milliseconds is None:
        return ""
    at = min(max(milliseconds, 0), LATEST) / 1000
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def amount(credits_: float) -> str:
    """Return an amount of credits without an exponent."""
    return plain(Decimal(str(credits_)))


def date(milliseconds: float) -> str:
    """Return a Unix time as a date and a time in UTC, in whole seconds."""
    at = min(max(milliseconds, 0), LATEST) / 1000
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
