"""The way to a server: credentials, TLS, proxies, and what is relied on inside other packages."""

import base64
import gc
import gzip
import socket
import ssl
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpcore
import httpx
import ollama
import pytest
import trustme

from griptape_ollama.errors import OllamaCancelledError, OllamaConnectionError, OllamaContentError
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport import stoppable_sockets as sockets
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection, make_stoppable, session_of
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.stoppable_sockets import StoppableBackend
from unit.hostile import HEAD, HostileServer, chunk
from unit.transport.clients import foreign_client
from unit.transport.tls_front import TlsFront

BODY = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def simulator():
    with OllamaSimulator() as simulator:
        yield simulator


def _headers_of(simulator, connection):
    """The headers that a call over the connection sends, by lower-case name."""
    simulator.reply("Hello")
    list(Call(connection, "/api/chat", BODY).lines())
    return {name.lower(): value for name, value in dict(simulator.last_chat.headers).items()}


class TestWhatIsReliedOn:
    """Private parts of other packages, each used in one place. A release that moves them must fail here, loudly."""

    def test_an_ollama_client_keeps_its_http_session_in_client(self):
        with foreign_client() as client:
            assert isinstance(client._client, httpx.Client)

    def test_a_session_keeps_its_pools_where_they_can_be_wrapped(self):
        with foreign_client() as client:
            assert make_stoppable(client._client)
            pool = client._client._transport._pool
            assert isinstance(pool, httpcore.ConnectionPool)
            assert isinstance(pool._network_backend, StoppableBackend)

    def test_proxies_are_wrapped_too(self, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        with foreign_client(host="http://gpu-box") as client:
            assert client._client._mounts
            assert make_stoppable(client._client)
            for transport in client._client._mounts.values():
                assert transport is None or isinstance(transport._pool._network_backend, StoppableBackend)

    def test_wrapping_twice_wraps_once(self):
        with foreign_client() as client:
            make_stoppable(client._client)
            backend = client._client._transport._pool._network_backend
            make_stoppable(client._client)
            assert client._client._transport._pool._network_backend is backend

    def test_the_read_limit_can_be_changed_after_the_headers(self, simulator):
        simulator.reply("one two three", pause=(1, threading.Event()))
        with httpx.Client(timeout=60) as session:
            request = session.build_request("POST", f"{simulator.host}/api/chat", json=BODY)
            response = session.send(request, stream=True)
            request.extensions["timeout"]["read"] = 0.05
            with pytest.raises(httpx.ReadTimeout):
                response.read()
            response.close()


class TestCredentials:
    def test_no_key_means_no_authorization(self, simulator):
        assert "authorization" not in _headers_of(simulator, Connection.open(simulator.host))

    def test_an_explicit_key_goes_to_any_host(self, simulator):
        headers = _headers_of(simulator, Connection.open(simulator.host, api_key="secret"))
        assert headers["authorization"] == "Bearer secret"

    def test_the_key_of_the_environment_stays_at_home(self, simulator, monkeypatch):
        monkeypatch.setenv("OLLAMA_API_KEY", "secret")
        assert "authorization" not in _headers_of(simulator, Connection.open(simulator.host))

    def test_the_key_of_the_environment_goes_to_ollama_com(self, monkeypatch):
        monkeypatch.setenv("OLLAMA_API_KEY", "secret")
        connection = Connection.open("ollama.com")
        assert connection._session.headers["Authorization"] == "Bearer secret"

    @pytest.mark.parametrize(
        "host",
        [
            "http://ollama.com",
            "ollama.com:11434",
            "ollama.com.evil.test",
            "https://ollama.com.evil.test",
            "evilollama.com",
            "https://evil-ollama.com",
            "https://ollama.com@evil.test",
            "https://evil.test/ollama.com",
            "https://ollama.com:443@evil.test",
            "https://ollama.com\\@evil.test",
            "https://ollam\u0430.com",
        ],
    )
    def test_the_key_of_the_environment_is_not_sent_to_lookalikes_of_ollama_com(self, monkeypatch, host):
        monkeypatch.setenv("OLLAMA_API_KEY", "secret")
        session = Connection.open(host)._session
        assert "secret" not in str(session.build_request("POST", "/api/chat").headers.raw)

    @pytest.mark.parametrize(
        "host",
        [
            "https://ollama.com%2eevil.test",
            "https://evil.test\\.ollama.com",
            "https://evil.test#.ollama.com",
            "https://evil.test?.ollama.com",
            "https://evil.test\t.ollama.com",
            "https://evil.test/@ollama.com",
        ],
    )
    def test_ambiguous_addresses_are_refused(self, host):
        with pytest.raises(OllamaContentError, match="is not an address"):
            Connection.open(host)

    @pytest.mark.parametrize("host", ["OLLAMA.COM", "https://api.ollama.com/v1", "https://ollama.com:443"])
    def test_the_key_of_the_environment_goes_to_what_is_ollama_com(self, monkeypatch, host):
        monkeypatch.setenv("OLLAMA_API_KEY", "secret")
        assert Connection.open(host)._session.headers["Authorization"] == "Bearer secret"

    def test_an_authorization_header_of_the_user_is_sent(self, simulator):
        headers = _headers_of(simulator, Connection.open(simulator.host, headers={"Authorization": "Basic abc"}))
        assert headers["authorization"] == "Basic abc"

    def test_headers_may_be_made_anew_for_each_request(self, simulator):
        tokens = iter(["one", "two"])
        connection = Connection.open(simulator.host, headers=lambda: {"X-Token": next(tokens)})
        assert [_headers_of(simulator, connection)["x-token"] for _ in range(2)] == ["one", "two"]

    def test_user_and_password_of_the_host_become_basic_auth(self, simulator):
        address = simulator.host.replace("http://", "http://ada:p%40ss:word@")
        connection = Connection.open(address)
        expected = "Basic " + base64.b64encode(b"ada:p@ss:word").decode()
        assert _headers_of(simulator, connection)["authorization"] == expected
        assert connection.base_url == simulator.host

    def test_two_credentials_for_one_header_are_refused(self):
        with pytest.raises(OllamaContentError, match="either api_key or user:password@"):
            Connection.open("http://ada:password@gpu-box", api_key="secret")

    @pytest.mark.parametrize("bad", ["line\nbreak", "sch\u00f6n", "nul\0"])
    def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(self, bad):
        with pytest.raises(OllamaContentError) as caught:
            Connection.open("gpu-box", api_key=bad)
        assert bad not in str(caught.value)

    def test_so_is_one_that_a_callable_gives(self, simulator):
        connection = Connection.open(simulator.host, headers=lambda: {"X-Token": "line\nbreak"})
        with pytest.raises(OllamaContentError, match="X-Token"):
            list(Call(connection, "/api/chat", BODY).lines())
        assert simulator.requests == []


class TestAddress:
    def test_the_environment_says_where_the_server_is(self, simulator, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", simulator.host)
        assert Connection.open().base_url == simulator.host

    def test_arguments_win_over_the_environment(self, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", "elsewhere")
        assert Connection.open("gpu-box").base_url == "http://gpu-box:11434"

    def test_a_bad_address_is_refused(self):
        with pytest.raises(OllamaContentError, match="ftp"):
            Connection.open("ftp://gpu-box")

    def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(self, simulator, monkeypatch):
        for name in ("HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv("NO_PROXY", raising=False)
        simulator.reply("Hello")
        assert list(Call(Connection.open(simulator.host), "/api/chat", BODY).lines())

    def test_a_path_prefix_stands_before_every_path(self, simulator):
        simulator.reply(path="/prefix/api/version", body={"version": "1"}, times=2)
        simulator.reply(path="/prefix/api/ps", body={"models": []})
        connection = Connection.open(f"{simulator.host}/prefix/")
        answers = [
            Call(connection, path, method="GET").document() for path in ("/api/version", "/api/ps", "/api/version")
        ]
        assert answers == [{"version": "1"}, {"models": []}, {"version": "1"}]


class TestCompression:
    """A proxy that compresses withholds a stream, and only because it was asked to compress."""

    def _accepted(self, simulator, connection, *, streamed=True):
        call = Call(connection, "/api/chat" if streamed else "/api/show", BODY)
        if streamed:
            simulator.reply("Hello")
            list(call.lines())
        else:
            call.document()
        return simulator.requests[-1].headers["Accept-Encoding"]

    def test_streams_are_asked_for_as_they_are_and_documents_packed(self, simulator):
        connection = Connection.open(simulator.host)
        assert self._accepted(simulator, connection) == "identity"
        assert self._accepted(simulator, connection, streamed=False) == "gzip"

    def test_for_a_client_of_ones_own_too(self, simulator):
        with foreign_client(host=simulator.host, headers={"X-Mine": "1"}) as client:
            assert self._accepted(simulator, Connection(client)) == "identity"

    @pytest.mark.parametrize("streamed", [True, False])
    @pytest.mark.parametrize("name", ["Accept-Encoding", "accept-encoding", "ACCEPT-ENCODING"])
    @pytest.mark.parametrize("way", ["mapping", "function", "client"])
    def test_a_header_of_the_user_wins(self, simulator, name, way, streamed):
        headers = {name: "deflate"}
        with foreign_client(host=simulator.host, headers=headers if way == "client" else {}) as client:
            connection = {
                "mapping": lambda: Connection.open(simulator.host, headers=headers),
                "function": lambda: Connection.open(simulator.host, headers=lambda: headers),
                "client": lambda: Connection(client),
            }[way]()
            assert self._accepted(simulator, connection, streamed=streamed) == "deflate"

    def test_what_the_library_would_send_wins_where_the_user_asks_for_it(self, simulator):
        default = httpx.Client().headers["Accept-Encoding"]
        connection = Connection.open(simulator.host, headers={"accept-encoding": default})
        assert self._accepted(simulator, connection) == default

    def test_of_a_client_and_a_function_the_function_wins(self, simulator):
        with foreign_client(host=simulator.host, headers={"Accept-Encoding": "deflate"}) as client:
            connection = Connection(client, headers=lambda: {"accept-encoding": "gzip"})
            assert self._accepted(simulator, connection) == "gzip"

    def test_a_stream_that_is_packed_all_the_same_is_unpacked(self):
        packed = gzip.compress(b'{"message":{"content":"Hi"},"done":true,"done_reason":"stop"}\n')
        head = HEAD + b"Content-Encoding: gzip\r\n\r\n"
        with HostileServer(lambda _: [head, chunk(packed), chunk(b"")]) as server:
            (line,) = Call(Connection.open(server.url), "/api/chat", BODY).lines()
            assert line["message"]["content"] == "Hi"

    @pytest.mark.parametrize("step", [1, 7, 1000])
    @pytest.mark.parametrize("junk", [b"", b"\0" * 100, b"x\x1f\x8b"])
    def test_a_stream_that_is_packed_in_several_members_is_unpacked_whole(self, step, junk):
        line = b'{"message":{"content":"Hi"},"done":true,"done_reason":"stop"}\n'
        packed = gzip.compress(line[:10]) + gzip.compress(b"") + gzip.compress(line[10:]) + junk
        parts = [chunk(packed[at : at + step]) for at in range(0, len(packed), step)]
        head = HEAD + b"Content-Encoding: gzip\r\n\r\n"
        with HostileServer(lambda _: [head, *parts, chunk(b"")]) as server:
            (line,) = Call(Connection.open(server.url), "/api/chat", BODY).lines()
            assert line["message"]["content"] == "Hi"


class TestForeignClient:
    def test_a_users_client_is_used_and_can_be_stopped(self, simulator):
        with foreign_client(host=simulator.host, headers={"X-Mine": "1"}) as client:
            client.list()  # opens a connection that knows nothing of being stopped
            connection = Connection(client)
            assert _headers_of(simulator, connection)["x-mine"] == "1"
            simulator.reply("never", wait=threading.Event())
            call = Call(connection, "/api/chat", BODY)
            seen = len(simulator.requests)
            canceller = threading.Thread(target=lambda: (simulator.wait_for_request(seen + 1), call.cancel()))
            canceller.start()
            with pytest.raises(OllamaCancelledError):
                list(call.lines())
            canceller.join()

    def test_the_user_may_go_on_using_it(self, simulator):
        with foreign_client(host=simulator.host) as client:
            connection = Connection(client)
            _headers_of(simulator, connection)
            assert client.list().models
            _headers_of(simulator, connection)

    def test_it_is_not_closed_with_us(self, simulator):
        with foreign_client(host=simulator.host) as client:
            _headers_of(simulator, Connection(client))
            gc.collect()
            assert client.list().models

    def test_one_with_a_transport_of_its_own_works(self):
        def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=b'{"message": {"content": "Hello"}, "done": true}\n')

        with foreign_client(transport=httpx.MockTransport(answer)) as client:
            connection = Connection(client)
            (line,) = Call(connection, "/api/chat", BODY).lines()
            assert line["message"]["content"] == "Hello"

    def test_an_async_client_is_refused(self):
        with pytest.raises(OllamaContentError, match=r"give an ollama\.Client"):
            session_of(ollama.AsyncClient())

    def test_anything_else_is_refused(self):
        with pytest.raises(OllamaContentError, match=r"must be an ollama\.Client, got str"):
            session_of("http://gpu-box")


class TestLifeTime:
    def test_an_unreferenced_connection_closes_its_client(self):
        connection = Connection.open("gpu-box")
        session = connection._session
        closed = weakref.finalize(connection, lambda: None)
        del connection
        gc.collect()
        assert not closed.alive
        assert session.is_closed

    def test_it_can_be_closed_by_hand(self, simulator):
        connection = Connection.open(simulator.host)
        _headers_of(simulator, connection)
        connection.close()
        assert connection._session.is_closed


class TestTls:
    @pytest.fixture
    def authority(self):
        return trustme.CA()

    @pytest.fixture
    def server(self, authority, simulator, tmp_path):
        """The simulator behind TLS; gives its address and the file of the CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        ca_file = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        with TlsFront(context, simulator.host) as port:
            yield f"https://127.0.0.1:{port}", ca_file

    def test_an_unknown_authority_is_refused_and_the_settings_are_named(self, server):
        address, _ = server
        with pytest.raises(OllamaConnectionError, match="verify and cert"):
            list(Call(Connection.open(address), "/api/chat", BODY).lines())

    @pytest.mark.parametrize("kind", ["file", "context", "unchecked"])
    def test_a_reply_comes_over_tls(self, server, simulator, kind):
        address, ca_file = server
        verify = {"file": str(ca_file), "context": ssl.create_default_context(cafile=ca_file), "unchecked": False}[kind]
        connection = Connection.open(address, verify=verify)
        assert _headers_of(simulator, connection)

    def test_a_client_certificate_is_loaded(self, authority, tmp_path):
        mine = authority.issue_cert("ada")
        mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "mine.pem"))
        assert Connection.open("https://gpu-box", cert=(str(tmp_path / "mine.pem"),))

    @pytest.mark.parametrize("form", ["one file", "a pair of files"])
    def test_a_client_certificate_is_shown_to_a_server_that_asks_for_one(self, authority, simulator, tmp_path, form):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # With TLS 1.2 the server refuses within the handshake.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        mine, ca_file, both = authority.issue_cert("ada"), tmp_path / "ca.pem", tmp_path / "mine.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        mine.private_key_and_cert_chain_pem.write_to_path(str(both))
        mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
        mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        cert = (str(both),) if form == "one file" else (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
        with TlsFront(context, simulator.host) as port:
            address = f"https://127.0.0.1:{port}"
            assert _headers_of(simulator, Connection.open(address, verify=str(ca_file), cert=cert))
            with pytest.raises(OllamaConnectionError):
                list(Call(Connection.open(address, verify=str(ca_file)), "/api/chat", BODY).lines())

    def test_a_server_that_hangs_up_during_the_handshake_is_asked_again(self):
        seen = []

        def hang_up(listener):
            for _ in range(2):
                with listener.accept()[0] as peer:
                    seen.append(peer.recv(65536))
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65536):
                        pass

        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
            listener.settimeout(10)
            done = pool.submit(hang_up, listener)
            connection = Connection.open(f"https://127.0.0.1:{listener.getsockname()[1]}")
            policy = retry_policy(max_attempts=2, min_delay=0)
            with pytest.raises(OllamaConnectionError, match="broke while it was made") as caught:
                list(Call(connection, "/api/chat", BODY, policy=policy).lines())
            done.result(10)
        assert not caught.value.refused
        assert len(seen) == 2

    def test_the_handshake_has_what_connecting_left_of_its_limit(self, monkeypatch):
        clock, limits = SimpleNamespace(now=100.0), []

        class Stream(httpcore.NetworkStream):
            def get_extra_info(self, info):
                return None

            def start_tls(self, ssl_context, server_hostname=None, timeout=None):
                limits.append(timeout)
                clock.now += 4
                return self

        class Backend(httpcore.NetworkBackend):
            def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
                clock.now += 3
                return Stream()

        monkeypatch.setattr(sockets, "time", SimpleNamespace(monotonic=lambda: clock.now))
        context = ssl.create_default_context()
        through_proxy = StoppableBackend(Backend()).connect_tcp("gpu", 443, 10).start_tls(context, timeout=10)
        through_proxy.start_tls(context, timeout=10)
        StoppableBackend(Backend()).connect_tcp("gpu", 443).start_tls(context, timeout=10)
        StoppableBackend(Backend()).connect_tcp("gpu", 443, 1).start_tls(context, timeout=1)
        assert limits == [7, 3, 10, 0.001]

    def test_missing_files_are_named(self):
        with pytest.raises(OllamaContentError, match="nowhere"):
            Connection.open("https://gpu-box", verify="nowhere.pem")
        with pytest.raises(OllamaContentError, match="nowhere"):
            Connection.open("https://gpu-box", cert=("nowhere.pem",))

    def test_a_call_over_tls_can_be_stopped(self, server, simulator):
        address, ca_file = server
        connection = Connection.open(address, verify=str(ca_file))
        simulator.reply("one two", pause=(1, threading.Event()))
        call = Call(connection, "/api/chat", BODY)
        lines = call.lines()
        next(lines)
        canceller = threading.Thread(target=call.cancel)
        canceller.start()
        with pytest.raises(OllamaCancelledError):
            list(lines)
        canceller.join()
        assert simulator.wait_for_disconnect()
