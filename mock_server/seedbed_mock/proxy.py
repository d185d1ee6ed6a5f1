"""The subcommand ``seedbed proxy``: the relay with its options, its banner and the report at its end."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter, validators
from seedbed_schemas import Contract, commands, default_contract, local
from seedbed_schemas.commands import JsonFlag
from seedbed_schemas.contract import ContractError
from seedbed_schemas.validation import printable

from seedbed_mock.app import build_app
from seedbed_mock.bill import plain
from seedbed_mock.call_log import LogOptions
from seedbed_mock.journal import JournalReader
from seedbed_mock.options import INTEGER, PATH, DialectName, ServerOptions, text_of, texts_of
from seedbed_mock.server import serve_until_signal, start_server
from seedbed_mock.settings import HttpStatus, SettingsError
from seedbed_mock.sockets import ListenError, listen, local_url_of

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from seedbed_mock.recording.differences import Deviation
    from seedbed_mock.recording.relay import Relay
    from seedbed_mock.responses import ResponseWriter
    from seedbed_mock.state import Service
    from seedbed_mock.testing import MockServer


_LONGEST_TIMEOUT: Final = 3600.0


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ProxyOptions:
    """The options of a proxy.

    Attributes:
        upstream: URL of the service to pass requests on to; http only for an address of this machine.
        record: Directory to record the traffic in, as HAR files without keys and cookies, for seedbed serve --replay.
        max_credits: Credits that may be spent; a creation that might exceed them is refused.
        price: Price of a task of another model than the built-in one, as MODEL=CREDITS, for --max-credits. Repeatable.
        upstream_timeout: Seconds within which a response of the service has to begin, and each 64 KiB of it to arrive.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        public_url: URL at which the service can reach the proxy. Callbacks then pass through the proxy, too.
        dialect: Dialect that the service is compared with.
        http_status: "envelope" expects HTTP 200 and the code in the body, "mirror" the code as HTTP status, too.
        allow_host: Host name under which clients may call the proxy besides its address and localhost, or * for any.
            Repeatable.
        callback_allow: Host or network that callbacks may be passed on to besides this machine. Repeatable.
        control_token: Token that the control API requires, as Authorization: Bearer TOKEN.
        seed: Seed of the fault rules.
        scenario: Faults to inject over time: the name of a built-in scenario, or a scenario file.
    """

    upstream: Annotated[str, Parameter(metavar="URL", show_default=False)] = default_contract().operation.server
    record: Annotated[str | Path | None, PATH] = None
    max_credits: Annotated[str | float | Decimal | None, Parameter(converter=text_of, metavar="CREDITS")] = None
    price: Annotated[
        str | Iterable[str], Parameter(converter=texts_of, metavar="MODEL=CREDITS", show_default=False)
    ] = ()
    upstream_timeout: float = 120
    host: str = local.HOST
    port: Annotated[int, INTEGER, Parameter(validator=validators.Number(gte=0, lte=65535))] = local.PORT
    public_url: Annotated[str | None, Parameter(show_default=False)] = None
    dialect: Annotated[DialectName, Parameter(converter=text_of)] = "documented"
    http_status: HttpStatus = "envelope"
    allow_host: Annotated[str | Iterable[str], Parameter(converter=texts_of, metavar="HOST", show_default=False)] = ()
    callback_allow: Annotated[
        str | Iterable[str], Parameter(converter=texts_of, metavar="HOST", show_default=False)
    ] = ()
    control_token: Annotated[str | None, Parameter(show_default=False)] = field(default=None, repr=False)
    seed: Annotated[int, INTEGER] = 0
    scenario: Annotated[str | Path, Parameter(converter=text_of, metavar="NAME|PATH", show_default=False)] = ""
    contracts: Annotated[Iterable[Contract], Parameter(parse=False)] = ()

    def server_options(self) -> ServerOptions:
        """Return the options of the server that the proxy is, without those of a mock service."""
        return ServerOptions(
            host=self.host,
            port=self.port,
            public_url=self.public_url,
            dialect=self.dialect,
            http_status=self.http_status,
            allow_host=self.allow_host,
            callback_allow=self.callback_allow,
            control_token=self.control_token,
            seed=self.seed,
            scenario=self.scenario,
            contracts=self.contracts,
        )

    def limit(self) -> Decimal | None:
        """Return the credits that may be spent, ``None`` for no limit.

        Raises:
            SettingsError: The limit is not a number of credits.
        """
        return None if self.max_credits is None else _amount("max-credits", str(self.max_credits))

    def prices(self) -> dict[str, Decimal]:
        """Return the given prices by model.

        Raises:
            SettingsError: A price is invalid.
        """
        given = (self.price,) if isinstance(self.price, str) else self.price
        prices = {}
        for text in given:
            model, equals, amount = text.rpartition("=")
            if not equals or not model:
                raise SettingsError(f"Invalid price {printable(text)!r}; use MODEL=CREDITS, such as maker/model=6.5.")
            prices[model] = _amount("price", amount)
        return prices


def _amount(name: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise SettingsError(f"Invalid {name} {printable(text)!r}; use a number of credits, such as 100.")
    return amount


def build_proxy(options: ProxyOptions) -> Starlette:
    """Return a proxy as an application.

    Raises:
        SettingsError: An option is invalid.
    """
    return build_app(options.server_options(), lambda service, writer, _: _make_relay(options, service, writer))


def start_proxy(options: ProxyOptions) -> MockServer:
    """Start a proxy in a thread; its handle inspects its journal and its faults like those of a mock server.

    Raises:
        ListenError: The proxy cannot listen on the address.
        SettingsError: An option is invalid.
    """
    return start_server(options.server_options(), build=lambda _: build_proxy(options))


def _make_relay(options: ProxyOptions, service: Service, writer: ResponseWriter) -> Relay:
    # Imported late: the HTTP client takes a tenth of a second, which the other commands do without.
    from seedbed_mock.recording.differences import DifferenceLog
    from seedbed_mock.recording.forwarding import CallbackForwarder
    from seedbed_mock.recording.recorder import Recorder
    from seedbed_mock.recording.relay import Relay, problem_of_effect
    from seedbed_mock.recording.spending import CreditLimit
    from seedbed_mock.recording.upstream import Upstream, is_loopback, parse_upstream

    if not 0 < options.upstream_timeout <= _LONGEST_TIMEOUT:
        raise SettingsError(f"Invalid upstream-timeout {options.upstream_timeout}; use at most {_LONGEST_TIMEOUT:g}.")
    url = parse_upstream(options.upstream)
    parts = urlsplit(url)
    is_local = is_loopback(parts.hostname or "")
    if is_local and parts.port == options.port:
        raise SettingsError(f"The proxy would call itself: the upstream {url} has its own port; pass another --port.")
    service.faults.problem_of = problem_of_effect
    for active in service.faults:
        if problem := problem_of_effect(active.rule.effect):
            raise SettingsError(f"The scenario {options.scenario} has a rule that a proxy cannot apply: {problem}.")
    models = service.catalogue.models
    differences = DifferenceLog(
        service.dialect,
        {name: model.contract for name, model in models.items()},
        service.catalogue.shipped.contract,
        is_mirror=options.http_status == "mirror",
    )
    service.differences = lambda: differences
    prices = {name: model.profile.credits for name, model in models.items() if model.profile.images}
    limit = CreditLimit(
        options.limit(), prices | options.prices(), ("recordInfo", "credit", "downloadUrl", "models", "modelSchema")
    )
    recorder = Recorder(Path(options.record), url) if options.record is not None else None
    callbacks = None
    if options.public_url is not None or is_local:
        base = service.options.public_base
        callbacks = CallbackForwarder(service, base, service.options.callback_hosts, differences, recorder)
    return Relay(
        service,
        writer,
        upstream=Upstream(url, options.upstream_timeout),
        limit=limit,
        differences=differences,
        callbacks=callbacks,
        recorder=recorder,
    )


def proxy(
    *,
    options: ProxyOptions | None = None,
    log: LogOptions | None = None,
    contract: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = (),
    as_json: JsonFlag = False,
) -> int:
    """Pass requests on to the real service until Ctrl-C, and report what it does that the contract does not say.

    Args:
        options: Options of the proxy.
        log: Options of the log.
        contract: Contract of an additional model, written by seedbed derive. Repeatable.
        as_json: Print a JSON object when the proxy is ready, and another with the report when it has stopped.
    """
    from dataclasses import replace

    options = options or ProxyOptions()
    try:
        options = replace(options, contracts=tuple(Contract.load(path) for path in contract))
        app = build_proxy(options)
        listener = listen(options.host, options.port)
    except ListenError as error:
        advice = "Choose another --port or --host; --port 0 picks a free port."
        return commands.fail("proxy", f"{error}.", fix=advice)
    except (SettingsError, ContractError, OSError) as error:
        sentence = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) else str(error)
        return commands.fail("proxy", sentence)
    service: Service = app.state.service
    with listener:
        call_log = (log or LogOptions()).open(JournalReader(service.own_journal), sys.stderr)

        async def on_ready() -> None:
            url = local_url_of([listener])
            if as_json:
                commands.print_json(_event(url, options))
            else:
                print(_banner(url, options), flush=True)
            if call_log:
                call_log.start()

        serve_until_signal(app, [listener], on_ready)
        if call_log:
            call_log.close()
    differences, bill = list(service.differences()), service.ledger.bill()
    if as_json:
        found = msgspec.to_builtins(differences)
        commands.print_json({"event": "stopped", "bill": bill.to_json(), "differences": found})
    else:
        print(report(differences, bill.describe()), flush=True)
    return 0


def _event(url: str, options: ProxyOptions) -> dict[str, object]:
    limit = options.limit()
    return {
        "event": "ready",
        "url": url,
        "upstream": options.upstream,
        "recording": None if options.record is None else str(options.record),
        "max_credits": None if limit is None else float(limit),
    }


def _banner(url: str, options: ProxyOptions) -> str:
    lines = [f"Seedbed is ready on {url} and passes requests on to {options.upstream}", ""]
    if options.record is not None:
        lines.append(f"Recording: {options.record} (without keys and cookies)")
    limit = options.limit()
    lines.append(
        "Credits: no limit; set one with --max-credits" if limit is None else f"Credits: at most {plain(limit)}"
    )
    return "\n".join([*lines, "", "Press Ctrl-C to stop."])


def report(differences: list[Deviation], bill: str) -> str:
    """Return the report at the end of a proxy: what was spent, and how the service differs from the contract."""
    lines = [f"Spent, as far as the proxy knows: {bill}."]
    if not differences:
        return "\n".join([*lines, "The service did nothing that the contract does not say."])
    number = f"{len(differences)} clause{'' if len(differences) == 1 else 's'}"
    lines += ["", f"What the service does that the contract does not say ({number}):"]
    for each in differences:
        times = "once" if each.count == 1 else f"{each.count} times"
        lines += [f"  {each.clause}", f"    {each.describe()} ({each.operation}, {times})."]
    return "\n".join(lines)
