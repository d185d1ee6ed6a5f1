"""The other side of the comparison: a bare uvicorn application and bare Starlette routes, which send constant bytes.

Usage: ``bare.py PORT [uvicorn|starlette] [RECORD]``. RECORD is a file with the response to GET.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CREATED = b'{"code":200,"msg":"success","data":{"taskId":"task_seedream_1765166238716"}}'
KIND, FILE = (*sys.argv[2:], *("starlette", "")[max(0, len(sys.argv) - 2) :])[:2]
RECORD = Path(FILE).read_bytes() if FILE and Path(FILE).exists() else CREATED

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def create(request: Request) -> Response:
    """Read the body of the request, as any service must, and respond."""
    await request.body()
    return Response(CREATED, media_type="application/json")


async def show(_: Request) -> Response:
    """Respond at once."""
    return Response(RECORD, media_type="application/json")


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Do the same without a framework."""
    if scope["type"] != "http":
        return
    content = RECORD
    if scope["method"] == "POST":
        content = CREATED
        while (await receive()).get("more_body"):
            pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


routes = [Route("/{path:path}", create, methods=["POST"]), Route("/{path:path}", show, methods=["GET"])]
app = plain if KIND == "uvicorn" else Starlette(routes=routes)

if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="off",
    )
