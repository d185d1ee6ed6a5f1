"""Random walks through the service, each response compared with a small model of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from seedbed_mock import ControlError, MockServer, running
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile

CONTRACT, SHARED, PRICE = default_contract(), job_api(), default_profile().credits
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
PENDING, SUCCESS, FAILURE = SHARED.states.pending, SHARED.states.success, SHARED.states.failure
SECONDS = 30
OPENING = {"rich": PRICE * 4, "poor": PRICE - Decimal("0.5")}

keys = st.sampled_from(sorted(OPENING))


@dataclass
class ModelTask:
    """A task as the model knows it; times in milliseconds of the model's own clock."""

    key: str
    created: int
    ends: int
    is_failed: bool = False
    is_written_off: bool = False

    def state(self, now: int) -> str:
        if self.is_failed or now >= self.ends:
            return FAILURE if self.is_failed else SUCCESS
        return PENDING[(now - self.created) * len(PENDING) // (SECONDS * 1000)]


class ServiceMachine(RuleBasedStateMachine):
    """Drives one account that can pay for some tasks and one that can pay for none."""

    server: MockServer
    http: httpx2.Client
    folder: Path | None

    tasks = Bundle("tasks")

    @initialize()
    def start(self) -> None:
        self.path = self.folder / f"{id(self)}.db" if self.folder else None
        self.now, self.known = 0, dict[str, ModelTask]()
        self.balances = dict(OPENING)
        self._play()
        self.started = self._clock()
        found = self.server.control("GET", "accounts")["accounts"]
        self.accounts = {key: each["account"] for key, each in zip(OPENING, found, strict=True)}

    def _play(self) -> None:
        self.server.play(
            key=[f"{key}:credits={amount}" for key, amount in OPENING.items()],
            clock="manual",
            task_seconds=SECONDS,
            rate_limit="off",
            db=self.path,
        )

    def _clock(self) -> int:
        now: int = self.server.control("GET", "clock")["now"]
        return now

    def _call(self, key: str, method: str, path: str, **more: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {key}"}
        response: dict[str, Any] = self.http.request(method, self.server.url + path, headers=headers, **more).json()
        return response

    @rule(target=tasks, key=keys)
    def create(self, key: str) -> str:
        response = self._call(key, "POST", CONTRACT.operation.path, json=GOOD)
        if self.balances[key] < PRICE:
            assert (response["code"], response["data"]) == (402, None)
            return "unknown_task"
        assert response["code"] == 200
        task_id: str = response["data"]["taskId"]
        assert task_id not in self.known
        self.balances[key] -= PRICE
        self.known[task_id] = ModelTask(key, self.now, self.now + SECONDS * 1000)
        return task_id

    @rule(task_id=tasks, key=keys)
    def fetch(self, task_id: str, key: str) -> None:
        response = self._call(key, "GET", SHARED.record_info.path, params={SHARED.record_info.query: task_id})
        task = self.known.get(task_id)
        if task is None or task.key != key:
            assert (response["code"], response["data"]) == (404, None)
            return
        record, state = response["data"], task.state(self.now)
        assert (response["code"], record["taskId"], record["state"]) == (200, task_id, state)
        assert record["createTime"] == self.started + task.created
        is_over = state in {SUCCESS, FAILURE}
        assert record.get("completeTime") == (self.started + task.ends if is_over else None)
        assert ("resultJson" in record) == (state == SUCCESS)
        assert json.loads(record["param"]) == GOOD

    @rule(seconds=st.sampled_from([0, 0.001, 1, 9.999, 10, 15, 30, 100]))
    def advance(self, seconds: float) -> None:
        self.server.advance(seconds)
        self.now += round(seconds * 1000)

    @rule(task_id=tasks, fails=st.booleans())
    def end(self, task_id: str, fails: bool) -> None:  # noqa: FBT001 (Hypothesis passes it by name)
        end = self.server.fail if fails else self.server.finish
        task = self.known.get(task_id)
        if task is None or task.state(self.now) in {SUCCESS, FAILURE}:
            with pytest.raises(ControlError, match="does not exist" if task is None else "already ended"):
                end(task_id)
            return
        end(task_id)
        task.ends, task.is_failed = self.now, fails
        # Nothing is refunded to a balance that was opened after the task was paid for.
        self.balances[task.key] += PRICE if fails and not task.is_written_off else 0

    @rule(key=keys, amount=st.sampled_from(["0", "0.5", "6", "6.5", "13.25"]))
    def top_up(self, key: str, amount: str) -> None:
        path = f"accounts/{self.accounts[key]}/top-up"
        account = self.server.control("POST", path, {"credits": float(amount)})
        self.balances[key] += Decimal(amount)
        assert Decimal(str(account["balance"])) == self.balances[key]

    @rule(key=keys)
    def reset_account(self, key: str) -> None:
        self.server.control("POST", f"accounts/{self.accounts[key]}/reset")
        self.balances[key] = OPENING[key]
        for task in self.known.values():
            task.is_written_off |= task.key == key

    @rule()
    def reset_all(self) -> None:
        self.server.reset()
        self.known.clear()
        self.balances = dict(OPENING)

    @precondition(lambda self: self.folder is not None)
    @rule()
    def restart(self) -> None:
        self._play()
        # The clock continues from where it stood, or from the time of day if that is later.
        moved = self._clock() - self.started - self.now
        assert moved >= 0
        self.now += moved

    @invariant()
    def balances_agree(self) -> None:
        for key, amount in self.balances.items():
            balance = self._call(key, "GET", SHARED.credit.path)["data"]
            assert Decimal(str(balance)) == amount

    @invariant()
    def tasks_agree(self) -> None:
        found = self.server.control("GET", "tasks", limit=1000)["tasks"]
        assert {task["task_id"]: task["state"] for task in found} == {
            task_id: task.state(self.now) for task_id, task in self.known.items()
        }
        assert not self.server.errors


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with running() as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("is_on_disk", [pytest.param(False, id="memory"), pytest.param(True, id="sqlite")])
def test_random_walks_agree_with_the_model(server: MockServer, http: httpx2.Client, is_on_disk: bool) -> None:  # noqa: FBT001
    with TemporaryDirectory() as folder:

        class Walk(ServiceMachine):
            pass

        Walk.server, Walk.http, Walk.folder = server, http, Path(folder) if is_on_disk else None
        run_state_machine_as_test(Walk, settings=settings(max_examples=30, stateful_step_count=30))
        server.play()
