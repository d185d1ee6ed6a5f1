"""The checks, one module for each subject, and the order in which a run makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from seedbed_contract import tasks
from seedbed_contract.cases import refused
from seedbed_contract.checks import (
    account_checks,
    callback_delivery,
    endpoints,
    life_cycle,
    random_search,
    request_validation,
    result_images,
    robustness,
)
from seedbed_contract.findings import DETECTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_contract.session import Session


Needs = Literal["", "tasks", "ended", "callbacks"]
"""What a check uses besides its own requests: the first tasks of the run, ended ones, or their callbacks."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: Subject and name, such as ``requests.refused``.
        about: What the check is about, in a few words.
        run: The function that makes the check and reports defects to the session.
        makes_tasks: Whether the check may create tasks.
        needs: What has to exist before the check is run.
    """

    name: str
    about: str
    run: Callable[[Session], None]
    makes_tasks: bool = False
    needs: Needs = ""

    def prepare(self, session: Session) -> None:
        """Make and await what the check needs, unless an earlier check has done so.

        Raises:
            OutOfTimeError: The time limit of the run passed.
            BudgetExceededError: The budget does not allow it.
        """
        addresses = session.callback_addresses
        try:
            if self.needs == "callbacks" and addresses.receiver is not None and not addresses.refused:
                request_validation.check_refused_callbacks(session, refused(session.builder.contract))
            if self.needs and not session.has_requested_tasks:
                request_validation.check_valid_requests(session)
            if self.needs in {"ended", "callbacks"}:
                tasks.await_end(session)
        finally:
            session.log.judged = 0  # the check itself has judged nothing yet


# The order matters. What creates no task comes first, because a target that has reached its rate limit refuses every
# createTask for that reason, and so that the balance after all refusals can be compared with the one before. Then come
# the tasks, as many as the documented rate allows at once; other checks run while they end and callbacks arrive. What
# uses up the rate or the balance comes late.
CHECKS: Final = (
    Check(DETECTION, "first responses and required parts", endpoints.check_detection),
    Check("requests.refused", "invalid requests are refused", request_validation.check_invalid_requests),
    Check("requests.raw", "bodies without a valid request are refused", request_validation.check_raw_bodies),
    Check("authorisation.keys", "wrong keys are refused", account_checks.check_wrong_keys),
    Check("operations.paths", "unknown paths and methods", endpoints.check_paths_and_methods),
    Check("faults.codes", "every documented code can be produced", endpoints.check_every_code),
    Check("search.violations", "random invalid requests", random_search.search_invalid_requests),
    Check("accounts.refusals", "refused requests cost nothing", account_checks.check_refusals_are_free),
    Check("limits.polls", "the rate limit of queries", account_checks.check_poll_rate),
    Check("robustness.keys", "other spellings of the key, and several keys", robustness.check_odd_keys),
    Check("robustness.queries", "odd queries", robustness.check_odd_queries),
    Check("robustness.paths", "the form of the response to an unknown path", robustness.check_unknown_path),
    Check("robustness.methods", "methods that an operation does not have", robustness.check_other_methods),
    Check("robustness.json", "bodies that are not JSON", robustness.check_strict_parsing),
    Check("requests.at_once", "concurrent requests", life_cycle.check_concurrent_requests, makes_tasks=True),
    Check("life_cycle.machine", "random sequences of calls", life_cycle.check_random_sequences, makes_tasks=True),
    Check(
        "requests.accepted", "valid requests are accepted", request_validation.check_valid_requests, makes_tasks=True
    ),
    Check("records.unknown", "unknown tasks are not found", life_cycle.check_unknown_tasks),
    Check("operations.models", "models and their schemas", endpoints.check_models),
    Check(
        "authorisation.operations",
        "every operation needs a key",
        account_checks.check_every_operation,
        makes_tasks=True,
        needs="tasks",
    ),
    Check(
        "records.ended", "records of finished tasks", life_cycle.check_finished_tasks, makes_tasks=True, needs="ended"
    ),
    Check("results.images", "result images", result_images.check_images, makes_tasks=True, needs="ended"),
    Check("operations.download_url", "download URLs", endpoints.check_download_urls, makes_tasks=True, needs="ended"),
    Check(
        "callbacks.delivered",
        "callbacks are delivered",
        callback_delivery.check_delivery,
        makes_tasks=True,
        needs="callbacks",
    ),
    Check("accounts.tasks", "tasks cost their price", account_checks.check_prices, makes_tasks=True, needs="ended"),
    Check(
        "authorisation.accounts",
        "accounts cannot see each other's tasks",
        account_checks.check_account_separation,
        makes_tasks=True,
        needs="tasks",
    ),
    Check(
        "requests.more",
        "further valid requests",
        request_validation.check_deferred_requests,
        makes_tasks=True,
        needs="tasks",
    ),
    Check("robustness.bodies", "odd texts, numbers and headers", robustness.check_odd_bodies, makes_tasks=True),
    Check("robustness.callbacks", "odd callback URLs", robustness.check_callback_urls, makes_tasks=True),
    Check("limits.rate", "the rate limit", account_checks.check_rate_limit, makes_tasks=True),
    Check("search.requests", "random valid requests", random_search.search_valid_requests, makes_tasks=True),
    Check("limits.credits", "an exhausted balance", account_checks.check_exhausted_balance, makes_tasks=True),
    Check(
        "accounts.end",
        "tasks cost their price at the end of the run",
        account_checks.check_prices,
        makes_tasks=True,
        needs="ended",
    ),
    Check(
        "records.later",
        "records of finished tasks do not change",
        life_cycle.check_records_again,
        makes_tasks=True,
        needs="ended",
    ),
    Check(
        "callbacks.quiet",
        "no unrequested callbacks",
        callback_delivery.check_unrequested,
        makes_tasks=True,
        needs="callbacks",
    ),
)
