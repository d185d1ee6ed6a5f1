"""What a recording says, as a script to replay: creations, the records of each task, callbacks and images."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from seedbed_schemas import job_api

from seedbed_mock.journal import CALLBACK
from seedbed_mock.recording.archive import HarExchange, result_urls
from seedbed_mock.results.picture import RESULTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


RECORDED: Final = f"{RESULTS}/recorded-"
"""How the paths of recorded images begin."""

_SHORTEST_HOLD = 1000
_SUCCESS = range(200, 300)
_ENDED = "The recording ends before the task does."


def content_of(exchange: HarExchange) -> bytes:
    """Return the body of a response, from the file that holds it if there is one."""
    return Path(exchange.body_file).read_bytes() if exchange.body_file else exchange.response


def parsed(content: bytes) -> Any:
    """Return a body as a JSON value, ``None`` if it is none."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def record_of(exchange: HarExchange) -> dict[str, Any]:
    """Return the record in a response of recordInfo, empty if it is an error."""
    content = parsed(content_of(exchange))
    data = content.get("data") if isinstance(content, dict) else None
    return data if isinstance(data, dict) and isinstance(data.get("state"), str) else {}


def creation_key(request: Any) -> bytes:
    """Return what a creation asks for: a receiver of callbacks and the order of fields make no difference."""
    fields = job_api().fields
    wanted = (
        {name: request.get(name) for name in (fields.model, fields.input)} if isinstance(request, dict) else request
    )
    return msgspec.json.encode(wanted, order="sorted")


def local_path(url: str) -> str:
    """Return the path at which a recorded image is served."""
    suffix = PurePosixPath(urlsplit(url).path).suffix
    suffix = suffix if suffix.isascii() and suffix[1:].isalnum() else ".jpg"
    return f"{RECORDED}{hashlib.sha256(url.encode()).hexdigest()[:32]}{suffix}"


@dataclass
class TaskScript:
    """What was recorded of one task.

    Attributes:
        created: When it was created, or first fetched, in Unix milliseconds.
        fetches: Responses of recordInfo, in their order.
        callbacks: Its callbacks, in their order.
    """

    created: float
    fetches: list[HarExchange] = field(default_factory=list)
    callbacks: list[HarExchange] = field(default_factory=list)


class Script:
    """The exchanges of a recording by what they answer.

    Args:
        exchanges: The exchanges, in the order in which they happened.
        creation_paths: Paths at which tasks are created.

    Attributes:
        creations: Responses to each creation, in their order.
        tasks: The tasks by ID.
        others: Responses to all other requests by method, target and body, in their order.
        images: Recorded images by the path at which they are served.
    """

    def __init__(self, exchanges: Iterable[HarExchange], creation_paths: Collection[str]) -> None:
        self.creations: defaultdict[bytes, deque[HarExchange]] = defaultdict(deque)
        self.tasks: dict[str, TaskScript] = {}
        self.others: defaultdict[tuple[str, str, bytes], deque[HarExchange]] = defaultdict(deque)
        self.images: dict[str, HarExchange] = {}
        for exchange in exchanges:
            # What broke has no whole response that could be repeated.
            if exchange.operation == CALLBACK:
                self._add_callback(exchange)
            elif exchange.status and not exchange.error:
                self._add(exchange, creation_paths)

    def _add(self, exchange: HarExchange, creation_paths: Collection[str]) -> None:
        url, record = urlsplit(exchange.url), job_api().record_info
        if exchange.operation == "result" or exchange.media_type.startswith("image/"):
            if exchange.status in _SUCCESS:
                self.images[local_path(exchange.url)] = exchange
        elif exchange.method == "POST" and url.path.endswith(tuple(creation_paths)):
            self.creations[creation_key(parsed(exchange.request))].append(exchange)
            if task_id := created_id(exchange):
                self.tasks[task_id] = TaskScript(exchange.started)
        elif url.path.endswith(record.path) and (found := parse_qs(url.query).get(record.query)):
            task = self.tasks.setdefault(found[0], TaskScript(exchange.started))
            task.fetches.append(exchange)
        else:
            target = f"{url.path}?{url.query}" if url.query else url.path
            self.others[exchange.method, target, exchange.request].append(exchange)

    def _add_callback(self, exchange: HarExchange) -> None:
        content = parsed(exchange.request)
        data = content.get("data") if isinstance(content, dict) else None
        task_id = data.get("taskId") if isinstance(data, dict) else None
        if isinstance(task_id, str) and task_id in self.tasks:
            self.tasks[task_id].callbacks.append(exchange)


def created_id(exchange: HarExchange) -> str:
    """Return the ID of the task that a response to a creation gives, empty if there is none."""
    content = parsed(content_of(exchange))
    data = content.get("data") if isinstance(content, dict) else None
    task_id = data.get("taskId") if isinstance(data, dict) else None
    return task_id if isinstance(task_id, str) else ""


class Playback:
    """One task while it is replayed: its records come in their order, at their pace, and go on to its end.

    Args:
        script: What was recorded of it.
    """

    def __init__(self, script: TaskScript) -> None:
        self._script = script
        self._next = 0
        self._shown: HarExchange | None = None

    def fetch(self, elapsed: float) -> bytes | HarExchange:
        """Return the response to the next fetch: a recorded one, or a body where the recording has no end.

        Args:
            elapsed: Milliseconds since the task was created, at the pace of the recording.
        """
        fetches, due = self._script.fetches, None
        while self._next < len(fetches) and fetches[self._next].started - self._script.created <= elapsed:
            is_error = not record_of(fetches[self._next])
            if is_error and due is not None:
                break
            due = fetches[self._next]
            self._next += 1
            # An error is given once, so that a client meets it as the recorded one did.
            if is_error:
                return due
        if due is None and self._shown is None and self._next < len(fetches):
            # A client that asks earlier than the recorded one gets its first response.
            due = fetches[self._next]
            if not record_of(due):
                self._next += 1
                return due
        self._shown = due or self._shown
        return self._end(elapsed) or self._shown or _body_of_end({})

    def _end(self, elapsed: float) -> bytes | None:
        """Return the end of a task whose recording has none, once everything recorded is over."""
        states, fetches = job_api().states, self._script.fetches
        ended = {states.success, states.failure}
        if self._next < len(fetches) or (self._shown and record_of(self._shown)["state"] in ended):
            return None
        moments = [each.started - self._script.created for each in fetches]
        hold = max(moments[-1] - moments[-2] if len(moments) > 1 else 0, _SHORTEST_HOLD)
        if moments and elapsed < moments[-1] + hold:
            return None
        for callback in self._script.callbacks:
            content = parsed(callback.request)
            if content["data"].get("state") in ended:
                return msgspec.json.encode({"code": 200, "msg": "success", "data": content["data"]})
        return _body_of_end(record_of(fetches[-1]) if fetches else {})


def _body_of_end(record: dict[str, Any]) -> bytes:
    """Return a failed task in place of the end that was not recorded: a client must not wait for it forever."""
    states, failures = job_api().states, job_api().failures
    failed = {**record, "state": states.failure, "failCode": next(iter(failures)), "failMsg": _ENDED, "resultJson": ""}
    return msgspec.json.encode({"code": 200, "msg": "success", "data": failed})


def localised(content: bytes, base_url: str, images: Collection[str]) -> bytes:
    """Return a response with the URLs of this server in place of those of recorded results.

    Args:
        content: Body of the response.
        base_url: Base URL of this server.
        images: Paths at which recorded images are served.
    """
    body = parsed(content)
    data = body.get("data") if isinstance(body, dict) else None
    urls = [data] if isinstance(data, str) and local_path(data) in images else result_urls(data)
    for url in urls:
        here = f"{base_url}{local_path(url)}"
        for before, after in ((url, here), (url.replace("/", "\\/"), here), (url.replace("/", "\\\\/"), here)):
            content = content.replace(before.encode(), after.encode())
    return content
