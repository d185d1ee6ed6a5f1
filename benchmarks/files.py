"""The modules of Seedbed that run for one createTask request in the server, and for one generate() in the client."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from seedbed_client import SeedreamClient
from seedbed_mock import create_app, running
from seedbed_schemas import local
from sides import CREATE, HEADERS, REQUEST, SUCCESS


def modules_of(call: Callable[[], object]) -> list[str]:
    """Return the modules whose functions run in this thread during a call."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        package = next((parent for parent in path.parents if parent.name.startswith("seedbed_")), None)
        if event == "call" and package:
            found.add(path.relative_to(package.parent).as_posix())

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return sorted(found)


def request_over_asgi() -> Callable[[], object]:
    """Return a function that sends one createTask request to an application in this process."""
    app, body = create_app(), json.dumps(REQUEST).encode()
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": CREATE,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()],
        "server": (local.HOST, local.PORT),
    }

    async def send(message: dict[str, Any]) -> None:
        assert message.get("body") is None or f'"code":{SUCCESS}'.encode() in message["body"], message

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return lambda: asyncio.run(app(dict(scope), receive, send))  # type: ignore[arg-type]


def main() -> None:
    """Print the modules of the second call, since the first one also loads what later calls use."""
    request = request_over_asgi()
    request()
    print_modules("createTask in the mock server", modules_of(request))
    with running(task_seconds=0) as server, SeedreamClient(server.url, server.key) as client:
        client.generate("A hill at dawn")
        print_modules("generate() in the client", modules_of(lambda: client.generate("A hill at dawn")))


def print_modules(title: str, modules: list[str]) -> None:
    """Print the number of modules and their names."""
    print(f"{title}: {len(modules)} modules", *modules, sep="\n  ")


if __name__ == "__main__":
    main()
