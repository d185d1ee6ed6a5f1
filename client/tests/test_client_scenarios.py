"""The client under the faults of shipped scenarios and under random ones: no task is paid twice or lost."""

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

pytestmark = pytest.mark.slow

PATIENCE = 900.0
HARMLESS = {default_contract().code_named(name).number for name in ("rate_limited", "service_unavailable")}


@dataclasses.dataclass
class Outcome:
    """The outcome of a call of ``generate``."""

    prompt: str
    seconds: float
    task: Task | None = None
    error: Exception | None = None


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


def outcomes_of(server: MockServer, count: int, **options: Any) -> list[Outcome]:
    """Return the outcomes of some calls of ``generate`` on a server with these options."""
    clock = ManualClock()
    server.play(clock=clock, rate_limit="off", credits=10**6, task_seconds=20, **options)
    with SeedreamClient(server.url, server.key, timeout=0.1, sleep=clock.advance, clock=clock.now) as client:
        return [outcome_of(client, clock, f"hill {number}") for number in range(count)]


def outcome_of(client: SeedreamClient, clock: ManualClock, prompt: str) -> Outcome:
    began = clock.now()
    try:
        task = client.generate(prompt, timeout=PATIENCE)
    except WaitTimeoutError as error:
        outcome = Outcome(prompt, clock.now() - began, error=error)
        outcome.task = wait_again(client, error.task)
        return outcome
    except (SeedreamError, httpx2.RequestError) as error:
        return Outcome(prompt, clock.now() - began, error=error)
    return Outcome(prompt, clock.now() - began, task)


def wait_again(client: SeedreamClient, task: Task) -> Task | None:
    try:
        return client.wait(task)
    except (SeedreamError, httpx2.RequestError):
        return None


def recovered(client: SeedreamClient, error: Exception | None) -> Task | None:
    """Return the task that an error names, once the service works again: a task that is named is not lost."""
    if isinstance(error, WaitTimeoutError):
        return wait_again(client, error.task)
    notes = [note.removeprefix("The task ID is ") for note in getattr(error, "__notes__", ())]
    return wait_again(client, Task(notes[0])) if notes else None


def calls_by_prompt(server: MockServer) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for call in server.calls:
        if call["operation"] == "createTask":
            found.setdefault(call["request"]["input"]["prompt"], []).append(call)
    return found


def is_harmless(call: dict[str, Any]) -> bool:
    """Return whether the response to a submission allows another one, in either dialect."""
    return call["code"] in HARMLESS or call["case"] == "under_maintenance"


def check(server: MockServer, outcomes: list[Outcome]) -> None:
    """Check what must hold after any fault."""
    submissions = calls_by_prompt(server)
    for outcome in outcomes:
        assert outcome.seconds <= PATIENCE + 1e-6
        calls = submissions.get(outcome.prompt, [])
        assert all(is_harmless(call) for call in calls[:-1]), f"{outcome.prompt} was submitted again: {calls}"
        if calls and calls[-1].get("task_id") and not isinstance(outcome.error, SubmissionUnknownError):
            state = server.task(calls[-1]["task_id"])["state"]
            assert (state == "success") <= bool(outcome.task and outcome.task.succeeded), (state, outcome)


@pytest.mark.parametrize("name", list(shipped_scenarios()))
def test_generate_ends_correctly_in_every_shipped_scenario(server: MockServer, name: str) -> None:
    # A response that the clock delays never comes while the clock stands still, and its timeout takes real time.
    outcomes = outcomes_of(server, 8 if name == "slow-day" else 25, scenario=name, seed=4)
    check(server, outcomes)
    assert any(outcome.task for outcome in outcomes)
    assert all(
        isinstance(outcome.error, GenerationFailedError | SubmissionUnknownError | WaitTimeoutError | ApiError)
        for outcome in outcomes
        if outcome.error
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
    condition = draw(st.sampled_from(["; p=0.2", "; p=0.5", "; times=1", "; times=3", "; every=2", ""]))
    return f"{effect}{operation}{condition}"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(rules(), min_size=1, max_size=4), dialect=st.sampled_from(["documented", "observed"]))
def test_under_random_faults_no_task_is_paid_twice_or_lost(server: MockServer, faults: list[str], dialect: str) -> None:
    clock = ManualClock()
    server.play(clock=clock, rate_limit="off", credits=10**6, task_seconds=20, dialect=dialect)
    server.add_faults(*faults)
    with SeedreamClient(server.url, server.key, timeout=0.5, sleep=clock.advance, clock=clock.now) as client:
        outcomes = [outcome_of(client, clock, f"hill {number}") for number in range(3)]
        server.clear_faults()
        for outcome in outcomes:
            outcome.task = outcome.task or recovered(client, outcome.error)
    check(server, outcomes)
