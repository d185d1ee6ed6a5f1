"""An independent implementation of the service on the standard library, with every choice that the contract leaves.

It shares no code with the mock server and the checker. If they agree with it, they agree on the contract, and not on a
common mistake.
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
    """A received request."""

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
    """A response to send."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@cache
def picture(size: tuple[int, int], form: str = "JPEG") -> bytes:
    """Return a plain image. A large one takes long to encode, so each size is made once."""
    file = io.BytesIO()
    Image.new("L", size, 96).save(file, form, quality=30)
    return file.getvalue()


class Service(Requests, Callbacks):
    """The operations of one server, each in a method that a seeded defect can replace."""

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
        routes: Routes = {_CREATE: self.create, _RECORD: self.record_info}
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
            return Response(405 if known else 404, b"not found\n", {"Content-Type": "text/plain"})
        return self.refusal_response(call, RefusalError(404, "Unknown path."))

    def refusal_response(self, call: Call, refusal: RefusalError) -> Response:
        return self.respond(call, refusal.code, refusal.message, None, omits_data=refusal.omits_data)

    def respond(self, call: Call, code: Any, message: Any, data: Any, *, omits_data: bool = False) -> Response:
        document = self.envelope(call, code, message, data)
        if omits_data:
            del document["data"]
        return Response(self.status(call, code), self.encode(call, document), {"Content-Type": self.content_type(call)})

    def envelope(self, call: Call, code: Any, message: Any, data: Any) -> dict[str, Any]:
        extra = {"requestId": "0-1", "meta": {"node": None}} if self.variant.extras else {}
        return {**extra, "code": code, "msg": message, "data": data}

    def encode(self, call: Call, document: Any) -> bytes:
        spaced = self.variant.spaced
        return json.dumps(document, indent=3 if spaced else None, ensure_ascii=not spaced).encode()

    def status(self, call: Call, code: int) -> int:
        return 200 if self.variant.http_status == "envelope" else code

    def content_type(self, call: Call) -> str:
        return "application/json; charset=utf-8" if self.variant.charset else "application/json"

    def authenticate(self, call: Call) -> Account:
        token = self.token(call.headers.get_all("Authorization", []))
        account = next((account for account in self.accounts if self.key_matches(account, token)), None)
        if account is None:
            raise RefusalError(401, "Unauthorized - Authentication failed.", omits_data=self.variant.observed)
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
        task_ids = call.query("taskId")
        if len(task_ids) != 1 or not task_ids[0]:
            raise RefusalError(400 if self.variant.observed else 422, "taskId parameter is required")
        task = self.find(account, task_ids[0])
        if task is None:
            raise RefusalError(422 if self.variant.observed else self.variant.unknown_task, "recordInfo is null")
        return self.record(task)

    def credit(self, account: Account, call: Call) -> Any:
        return self.balance(account)

    def models(self, account: Account, call: Call) -> Any:
        model = {"model": MODEL, "title": "Seedream 4.5", "provider": "ByteDance", "taskType": ["text-to-image"]}
        other = {"model": "other/1.0", "title": "Other", "provider": "Other", "taskType": []}
        return {"total": 2, "models": [other, model]}

    def model_schema(self, account: Account, call: Call) -> Any:
        model = call.path.removeprefix("/api/v1/models/").removesuffix("/schema")
        if model not in (MODEL, "other/1.0"):
            raise RefusalError(404, "Unknown model.")
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
    """A running server, and what its users know of it."""

    url: str
    variant: Variant
    key: str
    second_key: str | None
    signing_key: str | None
    fail_prompt: str | None


@contextlib.contextmanager
def serve(variant: Variant, service_class: type[Service] = Service) -> Iterator[Served]:
    """Serve on a free port of loopback. Leaving the block closes every connection and stops every callback."""
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
