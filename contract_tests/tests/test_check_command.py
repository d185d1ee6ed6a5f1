"""The command ``seedbed check``: its output, its files and its exit codes."""

import io
import json
import os
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from seedbed_contract.display import curl
from seedbed_contract.http import TargetRequest
from seedbed_mock import running
from seedbed_mock.cli import main
from tests.hostile_targets import target
from tests.made_contracts import contract_of
from tests.minimal_service import Served, serve
from tests.seeded_defect import PLAIN
from tests.seeded_defects import SEEDED_DEFECTS

FAST = ["--only", "requests.refused", "--quiet"]


@pytest.fixture(scope="module")
def conforming() -> Iterator[Served]:
    with serve(PLAIN) as served:
        yield served


@pytest.fixture(scope="module")
def too_long() -> Iterator[Served]:
    """A server that accepts prompts with one character too many."""
    (defect,) = [defect for defect in SEEDED_DEFECTS if defect.name == "one character too many"]
    with defect.serve() as served:
        yield served


def check(served: Served, *words: str) -> int:
    return main(["check", served.url, "--key", served.key, *words])


def test_a_conforming_server_exits_with_0(conforming: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(conforming, *FAST) == 0
    assert "conforms" in capsys.readouterr().out


def test_findings_exit_with_1_and_quote_the_page(too_long: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(too_long, *FAST) == 1
    printed = capsys.readouterr()
    assert "input.prompt/maxLength" in printed.out
    assert "最大长度" in printed.out
    assert too_long.key not in printed.out + printed.err


def finding(report: Path) -> Any:
    (one,) = json.loads(report.read_text())["findings"]
    return one


def test_a_finding_has_the_smallest_request_as_a_curl_command_that_runs(too_long: Served, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert check(too_long, *FAST, "--json-file", str(report)) == 1
    command = finding(report)["sample"]["curl"]
    words = shlex.split(command)
    request = json.loads(words[words.index("--data-raw") + 1])
    assert len(request["input"].pop("prompt")) == 3001
    assert request == {"model": "seedream/4.5-text-to-image", "input": {"aspect_ratio": "1:1", "quality": "basic"}}
    environment = {**os.environ, "SEEDBED_API_KEY": too_long.key}
    pasted = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, check=True)
    assert json.loads(pasted.stdout)["code"] == 200


@pytest.mark.parametrize("special", ["'", '"', "$HOME", "`id`", "\\", "\n", "\0", "é", "🌄", "%0a", "!"])
def test_every_request_becomes_a_curl_command_that_sends_it(special: str) -> None:
    with running(task_seconds=0) as server:
        body = json.dumps({"text": special}, ensure_ascii=False).encode()
        headers = (("Authorization", f"Bearer {server.key}"), ("Content-Type", "application/json"))
        command = curl(
            TargetRequest("createTask", "POST", "/api/v1/jobs/createTask", headers, body), server.url, {server.key: "K"}
        )
        assert server.key not in command
        subprocess.run(["bash", "-c", command], env={**os.environ, "K": server.key}, capture_output=True, check=True)
        (call,) = server.calls
    assert call["request"] == {"text": special}


@pytest.mark.parametrize("path", ["/a.jpg", "/a b", "/a[1-3]{b,c}.jpg", "/a/../b", "/a?x='$HOME`id`&y=!", "/é"])
def test_the_curl_command_of_a_result_has_its_url(path: str) -> None:
    with target(_echo) as url:
        request = TargetRequest("result", "GET", f"{url}{path}")
        command = curl(request, "http://127.0.0.1:9", {})
        assert "127.0.0.1:9" not in command
        pasted = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
        assert unquote(pasted.stdout.decode().partition("X-Path: ")[2].split("\r")[0]) == path


def _echo(connection: socket.socket, _: threading.Event) -> None:
    line = connection.recv(1 << 16).decode("latin-1").split("\r\n")[0]
    path = line.partition(" ")[2].rpartition(" ")[0]
    connection.sendall(f"HTTP/1.1 200 OK\r\nX-Path: {path}\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.mark.parametrize("character", ["x", "\n"])
def test_a_body_of_any_length_can_be_pasted(character: str) -> None:
    body = character.encode() * 300_000
    with target(_measure) as url:
        command = curl(TargetRequest("createTask", "POST", "/", (("Content-Type", "text/plain"),), body), url, {})
        pasted = subprocess.run(["bash"], input=f"{command}\n".encode(), capture_output=True, check=True)
    assert int(pasted.stdout) == len(body)


def _measure(connection: socket.socket, _: threading.Event) -> None:
    with connection.makefile("rb") as stream:
        headers = dict(line.lower().split(b": ", 1) for line in iter(stream.readline, b"\r\n") if b": " in line)
        size = len(stream.read(int(headers[b"content-length"])))
    connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{size}".encode())


def test_reports_are_written_in_every_format(too_long: Served, tmp_path: Path) -> None:
    files = {form: tmp_path / f"report.{form}" for form in ("junit", "html", "json", "markdown")}
    words = [word for form, path in files.items() for word in (f"--{form}{'-file' * (form == 'json')}", str(path))]
    assert check(too_long, *FAST, *words) == 1
    assert "<failure" in files["junit"].read_text()
    assert "<!doctype html>" in files["html"].read_text().lower()
    assert finding(files["json"])["clause"] == "input.prompt/maxLength"
    assert "input.prompt/maxLength" in files["markdown"].read_text()
    assert all(too_long.key not in path.read_text() for path in files.values())


def test_only_the_report_goes_to_standard_output(conforming: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(conforming, *FAST, "--json-file", "-") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["findings"] == []
    assert "conforms" in printed.err


def test_progress_goes_to_standard_error(conforming: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(conforming, "--only", "requests.refused") == 0
    assert "requests.refused" in capsys.readouterr().err


def test_a_dry_run_lists_the_requests_and_sends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "https://api.kie.ai", "--key", "mine", "--dry-run"]) == 0
    free = capsys.readouterr().out
    assert "input.prompt of 3001 characters -> refused" in free
    assert "accepted" not in free
    assert "receives only requests that it must refuse" in free
    assert main(["check", "https://api.kie.ai", "--key", "mine", "--dry-run", "--spend", "20"]) == 0
    assert "may create 3 tasks, which cost up to 20 credits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No server to check"),
        (["not a url"], "is not a valid URL of a server"),
        (["ftp://127.0.0.1"], "is not a valid URL of a server"),
        (["http://127.0.0.1:99999"], "is not a valid URL of a server"),
        (["http://me@127.0.0.1"], "must not contain a user name"),
        (["https://192.0.2.1"], "the key is missing"),
        (["http://127.0.0.1:9", "--key", "two words"], "without spaces"),
        (["http://127.0.0.1:9", "--key", "a", "--second-key", "a"], "the second key equals the first"),
        (["http://127.0.0.1:9", "--only", "nonsense.*"], "no check matches"),
        (["http://127.0.0.1:9", "--require", "nonsense"], "unknown capability"),
        (["http://127.0.0.1:9", "--time-limit", "0"], "--time-limit"),
        (["http://127.0.0.1:9", "--time-limit", "nan"], "--time-limit"),
        (["http://127.0.0.1:9", "--max-examples", "0"], "--max-examples"),
        (["http://127.0.0.1:9", "--spend", "much"], "--spend"),
        (["http://127.0.0.1:9", "--spend", "-1"], "0 or more"),
        (["http://127.0.0.1:9", "--force-with", "X-Fault: 500"], "must be a header with {code}"),
        (["http://127.0.0.1:9", "--force-with", "{code}"], "must be a header with {code}"),
        (["http://127.0.0.1:9", "--force-with", "X-{code}: a"], "must be a header with {code}"),
        (["http://127.0.0.1:9", "--force-with", "X-Fault: {code}\nX: 1"], "must be a header with {code}"),
        (["http://127.0.0.1:9", "--dialect", "klingon"], "documented"),
        (["http://127.0.0.1:9", "--contract", "/nowhere.json"], "No such file"),
        (["http://127.0.0.1:9", "--json-file", "/nowhere/report.json"], "no such directory"),
        (["http://127.0.0.1:9", "--har", "/nowhere.har"], "No such file"),
        (["http://127.0.0.1:9"], "Connection refused"),
    ],
)
def test_a_user_error_prints_one_message_and_exits_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEEDBED_API_KEY", raising=False)
    assert main(["check", *words]) == 2
    printed = capsys.readouterr()
    assert message.lower() in " ".join(printed.err.split()).lower()
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_recorded_traffic_is_checked_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = tmp_path / "traffic.har"
    request = {"method": "GET", "url": "http://127.0.0.1/api/v1/chat/credit", "headers": [], "httpVersion": "HTTP/1.1"}
    content = {"mimeType": "application/json", "text": '{"code": "200", "msg": "success", "data": 1}', "size": 44}
    headers = [{"name": "Content-Type", "value": "application/json"}]
    response = {"status": 200, "statusText": "OK", "headers": headers, "content": content}
    entry = {"startedDateTime": "2026-01-01T00:00:00Z", "time": 1, "request": request, "response": response}
    recording.write_text(json.dumps({"log": {"version": "1.2", "creator": {}, "entries": [entry]}}))
    assert main(["check", "--har", str(recording)]) == 1
    assert "code" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(recording.read_bytes())))
    assert main(["check", "--har", "-", "--har", str(recording)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "standard input, traffic.har" in printed
    assert "2 requests" in printed


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--help"]) == 0
    printed = capsys.readouterr().out
    flags = """url key dialect http-status second-key signing-key fail-prompt callback-host max-examples time-limit
        seed only spend junit html json markdown har require dry-run fail-on force-with"""
    assert not [flag for flag in flags.split() if not re.search(rf"--{flag}\b", printed)]


def test_a_contract_that_no_request_can_keep_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contradiction = {"type": "string", "minLength": 5, "pattern": "^a$"}
    values = {"type": "object", "required": ["code"], "properties": {"code": contradiction}}
    (tmp_path / "contract.json").write_text(json.dumps(contract_of({"properties": {"input": values}}).document))
    assert main(["check", "http://127.0.0.1:9", "--contract", str(tmp_path / "contract.json")]) == 2
    printed = capsys.readouterr()
    assert "No valid request for meadow/1-sketch could be made" in printed.err
    assert printed.err.count("\n") == 2
    assert "Traceback" not in printed.err
