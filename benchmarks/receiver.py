"""A receiver of callbacks that counts them. GET returns the count and the seconds between the first and the last."""

import json
import sys
import time

import uvicorn
from bare import Receive, Scope, Send

times: list[float] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Count a POST, or return what was counted."""
    content = b""
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
        times.append(time.perf_counter())
    else:
        seconds = times[-1] - times[0] if times else 0
        content = json.dumps({"count": len(times), "seconds": seconds}).encode()
        times.clear()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", log_level="critical", lifespan="off")
