"""A run against any server ends within its time limit, with findings or with one message."""

import time

import pytest
from seedbed_mock.cli import main
from tests.hostile_targets import (
    Behaviour,
    ClosesSometimes,
    does_not_speak_http,
    hangs,
    never_ends_its_response,
    redirects,
    returns_html,
    sends_a_gigabyte,
    target,
)

LIMIT = 8.0


@pytest.mark.parametrize(
    ("behaviour", "codes"),
    [
        (hangs, {2}),
        (does_not_speak_http, {2}),
        # Reading so much takes all of a core, so the time that it takes means something on an idle machine only.
        pytest.param(sends_a_gigabyte, {1, 2}, marks=pytest.mark.exhaustive),
        pytest.param(never_ends_its_response, {2}, marks=pytest.mark.slow),
        (ClosesSometimes(), {1}),
        (redirects, {2}),
        (returns_html, {2}),
    ],
)
def test_a_run_against_another_kind_of_server_ends_in_time_without_a_traceback(
    behaviour: Behaviour, codes: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with target(behaviour) as url:
        started = time.monotonic()
        code = main(["check", url, "--time-limit", str(LIMIT), "--quiet"])
        seconds = time.monotonic() - started
    printed = capsys.readouterr()
    assert code in codes
    assert "Traceback" not in printed.out + printed.err
    assert seconds < LIMIT + 5
    assert (printed.err.count("\n"), printed.out == "") == ((2, True) if code == 2 else (0, False))
