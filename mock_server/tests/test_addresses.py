"""Under which addresses the server is reached, and which ones its responses name."""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from seedbed_mock import SettingsError, create_app, running
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


@pytest.mark.parametrize("public_url", [None, "https://seedream.test"])
def test_a_callback_never_reaches_the_control_api(public_url: str | None) -> None:
    with running(task_seconds=0, public_url=public_url) as server, httpx2.Client(headers=HEADERS) as client:
        body = {**GOOD, SHARED.fields.callback: f"{server.url}/__seedbed/reset"}
        task_id = client.post(server.url + CONTRACT.operation.path, json=body).json()["data"]["taskId"]
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
