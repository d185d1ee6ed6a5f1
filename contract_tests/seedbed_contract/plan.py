"""What a run would send, told without sending anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from seedbed_schemas.profile import profile_of

from seedbed_contract.budget import Budget
from seedbed_contract.cases import accepted, raw, refused, wrong_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.judge import Options
    from seedbed_contract.target import Target

_CALLBACK: Final = "http://127.0.0.1"


@dataclass(frozen=True, slots=True)
class Planned:
    """One request, or several of a kind.

    Attributes:
        check: Name of the check that sends it.
        what: What is special of it.
        due: How it has to be answered.
        is_task: Whether it makes a task where the target keeps the contract.
    """

    check: str
    what: str
    due: str
    is_task: bool = False


def planned(target: Target, options: Options) -> Iterator[Planned]:
    """Yield the requests that can be told beforehand, in the order of the checks."""
    yield from _refused(target, options)
    if most_tasks(target, options) != 0:
        yield from _accepted(options)
    if target.is_local:
        yield Planned("search.violations", f"up to {options.max_examples} random violations", "refused")
        yield Planned("search.requests", f"up to {options.max_examples} random requests", "accepted", is_task=True)


def _refused(target: Target, options: Options) -> Iterator[Planned]:
    for case in refused(options.contract):
        yield Planned("requests.refused", case.name, f"refused, for it breaks {case.clause}")
    for body in (body for body in raw(options.contract) if body.meant == "refuse"):
        yield Planned("requests.raw", body.name, "refused, for it holds no request")
    for key in (key for key in wrong_keys(target.key, contract=options.contract) if key.meant == "refuse"):
        yield Planned("authorisation.keys", key.name, "refused, for the key is wrong")


def _accepted(options: Options) -> Iterator[Planned]:
    for case in accepted(options.contract, callback=_CALLBACK):
        yield Planned("requests.accepted", case.name, "accepted, several in one request", is_task=True)
    for body in (body for body in raw(options.contract) if body.meant == "accept"):
        yield Planned("requests.more", body.name, "accepted", is_task=True)


def most_tasks(target: Target, options: Options) -> int | None:
    """Return how many tasks a run may make at most; ``None`` where they cost nothing."""
    return None if target.most is None else Budget(profile_of(options.contract).credits, target.most).room
