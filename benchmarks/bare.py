"""The other side of the comparison: Starlette routes that send the bytes of the mock server and do nothing else."""

import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CREATED = b'{"code":200,"msg":"success","data":{"taskId":"task_seedream_1765166238716"}}'
RECORD = Path(sys.argv[2]).read_bytes() if len(sys.argv) > 2 else CREATED  # noqa: PLR2004 (port and file)


async def create(request: Request) -> Response:
    """Read the body of the request, as any service must, and respond."""
    await request.body()
    return Response(CREATED, media_type="application/json")


async def show(_: Request) -> Response:
    """Respond at once."""
    return Response(RECORD, media_type="application/json")


app = Starlette(routes=[Route("/{path:path}", create, methods=["POST"]), Route("/{path:path}", show, methods=["GET"])])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", log_level="critical", server_header=False)
