"""One request: what its caller gets in every case that a server or a network can make."""

import contextlib
import gzip
import itertools
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from griptape_ollama.errors import (
    OllamaBusyError,
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaStreamError,
    OllamaTimeoutError,
)
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout
from unit.transport.clients import foreign_client

BODY = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}]}
LAST = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}


def _line(text):
    return {"model": "m", "message": {"role": "assistant", "content": text}, "done": False}


@pytest.fixture
def simulator():
    with OllamaSimulator() as simulator:
        yield simulator


@pytest.fixture
def connection(simulator):
    return Connection.open(simulator.host)


def _call(connection, attempts=1, **limits):
    policy = retry_policy(max_attempts=attempts, min_delay=0, max_delay=0)
    return Call(connection, "/api/chat", BODY, limits=OllamaTimeout(**limits), policy=policy)


def _text(lines):
    return "".join(line["message"]["content"] for line in lines)


def _collect(call):
    """The lines that came before the call failed, and its error."""
    lines = []
    with pytest.raises(OllamaError) as caught:
        lines.extend(call.lines())
    return lines, caught.value


class TestReply:
    def test_lines_arrive_as_they_are_and_the_last_says_done(self, simulator, connection):
        simulator.reply(lines=[_line("Hel"), _line("lo"), LAST])
        assert list(_call(connection).lines()) == [_line("Hel"), _line("lo"), LAST]

    @pytest.mark.parametrize("chunking", ["whole", "bytes", 1, 7, 64])
    def test_chunks_of_any_size_give_the_same_lines(self, simulator, connection, chunking):
        lines = [_line("Gr\u00fc\u00dfe \u2028 \u0085 \U0001f600"), _line("x" * 300), LAST]
        simulator.reply(lines=[json.dumps(line, ensure_ascii=False) for line in lines], chunking=chunking)
        assert list(_call(connection).lines()) == lines

    def test_a_last_line_without_newline_is_accepted(self, simulator, connection):
        simulator.reply(body=json.dumps(LAST))
        assert list(_call(connection).lines()) == [LAST]

    def test_time_to_first_token_counts_from_the_start_to_the_first_output(self, simulator, connection):
        simulator.reply("Hello", headers_delay=0.05)
        call = _call(connection)
        assert call.time_to_first_token is None
        list(call.lines())
        assert 0.05 <= call.time_to_first_token < 60

    def test_one_connection_serves_calls_one_after_the_other(self, simulator, connection):
        for _ in range(5):
            simulator.reply("Hello")
            list(_call(connection).lines())
        (pooled,) = connection._session._transport._pool.connections
        assert "Request Count: 5" in pooled.info()

    def test_a_reply_that_does_not_end_its_body_costs_the_connection_not_the_reply(self, simulator, connection):
        simulator.reply(lines=[_line("Hello"), LAST, _line("more")], pause=(2, threading.Event()))
        assert _text(_call(connection).lines()) == "Hello"

    def test_leaving_the_iterator_early_closes_the_connection(self, simulator, connection):
        simulator.reply("one two three", pause=(2, threading.Event()))
        lines = _call(connection).lines()
        next(lines)
        lines.close()
        assert simulator.wait_for_disconnect()

    def test_a_compressed_reply_is_read(self, simulator, connection):
        body = gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in (_line("Hello"), LAST)))
        simulator.reply(body=body, headers={"Content-Encoding": "gzip"})
        assert _text(_call(connection).lines()) == "Hello"

    def test_a_body_that_json_cannot_hold_is_refused_before_anything_is_sent(self, simulator, connection):
        for value in (float("nan"), object()):
            with pytest.raises(OllamaContentError, match="cannot be written as JSON"):
                Call(connection, "/api/chat", {"model": "m", "options": value})
        assert simulator.requests == []

    def test_a_lone_surrogate_is_sent_in_a_form_that_a_server_can_read(self, simulator, connection):
        simulator.reply("Hello")
        list(Call(connection, "/api/chat", {**BODY, "messages": [{"role": "user", "content": "\ud800"}]}).lines())
        assert len(simulator.chats) == 1


class TestDocument:
    def test_a_document_is_one_object(self, simulator, connection):
        document = Call(connection, "/api/version", method="GET").document()
        assert set(document) == {"version"}

    def test_a_document_that_is_no_object_is_an_error(self, simulator, connection):
        simulator.reply(path="/api/version", body="[1]")
        with pytest.raises(OllamaStreamError, match="Is it an Ollama server"):
            Call(connection, "/api/version", method="GET").document()

    def test_a_refused_document_is_an_error(self, simulator, connection):
        with pytest.raises(OllamaModelNotFoundError):
            Call(connection, "/api/show", {"model": "nope"}).document()


class TestBrokenReplies:
    def test_a_stream_without_done_keeps_what_came(self, simulator, connection):
        simulator.reply("Hello there", end_without_done=2)
        lines, error = _collect(_call(connection, attempts=3))
        assert _text(lines)
        assert isinstance(error, OllamaStreamError)
        assert "without its last line" in str(error)
        assert len(simulator.chats) == 1

    @pytest.mark.parametrize("fault", [{"cut": 2}, {"reset": 2}])
    def test_a_connection_that_breaks_after_output_is_not_tried_again(self, simulator, connection, fault):
        simulator.reply("one two three four", **fault)
        lines, error = _collect(_call(connection, attempts=3))
        assert isinstance(error, OllamaStreamError)
        # A reset may overtake what was sent before it.
        assert len(lines) <= 2
        assert len(simulator.chats) == 1

    def test_a_cut_connection_delivers_every_whole_line(self, simulator, connection):
        simulator.reply("one two three four", cut=2)
        lines, _ = _collect(_call(connection))
        assert len(lines) == 2

    @pytest.mark.parametrize("fault", [{"reset": "before_headers"}, {"reset": "after_headers"}, {"cut": 0}])
    def test_a_connection_that_breaks_before_output_is_tried_again(self, simulator, connection, fault):
        simulator.reply("lost", **fault)
        simulator.reply("Hello")
        assert _text(_call(connection, attempts=2).lines()) == "Hello"
        assert len(simulator.chats) == 2

    def test_a_connection_that_always_breaks_is_a_connection_error(self, simulator, connection):
        simulator.reply("lost", reset="before_headers", times=None)
        _, error = _collect(_call(connection, attempts=3))
        assert isinstance(error, OllamaConnectionError)
        assert not error.refused
        assert len(simulator.chats) == 3

    def test_an_error_line_after_output_ends_the_reply(self, simulator, connection):
        simulator.reply("one two", error_line=(1, "an error was encountered: unexpected EOF"))
        lines, error = _collect(_call(connection, attempts=3))
        assert len(lines) == 1
        assert isinstance(error, OllamaStreamError)
        assert error.server_message == "an error was encountered: unexpected EOF"
        assert len(simulator.chats) == 1

    @pytest.mark.parametrize("nothing", [None, "", [], {}])
    def test_an_error_that_is_empty_is_none(self, simulator, connection, nothing):
        simulator.reply(lines=[{**_line("Hello"), "error": nothing}, LAST])
        assert _text(_call(connection).lines()) == "Hello"

    def test_a_compressed_reply_that_turns_bad_is_broken(self, simulator, connection):
        good = gzip.compress(json.dumps(_line("Hello")).encode() + b"\n")
        simulator.reply(
            raw=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5000\r\n\r\n" + good + b"x" * 4000
        )
        _, error = _collect(_call(connection))
        assert isinstance(error, (OllamaStreamError, OllamaConnectionError))
        assert "Check host" not in str(error)

    def test_an_error_line_before_output_is_tried_again(self, simulator, connection):
        simulator.reply(lines=['{"error":"an error was encountered while running the model: unexpected EOF"}'])
        simulator.reply("Hello")
        assert _text(_call(connection, attempts=2).lines()) == "Hello"

    def test_an_answer_about_loading_is_tried_again(self, simulator, connection):
        simulator.reply(lines=[{**LAST, "done_reason": "load"}])
        simulator.reply("Hello")
        assert _text(_call(connection, attempts=2).lines()) == "Hello"

    def test_an_answer_about_loading_is_no_answer(self, simulator, connection):
        simulator.reply(lines=[{**LAST, "done_reason": "load"}])
        _, error = _collect(_call(connection))
        assert isinstance(error, OllamaStreamError)
        assert "only that the model was loaded" in str(error)

    @pytest.mark.parametrize("garbage", ["<html>", "[1, 2]", '"text"', '{"a": 1} {"b": 2}', "{" * 2000, b"\xff\xfe"])
    def test_garbage_after_output_ends_the_reply(self, simulator, connection, garbage):
        simulator.reply(lines=[_line("Hello"), garbage, LAST])
        lines, error = _collect(_call(connection, attempts=3))
        assert lines == [_line("Hello")]
        assert isinstance(error, OllamaStreamError)
        assert "expected a JSON object" in str(error)
        assert len(simulator.chats) == 1

    def test_what_came_in_the_same_chunk_before_garbage_is_not_lost(self, simulator, connection):
        simulator.reply(lines=[_line("Hello"), _line(" there"), "garbage"], chunking="whole")
        lines, _ = _collect(_call(connection))
        assert _text(lines) == "Hello there"

    @pytest.mark.parametrize("kind", ["text/html", "application/x-ndjson", "application/json", "text/plain", ""])
    @pytest.mark.parametrize("chunking", ["whole", "bytes", 7])
    def test_a_page_in_place_of_a_reply_is_refused_with_its_title(self, simulator, connection, kind, chunking):
        page = "\n <!DOCTYPE html>\n<html><head><title>Sign in &amp;\n go on</title></head><body>x</body></html>"
        simulator.reply(body=page, content_type=kind, chunking=chunking)
        _, error = _collect(_call(connection, attempts=3))
        assert isinstance(error, OllamaStreamError)
        assert "Is it an Ollama server?" in str(error)
        assert "'Sign in & go on'" in str(error)
        assert "<" not in str(error)
        assert len(simulator.chats) == 1
        simulator.reply(path="/api/version", body=page, content_type=kind, chunking=chunking)
        with pytest.raises(OllamaStreamError, match="Sign in & go on"):
            Call(connection, "/api/version", method="GET").document()
        simulator.reply(path="/api/copy", body=page, content_type=kind, chunking=chunking)
        with pytest.raises(OllamaStreamError, match="Sign in & go on"):
            Call(connection, "/api/copy", {}).confirm()

    @pytest.mark.parametrize(
        "kind",
        [
            "text/html",
            "text/event-stream",
            "image/png",
            "TEXT/HTML; charset=utf-8",
            "application/json; charset=utf-8",
            "text/plain",
            "application/octet-stream",
        ],
    )
    def test_a_reply_is_accepted_with_any_content_type_of_a_proxy(self, simulator, connection, kind):
        simulator.reply("Hello there", content_type=kind)
        assert _text(_call(connection).lines()) == "Hello there"
        simulator.reply(path="/api/version", body={"version": "1"}, content_type=kind)
        assert Call(connection, "/api/version", method="GET").document() == {"version": "1"}

    def test_events_of_a_browser_are_no_reply(self, simulator, connection):
        simulator.reply(body='data: {"done":true}\n\n', content_type="text/event-stream")
        _, error = _collect(_call(connection))
        assert isinstance(error, OllamaStreamError)
        assert "data: " in str(error)

    def test_an_endless_line_is_refused_in_bounded_memory(self, simulator, connection, monkeypatch):
        monkeypatch.setattr("griptape_ollama.protocol.ndjson.NdjsonDecoder.__init__.__defaults__", (1000,))
        simulator.reply(lines=[_line("x" * 2000), LAST])
        _, error = _collect(_call(connection))
        assert isinstance(error, OllamaStreamError)
        assert "longer than 1,000 bytes" in str(error)

    @settings(max_examples=30, deadline=None)
    @given(cut=st.integers(0, 6), chunking=st.sampled_from(["lines", "whole", "bytes", 5]))
    def test_a_cut_anywhere_gives_an_error_of_ours_and_a_prefix_of_the_reply(self, cut, chunking):
        with OllamaSimulator() as simulator:
            simulator.reply(lines=[_line(str(number)) for number in range(6)] + [LAST], cut=cut, chunking=chunking)
            lines, error = _collect(_call(Connection.open(simulator.host)))
        assert "012345".startswith(_text(lines))
        assert isinstance(error, (OllamaStreamError, OllamaConnectionError))


class _FakeServer:
    """Answers each request on its connections with the bytes that a function gives, then does what it says."""

    def __init__(self, answer):
        self._answer = answer
        self.requests = 0
        self._stopping = threading.Event()
        self._threads = []
        self._socks = []

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        self._stopping.set()
        socket.create_connection(self._listener.getsockname()).close()
        self._threads[0].join()
        for sock in self._socks:
            # A client may keep its connection for a next request.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def host(self):
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while not self._stopping.is_set():
            sock, _ = self._listener.accept()
            self._socks.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock):
        with sock, contextlib.suppress(OSError):
            sock.settimeout(10)
            for number in itertools.count():
                if not _read_request(sock):
                    return
                self.requests += 1
                for piece in self._answer(number):
                    if self._stopping.is_set():
                        return
                    sock.sendall(piece)


def _read_request(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := sock.recv(65536)):
            return False
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += sock.recv(65536)
    return True


def _chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
_WHOLE = _HEAD + _chunk(json.dumps(_line("Hello")).encode() + b"\n" + json.dumps(LAST).encode() + b"\n") + b"0\r\n\r\n"


class TestFloods:
    """Bytes without end that never become what was asked for."""

    @pytest.mark.parametrize(
        ("start", "flood"),
        [
            (_HEAD, _chunk(b"\n" * 1000)),
            (_HEAD, _chunk(b" " * 1000)),
            (_HEAD + _chunk(json.dumps(_line("Hello")).encode() + b"\n"), _chunk(b"\n" * 1000)),
            (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 20),
        ],
        ids=["blank lines", "white space", "blank lines after text", "interim responses"],
    )
    def test_a_limit_ends_it(self, start, flood):
        with _FakeServer(lambda _: itertools.chain([start], itertools.repeat(flood))) as server:
            call = _call(Connection.open(server.host), first_token=0.3, between_tokens=0.3)
            _, error = _collect(call)
        assert isinstance(error, (OllamaTimeoutError, OllamaStreamError))

    def test_the_total_ends_it(self):
        flood = itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n" * 20)
        with _FakeServer(lambda _: flood) as server:
            _, error = _collect(_call(Connection.open(server.host), total=0.3))
        assert isinstance(error, OllamaTimeoutError)
        assert error.limit == "total"

    def test_a_document_that_stops_in_the_middle_ends_with_a_limit(self):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        done = threading.Event()

        def answer(_):
            yield head + b'{"version":'
            done.wait(30)

        with _FakeServer(answer) as server:
            call = Call(
                Connection.open(server.host), "/api/version", method="GET", limits=OllamaTimeout(first_token=0.1)
            )
            with pytest.raises(OllamaTimeoutError) as caught:
                call.document()
            done.set()
        assert caught.value.limit == "first_token"

    def test_lines_without_output_are_not_kept_for_ever(self, simulator, connection):
        silent = [_line("")] * 3000
        simulator.reply(lines=[*silent, _line("Hello"), LAST])
        assert _text(_call(connection).lines()) == "Hello"


class TestStaleConnections:
    """A server may close an idle connection just when it is used again."""

    @staticmethod
    def _call(connection, attempts):
        policy = retry_policy(max_attempts=attempts, min_delay=60, max_delay=60)
        return Call(connection, "/api/chat", BODY, policy=policy)

    def test_one_is_replaced_without_a_wait(self):
        def answer(number):
            return [_WHOLE] if number == 0 else _hang_up()

        with _FakeServer(answer) as server:
            connection = Connection.open(server.host)
            start = time.monotonic()
            for _ in range(4):
                assert _text(self._call(connection, attempts=2).lines()) == "Hello"
            assert server.requests == 7
        assert time.monotonic() - start < 30

    def test_replacing_one_counts_as_a_try(self):
        def answer(number):
            return [_WHOLE] if number == 0 else _hang_up()

        with _FakeServer(answer) as server:
            connection = Connection.open(server.host)
            list(self._call(connection, attempts=1).lines())
            _, error = _collect(self._call(connection, attempts=1))
        assert isinstance(error, OllamaConnectionError)
        assert error.stale

    @pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 2"])
    def test_a_connection_that_is_new_or_has_begun_to_answer_is_not_stale(self, beginning):
        def answer(number):
            return [_WHOLE] if number == 0 and beginning else itertools.chain([beginning], _hang_up())

        with _FakeServer(answer) as server:
            connection = Connection.open(server.host)
            if beginning:
                list(self._call(connection, attempts=1).lines())
            _, error = _collect(self._call(connection, attempts=1))
        assert isinstance(error, OllamaConnectionError)
        assert not error.stale


def _hang_up():
    raise ConnectionResetError
    yield


class TestRefusals:
    def test_a_missing_model_is_asked_for_once(self, simulator, connection):
        call = Call(connection, "/api/chat", {**BODY, "model": "nope"}, policy=retry_policy(max_attempts=5))
        _, error = _collect(call)
        assert isinstance(error, OllamaModelNotFoundError)
        assert "'nope'" in str(error)
        assert "ollama pull nope" in str(error)
        assert len(simulator.chats) == 1

    def test_a_busy_server_is_asked_again(self, simulator, connection):
        simulator.reply(status=503, error="server busy, please try again.  maximum pending requests exceeded", times=2)
        simulator.reply("Hello")
        assert _text(_call(connection, attempts=3).lines()) == "Hello"

    def test_a_server_that_stays_busy_is_a_busy_error(self, simulator, connection):
        simulator.reply(status=503, error="server busy", times=None)
        _, error = _collect(_call(connection, attempts=2))
        assert isinstance(error, OllamaBusyError)
        assert error.status == 503
        assert len(simulator.chats) == 2

    def test_retry_after_is_waited_for(self, simulator, connection):
        simulator.reply(status=503, error="busy", headers={"Retry-After": "0.2"})
        simulator.reply("Hello")
        start = time.monotonic()
        list(_call(connection, attempts=2).lines())
        assert time.monotonic() - start >= 0.2

    def test_a_long_error_body_is_read_in_part(self, simulator, connection):
        simulator.reply(status=500, error="x" * 1_000_000)
        _, error = _collect(_call(connection))
        assert isinstance(error, OllamaResponseError)
        assert len(str(error)) < 1000

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_not_followed_and_says_what_to_do(self, simulator, connection, status):
        simulator.reply(status=status, body="", headers={"Location": f"{simulator.host}/elsewhere"})
        _, error = _collect(_call(connection))
        assert isinstance(error, OllamaConnectionError)
        assert "redirects" in str(error)
        assert (error.refused, error.redirected) == (True, True)
        assert len(simulator.requests) == 1

    def test_who_redirects_is_there_and_is_not_waited_for(self, simulator, connection):
        simulator.reply(status=302, body="", headers={"Location": "https://login.example.com/"}, times=None)
        _, error = _collect(Call(connection, "/api/chat", BODY, policy=retry_policy(wait_for_server=60)))
        assert isinstance(error, OllamaConnectionError)
        assert len(simulator.requests) == 1

    @pytest.mark.parametrize(
        ("location", "said"),
        [
            ("https://login.example.com/start?rd=secret", "to another host (https://login.example.com/start)"),
            ("//user:secret@sso.example.com/", "to another host (http://sso.example.com)"),
            ("/oauth2/sign_in?rd=%2Fapi%2Fchat%3Fsecret", "/oauth2/sign_in. That may be a login"),
            ("https://127.0.0.1/api/chat", "use https:// in host"),
            ("http://[oops", "elsewhere"),
        ],
    )
    def test_the_error_of_a_redirect_names_its_target_and_the_likely_reason(
        self, simulator, connection, location, said
    ):
        simulator.reply(status=302, body="", headers={"Location": location})
        _, error = _collect(_call(connection))
        assert isinstance(error, OllamaConnectionError)
        assert said in str(error)
        assert "secret" not in str(error)


class TestConnecting:
    def test_a_server_that_is_down_fails_at_once_and_says_how_to_start_it(self, unused_port):
        connection = Connection.open(f"127.0.0.1:{unused_port}")
        call = Call(connection, "/api/chat", BODY, policy=retry_policy(max_attempts=5))
        _, error = _collect(call)
        assert isinstance(error, OllamaConnectionError)
        assert error.refused
        assert f"http://127.0.0.1:{unused_port}" in str(error)
        assert "ollama serve" in str(error)

    def test_an_unknown_name_asks_for_the_host_name(self):
        _, error = _collect(_call(Connection.open("no-such-host.invalid")))
        assert isinstance(error, OllamaConnectionError)
        assert "Check the host name" in str(error)


class TestLimits:
    def test_no_first_token(self, simulator, connection):
        simulator.reply("never", wait=threading.Event())
        _, error = _collect(_call(connection, attempts=3, first_token=0.1))
        assert isinstance(error, OllamaTimeoutError)
        assert (error.limit, error.seconds) == ("first_token", 0.1)
        assert "no first token within 0.1 s" in str(error)
        assert len(simulator.chats) == 1

    def test_no_token_any_more(self, simulator, connection):
        simulator.reply("one two three", pause=(2, threading.Event()))
        lines, error = _collect(_call(connection, between_tokens=0.9))
        assert len(lines) == 2
        assert isinstance(error, OllamaTimeoutError)
        assert error.limit == "between_tokens"
        assert "no token for 0.9 s after 2 tokens" in str(error)

    def test_bytes_that_make_no_line_do_not_count_as_tokens(self, simulator, connection):
        simulator.reply(lines=[_line("one"), " " * 200, LAST], chunking="bytes", pause=(2, threading.Event()))
        _, error = _collect(_call(connection, between_tokens=0.3))
        assert isinstance(error, OllamaTimeoutError)

    def test_a_slow_but_living_reply_is_not_cut(self, simulator, connection):
        simulator.reply("one two three four five", line_delay=0.3)
        assert _text(_call(connection, between_tokens=1.2).lines()) == "one two three four five"

    def test_a_slow_consumer_does_not_time_out_the_server(self, simulator, connection):
        go_on = threading.Event()
        simulator.reply("one two three", pause=(1, go_on))
        lines = _call(connection, between_tokens=0.8).lines()
        next(lines)
        threading.Event().wait(1)  # a listener at work
        go_on.set()
        assert _text(lines)

    def test_the_total_ends_a_reply_that_would_go_on(self, simulator, connection):
        simulator.reply([" word"] * 1000, line_delay=0.01)
        start = time.monotonic()
        _, error = _collect(_call(connection, total=0.3))
        assert isinstance(error, OllamaTimeoutError)
        assert (error.limit, error.seconds) == ("total", 0.3)
        assert 0.3 <= time.monotonic() - start < 25

    def test_the_total_holds_across_retries(self, simulator, connection):
        simulator.reply(status=503, error="busy", headers={"Retry-After": "30"}, times=None)
        start = time.monotonic()
        _, error = _collect(_call(connection, attempts=9, total=1.5))
        assert isinstance(error, OllamaTimeoutError)
        assert error.limit == "total"
        assert 1.5 <= time.monotonic() - start < 25
        assert "1.5 s in all" in str(error)
        assert "The last try failed" in str(error)
        assert "status 503: busy" in str(error)

    def test_nothing_is_sent_once_the_total_is_used_up(self, simulator, connection):
        run = Run(OllamaTimeout(total=0.01))
        threading.Event().wait(0.02)  # as the questions about the model, or a slot, may take
        _, error = _collect(Call(connection, "/api/chat", BODY, run=run))
        assert isinstance(error, OllamaTimeoutError)
        assert error.limit == "total"
        assert simulator.requests == []

    def test_a_slow_listener_uses_up_the_total(self, simulator, connection):
        simulator.reply([" word"] * 3000)
        lines = _call(connection, total=0.9).lines()
        next(lines)
        threading.Event().wait(1)  # a listener at work
        with pytest.raises(OllamaTimeoutError, match=r"longer than 0\.9 s in all"):
            list(lines)

    def test_no_free_connection_in_a_users_client(self, simulator):
        limits = httpx.Limits(max_connections=1)
        with foreign_client(host=simulator.host, limits=limits) as client:
            connection = Connection(client)
            simulator.reply("one two", pause=(1, threading.Event()))
            lines = _call(connection).lines()
            next(lines)
            _, error = _collect(_call(connection, first_token=0.1))
            assert isinstance(error, OllamaTimeoutError)
            assert (error.limit, error.seconds) == ("slot", 0.1)
            assert "no connection of the client became free within 0.1 s" in str(error)
            lines.close()

    def test_a_limit_of_the_transports_own(self):
        def answer(request):
            raise httpx.ReadTimeout("slow", request=request)

        with foreign_client(transport=httpx.MockTransport(answer)) as client:
            _, error = _collect(_call(Connection(client), first_token=None))
        assert isinstance(error, OllamaTimeoutError)
        assert "no first token within its own limit" in str(error)

    def test_no_connection(self, silent_address):
        _, error = _collect(_call(Connection.open(silent_address), connect=0.2))
        assert isinstance(error, OllamaTimeoutError)
        assert error.limit == "connect"
        assert "did not accept a connection within 0.2 s" in str(error)


class TestCancelling:
    """From another thread, in each phase; the engine promises milliseconds, the tests only that it is soon."""

    @staticmethod
    def _cancelled(call, when):
        """The lines that came, and the error, of a call that is cancelled in another thread once `when` returns."""

        def cancel():
            when()
            call.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        lines, error = _collect(call)
        canceller.join()
        assert isinstance(error, OllamaCancelledError)
        return lines

    @pytest.mark.parametrize("is_reused", [False, True])
    def test_while_waiting_for_headers(self, simulator, connection, is_reused):
        if is_reused:
            simulator.reply("Hello")
            list(_call(connection).lines())
        simulator.reply("never", wait=threading.Event())
        seen = len(simulator.requests)
        lines = self._cancelled(_call(connection), lambda: simulator.wait_for_request(seen + 1))
        assert lines == []
        assert simulator.wait_for_disconnect()

    def test_the_error_does_not_tell_how_the_connection_broke_that_was_shut_down(self, simulator, connection):
        simulator.reply("never", wait=threading.Event())
        call = _call(connection)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: simulator.wait_for_request(1) and call.cancel())
            _, error = _collect(call)
        assert isinstance(error, OllamaCancelledError)
        assert error.__cause__ is None
        assert error.__suppress_context__

    @pytest.mark.parametrize("is_reused", [False, True])
    def test_while_streaming(self, simulator, connection, is_reused):
        if is_reused:
            simulator.reply("Hello")
            list(_call(connection).lines())
        simulator.reply("one two three", pause=(2, threading.Event()))
        call = _call(connection)
        streaming = threading.Event()
        lines = call.lines()
        got = [next(lines), next(lines)]
        streaming.set()
        canceller = threading.Thread(target=call.cancel)
        canceller.start()
        with pytest.raises(OllamaCancelledError):
            next(lines)
        canceller.join()
        assert _text(got) == "one two"
        assert simulator.wait_for_disconnect()

    def test_while_waiting_to_retry(self, simulator, connection):
        waiting = threading.Event()
        policy = retry_policy(max_attempts=2, min_delay=60, max_delay=60, after=lambda _: waiting.set())
        simulator.reply(status=503, error="busy", headers={"Retry-After": "60"})
        self._cancelled(Call(connection, "/api/chat", BODY, policy=policy), waiting.wait)
        assert len(simulator.chats) == 1

    def test_while_connecting(self, silent_address):
        call = _call(Connection.open(silent_address), connect=60)
        start = time.monotonic()
        self._cancelled(call, lambda: threading.Event().wait(0.1))
        assert time.monotonic() - start < 50

    def test_before_the_start_nothing_is_sent(self, simulator, connection):
        call = _call(connection)
        call.cancel()
        _, error = _collect(call)
        assert isinstance(error, OllamaCancelledError)
        assert simulator.requests == []

    def test_between_two_lines_of_one_chunk(self, simulator, connection):
        simulator.reply("one two three", chunking="whole")
        call = _call(connection)
        lines = call.lines()
        next(lines)
        call.cancel()
        with pytest.raises(OllamaCancelledError):
            list(lines)

    def test_twice_and_after_the_end_is_harmless(self, simulator, connection):
        simulator.reply("Hello", times=2)
        call = _call(connection)
        list(call.lines())
        call.cancel()
        call.cancel()
        assert _text(_call(connection).lines()) == "Hello"

    def test_a_late_cancel_does_not_hit_the_next_call_on_the_same_connection(self, simulator, connection):
        simulator.reply("Hello")
        first = _call(connection)
        list(first.lines())
        go_on = threading.Event()
        simulator.reply("one two three", pause=(1, go_on))
        lines = _call(connection).lines()
        next(lines)
        first.cancel()
        go_on.set()
        assert _text(lines) == " two three"

    def test_the_next_request_works(self, simulator, connection):
        simulator.reply("never", wait=threading.Event())
        self._cancelled(_call(connection), simulator.wait_for_request)
        simulator.reply("Hello")
        assert _text(_call(connection).lines()) == "Hello"

    def test_many_calls_on_many_threads_each_stop_alone(self, simulator, connection):
        simulator.reply("one two", pause=(1, threading.Event()), times=None)
        calls = [_call(connection) for _ in range(10)]
        errors = []

        def run(call):
            errors.append(_collect(call)[1])

        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        simulator.wait_for_request(10)
        for number, call in enumerate(calls, 1):
            call.cancel()
            simulator.wait_for_disconnect(n=number)
        for thread in threads:
            thread.join()
        assert [type(error) for error in errors] == [OllamaCancelledError] * 10
