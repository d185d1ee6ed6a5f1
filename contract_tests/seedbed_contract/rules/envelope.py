"""Rules for one response: its form, and whether a call was accepted or refused as the contract requires."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from seedbed_schemas import default_contract, job_api
from seedbed_schemas.validation import for_display

from seedbed_contract.http import NOT_JSON
from seedbed_contract.rules.practices import response_practices
from seedbed_contract.target import OK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from seedbed_schemas.clauses import Level

    from seedbed_contract.http import Exchange, TargetResponse
    from seedbed_contract.target import Expectations


JSON: Final = "application/json"
FORM_CLAUSES: Final = (
    *("answer/given", "answer/json", "answer/content-type", "answer/http-status", "answer/no-secret"),
    "answer/no-stack-trace",
)
"""Clauses that every response exercises."""
_SUBJECTS: Final = {"record": "in a record", "envelope": "in a response", "results": "in resultJson"}
_shape: Final = cache(job_api().shape)
_TOO_LARGE: Final = 413
_LARGE_BODY: Final = 1 << 15
_MIN_SECRET: Final = 6
_MAX_WORD: Final = 16
_STACK_TRACE: Final = re.compile(
    r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+|goroutine \d+ \["
    r"|SQLSTATE\[\w+\]|\.php:\d+|\bStack trace:"
    r"|\bat [\w.$<>]+ ?\([^()]*:\d+(:\d+)?\)|\bat (/|[A-Za-z]:\\)\S+:\d+:\d+"
)


class Defect(NamedTuple):
    """A difference between a message and a clause of the contract.

    Attributes:
        clause: ID of the clause.
        title: Description of the difference, without a full stop.
        kind: Name that groups defects with different titles into one finding; empty to group by title.
        level: ``error`` or ``warning``; ``None`` for the level of the clause.
    """

    clause: str
    title: str
    kind: str = ""
    level: Level | None = None


def form_defects(exchange: Exchange, expected: Expectations, secrets: Collection[str]) -> Iterator[Defect]:
    """Yield the defects of a response that do not depend on its meaning."""
    response, operation = exchange.response, exchange.request.operation
    if response is None:
        yield Defect("answer/given", f"{operation} gets no response")
        return
    yield from leak_defects(response, secrets)
    yield from (Defect(*practice) for practice in response_practices(exchange))
    if response.json is NOT_JSON:
        # A server in front of the service refuses a large body in its own form (RFC 9110, section 15.5.14).
        if response.status != _TOO_LARGE or len(exchange.request.body or b"") <= _LARGE_BODY:
            yield Defect("answer/json", f"the response to {operation} is not valid JSON")
        return
    if response.media_type != JSON:
        media_type = for_display(response.media_type) or "missing"
        yield Defect("answer/content-type", f"the content type of a response is {media_type}, not {JSON}")
    yield from shape_defects("envelope", response.json)
    yield from _code_defects(response, operation, expected)


def _code_defects(response: TargetResponse, operation: str, expected: Expectations) -> Iterator[Defect]:
    """Yield the defects of a code, and of what is sent beside it."""
    code, success = response.code, expected.success
    status = OK if expected.http_status == "envelope" else code
    if code is None:
        return
    if code != success and "msg" in response.json and not str(response.json["msg"] or "").strip():
        yield Defect("answer/msg/type", "the msg of a refusal is empty")
    if code not in expected.all_codes:
        yield Defect("answer/code/enum", f"a response has the code {code}, which is not documented")
    if response.status != status:
        yield Defect("answer/http-status", f"code {code} is sent with HTTP {response.status}, not HTTP {status}")
    if operation == "createTask" and code != success and response.task_id:
        yield Defect("answer/refused/no-task", "the response to a refused createTask contains a task ID")


def leak_defects(response: TargetResponse, secrets: Collection[str]) -> Iterator[Defect]:
    """Yield the secrets and internals that a response contains."""
    text = "\n".join((response.body.decode("utf-8", "replace"), *(value for _, value in response.headers)))
    if has_secret(text, secrets):
        yield Defect("answer/no-secret", "a response contains the key")
    # A stack trace inside of a JSON string has escaped line breaks and quotes.
    if _STACK_TRACE.search(text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')):
        yield Defect("answer/no-stack-trace", "a response contains a stack trace")


def has_secret(text: str, secrets: Collection[str]) -> bool:
    """Return whether a text contains a key that can be recognized in it."""
    # A text may contain a short key by chance, and also a longer one that has only letters.
    recognizable = [key for key in secrets if len(key) >= (_MAX_WORD if key.isalpha() else _MIN_SECRET)]
    return any(key in text for key in recognizable)


def shape_defects(name: str, value: Any) -> Iterator[Defect]:
    """Yield the rules of a shared shape of the job API that a value breaks."""
    shape = _shape(name)
    for violation in [] if shape.accepts(value) else shape.violations(value):
        # The envelope around other shapes is checked once, as the shape "envelope".
        if name in _SUBJECTS or "/data" in violation.clause:
            title = f"{_SUBJECTS.get(name, 'in a response')}, {violation.message}"
            yield Defect(violation.clause, title, kind=f"{name} {violation.keyword}")


def creation_defects(exchange: Exchange, expected: Expectations) -> Iterator[Defect]:
    """Yield the defects of a response to an accepted createTask."""
    response = exchange.response
    if response is None or not isinstance(response.json, dict):
        return
    shape = expected.contract.answer
    for violation in [] if shape.accepts(response.json) else shape.violations(response.json):
        if violation.field not in {"code", "msg"}:  # reported as defects of the envelope
            title = f"in the response to an accepted request, {violation.message}"
            yield Defect(violation.clause, title, kind=violation.keyword)
    if not response.task_id:
        yield Defect("answer/data.taskId/type", "the response to an accepted request has no task ID")


def refusal_defects(
    exchange: Exchange, allowed: Collection[int], clause: str, what: str, let_in: Collection[int] = ()
) -> Iterator[Defect]:
    """Yield the defects of a response to a call that must be refused.

    Args:
        exchange: Exchange to check.
        allowed: Codes of a correct refusal.
        clause: Clause that the call breaks.
        what: Description of the call, such as ``a request without a key``.
        let_in: Codes which show that the call passed authentication although it must not.
    """
    code = exchange.code
    if exchange.response is None or code is None:
        return
    if code in let_in:
        yield Defect(clause, f"{what} passes authentication: the code is {code}, not {min(allowed)}")
    elif code == default_contract().code_named("success").number:
        yield Defect(clause, f"{what} is accepted")
    elif code not in allowed:
        due = " or ".join(map(str, sorted(allowed)))
        # The page documents the meaning of each code. A code that it does not list breaks the clause itself.
        is_documented = min(allowed) in {known.number for known in default_contract().codes}
        yield Defect(
            f"code/{min(allowed)}" if is_documented else clause, f"{what} is refused with code {code}, not {due}"
        )
