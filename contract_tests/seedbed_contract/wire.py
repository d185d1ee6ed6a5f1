"""HTTP as a judge speaks it: nothing mended, nothing followed, nothing read without end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import httpx2

from seedbed_contract.exchange import Answer, Exchange

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from seedbed_contract.exchange import Ask

PATIENCE: Final = 10.0
"""Seconds that one answer may take."""
LARGEST_ANSWER: Final = 8 << 20
"""Bytes of an answer that are read; no answer of the service comes near."""
_CONNECTIONS: Final = 64
_IDLE: Final = 1.0
"""Seconds after which an idle connection is not used again: servers close them, and that is no fault."""


class OutOfTime(Exception):
    """The time of a run is over."""


class Wire:
    """Sends requests to one server until a deadline.

    Args:
        base_url: Where the server is.
        seconds: How long requests may be sent.
    """

    def __init__(self, base_url: str, seconds: float) -> None:
        self.base_url = base_url
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.sent = 0
        self.on_sent: Callable[[], object] = lambda: None
        self._count = threading.Lock()
        limits = httpx2.Limits(max_connections=_CONNECTIONS, keepalive_expiry=_IDLE)
        is_secure = base_url.startswith("https:")
        self._client = httpx2.Client(trust_env=False, limits=limits, verify=is_secure, headers=_BARE)
        # A connection of its own for what may not be sent twice, so that no idle one can break under it.
        self._fresh = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=0)
        self._once = httpx2.Client(trust_env=False, limits=self._fresh, verify=is_secure, headers=_BARE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._once.close()

    @property
    def seconds_left(self) -> float:
        """How long requests may still be sent."""
        return self.deadline - time.monotonic()

    def send(self, ask: Ask, *, once: bool = False) -> Exchange:
        """Send a request and return what came of it.

        Args:
            ask: The request.
            once: Whether it may cost something; what may not is sent again where it was not answered.

        Raises:
            OutOfTime: The time is over.
        """
        exchange = self._send(ask, self._once if once else self._client)
        if exchange.answer is None and not once and not exchange.problem.startswith("no answer within"):
            return self._send(ask, self._once)
        return exchange

    def fetch(self, url: str, most: int) -> Exchange:
        """Return what is at a URL, wherever that is, without any key.

        Raises:
            OutOfTime: The time is over.
        """
        from seedbed_contract.exchange import Ask  # noqa: PLC0415

        with httpx2.Client(trust_env=False, verify=url.startswith("https:"), headers=_BARE) as client:
            return self._exchange(client, Ask("result", "GET", url), url, most)

    def _send(self, ask: Ask, client: httpx2.Client) -> Exchange:
        return self._exchange(client, ask, self.base_url + ask.target, LARGEST_ANSWER)

    def _exchange(self, client: httpx2.Client, ask: Ask, url: str, most: int) -> Exchange:
        patience = min(PATIENCE, self.seconds_left)
        if patience <= 0:
            raise OutOfTime
        with self._count:
            self.sent += 1
            self.on_sent()
        started, limit = time.time(), time.monotonic() + patience
        try:
            answer = _read(client, ask, url, limit, most)
        except httpx2.TimeoutException as error:
            if patience < PATIENCE:
                raise OutOfTime from error
            return Exchange(ask, None, f"no answer within {patience:.0f} seconds", started, time.time())
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, ValueError) as error:
            return Exchange(ask, None, str(error) or type(error).__name__, started, time.time())
        return Exchange(ask, answer, "", started, time.time())


_BARE: Final = {"Accept": "*/*", "User-Agent": "seedbed-check", "Accept-Encoding": "identity"}


def _read(client: httpx2.Client, ask: Ask, url: str, limit: float, most: int) -> Answer:
    left = max(limit - time.monotonic(), 0.001)
    headers = [(name.encode(), value.encode()) for name, value in ask.headers]
    request = client.build_request(ask.method, url, headers=headers, content=ask.body, timeout=left)
    response = client.send(request, stream=True)
    try:
        parts, size = [], 0
        for chunk in response.iter_raw():
            parts.append(chunk)
            size += len(chunk)
            if size > most:
                break
            if time.monotonic() > limit:
                raise httpx2.ReadTimeout("the answer did not end")
        names = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw)
        return Answer(response.status_code, names, b"".join(parts)[:most], is_whole=size <= most)
    finally:
        response.close()
