"""Database files that a store can use, and files that it refuses and leaves unchanged."""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from seedbed_mock import running
from seedbed_mock.accounts import Account
from seedbed_mock.cli import main
from seedbed_mock.stores.sqlite import SqliteStore
from seedbed_mock.stores.store import StoreError
from seedbed_mock.tasks import Task
from tests.stored_tasks import file_store

ACCOUNT = Account("one", "default", Decimal(1000), None, None, b"")
NOBODY = 65534

Damage = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _no_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the file was not refused")

    monkeypatch.setattr("seedbed_mock.serve.serve_until_signal", fail)


def fill(path: Path, tasks: int = 50) -> Path:
    with contextlib.closing(file_store(path, 100)) as store:
        for number in range(tasks):
            store.create(task(number), ACCOUNT)
    return path


def task(number: int) -> Task:
    return Task(
        task_id=f"task_{number}",
        space="default",
        account="one",
        model="m",
        request='"' + "x" * 500 + '"',
        result_name=f"{number}.jpg",
        base_url="http://127.0.0.1:1",
        price=Decimal(1),
        created=number,
        visible=number,
    )


def create_foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE tasks (task_id)")


def set_header(pragma: str) -> Damage:
    def damage(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(fill(path))) as database:
            database.execute(f"PRAGMA {pragma}")

    return damage


def overwrite(share: float, noise: bytes) -> Damage:
    def damage(path: Path) -> None:
        size = fill(path).stat().st_size
        with path.open("r+b") as file:
            file.seek(int(size * share))
            file.write(noise)

    return damage


def truncate(share: float) -> Damage:
    def damage(path: Path) -> None:
        os.truncate(path, int(fill(path).stat().st_size * share))

    return damage


DAMAGED: dict[str, tuple[Damage, str]] = {
    "text": (lambda path: path.write_text("my diary\n" * 999), "not a database"),
    "one byte": (lambda path: path.write_bytes(b"\0"), "another program"),
    "zeros": (lambda path: path.write_bytes(bytes(8192)), "not a database"),
    "only the header of SQLite": (lambda path: path.write_bytes(b"SQLite format 3\0"), "cannot be used"),
    "another program's": (create_foreign, "another program"),
    "another application": (set_header("application_id = 7"), "another program"),
    "newer": (set_header("user_version = 999"), "newer version of Seedbed"),
    "truncated to a half": (truncate(0.5), "malformed"),
    "truncated by a little": (truncate(0.99), "damaged"),
    "noise in the header": (overwrite(0, b"noise" * 20), "not a database"),
    "noise in the middle": (overwrite(0.5, b"noise" * 2000), "damaged"),
    "noise at the end": (overwrite(0.9, b"\xff" * 2000), "damaged"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_or_foreign_file_is_refused_and_left_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "a file.db"
    damage, words = DAMAGED[kind]
    damage(path)
    before = path.read_bytes()
    assert main(["serve", "--port", "0", "--db", str(path)]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 2)
    assert errors.startswith("seedbed serve: The database ")
    assert str(path) in errors
    assert words in errors
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208 (names are compared)


PATHS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a directory": (lambda folder: folder, "is a directory"),
    "nothing": (lambda _: Path(), "is a directory"),
    "in no directory": (lambda folder: folder / "no" / "x.db", "does not exist"),
    "in a file": (lambda folder: fill(folder / "x.db") / "y.db", "does not exist"),
    "a name too long": (lambda folder: folder / ("x" * 300), "too long"),
    "a device": (lambda _: Path(os.devnull), "not a regular file"),
    "with a NUL": (lambda folder: folder / "a\0b", "NUL"),
}


@pytest.mark.parametrize("kind", PATHS)
def test_a_path_that_cannot_be_a_file_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path_in, words = PATHS[kind]
    assert main(["serve", "--port", "0", "--db", str(path_in(tmp_path))]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 2)
    assert words in errors


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Run a block as an unprivileged user if the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize(
    ("folder_mode", "file_mode"), [(0o500, None), (0o755, 0o400), (0o755, 0o000), (0o555, 0o666), (0o000, 0o666)]
)
def test_a_path_without_write_permission_is_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, folder_mode: int, file_mode: int | None
) -> None:
    folder = Path(tmp_path_factory.mktemp("rights", numbered=True)).resolve()
    path = folder / "x.db"
    if file_mode is not None:
        fill(path).chmod(file_mode)
    if os.geteuid() == 0 and file_mode == 0o400:
        os.chown(path, NOBODY, NOBODY)
    folder.chmod(folder_mode)
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    try:
        with without_privileges(), pytest.raises(StoreError, match=r"cannot be used: .*\.$"):
            SqliteStore(path, 100)
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "a%20b?c#d.db", "灯.db", "-x"])
def test_a_file_can_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path(name), 1)
    with contextlib.closing(file_store(Path(name), 100)) as store:
        assert store.find("task_0")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_empty_file_is_used(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch()
    with contextlib.closing(file_store(fill(path), 100)) as store:
        assert len(store.page(limit=99)) == 50


def test_a_closed_store_leaves_one_file(tmp_path: Path) -> None:
    fill(tmp_path / "x.db")
    assert [path.name for path in tmp_path.iterdir()] == ["x.db"]


def test_an_unusable_file_is_refused_in_python(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory"), running(db=tmp_path):
        pass


def test_a_file_without_the_index_of_spaces_gets_it(tmp_path: Path) -> None:
    path = fill(tmp_path / "x.db")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DROP INDEX spaces")
    with contextlib.closing(file_store(path, 100)) as store:
        assert len(store.page("default", limit=99)) == len(store.page(limit=99)) == 50
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT 1 FROM sqlite_master WHERE name = 'spaces'").fetchone()
