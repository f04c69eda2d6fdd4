"""Images from the network: within limits, from nowhere private, and stoppable."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from griptape_ollama.errors import (
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaTimeoutError,
)
from griptape_ollama.transport import download
from griptape_ollama.transport.connection import stoppable_transport
from griptape_ollama.transport.download import Download

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(1000)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        name = self.path.partition("?")[0].strip("/")
        if name.startswith("hop"):
            self._send(302, b"", Location=f"/hop{int(name[3:]) - 1}" if name != "hop0" else "/image")
        elif name in self.server.redirects:
            self._send(302, b"", Location=self.server.redirects[name])
        elif name == "missing":
            self._send(404, b"no")
        elif name in ("silent", "stalls"):
            if name == "stalls":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(IMAGE[:100])
                self.wfile.flush()
            self.server.asked.set()
            assert self.server.done.wait(30)
        else:
            self._send(200, IMAGE)

    def _send(self, status, body, **headers):
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Tests print nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths = []
        self.redirects = {}
        self.asked = threading.Event()
        self.done = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that went away is no failure."""


@pytest.fixture
def server():
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()


def test_the_content_of_the_url_is_returned(server):
    assert Download(f"{server.url}/image?size=1", allow_private=True).read() == IMAGE
    assert server.paths == ["/image?size=1"]


def test_redirects_are_followed_so_far(server):
    assert Download(f"{server.url}/hop4", allow_private=True).read() == IMAGE
    with pytest.raises(OllamaConnectionError, match="redirect"):
        Download(f"{server.url}/hop5", allow_private=True).read()


def test_another_status_is_an_error_that_names_it(server):
    with pytest.raises(OllamaContentError, match=r"No image at '.*/missing': status 404"):
        Download(f"{server.url}/missing?key=hunter2", allow_private=True).read()


def test_a_body_that_is_too_large_is_refused(server):
    assert Download(f"{server.url}/image", allow_private=True, max_bytes=len(IMAGE)).read() == IMAGE
    with pytest.raises(OllamaContentError, match="is larger than 1,007 bytes"):
        Download(f"{server.url}/image", allow_private=True, max_bytes=len(IMAGE) - 1).read()


@pytest.mark.parametrize("path", ["silent", "stalls"])
def test_it_takes_no_longer_than_it_may(server, path):
    with pytest.raises(OllamaTimeoutError, match=r"took longer than 0\.2 s") as caught:
        Download(f"{server.url}/{path}", allow_private=True, seconds=0.2).read()
    assert (caught.value.limit, caught.value.seconds) == ("total", 0.2)


@pytest.mark.parametrize("path", ["silent", "stalls"])
def test_it_can_be_stopped_from_another_thread(server, path):
    fetching = Download(f"{server.url}/{path}", allow_private=True)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(fetching.read)
        assert server.asked.wait(10)
        started = time.perf_counter()
        fetching.cancel()
        with pytest.raises(OllamaCancelledError, match="was cancelled"):
            future.result(10)
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "0.0.0.0",  # noqa: S104  an address to be refused
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00::1]",
        "me:hunter2@127.0.0.1",
    ],
)
def test_private_addresses_are_refused(host):
    with pytest.raises(OllamaContentError, match=r"is on a private network.*allow_private_image_urls=True") as caught:
        Download(f"http://{host}:9/cat.png", seconds=2).read()
    assert "hunter2" not in str(caught.value)


def test_a_redirect_to_a_private_address_is_refused(server, monkeypatch):
    server.redirects["away"] = "http://10.0.0.1/secret"
    monkeypatch.setattr(download, "_is_public", lambda address: address == "127.0.0.1")  # the server plays the internet
    with pytest.raises(OllamaContentError, match="is on a private network"):
        Download(f"{server.url}/away").read()
    assert Download(f"{server.url}/image").read() == IMAGE


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.com/x"])
def test_a_redirect_to_something_else_than_http_is_refused(server, target):
    server.redirects["away"] = target
    with pytest.raises(OllamaConnectionError, match="cannot be fetched"):
        Download(f"{server.url}/away", allow_private=True).read()


def test_a_name_with_one_private_address_is_refused(monkeypatch):
    found = [(2, 1, 6, "", ("8.8.8.8", 80)), (2, 1, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(OllamaContentError, match="is on a private network"):
        Download("http://two-faced.example/cat.png").read()


def test_a_proxy_of_the_environment_is_not_asked(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    with pytest.raises(OllamaContentError, match="is on a private network"):
        Download("http://10.0.0.1/cat.png").read()
    assert server.paths == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/cat.png", "http://no-such-host.invalid/cat.png", "http://[/cat.png"]
)
def test_where_nothing_answers_is_an_error_that_says_so(url):
    with pytest.raises(OllamaConnectionError, match="cannot be fetched"):
        Download(url, allow_private=True).read()


def test_redirects_share_one_time_limit(server, monkeypatch):
    limits = []

    def transport(resolver):
        made = stoppable_transport(resolver)
        handle = made.handle_request

        def handled(request):
            limits.append(request.extensions["timeout"]["connect"])
            return handle(request)

        monkeypatch.setattr(made, "handle_request", handled)
        return made

    monkeypatch.setattr(download, "stoppable_transport", transport)
    assert Download(f"{server.url}/hop2", allow_private=True, seconds=7).read() == IMAGE
    assert 7 > limits[0] > limits[1] > limits[2] > limits[3] > 0
