"""What is done with a call, step by step, in the order in which the real service checks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from seedbed_schemas.catalogue import models_data, schema_data
from seedbed_schemas.refusals import shown

from seedbed_mock.answers import Refusal
from seedbed_mock.bodies import parse_json
from seedbed_mock.results.picture import picture_of
from seedbed_mock.tasks import Task, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from seedbed_mock.results.picture import Picture
    from seedbed_mock.service import Call, Service

    Step = Callable[[Service, Call], None]

FAULT_HEADER = "X-Seedbed-Fault"
"""Request header that asks for the answer with that code."""

MODEL_PARAMETER = "model"
"""Name of the path parameter that names a model."""

_FAULT_HEADER = FAULT_HEADER.lower().encode()

_SHOWN_VIOLATIONS = 3


def let_in(service: Service, call: Call) -> None:
    """Find the account of the key."""
    operation = service.operation
    scheme, _, key = call.headers.get(service.key_header, b"").decode("latin-1").partition(" ")
    account = service.accounts.get(key.strip()) if scheme.lower() == operation.scheme.lower() else None
    if account is None:
        raise Refusal("key_refused", header=operation.header, scheme=operation.scheme)
    call.account = account


def limit_rate(service: Service, call: Call) -> None:
    """Refuse where the account has made as many tasks of late as it may; only what becomes a task counts."""
    window = call.account.window
    if window and not window.has_room(service.clock.now()):
        raise Refusal("rate_exceeded", requests=window.rate.requests, seconds=f"{window.rate.seconds:g}")


def break_on_request(service: Service, call: Call) -> None:
    """Answer with the code that the caller wishes to see."""
    if (value := call.headers.get(_FAULT_HEADER)) is None:
        return
    code = value.decode("latin-1").strip()
    if code not in service.faults:
        raise Refusal("fault_malformed", header=FAULT_HEADER, known=", ".join(service.faults), value=shown(code))
    raise Refusal(service.faults[code], is_caused=False)


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
        raise Refusal(service.dialect.case_of_violation(first.keyword), problem=problem, field=first.field)


def charge(_: Service, call: Call) -> None:
    """Take the price of the task, or refuse where the balance does not cover it."""
    price, account = call.model.profile.credits, call.account
    if account.balance < price:
        raise Refusal("credits_insufficient", price=_plain(price), balance=_plain(account.balance))
    account.balance -= price


def _plain(amount: Decimal) -> str:
    """Return an amount without zeros that say nothing and without an exponent."""
    return f"{amount.normalize():f}"


def create_task(service: Service, call: Call) -> None:
    """Fix the timeline of a task and keep it."""
    now = service.now()
    task_id = service.next_task_id(call.model.contract.model, now)
    task = Task(
        task_id=task_id,
        account=call.account,
        model=call.model.contract.model,
        param=_param(service, call),
        picture=_picture(service, call),
        result_name=service.result_name(task_id),
        created=now,
        duration=round(service.settings.span.draw(service.chance) * 1000),
    )
    service.store.add(task, now)
    if call.account.window:
        call.account.window.count(service.clock.now())
    call.data = dict.fromkeys(service.dialect.created, task.task_id)


def _param(service: Service, call: Call) -> str:
    """Return the request as the record shows it: as it was sent, or with its input as a text inside the text."""
    if not service.dialect.input_is_text:
        return call.text
    shown_fields = {service.shared.fields.input: json.dumps(call.request.get(service.shared.fields.input, {}))}
    for name in (service.shared.fields.callback, service.shared.fields.model):
        if name in call.request:
            shown_fields[name] = call.request[name]
    return json.dumps(shown_fields)


def _picture(service: Service, call: Call) -> Picture:
    values = call.request.get(service.shared.fields.input)
    return picture_of(call.model.profile, call.model.contract.model, values, service.settings.seed)


def show_task(service: Service, call: Call) -> None:
    """Show the record of a task of this account."""
    parameter = service.shared.record_info.query
    if not (task_id := call.query.get(parameter, "")):
        raise Refusal("task_id_missing", parameter=parameter)
    task = service.store.find(task_id)
    if task is None or task.account is not call.account:
        raise Refusal("task_unknown", task_id=shown(task_id))
    call.data = record(
        task, service.now(), base_url=call.base_url, states=service.shared.states, dialect=service.dialect
    )


def show_balance(_: Service, call: Call) -> None:
    """Show what the account may still spend, as a bare number."""
    balance = call.account.balance
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
    break_on_request,
    read_request,
    know_model,
    keep_contract,
    charge,
    create_task,
)
RECORD_INFO: tuple[Step, ...] = (let_in, break_on_request, show_task)
CREDIT: tuple[Step, ...] = (let_in, break_on_request, show_balance)
MODELS: tuple[Step, ...] = (let_in, break_on_request, list_models)
MODEL_SCHEMA: tuple[Step, ...] = (let_in, break_on_request, show_schema)
