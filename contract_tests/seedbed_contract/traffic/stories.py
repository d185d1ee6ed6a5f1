"""The story of one task in a recording: what was asked, which look came before which, and its callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from seedbed_schemas import job_api

from seedbed_contract.asks import Asks
from seedbed_contract.callbacks import callback_flaws
from seedbed_contract.exchange import parse_json
from seedbed_contract.orders import Order
from seedbed_contract.receiver import Received
from seedbed_contract.traffic.keys import is_kept, sent_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.answers import Flaw
    from seedbed_contract.expectations import Expectations
    from seedbed_contract.traffic.recorded import Recorded
    from seedbed_contract.traffic.recording import Call, Story

    Look = tuple[Mapping[str, Any], Call]


def asked(story: Story, record: Any, contract: Contract) -> Mapping[str, Any]:
    """Return the request that made a task; where it was not recorded, as much of it as its record cannot get wrong."""
    made = story.creation.request if story.creation else None
    if isinstance(made, dict):
        return made
    fields = job_api().fields
    told = record.get(fields.model, contract.model) if isinstance(record, dict) else contract.model
    param = parse_json(record["param"]) if isinstance(record, dict) and isinstance(record.get("param"), str) else {}
    has_input = isinstance(param, dict) and fields.input in param
    return {fields.model: told, fields.input: {}} if has_input else {fields.model: told}


def last_before(call: Call, seen: Sequence[Look]) -> Mapping[str, Any] | None:
    """Return the last record that was there before a look began: of looks at the same time none is the earlier."""
    started = call.recorded.started
    return next((record for record, look in reversed(seen) if not started or look.recorded.ended <= started), None)


def is_of_one_key(one: Call, other: Call, contract: Contract) -> bool:
    """Tell whether two calls surely were made with one key; where a recorder took keys out, nobody knows."""
    keys = {sent_key(call.recorded.request_headers, contract) for call in (one, other)}
    return len(keys) == 1 and all(is_kept(key) for _, key in keys)


def callbacks_of(recorded: Iterable[Recorded], stories: Iterable[Story]) -> Iterator[tuple[Story, Received]]:
    """Yield the callbacks that were recorded, in the order of the file, each with the task that it is about."""
    asked_for = {(_callback_url(story), story.task_id): story for story in stories if story.creation}
    for exchange in recorded:
        message = parse_json(exchange.request_body) if exchange.request_body else None
        record = message.get("data") if isinstance(message, dict) else None
        task_id = record.get("taskId") if isinstance(record, dict) else None
        story = asked_for.get((exchange.url, task_id)) if isinstance(task_id, str) else None
        if story:
            yield story, _received(exchange)


def flaws_of_callback(
    story: Story, received: Received, seen: Sequence[Look], expected: Expectations, signing_key: str
) -> Iterator[Flaw]:
    """Yield what is wrong with a callback, by itself and beside the last record that was seen of its task."""
    if story.creation is None:
        return
    looks = [(record, call.exchange) for record, call in seen]
    request = asked(story, None, expected.contract)
    asks = Asks(expected.contract, ())
    order = Order("", request, story.creation.exchange, asks, story.task_id, received.target, looks=looks)
    yield from callback_flaws(received, order, expected, signing_key)


def _callback_url(story: Story) -> str:
    request = story.creation.request if story.creation else None
    url = request.get(job_api().fields.callback) if isinstance(request, dict) else None
    return url if isinstance(url, str) else ""


def _received(exchange: Recorded) -> Received:
    headers = {name.lower(): value for name, value in exchange.request_headers}
    target = urlsplit(exchange.url)._replace(scheme="", netloc="").geturl()
    return Received(exchange.method, target, headers, exchange.request_body or b"", exchange.started, exchange.status)
