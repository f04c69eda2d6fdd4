"""The connection to the server: clients, credentials, headers and addresses."""

import base64
import gc

import ollama
import pytest
from griptape.artifacts import TextArtifact

from griptape_ollama import OllamaContentError, OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator

_HI = TextArtifact("Hi")


def _basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _authorizations(simulator):
    return {request.headers.get("Authorization") for request in simulator.requests}


def test_an_address_of_the_environment_is_used_where_none_is_given(simulator, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", simulator.url.removeprefix("http://"))
    OllamaPromptDriver(model="simulator").run(_HI)
    assert len(simulator.chats) == 1


def test_an_address_that_is_given_wins_over_the_environment(simulator, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:1")
    OllamaPromptDriver(model="simulator", host=simulator.url).run(_HI)
    assert len(simulator.chats) == 1


def test_a_wrong_address_in_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "ftp://gpu")
    with pytest.raises(OllamaContentError, match="the scheme 'ftp'"):
        OllamaPromptDriver(model="simulator").run(_HI)


def test_a_host_that_is_changed_after_use_counts(simulator, make_driver):
    driver = make_driver()
    driver.run(_HI)
    with OllamaSimulator() as other:
        driver.host = other.url
        driver.run(_HI)
        assert len(other.chats) == 1
        driver.host = simulator.url
    driver.run(_HI)
    assert len(simulator.chats) == 2


def test_an_environment_that_changes_after_use_counts(simulator, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", simulator.url)
    driver = OllamaPromptDriver(model="simulator")
    driver.run(_HI)
    with OllamaSimulator() as other:
        monkeypatch.setenv("OLLAMA_HOST", other.url)
        driver.run(_HI)
        assert (len(simulator.chats), len(other.chats)) == (1, 1)


def test_a_wrong_host_is_refused_when_it_is_set(make_driver):
    driver = make_driver()
    with pytest.raises(OllamaContentError, match="the port 'x' is not a number"):
        driver.host = "gpu:x"


def test_prompts_use_one_connection(simulator, make_driver):
    driver = make_driver()
    first = driver.connection
    for _ in range(3):
        driver.run(_HI)
    assert driver.connection is first


def test_a_key_of_the_environment_does_not_go_to_a_server_of_ones_own(simulator, make_driver, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "hunter2")
    make_driver().run(_HI)
    assert _authorizations(simulator) == {None}


def test_a_key_that_is_given_goes_out_with_every_request(simulator, make_driver, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "from the environment")
    make_driver(api_key="hunter2").run(_HI)
    assert [request.path for request in simulator.requests] == ["/api/show", "/api/ps", "/api/chat"]
    assert _authorizations(simulator) == {"Bearer hunter2"}


def test_a_key_that_is_changed_after_use_counts(simulator, make_driver):
    driver = make_driver(api_key="old")
    driver.run(_HI)
    driver.api_key = "new"
    driver.run(_HI)
    assert simulator.last_chat.headers["Authorization"] == "Bearer new"
    driver.api_key = None
    driver.run(_HI)
    assert "Authorization" not in simulator.last_chat.headers


@pytest.mark.parametrize(
    ("credentials", "user", "password"),
    [
        ("alice:hunter2", "alice", "hunter2"),
        ("alice:p%40ss%2Fw%3Ard", "alice", "p@ss/w:rd"),
        ("alice:p@ss", "alice", "p@ss"),
        ("alice:", "alice", ""),
        ("alice", "alice", ""),
        ("alice:p%C3%A4ss", "alice", "päss"),
    ],
)
def test_user_and_password_of_the_host_are_sent(simulator, make_driver, credentials, user, password):
    make_driver(host=simulator.url.replace("://", f"://{credentials}@")).run(_HI)
    assert _authorizations(simulator) == {_basic(user, password)}


def test_user_and_password_of_the_environment_are_sent(simulator, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", simulator.url.replace("://", "://alice:hunter2@"))
    OllamaPromptDriver(model="simulator").run(_HI)
    assert _authorizations(simulator) == {_basic("alice", "hunter2")}


def test_two_credentials_for_one_header_are_refused(simulator, make_driver):
    driver = make_driver(host="http://alice:hunter2@127.0.0.1:1", api_key="hunter3")
    with pytest.raises(OllamaContentError, match="give either api_key or user:password@") as caught:
        driver.run(_HI)
    assert "hunter" not in str(caught.value)


def test_headers_go_out_with_every_request(simulator, make_driver):
    make_driver(headers={"X-Team": "blue", "authorization": "Token hunter2"}).run(_HI)
    assert [request.headers["X-Team"] for request in simulator.requests] == ["blue"] * 3
    assert _authorizations(simulator) == {"Token hunter2"}


def test_headers_that_are_changed_in_place_count(simulator, make_driver):
    driver = make_driver(headers={"X-Team": "blue"})
    driver.run(_HI)
    driver.headers["X-Team"] = "red"
    driver.run(_HI)
    assert simulator.last_chat.headers["X-Team"] == "red"


def test_a_callable_is_asked_for_headers_before_each_request(simulator, make_driver):
    numbers = iter(range(100))
    driver = make_driver(headers=lambda: {"X-Token": str(next(numbers))})
    driver.run(_HI)
    driver.run(_HI)
    assert [request.headers["X-Token"] for request in simulator.requests] == list(map(str, range(5)))


def test_a_callable_is_asked_again_when_a_request_is_tried_again(simulator, make_driver):
    simulator.reply(status=503, error="busy")
    numbers = iter(range(100))
    make_driver(headers=lambda: {"X-Token": str(next(numbers))}).run(_HI)
    assert [request.headers["X-Token"] for request in simulator.chats] == ["2", "3"]


@pytest.mark.parametrize("value", ["hunter2\n", "hunter2\x00", "hünter2", 7])
@pytest.mark.parametrize("form", ["mapping", "callable", "api_key"])
def test_a_header_that_cannot_be_sent_is_refused_without_showing_it(make_driver, form, value):
    settings = {"mapping": {"headers": {"X-Token": value}}, "callable": {"headers": lambda: {"X-Token": value}}}
    driver = make_driver(**settings.get(form, {"api_key": value}))
    with pytest.raises(OllamaContentError, match="must be a text of printable ASCII") as caught:
        driver.run(_HI)
    assert "nter2" not in str(caught.value)


def test_a_client_that_is_given_is_used_and_not_closed(simulator, make_client):
    client = make_client(headers={"X-Team": "theirs"})
    driver = OllamaPromptDriver(model="simulator", client=client)
    assert driver.host == simulator.url
    assert driver.run(_HI).to_text()
    assert driver.client is client
    assert simulator.last_chat.headers["X-Team"] == "theirs"
    del driver
    gc.collect()
    assert not client._client.is_closed
    assert client.list().models


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_is_given_gets_key_and_headers_added(simulator, make_client, stream):
    client = make_client()
    driver = OllamaPromptDriver(
        model="simulator", client=client, api_key="hunter2", headers={"X-Team": "ours"}, stream=stream
    )
    driver.run(_HI)
    assert simulator.last_chat.headers["Authorization"] == "Bearer hunter2"
    assert simulator.last_chat.headers["X-Team"] == "ours"
    client.list()
    assert "Authorization" not in simulator.requests[-1].headers


def test_limits_of_a_client_hold_unless_others_are_given(make_client):
    client = make_client(timeout=7)
    driver = OllamaPromptDriver(model="simulator", client=client)
    assert (driver.limits.connect, driver.limits.first_token, driver.limits.between_tokens) == (7, 7, 7)
    driver.timeout = 9
    assert (driver.limits.total, driver.limits.connect) == (9, 5)


def test_a_client_can_be_given_later(make_driver, make_client):
    driver = make_driver(host="http://127.0.0.1:1")
    client = make_client()
    driver.client = client
    assert driver.run(_HI).to_text()
    assert driver.client is client


@pytest.mark.parametrize("client", [object(), ollama.AsyncClient(host="http://127.0.0.1:1")])
def test_what_is_no_client_is_refused(client):
    with pytest.raises(OllamaContentError, match=r"ollama\.Client"):
        OllamaPromptDriver(model="m", client=client).run(_HI)


def test_our_own_client_is_closed_when_it_is_unreferenced(make_driver):
    driver = make_driver()
    driver.run(_HI)
    session = driver.client._client
    assert not session.is_closed
    del driver
    gc.collect()
    assert session.is_closed


def test_the_client_can_be_used_for_everything_else(make_driver):
    assert {model.model for model in make_driver().client.list().models} >= {"simulator:latest"}


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "a..b"},
        {"host": "x" * 64},
        {"host": "256.1.1.1"},
        {"headers": {"Content-Length": "5"}},
        {"headers": {5: "a"}},
        {"headers": {"X": " a "}},
        {"headers": lambda: None},
        {"api_key": "x "},
    ],
    ids=["empty label", "long label", "no IPv4", "framing", "name", "blanks", "no mapping", "blank in a key"],
)
def test_what_no_request_can_carry_is_refused_before_anything_is_sent(simulator, settings):
    with pytest.raises(OllamaContentError):
        OllamaPromptDriver(**{"model": "simulator", "host": simulator.url, **settings}).run(_HI)
    assert simulator.requests == []


def test_an_empty_key_is_no_key(simulator, make_driver):
    make_driver(api_key="").run(_HI)
    assert "Authorization" not in simulator.last_chat.headers
