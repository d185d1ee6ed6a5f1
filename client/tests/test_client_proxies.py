"""The client sends its requests through the proxies that environment variables name, and honours NO_PROXY."""

import asyncio
import contextlib
import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest
import trustme
from seedbed_client import AsyncSeedreamClient, SeedreamClient
from seedbed_client._http import environment_proxy

BALANCE = b'{"code": 200, "msg": "", "data": 7}'
NAME = "api.seedbed.test"
"""A host that does not exist: only a proxy can respond for it."""

LONG = 30
"""Seconds for which a response drips: far more than a call may take."""


def drip(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    with contextlib.suppress(OSError):
        for _ in range(LONG * 50):
            connection.sendall(b"a")
            time.sleep(0.02)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Responds to requests for any host, and records them."""

    protocol_version = "HTTP/1.1"
    certificate: ssl.SSLContext
    requests: list[tuple[str, str, str]]
    drips = False

    def do_GET(self) -> None:
        self.requests.append((self.command, self.path, self.headers.get("Proxy-Authorization", "")))
        self.send_response(200)
        self.send_header("Content-Length", str(len(BALANCE)))
        self.end_headers()
        self.wfile.write(BALANCE)

    def do_CONNECT(self) -> None:
        self.requests.append((self.command, self.path, self.headers.get("Proxy-Authorization", "")))
        self.send_response(200)
        self.end_headers()
        with self.certificate.wrap_socket(self.connection, server_side=True) as inner:
            inner.recv(65536)
            if self.drips:
                drip(inner)
            inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BALANCE) + BALANCE)
        self.close_connection = True

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 (named by http.server)
        """Print nothing."""


@pytest.fixture(name="proxy")
def make_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Proxy]]:
    """Run a proxy, name it in the environment, and trust its certificate."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)

    class ThisProxy(Proxy):
        certificate, requests = context, []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ThisProxy) as server, authority.cert_pem.tempfile() as pem:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv("ALL_PROXY", f"http://user:secret@127.0.0.1:{server.server_port}")
        monkeypatch.setenv("SSL_CERT_FILE", pem)
        yield ThisProxy
        server.shutdown()


def balance(url: str) -> float:
    with SeedreamClient(url, max_retries=0, timeout=5) as client:
        return client.credits()


def async_balance(url: str) -> float:
    async def call() -> float:
        async with AsyncSeedreamClient(url, max_retries=0, timeout=5) as client:
            return await client.credits()

    return asyncio.run(call())


@pytest.mark.parametrize("call", [balance, async_balance], ids=["blocking", "async"])
def test_requests_use_the_proxy_of_the_environment(proxy: type[Proxy], call: Callable[[str], float]) -> None:
    assert call(f"http://{NAME}") == 7
    assert call(f"https://{NAME}") == 7
    path, authorization = "/api/v1/chat/credit", "Basic dXNlcjpzZWNyZXQ="
    assert proxy.requests == [
        ("GET", f"http://{NAME}{path}", authorization),
        ("CONNECT", f"{NAME}:443", authorization),
    ]


@pytest.mark.parametrize("call", [balance, async_balance], ids=["blocking", "async"])
def test_no_proxy_bypasses_the_proxy(
    proxy: type[Proxy], call: Callable[[str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "seedbed.test")
    with pytest.raises(httpx2.ConnectError):
        call(f"http://{NAME}")
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("url", "no_proxy", "is_exempt"),
    [
        ("http://a.example", "", False),
        ("http://a.example", "*", True),
        ("http://a.example", "b.example, a.example", True),
        ("http://a.example", "example", True),
        ("http://a.example", "ample", False),
        ("http://a.example", ".a.example", False),
        ("http://b.a.example", ".a.example", True),
        ("http://b.a.example", "*.A.example", True),
        ("http://10.1.2.3", "10.0.0.0/8", True),
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://11.1.2.3", "10.0.0.0/8", False),
        ("http://[fd00::1]", "fd00::/8", True),
        ("http://[fd00::1]", "[fd00::1]", True),
        ("http://a.example", "http://a.example", True),
        ("http://a.example", "https://a.example", False),
        ("http://a.example", "10.0.0.0/99", False),
    ],
)
def test_no_proxy_lists_hosts_domains_and_networks(url: str, no_proxy: str, *, is_exempt: bool) -> None:
    proxies = {"http": "proxy.example:3128", "no": no_proxy}
    assert environment_proxy(httpx2.URL(url), proxies) == ("" if is_exempt else "http://proxy.example:3128")


def test_a_proxy_is_chosen_by_the_scheme_of_the_url() -> None:
    proxies = {"https": "http://one.example", "all": "http://two.example"}
    assert environment_proxy(httpx2.URL("https://a.example"), proxies) == "http://one.example"
    assert environment_proxy(httpx2.URL("http://a.example"), proxies) == "http://two.example"
    assert environment_proxy(httpx2.URL("http://a.example"), {"https": "http://one.example"}) == ""


def test_a_dripping_response_through_a_proxy_ends_at_its_deadline(proxy: type[Proxy]) -> None:
    proxy.drips = True
    began = time.monotonic()
    with SeedreamClient(f"https://{NAME}", max_retries=0, timeout=0.5) as client, pytest.raises(httpx2.ReadTimeout):
        client.credits()
    assert time.monotonic() - began < LONG / 5
