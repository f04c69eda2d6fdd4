"""A malicious server gets bounded memory and time, and one of our errors."""

import gzip
import io
import itertools
import zlib

import pytest
from griptape.artifacts import TextArtifact

from griptape_ollama import (
    OllamaConnectionError,
    OllamaContentError,
    OllamaEmbeddingDriver,
    OllamaError,
    OllamaModels,
    OllamaPromptDriver,
    OllamaResponseError,
    OllamaStreamError,
    OllamaTimeout,
    OllamaTimeoutError,
)
from griptape_ollama.transport.download import Download
from unit.hostile import HEAD, HostileServer, chunk, peak_bytes
from unit.transport.clients import foreign_client

MB = 1024 * 1024
_ANSWER = [HEAD + b"Set-Cookie: track=caf\xc3\xa9\r\nSet-Cookie: id=1\r\n\r\n", chunk(b'{"done":true}\n'), chunk(b"")]
LIMITS = OllamaTimeout(connect=5, first_token=30, between_tokens=30)
SPACES = chunk(b" " * 65536)


def prompt(host, **settings):
    settings = {"model": "m", "host": host, "timeout": LIMITS, "max_attempts": 1, **settings}
    return OllamaPromptDriver(**settings).run(TextArtifact("Hi"))


def embed(host, **settings):
    settings = {"model": "m", "host": host, "timeout": LIMITS, "max_attempts": 1, **settings}
    return OllamaEmbeddingDriver(**settings).embed("text")


def _models(host):
    return OllamaModels(host=host, timeout=LIMITS, max_attempts=1)


def loaded(host):
    return _models(host).loaded()


def show(host):
    return _models(host).show("m")


def pull(host):
    return _models(host).pull("m")


def image(host):
    return Download(f"{host}/image", allow_private=True, max_bytes=MB).read()


CALLS = [prompt, embed, loaded, show, pull, image]
IN_JSON = [prompt, embed, loaded, show, pull]


def _zeros(megabytes, layers=1):
    """That many megabytes, packed over and over."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for _ in range(megabytes):
            file.write(b" " * MB)
    data = packed.getvalue()
    for _ in range(layers - 1):
        data = gzip.compress(data)
    return data


BOMB = _zeros(100)
BOMB_OF_BOMBS = _zeros(100, layers=2)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("status", [200, 400])
def test_a_small_body_that_unpacks_to_a_large_one_takes_little_memory(call, status):
    head = HEAD.replace(b"200 OK", b"%d X" % status) + b"Content-Encoding: gzip\r\n\r\n"
    with (
        HostileServer(lambda _: [head, chunk(BOMB), chunk(b"")]) as server,
        peak_bytes() as peak,
        pytest.raises(OllamaError),
    ):
        call(server.url)
    assert peak[0] < 60 * MB


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "nonsense"])
def test_a_body_that_is_packed_in_a_way_that_was_not_asked_for_is_refused(call, encoding):
    head = HEAD + f"Content-Encoding: {encoding}\r\n\r\n".encode()
    with HostileServer(lambda _: [head, chunk(BOMB_OF_BOMBS), chunk(b"")]) as server, peak_bytes() as peak:
        with pytest.raises(OllamaError, match="packed as"):
            call(server.url)
        assert b"ccept-encoding: gzip\r\n" in server.heads[0].replace(b"Accept-E", b"accept-e")
    assert peak[0] < 10 * MB


@pytest.mark.parametrize("call", IN_JSON, ids=lambda call: call.__name__)
def test_endless_white_space_is_given_up(call):
    with (
        HostileServer(lambda _: itertools.chain([HEAD + b"\r\n"], itertools.repeat(SPACES))) as server,
        peak_bytes() as peak,
        pytest.raises(OllamaStreamError),
    ):
        call(server.url)
    assert peak[0] < 80 * MB


def test_empty_lines_without_end_are_no_sign_of_life():
    limits = OllamaTimeout(first_token=0.3, between_tokens=0.3)
    blank = chunk(b"\n" * 65536)
    with (
        HostileServer(lambda _: itertools.chain([HEAD + b"\r\n"], itertools.repeat(blank))) as server,
        pytest.raises(OllamaTimeoutError),
    ):
        prompt(server.url, timeout=limits)


def test_interim_responses_without_end_are_no_sign_of_life():
    answer = itertools.repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)
    with HostileServer(lambda _: answer) as server, pytest.raises(OllamaTimeoutError):
        prompt(server.url, timeout=OllamaTimeout(first_token=0.3, between_tokens=0.3))


def test_silent_lines_are_kept_up_to_a_limit_only():
    line = chunk(b'{"done":false,"message":{"content":""},"x":"' + b"x" * MB + b'"}\n')
    end = chunk(b'{"done":true,"done_reason":"stop","message":{"content":"."}}\n') + chunk(b"")
    answer = [HEAD + b"\r\n", *[line] * 100, end]
    with HostileServer(lambda _: answer) as server, peak_bytes() as peak:
        assert prompt(server.url).to_text() == "."
    # The question about the model before it reads up to its own limit of 16 MB, and holds that three times over.
    assert peak[0] < 70 * MB


@pytest.mark.parametrize("lines_before", [0, 1])
def test_a_huge_error_line_gives_an_error_of_a_few_words(lines_before):
    token = b'{"message":{"content":"Hello"},"done":false}\n'
    line = chunk(token * lines_before + b'{"error":"' + b"no! " * MB + b'"}\n')
    with HostileServer(lambda _: [HEAD + b"\r\n", line, chunk(b"")]) as server, pytest.raises(OllamaError) as caught:
        prompt(server.url)
    assert isinstance(caught.value, OllamaStreamError if lines_before else OllamaResponseError)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "answer",
    [b"nonsense " * 5000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, b"HTTP/1.1 200 OK\r\n:::\r\n\r\n"],
    ids=["status line", "header", "no header"],
)
def test_a_head_that_is_none_gives_an_error_of_a_few_words(answer):
    with HostileServer(lambda _: [answer]) as server, pytest.raises(OllamaConnectionError) as caught:
        prompt(server.url)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("call", IN_JSON, ids=lambda call: call.__name__)
@pytest.mark.parametrize("depth", [900, 100_000])
@pytest.mark.parametrize(
    ("status", "form"),
    [(400, b'{"error":%b}'), (200, b'{"error":%b}'), (200, b'{"models":%b,"embeddings":%b,"message":{"content":%b}}')],
)
def test_deep_json_gives_one_of_our_errors(call, depth, status, form):
    body = form.replace(b"%b", b"[" * depth + b"]" * depth) + b"\n"
    head = HEAD.replace(b"200 OK", b"%d X" % status) + b"\r\n"
    with HostileServer(lambda _: [head, chunk(body), chunk(b"")]) as server:
        try:
            answer = call(server.url)
        except OllamaError:
            return
    assert call in (show, loaded), "what is odd in a description is left out"
    assert not getattr(answer, "models", None)


@pytest.mark.parametrize("call", IN_JSON, ids=lambda call: call.__name__)
@pytest.mark.parametrize("kind", [b"text/html", b"image/png", b"text/event-stream", b"application/xml"])
def test_a_page_of_any_type_is_refused_and_hardly_read(call, kind):
    head = HEAD.replace(b"application/x-ndjson", kind) + b"\r\n"
    with (
        HostileServer(lambda _: itertools.chain([head, b"7\r\n<title>\r\n"], itertools.repeat(SPACES))) as server,
        peak_bytes() as peak,
        pytest.raises(OllamaStreamError, match="a page in place of a reply"),
    ):
        call(server.url)
    assert peak[0] < 5 * MB


def test_an_image_without_end_is_given_up_at_its_limit():
    with (
        HostileServer(lambda _: itertools.chain([HEAD + b"\r\n"], itertools.repeat(SPACES))) as server,
        peak_bytes() as peak,
        pytest.raises(OllamaContentError, match="is larger than"),
    ):
        image(server.url)
    assert peak[0] < 8 * MB


@pytest.mark.parametrize("wrap", [gzip.compress, zlib.compress], ids=["gzip", "zlib"])
def test_a_reply_that_a_proxy_packed_is_unpacked(wrap):
    text = "x" * 300_000
    body = wrap(f'{{"message":{{"content":"{text}"}},"done":true,"done_reason":"stop"}}\n'.encode())
    cut = [chunk(body[at : at + 7]) for at in range(0, len(body), 7)]
    answer = [HEAD + b"Content-Encoding: gzip\r\n\r\n", *cut, chunk(b"")]
    with HostileServer(lambda _: answer) as server:
        assert prompt(server.url).to_text() == text


def test_cookies_are_not_kept():
    with HostileServer(lambda _: _ANSWER) as server:
        # It closes each connection behind the answer, which may be seen too late.
        driver = OllamaPromptDriver(model="m", host=server.url, timeout=LIMITS, max_attempts=3, min_retry_delay=0)
        for _ in range(2):
            driver.run(TextArtifact("Hi"))
        assert not [head for head in server.heads if b"cookie" in head.lower()]
    assert list(driver.client._client.cookies.jar) == []


def test_a_cookie_that_a_client_of_ones_own_kept_but_cannot_send_is_our_error():
    with HostileServer(lambda _: _ANSWER) as server, foreign_client(host=server.url) as client:
        driver = OllamaPromptDriver(model="m", client=client, timeout=LIMITS, max_attempts=1)
        client._client.cookies.set("track", "caf\u00e9")
        with pytest.raises(OllamaConnectionError, match="Check host, headers and proxy") as caught:
            driver.run(TextArtifact("Hi"))
    assert caught.value.__cause__ is None
