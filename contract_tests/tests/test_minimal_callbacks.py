import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pytest
from tests.minimal_caller import GOOD, Caller, Receiver, with_prompt
from tests.minimal_service import serve
from tests.minimal_variants import CONFORMING, FAIL_PROMPT, Variant


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as client:
        yield client


@pytest.mark.parametrize("prompt", ["a café", FAIL_PROMPT])
@pytest.mark.parametrize("variant", CONFORMING, ids=lambda variant: variant.name)
def test_a_callback_contains_the_final_record(variant: Variant, prompt: str, client: httpx2.Client) -> None:
    variant = replace(variant, callbacks=True, seconds=0.02, late=min(variant.late, 0.01))
    with Receiver(errors=0) as receiver, serve(variant) as served:
        caller = Caller(served, client)
        record = caller.wait_until_finished(with_prompt(prompt, callBackUrl=f"{receiver.url}/a/b?c=d%20e"))
        receiver.arrived.acquire()
    (received,) = receiver.calls
    body, headers = received.document, received.headers
    assert received.path == "/a/b?c=d%20e"
    assert record.items() <= body["data"].items()
    assert body["code"] == (501 if variant.fails and prompt == FAIL_PROMPT else 200)
    if served.signing_key:
        text = f"{record['taskId']}.{headers['X-Webhook-Timestamp']}".encode()
        signature = base64.b64encode(hmac.digest(served.signing_key.encode(), text, hashlib.sha256)).decode()
        assert headers["X-Webhook-Signature"] == signature


@pytest.mark.parametrize(("errors", "calls"), [(1, 2), (3, 4), (9, 4)])
def test_a_callback_is_sent_again_after_an_error(errors: int, calls: int, client: httpx2.Client) -> None:
    variant = Variant(seconds=0, retry_seconds=0.01)
    with Receiver(errors) as receiver:
        with serve(variant) as served:
            Caller(served, client).create({**GOOD, "callBackUrl": receiver.url})
            for _ in range(calls):
                receiver.arrived.acquire()
        assert len(receiver.calls) == calls


def test_a_server_stops_while_callbacks_are_pending(client: httpx2.Client) -> None:
    start = time.monotonic()
    with Receiver(errors=9) as receiver, serve(Variant(seconds=0, retry_seconds=60)) as served:
        Caller(served, client).create({**GOOD, "callBackUrl": receiver.url})
        receiver.arrived.acquire()
    assert time.monotonic() - start < 1
