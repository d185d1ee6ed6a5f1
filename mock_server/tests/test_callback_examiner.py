"""``seedbed callbacks test``: a careful receiver passes every shape, and every shape finds a mistaken receiver."""

import asyncio
import base64
import hashlib
import hmac
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from seedbed_mock.callbacks import examiner as examiner_module
from seedbed_mock.callbacks.examiner import ShapeResult, examine
from seedbed_mock.callbacks.shapes import CONTROL, SHAPES, Reaction
from seedbed_mock.cli import main
from seedbed_schemas import job_api

KEY = "signing-secret"
RULES = job_api().callback
LARGEST = 1 << 20


class CarefulReceiver(BaseHTTPRequestHandler):
    """A receiver that handles every shape correctly; a mistaken one overrides a method."""

    known: set[str]

    def do_POST(self) -> None:
        self.send_response(self.status())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def header(self, name: str) -> str:
        return str(self.headers.get(name, ""))

    def status(self) -> int:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if length > LARGEST:
            return 413
        try:
            content = json.loads(body)
            record = content["data"]
            task_id = record["taskId"]
        except (ValueError, KeyError, TypeError):
            return self.noise()
        if not isinstance(task_id, str):
            return self.noise()
        return self.handle_task(content, record, task_id) if self.is_genuine(record, task_id, body) else 401

    def noise(self) -> int:
        return 400

    def is_genuine(self, record: dict[str, Any], task_id: str, body: bytes) -> bool:
        return self.is_signed(task_id, self.header(RULES.timestamp_header)) and self.is_recent()

    def is_recent(self) -> bool:
        return abs(time.time() - int(self.header(RULES.timestamp_header))) < 300

    def is_signed(self, task_id: str, timestamp: str) -> bool:
        digest = hmac.digest(KEY.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)
        return self.header(RULES.signature_header) == base64.b64encode(digest).decode()

    def handle_task(self, content: dict[str, Any], record: dict[str, Any], task_id: str) -> int:
        self.known.add(task_id)
        return 200

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


Start = Callable[[type[CarefulReceiver]], str]


@pytest.fixture(name="start")
def start_receivers() -> Iterator[Start]:
    servers: list[ThreadingHTTPServer] = []

    def start(receiver: type[CarefulReceiver]) -> str:
        own = type(receiver.__name__, (receiver,), {"known": set()})
        server = _Server(("127.0.0.1", 0), own)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/callbacks"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def results_of(url: str, **options: Any) -> dict[str, ShapeResult]:
    options = {"signing_key": KEY, "slow_seconds": 0.02, **options}
    return {each.shape: each for each in asyncio.run(examine(url, **options))}


def failed(url: str, **options: Any) -> set[str]:
    return {name for name, each in results_of(url, **options).items() if each.verdict == "failed"}


def test_a_careful_receiver_passes_every_shape(start: Start) -> None:
    results = results_of(start(CarefulReceiver))
    assert {name: each.verdict for name, each in results.items()} == {each.name: "passed" for each in SHAPES}
    assert not any(each.reason for each in results.values())


class AcceptsFailuresOnly(CarefulReceiver):
    def handle_task(self, content: dict[str, Any], record: dict[str, Any], task_id: str) -> int:
        return 200 if content["code"] == 200 else 400


class KnowsDocumentedFieldsOnly(CarefulReceiver):
    def handle_task(self, content: dict[str, Any], record: dict[str, Any], task_id: str) -> int:
        return 400 if "creditsConsumed" in record else 200


class CaseSensitive(CarefulReceiver):
    def header(self, name: str) -> str:
        return next((value for given, value in self.headers.items() if given == name), "0")


class ReadsOnePiece(CarefulReceiver):
    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(io.BytesIO(self.connection.recv(65536)))


class RefusesRepetitions(CarefulReceiver):
    def handle_task(self, content: dict[str, Any], record: dict[str, Any], task_id: str) -> int:
        signed = f"{task_id}{self.header(RULES.timestamp_header)}{content['code']}"
        is_new = signed not in self.known
        self.known.add(signed)
        return 200 if is_new else 409


class RefusesOlderTasks(CarefulReceiver):
    newest: ClassVar[dict[str, int]] = {}

    def handle_task(self, content: dict[str, Any], record: dict[str, Any], task_id: str) -> int:
        latest = max(self.newest.values(), default=0)
        self.newest[task_id] = record["createTime"]
        return 200 if record["createTime"] >= latest - 500 else 409


class StopsRetriesOfTheUnknown(CarefulReceiver):
    def handle_task(self, content: dict[str, Any], record: dict[str, Any], task_id: str) -> int:
        return 200 if task_id == "task_known" else 410


class NeedsNoSignature(CarefulReceiver):
    def is_genuine(self, record: dict[str, Any], task_id: str, body: bytes) -> bool:
        return not self.header(RULES.signature_header) or super().is_genuine(record, task_id, body)


class ChecksPresenceOnly(CarefulReceiver):
    def is_signed(self, task_id: str, timestamp: str) -> bool:
        return bool(self.header(RULES.signature_header))


class ReadsTheSamplesField(CarefulReceiver):
    def is_genuine(self, record: dict[str, Any], task_id: str, body: bytes) -> bool:
        timestamp = self.header(RULES.timestamp_header)
        is_signed = any(self.is_signed(each, timestamp) for each in (task_id, record.get("task_id", "undefined")))
        return is_signed and self.is_recent()


class AcceptsAnyAge(CarefulReceiver):
    def is_recent(self) -> bool:
        return True


class AcceptsTheFuture(CarefulReceiver):
    def is_recent(self) -> bool:
        return time.time() - int(self.header(RULES.timestamp_header)) < 300


class DecodesLoosely(CarefulReceiver):
    def is_signed(self, task_id: str, timestamp: str) -> bool:
        digest = hmac.digest(KEY.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)
        return self.header(RULES.signature_header) in {digest.hex(), base64.b64encode(digest).decode()}


class VerifiesTheBodyToo(CarefulReceiver):
    def is_genuine(self, record: dict[str, Any], task_id: str, body: bytes) -> bool:
        digest = base64.b64encode(hmac.digest(KEY.encode(), body, hashlib.sha256)).decode()
        return self.header(RULES.signature_header) == digest or super().is_genuine(record, task_id, body)


class ForgetsTheTimestamp(CarefulReceiver):
    def is_signed(self, task_id: str, timestamp: str) -> bool:
        moments = (str(int(timestamp) - age) for age in (0, *range(3598, 3603)))
        return any(super(ForgetsTheTimestamp, self).is_signed(task_id, each) for each in moments)


class VerifiesAnyTask(CarefulReceiver):
    seen: ClassVar[set[str]] = set()

    def is_signed(self, task_id: str, timestamp: str) -> bool:
        # It takes the ID that is signed from another place than the body, as a receiver with the ID in its URL does.
        signature = self.header(RULES.signature_header)
        return super().is_signed(task_id, timestamp) or (len(signature) == 44 and not self.is_forged(timestamp))

    def is_forged(self, timestamp: str) -> bool:
        signature, wrong = self.header(RULES.signature_header), (f"not-{KEY}".encode())
        ids = {*self.known, "undefined"}
        made = [base64.b64encode(hmac.digest(wrong, f"{i}.{timestamp}".encode(), hashlib.sha256)) for i in ids]
        own = [base64.b64encode(hmac.digest(KEY.encode(), f"undefined.{timestamp}".encode(), hashlib.sha256))]
        return signature.encode() in {*made, *own}


class BreaksOnNoise(CarefulReceiver):
    def noise(self) -> int:
        return 500


class AcceptsNoise(CarefulReceiver):
    def noise(self) -> int:
        return 200


class BreaksOnHugeBodies(CarefulReceiver):
    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(500 if code == 413 else code, message)


class StopsAfterTheFirst(CarefulReceiver):
    def send_response(self, code: int, message: str | None = None) -> None:
        self.known.add(str(code))
        super().send_response(503 if "413" in self.known and code == 200 else code, message)


class IsBusyWithOne(CarefulReceiver):
    busy: ClassVar[set[str]] = set()

    def handle_task(self, content: dict[str, Any], record: dict[str, Any], task_id: str) -> int:
        if self.busy:
            return 410
        self.busy.add(task_id)
        time.sleep(0.02)
        self.busy.clear()
        return 200


MISTAKES: list[tuple[type[CarefulReceiver], set[str]]] = [
    (AcceptsFailuresOnly, {"failed-task"}),
    (KnowsDocumentedFieldsOnly, {"observed"}),
    (CaseSensitive, {"lower-case"}),
    (ReadsOnePiece, {"slow"}),
    (RefusesRepetitions, {"twice", "at-once"}),
    (RefusesOlderTasks, {"out-of-order"}),
    (NeedsNoSignature, {"unsigned"}),
    (ChecksPresenceOnly, {"forged", "other-id", "undefined", "new-time", "hexadecimal", "signed-body"}),
    (ReadsTheSamplesField, {"undefined"}),
    (AcceptsAnyAge, {"stale", "future"}),
    (AcceptsTheFuture, {"future"}),
    (ForgetsTheTimestamp, {"new-time"}),
    (VerifiesAnyTask, {"other-id"}),
    (DecodesLoosely, {"hexadecimal"}),
    (VerifiesTheBodyToo, {"signed-body"}),
    (BreaksOnNoise, {"not-json", "no-task"}),
    (AcceptsNoise, {"not-json", "no-task"}),
    (BreaksOnHugeBodies, {"huge"}),
    (StopsAfterTheFirst, {"still-good"}),
    (IsBusyWithOne, {"at-once"}),
]


@pytest.mark.parametrize(("receiver", "shapes"), MISTAKES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_mistake_fails_the_shapes_that_name_it(
    start: Start, receiver: type[CarefulReceiver], shapes: set[str]
) -> None:
    assert shapes <= failed(start(receiver))


def test_a_receiver_that_stops_the_retries_of_an_unknown_task_loses_early_callbacks(start: Start) -> None:
    assert "early" in failed(start(StopsRetriesOfTheUnknown), task_ids=["task_known"])


def test_a_receiver_that_asks_to_repeat_an_unknown_task_loses_nothing(start: Start) -> None:
    class RepeatsTheUnknown(CarefulReceiver):
        def handle_task(self, content: dict[str, Any], record: dict[str, Any], task_id: str) -> int:
            return 200 if task_id == "task_known" else 404

    assert failed(start(RepeatsTheUnknown), task_ids=["task_known"]) == set()


def test_every_shape_that_can_fail_alone_is_failed_by_a_mistake() -> None:
    found = {shape for _, shapes in MISTAKES for shape in shapes} | {"early"}
    # The first delivery of a retried callback has no response, and a good one is the control.
    assert {each.name for each in SHAPES} - found == {CONTROL.name, "retried"}


def test_nothing_is_concluded_when_a_good_callback_is_refused(start: Start) -> None:
    results = results_of(start(CarefulReceiver), signing_key="another key")
    assert results["good"].verdict == "failed"
    assert {each.verdict for each in results.values() if each.shape != "good"} == {"not judged"}


def test_signatures_are_not_judged_without_a_key(start: Start) -> None:
    class Trusting(CarefulReceiver):
        def is_genuine(self, record: dict[str, Any], task_id: str, body: bytes) -> bool:
            return True

    results = results_of(start(Trusting), signing_key="")
    unjudged = {name for name, each in results.items() if each.verdict == "not judged"}
    assert unjudged == {each.name for each in SHAPES if each.needs_key}
    assert not any(each.verdict == "failed" for each in results.values())


STATUSES = {
    "accept": {200: True, 204: True, 302: False, 404: False, 500: False},
    "refuse": {200: False, 302: True, 401: True, 410: True, 500: False, 503: False},
    "survive": {200: True, 413: True, 500: False},
    "accept later": {200: True, 404: True, 410: False, 503: True},
}


@pytest.mark.parametrize("expected", STATUSES)
def test_a_status_meets_an_expectation_or_does_not(expected: Any) -> None:
    assert {status: Reaction(status).meets(expected) for status in STATUSES[expected]} == STATUSES[expected]


@pytest.mark.parametrize("expected", STATUSES)
def test_a_silent_receiver_meets_no_expectation(expected: Any) -> None:
    assert not Reaction(None, 15_000, "no response within 15 seconds").meets(expected)
    assert not Reaction(None, 1, "refused", is_unreachable=True).meets(expected)
    assert Reaction(None, 1, "closed the connection").meets(expected) is (expected in {"refuse", "survive"})


def run(*arguments: str) -> int:
    """Run the command in a thread without an event loop, as a process has it."""
    result: Future[int] = Future()
    thread = Thread(target=lambda: result.set_result(main(["callbacks", "test", *arguments])))
    thread.start()
    thread.join()
    return result.result()


def test_the_command_shows_a_table_and_writes_a_report(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner_module, "_SLOW_SECONDS", 0.02)
    report = tmp_path / "report.json"
    url = start(AcceptsAnyAge)
    assert run(url, "--signing-key", KEY, "--json-file", str(report)) == 1
    shown = capsys.readouterr().out
    assert "stale: a correct signature that is an hour old; expected 4xx." in shown
    assert shown.rstrip().endswith("21 passed, 2 failed, 0 not judged.")
    assert KEY not in shown + report.read_text()
    shapes = {each["shape"]: each["verdict"] for each in json.loads(report.read_text())["shapes"]}
    assert shapes["stale"] == "failed"
    assert shapes["good"] == "passed"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("receiver", "invalid URL"),
        ("ftp://127.0.0.1/x", "invalid URL"),
        ("http://127.0.0.1:1/x", "refused the connection"),
        ("http://0.0.0.0/x", "cannot be the address"),
        ("http://[::/x", "URL"),
        ("http://user@127.0.0.1/x", ""),
    ],
)
def test_a_receiver_that_cannot_be_examined_gets_one_sentence(
    url: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err
    assert shown.err.startswith("seedbed callbacks test: ")
    assert shown.err.count("\n") == 2
