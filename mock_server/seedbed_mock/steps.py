"""What is done with a call, step by step, in the order in which the real service checks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec.structs import replace
from seedbed_schemas import local
from seedbed_schemas.catalogue import models_data, schema_data
from seedbed_schemas.refusals import shown

from seedbed_mock.answers import Refusal
from seedbed_mock.bodies import parse_json
from seedbed_mock.delivery import Callback
from seedbed_mock.doors import KEY_PREFIX, may_meet_fault, meet_fault
from seedbed_mock.downloads import link_download
from seedbed_mock.faults.answering import Replaced
from seedbed_mock.faults.effects import Lost, OnAnswer, OnTask, Orphan
from seedbed_mock.faults.rules import is_begun
from seedbed_mock.stores.store import NameTaken, Overdrawn
from seedbed_mock.tasks import Task, even_timeline, polled, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from seedbed_mock.faults.effects import Effect
    from seedbed_mock.limits import SlidingWindow
    from seedbed_mock.service import Call, Service
    from seedbed_mock.spaces import Space

    Step = Callable[[Service, Call], None]

MODEL_PARAMETER = "model"
"""Name of the path parameter that names a model."""

_SPACE_HEADER = local.SPACE_HEADER.lower().encode()

_SHOWN_VIOLATIONS = 3


def let_in(service: Service, call: Call) -> None:
    """Find the space and the account of the key."""
    operation = service.operation
    scheme, _, key = call.headers.get(service.key_header, b"").decode("latin-1").partition(" ")
    call.space, key = _space_and_key(service, call, key.strip())
    if scheme.lower() == operation.scheme.lower():
        call.account = call.space.accounts.get(key)
        if call.account is None and key.startswith(KEY_PREFIX) and is_begun(rule := key.removeprefix(KEY_PREFIX)):
            call.account, call.key_rule = call.space.guest(key), rule
    if call.account is None:
        raise Refusal("key_refused", header=operation.header, scheme=operation.scheme)


def _space_and_key(service: Service, call: Call, key: str) -> tuple[Space, str]:
    """Return the space that the call names in its header, or else in its key, and the key without it."""
    name = call.headers.get(_SPACE_HEADER, b"").decode("latin-1")
    inside, key = service.spaces.split(key)
    if not name and inside is None:
        return service.spaces.default, key
    try:
        return service.spaces.named(name or inside or ""), key
    except ValueError as error:
        header = local.SPACE_HEADER if name else service.operation.header
        raise Refusal("space_malformed", header=header, problem=str(error)) from error


def limit_rate(_: Service, call: Call) -> None:
    """Refuse where the account has made as many tasks of late as it may; only what becomes a task counts."""
    _keep_rate(call.caller.creations, call)


def limit_queries(_: Service, call: Call) -> None:
    """Refuse where the account has asked for records as often of late as it may."""
    if window := call.caller.queries:
        _keep_rate(window, call)
        window.count(call.now)


def _keep_rate(window: SlidingWindow | None, call: Call) -> None:
    if window and not window.has_room(call.now):
        raise Refusal("rate_exceeded", requests=window.rate.requests, seconds=f"{window.rate.seconds:g}")


def answer_by_fault(service: Service, call: Call) -> None:
    """Answer as the fault that the call meets says, where that is what it does."""
    if not may_meet_fault(service, call):
        return
    meet_fault(service, call)
    if call.fault and isinstance(effect := call.fault.rule.effect, OnAnswer):
        raise Replaced(effect)


def read_request(_: Service, call: Call) -> None:
    """Read the body as JSON."""
    call.request, call.text = parse_json(call.body)


def know_model(service: Service, call: Call) -> None:
    """Find the model, or refuse one that is not played; a request that names none is for a contract to refuse."""
    field, models = service.shared.fields.model, service.catalogue.models
    name = call.request.get(field) if isinstance(call.request, dict) else None
    if isinstance(name, str) and name not in models:
        raise Refusal("model_unknown", field=field, model=shown(name), known=", ".join(models))
    call.model = models[name] if isinstance(name, str) else service.catalogue.shipped


def keep_contract(service: Service, call: Call) -> None:
    """Refuse a request that breaks the contract, naming every field and rule."""
    schema = call.model.contract.request
    if not schema.accepts(call.request) and (violations := schema.violations(call.request)):
        problem = "; ".join(violation.message for violation in violations[:_SHOWN_VIOLATIONS])
        first = violations[0]
        call.violations = tuple(violation.clause for violation in violations)
        raise Refusal(service.dialect.case_of_violation(first.keyword), problem=problem, field=first.field)


def create_task(service: Service, call: Call) -> None:
    """Charge the price, fix the timeline of a task and keep it: all of it, or nothing."""
    account, effect = call.caller, call.fault.rule.effect if call.fault else None
    try:
        if isinstance(effect, Lost):
            service.store.charge(account, call.model.profile.credits, call.now)
            raise Refusal("internal_error", is_caused=False)
        task = _keep_task(service, call, effect)
    except Overdrawn as error:
        price = call.model.profile.credits
        raise Refusal("credits_insufficient", price=_plain(price), balance=_plain(error.balance)) from error
    if account.creations:
        account.creations.count(call.now)
    if task.callback:
        service.callback_is_due()
    call.task_id = task.task_id
    call.data = dict.fromkeys(service.dialect.created, task.task_id)
    if isinstance(effect, Orphan):
        raise Refusal("internal_error", is_caused=False)


def _keep_task(service: Service, call: Call, effect: Effect | None) -> Task:
    timeline = _timeline(service, call)
    while True:
        task = _new_task(service, call, timeline)
        if isinstance(effect, OnTask):
            task = replace(effect.changed(task), fault=str(call.fault.rule) if call.fault else "")
        # Another server on the same file may have come by the same name.
        with contextlib.suppress(NameTaken):
            service.store.create(task, call.caller)
            return task


def _timeline(service: Service, call: Call) -> tuple[int, ...]:
    settings = service.settings
    if not settings.progress.by_time:
        return ()
    return even_timeline(call.now, round(settings.span.draw(call.space.chance) * 1000))


def _new_task(service: Service, call: Call, timeline: tuple[int, ...]) -> Task:
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
        callback=Callback(url=url, due=timeline[-1] if timeline else None) if isinstance(url, str) else None,
    )


def _plain(amount: Decimal) -> str:
    """Return an amount without zeros that say nothing and without an exponent."""
    return f"{amount.normalize():f}"


def show_task(service: Service, call: Call) -> None:
    """Show the record of a task of this account, which may be what moves it on."""
    parameter = service.shared.record_info.query
    if not (task_id := call.query.get(parameter, "")):
        raise Refusal("task_id_missing", parameter=parameter)
    task, now = _own_task(service, call, task_id), call.now
    if task is None or now < task.visible:
        raise Refusal("task_unknown", task_id=shown(task_id))
    if (polls := service.settings.progress.polls) and task.ends is None:
        task = service.store.change(task_id, lambda task: polled(task, now, polls)) or task
        service.callback_is_due()
    call.data = record(task, now, dialect=service.dialect, base_url=call.base_url)


def _own_task(service: Service, call: Call, task_id: str) -> Task | None:
    task, account = service.store.find(task_id), call.caller
    if task is None or task.account != account.name or task.space != account.space:
        return None
    call.task_id, call.applied = task_id, task.fault
    return task


def show_balance(service: Service, call: Call) -> None:
    """Show what the account may still spend, as a bare number."""
    balance = service.store.balance(call.caller, call.now)
    call.data = int(balance) if balance == int(balance) else float(balance)


def list_models(service: Service, call: Call) -> None:
    """Tell which models are played."""
    call.data = models_data(model.contract for model in service.catalogue.models.values())


def show_schema(service: Service, call: Call) -> None:
    """Show the OpenAPI document of a model."""
    name, models = call.path.get(MODEL_PARAMETER, ""), service.catalogue.models
    if name not in models:
        raise Refusal("schema_unknown", model=shown(name), known=", ".join(models))
    call.data = schema_data(models[name].contract)


CREATE_TASK: tuple[Step, ...] = (
    let_in,
    limit_rate,
    answer_by_fault,
    read_request,
    know_model,
    keep_contract,
    create_task,
)
RECORD_INFO: tuple[Step, ...] = (let_in, limit_queries, answer_by_fault, show_task)
CREDIT: tuple[Step, ...] = (let_in, answer_by_fault, show_balance)
DOWNLOAD_URL: tuple[Step, ...] = (let_in, answer_by_fault, read_request, link_download)
MODELS: tuple[Step, ...] = (let_in, answer_by_fault, list_models)
MODEL_SCHEMA: tuple[Step, ...] = (let_in, answer_by_fault, show_schema)
