"""The journal: its entries, its filters and its limits."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from seedbed_mock import MockServer
from seedbed_mock.journal import HeaderKeeper, Journal, JournalBudget, JournalEntry, KeptHeaders
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
CREATE, RECORD, CREDIT = CONTRACT.operation.path, SHARED.record_info.path, SHARED.credit.path
DOWNLOAD, MODELS = SHARED.download_url.path, SHARED.models.path
PROMPT: int = CONTRACT.part("request")["properties"]["input"]["properties"]["prompt"]["maxLength"]

Control = Callable[..., tuple[int, Any]]
Create = Callable[..., str]
Call = Callable[..., dict[str, Any]]


def entries(control: Control, **query: object) -> list[dict[str, Any]]:
    status, content = control("GET", "/journal", **query)
    assert status == 200
    found: list[dict[str, Any]] = content["entries"]
    return found


def request_with(prompt: str) -> dict[str, Any]:
    return {**GOOD, "input": {**GOOD["input"], "prompt": prompt}}


def test_an_entry_describes_a_request(seedbed: MockServer, control: Control, call: Call) -> None:
    seedbed.play(clock="manual")
    response = call("POST", CREATE, GOOD)
    (entry,) = entries(control)
    now = control("GET", "/clock")[1]["now"]
    account = control("GET", "/accounts")[1]["accounts"][0]["account"]
    assert entry == {
        "number": entry["number"],
        "at": now,
        "kind": "call",
        "space": "default",
        "operation": "createTask",
        "account": account,
        "method": "POST",
        "target": CREATE,
        "headers": entry["headers"],
        "request": GOOD,
        "code": 200,
        "status": 200,
        "case": "done",
        "answer": response,
        "violations": [],
        "fault": "",
        "task_id": response["data"]["taskId"],
        "attempt": 0,
        "nearest": "",
        "hint": "",
        "duration": entry["duration"],
        "handler": "",
        "reason": "",
    }
    assert entry["headers"]["authorization"] == f"Bearer {account}"


def test_every_operation_has_its_name(control: Control, call: Call) -> None:
    call("POST", CREATE, GOOD)
    for path in (RECORD, CREDIT, MODELS, SHARED.model_schema.path.replace("{model}", CONTRACT.model)):
        call("GET", path)
    call("POST", DOWNLOAD, {"url": "x"})
    names = ["createTask", "recordInfo", "credit", "models", "modelSchema", "downloadUrl"]
    assert [entry["operation"] for entry in entries(control)] == names


@pytest.mark.seedbed(key=["one", "two"], clock="manual")
def test_each_filter_narrows_the_journal(seedbed: MockServer, control: Control, call: Call, create: Create) -> None:
    task_id = create(key="one", callBackUrl="http://192.0.2.1/")
    call("GET", f"{RECORD}?taskId={task_id}", key="two")
    seedbed.advance(5)
    call("POST", CREATE, request_with("x" * (PROMPT + 1)), key="two")
    call("GET", CREDIT, key="nobody")
    call("GET", CREDIT, key="one", X_Seedbed_Fault="429", X_Seedbed_Space="mine")
    two = control("GET", "/accounts")[1]["accounts"][1]["account"]
    late = control("GET", "/clock")[1]["now"]

    def operations(**query: object) -> list[str]:
        return [entry["operation"] for entry in entries(control, **query)]

    assert operations() == ["createTask", "callback", "recordInfo", "createTask", "credit", "credit"]
    assert operations(kind="callback") == ["callback"]
    assert operations(kind="call", limit=2) == ["credit", "credit"]
    assert operations(operation="recordInfo") == ["recordInfo"]
    assert operations(account=two) == ["recordInfo", "createTask"]
    assert operations(account="") == ["credit"]
    assert operations(task_id=task_id) == ["createTask", "callback"]
    assert operations(code=429) == ["credit"]
    assert operations(code=401) == ["credit"]
    assert operations(violation="input.prompt/maxLength") == ["createTask"]
    assert operations(violation="input.prompt/minLength") == []
    assert operations(since=late) == ["createTask", "credit", "credit"]
    assert operations(since=late + 1) == []
    assert operations(space="mine") == ["credit"]
    assert operations(account=two, code=422, violation="input.prompt/maxLength", since=late) == ["createTask"]


def test_an_entry_lists_all_broken_clauses(control: Control, call: Call) -> None:
    call("POST", CREATE, {"model": CONTRACT.model, "input": {"prompt": 1, "quality": "best"}})
    (entry,) = entries(control)
    assert set(entry["violations"]) == {"input.prompt/type", "input.quality/enum", "input/required/aspect_ratio"}
    assert set(entry["violations"]) <= {clause.id for clause in CONTRACT.clauses()}


def test_entries_are_numbered_in_order_over_all_spaces(control: Control, call: Call) -> None:
    for space in ("a", "b", "a", "default", "b"):
        call("GET", CREDIT, X_Seedbed_Space=space)
    found = entries(control)
    assert [entry["space"] for entry in found] == ["a", "b", "a", "default", "b"]
    numbers = [entry["number"] for entry in found]
    assert numbers == list(range(numbers[0], numbers[0] + 5))


def test_the_journal_keeps_the_latest_thousand_entries(control: Control, call: Call) -> None:
    for _ in range(1005):
        call("GET", CREDIT)
    call("GET", MODELS)
    found = entries(control, limit=1000)
    assert len(found) == 1000
    assert found[-1]["operation"] == "models"
    assert found[-1]["number"] - found[0]["number"] == 999


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"", None),
        (b"{", "{"),
        (b"\xff\x00\xfe", "\ufffd\x00\ufffd"),
        (b'{"a": "\xff"}', '{"a": "\ufffd"}'),
        (b'{"a": "\\ud800"}', '{"a": "\\ud800"}'),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1e999}', '{"a": 1e999}'),
        (b'{"a": NaN}', '{"a": NaN}'),
        ('"灯"'.encode(), "灯"),
        ('{"a": "灯 😀"}'.encode(), {"a": "灯 😀"}),
        (b"[" * 60 + b"]" * 60, json.loads("[" * 60 + "]" * 60)),
    ],
)
def test_a_body_of_any_kind_is_shown(control: Control, call: Call, raw: bytes, shown: object) -> None:
    call("POST", CREATE, raw)
    assert entries(control)[0]["request"] == shown


@pytest.mark.parametrize("levels", [65, 300, 900, 960, 970, 980, 985, 990, 995, 1000, 1010, 30_000])
def test_a_deeply_nested_body_does_not_hide_other_entries(control: Control, call: Call, levels: int) -> None:
    raw = b"[" * levels + b"]" * levels
    call("POST", CREATE, raw)
    call("POST", CREATE, GOOD)
    found = entries(control)
    assert found[0]["request"] == raw.decode()
    assert found[1]["request"] == GOOD
    assert control("POST", "/verify", {"request": GOOD})[1]["verified"]


def test_a_truncated_body_says_so(control: Control, call: Call) -> None:
    raw = json.dumps(request_with("灯" * 100_000), ensure_ascii=False).encode()
    call("POST", CREATE, raw)
    shown = entries(control)[0]["request"]
    assert len(shown) < 70_000
    assert shown.startswith('{"model"')
    assert f"{len(raw)} bytes" in shown[-100:]


def test_a_body_that_is_too_large_is_journalled_without_its_content(control: Control, call: Call) -> None:
    call("POST", CREATE, b" " * 2 * 1024 * 1024)
    (entry,) = entries(control)
    assert (entry["request"], entry["case"]) == (None, "body_malformed")


def test_a_query_is_shown_as_it_was_sent(control: Control, call: Call) -> None:
    call("GET", f"{RECORD}?taskId=%00%ff&%F0%9F=&taskId")
    assert entries(control)[0]["target"] == f"{RECORD}?taskId=%00%ff&%F0%9F=&taskId"


def add_entry(journal: Journal, size: int) -> None:
    journal.add(JournalEntry(number=journal.next_number(), at=0, kind="call", operation="credit", request=b"x" * size))


def test_journals_share_a_budget_and_the_stalest_loses_entries() -> None:
    budget = JournalBudget(most_bytes=100)
    stale, busy = Journal(budget), Journal(budget)
    for _ in range(2):
        add_entry(stale, 30)
    for _ in range(5):
        add_entry(busy, 30)
    assert [entry.number for entry in stale] == []
    assert [entry.number for entry in busy] == [5, 6, 7]
    busy.clear()
    add_entry(stale, 90)
    assert [entry.number for entry in stale] == [8]


# Headers


def test_headers_tell_programs_apart_and_keep_no_key(seedbed: MockServer, control: Control, call: Call) -> None:
    secret = "sk-secret-of-nobody"  # noqa: S105 (of this test)
    call("GET", CREDIT, User_Agent="one/1", Cookie=f"session={secret}", X_Api_Key=secret)
    call("GET", CREDIT, key=secret, User_Agent="two/2")
    call("GET", CREDIT, key=f"mine:{seedbed.key}", Proxy_Authorization=f"Basic {secret}")
    call("GET", "/nowhere", key=secret)
    text = json.dumps(control("GET", "/journal", limit=1000)[1])
    assert secret not in text
    assert seedbed.key not in text
    found = entries(control)
    assert [entry["headers"].get("user-agent") for entry in found[:2]] == ["one/1", "two/2"]
    # The headers name the account whatever the space.
    account = control("GET", "/accounts")[1]["accounts"][0]["account"]
    assert [entry["headers"]["authorization"] == f"Bearer {account}" for entry in found] == [True, False, True, False]
    assert found[0]["headers"]["cookie"].startswith("key-")
    assert found[2]["headers"]["proxy-authorization"].startswith("Basic key-")


def test_headers_are_kept_up_to_a_bound(control: Control, call: Call) -> None:
    many = {f"X_{number}": "v" for number in range(150)}
    call("GET", CREDIT, X_Long="y" * 5000, **many)
    (entry,) = entries(control)
    assert len(entry["headers"]) == 100
    assert max(len(value) for value in entry["headers"].values()) <= 1024


def test_headers_count_towards_the_size_of_an_entry() -> None:
    headers = KeptHeaders.of(((b"abc", b"de"),))
    entry = JournalEntry(number=1, at=0, kind="call", operation="credit", headers=headers, request=b"f")
    assert entry.size == 6


@pytest.mark.parametrize(
    ("value", "is_shared"),
    [(b"Bearer held", True), (b"bearer  held", True), (b"Bearer other", False), (b"Bearer", False), (b"", False)],
)
def test_equal_headers_are_kept_once_unless_their_secret_is_foreign(value: bytes, *, is_shared: bool) -> None:
    keeper = HeaderKeeper(str.upper, {"held"}.__contains__)
    headers = [(b"host", b"localhost"), (b"authorization", value)]
    first, second = keeper.kept(headers), keeper.kept([[*header] for header in headers])  # type: ignore[misc]
    assert first == second
    assert (first is second) is is_shared
    assert first.fields[0] == headers[0]
    assert b"held" not in first.fields[1][1]


@pytest.mark.parametrize(
    "value", [b"first=hush; second=1", b"hush second", b"Bearer hush second", b"hush", b"Own hush", b" bearer  hush "]
)
@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"x-own"])
def test_no_word_of_a_secret_is_kept(name: bytes, value: bytes) -> None:
    keeper = HeaderKeeper(lambda _: "masked", lambda _: False, [(b"x-own", "own")])
    ((_, kept),) = keeper.kept([(name, value)]).fields
    assert b"hush" not in kept
    assert kept.endswith(b"masked")


def test_headers_that_differ_are_remembered_up_to_a_bound() -> None:
    keeper = HeaderKeeper(str, lambda _: True)
    kept = [keeper.kept([(b"x-id", b"%d" % number)]) for number in range(2000)]
    assert [each.fields[0][1] for each in kept] == [b"%d" % number for number in range(2000)]
    assert len(keeper._remembered) <= 256
    large = [(b"x-long", b"y" * 5000)]
    assert keeper.kept(large) is not keeper.kept(large)


# Requests that match no operation


@pytest.mark.parametrize(
    ("method", "path", "nearest", "hint"),
    [
        ("GET", CREATE, "createTask", "createTask takes POST."),
        ("POST", RECORD, "recordInfo", "recordInfo takes GET."),
        ("DELETE", f"{MODELS}/a/b/schema", "modelSchema", "modelSchema takes GET."),
        ("POST", f"/{CREATE}", "createTask", "Your base URL ends with a slash, so that the path has two."),
        ("GET", f"/{CREDIT}", "credit", "Your base URL ends with a slash, so that the path has two."),
        (
            "PUT",
            f"/{CREDIT}",
            "credit",
            "Your base URL ends with a slash, so that the path has two. credit takes GET.",
        ),
        ("POST", f"{CREATE}/", "createTask", "The path ends with a slash."),
        ("POST", f"{CREATE}%20", "createTask", "The path has a blank at its end."),
        ("POST", f"/api/v1{CREATE}", "createTask", "Your base URL has the path /api/v1, which is too much."),
        ("POST", CREATE.removeprefix("/api/v1"), "createTask", "Your base URL lacks the path /api/v1."),
        ("POST", CREATE.upper(), "createTask", f"Did you mean {CREATE}?"),
        ("POST", CREATE.replace("createTask", "create_task"), "createTask", f"Did you mean {CREATE}?"),
        ("GET", "/favicon.ico", "", ""),
        ("GET", "/", "", ""),
    ],
)
def test_an_unmatched_request_is_recorded_with_what_was_meant(  # noqa: PLR0917 (a row of the table)
    seedbed: MockServer, control: Control, call: Call, method: str, path: str, nearest: str, hint: str
) -> None:
    response = call(method, path, {"a": 1})
    (entry,) = seedbed.unmatched
    assert (entry["kind"], entry["operation"], entry["method"]) == ("unmatched", "unmatched", method)
    assert (entry["nearest"], entry["hint"]) == (nearest, hint)
    assert (entry["request"], entry["answer"], entry["code"]) == ({"a": 1}, response, 404)
    assert hint.removesuffix(".") in response["msg"]
    assert not response["msg"].endswith(("?.", ".."))
    assert seedbed.calls == []
    assert [each["number"] for each in entries(control, operation="unmatched")] == [entry["number"]]


def test_an_unmatched_request_creates_no_space(seedbed: MockServer, control: Control, call: Call) -> None:
    call("GET", "/nowhere", X_Seedbed_Space="made-up")
    assert control("GET", "/health")[1]["spaces"] == ["default"]
    call("GET", CREDIT, X_Seedbed_Space="mine")
    call("GET", "/nowhere", X_Seedbed_Space="mine")
    assert [entry["space"] for entry in seedbed.unmatched] == ["default", "mine"]


def test_an_unmatched_request_with_a_huge_path_and_body_is_cut(seedbed: MockServer, call: Call) -> None:
    assert call("POST", "/" + "x" * 20_000, b"y" * 2_000_000)["code"] == 404
    (entry,) = seedbed.unmatched
    assert entry["request"] is None


def test_verify_names_the_unmatched_request(seedbed: MockServer, control: Control, call: Call) -> None:
    call("POST", f"/{CREATE}", GOOD)
    with pytest.raises(AssertionError) as caught:
        seedbed.assert_called("createTask")
    assert str(caught.value) == (
        "Expected createTask to be called at least once; it was never called. Entry 1 matches no operation: "
        "Your base URL ends with a slash, so that the path has two."
    )
    verdict = control("POST", "/verify", {"operation": "createTask"})[1]
    (miss,) = verdict["near_misses"]
    assert miss["entry"] == 1
    assert "ends with a slash" in miss["hint"]
    assert control("POST", "/verify", {"operation": "credit"})[1]["near_misses"] == []


# Bounds


def test_a_list_continues_before_an_entry(control: Control, call: Call) -> None:
    for number in range(10):
        call("GET", CREDIT, X_Seedbed_Space=f"space-{number % 3}")
    numbers = [entry["number"] for entry in entries(control)]
    assert numbers == sorted(numbers)
    latest = [entry["number"] for entry in entries(control, limit=4)]
    earlier = [entry["number"] for entry in entries(control, limit=4, before=latest[0])]
    assert earlier + latest == numbers[-8:]
    assert entries(control, before=numbers[0]) == []


def test_a_list_of_large_bodies_ends_early_and_can_be_continued(control: Control, call: Call) -> None:
    for _ in range(80):
        call("POST", CREATE, b"x" * 65_000)
    listed = entries(control, limit=1000)
    assert 55 < len(listed) < 70
    assert len(entries(control, limit=1000, before=listed[0]["number"])) == 80 - len(listed)


def test_the_journals_of_all_spaces_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed_mock.journal.MOST_ENTRIES_OF_ALL", 50)
    budget = JournalBudget()
    journals = [Journal(budget) for _ in range(20)]
    for number in range(400):
        journals[number % 20].add(JournalEntry(number=number, at=0, kind="call", operation="credit"))
    kept = [entry.number for journal in journals for entry in journal]
    assert len(kept) == 50
    journals[-1].clear()
    for number in range(100):
        journals[0].add(JournalEntry(number=number, at=0, kind="call", operation="credit"))
    assert sum(len(tuple(journal)) for journal in journals) == 50


def test_a_verification_with_thousands_of_values_lists_few_differences(seedbed: MockServer, call: Call) -> None:
    for _ in range(20):
        call("GET", CREDIT)
    wanted = {"operation": "credit", "request": {f"key{number}": number for number in range(3000)}}
    verdict = seedbed.control("POST", "verify", wanted)
    assert [len(each["differences"]) for each in verdict["near_misses"]] == [1, 1, 1]
    call("POST", CREATE, request_with("x"))
    verdict = seedbed.control("POST", "verify", {**wanted, "operation": "createTask"})
    assert [len(each["differences"]) for each in verdict["near_misses"]] == [20]
    assert "2980 more values" in verdict["message"]
    assert len(verdict["message"]) < 2000
