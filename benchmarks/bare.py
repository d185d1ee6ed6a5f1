"""The other side of the comparison: a Starlette route that answers the bytes of createTask and does nothing else."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BODY = b'{"code":200,"msg":"success","data":{"taskId":"task_seedream_1765166238716"}}'


async def answer(request: Request) -> Response:
    """Read the request's body, as any service must, and answer."""
    await request.body()
    return Response(BODY, media_type="application/json")


app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", log_level="critical", server_header=False)
