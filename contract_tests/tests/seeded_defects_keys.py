"""Seeded defects that accept wrong keys, show the tasks of other accounts, or find the wrong task."""

from collections.abc import Callable
from typing import Any, Final

from tests.minimal_requests import RefusalError
from tests.minimal_service import Call, Service
from tests.minimal_tasks import Account, Task
from tests.seeded_defect import SeededDefect, seeded

_MISSING, _WRONG, _SCHEME = "authorisation/missing", "authorisation/wrong", "authorisation/scheme"
_UNKNOWN, _NO_TASK = "recordInfo/unknown", "recordInfo/missing"


def _opens(when: Callable[[Call], bool]) -> Callable[..., Account]:
    def authenticate(self: Service, call: Call) -> Account:
        try:
            return Service.authenticate(self, call)
        except RefusalError:
            if when(call):
                return self.accounts[0]
            raise

    return authenticate


def _open_at(part: str) -> Callable[..., Account]:
    return _opens(lambda call: part in call.target)


def _open_to(accepts: Callable[[str], bool]) -> Callable[..., Account]:
    return _opens(lambda call: accepts(call.headers.get("Authorization", "")))


def _fits(near: Callable[[str, str], bool]) -> Callable[..., bool]:
    return lambda _, account, token: near(account.key, token)


def _token(read: Callable[[str], str]) -> Callable[..., str]:
    return lambda self, headers: Service.token(self, headers) or (read(headers[0]) if headers else "")


def _shows_all(self: Service, account: Account, task_id: str) -> Task | None:
    return Service.find(self, account, task_id) or next(
        (task for other in self.accounts for task in other.tasks if task.id == task_id), None
    )


def _finds(like: Callable[[str, str], bool]) -> Callable[..., Task | None]:
    def find(self: Service, account: Account, task_id: str) -> Task | None:
        found = Service.find(self, account, task_id)
        return found or next((task for task in account.tasks if like(task.id, task_id)), None)

    return find


def _instead_of_refusal(instead: Callable[[Service, Account, list[str]], Any]) -> Callable[..., Any]:
    """Replace the refusal of a lookup."""

    def record_info(self: Service, account: Account, call: Call) -> Any:
        try:
            return Service.record_info(self, account, call)
        except RefusalError:
            return instead(self, account, call.query("taskId"))

    return record_info


def _refuses_unknown(code: int) -> Callable[..., Any]:
    def instead(self: Service, account: Account, asked: list[str]) -> Any:
        named = len(asked) == 1 and asked[0]
        raise RefusalError(code if named else 422, "recordInfo is null")

    return _instead_of_refusal(instead)


def _refuses_missing(code: int) -> Callable[..., Any]:
    def instead(self: Service, account: Account, asked: list[str]) -> Any:
        named = len(asked) == 1 and asked[0]
        raise RefusalError(404 if named else code, "taskId parameter is required")

    return _instead_of_refusal(instead)


def _newest_for(unnamed: bool) -> Callable[..., Any]:  # noqa: FBT001
    def instead(self: Service, account: Account, asked: list[str]) -> Any:
        if account.tasks and unnamed is not any(asked):
            return self.record(account.tasks[-1])
        raise RefusalError(404, "There is no such task.")

    return _instead_of_refusal(instead)


def _empty_record(self: Service, account: Account, asked: list[str]) -> Any:
    if any(asked):
        return None
    raise RefusalError(422, "taskId parameter is required")


def _made_up_record(self: Service, account: Account, asked: list[str]) -> Any:
    if any(asked):
        return {"taskId": asked[0], "state": "waiting", "model": "", "param": "{}", "createTime": 0}
    raise RefusalError(422, "taskId parameter is required")


_OPEN: Final = (
    *(
        seeded(f"{part} open to all", _MISSING, _WRONG, _SCHEME, authenticate=_open_at(part))
        for part in ("createTask", "recordInfo", "chat/credit", "api/v1/models", "download-url")
    ),
    seeded("every operation open to all", _MISSING, _WRONG, _SCHEME, authenticate=_opens(lambda _: True)),
    seeded("no key needed, but no wrong one accepted", _MISSING, authenticate=_open_to(lambda header: not header)),
    seeded(
        "an empty key accepted",
        _WRONG,
        _MISSING,
        _SCHEME,
        authenticate=_open_to(lambda header: header.strip() == "Bearer"),
    ),
)

_NEAR: Final = (
    seeded("any key accepted", _WRONG, key_matches=_fits(lambda _, token: bool(token))),
    seeded("any key of the same form accepted", _WRONG, key_matches=_fits(lambda key, token: token[:3] == key[:3])),
    seeded(
        "the beginning of a key accepted",
        _WRONG,
        key_matches=_fits(lambda key, token: len(token) > 4 and key.startswith(token)),
    ),
    seeded(
        "a key with something after it accepted", _WRONG, key_matches=_fits(lambda key, token: token.startswith(key))
    ),
    seeded("a key in any case accepted", _WRONG, key_matches=_fits(lambda key, token: token.lower() == key.lower())),
    seeded("a key backwards accepted", _WRONG, key_matches=_fits(lambda key, token: token in (key, key[::-1]))),
    seeded("Basic accepted", _SCHEME, token=_token(lambda header: header.removeprefix("Basic "))),
    seeded("Token accepted", _SCHEME, token=_token(lambda header: header.removeprefix("Token "))),
    seeded("a bare key accepted", _SCHEME, token=_token(lambda header: header)),
    seeded("any scheme accepted", _SCHEME, token=_token(lambda header: header.rpartition(" ")[2])),
    seeded("a foreign task shown", "authorisation/own-tasks", find=_shows_all),
)

_LOOKS: Final = (
    seeded("null for an unknown task", _UNKNOWN, record_info=_instead_of_refusal(_empty_record)),
    seeded("a made-up record for an unknown task", _UNKNOWN, record_info=_instead_of_refusal(_made_up_record)),
    seeded("the newest task for an unknown one", _UNKNOWN, record_info=_newest_for(unnamed=False)),
    seeded("the newest task for a missing taskId", _NO_TASK, record_info=_newest_for(unnamed=True)),
    seeded("500 for an unknown task", _UNKNOWN, "code/404", "code/422", record_info=_refuses_unknown(500)),
    seeded("401 for an unknown task", _UNKNOWN, "code/404", "code/422", record_info=_refuses_unknown(401)),
    seeded("500 for a missing taskId", _NO_TASK, record_info=_refuses_missing(500)),
    seeded("401 for a missing taskId", _NO_TASK, record_info=_refuses_missing(401)),
    seeded("a task by the beginning of its id", _UNKNOWN, find=_finds(lambda name, asked: name.startswith(asked[:-1]))),
)

KEYS: Final[tuple[SeededDefect, ...]] = (*_OPEN, *_NEAR, *_LOOKS)
