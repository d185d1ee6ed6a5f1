"""Checks of good practices: how a target handles requests that neither the page nor a standard decides.

Whatever a target does with such a request, it conforms; the findings are warnings. An accepted body costs a task, so
bodies are only sent to a target where tasks cost nothing, and few of them where the rate or the balance is limited.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Final

from seedbed_schemas import job_api
from seedbed_schemas.validation import for_display

from seedbed_contract import tasks
from seedbed_contract.cases import accepted, raw, wrong_keys
from seedbed_contract.detection import UNKNOWN_TASK_ID
from seedbed_contract.http import JSON_BODY
from seedbed_contract.rules import practices
from seedbed_contract.rules.envelope import JSON, Defect

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from seedbed_contract.cases import RawBodyCase
    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session


_METHOD_NOT_ALLOWED: Final = 405
_MOST_OF_A_PRACTICE: Final = 2
_MOST_LIMITED_TASKS: Final = 5
"""Bodies that may be accepted where the rate or the balance of the target is limited."""
_SPARE_TASKS: Final = 40
"""Tasks that the balance has to cover after all bodies; the checks of the rate and of the balance need some."""

_FAILING: Final = {
    "practice/odd-texts": "an odd text",
    "practice/odd-numbers": "an odd number",
    "practice/deep-nesting": "a deeply nested body",
    "practice/large-bodies": "a large body",
    "practice/repeated-names": "an object with a repeated name",
    "practice/odd-headers": "a body with odd headers",
    practices.STRICT_JSON: "a body that is not JSON",
    practices.MEDIA_TYPE: "a body that is labelled as something else than JSON",
    practices.UNKNOWN_FIELDS: "a request with an unknown field",
}
"""Practices that concern a body, each with a description of such a body."""
_ACCEPTED: Final = frozenset({practices.STRICT_JSON, practices.MEDIA_TYPE})
"""Practices that a target does not follow if it accepts the body."""
_SHOULD_REFUSE: Final = _ACCEPTED | {"practice/deep-nesting", "practice/large-bodies"}
_KEY_TITLES: Final = {
    ("practice/key-spelling", False): "the valid key is refused in another spelling",
    ("practice/strict-key", True): "a malformed Authorization header is accepted",
    ("practice/one-key", True): "a request with two keys, one of them wrong, is accepted",
}
"""Titles by the practice of a key, and by whether the target accepts it."""

# The host name cannot exist (RFC 6761), so no stranger gets a callback.
_NO_HOST: Final = "seedbed-check.invalid"
_SCHEMES: Final = (f"ftp://{_NO_HOST}/callback", f"mailto:callback@{_NO_HOST}", "file:///callback", "javascript:0")
_SECURE_URL: Final = f"https://{_NO_HOST}/callback"
_OTHER_URLS: Final = {
    practices.CALLBACK_HTTP: ("with plain http", f"http://{_NO_HOST}/callback"),
    practices.CALLBACK_PORT: ("with a port", f"https://{_NO_HOST}:8443/callback"),
}

_ODD_QUERIES: Final = {
    "a NUL": "%00",
    "bytes that are not UTF-8": "%FF%FE",
    "a broken escape": "%zz%",
    "8,000 characters": "a" * 8_000,
    "quotes and brackets": "%5B%22%27%5D%7B%7D%24",
}


def check_strict_parsing(session: Session) -> None:
    """Send bodies that a target should refuse, but may accept: those that are not JSON, and very large ones."""
    if not session.budget.is_free:
        session.mark_unchecked("an accepted body would cost credits")
        return
    accepting = Counter[str]()
    for case in _in_turns(session, _SHOULD_REFUSE):
        # Further bodies of a practice that the target does not follow would cost tasks and show little.
        if accepting[case.practice] < _MOST_OF_A_PRACTICE and accepting.total() < _MOST_LIMITED_TASKS:
            accepting[case.practice] += _send_odd_body(session, case)


def check_odd_bodies(session: Session) -> None:
    """Send bodies that a target may accept or refuse, but on which it should not fail."""
    if not session.budget.is_free:
        session.mark_unchecked("an accepted body would cost credits")
        return
    session = session.with_fresh_account()
    _check_chunks(session)
    cases = list(_in_turns(session, _FAILING.keys() - _SHOULD_REFUSE))
    is_limited = session.is_rate_limited or session.budget.remaining_tasks < len(cases) + _SPARE_TASKS
    room = _MOST_LIMITED_TASKS if is_limited else len(cases)
    for number, case in enumerate(cases):
        if room <= 0:
            session.mark_unchecked(f"the limits of the target leave no room for {len(cases) - number} odd bodies")
            return
        room -= _send_odd_body(session, case)


def _in_turns(session: Session, names: Collection[str]) -> Iterator[RawBodyCase]:
    """Yield the bodies of some practices, one of each practice in turn, so that a few of them show most practices."""
    by_practice: dict[str, list[RawBodyCase]] = {}
    for case in raw(session.builder.contract):
        if case.practice in names:
            by_practice.setdefault(case.practice, []).append(case)
    return (case for turn in itertools.zip_longest(*by_practice.values()) for case in turn if case is not None)


def _send_odd_body(session: Session, case: RawBodyCase) -> bool:
    """Send a body, check what a target does with it, and return whether it was accepted."""
    request = session.builder.create(case.body, case.headers)
    exchange = session.send(request, once=True, strict=False)
    tasks.track(session, exchange, {}, case.name, is_followed=False, is_odd=True)
    practice, title, is_accepted = case.practice, "", session.has_created_task(exchange)
    if outcome := practices.failure_of(exchange, session.expected):
        title = f"{_FAILING[practice]} {outcome}"
    elif is_accepted:
        title = f"{_FAILING[practice]} is accepted" if practice in _ACCEPTED else ""
    elif practice == practices.UNKNOWN_FIELDS and _is_refused(session, exchange):
        title = f"{_FAILING[practice]} is refused with code {exchange.code}"
    _judge(session, practice, title, exchange, case.name)
    return is_accepted


def _judge(session: Session, practice: str, title: str, exchange: Exchange, case: str = "") -> None:
    """Count a practice as judged, and report it if there is a title."""
    session.exercise(practice)
    session.report([Defect(practice, title, kind=practice)] if title else [], exchange, case)


def _is_refused(session: Session, exchange: Exchange) -> bool:
    """Return whether a target refuses a request for what it contains, not for the rate or for credits."""
    limits = session.expected.codes("rate_exceeded", "credits_insufficient")
    lawful = limits - session.expected.codes("request_invalid")
    return exchange.code is not None and exchange.code not in lawful and not session.has_created_task(exchange)


def _check_chunks(session: Session) -> None:
    """Send a request in chunks, which is valid HTTP; a server may require Content-Length all the same."""
    base = accepted(session.builder.contract)[0].request
    headers = (*JSON_BODY, ("Transfer-Encoding", "chunked"))
    exchange = session.send(session.builder.create(base, headers), once=True, strict=False)
    tasks.track(session, exchange, base, "in chunks", is_followed=False)
    is_read = exchange.code is not None and not _is_refused(session, exchange)
    _judge(session, practices.CHUNKED, "" if is_read else "a body in chunks is refused", exchange)


def check_callback_urls(session: Session) -> None:
    """Send callback URLs that a target should refuse, and others that it should accept."""
    properties = session.builder.contract.part("request").get("properties", {})
    if job_api().fields.callback not in properties or not (session.budget.is_free and session.budget.remaining_tasks):
        session.mark_unchecked("the contract has no callback URL, or an accepted one would cost credits")
        return
    for url in _SCHEMES:
        exchange = _request_callback(session, url)
        is_accepted = session.has_created_task(exchange)
        title = f"a callBackUrl with the scheme {url.partition(':')[0]} is accepted" if is_accepted else ""
        _judge(session, practices.CALLBACK_SCHEME, title, exchange, url)
        if is_accepted:
            break  # another one would cost a task and show no more
    # The URL of a callback that was accepted before has plain http and a port.
    if any(task.callback_path for task in session.tasks):
        return
    if not session.has_created_task(_request_callback(session, _SECURE_URL)):
        session.mark_unchecked("the target refuses callbacks to a host that does not exist")
        return
    for practice, (description, url) in _OTHER_URLS.items():
        exchange = _request_callback(session, url)
        title = f"a callBackUrl {description} is refused" if _is_refused(session, exchange) else ""
        _judge(session, practice, title, exchange, url)


def _request_callback(session: Session, url: str) -> Exchange:
    request = {**accepted(session.builder.contract)[0].request, job_api().fields.callback: url}
    exchange = session.send(session.builder.create(request), once=True)
    tasks.track(session, exchange, request, url, is_followed=False)
    return exchange


def check_odd_keys(session: Session) -> None:
    """Send the valid key in spellings that a target may accept or refuse, and beside a wrong one."""
    contract, refused = session.builder.contract, session.expected.codes("key_refused")
    for case in wrong_keys(session.target.key, contract=contract):
        # An HTTP client cannot send a value with a space around it; those around it belong to the syntax of a header.
        if not case.practice or any(value != value.strip() for _, value in case.headers):
            continue
        request = session.builder.with_authorization(case.headers).record(UNKNOWN_TASK_ID)
        exchange = session.send(request, strict=False)
        title = _KEY_TITLES.get((case.practice, exchange.code not in refused), "") if exchange.code else ""
        if outcome := practices.failure_of(exchange, session.expected):
            title = f"an odd Authorization header {outcome}"
        _judge(session, case.practice, title, exchange, case.name)


def check_odd_queries(session: Session) -> None:
    """Fetch records with odd task IDs, and with several of them."""
    operation = job_api().record_info
    queries = {name: f"{operation.query}={value}" for name, value in _ODD_QUERIES.items()}
    queries["two task IDs"] = f"{operation.query}={UNKNOWN_TASK_ID}&{operation.query}=0"
    for name, query in queries.items():
        request = session.builder.call(operation.method, f"{operation.path}?{query}")
        exchange = session.send(request, strict=False)
        outcome = practices.failure_of(exchange, session.expected)
        _judge(session, practices.ODD_QUERIES, f"an odd query {outcome}" if outcome else "", exchange, name)


def check_unknown_path(session: Session) -> None:
    """Call a path that the service does not have: clients expect JSON there, too."""
    exchange = session.send(session.builder.path(f"{job_api().record_info.path}/no-such-path"), strict=False)
    response, title = exchange.response, ""
    if outcome := practices.failure_of(exchange, session.expected):
        title = f"a call of an unknown path {outcome}"
    elif response is not None and response.media_type != JSON:
        title = f"the response to an unknown path is {for_display(response.media_type) or 'of no media type'}"
    _judge(session, practices.UNKNOWN_PATHS, title, exchange)


def check_other_methods(session: Session) -> None:
    """Call operations with methods that they do not have and that change nothing."""
    operation, credit = session.builder.contract.operation, job_api().credit
    calls = [(method, operation.path) for method in ("GET", "HEAD", "OPTIONS") if method != operation.method]
    calls += [("POST", credit.path)] if "credit" in session.capabilities else []
    for method, path in calls:
        exchange = session.send(session.builder.call(method, path), strict=False)
        response, title = exchange.response, ""
        if outcome := practices.failure_of(exchange, session.expected):
            title = f"a call with the method {method} {outcome}"
        elif method in {"GET", "POST"} and practices.is_success(exchange, session.expected):
            title = f"a call with the method {method}, which the operation does not have, succeeds"
        elif response is not None and response.status == _METHOD_NOT_ALLOWED and not response.header("allow"):
            title = "a response with HTTP 405 has no header Allow"
        _judge(session, practices.OTHER_METHODS, title, exchange, f"{method} {path}")
