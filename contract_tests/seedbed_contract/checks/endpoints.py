"""The other operations: the list of models, their schemas, URLs of downloads; and paths that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from seedbed_contract.cases import accepted
from seedbed_contract.checks.result_images import judge_image
from seedbed_contract.rules.envelope import Defect, refusal_defects
from seedbed_contract.rules.task_record import result_urls

if TYPE_CHECKING:
    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session


_OTHER_METHODS: Final = ("PUT", "PATCH", "DELETE")
_FOREIGN: Final = ("http://127.0.0.1/picture.jpg", "https://example.com/picture.jpg", "not a url", "")


def lists_models(session: Session) -> None:
    """Ask for the models, for the schema of this one, and of one that does not exist."""
    if "models" in session.capabilities:
        _judge_list(session, session.send(session.builder.models()))
    if "modelSchema" in session.capabilities:
        _judge_schemas(session)
    for name in ("models", "modelSchema"):
        if name not in session.capabilities:
            session.mark_unchecked(f"the target has no operation {name}", name)


def knows_its_paths(session: Session) -> None:
    """Ask for a path that is none, and for a task with other methods than the documented one."""
    operation = session.builder.contract.operation
    exchange = session.send(session.builder.path(f"{operation.path}/no-such-path"), strict=False)
    session.exercise("operation/path")
    if exchange.code == session.expected.success:
        session.report([Defect("operation/path", "a path that is not documented is answered with success")], exchange)
    request = accepted(session.builder.contract)[0].request
    for method in (method for method in _OTHER_METHODS if method != operation.method):
        session.budget.reserve_for_refusal()
        exchange = session.send(session.builder.create(request, method=method), strict=False)
        session.exercise("operation/method")
        if exchange.code == session.expected.success and exchange.task_id:
            session.budget.count(wrongly=True)
            session.report(
                [Defect("operation/method", "a task is made by another method than the documented one")], exchange
            )


def links_downloads(session: Session) -> None:
    """Ask for the URL of a download, for a result and for what is none."""
    if "downloadUrl" not in session.capabilities:
        session.mark_unchecked("the target has no operation downloadUrl", "downloadUrl")
        return
    allowed = session.expected.codes("url_wrong") | session.expected.codes("request_invalid", "body_malformed")
    for url in (*_FOREIGN, f"{session.target.base_url}/seedbed-check.jpg"):
        exchange = session.send(session.builder.download_url(url))
        session.check_refusal(exchange, allowed, "downloadUrl/foreign", "the URL of no result")
        session.exercise("downloadUrl/foreign")
    done = next((order for order in session.tasks if result_urls(order.record)), None)
    if done is None:
        return
    exchange = session.send(session.builder.download_url(result_urls(done.record)[0]))
    session.exercise("downloadUrl/own")
    if exchange.code != session.expected.success:
        session.report([Defect("downloadUrl/own", "there is no URL to download a result of one's own")], exchange)
        return
    session.check_shape("downloadUrlAnswer", exchange)
    if isinstance(exchange.data, str):
        judge_image(session, exchange.data, done, exchange, clause="downloadUrl/own")


def _judge_list(session: Session, exchange: Exchange) -> None:
    session.check_shape("modelsAnswer", exchange)
    data: Any = exchange.data
    models = data.get("models") if isinstance(data, dict) else None
    if not isinstance(models, list):
        return
    session.exercise("models/listed")
    if data.get("total") != len(models):
        session.report([Defect("models/listed", "the total of the models is not how many are listed")], exchange)
    names = [model.get("model") for model in models if isinstance(model, dict)]
    if session.builder.contract.model not in names:
        session.report([Defect("models/listed", "the model is not among those that are listed")], exchange)


def _judge_schemas(session: Session) -> None:
    model = session.builder.contract.model
    exchange = session.send(session.builder.model_schema(model))
    session.check_shape("modelSchemaAnswer", exchange)
    session.exercise("models/schema")
    data = exchange.data if isinstance(exchange.data, dict) else {}
    if data.get("model", model) != model:
        session.report([Defect("models/schema", "the schema is that of another model")], exchange)
    document = data.get("openapi")
    if isinstance(document, dict) and not str(document.get("openapi", "")).startswith("3."):
        session.report([Defect("models/schema", "the schema of the model is no OpenAPI 3 document")], exchange)
    unknown = session.send(session.builder.model_schema("seedbed-check/no-such-model"), strict=False)
    allowed = session.expected.codes("schema_unknown")
    session.report(
        refusal_defects(unknown, allowed, "models/schema", "the schema of a model that does not exist"), unknown
    )
