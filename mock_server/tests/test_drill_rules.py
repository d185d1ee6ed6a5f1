"""Each rule of a drill over small journals: what passes, what fails and with which evidence, what is not judged."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from seedbed_mock.journal import JournalEntry
from seedbed_mock.observation import ControlRun, ImageFetch, Observation, ProgramExit, key_of
from seedbed_mock.tasks import CallbackDelivery, CallbackFault, Failure, ResultFault, Task, even_timeline
from seedbed_mock.verdicts import RULES, verdicts_on
from seedbed_schemas import job_api

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = job_api().fields
ONE, TWO = "task_1", "task_2"


def entry(at: float, operation: str, **more: Any) -> JournalEntry:
    values: dict[str, Any] = {"kind": "call", "account": "key-1", "case": "done", "code": 200, "status": 200} | more
    return JournalEntry(number=round(at * 1000) + 1, at=round(at * 1000), operation=operation, **values)


def create(at: float, task_id: str = ONE, prompt: str = "hill", **more: Any) -> JournalEntry:
    request = json.dumps({FIELDS.model: "m", FIELDS.input: {"prompt": prompt}}).encode()
    return entry(at, "createTask", task_id=task_id, **{"request": request, **more})


def refuse(at: float, code: int, operation: str = "createTask", **more: Any) -> JournalEntry:
    made = {"code": code, "case": f"case_{code}", **more}
    return create(at, "", **made) if operation == "createTask" else query(at, ONE, "", **made)


def query(at: float, task_id: str = ONE, state: str = "waiting", **more: Any) -> JournalEntry:
    answer = json.dumps({"code": 200, "data": {"taskId": task_id, "state": state} if state else None}).encode()
    return entry(at, "recordInfo", task_id=task_id, answer=answer, method="GET", target=f"/r?taskId={task_id}", **more)


def callback(at: float, task_id: str = ONE, state: str = "success", status: int | None = 200) -> JournalEntry:
    body = json.dumps({"code": 200, "data": {"taskId": task_id, "state": state}}).encode()
    return entry(at, "callback", kind="callback", task_id=task_id, request=body, status=status, attempt=1, code=None)


def task(task_id: str = ONE, *, ends: float | None = 10, fails: bool = False, **fault: Any) -> Task:
    result = {name: fault.pop(name) for name in list(fault) if name in ResultFault.__struct_fields__}
    return Task(
        task_id=task_id,
        space="",
        account="key-1",
        model="m",
        request="{}",
        result_name="x.jpg",
        base_url="",
        price=Decimal(6),
        created=0,
        visible=0,
        timeline=() if ends is None else even_timeline(0, round(ends * 1000)),
        failure=Failure("500", "") if fails else None,
        result_fault=ResultFault(**result),
        callback=CallbackDelivery(url="http://127.0.0.1:9/", fault=CallbackFault(**fault)),
    )


def run(*entries: JournalEntry, tasks: list[Task] | None = None, **more: Any) -> Observation:
    found = [task()] if tasks is None else tasks
    fetches = tuple(ImageFetch(round(at * 1000), task_id) for at, task_id in more.pop("fetches", ()))
    if isinstance(code := more.pop("code", 0), int) or code is None:
        more["exit"] = ProgramExit(code, more.pop("errors", ""))
    ended = round(more.pop("ended", 60) * 1000)
    values: dict[str, Any] = {"begun": 0, "signs": True, **more}
    return Observation(
        entries=entries, tasks={each.task_id: each for each in found}, fetches=fetches, ended=ended, **values
    )


CALM = ControlRun(Counter({key_of(create(0)): 1}), 1, fetches=True, acts_on_callbacks=True)
URL_ONLY = ControlRun(Counter({key_of(create(0)): 1}), 1, fetches=False, acts_on_callbacks=False)
POLLS = [query(at, ONE, "waiting") for at in (2, 4)]
GOOD = run(create(0), *POLLS, query(11, ONE, "success"), fetches=[(11, ONE)])
NOTHING = run(tasks=[])
SLOW = [task(ends=None)]
LOST = [query(at, ONE, "success", fault="wire.reset") for at in range(12, 60, 9)]


def refused_queries(code: int, start: int, end: int) -> list[JournalEntry]:
    """Return queries that are refused."""
    return [refuse(at, code, "recordInfo") for at in [*range(start, end, 10), end]]


def ask(at: float, **more: Any) -> JournalEntry:
    """Return a createTask request with a callback URL."""
    request = json.dumps({FIELDS.model: "m", FIELDS.input: {}, FIELDS.callback: "http://127.0.0.1:9/"}).encode()
    return create(at, **{"request": request, **more})


CASES: Mapping[str, list[tuple[str, Observation, str, str]]] = {
    "paid twice": [
        ("good", GOOD, "passed", ""),
        ("nothing", NOTHING, "not judged", "It created no task."),
        ("twice", run(create(0), create(5, TWO), tasks=[task(), task(TWO)]), "failed", "paid for 2 times"),
        ("another prompt", run(create(0), create(5, TWO, "lake"), tasks=[task(), task(TWO)]), "passed", ""),
        ("the first fails", run(create(0), create(5, TWO), tasks=[task(fails=True), task(TWO)]), "passed", ""),
        ("the first was refused", run(refuse(0, 429), create(5)), "passed", ""),
        (
            "an orphan",
            run(create(0, code=500, fault="task.orphan; times=1"), create(5, TWO), tasks=[task(), task(TWO)]),
            "failed",
            "2 times",
        ),
        ("a lost task", run(refuse(0, 500, fault="task.lost; times=1"), create(5, ONE)), "failed", "2 times"),
    ],
    "lost result": [
        ("good", GOOD, "passed", ""),
        ("no success", run(create(0), tasks=[task(fails=True)]), "not judged", "succeeded"),
        ("never asked", run(create(0)), "failed", "never learned"),
        ("asked too soon", run(create(0), *POLLS), "failed", "never learned"),
        ("a confirmed callback", run(create(0), callback(11)), "passed", ""),
        ("a refused callback", run(create(0), callback(11, status=500)), "failed", "never learned"),
        ("the ID was lost", run(create(0, fault="wire.reset; op=createTask")), "not judged", "ID"),
        ("the answer was lost", run(create(0), query(11, ONE, "success", fault="wire.reset")), "failed", "never"),
        ("the answer was late", run(create(0), query(11, ONE, "success", fault="delay seconds=1")), "passed", ""),
        (
            "too late",
            run(create(0), query(11, ONE, "success", fault="delay"), query(40, ONE, "", code=500)),
            "failed",
            "never",
        ),
        ("fetched", run(create(0), query(11, ONE, "success", fault="wire.reset"), fetches=[(12, ONE)]), "passed", ""),
        ("a refused key", run(create(0), refuse(12, 401, "recordInfo")), "not judged", "in vain"),
        ("one error", run(create(0), refuse(12, 500, "recordInfo")), "failed", "never learned"),
        ("errors for a minute", run(create(0), *refused_queries(500, 12, 72), ended=80), "failed", "never learned"),
        ("errors for 15 minutes", run(create(0), *refused_queries(500, 12, 909), ended=910), "not judged", "in vain"),
        (
            "errors until it was stopped",
            run(create(0), *refused_queries(500, 12, 55), code=None),
            "not judged",
            "in vain",
        ),
        ("lost until it was stopped", run(create(0), *LOST, code=None), "not judged", "in vain"),
        ("unknown for a minute", run(create(0), *refused_queries(404, 1, 62), ended=63), "not judged", "in vain"),
        ("unknown for a moment", run(create(0), *refused_queries(404, 1, 30), ended=31), "failed", "never learned"),
        (
            "stopped long after an error",
            run(create(0), *refused_queries(500, 12, 15), code=None, ended=90),
            "failed",
            "never",
        ),
        ("stopped just after its end", run(create(0), *POLLS, code=None, ended=35), "not judged", "succeeded"),
        ("stopped long after its end", run(create(0), *POLLS, code=None, ended=90), "failed", "never learned"),
        ("ended just after its end", run(create(0), *POLLS, ended=35), "failed", "never learned"),
    ],
    "paid and never fetched": [
        ("good", GOOD, "passed", ""),
        ("told, not fetched", run(create(0), query(11, ONE, "success")), "failed", "never fetched"),
        (
            "no image",
            run(create(0), query(11, ONE, "success"), tasks=[task(has_dead_url=True)]),
            "not judged",
            "exists",
        ),
        ("failed", run(create(0), query(11, ONE, "fail"), tasks=[task(fails=True)]), "not judged", "no success"),
        ("stopped at once", run(create(0), query(11, ONE, "success"), code=None, ended=20), "not judged", "no success"),
        ("stopped later", run(create(0), query(11, ONE, "success"), code=None), "failed", "never fetched"),
    ],
    "believed a false callback": [
        ("genuine", run(create(0), callback(11)), "not judged", "No false callback"),
        ("unsigned", run(callback(11), tasks=[task(is_unsigned=True)]), "failed", "missing, wrong or old"),
        ("refused", run(callback(11, status=401), tasks=[task(is_unsigned=True)]), "passed", ""),
        ("forged", run(callback(11), tasks=[task(signing_key="x")]), "failed", "signature"),
        ("another ID", run(callback(11), tasks=[task(signed_id="undefined")]), "failed", "signature"),
        ("an hour old", run(callback(11), tasks=[task(age=3_600_000)]), "failed", "old"),
        ("a minute old", run(callback(11), tasks=[task(age=60_000)]), "not judged", "No false"),
        ("no key", run(callback(11), tasks=[task(is_unsigned=True)], signs=False), "not judged", "not signed"),
    ],
    "handled a callback twice": [
        ("once", run(callback(11), fetches=[(11, ONE)]), "not judged", "confirmed twice"),
        ("fetched once", run(callback(11), callback(13), fetches=[(11, ONE)]), "passed", ""),
        ("fetched twice", run(callback(11), callback(13), fetches=[(11, ONE), (13, ONE)]), "failed", "again"),
        ("retried download", run(callback(11), callback(15), fetches=[(11, ONE), (12, ONE)]), "passed", ""),
    ],
    "lost a callback": [
        ("queried", run(create(0), callback(11), query(12, ONE, "success")), "passed", ""),
        ("fetched", run(create(0), callback(11), fetches=[(11, ONE)]), "passed", ""),
        ("nothing", run(create(0), callback(11)), "failed", "did nothing"),
        ("known before", run(create(0), query(11, ONE, "success"), callback(12)), "not judged", "something new"),
        ("refused", run(create(0), callback(11, status=503)), "not judged", "no genuine"),
        ("false", run(callback(11), tasks=[task(is_unsigned=True)]), "not judged", "no genuine"),
        ("stopped at once", run(create(0), callback(11), code=None, ended=20), "not judged", "no genuine"),
        ("stopped later", run(create(0), callback(11), code=None), "failed", "did nothing"),
    ],
    "hammered": [
        ("good", GOOD, "passed", ""),
        ("one request", run(create(0)), "not judged", "fewer than two"),
        ("every 0.5 s", run(*[query(at / 2) for at in range(8)]), "failed", "more often than every 1 s"),
        ("every 2 s", run(*[query(at * 2) for at in range(8)]), "passed", ""),
        ("two tasks in turn", run(*[query(at / 2, str(at % 4)) for at in range(16)]), "passed", ""),
        ("the clock is fast", run(*[query(at * 10) for at in range(8)], speed=20), "failed", "more often"),
        ("at once after 429", run(refuse(0, 429), create(0.2)), "failed", "did not wait for 1 s"),
        ("later after 429", run(refuse(0, 429), create(3)), "passed", ""),
        ("Retry-After", run(refuse(0, 429, fault="429 retry-after=30"), create(10)), "failed", "wait for 30 s"),
        ("after Retry-After", run(refuse(0, 429, fault="429 retry-after=30"), create(30)), "passed", ""),
        ("another prompt", run(refuse(0, 429), create(0.2, TWO, "lake")), "passed", ""),
        ("no backoff", run(*[refuse(at * 1.1, 500, "recordInfo") for at in range(6)]), "failed", "backoff"),
        ("a backoff", run(*[refuse(2**at, 500, "recordInfo") for at in range(6)]), "passed", ""),
        ("a new prompt each", run(*[refuse(at / 9, 429, prompt=str(at)) for at in range(6)]), "passed", ""),
        ("one prompt of two", run(*[refuse(at / 2, 455, prompt=str(at % 2)) for at in range(12)]), "failed", "backoff"),
    ],
    "retried the hopeless": [
        ("good", GOOD, "not judged", "refused for good"),
        ("401 twice", run(refuse(0, 401), refuse(5, 401)), "failed", "code 401"),
        ("402 twice", run(refuse(0, 402), refuse(5, 402)), "failed", "code 402"),
        ("422 once", run(refuse(0, 422), create(5, TWO, "lake")), "passed", ""),
        ("another prompt", run(refuse(0, 402), refuse(5, 402, prompt="lake")), "passed", ""),
        ("another key", run(refuse(0, 401), refuse(5, 401, account="key-2")), "passed", ""),
        ("broken clauses with 500", run(*[refuse(at, 500, violations=("x",)) for at in (0, 5)]), "failed", "code 500"),
        ("an unknown record", run(*[refuse(at, 422, "recordInfo") for at in (0, 2)]), "not judged", "good"),
        ("401 of queries", run(*[refuse(at, 401, "recordInfo") for at in (0, 2)]), "failed", "code 401"),
    ],
    "gave up early": [
        ("good", GOOD, "not judged", "pending"),
        ("after 60 s", run(create(0), *POLLS, tasks=[task(ends=282)], code=1), "failed", "ended after 60 s"),
        ("after 15 min", run(create(0), *POLLS, tasks=[task(ends=None)], code=1, ended=900), "passed", ""),
        ("the 99th percentile", run(create(0), tasks=[task(ends=None)], ended=200, patience=180), "passed", ""),
        ("before it", run(create(0), tasks=[task(ends=None)], ended=170, patience=180), "failed", "170 s"),
        ("stopped", run(create(0), tasks=[task(ends=None)], code=None), "not judged", "stopped at the deadline"),
        ("401", run(create(0), refuse(5, 401, "recordInfo"), tasks=[task(ends=100)]), "not judged", "pending"),
        ("a fast clock", run(create(0), tasks=[task(ends=None)], ended=9000, speed=20), "failed", "450 s"),
    ],
    "polled for ever": [
        ("good", GOOD, "passed", ""),
        ("nothing", NOTHING, "not judged", "no record"),
        ("once more", run(query(11, ONE, "fail"), query(15, ONE, "fail")), "passed", ""),
        ("on and on", run(*[query(at, ONE, "fail") for at in range(11, 50, 5)]), "failed", "after its end"),
        ("for an hour", run(*[query(at) for at in range(0, 3600, 300)], ended=3600), "failed", "more than 1800 s"),
        ("lost answers", run(*[query(at, ONE, "fail", fault="wire.reset") for at in range(9)]), "passed", ""),
    ],
    "hung": [
        ("good", GOOD, "passed", ""),
        ("silent", run(create(0), code=None), "failed", "nothing for 60 s"),
        ("never called", run(tasks=[], code=None), "failed", "nothing for 60 s"),
        ("still polling", run(*[query(at) for at in range(0, 60, 3)], code=None), "not judged", "still sending"),
        ("polling seldom", run(create(0), query(35), code=None, tasks=SLOW), "not judged", "reason to wait"),
        ("no longer polling", run(create(0), query(35), code=None, tasks=SLOW, ended=120), "failed", "for 85 s"),
        ("after 429", run(refuse(0, 429), code=None, ended=50), "not judged", "reason to wait"),
        ("after 455", run(refuse(0, 455), code=None, ended=50), "not judged", "reason to wait"),
        ("long after 429", run(refuse(0, 429), code=None, ended=90), "failed", "for 90 s"),
        ("Retry-After", run(refuse(0, 429, fault="429 retry-after=99"), code=None, ended=95), "not judged", "wait"),
        ("after 500", run(refuse(0, 500), code=None, ended=50), "failed", "for 50 s"),
        ("a callback to come", run(ask(0), code=None, tasks=SLOW, ended=500), "not judged", "reason to wait"),
        ("for an unknown task", run(ask(0, fault="wire.reset"), code=None, tasks=[]), "not judged", "reason to wait"),
        (
            "for an orphan",
            run(ask(0, code=500, case="fault", fault="task.orphan"), code=None),
            "not judged",
            "reason to wait",
        ),
        ("an unknown code", run(refuse(0, 599, request=ask(0).request), code=None), "not judged", "reason to wait"),
        ("that never came", run(ask(0), code=None, tasks=SLOW, ended=1000), "failed", "for 1000 s"),
        ("that was lost", run(ask(0), query(5), code=None, ended=120), "failed", "for 115 s"),
        ("that came", run(ask(0), callback(11), code=None), "failed", "for 49 s"),
        ("for a refused task", run(refuse(0, 402, request=ask(0).request), code=None), "failed", "for 60 s"),
    ],
    "crashed": [
        ("good", GOOD, "passed", ""),
        ("exit code 1", run(create(0), code=1, errors="The task failed."), "passed", ""),
        ("a signal", run(create(0), code=-11), "failed", "the signal 11"),
        ("a signal in a shell", run(create(0), code=139), "failed", "the signal 11"),
        ("a traceback", run(code=1, errors="Traceback (most recent call last):\n  x"), "failed", "did not handle"),
        ("a panic", run(code=2, errors="panic: runtime error"), "failed", "panic:"),
        ("Node", run(code=1, errors="TypeError: x\n    at main (/a/b.js:3:7)"), "failed", "b.js"),
        ("a logged traceback", run(code=0, errors="Traceback (most recent call last):"), "passed", ""),
        ("stopped", run(code=None), "not judged", "deadline"),
    ],
    "claimed success wrongly": [
        ("good", GOOD, "passed", ""),
        ("nothing", run(create(0), tasks=[task(fails=True)]), "failed", "fetched 0 of 1 images"),
        ("half an image", run(create(0), tasks=[task(is_truncated=True)], fetches=[(9, ONE)]), "failed", "0 of 1"),
        ("exit code 1", run(create(0), tasks=[task(fails=True)], code=1), "not judged", "did not claim"),
    ],
}


def test_every_rule_has_cases_of_all_outcomes() -> None:
    assert [each.name for each in RULES] == list(CASES)
    outcomes = {name: {outcome for _, _, outcome, _ in cases} for name, cases in CASES.items()}
    assert all({"passed", "failed"} <= each for each in outcomes.values())
    without = {name for name, each in outcomes.items() if "not judged" not in each}
    assert without == set()


@pytest.mark.parametrize(
    ("rule", "seen", "outcome", "reason"),
    [pytest.param(name, *case[1:], id=f"{name}-{case[0]}") for name, cases in CASES.items() for case in cases],
)
def test_a_rule_over_a_journal(rule: str, seen: Observation, outcome: str, reason: str) -> None:
    found = verdicts_on(seen, CALM)[rule]
    assert (found.outcome, reason in found.reason) == (outcome, True), found
    assert found.reason == "" if outcome == "passed" else found.reason.endswith(".")
    assert list(found.evidence) == sorted(found.evidence, key=lambda each: each.seconds)


def test_the_evidence_of_a_failure_are_the_requests_with_their_times() -> None:
    seen = run(create(1), create(5, TWO, fault="wire.reset (rule 1)"), tasks=[task(), task(TWO)])
    found = verdicts_on(seen, CALM)["paid twice"]
    assert [each.describe() for each in found.evidence] == [
        "1.0 s: createTask of task_1, code 200",
        "5.0 s: createTask of task_2, code 200 (fault wire.reset)",
    ]


@pytest.mark.parametrize("name", ["paid and never fetched", "handled a callback twice", "lost a callback"])
def test_what_a_program_does_not_show_when_nothing_goes_wrong_is_not_judged(name: str) -> None:
    seen = run(create(0), callback(11), callback(13))
    assert verdicts_on(seen, URL_ONLY)[name].outcome == "not judged"


def test_a_program_that_never_fetches_has_an_image_when_it_is_told_of_it() -> None:
    told = run(create(0), query(11, ONE, "success"))
    assert verdicts_on(told, URL_ONLY)["claimed success wrongly"].outcome == "passed"
    assert verdicts_on(run(create(0)), URL_ONLY)["claimed success wrongly"].outcome == "failed"


def test_the_control_run_says_what_a_program_does() -> None:
    both = run(
        *(create(0), create(1, TWO, "lake"), callback(11), query(12, ONE, "success"), query(13, TWO, "success")),
        tasks=[task(), task(TWO)],
        fetches=[(12, ONE), (13, TWO)],
    )
    calm = ControlRun.of(both)
    assert (sorted(calm.wanted.values()), calm.images, calm.fetches, calm.acts_on_callbacks) == ([1, 1], 2, True, True)


def test_the_rules_are_documented_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs/drill.md").read_text(encoding="utf-8")
    table = page.split("<!-- verdicts -->")[1].split("\n\n")[1]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert rows[1:] == [(each.name, each.rule, f"{each.source[0].upper()}{each.source[1:]}.") for each in RULES]


def test_every_rule_is_written_in_words_with_its_source() -> None:
    for each in RULES:
        assert each.rule.endswith(".")
        assert each.source
