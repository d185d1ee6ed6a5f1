"""Scenarios: phases by time and by calls, files that change, and the shipped scenarios."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_mock import MockServer, SettingsError, running
from seedbed_mock.cli import main
from seedbed_mock.faults import scenarios as scenarios_module
from seedbed_mock.faults.scenarios import load_scenario, scenario_path, shipped_scenarios
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
CREATE, CREDIT = CONTRACT.operation.path, SHARED.credit.path
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
SHIPPED = [
    "broke",
    "callback-chaos",
    "double-charge",
    "flaky-network",
    "maintenance",
    "moderation",
    "slow-day",
    "storm",
]
WORDS: dict[str, Any] = {"clock": "manual", "rate_limit": "off", "credits": 10**6, "key": "k"}

TIMED = """
description = "Timed."
[[phase]]
name = "before"
seconds = 10
[[phase]]
name = "bad"
seconds = 5
rules = ["429"]
[[phase]]
name = "worse"
seconds = 5
rules = ["455; times=1", "500"]
"""
COUNTED = """
description = "Counted."
repeat = true
[[phase]]
name = "good"
calls = 2
[[phase]]
name = "bad"
calls = 1
rules = ["429"]
"""
OTHER = """
description = "Other."
[[phase]]
name = "all"
rules = ["402"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with running(**WORDS) as server:
        yield server


def call_credit(
    server: MockServer, http: httpx2.Client, method: str = "GET", path: str = CREDIT, **options: Any
) -> int:
    headers = {"Authorization": "Bearer k"}
    code: int = http.request(method, server.url + path, headers=headers, **options).json()["code"]
    return code


def write_scenario(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def rewrite_scenario(path: Path, text: str, number: int) -> None:
    """Write a file with another modification time, however coarse the times of the file system are."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (number, number))


@pytest.fixture(name="at_once")
def check_the_file_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios_module, "_RELOAD_SECONDS", 0)


def scenario(server: MockServer) -> dict[str, Any]:
    shown: dict[str, Any] = server.control("GET", "faults")["scenario"]
    return shown


def test_phases_follow_one_another_by_the_clock(server: MockServer, http: httpx2.Client, tmp_path: Path) -> None:
    server.play(**WORDS, scenario=write_scenario(tmp_path, TIMED))
    seen = []
    for seconds in (9.9, 0.1, 4.9, 0.1, 0, 4.9, 0.1):
        seen.append((scenario(server)["phase"], call_credit(server, http)))
        server.advance(seconds)
    assert seen == [
        ("before", 200),
        ("before", 200),
        ("bad", 429),
        ("bad", 429),
        ("worse", 455),
        ("worse", 500),
        ("worse", 500),
    ]
    assert (scenario(server)["phase"], call_credit(server, http)) == (None, 200)


def test_phases_by_calls_repeat(server: MockServer, http: httpx2.Client, tmp_path: Path) -> None:
    server.play(**WORDS, scenario=write_scenario(tmp_path, COUNTED))
    assert [call_credit(server, http) for _ in range(7)] == [200, 200, 429, 200, 200, 429, 200]
    (fault,) = server.control("GET", "faults")["faults"]
    assert (fault["source"], fault["on"], fault["seen"], fault["hits"]) == ("scenario", False, 2, 2)


def test_a_reset_restarts_the_scenario(server: MockServer, http: httpx2.Client, tmp_path: Path) -> None:
    server.play(**WORDS, scenario=write_scenario(tmp_path, TIMED))
    server.advance(12)
    assert call_credit(server, http) == 429
    server.reset(space="elsewhere")
    assert call_credit(server, http) == 429
    server.reset()
    assert call_credit(server, http) == 200
    server.advance(10)
    assert call_credit(server, http) == 429


def test_added_rules_precede_those_of_the_scenario(server: MockServer, http: httpx2.Client, tmp_path: Path) -> None:
    server.play(**WORDS, scenario=write_scenario(tmp_path, OTHER))
    server.add_faults("429")
    assert call_credit(server, http) == 429
    server.clear_faults()
    assert call_credit(server, http) == 402


@pytest.mark.usefixtures("at_once")
def test_a_changed_file_is_reloaded_and_starts_from_the_beginning(
    server: MockServer, http: httpx2.Client, tmp_path: Path
) -> None:
    path = write_scenario(tmp_path, TIMED)
    server.play(**WORDS, scenario=path)
    assert call_credit(server, http) == 200
    rewrite_scenario(path, OTHER, 1)
    assert call_credit(server, http) == 402
    assert scenario(server) == {"name": "mine", "description": "Other.", "phase": "all", "problem": None}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("text", ["phase = 1", OTHER.replace("402", "boom"), OTHER.replace("402", "200"), "\x00", None])
def test_an_invalid_new_version_is_reported_and_the_old_one_stays_active(
    server: MockServer, http: httpx2.Client, tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str | None
) -> None:
    path = write_scenario(tmp_path, OTHER)
    server.play(**WORDS, scenario=path)
    if text is None:
        path.unlink()
    else:
        rewrite_scenario(path, text, 1)
    assert [call_credit(server, http), call_credit(server, http)] == [402, 402]
    printed = capfd.readouterr().err.splitlines()
    assert len(printed) == 2
    assert re.fullmatch("docs: (commands|troubleshooting#[a-z-]+)", printed[1])
    assert scenario(server)["problem"] in printed[0]
    rewrite_scenario(path, OTHER.replace("402", "455"), 2)
    assert call_credit(server, http) == 455
    assert scenario(server)["problem"] is None


def test_the_file_is_not_checked_at_every_call(
    server: MockServer, http: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios_module, "_RELOAD_SECONDS", 3600)
    path = write_scenario(tmp_path, TIMED)
    server.play(**WORDS, scenario=path)
    rewrite_scenario(path, OTHER, 1)
    assert call_credit(server, http) == 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "description"),
        ("description = 1", "str"),
        ("[[phase", "not valid TOML"),
        ("a = " + "[" * 100_000, "not valid TOML"),
        ('description = "x"\nphase = []', "phase"),
        ('description = "x"\n[[phase]]\nname = "a"\nseconds = 1\ncalls = 1', "either seconds or calls"),
        ('description = "x"\n[[phase]]\nname = "a"\n[[phase]]\nname = "b"', "The phase a must have"),
        ('description = "x"\nrepeat = true\n[[phase]]\nname = "a"', "The phase a must have"),
        (
            'description = "x"\n[[phase]]\nname = "a"\nseconds = 1\n[[phase]]\nname = "b"\ncalls = 1',
            "like the first",
        ),
        ('description = "x"\n[[phase]]\nname = "a"\nseconds = nan', "seconds"),
        ('description = "x"\n[[phase]]\nname = "a"\nseconds = 0', "seconds"),
        ('description = "x"\n[[phase]]\nname = "a"\ncolour = 0', "colour"),
        ('description = "x"\n[[phase]]\nname = "a"\nrules = ["boom"]', 'unknown effect "boom"'),
        ('description = "x"\n[[phase]]\nname = "a"\nrules = ["200"]', "200 is the code of a success"),
        (f'description = "{"x" * 2_000_000}"', "larger"),
    ],
)
def test_an_invalid_scenario_is_refused_at_the_start_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    path = write_scenario(tmp_path, text)
    assert main(["serve", "--port", "0", "--scenario", str(path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert str(path) in error
    assert re.search(r"\.\ndocs: [a-z#-]+\n$", error)
    assert error.count("\n") == 2


@pytest.mark.parametrize("name", ["nowhere.toml", "stormy", ".", "/dev/null/x", "a\x00b"])
def test_a_path_without_a_file_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"\.\Z"), running(scenario=name):
        pass


def test_an_unknown_name_is_refused_with_the_names_of_the_shipped_scenarios() -> None:
    with pytest.raises(SettingsError, match="callback-chaos"), running(scenario="stormy"):
        pass


def test_the_shipped_scenarios_have_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    assert shipped_scenarios() == SHIPPED
    assert main(["faults", "scenarios"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == SHIPPED
    assert all(re.search(r"  [A-Z].*\.$", line) for line in lines)


def codes(server: MockServer, http: httpx2.Client, count: int) -> list[int | str]:
    return [outcome(server, http) for _ in range(count)]


def outcome(server: MockServer, http: httpx2.Client) -> int | str:
    try:
        response = http.post(server.url + CREATE, json=GOOD, headers={"Authorization": "Bearer k"})
    except httpx2.HTTPError as error:
        return type(error).__name__
    code: int | str = response.json()["code"] if "json" in response.headers["content-type"] else response.status_code
    return code


def test_the_storm_comes_in_bursts(server: MockServer, http: httpx2.Client) -> None:
    server.play(**WORDS, scenario="storm")
    for _ in range(2):
        assert set(codes(server, http, 20)) == {200}
        server.advance(20)
        assert 10 <= codes(server, http, 20).count(429) < 20
        server.advance(10)


def test_maintenance_is_announced_and_ends(server: MockServer, http: httpx2.Client) -> None:
    server.play(**WORDS, scenario="maintenance")
    seen = []
    for _ in range(3):
        seen.append(set(codes(server, http, 20)))
        server.advance(15)
    assert seen == [{200}, {455}, {502, 503}]
    server.advance(15)
    assert set(codes(server, http, 5)) == {200}


def test_credits_run_out_after_twenty_calls(server: MockServer, http: httpx2.Client) -> None:
    server.play(**WORDS, scenario="broke")
    assert set(codes(server, http, 20)) == {200}
    assert set(codes(server, http, 40)) == {200, 402, 500}


def test_a_double_charge_costs_more_than_the_successful_calls(server: MockServer, http: httpx2.Client) -> None:
    server.play(**WORDS, scenario="double-charge")
    seen = Counter(codes(server, http, 60))
    assert seen.keys() == {200, 500, "ReadError"}
    balance = http.get(server.url + CREDIT, headers={"Authorization": "Bearer k"}).json()["data"]
    assert 10**6 - balance == 60 * 6.5


def test_moderation_depends_on_words_in_the_prompt(server: MockServer, http: httpx2.Client) -> None:
    server.play(**WORDS, scenario="moderation", task_seconds=0)
    body = {**GOOD, SHARED.fields.input: {**GOOD[SHARED.fields.input], "prompt": "Blood on snow"}}
    response = http.post(server.url + CREATE, json=body, headers={"Authorization": "Bearer k"}).json()
    query = {"taskId": response["data"]["taskId"]}
    record = http.get(server.url + SHARED.record_info.path, params=query, headers={"Authorization": "Bearer k"}).json()
    assert (record["data"]["state"], record["data"]["failCode"]) == (SHARED.states.failure, "422")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scenario_can_be_played(server: MockServer, http: httpx2.Client, name: str) -> None:
    assert load_scenario(scenario_path(name)).description
    words: dict[str, Any] = {**WORDS, "clock": "real", "speed": 100_000, "scenario": name}
    server.play(**words)
    seen = Counter(codes(server, http, 40))
    assert sum(seen.values()) == 40
    assert scenario(server)["name"] == name
    assert list(server.errors) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_the_same_seed_and_calls_give_the_same_faults(server: MockServer, http: httpx2.Client, name: str) -> None:
    def played() -> list[str]:
        server.play(**WORDS, seed=7, scenario=name)
        for _ in range(30):
            call_with_short_timeout(server, http)
            server.advance(2)
        return [re.sub(r"rule \d+", "rule", call["fault"]) for call in server.calls]

    assert played() == played()


def call_with_short_timeout(server: MockServer, http: httpx2.Client) -> None:
    try:
        http.post(server.url + CREATE, json=GOOD, headers={"Authorization": "Bearer k"}, timeout=0.05)
    except httpx2.HTTPError:
        return


# From the command line.


def test_the_command_adds_lists_and_clears(server: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.play(**WORDS, scenario="storm")
    assert main(["faults", "add", "429; p=0.2", "wire.reset; times=3", "--url", server.url, "--space", "a"]) == 0
    assert main(["faults", "list", "--url", server.url]) == 0
    lines = capsys.readouterr().out.splitlines()[-6:]
    assert lines[0] == "The scenario storm is in the phase calm."
    assert lines[1].split() == ["No.", "Rule", "Source", "Space", "On", "Seen", "Hits"]
    assert re.fullmatch(r"\d+ +429; p=0.2 +control +a +yes +0 +0", lines[2])
    number = lines[2].split()[0]
    assert main(["faults", "clear", number, "--url", server.url]) == 0
    assert "429; p=0.2" not in capsys.readouterr().out
    assert main(["faults", "clear", "--url", server.url]) == 0
    assert "wire.reset" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["add", "429", "boom"], 2, 'Unknown effect "boom"'),
        (["add", "200"], 2, "200 is the code of a success"),
        (["add", ""], 2, "must start with"),
        (["add"], 2, "give at least one rule"),
        (["list", "--space", "a b"], 2, "space"),
        (["clear", "99"], 1, "Rule 99 is not an added rule"),
        (["clear", "x"], 2, "NUMBER"),
        (["list", "--url", "http://127.0.0.1:1"], 5, "cannot connect to http://127.0.0.1:1"),
        (["list", "--url", "http://127.0.0.1:99999"], 2, "pass --url"),
        (["list", "--url", ""], 2, "--url"),
        (["list", "--url", "ftp://[oops"], 2, "--url"),
    ],
)
def test_the_command_reports_an_error_in_one_sentence(
    server: MockServer, capsys: pytest.CaptureFixture[str], words: list[str], code: int, sentence: str
) -> None:
    server.play(**WORDS)
    url = [] if "--url" in words else ["--url", server.url]
    assert main(["faults", *words, *url]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert printed.err.count("\n") == 2


def test_the_command_calls_the_server_of_the_environment(
    server: MockServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.play(**WORDS)
    monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
    assert main(["faults", "add", "429; p=0.2"]) == 0
    assert main(["faults", "list"]) == 0
    assert capsys.readouterr().out.count("429; p=0.2") == 2
    assert main(["faults", "list", "--url", "http://127.0.0.1:1"]) == 5
    assert main(["faults", "clear"]) == 0
    monkeypatch.setenv("SEEDBED_BASE_URL", default_contract().operation.server)
    assert main(["faults", "add", "429"]) == 2
    assert "is the paid service" in capsys.readouterr().err


def test_the_command_sends_the_token(server: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.play(**WORDS, control_token="t")  # noqa: S106 (guards nothing but this test)
    assert main(["faults", "list", "--url", server.url]) == 1
    assert "token" in capsys.readouterr().err
    assert main(["faults", "list", "--url", server.url, "--control-token", "t"]) == 0
    assert capsys.readouterr().out == "No active rules.\n"


def test_serve_has_the_flag() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "seedbed_mock", "--port", "0", "--scenario", "stormy"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 2
    assert "the built-in scenarios are" in result.stderr
