"""Hosts, origins, reply functions and scripted paths."""

import threading

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, Reply, UnexpectedRequestError


def show(simulator, name, **body):
    return httpx.post(f"{simulator.url}/api/show", json={"model": name, **body})


@pytest.mark.parametrize("host", ["evil.example", "ollama.com:80"])
def test_a_foreign_host_header_is_forbidden(simulator, host):
    assert httpx.get(simulator.url, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "10.1.2.3:80", "box.local", "[::1]:11434"])
def test_local_host_headers_are_allowed(simulator, host):
    assert httpx.get(simulator.url, headers={"Host": host}).status_code == 200


def test_local_origins_get_cors_headers(simulator):
    origin = "http://localhost:3000"
    response = httpx.get(simulator.url, headers={"Origin": origin})
    assert response.headers["access-control-allow-origin"] == origin
    assert httpx.get(simulator.url, headers={"Origin": "https://evil.example"}).status_code == 403


def test_response_headers_name_the_simulator(simulator, chat):
    headers = chat(simulator).headers
    assert headers["x-ollama-simulator"] == "griptape-ollama"
    assert "server" not in headers


def test_a_reply_function_may_block_while_other_requests_are_answered(connect, read_until, chat_text):
    entered, release = threading.Event(), threading.Event()

    def slow(request):
        entered.set()
        return "slow" if release.wait(5) else "no other request was answered"

    with OllamaSimulator(num_parallel=2) as simulator:
        simulator.reply(slow)
        connection = connect(simulator)
        assert entered.wait(5)
        simulator.reply("fast")
        assert chat_text(simulator) == "fast"
        release.set()
        assert b"slow" in read_until(connection, b"0\r\n\r\n")


def test_a_failing_reply_function_fails_the_request_and_the_test_with_its_error(chat):
    simulator = OllamaSimulator().start()
    simulator.reply(lambda request: request.messages[7])
    response = chat(simulator)
    assert response.status_code == 400  # not a 5xx, which clients send again
    text = "the reply function failed: IndexError: list index out of range"
    assert response.json() == {"error": text}
    with pytest.raises(UnexpectedRequestError, match=text) as caught:
        simulator.stop()
    assert isinstance(caught.value.__cause__, IndexError)
    assert str(caught.value).startswith("1 request(s) came whose reply function failed:")


def test_a_failing_reply_function_fails_the_end_of_the_block(chat):
    def check(request):
        assert request.messages == []
        return "fine"

    def fail(request):
        pytest.fail("not this one")

    def run_out(request):
        return next(iter(()))

    def run():
        with OllamaSimulator(plausible=False) as simulator:
            for function in (check, fail, run_out):
                simulator.reply(function)
                assert chat(simulator).status_code == 400
            chat(simulator)

    with pytest.raises(UnexpectedRequestError) as caught:
        run()
    for text in ("AssertionError", "not this one", "StopIteration", "or whose reply function failed"):
        assert text in str(caught.value)


@pytest.mark.parametrize("answer", [None, {"content": "x"}, b"x"])
def test_a_reply_function_that_returns_no_reply_fails_the_request_and_the_test(simulator, chat, answer):
    simulator.reply(lambda request: answer)
    response = chat(simulator)
    assert response.status_code == 400
    assert f"it returned {answer!r}, which is neither a text nor a Reply" in response.json()["error"]
    with pytest.raises(UnexpectedRequestError, match="neither a text nor a Reply"):
        simulator.verify()


def test_a_reply_function_fails_the_test_after_a_disconnect(simulator, connect):
    entered, release = threading.Event(), threading.Event()
    failed = threading.Event()

    def fail(request):
        entered.set()
        release.wait(5)
        threading.Timer(0.05, failed.set).start()
        raise ZeroDivisionError

    simulator.reply(fail)
    connection = connect(simulator)
    assert entered.wait(5)
    connection.close()
    simulator.wait_for_disconnect()
    release.set()
    assert failed.wait(5)
    with pytest.raises(UnexpectedRequestError, match="ZeroDivisionError"):
        simulator.verify()


def test_many_reply_functions_may_block_at_once(in_background, chat_text):
    everybody = threading.Barrier(50)

    def meet(request):
        everybody.wait(20)
        return "met"

    with OllamaSimulator(num_parallel=50) as simulator:
        simulator.reply(meet, times=None)
        threads = [threading.Thread(target=chat_text, args=(simulator,)) for _ in range(49)]
        for thread in threads:
            thread.start()
        assert chat_text(simulator) == "met"
        for thread in threads:
            thread.join()


def test_a_reply_function_for_another_path_must_return_a_body(simulator):
    simulator.reply(lambda request: "text", path="/api/show")
    response = httpx.post(f"{simulator.url}/api/show", json={"model": "simulator"})
    assert response.status_code == 500
    assert "nothing generates text there" in response.json()["error"]


def test_the_root_can_be_scripted(simulator):
    simulator.reply(path="/", status=503, error="starting")
    assert httpx.get(simulator.url).json() == {"error": "starting"}
    assert httpx.get(simulator.url).text == "Ollama is running"


def test_a_reply_function_answers_an_unknown_path(simulator):
    simulator.reply(lambda request: Reply(body={"path": request.path}), path="/api/pull")
    assert httpx.post(f"{simulator.url}/api/pull", json={}).json() == {"path": "/api/pull"}


def test_an_internal_error_is_a_status_500_and_logged(simulator, chat, monkeypatch, caplog):
    monkeypatch.setattr("griptape_ollama.testing.endpoints.chat.plausible_answer", None)
    response = chat(simulator)
    assert response.status_code == 500
    assert response.json()["error"].startswith("the simulator failed: TypeError")
    assert "cannot answer POST /api/chat" in caplog.text
