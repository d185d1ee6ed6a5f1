"""A task as a pure function of the time, over random tasks and times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins
from seedbed_mock.accounts import Account, open_accounts
from seedbed_mock.clock import ManualClock, RealClock
from seedbed_mock.results.picture import Picture
from seedbed_mock.settings import Settings
from seedbed_mock.store import KEPT_TASKS, MemoryStore
from seedbed_mock.tasks import Task, record
from seedbed_schemas import job_api
from seedbed_schemas.dialect import documented

SHARED, DIALECT = job_api(), documented()
ORDER = [*SHARED.states.pending, SHARED.states.success]
START = 1_765_166_238_716
ACCOUNT: Account = open_accounts(Settings())["seedbed-key"]

durations = st.integers(0, 10**9)
moments = st.lists(st.integers(-(10**6), 2 * 10**9), min_size=2, max_size=6).map(sorted)


def task(duration: int = 0, *, number: int = 0) -> Task:
    return Task(
        task_id=f"task_{number}",
        account=ACCOUNT,
        model="m",
        param="{}",
        picture=Picture("a hill", "", (8, 8), 0),
        result_name=f"{number}.jpg",
        created=START,
        duration=duration,
    )


@given(duration=durations, times=moments)
def test_a_task_never_goes_backwards(duration: int, times: list[int]) -> None:
    states = [task(duration).state(START + time, SHARED.states) for time in times]
    places = [ORDER.index(state) for state in states]
    assert places == sorted(places)


@given(duration=durations, time=st.integers(0, 2 * 10**9))
def test_a_record_keeps_the_contract_at_any_time(duration: int, time: int) -> None:
    made, now = task(duration), START + time
    shown = to_builtins(record(made, now, base_url="http://h:1", states=SHARED.states, dialect=DIALECT))
    assert SHARED.shape("record").violations(shown) == []
    assert shown["createTime"] <= shown["updateTime"] <= max(now, shown["createTime"])
    assert ("resultJson" in shown) is (now >= made.completed)
    if shown["state"] == SHARED.states.success:
        assert shown["completeTime"] - shown["createTime"] == shown["costTime"] == duration


@given(duration=durations, time=st.integers(0, 2 * 10**9))
def test_a_state_began_when_the_record_says_that_it_did(duration: int, time: int) -> None:
    made, now = task(duration), START + time
    changed = made.changed(now, SHARED.states)
    assert made.state(changed, SHARED.states) == made.state(now, SHARED.states)
    if changed > START:
        assert made.state(changed - 1, SHARED.states) != made.state(now, SHARED.states)


def test_the_store_forgets_the_oldest_finished_task_first() -> None:
    store = MemoryStore()
    for number in range(KEPT_TASKS + 5):
        store.add(task(number=number), START)
    assert store.find("task_4") is None
    assert store.find_result("4.jpg") is None
    assert store.find("task_5") is not None


def test_the_store_keeps_a_task_that_has_not_ended() -> None:
    store = MemoryStore()
    store.add(task(10**6, number=-1), START)
    for number in range(KEPT_TASKS):
        store.add(task(number=number), START)
    assert store.find("task_-1") is not None


def test_a_manual_clock_moves_forward_only() -> None:
    clock = ManualClock(5)
    clock.advance(2.5)
    assert clock.now() == 7.5
    with pytest.raises(ValueError, match="forward only"):
        clock.advance(-1)


def test_the_real_clock_tells_the_time_of_day_and_never_stands_still_for_long() -> None:
    clock = RealClock()
    assert clock.now() > 1_700_000_000
    assert clock.now() <= clock.now()
