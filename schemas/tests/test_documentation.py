"""``seedbed docs``, and the site: its anchors, its pages as Markdown, and ``llms.txt``."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from seedbed_mock.cli import main
from seedbed_schemas import documentation
from seedbed_schemas.documentation import UnknownTopicError, explain, pages, search, section, sections

ROOT = Path(__file__).parents[2]


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["docs", *words]) == code
    return capsys.readouterr().out


def test_every_page_of_the_folder_is_a_topic() -> None:
    assert [page.topic for page in pages()] == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
    assert all(page.level == 1 and page.title for page in pages())


def test_without_a_topic_the_pages_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    assert re.match(r"faults +Faults and scenarios$", next(line for line in lines if line.startswith("faults ")))
    listed = json.loads(printed(capsys, "--json"))["topics"]
    assert {"topic": "faults#effects", "title": "Effects"} in listed


@pytest.mark.parametrize("name", ["faults#effects", "faults.md#effects", "Faults#Effects", "#effects", "effects"])
def test_a_section_is_shown_as_markdown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, name)
    assert text.startswith("## Effects\n")
    assert "`callback.again`" in text
    assert "## Scenarios" not in text
    assert "<!--" not in text
    assert json.loads(printed(capsys, name, "--json"))["markdown"] == text


def test_a_heading_inside_of_a_code_block_is_none() -> None:
    assert "faults#burststoml" not in sections()
    assert "# bursts.toml" in section("faults#scenarios").markdown


def test_an_unknown_topic_names_similar_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", "fualts"]) == 2
    assert "did you mean faults?" in capsys.readouterr().err
    with pytest.raises(UnknownTopicError, match="seedbed docs lists the topics"):
        section("x" * 5000)


def test_an_error_text_is_found_as_it_was_printed(capsys: pytest.CaptureFixture[str]) -> None:
    text = "seedbed serve: cannot listen on 0.0.0.0 port 80: Permission denied."
    assert printed(capsys, "--search", *text.split()).startswith("### Address in use\n")
    found = json.loads(printed(capsys, "--search", text, "--json"))["results"]
    assert found[0]["topic"] == "troubleshooting#address-in-use"
    assert "seedbed health" in found[0]["step"]


def test_words_are_found_and_the_best_section_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert "callbacks#delivery-and-retries" in printed(capsys, "--search", "callback retries")
    assert search("frozen time")[0].topic == "testing#frozen-time"
    assert main(["docs", "--search", "xyzzy", "plugh"]) == 1
    assert "nothing is found" in capsys.readouterr().err


def test_a_terminal_gets_rendered_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    text = printed(capsys, "faults#effects")
    assert "## Effects" not in text
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize("question", ["", " ", "999", "no/such/clause", "\0", "…" * 50, "a" * 100_000])
def test_an_odd_question_is_answered_or_refused(question: str) -> None:
    try:
        assert explain(question).topic
    except UnknownTopicError as error:
        problem = str(error)
    else:
        problem = ""
    assert len(problem) < 300


def test_a_question_of_any_length_is_matched_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def occurs(_: tuple[str, ...], text: str) -> bool:
        looked_at.append(len(text))
        return False

    monkeypatch.setattr(documentation, "occurs_in", occurs)
    documentation.entry_of("cannot listen on " * 100_000)
    assert max(looked_at) <= 4000


@pytest.fixture(scope="module", name="site")
def build_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "properdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_each_page_as_markdown_and_a_list_of_them(site: Path) -> None:
    listed = dict(re.findall(r"^- \[([^\]]+)\]\(([^)]+)\): \S.+[.?]$", (site / "llms.txt").read_text(), re.MULTILINE))
    assert sorted(listed.values()) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    for name in listed.values():
        text = (site / name).read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert "<!--" not in text
        assert (site / name).with_suffix(".html").is_file()


@pytest.mark.slow
def test_the_anchors_of_topics_are_those_of_the_site(site: Path) -> None:
    anchors: dict[str, Any] = {
        page.topic: set(re.findall(r'<h[1-6] id="([^"]+)"', (site / f"{page.topic}.html").read_text(encoding="utf-8")))
        for page in pages()
    }
    topics = [topic.partition("#") for topic in sections() if "#" in topic]
    assert [topic for page, _, anchor in topics if anchor not in anchors[page] for topic in (page, anchor)] == []
