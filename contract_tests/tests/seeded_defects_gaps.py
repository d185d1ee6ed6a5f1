"""Seeded defects that need several calls to show: limits, results that vanish, leaked keys, and forced codes."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.minimal_requests import RefusalError
from tests.minimal_service import Call, Response, Service
from tests.minimal_tasks import Account, Task
from tests.minimal_variants import KEY, POLL_RATE, RATE, SIGNING_KEY, Variant
from tests.seeded_defect import MIRROR, OBSERVED, PLAIN, SeededDefect, seeded

_POLLS, _TASKS, _GIVEN, _COUNT = "recordInfo/rate", "createTask/rate", "results/given", "results/count"
_LEAK = "answer/no-secret"
_LIMITED: Final = Variant(rate=True, poll_rate=True, seconds=0)
_FORCE: Final = {"force_with": "Authorization: Bearer force-{code}"}
_TOO_MANY: Final = "Your call frequency is too high. Please try again later."


def _polls_limited(most: int, seconds: float) -> Callable[..., None]:
    def check_poll_rate(self: Service, account: Account) -> None:
        now = time.monotonic()
        with self.lock:
            recent = [poll for poll in account.polls if now - poll < seconds]
            if len(recent) >= most:
                raise RefusalError(429, _TOO_MANY)
            account.polls.append(now)

    return check_poll_rate


def _shared_polls(self: Service, account: Account) -> None:
    Service.check_poll_rate(self, self.accounts[0])


def _shared_rate(self: Service, account: Account) -> None:
    most, seconds = RATE
    if sum(self.age(task) < seconds for each in self.accounts for task in each.tasks) >= most:
        raise RefusalError(429, _TOO_MANY)


def _once_only(answer: Callable[[], Response]) -> Callable[..., Response]:
    def image(self: Service, task: Task) -> Response:
        if task.id in self.fetched:
            return answer()
        self.fetched.add(task.id)
        return Service.image(self, task)

    return image


def _results(change: Callable[[str], list[str]]) -> Callable[..., dict[str, Any]]:
    def outcome(self: Service, task: Task, state: str) -> dict[str, Any]:
        shown = Service.outcome(self, task, state)
        if state == "success":
            shown["resultJson"] = json.dumps({"resultUrls": change(self.result_url(task))})
        return shown

    return outcome


def _listed_twice(self: Service, account: Account, call: Call) -> Any:
    models = Service.models(self, account, call)["models"]
    return {"total": len(models) + 1, "models": [*models, models[-1]]}


def _other_listed_twice(self: Service, account: Account, call: Call) -> Any:
    models = Service.models(self, account, call)["models"]
    return {"total": len(models) + 1, "models": [models[0], *models]}


def _callback_header(name: str, value: str) -> Callable[..., dict[str, str]]:
    return lambda self, task, body: {**Service.signature(self, task, body), name: value}


def _callback_record_with(**fields: Any) -> Callable[..., dict[str, Any]]:
    return lambda self, task: {**Service.callback_record(self, task), **fields}


def _forced(answer: Callable[[Service, Call, int], Response]) -> Callable[..., Response]:
    """Respond to the key ``force-CODE`` with the code, as a sandbox does."""

    def handle(self: Service, call: Call) -> Response:
        code = call.headers.get("Authorization", "").rpartition("force-")[2]
        return answer(self, call, int(code)) if code.isdecimal() else Service.handle(self, call)

    return handle


def _refused(self: Service, call: Call, code: int) -> Response:
    return self.refusal_response(call, RefusalError(code, "As asked."))


def _with(change: Callable[[Response], Response]) -> Callable[..., Response]:
    return _forced(lambda self, call, code: change(_refused(self, call, code)))


def _without_code(code: int, instead: int) -> Callable[..., Response]:
    return _forced(lambda self, call, asked: _refused(self, call, instead if asked == code else asked))


SANDBOX: Final = SeededDefect("a sandbox", (), PLAIN, {"handle": _forced(_refused)})
"""A server without a defect that responds to a key with the code in it."""

GAPS: Final[tuple[SeededDefect, ...]] = (
    *(
        seeded(f"{most} queries in {seconds} s", _POLLS, variant=variant, check_poll_rate=_polls_limited(most, seconds))
        for most, seconds, variant in (
            (POLL_RATE[0] - 1, 1.0, Variant(seconds=0)),
            (POLL_RATE[0] // 2, 1.0, replace(OBSERVED, seconds=0)),
            (3, 1.0, replace(MIRROR, seconds=0)),
        )
    ),
    seeded("one limit of queries for two accounts", _POLLS, variant=_LIMITED, check_poll_rate=_shared_polls),
    seeded("one rate for two accounts", _TASKS, variant=_LIMITED, check_rate=_shared_rate),
    seeded(
        "one rate for two accounts, as observed",
        _TASKS,
        variant=replace(_LIMITED, dialect="observed", blanks=True, name="observed, limited"),
        check_rate=_shared_rate,
    ),
    seeded("a result that can be fetched once", _GIVEN, image=_once_only(lambda: Response(404, b"", {}))),
    seeded("a result that is gone when it was fetched", _GIVEN, image=_once_only(lambda: Response(410, b"gone", {}))),
    seeded(
        "an empty result the second time",
        _GIVEN,
        image=_once_only(lambda: Response(200, b"", {"Content-Type": "image/jpeg"})),
    ),
    seeded("two results for one image", _COUNT, outcome=_results(lambda url: [url, f"{url}?second"])),
    seeded("the same result twice", _COUNT, outcome=_results(lambda url: [url, url])),
    seeded("three results, as observed", _COUNT, variant=OBSERVED, outcome=_results(lambda url: [url, url, url])),
    seeded("a model listed twice", "models/listed", models=_listed_twice),
    seeded("another model listed twice", "models/listed", models=_other_listed_twice),
    seeded("the key in a header of a callback", _LEAK, signature=_callback_header("Authorization", f"Bearer {KEY}")),
    seeded("the key in a cookie of a callback", _LEAK, signature=_callback_header("Cookie", f"key={KEY}")),
    seeded("the signing key in a callback", _LEAK, signature=_callback_header("X-Key", SIGNING_KEY)),
    seeded("the key in the record of a callback", _LEAK, callback_record=_callback_record_with(owner=KEY)),
    *(
        seeded(f"422 in place of {code}", f"code/{code}", known=_FORCE, handle=_without_code(code, 422))
        for code in (401, 402, 429, 455, 505)
    ),
    seeded("success for a forced 500", "code/500", known=_FORCE, handle=_without_code(500, 200)),
    seeded(
        "forced codes as text",
        "answer/content-type",
        known=_FORCE,
        handle=_with(lambda response: replace(response, headers={"Content-Type": "text/html"})),
    ),
    seeded(
        "forced codes that are no JSON",
        "answer/json",
        known=_FORCE,
        handle=_with(lambda response: replace(response, body=b"no")),
    ),
    seeded(
        "forced codes with an empty msg",
        "answer/msg/type",
        known=_FORCE,
        handle=_forced(lambda self, call, code: self.refusal_response(call, RefusalError(code, ""))),
    ),
    seeded(
        "forced codes with their HTTP status",
        "answer/http-status",
        known=_FORCE,
        handle=_with(lambda response: replace(response, status=503)),
    ),
    seeded(
        "a task beside a forced code",
        "answer/refused/no-task",
        known=_FORCE,
        handle=_forced(lambda self, call, code: self.respond(call, code, "As asked.", {"taskId": "t"})),
    ),
)
