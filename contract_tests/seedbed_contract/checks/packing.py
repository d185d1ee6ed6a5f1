"""Valid requests put together: each task costs, so one request carries as many things worth trying as fit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas import job_api

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.cases import Accepted

    Path = tuple[str, ...]

CALLBACK: Final = job_api().fields.callback
MISSING: Final = object()


@dataclass
class Parcel:
    """Several cases in one request.

    Attributes:
        cases: What it is made of.
        changes: What differs from the smallest request, by place.
    """

    cases: list[Accepted] = field(default_factory=list)
    changes: dict[Path, Any] = field(default_factory=dict)

    def request(self, base: Any) -> Any:
        """Return the request."""
        whole = json.loads(json.dumps(base))
        for path, value in self.changes.items():
            _put(whole, path, value)
        return whole

    @property
    def callback_suffix(self) -> str:
        """What stands behind the URL of the callback, empty where there is no callback or nothing special of it."""
        parts = urlsplit(str(self.changes.get((CALLBACK,), "")))
        return f"{parts.path}?{parts.query}".rstrip("?")


def parcels(cases: Sequence[Accepted], contract: Contract) -> list[Parcel]:
    """Put cases into as few requests as can hold them, those first that try the most that is new.

    Args:
        cases: The cases, the smallest request first.
        contract: The contract, whose options may not be mixed, for each pair of them is a case.
    """
    base = cases[0].request
    options = frozenset(_options(contract.part("request")))
    chosen = [case for case in cases if case is cases[0] or changes(base, case.request).keys() & options]
    filled = [Parcel([case], _fixed(base, case, options)) for case in _by_news(chosen)]
    for case in cases:
        if case not in chosen:
            _place(filled, case, changes(base, case.request))
    return filled


def changes(base: Any, request: Any, path: Path = ()) -> dict[Path, Any]:
    """Return the places where a request differs from another, with what stands there."""
    if isinstance(base, dict) and isinstance(request, dict):
        found: dict[Path, Any] = {}
        for name in base.keys() | request.keys():
            found |= changes(base.get(name, MISSING), request.get(name, MISSING), (*path, name))
        return found
    return {} if type(base) is type(request) and base == request else {path: request}


def _fixed(base: Any, case: Accepted, options: Iterable[Path]) -> dict[Path, Any]:
    return {**{path: _get(case.request, path) for path in options}, **changes(base, case.request)}


def _place(filled: list[Parcel], case: Accepted, changed: dict[Path, Any]) -> None:
    free = (parcel for parcel in filled if not parcel.changes.keys() & changed.keys())
    parcel = next(free, None)
    if parcel is None:
        filled.append(parcel := Parcel())
    parcel.cases.append(case)
    parcel.changes |= changed


def _by_news(cases: Sequence[Accepted]) -> Iterator[Accepted]:
    left, known = list(cases), set[str]()
    while left:
        best = max(left, key=lambda case: len(set(case.clauses) - known))
        left.remove(best)
        known.update(best.clauses)
        yield best


def _options(schema: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    if "enum" in schema:
        yield path
    for name, inside in schema.get("properties", {}).items():
        yield from _options(inside, (*path, name))


def _get(value: Any, path: Path) -> Any:
    for name in path:
        value = value.get(name, MISSING) if isinstance(value, dict) else MISSING
    return value


def _put(value: Any, path: Path, change: Any) -> None:
    for name in path[:-1]:
        value = value.setdefault(name, {})
    if change is MISSING:
        value.pop(path[-1], None)
    else:
        value[path[-1]] = change
