"""Seeded defects in the list of models, their schemas, and download URLs."""

from collections.abc import Callable
from typing import Any, Final

from tests.minimal_requests import RefusalError
from tests.minimal_service import Call, Service
from tests.minimal_tasks import Account
from tests.seeded_defect import SeededDefect, seeded

_LISTED, _SCHEMA = "models/listed", "models/schema"
_OWN, _FOREIGN = "downloadUrl/own", "downloadUrl/foreign"


def _listed(change: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    return lambda self, account, call: change(Service.models(self, account, call))


def _each_model(change: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    return _listed(lambda listed: {**listed, "models": [change(model) for model in listed["models"]]})


def _each_model_without(name: str) -> Callable[..., Any]:
    return _each_model(lambda model: {key: value for key, value in model.items() if key != name})


def _schema(change: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    return lambda self, account, call: change(Service.model_schema(self, account, call))


def _schema_of_any(code: int) -> Callable[..., Any]:
    def model_schema(self: Service, account: Account, call: Call) -> Any:
        try:
            return Service.model_schema(self, account, call)
        except RefusalError:
            if code == 200:
                return {"model": "unknown", "openapi": None}
            raise RefusalError(code, "Unknown model.") from None

    return model_schema


def _download(change: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda self, account, call: change(Service.download_url(self, account, call))


def _download_of(accepts: Callable[[Service, Any], bool]) -> Callable[..., Any]:
    def download_url(self: Service, account: Account, call: Call) -> Any:
        given = self.parse(call.body)
        url = given.get("url") if isinstance(given, dict) else None
        return url if accepts(self, url) else Service.download_url(self, account, call)

    return download_url


def _no_download(self: Service, account: Account, call: Call) -> Any:
    raise RefusalError(422, "url is wrong")


def _no_foreign(self: Service, account: Account, call: Call) -> Any:
    try:
        return Service.download_url(self, account, call)
    except RefusalError:
        return None


_MODELS: Final = (
    seeded("a total too high", _LISTED, models=_listed(lambda listed: {**listed, "total": 3})),
    seeded(
        "the total as text", "modelsAnswer/data.total/type", models=_listed(lambda listed: {**listed, "total": "2"})
    ),
    seeded("no total", "modelsAnswer/data/required/total", models=_listed(lambda listed: {"models": listed["models"]})),
    seeded(
        "this model not listed", _LISTED, models=_listed(lambda listed: {"total": 1, "models": listed["models"][:1]})
    ),
    seeded("a bare list of models", "modelsAnswer/data/type", models=_listed(lambda listed: listed["models"])),
    seeded("names for models", "modelsAnswer/data.models[]/type", models=_each_model(lambda model: model["model"])),
    *(
        seeded(
            f"models without {name}",
            *(f"modelsAnswer/data.models[]/required/{name}", *more),
            models=_each_model_without(name),
        )
        for name, *more in (("title",), ("provider",), ("taskType",), ("model", _LISTED))
    ),
    seeded(
        "the taskType as text",
        "modelsAnswer/data.models[].taskType/type",
        models=_each_model(lambda model: {**model, "taskType": "text-to-image"}),
    ),
    seeded(
        "the schema of another model",
        _SCHEMA,
        "modelSchemaAnswer/data.model/type",
        model_schema=_schema(lambda data: {**data, "model": "other/1.0"}),
    ),
    seeded(
        "the schema as text",
        "modelSchemaAnswer/data.openapi/type",
        _SCHEMA,
        model_schema=_schema(lambda data: {**data, "openapi": "openapi: 3.1.0"}),
    ),
    seeded(
        "a schema of Swagger 2",
        _SCHEMA,
        model_schema=_schema(lambda data: {**data, "openapi": {"swagger": "2.0", "info": {}, "paths": {}}}),
    ),
    seeded(
        "no openapi",
        "modelSchemaAnswer/data/required/openapi",
        _SCHEMA,
        model_schema=_schema(lambda data: {"model": data["model"]}),
    ),
    seeded("a schema of an unknown model", _SCHEMA, model_schema=_schema_of_any(200)),
    seeded("500 for an unknown model's schema", _SCHEMA, "code/404", model_schema=_schema_of_any(500)),
)

_DOWNLOADS: Final = (
    seeded("no download", _OWN, download_url=_no_download),
    seeded("an object for a download", "downloadUrlAnswer/data/type", download_url=_download(lambda url: {"url": url})),
    seeded(
        "a relative download",
        "downloadUrlAnswer/data/format",
        _OWN,
        download_url=_download(lambda url: "/files/" + url.rpartition("/")[2]),
    ),
    seeded(
        "a download URL without a file",
        _OWN,
        "results/given",
        download_url=_download(lambda url: url.replace("/files/", "/gone/")),
    ),
    seeded("any URL for a download", _FOREIGN, download_url=_download_of(lambda _, url: isinstance(url, str))),
    seeded(
        "a download URL for any file of the server",
        _FOREIGN,
        download_url=_download_of(lambda self, url: str(url).startswith(self.url)),
    ),
    seeded("null for a foreign URL", _FOREIGN, download_url=_no_foreign),
)

CAPABILITIES: Final[tuple[SeededDefect, ...]] = (*_MODELS, *_DOWNLOADS)
