import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from PIL import Image
from tests.minimal_caller import CREATE, CREDIT, GOOD, RECORD_INFO, Caller, with_input, with_prompt, without
from tests.minimal_service import serve
from tests.minimal_variants import CONFORMING, ENDS, FAIL_PROMPT, KEY, MODEL, PRICE, SECOND_KEY, SIZES, Variant

QUICK = Variant(seconds=0)


def quick(variant: Variant) -> Variant:
    return replace(variant, seconds=min(variant.seconds, 0.05), late=min(variant.late, 0.02), retry_seconds=0.02)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as client:
        yield client


every_variant = pytest.mark.parametrize("variant", CONFORMING, ids=lambda variant: variant.name)


@every_variant
def test_every_variant_accepts_a_valid_request_and_records_it(variant: Variant, client: httpx2.Client) -> None:
    with serve(quick(variant)) as served:
        record = Caller(served, client).wait_until_finished()
    param = json.loads(record["param"])
    given = json.loads(param["input"]) if variant.observed else param["input"]
    assert {**param, "input": given} == GOOD
    assert json.loads(record["resultJson"])["resultUrls"][0].startswith(served.url)


@every_variant
def test_every_variant_refuses_with_the_code_of_its_dialect(variant: Variant, client: httpx2.Client) -> None:
    with serve(quick(variant)) as served:
        caller = Caller(served, client)
        response = caller.send("POST", CREATE, json=without("input", "prompt"))
        unknown = caller.fetch("no-such-task")
    code = 500 if variant.observed else 422
    assert response.json()["code"] == code
    assert response.status_code == (code if variant.http_status == "mirror" else 200)
    assert unknown["code"] == (422 if variant.observed else variant.unknown_task)


@every_variant
def test_every_variant_starts_and_stops_quickly(variant: Variant) -> None:
    start = time.monotonic()
    with serve(variant):
        pass
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "request_body",
    [
        *(with_input(quality=quality, aspect_ratio=ratio) for quality, ratio in SIZES),
        with_prompt(""),
        with_prompt("字" * 3000),
        with_prompt("🎨" * 3000),
        {**GOOD, "callBackUrl": "https://your-domain.com/api/callback"},
        {**GOOD, "unknown": [1]},
        with_input(seed=7),
    ],
)
def test_a_valid_request_is_accepted(request_body: Any, client: httpx2.Client) -> None:
    with serve(QUICK) as served:
        assert Caller(served, client).create(request_body)["code"] == 200


@pytest.mark.parametrize(
    "request_body",
    [
        *(None, [], "text", 1, {}, [GOOD]),
        *(without("model"), without("input"), without("input", "prompt"), without("input", "quality")),
        without("input", "aspect_ratio"),
        *({**GOOD, "model": model} for model in (None, 1, "", MODEL.upper(), MODEL + " ", "other/1.0")),
        *({**GOOD, "input": given} for given in (None, [1], "text", json.dumps(GOOD["input"]))),
        *(with_prompt(prompt) for prompt in (None, 1, ["a"], "x" * 3001, "🎨" * 3001)),
        *(with_input(quality=quality) for quality in (None, 1, "", "Basic", "basic ", "ｂasic", "4K")),
        *(with_input(aspect_ratio=ratio) for ratio in (None, 1, "", "1：1", " 1:1", "1:2", ["1:1"])),
        *({**GOOD, "callBackUrl": url} for url in (None, 1, "", "not a url", "/relative", "http://a b/", "http://[/")),
    ],
)
def test_an_invalid_request_is_refused_and_costs_nothing(request_body: Any, client: httpx2.Client) -> None:
    with serve(QUICK) as served:
        caller = Caller(served, client)
        before = caller.balance()
        response = caller.create(request_body)
        assert response["code"] == 422
        assert response["data"] is None
        assert caller.balance() == before


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"NaN", b"[" * 100_000, b'{"a": 1e400}', json.dumps(GOOD).encode("utf-16")],
    ids=lambda body: repr(body[:8]),
)
def test_a_body_that_is_not_json_is_refused(body: bytes, client: httpx2.Client) -> None:
    with serve(QUICK) as served:
        assert Caller(served, client).send("POST", CREATE, content=body).json()["code"] == 422


def test_a_chunked_body_is_read(client: httpx2.Client) -> None:
    body = json.dumps(GOOD).encode()
    with serve(QUICK) as served:
        response = Caller(served, client).send("POST", CREATE, content=iter([body[:9], body[9:]]))
        assert response.json()["code"] == 200


@pytest.mark.parametrize("strict", [False, True])
def test_strict_and_lenient_variants_differ_where_the_page_is_silent(strict: bool, client: httpx2.Client) -> None:  # noqa: FBT001
    variant = replace(QUICK, strict=strict, single_keys=strict, needs_prompt=strict, needs_type=strict, bom=not strict)
    good = json.dumps(GOOD)
    with serve(variant) as served:
        caller = Caller(served, client)
        bodies = (
            "\ufeff" + good,
            '{"model": 1, ' + good[1:],
            json.dumps({**GOOD, "x": 1}),
            json.dumps(with_prompt("")),
        )
        codes = [caller.send("POST", CREATE, content=body.encode()).json()["code"] for body in bodies]
        labelled = caller.client.post(
            served.url + CREATE, headers={**caller.headers, "Content-Type": "text/plain"}, content=good.encode()
        )
    codes.append(labelled.json()["code"])
    assert codes == [422 if strict else 200] * 5


@pytest.mark.parametrize(
    "header",
    [None, "", KEY, f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", f"Bearer {KEY.upper()}", "Bearer"],
)
@pytest.mark.parametrize(("method", "path"), [("POST", CREATE), ("GET", RECORD_INFO), ("GET", CREDIT)])
def test_every_operation_needs_the_key(header: str | None, method: str, path: str, client: httpx2.Client) -> None:
    with serve(QUICK) as served:
        headers = {} if header is None else {"Authorization": header}
        assert client.request(method, served.url + path, headers=headers).json()["code"] == 401


def test_a_task_is_visible_only_to_its_account(client: httpx2.Client) -> None:
    with serve(QUICK) as served:
        task_id = Caller(served, client).create()["data"]["taskId"]
        assert Caller(served, client, SECOND_KEY).fetch(task_id)["code"] == 404


@pytest.mark.parametrize("query", ["", "?taskId=", "?taskId=a&taskId=b"])
def test_a_query_without_exactly_one_task_id_is_refused(query: str, client: httpx2.Client) -> None:
    with serve(QUICK) as served:
        assert Caller(served, client).send("GET", RECORD_INFO + query).json()["code"] == 422


@pytest.mark.parametrize("queuing", [False, True])
def test_a_task_goes_through_its_states_in_order(queuing: bool, client: httpx2.Client) -> None:  # noqa: FBT001
    with serve(Variant(seconds=0.3, queuing=queuing)) as served:
        caller = Caller(served, client)
        seen: list[str] = []
        task_id = caller.create()["data"]["taskId"]
        while not seen or seen[-1] not in ENDS:
            seen.append(caller.fetch(task_id)["data"]["state"])
    expected = ["waiting", "queuing", "generating", "success"]
    assert list(dict.fromkeys(seen)) == [state for state in expected if queuing or state != "queuing"]


@every_variant
def test_times_are_in_order_and_have_the_right_unit(variant: Variant, client: httpx2.Client) -> None:
    variant = replace(quick(variant), seconds=0.05)
    with serve(variant) as served:
        now = time.time() * 1000
        record = Caller(served, client).wait_until_finished()
    created, completed = record["createTime"], record["completeTime"]
    assert abs(created - now) < 5000
    assert created <= record.get("updateTime", created) <= completed == created + 50
    assert record["costTime"] == (0 if variant.observed else 50)


def test_a_failed_task_has_a_reason_and_costs_nothing(client: httpx2.Client) -> None:
    with serve(QUICK) as served:
        caller = Caller(served, client)
        before = caller.balance()
        record = caller.wait_until_finished(with_prompt(FAIL_PROMPT))
        assert (record["state"], record["failCode"]) == ("fail", "422")
        assert caller.balance() == before
        caller.wait_until_finished()
        assert caller.balance() == before - PRICE


@pytest.mark.parametrize("pays", ["creation", "success"])
def test_a_task_beyond_the_balance_is_refused(pays: Any, client: httpx2.Client) -> None:
    with serve(Variant(credits=3 * PRICE, pays=pays)) as served:
        caller = Caller(served, client)
        with ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(lambda _: caller.create()["code"], range(8)))
        assert sorted(codes) == [200] * 3 + [402] * 5
        assert caller.balance() == (0 if pays == "creation" else 3 * PRICE)


def test_more_than_twenty_tasks_in_ten_seconds_are_refused(client: httpx2.Client) -> None:
    with serve(replace(QUICK, rate=True)) as served:
        caller = Caller(served, client)
        refused = [caller.create({})["code"] for _ in range(30)]
        codes = [caller.create()["code"] for _ in range(22)]
        assert (refused, codes) == ([422] * 30, [200] * 20 + [429] * 2)
        assert Caller(served, client, SECOND_KEY).create()["code"] == 200


def test_more_than_ten_polls_in_a_second_are_refused(client: httpx2.Client) -> None:
    with serve(replace(QUICK, poll_rate=True)) as served:
        caller = Caller(served, client)
        assert [caller.fetch("x")["code"] for _ in range(12)] == [404] * 10 + [429] * 2


def test_a_late_record_is_unknown_at_first(client: httpx2.Client) -> None:
    with serve(Variant(dialect="observed", late=0.05, seconds=0.1)) as served:
        caller = Caller(served, client)
        task_id = caller.create()["data"]["taskId"]
        first = caller.fetch(task_id)
        assert (first["code"], first["msg"], first["data"]) == (422, "recordInfo is null", None)
        assert caller.poll_until(task_id, bool)["taskId"] == task_id


@pytest.mark.parametrize("kind", ["uuid", "number", "long", "odd"])
def test_a_task_can_be_fetched_by_every_form_of_id(kind: Any, client: httpx2.Client) -> None:
    with serve(replace(QUICK, ids=kind)) as served:
        caller = Caller(served, client)
        ids = [caller.create()["data"]["taskId"] for _ in range(3)]
        assert [caller.fetch(task_id)["data"]["taskId"] for task_id in ids] == ids
        assert len(set(ids)) == 3


@pytest.mark.parametrize(("options", "size"), SIZES.items())
def test_an_image_has_the_requested_size(
    options: tuple[str, str], size: tuple[int, int], client: httpx2.Client
) -> None:
    with serve(QUICK) as served:
        record = Caller(served, client).wait_until_finished(with_input(quality=options[0], aspect_ratio=options[1]))
        response = client.get(json.loads(record["resultJson"])["resultUrls"][0])
        assert client.get(f"{served.url}/files/77.jpg").status_code == 404
    with Image.open(io.BytesIO(response.content)) as image:
        assert (image.size, image.format, response.headers["content-type"]) == (size, "JPEG", "image/jpeg")


def test_models_and_download_urls_are_supported(client: httpx2.Client) -> None:
    with serve(QUICK) as served:
        caller = Caller(served, client)
        listed = caller.send("GET", "/api/v1/models").json()["data"]
        schema = caller.send("GET", f"/api/v1/models/{MODEL}/schema").json()["data"]
        unknown = caller.send("GET", "/api/v1/models/no/model/schema").json()
        url = json.loads(caller.wait_until_finished()["resultJson"])["resultUrls"][0]
        own = caller.send("POST", "/api/v1/common/download-url", json={"url": url}).json()
        foreign = caller.send("POST", "/api/v1/common/download-url", json={"url": "http://127.0.0.1:9/x"}).json()
        assert client.get(own["data"]).headers["content-type"] == "image/jpeg"
    assert listed["total"] == len(listed["models"])
    assert (schema["model"], schema["openapi"]["openapi"], unknown["code"]) == (MODEL, "3.1.0", 404)
    assert (foreign["code"], foreign["msg"], foreign["data"]) == (422, "url is wrong", None)


@pytest.mark.parametrize("variant", [Variant(plain_errors=True), Variant(), Variant(http_status="mirror")])
def test_an_unknown_path_or_method_is_refused_as_the_variant_says(variant: Variant, client: httpx2.Client) -> None:
    with serve(variant) as served:
        caller = Caller(served, client)
        responses = [caller.send("GET", "/nowhere"), caller.send("DELETE", CREATE)]
    statuses = [404, 405] if variant.plain_errors else [404 if variant.http_status == "mirror" else 200] * 2
    assert [response.status_code for response in responses] == statuses
