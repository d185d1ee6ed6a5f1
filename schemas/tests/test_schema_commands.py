"""The commands derive, clauses and openapi: output, files and exit codes."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclopts import App
from seedbed_schemas import Contract, default_contract
from seedbed_schemas.cli import clauses, derive, openapi

PAGES = Path(__file__).parent / "pages"
PAGE = PAGES / "collage" / "tables.en.md"
NEWER = PAGE.read_text(encoding="utf-8").replace("**Maximum length:** `40`", "**Maximum length:** `50`")

Run = Callable[..., int]


@pytest.fixture
def run() -> Run:
    app = App(name="seedbed", result_action="return_value")
    for command in (derive, clauses, openapi):
        app.command(command)
    return lambda *tokens: int(app([str(token) for token in tokens]))


@pytest.fixture
def contract(tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "contract.json"
    assert run("derive", PAGE, "-o", path) == 0
    return path


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    path = tmp_path / "newer.md"
    path.write_text(NEWER, encoding="utf-8")
    return path


def test_derive_writes_a_contract_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = tmp_path / "contract.json"
    assert run("derive", PAGE, "-o", contract) == 0
    assert Contract.load(contract).model == "meadow/2-collage"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "seedbed derive: limit stated only in prose: input.layers maxItems 5",
        "seedbed derive: limit stated only in prose: input.caption maxLength 80",
    ]
    assert [path.name for path in contract.parent.iterdir()] == [contract.name]


def test_derive_reads_standard_input_with_a_byte_order_mark(
    run: Run, contract: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + PAGE.read_bytes())))
    assert run("derive", "--strict", "-") == 0
    assert capsysbinary.readouterr().out == contract.read_bytes()


def test_unknown_statements_are_printed_and_fail_only_with_strict(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(NEWER.replace("**Maximum length:**", "**Mood:**"), encoding="utf-8")
    assert run("derive", page) == 0
    assert (
        "seedbed derive: not recognized: 'Mood' of 'words' under 'input object properties'\n" in capsys.readouterr().err
    )
    assert run("derive", page, "--strict") == 1


def test_check_passes_for_a_page_with_the_same_facts(
    run: Run, contract: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contract.read_bytes()
    capsys.readouterr()
    assert run("derive", PAGES / "collage" / "bullets.zh.md", "--check", contract) == 0
    assert capsys.readouterr().out == ""
    assert contract.read_bytes() == before


def test_check_prints_one_line_for_each_difference(
    run: Run, contract: Path, newer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("derive", newer, "--check", contract) == 1
    assert capsys.readouterr().out == (
        "changed input.words/maxLength (40 -> 50): compatible for clients, breaking for servers\n"
    )


def test_check_may_also_write_the_new_contract(run: Run, contract: Path, newer: Path) -> None:
    assert run("derive", newer, "--check", contract, "-o", contract) == 1
    assert run("derive", newer, "--check", contract) == 0


@pytest.mark.parametrize("content", ["", "{}", "no contract", '{"title": 1}'])
def test_check_rejects_a_file_that_is_not_a_contract(
    run: Run, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "contract.json"
    path.write_text(content, encoding="utf-8")
    assert run("derive", PAGE, "--check", path) == 2
    assert capsys.readouterr().err.startswith(f"seedbed derive: {path} is not a contract: ")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.exists(), "No such file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00junk\x9c"), "not text in UTF-8"),
        (lambda path: path.write_bytes(b"\x00\x01\x02"), "not text"),
        (lambda path: path.write_bytes(b"word " * 1_000_000), "is longer than"),
        (lambda path: path.write_bytes("草".encode() * 1_700_000), "is longer than"),
        (lambda path: path.write_bytes(b"[" * 5_000), "no section"),
        (lambda path: path.write_bytes(b"[" * 50_000), "more than 32768 characters in a line"),
        (lambda path: path.write_bytes(b"[\n" * 50_000), "more than 20000 marks"),
    ],
)
def test_an_invalid_page_is_rejected_and_the_output_is_unchanged(
    contract: Path, tmp_path: Path, make: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = tmp_path / "page", contract.read_bytes()
    make(path)
    capsys.readouterr()
    assert derive(str(path), output=contract) == 2
    sentence, _ = capsys.readouterr().err.splitlines()
    assert sentence.startswith("seedbed derive: ")
    assert message in sentence
    assert contract.read_bytes() == before


@pytest.mark.parametrize("name", ["tables.zh.md", "bullets.en.md", "headings.zh.md", "openapi.en.md", "answer.json"])
def test_a_truncated_page_gives_a_valid_contract_or_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, page, target = (PAGES / "collage" / name).read_bytes(), tmp_path / "page", tmp_path / "contract.json"
    for length in range(0, len(content), 50):
        page.write_bytes(content[:length])
        target.unlink(missing_ok=True)
        code = derive(str(page), output=target)
        assert code in {0, 2}
        assert target.exists() == (code == 0)
        if code == 0:
            Contract.load(target)
        else:
            sentence, _ = capsys.readouterr().err.splitlines()
            assert sentence.endswith(".")
        capsys.readouterr()


@pytest.mark.parametrize("where", ["missing/contract.json", "page.md/contract.json", "folder"])
def test_an_unwritable_path_is_named(run: Run, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.md").write_bytes(PAGE.read_bytes())
    (tmp_path / "folder").mkdir()
    assert run("derive", tmp_path / "page.md", "-o", tmp_path / where) == 2
    assert str((tmp_path / where).parent) in capsys.readouterr().err.splitlines()[-2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "page.md"]


def test_clauses_prints_a_table(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("clauses") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(default_contract().clauses())
    assert lines[0].split() == ["clause", "kind", "value", "place"]
    assert any(line.startswith("input.prompt/maxLength ") and "最大长度" in line for line in lines)


@pytest.mark.parametrize("given", [[], ["seedream/4.5-text-to-image"]])
def test_clauses_prints_json(run: Run, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("clauses", *given, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [clause.to_json() for clause in default_contract().clauses()]


def test_clauses_accepts_a_contract_file(run: Run, contract: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("clauses", contract) == 0
    assert "input.layers[].visible/default" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["clauses", "openapi"])
def test_an_unknown_model_is_rejected_with_the_known_ones(
    run: Run, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "meadow/9") == 2
    shipped = default_contract().model
    sentence = f"No model or contract file is named 'meadow/9'. Built-in models: {shipped}."
    assert capsys.readouterr().err.splitlines()[0] == f"seedbed {command}: {sentence}"


@pytest.mark.parametrize("status", ["envelope", "mirror"])
def test_the_same_contract_is_derived_from_the_openapi_document(
    run: Run, contract: Path, tmp_path: Path, status: str
) -> None:
    document, again = tmp_path / "openapi.json", tmp_path / "again.json"
    assert run("openapi", contract, "--http-status", status, "-o", document) == 0
    assert run("derive", document, "--strict", "-o", again) == 0
    assert again.read_bytes() == contract.read_bytes()


def test_openapi_prints_the_document(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("openapi") == 0
    assert json.loads(capsys.readouterr().out)["info"]["title"] == default_contract().model
