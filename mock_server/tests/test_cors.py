"""Web pages of other origins: what a browser asks before it calls the server, and what it may then read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from seedbed_mock import MockServer, SettingsError, create_app, running
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of
from starlette.applications import Starlette
from starlette.routing import Mount

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT, SHARED = default_contract(), job_api()
PAGE = "http://localhost:3000"
CREATE = CONTRACT.operation.path
KEY = {"Authorization": f"Bearer {local.KEY}"}


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with running(task_seconds=0, cors=[PAGE, "https://App.test:443/"]) as server:
        yield server


def preflight(server: MockServer, http: httpx2.Client, origin: str, path: str, method: str = "POST") -> httpx2.Response:
    headers = {
        "Origin": origin,
        "Sec-Fetch-Site": "cross-site",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,x-seedbed-fault",
    }
    return http.options(server.url + path, headers=headers)


def cors_headers(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("origin", [PAGE, "https://app.test"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", CREATE), ("GET", SHARED.record_info.path), ("GET", "/results/x.jpg"), ("GET", "/other")],
)
def test_a_preflight_of_an_allowed_page_is_answered(
    server: MockServer, http: httpx2.Client, origin: str, method: str, path: str
) -> None:
    response = preflight(server, http, origin, path, method)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert method in response.headers["access-control-allow-methods"]
    assert "x-seedbed-fault" in response.headers["access-control-allow-headers"].lower()
    assert "origin" in response.headers["vary"].lower()
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "http://localhost:3001", "https://localhost:3000", f"{PAGE}.evil.com", ""]
)
def test_another_page_gets_no_permission(server: MockServer, http: httpx2.Client, origin: str) -> None:
    assert "access-control-allow-origin" not in preflight(server, http, origin, CREATE).headers
    body = example_of(CONTRACT.part("request"))
    before = len(server.calls)
    response = http.post(server.url + CREATE, json=body, headers={**KEY, "Origin": origin})
    assert (response.status_code, cors_headers(response).get("access-control-allow-origin")) == (403, None)
    assert len(server.calls) == before + 1
    assert not server.calls[-1]["task_id"]


@pytest.mark.parametrize("path", ["/__seedbed", "/__seedbed/health", "/__seedbed/reset", "/__seedbed/nowhere"])
def test_the_control_api_gives_no_permission(server: MockServer, http: httpx2.Client, path: str) -> None:
    for response in (
        preflight(server, http, PAGE, path),
        http.get(server.url + path, headers={"Origin": PAGE}),
        http.post(server.url + path, headers={"Origin": PAGE}),
    ):
        assert response.status_code == 403
        assert not cors_headers(response)


def test_a_page_creates_a_task_and_loads_its_result(server: MockServer, http: httpx2.Client) -> None:
    page = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
    created = http.post(server.url + CREATE, json=example_of(CONTRACT.part("request")), headers={**KEY, **page})
    assert created.headers["access-control-allow-origin"] == PAGE
    query = {SHARED.record_info.query: created.json()["data"]["taskId"]}
    record = http.get(server.url + SHARED.record_info.path, params=query, headers={**KEY, **page})
    (url,) = json.loads(record.json()["data"]["resultJson"])["resultUrls"]
    image = http.get(url, headers={**page, "Range": "bytes=0-9"})
    assert (image.status_code, image.headers["access-control-allow-origin"]) == (206, PAGE)
    assert {"content-range", "etag", "x-seedbed"} <= set(
        image.headers["access-control-expose-headers"].lower().replace(" ", "").split(",")
    )


def test_a_page_reads_refusals_as_well(server: MockServer, http: httpx2.Client) -> None:
    for response in (
        http.post(server.url + CREATE, content=b"{", headers={**KEY, "Origin": PAGE}),
        http.get(server.url + SHARED.credit.path, headers={"Origin": PAGE}),
        http.get(f"{server.url}/nowhere", headers={"Origin": PAGE}),
    ):
        assert response.json()["code"] != 200
        assert response.headers["access-control-allow-origin"] == PAGE


def test_a_request_without_an_origin_cannot_come_from_another_site(server: MockServer, http: httpx2.Client) -> None:
    headers = {**KEY, "Sec-Fetch-Site": "cross-site"}
    assert http.get(server.url + SHARED.credit.path, headers=headers).status_code == 403


def test_any_page_may_call_with_a_star(http: httpx2.Client) -> None:
    with running(cors="*") as server:
        for origin in ("http://evil.com", "null"):
            response = http.get(server.url + SHARED.credit.path, headers={**KEY, "Origin": origin})
            assert (response.json()["code"], response.headers["access-control-allow-origin"]) == (200, "*")
            assert preflight(server, http, origin, CREATE).status_code == 200
            assert preflight(server, http, origin, "/__seedbed/reset").status_code == 403
            assert http.get(f"{server.url}/__seedbed/health", headers={"Origin": origin}).status_code == 403


def test_no_page_may_call_by_default(http: httpx2.Client) -> None:
    with running() as server:
        assert not cors_headers(preflight(server, http, PAGE, CREATE))
        response = http.get(server.url + SHARED.credit.path, headers={**KEY, "Origin": PAGE})
        assert (response.status_code, cors_headers(response)) == (403, {})
        assert "access-control" not in str(http.get(server.url + SHARED.credit.path, headers=KEY).headers)


def test_a_mounted_control_api_gives_no_permission() -> None:
    async def statuses() -> list[tuple[int, str | None]]:
        app: Any = Starlette(routes=[Mount("/mock", create_app(cors="*"))])
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://testserver/mock") as client:
            headers = {**KEY, "Origin": PAGE}
            responses = [await client.get(path, headers=headers) for path in ("/__seedbed/health", SHARED.credit.path)]
            return [(each.status_code, each.headers.get("access-control-allow-origin")) for each in responses]

    assert asyncio.run(statuses()) == [(403, None), (200, "*")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:3000",
        "http://",
        "http://a/b",
        "http://u@a",
        "http://a?b",
        "null",
        "http://a b",
        "http://a:0",
        "**",
    ],
)
def test_an_invalid_origin_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="Invalid origin"):
        create_app(cors=text)
