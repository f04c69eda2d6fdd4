"""Drivers behind a real nginx: what it answers in place of the server, and what it does not let through."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from griptape.artifacts import TextArtifact

from griptape_ollama import (
    OllamaAuthError,
    OllamaConnectionError,
    OllamaEmbeddingDriver,
    OllamaGatewayError,
    OllamaPromptDriver,
    OllamaResponseError,
)
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from unit.nginx import free_port, needs_nginx, nginx

pytestmark = needs_nginx
_HI = TextArtifact("Hi")


@pytest.fixture
def behind(tmp_path, simulator):
    """Makes an nginx before the simulator; the argument stands in its server block, with UP for the simulator."""
    running = []

    def start(server, http=""):
        block = f"{http} server {{ listen 127.0.0.1:PORT; {server} }}"
        proxy = nginx(tmp_path, block.replace("UP", simulator.url.removeprefix("http://")))
        running.append(proxy)
        return proxy.__enter__()

    yield start
    for each in running:
        each.__exit__(None, None, None)


def _driver(url, **settings):
    return OllamaPromptDriver(model="simulator", host=url, **{"min_retry_delay": 0, **settings})


@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_of_nginx_is_named_as_its_own(behind, simulator, stream):
    proxy = behind("location / { proxy_read_timeout 100ms; proxy_pass http://UP; }")
    never = threading.Event()
    simulator.reply("late", wait=never, times=None)
    with pytest.raises(OllamaGatewayError) as caught:
        _driver(proxy.url, stream=stream).run(_HI)
    never.set()
    assert (caught.value.status, caught.value.permanent) == (504, False)
    assert "proxy_read_timeout" in str(caught.value)
    assert "504 Gateway Time-out" in str(caught.value)
    assert "<" not in str(caught.value)
    assert len(simulator.chats) == 2


def test_a_server_that_starts_later_behind_nginx_is_waited_for(tmp_path):
    port = free_port()
    with nginx(
        tmp_path, f"server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://127.0.0.1:{port}; }} }}"
    ) as proxy:
        with pytest.raises(OllamaConnectionError, match="does not reach Ollama behind it"):
            _driver(proxy.url).run(_HI)
        late = threading.Timer(1.0, lambda: servers.append(OllamaSimulator(port=port).start()))
        servers = []
        late.start()
        try:
            driver = _driver(proxy.url, wait_for_server=60)
            assert driver.run(_HI).to_text()
            assert driver.facts.show("simulator").capabilities is not None
        finally:
            late.join()
            servers[0].stop()
        assert proxy.requests(502)


def test_the_command_says_by_its_exit_code_that_no_server_answers(tmp_path):
    with nginx(
        tmp_path, f"server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://127.0.0.1:{free_port()}; }} }}"
    ) as proxy:
        command = [str(Path(sys.executable).parent / "griptape-ollama"), "models", "list", "--host", proxy.url]
        done = subprocess.run([*command, "--timeout", "2"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (4, 5)  # how far it gets in two seconds depends on the machine
    assert "502 Bad Gateway" in done.stderr


@pytest.mark.parametrize("code", [401, 403, 404, 405, 444, 503])
def test_prompts_and_embeddings_need_no_more_than_their_own_paths(behind, caplog, code):
    proxy = behind(
        "location = /api/chat { proxy_pass http://UP; } location = /api/embed { proxy_pass http://UP; }"
        f"location / {{ return {code}; }}"
    )
    driver = _driver(proxy.url)
    embedder = OllamaEmbeddingDriver(model="simulator-embed", host=proxy.url)
    for number in range(5):
        assert driver.run(_HI).to_text()
        assert embedder.embed(f"text {number}")
    asked = proxy.requests(code)
    assert len(asked) == len(set(asked))
    assert caplog.text.count("does not tell") == 1


def test_a_login_names_the_setting(behind, tmp_path):
    (tmp_path / "users").write_text("")
    proxy = behind(
        f'auth_basic "models"; auth_basic_user_file {tmp_path}/users; location / {{ proxy_pass http://UP; }}'
    )
    with pytest.raises(OllamaAuthError, match="user:password@"):
        _driver(proxy.url).run(_HI)


def test_a_limiter_is_waited_for_as_any_that_passes(behind):
    proxy = behind(
        "location / { limit_req zone=one; limit_req_status 429; proxy_pass http://UP; }",
        http="limit_req_zone $binary_remote_addr zone=one:1m rate=5r/s;",
    )
    driver = _driver(proxy.url, max_attempts=20, min_retry_delay=0.2, max_retry_delay=0.5)
    for _ in range(3):
        assert driver.run(_HI).to_text()
    assert proxy.requests(429)


class TestLargestBody:
    def test_a_batch_that_is_too_large_teaches_what_fits(self, behind):
        proxy = behind("client_max_body_size 20k; location / { proxy_pass http://UP; }")
        driver = OllamaEmbeddingDriver(model="simulator-embed", host=proxy.url, batch_size=100)
        texts = [f"{number} " + "\u00e4\U0001f600 word " * 40 for number in range(300)]
        vectors = driver.embed_batch(texts)
        assert len(vectors) == 300
        assert all(vectors)
        first = len(proxy.requests(413))
        assert 1 <= first <= 4
        assert len(driver.embed_batch([f"more {text}" for text in texts])) == 300
        assert len(proxy.requests(413)) == first

    def test_a_prompt_that_is_too_large_says_how_large_and_what_to_raise(self, behind, simulator):
        proxy = behind("client_max_body_size 20k; location / { proxy_pass http://UP; }")
        with pytest.raises(OllamaResponseError, match="client_max_body_size") as caught:
            _driver(proxy.url, num_ctx=None).run(TextArtifact("word " * 10_000))
        assert caught.value.status == 413
        said = next(part for part in str(caught.value).split() if part.replace(",", "").isdigit() and "," in part)
        assert int(said.replace(",", "")) > 50_000
        assert not simulator.chats

    def test_a_body_far_larger_than_the_limit_is_still_answered(self, behind):
        proxy = behind("client_max_body_size 20k; location / { proxy_pass http://UP; }")
        with pytest.raises(OllamaResponseError) as caught:
            _driver(proxy.url, num_ctx=None).run(TextArtifact("word " * 4_000_000))
        assert caught.value.status == 413


def test_the_wrong_scheme_is_named(behind):
    proxy = behind("location / { proxy_pass http://UP; }")
    with pytest.raises(OllamaConnectionError, match="write http:// in host"):
        _driver(proxy.url.replace("http:", "https:"), verify=False).run(_HI)


def test_a_redirect_to_a_login_is_said(behind):
    proxy = behind("location / { return 302 https://login.example.com/start?rd=$request_uri; }")
    with pytest.raises(OllamaConnectionError, match=r"another host \(https://login\.example\.com/start\)"):
        _driver(proxy.url).run(_HI)


def test_the_end_of_an_address_that_is_too_much_is_named(behind):
    proxy = behind("location / { proxy_pass http://UP; }")
    for end in ("/v1", "/api", "/api/chat", "/v1/chat/completions"):
        with pytest.raises(OllamaResponseError, match=f"Leave out '{end}'"):
            _driver(f"{proxy.url}{end}/").run(_HI)


def test_a_reply_is_read_whatever_type_nginx_gives_it(behind, simulator):
    proxy = behind(
        "location / { proxy_pass http://UP; proxy_hide_header Content-Type; add_header Content-Type text/html always; }"
    )
    simulator.reply("Hello")
    assert _driver(proxy.url).run(_HI).to_text() == "Hello"


def test_a_model_that_never_loads_is_asked_for_once_and_said_once(tmp_path, caplog):
    said = "llama-server process has terminated: exit status 1: error loading model: " + "x" * 200
    with OllamaSimulator(models=[SimulatedModel(name="simulator", load_error=said)]) as server:
        up = server.url.removeprefix("http://")
        block = f"server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://{up}; }} }}"
        with nginx(tmp_path, block) as proxy, pytest.raises(OllamaResponseError) as caught:
            _driver(proxy.url, max_attempts=4).run(_HI)
    assert caught.value.permanent
    assert len([request for request in server.requests if request.path == "/api/chat"]) == 1
    assert (str(caught.value) + caplog.text).count(said) == 1
    assert caught.value.__cause__ is None
