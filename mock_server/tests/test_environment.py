"""Options from environment variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from seedbed_mock.cli import main, make_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cyclopts import App

# Ends the command before it listens, after its options are checked.
STOP = ["--db", "/nowhere/x.db", "--port", "0"]


def serve_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, **names: str
) -> str:
    for name, value in names.items():
        monkeypatch.setenv(f"SEEDBED_SERVE_{name}", value)
    assert main(["serve", *arguments, *STOP]) == 2
    return capsys.readouterr().err


def leaf_commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            inner = list(leaf_commands(app[name], (*path, name)))
            yield from inner or [((*path, name), app[name])]


COMMANDS = dict(leaf_commands(make_app()))
MONEY = {"--live", "--max-credits", "--settle", "--spend", "--submit-again"}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_names_the_variable_of_every_option(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main([*path, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    flags = {
        each.names[-1] if each.names[0].isupper() else each.names[0]
        for each in COMMANDS[path].assemble_argument_collection()
        if each.parse and any(name.startswith("--") for name in each.names)
    }
    prefix = "_".join(("SEEDBED", *path)).upper().replace("-", "_")
    wanted = {f"{prefix}_{flag[2:].upper().replace('-', '_')}" for flag in flags - MONEY}
    assert set(re.findall(r"env var: (\w+)", text)) == wanted


def test_a_variable_is_below_the_command_line_and_above_the_config_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "seedbed.toml"
    file.write_text('rate-limit = "file"\npoll-rate-limit = "file"\n', encoding="utf-8")
    config = ["--config", str(file)]
    assert "rate 'file'" in serve_with(monkeypatch, capsys, *config)
    assert "rate 'variable'" in serve_with(monkeypatch, capsys, *config, RATE_LIMIT="variable")
    assert "rate 'flag'" in serve_with(monkeypatch, capsys, *config, "--rate-limit", "flag")
    assert "rate 'file'" in serve_with(monkeypatch, capsys, *config, RATE_LIMIT="20/10")
    assert "/nowhere" in serve_with(monkeypatch, capsys, *config, POLL_RATE_LIMIT="off")


def test_a_variable_names_the_config_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "seedbed.toml"
    file.write_text('rate-limit = "file"\n', encoding="utf-8")
    assert "rate 'file'" in serve_with(monkeypatch, capsys, CONFIG=str(file))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "tcp://10.0.0.1:8721"),
        ("PORT", "70000"),
        ("RATE_LIMIT", "20"),
        ("DIALECT", "klingon"),
        ("ACCEPT_EMPTY_CALLBACK", "maybe"),
        ("KEY", "a a"),
        ("KEY", "name:colour=red"),
        ("CREDITS", "-1"),
        ("ALLOW_HOST", "http://x"),
        ("CORS", "x"),
        ("CONTRACT", "/nowhere.json"),
        ("CONFIG", "/nowhere.toml"),
        ("CONTROL_TOKEN", "a b"),
    ],
)
def test_an_invalid_value_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(f"SEEDBED_SERVE_{name}", value)
    assert main(["serve", *(STOP if name != "PORT" else STOP[:2])]) == 2
    error = capsys.readouterr().err
    # The config file is named by its path.
    assert f"SEEDBED_SERVE_{name}" in error or value in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "name", ["PORT", "KEY", "RATE_LIMIT", "ACCEPT_EMPTY_CALLBACK", "DB", "CONFIG", "CONTRACT", "X"]
)
def test_an_empty_variable_is_not_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert "/nowhere" in serve_with(monkeypatch, capsys, **{name: ""})


def test_several_values_are_separated_by_blanks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = serve_with(monkeypatch, capsys, KEY="one:credits=1,rate=off  two:credits=x")
    assert "credits 'x'" in error


def test_an_unknown_variable_of_a_command_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = serve_with(monkeypatch, capsys, PROT="1")
    assert "SEEDBED_SERVE_PROT sets no option of seedbed serve; did you mean SEEDBED_SERVE_PORT?" in error
    # Other commands do not mind, and Kubernetes sets these for a service that is called so.
    assert main(["faults", "scenarios"]) == 0
    monkeypatch.delenv("SEEDBED_SERVE_PROT")
    names = {"SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "1", "PORT_8721_TCP": "tcp://x", "PORT_8721_TCP_ADDR": "x"}
    assert "/nowhere" in serve_with(monkeypatch, capsys, **names)


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("generate x", "LIVE", "true"),
        ("generate x", "SUBMIT_AGAIN", "1"),
        ("generate x", "SETTLE", "1=x"),
        ("check http://x", "SPEND", "5"),
        ("proxy", "MAX_CREDITS", "5"),
    ],
)
def test_no_variable_costs_money(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, option: str, value: str
) -> None:
    variable = f"SEEDBED_{command.partition(' ')[0].upper()}_{option}"
    monkeypatch.setenv(variable, value)
    assert main(command.split()) == 2
    assert f"{variable} has no effect, because it may cost money" in capsys.readouterr().err


def test_a_variable_sets_an_option_of_another_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEEDBED_ACCOUNTS_TOP_UP_URL", "http://127.0.0.1:1")
    assert main(["accounts", "top-up", "5"]) == 5
    assert "http://127.0.0.1:1" in capsys.readouterr().err
