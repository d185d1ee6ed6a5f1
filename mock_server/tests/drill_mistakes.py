"""Programs with one mistake each, the faults that bring it out, and the verdict that names it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.drill_worker import SHARED, AnswerError, Crash, StoppedError, Worker

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Mistake:
    """A program with one mistake.

    Attributes:
        worker: The program.
        rules: Fault rules that bring the mistake out.
        verdict: The verdict that names it.
        options: Options of the server.
    """

    worker: type[Worker]
    rules: tuple[str, ...]
    verdict: str
    options: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.worker.__name__}-{self.verdict.replace(' ', '-')}"


MISTAKES: list[Mistake] = []


def mistake(verdict: str, *rules: str, **options: Any) -> Callable[[type[Worker]], type[Worker]]:
    """Add a program to the mistakes."""

    def add(worker: type[Worker]) -> type[Worker]:
        MISTAKES.append(Mistake(worker, rules, verdict, options))
        return worker

    return add


# Paid twice


@mistake("paid twice", "task.orphan; times=1")
class CreatesAgainAfter500(Worker):
    refused_creations = Worker.refused_creations | {500}


@mistake("paid twice", "task.lost; times=1")
class CreatesAgainAfterALostTask(CreatesAgainAfter500):
    pass


@mistake("paid twice", "wire.reset; op=createTask; times=1")
class CreatesAgainAfterAReset(Worker):
    def in_doubt(self, prompt: str) -> str | None:
        return self.create(prompt)


@mistake("paid twice", "wire.cut-short; op=createTask; times=1")
class CreatesAgainAfterHalfAResponse(CreatesAgainAfterAReset):
    pass


@mistake("paid twice", "wire.close; op=createTask; times=1")
class CreatesAgainAfterAClosedConnection(CreatesAgainAfterAReset):
    pass


@mistake("paid twice", "task.slow seconds=300")
class CreatesAgainAfterItsDeadline(Worker):
    deadline = 60.0
    polls = True

    def make(self, prompt: str) -> bool:
        return super().make(prompt) or super().make(prompt)


@mistake("paid twice", "500; op=recordInfo; times=1")
class CreatesAgainAfterAFailedQuery(Worker):
    def wait(self, task_id: str) -> dict[str, Any] | None:
        record = self.query(task_id)
        if record is None:
            again = self.create(self.prompts[0])
            return super().wait(again) if again else None
        return super().wait(task_id)


@mistake("paid twice", "task.late seconds=5")
class CreatesAgainWhenTheRecordIsUnknown(CreatesAgainAfterAFailedQuery):
    pass


@mistake("paid twice", "result.expired")
class CreatesAgainWhenTheImageIsGone(Worker):
    def make(self, prompt: str) -> bool:
        return super().make(prompt) or super().make(prompt)


@mistake("paid twice", "task.slow seconds=120")
class CreatesASecondTaskWhenTheFirstIsSlow(Worker):
    def wait(self, task_id: str) -> dict[str, Any] | None:
        self.sleep(60)
        record = self.query(task_id)
        if record and not self.is_final(record):
            self.create(self.prompts[0])
        return super().wait(task_id)


@mistake("paid twice", "callback.never")
class CreatesAgainWithoutACallback(Worker):
    polls = False
    deadline = 120.0

    def make(self, prompt: str) -> bool:
        return super().make(prompt) or super().make(prompt)


# Lost results


@mistake("lost result", "callback.never")
class WaitsForCallbacksOnly(Worker):
    polls = False


@mistake("lost result", "callback.late seconds=2000")
class GivesUpOnLateCallbacks(WaitsForCallbacksOnly):
    pass


@mistake("lost result", "500; op=recordInfo; times=1")
class ForgetsTheTaskAfterAnError(Worker):
    uses_callbacks = False

    def wait(self, task_id: str) -> dict[str, Any] | None:
        self.sleep(21)
        return self.query(task_id)


@mistake("lost result", "wire.reset; op=recordInfo; times=1")
class ForgetsTheTaskAfterAReset(Worker):
    uses_callbacks = False

    def wait(self, task_id: str) -> dict[str, Any] | None:
        self.sleep(21)
        try:
            return self.query(task_id)
        except AnswerError:
            return None


# Paid and never fetched


@mistake("paid and never fetched", "task.slow seconds=200")
class FetchesOnlyQuickImages(Worker):
    def fetch(self, record: dict[str, Any]) -> bool:
        is_quick = record["completeTime"] - record["createTime"] < 100_000
        return is_quick and super().fetch(record)


@mistake("paid and never fetched", "429; op=recordInfo; times=1")
class ForgetsToFetchAfterALimit(Worker):
    was_limited = False

    def limited(self) -> None:
        self.was_limited = True
        super().limited()

    def fetch(self, record: dict[str, Any]) -> bool:
        return not self.was_limited and super().fetch(record)


@mistake("paid and never fetched", "callback.out-of-order; times=1")
class BelievesThatCallbacksComeInOrder(Worker):
    polls = False
    prompts = ("one", "two")

    def run(self) -> int:
        ids = [self.create(prompt) for prompt in self.prompts]
        for task_id in ids:
            while not self.queue and self.now() - self.started < self.deadline:
                self.sleep(20)
            record = self.queue.popleft() if self.queue else None
            if record is None or record["taskId"] != task_id or not self.fetch(record):
                return 1
        return 0


# Believed a false callback


@mistake("believed a false callback", "callback.unsigned")
class NeedsNoSignature(Worker):
    def is_genuine(self, headers: dict[str, str], task_id: str) -> bool:
        name = SHARED.callback.signature_header.lower()
        return name not in headers or super().is_genuine(headers, task_id)


@mistake("believed a false callback", "callback.wrong-signature")
class ChecksOnlyThatThereIsASignature(Worker):
    def is_signed(self, headers: dict[str, str], task_id: str) -> bool:
        return SHARED.callback.signature_header.lower() in headers


@mistake("believed a false callback", "callback.other-id")
class CopiesTheVendorsSample(Worker):
    def is_signed(self, headers: dict[str, str], task_id: str) -> bool:
        return super().is_signed(headers, "undefined") or super().is_signed(headers, task_id)


@mistake("believed a false callback", "callback.stale")
class AcceptsOldSignatures(Worker):
    def is_recent(self, headers: dict[str, str]) -> bool:
        return True


@mistake("believed a false callback", "callback.stale seconds=900")
class ToleratesAnHour(Worker):
    def is_recent(self, headers: dict[str, str]) -> bool:
        timestamp = headers.get(SHARED.callback.timestamp_header.lower(), "")
        return timestamp.isdecimal() and abs(self.now() - int(timestamp)) < 3600


# Handled a callback twice


@mistake("handled a callback twice", "callback.twice")
class FetchesAtEveryCallback(Worker):
    def receive(self, headers: dict[str, str], body: bytes) -> int:
        status = super().receive(headers, body)
        if status == 200:
            self.send_aside(json.loads(body)["data"])
        return status

    def send_aside(self, record: dict[str, Any]) -> None:
        # With a connection of its own, since it runs in another thread.
        from http.client import HTTPConnection

        path = urlsplit(json.loads(record["resultJson"])["resultUrls"][0]).path
        connection = HTTPConnection(self.host, self.port, timeout=5)
        connection.request("GET", path)
        connection.getresponse().read()
        connection.close()


@mistake("handled a callback twice", "callback.again")
class FetchesAtEveryRepetition(FetchesAtEveryCallback):
    pass


# Lost a callback


@mistake("lost a callback", "wire.reset; op=createTask; times=1")
class ConfirmsCallbacksOfUnknownTasks(Worker):
    def found_by_callback(self, prompt: str) -> str | None:
        return None

    def recover(self, prompt: str) -> bool:
        return False


@mistake("lost a callback", "task.orphan; times=1")
class ConfirmsCallbacksOfOrphans(ConfirmsCallbacksOfUnknownTasks):
    pass


@mistake("lost a callback", "task.slow seconds=40; times=1")
class DropsCallbacksWhileItIsBusy(Worker):
    polls = False

    def run(self) -> int:
        ids = [self.create(prompt) for prompt in self.prompts]
        made = [self.finish(task_id) for task_id in ids if task_id]
        return 0 if all(made) else 1

    def finish(self, task_id: str) -> bool:
        record = self.wait(task_id)
        self.seen |= {"busy"}
        return record is not None and self.fetch(record)

    def keep(self, record: dict[str, Any]) -> None:
        if not self.queue:
            super().keep(record)


# Hammered


@mistake("hammered", task_seconds=3)
class PollsEvery100Milliseconds(Worker):
    def interval(self, waited: float) -> float:
        return 0.1


@mistake("hammered", "task.slow seconds=600")
class PollsTwiceASecondWhenItIsLate(Worker):
    def interval(self, waited: float) -> float:
        return 0.5 if waited > 580 else super().interval(waited)


@mistake("hammered", "429; op=createTask; times=3")
class CreatesAtOnceAfterALimit(Worker):
    def pause_after_refusal(self, attempt: int) -> float:
        return 0


@mistake("hammered", "429 retry-after=30; op=createTask; times=2")
class IgnoresRetryAfter(Worker):
    def pause_after_refusal(self, attempt: int) -> float:
        return 2


@mistake("hammered", "429; op=recordInfo; times=3")
class QueriesAtOnceAfterALimit(Worker):
    def limited(self) -> None:
        pass

    def interval(self, waited: float) -> float:
        return 0.2 if waited < 2 else 3

    def backoff(self, failures: int) -> float:
        return 0


@mistake("hammered", "500; op=recordInfo; times=10")
class HasNoBackoff(Worker):
    def backoff(self, failures: int) -> float:
        return 0

    def interval(self, waited: float) -> float:
        return 1.1


@mistake("hammered", "wire.reset; op=recordInfo; times=10")
class ReconnectsAtOnce(HasNoBackoff):
    pass


@mistake("hammered", "455; op=createTask; times=7")
class CreatesWithoutABackoff(Worker):
    def pause_after_refusal(self, attempt: int) -> float:
        return 0.5


# Retried the hopeless


@mistake("retried the hopeless", "401; op=createTask; times=2")
class RetriesARefusedKey(Worker):
    refused_creations = Worker.refused_creations | {401}


@mistake("retried the hopeless", credits=3)
class RetriesWithoutCredits(Worker):
    refused_creations = Worker.refused_creations | {402}


@mistake("retried the hopeless")
class RetriesAnInvalidRequest(Worker):
    refused_creations = Worker.refused_creations | {422}
    prompts = ("",)

    def body(self, prompt: str) -> dict[str, Any]:
        body = super().body(prompt)
        del body["input"]["prompt"]
        return body


@mistake("retried the hopeless", dialect="observed")
class RetriesAnInvalidRequestOfTheRealService(RetriesAnInvalidRequest):
    refused_creations = Worker.refused_creations | {422, 500}


@mistake("retried the hopeless", "401; op=recordInfo; times=4")
class QueriesWithARefusedKey(Worker):
    def query(self, task_id: str) -> dict[str, Any] | None:
        try:
            return super().query(task_id)
        except PermissionError:
            return None


# Gave up early


@mistake("gave up early", "task.slow seconds=282")
class GivesUpAfter240Seconds(Worker):
    deadline = 240.0


@mistake("gave up early", "task.stuck")
class GivesUpOnAStuckTask(Worker):
    deadline = 600.0


@mistake("gave up early", "429; op=recordInfo; times=2", task_seconds=300)
class GivesUpAtALimit(Worker):
    def limited(self) -> None:
        raise PermissionError


@mistake("gave up early", "task.late seconds=5")
class TakesAnUnknownRecordForAFailure(Worker):
    def wait(self, task_id: str) -> dict[str, Any] | None:
        return super().wait(task_id) if self.query(task_id) else None


@mistake("gave up early", "answer.html; op=recordInfo; times=3")
class GivesUpAfterThreeErrors(Worker):
    def backoff(self, failures: int) -> float:
        if failures >= 3:
            raise SystemExitError
        return super().backoff(failures)

    def run(self) -> int:
        try:
            return super().run()
        except SystemExitError:
            return 1


class SystemExitError(Exception):
    pass


# Polled for ever


@mistake("polled for ever", "task.fail after=20")
class WaitsForSuccessOnly(Worker):
    deadline = float("inf")

    def is_final(self, record: dict[str, Any]) -> bool:
        return bool(record["state"] == SHARED.states.success)


@mistake("polled for ever", "task.stuck")
class HasNoDeadline(Worker):
    deadline = float("inf")


@mistake("polled for ever")
class PollsOnAfterTheEnd(Worker):
    def fetch(self, record: dict[str, Any]) -> bool:
        for _ in range(5):
            self.sleep(5)
            self.query(record["taskId"])
        return super().fetch(record)


# Hung


@mistake("hung", "callback.never")
class WaitsForACallbackForEver(Worker):
    polls = False
    deadline = float("inf")


@mistake("hung", "500; op=createTask")
class WaitsForEverAfterAnError(Worker):
    def refused(self, answer: dict[str, Any], prompt: str) -> str | None:
        self.sleep(1000)
        raise StoppedError


# Crashed


@mistake("crashed", "500; op=createTask")
class BelievesThatDataIsThere(Worker):
    def refused(self, answer: dict[str, Any], prompt: str) -> str | None:
        return str(answer["data"]["taskId"])


@mistake("crashed", "answer.html; op=recordInfo; times=1")
class BelievesThatEveryResponseIsJson(Worker):
    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.send(method, path, body)[1])
        return answer


@mistake("crashed", "wire.reset; op=recordInfo; times=1")
class DiesOfASignal(Worker):
    def query(self, task_id: str) -> dict[str, Any] | None:
        try:
            return super().query(task_id)
        except AnswerError as error:
            raise Crash from error


@mistake("crashed", "result.empty-url")
class FetchesAnEmptyUrl(Worker):
    def fetch(self, record: dict[str, Any]) -> bool:
        url = json.loads(record["resultJson"])["resultUrls"][0]
        if not url:
            raise ValueError("unknown url type")
        return super().fetch(record)


# Claimed success wrongly


@mistake("claimed success wrongly", "task.fail")
class IgnoresFailures(Worker):
    def run(self) -> int:
        super().run()
        return 0


@mistake("claimed success wrongly", credits=3)
class IgnoresRefusals(IgnoresFailures):
    pass


@mistake("claimed success wrongly", "result.cut")
class KeepsHalfAnImage(Worker):
    def is_whole(self, image: bytes) -> bool:
        return True


@mistake("claimed success wrongly", "result.dead-url")
class IgnoresMissingImages(Worker):
    def fetch(self, record: dict[str, Any]) -> bool:
        super().fetch(record)
        return True


@mistake("claimed success wrongly", "task.fail; times=1")
class IsContentWithOneImage(Worker):
    def run(self) -> int:
        made = [self.make(prompt) for prompt in self.prompts]
        return 0 if any(made) else 1
