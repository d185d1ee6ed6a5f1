"""The servers that are compared: the mock server with each store, bare servers, and other mock servers if installed."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.dialect import dialects
from seedbed_schemas.openapi import example_of, openapi_document
from sides import free_port

CONTRACT: Final = default_contract()
FIELDS: Final = job_api().fields
SUCCESS: Final = CONTRACT.code_named("success").number
HEADERS: Final = {
    CONTRACT.operation.header: f"{CONTRACT.operation.scheme} {local.KEY}",
    "Content-Type": "application/json",
}
PROMPT: Final = (
    "A reading room for a small town library, drawn as a bright isometric poster. It shows the shelves, two long "
    "tables, a corner for children, warm lamps and tall windows, and labels each part with a short caption. The "
    "style is flat and calm, with rounded shapes, a limited palette of greens and a clear title at the top. The "
    "picture is meant for a leaflet that invites people to an opening day."
)
"""A prompt as long as the one of the page's example, about 370 characters."""

REQUEST: Final[dict[str, Any]] = {
    **example_of(CONTRACT.part("request")),
    FIELDS.callback: "https://your-domain.example/api/callback",
}
REQUEST[FIELDS.input] = {**REQUEST[FIELDS.input], "prompt": PROMPT}
WITHOUT_CALLBACK: Final = {name: value for name, value in REQUEST.items() if name != FIELDS.callback}

PEERS: Final = Path(__file__).with_name("peers")
"""Where ``install_peers.sh`` installs other mock servers."""

_SERVE: Final = [sys.executable, "-m", "seedbed_mock", "--rate-limit", "off", "--credits", "1000000000"]
_BARE: Final = str(Path(__file__).with_name("bare.py"))


@dataclass(frozen=True)
class Subject:
    """A server that is measured.

    Attributes:
        name: Name in tables.
        command: Returns its command line, given a port and an empty directory for its files.
        path: Path that creates a task.
        adapt: Returns the request of the job API in the form of this server.
        plays_tasks: Whether it has records that can be queried.
        programs: Returns the command lines of the servers that it uses, given its empty directory.
    """

    name: str
    command: Callable[[int, Path], list[str]]
    path: str = CONTRACT.operation.path
    adapt: Callable[[dict[str, Any]], object] = dict
    plays_tasks: bool = False
    programs: Callable[[Path], list[list[str]]] = lambda _: []


def seedbed(name: str, *options: str, database: str = "") -> Subject:
    """Return the mock server with options, and with its tasks in a file if one is named."""

    def command(port: int, folder: Path) -> list[str]:
        store = ["--db", str(folder / database)] if database else []
        return [*_SERVE, "--port", str(port), *options, *store]

    return Subject(name, command, plays_tasks=True)


def seedbed_with_redis(name: str, *options: str) -> Subject:
    """Return the mock server with its tasks in a Redis server, which writes them to disk once a second."""

    def programs(folder: Path) -> list[list[str]]:
        port = str(free_port())
        (folder / "redis.port").write_text(port)
        settings = ["--bind", local.HOST, "--port", port, "--dir", str(folder), "--save", ""]
        return [["redis-server", *settings, "--appendonly", "yes", "--appendfsync", "everysec"]]

    def command(port: int, folder: Path) -> list[str]:
        url = f"redis://{local.HOST}:{(folder / 'redis.port').read_text()}/0"
        return [*_SERVE, "--port", str(port), *options, "--db", url]

    return Subject(name, command, plays_tasks=True, programs=programs)


def bare(name: str, kind: str) -> Subject:
    """Return a server that reads the body and answers with constant bytes."""
    return Subject(name, lambda port, folder: [sys.executable, _BARE, str(port), kind, str(folder / "record.json")])


def installed_peers() -> list[Subject]:
    """Return the other mock servers that are installed in :data:`PEERS`."""
    peers = (
        ("llmock", Subject("aimock", _aimock, "/api/v3/contents/generations/tasks", _as_ark_task)),
        ("wiremock", Subject("WireMock", _wiremock)),
        ("prism", Subject("Prism", _prism)),
    )
    return [subject for program, subject in peers if _program(program).exists()]


def _program(name: str) -> Path:
    return PEERS / "node_modules" / ".bin" / name


def _aimock(port: int, folder: Path) -> list[str]:
    task = {"status": "succeeded", "content": {"video_url": "https://example.com/video.mp4"}}
    fixture = {"match": {"endpoint": "video", "userMessage": PROMPT[:20]}, "response": {"json": task}}
    path = folder / "fixtures.json"
    path.write_text(json.dumps({"fixtures": [fixture]}), encoding="utf-8")
    return ["node", str(_program("llmock")), "--port", str(port), "--fixtures", str(path), "--log-level", "silent"]


def _as_ark_task(request: dict[str, Any]) -> object:
    """Return the request in the form of the task API that aimock plays, which is the nearest to this one."""
    task = {"model": request[FIELDS.model], "content": [{"type": "text", "text": request[FIELDS.input]["prompt"]}]}
    callback = request.get(FIELDS.callback)
    return {**task, "callback_url": callback} if callback else task


def _wiremock(port: int, folder: Path) -> list[str]:
    """Return WireMock with a stub that requires the model and the fields of the input, and answers with a new ID."""
    mappings = folder / "mappings"
    mappings.mkdir()
    required = [{"matchesJsonPath": f"$.{FIELDS.input}.{name}"} for name in CONTRACT.input_fields]
    model = {"matchesJsonPath": f"$[?(@.{FIELDS.model} == '{CONTRACT.model}')]"}
    name = dialects()["documented"].created[0]
    body = {"code": SUCCESS, "msg": "success", "data": {name: "task_{{randomValue length=32 type='ALPHANUMERIC'}}"}}
    stub = {
        "request": {"method": "POST", "urlPath": CONTRACT.operation.path, "bodyPatterns": [model, *required]},
        "response": {"status": 200, "jsonBody": body, "transformers": ["response-template"]},
    }
    (mappings / "create.json").write_text(json.dumps(stub), encoding="utf-8")
    options = ["--port", str(port), "--root-dir", str(folder), "--no-request-journal", "--disable-banner"]
    return ["node", str(_program("wiremock")), *options]


def _prism(port: int, folder: Path) -> list[str]:
    document = folder / "openapi.json"
    document.write_text(json.dumps(openapi_document(CONTRACT)), encoding="utf-8")
    return ["node", str(_program("prism")), "mock", "--port", str(port), "--verboseLevel", "error", str(document)]
