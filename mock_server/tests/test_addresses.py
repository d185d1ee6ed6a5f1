"""Under which addresses the server is reached, and which ones its responses name."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from seedbed_mock import MockServer, SettingsError, create_app, running
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of
from starlette.applications import Starlette
from starlette.routing import Mount

CONTRACT, SHARED = default_contract(), job_api()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
HEADERS = {"Authorization": f"Bearer {local.KEY}"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
has_dual_stack = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no dual stack")


async def urls_of(app: Any, base_url: str, root_path: str = "") -> dict[str, Any]:
    """Create a task in process, and return the URLs in the responses and what they lead to."""
    transport = httpx2.ASGITransport(app, root_path=root_path)
    async with httpx2.AsyncClient(transport=transport, base_url=base_url, headers=HEADERS) as client:
        created = (await client.post(base_url + CONTRACT.operation.path, json=GOOD)).json()
        task_id = created["data"]["taskId"]
        path = SHARED.record_info.path
        record = (await client.get(base_url + path, params={SHARED.record_info.query: task_id})).json()
        (url,) = json.loads(record["data"]["resultJson"])["resultUrls"]
        link = (await client.post(base_url + SHARED.download_url.path, json={"url": url})).json()["data"]
        control = (await client.get(f"{base_url}/__seedbed/tasks/{task_id}")).json()
        unknown = (await client.get(base_url + CONTRACT.operation.path)).json()
        journal = (await client.get(f"{base_url}/__seedbed/journal?kind=unmatched")).json()["entries"]
        image = await client.get(url if url.startswith(base_url) else f"{base_url}/{url.partition('/files/')[2]}")
        return {
            "url": url,
            "link": link,
            "control": json.loads(control["record"]["resultJson"])["resultUrls"][0],
            "image": image.content[:2],
            "unknown": unknown["code"],
            "hint": journal[0]["hint"],
        }


@pytest.mark.parametrize(
    ("make", "base_url"),
    [
        (lambda app: app, "http://testserver"),
        (lambda app: app, "https://testserver"),
        (lambda app: app, "https://testserver:8443"),
        (lambda app: Starlette(routes=[Mount("/mock/seedream", app)]), "http://testserver/mock/seedream"),
        (lambda app: Starlette(routes=[Mount("/a", Starlette(routes=[Mount("/b", app)]))]), "https://testserver/a/b"),
    ],
)
def test_result_urls_have_the_scheme_and_the_path_of_the_application(make: Callable[[Any], Any], base_url: str) -> None:
    found = asyncio.run(urls_of(make(create_app(task_seconds=0)), base_url))
    assert found["url"].startswith(f"{base_url}/")
    assert found["link"].startswith(f"{found['url']}?")
    assert found["control"] == found["url"]
    assert found["image"] == b"\xff\xd8"
    assert (found["unknown"], found["hint"]) == (404, "createTask takes POST.")


def test_the_public_url_is_that_of_all_results(receive: Callable[..., Any]) -> None:
    receiver = receive(OK)
    public = "https://seedream.test/mock"
    with running(task_seconds=0, public_url=f"{public}/") as server, httpx2.Client(headers=HEADERS) as client:
        body = {**GOOD, SHARED.fields.callback: receiver.url}
        task_id = client.post(server.url + CONTRACT.operation.path, json=body).json()["data"]["taskId"]
        record = server.task(task_id)["record"]
        (url,) = json.loads(record["resultJson"])["resultUrls"]
        assert url.startswith(f"{public}/")
        link = client.post(server.url + SHARED.download_url.path, json={"url": url}).json()["data"]
        assert link.startswith(f"{url}?")
        assert client.get(server.url + link.removeprefix(public)).content.startswith(b"\xff\xd8")
        server.wait_for_callback(task_id)
        data = json.loads(receiver.requests[0].body)["data"]
        assert json.loads(data["resultJson"])["resultUrls"] == [url]


@pytest.mark.parametrize(
    ("public_url", "host"), [(None, None), ("https://seedream.test", None), (None, "localhost:9000")]
)
def test_a_callback_never_reaches_the_control_api(public_url: str | None, host: str | None) -> None:
    with running(task_seconds=0, public_url=public_url) as server, httpx2.Client(headers=HEADERS) as client:
        body = {**GOOD, SHARED.fields.callback: f"{server.url}/__seedbed/reset"}
        headers = {"Host": host} if host else {}
        created = client.post(server.url + CONTRACT.operation.path, json=body, headers=headers).json()
        task_id = created["data"]["taskId"]
        assert server.wait_for_callback(task_id)["outcome"] == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seedream.test",
        "ftp://x",
        "http://",
        "http://x?y",
        "http://x#y",
        "http://u:p@x",
        "http://x:99999",
        "http://x y",
    ],
)
def test_an_invalid_public_url_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="Invalid public URL"):
        create_app(public_url=text)


@pytest.fixture(scope="module")
def named() -> Iterator[MockServer]:
    with running(task_seconds=0, allow_host=["app.test", "fixed.test:9000"], rate_limit="off", credits=1e6) as server:
        yield server


def result_url_for(server: MockServer, *headers: tuple[bytes, bytes]) -> str:
    """Create a task with header lines as they are, and return the URL of its result; empty if it is refused."""
    parts, body = urlsplit(server.url), json.dumps(GOOD).encode()
    lines = [*headers, (b"Authorization", b"Bearer " + local.KEY.encode()), (b"Connection", b"close")]
    lines.append((b"Content-Length", str(len(body)).encode()))
    head = b"".join(b"%s: %s\r\n" % line for line in lines)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\n%s\r\n" % (CONTRACT.operation.path.encode(), head) + body)
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    content = response.partition(b"\r\n\r\n")[2]
    if not response.startswith(b"HTTP/1.1 200") or json.loads(content)["code"] != 200:
        return ""
    record = server.task(json.loads(content)["data"]["taskId"])["record"]
    (url,) = json.loads(record["resultJson"])["resultUrls"]
    return str(url).rpartition("/results/")[0]


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        (b"localhost:9000", "http://localhost:9000"),
        (b"LocalHost:9000", "http://localhost:9000"),
        (b"localhost.:9000", "http://localhost:9000"),
        (b"localhost", "http://localhost"),
        (b"localhost:80", "http://localhost"),
        (b"mock.localhost:9000", "http://mock.localhost:9000"),
        (b"127.0.0.1:9000", "http://127.0.0.1:9000"),
        (b"127.8.9.1:9000", "http://127.8.9.1:9000"),
        (b"[::1]:9000", "http://[::1]:9000"),
        (b"[::ffff:127.0.0.1]:9000", "http://127.0.0.1:9000"),
        (b"app.test", "http://app.test"),
        (b"APP.Test.:1234", "http://app.test:1234"),
        (b"fixed.test:9000", "http://fixed.test:9000"),
        # A container or an address of which the server knows nothing may call, but its name goes no further.
        (b"seedbed:8721", "OWN"),
        (b"93.184.216.34", "OWN"),
        (b"[2001:db8::7]:80", "OWN"),
        (b"localhost:0", "OWN"),
        (b"localhost:99999", "OWN"),
        (b"a b", "OWN"),
        (b"user:x", "OWN"),
        # Refused, as a web page could have these names.
        (b"fixed.test:9001", ""),
        (b"evil.com", ""),
        (b"app.test@evil.com", ""),
        (b"evil.com@localhost:9000", ""),
        (b"localhost:9000@evil.com", ""),
        (b"localhost:9000/x", "OWN"),
        (b"localhost:9000#", "OWN"),
        (b"localhost.evil.com", ""),
        (b"notlocalhost", "OWN"),
        (b"127.0.0.1.evil.com", ""),
        (b"\xff", "OWN"),
        (b"", "OWN"),
        (b"x" * 5000, "OWN"),
    ],
)
def test_results_have_the_address_that_was_called(named: MockServer, host: bytes, base_url: str) -> None:
    assert result_url_for(named, (b"Host", host)) == base_url.replace("OWN", named.url)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [(b"Host", b"localhost:9000"), (b"Host", b"evil.com")],
        [(b"Host", b"evil.com"), (b"Host", b"localhost:9000")],
        [(b"Host", b"localhost:9000\r\nHost: evil.com")],
        [(b"Host", b"localhost:9000, evil.com")],
    ],
)
def test_a_request_has_one_host(named: MockServer, lines: list[tuple[bytes, bytes]]) -> None:
    assert result_url_for(named, *lines) == ""


def test_no_forwarding_header_is_believed(named: MockServer) -> None:
    host = urlsplit(named.url).netloc.encode()
    forwarded = [
        (b"X-Forwarded-Host", b"evil.com"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Port", b"1"),
        (b"X-Forwarded-Prefix", b"/evil"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"Forwarded", b"host=evil.com;proto=https"),
        (b"X-Original-Host", b"evil.com"),
    ]
    assert result_url_for(named, (b"Host", host), *forwarded) == named.url


def test_a_poll_follows_its_own_address(named: MockServer) -> None:
    path, port = SHARED.record_info.path, urlsplit(named.url).port
    with httpx2.Client(headers=HEADERS, trust_env=False) as client:
        created = client.post(named.url + CONTRACT.operation.path, json=GOOD, headers={"Host": "app.test"}).json()
        for host in (f"127.0.0.1:{port}", "localhost:9000", "app.test:7"):
            query = {SHARED.record_info.query: created["data"]["taskId"]}
            data = client.get(named.url + path, params=query, headers={"Host": host}).json()["data"]
            (url,) = json.loads(data["resultJson"])["resultUrls"]
            assert url.startswith(f"http://{host}/results/")
            link = client.post(named.url + SHARED.download_url.path, json={"url": url}, headers={"Host": host}).json()
            assert link["data"].startswith(f"{url}?")


def test_a_download_link_is_made_for_the_host_of_the_call(named: MockServer) -> None:
    host = {"Host": "seedbed:8721"}
    with httpx2.Client(headers=HEADERS, trust_env=False) as client:
        created = client.post(named.url + CONTRACT.operation.path, json=GOOD, headers=host).json()
        record = named.task(created["data"]["taskId"])["record"]
        (url,) = json.loads(record["resultJson"])["resultUrls"]
        called = f"http://seedbed:8721/{url.partition('/results/')[1].strip('/')}/{url.rpartition('/')[2]}"
        for given, headers, code in ((called, host, 200), (called, {}, 422), (called.replace("8721", "1"), host, 422)):
            body = {SHARED.download_url.field: given}
            response = client.post(named.url + SHARED.download_url.path, json=body, headers=headers).json()
            assert (response["code"], (response["data"] or url).startswith(named.url)) == (code, True)


def test_the_control_api_shows_the_address_that_was_called_with_the_token(named: MockServer) -> None:
    token = "a-control-token"  # noqa: S105 (it opens nothing else)
    with running(task_seconds=0, control_token=token) as server, httpx2.Client(trust_env=False) as client:
        created = client.post(server.url + CONTRACT.operation.path, json=GOOD, headers=HEADERS).json()
        url = f"{server.url}/__seedbed/tasks/{created['data']['taskId']}"
        headers = {"Authorization": f"Bearer {token}", "Host": "tunnel.example"}
        record = client.get(url, headers=headers).json()["record"]
        assert json.loads(record["resultJson"])["resultUrls"][0].startswith("http://tunnel.example/results/")
        assert client.get(url, headers={"Host": "tunnel.example"}).status_code == 421
    assert named.errors == type(named.errors)()


@pytest.mark.parametrize("text", ["", " ", "http://app.test", "app.test/x", "a b", "user@app.test", "app.test:0", "é"])
def test_an_invalid_name_of_the_server_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="Invalid host"):
        create_app(allow_host=text)


@has_dual_stack
@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_a_server_on_all_addresses_is_reached_by_both_versions_of_ip(address: str) -> None:
    with running(host="::", task_seconds=0) as server, httpx2.Client(headers=HEADERS, trust_env=False) as client:
        base_url = f"http://{address}:{server.url.rpartition(':')[2]}"
        task_id = client.post(base_url + CONTRACT.operation.path, json=GOOD).json()["data"]["taskId"]
        assert client.get(f"{base_url}/__seedbed/health").status_code == 200
        record = client.get(base_url + SHARED.record_info.path, params={"taskId": task_id}).json()["data"]
        (url,) = json.loads(record["resultJson"])["resultUrls"]
        assert url.startswith(f"{base_url}/")
        assert client.get(url).content.startswith(b"\xff\xd8")
        assert server.calls[0]["status"] == 200
