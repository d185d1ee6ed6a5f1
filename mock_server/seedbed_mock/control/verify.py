"""Whether a call was made as it should have been, and if not, what came nearest."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import UNSET
from msgspec.structs import replace
from seedbed_schemas.validation import for_display

from seedbed_mock.control.schemas import FieldDifference, NearMiss, Verdict, value_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_mock.control.schemas import VerifyRequest
    from seedbed_mock.journal import JournalEntry


_SHOWN_MISSES = 3
_WHOLE = "body"


def verify(wanted: VerifyRequest, entries: Iterable[JournalEntry]) -> Verdict:
    """Return the verdict over the calls of a journal.

    Raises:
        ValueError: Nothing could ever be so.
    """
    least, most = _bounds(wanted)
    calls = [entry for entry in entries if entry.kind == "call"]
    judged = [(entry, list(_differences(wanted, entry))) for entry in calls if entry.operation == wanted.operation]
    matched = sum(not differences for _, differences in judged)
    is_verified = least <= matched and (most is None or matched <= most)
    misses = sorted(((e, d) for e, d in judged if d), key=lambda judgement: len(judgement[1]))[:_SHOWN_MISSES]
    near = [NearMiss(entry.number, d) for entry, d in misses] if matched < least else []
    verdict = Verdict(is_verified, matched, "", near)
    return replace(verdict, message=_sentence(wanted, verdict, (least, most), calls))


def _bounds(wanted: VerifyRequest) -> tuple[int, int | None]:
    if wanted.times is not None:
        if wanted.at_least is not None or wanted.at_most is not None:
            raise ValueError("give times, or at_least and at_most, but not both")
        return wanted.times, wanted.times
    least = wanted.at_least if wanted.at_least is not None else int(wanted.at_most is None)
    if wanted.at_most is not None and wanted.at_most < least:
        raise ValueError(f"at_most {wanted.at_most} is less than at_least {least}")
    return least, wanted.at_most


def _differences(wanted: VerifyRequest, entry: JournalEntry) -> Iterator[FieldDifference]:
    if wanted.code is not None and entry.code != wanted.code:
        yield FieldDifference("code", wanted.code, entry.code)
    if wanted.account is not None and entry.account != wanted.account:
        yield FieldDifference("account", wanted.account, entry.account)
    if wanted.request not in ({}, None):
        yield from _unlike(wanted.request, value_of(entry.request), "")


def _unlike(expected: Any, found: Any, where: str) -> Iterator[FieldDifference]:
    """Yield where a value lacks what is expected of it; an object may have more than that."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            place = f"{where}.{name}" if where else name
            if name in found:
                yield from _unlike(value, found[name], place)
            else:
                yield FieldDifference(place, value)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _unlike(one, other, f"{where or _WHOLE}[{number}]")
    elif expected != found or isinstance(expected, bool) is not isinstance(found, bool):
        yield FieldDifference(where or _WHOLE, expected, found)


def _sentence(
    wanted: VerifyRequest, verdict: Verdict, bounds: tuple[int, int | None], calls: list[JournalEntry]
) -> str:
    like = f" with {listed}" if (listed := _listed(wanted)) else ""
    found = f"{wanted.operation}{like} was {_called(verdict.matched)}"
    if verdict.verified:
        return f"{found}, as it should have been."
    return f"{found}; it should {_wanted(*bounds)}.{_hint(verdict, calls)}"


def _hint(verdict: Verdict, calls: list[JournalEntry]) -> str:
    """Return what may have been the mistake."""
    if verdict.near_misses:
        nearest = verdict.near_misses[0]
        return f" The nearest call, entry {nearest.entry}, had {'; '.join(map(_told, nearest.differences))}."
    if verdict.matched:
        return ""
    counts = Counter(entry.operation for entry in calls)
    told = ", ".join(f"{name} {_times(number)}" for name, number in counts.items())
    return f" What was called: {told}." if told else " Nothing was called at all."


def _listed(wanted: VerifyRequest) -> str:
    parts = [f"{where} {_shown(value)}" for where, value in _leaves(wanted.request)]
    parts += [f"{name} {_shown(value)}" for name in ("code", "account") if (value := getattr(wanted, name)) is not None]
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def _leaves(expected: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(expected, dict):
        for name, value in expected.items():
            yield from _leaves(value, f"{where}.{name}" if where else name)
    elif where or expected is not None:
        yield where or _WHOLE, expected


def _called(count: int) -> str:
    return f"called {_times(count)}" if count else "never called"


def _wanted(least: int, most: int | None) -> str:
    if most == 0:
        return "never have been called"
    bounds = [f"at least {_times(least)}"] if least else []
    bounds += [] if most is None else [f"at most {_times(most)}"]
    return f"have been called {_times(least) if least == most else ' and '.join(bounds)}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _told(difference: FieldDifference) -> str:
    if difference.found is UNSET:
        return f"no {difference.where}, not {_shown(difference.expected)}"
    return f"{difference.where} {_shown(difference.found)}, not {_shown(difference.expected)}"


def _shown(value: Any) -> str:
    return for_display(json.dumps(value, ensure_ascii=False))
