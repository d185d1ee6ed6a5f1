"""A task as a pure function of the time, over random tasks and times, in both dialects."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins
from seedbed_mock.clock import ManualClock, RealClock
from seedbed_mock.tasks import CallbackDelivery, Failure, Task, ended, even_timeline, polled, record
from seedbed_schemas import job_api
from seedbed_schemas.dialect import Dialect, dialects

SHARED = job_api()
ORDER = [*SHARED.states.pending, SHARED.states.success]
START = 1_765_166_238_716

moments = st.integers(-(10**6), 2 * 10**9).map(lambda time: START + time)
failures = st.none() | st.builds(Failure, st.sampled_from(["400", "GENERATION_FAILED"]), st.text(max_size=5))


def task(timeline: tuple[int, ...] = (), failure: Failure | None = None, *, callback: bool = False) -> Task:
    return Task(
        task_id="task_1",
        space="default",
        account="key-1",
        model="m",
        request='{"model": "m", "input": {"prompt": "a hill"}}',
        result_name="1.jpg",
        base_url="http://127.0.0.1:1",
        price=Decimal("6.5"),
        created=START,
        visible=START,
        timeline=timeline,
        failure=failure,
        callback=CallbackDelivery(url="http://127.0.0.1:9/") if callback else None,
    )


durations = st.integers(0, 10**9)
timed = st.builds(lambda duration, failure: task(even_timeline(START, duration), failure), durations, failures)


def polled_at(polls: int, times: list[int]) -> Task:
    made = task()
    for time in sorted(times):
        made = polled(made, time, polls)
    return made


by_polls = st.builds(polled_at, st.integers(1, 9), st.lists(st.integers(START, START + 10**9), max_size=12))
by_hand = st.builds(ended, timed, st.integers(START, START + 10**9), failures)
tasks = timed | by_polls | by_hand


def place(made: Task, now: int) -> int:
    state = made.state(now)
    return len(ORDER) - 1 if state == SHARED.states.failure else ORDER.index(state)


@given(made=tasks, times=st.lists(moments, min_size=2, max_size=6).map(sorted))
def test_a_task_never_goes_backwards(made: Task, times: list[int]) -> None:
    places = [place(made, time) for time in times]
    assert places == sorted(places)


@given(made=timed, times=st.lists(st.integers(START, START + 10**9), min_size=2, max_size=6).map(sorted))
def test_ending_a_task_by_hand_never_takes_it_backwards(made: Task, times: list[int]) -> None:
    *before, now = times
    over = ended(made, now)
    assert [place(over, time) for time in before] == [max(place(made, t), place(over, t)) for t in before]
    assert place(over, now) == len(ORDER) - 1


@given(made=tasks, now=moments, dialect=st.sampled_from(list(dialects().values())))
def test_a_record_keeps_the_contract_at_any_time_in_both_dialects(made: Task, now: int, dialect: Dialect) -> None:
    shown: dict[str, Any] = to_builtins(record(made, now, dialect=dialect))
    if dialect.title == "documented":
        assert SHARED.shape("record").violations(shown) == []
        assert shown["createTime"] <= shown["updateTime"] <= max(now, shown["createTime"])
    is_over, has_failed = made.has_ended(now), made.has_ended(now) and made.failure is not None
    assert shown["state"] in SHARED.states.pending if not is_over else (shown["state"] == "fail") is has_failed
    assert bool(shown.get("resultJson")) is (is_over and not has_failed)
    assert (shown.get("completeTime") is not None) is is_over
    assert bool(shown["failCode"]) is has_failed
    if is_over:
        assert shown["completeTime"] >= shown["createTime"]
        unit = 1 if dialect.title == "documented" else 1000
        assert shown["costTime"] == (shown["completeTime"] - shown["createTime"]) // unit


@given(made=tasks, now=moments)
def test_a_callback_carries_a_record_that_keeps_the_contract(made: Task, now: int) -> None:
    for dialect in dialects().values():
        shown = to_builtins(record(made, max(now, START), dialect=dialect, channel="callback"))
        assert isinstance(shown["updateTime"], int)


@given(made=tasks, now=moments)
def test_a_state_began_when_the_record_says_that_it_did(made: Task, now: int) -> None:
    changed = made.state_since(now)
    assert made.state(changed) == made.state(max(now, START))
    if changed > START:
        assert made.state(changed - 1) != made.state(now)


@given(polls=st.integers(1, 50))
def test_a_task_that_moves_on_by_polls_ends_with_the_last_of_them(polls: int) -> None:
    made = task(callback=True)
    for number in range(polls):
        assert made.ends is None
        made = polled(made, START + number, polls)
    assert made.ends == START + polls - 1
    assert made.callback
    assert made.callback.due == made.ends
    assert polled(made, START + 99, polls) is made


def test_a_task_of_no_length_has_ended_when_it_is_made() -> None:
    assert task(even_timeline(START, 0)).state(START) == SHARED.states.success


def test_a_manual_clock_moves_forward_only() -> None:
    clock = ManualClock(5)
    clock.advance(2.5)
    assert clock.now() == 7.5
    with pytest.raises(ValueError, match="advances by"):
        clock.advance(-1)


@given(start=st.floats(1e9, 3e9), steps=st.lists(st.integers(0, 10**7), max_size=5))
def test_a_clock_that_is_turned_by_milliseconds_shows_all_of_them(start: float, steps: list[int]) -> None:
    clock = ManualClock(start)
    before = round(clock.now() * 1000)
    for step in steps:
        clock.advance(step / 1000)
    assert round(clock.now() * 1000) == before + sum(steps)


def test_the_real_clock_tells_the_time_of_day_and_never_stands_still_for_long() -> None:
    clock = RealClock()
    before = clock.now()
    while clock.now() == before:
        pass
    assert clock.now() > before


def test_a_clock_runs_as_fast_as_it_is_told() -> None:
    slow, fast = RealClock(start=0), RealClock(1000, start=0)
    while slow.now() < 0.01:
        pass
    assert fast.now() > 5
