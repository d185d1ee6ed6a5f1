"""``seedbed derive`` through the front door: input and output files, and errors of one sentence."""

import io
import os
import sys
from pathlib import Path

import pytest
from seedbed_mock.cli import main

SMALL_PAGE = Path(__file__).parent / "pages" / "tables.zh.md"


def test_the_contract_is_written_to_standard_output_by_default(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["derive", str(SMALL_PAGE)]) == 0
    assert b'"title": "meadow/1-sketch"' in capsysbinary.readouterr().out


def test_a_page_is_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["derive", str(SMALL_PAGE)]) == 0
    from_file = capsysbinary.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SMALL_PAGE.read_bytes())))
    assert main(["derive", "-"]) == 0
    assert capsysbinary.readouterr().out == from_file


def test_an_output_file_is_replaced_atomically(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    target = tmp_path / "contract.json"
    target.write_text("old")
    assert main(["derive", str(SMALL_PAGE), "-o", str(target)]) == 0
    assert main(["derive", str(SMALL_PAGE)]) == 0
    assert target.read_bytes() == capsysbinary.readouterr().out
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (b"", "is empty"),
        (b"# Nothing here\n", "section"),
        (b"\x7fELF\xff\x00", "UTF-8"),
        (SMALL_PAGE.read_bytes().replace(b"| `words` |", b"|"), "the type"),
        (SMALL_PAGE.read_text(encoding="utf-8").encode("utf-16"), "UTF-8"),
    ],
    ids=["empty", "another page", "binary", "a cell missing", "utf-16"],
)
def test_an_invalid_page_is_one_sentence_and_keeps_the_output_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], page: bytes, words: str
) -> None:
    source, target = tmp_path / "page.md", tmp_path / "contract.json"
    source.write_bytes(page)
    target.write_text("old")
    assert main(["derive", str(source), "-o", str(target)]) == 2
    output, errors = capsys.readouterr()
    assert (output, target.read_text()) == ("", "old")
    assert errors.startswith("seedbed derive: ")
    assert errors.count("\n") == 2
    assert words in errors


@pytest.mark.parametrize("arguments", [["nowhere.md"], ["."], ["PAGE", "-o", "nowhere/c.json"], ["PAGE", "-o", "."]])
def test_an_unusable_file_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["derive", *(str(SMALL_PAGE) if word == "PAGE" else word for word in arguments)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device", "contract.json")

    monkeypatch.setattr(os, "fsync", disk_full)
    assert main(["derive", str(SMALL_PAGE), "-o", str(tmp_path / "contract.json")]) == 2
    assert "No space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(["derive", str(SMALL_PAGE), "-o", str(tmp_path / "contract.json")]) == 2
    assert "Permission denied" in capsys.readouterr().err
