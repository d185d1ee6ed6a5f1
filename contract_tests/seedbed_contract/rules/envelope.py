"""One answer, judged by itself: its form, and whether it is the answer that was due."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from seedbed_schemas import Schema, default_contract, job_api
from seedbed_schemas.validation import for_display

from seedbed_contract.http import NOT_JSON
from seedbed_contract.target import OK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from seedbed_contract.http import Exchange, TargetResponse
    from seedbed_contract.target import Expectations


JSON: Final = "application/json"
FORM_CLAUSES: Final = (
    *("answer/given", "answer/json", "answer/content-type", "answer/http-status", "answer/no-secret"),
    "answer/no-stack-trace",
)
"""The clauses that every answer puts to the test."""
_SHORTEST_SECRET: Final = 6
_LONGEST_WORD: Final = 16
_STACK_TRACE: Final = re.compile(
    r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+|goroutine \d+ \["
    r"|SQLSTATE\[\w+\]|\.php:\d+|\bStack trace:"
    r"|\bat [\w.$<>]+ ?\([^()]*:\d+(:\d+)?\)|\bat (/|[A-Za-z]:\\)\S+:\d+:\d+"
)


class Defect(NamedTuple):
    """Something that breaks a clause.

    Attributes:
        clause: Id of the clause.
        title: What is wrong, a sentence without full stop.
        kind: What tells it from other flaws of the clause, where that is not the title.
    """

    clause: str
    title: str
    kind: str = ""


def form_defects(exchange: Exchange, expected: Expectations, secrets: Collection[str]) -> Iterator[Defect]:
    """Yield what is wrong with the form of an answer, whatever it says."""
    answer = exchange.response
    if answer is None:
        yield Defect("answer/given", f"{exchange.request.operation} is not answered")
        return
    yield from leak_defects(answer, secrets)
    if answer.json is NOT_JSON:
        yield Defect("answer/json", f"{exchange.request.operation} is answered with what is no JSON")
        return
    if answer.media_type != JSON:
        kind = for_display(answer.media_type) or "nothing"
        yield Defect("answer/content-type", f"an answer says that it is {kind} and not {JSON}")
    yield from _envelope_flaws(answer, expected)
    if exchange.request.operation == "createTask" and answer.code not in {None, expected.success} and answer.task_id:
        yield Defect("answer/refused/no-task", "a call for a task is refused, and its answer names a task")


def leak_defects(answer: TargetResponse, secrets: Collection[str]) -> Iterator[Defect]:
    """Yield what an answer should have kept to itself."""
    text = "\n".join((answer.body.decode("utf-8", "replace"), *(value for _, value in answer.headers)))
    if any(secret in text for secret in secrets if not _may_be_a_word(secret)):
        yield Defect("answer/no-secret", "an answer repeats the key")
    if _STACK_TRACE.search(text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')):
        yield Defect("answer/no-stack-trace", "an answer shows a stack trace")


def _may_be_a_word(secret: str) -> bool:
    """Tell whether a key may stand in a text by chance, as a short one does, or one that is a word."""
    return len(secret) < _SHORTEST_SECRET or (secret.isalpha() and len(secret) < _LONGEST_WORD)


def shape_defects(name: str, value: Any) -> Iterator[Defect]:
    """Yield the rules of a shared shape that a value breaks."""
    shape = _shape(name)
    for violation in [] if shape.accepts(value) else shape.violations(value):
        # What is wrong with the frame of an answer is told of the frame, once.
        if name in _SUBJECTS or "/data" in violation.clause:
            title = f"{_SUBJECTS.get(name, 'in the answer')}, {violation.message}"
            yield Defect(violation.clause, title, kind=f"{name} {violation.keyword}")


def creation_defects(exchange: Exchange, expected: Expectations) -> Iterator[Defect]:
    """Yield what is wrong with the answer to a request that made a task."""
    answer = exchange.response
    if answer is None or not isinstance(answer.json, dict):
        return
    shape = expected.contract.answer
    for violation in [] if shape.accepts(answer.json) else shape.violations(answer.json):
        if violation.field not in {"code", "msg"}:
            title = f"in the answer to a request that is accepted, {violation.message}"
            yield Defect(violation.clause, title, kind=violation.keyword)
    if not answer.task_id:
        yield Defect("answer/data.taskId/type", "the answer to a request that is accepted names no task")


def refusal_defects(
    exchange: Exchange, allowed: Collection[int], clause: str, what: str, let_in: Collection[int] = ()
) -> Iterator[Defect]:
    """Yield what is wrong with the answer to a call that has to be refused.

    Args:
        exchange: The exchange.
        allowed: The codes with which it may be refused.
        clause: The clause that the call breaks.
        what: The call, in words, such as ``a request that breaks it``.
        let_in: Codes of a call that was let in, and refused for another reason than the one that is due.
    """
    code = exchange.code
    if exchange.response is None or code is None:
        return
    success = _success()
    if code in let_in:
        yield Defect(clause, f"{what} is let in: it is answered with code {code} and not with {min(allowed)}")
    elif code == success:
        yield Defect(clause, f"{what} is accepted")
    elif code not in allowed:
        due = " or ".join(map(str, sorted(allowed)))
        yield Defect(_clause_of_code(min(allowed), clause), f"{what} is refused with code {code} and not with {due}")


def _clause_of_code(code: int, clause: str) -> str:
    """Return the clause that documents a code; what the page has no code for breaks its own clause."""
    return f"code/{code}" if code in _documented() else clause


@cache
def _success() -> int:
    return default_contract().code_named("success").number


@cache
def _documented() -> frozenset[int]:
    return frozenset(code.number for code in default_contract().codes)


def _envelope_flaws(answer: TargetResponse, expected: Expectations) -> Iterator[Defect]:
    yield from shape_defects("envelope", answer.json)
    code = answer.code
    if code is None:
        return
    if code != expected.success and not str(answer.json.get("msg") or "").strip() and "msg" in answer.json:
        yield Defect("answer/msg/type", "a refusal has an empty msg, which has to tell what is wrong")
    if code not in expected.all_codes:
        yield Defect("answer/code/enum", f"an answer has the code {code}, which is not documented")
    due = OK if expected.http_status == "envelope" else code
    if answer.status != due:
        yield Defect("answer/http-status", f"code {code} travels as HTTP {answer.status} and not as HTTP {due}")


_SUBJECTS: Final = {"record": "in a record", "envelope": "in an answer", "results": "in resultJson"}


@cache
def _shape(name: str) -> Schema:
    return job_api().shape(name)
