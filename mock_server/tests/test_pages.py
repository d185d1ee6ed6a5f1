"""The pages of the lists of the control API: together they are the whole list, and each costs what it shows."""

from collections import Counter
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import pytest
from seedbed_mock import MockServer
from seedbed_mock import journal as journal_module
from seedbed_mock.accounts import Space, Spaces
from seedbed_mock.journal import Journal, JournalBudget, JournalEntry
from seedbed_schemas import job_api

CREDIT = job_api().credit.path

Control = Callable[..., tuple[int, Any]]
Call = Callable[..., Any]


def pages(control: Control, path: str, cursor: str, **query: object) -> Iterator[dict[str, Any]]:
    """Yield the pages of a list."""
    page = control("GET", path, **query)[1]
    yield page
    while cursor in page:
        page = control("GET", path, **query, **{cursor: page[cursor]})[1]
        yield page


def numbers_of(pages: Iterator[dict[str, Any]]) -> list[int]:
    """Return the numbers of the entries of pages, oldest first."""
    return [entry["number"] for page in reversed(list(pages)) for entry in page["entries"]]


def add(journal: Journal, times: int = 1, operation: str = "credit") -> None:
    for _ in range(times):
        journal.add(JournalEntry(number=journal.next_number(), at=0, kind="call", operation=operation))


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What is looked at in the journals: numbers of entries, and entries that are searched."""
    counted: Counter[str] = Counter()
    find, read = Journal.find, attrgetter("number")

    def counting_find(self: Journal, number: int) -> JournalEntry | None:
        counted["found"] += 1
        return find(self, number)

    def counting_read(entry: JournalEntry) -> int:
        counted["read"] += 1
        return int(read(entry))

    monkeypatch.setattr(Journal, "find", counting_find)
    monkeypatch.setattr(journal_module, "_number_of", counting_read)
    return counted


# The journal


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("space", [None, "default", "space-1", "nobodys"])
def test_the_pages_of_the_journal_are_the_whole_journal(
    control: Control, call: Call, space: str | None, limit: int
) -> None:
    for number in range(11):
        call("GET", CREDIT, X_Seedbed_Space="default" if number % 3 == 2 else f"space-{number % 3}")
    query = {"space": space} if space else {}
    whole = control("GET", "/journal", limit=1000, **query)[1]
    assert "before" not in whole
    listed = list(pages(control, "/journal", "before", limit=limit, **query))
    assert numbers_of(iter(listed)) == [entry["number"] for entry in whole["entries"]]
    assert all(len(page["entries"]) <= limit for page in listed)


def test_a_filtered_list_looks_at_a_bounded_number_of_entries_and_goes_on(
    seedbed: MockServer, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedbed_mock.control.api._SCANNED_ENTRIES", 20)
    spaces = seedbed._service.spaces
    add(spaces.named("old").journal, operation="models")
    for number in range(60):
        add(spaces.named(f"space-{number % 7}").journal)
    first = control("GET", "/journal", operation="models")[1]
    assert first["entries"] == []
    assert "before" in first
    assert numbers_of(pages(control, "/journal", "before", operation="models")) == [1]


def test_the_entries_of_other_spaces_that_are_gone_are_not_listed(seedbed: MockServer, control: Control) -> None:
    spaces = seedbed._service.spaces
    for name in ("one", "two", "one", "two", "three"):
        add(spaces.named(name).journal)
    seedbed.reset(space="one")
    assert numbers_of(pages(control, "/journal", "before", limit=1)) == [2, 4, 5]
    add(spaces.named("one").journal)
    assert numbers_of(pages(control, "/journal", "before", limit=2)) == [2, 4, 5, 6]


@pytest.mark.parametrize("space", [None, "space-3"])
@pytest.mark.parametrize("depth", [0.1, 0.5, 0.99])
def test_a_page_of_the_journal_costs_what_it_shows(
    seedbed: MockServer, control: Control, counts: Counter[str], space: str | None, depth: float
) -> None:
    spaces, names = seedbed._service.spaces, [f"space-{number}" for number in range(30)]
    for name in names * 100:
        add(spaces.named(name).journal)
    counts.clear()
    before = round(3000 * depth)
    page = control("GET", "/journal", limit=10, before=before, **({"space": space} if space else {}))[1]
    assert len(page["entries"]) == min(10, before // 30 if space else 10)
    assert counts["found"] <= 11
    assert counts["read"] <= 11 * 10


def test_an_entry_costs_the_same_however_many_there_are(counts: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    clean = JournalBudget._remove_empty_places

    def counting(budget: JournalBudget) -> None:
        looked_at.append(len(budget._numbers))
        clean(budget)

    monkeypatch.setattr(JournalBudget, "_remove_empty_places", counting)
    budget = JournalBudget()
    quiet, busy = Journal(budget), Journal(budget)
    add(quiet, 10)
    add(busy, 30_000)
    assert sum(looked_at) <= 2 * 30_000
    assert len(budget._numbers) <= 2 * 1010 + 1000
    assert not counts
    # The oldest entries are found again, although thousands of dropped ones lie between.
    alive = [entry.number for _, (_, entry) in budget.newest_first() if entry]
    assert alive == [*range(30_010, 29_010, -1), *range(10, 0, -1)]


# Accounts


@pytest.mark.seedbed(key=["one", "two", "three"])
@pytest.mark.parametrize("limit", [1, 2, 4, 100])
def test_the_pages_of_the_accounts_are_all_accounts(control: Control, call: Call, limit: int) -> None:
    for space in ("b", "a", "default", "c"):
        call("GET", CREDIT, key="two", X_Seedbed_Space=space)
    whole = control("GET", "/accounts", limit=1000)[1]
    assert "after" not in whole
    assert [each["space"] for each in whole["accounts"]][::3] == ["default", "b", "a", "c"]
    listed = list(pages(control, "/accounts", "after", limit=limit))
    assert [account for page in listed for account in page["accounts"]] == whole["accounts"]
    assert all(len(page["accounts"]) <= limit for page in listed)
    of_one = [
        account for page in pages(control, "/accounts", "after", limit=limit, space="a") for account in page["accounts"]
    ]
    assert of_one == [each for each in whole["accounts"] if each["space"] == "a"]
    assert control("GET", "/accounts", space="nobodys")[1] == {"accounts": []}


@pytest.mark.seedbed(key=["one", "two"])
def test_pages_of_accounts_do_not_move_when_a_space_is_used_or_deleted(
    seedbed: MockServer, control: Control, call: Call
) -> None:
    for space in ("a", "b", "c"):
        call("GET", CREDIT, key="one", X_Seedbed_Space=space)
    first = control("GET", "/accounts", limit=3)[1]
    call("GET", CREDIT, key="one", X_Seedbed_Space="a")
    seedbed.reset(space="b")
    rest = control("GET", "/accounts", after=first["after"])[1]["accounts"]
    assert [each["space"] for each in first["accounts"] + rest] == ["default", "default", "a", "a", "c", "c"]


def test_a_page_of_accounts_looks_at_no_other_space(
    seedbed: MockServer, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaces = seedbed._service.spaces
    for number in range(1, 901):
        spaces.named(f"space-{number}")
    read: list[str] = []

    class Counted(dict[int, Space]):
        def __getitem__(self, number: int) -> Space:
            read.append(str(number))
            return super().__getitem__(number)

    monkeypatch.setattr(spaces, "_numbered", Counted(spaces._numbered))
    monkeypatch.setattr(Spaces, "all", lambda _: pytest.fail("all spaces are listed"))
    page = control("GET", "/accounts", after=850, limit=5)[1]
    assert [each["space"] for each in page["accounts"]] == [f"space-{number}" for number in range(851, 856)]
    assert len(read) <= 6


@pytest.mark.parametrize("query", [{"after": -1}, {"after": "x"}, {"after": 2**63}, {"before": 1}])
def test_an_invalid_cursor_of_accounts_is_refused(control: Control, query: dict[str, Any]) -> None:
    status, answer = control("GET", "/accounts", **query)
    assert status == 422
    assert next(iter(query)) in answer["error"]
