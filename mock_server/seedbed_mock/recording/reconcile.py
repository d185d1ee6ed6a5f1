"""The subcommand ``seedbed reconcile``: what was paid for and what came of it, from files alone.

Nothing is sent and nothing is changed. Whatever is not certain counts as open, because it may have cost money.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from seedbed_schemas import commands, default_contract, job_api
from seedbed_schemas.commands import JsonFlag
from seedbed_schemas.validation import for_display

from seedbed_mock.bill import plain
from seedbed_mock.catalogue import ModelCatalogue
from seedbed_mock.recording.archive import HarExchange, RecordingError, result_urls
from seedbed_mock.recording.evidence import JobRecord, MoneyTrail, read_trail
from seedbed_mock.recording.script import content_of, created_id, creation_key, parsed, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator


OpenKind = Literal["paid and never fetched", "in doubt", "paid twice", "not created yet"]
KINDS: Final[tuple[OpenKind, ...]] = ("paid and never fetched", "in doubt", "paid twice", "not created yet")

_CANNOT_READ: Final = 2
_STATES: Final = job_api().states
_FIELDS: Final = job_api().fields
_CODES: Final = {code.name: code.number for code in default_contract().codes}
_SERVER_ERROR: Final = _CODES["server_error"]
_REFUSALS: Final = range(400, 500)
_TIMEOUT_STATUS: Final = 408
_CONFIRMED: Final = range(200, 300)
_CALLBACK: Final = "callback"
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class OpenItem:
    """Something that a person or a resumed program has to settle.

    Attributes:
        kind: What is open.
        what: What happened, in one line.
        resume: What a resumed program does about it, or what you can do.
        credits: What it costs, as far as that is known; for something that is not paid yet, what it would cost.
        task_id: ID of the task, empty if it is not known.
        path: File that shows it.
    """

    kind: OpenKind
    what: str
    resume: str
    credits: Decimal
    task_id: str = ""
    path: str = ""


@dataclass(slots=True)
class Reconciliation:
    """What files show of tasks and money.

    Attributes:
        tasks: Number of tasks that are known.
        credits: What those cost that did not fail.
        items: What is open.
        notes: What the files do not show, each as one sentence.
    """

    tasks: int = 0
    credits: Decimal = Decimal(0)
    items: list[OpenItem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, kind: OpenKind) -> list[OpenItem]:
        """Return the open items of a kind."""
        return [each for each in self.items if each.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        content: dict[str, Any] = {"open": bool(self.items), "tasks": self.tasks, "credits": plain(self.credits)}
        for kind in KINDS:
            content[kind.replace(" ", "_")] = [
                asdict(each) | {"credits": plain(each.credits)} for each in self.of(kind)
            ]
        return content | {"notes": self.notes}

    def lines(self) -> Iterator[str]:
        """Yield it as text."""
        yield f"{_counted(self.tasks, 'task')}, {_counted(plain(self.credits), 'credit')}."
        for kind in KINDS:
            if found := self.of(kind):
                amount = _counted(plain(sum((each.credits for each in found), Decimal(0))), "credit")
                yield f"\n{kind.capitalize()}: {len(found)}, {amount}"
                for each in found:
                    yield f"- {each.what}"
                    yield f"  Resume: {each.resume}"
        yield from ["", *self.notes] if self.notes else []
        yield "" if self.items else "\nNothing is open."
        yield "Nothing was sent or changed."


@dataclass(slots=True)
class _Traced:
    """A task and what is known of it."""

    task_id: str
    path: Path
    model: str = ""
    input: Any = None
    account: bytes = b""
    created: float | None = None
    state: str = ""
    ended: float | None = None
    is_told: bool = False
    urls: list[str] = field(default_factory=list)
    is_fetched: bool = False
    has_downloads: bool = False
    charged: Decimal | None = None
    job: JobRecord | None = None


@dataclass(slots=True)
class _Doubt:
    """A creation that may have been paid for."""

    exchange: HarExchange
    reason: str
    path: Path = field(default_factory=Path)


class Reconciler:
    """Follows tasks through files.

    Args:
        now: The time, in Unix seconds, by which results have expired or not.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._models = ModelCatalogue().models
        self._creation_paths = tuple({each.contract.operation.path for each in self._models.values()})
        self._tasks: dict[str, _Traced] = {}
        self._doubts: list[_Doubt] = []
        self._jobs: list[tuple[Path, int, JobRecord]] = []
        self._fetched: set[str] = set()
        self._links: dict[str, str] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self._notes: list[str] = []

    def add(self, trail: MoneyTrail) -> None:
        """Add what a file shows; what another file has shown already counts once."""
        for each in sorted(trail.exchanges, key=lambda each: each.started):
            identity = (each.started, each.method, each.url, each.request, each.response, each.status)
            if identity not in self._seen:
                self._seen.add(identity)
                self._add(each, trail)
        self._jobs += [(trail.path, number, each) for number, each in enumerate(trail.jobs, 1)]
        if trail.note:
            self._notes.append(trail.note)

    def _add(self, exchange: HarExchange, trail: MoneyTrail) -> None:
        url, record = urlsplit(exchange.url), job_api().record_info
        if exchange.operation == _CALLBACK:
            content = parsed(exchange.request)
            data = content.get("data") if isinstance(content, dict) else None
            self._learn(data, exchange, trail, is_told=exchange.status in _CONFIRMED)
        elif exchange.method == "POST" and url.path.endswith(self._creation_paths):
            self._create(exchange, trail)
        elif url.path.endswith(record.path) and record.query in parse_qs(url.query):
            self._learn(record_of(exchange), exchange, trail, is_told=True)
        elif url.path.endswith(job_api().download_url.path):
            asked, answer = parsed(exchange.request), parsed(content_of(exchange))
            if isinstance(asked, dict) and isinstance(answer, dict):
                self._links[str(answer.get("data"))] = str(asked.get("url"))
        elif trail.has_downloads and exchange.method == "GET" and exchange.status in _CONFIRMED and not exchange.error:
            self._fetched.add(self._links.get(exchange.url, exchange.url))

    def _create(self, exchange: HarExchange, trail: MoneyTrail) -> None:
        if task_id := created_id(exchange) or exchange.task_id:
            task = self._task(task_id, trail)
            request = parsed(exchange.request)
            fields = request if isinstance(request, dict) else {}
            task.model, task.input = str(fields.get(_FIELDS.model, "")), fields.get(_FIELDS.input)
            headers = {name.lower(): value for name, value in exchange.request_headers}
            task.created, task.account = exchange.started, headers.get(b"authorization", b"")
        elif reason := _doubt(exchange):
            self._doubts.append(_Doubt(exchange, reason, trail.path))

    def _task(self, task_id: str, trail: MoneyTrail) -> _Traced:
        task = self._tasks.setdefault(task_id, _Traced(task_id, trail.path))
        task.has_downloads |= trail.has_downloads
        return task

    def _learn(self, record: Any, exchange: HarExchange, trail: MoneyTrail, *, is_told: bool) -> None:
        """Take the state of a task from a record."""
        if not isinstance(record, dict) or not isinstance(task_id := record.get("taskId"), str) or not task_id:
            return
        task = self._task(task_id, trail)
        if task.input is None:
            task.model, task.input = _requested(record)
        state = str(record.get("state", ""))
        if state in {_STATES.success, _STATES.failure} or not task.state:
            task.state, task.is_told = state, task.is_told or is_told
            task.ended = exchange.started if state in {_STATES.success, _STATES.failure} else None
            task.urls = result_urls(record) or task.urls
        if isinstance(price := record.get("creditsConsumed"), int | float) and price > 0:
            task.charged = Decimal(str(price))

    # What came of it

    def result(self) -> Reconciliation:
        """Return what all files together show."""
        for path, _, job in self._jobs:
            if job.task_id:
                task = self._tasks.setdefault(job.task_id, _Traced(job.task_id, path))
                task.job, task.model, task.input = job, job.model, job.input
                task.state = _STATES.failure if job.status == "failed" else task.state
                task.is_fetched = job.status == "saved"
        for task in self._tasks.values():
            task.is_fetched |= any(url in self._fetched for url in task.urls)
        done = Reconciliation(len(self._tasks), sum((map(self._price, self._tasks.values())), Decimal(0)))
        done.items += [*self._unfetched(), *self._in_doubt(), *self._twice()]
        for path, number, job in self._jobs:
            if job.status == "new":
                what = f"Image {number}{_quoted(job.input)}."
                resume = f"generate --resume {path} creates the task and pays for it."
                done.items.append(OpenItem("not created yet", what, resume, self._price(job), path=str(path)))
        unseen = [each for each in self._tasks.values() if self._is_hidden(each)]
        if unseen:
            self._notes.append(
                f"Whether {_counted(len(unseen), 'image')} that the program learned of "
                f"{'was' if len(unseen) == 1 else 'were'} fetched is not in a journal or a recording of Seedbed."
            )
        done.notes = self._notes
        return done

    def _price(self, task: _Traced | JobRecord) -> Decimal:
        if isinstance(task, _Traced):
            if task.state == _STATES.failure:
                return Decimal(0)
            if task.charged is not None:
                return task.charged
        model = self._models.get(task.model)
        return model.profile.credits if model else Decimal(0)

    def _is_hidden(self, task: _Traced) -> bool:
        is_known = task.is_told and task.state == _STATES.success and not task.is_fetched
        return is_known and not task.has_downloads and task.job is None

    def _unfetched(self) -> Iterator[OpenItem]:
        for task in self._tasks.values():
            if task.is_fetched or task.state == _STATES.failure or self._is_hidden(task):
                continue
            state = task.state or "not known"
            if task.job:
                resume = f"generate --resume {task.path} waits for the task and saves the image."
            elif task.state != _STATES.success:
                resume = "query the task until it ends, then fetch the image."
            else:
                resume = f"fetch {task.urls[0]}." if task.urls else "query the task, and fetch the image."
            if task.ended and task.ended / 1000 + job_api().result_seconds < self._now:
                resume = f"the image has expired: results are kept for {job_api().result_seconds // 86_400} days."
            what = f"{for_display(task.task_id)}{_quoted(task.input)}, created {_moment(task.created)}: state {state}."
            yield OpenItem("paid and never fetched", what, resume, self._price(task), task.task_id, str(task.path))

    def _in_doubt(self) -> Iterator[OpenItem]:
        created = {each.task_id for each in self._tasks.values() if each.created is not None}
        orphans = [each for each in self._tasks.values() if each.task_id not in created and each.job is None]
        for doubt in self._doubts:
            request = parsed(doubt.exchange.request)
            fields = request if isinstance(request, dict) else {}
            model, wanted = str(fields.get(_FIELDS.model, "")), fields.get(_FIELDS.input)
            if found := next((each for each in orphans if each.model == model and _has(each.input, wanted)), None):
                orphans.remove(found)
                continue
            what = f"createTask{_quoted(wanted)} at {_moment(doubt.exchange.started)}: {doubt.reason}."
            resume = "sending it again may pay twice; look for the task in your account first."
            known = self._models.get(model)
            price = known.profile.credits if known else Decimal(0)
            yield OpenItem("in doubt", what, resume, price, path=str(doubt.path))
        for path, number, job in self._jobs:
            if job.status == "submitting" and not job.task_id:
                reason = job.error.partition(";")[0] or "the run ended before the response was there"
                resume = f"look for the task in your account, then add --settle {number}=TASK_ID or --submit-again"
                what = f"Image {number}{_quoted(job.input)}: {for_display(reason)}."
                yield OpenItem("in doubt", what, f"{resume} {number}.", self._price(job), path=str(path))

    def _twice(self) -> Iterator[OpenItem]:
        groups: dict[tuple[bytes, bytes], list[_Traced]] = defaultdict(list)
        for each in self._tasks.values():
            if each.input is not None and each.state != _STATES.failure:
                groups[each.account, _key(each)].append(each)
        wanted = Counter(_key(job) for _, _, job in self._jobs)
        for (_, key), tasks in groups.items():
            if (extra := len(tasks) - max(wanted[key], 1)) > 0:
                names = ", ".join(for_display(each.task_id) for each in tasks)
                what = f"The same request{_quoted(tasks[0].input)} was paid for {len(tasks)} times: {names}."
                resume = "nothing; a task that exists cannot be returned."
                cost = sum((self._price(each) for each in tasks[-extra:]), Decimal(0))
                yield OpenItem("paid twice", what, resume, cost, tasks[-1].task_id, str(tasks[-1].path))


def _doubt(exchange: HarExchange) -> str:
    """Return why a creation without a task may have been paid for; empty if it was refused."""
    if exchange.error or not exchange.status:
        return f"there was no whole response ({for_display(exchange.error or 'the connection ended')})"
    content = parsed(content_of(exchange))
    code = content.get("code") if isinstance(content, dict) else None
    if not isinstance(code, int):
        is_refused = exchange.status in _REFUSALS and exchange.status != _TIMEOUT_STATUS
        return "" if is_refused else f"the response (HTTP {exchange.status}) is not one of the service"
    if code == _CODES.get("success", 200):
        return "the response reports success without a task ID"
    if code == _SERVER_ERROR or code not in _CODES.values():
        return "" if code in _REFUSALS else f"the response has code {code}, after which a task may exist"
    return ""


def _requested(record: dict[str, Any]) -> tuple[str, Any]:
    """Return the model and the input that a record repeats in ``param``."""
    param = record.get("param")
    request = parsed(param.encode("utf-8", "replace")) if isinstance(param, str) else None
    if not isinstance(request, dict):
        return str(record.get(_FIELDS.model, "")), None
    values = request.get(_FIELDS.input)
    if isinstance(values, str):  # as the service was observed to write it
        values = parsed(values.encode("utf-8", "replace"))
    return str(request.get(_FIELDS.model, "")), values


def _has(values: Any, wanted: Any) -> bool:
    """Return whether an input has all fields of another; a record also has those that were filled in."""
    is_comparable = isinstance(values, dict) and isinstance(wanted, dict)
    return is_comparable and all(values.get(name) == value for name, value in wanted.items())


def _key(task: _Traced | JobRecord) -> bytes:
    return creation_key({_FIELDS.model: task.model, _FIELDS.input: task.input})


def _quoted(values: Any) -> str:
    text = next((each for each in values.values() if isinstance(each, str)), "") if isinstance(values, dict) else ""
    text = for_display(" ".join(text.split()))
    return f' "{text[:_SHOWN]}{"..." if len(text) > _SHOWN else ""}"' if text else ""


def _moment(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "at an unknown time"
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(" ", "seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"


def _counted(number: int | str, noun: str) -> str:
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"


def reconcile(*files: Path, as_json: JsonFlag = False) -> int:
    """Show what was paid for and never fetched, what is in doubt, what was paid twice, and what a resume would do.

    Args:
        files: Journals of a server, HAR files, folders of recordings, or progress files of seedbed generate. What
            several of them show counts once.
        as_json: Print JSON.
    """
    if not files:
        return commands.fail("reconcile", "name a journal, a recording or a progress file")
    reconciler, can_read = Reconciler(time.time()), True
    for path in {str(each.absolute()): each for each in files}.values():
        try:
            reconciler.add(read_trail(path))
        except RecordingError as error:
            commands.fail("reconcile", str(error))
            can_read = False
    if not can_read:
        return _CANNOT_READ
    done = reconciler.result()
    if as_json:
        commands.print_json(done.to_json(), indent=2)
    else:
        sys.stdout.write("\n".join(done.lines()) + "\n")
    return int(bool(done.items))
