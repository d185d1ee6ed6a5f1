"""A page that contradicts itself is derived, and each contradiction is reported by its place."""

from pathlib import Path

import pytest
from seedbed_mock.cli import main
from seedbed_schemas.derive import derive_page

PAGES = Path(__file__).parent / "pages"
README = (PAGES / "layouts" / "readme.en.md").read_text(encoding="utf-8")
TABLES = (PAGES / "layouts" / "tables-dotted.zh.md").read_text(encoding="utf-8")
OPENAPI = (PAGES / "collage" / "openapi.en.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "found", "put", "places", "what"),
    [
        (README, '"size": "wide"', '"size": "round"', ["Request Example"], "input.size/enum"),
        (README, '"strength": 0.5', '"strength": 7', ["Request Example"], "input.strength/maximum"),
        (README, '    "prompt": "It\'s a hill with sheep.",\n', "", ["Request Example"], "input/required/prompt"),
        (README, '"model": "meadow/3-film"', '"model": "meadow/2"', ["Request Example"], "the model 'meadow/2'"),
        (README, '"taskId": "281e5b0*********************f39b9"', '"taskId": 5', ["Response Example"], "taskId/type"),
        (
            README,
            '**Default Value**: `"square"`',
            '**Default Value**: `"round"`',
            ["input.size"],
            "the default 'round'",
        ),
        (TABLES, "默认值：`0.5`", "默认值：`9`", ["input.strength"], "at most 1"),
        (TABLES, "| input.seed |", "| ` input.seed` |", ["Body"], "'seed'"),
        (OPENAPI, "        words:\n", "        'words ':\n", ["/paths/"], "has a blank at an end"),
        (OPENAPI, "default: 0.5", "default: 5", ["input.strength"], "the default 5"),
    ],
)
def test_a_contradiction_is_reported_by_its_place(
    page: str, found: str, put: str, places: list[str], what: str
) -> None:
    assert found in page
    contradictions = derive_page(page.replace(found, put, 1)).contradictions
    assert any(what in phrase and all(place in phrase for place in places) for phrase in contradictions), contradictions


def test_an_example_beside_a_schema_is_checked() -> None:
    example = 'example: {model: meadow/1, input: {words: "a hill", copies: "9", pictures: []}}'
    own = "example:\n              model: meadow/2-collage"
    assert own in OPENAPI
    page = OPENAPI.replace(own, example)
    contradictions = derive_page(page).contradictions
    assert any("is for the model 'meadow/1'" in phrase for phrase in contradictions)
    assert any(
        "input.copies/enum" in phrase and "content/application~1json/example" in phrase for phrase in contradictions
    )


def test_a_name_with_a_blank_is_read_without_it() -> None:
    page = OPENAPI.replace("        words:\n", "        'words ':\n", 1)
    fields = derive_page(page).contract["$defs"]["request"]["properties"]["input"]
    assert "words" in fields["properties"]
    assert "words" in fields["required"]


def test_strict_fails_on_a_contradiction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(README.replace('"size": "wide"', '"size": "round"'), encoding="utf-8")
    assert main(["derive", str(page)]) == 0
    assert "seedbed derive: contradiction: the example under 'Request Example' (line " in capsys.readouterr().err
    assert main(["derive", str(page), "--strict"]) == 1
    page.write_text(README, encoding="utf-8")
    assert main(["derive", str(page), "--strict"]) == 0
