"""The command line of the server, in processes of its own."""

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from seedbed_client import SeedreamClient
from seedbed_mock import Rate, Span, running
from seedbed_mock.accounts import fingerprint
from seedbed_mock.cli import main
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started = []

    def start_process(*arguments: str, module: str = "seedbed_mock") -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start_process
    for process in started:
        process.kill()
        process.communicate()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def url_of(process: "subprocess.Popen[str]") -> str:
    line = first_line(process)
    assert re.fullmatch(r"Seedbed is ready on http://127\.0\.0\.1:\d+", line)
    return line.rpartition(" ")[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_within_a_second_with_exit_code_0(start: Start, number: signal.Signals) -> None:
    process = start("--port", "0")
    url = url_of(process)
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as unfinished, httpx2.Client(trust_env=False) as idle:
        unfinished.sendall(b"POST /api/v1/jobs/createTask HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert idle.get(url).json()["code"] == 404
        began = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
        # More than the promised second: coverage writes its data when a process ends.
        assert time.monotonic() - began < 3
    assert process.returncode == 0
    assert errors == ""


def test_a_signal_during_the_start_stops_the_server() -> None:
    code = (
        "import os, signal, uvicorn; from seedbed_mock.cli import main; real = uvicorn.Server.capture_signals;"
        "def early(self): os.kill(os.getpid(), signal.SIGTERM); return real(self)\n"
    ).replace("real = uvicorn.Server.capture_signals;", "real = uvicorn.Server.capture_signals\n")
    code += "uvicorn.Server.capture_signals = early\nraise SystemExit(main(['serve', '--port', '0']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_the_server_stops_in_time_while_it_renders(start: Start) -> None:
    process = start("--port", "0", "--task-seconds", "0", "--rate-limit", "off", "--credits", "1000")
    url = url_of(process)
    with SeedreamClient(url) as client, ThreadPoolExecutor(48) as pool:
        tasks = [client.generate(f"hill {number}", aspect_ratio="21:9", quality="high") for number in range(48)]
        urls = [task.result_urls[0] for task in tasks]
        downloads = [pool.submit(client.download, each) for each in urls]
        downloads[0].result()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        finished = [download for download in downloads if not download.exception()]
    assert 0 < len(finished) < len(downloads)


def test_the_server_never_prints_a_key_of_a_request(start: Start) -> None:
    canary = "sk-canary-7f3a"
    process = start("--port", "0")
    url = url_of(process)
    headers = {"Authorization": f"Bearer {canary}", "X-Seedbed-Fault": "boom"}
    for method, path in (("POST", "/api/v1/jobs/createTask"), ("GET", "/api/v1/chat/credit"), ("GET", "/nowhere")):
        response = httpx2.request(method, url + path, headers=headers, trust_env=False)
        assert canary not in response.text + str(response.headers)
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"NONSENSE\r\nAuthorization: Bearer " + canary.encode() + b"\r\n\r\n")
        assert canary.encode() not in connection.recv(65536)
    process.send_signal(signal.SIGTERM)
    assert canary not in "".join(process.communicate(timeout=10))


def test_an_ipv6_address_may_have_brackets(start: Start) -> None:
    assert first_line(start("--host", "[::1]", "--port", "0")).startswith("Seedbed is ready on http://[::1]:")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_printed_commands_work(start: Start, host: str) -> None:
    process = start("--host", host, "--port", "0", "--key", "it'sa$key", "--task-seconds", "0")
    first_line(process)
    assert process.stdout
    printed = [process.stdout.readline().strip() for _ in range(11)]
    key = "it'sa$key"
    assert f"Key: {key} ({fingerprint(key)})" in printed
    create, record = (line for line in printed if line.startswith("curl "))
    created = subprocess.run(
        ["bash", "-O", "failglob", "-c", create], capture_output=True, text=True, check=True
    ).stdout
    task_id = re.findall(r'"taskId":"(\w+)"', created)[0]
    fetched = subprocess.run(
        ["sh", "-c", record.replace("TASK_ID", task_id)], capture_output=True, text=True, check=True
    )
    assert '"state":"success"' in fetched.stdout
    generate = next(line for line in printed if line.startswith("seedbed generate"))
    assert "--key" in shlex.split(generate)


def test_the_options_of_the_command_line_have_an_effect(start: Start) -> None:
    process = start(
        *("--host", "127.0.0.1", "--port", "0", "--key", "one", "--key", "two", "--http-status", "mirror"),
        *("--task-seconds", "0.5", "--credits", "70", "--rate-limit", "1/3600", "--seed", "3"),
    )
    url = url_of(process)
    with httpx2.Client(base_url=url, headers={"Authorization": "Bearer two"}, trust_env=False) as client:
        assert client.get("/api/v1/chat/credit").json()["data"] == 70
        good = example_of(default_contract().part("request"))
        assert client.post("/api/v1/jobs/createTask", json={}).status_code == 422
        assert client.post("/api/v1/jobs/createTask", json=good).status_code == 200
        assert client.post("/api/v1/jobs/createTask", json=good).status_code == 429


def test_a_port_in_use_exits_2_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as server:
        port = server.url.rpartition(":")[2]
        assert main(["serve", "--port", port]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use." in errors
    assert "--port 0" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--port", "x"], "--port"),
        (["serve", "--port", "70000"], "65535"),
        (["serve", "--port", "-1"], "--port"),
        (["serve", "--http-status", "teapot"], "mirror"),
        (["serve", "--task-seconds", "-1"], "MIN..MAX"),
        (["serve", "--task-seconds", "nan"], "MIN..MAX"),
        (["serve", "--task-seconds", "999999999"], "a task takes from 0"),
        (["serve", "--task-seconds", "60..10"], "a task takes from 0"),
        (["serve", "--task-seconds", "1..2..3"], "MIN..MAX"),
        (["serve", "--credits", "-1"], "credits"),
        (["serve", "--credits", "inf"], "credits"),
        (["serve", "--credits", "9999999999"], "from 0 to 1000000000 credits"),
        (["serve", "--credits", "100000000.5", "--task-seconds", "x"], "MIN..MAX"),
        (["serve", "--credits", "abc"], "credits"),
        (["serve", "--credits", "6,5"], "credits"),
        (["serve", "--credits", ""], "credits"),
        (["serve", "--credits", "snan"], "credits"),
        (["serve", "--rate-limit", "20"], "N/SECONDS"),
        (["serve", "--rate-limit", "0/10"], "N/SECONDS"),
        (["serve", "--rate-limit", "20/0"], "N/SECONDS"),
        (["serve", "--key", ""], "visible ASCII"),
        (["serve", "--key", "a b"], "visible ASCII"),
        (["serve", "--key", "a\r\nb"], "visible ASCII"),
        (["serve", "--key", "ключ"], "visible ASCII"),
        (["serve", "--port", "8.5"], "8.5 is not a whole number"),
        (["serve", "--seed", "1.5"], "1.5 is not a whole number"),
        (["serve", "--keep-tasks", "2.5"], "2.5 is not a whole number"),
        (["serve", "--control-token", ""], "1 to 256 visible ASCII"),
        (["serve", "--db", ""], "Empty path"),
        (["serve", "--result-dir", ""], "Empty path"),
        (["serve", "--nope"], "--nope"),
        (["serve", "extra"], "extra"),
        (["nope"], "nope"),
        (["derive"], "PAGE"),
        (["generate"], "the prompt is missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_invalid_command_line_exits_2_with_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("seedbed_mock.serve.serve_until_signal", lambda *_: None)
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 2
    assert errors.startswith("seedbed")
    assert message in errors


def test_an_invalid_host_exits_2_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "256.256.256.256", "--port", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("arguments", [["--version"], ["serve", "--version"]])
def test_the_version_is_printed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(("text", "seconds"), [("off", None), ("5/0.5", 0.5), ("20/10", 10)])
def test_a_rate_is_parsed_and_printed(text: str, seconds: float | None) -> None:
    rate = Rate.parse(text)
    assert (rate.seconds if rate else None) == seconds
    assert str(rate) == (text if rate else "None")


@pytest.mark.parametrize(("text", "bounds"), [("0", (0, 0)), ("2.5", (2.5, 2.5)), ("10..60", (10, 60))])
def test_a_span_is_parsed_and_printed(text: str, bounds: tuple[float, float]) -> None:
    span = Span.parse(text)
    assert (span.least, span.most) == bounds
    assert str(span) == text


def test_an_interrupted_command_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seedbed_mock.serve.listen", interrupt)
    assert main(["serve"]) == 130


def test_the_help_lists_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("serve", "generate", "derive"))


def test_the_command_does_not_import_its_subcommands() -> None:
    code = (
        "import sys; from seedbed_mock.cli import make_app; make_app();"
        "print(sorted({'seedbed_mock.serve', 'seedbed_client', 'seedbed_contract', 'cryptography'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_server_does_not_import_what_only_other_commands_need() -> None:
    code = (
        "import sys, seedbed_mock.serve;"
        "print(sorted({'PIL', 'httpx2', 'hypothesis', 'jsonschema', 'markdown_it', 'cryptography'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
