"""The control API over HTTP: the clock, spaces, its OpenAPI document, and errors."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import validate
from seedbed_mock import ControlError, ManualClock, MockServer
from seedbed_mock.control.api import OPERATIONS, ROOT
from seedbed_schemas import __version__
from seedbed_schemas.profile import default_profile

PRICE = float(default_profile().credits)
LARGE: dict[str, Any] = {"task_seconds": 30, "clock": "manual", "credits": 80, "rate_limit": "off"}

Control = Callable[..., tuple[int, Any]]
Create = Callable[..., str]


def error_message(response: tuple[int, Any]) -> str:
    """Return the message of an error response."""
    message: str = response[1]["error"]
    return message


# Health and documentation


def test_health_shows_status_and_version(seedbed: MockServer, control: Control, create: Create) -> None:
    seedbed.play(dialect="observed")
    create(space="mine")
    expected = {"status": "ok", "version": __version__, "dialect": "observed", "spaces": ["default", "mine"]}
    assert control("GET", "/health") == (200, {**expected, "errors": 0, "upstream": False})


def test_the_document_is_valid_openapi(control: Control) -> None:
    status, document = control("GET", "/openapi.json")
    assert status == 200
    validate(document)
    assert document["info"]["version"] == __version__


def test_the_document_lists_exactly_the_served_operations(control: Control, seedbed: MockServer) -> None:
    document = control("GET", "/openapi.json")[1]
    documented = {(method, path) for path, methods in document["paths"].items() for method in methods}
    app = seedbed._app.app
    served = {
        (method.lower(), route.path)  # type: ignore[attr-defined]
        for route in app.routes
        for method in getattr(route, "methods", None) or ()
        if getattr(route, "path", "").startswith(ROOT) and method != "HEAD"
    }
    assert documented == served
    assert len(documented) == len(OPERATIONS) + 2, "the metrics and the document itself"


def test_every_operation_in_the_document_has_a_summary(control: Control) -> None:
    operations = [each for methods in control("GET", "/openapi.json")[1]["paths"].values() for each in methods.values()]
    assert all(each["summary"].endswith(".") for each in operations)
    assert len({each["operationId"] for each in operations}) == len(operations)


# The clock


@pytest.mark.parametrize("words", [{"clock": "manual"}, {}, {"speed": 100}], ids=["manual", "real", "scaled"])
def test_every_clock_can_be_advanced(seedbed: MockServer, control: Control, words: dict[str, Any]) -> None:
    seedbed.play(**words)
    before = control("GET", "/clock")[1]
    status, after = control("POST", "/clock", {"advance": 3600})
    assert status == 200
    assert after["speed"] == before["speed"] == words.get("speed", 0 if words.get("clock") else 1)
    assert after["now"] - before["now"] >= 3_600_000
    if words.get("clock"):
        assert control("GET", "/clock")[1] == after == {"now": before["now"] + 3_600_000, "speed": 0}


def test_a_manual_clock_advances_by_exactly_the_requested_time(seedbed: MockServer, control: Control) -> None:
    clock = ManualClock(start=1_000_000)
    seedbed.play(clock=clock)
    for advance in (0, 0.001, 59.999, 1):
        control("POST", "/clock", {"advance": advance})
    assert control("GET", "/clock")[1] == {"now": 1_000_061_000, "speed": 0}
    assert clock.now() == pytest.approx(1_000_061)


@pytest.mark.parametrize("advance", [-1, -0.001, 1e300, 315_360_001, "5", None, [], {}, True])
def test_a_clock_does_not_advance_by_an_invalid_time(seedbed: MockServer, control: Control, advance: object) -> None:
    seedbed.play(clock="manual")
    before = control("GET", "/clock")
    response = control("POST", "/clock", {"advance": advance})
    assert response[0] == 422
    assert "advance" in error_message(response)
    assert control("GET", "/clock") == before


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000])
def test_a_clock_does_not_advance_by_an_invalid_number(seedbed: MockServer, control: Control, number: str) -> None:
    seedbed.play(clock="manual")
    assert error_message(control("POST", "/clock", raw=f'{{"advance": {number}}}'.encode()))


def test_a_refused_advance_leaves_the_clock_although_a_callback_is_due_on_the_way(
    seedbed: MockServer, control: Control, create: Create
) -> None:
    seedbed.play(clock="manual", task_seconds=30)
    create(callBackUrl="http://127.0.0.1:9/")
    before = control("GET", "/clock")
    assert control("POST", "/clock", {"advance": 1e12})[0] == 422
    assert control("GET", "/clock") == before


# Spaces


def test_a_reset_deletes_everything(seedbed: MockServer, control: Control, create: Create, account: str) -> None:
    seedbed.play(**LARGE)
    for space in ("", "mine"):
        create(space=space)
    assert control("POST", "/reset") == (200, {"done": True})
    assert control("GET", "/tasks")[1] == {"tasks": []}
    assert control("GET", "/journal")[1] == {"entries": []}
    assert control("GET", "/health")[1]["spaces"] == ["default"]
    assert control("GET", f"/accounts/{account}")[1]["balance"] == 80


@pytest.mark.parametrize("place", ["body", "header"])
def test_a_reset_of_one_space_leaves_the_others(
    seedbed: MockServer, control: Control, create: Create, account: str, place: str
) -> None:
    seedbed.play(**LARGE)
    kept, _ = create(), create(space="mine")
    by_body = place == "body"
    control(
        "POST", "/reset", {"space": "mine"} if by_body else None, headers={} if by_body else {"X-Seedbed-Space": "mine"}
    )
    assert [each["task_id"] for each in control("GET", "/tasks")[1]["tasks"]] == [kept]
    assert {entry["space"] for entry in control("GET", "/journal")[1]["entries"]} == {"default"}
    assert control("GET", f"/accounts/{account}")[1]["balance"] == 80 - PRICE
    assert control("GET", f"/accounts/{account}", space="mine")[1]["balance"] == 80


@pytest.mark.parametrize("space", ["", "a b", "x" * 65, "../x", "灯", "a:b"])
def test_an_invalid_name_of_a_space_is_refused_everywhere(control: Control, account: str, space: str) -> None:
    for path in ("/tasks", "/journal", "/accounts", "/callbacks", f"/accounts/{account}"):
        assert error_message(control("GET", path, space=space))
    for path in ("/reset", "/verify"):
        assert error_message(control("POST", path, {"space": space}))


# Mistakes


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/clock", {"advance": 1, "seconds": 1}),
        ("POST", "/clock", {}),
        ("POST", "/reset", {"everything": True}),
        ("POST", "/verify", {"operations": "createTask"}),
        ("POST", "/reset", []),
        ("POST", "/reset", "x"),
        ("GET", "/tasks?status=success", None),
        ("GET", "/tasks?limit=0", None),
        ("GET", "/tasks?limit=1001", None),
        ("GET", "/tasks?limit=many", None),
        ("GET", "/journal?since=yesterday", None),
        ("GET", "/journal?kind=mail", None),
        ("GET", "/clock?now=1", None),
        ("GET", "/health?%FF=%00", None),
    ],
)
def test_unknown_and_invalid_parameters_are_refused(control: Control, method: str, path: str, body: object) -> None:
    name, _, query = path.partition("?")
    response = control(method, name, body, **dict([query.split("=")] if query else ()))
    assert response[0] == 422
    assert len(error_message(response)) < 300


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"nonsense",
        b'{"space": "\xff"}',
        b'{"space": "\\ud800"}',
        '{"space": null}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"space":' * 100_000,
        b'{"request":' + b"[" * 600 + b"]" * 600 + b"}",
        b"{" + b" " * 2 * 1024 * 1024 + b"}",
        b"\x00",
    ],
    ids=["cut", "words", "latin-1", "surrogate", "utf-16", "brackets", "braces", "deep", "2 MB", "nul"],
)
@pytest.mark.parametrize("path", ["/reset", "/clock"])
def test_a_body_that_cannot_be_parsed_is_refused_and_changes_nothing(
    seedbed: MockServer, control: Control, create: Create, path: str, raw: bytes
) -> None:
    task_id = create()
    response = control("POST", path, raw=raw)
    assert response[0] == 422
    assert len(error_message(response)) < 300
    assert seedbed.task(task_id)


def test_a_body_that_is_nested_too_deeply_is_refused(control: Control) -> None:
    for levels in (200, 500, 990, 100_000):
        raw = b'{"request": {"a":' + b"[" * levels + b"]" * levels + b"}}"
        status, content = control("POST", "/verify", raw=raw)
        assert status == 200 or (status == 422 and "nested deeper" in content["error"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/reset"), ("DELETE", "/tasks"), ("PUT", "/clock"), ("POST", "/health"), ("PATCH", "/openapi.json")],
)
def test_a_wrong_method_is_refused_with_the_right_one(control: Control, method: str, path: str) -> None:
    response = control(method, path)
    assert response[0] == 405
    valid = next((each.method for each in OPERATIONS if each.path == path), "GET")
    assert f"{valid} {ROOT}{path}" in error_message(response)


@pytest.mark.parametrize("path", ["", "/", "/nowhere", "/tasks/a/b", "/reset/", "/%2e%2e/x", "/" + "x" * 5000])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_refused_with_the_known_ones(control: Control, method: str, path: str) -> None:
    response = control(method, path)
    assert response[0] == 404
    message = error_message(response)
    assert all(f"{each.method} {ROOT}{each.path}" in message for each in OPERATIONS)


def test_an_internal_error_is_reported_in_a_sentence(
    seedbed: MockServer, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("seedbed_mock.state.Service.now", broken)
    response = http.get(f"{seedbed.url}/__seedbed/clock")
    assert response.status_code == 500
    assert list(response.json()) == ["error"]
    assert response.json()["error"].startswith("Internal error")
    assert [str(error) for error in seedbed.errors] == ["a bug"]
    seedbed.errors.clear()


def test_the_handle_raises_the_message(seedbed: MockServer) -> None:
    seedbed.play(clock="manual")
    with pytest.raises(ControlError, match=r"^The task nothing does not exist; list the tasks with GET tasks\.$"):
        seedbed.task("nothing")
    with pytest.raises(ControlError, match="control API"):
        seedbed.task("")
    with pytest.raises(ControlError, match="advance"):
        seedbed.advance(-1)


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", "/clock", {}, "Object missing required field `advance`."),
        ("POST", "/clock", {"advance": "5"}, "Expected `float`, got `str` for advance."),
        ("POST", "/clock", {"advance": -1}, "Expected `float` >= 0.0 for advance."),
        ("POST", "/clock", {"advance": 1, "by": 2}, "Object contains unknown field `by`."),
        ("POST", "/reset", [], "Expected `object`, got `array`."),
        (
            "POST",
            "/verify",
            {"times": 1, "at_most": 1},
            "Times cannot be combined with at_least or at_most; give one or the other.",
        ),
        ("GET", "/tasks/nothing", None, "The task nothing does not exist; list the tasks with GET tasks."),
        (
            "DELETE",
            "/clock",
            None,
            f"The control API has no operation DELETE {ROOT}/clock;"
            f" valid operations: GET {ROOT}/clock, POST {ROOT}/clock.",
        ),
    ],
)
def test_an_error_is_a_sentence(control: Control, method: str, path: str, body: object, message: str) -> None:
    assert error_message(control(method, path, body)) == message


def test_a_wrong_method_is_refused_with_the_allow_header(seedbed: MockServer, http: httpx2.Client) -> None:
    response = http.delete(f"{seedbed.url}{ROOT}/clock")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


def test_simultaneous_advances_of_a_clock_add_up(seedbed: MockServer) -> None:
    seedbed.play(clock=ManualClock(start=1000))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(seedbed.advance, [1.5] * 40))
    assert seedbed.control("GET", "clock")["now"] == 1_060_000
