"""The verdicts of a drill: each finds the mistakes that it names, and none is against a careful program."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from seedbed_mock import running
from seedbed_mock.verdicts import RULES, verdicts_on
from tests.drill_mistakes import MISTAKES, Mistake
from tests.drill_worker import Worker, control_of, drilled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_mock import MockServer
    from seedbed_mock.observation import ControlRun, Observation

SCENARIOS: dict[str, tuple[str, ...]] = {
    "calm": (),
    "limits": ("429; p=0.4",),
    "limits with Retry-After": ("429 retry-after=10; op=createTask; p=0.5",),
    "maintenance": ("455; p=0.3",),
    "server errors": ("500; p=0.3",),
    "broken connections": ("wire.reset; p=0.3",),
    "half responses": ("wire.cut-short; p=0.3",),
    "a proxy": ("answer.html; p=0.3",),
    "noise": ("answer.not-json; p=0.2", "answer.empty; p=0.2", "answer.shape; p=0.2", "answer.no-data; p=0.1"),
    "a refused key": ("401; p=0.2",),
    "failures": ("task.fail; p=0.5",),
    "late failures": ("task.fail after=400; p=0.5",),
    "stuck": ("task.stuck; p=0.5",),
    "slow": ("task.slow seconds=282; p=0.5",),
    "very slow": ("task.slow seconds=1000; p=0.5",),
    "late records": ("task.late seconds=20; p=0.7",),
    "orphans": ("task.orphan; p=0.5",),
    "lost tasks": ("task.lost; p=0.5",),
    "bad images": ("result.cut; p=0.3", "result.dead-url; p=0.3", "result.empty-url; p=0.3", "result.expired; p=0.3"),
    "lost callbacks": ("callback.never; p=0.7",),
    "late callbacks": ("callback.late seconds=300; p=0.5", "callback.early; p=0.5"),
    "repeated callbacks": ("callback.twice; p=0.5", "callback.again; p=0.5"),
    "false callbacks": (
        *("callback.unsigned; p=0.3", "callback.wrong-signature; p=0.3", "callback.other-id; p=0.3"),
        *("callback.stale; p=0.5", "callback.unlike; p=0.5"),
    ),
    "callbacks out of order": ("callback.out-of-order; p=0.6",),
}


@pytest.fixture(scope="module", name="server")
def start_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


def failed(seen: Observation, calm: ControlRun) -> dict[str, str]:
    return {name: each.reason for name, each in verdicts_on(seen, calm).items() if each.outcome == "failed"}


@pytest.fixture(scope="module", name="calm")
def careful_control(server: MockServer) -> ControlRun:
    calm = control_of(server, Worker)
    assert (calm.images, calm.fetches, calm.acts_on_callbacks) == (2, True, True)
    return calm


FIRST = {each.verdict: each for each in reversed(MISTAKES)}
"""The first mistake of each verdict; the others take longer together than the default tests may."""


@pytest.mark.parametrize(
    "each",
    [each if FIRST[each.verdict] is each else pytest.param(each, marks=pytest.mark.slow) for each in MISTAKES],
    ids=str,
)
def test_a_mistake_is_found_by_the_verdict_that_names_it(each: Mistake, server: MockServer, calm: ControlRun) -> None:
    seen = drilled(server, each.worker, *each.rules, **each.options)
    found = verdicts_on(seen, calm)[each.verdict]
    assert found.outcome == "failed", {name: one.reason for name, one in verdicts_on(seen, calm).items()}
    assert found.reason.endswith(".")
    assert found.evidence or each.verdict in {"hung", "claimed success wrongly"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("each", MISTAKES, ids=str)
def test_the_careful_program_passes_where_a_mistake_fails(each: Mistake, server: MockServer, calm: ControlRun) -> None:
    options = {name: value for name, value in each.options.items() if name != "credits"}
    assert failed(drilled(server, Worker, *each.rules, **options), calm) == {}


def test_every_verdict_is_earned_by_at_least_two_mistakes() -> None:
    counts = Counter(each.verdict for each in MISTAKES)
    assert counts.keys() == {each.name for each in RULES}
    assert min(counts.values()) >= 2
    assert len(MISTAKES) >= 40


@pytest.mark.parametrize(
    "name",
    [name if number % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for number, name in enumerate(SCENARIOS)],
)
def test_no_verdict_is_against_the_careful_program(name: str, server: MockServer, calm: ControlRun) -> None:
    assert failed(drilled(server, Worker, *SCENARIOS[name], seed=1, dialect="observed"), calm) == {}


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_verdict_is_against_the_careful_program_over_many_seeds(
    name: str, seed: int, server: MockServer, calm: ControlRun
) -> None:
    assert failed(drilled(server, Worker, *SCENARIOS[name], seed=seed + 2), calm) == {}
