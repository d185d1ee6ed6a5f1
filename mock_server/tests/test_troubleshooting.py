"""Every error text that the product can print has an entry on the page on troubleshooting, and no other has one."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from seedbed_mock import MockServer
from seedbed_mock.cli import make_app
from seedbed_mock.subcommands import SUBCOMMANDS, Subcommand
from seedbed_schemas import commands
from seedbed_schemas.documentation import PART, DocsSection, entry_of, explain, sections, topic_of
from tests.error_texts import PACKAGES, ROOT, error_texts

ENTRIES = [section for section in sections().values() if section.texts]
LISTED = [text for entry in ENTRIES for text in entry.texts]


def test_the_texts_of_the_code_and_of_the_page_are_the_same() -> None:
    texts = error_texts()
    missing = {text: place for text, place in texts.items() if text not in LISTED}
    assert missing == {}, "add them to an entry of docs/troubleshooting.md"
    assert [text for text in LISTED if text not in texts] == [], "the code does not print these any more"


def test_no_text_is_listed_twice() -> None:
    assert [text for text, count in Counter(LISTED).items() if count > 1] == []


def test_the_collector_follows_names_functions_and_choices() -> None:
    texts = error_texts()
    assert len(texts) > 500
    assert "another server listens there" in texts  # chosen by a condition
    assert "unknown effect …; valid effects: …" in texts  # raised
    assert "task … failed with …: …" in texts  # worded by the exception itself
    assert "Your call frequency is too high. Please try again later" in texts  # of a dialect


@pytest.mark.parametrize("filled", ["x1", "/home/me/a b.json", "http://127.0.0.1:8721"])
def test_a_printed_text_leads_to_its_entry(filled: str) -> None:
    for entry in ENTRIES:
        for text in entry.texts:
            printed = f"seedbed serve: {text.replace(PART, filled)}"
            assert (found := entry_of(printed)), printed
            assert text in found.texts or entry.texts == found.texts, f"{printed}: {found.topic}"


def test_line_breaks_quotation_marks_and_other_lines_do_not_matter() -> None:
    printed = (
        "$ seedbed serve\nseedbed serve: cannot listen on 127.0.0.1\n  port 8721: “another server\nlistens there”.\n"
    )
    assert topic_of(printed) == "troubleshooting#address-in-use"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.topic.partition("#")[2])
def test_an_entry_has_causes_and_one_step(entry: DocsSection) -> None:
    text = re.sub(r"```text\n.*?```", "", entry.markdown, flags=re.DOTALL)
    assert text.count("**Find out:**") == 1
    assert entry.step
    causes = text.split("**Find out:**")[0].splitlines()
    assert len(" ".join(causes[1:]).split()) >= 8
    assert "`" in entry.step or "Print" in entry.step or "Search" in entry.step


def flags_and_names() -> tuple[set[str], set[str]]:
    app: Any = make_app()
    names, flags = set(), {"--help", "--version", "--install-completion"}
    for name in app:
        if not name.startswith("-"):
            inner = [word for word in app[name] if not word.startswith("-")]
            names |= {name, *(f"{name} {word}" for word in inner)}
            for command in [app[name][word] for word in inner] or [app[name]]:
                flags |= {flag for argument in command.assemble_argument_collection() for flag in argument.names}
    return names, flags


def test_the_commands_of_the_steps_exist() -> None:
    names, flags = flags_and_names()
    steps = [code for entry in ENTRIES for code in re.findall(r"`(seedbed [^`]+)`", entry.markdown)]
    assert len(steps) > 40
    for step in steps:
        words = re.findall(r"[a-z-]+", step.removeprefix("seedbed ").split(" -- ")[0])
        assert step.startswith(("seedbed COMMAND", "seedbed --")) or {words[0], " ".join(words[:2])} & names, step
        assert {word.partition("=")[0] for word in step.split() if word.startswith("--") and word != "--"} <= flags, (
            step
        )


def test_the_members_of_a_server_that_steps_name_exist() -> None:
    page = sections()["troubleshooting"].markdown
    named = set(re.findall(r"`seedbed\.(\w+)(?:\(\))?`", page)) - {"inbox"}
    assert named
    assert {name for name in named if not isinstance(getattr(MockServer, name), property)} == set()


@pytest.mark.parametrize("code", ["400", "401", "402", "404", "422", "429", "455", "500", "501", "505"])
def test_every_documented_code_is_explained(code: str) -> None:
    assert explain(code).title == explain(f"code {code}").title == f"Code {code}"


def test_a_clause_is_explained_with_its_place_and_what_holds_it() -> None:
    found = explain("input.prompt/maxLength")
    assert "3000" in found.markdown
    assert "最大长度" in found.markdown
    assert "| **proven** |" in explain("code/402").markdown


def test_every_topic_that_the_code_names_exists() -> None:
    named = {
        (path.name, topic)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for topic in re.findall(r"docs=\"([^\"]+)\"", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 2
    assert {topic for _, topic in named if topic not in sections()} == set()


@pytest.mark.parametrize("subcommand", SUBCOMMANDS, ids=lambda each: each.name.replace(" ", "-"))
def test_an_error_without_an_entry_names_a_page_that_exists(subcommand: Subcommand) -> None:
    (line,) = commands.error_lines(subcommand.name, "xyzzy")[1:] or [""]
    assert line.removeprefix("docs: ") in sections()


def test_an_error_names_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    commands.fail("serve", "cannot listen on 127.0.0.1 port 1: another server listens there")
    assert capsys.readouterr().err.splitlines()[1] == "docs: troubleshooting#address-in-use"
