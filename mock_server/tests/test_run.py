"""``seedbed run``: what becomes of the program, its signals, what it leaves behind, and the files of the run."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from seedbed_mock.cli import main
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of

SECONDS = 30
COMMAND = [sys.executable, "-c", "import sys; from seedbed_mock.__main__ import command; sys.exit(command())", "run"]
CREATE = default_contract().operation.path
BODY = json.dumps(example_of(default_contract().part("request")))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups are those of POSIX")


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for temporary files, and let programs use it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@dataclass(frozen=True)
class Result:
    """What a run printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture(name="run")
def make_run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Return a function that runs a program, without a process for the command itself."""

    def run(*arguments: str) -> Result:
        code = main(["run", "--", *arguments])
        shown = capfd.readouterr()
        return Result(code, shown.out, shown.err)

    return run


@contextlib.contextmanager
def started(script: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a run of a Python script, and wait for the line that the script prints first."""
    command = [*COMMAND, "--", sys.executable, "-u", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def is_running(process: int) -> bool:
    with contextlib.suppress(OSError):
        # A zombie runs no more, but nobody may have taken its exit code yet.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(process: int) -> None:
    end = time.monotonic() + SECONDS
    while is_running(process):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_calls_of_an_unchanged_program_are_summed_up(run: Callable[..., Result], folder: Path) -> None:
    url = f"https://{job_api().server.removeprefix('https://')}{CREATE}"
    result = run("curl", "-sS", url, "-H", f"Authorization: Bearer {local.KEY}", "--json", BODY)
    assert json.loads(result.out)["code"] == 200
    assert result.code == 0
    assert re.search(r"^seedbed run: https://api\.kie\.ai is the mock server on http://127\.0\.0\.1:\d+", result.err)
    assert result.err.endswith(
        "seedbed run: 1 call, 1 task. At the real service: 6.5 credits: 1 image; "
        "6.5 credits for results nobody fetched.\n"
    )
    assert list(folder.glob("seedbed-run-*")) == []


def test_a_run_without_calls_and_a_wrong_key_are_explained(run: Callable[..., Result]) -> None:
    assert "No call arrived" in run("true").err
    url = f"{job_api().server}{job_api().credit.path}"
    assert "pass the key of the program with --key" in run("curl", "-sS", url, "-H", "Authorization: Bearer x").err


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_exit_code_is_that_of_the_program(run: Callable[..., Result], script: str, code: int) -> None:
    assert run("sh", "-c", script).code == code


def test_a_command_that_cannot_be_run_gets_one_sentence(run: Callable[..., Result], folder: Path) -> None:
    script = folder / "script"
    script.write_text("nothing", encoding="utf-8")
    cases = {(): 2, ("no-such-program",): 127, (str(script),): 126, (str(folder),): 126}
    for command, code in cases.items():
        result = run(*command)
        assert result.code == code
        assert result.err.startswith("seedbed run: ")
        assert result.err.count("\n") == 2
    # The system refuses this one only when it starts.
    script.chmod(0o755)
    script.write_bytes(b"\x00\x01")
    assert run(str(script)).code == 126


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--intercept", "https://x"), "Invalid host https://x to intercept"),
        (("--intercept", ""), "Invalid host"),
        (("--intercept", "a b"), "Invalid host"),
        (("--intercept", "a:99999"), "Invalid host"),
        (("--egress", "maybe"), "egress"),
        (("--tls-cert", "x"), "belong together; pass --tls-key"),
        (("--tls-cert", "x", "--tls-key", "y"), "omit --tls-cert"),
        (("--contract", "missing.json"), "missing.json"),
        (("--host", "256.256.256.256"), "cannot listen"),
        (("--port", "-1"), "port"),
        (("--bogus",), "Unknown option"),
    ],
    ids=" ".join,
)
def test_invalid_options_are_refused_before_the_program_starts(
    options: tuple[str, ...], sentence: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *options, "--", "echo", "started"]) in (1, 2)
    shown = capfd.readouterr()
    assert sentence in shown.err
    assert shown.err.count("\n") == 2
    assert shown.out == ""
    assert list(folder.glob("seedbed-run-*")) == []


def test_the_program_gets_its_arguments_as_they_are(run: Callable[..., Result]) -> None:
    arguments = ["--", "--port", "1", "-x", "", "a b", "*"]
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    assert json.loads(run(sys.executable, "-c", script, *arguments).out) == arguments


# Signals


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGINT, signal.SIGUSR1))],
    ids=str,
)
def test_signals_reach_the_program(number: signal.Signals, folder: Path) -> None:
    script = f"""
import signal, sys
signal.signal({int(number)}, lambda *_: sys.exit(42))
print("ready")
signal.pause()
"""
    with started(script) as process:
        process.send_signal(number)
        assert process.wait(SECONDS) == 42
    assert list(folder.glob("seedbed-run-*")) == []


@pytest.mark.slow
def test_a_program_that_ends_by_a_signal_is_reported_as_such() -> None:
    with started("import signal; print('ready'); signal.pause()") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_program_that_ignores_a_signal_is_killed_by_the_second(folder: Path) -> None:
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready')\nwhile True: signal.pause()"
    with started(script) as process:
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        # Several, since two at once can arrive as one.
        while is_running(int(child)):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.wait(SECONDS) == 128 + signal.SIGKILL
    assert list(folder.glob("seedbed-run-*")) == []


def test_a_program_that_ignores_a_signal_is_killed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed_mock.run._GRACE_SECONDS", 0.2)
    script = (
        "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getppid(), signal.SIGTERM)\n"
        "while True: signal.pause()"
    )
    assert main(["run", "--", sys.executable, "-c", script]) == 128 + signal.SIGKILL


@pytest.mark.parametrize("trap", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["", "deaf"])
def test_processes_that_the_program_leaves_behind_are_ended(
    trap: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("seedbed_mock.run._LEFTOVER_SECONDS", 0.2)
    script = f"""
import os, time
{trap}
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
"""
    assert main(["run", "--", sys.executable, "-c", script]) == 0
    wait_until_gone(int(capfd.readouterr().out))


@pytest.mark.slow
def test_a_signal_reaches_what_the_program_started() -> None:
    with started(
        "import os, time\nos.fork()\nif os.getpid() == os.getpgrp(): print('ready')\ntime.sleep(600)"
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)
    for child in children:
        wait_until_gone(int(child))


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_the_program_once() -> None:
    script = """
import signal, time
count = []
signal.signal(signal.SIGINT, lambda *_: count.append(1))
print("ready", flush=True)
while not count: time.sleep(0.01)
time.sleep(0.3)
print("interrupted", len(count), "input", input(), flush=True)
"""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(COMMAND[0], [*COMMAND, "--", sys.executable, "-c", script])  # noqa: S606 (a terminal needs a child)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal of a program that has ended
        while chunk := os.read(terminal, 1024):
            shown += chunk
            if shown.endswith(b"ready\r\n"):
                os.write(terminal, b"\x03")
            if b"^C" in shown and b"typed" not in shown:
                os.write(terminal, b"typed\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    os.close(terminal)
    assert b"interrupted 1 input typed" in shown


@pytest.mark.slow
def test_a_child_in_a_terminal_leaves_nothing_behind() -> None:
    script = (
        "import os, time\nif os.fork() == 0: print('child', os.getpid(), flush=True); time.sleep(600)\ntime.sleep(0.3)"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(COMMAND[0], [*COMMAND, "--", sys.executable, "-c", script])  # noqa: S606 (as above)
    shown = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 1024):
            shown += chunk
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    os.close(terminal)
    found = re.search(rb"child (\d+)", shown)
    assert found
    wait_until_gone(int(found[1]))


# What a killed run leaves behind


def test_the_files_of_a_killed_run_are_removed_by_the_next(run: Callable[..., Result], folder: Path) -> None:
    with started("import time; print('ready'); time.sleep(600)") as process:
        (left,) = folder.glob("seedbed-run-*")
        names = sorted(path.name for path in left.iterdir())
        assert names == ["bundle.pem", "ca.pem", "lock"], "the key of the CA is written nowhere"
        assert left.stat().st_mode & 0o777 == 0o700
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        # A run that goes on keeps its files.
        assert run("true").code == 0
        assert left.exists()
        process.kill()
        process.wait()
        os.kill(int(child), signal.SIGKILL)
    assert left.exists()
    # Another process may have the number of the killed one by now; only the lock counts.
    (left / "pid").write_text(str(os.getpid()), encoding="utf-8")
    assert run("true").code == 0
    assert not left.exists()


@pytest.mark.parametrize("kind", ["link", "file", "foreign"])
def test_what_only_looks_like_the_folder_of_a_run_is_left_alone(
    run: Callable[..., Result], folder: Path, kind: str
) -> None:
    other, found = folder / "other", folder / "seedbed-run-x"
    other.mkdir()
    (other / "lock").touch()
    if kind == "link":
        found.symlink_to(other)
    elif kind == "file":
        found.touch()
    else:
        found.mkdir()  # without a lock, as a run that is just starting
    assert run("true").code == 0
    assert found.exists()
    assert (other / "lock").exists()


# The environment


def test_the_hooks_leave_a_program_as_it_is(
    run: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = folder / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import sys; sys.own = True", encoding="utf-8")
    script = """
import sys, json, sitecustomize
print(json.dumps([getattr(sys, "own", None), sitecustomize.__file__, [p for p in sys.path if "interception" in p]]))
"""
    monkeypatch.setenv("PYTHONPATH", str(own), prepend=os.pathsep)
    result = run(sys.executable, "-c", script)
    assert json.loads(result.out) == [True, str(own / "sitecustomize.py"), []], result.err
    (own / "sitecustomize.py").unlink()
    for option in ("-I", "-E", "-S"):
        assert run(sys.executable, option, "-c", "print('well')").out == "well\n"
    (own / "sitecustomize.py").write_text("import missing_module", encoding="utf-8")
    plain = subprocess.run([sys.executable, "-c", "pass"], capture_output=True, text=True, check=True)
    hooked = run(sys.executable, "-c", "pass")
    assert hooked.code == 0
    assert "missing_module" in plain.stderr
    assert "missing_module" in hooked.err


def test_a_broken_setting_breaks_no_program() -> None:
    hook = Path(main.__code__.co_filename).parent / "interception/hooks/python"
    for setting in ("{}", ""):
        environment = os.environ | {"PYTHONPATH": str(hook), "SEEDBED_HOOK": setting or "{}"}
        result = subprocess.run(
            [sys.executable, "-c", "import socket; print('well')"], env=environment, capture_output=True, check=True
        )
        assert (result.stdout, result.stderr) == (b"well\n", b"")


LOOK_UP = "lookup: (host, options, done) => done(null, options.all ? [{address: '8.8.8.8', family: 4}] : '8.8.8.8', 4)"
DENIED = {
    "address": "import socket; socket.create_connection(('8.8.8.8', 53))",
    "connect_ex": "import socket, os; print(os.strerror(socket.socket().connect_ex(('8.8.8.8', 53))))",
    "asyncio": "import asyncio; asyncio.run(asyncio.open_connection('2001:4860:4860::8888', 53))",
    "Node address": "require('net').connect(80, '8.8.8.8')",
    "Node options": "require('net').connect({port: 80, host: '8.8.8.8'})",
    "Node name": f"require('net').connect({{port: 80, host: 'x.test', {LOOK_UP}}})",
    "Node fetch": "fetch('http://8.8.8.8/').catch((error) => { throw error.cause })",
}


@pytest.mark.slow
@pytest.mark.parametrize("way", DENIED)
def test_programs_that_ignore_proxies_reach_nothing_else_with_egress_deny(
    way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    is_node = way.startswith("Node")
    if is_node and shutil.which("node") is None:
        pytest.skip("needs node")
    program = ["node", "-e"] if is_node else [sys.executable, "-c"]
    main(["run", "--egress", "deny", "--", *program, DENIED[way]])
    shown = capfd.readouterr()
    # From version 22 on, the fetch of Node asks the proxy, which refuses as well.
    assert "--egress deny" in shown.err or shown.out == "Connection refused\n", shown


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_lines_of_a_run_are_sentences_at_any_width(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = run("true").err
    assert all(line.startswith("seedbed run: ") and line.endswith(".") for line in shown.splitlines())


def test_environment_formats(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setenv("NO_PROXY", "db.internal, *, kie.ai,.ai,API.kie.ai,localhost")
    monkeypatch.setenv("SSL_CERT_DIR", str(folder / "a b$c"))
    monkeypatch.setenv("NODE_OPTIONS", "--no-warnings")
    monkeypatch.delenv("no_proxy", raising=False)
    shown = {}
    for form in ("shell", "compose", "github", "json"):
        assert main(["env", "--url", "https://localhost:9", "--intercept", "x.test", "--format", form]) == 0
        shown[form] = capsys.readouterr().out
    variables = json.loads(shown["json"])
    assert variables["NO_PROXY"] == "localhost,127.0.0.1,::1,db.internal"
    assert variables["HTTPS_PROXY"] == variables["https_proxy"] == "http://localhost:9"
    assert variables["NODE_OPTIONS"].startswith("--no-warnings --require ")
    assert "x.test" in variables["SEEDBED_HOOK"]
    printed = subprocess.run(
        ["sh", "-c", f"{shown['shell']}\nenv"], capture_output=True, text=True, check=True, env={"SSL_CERT_DIR": "x"}
    ).stdout
    assert {f"{name}={value}" for name, value in variables.items()} <= set(printed.splitlines())
    assert "SSL_CERT_DIR" not in printed
    assert set(shown["github"].splitlines()) == {f"{name}={value}" for name, value in variables.items()} | {
        "SSL_CERT_DIR="
    }
    assert shown["compose"].startswith("environment:\n  SSL_CERT_FILE: ")
    assert "PROXY" not in shown["compose"]
    # What was printed before does not pile up.
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["env", "--url", "https://localhost:9", "--intercept", "x.test", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == variables
