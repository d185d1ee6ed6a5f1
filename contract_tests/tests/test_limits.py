"""The rate of a run: its own calls wait for their turn, and a refusal is compared with the calls that count."""

from collections.abc import Callable
from decimal import Decimal
from typing import cast

import pytest
from seedbed_contract.findings import FindingLog
from seedbed_contract.http import Exchange, HttpTransport, RequestBuilder, TargetRequest, TargetResponse, bearer
from seedbed_contract.limits import Budget, RateLog, Throttle
from seedbed_contract.session import Session
from seedbed_contract.target import Expectations, target_of
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.dialect import documented

ALLOWED, SECONDS = job_api().rate
ACCEPTED = b'{"code": 200, "msg": "success", "data": {"taskId": "t1"}}'
REFUSED = b'{"code": 429, "msg": "Your call frequency is too high.", "data": null}'


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Transport:
    """Responds to each call in turn with the next of the given actions, which may make calls of their own."""

    def __init__(self, *actions: Callable[[], bytes]) -> None:
        self.actions, self.polls = list(actions), list[object]()

    def send(self, request: TargetRequest, **_: bool) -> Exchange:
        body = self.actions.pop(0)()
        return Exchange(request, TargetResponse(200, (("content-type", "application/json"),), body))


def session_with(transport: Transport, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Session:
    contract = default_contract()
    monkeypatch.setattr(Session, "pause", lambda _, seconds: clock.advance(seconds))
    return Session(
        target=target_of("http://127.0.0.1:1", "key-of-a-test"),
        transport=cast("HttpTransport", transport),
        builder=RequestBuilder(contract, bearer(contract, "key-of-a-test")),
        expected=Expectations(contract, documented(), "envelope"),
        log=FindingLog(contract, ()),
        budget=Budget(Decimal(1)),
        creation_calls=RateLog(clock),
    )


def test_the_throttle_waits_until_the_oldest_call_has_left_the_window() -> None:
    clock, waited = Clock(), list[float]()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        clock.advance(seconds)

    throttle = Throttle(3, 10, clock, wait)
    for _ in range(7):
        throttle.acquire()
        clock.advance(1)
    assert [seconds for seconds in waited if seconds] == [7, 7]


@pytest.mark.parametrize(("under_way", "is_too_strict"), [(ALLOWED, False), (ALLOWED - 1, True)])
def test_a_refusal_counts_the_calls_that_are_still_under_way(
    monkeypatch: pytest.MonkeyPatch, under_way: int, *, is_too_strict: bool
) -> None:
    """The target has counted each call, but has responded to none when it refuses the next one."""
    clock = Clock()

    def call_meanwhile() -> bytes:
        session.send(session.builder.create({}), once=True)
        return ACCEPTED

    transport = Transport(*[call_meanwhile] * under_way, lambda: REFUSED, lambda: ACCEPTED)
    session = session_with(transport, clock, monkeypatch)
    session.send(session.builder.create({}), once=True)
    assert session.is_rate_limited
    assert [finding.clause for finding in session.log.findings] == ["createTask/rate"] * is_too_strict


@pytest.mark.parametrize(
    ("age", "is_too_strict"),
    [(0, False), (SECONDS, False), (SECONDS * 1.1 - 0.01, False), (SECONDS * 1.1 + 0.01, True)],
)
def test_a_refusal_counts_the_calls_of_the_period_of_the_rate(
    monkeypatch: pytest.MonkeyPatch, age: float, *, is_too_strict: bool
) -> None:
    clock = Clock()
    transport = Transport(*[lambda: ACCEPTED] * ALLOWED, lambda: REFUSED, lambda: ACCEPTED)
    session = session_with(transport, clock, monkeypatch)
    for _ in range(ALLOWED):
        session.send(session.builder.create({}), once=True)
    clock.advance(age)
    session.send(session.builder.create({}), once=True)
    assert [finding.clause for finding in session.log.findings] == ["createTask/rate"] * is_too_strict


def test_a_refusal_is_compared_with_the_calls_before_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The response may be slow: by the time it is read, the calls that explain it have left the window."""
    clock = Clock()

    def refuse_late() -> bytes:
        clock.advance(3 * SECONDS)
        return REFUSED

    transport = Transport(*[lambda: ACCEPTED] * ALLOWED, refuse_late, lambda: ACCEPTED)
    session = session_with(transport, clock, monkeypatch)
    for _ in range(ALLOWED + 1):
        session.send(session.builder.create({}), once=True)
    assert list(session.log.findings) == []


def test_calls_that_the_target_refused_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    transport = Transport(*[lambda: ACCEPTED] * (ALLOWED - 1), *[lambda: REFUSED] * 5, lambda: ACCEPTED)
    session = session_with(transport, clock, monkeypatch)
    for _ in range(ALLOWED):
        session.send(session.builder.create({}), once=True)
    (finding,) = session.log.findings
    assert (finding.clause, finding.count) == ("createTask/rate", 5)


def test_a_call_without_a_response_counts() -> None:
    clock = Clock()
    calls = RateLog(clock)
    calls.end(calls.begin(), is_refused=False)
    clock.advance(5)
    calls.begin()
    assert [calls.count_since(clock.now - seconds) for seconds in (6, 4)] == [2, 1]
