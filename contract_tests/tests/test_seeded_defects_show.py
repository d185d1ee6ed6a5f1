"""Every seeded defect has an effect: a script of calls returns something else than without the defect.

The scripts set the age of tasks, so no test waits for a task.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, Self

import httpx2
import pytest
from tests.minimal_caller import CREATE, CREDIT, GOOD, RECORD_INFO, Caller, Received, Receiver, with_input, with_prompt
from tests.minimal_service import Service, serve
from tests.minimal_tasks import Task
from tests.minimal_variants import FAIL_PROMPT, KEY, MODEL, SECOND_KEY, SIGNING_KEY, Variant
from tests.odd_calls import callback_headers, repeated_calls, single_calls
from tests.seeded_defect import SeededDefect
from tests.seeded_defects import SEEDED_DEFECTS
from tests.seeded_defects_accounts import ACCOUNTS
from tests.seeded_defects_bodies import BODIES
from tests.seeded_defects_callbacks import CALLBACKS
from tests.seeded_defects_capabilities import CAPABILITIES
from tests.seeded_defects_careless import CARELESS
from tests.seeded_defects_fields import FIELDS
from tests.seeded_defects_gaps import GAPS
from tests.seeded_defects_keys import KEYS
from tests.seeded_defects_life_cycle import LIFE_CYCLE
from tests.seeded_defects_records import RECORDS
from tests.seeded_defects_responses import RESPONSES
from tests.seeded_defects_signatures import SIGNATURES
from tests.seeded_defects_values import VALUES

pytestmark = pytest.mark.slow

LIFE = 100.0
AGES = (0.0, 20.0, 60.0, 100.0, 120.0, 160.0, 190.0)
PROMPT = "  Ａ Café\n🎨 <b>" + "y" * 1100
MODELS, DOWNLOAD = "/api/v1/models", "/api/v1/common/download-url"


class AgedService:
    """A server whose tasks have any age.

    Attributes:
        older: Seconds that are added to the age of every task.
        service: The running service.
    """

    def __init__(self, variant: Variant, client: httpx2.Client, service_class: type[Service]) -> None:
        self.older, self.client, self.service = 0.0, client, Service(variant)
        aged = self

        class Watched(service_class):  # type: ignore[misc, valid-type]
            def __init__(self, variant: Variant) -> None:
                super().__init__(variant)
                aged.service = self

            def age(self, task: Task) -> float:
                return time.monotonic() - task.started + aged.older

        self.context = serve(replace(variant, seconds=LIFE, ids="number", retry_seconds=0.01), Watched)

    @contextlib.contextmanager
    def open(self) -> Iterator[Self]:
        with self.context as self.served:
            self.caller = Caller(self.served, self.client)
            yield self

    def wait_for_callbacks(self) -> None:
        for sender in self.service.senders:
            sender.join()

    def comparable(self, response: httpx2.Response) -> object:
        """Return a response without its times and URLs, which differ from run to run."""
        text = re.sub(rb"\b1[0-9]{12}\b", b"T", response.content).replace(self.served.url.encode(), b"U")
        return response.status_code, response.headers.get("content-type"), text


Script = Callable[[AgedService], Iterator[object]]


def responses(aged: AgedService) -> Iterator[object]:
    for request in (GOOD, GOOD, GOOD, {}, with_prompt("x" * 3001)):
        yield aged.comparable(aged.caller.send("POST", CREATE, json=request))
    for name in ("7000000001", "7000000002", "nobody"):
        yield aged.comparable(aged.caller.send("GET", RECORD_INFO, params={"taskId": name}))
    aged.caller.headers["Authorization"] = f"Bearer {KEY}x"
    yield aged.comparable(aged.caller.send("GET", CREDIT))


def keys(aged: AgedService) -> Iterator[object]:
    task_id = aged.caller.create()["data"]["taskId"]
    names = ("", "?taskId=", "?taskId=nobody", f"?taskId={task_id[:-1]}", f"?taskId={task_id}")
    for query in names:
        yield aged.comparable(aged.caller.send("GET", RECORD_INFO + query))
    near = (f"{KEY}x", KEY[:-1], KEY.upper(), KEY[::-1], f"{KEY[:4]}zzz", "other", "")
    headers = (
        *(f"Bearer {key}" for key in (*near, SECOND_KEY)),
        KEY,
        *(f"{name} {KEY}" for name in ("Basic", "Token")),
    )
    for header in (*headers, f"Digest {KEY}", ""):
        aged.caller.headers["Authorization"] = header.strip()
        for method, path in (("POST", CREATE), ("GET", RECORD_INFO + names[-1]), ("GET", CREDIT), ("GET", MODELS)):
            yield aged.comparable(aged.caller.send(method, path, json=GOOD if method == "POST" else None))
        yield aged.comparable(aged.caller.send("POST", DOWNLOAD, json={"url": "x"}))


def since(record: dict[str, Any], made: Any) -> dict[str, Any]:
    """Return a record with its times relative to the creation of the task."""
    times = {name: record.get(name) for name in ("createTime", "updateTime", "completeTime")}
    return record | {name: ms - made for name, ms in times.items() if isinstance(ms, int) and isinstance(made, int)}


def records(aged: AgedService) -> Iterator[object]:
    made_now = time.time() * 1000
    requests = (with_prompt(PROMPT, callBackUrl="https://example.com/a"), with_prompt(FAIL_PROMPT), GOOD)
    ids = [aged.caller.create(request)["data"]["taskId"] for request in requests]
    first_seen: dict[str, Any] = {}
    for age, task_id in product(AGES, ids):
        aged.older = age
        record = dict(aged.caller.fetch(task_id)["data"] or {})
        made = record.get("createTime")
        moved = first_seen.setdefault(task_id, made) != made
        near = isinstance(made, int) and abs(made - made_now) < 5000
        yield near, moved, json.dumps(since(record, made)).replace(aged.served.url, "U")


def results(aged: AgedService) -> Iterator[object]:
    aged.older = LIFE
    for quality, ratio in (("basic", "4:3"), ("high", "1:1"), ("basic", "21:9")):
        task_id = aged.caller.create(with_input(quality=quality, aspect_ratio=ratio))["data"]["taskId"]
        url = json.loads(aged.caller.fetch(task_id)["data"]["resultJson"])["resultUrls"][0]
        yield aged.comparable(aged.client.get(url))


def life_cycle(aged: AgedService) -> Iterator[object]:
    yield from records(aged)
    yield from results(aged)


def accounts(aged: AgedService) -> Iterator[object]:
    second = Caller(aged.served, aged.client, SECOND_KEY)
    wrong = Caller(aged.served, aged.client, "wrong")
    for age in (0.0, LIFE):
        aged.older = age
        for request in (GOOD, with_input(quality="high"), with_prompt(FAIL_PROMPT), {}):
            yield aged.caller.create(request)["code"], aged.caller.send("GET", CREDIT).json()
        yield wrong.create()["code"], aged.caller.fetch("nobody")["code"], aged.caller.fetch("7000000001")["code"]
        yield aged.caller.send("GET", CREDIT).json(), second.send("GET", CREDIT).json()
        aged.older = 0.0
        for caller in (*(aged.caller,) * 22, *(second,) * 3):
            yield caller.create()["code"], caller.send("GET", CREDIT).json()


def capabilities(aged: AgedService) -> Iterator[object]:
    aged.older = LIFE
    task_id = aged.caller.create()["data"]["taskId"]
    url = json.loads(aged.caller.fetch(task_id)["data"]["resultJson"])["resultUrls"][0]
    for name in (MODEL, "other/1.0", "no/model"):
        yield aged.comparable(aged.caller.send("GET", f"{MODELS}/{name}/schema"))
    yield aged.comparable(aged.caller.send("GET", MODELS))
    for requested_url in (url, f"{aged.served.url}/else", "http://127.0.0.1:9/a.jpg", None):
        yield aged.comparable(aged.caller.send("POST", DOWNLOAD, json={"url": requested_url}))


def callback(received: Received) -> object:
    """Return a callback without its times, ports and signature, which differ from run to run."""
    headers, stamp = received.headers, received.headers.get("X-Webhook-Timestamp", "")
    is_fresh = stamp.isdigit() and abs(int(stamp) - time.time()) < 60
    with contextlib.suppress(ValueError, KeyError, TypeError):
        data = received.document["data"]
        text = f"{data['taskId']}.{stamp}".encode()
        right = base64.b64encode(hmac.digest(SIGNING_KEY.encode(), text, hashlib.sha256)).decode()
        times = [data["completeTime"] - data["createTime"], abs(data["createTime"] - time.time() * 1000) < 4000]
        document = re.sub(r"\b1[0-9]{12}\b|127.0.0.1:[0-9]+", "T", json.dumps(received.document))
        return received.method, received.path, is_fresh, headers.get("X-Webhook-Signature") == right, times, document
    return received.method, received.path, is_fresh, received.body[:1]


def callbacks(aged: AgedService) -> Iterator[object]:
    aged.older = LIFE
    with Receiver(errors=1) as receiver:
        url = f"{receiver.url}/a/b?c=d"
        no_callback = with_prompt(FAIL_PROMPT)
        for request in ({**GOOD, "callBackUrl": url}, with_prompt(FAIL_PROMPT, callBackUrl=url), no_callback):
            aged.caller.create(request)
            aged.wait_for_callbacks()
        aged.caller.create({"callBackUrl": url})
        aged.wait_for_callbacks()
        yield from map(callback, receiver.calls)
        yield len(receiver.calls)


def odd_calls(aged: AgedService) -> Iterator[object]:
    yield from repeated_calls(aged.served, aged.client)
    if aged.served.variant.rate:
        return  # how much of the limit is left depends on the time that the calls took
    yield from single_calls(aged.served, aged.client)
    yield aged.caller.fetch(aged.caller.create()["data"]["taskId"])["code"]
    aged.older = LIFE
    yield aged.comparable(aged.caller.send("GET", RECORD_INFO, params={"taskId": "7000000001"}))
    yield since(dict(aged.caller.fetch("7000000001")["data"] or {}), None)["costTime"]
    for path in ("/files/1.jpg", "/files/1.jpg"):
        response = aged.client.get(aged.served.url + path)
        yield response.status_code, response.headers.get("content-type"), len(response.content)
    yield aged.comparable(aged.caller.send("GET", MODELS))
    for status in (204, 307):
        with Receiver(statuses=(status,)) as receiver:
            aged.caller.create({**GOOD, "callBackUrl": f"{receiver.url}/a"})
            aged.wait_for_callbacks()
            yield from callback_headers(receiver)
            yield from map(callback, receiver.calls)


SCRIPTS: tuple[tuple[Script, tuple[SeededDefect, ...]], ...] = (
    *((responses, RESPONSES), (keys, KEYS), (records, RECORDS), (life_cycle, LIFE_CYCLE)),
    *((accounts, ACCOUNTS), (capabilities, CAPABILITIES), (callbacks, (*CALLBACKS, *SIGNATURES))),
    (odd_calls, (*GAPS, *CARELESS)),
)


def is_early(defect: SeededDefect) -> bool:
    return bool({"callback_delay", "deliver_when_due"} & defect.hooks.keys())


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as client:
        yield client


def play(variant: Variant, client: httpx2.Client, script: Script, service_class: type[Service]) -> list[object]:
    """Return the results of a script, up to the first response that it cannot read."""
    outcomes: list[object] = []
    with (
        AgedService(variant, client, service_class).open() as aged,
        contextlib.suppress(KeyError, TypeError, ValueError),
    ):
        outcomes.extend(script(aged))
    return outcomes


@cache
def conforming(variant: Variant, script: Script) -> list[object]:
    with httpx2.Client(timeout=20) as client:
        return play(variant, client, script, Service)


@pytest.mark.parametrize(
    ("script", "defect"),
    [
        pytest.param(script, defect, id=defect.name)
        for script, defects in SCRIPTS
        for defect in defects
        if not is_early(defect)
    ],
)
def test_a_seeded_defect_has_an_effect(script: Script, defect: SeededDefect, client: httpx2.Client) -> None:
    assert play(defect.variant, client, script, defect.service_class()) != conforming(defect.variant, script)


SCRIPTED_VARIANTS = list(dict.fromkeys((script, defect.variant) for script, defects in SCRIPTS for defect in defects))


@pytest.mark.parametrize(
    ("script", "variant"), [pytest.param(*pair, id=f"{pair[0].__name__}, {pair[1].name}") for pair in SCRIPTED_VARIANTS]
)
def test_the_server_without_a_defect_is_deterministic(script: Script, variant: Variant, client: httpx2.Client) -> None:
    assert play(variant, client, script, Service) == conforming(variant, script) != []


def test_every_seeded_defect_is_tested_for_an_effect() -> None:
    names = [defect.name for _, defects in SCRIPTS for defect in defects]
    names += [defect.name for defect in (*FIELDS, *VALUES, *BODIES)]
    assert sorted(names) == sorted(defect.name for defect in SEEDED_DEFECTS)


@pytest.mark.parametrize("defect", [defect for defect in CALLBACKS if is_early(defect)], ids=lambda defect: defect.name)
def test_an_early_callback_arrives_before_the_end(defect: SeededDefect, client: httpx2.Client) -> None:
    with Receiver() as receiver, AgedService(defect.variant, client, defect.service_class()).open() as aged:
        aged.caller.create({**GOOD, "callBackUrl": receiver.url})
        assert receiver.arrived.acquire(timeout=10)
