"""Contract files: every shipped file loads, and invalid files are rejected with one sentence."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seedbed_schemas import Contract, ContractError, default_contract, shipped_contracts

Change = Callable[[dict[str, Any]], object]


def document() -> dict[str, Any]:
    """Return a copy of the shipped contract that a test may change."""
    copy: dict[str, Any] = json.loads(json.dumps(default_contract().document))
    return copy


def test_the_default_contract_is_among_the_shipped_ones() -> None:
    assert default_contract().model in {contract.model for contract in shipped_contracts()}


def test_a_contract_file_loads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document()), encoding="utf-8")
    assert Contract.load(path).document == default_contract().document


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 100_000, '"\ud800"', "{} {}", "# Page\n", "\x00\xff"], ids=lambda text: repr(text)[:9]
)
def test_a_file_that_is_not_json_is_rejected(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ContractError) as error:
        Contract.load(path)
    assert str(error.value) == f"{path} is not a contract: it is not JSON."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda contract: contract.clear(), "title is required"),
        (lambda contract: contract.pop("title"), "title is required"),
        (lambda contract: contract.update(title=5), "title must be of type string"),
        (lambda contract: contract.pop("$defs"), "$defs is required"),
        (lambda contract: contract["$defs"].pop("answer"), "$defs.answer is required"),
        (lambda contract: contract["x-operation"].pop("path"), "x-operation.path is required"),
        (lambda contract: contract["x-operation"].update(server="ftp://a"), "x-operation.server"),
        (lambda contract: contract["x-codes"].clear(), "x-codes"),
        (lambda contract: contract["x-codes"][0].pop("name"), "x-codes.0.name is required"),
        (lambda contract: contract["$defs"]["request"]["properties"].pop("model"), "model is required"),
        (lambda contract: contract["$defs"]["request"].update(type="strong"), "request.type"),
        (lambda contract: contract["$defs"]["answer"].update(type="strong"), "not a valid JSON Schema rule"),
        (lambda contract: contract.update(title="another/model"), "differs from the model"),
    ],
)
def test_an_invalid_contract_is_rejected_with_the_reason(change: Change, message: str) -> None:
    changed = document()
    change(changed)
    with pytest.raises(ContractError) as error:
        Contract(changed)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_json_value_that_is_not_an_object_is_rejected() -> None:
    with pytest.raises(ContractError, match="must be of type object"):
        Contract([])  # type: ignore[arg-type]


def test_loading_a_contract_does_not_import_the_deriver() -> None:
    program = (
        "import sys; from seedbed_schemas import default_contract; default_contract();"
        "print(sorted({'seedbed_schemas.derive', 'markdown_it', 'yaml12', 'rich', 'jsonschema'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
