"""Writing a response: chunks, delays and broken connections."""

import json
import threading
import time

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator

TEXT = "one two three four"

NEVER = threading.Event()


def body_lines(data):
    return [json.loads(line) for line in data.split(b"\n") if line.startswith(b"{")]


def test_by_default_each_line_is_a_chunk(simulator, received_chunks):
    simulator.reply(TEXT)
    chunks = received_chunks(simulator)
    assert [json.loads(chunk)["message"]["content"] for chunk in chunks[:-1]] == ["one", " two", " three", " four", ""]
    assert chunks[-1] == b""


def test_whole_sends_all_lines_in_one_chunk(simulator, received_chunks):
    simulator.reply(TEXT, chunking="whole")
    chunks = received_chunks(simulator)
    assert (len(chunks), chunks[0].count(b"\n")) == (2, 5)


@pytest.mark.parametrize(("chunking", "size"), [("bytes", 1), (7, 7), (1000, 1000)])
def test_pieces_have_the_requested_size(simulator, received_chunks, chunking, size):
    simulator.reply("Käse 🎉", chunking=chunking)
    chunks = received_chunks(simulator)
    assert {len(chunk) for chunk in chunks[:-2]} <= {size}
    assert len(chunks[-2]) <= size
    assert [line["message"]["content"] for line in body_lines(b"".join(chunks))] == ["Käse", " 🎉", ""]


def test_long_replies_in_single_bytes_arrive(simulator, chat_text):
    simulator.reply(TEXT * 50, chunking="bytes")
    assert chat_text(simulator) == TEXT * 50


def test_a_body_with_a_length_is_cut_into_pieces_too(simulator, chat):
    simulator.reply(TEXT, chunking="bytes")
    response = chat(simulator, stream=False)
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.json()["message"]["content"] == TEXT


def test_the_headers_wait_for_the_event(simulator, connect, read_until):
    event = threading.Event()
    simulator.reply(TEXT, wait=event)
    connection = connect(simulator)
    simulator.wait_for_request()
    connection.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(5)
    event.set()
    assert b"four" in read_until(connection, b"0\r\n\r\n")


def test_headers_delay_delays_the_headers(simulator, chat):
    simulator.reply(TEXT, headers_delay=0.1)
    began = time.monotonic()
    chat(simulator)
    assert time.monotonic() - began >= 0.1


def test_line_delay_is_between_lines_and_not_before_the_first():
    with OllamaSimulator(time_scale=0) as simulator:
        simulator.reply(TEXT, line_delay=60)
        body = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}]}
        with httpx.stream("POST", f"{simulator.url}/api/chat", json=body, timeout=30) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines))["message"]["content"] == "one"
            for _ in range(4):
                simulator.wait_for_sleeper()
                simulator.advance(60)
                next(lines)


def test_tokens_per_second_applies_to_replies_without_a_line_delay(lines, in_background):
    with OllamaSimulator(tokens_per_second=1, time_scale=0) as simulator:
        simulator.reply(TEXT, line_delay=0)
        simulator.reply(TEXT)
        assert len(lines(simulator)) == 5  # although no time passes
        paced = in_background(lines, simulator)
        for _ in range(3):
            simulator.wait_for_sleeper()
            assert not paced.done()
            simulator.advance(1)
        while not paced.done():
            simulator.advance(1)
        assert len(paced.result(30)) == 5


def test_a_pause_after_n_lines_lasts_until_the_event(simulator, connect, read_until):
    event = threading.Event()
    simulator.reply(TEXT, pause=(2, event))
    connection = connect(simulator)
    assert len(body_lines(read_until(connection, b"}\n\r\n"))) == 2
    connection.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(5)
    event.set()
    assert len(body_lines(read_until(connection, b"0\r\n\r\n"))) == 3


def test_a_pause_before_the_first_line_comes_after_the_headers(simulator, connect, read_until):
    simulator.reply(TEXT, pause=(0, NEVER))
    assert read_until(connect(simulator), b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


def test_a_pause_after_all_lines_delays_the_end(simulator, connect, read_until):
    event = threading.Event()
    simulator.reply(TEXT, pause=(100, event), chunking="whole")
    connection = connect(simulator)
    assert body_lines(read_until(connection, b"}\n\r\n"))[-1]["done"] is True
    event.set()
    assert read_until(connection, b"0\r\n\r\n") == b"0\r\n\r\n"


def test_other_requests_are_answered_while_one_reply_pauses(connect, chat_text):
    with OllamaSimulator(num_parallel=2) as simulator:
        simulator.reply("stuck", wait=NEVER)
        connect(simulator)
        simulator.wait_for_request()
        assert "simulator" in chat_text(simulator)


@pytest.mark.parametrize("lines", [0, 2])
def test_cut_closes_the_connection_after_n_lines_without_the_end(simulator, connect, read_all, lines):
    simulator.reply(TEXT, cut=lines)
    data, was_reset = read_all(connect(simulator))
    assert (len(body_lines(data)), was_reset) == (lines, False)
    assert data.startswith(b"HTTP/1.1 200 OK")
    assert not data.endswith(b"0\r\n\r\n")


def test_a_client_sees_a_cut_as_a_protocol_error(simulator, chat):
    simulator.reply(TEXT, cut=1)
    with pytest.raises(httpx.RemoteProtocolError):
        chat(simulator)


@pytest.mark.parametrize("reset", [True, "before_headers"])
def test_reset_before_the_headers_sends_nothing(simulator, connect, read_all, reset):
    simulator.reply(TEXT, reset=reset)
    assert read_all(connect(simulator)) == (b"", True)


def test_reset_after_the_headers_sends_the_headers(simulator, connect, read_all):
    simulator.reply(TEXT, reset="after_headers")
    data, was_reset = read_all(connect(simulator))
    assert data.startswith(b"HTTP/1.1 200 OK")
    assert data.endswith(b"\r\n\r\n")
    assert (body_lines(data), was_reset) == ([], True)


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_reset_after_n_lines_sends_n_lines(simulator, connect, read_all, lines):
    simulator.reply(TEXT, reset=lines)
    data, was_reset = read_all(connect(simulator))
    assert (len(body_lines(data)), was_reset) == (lines, True)


def test_a_plain_body_is_cut_in_its_middle(simulator, connect, read_all):
    simulator.reply(TEXT, cut=1)
    data, was_reset = read_all(connect(simulator, stream=False))
    head, body = data.split(b"\r\n\r\n", 1)
    assert 0 < len(body) < int(head.split(b"Content-Length: ")[1].split()[0])
    assert not was_reset


def test_end_without_done_ends_the_body_properly_but_lacks_the_last_line(simulator, lines):
    for after, contents in ((True, ["one", " two", " three", " four"]), (2, ["one", " two"]), (0, [])):
        simulator.reply(TEXT, end_without_done=after)
        found = lines(simulator)
        assert [line["message"]["content"] for line in found] == contents
        assert not any(line["done"] for line in found)


def test_an_error_line_replaces_the_rest(simulator, lines):
    simulator.reply(TEXT, error_line=(1, "unexpected EOF"))
    simulator.reply(TEXT, error_line="at the end")
    first, error = lines(simulator)
    assert (first["message"]["content"], error) == ("one", {"error": "unexpected EOF"})
    assert lines(simulator)[-1] == {"error": "at the end"}


def test_faults_of_a_reply_apply_to_scripted_lines(simulator, lines):
    given = [{"n": 1}, {"n": 2}, {"n": 3}]
    simulator.reply(lines=given, end_without_done=True)
    simulator.reply(lines=given, end_without_done=1)
    simulator.reply(lines=given, error_line=(1, "no"))
    assert lines(simulator) == given[:2]
    assert lines(simulator) == given[:1]
    assert lines(simulator) == [{"n": 1}, {"error": "no"}]


def test_without_a_stream_an_error_line_is_a_status(simulator, chat):
    simulator.reply(TEXT, error_line="broken")
    simulator.reply(TEXT, end_without_done=True)
    response = chat(simulator, stream=False)
    assert (response.status_code, response.json()) == (500, {"error": "broken"})
    assert chat(simulator, stream=False).content == b""


def test_raw_bytes_are_written_as_they_are_and_the_connection_closes(simulator, connect, read_all):
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"
    simulator.reply(raw=raw)
    simulator.reply(raw=raw, chunking=3)
    simulator.reply(raw=b"not http at all")
    assert read_all(connect(simulator)) == (raw, False)
    assert read_all(connect(simulator)) == (raw, False)
    assert read_all(connect(simulator)) == (b"not http at all", False)


def test_the_content_type_and_headers_can_be_replaced(simulator, chat):
    simulator.reply(TEXT, content_type="text/event-stream", headers={"date": "never", "X-Other": "1"})
    headers = chat(simulator).headers
    assert (headers["content-type"], headers["date"], headers["x-other"]) == ("text/event-stream", "never", "1")


def test_a_connection_is_used_again(simulator, connect, read_until):
    simulator.reply("one")
    simulator.reply("two")
    with httpx.Client(base_url=simulator.url) as client:
        body = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}]}
        ports = set()
        for _ in range(2):
            with client.stream("POST", "/api/chat", json=body) as response:
                ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
                response.read()
    assert len(ports) == 1


def test_a_connection_is_closed_if_the_client_asks_for_it(simulator):
    response = httpx.get(simulator.url, headers={"Connection": "close"})
    assert response.headers["connection"] == "close"


def test_a_slow_reader_receives_the_whole_reply(simulator, connect):
    simulator.reply(text=["x" * 1000] * 5000)
    connection = connect(simulator)
    size = 0
    while not (piece := connection.recv(100_000)).endswith(b"0\r\n\r\n"):
        size += len(piece)
    assert size > 5_000_000


def test_a_fast_reply_of_twenty_thousand_lines_takes_seconds_not_minutes(simulator, chat):
    simulator.reply(text=[" word"] * 20_000, times=None)
    seconds = []
    for _ in range(3):
        # Of this process, client included: other work on the machine does not count, what coverage adds does.
        began = time.process_time()
        assert chat(simulator).content.count(b"\n") == 20_001
        seconds.append(time.process_time() - began)
    assert min(seconds) < 5
