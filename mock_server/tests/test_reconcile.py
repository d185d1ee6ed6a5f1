"""``seedbed reconcile``: what journals, recordings and progress files show of tasks and money."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from seedbed_client._job_log import _APPLICATION, _VERSION, JobLog, LoggedJob
from seedbed_mock import running
from seedbed_mock.cli import main
from seedbed_mock.recording.archive import HarExchange, HarFile
from seedbed_mock.recording.evidence import JOB_LOG, JOB_LOG_VERSION, JobRecord
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from seedbed_mock import MockServer

SERVICE = "https://api.example"
CREATE = f"{SERVICE}{default_contract().operation.path}"
QUERY = f"{SERVICE}{job_api().record_info.path}?{job_api().record_info.query}="
MODEL = default_contract().model
REQUEST: dict[str, Any] = example_of(default_contract().part("request"))
NOW = time.time() * 1000


def body(prompt: str = "hill") -> dict[str, Any]:
    return {"model": MODEL, "input": {**REQUEST["input"], "prompt": prompt}}


def encoded(content: Any) -> bytes:
    return json.dumps(content).encode()


def create(at: float, task_id: str = "", prompt: str = "hill", **more: Any) -> HarExchange:
    answer = encoded({"code": 200, "msg": "success", "data": {"taskId": task_id}}) if task_id else b""
    values = {"status": 200, "response": answer, **more}
    return HarExchange(started=NOW + at, method="POST", url=CREATE, request=encoded(body(prompt)), **values)


def refused(at: float, code: int, status: int = 200) -> HarExchange:
    return create(at, response=encoded({"code": code, "msg": "no", "data": None}), status=status)


def record(task_id: str, state: str, prompt: str = "hill", **more: Any) -> dict[str, Any]:
    result = json.dumps({"resultUrls": [url_of(task_id)]}) if state == "success" else ""
    return {"taskId": task_id, "state": state, "param": json.dumps(body(prompt)), "resultJson": result, **more}


def url_of(task_id: str) -> str:
    return f"https://files.example/{task_id}.jpg"


def query(at: float, task_id: str, state: str, **more: Any) -> HarExchange:
    answer = encoded({"code": 200, "data": record(task_id, state, **more)})
    return HarExchange(started=NOW + at, method="GET", url=QUERY + task_id, status=200, response=answer)


def callback(at: float, task_id: str, state: str = "success", prompt: str = "hill", status: int = 200) -> HarExchange:
    sent = encoded({"code": 200, "data": record(task_id, state, prompt)})
    url = "http://localhost:1/hook"
    return HarExchange(started=NOW + at, method="POST", url=url, request=sent, status=status, operation="callback")


def fetch(at: float, task_id: str, **more: Any) -> HarExchange:
    return HarExchange(started=NOW + at, method="GET", url=url_of(task_id), **{"status": 200, **more})


def link(at: float, task_id: str) -> HarExchange:
    answer = encoded({"code": 200, "data": "https://tmp.example/x"})
    url = f"{SERVICE}{job_api().download_url.path}"
    asked = encoded({"url": url_of(task_id)})
    return HarExchange(started=NOW + at, method="POST", url=url, request=asked, status=200, response=answer)


LINKED = HarExchange(started=NOW + 9, method="GET", url="https://tmp.example/x", status=200)

TRAFFIC: dict[str, tuple[list[HarExchange], dict[str, list[str]]]] = {
    "all fetched": ([create(0, "a"), query(1, "a", "success"), fetch(2, "a")], {}),
    "by a download URL": ([create(0, "a"), query(1, "a", "success"), link(2, "a"), LINKED], {}),
    "never fetched": (
        [create(0, "a"), query(1, "a", "success")],
        {"paid and never fetched": [f"fetch {url_of('a')}."]},
    ),
    "half fetched": (
        [create(0, "a"), query(1, "a", "success"), fetch(2, "a", error="cut"), fetch(3, "a", status=404)],
        {"paid and never fetched": [f"fetch {url_of('a')}."]},
    ),
    "pending": ([create(0, "a"), query(1, "a", "waiting")], {"paid and never fetched": ["query the task until"]}),
    "never queried": ([create(0, "a")], {"paid and never fetched": ["query the task until"]}),
    "failed": ([create(0, "a"), query(1, "a", "fail")], {}),
    "failed by callback": ([create(0, "a"), callback(1, "a", "fail", status=500)], {}),
    "a late record of a state": ([create(0, "a"), callback(1, "a", "fail"), query(2, "a", "generating")], {}),
    "no response": ([create(0, status=0, error="reset")], {"in doubt": ["there was no whole response (reset)"]}),
    "half a response": ([create(0, response=b'{"code":2')], {"in doubt": ["the response (HTTP 200) is not one"]}),
    "a proxy": ([create(0, response=b"<html>", status=502)], {"in doubt": ["the response (HTTP 502) is not one"]}),
    "a firewall": ([create(0, response=b"<html>", status=403)], {}),
    "code 500": ([refused(0, 500)], {"in doubt": ["the response has code 500, after which a task may exist"]}),
    "no ID": ([refused(0, 200)], {"in doubt": ["reports success without a task ID"]}),
    "an unknown code": ([refused(0, 599)], {"in doubt": ["code 599"]}),
    "a newer refusal": ([refused(0, 433)], {}),
    **{f"code {code}": ([refused(0, code)], {}) for code in (401, 402, 404, 422, 429, 455, 505)},
    "in doubt, and then a callback": ([create(0, status=0), callback(5, "a"), fetch(6, "a")], {}),
    "in doubt, and a callback of another": (
        [create(0, status=0), callback(5, "a", prompt="lake"), fetch(6, "a")],
        {"in doubt": ["no whole response"]},
    ),
    "in doubt, and created again": (
        [create(0, status=0), create(3, "a"), query(5, "a", "success"), fetch(6, "a")],
        {"in doubt": ["no whole response"]},
    ),
    "paid twice": (
        [create(0, "a"), create(1, "b"), *(each for one in "ab" for each in (query(5, one, "success"), fetch(6, one)))],
        {"paid twice": ["was paid for 2 times: a, b."]},
    ),
    "two prompts": (
        [create(0, "a"), create(1, "b", "lake"), query(5, "a", "success"), query(5, "b", "fail"), fetch(6, "a")],
        {},
    ),
    "a failed first try": (
        [create(0, "a"), query(1, "a", "fail"), create(2, "b"), query(3, "b", "success"), fetch(4, "b")],
        {},
    ),
    "expired": (
        [create(-9e9, "a"), query(-9e9 + 1, "a", "success")],
        {"paid and never fetched": ["the image has expired: results are kept for 14 days."]},
    ),
    "nothing of the service": ([HarExchange(started=NOW, method="GET", url="https://x.example/", status=200)], {}),
    "odd bodies": (
        [query(0, "a", "fail", param=["x"]), create(1, status=200, response=b"[" * 9999)],
        {"in doubt": [""]},
    ),
}


def folder_of(path: Path, exchanges: list[HarExchange], creator: str = "a browser") -> Path:
    file = HarFile(path)
    for each in exchanges:
        file.add(each)
    file.close()
    text = file.path.read_text(encoding="utf-8")
    file.path.write_text(text.replace('{"name": "Seedbed"', f'{{"name": "{creator}"'), encoding="utf-8")
    return path


def reconcile(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[int, dict[str, Any], str]:
    status = main(["reconcile", *map(str, paths)])
    text = capsys.readouterr().out
    assert main(["reconcile", "--json", *map(str, paths)]) == status
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert content["open"] is (status == 1)
    assert text.endswith("Nothing was sent or changed.\n")
    return status, content, text


@pytest.mark.parametrize(("exchanges", "wanted"), TRAFFIC.values(), ids=TRAFFIC)
def test_what_a_recording_shows(
    exchanges: list[HarExchange], wanted: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "recording", exchanges)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    status, content, text = reconcile(capsys, folder)
    found = {name.replace("_", " "): each for name, each in content.items() if isinstance(each, list) and each}
    found.pop("notes", None)
    assert {name: len(each) for name, each in found.items()} == {name: len(each) for name, each in wanted.items()}
    assert all(words in text for each in wanted.values() for words in each), text
    assert status == bool(wanted)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    # The file by itself says the same as its folder, and twice the same counts once.
    (har,) = folder.glob("*.har")
    assert reconcile(capsys, har, folder)[1].keys() == content.keys()


def test_a_price_is_that_of_the_record_or_of_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchanges = [create(0, "a"), create(1, "b", "lake"), query(2, "b", "success", creditsConsumed=13.0)]
    _, content, text = reconcile(capsys, folder_of(tmp_path / "r", exchanges))
    assert content["credits"] == "19.5"
    assert "Paid and never fetched: 2, 19.5 credits" in text


def test_a_copy_by_the_proxy_is_no_download_by_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchanges = [create(0, "a"), create(1, "b", "lake"), query(2, "a", "success"), fetch(3, "a", operation="result")]
    status, content, text = reconcile(capsys, folder_of(tmp_path / "r", exchanges, "Seedbed"))
    assert status == 1
    assert [each["task_id"] for each in content["paid_and_never_fetched"]] == ["b"]
    assert "Whether 1 image that the program learned of was fetched is not in a journal or a recording" in text


# Journals


@pytest.fixture(scope="module", name="server")
def start_server() -> Iterator[MockServer]:
    with running(clock="manual", task_seconds=10) as server:
        yield server


@pytest.fixture(name="journal")
def make_journal(server: MockServer, tmp_path: Path) -> Path:
    """A journal with a task that was learned of, one that was not, one in doubt and one that was paid twice."""
    server.reset()
    headers = {"Authorization": f"Bearer {server.key}"}
    with httpx2.Client(base_url=server.url, headers=headers, trust_env=False) as client:
        path = default_contract().operation.path
        prompts = ("one", "two", "twice", "twice")
        ids = [client.post(path, json=body(each)).json()["data"]["taskId"] for each in prompts]
        server.add_faults("task.lost; times=1")
        assert client.post(path, json=body("lost")).json()["code"] == 500
        server.advance(60)
        for task_id in (ids[0], *ids[2:]):
            client.get(f"{job_api().record_info.path}?{job_api().record_info.query}={task_id}")
    written = tmp_path / "journal.json"
    written.write_text(json.dumps(server.control("GET", "journal", limit=1000)), encoding="utf-8")
    return written


def test_a_journal_as_the_control_api_gives_it(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, content, text = reconcile(capsys, journal)
    assert status == 1
    assert [len(content[name]) for name in ("paid_and_never_fetched", "in_doubt", "paid_twice")] == [1, 1, 1]
    assert '"two"' in content["paid_and_never_fetched"][0]["what"]
    assert '"lost"' in content["in_doubt"][0]["what"]
    assert "Whether 3 images that the program learned of were fetched is not in a journal or" in text


def test_an_exported_journal_says_the_same(
    journal: Path, server: MockServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    har = tmp_path / "journal.har"
    assert main(["har", "export", "--url", server.url, "-o", str(har)]) == 0
    _, exported, _ = reconcile(capsys, har)
    _, direct, _ = reconcile(capsys, journal)
    for name in ("paid_and_never_fetched", "in_doubt", "paid_twice"):
        assert [each["what"] for each in exported[name]] == [each["what"] for each in direct[name]]
    items = json.loads(journal.read_bytes())["entries"]
    journal.write_text(json.dumps(items), encoding="utf-8")
    assert reconcile(capsys, journal)[1]["paid_twice"]


def test_a_page_of_a_journal_says_what_is_missing(
    journal: Path, server: MockServer, capsys: pytest.CaptureFixture[str]
) -> None:
    page = server.control("GET", "journal", limit=2)
    journal.write_text(json.dumps(page), encoding="utf-8")
    assert f"lacks the entries before {page['before']}" in reconcile(capsys, journal)[2]


# Progress files


def job(number: int, status: Any, task_id: str = "", **more: Any) -> LoggedJob:
    values = body(f"prompt {number}")["input"]
    return LoggedJob(str(number), SERVICE, MODEL, values, f"prompt {number}", status, task_id, **more)


@pytest.fixture(name="state")
def write_state(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    jobs = [job(1, "saved", "a"), job(2, "submitted", "b"), job(3, "submitting"), job(4, "new"), job(5, "failed", "c")]
    JobLog(path).put(*jobs)
    return path


def test_a_progress_file(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = state.read_bytes()
    status, found, text = reconcile(capsys, state)
    assert (status, found["tasks"], found["credits"]) == (1, 3, "13")
    assert [each["task_id"] for each in found["paid_and_never_fetched"]] == ["b"]
    assert f"generate --resume {state} waits for the task" in text
    assert "add --settle 3=TASK_ID or --submit-again 3." in text
    assert found["not_created_yet"][0]["credits"] == "6.5"
    assert state.read_bytes() == content
    assert list(state.parent.iterdir()) == [state]


def test_a_progress_file_and_a_recording_together(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic = [create(0, "b", "prompt 2"), query(1, "b", "success"), fetch(2, "b")]
    _, found, _ = reconcile(capsys, state, folder_of(tmp_path / "r", traffic))
    assert (found["tasks"], found["paid_twice"]) == (3, [])
    # The response was there, but the image was not saved.
    assert [each["task_id"] for each in found["paid_and_never_fetched"]] == []


def test_a_finished_progress_file_has_nothing_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    JobLog(path).put(job(1, "saved", "x"), job(2, "failed", "y"))
    status, _, text = reconcile(capsys, path)
    assert (status, text) == (0, "2 tasks, 6.5 credits.\n\nNothing is open.\nNothing was sent or changed.\n")


def test_the_form_of_progress_files_is_that_of_the_client() -> None:
    assert (JOB_LOG, JOB_LOG_VERSION) == (_APPLICATION, _VERSION)
    assert set(JobRecord.__struct_fields__) == set(LoggedJob.__struct_fields__)


def test_a_progress_file_after_a_crash_is_read_from_a_copy(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What a process leaves that is killed while it writes: half a transaction, and the journal to roll it back.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with contextlib.closing(sqlite3.connect(state, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO jobs VALUES (?, ?)", [(f"new {each}", b"x" * 4000) for each in range(50)])
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{state}{suffix}", crashed / f"{state.name}{suffix}")
        database.execute("ROLLBACK")
    before = {path.name: path.read_bytes() for path in crashed.iterdir()}
    url = f"{(crashed / state.name).as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(url, uri=True)) as database, pytest.raises(sqlite3.OperationalError):
        database.execute("SELECT * FROM jobs")
    assert reconcile(capsys, crashed / state.name)[1]["tasks"] == 3
    assert {path.name: path.read_bytes() for path in crashed.iterdir()} == before


# Bad files

FOREIGN = sqlite3.connect(":memory:")
FOREIGN.execute("CREATE TABLE x (y)")

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; pass a journal"),
    "no JSON": (b"hello", "is neither JSON nor a progress file, or it is incomplete"),
    "torn": (b'{"log": {"entries": [{"request"', "or it is incomplete"),
    "deep": (b"[" * 100_000, "or it is incomplete"),
    "not UTF-8": (b"\xff\xfe\x00", "is neither JSON"),
    "a number": (b"5", "is neither a journal, a HAR file nor a progress file"),
    "a list of numbers": (b"[1]", "is neither a journal"),
    "another object": (b'{"a": 1}', "is neither a journal"),
    "a HAR file without entries": (b'{"log": {}}', "is neither a journal"),
    "a HAR file with odd entries": (b'{"log": {"entries": [{}]}}', "is neither a journal"),
    "a HAR file with an odd time": (
        b'{"log":{"entries":[{"startedDateTime":"x","request":{"method":"GET","url":"/"},"response":{"status":200}}]}}',
        "is neither a journal",
    ),
    "another database": (FOREIGN.serialize(), "is a database, but not a progress file"),
    "half a database": (FOREIGN.serialize()[:600], "is damaged"),
    "only a header": (b"SQLite format 3\0", "is damaged"),
}
FOREIGN.close()


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_a_bad_file_gets_one_sentence(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    assert main(["reconcile", str(state), str(path)]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n"), words in shown.err) == ("", 2, True), shown.err
    assert path.read_bytes() == content
    assert {each.name for each in tmp_path.iterdir()} == {"bad", "run.json"}


def test_paths_that_are_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    huge = tmp_path / "huge"
    huge.write_text("x" * 20, encoding="utf-8")
    monkeypatch.setattr("seedbed_mock.recording.evidence._LARGEST", 10)
    empty = tmp_path / "empty"
    empty.mkdir()
    words = {str(tmp_path / "no"): "no such file", str(empty): "contains no HAR file", str(huge): "at most 0 MiB"}
    words |= {"nul\0": "cannot be read" if sys.version_info >= (3, 13) else "", "/dev/null": "not a regular file"}
    for path, sentence in words.items():
        assert main(["reconcile", path]) == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 2)
        assert sentence in shown.err
    assert main(["reconcile"]) == 2
    assert "name a journal" in capsys.readouterr().err
