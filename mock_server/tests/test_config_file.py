"""The file of ``--config``: its options, the precedence of the command line, and mistakes in the file."""

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
import seedbed_mock
from jsonschema import Draft202012Validator
from seedbed_mock import Rate, ServerOptions, Span
from seedbed_mock.cli import main, make_app
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


MISTAKES: list[tuple[str | bytes, str]] = [
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
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
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


# The JSON Schema of the file

SCHEMA_TEXT = (Path(seedbed_mock.__file__).parent / "seedbed.schema.json").read_text(encoding="utf-8")
SCHEMA = Draft202012Validator(json.loads(SCHEMA_TEXT))
PROPERTIES: dict[str, dict[str, Any]] = json.loads(SCHEMA_TEXT)["properties"]

BEYOND_A_SCHEMA = {
    # JSON Schema does not tell 8.0 from 8, compares nothing with nan, and has no rule for several options.
    "port = 8.0",
    "seed = 1e3",
    "credits = nan",
    'speed = 2\nclock = "manual"',
    '[[key]]\nname = "k"\n[[key]]\nname = "k"',
}


def test_the_schema_is_the_one_of_the_options() -> None:
    generator = Path(seedbed_mock.__file__).parents[1] / "generate_config_schema.py"
    result = subprocess.run([sys.executable, str(generator), "--check"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_schema_has_each_option_with_its_default() -> None:
    options = {
        argument.name.removeprefix("--"): argument.field_info.default
        for argument in make_app()["serve"].assemble_argument_collection()
        if argument.parse and argument.name.startswith("--")
    }
    assert PROPERTIES.keys() - {"$schema"} == options.keys() - {"config"}
    for name, schema in PROPERTIES.items():
        assert schema["description"]
        assert schema.get("default") == (
            value if isinstance(value := options.get(name), str | int | float) else None
        ) or (value == "")


@pytest.mark.parametrize(
    "text", [text for text, _ in MISTAKES if isinstance(text, str) and text not in BEYOND_A_SCHEMA]
)
def test_an_editor_reports_what_the_server_refuses(text: str) -> None:
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return  # an editor reports it without a schema
    assert not SCHEMA.is_valid(content)


# One line for each option and form of it; the second list is what neither takes.
ACCEPTED = """
"$schema" = "./seedbed.schema.json"
host = "::1"
json = true
port = 65535
public-url = "https://seedbed.test:8443/base"
key = "a:credits=5,signing-key=a b"
key = ["a", {name = "b", credits = "6.5", rate = "1/60", signing-key = " "}, {name = "c", rate = "off"}]
dialect = "observed"
http-status = "mirror"
task-seconds = 0.5
task-seconds = "10..60"
task-seconds = "slow-day"
progress = "polls:3"
progress = "hand"
visible-after = 0
credits = "6.5"
credits = 1000000000
rate-limit = "20/0.5"
rate-limit = "off"
poll-rate-limit = "1/1"
clock = "auto"
speed = 0.001
speed = 1000000
keep-alive = 0.01
max-header-bytes = 1024
max-headers = 10000
sign-with = "clock"
allow-host = ["a.test", "b.test"]
allow-host = "a.test"
tls = false
egress = "deny"
cors = ["*"]
callback-allow = "10.0.0.0/8"
control-token = "t"
seed = -3
scenario = ""
scenario = "storm"
replay-strict = false
mcp = false
accept-empty-callback = true
contract-patch = []
log-format = "json"
log-level = "debug"
open = false
daemon = false
workers = 1
"""
REFUSED = """
port = -1
public-url = "ftp://x"
key = ["a", 5]
dialect = "Observed"
task-seconds = "fast-ish"
task-seconds = "1..."
task-seconds = -1
task-seconds = 31536001
progress = "polls:0"
progress = "polls"
visible-after = -0.1
credits = "6,5"
credits = 1000000001
rate-limit = "0/10"
rate-limit = "20/10s"
poll-rate-limit = "on"
clock = ["real"]
speed = 0.0001
keep-alive = 0
max-header-bytes = 1023
max-headers = 10001
max-pipelined = 0
sign-with = ""
tls = "perhaps"
egress = "maybe"
control-token = "a b"
log-level = "warn"
workers = 65
workers = 0
keep-tasks = 0
tls-cert = ""
Port = 1
log = "text"
"""


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize("text", lines(ACCEPTED))
def test_an_editor_and_the_server_accept_an_option(read_options: ReadOptions, text: str) -> None:
    assert SCHEMA.is_valid(tomllib.loads(text))
    read_options(text, *([] if text.startswith("port") else ["--port", "0"]))


@pytest.mark.parametrize("text", lines(REFUSED))
def test_an_editor_and_the_server_refuse_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    assert not SCHEMA.is_valid(tomllib.loads(text))
    test_a_mistake_in_a_file_exits_2_with_one_sentence(tmp_path, capsys, monkeypatch, text, "")


def test_each_option_has_a_line_of_its_own_or_takes_any_text() -> None:
    named = {name for text in lines(ACCEPTED) for name in tomllib.loads(text)}
    free = {name for name, schema in PROPERTIES.items() if schema.get("type") == "string"}
    numbers = {"header-timeout", "request-timeout", "result-ttl", "replay-speed", "keep-tasks", "max-pipelined"}
    assert PROPERTIES.keys() - named - free - numbers == {"intercept", "contract"}
