"""One POST to a receiver whose address has been checked, and the head of its answer.

It stands on sockets and a parser rather than on an HTTP client: users replace those in their tests, callbacks included.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import h11
from seedbed_schemas import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_mock.callbacks.targets import CallbackTarget


_LARGEST_HEAD = 64 * 1024
"""In bytes, informational answers included."""

_MOST_LINES = 128
"""Of a head: parsing thousands of short ones would hold up everybody else."""

_SECONDS = re.compile(rb"[0-9]{1,9}")


class DeliveryError(Exception):
    """The receiver gave no answer; the message is one sentence that says what happened."""


@dataclass(frozen=True, slots=True)
class ReceiverResponse:
    """What a receiver answered.

    Attributes:
        status: HTTP status; redirects are not followed.
        retry_after: Seconds for which the receiver asks to be left alone, ``None`` where it names no whole number.
    """

    status: int
    retry_after: float | None


async def send_callback(target: CallbackTarget, body: bytes, headers: Mapping[str, str]) -> ReceiverResponse:
    """Send a JSON body and return how the receiver answers, without the body of its answer.

    It may take as long as the receiver likes: the caller sets the time-out by cancelling it.

    Args:
        target: The receiver.
        body: What to send.
        headers: Headers beside those of every callback, or in their place.

    Raises:
        DeliveryError: There was no answer.
    """
    await _wait_for_a_turn()
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD)
    request = _request(http, target, body, headers)
    reader, writer = await _connect(target)
    try:
        writer.write(request)
        return await _answer(reader, http, target.host)
    except ssl.SSLError as error:
        raise DeliveryError(f"The TLS connection to {target.host} broke ({_reason(error)}).") from error
    except OSError as error:
        raise DeliveryError(f"{target.host} reset the connection before it answered.") from error
    finally:
        # A receiver that goes on sending, or never says goodbye, is not waited for.
        writer.transport.abort()


async def _wait_for_a_turn() -> None:
    """Let one post begin in each turn of the loop: hundreds in one would hold up everybody else."""
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await asyncio.sleep(0)


# Held weakly, a lock is gone with the last post that waits, and keeps no loop alive that has ended.
_turns: WeakValueDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakValueDictionary()


def _request(http: h11.Connection, target: CallbackTarget, body: bytes, headers: Mapping[str, str]) -> bytes:
    given = {name.lower() for name in headers}
    own = {
        "Host": target.host,
        "User-Agent": f"Seedbed/{__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    every = [*((name, value) for name, value in own.items() if name.lower() not in given), *headers.items()]
    events = (h11.Request(method="POST", target=target.path, headers=every), h11.Data(body), h11.EndOfMessage())
    return b"".join(http.send(event) or b"" for event in events)


async def _connect(target: CallbackTarget) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    tls = await asyncio.to_thread(tls_context) if target.server_name else None
    failure = DeliveryError(f"{target.host} has no address.")
    for address in target.addresses:
        try:
            return await asyncio.open_connection(
                address,
                target.port,
                limit=_LARGEST_HEAD,
                ssl=tls,
                server_hostname=target.server_name,
                flags=socket.AI_NUMERICHOST,
            )
        except OSError as error:
            failure = _connect_failure(f"{target.host} at {address} port {target.port}", error)
    raise failure


def _connect_failure(receiver: str, error: OSError) -> DeliveryError:
    match error:
        case ssl.SSLCertVerificationError():
            what = f"{receiver} shows a certificate that is not accepted ({error.verify_message.rstrip('.')})"
        case ssl.SSLError():
            what = f"No TLS connection to {receiver} came about ({_reason(error)})"
        case ConnectionRefusedError():
            what = f"{receiver} refused the connection"
        case ConnectionResetError() | ConnectionAbortedError():
            what = f"{receiver} closed the connection before it was ready"
        case _:
            what = f"{receiver} could not be reached ({os.strerror(error.errno) if error.errno else 'no connection'})"
    return DeliveryError(f"{what}.")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "protocol error").replace("_", " ").lower()


async def _answer(reader: asyncio.StreamReader, http: h11.Connection, receiver: str) -> ReceiverResponse:
    size = 0
    for number in range(_MOST_LINES):
        line = await _line(reader, receiver)
        size += len(line)
        if size > _LARGEST_HEAD:
            break
        if number == 0 and not line.startswith(b"HTTP/"):
            raise _not_http(receiver)
        event = _event(http, line, receiver)
        if isinstance(event, h11.Response):
            return ReceiverResponse(event.status_code, _retry_after(event))
    raise _flood(receiver)


async def _line(reader: asyncio.StreamReader, receiver: str) -> bytes:
    try:
        line = await reader.readline()
    except ValueError as error:
        raise _flood(receiver) from error
    if not line:
        raise DeliveryError(f"{receiver} closed the connection before it answered.")
    return line


def _event(http: h11.Connection, line: bytes, receiver: str) -> object:
    http.receive_data(line)
    try:
        return http.next_event()
    except h11.RemoteProtocolError as error:
        raise _not_http(receiver) from error


def _retry_after(response: h11.Response) -> float | None:
    value = dict(response.headers).get(b"retry-after", b"")
    return float(value) if _SECONDS.fullmatch(value) else None


def _not_http(receiver: str) -> DeliveryError:
    return DeliveryError(f"{receiver} answered with something that is not HTTP/1.1.")


def _flood(receiver: str) -> DeliveryError:
    return DeliveryError(f"{receiver} answered with more than {_LARGEST_HEAD} bytes or {_MOST_LINES} lines of headers.")


_building = threading.Lock()


def tls_context() -> ssl.SSLContext:
    """Return the system's default rules for TLS; takes tens of milliseconds the first time."""
    with _building:
        return _built_context()


@functools.cache
def _built_context() -> ssl.SSLContext:
    return ssl.create_default_context()
