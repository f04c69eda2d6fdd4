"""The example with the Stop button, with a client that is not a browser."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading

import httpx
import pytest

WAIT = 30.0


@pytest.fixture
def browse(url):
    """Return a function that opens the page with a new client."""
    with contextlib.ExitStack() as stack:

        def browse():
            client = stack.enter_context(httpx.Client(base_url=url, timeout=WAIT, trust_env=False))
            assert client.get("/").status_code == 200
            return client

        yield browse


@pytest.fixture
def client(browse):
    return browse()


@contextlib.contextmanager
def _asking(client, question):
    with client.stream("POST", "/messages", json={"text": question}) as response:
        assert response.status_code == 200
        yield map(json.loads, response.iter_lines())


def _ask(client, question):
    with _asking(client, question) as lines:
        *chunks, end = lines
    return "".join(chunk["text"] for chunk in chunks), end


def _contents(request):
    return [message["content"] for message in request.messages if message["role"] != "system"]


@pytest.fixture
def silence(simulator):
    """Return a function that makes the simulator pause after a number of lines."""
    event = threading.Event()
    yield lambda lines: simulator.reply(text="one two three four five six", pause=(lines, event))
    event.set()


def test_an_answer_comes_in_pieces_and_is_remembered(simulator, client):
    simulator.reply("Hello, Ada.")
    with _asking(client, "I am Ada.") as lines:
        assert list(lines) == [{"text": "Hello,"}, {"text": " Ada."}, {"done": True}]
    assert client.get("/messages").json() == [{"question": "I am Ada.", "answer": "Hello, Ada."}]
    _ask(client, "Who am I?")
    assert _contents(simulator.last_chat) == ["I am Ada.", "Hello, Ada.", "Who am I?"]


@pytest.mark.parametrize("heard", [0, 3])
def test_a_disconnect_stops_the_generation_and_leaves_no_trace_in_the_memory(simulator, client, silence, heard):
    silence(heard)
    with _asking(client, "A long story, please.") as lines:
        simulator.wait_for_request(timeout=WAIT, path="/api/chat")
        assert len([next(lines) for _ in range(heard)]) == heard
    simulator.wait_for_disconnect(WAIT)
    simulator.reply("Short.")
    assert _ask(client, "A short one, then.") == ("Short.", {"done": True})
    assert _contents(simulator.last_chat) == ["A short one, then."]
    assert client.get("/messages").json() == [{"question": "A short one, then.", "answer": "Short."}]


@pytest.mark.parametrize("heard", [0, 3])
def test_stop_ends_the_answer_and_the_generation_and_leaves_no_trace_in_the_memory(simulator, client, silence, heard):
    silence(heard)
    with _asking(client, "A long story, please.") as lines:
        simulator.wait_for_request(timeout=WAIT, path="/api/chat")
        assert len([next(lines) for _ in range(heard)]) == heard
        assert client.post("/stop").status_code == 204
        simulator.wait_for_disconnect(WAIT)
        assert list(lines) == [{"stopped": True}]
    _ask(client, "A short one, then.")
    assert _contents(simulator.last_chat) == ["A short one, then."]


def test_stop_without_an_answer_under_way_does_nothing(simulator, client):
    assert client.post("/stop").status_code == 204
    simulator.reply("Hello.")
    assert _ask(client, "Hi") == ("Hello.", {"done": True})
    assert client.post("/stop").status_code == 204
    assert len(client.get("/messages").json()) == 1


def test_browsers_neither_stop_nor_see_answers_of_each_other(simulator, browse, silence):
    ada, bob = browse(), browse()
    silence(3)
    with _asking(ada, "I am Ada.") as lines:
        next(lines)
        assert bob.post("/stop").status_code == 204
        assert bob.get("/messages").json() == []
        assert [next(lines)["text"], next(lines)["text"]] == [" two", " three"]
        assert ada.post("/stop").status_code == 204
        assert list(lines) == [{"stopped": True}]


def test_an_unknown_session_is_refused(simulator, client):
    client.cookies = {"session": "made up"}
    for reply in (client.post("/messages", json={"text": "Hi"}), client.post("/stop"), client.get("/messages")):
        assert reply.status_code == 404
        assert "Reload" in reply.json()["detail"]
    assert simulator.chats == []


def test_a_question_is_not_rendered_as_a_template(simulator, client):
    _ask(client, "{{ 6 * 7 }} {{ args }} {% raw %}")
    assert _contents(simulator.last_chat) == ["{{ 6 * 7 }} {{ args }} {% raw %}"]


def test_a_failure_is_sent_with_what_to_do(simulator, client):
    simulator.fault("status", status=404, error="model 'simulator' not found")
    with _asking(client, "Hi") as lines:
        [failure] = lines
    assert "ollama pull simulator" in failure["error"]
    assert client.get("/messages").json() == []


def test_the_page_names_the_model(client):
    assert "Model &lt;simulator&gt;" in client.get("/").text


def test_the_oldest_chats_are_dropped(example, browse, monkeypatch):
    monkeypatch.setattr(example, "MAX_CHATS", 2)
    clients = [browse() for _ in range(3)]
    assert [client.get("/messages").status_code for client in clients] == [404, 200, 200]


@pytest.fixture
def environment():
    names = [name for name in os.environ if not name.startswith("OLLAMA_")]
    return {name: os.environ[name] for name in names} | {"OLLAMA_HOST": "127.0.0.1:1", "PYTHONUNBUFFERED": "1"}


def test_without_a_server_the_simulator_answers_and_ctrl_c_ends_the_app_during_an_answer(app_script, environment):
    command = [sys.executable, str(app_script), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as app:
        try:
            assert "SIMULATOR" in app.stdout.readline()
            address = next(found[0] for line in app.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            with httpx.Client(base_url=address, timeout=WAIT, trust_env=False) as client:
                assert "SIMULATOR" in client.get("/").text
                with _asking(client, "Hi") as lines:
                    assert next(lines) == {"text": "Questions"}
                    app.send_signal(signal.SIGINT)
                    app.communicate(timeout=WAIT)
        finally:
            app.kill()


def test_a_server_that_does_not_answer_is_an_error(app_script, environment):
    command = [sys.executable, str(app_script), "--host", "127.0.0.1:1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert result.returncode == 1
    assert "No Ollama server with a chat model answers at 127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr
