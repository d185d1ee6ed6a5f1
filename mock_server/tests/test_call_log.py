"""The log of a running server: what it shows, how it fits a terminal, and that no client has a part in it."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_mock import MockServer
from seedbed_mock.accounts import fingerprint
from seedbed_mock.call_log import JournalLog, LogOptions
from seedbed_mock.journal import Journal, JournalBudget, JournalEntry, JournalReader
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of

CONTRACT = default_contract()
CREATE = CONTRACT.operation.path
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
HEADERS = {"Authorization": f"Bearer {local.KEY}"}
SECRET = "sk-this-is-a-real-key"  # noqa: S105 (must not be shown)
HOSTILE = "/\x1b[31m\u202e\u2066evil\x07\r\nnext\x9b\u0000" + "x" * 5000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Shared:
    """A journal, and logs that read it."""

    def __init__(self) -> None:
        self.budget = JournalBudget()
        self.journal = Journal(self.budget, "default")

    def log(self, stream: Any, **options: Any) -> JournalLog:
        reader = JournalReader(self.budget.newest_first)
        log = LogOptions(**options).open(reader, stream)
        assert log
        return log

    def add(self, **fields: Any) -> None:
        values = {"kind": "call", "operation": "createTask", "target": CREATE, "code": 200, "case": "done", **fields}
        self.journal.add(JournalEntry(number=self.journal.next_number(), at=1_765_166_238_000, **values))


def logged(*calls: dict[str, Any], stream: io.StringIO | None = None, **options: Any) -> str:
    """Return what a log writes about calls that were made between two readings."""
    shared, stream = Shared(), stream or io.StringIO()
    log = shared.log(stream, **{"log_format": "text", **options})
    log._writer.start()
    for each in calls:
        shared.add(**each)
    log._timer = _NoTimer()  # type: ignore[assignment]
    log.close()
    log._writer.join(10)
    return stream.getvalue()


class _NoTimer:
    def cancel(self) -> None:
        pass


@contextmanager
def served(*options: str, stderr: Any = subprocess.PIPE, **environment: str) -> Iterator[tuple[Any, str]]:
    command = [sys.executable, "-m", "seedbed_mock", "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **environment}
    ) as server:
        assert server.stdout
        try:
            yield server, server.stdout.readline().split()[-1]
        finally:
            server.kill()


def log_of(use: Callable[[str], object], *options: str) -> str:
    """Return the log of a server that was used and stopped."""
    with served(*options) as (server, url):
        use(url)
        server.send_signal(signal.SIGINT)
        text: str = server.communicate(timeout=20)[1]
    return text


def use_everything(url: str) -> None:
    with httpx2.Client(base_url=url, headers=HEADERS, trust_env=False) as client:
        created = client.post(CREATE, json=GOOD).json()
        client.post(CREATE, json={**GOOD, "input": {**GOOD["input"], "quality": "best"}})
        client.post(CREATE, json=GOOD, headers={"X-Seedbed-Fault": "429"})
        client.post(f"{CREATE}s", json=GOOD)
        client.get(job_api().credit.path, headers={"Authorization": f"Bearer {SECRET}"})
        task = {**GOOD, "callBackUrl": "http://192.0.2.1/"}
        task_id = client.post(CREATE, json=task).json()["data"]["taskId"]
        client.post(f"/__seedbed/tasks/{task_id}/finish")
        assert created["code"] == 200


def test_a_log_in_json_has_every_call_with_its_reason_and_no_key() -> None:
    text = log_of(use_everything, "--log-format", "json")
    entries = [json.loads(line) for line in text.splitlines()]
    by_number = {each["number"]: each for each in entries}
    assert list(by_number) == [1, 2, 3, 4, 5, 6, 7]
    assert (by_number[1]["code"], by_number[1]["level"], by_number[1]["account"]) == (
        200,
        "info",
        fingerprint(local.KEY),
    )
    assert by_number[1]["duration"] > 0
    assert by_number[1]["task_id"]
    assert (by_number[2]["handler"], by_number[2]["violations"]) == ("validate_request", ["input.quality/enum"])
    assert "input.quality must be one of" in by_number[2]["reason"]
    assert (by_number[3]["handler"], by_number[3]["level"]) == ("apply_fault", "warning")
    assert by_number[3]["fault"].startswith("429")
    assert (by_number[4]["kind"], by_number[4]["nearest"]) == ("unmatched", "createTask")
    assert "Did you mean" in by_number[4]["hint"]
    assert "send a valid API key" in by_number[5]["reason"]
    assert (by_number[7]["kind"], by_number[7]["attempt"]) == ("callback", 1)
    assert "192.0.2.1" in by_number[7]["reason"]
    assert SECRET not in text
    assert local.KEY not in text.replace(fingerprint(local.KEY), "")


def test_a_log_in_text_has_a_line_for_each_call_and_each_reason() -> None:
    lines = log_of(use_everything, "--log-format", "text").splitlines()
    assert re.match(rf"\d\d:\d\d:\d\d\.\d\d\d POST {CREATE} 200 \d+\.\dms task_\S+ key-[0-9a-f]{{12}}$", lines[0])
    text = "\n".join(lines)
    assert "  Validation failed: input.quality must be one of" in text
    assert "(broken clauses: input.quality/enum)" in text
    assert "fault 429 (by header)" in text
    assert "404 no such call" in text
    assert "callback attempt 1 no response" in text
    assert "\x1b" not in text


def test_the_reason_is_the_same_in_both_dialects() -> None:
    text = log_of(use_everything, "--log-format", "text", "--dialect", "observed")
    assert "  Unauthorized: send a valid API key in the header Authorization: Bearer <key>." in text


def test_a_server_that_is_not_on_a_terminal_logs_nothing() -> None:
    assert log_of(use_everything) == ""


def test_a_server_on_a_terminal_logs_in_colours_unless_no_color_is_set() -> None:
    for value, has_colours in (("", True), ("1", False)):
        master, slave = pty.openpty()
        with served(stderr=slave, NO_COLOR=value, TERM="xterm") as (_, url):
            httpx2.get(f"{url}/nowhere", trust_env=False)
            text = b""
            while b"no such call" not in text:
                text += os.read(master, 4096)
        os.close(slave)
        os.close(master)
        assert (b"\x1b[35m" in text) is has_colours


def test_the_level_warning_shows_only_what_went_wrong() -> None:
    lines = log_of(use_everything, "--log-format", "json", "--log-level", "warning").splitlines()
    assert [json.loads(line)["number"] for line in lines] == [2, 3, 4, 5, 7]


def test_the_level_debug_shows_bodies() -> None:
    call = {"request": b'{"a": 1}', "answer": b'{"code": 200}'}
    assert '  request: {"a": 1}\n  response: {"code": 200}\n' in logged(call, log_level="debug")
    assert json.loads(logged(call, log_format="json", log_level="debug"))["request"] == '{"a": 1}'


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "fileno", lambda _: 0)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((width, 24)))
    monkeypatch.setenv("NO_COLOR", "1")
    text = logged(
        {"task_id": "task_seedream_1765166238716", "account": fingerprint("x"), "fault": "429; p=0.2 (by header)"},
        {"kind": "unmatched", "operation": "unmatched", "code": 404, "target": HOSTILE, "hint": "No. " * 80},
        {"kind": "callback", "operation": "callback", "target": "http://x/" + "y" * 300, "code": None, "status": 500},
        {"code": 422, "case": "request_invalid", "reason": "word " * 50, "violations": ("input.prompt/maxLength",)},
        stream=Terminal(),
        log_level="debug",
    )
    assert max(map(len, text.splitlines())) <= width
    assert "429" in text or width < 80
    assert text.count("No.") >= 40


@pytest.mark.parametrize("options", [{"log_format": "text"}, {"log_format": "json"}, {"log_level": "debug"}])
@pytest.mark.parametrize("field", ["target", "method", "reason", "hint", "fault", "task_id", "account"])
def test_no_text_of_a_client_controls_the_terminal(options: dict[str, Any], field: str) -> None:
    text = logged(
        {field: HOSTILE, "kind": "unmatched", "request": HOSTILE.encode(), "answer": b"\xff\x1b[2J\xed\xa0\x80"},
        **options,
    )
    assert all(char.isprintable() or char == "\n" for char in text)
    assert len(text) < 8000
    if options == {"log_format": "json"}:
        assert json.loads(text)[field].startswith("/\x1b[31m")


def test_more_calls_than_anyone_can_read_are_counted_and_problems_are_shown() -> None:
    calls = [{"code": 429, "case": "rate_exceeded"} if number == 3 else {} for number in range(900)]
    lines = logged(*calls).splitlines()
    assert len(lines) == 51
    assert lines[-1] == "... 850 more not shown"
    assert sum(" 429 " in line for line in lines) == 1
    assert json.loads(logged(*calls, log_format="json").splitlines()[-1])["number"] == 850


def test_entries_that_the_journal_dropped_are_counted() -> None:
    assert logged(*[{}] * 3000).endswith("... 2950 more not shown\n")


def test_a_reader_that_is_too_slow_delays_nobody_and_is_told_how_much_it_missed() -> None:
    read, write = os.pipe()
    shared = Shared()
    with os.fdopen(write, "w") as stream, os.fdopen(read) as reader:
        log = shared.log(stream, log_format="text")
        log._writer.start()
        for _ in range(100):
            for _ in range(50):
                shared.add(target="/" + "x" * 300)
            log._read()
        # The pipe and the queue are full, and nothing waited for them.
        assert log._batches.full()
        shown = missed = 0
        while shown + missed < 5000:
            line = reader.readline()
            if line.startswith("..."):
                missed += int(line.split()[1])
            else:
                shown += 1
            if not log._batches.full():
                log._read()
        log._batches.put(None)
        log._writer.join(10)
    assert shown + missed == 5000
    assert missed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_the_log_and_not_the_server() -> None:
    with Path("/dev/full").open("w") as full, served("--log-format", "text", stderr=full) as (server, url):
        for _ in range(3):
            assert httpx2.get(f"{url}/nowhere", trust_env=False).status_code in {200, 404}
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0


def test_the_journal_says_which_handler_refused_a_call(seedbed: MockServer) -> None:
    httpx2.post(f"{seedbed.url}{CREATE}", json=GOOD, trust_env=False)
    (call,) = seedbed.calls
    assert (call["handler"], call["reason"][:12]) == ("authenticate", "Unauthorized")
