"""Checks of the other operations, of unknown paths and methods, and of the documented error codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import local

from seedbed_contract.cases import accepted
from seedbed_contract.checks.request_validation import check_violation
from seedbed_contract.checks.result_images import check_image
from seedbed_contract.detection import CAPABILITY_CLAUSES, CAPABILITY_PROBES
from seedbed_contract.rules.envelope import Defect, refusal_defects
from seedbed_contract.rules.task_record import result_urls

if TYPE_CHECKING:
    from seedbed_contract.http import RequestBuilder
    from seedbed_contract.session import Session


_OTHER_METHODS: Final = ("PUT", "PATCH", "DELETE")
_FOREIGN_URLS: Final = ("http://127.0.0.1/picture.jpg", "https://example.com/picture.jpg", "not a url", "")


def check_detection(session: Session) -> None:
    """Check the responses to the first requests of the run, and that the target has the required capabilities."""
    service = session.service
    if service is None:
        return
    for clause, exchange in service.exchanges:
        session.check_form(exchange)
        session.exercise("answer/given")
        if clause:
            check_violation(session, exchange, clause, "")
    # All other checks will be skipped then, so this shows at least the form of the response to a valid request.
    if not service.is_readable and session.budget.is_free:
        session.send(session.builder.create(accepted(session.builder.contract)[0].request), once=True)
    for name in sorted(session.target.required - session.capabilities - {"callbacks"}):
        probe = CAPABILITY_PROBES.get(name, CAPABILITY_PROBES["credit"])
        exchange = session.send(probe(session.builder), strict=False)
        title = f"the target does not support {name}, which is required"
        session.report([Defect(CAPABILITY_CLAUSES[name], title)], exchange)


def check_models(session: Session) -> None:
    """Check the operations on models that the target supports."""
    if "models" in session.capabilities:
        check_model_list(session)
    if "modelSchema" in session.capabilities:
        check_model_schemas(session)
    for name in ("models", "modelSchema"):
        if name not in session.capabilities:
            session.mark_unsupported(name)


def check_model_list(session: Session) -> None:
    """Fetch the list of models and check that it contains the model of the contract."""
    exchange = session.send(session.builder.models())
    session.check_shape("modelsAnswer", exchange)
    data: Any = exchange.data
    models = data.get("models") if isinstance(data, dict) else None
    if not isinstance(models, list):
        return
    session.exercise("models/listed")
    if data.get("total") != len(models):
        session.report([Defect("models/listed", "total is not the number of the listed models")], exchange)
    names = [model.get("model") for model in models if isinstance(model, dict)]
    if len(set(map(str, names))) < len(names):
        session.report([Defect("models/listed", "a model is listed twice")], exchange)
    if session.builder.contract.model not in names:
        session.report([Defect("models/listed", "the list of models lacks the model of the contract")], exchange)


def check_model_schemas(session: Session) -> None:
    """Fetch the schema of the model of the contract, and that of an unknown model."""
    model = session.builder.contract.model
    exchange = session.send(session.builder.model_schema(model))
    session.check_shape("modelSchemaAnswer", exchange)
    session.exercise("models/schema")
    data = exchange.data if isinstance(exchange.data, dict) else {}
    if data.get("model", model) != model:
        session.report([Defect("models/schema", "the schema belongs to another model")], exchange)
    document = data.get("openapi")
    if isinstance(document, dict) and not str(document.get("openapi", "")).startswith("3."):
        session.report([Defect("models/schema", "the schema of the model is not an OpenAPI 3 document")], exchange)
    unknown = session.send(session.builder.model_schema("seedbed-check/no-such-model"), strict=False)
    allowed, what = session.expected.codes("schema_unknown"), "a request for the schema of an unknown model"
    session.report(refusal_defects(unknown, allowed, "models/schema", what), unknown)


def check_paths_and_methods(session: Session) -> None:
    """Call an unknown path, and createTask with other methods than the documented one."""
    operation = session.builder.contract.operation
    # Any form of refusal will do here: many services leave unknown paths to their web framework.
    exchange = session.send(session.builder.path(f"{operation.path}/no-such-path"), strict=False)
    session.exercise("operation/path")
    if exchange.code == session.expected.success:
        session.report([Defect("operation/path", "the response to an undocumented path is a success")], exchange)
    request = accepted(session.builder.contract)[0].request
    for method in (method for method in _OTHER_METHODS if method != operation.method):
        # A service that ignores the method creates a task, and charges for it.
        session.budget.reserve_for_refusal()
        exchange = session.send(session.builder.create(request, method=method), strict=False)
        session.exercise("operation/method")
        if exchange.code == session.expected.success and exchange.task_id:
            session.budget.count(wrongly=True)
            title = "a task is created with another method than the documented one"
            session.report([Defect("operation/method", title)], exchange)


def check_download_urls(session: Session) -> None:
    """Request the download URL of a result, and of URLs that are not results."""
    if "downloadUrl" not in session.capabilities:
        session.mark_unsupported("downloadUrl")
        return
    allowed = session.expected.codes("url_wrong", "request_invalid", "body_malformed")
    for url in (*_FOREIGN_URLS, f"{session.target.base_url}/seedbed-check.jpg"):
        exchange = session.send(session.builder.download_url(url))
        session.check_refusal(exchange, allowed, "downloadUrl/foreign", "a URL that is not a result")
        session.exercise("downloadUrl/foreign")
    task = next((task for task in session.tasks if result_urls(task.record)), None)
    if task is None:
        return
    exchange = session.send(session.builder.download_url(result_urls(task.record)[0]))
    session.exercise("downloadUrl/own")
    if exchange.code != session.expected.success:
        session.report([Defect("downloadUrl/own", "the account's own result has no download URL")], exchange)
        return
    session.check_shape("downloadUrlAnswer", exchange)
    if isinstance(exchange.data, str):
        check_image(session, exchange.data, task, exchange, clause="downloadUrl/own")


def check_every_code(session: Session) -> None:
    """Request a task with every documented error code, and check each response.

    It needs a header that makes the target respond with a code: the one of ``--force-with``, or that of Seedbed's mock
    server.
    """
    if not session.target.force_with and "faults" not in session.capabilities:
        session.mark_unsupported("faults")
        return
    request = accepted(session.builder.contract)[0].request
    expected = session.expected
    for code in (code for code in session.builder.contract.codes if code.number != expected.success):
        case = expected.dialect.case_of_code(code.name)
        # In the observed dialect, another number may stand for the documented one.
        allowed = expected.codes(case) if case in expected.dialect.cases else {code.number}
        session.budget.reserve_for_refusal()
        exchange = session.send_unchecked(_forcing(session, code.number).create(request), once=True)
        session.check_form(exchange)
        session.count_wrongly_accepted(exchange)
        clause = f"code/{code.number}"
        session.exercise(clause)
        what = f"a call that asks for code {code.number}"
        session.report(refusal_defects(exchange, allowed, clause, what), exchange)


def _forcing(session: Session, code: int) -> RequestBuilder:
    """Return a builder whose requests make the target respond with a code."""
    if not session.target.force_with:
        return session.builder.with_extra(((local.FAULT_HEADER, str(code)),))
    name, value = session.target.forcing_header(code)
    if name.lower() == session.builder.contract.operation.header.lower():
        return session.builder.with_authorization(((name, value),))
    return session.builder.with_extra(((name, value),))
