"""Start, wait and stop: ready files, servers in the background, Unix sockets, and sockets of a service manager."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from seedbed_mock import running
from seedbed_mock.background import BackgroundServer, ReadyServer
from seedbed_mock.cli import main
from seedbed_mock.control.client import open_connection
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTRACT, SHARED = default_contract(), job_api()
KEY = {"Authorization": f"Bearer {local.KEY}"}
SERVE = [sys.executable, "-m", "seedbed_mock"]
SEEDBED = [sys.executable, "-c", "import sys; from seedbed_mock.__main__ import command; sys.exit(command())"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor Unix sockets")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the commands a state folder of their own, and kill what is left in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "state" / "seedbed"
    yield folder
    for path in folder.glob("server-*.json"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(ReadyServer.load(path).pid, signal.SIGKILL)


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SEEDBED, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


@contextlib.contextmanager
def serving(*options: str, **process_options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a server until the block ends; it is ready when the block begins."""
    command = [*SERVE, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **process_options) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("Seedbed is ready")
            yield process
        finally:
            process.terminate()
            assert process.wait(20) in {0, -signal.SIGKILL}


# Ready files


def test_a_ready_file_says_where_the_server_is_while_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ready.json"
    stale = ReadyServer(url="http://127.0.0.1:1", port=1, pid=1)
    stale.save(path)
    assert main(["health", "--ready-file", str(path)]) == 1
    with serving("--port", "0", "--ready-file", str(path)) as process:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert (content["pid"], content["uds"], content["ca"]) == (process.pid, None, None)
        assert content["url"] == f"http://127.0.0.1:{content['port']}"
        assert main(["wait", "--ready-file", str(path), "--timeout", "10"]) == 0
        assert "is ready (Seedbed " in capsys.readouterr().out
        assert [each.name for each in tmp_path.iterdir()] == ["ready.json"]
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.write_text("precious"), "not a ready file"),
        (lambda path: path.write_text('{"url": "x"}'), "not a ready file"),
        (lambda path: path.mkdir(), "not a file"),
        (os.mkfifo if hasattr(os, "mkfifo") else Path.mkdir, "not a file"),
        (lambda path: path.parent.rmdir(), "does not exist"),
    ],
)
def test_no_other_file_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], object], problem: str
) -> None:
    path = tmp_path / "folder" / "ready.json"
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else None
    assert main(["serve", "--port", "0", "--ready-file", str(path)]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 2
    assert (path.read_bytes() if path.is_file() else None) == before


# Waiting


@pytest.mark.parametrize("command", ["health", "wait"])
def test_a_running_server_is_ready_with_and_without_the_token(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(control_token="a-token") as server:  # noqa: S106 (it opens nothing else)
        assert main([command, server.url]) == 0
        monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
        assert main([command]) == 0
    assert capsys.readouterr().out.count("is ready (Seedbed ") == 2


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def dripping(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"H")
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (None, "refused"),
        (silent, "no response within"),
        (dripping, "no response within"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "not a mock server"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "not a mock server"),
        (b"SSH-2.0-\x1b[31mOpenSSH\r\n", "cannot connect"),
    ],
)
@pytest.mark.parametrize("command", ["health", "wait"])
def test_a_wait_ends_in_time(
    receive: Callable[..., Any], capsys: pytest.CaptureFixture[str], behaviour: Any, reason: str, command: str
) -> None:
    url = receive(behaviour).url if behaviour is not None else "http://127.0.0.1:1"
    started = time.monotonic()
    assert main([command, url, "--timeout", "1"]) == 1
    assert time.monotonic() - started < 20
    error = capsys.readouterr().err
    assert reason in error
    assert error[:-1].replace("\ndocs: ", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["https://api.kie.ai"], "the paid service"),
        (["https://API.kie.ai:443/x"], "the paid service"),
        (["ftp://x"], "not the URL of a server"),
        (["http://[::1"], "not the URL of a server"),
        (["http://x:0"], "not the URL of a server"),
        (["http://x", "--ready-file", "y"], "omit the URL"),
        (["https://x", "--ca", "/nowhere.pem"], "no file /nowhere.pem"),
        (["http://x", "--timeout", "0"], "Must be > 0"),
        (["http://x", "--timeout", "nan"], "Must be"),
    ],
)
@pytest.mark.parametrize("command", ["health", "wait"])
def test_a_server_that_cannot_be_asked_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], command: str, arguments: list[str], reason: str
) -> None:
    assert main([command, *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_wait_returns_when_a_server_starts_late(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, codes = tmp_path / "ready.json", list[int]()
    waiting = threading.Thread(
        target=lambda: codes.append(main(["wait", "--ready-file", str(path), "--timeout", "30"]))
    )
    waiting.start()
    with running() as server:
        ReadyServer(url=server.url, port=1, pid=os.getpid()).save(path)
        waiting.join(30)
    assert codes == [0]
    assert f"{server.url} is ready" in capsys.readouterr().out


# The background


def test_a_server_runs_in_the_background_until_it_is_stopped(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = run("serve", "--daemon", "--port", "0", "--key", "secret-key")
    assert started.returncode == 0, started.stderr
    match = re.search(r"ready on http://127.0.0.1:(\d+)", started.stdout)
    assert match
    port, log = match[1], state / f"server-{match[1]}.log"
    assert f"seedbed stop --port {port}" in started.stdout
    assert main(["health", f"http://127.0.0.1:{port}"]) == 0
    assert log.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert "secret-key" not in log.read_text(encoding="utf-8")
    assert main(["serve", "--port", port]) == 2
    assert f"seedbed stop --port {port} stops it" in capsys.readouterr().err
    assert main(["stop"]) == 0
    assert capsys.readouterr().out == f"Stopped the server on port {port}.\n"
    assert main(["health", f"http://127.0.0.1:{port}"]) == 1
    assert main(["stop"]) == main(["stop", "--port", port]) == 1
    assert not list(state.glob("*.json"))


@pytest.mark.slow
def test_several_servers_are_told_apart_by_their_ports(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = [run("serve", "--daemon", "--port", "0") for _ in range(3)]
    ports = [re.findall(r"stop --port (\d+)", each.stdout)[0] for each in started]
    assert len(list(state.glob("*.json"))) == 3
    again = run("serve", "--daemon", "--port", ports[0])
    assert (again.returncode, f"seedbed stop --port {ports[0]} stops it" in again.stderr) == (2, True)
    assert main(["stop"]) == 1
    assert all(port in capsys.readouterr().err for port in ports[:1])
    assert main(["stop", "--port", ports[0]]) == 0
    assert [main(["health", f"http://127.0.0.1:{port}"]) for port in ports] == [1, 0, 0]
    assert main(["stop", "--all"]) == 0
    assert [main(["health", f"http://127.0.0.1:{port}"]) for port in ports] == [1, 1, 1]


@pytest.mark.slow
def test_a_server_that_ignores_signals_is_killed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--daemon", "--port", "0").returncode == 0
    (path,) = state.glob("server-*.json")
    server = ReadyServer.load(path)
    # A stopped process handles no signal but SIGKILL.
    os.kill(server.pid, signal.SIGSTOP)
    assert main(["stop", "--all", "--timeout", "0.2"]) == 0
    assert capsys.readouterr().out == f"Killed the server on port {server.port}.\n"


def test_the_pid_of_an_earlier_server_is_left_alone(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # As after kill -9 and a new process with the same PID, which is that of this test here.
    stale = BackgroundServer.of(8721, None)
    state.mkdir(parents=True)
    ReadyServer(url=local.BASE_URL, port=8721, pid=os.getpid()).save(stale.file)
    stale.stem.with_suffix(".lock").touch()
    assert main(["stop", "--port", "8721"]) == 1
    assert "no server runs in the background on port 8721" in capsys.readouterr().err
    assert not stale.file.exists()
    ReadyServer(url=local.BASE_URL, port=8721, pid=os.getpid()).save(stale.file)
    assert main(["stop", "--all"]) == 1
    (state / "server-1.json").write_text("{", encoding="utf-8")
    assert main(["stop"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--rate-limit", "x"], ["--db", "/nowhere/x.db"], ["--host", "192.0.2.1"]])
def test_an_error_at_the_start_reaches_the_terminal(state: Path, options: list[str]) -> None:
    result = run("serve", "--daemon", "--port", "0", *options)
    assert result.returncode in {1, 2}
    assert result.stderr.startswith("seedbed serve: ")
    assert result.stdout == ""
    assert not list(state.glob("*.json"))


@pytest.mark.slow
def test_a_state_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("serve", "--daemon", "--port", "0", env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "file")})
    assert (result.returncode, result.stderr.count("\n")) == (2, 2)


def test_options_of_stop_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "--all", "--port", "1"]) == 2
    assert "pass one of" in capsys.readouterr().err


# Unix sockets


def call(path: Path, method: str, target: str, body: Any = None, host: str = "localhost") -> Any:
    connection = open_connection("http://localhost", 20, path)
    headers = {**KEY, "Host": host, "Content-Type": "application/json"}
    connection.request(method, target, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return json.loads(content) if response.getheader("content-type") != "image/jpeg" else content


def test_a_unix_socket_serves_everything(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s"
    started = run("serve", "--daemon", "--uds", "s", "--task-seconds", "0", cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    assert f"--unix-socket {path}" in started.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    task_id = call(path, "POST", CONTRACT.operation.path, example_of(CONTRACT.part("request")))["data"]["taskId"]
    record = call(path, "GET", f"{SHARED.record_info.path}?{SHARED.record_info.query}={task_id}")["data"]
    (url,) = json.loads(record["resultJson"])["resultUrls"]
    assert url.startswith("http://localhost/results/")
    assert call(path, "GET", url.removeprefix("http://localhost")).startswith(b"\xff\xd8")
    assert call(path, "GET", SHARED.credit.path, host="evil.com")["code"] != 200
    assert call(path, "GET", "/__seedbed/health")["status"] == "ok"
    assert main(["health", "--uds", str(path)]) == 0
    (file,) = state.glob("server-*.json")
    assert main(["wait", "--ready-file", str(file)]) == 0
    assert f"at {path} is ready" in capsys.readouterr().out

    assert main(["serve", "--uds", str(path)]) == 2
    error = capsys.readouterr().err
    assert "another server listens there" in error
    assert f"seedbed stop --uds {path}" in error
    assert main(["stop", "--uds", str(path)]) == 0
    assert not path.exists()


@pytest.mark.slow
def test_a_socket_that_is_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with serving("--uds", str(path)) as process:
        assert main(["health", "--uds", str(path)]) == 0
        process.kill()
        process.wait(20)
    assert path.is_socket()
    with serving("--uds", str(path)):
        assert main(["health", "--uds", str(path)]) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "problem"), [("file", "not a socket"), ("x" * 120, "too long"), ("nowhere/s", "No such file")]
)
def test_a_socket_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, problem: str
) -> None:
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    assert main(["serve", "--uds", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 2
    assert (tmp_path / "file").read_text(encoding="utf-8") == "precious"


# Sockets of a service manager


def activate(files: list[Any], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a server as systemd does: with open files from number 3 on, and its own PID in a variable."""

    def prepare() -> None:
        copies = [os.dup(each.fileno()) for each in files]
        for number, copy in enumerate(copies, 3):
            os.dup2(copy, number)

    shell = f"LISTEN_PID=${{LISTEN_PID:-$$}} exec {SERVE[0]} -m seedbed_mock --port 0"
    return subprocess.Popen(
        ["sh", "-c", shell],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 (this process has no threads that could hold a lock of these calls)
        close_fds=False,
    )


def test_given_sockets_are_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        with activate([tcp, unix], {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:local"}) as process:
            assert process.stdout
            url = f"http://127.0.0.1:{tcp.getsockname()[1]}"
            assert process.stdout.readline() == f"Seedbed is ready on {url}\n"
            assert httpx2.get(url + SHARED.credit.path, headers=KEY, trust_env=False).json()["code"] == 200
            assert call(tmp_path / "s", "GET", SHARED.credit.path)["code"] == 200
            process.terminate()
            assert process.wait(20) == 0
    # It belongs to the service manager.
    assert (tmp_path / "s").is_socket()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"LISTEN_FDS": "x"}, "LISTEN_FDS is 'x'"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS is '-1'"),
        ({"LISTEN_FDS": ""}, "LISTEN_FDS is ''"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "me"}, "LISTEN_PID is 'me'"),
        ({"LISTEN_FDS": "100"}, "more than 64"),
    ],
)
def test_invalid_variables_of_a_service_manager_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: dict[str, str], reason: str
) -> None:
    for name, value in ({"LISTEN_PID": str(os.getpid())} | environment).items():
        monkeypatch.setenv(name, value)
    assert main(["serve", "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("is_socket", "reason"), [(True, "not a listening"), (False, "open file 3")])
def test_an_open_file_that_is_no_listening_socket_is_one_sentence(is_socket: bool, reason: str) -> None:  # noqa: FBT001
    with socket.socket() as idle, Path(os.devnull).open("rb") as file:
        with activate([idle if is_socket else file], {"LISTEN_FDS": "1"}) as process:
            _, error = process.communicate(timeout=30)
        assert process.returncode == 2
        assert reason in error
        assert error.count("\n") == 2


@pytest.mark.slow
def test_variables_of_another_process_have_no_effect() -> None:
    with activate([], {"LISTEN_FDS": "1", "LISTEN_PID": "1"}) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("Seedbed is ready on http://127.0.0.1:")
        process.terminate()
        assert process.wait(20) == 0


# Addresses


@pytest.mark.slow
def test_a_server_that_other_machines_can_reach_says_so() -> None:
    with serving("--host", "0.0.0.0", "--port", "0") as process:  # noqa: S104
        assert process.stdout
        line = process.stdout.readline()
    assert line.startswith("Warning: other machines can call this server, since it listens on 0.0.0.0.")
