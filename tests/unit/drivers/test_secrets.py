"""Keys, passwords and signed addresses reach only the server that they are for."""

import logging
import pickle
import traceback

import pytest
from click.testing import CliRunner
from griptape.artifacts import TextArtifact
from griptape.structures import Pipeline
from griptape.tasks import PromptTask

from griptape_ollama import (
    ModelLifecycle,
    OllamaConnectionError,
    OllamaContentError,
    OllamaDriversConfig,
    OllamaEmbeddingDriver,
    OllamaMetrics,
    OllamaModels,
    OllamaPromptDriver,
)
from griptape_ollama.cli.main import main
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.download import Download
from unit.hostile import HEAD, HostileServer, chunk

_HI = TextArtifact("Hi")
_PROXIES = ["socks5://u:hunter2@127.0.0.1:9", "ftp://u:hunter2@h", "http://u:hunter2", "http://[::hunter2"]


def _shown(error):
    """What a log shows of an error and its causes, but for lines of code."""
    shown = traceback.TracebackException.from_exception(error)
    texts = []
    while shown is not None:
        texts += shown.format_exception_only()
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    return "".join(texts)


def _with_user(simulator):
    return simulator.url.replace("://", "://alice:hunter2@")


@pytest.fixture
def logged(caplog):
    """Everything that anybody logs, at every level."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "griptape_ollama", "griptape_ollama.audit"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def _assert_silent(caplog):
    assert {record.name.partition(".")[0] for record in caplog.records} >= {"httpx", "httpcore"}
    texts = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    assert not [text for text in texts if "hunter" in text or "alice" in text or "YWxpY2U" in text]


@pytest.mark.parametrize("stream", [False, True])
def test_no_log_shows_a_secret_at_any_level(simulator, logged, stream):
    settings = {"headers": {"X-Token": "hunter3"}, "min_retry_delay": 0}
    for host, key in ((_with_user(simulator), None), (simulator.url, "hunter4")):
        driver = OllamaPromptDriver(
            model="simulator", host=host, api_key=key, stream=stream, audit_requests=True, **settings
        )
        simulator.reply(status=503, error="busy")
        driver.run(_HI)
        OllamaEmbeddingDriver(model="simulator-embed", host=host, api_key=key, **settings).embed("text")
        OllamaModels(host=host, api_key=key, **settings).copy("simulator", "copy-b" if key else "copy-a")
    _assert_silent(logged)


def test_no_log_shows_the_address_of_an_image(logged):
    head = HEAD + b"\r\n"
    with HostileServer(lambda _: [head, chunk(b"image"), chunk(b"")]) as server:
        url = server.url.replace("://", "://alice:hunter2@") + "/a?signature=hunter3"
        assert Download(url, allow_private=True).read() == b"image"
        assert b"Authorization: Basic YWxpY2U6aHVudGVyMg==" in server.heads[0]
    assert "httpcore" in "".join(record.name for record in logged.records)
    assert "hunter" not in logged.text


def test_a_redirected_image_does_not_take_the_password_to_another_host():
    with HostileServer(lambda _: [HEAD + b"\r\n", chunk(b"image"), chunk(b"")]) as other:
        away = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b/b\r\n\r\n" % other.url.encode()
        with HostileServer(lambda _: [away]) as server:
            url = server.url.replace("://", "://alice:hunter2@")
            assert Download(url, allow_private=True).read() == b"image"
        assert b"authorization" not in other.heads[0].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_client_of_ones_own_follows_no_redirect_with_keys_and_prompts(simulator, make_client, status):
    with HostileServer(lambda _: [HEAD + b"\r\n", chunk(b"{}"), chunk(b"")]) as other:
        simulator.reply(status=status, body="", headers={"Location": f"{other.url}/api/chat"}, path="/api/chat")
        client = make_client(headers={"X-Token": "hunter2"})
        with pytest.raises(OllamaConnectionError, match="redirects elsewhere"):
            OllamaPromptDriver(model="simulator", client=client, api_key="hunter3").run(_HI)
        assert other.heads == []


@pytest.mark.parametrize("proxy", _PROXIES)
def test_a_proxy_that_cannot_be_used_is_our_error_and_its_password_is_not_shown(monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(OllamaContentError, match="The proxy of HTTP_PROXY cannot be used") as caught:
        OllamaPromptDriver(model="m", host="gpu-box").run(_HI)
    assert "hunter" not in _shown(caught.value)


@pytest.mark.parametrize("proxy", _PROXIES)
def test_a_proxy_that_cannot_be_used_does_not_matter_for_this_machine(simulator, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    assert OllamaPromptDriver(model="simulator", host=simulator.url).run(_HI).to_text()


def test_a_proxy_is_asked_but_for_hosts_in_no_proxy(monkeypatch):
    with HostileServer(lambda _: [HEAD + b"\r\n", chunk(b'{"models":[]}'), chunk(b"")]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://alice:hunter2@"))
        monkeypatch.setenv("NO_PROXY", "other-box.invalid")
        assert OllamaModels(host="gpu-box.invalid").loaded() == []
        assert proxy.heads[0].startswith(b"GET http://gpu-box.invalid:11434/api/ps ")
        with pytest.raises(OllamaConnectionError, match="Check the host name") as caught:
            OllamaModels(host="other-box.invalid").loaded()
        assert len(proxy.heads) == 1
    assert "hunter" not in _shown(caught.value)


def test_a_key_of_the_environment_may_end_with_a_line_break(monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "hunter2\n")
    assert Connection.open("ollama.com")._session.headers["Authorization"] == "Bearer hunter2"


@pytest.mark.parametrize("key", ["hunter2\r\nX-Evil: 1", "hünter2"])
def test_a_key_of_the_environment_that_no_header_can_carry_is_refused_without_showing_it(monkeypatch, key):
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    with pytest.raises(OllamaContentError, match="OLLAMA_API_KEY must be a text") as caught:
        Connection.open("ollama.com")
    assert "nter2" not in _shown(caught.value)


def test_a_bad_header_of_a_client_of_ones_own_is_not_shown(make_client):
    client = make_client(headers={"X-Token": "hunter2\n"})
    with pytest.raises(OllamaConnectionError, match="Check host, headers and proxy") as caught:
        OllamaPromptDriver(model="simulator", client=client).run(_HI)
    assert "hunter" not in _shown(caught.value)


@pytest.mark.parametrize("name", ["X\r\nX-Evil", "X: 1", "X Y", "", "Ünicode"])
def test_a_header_name_that_is_none_is_refused_before_anything_is_sent(simulator, make_driver, name):
    with pytest.raises(OllamaContentError, match="is not a header that can be added"):
        make_driver(headers={name: "1"}).run(_HI)
    assert simulator.requests == []


def test_nothing_that_describes_a_server_shows_its_user_and_password(simulator):
    host = _with_user(simulator)
    models = OllamaModels(host=host, api_key=None, headers={"X-Token": "hunter3"})
    config = OllamaDriversConfig(prompt_model="simulator", embedding_model="simulator-embed", host=host)
    with OllamaMetrics(paths=None) as metrics:
        config.prompt_driver.run(_HI)
        models.loaded()
    shown = [repr(models), str(models), models.host, repr(config), config.to_json(), repr(config.prompt_driver)]
    shown += [str(metrics.summary().to_dict()), str(metrics.by_model()), repr(config.embedding_driver)]
    assert metrics.summary().calls
    assert not [text for text in shown if "hunter" in str(text) or "alice" in str(text)]


def test_an_error_carries_no_secret_to_another_process(simulator):
    simulator.reply(status=401, error="no", path="/api/chat")
    with pytest.raises(Exception, match="no") as caught:
        OllamaPromptDriver(model="simulator", host=_with_user(simulator), headers={"X-Token": "hunter3"}).run(_HI)
    assert b"hunter" not in pickle.dumps(caught.value)
    assert "hunter" not in _shown(caught.value)


@pytest.mark.parametrize(
    "command", [["list"], ["show", "simulator"], ["show", "nope"], ["ps"], ["warm", "simulator"], ["pull", "nope"]]
)
@pytest.mark.parametrize("is_json", [False, True])
def test_the_command_line_prints_no_secret(simulator, monkeypatch, command, is_json):
    monkeypatch.setenv("GRIPTAPE_OLLAMA_API_KEY", "")
    arguments = ["models", *command, "--host", _with_user(simulator), *(["--json"] if is_json else [])]
    result = CliRunner().invoke(main, arguments)
    assert simulator.requests
    assert "hunter" not in result.output
    assert "alice" not in result.output


def test_the_report_of_a_planner_shows_no_secret(simulator):
    driver = OllamaPromptDriver(model="simulator", host=_with_user(simulator))
    pipeline = Pipeline(tasks=[PromptTask("Hi", prompt_driver=driver)])
    with ModelLifecycle(pipeline) as lifecycle:
        pipeline.run()
    assert lifecycle.report.loads == 1
    shown = f"{lifecycle.report} {lifecycle.report!r} {lifecycle.report.to_dict()}"
    assert "hunter" not in shown
    assert "alice" not in shown
