"""The reference client of the Seedream job API."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from seedbed_client.client import SeedreamClient
from seedbed_client.models import Task, TaskState
from seedbed_client.rhythm import Rhythm, Step

if TYPE_CHECKING:
    from seedbed_client.async_client import AsyncSeedreamClient
    from seedbed_client.callbacks import Callback, parse_callback, verify_callback
    from seedbed_client.errors import (
        ERRORS,
        ApiError,
        BrokenResult,
        CallbackError,
        ConfigurationError,
        FeatureDisabled,
        GenerationFailed,
        InsufficientCredits,
        NotFound,
        RateLimited,
        SeedreamError,
        ServerError,
        ServiceUnavailable,
        SignatureMismatch,
        Stale,
        SubmissionUnknown,
        Unauthorized,
        UnreadableAnswer,
        UnreadableCallback,
        ValidationError,
        WaitTimeout,
    )
    from seedbed_client.receiver import CallbackReceiver

__all__ = [
    "ERRORS",
    "ApiError",
    "AsyncSeedreamClient",
    "BrokenResult",
    "Callback",
    "CallbackError",
    "CallbackReceiver",
    "ConfigurationError",
    "FeatureDisabled",
    "GenerationFailed",
    "InsufficientCredits",
    "NotFound",
    "RateLimited",
    "Rhythm",
    "SeedreamClient",
    "SeedreamError",
    "ServerError",
    "ServiceUnavailable",
    "SignatureMismatch",
    "Stale",
    "Step",
    "SubmissionUnknown",
    "Task",
    "TaskState",
    "Unauthorized",
    "UnreadableAnswer",
    "UnreadableCallback",
    "ValidationError",
    "WaitTimeout",
    "parse_callback",
    "verify_callback",
]

_MODULES: Final = {
    "AsyncSeedreamClient": "async_client",
    "Callback": "callbacks",
    "CallbackReceiver": "receiver",
    "parse_callback": "callbacks",
    "verify_callback": "callbacks",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: programs that block need no other client, and those that poll no callbacks.
    if name not in __all__:
        raise AttributeError(f"module 'seedbed_client' has no attribute {name!r}")
    return getattr(import_module(f"seedbed_client.{_MODULES.get(name, 'errors')}"), name)
