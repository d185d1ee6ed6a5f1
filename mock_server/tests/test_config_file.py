"""The file of ``--config``: its options, the precedence of the command line, and mistakes in the file."""

import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_mock import Rate, ServerOptions, Span
from seedbed_mock.cli import main
from seedbed_schemas import job_api, local

CREDIT = job_api().credit.path

EVERYTHING = """
port = 0
dialect = "observed"
http-status = "mirror"
task-seconds = "10..60"
progress = "polls:3"
credits = 6.5
rate-limit = "off"
poll-rate-limit = "10/1"
visible-after = 2
clock = "manual"
result-ttl = 60
control-token = "a-token"
seed = 7

[[key]]
name = "one"
credits = 100
rate = "1/60"
signing-key = "a,b=c"

[[key]]
name = "two"
"""

ReadOptions = Callable[..., ServerOptions]


@pytest.fixture
def read_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReadOptions:
    """Return a function that returns the options of a server started with a config file and flags."""
    served: list[Any] = []
    monkeypatch.setattr("seedbed_mock.serve.serve_until_signal", lambda app, *_: served.append(app))

    def start(text: str | bytes, *flags: str) -> ServerOptions:
        path = tmp_path / "seedbed.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert main(["serve", "--config", str(path), *flags]) == 0
        options: ServerOptions = served[-1].state.service.options
        return options

    return start


def test_a_file_sets_options(read_options: ReadOptions) -> None:
    options = read_options(EVERYTHING)
    assert (options.dialect, options.http_status, options.duration) == ("observed", "mirror", Span(10, 60))
    assert (options.opening_balance, options.creation_limit, options.poll_limit) == (Decimal("6.5"), None, Rate(10, 1))
    assert (options.task_progress.polls, options.visible_after, options.result_ttl) == (3, 2, 60)
    assert (options.control_token, options.seed) == ("a-token", 7)
    one, two = options.accounts
    assert (one.key, one.credits, one.rate, one.signing_key) == ("one", Decimal(100), Rate(1, 60), "a,b=c")
    assert (two.key, two.credits, two.rate, two.signing_key) == ("two", None, "default", "")


def test_the_command_line_takes_precedence(read_options: ReadOptions) -> None:
    options = read_options(EVERYTHING, "--dialect", "documented", "--credits", "80", "--key", "three", "--seed", "0")
    assert (options.dialect, options.opening_balance, options.seed) == ("documented", Decimal(80), 0)
    assert [each.key for each in options.accounts] == ["three"]
    assert options.http_status == "mirror"


@pytest.mark.parametrize(
    "secret", ["x,credits=3", "x,rate=off,", ":credits=3", "signing-key=y", "a,signing-key=b", " "]
)
@pytest.mark.parametrize("name", ["k", "k:credits=3", "k:x=y", "k,rate=off", "k:signing-key=s", "k="])
def test_a_key_table_is_taken_literally(read_options: ReadOptions, name: str, secret: str) -> None:
    options = read_options(f'port = 0\n[[key]]\nname = "{name}"\nsigning-key = "{secret}"\n[[key]]\nname = "{name}2"')
    one, two = options.accounts
    assert (one.key, one.credits, one.rate, one.signing_key) == (name, None, "default", secret)
    assert (two.key, two.credits, two.rate, two.signing_key) == (f"{name}2", None, "default", "")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", [local.KEY]),
        ("# nothing\n", [local.KEY]),
        ('key = "a"', ["a"]),
        ('key = ["a", "b:credits=5"]', ["a", "b"]),
        ('key = ["a", {name = "b", credits = 5}]', ["a", "b"]),
    ],
)
def test_all_options_in_a_file_are_optional(read_options: ReadOptions, text: str, keys: list[str]) -> None:
    assert [each.key for each in read_options(text, "--port", "0").accounts] == keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = ", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        ("port = 1\nport = 2", "is not valid TOML"),
        ('config = "other.toml"', "cannot name another config file"),
        ("ports = 1", "ports"),
        ("port = 70000", "65535"),
        ('port = "x"', "port"),
        ("port = [1]", "port"),
        ("port = 8.5", "8.5 is not a whole number"),
        ("port = 8.0", "8.0 is not a whole number"),
        ("keep-tasks = 8.5", "8.5 is not a whole number"),
        ("seed = 1e3", "1000.0 is not a whole number"),
        ('control-token = ""', "1 to 256 visible ASCII"),
        ('db = ""', "Empty path"),
        ('result-dir = ""', "Empty path"),
        ("[port]\nnumber = 1", "port"),
        ('http-status = "teapot"', "teapot"),
        ('dialect = "klingon"', "klingon"),
        ("credits = -1", "credits"),
        ("credits = nan", "credits"),
        ("credits = 1e300", "credits"),
        ("task-seconds = true", "MIN..MAX"),
        ("rate-limit = 20", "N/SECONDS"),
        ('clock = "sundial"', "sundial"),
        ("speed = 0", "speed"),
        ('speed = 2\nclock = "manual"', "not both"),
        ("[[key]]\ncredits = 5", "has no name"),
        ("[[key]]\nname = 5", "has no name"),
        ('[[key]]\nname = "a b"', "visible ASCII"),
        ('[[key]]\nname = ""', "visible ASCII"),
        ('[[key]]\nname = "k"\ncredits = "many"', "number"),
        ('[[key]]\nname = "k"\ncredits = -1', "number"),
        ('[[key]]\nname = "k"\nrate = 20', "N/SECONDS"),
        ('[[key]]\nname = "k"\ncredit = 5', "credits, rate, signing-key"),
        ('[[key]]\nname = "k"\nsigning_key = "SECRET"', "credits, rate, signing-key"),
        ('[[key]]\nname = "k"\nsigning-key = ["SECRET"]', "signing-key"),
        ('[[key]]\nname = "k"\nsigning-key = ""', "with a value"),
        ('[[key]]\nname = "k"\nsigning-key = "SECRET\\ncredits=5"', "line breaks or NUL"),
        ('[[key]]\nname = "k"\nsigning-key = "SECRET\\u0000credits=5"', "line breaks or NUL"),
        ('[[key]]\nname = "k\\u0000credits=5"', "line breaks or NUL"),
        ('[[key]]\nname = "k"\n[[key]]\nname = "k"', "once"),
        ('[key]\nname = "k"', "[[key]]"),
        ("key = 5", "[[key]]"),
        ("key = [5]", "[[key]]"),
        ("key = []", "key"),
        ("[" * 5000, "is not valid TOML"),
        ("a = " + "[" * 5000, "is not valid TOML"),
    ],
)
def test_a_mistake_in_a_file_exits_2_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str | bytes, message: str
) -> None:
    monkeypatch.setattr("seedbed_mock.serve.serve_until_signal", lambda *_: None)
    path = tmp_path / "seedbed.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["serve", "--config", str(path), *([] if b"port" in path.read_bytes() else ["--port", "0"])]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2
    assert message in errors
    assert "SECRET" not in errors


@pytest.mark.parametrize("name", ["nowhere.toml", ".", "x" * 300, "\0"])
def test_an_unreadable_file_exits_2_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["serve", "--config", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_server_uses_its_config_file(tmp_path: Path) -> None:
    path = tmp_path / "seedbed.toml"
    path.write_text(EVERYTHING)
    command = [sys.executable, "-m", "seedbed_mock", "--config", str(path), "--credits", "42"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip().rpartition(" ")[2]
            balances = [
                httpx2.get(url + CREDIT, headers={"Authorization": f"Bearer {key}"}, trust_env=False).json()["data"]
                for key in ("one", "two")
            ]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    assert balances == [100, 42]
