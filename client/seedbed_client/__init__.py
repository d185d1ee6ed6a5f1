"""The reference client of the Seedream job API."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from seedbed_client._client import SeedreamClient, TaskHandle
from seedbed_client._polling import PollingSchedule, PollingStep
from seedbed_client.models import Submission, SubmissionState, Task, TaskState

if TYPE_CHECKING:
    from seedbed_client._async_client import AsyncSeedreamClient, AsyncTaskHandle
    from seedbed_client._contract_types import AspectRatio, Quality
    from seedbed_client._job_log import JobLog, LoggedJob
    from seedbed_client.callbacks import Callback, CallbackReceiver, parse_callback, verify_callback
    from seedbed_client.errors import (
        ERRORS,
        ApiError,
        AuthenticationError,
        CallbackError,
        ConfigurationError,
        DownloadError,
        FeatureDisabledError,
        GenerationFailedError,
        InsufficientCreditsError,
        InvalidCallbackError,
        InvalidResponseError,
        JobConflictError,
        JobLogError,
        MaintenanceError,
        NotFoundError,
        RateLimitError,
        SeedreamError,
        ServerError,
        SignatureMismatchError,
        StaleCallbackError,
        SubmissionInDoubtError,
        SubmissionUnknownError,
        ValidationError,
        WaitTimeoutError,
        submissions_of,
    )


__all__ = [
    "ERRORS",
    "ApiError",
    "AspectRatio",
    "AsyncSeedreamClient",
    "AsyncTaskHandle",
    "AuthenticationError",
    "Callback",
    "CallbackError",
    "CallbackReceiver",
    "ConfigurationError",
    "DownloadError",
    "FeatureDisabledError",
    "GenerationFailedError",
    "InsufficientCreditsError",
    "InvalidCallbackError",
    "InvalidResponseError",
    "JobConflictError",
    "JobLog",
    "JobLogError",
    "LoggedJob",
    "MaintenanceError",
    "NotFoundError",
    "PollingSchedule",
    "PollingStep",
    "Quality",
    "RateLimitError",
    "SeedreamClient",
    "SeedreamError",
    "ServerError",
    "SignatureMismatchError",
    "StaleCallbackError",
    "Submission",
    "SubmissionInDoubtError",
    "SubmissionState",
    "SubmissionUnknownError",
    "Task",
    "TaskHandle",
    "TaskState",
    "ValidationError",
    "WaitTimeoutError",
    "parse_callback",
    "submissions_of",
    "verify_callback",
]

_MODULES: Final = {
    "AspectRatio": "_contract_types",
    "Quality": "_contract_types",
    "AsyncSeedreamClient": "_async_client",
    "AsyncTaskHandle": "_async_client",
    "Callback": "callbacks",
    "JobLog": "_job_log",
    "LoggedJob": "_job_log",
    "CallbackReceiver": "callbacks",
    "parse_callback": "callbacks",
    "verify_callback": "callbacks",
}


def __getattr__(name: str) -> Any:
    # Loaded on access: most programs use neither the asynchronous client nor callbacks.
    if name not in __all__:
        raise AttributeError(f"module 'seedbed_client' has no attribute {name!r}")
    return getattr(import_module(f"seedbed_client.{_MODULES.get(name, 'errors')}"), name)
