"""A server in a thread changes nothing that belongs to the whole process."""

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from seedbed_mock import running

# In a process of its own, where the libraries of a user are set up and nothing of ours is imported yet.
SNAPSHOTS = """
import asyncio, contextlib, decimal, gc, json, locale, logging, os, random, signal, socket, sys, threading, warnings

def snapshot():
    loggers = {name: logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access",
        "uvicorn.asgi", "asyncio", "httpx", "httpcore", "PIL", "users.own")}
    return {
        "loggers": {
            name: (each.level, each.propagate, each.disabled, repr(each.handlers), repr(each.filters))
            for name, each in loggers.items()
        },
        "level names": logging.getLevelName(5),
        "logging disabled": logging.root.manager.disable,
        "signals": [(int(each), repr(signal.getsignal(each))) for each in signal.valid_signals()],
        "wakeup": signal.set_wakeup_fd(-1),
        "policy": repr(asyncio.events._event_loop_policy),
        "gc": (gc.isenabled(), gc.get_freeze_count(), gc.get_threshold(), repr(gc.callbacks)),
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": repr(warnings.filters),
        "hooks": [repr(each) for each in (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook)],
        "streams": [repr(each) for each in (sys.stdin, sys.stdout, sys.stderr)],
        "time-out": socket.getdefaulttimeout(),
        "socket": repr(socket.socket),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "random": repr(random.getstate()),
        "decimal": repr(decimal.getcontext()),
        "threads": sorted(each.name for each in threading.enumerate()),
        "trace": (repr(sys.gettrace()), repr(sys.getprofile()), sys.getswitchinterval(), sys.getrecursionlimit()),
        "path": list(sys.path),
    }

logging.getLogger("uvicorn.access").addHandler(logging.NullHandler())
logging.getLogger("uvicorn.error").setLevel(logging.INFO)
logging.getLogger("users.own").setLevel(logging.DEBUG)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
warnings.simplefilter("error")
random.seed(1)

before = snapshot()
import urllib.request
import seedbed_mock, seedbed_mock.cli, seedbed_mock.__main__, seedbed_mock.server, seedbed_mock.pytest_plugin
imported = snapshot()
with seedbed_mock.running(task_seconds=0) as server:
    while_running = snapshot()
    body = {"model": "seedream/4.5-text-to-image", "callBackUrl": server.url,
        "input": {"prompt": "a", "aspect_ratio": "1:1", "quality": "basic"}}
    headers = {"Authorization": "Bearer seedbed-key"}
    address = server.url + "/api/v1/jobs/createTask"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    task_id = json.load(urllib.request.urlopen(request))["data"]["taskId"]
    record = server.task(task_id)["record"]
    urllib.request.urlopen(json.loads(record["resultJson"])["resultUrls"][0]).read()
    with contextlib.suppress(OSError):
        urllib.request.urlopen(urllib.request.Request(address, b"{}", {**headers, "X-Seedbed-Fault": "wire.reset"}))
    server.play(seed=5)
assert seedbed_mock.__main__.command(["faults", "scenarios"]) == 0
after = snapshot()
for name, value in before.items():
    assert imported[name] == value, (name, value, imported[name])
    assert after[name] == value, (name, value, after[name])
    if name not in ("threads", "loggers"):
        assert while_running[name] == value, (name, value, while_running[name])
print("unchanged")
"""


def test_importing_and_running_a_server_leaves_the_process_as_it_was() -> None:
    command = [sys.executable, "-c", SNAPSHOTS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.endswith("unchanged\n"), result.stderr


def test_other_servers_of_the_process_log_as_before(
    http: Any, caplog: pytest.LogCaptureFixture, call: Callable[..., dict[str, Any]]
) -> None:
    async def other(scope: Any, _: Any, send: Any) -> None:
        assert scope["type"] in {"http", "lifespan"}
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    caplog.set_level(logging.INFO, "uvicorn.error")
    caplog.set_level(logging.INFO, "uvicorn.access")
    config = uvicorn.Config(other, port=0, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    with running() as mock:
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            http.get(f"{mock.url}/__seedbed/health")
        port = server.servers[0].sockets[0].getsockname()[1]
        assert http.get(f"http://127.0.0.1:{port}/").status_code == 204
        call("GET", "/api/v1/chat/credit")
        server.should_exit = True
        thread.join(20)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")]
    assert sum("Started server process" in message for message in messages) == 1
    assert [message.split(" - ")[1] for message in messages if "HTTP/1.1" in message] == ['"GET / HTTP/1.1" 204']


def test_a_server_that_stops_while_a_call_hangs_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")
    with running() as server, socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as connection:
        host = urlsplit(server.url).netloc
        key = "Authorization: Bearer seedbed-key\r\nX-Seedbed-Fault: wire.hang"
        connection.sendall(f"GET /api/v1/chat/credit HTTP/1.1\r\nHost: {host}\r\n{key}\r\n\r\n".encode())
        while not server.calls:
            pass
        server.stop()
    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"] == []
