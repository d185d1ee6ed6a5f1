"""The options of a server: one dataclass for the command line, config files, ``running()`` and the pytest marker."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, Literal, ParamSpec, TypeVar, get_args

from cyclopts import CycloptsError, Parameter, Token, validators
from cyclopts.config import Dict
from seedbed_schemas import Contract, job_api, local
from seedbed_schemas.contract import patched_contract
from seedbed_schemas.dialect import dialects
from seedbed_schemas.validation import printable

from seedbed_mock.clock import Clock
from seedbed_mock.durations import DurationProfile, parse_duration
from seedbed_mock.settings import (
    MISSING_AGENT_EXTRA,
    ClockKind,
    Egress,
    HttpStatus,
    KeySettings,
    Progress,
    Rate,
    SettingsError,
    SigningTime,
    Span,
    exact_credits,
    parse_allowed_host,
    parse_credits,
    parse_origin,
    parse_public_url,
    split_host,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App, ArgumentCollection


LONGEST_TASK: Final = 31_536_000
"""A year, in seconds."""

_SLOWEST, _FASTEST = 0.001, 1_000_000
"""Range of a clock's speed; with a slower clock, a callback would be due in years."""

RANGES: Final[dict[str, tuple[float, float]]] = {
    **dict.fromkeys(("visible_after", "result_ttl"), (0, LONGEST_TASK)),
    "keep_tasks": (1, 10_000_000),
    **dict.fromkeys(("keep_alive", "header_timeout", "request_timeout"), (0.01, LONGEST_TASK)),
    "max_header_bytes": (1024, 1024**2),
    "max_headers": (10, 10_000),
    "max_pipelined": (1, 10_000),
    **dict.fromkeys(("speed", "replay_speed"), (_SLOWEST, _FASTEST)),
}
"""Least and largest value of options."""

_PATHS = ("result_dir", "db", "replay", "tls_cert", "tls_key")
_PAIRS = (("tls_cert", "tls_key"), ("tls_key", "tls_cert"))


def integer_of(_: Any, tokens: Sequence[Token]) -> int:
    """Return the value of an option as a whole number."""
    # The converter of cyclopts would round 8.5.
    try:
        return int(tokens[0].value)
    except ValueError as error:
        raise ValueError(f"{tokens[0].value} is not a whole number.") from error


def text_of(_: Any, tokens: Sequence[Token]) -> str:
    """Return the value of an option as it was given."""
    return tokens[0].value


def texts_of(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the values of an option that can be given several times."""
    return tuple(each.value for each in tokens)


INTEGER = Parameter(converter=integer_of)
PATH = Parameter(converter=text_of, metavar="PATH")
# Without its value in the help, since the URL of a fleet may have a password.
DATABASE = Parameter(converter=text_of, metavar="FILE|URL", show_default=False)
_FLEET_URL = re.compile(r"(redis|rediss|unix)://", re.IGNORECASE)
_ANY_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


if TYPE_CHECKING:
    DialectName = str
else:
    # Dialects are data, and the help lists them.
    DialectName = Literal[tuple(dialects())]


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options of a server.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        public_url: URL at which clients reach the server, for the URLs of results; by default the address that the
            client called.
        key: API key to accept; each key has its own account. Pass NAME, or
            NAME:credits=80,rate=20/10,signing-key=SECRET with any of these options. To pass any SECRET literally, use
            a [[key]] table of --config. Repeatable.
        dialect: "documented" responds as the documentation says, "observed" as the real service is known to respond.
        http_status: "envelope" responds with HTTP 200 and the code in the body, "mirror" sends the code as HTTP status
            too.
        task_seconds: Duration of a task in seconds; MIN..MAX draws a duration from the range for each task, and the
            name of a duration profile (fast, observed or slow-day) from its distribution.
        progress: What advances tasks: time, polls:N (a task ends with the N-th poll) or hand (only the control API).
        visible_after: Seconds during which a new task is unknown to recordInfo.
        credits: Initial balance of each account.
        rate_limit: Limit on new tasks of an account, as N/SECONDS, or off.
        poll_rate_limit: Limit on recordInfo requests of an account, as N/SECONDS such as 10/1, or off.
        clock: "real"; "manual" for a clock that stands still until the control API advances it; "follow" for the
            time of the process, which a test in it may freeze; or "auto" for a clock that jumps to the next event when
            all clients wait.
        speed: Speed of the clock; 2 is twice as fast as real time.
        keep_alive: Seconds after which a connection without a request is closed.
        header_timeout: Seconds in which the headers of a request must be complete.
        request_timeout: Seconds in which a request must be complete, and a client must read some of a response.
        max_header_bytes: Largest size of the request line and the headers together.
        max_headers: Largest number of headers of a request.
        max_pipelined: Largest number of requests on one connection that wait for a response to an earlier one; reading
            pauses beyond it.
        sign_with: What gives the timestamp of a signed callback: "real", the time that receivers have, or "clock", the
            clock of the server.
        allow_host: Host name under which clients may call the server besides its address and localhost, or * for any.
            Repeatable.
        tls: Also accept HTTPS, with certificates of a CA of your own in the state folder of Seedbed. The server is
            then a proxy, too, and stands in for the host of the paid service.
        tls_cert: PEM file with a certificate of your own to use with --tls, and those that certify it.
        tls_key: PEM file with the key of that certificate.
        intercept: Further host to stand in for, as HOST or HOST:PORT; it turns --tls on. Repeatable.
        egress: What the proxy does with connections to other hosts: "allow" passes them on and reports them, "deny"
            refuses them. Nothing passes to the paid service.
        cors: Origin of web pages that may call the server from a browser, such as http://localhost:3000, or * for any.
            The control API stays closed to them. Repeatable.
        callback_allow: Host or network that may receive callbacks besides this machine, such as 10.0.0.0/8.
            Repeatable.
        result_ttl: Seconds for which a result is kept after its task has ended.
        result_dir: Directory of images to serve as results, cropped to size, instead of drawn ones.
        keep_tasks: Number of tasks to keep; beyond it, the oldest finished tasks are deleted.
        db: SQLite file for tasks and balances, or redis://HOST:PORT/0 (also rediss:// or unix://) for a fleet of
            servers that share everything; without it, all is kept in memory.
        control_token: Token that the control API requires, as Authorization: Bearer TOKEN.
        seed: Seed of everything random, such as the colours of the images.
        scenario: Faults to inject over time: the name of a built-in scenario, or a scenario file.
        replay: Directory of recordings of seedbed proxy to answer from. No callback leaves this machine then.
        replay_speed: Pace of the replay; 2 is twice as fast as the recording.
        replay_strict: Refuse what is not recorded, instead of answering as the mock server.
        mcp: Serve tools for coding agents at /__seedbed/mcp, for callers on this machine.
        accept_empty_callback: Take an empty or null callback URL for none, as "observed" always does.
        contract_patch: JSON Merge Patch (RFC 7396) for a contract: a file or, from Python, its content. It changes the
            contract of the model that its "title" names, otherwise the built-in one. Repeatable.
        contracts: Contracts of additional models; a contract of a built-in model replaces the built-in contract.
    """

    host: str = local.HOST
    port: Annotated[int, INTEGER, Parameter(validator=validators.Number(gte=0, lte=65535))] = local.PORT
    public_url: Annotated[str | None, Parameter(show_default=False)] = None
    key: Annotated[
        str | Iterable[str | KeySettings], Parameter(converter=texts_of, metavar="KEY", show_default=", ".join)
    ] = field(default=(local.KEY,), repr=False)
    dialect: Annotated[DialectName, Parameter(converter=text_of)] = "documented"
    http_status: HttpStatus = "envelope"
    task_seconds: Annotated[str | float, Parameter(converter=text_of, metavar="SECONDS")] = 3
    progress: str = "time"
    visible_after: float = 0
    credits: Annotated[str | float | Decimal, Parameter(converter=text_of, metavar="CREDITS")] = (
        job_api().new_account_credits
    )
    rate_limit: str = str(Rate(*job_api().rate))
    poll_rate_limit: str = "off"
    clock: Annotated[ClockKind | Clock, Parameter(converter=text_of, metavar="CLOCK")] = "real"
    speed: float = 1
    keep_alive: float = 75
    header_timeout: float = 10
    request_timeout: float = 60
    max_header_bytes: Annotated[int, INTEGER] = 65_536
    max_headers: Annotated[int, INTEGER] = 256
    max_pipelined: Annotated[int, INTEGER] = 64
    sign_with: SigningTime = "real"
    allow_host: Annotated[str | Iterable[str], Parameter(converter=texts_of, metavar="HOST", show_default=False)] = ()
    tls: bool = False
    tls_cert: Annotated[str | Path | None, PATH] = None
    tls_key: Annotated[str | Path | None, PATH] = None
    intercept: Annotated[str | Iterable[str], Parameter(converter=texts_of, metavar="HOST", show_default=False)] = ()
    egress: Egress = "allow"
    cors: Annotated[str | Iterable[str], Parameter(converter=texts_of, metavar="ORIGIN", show_default=False)] = ()
    callback_allow: Annotated[
        str | Iterable[str], Parameter(converter=texts_of, metavar="HOST", show_default=False)
    ] = ()
    result_ttl: float = job_api().result_seconds
    result_dir: Annotated[str | Path | None, PATH] = None
    keep_tasks: Annotated[int, INTEGER] = 10_000
    db: Annotated[str | Path | None, DATABASE] = field(default=None, repr=False)
    control_token: Annotated[str | None, Parameter(show_default=False)] = field(default=None, repr=False)
    seed: Annotated[int, INTEGER] = 0
    scenario: Annotated[str | Path, Parameter(converter=text_of, metavar="NAME|PATH", show_default=False)] = ""
    replay: Annotated[str | Path | None, PATH] = None
    replay_speed: float = 1
    replay_strict: bool = False
    mcp: bool = False
    accept_empty_callback: bool = False
    contract_patch: Annotated[
        str | Path | Mapping[str, Any] | Iterable[str | Path | Mapping[str, Any]],
        Parameter(converter=texts_of, metavar="FILE", show_default=False),
    ] = ()
    contracts: Annotated[Iterable[Contract], Parameter(parse=False)] = ()

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> ServerOptions:
        """Return the options of a Python program, where the default port is a free one.

        Raises:
            SettingsError: A keyword is not an option.
        """
        known = [each.name for each in fields(cls)]
        if unknown := next((name for name in keywords if name not in known), None):
            from difflib import get_close_matches  # the command line never needs it

            nearest = get_close_matches(unknown, known, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"the options are {', '.join(known)}."
            raise SettingsError(f"Unknown option {unknown}; {hint}")
        return cls(**{"port": 0, **keywords})

    def check(self) -> None:
        """Check all options.

        Raises:
            SettingsError: An option is invalid.
        """
        _check_choice("http-status", self.http_status, get_args(HttpStatus))
        _check_choice("sign-with", self.sign_with, get_args(SigningTime))
        _check_choice("dialect", self.dialect, dialects())
        _check_choice("egress", self.egress, get_args(Egress))
        if not 0 <= self.duration.least <= self.duration.most <= LONGEST_TASK:
            raise SettingsError(f"Invalid duration {self.duration}; a task takes from 0 to {LONGEST_TASK} seconds.")
        for name, (least, most) in RANGES.items():
            _check_range(name.replace("_", "-"), getattr(self, name), least, most)
        if self.control_token is not None and not re.fullmatch(r"[!-~]{1,256}", self.control_token):
            raise SettingsError("Invalid control token; use 1 to 256 visible ASCII characters without spaces.")
        # An empty path would be the current directory.
        if empty := next((name for name in _PATHS if getattr(self, name) == ""), None):
            raise SettingsError(f"Empty path for {empty.replace('_', '-')}; name one, or omit the option.")
        if missing := next(
            (name for name, other in _PAIRS if getattr(self, name) is None is not getattr(self, other)), ""
        ):
            raise SettingsError(f"A certificate and its key belong together; pass --{missing.replace('_', '-')}, too.")
        exact_credits(self.opening_balance)
        if isinstance(self.clock, str):
            _check_choice("clock", self.clock, get_args(ClockKind))
            if self.clock != "real" and self.speed != 1:
                raise SettingsError(f"Only a real clock has a speed; use --speed or --clock {self.clock}, not both.")
        self._check_needs()
        # Parsed here so that a mistake in them shows before the server starts.
        _ = self.accounts, self.task_progress, self.creation_limit, self.poll_limit, self.public_base
        _ = self.own_hosts, self.cors_origins

    def _check_needs(self) -> None:
        """Check what options need of each other, and of what is installed."""
        if self.mcp and find_spec("mcp") is None:
            raise SettingsError(MISSING_AGENT_EXTRA)
        if not self.has_fleet:
            if self.db is not None and _ANY_URL.match(str(self.db)):
                raise SettingsError("Invalid URL for db; use redis://, rediss:// or unix://, or the path of a file.")
        elif self.clock not in ("real", "manual"):
            raise SettingsError("The servers of a fleet share a clock, which is real or manual; use one of these.")
        elif self.replay is not None:
            raise SettingsError("A replay belongs to one server; omit --replay, or give --db a file.")
        if self.replay is not None and self.callback_hosts:
            raise SettingsError("Nothing leaves this machine while --replay runs; omit --callback-allow.")
        if self.replay is None and (self.replay_strict or self.replay_speed != 1):
            raise SettingsError("--replay-strict and --replay-speed need --replay DIR.")

    @property
    def has_fleet(self) -> bool:
        """Whether the server shares its state with others on Redis."""
        return self.db is not None and bool(_FLEET_URL.match(str(self.db)))

    @cached_property
    def accounts(self) -> tuple[KeySettings, ...]:
        """The keys with their options."""
        keys = (self.key,) if isinstance(self.key, str) else self.key
        accounts = tuple(KeySettings.parse(each) if isinstance(each, str) else each for each in keys)
        if not accounts:
            raise SettingsError("At least one key is required.")
        if len({each.key for each in accounts}) < len(accounts):
            raise SettingsError("Repeated key; give each key once.")
        return accounts

    @cached_property
    def duration(self) -> Span | DurationProfile:
        """How long a task takes."""
        return parse_duration(_as_text(self.task_seconds))

    @cached_property
    def public_base(self) -> str | None:
        """URL at which clients reach the server, ``None`` for the address that a client called."""
        return None if self.public_url is None else parse_public_url(self.public_url)

    @cached_property
    def task_progress(self) -> Progress:
        """What advances tasks."""
        return Progress.parse(self.progress)

    @cached_property
    def opening_balance(self) -> Decimal:
        """Initial balance of an account whose key sets none."""
        return parse_credits(_as_text(self.credits))

    @cached_property
    def creation_limit(self) -> Rate | None:
        """Limit on new tasks of an account whose key sets none."""
        return Rate.parse(self.rate_limit)

    @cached_property
    def poll_limit(self) -> Rate | None:
        """Limit on recordInfo requests of an account."""
        return Rate.parse(self.poll_rate_limit)

    @cached_property
    def patched_contracts(self) -> tuple[Contract, ...]:
        """The contracts of additional models, and all contracts that a patch changes."""
        contracts: dict[str, Contract] = {}
        for each in self.contracts:
            if contracts.setdefault(each.model, each).document != each.document:
                raise SettingsError(f"Two contracts are of the model {printable(each.model)}; give one of them.")
        given: Any = self.contract_patch
        for source in (given,) if isinstance(given, str | Path | Mapping) else given:
            contract = patched_contract(source, contracts)
            contracts[contract.model] = contract
        return tuple(contracts.values())

    @cached_property
    def own_hosts(self) -> frozenset[str]:
        """Host names under which clients may call the server besides its address and localhost, in lower case."""
        names = (self.allow_host,) if isinstance(self.allow_host, str) else self.allow_host
        return frozenset(map(parse_allowed_host, names))

    @cached_property
    def called_hosts(self) -> frozenset[str]:
        """The same host names, and the one that the server listens on."""
        parts = split_host(self.host)
        return self.own_hosts | {parts[0] if parts else self.host.lower()}

    @cached_property
    def intercepted_hosts(self) -> tuple[str, ...]:
        """Hosts to stand in for besides those of the contracts."""
        return (self.intercept,) if isinstance(self.intercept, str) else tuple(self.intercept)

    @property
    def has_tls(self) -> bool:
        """Whether the server accepts HTTPS."""
        return bool(self.tls or self.intercepted_hosts or self.tls_files)

    @property
    def tls_files(self) -> tuple[Path, Path] | None:
        """A certificate of the user's own and its key."""
        return (Path(self.tls_cert), Path(self.tls_key)) if self.tls_cert and self.tls_key else None

    @cached_property
    def cors_origins(self) -> frozenset[str]:
        """Origins of web pages that may call the server, as browsers send them; ``*`` for any."""
        return frozenset(map(parse_origin, (self.cors,) if isinstance(self.cors, str) else self.cors))

    @cached_property
    def callback_hosts(self) -> tuple[str, ...]:
        """Hosts and networks that may receive callbacks besides this machine."""
        return (self.callback_allow,) if isinstance(self.callback_allow, str) else tuple(self.callback_allow)


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class RunOptions(ServerOptions):  # noqa: D101 (described as below)
    __doc__ = ServerOptions.__doc__
    port: Annotated[int, INTEGER, Parameter(validator=validators.Number(gte=0, lte=65535))] = 0


def _as_text(amount: str | float | Decimal) -> str:
    # A float prints with an exponent if it is small, and with nine digits it is as exact as the text may be.
    if isinstance(amount, float):
        return f"{amount:.9f}"
    return f"{amount:f}" if isinstance(amount, Decimal) else str(amount)


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in (known := tuple(choices)):
        raise SettingsError(f"Invalid {name} {value!r}; use {' or '.join(known)}.")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise SettingsError(f"Invalid {name} {value}; use a number from {least} to {most}.")


_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Self = TypeVar("_Self")


def keywords_of(
    _: Callable[_Parameters, object], /
) -> Callable[[Callable[..., _Result]], Callable[_Parameters, _Result]]:
    """Let a type checker see a function that takes ``**options`` with the keywords of a dataclass."""
    return lambda function: function


def method_keywords_of(
    _: Callable[_Parameters, object], /
) -> Callable[[Callable[Concatenate[_Self, ...], _Result]], Callable[Concatenate[_Self, _Parameters], _Result]]:
    """Do the same as :func:`keywords_of` for a method."""
    return lambda method: method


def read_config(path: Path, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill the options of a command from a TOML file; the command line takes precedence.

    Args:
        path: The file.
        app: The command, as cyclopts passes it to a config source.
        commands: Its name and the names of the commands above it.
        arguments: Its options with their values so far.

    Raises:
        CycloptsError: The file cannot be read, or an option in it is unknown or invalid.
    """
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CycloptsError(msg=f"{path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CycloptsError(msg=f"{path} is not valid TOML: {error}.") from error
    options.pop("$schema", None)  # for editors
    if "config" in options:
        raise CycloptsError(msg=f"{path}: a config file cannot name another config file.")
    if "key" in options:
        _fill_keys(path, options.pop("key"), arguments)
    # Nested under the names of the command: cyclopts drops an option of the root that has the name of a command.
    for command in reversed(commands):
        options = {command: options}
    Dict(options, source=str(path))(app, commands, arguments)


def _fill_keys(path: Path, keys: object, arguments: ArgumentCollection) -> None:
    """Hand keys over as values: as text, a secret could be taken for an option."""
    several = keys if isinstance(keys, list) else [keys]
    if isinstance(keys, dict) or not all(isinstance(each, str | dict) for each in several):
        raise CycloptsError(msg=f'{path}: invalid key; use [[key]] tables with a name, or key = ["my-key"].')
    try:
        values = [KeySettings.from_table(each) if isinstance(each, dict) else each for each in several]
    except SettingsError as error:
        raise CycloptsError(msg=f"{path}: {error}") from error
    if not values:
        raise CycloptsError(msg=f"{path}: the list of keys is empty; name a key, or omit the option.")
    argument = arguments["--key"]
    if not argument.tokens:
        argument.append(Token(keyword="key", source=str(path), implicit_value=tuple(values)))
