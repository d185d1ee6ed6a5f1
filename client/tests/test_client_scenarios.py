"""The client under faults, those of the shipped scenarios and random ones: nothing is paid twice, lost or hangs."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seedbed_client import (
    ApiError,
    GenerationFailedError,
    SeedreamClient,
    SeedreamError,
    SubmissionUnknownError,
    Task,
    WaitTimeoutError,
)
from seedbed_mock import ManualClock, MockServer, running
from seedbed_mock.faults.scenarios import shipped_scenarios
from seedbed_schemas import default_contract

PATIENCE = 900.0
HARMLESS = {default_contract().code_named(name).number for name in ("rate_limited", "service_unavailable")}


@dataclasses.dataclass
class End:
    """How a call of ``generate`` ended."""

    prompt: str
    lasted: float
    task: Task | None = None
    error: Exception | None = None


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


def played(server: MockServer, count: int, **words: Any) -> list[End]:
    """Return how some calls of ``generate`` end on a server that plays so, as the client's own clock has it."""
    clock = ManualClock()
    server.play(clock=clock, rate_limit="off", credits=10**6, task_seconds=20, **words)
    with SeedreamClient(server.url, server.key, timeout=0.1, sleep=clock.advance, clock=clock.now) as client:
        return [end_of(client, clock, f"hill {number}") for number in range(count)]


def end_of(client: SeedreamClient, clock: ManualClock, prompt: str) -> End:
    began = clock.now()
    try:
        task = client.generate(prompt, timeout=PATIENCE)
    except WaitTimeoutError as error:
        end = End(prompt, clock.now() - began, error=error)
        end.task = waited_for_again(client, error.task)
        return end
    except (SeedreamError, httpx2.RequestError) as error:
        return End(prompt, clock.now() - began, error=error)
    return End(prompt, clock.now() - began, task)


def waited_for_again(client: SeedreamClient, task: Task) -> Task | None:
    try:
        return client.wait(task)
    except (SeedreamError, httpx2.RequestError):
        return None


def found_again(client: SeedreamClient, error: Exception | None) -> Task | None:
    """Return the task that an error names, once the service answers again: what is named is not lost."""
    if isinstance(error, WaitTimeoutError):
        return waited_for_again(client, error.task)
    notes = [note.removeprefix("The task ID is ") for note in getattr(error, "__notes__", ())]
    return waited_for_again(client, Task(notes[0])) if notes else None


def calls_by_prompt(server: MockServer) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for call in server.calls:
        if call["operation"] == "createTask":
            found.setdefault(call["request"]["input"]["prompt"], []).append(call)
    return found


def is_harmless(call: dict[str, Any]) -> bool:
    """Tell whether what a call was answered allows for another, in the words of either dialect."""
    return call["code"] in HARMLESS or call["case"] == "under_maintenance"


def hold(server: MockServer, ends: list[End]) -> None:
    """Check what has to hold whatever went wrong."""
    made = calls_by_prompt(server)
    for end in ends:
        assert end.lasted <= PATIENCE + 1e-6
        calls = made.get(end.prompt, [])
        assert all(is_harmless(call) for call in calls[:-1]), f"{end.prompt} was asked for again: {calls}"
        if calls and calls[-1].get("task_id") and not isinstance(end.error, SubmissionUnknownError):
            state = server.task(calls[-1]["task_id"])["state"]
            assert (state == "success") <= bool(end.task and end.task.succeeded), (state, end)


@pytest.mark.parametrize("name", list(shipped_scenarios()))
def test_under_every_shipped_scenario_the_client_ends_right(server: MockServer, name: str) -> None:
    # An answer that is delayed by the clock comes not at all while the clock stands still, which takes real time.
    ends = played(server, 8 if name == "slow-day" else 25, scenario=name, seed=4)
    hold(server, ends)
    assert any(end.task for end in ends)
    assert all(
        isinstance(end.error, GenerationFailedError | SubmissionUnknownError | WaitTimeoutError | ApiError)
        for end in ends
        if end.error
    )


EFFECTS = [
    *("429", "429 retry-after=7", "455", "500", "402", "422", "501", "505", "answer.status status=503 retry-after=9"),
    *("answer.html status=502", "answer.html status=403", "answer.empty", "answer.not-json", "answer.shape"),
    *("answer.no-data", "answer.type", "wire.reset", "wire.reset at=middle", "wire.close", "wire.cut-short"),
    *("wire.nothing", "task.fail code=422 after=5", "task.stuck", "task.slow seconds=300", "task.late seconds=20"),
    *("task.lost", "task.orphan", "result.empty-url", "result.dead-url"),
]
OPERATIONS = ["", "; op=createTask", "; op=recordInfo"]


@st.composite
def rules(draw: st.DrawFn) -> str:
    effect = draw(st.sampled_from(EFFECTS))
    operation = draw(st.sampled_from(OPERATIONS[:2] if effect.startswith(("task", "result")) else OPERATIONS))
    share = draw(st.sampled_from(["; p=0.2", "; p=0.5", "; times=1", "; times=3", "; every=2", ""]))
    return f"{effect}{operation}{share}"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(rules(), min_size=1, max_size=4), dialect=st.sampled_from(["documented", "observed"]))
def test_under_random_faults_nothing_is_paid_twice_or_lost_or_hangs(
    server: MockServer, faults: list[str], dialect: str
) -> None:
    clock = ManualClock()
    server.play(clock=clock, rate_limit="off", credits=10**6, task_seconds=20, dialect=dialect)
    server.add_faults(*faults)
    with SeedreamClient(server.url, server.key, timeout=0.5, sleep=clock.advance, clock=clock.now) as client:
        ends = [end_of(client, clock, f"hill {number}") for number in range(3)]
        server.clear_faults()
        for end in ends:
            end.task = end.task or found_again(client, end.error)
    hold(server, ends)
