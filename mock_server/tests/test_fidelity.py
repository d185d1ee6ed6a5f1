"""docs/fidelity.md covers everything that the server does, and every row has evidence that exists."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from seedbed_mock.faults.rules import EFFECTS
from seedbed_schemas import default_contract, job_api

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[1] / "generate_fidelity.py"
ROW = {"says": "It works.", "basis": "guessed", "source": "Chosen.", "checks": ["requests.refused"]}


@pytest.fixture(scope="module", name="fidelity")
def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_fidelity", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate_fidelity"] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_its_data_make(fidelity: ModuleType) -> None:
    assert fidelity.PAGE.read_text(encoding="utf-8") == fidelity.generate()


def test_what_rows_have_to_cover_is_all_that_the_program_has(fidelity: ModuleType) -> None:
    known = set(fidelity.known_sources())
    contract = default_contract()
    assert {clause.id for clause in (*contract.clauses(), *job_api().clauses())} <= known
    assert {f"code/{code.number}" for code in contract.codes} <= known
    assert {f"effect {name}" for name in EFFECTS} <= known
    assert {"setting rate_limit", "key signing_key", "limit results", "case observed/key_refused"} <= known


@pytest.mark.parametrize("name", ["code/402", "effect task.lost", "setting cors", "case observed/url_wrong"])
def test_a_part_that_no_row_covers_is_refused(
    fidelity: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = fidelity.DATA.read_text(encoding="utf-8").replace(f'"{name}"', '"code/200"')
    (tmp_path / "fidelity.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(fidelity, "DATA", tmp_path / "fidelity.toml")
    with pytest.raises(fidelity.FidelityError, match=f"No row covers {name}"):
        fidelity.generate()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"checks": []}, "has no evidence"),
        ({"tests": ["test_codes::test_nothing_of_this_name"]}, "names the test .* does not exist"),
        ({"checks": ["requests.nothing"]}, "names the check .* does not exist"),
        ({"covers": ["code/999"]}, "covers 'code/999', which does not exist"),
        ({"basis": "certain"}, "use one of proven"),
        ({"source": ""}, "has no source"),
        ({"basis": "proven"}, "is not proven"),
        ({"basis": "observed"}, "is not observed"),
        ({"basis": "proven", "covers": ["life/forward"]}, "is not proven"),
        ({"basis": "observed", "covers": ["case observed/request_invalid"]}, "is not observed"),
        ({"basis": "observed", "covers": ["case observed/feature_disabled"]}, "is not observed"),
    ],
)
def test_a_row_without_evidence_is_refused(fidelity: ModuleType, change: dict[str, Any], problem: str) -> None:
    known, tests = fidelity.known_sources(), fidelity.known_tests()
    fidelity.check_row(ROW, known, tests)
    with pytest.raises(fidelity.FidelityError, match=problem):
        fidelity.check_row(ROW | change, known, tests)


def test_a_page_that_is_out_of_date_fails_the_check(
    fidelity: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "PAGE", tmp_path / "fidelity.md")
    monkeypatch.setattr(fidelity, "ROOT", tmp_path)
    monkeypatch.setattr(fidelity, "generate", lambda: "new\n")
    assert fidelity.main(["--check"]) == 1
    assert not list(tmp_path.iterdir())
    assert fidelity.main([]) == 0
    assert fidelity.main(["--check"]) == 0
