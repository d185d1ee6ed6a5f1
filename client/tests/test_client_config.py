"""Which service the clients call: the local mock server by default, the paid service only on request."""

import httpx2
import pytest
from seedbed_client import AsyncSeedreamClient, ConfigurationError, SeedreamClient
from seedbed_schemas import default_contract

LIVE = default_contract().operation.server


def request_of(client: SeedreamClient) -> httpx2.Request:
    """Return the request that a client sends for its balance."""
    client.credits()
    request: httpx2.Request = REQUESTS[-1]
    return request


REQUESTS: list[httpx2.Request] = []


def respond(request: httpx2.Request) -> httpx2.Response:
    REQUESTS.append(request)
    return httpx2.Response(200, json={"code": 200, "msg": "success", "data": 1})


TRANSPORT = httpx2.MockTransport(respond)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEEDBED_BASE_URL", raising=False)
    monkeypatch.delenv("SEEDBED_API_KEY", raising=False)


def test_the_local_mock_server_is_the_default() -> None:
    request = request_of(SeedreamClient(transport=TRANSPORT))
    assert str(request.url).startswith("http://127.0.0.1:8721/")
    assert request.headers["Authorization"] == "Bearer seedbed-key"


def test_environment_variables_name_another_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_BASE_URL", "http://10.0.0.7:99/")
    monkeypatch.setenv("SEEDBED_API_KEY", "from-env")
    request = request_of(SeedreamClient(transport=TRANSPORT))
    assert str(request.url) == "http://10.0.0.7:99/api/v1/chat/credit"
    assert request.headers["Authorization"] == "Bearer from-env"


def test_arguments_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_BASE_URL", "http://10.0.0.7:99")
    monkeypatch.setenv("SEEDBED_API_KEY", "from-env")
    request = request_of(SeedreamClient("http://localhost:5", "mine", transport=TRANSPORT))
    assert request.url.host == "localhost"
    assert request.headers["Authorization"] == "Bearer mine"


def test_empty_environment_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_BASE_URL", "")
    monkeypatch.setenv("SEEDBED_API_KEY", "")
    assert request_of(SeedreamClient(transport=TRANSPORT)).url.port == 8721


@pytest.mark.parametrize(
    "url", [LIVE, f"{LIVE}/", LIVE.upper(), f"{LIVE}:443/x", f"{LIVE}.", LIVE.replace("https", "http")]
)
@pytest.mark.parametrize("cls", [SeedreamClient, AsyncSeedreamClient])
def test_the_url_of_the_paid_service_is_refused(
    monkeypatch: pytest.MonkeyPatch, cls: type[SeedreamClient | AsyncSeedreamClient], url: str
) -> None:
    with pytest.raises(ConfigurationError, match="live"):
        cls(url, "a-key")
    monkeypatch.setenv("SEEDBED_BASE_URL", url)
    with pytest.raises(ConfigurationError, match="live"):
        cls()


def test_live_calls_the_paid_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_BASE_URL", "http://127.0.0.1:1")
    request = request_of(SeedreamClient.live("paid-key", transport=TRANSPORT))
    assert str(request.url).startswith(LIVE)
    assert request.headers["Authorization"] == "Bearer paid-key"


def test_live_of_the_async_client_calls_the_paid_service() -> None:
    assert AsyncSeedreamClient.live("paid-key").base_url == LIVE


@pytest.mark.parametrize("cls", [SeedreamClient, AsyncSeedreamClient])
def test_the_paid_service_needs_a_key(cls: type[SeedreamClient | AsyncSeedreamClient]) -> None:
    with pytest.raises(ConfigurationError, match="key of the paid service is missing"):
        cls.live("")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://x",
        "http://",
        "http://[",
        "http://a b",
        "http://x:99999",
        "/api",
        "http://h?x=y",
        "http://h/#x",
    ],
)
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        SeedreamClient(url)


@pytest.mark.parametrize("key", ["a b", "a\r\nX: y", "ключ", "\x00"])
def test_an_invalid_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        SeedreamClient(api_key=key)
    assert key not in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.9.9.9"])  # noqa: S104 (not bound)
def test_no_proxy_is_used_for_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://10.0.0.1:3128")
    client = SeedreamClient(f"http://{host}:1")
    assert not client._runner._http.for_url(client.base_url).trust_env
