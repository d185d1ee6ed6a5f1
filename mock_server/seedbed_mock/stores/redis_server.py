"""The Redis or Valkey server of a fleet: its URL, its check at the start, and calls that survive a lost connection.

Each call of a script has an ID that the script remembers, or has no effect the second time. So a call whose reply was
lost is sent again, and neither charges twice nor forgets a charge.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from seedbed_mock.direct import AwaitedResult
from seedbed_mock.stores.store import StoreError, StoreUnavailableError

try:
    import redis
    from redis import asyncio as redis_asyncio
    from redis import exceptions
    from redis.asyncio.retry import Retry
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry as BlockingRetry
except ModuleNotFoundError as error:
    raise StoreError(
        'A fleet on Redis needs the package redis; install it with: pip install "seedbed[redis]".'
    ) from error

try:
    from hiredis import pack_command
except ModuleNotFoundError:
    # An optional part of redis-py, for which there are no wheels on some systems.
    pack_command = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from redis.asyncio.client import PubSub
    from redis.asyncio.connection import AbstractConnection

    _Argument = str | int | float | bytes
    _Call = tuple[_Argument, ...]


SCHEMES: Final = ("redis", "rediss", "unix")
"""Schemes of the URLs: TCP, TLS and a Unix socket."""

_OLDEST = (6, 2)
"""Oldest version of Redis: the first with RESP3 and all commands of the scripts. Every version of Valkey is newer."""

_VERSION = b"1"
"""Version of the keys of a fleet."""

_FLEET_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

_CONNECT_SECONDS = 2.0
_REPLY_SECONDS = 5.0
_RETRIES = 2
_RETRY_SECONDS = 0.05
_CONNECTIONS = 4
"""Number of connections at most: one has the calls, one the news of other servers, and others load scripts."""

_CALLS_AT_ONCE = 256

_EVICTS = "allkeys"

_NOT_ADMITTED = "does not accept the user or the password; check them in the URL"
_PROBLEMS: Final[dict[type[Exception] | tuple[type[Exception], ...], str]] = {
    (redis.AuthenticationError, exceptions.AuthenticationWrongNumberOfArgsError): _NOT_ADMITTED,
    redis.OutOfMemoryError: "has reached its memory limit; raise maxmemory, or lower --keep-tasks",
    redis.ReadOnlyError: "has become a read-only replica",
    exceptions.NoPermissionError: "does not allow its user the commands of Seedbed; change its ACL",
    redis.BusyLoadingError: "is still loading its data",
}
"""What is wrong with a server, by the errors that are no mere loss of the connection."""


class FleetUrl:
    """The URL of ``--db`` for a fleet.

    Args:
        text: ``redis://``, ``rediss://`` or ``unix://`` with a host or path, credentials and the number of a database,
            and optionally ``fleet=NAME`` in its query.

    Attributes:
        fleet: Name of the fleet: servers with the same name share everything.
        address: Where the server is, without credentials, for messages.
        connection: The URL for redis-py.

    Raises:
        StoreError: The URL is invalid; the message does not contain it, since it may have a password.
    """

    def __init__(self, text: str) -> None:
        problem = "Invalid Redis URL; use redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix:///PATH, and fleet=NAME."
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise StoreError(problem) from error
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.fleet = query.pop("fleet", "seedbed")
        is_socket = parts.scheme == "unix"
        is_placed = bool(parts.path) if is_socket else bool(parts.hostname) and bool(re.fullmatch(r"/?\d*", parts.path))
        if parts.scheme not in SCHEMES or not is_placed or not _FLEET_NAME.fullmatch(self.fleet):
            raise StoreError(problem)
        self.address = parts.path if is_socket else f"{parts.hostname}:{port or 6379}"
        # Not urlunsplit, which drops the slashes of unix:///PATH.
        self.connection = f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(query)}"

    def __repr__(self) -> str:
        return f"FleetUrl({self.address}, {self.fleet})"

    @property
    def prefix(self) -> str:
        """What the names of all keys begin with. The braces keep a fleet on one node of a cluster."""
        return f"seedbed:{{{self.fleet}}}:"


class RedisServer:
    """A server of Redis, and the scripts that run on it.

    Args:
        url: Its URL.
        constants: Constants of the scripts by name.

    Attributes:
        url: Its URL.

    Raises:
        StoreError: The server cannot be reached or used.
    """

    def __init__(self, url: FleetUrl, constants: Mapping[str, int | str]) -> None:
        self.url = url
        self._sources = _scripts(constants)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: redis_asyncio.Redis | None = None
        self._scripts: dict[str, Any] = {}
        self._waiting: list[tuple[_Call, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None
        try:
            with self.blocking() as client:
                self._check(client)
        except StoreError:
            raise
        except (redis.RedisError, OSError, ValueError, TypeError) as error:
            raise StoreError(self._sentence(error)) from error

    def blocking(self) -> redis.Redis:
        """Return a client for the start of a process, before an event loop runs."""
        return redis.Redis.from_url(
            self.url.connection,
            protocol=2,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_CONNECT_SECONDS,
            retry=BlockingRetry(ConstantBackoff(0), 0),
        )

    def _check(self, client: redis.Redis) -> None:
        about: dict[str, Any] = client.info()
        version = str(about.get("redis_version", "0"))
        name = f"Redis at {self.url.address}"
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
            raise StoreError(f"{name} has version {version}; Seedbed needs 6.2 or later.")
        if about.get("redis_mode") == "cluster":
            raise StoreError(f"{name} is a node of a cluster; give the URL of a server that is part of none.")
        if about.get("role") != "master":
            raise StoreError(f"{name} is a read-only replica; give the URL of its primary.")
        limit, policy = int(about.get("maxmemory", 0)), str(about.get("maxmemory_policy", ""))
        if limit and policy.startswith(_EVICTS):
            raise StoreError(f"{name} may delete tasks, since its maxmemory-policy is {policy}; set it to noeviction.")
        format_key = f"{self.url.prefix}format"
        client.set(format_key, _VERSION, nx=True)
        if client.get(format_key) != _VERSION:
            raise StoreError(f"The fleet {self.url.fleet} was created by a newer version of Seedbed; update Seedbed.")

    def _sentence(self, error: BaseException) -> str:
        """Return what is wrong, in one sentence that contains no credentials."""
        problem = next((text for kinds, text in _PROBLEMS.items() if isinstance(error, kinds)), "")
        if not problem and isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            problem = f"cannot be reached: {_reason(error)}"
        elif not problem:
            is_refused = "NOAUTH" in str(error) or "WRONGPASS" in str(error)
            problem = _NOT_ADMITTED if is_refused else f"cannot be used: {error}"
        return f"Redis at {self.url.address} {problem.rstrip('.')}."

    def client(self) -> redis_asyncio.Redis:
        """Return the client of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            pool = redis_asyncio.BlockingConnectionPool.from_url(
                self.url.connection,
                protocol=3,
                max_connections=_CONNECTIONS,
                timeout=_REPLY_SECONDS,
                socket_connect_timeout=_CONNECT_SECONDS,
                socket_timeout=_REPLY_SECONDS,
                retry=Retry(ConstantBackoff(_RETRY_SECONDS), _RETRIES),
            )
            self._loop, self._client = loop, redis_asyncio.Redis.from_pool(pool)
            self._scripts = {name: self._client.register_script(source) for name, source in self._sources.items()}
            self._waiting, self._sender = [], None
        return self._client

    async def run(self, script: str, *arguments: _Argument) -> Any:
        """Run a script and return its result.

        Args:
            script: Its name.
            arguments: Its arguments.

        Raises:
            StoreUnavailableError: Redis cannot be used now.
        """
        client = self.client()
        registered = self._scripts[script]
        call = ("EVALSHA", registered.sha, 1, self.url.prefix, *arguments)
        try:
            return await self._send(call)
        except exceptions.NoScriptError:
            pass
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailableError(self._sentence(error)) from error
        # Redis forgets its scripts when it restarts.
        try:
            # In a task, since redis-py limits the time, and the caller may have none.
            await asyncio.ensure_future(client.script_load(registered.script))
            return await self._send(call)
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailableError(self._sentence(error)) from error

    async def command(self, name: str, key: str, *arguments: _Argument) -> Any:
        """Run a command on a key of the fleet and return its result.

        Args:
            name: The command.
            key: The key, without the prefix of the fleet.
            arguments: What follows the key.

        Raises:
            StoreUnavailableError: Redis cannot be used now.
        """
        self.client()
        try:
            return await self._send((name, f"{self.url.prefix}{key}", *arguments))
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailableError(self._sentence(error)) from error

    async def listeners(self, channel: str) -> int:
        """Return how many servers listen to a channel of the fleet.

        Raises:
            StoreUnavailableError: Redis cannot be used now.
        """
        try:
            found: Any = await self.client().pubsub_numsub(f"{self.url.prefix}{channel}")
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailableError(self._sentence(error)) from error
        return int(found[0][1])

    @contextlib.asynccontextmanager
    async def subscription(self, channel: str) -> AsyncIterator[PubSub]:
        """Listen to a channel of the fleet while the block runs.

        Raises:
            StoreUnavailableError: Redis cannot be used now, or the connection was lost.
        """
        try:
            async with self.client().pubsub() as subscription:
                await subscription.subscribe(f"{self.url.prefix}{channel}")
                yield subscription
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailableError(self._sentence(error)) from error

    async def _send(self, call: _Call) -> Any:
        """Send a call together with those that wait at the same time, and return its result.

        Sending calls one by one would take several times as long. A caller that is cancelled leaves the others alone.
        """
        loop = asyncio.get_running_loop()
        reply = AwaitedResult(loop=loop)
        self._waiting.append((call, reply))
        if self._sender is None or self._sender.done():
            self._sender = loop.create_task(self._send_waiting(self.client()), name="seedbed calls of Redis")
        return await reply

    async def _send_waiting(self, client: redis_asyncio.Redis) -> None:
        while self._waiting:
            calls, self._waiting = self._waiting[:_CALLS_AT_ONCE], self._waiting[_CALLS_AT_ONCE:]
            results: list[Any] = [redis.ConnectionError("the connection was closed")] * len(calls)
            try:
                results = await self._exchange(client, [call for call, _ in calls])
            except (redis.RedisError, OSError) as error:
                results = [error] * len(calls)
            finally:
                self._answer(calls, results)

    async def _exchange(self, client: redis_asyncio.Redis, calls: list[_Call]) -> list[Any]:
        """Send calls on one connection and return their results, an exception for each call that Redis refuses."""
        # Not a pipeline of redis-py, which takes longer for each call than everything else together.
        pool: Any = client.connection_pool  # whose methods have no types
        connection: AbstractConnection = await pool.get_connection()

        async def attempt() -> list[Any]:
            async with asyncio.timeout(_REPLY_SECONDS):
                await connection.send_packed_command(_packed(connection, calls))
                return [await _result(connection) for _ in calls]

        try:
            results: list[Any] = await connection.retry.call_with_retry(
                attempt, lambda _: connection.disconnect(nowait=True)
            )
            return results
        finally:
            await pool.release(connection)

    @staticmethod
    def _answer(calls: list[tuple[_Call, asyncio.Future[Any]]], results: list[Any]) -> None:
        for (_, reply), result in zip(calls, results, strict=True):
            if reply.done():
                continue
            if isinstance(result, Exception):
                reply.set_exception(result)
            else:
                reply.set_result(result)

    async def close(self) -> None:
        """Close all connections of the running event loop."""
        client, self._client = self._client, None
        if client and self._loop is asyncio.get_running_loop():
            if self._sender:
                self._sender.cancel()
                await asyncio.wait([self._sender])
            self._answer(self._waiting, [redis.ConnectionError("the server stops")] * len(self._waiting))
            self._waiting = []
            await client.aclose(close_connection_pool=True)


def _packed(connection: AbstractConnection, calls: list[_Call]) -> list[bytes]:
    """Return calls in the protocol of Redis."""
    if pack_command is None:
        return connection.pack_commands(calls)
    # Annotated for a tuple of one value.
    return [b"".join(pack_command(call) for call in calls)]  # type: ignore[arg-type]


async def _result(connection: AbstractConnection) -> Any:
    try:
        # The caller limits the time for all replies together.
        return await connection.read_response(timeout=math.inf)
    except redis.ResponseError as error:
        return error


def _reason(error: BaseException) -> str:
    """Return why a connection failed, in the words of the system if there are any."""
    cause: BaseException | None = error
    while cause and not getattr(cause, "strerror", None):
        cause = cause.__cause__ or cause.__context__
    if cause:
        return str(getattr(cause, "strerror", cause))
    return "no response" if isinstance(error, redis.TimeoutError | TimeoutError) else str(error)


def _scripts(constants: Mapping[str, int | str]) -> dict[str, str]:
    """Return the sources of all scripts by name, each with the constants and the functions that they share."""
    sources = {
        each.name.removesuffix(".lua"): each.read_text(encoding="utf-8")
        for each in files("seedbed_mock.stores").joinpath("scripts").iterdir()
        if each.name.endswith(".lua")
    }
    shared = sources.pop("common")
    values = {name: f"'{value}'" if isinstance(value, str) else value for name, value in constants.items()}
    head = "\n".join(["local FLEET = KEYS[1]", *(f"local {name} = {value}" for name, value in values.items())])
    return {name: f"{head}\n{shared}\n{source}" for name, source in sources.items()}
