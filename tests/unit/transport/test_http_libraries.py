"""Sessions of httpx and of httpx2, which a later release of the `ollama` package may build on: both do the same."""

import contextlib
import gzip
import json
import ssl
import sys
import threading
import time

import httpx
import ollama
import pytest
import trustme
from griptape.artifacts import TextArtifact

from griptape_ollama import (
    OllamaConnectionError,
    OllamaContentError,
    OllamaEmbeddingDriver,
    OllamaModels,
    OllamaPromptDriver,
    OllamaResponseError,
    OllamaStreamError,
    OllamaTimeout,
    OllamaTimeoutError,
)
from griptape_ollama.errors import OllamaCancelledError
from griptape_ollama.testing import Reply
from griptape_ollama.transport.connection import Connection, make_stoppable, session_of
from griptape_ollama.transport.http_libraries import library_of, raised_as_httpx
from unit.transport.tls_front import TlsFront

httpx2 = pytest.importorskip("httpx2", reason="httpx2 is not installed")


@pytest.fixture(params=[httpx, httpx2], ids=lambda library: library.__name__)
def library(request):
    return request.param


@pytest.fixture
def make_client(library):
    """Makes clients of the `ollama` package over a session of the library."""
    with contextlib.ExitStack() as sessions:

        def make(url, **settings):
            client = ollama.Client(host=url)
            client._client.close()
            client._client = library.Client(base_url=url, timeout=None, **settings)
            sessions.callback(client._client.close)
            return client

        yield make


@pytest.fixture
def client(simulator, make_client):
    return make_client(simulator.url)


def _driver(client, **settings):
    return OllamaPromptDriver(model="simulator", client=client, min_retry_delay=0, **settings)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_prompts_are_answered(simulator, client, stream):
    simulator.reply("Hello 😀")
    assert _driver(client, stream=stream).run(TextArtifact("Hi")).to_text() == "Hello 😀"


def test_vectors_and_models_are_there(simulator, client):
    assert len(OllamaEmbeddingDriver(model="simulator-embed", client=client).embed_batch(["a", "b"])) == 2
    models = OllamaModels(client=client)
    assert models.exists("simulator")
    assert models.pull("library-small").model.name == "library-small:latest"


def test_a_connection_is_used_again(simulator, client):
    driver = _driver(client)
    for _ in range(3):
        driver.run(TextArtifact("Hi"))
    assert len({request.headers["Host"] for request in simulator.requests}) == 1
    (pool,) = [client._client._transport._pool]
    assert len(pool.connections) == 1


def test_its_sockets_are_guarded(client):
    assert make_stoppable(client._client)


def test_a_call_is_stopped_while_it_waits(simulator, client):
    hold = threading.Event()
    simulator.reply("never", wait=hold)
    driver, caught = _driver(client), []

    def run():
        try:
            driver.run(TextArtifact("Hi"))
        except OllamaCancelledError as error:
            caught.append((error, time.monotonic()))

    thread = threading.Thread(target=run)
    thread.start()
    simulator.wait_for_request(path="/api/chat")
    stopped_at = time.monotonic()
    driver.cancel()
    thread.join(10)
    hold.set()
    assert caught
    assert caught[0][1] - stopped_at < 5


def test_an_unreachable_server_is_a_connection_error(make_client, unused_port):
    with pytest.raises(OllamaConnectionError, match="No Ollama server answers") as caught:
        _driver(make_client(f"http://127.0.0.1:{unused_port}")).run(TextArtifact("Hi"))
    assert caught.value.refused


def test_limits_hold(simulator, client):
    simulator.reply("late", headers_delay=60, times=None)
    driver = _driver(client, timeout=OllamaTimeout(first_token=0.05), max_attempts=1)
    with pytest.raises(OllamaTimeoutError) as caught:
        driver.run(TextArtifact("Hi"))
    assert caught.value.limit == "first_token"


def test_its_own_limits_are_understood(simulator, library, make_client):
    client = make_client(simulator.url)
    client._client.timeout = library.Timeout(connect=3, read=7, write=None, pool=None)
    assert Connection(client).timeout == httpx.Timeout(connect=3, read=7, write=None, pool=None)
    limits = OllamaTimeout.of(library.Timeout(connect=3, read=7, write=None, pool=None))
    assert (limits.connect, limits.first_token, limits.between_tokens) == (3, 7, 7)


def test_a_refusal_and_a_broken_stream_are_errors_of_ours(simulator, client):
    simulator.reply(Reply(status=400, error="no"))
    with pytest.raises(OllamaResponseError, match="no"):
        _driver(client).run(TextArtifact("Hi"))
    simulator.reply("one two three", cut=1)
    with pytest.raises(OllamaStreamError) as caught:
        _driver(client).run(TextArtifact("Hi"))
    assert caught.value.partial_text


def test_a_connection_that_breaks_before_the_answer_is_tried_again(simulator, client):
    simulator.fault("reset")
    assert _driver(client).run(TextArtifact("Hi")).to_text()
    assert len(simulator.chats) == 2


def test_a_body_that_is_packed_is_unpacked(simulator, make_client):
    def packed(library):
        body = gzip.compress(json.dumps({"models": []}).encode())
        return library.MockTransport(
            lambda _: library.Response(
                200, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}, content=iter([body])
            )
        )

    for library in (httpx, httpx2):
        client = ollama.Client(host=simulator.url)
        client._client.close()
        client._client = library.Client(base_url=simulator.url, transport=packed(library))
        assert OllamaModels(client=client).list() == []
        client._client.close()


def test_a_certificate_is_checked(simulator, make_client):
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)
    with TlsFront(context, simulator.host) as port:
        url = f"https://127.0.0.1:{port}"
        with pytest.raises(OllamaConnectionError, match="certificate verify failed"):
            OllamaModels(client=make_client(url, verify=ssl.create_default_context())).list()
        assert OllamaModels(client=make_client(url, verify=trusting)).list()


def test_a_session_that_awaits_is_refused(library):
    client = ollama.AsyncClient(host="http://127.0.0.1:1")
    client._client = library.AsyncClient(base_url="http://127.0.0.1:1")
    with pytest.raises(OllamaContentError, match="AsyncClient"):
        session_of(client)


@pytest.mark.parametrize("session", [None, object(), "http://gpu", threading.local()])
def test_what_is_no_session_is_refused_with_what_can_be_used(session):
    client = ollama.Client(host="http://127.0.0.1:1")
    client._client.close()
    client._client = session
    with pytest.raises(OllamaContentError, match="neither of httpx nor of httpx2"):
        session_of(client)


class TestAnOllamaPackageThatBuildsOnIt:
    @pytest.fixture(autouse=True)
    def _moved(self, monkeypatch):
        monkeypatch.setattr(sys.modules[ollama.Client.__module__], "httpx", httpx2)

    def test_is_found_out(self):
        assert library_of(ollama.Client) is httpx2

    def test_a_driver_of_ours_works_with_all_its_settings(self, simulator):
        address = simulator.url.replace("http://", "http://ada:secret@")
        driver = OllamaPromptDriver(model="simulator", host=address, headers={"X-Team": "a"}, max_concurrency=2)
        simulator.reply("Hello")
        assert driver.run(TextArtifact("Hi")).to_text() == "Hello"
        assert isinstance(driver.client._client, httpx2.Client)
        headers = simulator.last_chat.headers
        assert (headers["X-Team"], headers["Authorization"]) == ("a", httpx.BasicAuth("ada", "secret")._auth_header)

    def test_a_proxy_of_the_environment_is_asked(self, simulator, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", simulator.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        simulator.reply("Hello")
        driver = OllamaPromptDriver(model="simulator", host="http://ollama.internal:11434")
        assert driver.run(TextArtifact("Hi")).to_text() == "Hello"


def test_exceptions_have_the_names_of_httpx():
    for name in ("ConnectError", "ReadTimeout", "RemoteProtocolError", "InvalidURL", "ProxyError", "PoolTimeout"):
        with pytest.raises(getattr(httpx, name), match="why") as caught, raised_as_httpx():
            raise getattr(httpx2, name)("why")
        assert isinstance(caught.value.__cause__, getattr(httpx2, name))
    with pytest.raises(httpx.StreamError), raised_as_httpx():
        raise httpx2.StreamConsumed
    for own in (httpx.ReadError("why"), ValueError("why")):
        with pytest.raises(type(own)) as caught, raised_as_httpx():
            raise own
        assert caught.value is own
