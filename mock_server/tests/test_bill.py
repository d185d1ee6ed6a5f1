"""The bill: what calls would have cost, from a single server up to a test run on several processes."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seedbed_mock import Bill, MockServer, running
from seedbed_mock.bill import Ledger, request_key
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile

CONTRACT = default_contract()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
PRICE = default_profile().credits
FIELDS = job_api().fields


def create(server: MockServer, *, prompt: str = "A hill", fault: str = "", space: str = "", **more: Any) -> Any:
    body = {**GOOD, FIELDS.input: {**GOOD[FIELDS.input], "prompt": prompt}, **more}
    headers = {"Authorization": f"Bearer {server.key}"}
    headers |= {local.FAULT_HEADER: fault} if fault else {}
    headers |= {local.SPACE_HEADER: space} if space else {}
    url = server.url + CONTRACT.operation.path
    return httpx2.post(url, json=body, headers=headers, trust_env=False).json()["data"]


def fetch(server: MockServer, task_id: str, **headers: str) -> None:
    results = server.task(task_id)["record"]["resultJson"]
    url = re.search(r'http[^"]*', results)
    assert url
    assert httpx2.get(url[0], headers=headers, trust_env=False).status_code == 200


def costs(images: int, **wasted: int) -> Bill:
    amounts: dict[str, Any] = {name: number * PRICE for name, number in wasted.items()}
    return Bill(credits=images * PRICE, images=images, **amounts)


def test_a_server_knows_what_its_calls_would_have_cost() -> None:
    with running(task_seconds=0) as server:
        assert server.bill == Bill()
        assert not server.bill
        fetch(server, create(server)["taskId"])
        assert server.bill == costs(1)
        create(server, prompt="Another hill")
        assert server.bill == costs(2, not_fetched=1)
        # The order of fields and the receiver of the callback make no other image.
        create(server, **{FIELDS.callback: "http://127.0.0.1:9/done"})
        assert server.bill == costs(3, not_fetched=2, paid_twice=1)
        create(server, prompt="Fails", fault="task.fail")
        create(server, prompt="Refused", fault="429")
        assert server.bill == costs(3, not_fetched=2, paid_twice=1)
        expected = server.bill
        assert server.control("GET", "bill") == {
            "credits": float(expected.credits),
            "images": 3,
            "paid_twice": float(PRICE),
            "not_fetched": float(2 * PRICE),
            "lost": 0,
            "message": expected.describe(),
        }


def test_the_bill_shows_what_a_client_that_retries_blindly_pays() -> None:
    with running(task_seconds=0) as server:
        create(server, fault="task.orphan")
        fetch(server, create(server)["taskId"])
        assert server.bill == costs(2, paid_twice=1, not_fetched=1)
        create(server, prompt="Lost", fault="task.lost")
        assert server.bill == costs(2, paid_twice=1, not_fetched=1) + Bill(credits=PRICE, lost=PRICE)


def test_outcomes_that_a_test_decides_count() -> None:
    with running(progress="hand") as server:
        failing, finishing = (create(server, prompt=prompt)["taskId"] for prompt in ("one", "two"))
        server.fail(failing)
        server.finish(finishing)
        assert server.bill == costs(1, not_fetched=1)
        meant_to_fail = create(server, prompt="three", fault="task.fail")["taskId"]
        server.finish(meant_to_fail)
        assert server.bill == costs(2, not_fetched=2)


def test_a_look_by_the_dashboard_is_no_fetch() -> None:
    with running(task_seconds=0) as server:
        task_id = create(server)["taskId"]
        fetch(server, task_id, **{"Sec-Fetch-Site": "same-origin"})
        assert server.bill.not_fetched == PRICE
        fetch(server, task_id)
        assert server.bill.not_fetched == 0


def test_spaces_and_fresh_starts_do_not_make_a_request_a_repeated_one() -> None:
    with running(task_seconds=0) as server:
        for space in ("one", "two"):
            create(server, space=space)
        assert server.bill == costs(2, not_fetched=2)
        assert server.control("GET", "bill", space="one")["images"] == 1
        server.reset("one")
        create(server, space="one")
        assert server.bill == costs(3, not_fetched=3)
        server.play(task_seconds=0)
        create(server, space="one")
        assert server.bill == costs(4, not_fetched=4)


@settings(max_examples=50)
@given(
    most=st.integers(1, 5),
    tasks=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.booleans(), st.booleans()), max_size=20),
)
def test_a_bounded_ledger_adds_up_to_the_same_sum(most: int, tasks: list[tuple[str, int, bool, bool]]) -> None:
    bounded, unbounded = Ledger(most), Ledger()
    for number, (space, request, is_free, is_fetched) in enumerate(tasks):
        for ledger in (bounded, unbounded):
            ledger.note_task(str(number), space, request, PRICE, 1, is_free=is_free)
            if is_fetched:
                ledger.note_fetch(str(number))
    bill, expected = bounded.bill(), unbounded.bill()
    assert (bill.credits, bill.images, bill.not_fetched) == (expected.credits, expected.images, expected.not_fetched)
    # Only a request that was last paid for very long ago can count as a new one.
    assert bill.paid_twice <= expected.paid_twice
    assert bounded.bill("a").credits <= bill.credits


def test_the_order_of_fields_makes_no_other_request() -> None:
    keys = {
        request_key("k", "m", {"a": 1, "b": [1, {"c": 2, "d": 3}]}),
        request_key("k", "m", {"b": [1, {"d": 3, "c": 2}], "a": 1}),
    }
    assert len(keys) == 1
    assert request_key("other", "m", {}) != request_key("k", "m", {}) != request_key("k", "other", {})


@pytest.mark.parametrize(
    ("bill", "text"),
    [
        (Bill(), "0 credits: 0 images"),
        (Bill(credits=Decimal("6.5"), images=1), "6.5 credits: 1 image"),
        (Bill(credits=Decimal(1), images=1, lost=Decimal(1)), "1 credit: 1 image; 1 credit charged for lost tasks"),
        (
            Bill(credits=Decimal("143.0"), images=22, paid_twice=Decimal(13), not_fetched=Decimal(26)),
            "143 credits: 22 images; 13 credits paid twice for the same request; 26 for results nobody fetched",
        ),
        (Bill(credits=Decimal(1300), images=200), "1300 credits: 200 images"),
    ],
)
def test_a_bill_reads_as_a_sentence(bill: Bill, text: str) -> None:
    assert bill.describe() == text
    assert Bill.from_text(bill.to_text()) == bill


# Test runs

RUN = """
import json, urllib.request
import pytest
from seedbed_mock import running

def create(server, prompt):
    values = {"prompt": prompt, "aspect_ratio": "16:9", "quality": "basic"}
    body = json.dumps({"model": "seedream/4.5-text-to-image", "input": values}).encode()
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(server.url + "/api/v1/jobs/createTask", body, headers))

def test_twice(seedbed):
    create(seedbed, "a hill")
    create(seedbed, "a hill")

@pytest.mark.parametrize("number", range(3))
def test_once(seedbed, number):
    create(seedbed, "a hill")

def test_own_server():
    with running(task_seconds=0) as server:
        create(server, "a hill")

def test_nothing():
    pass
"""


def run_tests(folder: Path, *arguments: str) -> tuple[int, str]:
    (folder / "test_user.py").write_text(RUN)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "seedbed_mock.pytest_plugin"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout + run.stderr


TOTAL = "At the real service: 39 credits: 6 images; 6.5 credits paid twice for the same request; 39 for results nobody"


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param((), id="one process"),
        pytest.param(("-p", "xdist.plugin", "-n", "2"), id="xdist", marks=pytest.mark.slow),
    ],
)
def test_a_run_prints_its_bill_and_can_be_too_dear(workers: tuple[str, ...], tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    status, output = run_tests(tmp_path, *workers, "--seedbed-max-credits", "38.9", f"--junit-xml={report}")
    assert TOTAL in output
    assert "FAILED: 39 credits are more than --seedbed-max-credits 38.9." in output
    assert "6 passed" in output
    assert status == pytest.ExitCode.TESTS_FAILED
    suite = ET.parse(report).getroot()  # noqa: S314 (a report that this test has made)
    whole = {each.get("name"): each.get("value") for each in suite.findall("testsuite/properties/property")}
    assert whole == {
        "seedbed_credits": "39",
        "seedbed_images": "6",
        "seedbed_paid_twice": "6.5",
        "seedbed_not_fetched": "39",
    }
    cases = {
        case.get("name"): {each.get("name"): each.get("value") for each in case.findall("properties/property")}
        for case in suite.iter("testcase")
    }
    assert cases["test_twice"]["seedbed_credits"] == "13"
    assert cases["test_twice"]["seedbed_paid_twice"] == cases["test_own_server"]["seedbed_credits"] == "6.5"
    assert cases["test_nothing"] == {}


def test_a_run_within_its_limit_passes(tmp_path: Path) -> None:
    status, output = run_tests(tmp_path, "-k", "own_server or nothing", "--seedbed-max-credits", str(PRICE))
    assert "At the real service: 6.5 credits: 1 image; 6.5 credits for results nobody fetched." in output
    assert "FAILED" not in output
    assert status == 0


def test_a_run_without_servers_says_nothing(tmp_path: Path) -> None:
    status, output = run_tests(tmp_path, "-k", "nothing", "--seedbed-max-credits", "0")
    assert (status, "real service" in output) == (0, False)


@pytest.mark.parametrize("wrong", ["many", "-1", "nan"])
def test_a_wrong_limit_is_refused(wrong: str, tmp_path: Path) -> None:
    status, output = run_tests(tmp_path, f"--seedbed-max-credits={wrong}", "--collect-only")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert f"--seedbed-max-credits takes a number of credits, such as 100, not '{wrong}'." in output
    assert "Traceback" not in output
