"""An independent server of the service, on the standard library alone: it keeps the contract, in every lawful way.

It shares nothing with the fake nor with the judge, so what they agree on is the contract and not a common mistake.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image
from tests.minimal_callbacks import Callbacks
from tests.minimal_http import Server
from tests.minimal_requests import RefusalError, Requests
from tests.minimal_tasks import Account, Task
from tests.minimal_variants import FAIL_PROMPT, KEY, MODEL, SECOND_KEY, SIGNING_KEY, Variant

_CREATE, _RECORD = ("POST", "/api/v1/jobs/createTask"), ("GET", "/api/v1/jobs/recordInfo")
_CREDIT, _MODELS = ("GET", "/api/v1/chat/credit"), ("GET", "/api/v1/models")
_DOWNLOAD, _SCHEMA = ("POST", "/api/v1/common/download-url"), ("GET", "/api/v1/models/{model}/schema")
_DOCUMENT = {"openapi": "3.1.0", "info": {"title": MODEL, "version": "1"}, "paths": {}}


Routes = dict[tuple[str, str], Callable[[Account, "Call"], Any]]
"""Operations by HTTP method and path."""


@dataclass(frozen=True)
class Call:
    """A request as it came."""

    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    def query(self, name: str) -> list[str]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True).get(name, [])


@dataclass(frozen=True)
class Response:
    """An answer as it goes."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@cache
def picture(size: tuple[int, int], form: str = "JPEG") -> bytes:
    """Return a plain image; making a large one takes long, so each size is made once."""
    file = io.BytesIO()
    Image.new("L", size, 96).save(file, form, quality=30)
    return file.getvalue()


class Service(Requests, Callbacks):
    """One server: what it answers to each call."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant, self.url = variant, ""
        self.accounts.append(Account(KEY, variant.credits))
        if variant.two_keys:
            self.accounts.append(Account(SECOND_KEY, variant.second_credits))

    def routes(self) -> Routes:
        optional: dict[str, Routes] = {
            "credit": {_CREDIT: self.credit},
            "models": {_MODELS: self.models, _SCHEMA: self.model_schema},
            "downloadUrl": {_DOWNLOAD: self.download_url},
        }
        routes: dict[tuple[str, str], Callable[[Account, Call], Any]] = {
            _CREATE: self.create,
            _RECORD: self.record_info,
        }
        for name in self.variant.operations:
            routes |= optional[name]
        return routes

    def handle(self, call: Call) -> Response:
        if call.path.startswith("/files/"):
            return self.file(call)
        routes = self.routes()
        operation = routes.get((call.method, self.route_pattern(call.path)))
        if operation is None:
            return self.not_found(call, known=self.route_pattern(call.path) in {path for _, path in routes})
        try:
            return self.respond(call, 200, "success", operation(self.authenticate(call), call))
        except RefusalError as refusal:
            return self.refusal_response(call, refusal)

    def route_pattern(self, path: str) -> str:
        is_schema = path.startswith("/api/v1/models/") and path.endswith("/schema")
        return _SCHEMA[1] if is_schema else path

    def not_found(self, call: Call, *, known: bool) -> Response:
        if self.variant.plain_errors:
            return Response(405 if known else 404, b"no such thing here\n", {"Content-Type": "text/plain"})
        return self.refusal_response(call, RefusalError(404, "There is nothing here."))

    def refusal_response(self, call: Call, refusal: RefusalError) -> Response:
        return self.respond(call, refusal.code, refusal.words, None, absent=refusal.absent)

    def respond(self, call: Call, code: Any, words: Any, data: Any, *, absent: bool = False) -> Response:
        document = self.envelope(call, code, words, data)
        if absent:
            del document["data"]
        return Response(self.status(call, code), self.encode(call, document), {"Content-Type": self.content_type(call)})

    def envelope(self, call: Call, code: Any, words: Any, data: Any) -> dict[str, Any]:  # noqa: ARG002
        extra = {"requestId": "0-1", "meta": {"node": None}} if self.variant.extras else {}
        return {**extra, "code": code, "msg": words, "data": data}

    def encode(self, call: Call, document: Any) -> bytes:  # noqa: ARG002  broken servers differ by call
        spaced = self.variant.spaced
        return json.dumps(document, indent=3 if spaced else None, ensure_ascii=not spaced).encode()

    def status(self, call: Call, code: int) -> int:  # noqa: ARG002
        return 200 if self.variant.http_status == "envelope" else code

    def content_type(self, call: Call) -> str:  # noqa: ARG002
        return "application/json; charset=utf-8" if self.variant.charset else "application/json"

    def authenticate(self, call: Call) -> Account:
        token = self.token(call.headers.get_all("Authorization", []))
        account = next((account for account in self.accounts if self.key_matches(account, token)), None)
        if account is None:
            raise RefusalError(401, "Unauthorized - Authentication failed.", absent=self.variant.observed)
        return account

    def token(self, headers: list[str]) -> str:
        scheme, _, token = headers[0].strip().partition(" ") if len(headers) == 1 else ("", "", "")
        if self.variant.any_case:
            scheme, token = scheme.capitalize(), token.strip()
        return token if scheme == "Bearer" else ""

    def key_matches(self, account: Account, token: str) -> bool:
        return account.key == token

    def create(self, account: Account, call: Call) -> Any:
        self.check_content_type(call.headers)
        request = self.parse(call.body)
        self.check(request)
        task = self.create_task(account, request)
        self.schedule_callback(task)
        return self.creation_data(task)

    def creation_data(self, task: Task) -> Any:
        return {"taskId": task.id, **({"recordId": task.id} if self.variant.observed or self.variant.extras else {})}

    def record_info(self, account: Account, call: Call) -> Any:
        self.check_poll_rate(account)
        asked = call.query("taskId")
        if len(asked) != 1 or not asked[0]:
            raise RefusalError(400 if self.variant.observed else 422, "taskId parameter is required")
        task = self.find(account, asked[0])
        if task is None:
            raise RefusalError(422 if self.variant.observed else self.variant.unknown_task, "recordInfo is null")
        return self.record(task)

    def credit(self, account: Account, call: Call) -> Any:  # noqa: ARG002  all operations are called alike
        return self.balance(account)

    def models(self, account: Account, call: Call) -> Any:  # noqa: ARG002
        model = {"model": MODEL, "title": "Seedream 4.5", "provider": "ByteDance", "taskType": ["text-to-image"]}
        other = {"model": "other/1.0", "title": "Other", "provider": "Other", "taskType": []}
        return {"total": 2, "models": [other, model]}

    def model_schema(self, account: Account, call: Call) -> Any:  # noqa: ARG002
        model = call.path.removeprefix("/api/v1/models/").removesuffix("/schema")
        if model not in (MODEL, "other/1.0"):
            raise RefusalError(404, "There is no such model.")
        return {"model": model, "openapi": _DOCUMENT if model == MODEL else None}

    def download_url(self, account: Account, call: Call) -> Any:
        given = self.parse(call.body)
        url = given.get("url") if isinstance(given, dict) else None
        own = [self.result_url(task) for task in list(account.tasks) if self.state(task) == "success"]
        if not isinstance(url, str) or url not in own:
            raise RefusalError(422, "url is wrong")
        return f"{url}?download=1"

    def file(self, call: Call) -> Response:
        tasks = (task for account in self.accounts for task in list(account.tasks))
        task = next((task for task in tasks if self.result_url(task).endswith(call.path)), None)
        if task is None or self.state(task) != "success":
            return Response(404, b"no such file\n", {"Content-Type": "text/plain"})
        return self.image(task)

    def image(self, task: Task) -> Response:
        return Response(200, picture(task.size), {"Content-Type": "image/jpeg"})


@dataclass(frozen=True)
class Served:
    """A server that runs, and what its users have."""

    url: str
    variant: Variant
    key: str
    second_key: str | None
    signing_key: str | None
    fail_prompt: str | None


@contextlib.contextmanager
def serve(variant: Variant, service_class: type[Service] = Service) -> Iterator[Served]:
    """Serve on a free port of loopback; ends with every connection and every callback."""
    service = service_class(variant)
    with Server(service.handle, Call, closes=variant.closes) as server:
        service.url = server.url
        try:
            yield Served(
                server.url,
                variant,
                KEY,
                SECOND_KEY if variant.two_keys else None,
                SIGNING_KEY if variant.signs and variant.callbacks else None,
                FAIL_PROMPT if variant.fails else None,
            )
        finally:
            service.stop_callbacks()
