"""Reading a request's body from the socket and as JSON, whatever a client may send."""

from __future__ import annotations

import codecs
import contextlib
from hmac import compare_digest
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace
from seedbed_schemas import local
from seedbed_schemas.openapi import models_data, schema_data
from seedbed_schemas.validation import for_display
from starlette.requests import ClientDisconnect

from seedbed_mock.faults.effects import LostTask, OrphanTask, ResponseEffect, ResponseReplacedError, TaskEffect
from seedbed_mock.faults.engine import ActiveRule, MatchContext, rules_in_prompt
from seedbed_mock.faults.rules import RuleError, starts_like_rule
from seedbed_mock.responses import ServiceError
from seedbed_mock.results.picture import RESULTS
from seedbed_mock.stores.store import NameTakenError, OverdrawnError
from seedbed_mock.tasks import CallbackDelivery, Task, even_timeline, polled, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from starlette.types import Message, Receive

    from seedbed_mock.accounts import SlidingWindow, Space
    from seedbed_mock.faults.effects import Effect
    from seedbed_mock.faults.engine import RuleSource
    from seedbed_mock.state import RequestContext, Service

    Handler = Callable[[Service, RequestContext], None]

LARGEST_BODY = 1024 * 1024
"""In bytes; the longest request that keeps the contract is some 40 KiB."""

_DRAINED_BODY = 16 * LARGEST_BODY
"""So much of a body that is too large is read and dropped: many clients read no answer before they have sent all."""

_DEEPEST_NESTING = 64


async def read_body(receive: Receive) -> bytes | None:
    """Return the body, or ``None`` for one that is too large to take in.

    Raises:
        ClientDisconnect: The client left before it had sent all.
    """
    message = await _next(receive)
    if not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        return whole if len(whole) <= LARGEST_BODY else None
    body, size = bytearray(), 0
    while True:
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= LARGEST_BODY:
            body += chunk
        if not message.get("more_body") or size > _DRAINED_BODY:
            return bytes(body) if size <= LARGEST_BODY else None
        message = await _next(receive)


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def parse_json(body: bytes | None) -> tuple[Any, str]:
    """Return the body as a value and as the text it was.

    Of a key that stands twice in an object, the last counts.

    Raises:
        ServiceError: The body is no JSON that the service would take.
    """
    if body is None:
        raise ServiceError("body_malformed", problem=f"the body is larger than {LARGEST_BODY} bytes")
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise ServiceError("body_malformed", problem="the body is empty; send a JSON object")
    try:
        value, text = msgspec.json.decode(body), body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServiceError("body_malformed", problem=f"the body is not JSON ({error})") from error
    except RecursionError as error:
        raise _too_deep() from error
    # Counting brackets is cheap and clears nearly every body of the suspicion.
    if body.count(b"[") + body.count(b"{") > _DEEPEST_NESTING and _is_deeper(value, _DEEPEST_NESTING):
        raise _too_deep()
    return value, text


def _too_deep() -> ServiceError:
    return ServiceError("body_malformed", problem=f"the body is nested deeper than {_DEEPEST_NESTING} levels")


def _is_deeper(value: Any, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inside is None:
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inside)


KEY_PREFIX = "seedbed-"
"""What a key begins with that names a rule: ``seedbed-402``."""

_HEADER = local.FAULT_HEADER.lower().encode()
_PHRASE = b"[[fault:"


def may_match_fault(service: Service, call: RequestContext) -> bool:
    """Tell whether there is anything that a call could meet; this is all that most calls cost."""
    if service.faults.active_rules or service.scenario_runner or call.key_rule or _HEADER in call.headers:
        return True
    # One byte is found far sooner than several, and most bodies have none of it.
    return call.body is not None and _PHRASE[0] in call.body and _PHRASE in call.body


def match_fault(service: Service, call: RequestContext) -> None:
    """Find the fault that the call meets: one that came with it, or one in force."""
    if service.scenario_runner:
        service.scenario_runner.count_call()
    asked = _asked(call.body)
    prompt = _prompt(service, asked)
    request_rules: list[ActiveRule] = []
    if (header := call.headers.get(_HEADER)) is not None:
        request_rules.append(_request_rule(service, call, _text(header), "header"))
    if call.key_rule:
        request_rules.append(_request_rule(service, call, call.key_rule, "key"))
    request_rules += [_request_rule(service, call, text, "prompt") for text in rules_in_prompt(prompt)]
    call.fault = service.faults.find_match(_match_context(service, call, asked, prompt), request_rules)


def _request_rule(service: Service, call: RequestContext, text: str, source: RuleSource) -> ActiveRule:
    try:
        return service.faults.from_request(text, source, call.space.name)
    except RuleError as error:
        raise ServiceError("fault_malformed", source=_SOURCES[source], problem=str(error)) from error


_SOURCES: dict[RuleSource, str] = {
    "header": f"the header {local.FAULT_HEADER}",
    "key": "the key",
    "prompt": "the prompt",
}


def _text(header: bytes) -> str:
    try:
        return header.decode().strip()
    except UnicodeDecodeError:
        return header.decode("latin-1").strip()


def _match_context(service: Service, call: RequestContext, asked: Any, prompt: str) -> MatchContext:
    model = asked.get(service.shared.fields.model) if isinstance(asked, dict) else None
    return MatchContext(
        operation=call.operation,
        space=call.space.name,
        account=call.caller.name,
        model=model if isinstance(model, str) else "",
        prompt=prompt,
        seconds=call.now / 1000 - service.started_at,
    )


def _asked(body: bytes | None) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _prompt(service: Service, asked: Any) -> str:
    """Return all the text of a request's input, which is where a prompt is, whatever its model calls it."""
    values = asked.get(service.shared.fields.input) if isinstance(asked, dict) else None
    texts = values.values() if isinstance(values, dict) else ()
    return "\n".join(text for text in texts if isinstance(text, str))


_UNTIL, _MARK = "until", "mark"


def link_download(service: Service, call: RequestContext) -> None:
    """Give a URL of a result of this service that holds for some minutes."""
    field = service.shared.download_url.field
    url = call.request.get(field) if isinstance(call.request, dict) else None
    folder = f"{call.base_url}{RESULTS}/"
    name = unquote(url.removeprefix(folder)) if isinstance(url, str) and url.startswith(folder) else ""
    if service.result(name) is None:
        raise ServiceError("url_wrong")
    until = service.now() + service.shared.download_seconds * 1000
    call.data = f"{url}?{_UNTIL}={until}&{_MARK}={_mark(service, name, str(until))}"


def is_over(service: Service, name: str, query: Mapping[str, str]) -> bool:
    """Tell whether the URL of a download holds no longer, or never did; a result's own URL is none."""
    if _UNTIL not in query:
        return False
    until, mark = query[_UNTIL], query.get(_MARK, "")
    is_ours = compare_digest(_mark(service, name, until).encode(), mark.encode())
    return not is_ours or service.now() >= int(until)


def _mark(service: Service, name: str, until: str) -> str:
    return service.sign(f"{name}/{until}")


MODEL_PARAMETER = "model"
"""Name of the path parameter that names a model."""

_SPACE_HEADER = local.SPACE_HEADER.lower().encode()

_SHOWN_VIOLATIONS = 3


def authenticate(service: Service, call: RequestContext) -> None:
    """Find the space and the account of the key."""
    operation = service.operation
    scheme, _, key = call.headers.get(service.key_header, b"").decode("latin-1").partition(" ")
    call.space, key = _space_and_key(service, call, key.strip())
    if scheme.lower() == operation.scheme.lower():
        call.account = call.space.accounts.get(key)
        if (
            call.account is None
            and key.startswith(KEY_PREFIX)
            and starts_like_rule(rule := key.removeprefix(KEY_PREFIX))
        ):
            call.account, call.key_rule = call.space.guest(key), rule
    if call.account is None:
        raise ServiceError("key_refused", header=operation.header, scheme=operation.scheme)


def _space_and_key(service: Service, call: RequestContext, key: str) -> tuple[Space, str]:
    """Return the space that the call names in its header, or else in its key, and the key without it."""
    name = call.headers.get(_SPACE_HEADER, b"").decode("latin-1")
    inside, key = service.spaces.split(key)
    if not name and inside is None:
        return service.spaces.default, key
    try:
        return service.spaces.named(name or inside or ""), key
    except ValueError as error:
        header = local.SPACE_HEADER if name else service.operation.header
        raise ServiceError("space_malformed", header=header, problem=str(error)) from error


def enforce_rate_limit(_: Service, call: RequestContext) -> None:
    """Refuse where the account has made as many tasks of late as it may; only what becomes a task counts."""
    _enforce_limit(call.caller.creations, call)


def enforce_poll_rate_limit(_: Service, call: RequestContext) -> None:
    """Refuse where the account has asked for records as often of late as it may."""
    if window := call.caller.queries:
        _enforce_limit(window, call)
        window.count(call.now)


def _enforce_limit(window: SlidingWindow | None, call: RequestContext) -> None:
    if window and not window.has_room(call.now):
        raise ServiceError("rate_exceeded", requests=window.rate.requests, seconds=f"{window.rate.seconds:g}")


def apply_fault(service: Service, call: RequestContext) -> None:
    """Answer as the fault that the call meets says, where that is what it does."""
    if not may_match_fault(service, call):
        return
    match_fault(service, call)
    if call.fault and isinstance(effect := call.fault.rule.effect, ResponseEffect):
        raise ResponseReplacedError(effect)


def parse_request(_: Service, call: RequestContext) -> None:
    """Read the body as JSON."""
    call.request, call.text = parse_json(call.body)


def resolve_model(service: Service, call: RequestContext) -> None:
    """Find the model, or refuse one that is not played; a request that names none is for a contract to refuse."""
    field, models = service.shared.fields.model, service.catalogue.models
    name = call.request.get(field) if isinstance(call.request, dict) else None
    if isinstance(name, str) and name not in models:
        raise ServiceError("model_unknown", field=field, model=for_display(name), known=", ".join(models))
    call.model = models[name] if isinstance(name, str) else service.catalogue.shipped


def validate_request(service: Service, call: RequestContext) -> None:
    """Refuse a request that breaks the contract, naming every field and rule."""
    schema = call.model.contract.request
    if not schema.accepts(call.request) and (violations := schema.violations(call.request)):
        problem = "; ".join(violation.message for violation in violations[:_SHOWN_VIOLATIONS])
        first = violations[0]
        call.violations = tuple(violation.clause for violation in violations)
        raise ServiceError(service.dialect.case_of_violation(first.keyword), problem=problem, field=first.field)


def create_task(service: Service, call: RequestContext) -> None:
    """Charge the price, fix the timeline of a task and keep it: all of it, or nothing."""
    account, effect = call.caller, call.fault.rule.effect if call.fault else None
    try:
        if isinstance(effect, LostTask):
            service.store.charge(account, call.model.profile.credits, call.now)
            raise ServiceError("internal_error", is_simulated=True)
        task = _keep_task(service, call, effect)
    except OverdrawnError as error:
        price = call.model.profile.credits
        raise ServiceError("credits_insufficient", price=_plain(price), balance=_plain(error.balance)) from error
    if account.creations:
        account.creations.count(call.now)
    if task.callback:
        service.callback_is_due()
    call.task_id = task.task_id
    call.data = dict.fromkeys(service.dialect.created, task.task_id)
    if isinstance(effect, OrphanTask):
        raise ServiceError("internal_error", is_simulated=True)


def _keep_task(service: Service, call: RequestContext, effect: Effect | None) -> Task:
    timeline = _timeline(service, call)
    while True:
        task = _new_task(service, call, timeline)
        if isinstance(effect, TaskEffect):
            task = replace(effect.apply(task), fault_rule=str(call.fault.rule) if call.fault else "")
        # Another server on the same file may have come by the same name.
        with contextlib.suppress(NameTakenError):
            service.store.create(task, call.caller)
            return task


def _timeline(service: Service, call: RequestContext) -> tuple[int, ...]:
    settings = service.settings
    if not settings.progress.by_time:
        return ()
    return even_timeline(call.now, round(settings.span.draw(call.space.chance) * 1000))


def _new_task(service: Service, call: RequestContext, timeline: tuple[int, ...]) -> Task:
    task_id = service.next_task_id(call.model.contract.model, call.now)
    url = call.request.get(service.shared.fields.callback)
    return Task(
        task_id=task_id,
        space=call.space.name,
        account=call.caller.name,
        model=call.model.contract.model,
        request=call.text,
        result_name=service.result_name(task_id),
        base_url=call.base_url,
        price=call.model.profile.credits,
        created=call.now,
        visible=call.now + round(service.settings.visible_after * 1000),
        timeline=timeline,
        callback=CallbackDelivery(url=url, due=timeline[-1] if timeline else None) if isinstance(url, str) else None,
    )


def _plain(amount: Decimal) -> str:
    """Return an amount without zeros that say nothing and without an exponent."""
    return f"{amount.normalize():f}"


def get_task(service: Service, call: RequestContext) -> None:
    """Show the record of a task of this account, which may be what moves it on."""
    parameter = service.shared.record_info.query
    if not (task_id := call.query.get(parameter, "")):
        raise ServiceError("task_id_missing", parameter=parameter)
    task, now = _own_task(service, call, task_id), call.now
    if task is None or now < task.visible:
        raise ServiceError("task_unknown", task_id=for_display(task_id))
    if (polls := service.settings.progress.polls) and task.ends is None:
        task = service.store.change(task_id, lambda task: polled(task, now, polls)) or task
        service.callback_is_due()
    call.data = record(task, now, dialect=service.dialect, base_url=call.base_url)


def _own_task(service: Service, call: RequestContext, task_id: str) -> Task | None:
    task, account = service.store.find(task_id), call.caller
    if task is None or task.account != account.name or task.space != account.space:
        return None
    call.task_id, call.applied = task_id, task.fault_rule
    return task


def get_credit(service: Service, call: RequestContext) -> None:
    """Show what the account may still spend, as a bare number."""
    balance = service.store.balance(call.caller, call.now)
    call.data = int(balance) if balance == int(balance) else float(balance)


def list_models(service: Service, call: RequestContext) -> None:
    """Tell which models are played."""
    call.data = models_data(model.contract for model in service.catalogue.models.values())


def get_model_schema(service: Service, call: RequestContext) -> None:
    """Show the OpenAPI document of a model."""
    name, models = call.path.get(MODEL_PARAMETER, ""), service.catalogue.models
    if name not in models:
        raise ServiceError("schema_unknown", model=for_display(name), known=", ".join(models))
    call.data = schema_data(models[name].contract)


CREATE_TASK: tuple[Handler, ...] = (
    authenticate,
    enforce_rate_limit,
    apply_fault,
    parse_request,
    resolve_model,
    validate_request,
    create_task,
)
RECORD_INFO: tuple[Handler, ...] = (authenticate, enforce_poll_rate_limit, apply_fault, get_task)
CREDIT: tuple[Handler, ...] = (authenticate, apply_fault, get_credit)
DOWNLOAD_URL: tuple[Handler, ...] = (authenticate, apply_fault, parse_request, link_download)
MODELS: tuple[Handler, ...] = (authenticate, apply_fault, list_models)
MODEL_SCHEMA: tuple[Handler, ...] = (authenticate, apply_fault, get_model_schema)
