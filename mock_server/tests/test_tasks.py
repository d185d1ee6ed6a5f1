"""Tasks as functions of the time, with random tasks and times, in both dialects; and the clock."""

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
    sample = task()
    for time in sorted(times):
        sample = polled(sample, time, polls)
    return sample


by_polls = st.builds(polled_at, st.integers(1, 9), st.lists(st.integers(START, START + 10**9), max_size=12))
by_hand = st.builds(ended, timed, st.integers(START, START + 10**9), failures)
tasks = timed | by_polls | by_hand


def position(sample: Task, now: int) -> int:
    state = sample.state(now)
    return len(ORDER) - 1 if state == SHARED.states.failure else ORDER.index(state)


@given(sample=tasks, times=st.lists(moments, min_size=2, max_size=6).map(sorted))
def test_a_task_never_goes_backwards(sample: Task, times: list[int]) -> None:
    places = [position(sample, time) for time in times]
    assert places == sorted(places)


@given(sample=timed, times=st.lists(st.integers(START, START + 10**9), min_size=2, max_size=6).map(sorted))
def test_ending_a_task_never_takes_it_backwards(sample: Task, times: list[int]) -> None:
    *before, now = times
    over = ended(sample, now)
    assert [position(over, time) for time in before] == [max(position(sample, t), position(over, t)) for t in before]
    assert position(over, now) == len(ORDER) - 1


@given(sample=tasks, now=moments, dialect=st.sampled_from(list(dialects().values())))
def test_a_record_is_valid_at_any_time_in_both_dialects(sample: Task, now: int, dialect: Dialect) -> None:
    written: dict[str, Any] = to_builtins(record(sample, now, dialect=dialect))
    if dialect.title == "documented":
        assert SHARED.shape("record").violations(written) == []
        assert written["createTime"] <= written["updateTime"] <= max(now, written["createTime"])
    is_over, has_failed = sample.has_ended(now), sample.has_ended(now) and sample.failure is not None
    assert written["state"] in SHARED.states.pending if not is_over else (written["state"] == "fail") is has_failed
    assert bool(written.get("resultJson")) is (is_over and not has_failed)
    assert (written.get("completeTime") is not None) is is_over
    assert bool(written["failCode"]) is has_failed
    if is_over:
        assert written["completeTime"] >= written["createTime"]
        unit = 1 if dialect.title == "documented" else 1000
        assert written["costTime"] == (written["completeTime"] - written["createTime"]) // unit


@given(sample=tasks, now=moments)
def test_the_record_of_a_callback_has_an_update_time(sample: Task, now: int) -> None:
    for dialect in dialects().values():
        written = to_builtins(record(sample, max(now, START), dialect=dialect, channel="callback"))
        assert isinstance(written["updateTime"], int)


@given(sample=tasks, now=moments)
def test_the_start_of_a_state_agrees_with_the_timeline(sample: Task, now: int) -> None:
    changed = sample.state_since(now)
    assert sample.state(changed) == sample.state(max(now, START))
    if changed > START:
        assert sample.state(changed - 1) != sample.state(now)


@given(polls=st.integers(1, 50))
def test_a_polled_task_ends_with_the_last_poll(polls: int) -> None:
    sample = task(callback=True)
    for number in range(polls):
        assert sample.ends is None
        sample = polled(sample, START + number, polls)
    assert sample.ends == START + polls - 1
    assert sample.callback
    assert sample.callback.due == sample.ends
    assert polled(sample, START + 99, polls) is sample


def test_a_task_without_duration_ends_when_it_is_created() -> None:
    assert task(even_timeline(START, 0)).state(START) == SHARED.states.success


def test_a_manual_clock_only_advances() -> None:
    clock = ManualClock(5)
    clock.advance(2.5)
    assert clock.now() == 7.5
    with pytest.raises(ValueError, match="advances by"):
        clock.advance(-1)


@given(start=st.floats(1e9, 3e9), steps=st.lists(st.integers(0, 10**7), max_size=5))
def test_a_clock_adds_up_milliseconds_exactly(start: float, steps: list[int]) -> None:
    clock = ManualClock(start)
    before = round(clock.now() * 1000)
    for step in steps:
        clock.advance(step / 1000)
    assert round(clock.now() * 1000) == before + sum(steps)


def test_the_real_clock_runs() -> None:
    clock = RealClock()
    before = clock.now()
    while clock.now() == before:
        pass
    assert clock.now() > before


def test_a_clock_runs_at_its_speed() -> None:
    slow, fast = RealClock(start=0), RealClock(1000, start=0)
    while slow.now() < 0.01:
        pass
    assert fast.now() > 5
