"""Which of the operations that a target need not have it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from seedbed_contract.answers import JSON
from seedbed_contract.exchange import NOT_JSON
from seedbed_contract.expectations import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seedbed_contract.asks import Asks
    from seedbed_contract.detection import Found
    from seedbed_contract.exchange import Ask, Exchange
    from seedbed_contract.wire import Wire

FOREIGN_URL: Final = "http://127.0.0.1/picture.jpg"
"""A URL that is no result of any service."""

QUESTIONS: Final[Mapping[str, Callable[[Asks], Ask]]] = {
    "credit": lambda asks: asks.credit(),
    "models": lambda asks: asks.models(),
    "modelSchema": lambda asks: asks.model_schema(asks.contract.model),
    "downloadUrl": lambda asks: asks.download_url(FOREIGN_URL),
}
"""A question to each operation, which one that is there answers."""

CLAUSES: Final = {
    "credit": "creditAnswer/required/data",
    "models": "models/listed",
    "modelSchema": "models/schema",
    "downloadUrl": "downloadUrl/own",
    "faults": "code/500",
}
"""The clause that an operation breaks by not being there, where it is required."""


def offered(wire: Wire, asks: Asks, found: Found) -> frozenset[str]:
    """Return the names of the optional operations that a target has.

    Raises:
        OutOfTime: The time of the run is over.
    """
    expected = found.expected
    # A server without the operation answers like for any path that it does not know.
    due = dict.fromkeys(QUESTIONS, expected.codes("done"))
    due["downloadUrl"] = expected.codes("url_wrong", "done") - expected.codes("path_unknown")
    there = {name for name, ask in QUESTIONS.items() if _is_there(wire.send(ask(asks)), due[name])}
    return frozenset(there | ({"faults"} if found.is_fake else set()))


def _is_there(exchange: Exchange, due: frozenset[int]) -> bool:
    """Tell whether an operation answers, be it with what only says that it is JSON."""
    answer = exchange.answer
    is_odd = answer is not None and answer.status == OK and answer.media_type == JSON and answer.json is NOT_JSON
    return exchange.code in due or is_odd
