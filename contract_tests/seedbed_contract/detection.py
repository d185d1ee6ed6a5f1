"""Which of the operations that a target need not have it has."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from seedbed_schemas import default_contract, local
from seedbed_schemas.dialect import dialects, documented

from seedbed_contract.cases import refused
from seedbed_contract.http import NOT_JSON
from seedbed_contract.rules.envelope import JSON
from seedbed_contract.target import OK, Expectations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect

    from seedbed_contract.http import Exchange, HttpTransport, RequestBuilder, TargetRequest
    from seedbed_contract.target import HttpStatus, Target


FOREIGN_URL: Final = "http://127.0.0.1/picture.jpg"
"""A URL that is no result of any service."""

CAPABILITY_PROBES: Final[Mapping[str, Callable[[RequestBuilder], TargetRequest]]] = {
    "credit": lambda asks: asks.credit(),
    "models": lambda asks: asks.models(),
    "modelSchema": lambda asks: asks.model_schema(asks.contract.model),
    "downloadUrl": lambda asks: asks.download_url(FOREIGN_URL),
}
"""A question to each operation, which one that is there answers."""

CAPABILITY_CLAUSES: Final = {
    "credit": "creditAnswer/required/data",
    "models": "models/listed",
    "modelSchema": "models/schema",
    "downloadUrl": "downloadUrl/own",
    "faults": "code/500",
}
"""The clause that an operation breaks by not being there, where it is required."""


def detect_capabilities(wire: HttpTransport, asks: RequestBuilder, found: DetectedService) -> frozenset[str]:
    """Return the names of the optional operations that a target has.

    Raises:
        OutOfTimeError: The time of the run is over.
    """
    expected = found.expected
    # A server without the operation answers like for any path that it does not know.
    due = dict.fromkeys(CAPABILITY_PROBES, expected.codes("done"))
    due["downloadUrl"] = expected.codes("url_wrong", "done") - expected.codes("path_unknown")
    there = {name for name, ask in CAPABILITY_PROBES.items() if _is_there(wire.send(ask(asks)), due[name])}
    return frozenset(there | ({"faults"} if found.is_fake else set()))


def _is_there(exchange: Exchange, due: frozenset[int]) -> bool:
    """Tell whether an operation answers, be it with what only says that it is JSON."""
    answer = exchange.response
    is_odd = answer is not None and answer.status == OK and answer.media_type == JSON and answer.json is NOT_JSON
    return exchange.code in due or is_odd


UNKNOWN_TASK_ID: Final = "seedbed-check-no-such-task"
"""Name of a task that no service has."""
_UNREADABLE: Final = "Nothing that it answers is a JSON object: is this the URL of the service?"


class CannotCheckError(Exception):
    """There is nothing that could be judged; the message is one sentence that tells why and what to do."""


@dataclass(frozen=True, slots=True)
class DetectedService:
    """What was found out about a target.

    Attributes:
        expected: What its answers are held against.
        is_fake: Whether it says that it is Seedbed's own fake.
        is_readable: Whether anything that it answers is a JSON object.
        remarks: What was found out, in words.
        exchanges: The questions and answers, each with the clause that it breaks, empty where it breaks none.
    """

    expected: Expectations
    is_fake: bool
    is_readable: bool
    remarks: tuple[str, ...]
    exchanges: tuple[tuple[str, Exchange], ...]


def detect(wire: HttpTransport, asks: RequestBuilder, target: Target) -> DetectedService:
    """Ask a few questions that have to be refused, and tell from the answers whom one talks to.

    Raises:
        CannotCheckError: Nothing answers, or the key is refused.
    """
    contract = asks.contract
    questions = list(_questions(asks))
    answered = list(_answered(wire, questions))
    refused_key = (
        documented().cases["key_refused"].numbers({**default_contract().codes_by_name, **contract.codes_by_name})
    )
    if all(exchange.code in refused_key for _, exchange in answered):
        raise CannotCheckError(
            f"the key is refused at {wire.base_url}: give a good one with --key, or SEEDBED_API_KEY."
        )
    is_readable = any(exchange.response and isinstance(exchange.response.json, dict) for _, exchange in answered)
    dialect, http_status = _dialect(answered, contract, target), _http_status(answered, target)
    expected = Expectations(contract, dialect, http_status, is_dialect_given=target.dialect != "auto")
    is_fake = any(exchange.response and exchange.response.header(local.MARK_HEADER) for _, exchange in answered)
    remarks = tuple(_remarks(target, dialect, http_status)) if is_readable else (_UNREADABLE,)
    clauses = (clause for _, clause, _ in questions)
    exchanges = tuple(zip(clauses, (exchange for _, exchange in answered), strict=False))
    return DetectedService(expected, is_fake, is_readable, remarks, exchanges)


def _answered(
    wire: HttpTransport, questions: Iterable[tuple[str, str, TargetRequest]]
) -> Iterator[tuple[str, Exchange]]:
    """Yield the case of each question with its answer, until one made a task: that costs, and tells enough."""
    for case, _, ask in questions:
        exchange = _asked(wire, ask)
        yield case, exchange
        if exchange.task_id:
            return


def _questions(asks: RequestBuilder) -> Iterator[tuple[str, str, TargetRequest]]:
    """Yield the case of each question, and the clause that it breaks."""
    yield "task_unknown", "", asks.record(UNKNOWN_TASK_ID)
    yield "key_refused", "", asks.with_authorization(()).record(UNKNOWN_TASK_ID)
    by_case: dict[str, tuple[str, TargetRequest]] = {}
    for case in refused(asks.contract):
        keyword = case.clause.split("/")[1]
        named = {"required": "field_missing", "enum": "option_unknown", "maxLength": "text_too_long"}.get(keyword)
        if named and case.clause.startswith("input"):
            by_case.setdefault(named, (case.clause, asks.create(case.payload)))
    yield from ((named, *question) for named, question in by_case.items())


def _asked(wire: HttpTransport, ask: TargetRequest) -> Exchange:
    exchange = wire.send(ask)
    if exchange.response is None:
        raise CannotCheckError(
            f"nothing answers at {wire.base_url} as a service would ({exchange.problem}). "
            "Start the server, or check the URL."
        )
    return exchange


def _dialect(answered: list[tuple[str, Exchange]], contract: Contract, target: Target) -> Dialect:
    if target.dialect != "auto":
        return dialects()[target.dialect]
    votes = Counter(vote for case, exchange in answered if (vote := _vote(case, exchange, contract)))
    return (
        dialects()[max(votes, key=lambda title: (votes[title], title == documented().title))] if votes else documented()
    )


def _vote(case: str, exchange: Exchange, contract: Contract) -> str:
    """Return the dialect that an answer speaks for, empty where it could be either."""
    if case not in {"field_missing", "option_unknown", "text_too_long"}:
        return ""
    fitting = [title for title, dialect in dialects().items() if _fits(dialect, case, exchange, contract)]
    return fitting[0] if len(fitting) == 1 else ""


def _fits(dialect: Dialect, case: str, exchange: Exchange, contract: Contract) -> bool:
    if exchange.code not in dialect.cases[case].numbers({**default_contract().codes_by_name, **contract.codes_by_name}):
        return False
    if dialect is documented():
        return True
    words = re.sub(r"\\{\w+\\}", ".+", re.escape(dialect.cases[case].message))
    message = (
        exchange.response.json.get("msg") if exchange.response and isinstance(exchange.response.json, dict) else ""
    )
    return re.fullmatch(words, str(message)) is not None


def _http_status(answered: list[tuple[str, Exchange]], target: Target) -> HttpStatus:
    if target.http_status != "auto":
        return target.http_status
    statuses = [(exchange.response.status, exchange.code) for _, exchange in answered if exchange.response]
    mirrored = sum(status == code != OK for status, code in statuses)
    enveloped = sum(status == OK != code for status, code in statuses)
    return "mirror" if mirrored > enveloped else "envelope"


def _remarks(target: Target, dialect: Dialect, http_status: HttpStatus) -> Iterator[str]:
    if target.dialect == "auto":
        yield f"It answers in the {dialect.title} dialect."
    if target.http_status == "auto":
        how = {"envelope": "HTTP 200 with the code in the body", "mirror": "the code as HTTP status too"}[http_status]
        yield f"It answers with {how} ({http_status})."
