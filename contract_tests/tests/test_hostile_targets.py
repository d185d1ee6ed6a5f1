"""Whatever answers at the URL, a run ends in its time, with findings or with one sentence."""

import time

import pytest
from seedbed_mock.cli import main
from tests.hostile_targets import (
    Behaviour,
    ClosesNowAndThen,
    answers_a_gigabyte,
    hangs,
    never_ends_its_answer,
    redirects,
    shows_a_page,
    speaks_no_http,
    target,
)

LIMIT = 8.0


@pytest.mark.parametrize(
    ("behaviour", "codes"),
    [
        (hangs, {2}),
        (speaks_no_http, {2}),
        (answers_a_gigabyte, {1, 2}),
        (never_ends_its_answer, {2}),
        (ClosesNowAndThen(), {1}),
        (redirects, {1}),
        (shows_a_page, {1}),
    ],
)
def test_a_target_that_is_no_service_ends_in_time_and_without_a_traceback(
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
    assert (printed.err.count("\n"), printed.out == "") == ((1, True) if code == 2 else (0, False))
