"""A Redis server that the tests start themselves, on a free port."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_fleets = count(1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class RedisProcess:
    """A Redis server with its data in a directory, which can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.port = free_port()
        # Not all of its methods have types.
        self.client: Any = redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        persistence = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
        command = ["redis-server", "--port", str(self.port), "--dir", str(self.folder), "--bind", "127.0.0.1"]
        self.process = subprocess.Popen([*command, *persistence, *self.options], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not self.is_ready():
            assert time.monotonic() < end, "Redis does not start"
            time.sleep(0.01)

    def is_ready(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.stop()
        self.client.close()

    def url(self, fleet: str = "") -> str:
        """Return the URL of a fleet, by default of a new one."""
        return f"redis://127.0.0.1:{self.port}/0?fleet={fleet or f'test-{next(_fleets)}'}"


@contextlib.contextmanager
def redis_running(folder: Path, *options: str) -> Iterator[RedisProcess]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisProcess(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.close()
