"""``--clock auto``: the clock jumps to the next event when all clients wait, and never while one does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import httpx2
import pytest
from seedbed_mock import MockServer, SettingsError, create_app
from seedbed_mock.clock import real_monotonic
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

SHARED, CONTRACT = job_api(), default_contract()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
PENDING = list(SHARED.states.pending)
Create = Callable[..., str]

pytestmark = pytest.mark.seedbed(clock="auto", task_seconds=60)


@pytest.fixture(name="state")
def ask_for_states(seedbed: MockServer, http: httpx2.Client) -> Callable[[str], str]:
    def ask(task_id: str) -> str:
        query = {SHARED.record_info.query: task_id}
        headers = {"Authorization": f"Bearer {seedbed.key}"}
        data = http.get(f"{seedbed.url}{SHARED.record_info.path}", params=query, headers=headers).json()["data"]
        return data["state"] if data else ""

    return ask


def states_of(state: Callable[[str], str], task_id: str) -> list[str]:
    """Poll without a pause, and return the states in their order."""
    found = [state(task_id)]
    end = real_monotonic() + 30
    while found[-1] not in (SHARED.states.success, SHARED.states.failure) and real_monotonic() < end:
        found.append(state(task_id))
    return [name for name, _ in groupby(found)]


def test_a_task_of_a_minute_is_seen_in_every_state_without_waiting(
    seedbed: MockServer, create: Create, state: Callable[[str], str]
) -> None:
    begun = real_monotonic()
    assert states_of(state, create()) == [*PENDING, SHARED.states.success]
    assert real_monotonic() - begun < 20
    assert 60 <= seedbed._service.clock.now() - seedbed._service.started_at < 90


def test_time_stands_still_for_a_client_that_has_not_asked(seedbed: MockServer, create: Create) -> None:
    task_id = create()
    # Calls of the control API are not those of a client, and nobody waits.
    seedbed.control("GET", "tasks")
    assert seedbed.task(task_id)["state"] == PENDING[0]
    assert seedbed._service.clock.now() - seedbed._service.started_at < 20


def test_a_clock_does_not_jump_beyond_the_first_of_several_events(
    seedbed: MockServer, create: Create, state: Callable[[str], str]
) -> None:
    one = create()
    seedbed.add_faults("task.slow seconds=600")
    other = create()
    assert state(other) == PENDING[0]
    states_of(state, one)
    assert state(other) in PENDING
    assert states_of(state, other)[-1] == SHARED.states.success


@pytest.mark.seedbed(visible_after=30)
def test_a_record_that_lags_behind_is_an_event(create: Create, state: Callable[[str], str]) -> None:
    task_id = create()
    assert states_of(state, task_id)[0] == ""
    assert states_of(state, task_id)[-1] == SHARED.states.success


def test_a_client_that_polls_slowly_sees_every_state_although_a_callback_is_due(
    seedbed: MockServer, create: Create, state: Callable[[str], str]
) -> None:
    inbox = seedbed.inbox()
    task_id, found = create(callBackUrl=inbox.url), list[str]()
    # The first query may find any state: until then, only the callback is awaited.
    while not found or found[-1] in PENDING:
        found.append(state(task_id))
        seen = seedbed._service.clock.now()
        for _ in range(30):
            seedbed.control("GET", "clock")
        # In the time of thirty calls, the clock jumps once at most.
        assert seedbed._service.clock.now() - seen < 25
    assert found[-1] == SHARED.states.success
    assert len(inbox.all) == 1


def test_a_callback_comes_at_once(seedbed: MockServer, create: Create) -> None:
    inbox = seedbed.inbox(500, 500)
    task_id = create(callBackUrl=inbox.url)
    assert inbox.wait_for(task_id, number=3).status == 200
    at = [attempt["at"] for attempt in seedbed.task(task_id)["callback"]["attempts"]]
    assert [round((moment - at[0]) / 1000) for moment in at] == [0, 2, 10]


def test_a_stuck_task_stops_nothing_and_moves_nothing(
    seedbed: MockServer, create: Create, state: Callable[[str], str]
) -> None:
    seedbed.add_faults("task.stuck; times=1")
    stuck, good = create(), create()
    before = seedbed._service.clock.now()
    assert [state(stuck) for _ in range(5)] == [PENDING[0]] * 5
    assert seedbed._service.clock.now() - before < 20
    assert states_of(state, good)[-1] == SHARED.states.success


@pytest.mark.seedbed(progress="hand")
def test_tasks_that_are_moved_by_hand_have_no_events(
    seedbed: MockServer, create: Create, state: Callable[[str], str]
) -> None:
    task_id = create()
    assert state(task_id) == PENDING[0]
    seedbed.finish(task_id)
    assert state(task_id) == SHARED.states.success


def test_the_clock_waits_for_a_request_in_progress(
    seedbed: MockServer, create: Create, state: Callable[[str], str]
) -> None:
    seedbed.add_faults("delay seconds=1; op=credit")
    task_id, ended = create(), threading.Event()

    def ask_slowly() -> None:
        headers = {"Authorization": f"Bearer {seedbed.key}"}
        httpx2.get(f"{seedbed.url}{SHARED.credit.path}", headers=headers, trust_env=False)
        ended.set()

    thread = threading.Thread(target=ask_slowly)
    thread.start()
    while not any(call["operation"] == "credit" for call in seedbed.calls):
        pass
    first = state(task_id)
    jumped = seedbed._service.clock.now() - seedbed._service.started_at > 15
    assert ended.is_set() or (first, jumped) == (PENDING[0], False)
    thread.join()
    assert states_of(state, task_id)[-1] == SHARED.states.success


def test_a_server_with_this_clock_stops_while_it_waits(seedbed_factory: Callable[..., MockServer]) -> None:
    with seedbed_factory(clock="auto", task_seconds=60) as server:
        headers = {"Authorization": f"Bearer {server.key}"}
        httpx2.post(f"{server.url}{CONTRACT.operation.path}", json=GOOD, headers=headers, trust_env=False)
        begun = real_monotonic()
    assert real_monotonic() - begun < 5


def test_the_clock_works_without_a_server() -> None:
    async def poll() -> list[str]:
        transport = httpx2.ASGITransport(create_app(clock="auto", task_seconds=60))
        headers = {"Authorization": "Bearer seedbed-key"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            body = {name: value for name, value in GOOD.items() if name != SHARED.fields.callback}
            created = (await client.post(CONTRACT.operation.path, json=body)).json()
            query = {SHARED.record_info.query: created["data"]["taskId"]}
            states: list[str] = []
            while not states or states[-1] in PENDING:
                record = (await client.get(SHARED.record_info.path, params=query)).json()["data"]
                states.append(record["state"])
                await asyncio.sleep(0.005)
            return states

    assert list(dict.fromkeys(asyncio.run(asyncio.wait_for(poll(), 30)))) == [*PENDING, SHARED.states.success]


def test_this_clock_has_no_speed() -> None:
    with pytest.raises(SettingsError, match="Only a real clock has a speed"):
        create_app(clock="auto", speed=2)


@pytest.fixture(autouse=True)
def _no_errors(seedbed: MockServer) -> Iterator[None]:
    yield
    assert list(seedbed.errors) == []
