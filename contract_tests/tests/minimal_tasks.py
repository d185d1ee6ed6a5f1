"""The state of the independent server: accounts with their credits, tasks with their states, and task records."""

import itertools
import json
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.minimal_requests import RefusalError
from tests.minimal_variants import ENDS, FAIL_PROMPT, POLL_RATE, PRICE, RATE, SIZES, Variant


@dataclass(frozen=True, eq=False)
class Task:
    """A task as requested; its state follows from its age.

    Attributes:
        id: The task id of the service.
        number: The number of the task on this server, from 1.
        request: The body of createTask.
        created: Time of the creation in Unix milliseconds.
        started: Time of the creation by the monotonic clock, in seconds.
    """

    id: str
    number: int
    request: Any
    created: int
    started: float

    def input_text(self, name: str) -> str:
        """Return a field of the input, empty if it is not a text; a defective server may accept an invalid request."""
        given = self.request.get("input") if isinstance(self.request, dict) else None
        value = given.get(name, "") if isinstance(given, dict) else ""
        return value if isinstance(value, str) else ""

    @property
    def size(self) -> tuple[int, int]:
        return SIZES.get((self.input_text("quality"), self.input_text("aspect_ratio")), SIZES["basic", "1:1"])

    @property
    def callback_url(self) -> Any:
        return self.request.get("callBackUrl") if isinstance(self.request, dict) else None


@dataclass(eq=False)
class Account:
    """An account: its key, its credits, its tasks, and the times of its recent polls."""

    key: str
    credits: float
    tasks: list[Task] = field(default_factory=list)
    polls: deque[float] = field(default_factory=deque)


class Tasks:
    """The accounts and tasks of one server, and their records."""

    variant: Variant
    url: str

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.lock = threading.Lock()
        self.fetched: set[str] = set()
        self.numbers = itertools.count(1)

    def new_id(self, number: int) -> str:
        forms = {
            "uuid": str(uuid.uuid4()),
            "number": str(7_000_000_000 + number),
            "long": f"{number:06d}-" + uuid.uuid4().hex * 4,
            "odd": f"job/{number}:{uuid.uuid4().hex[:8]} a+b=ü%2F",
        }
        return forms[self.variant.ids]

    def create_task(self, account: Account, request: Any) -> Task:
        """Create a task.

        Raises:
            RefusalError: The rate is exceeded, or the balance does not cover the task.
        """
        with self.lock:
            self.check_rate(account)
            self.check_credits(account)
            number = next(self.numbers)
            task = Task(self.new_id(number), number, request, int(time.time() * 1000), time.monotonic())
            account.tasks.append(task)
        return task

    def check_rate(self, account: Account) -> None:
        most, seconds = RATE
        if self.variant.rate and sum(self.age(task) < seconds for task in account.tasks) >= most:
            raise RefusalError(429, "Your call frequency is too high. Please try again later.")

    def check_poll_rate(self, account: Account) -> None:
        most, seconds = POLL_RATE
        now = time.monotonic()
        with self.lock:
            while account.polls and now - account.polls[0] >= seconds:
                account.polls.popleft()
            if self.variant.poll_rate and len(account.polls) >= most:
                raise RefusalError(429, "Your call frequency is too high. Please try again later.")
            account.polls.append(now)

    def check_credits(self, account: Account) -> None:
        if account.credits - sum(self.reserved(task) for task in account.tasks) < PRICE:
            raise RefusalError(402, "Credits insufficient: top up to continue.")

    def reserved(self, task: Task) -> float:
        return 0.0 if self.state(task) == "fail" else PRICE

    def charged(self, task: Task) -> float:
        if self.variant.pays == "creation":
            return self.reserved(task)
        return PRICE if self.state(task) == "success" else 0.0

    def balance(self, account: Account) -> Any:
        with self.lock:
            return account.credits - sum(self.charged(task) for task in account.tasks)

    def find(self, account: Account, task_id: str) -> Task | None:
        return next((task for task in list(account.tasks) if task.id == task_id and self.is_visible(task)), None)

    def is_visible(self, task: Task) -> bool:
        return self.age(task) >= self.variant.late

    def age(self, task: Task) -> float:
        return time.monotonic() - task.started

    def states(self) -> tuple[str, ...]:
        return ("waiting", "queuing", "generating") if self.variant.queuing else ("waiting", "generating")

    def will_fail(self, task: Task) -> bool:
        return self.variant.fails and FAIL_PROMPT in task.input_text("prompt")

    def state(self, task: Task) -> str:
        age, states = self.age(task), self.states()
        if age >= self.variant.seconds:
            return ENDS[self.will_fail(task)]
        return states[int(age / self.variant.seconds * len(states))]

    def record(self, task: Task) -> dict[str, Any]:
        state = self.state(task)
        record = {"taskId": task.id, "model": task.request["model"], "state": state, "param": self.param(task)}
        shown = {**self.outcome(task, state), **self.times(task, state), **self.consumed_credits(state)}
        record |= {name: value for name, value in shown.items() if value is not None or self.variant.blanks}
        if self.variant.extras:
            record |= {"priority": None, "worker": {"zone": "b", "tries": [1]}}
        return record

    def param(self, task: Task) -> str:
        if not self.variant.observed:
            return json.dumps(task.request)
        known = {name: task.request[name] for name in ("callBackUrl", "model") if name in task.request}
        return json.dumps({"input": json.dumps(task.request["input"]), **known})

    def outcome(self, task: Task, state: str) -> dict[str, Any]:
        code, message = self.failure(task) if state == "fail" else (None, None)
        blank = "" if self.variant.blanks else None
        results = json.dumps({"resultUrls": [self.result_url(task)]}) if state == "success" else blank
        nothing = None if self.variant.observed else blank
        shown = {"resultJson": results, "failCode": code or nothing, "failMsg": message or nothing}
        return {name: value for name, value in shown.items() if name != "resultJson" or value is not None}

    def failure(self, task: Task) -> tuple[Any, Any]:
        return "422", f"The content of task {task.number} was blocked by the content policy."

    def times(self, task: Task, state: str) -> dict[str, Any]:
        ended = state in ENDS
        took = int(self.variant.seconds * 1000) if ended else None
        changed = {} if self.variant.observed else {"updateTime": self.update_time(task, state)}
        return {
            "createTime": task.created,
            **changed,
            "completeTime": task.created + took if took is not None else None,
            "costTime": took // 1000 if took is not None and self.variant.observed else took,
        }

    def update_time(self, task: Task, state: str) -> int:
        if state in ENDS:
            return task.created + int(self.variant.seconds * 1000)
        index = self.states().index(state)
        return task.created + (int(self.variant.seconds * 1000 / len(self.states()) * index) if index else 0)

    def consumed_credits(self, state: str) -> dict[str, Any]:
        if not self.variant.observed and not self.variant.extras:
            return {}
        return {"creditsConsumed": {"success": PRICE, "fail": 0.0}.get(state)}

    def result_url(self, task: Task) -> str:
        return f"{self.url}/files/{task.number}.jpg"
