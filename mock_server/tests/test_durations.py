"""Duration profiles: what is drawn has the percentiles of the data, and the share that a deadline loses is exact."""

import math
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seedbed_mock import ManualClock, MockServer, ServerOptions, SettingsError, create_app
from seedbed_mock.cli import main
from seedbed_mock.durations import (
    LONGEST,
    DurationDistribution,
    DurationProfile,
    describe_loss,
    duration_profiles,
    parse_duration,
    percentage,
)
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of

QUALITIES = [(name, quality) for name, profile in duration_profiles().items() for quality in profile.quality]
SOURCE = Random(7)  # noqa: S311 (draws durations)
GOOD: dict[str, Any] = example_of(default_contract().part("request"))


def distribution(**content: Any) -> DurationDistribution:
    return msgspec.convert({"source": "test", **content}, DurationDistribution)


@pytest.mark.parametrize(("name", "quality"), QUALITIES)
def test_draws_have_the_percentiles_of_the_profile(name: str, quality: str) -> None:
    each = duration_profiles()[name].distribution(quality)
    draws = [each.draw(SOURCE) for _ in range(4000)]
    for share in (0.1, 0.5, 0.9, 0.99):
        seconds = each.percentile(share)
        found = sum(draw <= seconds for draw in draws) / len(draws)
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / len(draws))
        assert math.isclose(1 - each.share_beyond(seconds), share, abs_tol=1e-6)


@pytest.mark.parametrize(("name", "quality"), QUALITIES)
def test_the_figures_are_percentiles_and_have_a_source(name: str, quality: str) -> None:
    each = duration_profiles()[name].distribution(quality)
    assert each.source
    if each.tail is None:
        assert math.isclose(each.share_beyond(each.last), 0.01, rel_tol=1e-6)
        assert math.isclose(each.share_beyond(each.first), 0.99, rel_tol=1e-6)
    else:
        assert each.share_beyond(each.last) > each.tail.share / 2


def test_the_observed_durations_are_those_of_recorded_traffic() -> None:
    each = duration_profiles()["observed"].distribution("basic")
    assert [each.percentile(share) for share in (0.01, 0.99)] == pytest.approx([10, 180])


@given(st.floats(0.1, 1000), st.floats(1, 100), st.floats(0.01, 0.5), st.floats(0, LONGEST), st.floats(0, LONGEST))
def test_a_longer_deadline_never_loses_more(first: float, ratio: float, share: float, one: float, two: float) -> None:
    last = min(first * ratio, LONGEST)
    each = distribution(**{"from": first, "to": last, "tail": {"share": share, "from": last, "to": LONGEST}})
    shares = [each.share_beyond(seconds) for seconds in sorted((one, two))]
    assert 1 >= shares[0] >= shares[1] >= 0


@given(st.floats(0.1, 1000), st.floats(0, 2000))
def test_a_fixed_duration_is_lost_whole_or_not_at_all(seconds: float, deadline: float) -> None:
    if abs(seconds - deadline) > 1e-3:
        assert distribution(**{"from": seconds, "to": seconds}).share_beyond(deadline) == float(deadline < seconds)


def test_the_shares_that_a_deadline_loses_have_names() -> None:
    shares = duration_profiles()["observed"].share_lost(240)
    assert shares.keys() == {"basic", "high"}
    assert shares["basic"] < shares["high"]
    sentence = describe_loss(240, shares.items())
    assert sentence == "a deadline of 240 s loses 0.26 % of basic images and 1.8 % of high images"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-9, "less than 0.01 %"), (0.0123, "1.2 %"), (0.5, "50 %"), (0.996, "99.6 %"), (1, "100 %")],
)
def test_a_share_is_never_rounded_to_nothing(share: float, text: str) -> None:
    assert percentage(share) == text


def test_no_draw_is_longer_than_a_day() -> None:
    each = distribution(**{"from": LONGEST / 2, "to": LONGEST})
    assert max(each.draw(SOURCE) for _ in range(2000)) == LONGEST
    assert each.share_beyond(LONGEST) == 0


@pytest.mark.parametrize("text", ["observd", "fast ", "Observed", "1...2", "", "é"])
def test_an_unknown_duration_names_the_profiles(text: str) -> None:
    with pytest.raises(SettingsError, match=r"use SECONDS.* duration profile: fast, observed, slow-day\."):
        ServerOptions(task_seconds=text).check()


@pytest.mark.parametrize("seconds", ["3", "1..9", 5, 0.25, "fast", "observed", "slow-day"])
def test_durations_that_an_option_takes(seconds: str | float) -> None:
    ServerOptions(task_seconds=seconds).check()
    assert isinstance(parse_duration(str(seconds)), DurationProfile) is (str(seconds) in duration_profiles())


def durations(server: MockServer, number: int, quality: str, **options: Any) -> list[float]:
    server.play(clock=ManualClock(), rate_limit="off", credits=10**6, **options)
    seconds = []
    app = server._app
    for _ in range(number):
        body = msgspec.json.encode({**GOOD, "input": {**GOOD["input"], "quality": quality}, "callBackUrl": None})
        body = msgspec.json.encode({k: v for k, v in msgspec.json.decode(body).items() if v is not None})
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        status, answer = app.call("POST", default_contract().operation.path, headers, body)
        assert status == 200
        task = server.task(msgspec.json.decode(answer)["data"]["taskId"])
        seconds.append((task["ends"] - task["record"]["createTime"]) / 1000)
    return seconds


def test_the_tasks_of_a_server_take_as_long_as_its_profile_says(seedbed: MockServer) -> None:
    profile = duration_profiles()["observed"]
    medians = {}
    for quality in ("basic", "high"):
        drawn = sorted(durations(seedbed, 60, quality, task_seconds="observed"))
        medians[quality] = drawn[30]
        assert medians[quality] == pytest.approx(profile.distribution(quality).percentile(0.5), rel=0.35)
        assert len(set(drawn)) > 50
    assert durations(seedbed, 5, "high", task_seconds="observed", seed=7) == durations(
        seedbed, 5, "high", task_seconds="observed", seed=7
    )


def test_a_scenario_sets_the_durations(seedbed: MockServer, tmp_path: Path) -> None:
    file = tmp_path / "long.toml"
    file.write_text('description = "Long."\ntask-seconds = "90"\n[[phase]]\nname = "always"\n', encoding="utf-8")
    assert durations(seedbed, 2, "basic", task_seconds=1, scenario=str(file)) == [90, 90]
    file.write_text(file.read_text().replace('"90"', '"slow-day"'), encoding="utf-8")
    assert min(durations(seedbed, 20, "basic", task_seconds=1, scenario=str(file))) > 10


def test_a_scenario_with_invalid_durations_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('description = "Wrong."\ntask-seconds = "soon"\n[[phase]]\nname = "always"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"wrong\.toml: Invalid time 'soon'; use SECONDS"):
        create_app(scenario=str(file))


def test_the_command_shows_what_a_deadline_loses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["durations", "--deadline", "240"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[-1] == "Lost after 240 s"
    assert len(lines) == 1 + len(QUALITIES)
    (row,) = (line for line in lines if line.startswith("observed") and "high" in line)
    assert row.endswith("1.8 %")
    for deadline in ("0", "-1", "nan", "inf"):
        assert main(["durations", "--deadline", deadline]) == 2
        assert "invalid deadline" in capsys.readouterr().err
