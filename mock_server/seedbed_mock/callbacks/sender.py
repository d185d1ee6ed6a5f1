"""One POST request to a receiver whose address is checked.

It uses sockets and an HTTP parser instead of an HTTP client: tests that patch the clients of their program must not
catch the callbacks of the server, and a client could follow redirects to unchecked addresses.
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
"""In bytes, informational responses included."""

_MAX_LINES = 128
"""Status and header lines: parsing thousands of short ones would block the event loop."""

_SECONDS = re.compile(rb"[0-9]{1,9}")


class DeliveryError(Exception):
    """The receiver gave no valid response; the message is one sentence that says what happened."""


class UnreachableError(DeliveryError):
    """There is no connection to the receiver."""


@dataclass(frozen=True, slots=True)
class ReceiverResponse:
    """The response of a receiver.

    Attributes:
        status: HTTP status; redirects are not followed.
        retry_after: Seconds of Retry-After; ``None`` without the header, or if it is not a whole number.
    """

    status: int
    retry_after: float | None


async def send_callback(
    target: CallbackTarget, body: bytes, headers: Mapping[str, str], *, pieces: int = 1, pause: float = 0
) -> ReceiverResponse:
    """Send a JSON body and return the status of the response, whose body is not read.

    There is no time-out: the caller cancels the coroutine instead.

    Args:
        target: Receiver.
        body: JSON document.
        headers: Additional headers; they replace default headers of the same name.
        pieces: Number of pieces in which the request is sent.
        pause: Seconds between two pieces.

    Raises:
        DeliveryError: The receiver cannot be reached or does not respond with valid HTTP.
    """
    # One request starts in each turn of the loop: hundreds in one turn would block it.
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await asyncio.sleep(0)
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD)
    request = _request(http, target, body, headers)
    reader, writer = await _connect(target)
    try:
        size = -(-len(request) // pieces)
        writer.write(request[:size])
        for start in range(size, len(request), size):
            await asyncio.sleep(pause)
            writer.write(request[start : start + size])
        return await _read_response(reader, http, target.host)
    except ssl.SSLError as error:
        raise DeliveryError(f"The TLS connection to {target.host} broke ({_reason(error)}).") from error
    except OSError as error:
        raise DeliveryError(f"{target.host} reset the connection before it responded.") from error
    finally:
        # Closing would wait for a receiver that keeps sending or does not end TLS.
        writer.transport.abort()


async def send_and_leave(target: CallbackTarget, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a JSON body and close the connection without waiting for the response.

    Args:
        target: Receiver.
        body: JSON document.
        headers: Additional headers; they replace default headers of the same name.

    Raises:
        DeliveryError: The receiver cannot be reached.
    """
    request = _request(h11.Connection(h11.CLIENT), target, body, headers)
    _, writer = await _connect(target)
    try:
        writer.write(request)
        writer.close()
        await writer.wait_closed()
    except OSError:
        # The receiver left first, which is the same to it.
        writer.transport.abort()


# Weak, so that a lock lives only while a request waits for it and keeps no closed loop alive.
_turns: WeakValueDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakValueDictionary()


def _request(http: h11.Connection, target: CallbackTarget, body: bytes, headers: Mapping[str, str]) -> bytes:
    given = {name.lower() for name in headers}
    defaults = {
        "Host": target.host,
        "User-Agent": f"Seedbed/{__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [*((name, value) for name, value in defaults.items() if name.lower() not in given), *headers.items()]
    events = (h11.Request(method="POST", target=target.path, headers=lines), h11.Data(body), h11.EndOfMessage())
    return b"".join(http.send(event) or b"" for event in events)


async def _connect(target: CallbackTarget) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    tls = await asyncio.to_thread(tls_context) if target.server_name else None
    failure = UnreachableError(f"{target.host} has no address.")
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


def _connect_failure(receiver: str, error: OSError) -> UnreachableError:
    match error:
        case ssl.SSLCertVerificationError():
            problem = f"The certificate of {receiver} is not accepted ({error.verify_message.rstrip('.')})"
        case ssl.SSLError():
            problem = f"The TLS handshake with {receiver} failed ({_reason(error)})"
        case ConnectionRefusedError():
            problem = f"{receiver} refused the connection"
        case ConnectionResetError() | ConnectionAbortedError():
            problem = f"{receiver} closed the connection before it was established"
        case _:
            problem = (
                f"{receiver} could not be reached ({os.strerror(error.errno) if error.errno else 'no connection'})"
            )
    return UnreachableError(f"{problem}.")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "protocol error").replace("_", " ").lower()


async def _read_response(reader: asyncio.StreamReader, http: h11.Connection, receiver: str) -> ReceiverResponse:
    size = 0
    # Line by line, so that other protocols are refused at the first line, and floods of headers at the limit.
    for number in range(_MAX_LINES):
        try:
            line = await reader.readline()
        except ValueError as error:  # longer than the limit of the reader
            raise _too_large(receiver) from error
        if not line:
            raise DeliveryError(f"{receiver} closed the connection before it responded.")
        size += len(line)
        if size > _LARGEST_HEAD:
            break
        if number == 0 and not line.startswith(b"HTTP/"):
            raise _not_http(receiver)
        http.receive_data(line)
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            raise _not_http(receiver) from error
        if isinstance(event, h11.Response):
            retry_after = dict(event.headers).get(b"retry-after", b"")
            # A date, which the header may give as well, is ignored.
            seconds = float(retry_after) if _SECONDS.fullmatch(retry_after) else None
            return ReceiverResponse(event.status_code, seconds)
    raise _too_large(receiver)


def _not_http(receiver: str) -> DeliveryError:
    return DeliveryError(f"{receiver} did not respond with HTTP/1.1.")


def _too_large(receiver: str) -> DeliveryError:
    return DeliveryError(f"{receiver} sent more than {_LARGEST_HEAD} bytes or {_MAX_LINES} lines of headers.")


_tls_lock = threading.Lock()


def tls_context() -> ssl.SSLContext:
    """Return the default TLS context of the system; the first call takes tens of milliseconds."""
    # functools.cache alone would let several threads load the certificates at once.
    with _tls_lock:
        return _default_context()


_default_context = functools.cache(ssl.create_default_context)
