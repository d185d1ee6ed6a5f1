"""The reference client of the Seedream job API."""

from seedbed_client.async_client import AsyncSeedreamClient
from seedbed_client.callbacks import Callback, parse_callback, verify_callback
from seedbed_client.client import SeedreamClient
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
from seedbed_client.models import Task, TaskState
from seedbed_client.receiver import CallbackReceiver
from seedbed_client.rhythm import Rhythm, Step

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
