"""The handlers of the operations, and the order in which each operation runs them.

A handler reads the context of a request, adds to it, or raises the error that becomes the response. The order
decides which error a request gets that has several mistakes.
"""

from __future__ import annotations

import contextlib
import re
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote

from msgspec.structs import replace
from seedbed_schemas import local
from seedbed_schemas.dialect import without_empty_callback
from seedbed_schemas.openapi import models_data, schema_data
from seedbed_schemas.validation import for_display

from seedbed_mock.access import ForbiddenError, check_origin, is_own_url
from seedbed_mock.bill import plain, request_key
from seedbed_mock.faults.effects import LostTask, OrphanTask, ResponseEffect, ResponseReplacedError, TaskEffect
from seedbed_mock.faults.engine import ActiveRule, MatchContext, rule_in_prompt
from seedbed_mock.faults.rules import RuleError, starts_like_rule
from seedbed_mock.request_body import parse_json
from seedbed_mock.responses import ServiceError
from seedbed_mock.results.picture import RESULTS
from seedbed_mock.stores.store import NameTakenError, OverdrawnError, RateExceededError
from seedbed_mock.tasks import CallbackDelivery, Task, even_timeline, polled, record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping

    from seedbed_mock.accounts import SlidingWindow
    from seedbed_mock.faults.effects import Effect
    from seedbed_mock.faults.engine import RuleSource
    from seedbed_mock.fleet import Fleet
    from seedbed_mock.settings import Rate
    from seedbed_mock.state import RequestContext, Service

    class Handler(Protocol):
        """A step in processing a request; its name is in the journal if it refuses the request."""

        __name__: str

        def __call__(self, service: Service, context: RequestContext, /) -> Awaitable[None] | None:
            """Handle a request; what is returned is awaited before the next handler runs."""
            ...


MODEL_PARAMETER: Final = "model"
"""Name of the path parameter that names a model."""

KEY_PREFIX: Final = "seedbed-"
"""Prefix of a key that gives a fault rule, such as ``seedbed-402``."""

_SPACE_HEADER = local.SPACE_HEADER.lower().encode()
_FAULT_HEADER = local.FAULT_HEADER.lower().encode()
_FAULT_PHRASE = b"[[fault:"
_JSON = b"application/json"

_URL_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SHOWN_VIOLATIONS = 3
_UNTIL, _MARK = "until", "mark"


# Access


def refuse_web_pages(service: Service, context: RequestContext) -> None:
    """Refuse a request that names another server, or comes from a web page of another origin."""
    headers = context.headers
    # Most requests are from programs that name the server by its address, and cost no more than this condition.
    if not context.names_server or b"origin" in headers or b"sec-fetch-site" in headers:
        try:
            pages, names = service.options.cors_origins, service.options.own_hosts
            check_origin(context.server, headers.items(), names, is_strict=False, pages=pages)
        except ForbiddenError as error:
            problem = str(error).removesuffix(".")
            raise ServiceError("body_malformed", status=error.status, problem=problem) from error


# Authentication


def authenticate(service: Service, context: RequestContext) -> Coroutine[Any, Any, None] | None:
    """Find the space and the account of the key."""
    # Most requests have a configured key as its header is usually written, and name no space.
    key = service.keys_as_sent.get(context.headers.get(service.credentials[0][0], b""))
    if key is not None and _SPACE_HEADER not in context.headers:
        context.account = context.space.accounts[key]
        return None
    _find_account(service, context)
    # At once: what a new space has evicted must be gone before a space of the same name begins.
    return service.forget_evicted() if service.evicted else None


def _find_account(service: Service, context: RequestContext) -> None:
    operation = service.operation
    is_key, sent = _sent_key(service, context.headers)
    in_key, key = service.spaces.split(sent)
    in_header = context.headers.get(_SPACE_HEADER, b"").decode("latin-1")
    is_configured = key in service.spaces.default.accounts
    # A key that gives a fault rule need not be configured: its account is made when it is first used.
    rule = key.removeprefix(KEY_PREFIX) if not is_configured and key.startswith(KEY_PREFIX) else ""
    is_accepted = is_key and (is_configured or starts_like_rule(rule))
    # Otherwise the context has the default space already.
    if in_header or in_key is not None:
        name = in_header or in_key or ""
        try:
            # A space begins with an accepted key: beyond a bound, a new one evicts another with its tasks.
            context.space = service.spaces.named(name) if is_accepted else service.spaces.existing(name)
        except ValueError as error:
            header = local.SPACE_HEADER if in_header else operation.header
            raise ServiceError("space_malformed", header=header, problem=str(error)) from error
    if not is_accepted:
        raise ServiceError("key_refused", header=operation.header, scheme=operation.scheme)
    context.account = context.space.accounts[key] if is_configured else context.space.implicit_account(key)
    context.key_rule = rule


def _sent_key(service: Service, headers: Mapping[bytes, bytes]) -> tuple[bool, str]:
    """Return whether a request has a key in the way that a contract describes, and the key or what is in its place."""
    found = ""
    for header, scheme in service.credentials:
        if value := headers.get(header):
            text = value.decode("latin-1")
            if not scheme:
                return True, text.strip()
            word, _, key = text.partition(" ")
            if word.lower() == scheme:
                return True, key.strip()
            found = found or key.strip()
    return False, found


# Rate limits


def enforce_rate_limit(service: Service, context: RequestContext) -> Coroutine[Any, Any, None] | None:
    """Refuse the request if the account has created too many tasks recently; only created tasks count."""
    if not (window := context.caller.creations):
        return None
    if service.fleet:
        return _enforce_shared_limit(service.fleet, "creations", window.rate, context)
    _enforce_limit(window, context)
    return None


def enforce_poll_rate_limit(service: Service, context: RequestContext) -> Coroutine[Any, Any, None] | None:
    """Refuse the request if the account has fetched records too often recently."""
    if not (window := context.caller.queries):
        return None
    if service.fleet:
        return _enforce_shared_limit(service.fleet, "queries", window.rate, context)
    _enforce_limit(window, context)
    window.count(context.now)
    return None


def _enforce_limit(window: SlidingWindow, context: RequestContext) -> None:
    if not window.has_room(context.now):
        raise _rate_exceeded(window.rate)


async def _enforce_shared_limit(fleet: Fleet, kind: str, rate: Rate, context: RequestContext) -> None:
    # The store counts a created task together with its price, and refuses it if another server was faster.
    if not await fleet.has_room(kind, context.caller, rate, context.now, is_counted=kind == "queries"):
        raise _rate_exceeded(rate)


def _rate_exceeded(rate: Rate) -> ServiceError:
    return ServiceError("rate_exceeded", requests=rate.requests, seconds=f"{rate.seconds:g}")


# Faults


def apply_fault(service: Service, context: RequestContext) -> Coroutine[Any, Any, None] | None:
    """Find the fault rule that matches the request; raise its response if the fault replaces the response."""
    # Most requests meet no rule and cost no more than this condition.
    if (
        context.operation in service.faults.operations
        or service.scenario_runner
        or context.key_rule
        or _FAULT_HEADER in context.headers
        # Searching one byte is much faster than searching several, and most bodies do not contain it.
        or (context.body is not None and _FAULT_PHRASE[0] in context.body and _FAULT_PHRASE in context.body)
    ):
        match, rules = _match_of(service, context)
        if service.fleet:
            return _apply_found(service.fleet.find_match(match, rules), context)
        _apply(service.faults.find_match(match, rules), context)
    return None


async def _apply_found(search: Awaitable[ActiveRule | None], context: RequestContext) -> None:
    _apply(await search, context)


def _apply(fault: ActiveRule | None, context: RequestContext) -> None:
    context.fault = fault
    if fault and isinstance(effect := fault.rule.effect, ResponseEffect):
        context.is_faulted = True
        raise ResponseReplacedError(effect)


def _match_of(service: Service, context: RequestContext) -> tuple[MatchContext, list[ActiveRule]]:
    """Return what the conditions of a rule refer to, and the rules that come with the request."""
    if service.scenario_runner:
        service.scenario_runner.count_call()
    # Faults come before validation, so the body may be anything here.
    with contextlib.suppress(ServiceError):
        parse_request(service, context)
    fields = context.request if isinstance(context.request, dict) else {}
    model, values = fields.get(service.shared.fields.model), fields.get(service.shared.fields.input)
    # All text of the input, since each model has its own name for the prompt; no more than a valid request has.
    texts = values.values() if isinstance(values, dict) else ()
    prompt = "\n".join(text for text in texts if isinstance(text, str))[: service.catalogue.longest_prompt]
    match = MatchContext(
        operation=context.operation,
        space=context.space.name,
        account=context.caller.name,
        model=model if isinstance(model, str) else "",
        prompt=prompt,
        seconds=context.now / 1000 - service.started_at,
    )
    return match, _rules_of_request(service, context, prompt)


def _rules_of_request(service: Service, context: RequestContext, prompt: str) -> list[ActiveRule]:
    """Return the rules that the request gives in a header, in its key or in its prompt."""
    texts: list[tuple[RuleSource, str]] = []
    if (header := context.headers.get(_FAULT_HEADER)) is not None:
        try:
            texts.append(("header", header.decode().strip()))
        except UnicodeDecodeError:
            texts.append(("header", header.decode("latin-1").strip()))
    if context.key_rule:
        texts.append(("key", context.key_rule))
    if (phrase := rule_in_prompt(prompt)) is not None:
        texts.append(("prompt", phrase))
    rules = []
    for source, text in texts:
        try:
            rules.append(service.faults.from_request(text, source, context.space.name))
        except RuleError as error:
            place = f"the header {local.FAULT_HEADER}" if source == "header" else f"the {source}"
            raise ServiceError("fault_malformed", source=place, problem=str(error)) from error
    return rules


# Request bodies


def parse_request(_: Service, context: RequestContext) -> None:
    """Parse the body as JSON, unless a handler did so before.

    A body that is labelled as something else is refused, except for the label that ``curl -d`` adds by default.
    """
    sent = context.headers.get(b"content-type", _JSON)
    if sent != _JSON and (media_type := sent.lower()) and b"json" not in media_type and b"urlencoded" not in media_type:
        shown = for_display(media_type.decode("latin-1"))
        raise ServiceError("body_malformed", problem=f"the Content-Type is {shown}; send application/json")
    if context.body_problem:
        raise ServiceError("body_malformed", problem=context.body_problem)
    if not context.text:
        context.request, context.text = parse_json(context.body)


# Tasks


def resolve_model(service: Service, context: RequestContext) -> None:
    """Find the requested model.

    A request without a model is validated by the contract of the shipped one, which refuses it.
    """
    field, models = service.shared.fields.model, service.catalogue.models
    name = context.request.get(field) if isinstance(context.request, dict) else None
    if isinstance(name, str) and name not in models:
        raise ServiceError("model_unknown", field=field, model=for_display(name), nearest=service.nearest_models(name))
    context.model = models[name] if isinstance(name, str) else service.catalogue.shipped


def validate_request(service: Service, context: RequestContext) -> None:
    """Refuse a request that breaks the contract, and name the fields and what is wrong with them."""
    contract = context.model.contract
    schema = contract.request
    if schema.accepts(context.request):
        return
    meant = service.dialect.meant(context.request, contract)
    if service.options.accept_empty_callback:
        meant = without_empty_callback(meant)
    if schema.accepts(meant):
        context.request = meant
    elif violations := schema.violations(context.request):
        problem = "; ".join(violation.message for violation in violations[:_SHOWN_VIOLATIONS])
        first = violations[0]
        context.violations = tuple(violation.clause for violation in violations)
        case, name = service.dialect.case_of_violation(first.keyword), first.field.rpartition(".")[2]
        raise ServiceError(case, problem=problem, field=first.field, name=name)


def validate_callback(service: Service, context: RequestContext) -> None:
    """Refuse a callback URL that nothing can be POSTed to, such as one with the scheme ftp."""
    field = service.shared.fields.callback
    url = context.request.get(field)
    if not isinstance(url, str) or url.startswith("https://"):
        return
    if (scheme := _URL_SCHEME.match(url)) and scheme[1].lower() not in {"http", "https"}:
        problem = f"{field} must start with http:// or https://"
        raise ServiceError(service.dialect.case_of_violation("format"), problem=problem, field=field, name=field)


async def create_task(service: Service, context: RequestContext) -> None:
    """Charge the price and store a new task with its whole timeline, both or neither."""
    account, effect = context.caller, context.fault.rule.effect if context.fault else None
    try:
        # Lost and orphaned tasks end in the same error, so that a client cannot know whether it was charged.
        if effect is not None and isinstance(effect, LostTask):
            await service.store.charge(account, context.model.profile.credits, context.now)
            service.ledger.note_loss(context.model.profile.credits)
            context.is_faulted = True
            raise ServiceError("internal_error", is_simulated=True)
        task = await _store_task(service, context, effect)
    except RateExceededError as error:
        assert account.creations  # the store counts only what has a limit
        raise _rate_exceeded(account.creations.rate) from error
    except OverdrawnError as error:
        price = context.model.profile.credits
        raise ServiceError("credits_insufficient", price=plain(price), balance=plain(error.balance)) from error
    if task.callback and task.callback.due is not None:
        service.callback_is_due(task.callback.due)
    context.task_id = task.task_id
    response = service.creation_responses[context.model.contract.model]
    context.data = response.with_id(task.task_id)
    context.envelope = response.envelope
    if effect is not None and isinstance(effect, OrphanTask):
        raise ServiceError("internal_error", is_simulated=True)


async def _store_task(service: Service, context: RequestContext, effect: Effect | None) -> Task:
    account = context.caller
    task = _made_task(service, context, effect)
    # It counts from the beginning, since another one may be checked while the store writes this one.
    window = None if service.fleet else account.creations
    if window:
        window.count(context.now)
    try:
        while True:
            try:
                await service.store.create(task, account)
                break
            except NameTakenError:
                # By another server, which would be faster the next time, too.
                await service.reserve_ids(context.now)
                task_id = service.next_task_id(task.model, context.now)
                task = replace(task, task_id=task_id, result_name=service.result_name(task_id))
    except BaseException:
        if window:
            window.discount(context.now)
        raise
    request = request_key(task.account, task.model, context.request.get(service.shared.fields.input))
    images = max(context.model.profile.images, 1)
    is_free = task.failure is not None
    service.ledger.note_task(task.task_id, task.space, request, task.price, images, is_free=is_free)
    context.is_faulted = task.fault_rule != ""
    if task.callback and task.callback.fault.lets_next_go_first:
        service.hold_callback(task)
    return task


def _made_task(service: Service, context: RequestContext, effect: Effect | None) -> Task:
    """Return the task that a request asks for, as its fault changes it."""
    options, model = service.options, context.model
    name, now = model.contract.model, context.now
    timeline: tuple[int, ...] = ()
    if options.task_progress.by_time:
        quality = model.quality(context.request.get(service.shared.fields.input))
        seconds = service.duration.draw(context.space.random, quality)
        timeline = even_timeline(now, round(seconds * 1000))
    callback = None
    # An empty URL means none, where the contract allows one.
    if isinstance(url := context.request.get(service.shared.fields.callback), str) and url:
        callback = service.refused_callback(url, now) if effect is None else None
        callback = callback or CallbackDelivery(url=url, due=timeline[-1] if timeline else None)
        if port := context.server[1]:
            service.ports.add(port)
    task_id = service.next_task_id(name, now)
    task = Task(
        task_id=task_id,
        space=context.space.name,
        account=context.caller.name,
        model=name,
        request=service.shared_text(service.dialect.kept_request(context.request, context.text, model.contract)),
        result_name=service.result_name(task_id),
        base_url=context.base_url,
        price=model.profile.credits,
        created=now,
        visible=now + service.visible_after if service.visible_after else now,
        timeline=timeline,
        callback=callback,
    )
    # Nearly always None: a look at the class takes longer, since the effects are abstract.
    if effect is not None and isinstance(effect, TaskEffect):
        return replace(effect.apply(task), fault_rule=str(context.fault.rule) if context.fault else "")
    return task


async def get_task(service: Service, context: RequestContext) -> None:
    """Return the record of a task of the account; with the progress ``polls:N``, this advances the task."""
    parameter = service.shared.record_info.query
    if not (task_id := context.query.get(parameter, "")):
        raise ServiceError("task_id_missing", parameter=parameter)
    task, account, now = await service.store.find(task_id), context.caller, context.now
    if task and task.account == account.name and task.space == account.space:
        context.task_id, context.task_fault = task_id, task.fault_rule
    else:
        task = None
    # The task of another account gets the same response as an unknown ID.
    if task is None or now < task.visible:
        raise ServiceError("task_unknown", task_id=for_display(task_id))
    if (polls := service.options.task_progress.polls) and task.ends is None:
        task = await service.store.change(task_id, lambda task: polled(task, now, polls)) or task
        service.callback_is_due(now)
    context.data = record(task, now, dialect=service.dialect, base_url=service.url_for_clients(context.base_url))


# Downloads


async def link_download(service: Service, context: RequestContext) -> None:
    """Return a URL of a result that is valid for some minutes."""
    field = service.shared.download_url.field
    url = context.request.get(field) if isinstance(context.request, dict) else None
    base, _, quoted = url.rpartition(f"{RESULTS}/") if isinstance(url, str) else ("", "", "")
    task = await service.find_result(name := unquote(quoted))
    host = context.headers.get(b"host", b"")
    is_own = is_own_url(base, context.base_url, host, context.server, service.options.own_hosts)
    if task is None or not (is_own or base in {task.base_url, service.options.public_base}):
        raise ServiceError("url_wrong")
    url = f"{service.url_for_clients(context.base_url)}{RESULTS}/{quoted}"
    until = service.now() + service.shared.download_seconds * 1000
    context.data = f"{url}?{_UNTIL}={until}&{_MARK}={_mark(service, name, str(until))}"


def is_expired_link(service: Service, name: str, query: Mapping[str, str]) -> bool:
    """Return whether a URL is a download link that has expired or was tampered with."""
    if _UNTIL not in query:
        return False
    until, mark = query[_UNTIL], query.get(_MARK, "")
    # Checked before the time is read: a signed time is a number that this server wrote.
    is_genuine = compare_digest(_mark(service, name, until).encode(), mark.encode())
    return not is_genuine or service.now() >= int(until)


def _mark(service: Service, name: str, until: str) -> str:
    return service.sign(f"{name}/{until}")


# Accounts and models


async def get_credit(service: Service, context: RequestContext) -> None:
    """Return the balance of the account as a number."""
    balance = await service.store.balance(context.caller, context.now)
    context.data = int(balance) if balance == int(balance) else float(balance)


def list_models(service: Service, context: RequestContext) -> None:
    """List the models of the service."""
    context.data = models_data(model.contract for model in service.catalogue.models.values())


def get_model_schema(service: Service, context: RequestContext) -> None:
    """Return the OpenAPI document of a model."""
    name, models = context.path.get(MODEL_PARAMETER, ""), service.catalogue.models
    if name not in models:
        raise ServiceError("schema_unknown", model=for_display(name), nearest=service.nearest_models(name))
    context.data = schema_data(models[name].contract)


CREATE_TASK: tuple[Handler, ...] = (
    refuse_web_pages,
    authenticate,
    enforce_rate_limit,
    apply_fault,
    parse_request,
    resolve_model,
    validate_request,
    validate_callback,
    create_task,
)
RECORD_INFO: tuple[Handler, ...] = (refuse_web_pages, authenticate, enforce_poll_rate_limit, apply_fault, get_task)
CREDIT: tuple[Handler, ...] = (refuse_web_pages, authenticate, apply_fault, get_credit)
DOWNLOAD_URL: tuple[Handler, ...] = (refuse_web_pages, authenticate, apply_fault, parse_request, link_download)
MODELS: tuple[Handler, ...] = (refuse_web_pages, authenticate, apply_fault, list_models)
MODEL_SCHEMA: tuple[Handler, ...] = (refuse_web_pages, authenticate, apply_fault, get_model_schema)


def descriptions() -> dict[str, str]:
    """Return what each handler does, by its name."""
    operations = (CREATE_TASK, RECORD_INFO, CREDIT, DOWNLOAD_URL, MODELS, MODEL_SCHEMA)
    found = {handle.__name__: handle for handlers in operations for handle in handlers}
    return {name: (handle.__doc__ or "").partition("\n")[0] for name, handle in found.items()}
