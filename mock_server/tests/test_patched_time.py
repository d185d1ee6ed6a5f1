"""The clock of a server in a process whose time a test replaces, freezes or travels in."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from typing import Any
from unittest import mock

import freezegun
import httpx2
import pytest
import time_machine
from seedbed_mock import MockServer, running
from seedbed_mock.clock import FollowingClock, RealClock, real_monotonic, real_time
from seedbed_schemas import job_api

YEAR_2082 = 3_534_451_200
STARTED = os.times().elapsed, time.time()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@contextlib.contextmanager
def patched_with_mock() -> Iterator[None]:
    with (
        mock.patch("time.time", return_value=float(YEAR_2082)),
        mock.patch("time.monotonic", return_value=5.0),
        mock.patch("time.time_ns", return_value=YEAR_2082 * 10**9),
    ):
        yield


PATCHES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "freezegun": lambda: freezegun.freeze_time("2082-01-01"),
    "freezegun, ticking": lambda: freezegun.freeze_time("2082-01-01", tick=True),
    "freezegun, past": lambda: freezegun.freeze_time("1999-01-01"),
    "time-machine": lambda: time_machine.travel(YEAR_2082, tick=False),
    "time-machine, ticking": lambda: time_machine.travel(YEAR_2082),
    "time-machine, past": lambda: time_machine.travel(0),
    "mock": patched_with_mock,
}
all_patches = pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)


def true_time() -> float:
    """Return the time by a function that nothing replaces."""
    return STARTED[1] + os.times().elapsed - STARTED[0]


def shown(server: MockServer) -> float:
    now: float = server.control("GET", "clock")["now"] / 1000
    return now


@all_patches
@pytest.mark.seedbed(clock="real")
def test_a_patch_does_not_move_the_clock_of_a_running_server(
    seedbed: MockServer, patch: Callable[[], AbstractContextManager[object]]
) -> None:
    times = [shown(seedbed)]
    with patch():
        times += [shown(seedbed), shown(seedbed)]
    times.append(shown(seedbed))
    assert times == sorted(times)
    assert times[-1] == pytest.approx(true_time(), abs=2)


@all_patches
def test_a_server_that_starts_within_a_patch_shows_the_true_time(
    patch: Callable[[], AbstractContextManager[object]],
) -> None:
    with contextlib.ExitStack() as stack:
        with patch():
            server = stack.enter_context(running())
            times = [shown(server)]
        times.append(shown(server))
    assert times == sorted(times)
    assert times[-1] == pytest.approx(true_time(), abs=2)


@all_patches
@pytest.mark.seedbed(task_seconds=0.05)
def test_tasks_end_and_callbacks_are_sent_within_a_patch(
    seedbed: MockServer,
    create: Callable[..., str],
    receive: Callable[..., Any],
    patch: Callable[[], AbstractContextManager[object]],
) -> None:
    receiver = receive(OK)
    with patch():
        task_id = create(callBackUrl=receiver.url)
        assert receiver.left.acquire(timeout=20) or receiver.requests
        assert seedbed.task(task_id)["state"] == job_api().states.success


def test_the_fixture_of_pytest_freezer_does_not_move_the_clock(freezer: Any, seedbed: MockServer) -> None:
    freezer.move_to("2082-01-01")
    assert time.time() == YEAR_2082
    assert shown(seedbed) == pytest.approx(true_time(), abs=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "patch",
    [
        "freezegun.freeze_time('2082-01-01')",
        f"time_machine.travel({YEAR_2082}, tick=False)",
        f"unittest.mock.patch('time.time', return_value={YEAR_2082}.0)",
    ],
)
def test_a_server_that_is_first_imported_within_a_patch_shows_the_true_time(patch: str) -> None:
    code = f"""
import freezegun, time_machine, unittest.mock
with {patch}:
    from seedbed_mock.clock import real_time, real_monotonic
    from seedbed_mock import running
    first = real_monotonic()
    with running() as server:
        inside = server.control("GET", "clock")["now"]
assert real_monotonic() > first
print(inside / 1000)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) == pytest.approx(true_time(), abs=30)


def test_the_end_of_a_travel_in_another_thread_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked for the original function after the end of the travel, time-machine raises this.
    hatch = mock.Mock(**{"is_travelling.return_value": True, "time.time.side_effect": ValueError})
    monkeypatch.setattr(time_machine, "escape_hatch", hatch)
    assert real_time() == pytest.approx(true_time(), abs=2)


@pytest.mark.seedbed(clock="follow", task_seconds=60)
def test_a_following_clock_shows_the_time_of_the_test(
    seedbed: MockServer, create: Callable[..., str], receive: Callable[..., Any]
) -> None:
    receiver = receive(OK)
    with freezegun.freeze_time("2082-01-01") as frozen:
        assert shown(seedbed) == shown(seedbed) == YEAR_2082
        task_id = create(callBackUrl=receiver.url)
        assert seedbed.task(task_id)["state"] in job_api().states.pending
        frozen.tick(60)
        # No call tells the server that the time has changed.
        assert receiver.left.acquire(timeout=20)
        seedbed.advance(30)
        assert shown(seedbed) == YEAR_2082 + 90
        assert seedbed.task(task_id)["state"] == job_api().states.success


def date_of(server: MockServer) -> float:
    """Return the time of the Date header of a response."""
    return parsedate_to_datetime(httpx2.get(server.url, trust_env=False).headers["date"]).timestamp()


def next_date(server: MockServer, before: float) -> float:
    """Return the time of the first Date header with another time; the server renews the header now and then."""
    end = real_monotonic() + 20
    while (date := date_of(server)) == before:
        assert real_monotonic() < end
    return date


@all_patches
def test_the_date_of_responses_is_the_true_one(patch: Callable[[], AbstractContextManager[object]]) -> None:
    with patch(), running(clock="manual") as server:
        server.advance(10**6)
        assert date_of(server) == pytest.approx(true_time(), abs=3)


@pytest.mark.seedbed(clock="real")
def test_the_date_of_a_running_server_stays_the_true_one(seedbed: MockServer) -> None:
    with freezegun.freeze_time("2082-01-01"):
        assert next_date(seedbed, date_of(seedbed)) == pytest.approx(true_time(), abs=3)


@pytest.mark.seedbed(clock="follow")
def test_the_date_of_responses_follows_the_time_of_the_test_if_the_clock_does(seedbed: MockServer) -> None:
    with freezegun.freeze_time("2082-01-01", real_asyncio=True) as frozen:
        if (date := date_of(seedbed)) != YEAR_2082:
            assert next_date(seedbed, date) == YEAR_2082
        frozen.tick(3600)
        assert next_date(seedbed, YEAR_2082) == YEAR_2082 + 3600


@pytest.mark.seedbed(clock="follow")
def test_a_delay_by_a_following_clock_ends_when_the_frozen_time_is_set_forward(
    call: Callable[..., dict[str, Any]],
) -> None:
    with freezegun.freeze_time("2082-01-01", real_asyncio=True) as frozen:
        codes: list[int] = []
        fault = {"X_Seedbed_Fault": "delay seconds=0.1"}
        thread = threading.Thread(target=lambda: codes.append(call("GET", job_api().credit.path, **fault)["code"]))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        frozen.tick(1)
        thread.join(20)
    assert codes == [200]


def test_a_following_clock_shows_the_frozen_time_in_a_shallow_thread() -> None:
    clock, seen = FollowingClock(), list[float]()
    with freezegun.freeze_time("2082-01-01"):
        thread = threading.Thread(target=lambda: seen.append(clock.now()))
        thread.start()
        thread.join()
    assert seen == [YEAR_2082]


def test_a_following_clock_advances_like_any_other() -> None:
    clock, advances = FollowingClock(), list[float]()
    clock.watch(advances.append)
    before = clock.now()
    clock.advance(5)
    assert clock.now() - before >= 5
    assert advances == [5]
    with pytest.raises(ValueError, match="not by -1"):
        clock.advance(-1)


def test_the_real_functions_go_on() -> None:
    with freezegun.freeze_time("2082-01-01"):
        clock, before = RealClock(), real_monotonic()
        assert real_monotonic() >= before
        assert clock.now() == pytest.approx(true_time(), abs=2)
