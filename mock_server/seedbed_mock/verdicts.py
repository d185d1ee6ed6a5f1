"""The verdicts of a drill: each is a rule in words with its source, and a function over what the server saw.

A verdict passes, fails with its evidence, or is not judged, because nothing happened that it is about or because it
cannot be seen from outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from seedbed_schemas import default_contract, job_api

from seedbed_mock.observation import (
    CREATE,
    QUERY,
    Evidence,
    RuleFinding,
    acted_after,
    asked_in_vain,
    confirmed,
    excused_until,
    is_final,
    is_locked_out,
    is_uncertain,
    key_of,
    obtained,
    queried_id,
    retry_after,
    state_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seedbed_mock.journal import JournalEntry
    from seedbed_mock.observation import ControlRun, Observation
    from seedbed_mock.tasks import Task


_STATES: Final = job_api().states
_CODES: Final = {code.name: code.number for code in default_contract().codes}
_UNAUTHORIZED: Final = _CODES["unauthorized"]
_HOPELESS: Final = frozenset({_UNAUTHORIZED, _CODES["insufficient_credits"], _CODES["validation_error"]})
_RATE_LIMITED: Final = _CODES["rate_limited"]
_DONE: Final = "done"

_FASTEST_SECONDS: Final = 1.0
"""Shortest time between two queries of a task: half of the two seconds that the vendor advises at the start."""

_BURST: Final = 5
_BURST_SECONDS: Final = 5.0
"""Errors in a row, and the time within which so many are no backoff."""

_QUERIES_AFTER_END: Final = 3
_SILENT_SECONDS: Final = 5.0
_STOPPED: Final = "it was stopped at the deadline of the drill"
_CRASH: Final = re.compile(
    r"Traceback \(most recent call last\)|^panic: |^fatal error: |Unhandled|Uncaught|Segmentation fault"
    r"|Exception in thread|^\s+at .+:\d+:\d+\)?$",
    re.MULTILINE,
)
_MOST_EVIDENCE: Final = 6
_LEAST_SIGNAL_STATUS: Final = 129


@dataclass(frozen=True, slots=True)
class VerdictRule:
    """A rule that a program must keep.

    Attributes:
        name: What a program that breaks it did, such as ``paid twice``.
        rule: The rule in words.
        source: Why it holds.
        judge: Returns what it says of one run, given what the program does when nothing goes wrong.
    """

    name: str
    rule: str
    source: str
    judge: Callable[[Observation, ControlRun], RuleFinding]


_PASSED: Final = RuleFinding("passed")


def _unjudged(reason: str) -> RuleFinding:
    return RuleFinding("not judged", reason)


def _failed(seen: Observation, reason: str, *entries: JournalEntry, more: Iterable[Evidence] = ()) -> RuleFinding:
    found = [Evidence(seen.seconds(seen.begun, each.at), _described(each)) for each in entries]
    ordered = sorted([*found, *more], key=lambda each: each.seconds)
    return RuleFinding("failed", reason, tuple(ordered[:_MOST_EVIDENCE]))


def _described(entry: JournalEntry) -> str:
    fault = f" (fault {entry.fault.partition(' (')[0]})" if entry.fault else ""
    if entry.kind == "callback":
        response = f"HTTP {entry.status}" if entry.status else "no response"
        return f"callback of {entry.task_id}, attempt {entry.attempt}, {response}{fault}"
    task_id = entry.task_id or queried_id(entry)
    task = f" of {task_id}" if task_id else ""
    state = f", {state}" if (state := state_in(entry.answer)) else ""
    return f"{entry.operation}{task}, code {entry.code}{state}{fault}"


def _paid_twice(seen: Observation, calm: ControlRun) -> RuleFinding:
    if not seen.creations:
        return _unjudged("It created no task.")
    for key, entries in seen.paid.items():
        if len(entries) > max(calm.wanted[key], calm.repeats):
            return _failed(seen, f"The same request was paid for {len(entries)} times.", *entries)
    return _PASSED


def _lost_result(seen: Observation, _: ControlRun) -> RuleFinding:
    ended = [each for each in seen.known_tasks if not each.failure and each.has_ended(seen.judged_until)]
    if not ended:
        return _unjudged("No task whose ID it had succeeded.")
    unknown = [task for task in ended if not (seen.learned(task) or seen.fetched(task.task_id))]
    for task in unknown:
        # An ID that was used proves that it was read; a created task may also be left alone on purpose, and is paid.
        if not (asked_in_vain(seen, task) or is_locked_out(seen, task)):
            reason = f"The task {task.task_id} was paid for and succeeded, and the program never learned of it."
            return _failed(seen, reason, *_of_task(seen, task), more=[_end_of(seen, task)])
    if unknown:
        return _unjudged(f"It asked for the task {unknown[0].task_id} in vain.")
    return _PASSED


def _never_fetched(seen: Observation, calm: ControlRun) -> RuleFinding:
    if not calm.fetches:
        return _unjudged("It fetches no images, also when nothing goes wrong.")
    told = [task for task in seen.tasks.values() if _has_image(task) and _was_told(seen, task)]
    if not told:
        return _unjudged("It was told of no success whose image exists.")
    for task in told:
        if not (seen.fetched(task.task_id) or is_locked_out(seen, task)):
            reason = f"The image of the task {task.task_id} was paid for and never fetched."
            return _failed(seen, reason, *_of_task(seen, task))
    return _PASSED


def _was_told(seen: Observation, task: Task) -> bool:
    """Return whether the program learned of a success early enough to do something."""
    entry = seen.learned(task, _STATES.success)
    return entry is not None and entry.at <= seen.judged_until


def _has_image(task: Task) -> bool:
    fault = task.result_fault
    return not (task.failure or fault.has_dead_url or fault.has_empty_url or fault.is_expired)


def _believed(seen: Observation, _: ControlRun) -> RuleFinding:
    attempts = [each for entries in seen.callbacks.values() for each in entries]
    false = [each for each in attempts if _is_false(seen, each)]
    if not false:
        return _unjudged("No false callback was sent, or callbacks are not signed.")
    for each in false:
        if confirmed(each):
            return _failed(seen, "It confirmed a callback whose signature is missing, wrong or old.", each)
    return _PASSED


def _is_false(seen: Observation, callback: JournalEntry) -> bool:
    """Return whether the signature of a callback does not hold."""
    task = seen.tasks.get(callback.task_id)
    if not seen.signs or task is None or task.callback is None:
        return False
    return task.callback.fault.has_false_signature


def _handled_twice(seen: Observation, calm: ControlRun) -> RuleFinding:
    if not calm.fetches:
        return _unjudged("It fetches no images, and nothing else that a callback causes is visible.")
    repeated = {task_id: each for task_id, each in seen.callbacks.items() if sum(map(confirmed, each)) > 1}
    if not repeated:
        return _unjudged("No callback was confirmed twice.")
    for task_id, entries in repeated.items():
        second = [each for each in entries if confirmed(each)][1]
        again = [each for each in seen.fetched(task_id)[1:] if each.at >= second.at]
        if again:
            more = [Evidence(seen.seconds(seen.begun, each.at), f"image of {task_id} fetched") for each in again]
            return _failed(seen, f"It handled the callback of {task_id} again.", *entries, more=more)
    return _PASSED


def _lost_callback(seen: Observation, calm: ControlRun) -> RuleFinding:
    if not calm.acts_on_callbacks:
        return _unjudged("Nothing is visible after a callback, also when nothing goes wrong.")
    genuine = [
        each
        for entries in seen.callbacks.values()
        for each in entries
        if confirmed(each)
        and not _is_false(seen, each)
        and state_in(each.request) == _STATES.success
        and each.at <= seen.judged_until
    ]
    # One that repeats what the program knew already needs no action.
    genuine = [each for each in genuine if not _knew_before(seen, each)]
    if not genuine:
        return _unjudged("It confirmed no genuine callback that told it something new.")
    for each in genuine:
        if not acted_after(seen, each):
            return _failed(seen, f"It confirmed the callback of {each.task_id} and did nothing.", each)
    return _PASSED


def _knew_before(seen: Observation, callback: JournalEntry) -> bool:
    task = seen.tasks.get(callback.task_id)
    if task is None or not _has_image(task) or is_locked_out(seen, task):
        return True
    first = seen.learned(task)
    return first is not None and first.number < callback.number


def _hammered(seen: Observation, _: ControlRun) -> RuleFinding:
    if not seen.calls[1:]:
        return _unjudged("It sent fewer than two requests.")
    return _fast_queries(seen) or _ignored_limit(seen) or _burst_of_errors(seen) or _PASSED


def _fast_queries(seen: Observation) -> RuleFinding | None:
    for task_id, entries in seen.queries.items():
        # One quick query may follow an error or a callback; several in a row are a polling interval.
        for run in zip(entries, entries[1:], entries[2:], entries[3:], strict=False):
            if all(seen.seconds(one.at, other.at) < _FASTEST_SECONDS for one, other in pairwise(run)):
                return _failed(seen, f"It queried {task_id} more often than every {_FASTEST_SECONDS:g} s.", *run)
    return None


def _ignored_limit(seen: Observation) -> RuleFinding | None:
    for operation in (CREATE, QUERY):
        calls = [each for each in seen.calls if each.operation == operation]
        for refused, following in pairwise(calls):
            if refused.code != _RATE_LIMITED or is_uncertain(refused) or key_of(refused) != key_of(following):
                continue
            wanted = retry_after(refused) or _FASTEST_SECONDS
            if seen.seconds(refused.at, following.at) < wanted * 0.95:
                return _failed(seen, f"After {_RATE_LIMITED}, it did not wait for {wanted:g} s.", refused, following)
    return None


def _burst_of_errors(seen: Observation) -> RuleFinding | None:
    for operation in (CREATE, QUERY):
        # Different requests may follow each other quickly: a program may do several things at once.
        runs: dict[object, list[JournalEntry]] = {}
        for each in seen.calls:
            if each.operation == operation:
                is_error = each.case != _DONE or each.fault.startswith(("wire.", "answer."))
                what = key_of(each) if operation == CREATE else queried_id(each)
                run = runs[what] = [*runs.get(what, [])[-_BURST + 1 :], each] if is_error else []
                if len(run) == _BURST and seen.seconds(run[0].at, run[-1].at) < _BURST_SECONDS:
                    return _failed(seen, f"It repeated {operation} {_BURST} times without a backoff.", *run)
    return None


def _retried_hopeless(seen: Observation, _: ControlRun) -> RuleFinding:
    refused = [each for each in seen.calls if _is_hopeless(each)]
    if not refused:
        return _unjudged("No request was refused for good.")
    for first in refused:
        wanted = (first.operation, first.account, first.request, first.target)
        for each in seen.calls:
            is_same = (each.operation, each.account, each.request, each.target) == wanted
            if each.number > first.number and is_same and _is_hopeless(each):
                return _failed(seen, f"It repeated a request that code {first.code} refuses unchanged.", first, each)
    return _PASSED


def _is_hopeless(entry: JournalEntry) -> bool:
    if entry.operation == CREATE:
        return entry.code in _HOPELESS or bool(entry.violations)
    # A query of a new task may be answered with 422 or 404 for a moment.
    return entry.code == _UNAUTHORIZED


def _gave_up_early(seen: Observation, _: ControlRun) -> RuleFinding:
    if seen.exit.code is None:
        return _unjudged(f"It did not give up: {_STOPPED}.")
    pending = [
        each
        for each in seen.known_tasks
        if not (seen.learned(each) or each.has_ended(seen.ended) or is_locked_out(seen, each))
    ]
    if not pending:
        return _unjudged("No task was pending when it ended.")
    for task in pending:
        if (waited := seen.seconds(task.created, seen.ended)) < seen.patience:
            reason = f"It ended after {waited:.0f} s, while the task {task.task_id} was {task.state(seen.ended)}."
            return _failed(seen, reason, *_of_task(seen, task)[-_MOST_EVIDENCE:])
    return _PASSED


def _polled_for_ever(seen: Observation, _: ControlRun) -> RuleFinding:
    if not seen.queries:
        return _unjudged("It queried no record.")
    for task_id, entries in seen.queries.items():
        # Only the record is proof of the end: a callback may be false.
        ends = [number for number, each in enumerate(entries) if is_final(each)]
        after = entries[ends[0] + 1 :] if ends else []
        if len(after) >= _QUERIES_AFTER_END:
            return _failed(seen, f"It queried {task_id} {len(after)} times after its end.", *after)
        late = [each for each in entries if seen.seconds(entries[0].at, each.at) > 2 * seen.patience]
        # A late callback is a reason to ask once more.
        if any(map(confirmed, seen.callbacks.get(task_id, ()))):
            late = late[_QUERIES_AFTER_END:]
        if late:
            return _failed(seen, f"It queried {task_id} for more than {2 * seen.patience:.0f} s.", entries[0], *late)
    return _PASSED


def _hung(seen: Observation, _: ControlRun) -> RuleFinding:
    if seen.exit.code is not None:
        return _PASSED
    last = max((each.at for each in seen.entries), default=seen.begun)
    silent = seen.seconds(last, seen.ended)
    # In a short run, half of it is a long silence.
    if silent < min(_SILENT_SECONDS, seen.seconds(seen.begun, seen.ended) / 2) and seen.calls:
        return _unjudged(f"It was still sending requests when {_STOPPED}.")
    if seen.ended < excused_until(seen):
        return _unjudged(f"It had a reason to wait when {_STOPPED}.")
    reason = f"It sent nothing for {silent:.0f} s and did not end; {_STOPPED}."
    return _failed(seen, reason, *[each for each in seen.entries if each.at == last][-1:])


def _crashed(seen: Observation, _: ControlRun) -> RuleFinding:
    code = seen.exit.code
    if code is None:
        return _unjudged(f"It did not end by itself: {_STOPPED}.")
    if code < 0 or code >= _LEAST_SIGNAL_STATUS:
        number = -code if code < 0 else code - _LEAST_SIGNAL_STATUS + 1
        return _failed(seen, f"It was ended by the signal {number}.", *seen.entries[-1:])
    if code and (match := _CRASH.search(seen.exit.errors)):
        reason = f"It ended with exit code {code} and an error that it did not handle ({match[0].strip()})."
        return _failed(seen, reason, *seen.entries[-1:])
    return _PASSED


def _claimed_success(seen: Observation, calm: ControlRun) -> RuleFinding:
    if seen.exit.code != 0:
        return _unjudged("It did not claim success.")
    have = obtained(seen, fetches=calm.fetches)
    if have < calm.images:
        verb = "fetched" if calm.fetches else "learned of"
        reason = f"It ended with exit code 0 and {verb} {have} of {calm.images} images."
        return _failed(seen, reason, *seen.entries[-_MOST_EVIDENCE:])
    return _PASSED


def _of_task(seen: Observation, task: Task) -> list[JournalEntry]:
    return [each for each in seen.entries if each.task_id == task.task_id]


def _end_of(seen: Observation, task: Task) -> Evidence:
    return Evidence(seen.seconds(seen.begun, task.ends or seen.ended), f"{task.task_id} reached {_STATES.success}")


_MONEY: Final = "recorded traffic: every task that succeeds is charged, also one that nobody waits for"
_ADVICE: Final = "the vendor's advice on polling (one good source)"

RULES: Final = (
    VerdictRule(
        "paid twice",
        "The same request is not paid for more often than when nothing goes wrong.",
        f"{_MONEY}; an integrator's time-out opened a second paid task",
        _paid_twice,
    ),
    VerdictRule(
        "lost result",
        "A program that has the ID of a task learns whether it succeeded.",
        _MONEY,
        _lost_result,
    ),
    VerdictRule(
        "paid and never fetched",
        "A program that knows of a success fetches the image, if it fetches images at all.",
        f"{_MONEY}; results expire",
        _never_fetched,
    ),
    VerdictRule(
        "believed a false callback",
        "A callback whose signature is missing, wrong or older than five minutes is not confirmed with 2xx.",
        "recorded traffic: the service signs the task ID and the time, and anyone can send a callback",
        _believed,
    ),
    VerdictRule(
        "handled a callback twice",
        "A repeated callback does not cause the same work again.",
        "the vendor's older pages: callbacks may be repeated",
        _handled_twice,
    ),
    VerdictRule(
        "lost a callback",
        "A confirmed callback has a consequence, if it has one when nothing goes wrong.",
        "recorded traffic: the service does not repeat a callback that was confirmed",
        _lost_callback,
    ),
    VerdictRule(
        "hammered",
        f"A task is not queried more often than every {_FASTEST_SECONDS:g} s; a program waits after {_RATE_LIMITED},"
        f" as long as Retry-After says; {_BURST} errors in a row of one request take more than {_BURST_SECONDS:g} s.",
        f"{_ADVICE}: every 2 to 3 s at first; at most 10 queries a second for each key",
        _hammered,
    ),
    VerdictRule(
        "retried the hopeless",
        "A request that was refused for its key, its content or the balance is not repeated unchanged.",
        "the codes 401, 402 and 422 of the model's page: only a change can help",
        _retried_hopeless,
    ),
    VerdictRule(
        "gave up early",
        "A program does not end while a task is pending that is younger than the documented 15 minutes, or than the"
        " 99th percentile of the duration profile.",
        f"{_ADVICE}: give up after 10 to 15 minutes; an integrator's deadline of 240 s lost an image that took 282 s",
        _gave_up_early,
    ),
    VerdictRule(
        "polled for ever",
        "A task is not queried again after its end, nor for longer than twice the time to wait for it.",
        f"{_ADVICE}; an integrator's program polled a task that moderation had failed",
        _polled_for_ever,
    ),
    VerdictRule(
        "hung",
        "A program ends, or does something, before the deadline of the drill, unless it has a reason to wait.",
        "a program that waits for ever needs a person",
        _hung,
    ),
    VerdictRule(
        "crashed",
        "A program ends by itself, without an error that it did not handle.",
        "the exit code and the end of standard error",
        _crashed,
    ),
    VerdictRule(
        "claimed success wrongly",
        "A program that ends with exit code 0 has as many images as when nothing goes wrong.",
        "the exit code is what scripts rely on",
        _claimed_success,
    ),
)
"""All rules, the costly ones first."""

NOT_VISIBLE: Final = (
    "What a program does with an image or a callback inside, such as writing to a database twice",
    "Whether a task whose ID never reached the program was noted as in doubt",
    "Whether a program that ended resumes its tasks later",
)
"""What cannot be judged from outside."""


@dataclass(frozen=True, slots=True)
class ProgramVerdict:
    """What all rules say of a program.

    Attributes:
        findings: What every rule says, by its name.
    """

    findings: dict[str, RuleFinding]

    @property
    def failed(self) -> dict[str, RuleFinding]:
        """The rules that it broke."""
        return {name: each for name, each in self.findings.items() if each.outcome == "failed"}

    def check(self) -> None:
        """Check that no rule is broken.

        Raises:
            AssertionError: One is; the message says which, and what happened.
        """
        lines: list[str] = []
        for name, each in self.failed.items():
            lines += [f"{name}: {each.reason}", *(f"  {evidence.describe()}" for evidence in each.evidence)]
        if lines:
            raise AssertionError("\n".join(lines))


def verdicts_on(seen: Observation, calm: ControlRun) -> dict[str, RuleFinding]:
    """Return what every rule says of one run, by its name."""
    return {each.name: each.judge(seen, calm) for each in RULES}
