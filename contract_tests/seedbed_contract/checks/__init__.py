"""The checks, grouped by what they judge, in the order in which a run makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from seedbed_contract.checks import (
    authentication,
    balance,
    callback_delivery,
    endpoints,
    error_codes,
    life_cycle,
    random_search,
    request_validation,
    result_images,
    task_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_contract.session import Session


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: Subject and name, such as ``requests.refused``.
        about: What it judges, in a few words.
        run: Makes it.
        makes_tasks: Whether it needs tasks, and makes those that are not there yet.
    """

    name: str
    about: str
    run: Callable[[Session], None]
    makes_tasks: bool = False


CHECKS: Final = (
    Check("requests.refused", "what breaks a clause is refused", request_validation.refuses_violations),
    Check("requests.raw", "what is no request is refused", request_validation.refuses_raw_bodies),
    Check("authorisation.keys", "wrong keys are refused", authentication.refuses_wrong_keys),
    Check("accounts.refusals", "what is refused costs nothing", balance.refusals_are_free),
    Check(
        "requests.accepted",
        "what keeps the contract is accepted",
        request_validation.accepts_valid_requests,
        makes_tasks=True,
    ),
    Check("records.unknown", "tasks that are not there", task_records.refuses_unknown_tasks),
    Check("operations.models", "models and their schemas", endpoints.lists_models),
    Check("operations.paths", "paths and methods", endpoints.knows_its_paths),
    Check("faults.codes", "every documented code can be had", error_codes.has_every_code),
    Check("search.violations", "random violations", random_search.finds_no_accepted_violation),
    Check(
        "authorisation.operations",
        "every operation needs a key",
        authentication.guards_every_operation,
        makes_tasks=True,
    ),
    Check("requests.at_once", "tasks asked for at the same time", life_cycle.keeps_tasks_apart, makes_tasks=True),
    Check("life_cycle.machine", "random sequences of calls", life_cycle.goes_forward, makes_tasks=True),
    Check("records.ended", "records of tasks that have ended", task_records.stay_as_they_ended, makes_tasks=True),
    Check("results.images", "result images", result_images.are_images, makes_tasks=True),
    Check("operations.download_url", "URLs of downloads", endpoints.links_downloads, makes_tasks=True),
    Check("callbacks.delivered", "callbacks", callback_delivery.are_delivered, makes_tasks=True),
    Check("accounts.tasks", "what tasks cost", balance.tasks_cost_their_price, makes_tasks=True),
    Check("authorisation.accounts", "tasks of another account", authentication.keeps_accounts_apart, makes_tasks=True),
    Check(
        "requests.more", "further requests that keep the contract", request_validation.accepts_more, makes_tasks=True
    ),
    Check("limits.rate", "more tasks than the rate allows", error_codes.keeps_the_rate, makes_tasks=True),
    Check("limits.credits", "more tasks than the balance covers", error_codes.keeps_the_balance, makes_tasks=True),
    Check(
        "search.requests",
        "random requests that keep the contract",
        random_search.finds_no_refused_request,
        makes_tasks=True,
    ),
    Check("accounts.end", "what all tasks cost in the end", balance.tasks_cost_their_price, makes_tasks=True),
    Check("records.later", "tasks that ended a while ago", task_records.stay_for_good, makes_tasks=True),
    Check(
        "callbacks.quiet", "callbacks that nobody asked for", callback_delivery.come_where_asked_for, makes_tasks=True
    ),
)
