"""What is said of a proxy that does not do its work."""

import contextlib
import socket
import ssl
import threading

import pytest
import trustme

from griptape_ollama import OllamaModels, OllamaTimeout
from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaConnectionError,
    OllamaError,
    OllamaGatewayError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaStreamError,
    OllamaTimeoutError,
)
from unit.hostile import HostileServer
from unit.transport.clients import foreign_client
from unit.transport.tls_front import TlsFront

PLAIN, TLS = "http://gpu.example:11434", "https://gpu.example"
WITH_PASSWORD = "ada:hunter2@"
PAGE = b"<html><head><title>Squid says no</title></head></html>"


def _answer(status, body=b"", kind=b"text/html"):
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return lambda _: [head % (status.encode(), kind, len(body)), body]


def _use(monkeypatch, url, variable="HTTP_PROXY"):
    """Name a proxy in the environment, with a password, and give its address without."""
    monkeypatch.setenv(variable, url.replace("://", f"://{WITH_PASSWORD}"))
    return url


def _error(host, **settings):
    with pytest.raises(OllamaError) as caught:
        OllamaModels(host=host, max_attempts=1, **settings).list()
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__cause__)
    return caught.value


class TestUnreachable:
    def test_one_that_refuses_is_named(self, monkeypatch, unused_port):
        proxy = _use(monkeypatch, f"http://127.0.0.1:{unused_port}")
        error = _error(PLAIN)
        assert isinstance(error, OllamaConnectionError)
        assert error.refused
        assert f"The proxy {proxy} (HTTP_PROXY) does not answer" in str(error)
        assert "add the host to NO_PROXY" in str(error)
        assert "ollama serve" not in str(error)

    def test_one_whose_name_is_unknown_is_named(self, monkeypatch):
        _use(monkeypatch, "http://no-such-proxy.invalid:3128", "ALL_PROXY")
        assert "The proxy http://no-such-proxy.invalid:3128 (ALL_PROXY) does not answer" in str(_error(PLAIN))

    def test_one_that_swallows_packets_is_named(self, monkeypatch, silent_address):
        proxy = _use(monkeypatch, f"http://{silent_address}")
        error = _error(PLAIN, timeout=OllamaTimeout(connect=0.1))
        assert isinstance(error, OllamaTimeoutError)
        assert f"through the proxy {proxy} (HTTP_PROXY)" in str(error)

    def test_one_that_hangs_up_is_named(self, monkeypatch):
        with HostileServer(lambda _: []) as server:
            proxy = _use(monkeypatch, server.url)
            error = _error(PLAIN)
        assert isinstance(error, OllamaConnectionError)
        assert f"through the proxy {proxy} (HTTP_PROXY)" in str(error)

    def test_one_of_a_client_is_named_as_such(self, unused_port):
        proxy = f"http://{WITH_PASSWORD}127.0.0.1:{unused_port}"
        with foreign_client(host=PLAIN, proxy=proxy) as client, pytest.raises(OllamaConnectionError) as caught:
            OllamaModels(client=client, max_attempts=1).list()
        assert f"The proxy http://127.0.0.1:{unused_port} (of the client) does not answer" in str(caught.value)
        assert "hunter2" not in str(caught.value)

    def test_a_server_that_is_asked_directly_has_no_proxy(self, unused_port):
        assert "proxy" not in str(_error(f"http://127.0.0.1:{unused_port}"))


class TestTunnels:
    @pytest.mark.parametrize(
        ("status", "kind", "permanent"),
        [
            ("503 Service Unavailable", OllamaGatewayError, False),
            ("502 Bad Gateway", OllamaGatewayError, False),
            ("429 Too Many Requests", OllamaGatewayError, False),
            ("403 Forbidden", OllamaAuthError, True),
            ("405 Method Not Allowed", OllamaResponseError, True),
        ],
    )
    def test_one_that_opens_none_is_named_with_its_status(self, monkeypatch, status, kind, permanent):
        with HostileServer(_answer(status, PAGE)) as server:
            proxy = _use(monkeypatch, server.url, "HTTPS_PROXY")
            error = _error(TLS)
        assert type(error) is kind
        assert (error.status, error.permanent) == (int(status[:3]), permanent)
        assert f"The proxy {proxy} (HTTPS_PROXY) did not connect to Ollama at {TLS}: {status}" in str(error)
        assert "Correct HTTPS_PROXY, or add the host to NO_PROXY" in str(error)

    def test_one_that_wants_a_login_says_how_to_give_it(self, monkeypatch):
        with HostileServer(_answer("407 Proxy Authentication Required")) as server:
            _use(monkeypatch, server.url, "https_proxy")
            error = _error(TLS)
        assert isinstance(error, OllamaAuthError)
        assert error.status == 407
        assert f"https_proxy={server.url.replace('://', '://user:password@')}" in str(error)

    def test_one_with_an_empty_reason_is_named(self, monkeypatch):
        with HostileServer(_answer("503 ")) as server:
            _use(monkeypatch, server.url, "ALL_PROXY")
            assert "(ALL_PROXY) did not connect" in str(_error(TLS))

    def test_a_certificate_behind_it_is_not_the_proxys_fault(self, monkeypatch, simulator):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("gpu.example").configure_cert(context)
        with TlsFront(context, simulator.url) as port, _Tunnel(port) as proxy:
            _use(monkeypatch, proxy, "HTTPS_PROXY")
            error = _error(TLS)
        assert isinstance(error, OllamaConnectionError)
        assert "does not answer" not in str(error)
        assert "verify" in str(error)

    def test_a_reply_comes_through_a_tunnel(self, monkeypatch, simulator):
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("10.1.2.3").configure_cert(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with TlsFront(context, simulator.url) as port, _Tunnel(port) as proxy:
            _use(monkeypatch, proxy, "HTTPS_PROXY")
            assert OllamaModels(host="https://10.1.2.3", ssl_context=trusting).list()


class TestForwarding:
    @pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
    @pytest.mark.parametrize("body", [PAGE, b"", b"no healthy upstream"])
    def test_one_that_answers_in_place_of_the_server_is_named(self, monkeypatch, status, body):
        with HostileServer(_answer(status, body)) as server:
            proxy = _use(monkeypatch, server.url)
            error = _error(PLAIN)
        assert isinstance(error, OllamaGatewayError)
        assert error.status == int(status[:3])
        assert f"The proxy {proxy} (HTTP_PROXY), through which Ollama at {PLAIN} is asked" in str(error)
        assert "Correct HTTP_PROXY, or add the host to NO_PROXY" in str(error)

    def test_one_that_wants_a_login_says_how_to_give_it(self, monkeypatch):
        with HostileServer(_answer("407 Proxy Authentication Required", PAGE)) as server:
            _use(monkeypatch, server.url)
            error = _error(PLAIN)
        assert isinstance(error, OllamaAuthError)
        assert f"HTTP_PROXY={server.url.replace('://', '://user:password@')}" in str(error)

    def test_one_that_does_not_wait_for_the_request_is_heard_all_the_same(self, monkeypatch):
        """It closes the connection with part of the request unread, which resets it behind the reply (tinyproxy)."""

        class Hasty(HostileServer):
            def _serve(self, peer):
                with peer:
                    while not peer.recv(65536, socket.MSG_PEEK).endswith(b"}"):
                        pass
                    peer.sendall(
                        b"HTTP/1.0 407 Proxy Authentication Required\r\nContent-Type: text/html\r\n\r\n" + PAGE
                    )

        with Hasty(None) as server:
            _use(monkeypatch, server.url)
            with pytest.raises(OllamaAuthError) as caught:
                OllamaModels(host=PLAIN, max_attempts=1).show("m")
        assert caught.value.status == 407
        assert "Squid says no" in str(caught.value)

    @pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "400 Bad Request"])
    def test_a_page_of_another_status_may_be_its_own(self, monkeypatch, status):
        with HostileServer(_answer(status, PAGE)) as server:
            proxy = _use(monkeypatch, server.url)
            error = _error(PLAIN)
        assert isinstance(error, OllamaResponseError)
        assert f"It was asked through the proxy {proxy} (HTTP_PROXY)" in str(error)

    def test_so_may_a_page_in_place_of_a_reply(self, monkeypatch):
        with HostileServer(_answer("200 OK", PAGE)) as server:
            proxy = _use(monkeypatch, server.url)
            error = _error(PLAIN)
        assert isinstance(error, OllamaStreamError)
        assert f"through the proxy {proxy} (HTTP_PROXY)" in str(error)

    def test_what_ollama_says_through_it_is_ollamas(self, monkeypatch):
        body = b'{"error":"model \'m\' not found"}'
        with HostileServer(_answer("404 Not Found", body, b"application/json")) as server:
            _use(monkeypatch, server.url)
            with pytest.raises(OllamaModelNotFoundError) as caught:
                OllamaModels(host=PLAIN, max_attempts=1).show("m")
        assert "proxy" not in str(caught.value)


class _Tunnel:
    """A proxy that opens a tunnel to a port of this machine, whatever host it is asked for."""

    def __init__(self, port):
        self._port = port
        self._sockets, self._threads = [], []

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_):
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _start(self, work, *arguments):
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                front, _ = self._listener.accept()
                back = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [front, back]
                front.recv(65536)
                front.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._start(self._copy, front, back)
                self._start(self._copy, back, front)

    @staticmethod
    def _copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
