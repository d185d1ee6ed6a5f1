"""The reference client of the Seedream job API."""

from seedbed_client.client import AsyncSeedreamClient, SeedreamClient
from seedbed_client.errors import (
    ERRORS,
    ApiError,
    ConfigurationError,
    CreationUnknown,
    FeatureDisabled,
    GenerationFailed,
    InsufficientCredits,
    NotFound,
    RateLimited,
    SeedreamError,
    ServerError,
    ServiceUnavailable,
    TaskFailed,
    Unauthorized,
    UnreadableAnswer,
    ValidationError,
    WaitTimeout,
)
from seedbed_client.models import Task

__all__ = [
    "ERRORS",
    "ApiError",
    "AsyncSeedreamClient",
    "ConfigurationError",
    "CreationUnknown",
    "FeatureDisabled",
    "GenerationFailed",
    "InsufficientCredits",
    "NotFound",
    "RateLimited",
    "SeedreamClient",
    "SeedreamError",
    "ServerError",
    "ServiceUnavailable",
    "Task",
    "TaskFailed",
    "Unauthorized",
    "UnreadableAnswer",
    "ValidationError",
    "WaitTimeout",
]
