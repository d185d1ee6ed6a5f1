"""What the service tells of its models: the list of them, and the OpenAPI document of one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from seedbed_schemas.openapi import openapi_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas.contract import Contract


def models_data(contracts: Iterable[Contract]) -> dict[str, Any]:
    """Return the ``data`` that answers the request for the list of models."""
    models = [_model(contract.model) for contract in contracts]
    return {"total": len(models), "models": models}


def schema_data(contract: Contract) -> dict[str, Any]:
    """Return the ``data`` that answers the request for a model's schema; deriving from it gives the contract back."""
    return {"model": contract.model, "openapi": openapi_document(contract)}


def _model(model: str) -> dict[str, Any]:
    """Tell of a model what its name tells, such as ``maker/2-text-to-image``."""
    provider, _, name = model.rpartition("/")
    return {
        "model": model,
        "title": re.sub(r"[^\w.]+", " ", model).title(),
        "provider": provider or name,
        "taskType": re.findall(r"[a-z]+-to-[a-z]+", name),
        "description": f"Played by Seedbed from the contract of {model}.",
    }
