"""Verification: whether expected calls were made, and if not, which calls came nearest.

The second part does the same for a single request that matches no operation: it finds the operation that was meant.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import UNSET
from seedbed_schemas.validation import for_display

from seedbed_mock.control.schemas import FieldDifference, NearMiss, Verdict, body_value
from seedbed_mock.journal import UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seedbed_mock.control.schemas import VerifyRequest
    from seedbed_mock.journal import JournalEntry

    Bounds = tuple[int, int | None]


_SHOWN_MISSES = 3
_COUNTED_DIFFERENCES = 20
_SHOWN_VALUES = 20
_WHOLE_BODY = "body"


def verify(expected: VerifyRequest, entries: Iterable[JournalEntry]) -> Verdict:
    """Return whether the journal contains the expected calls.

    Args:
        expected: The calls to look for.
        entries: Entries of the journal.

    Raises:
        ValueError: The expected numbers of calls contradict each other.
    """
    bounds = least, most = _bounds(expected)
    entries = tuple(entries)
    calls = [entry for entry in entries if entry.kind == "call"]
    # More differences than that tell a reader nothing, and thousands of calls may have thousands each.
    compared = [
        (entry, list(islice(_differences(expected, entry), _COUNTED_DIFFERENCES)))
        for entry in calls
        if entry.operation == expected.operation
    ]
    matched = sum(not differences for _, differences in compared)
    near_misses: list[NearMiss] = []
    if matched < least:
        misses = sorted(((entry, found) for entry, found in compared if found), key=lambda miss: len(miss[1]))
        near_misses = [NearMiss(entry.number, found) for entry, found in misses[:_SHOWN_MISSES]]
        near_misses += [
            NearMiss(entry.number, [FieldDifference("operation", expected.operation, entry.operation)], entry.hint)
            for entry in entries
            if entry.kind == UNMATCHED and entry.nearest == expected.operation
        ][-_SHOWN_MISSES:]
    is_verified = least <= matched and (most is None or matched <= most)
    if is_verified:
        message = f"{_described(expected)} was {_called(matched)}, as expected."
    else:
        message = f"Expected {_described(expected)} {_to_be_called(bounds)}; it was {_called(matched)}."
        message += _hint(matched, near_misses, calls)
    return Verdict(is_verified, matched, message, near_misses)


def _bounds(expected: VerifyRequest) -> Bounds:
    if expected.times is not None:
        if expected.at_least is not None or expected.at_most is not None:
            raise ValueError("times cannot be combined with at_least or at_most; give one or the other")
        return expected.times, expected.times
    least = expected.at_least if expected.at_least is not None else int(expected.at_most is None)
    if expected.at_most is not None and expected.at_most < least:
        raise ValueError(f"at_most ({expected.at_most}) is less than at_least ({least})")
    return least, expected.at_most


def _differences(expected: VerifyRequest, entry: JournalEntry) -> Iterator[FieldDifference]:
    if expected.code is not None and entry.code != expected.code:
        yield FieldDifference("code", expected.code, entry.code)
    if expected.account is not None and entry.account != expected.account:
        yield FieldDifference("account", expected.account, entry.account)
    if expected.request not in ({}, None):
        yield from _value_differences(expected.request, body_value(entry.request), "")


def _value_differences(expected: Any, found: Any, where: str) -> Iterator[FieldDifference]:
    """Yield the differences between two JSON values; an object may have more fields than expected."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            path = f"{where}.{name}" if where else name
            if name in found:
                yield from _value_differences(value, found[name], path)
            else:
                yield FieldDifference(path, value)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _value_differences(one, other, f"{where or _WHOLE_BODY}[{index}]")
    # In Python True equals 1, in JSON it does not.
    elif expected != found or isinstance(expected, bool) is not isinstance(found, bool):
        yield FieldDifference(where or _WHOLE_BODY, expected, found)


def _described(expected: VerifyRequest) -> str:
    """Return the operation with the expected values, such as ``createTask with input.seed 7 and code 200``."""
    values = [*_leaves(expected.request)]
    values += [(name, value) for name in ("code", "account") if (value := getattr(expected, name)) is not None]
    parts = [f"{for_display(where)} {_json(value)}" for where, value in values[:_SHOWN_VALUES]]
    parts += [f"{len(values) - _SHOWN_VALUES} more values"] if len(values) > _SHOWN_VALUES else []
    if not parts:
        return expected.operation
    *first, last = parts
    return f"{expected.operation} with {', '.join(first)}{' and ' if first else ''}{last}"


def _leaves(expected: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(expected, dict):
        for name, value in expected.items():
            yield from _leaves(value, f"{where}.{name}" if where else name)
    elif where or expected is not None:
        yield where or _WHOLE_BODY, expected


def _to_be_called(bounds: Bounds) -> str:
    least, most = bounds
    if most == 0:
        return "never to be called"
    if least == most:
        return f"to be called {_times(least)}"
    limits = [f"at least {_times(least)}"] if least else []
    limits += [] if most is None else [f"at most {_times(most)}"]
    return f"to be called {' and '.join(limits)}"


def _called(count: int) -> str:
    return f"called {_times(count)}" if count else "never called"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _hint(matched: int, near_misses: list[NearMiss], calls: list[JournalEntry]) -> str:
    """Return a sentence that helps to find the mistake, empty if there is none."""
    if near_misses and near_misses[0].hint:
        return f" Entry {near_misses[0].entry} matches no operation: {near_misses[0].hint}"
    if near_misses:
        nearest = near_misses[0]
        differences = [
            f"{each.where} is {'missing' if each.found is UNSET else _json(each.found)}, not {_json(each.expected)}"
            for each in nearest.differences
        ]
        return f" In the nearest call, entry {nearest.entry}, {'; '.join(differences)}."
    if matched:
        return ""
    counts = Counter(entry.operation for entry in calls)
    listed = ", ".join(f"{name} {_times(count)}" for name, count in counts.items())
    return f" Calls so far: {listed}." if listed else " There were no calls."


def _json(value: Any) -> str:
    return for_display(json.dumps(value, ensure_ascii=False))


# Requests that match no operation

_LONGEST_PATH = 200


@dataclass(frozen=True, slots=True)
class ServedPath:
    """The method and the path of an operation.

    Attributes:
        operation: Name of the operation.
        method: Its HTTP method.
        path: Its path, with parameters as ``{name}``.
    """

    operation: str
    method: str
    path: str

    def matches(self, path: str) -> bool:
        """Return whether a path is that of the operation."""
        # A parameter may contain slashes, since the name of a model does.
        pattern = "(.+)".join(re.escape(part) for part in re.split(r"\{\w+\}", self.path))
        return re.fullmatch(pattern, path) is not None


def nearest_path(method: str, path: str, known: Sequence[ServedPath]) -> tuple[str, str]:
    """Return the operation that an unmatched request was likely meant for, and what is wrong with the request.

    Args:
        method: Method of the request.
        path: Path of the request.
        known: The operations.

    Returns:
        The name of the operation and one sentence; both are empty if no operation is likely.
    """
    path = path[:_LONGEST_PATH]
    repairs = (
        (path, ""),
        (re.sub("/{2,}", "/", path), "Your base URL ends with a slash, so that the path has two."),
        (path.rstrip("/"), "The path ends with a slash."),
        (path.strip(), "The path has a blank at its end."),
    )
    for repaired, hint in repairs:
        # If possible an operation of this method.
        found = sorted((each for each in known if each.matches(repaired)), key=lambda each: each.method != method)
        if found:
            takes = f"{found[0].operation} takes {found[0].method}." if found[0].method != method else ""
            return found[0].operation, f"{hint} {takes}".strip()
    for served in known:
        if path.endswith(served.path):
            surplus = for_display(path.removesuffix(served.path))
            return served.operation, f"Your base URL has the path {surplus}, which is too much."
        if len(path) > 1 and served.path.endswith(f"/{path.strip('/')}"):
            return served.operation, f"Your base URL lacks the path {served.path.removesuffix(path)}."
    lower = {served.path.lower(): served for served in known}
    close = get_close_matches(path.lower(), lower, 1, 0.8)
    return (lower[close[0]].operation, f"Did you mean {lower[close[0]].path}?") if close else ("", "")
