"""Every seeded defect has an effect: its server responses some request unlike the server without the defect.

This module covers the defects in reading requests, test_seeded_defects_show.py the others.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx2
import pytest
from seedbed_contract.rules.practices import PRACTICES
from seedbed_schemas import default_contract, job_api
from tests.minimal_caller import CREATE, GOOD, Caller, with_input, with_prompt, without
from tests.minimal_service import Served, Service, serve
from tests.minimal_variants import MODEL, SIZES, Variant
from tests.seeded_defect import SeededDefect
from tests.seeded_defects import SEEDED_DEFECTS
from tests.seeded_defects_bodies import BODIES
from tests.seeded_defects_fields import FIELDS
from tests.seeded_defects_values import VALUES

ODD_VALUES = (None, 1, True, ["1:1"], {"a": 1}, "", "text")
NEAR_MODELS = (MODEL.upper(), f" {MODEL}", f"{MODEL}-pro", "seedream/4.0", [MODEL])
LENGTHS = (
    *("x" * 3000, "x" * 3001, "x" * 2500, "x" * 3500, "字" * 3000, "字" * 3001, "🎨" * 3000, '"' * 3000),
    *("x" * 3000 + " ", "e\N{COMBINING ACUTE ACCENT}" * 1501),
)
JSON = "application/json"

REQUESTS: tuple[Any, ...] = (
    *(GOOD, None, 1, "text", [], {}),
    *(without(name) for name in ("model", "input")),
    *(without("input", name) for name in ("prompt", "aspect_ratio", "quality")),
    *({**GOOD, name: value} for name in ("model", "input", "callBackUrl") for value in ODD_VALUES),
    *(with_input(**{name: value}) for name in ("prompt", "aspect_ratio", "quality") for value in ODD_VALUES),
    *({**GOOD, "model": model} for model in NEAR_MODELS),
    *(with_prompt(prompt) for prompt in LENGTHS),
    *(with_input(quality=quality, aspect_ratio=ratio) for quality, ratio in SIZES),
    *(with_input(quality=quality) for quality in ("Basic", " basic", "ｂasic")),
    *(with_input(aspect_ratio=ratio) for ratio in (" 1:1", "1：1", "5:4")),
    *({**GOOD, "callBackUrl": url} for url in ("https://example.com/a", "/relative")),
    {**GOOD, "input": json.dumps(GOOD["input"])},
    dict(reversed(GOOD.items())),
)
TEXT = json.dumps(with_prompt("A/B"))
RAW: tuple[tuple[bytes, str], ...] = (
    *((json.dumps(request, ensure_ascii=False).encode(), JSON) for request in REQUESTS),
    (json.dumps(with_prompt("é")).encode(), JSON),
    (TEXT.replace("/", "\\/").encode(), JSON),
    (TEXT.replace("{", "{\n").encode(), JSON),
    *((TEXT.encode(), kind) for kind in ("application/json; charset=utf-8", "Application/JSON")),
    *((body, JSON) for body in (b"", b"{", TEXT.encode() + b"x", TEXT.replace("}", ",}").encode(), b"\xff")),
    (repr(GOOD).encode(), JSON),
    (TEXT.replace('"A/B"', '"A/B", "x": NaN').encode(), JSON),
    (TEXT.replace("A/B", "\udcff").encode("utf-8", "surrogateescape"), JSON),
    (b"[" * 1000, JSON),
)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as client:
        yield client


def responses_to_requests(served: Served, client: httpx2.Client) -> Iterator[object]:
    caller = Caller(served, client)
    for body, kind in RAW:
        caller.headers["Content-Type"] = kind
        try:
            response = caller.send("POST", CREATE, content=body).json()
        except httpx2.TransportError:
            yield "no response"
            continue
        yield response["code"], caller.fetch(response["data"]["taskId"])["data"]["param"] if response["data"] else None


@cache
def conforming_responses(variant: Variant) -> list[object]:
    with httpx2.Client() as client, serve(variant) as served:
        return list(responses_to_requests(served, client))


def test_seeded_defects_have_unique_names_and_existing_methods_and_clauses() -> None:
    stated = {clause.id for clause in (*default_contract().clauses(), *job_api().clauses())} | PRACTICES.keys()
    assert len({defect.name for defect in SEEDED_DEFECTS}) == len(SEEDED_DEFECTS)
    assert not {clause for defect in SEEDED_DEFECTS for clause in defect.clauses} - stated
    assert not {hook for defect in SEEDED_DEFECTS for hook in defect.hooks if not hasattr(Service, hook)}
    assert all(defect.clauses and defect.hooks for defect in SEEDED_DEFECTS)


@pytest.mark.parametrize("defect", [*FIELDS, *VALUES, *BODIES], ids=lambda defect: defect.name)
def test_a_seeded_defect_changes_the_response_to_some_request(defect: SeededDefect, client: httpx2.Client) -> None:
    expected = conforming_responses(defect.variant)
    with defect.serve() as served:
        pairs = zip(responses_to_requests(served, client), expected, strict=True)
        assert any(response != expected_response for response, expected_response in pairs)
