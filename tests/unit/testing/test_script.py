"""Scripted replies and their queue."""

import threading

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, Reply, UnexpectedRequestError


def test_replies_are_sent_first_in_first_out(simulator, chat_text):
    simulator.reply("one")
    simulator.reply(Reply(text="two"))
    simulator.reply(text="three")
    assert [chat_text(simulator) for _ in range(3)] == ["one", "two", "three"]


def test_a_text_is_streamed_word_by_word_and_a_sequence_item_by_item(simulator, lines):
    simulator.reply("Hello big\n\nworld ")
    simulator.reply(text=["Hel", "lo"])
    assert [line["message"]["content"] for line in lines(simulator)] == ["Hello", " big", "\n\nworld", " ", ""]
    assert [line["message"]["content"] for line in lines(simulator)] == ["Hel", "lo", ""]


def test_thinking_text_and_calls_come_in_the_order_of_the_server(simulator, lines):
    simulator.reply(thinking="Well now", text="Let me", tool_calls=[("f", {"a": 1}), {"name": "g", "arguments": {}}])
    thought, more, text, rest, first, second, last = lines(simulator)
    assert (thought["message"]["thinking"], more["message"]["thinking"]) == ("Well", " now")
    assert (text["message"]["content"], rest["message"]["content"]) == ("Let", " me")
    assert first["message"]["tool_calls"][0]["function"] == {"index": 0, "name": "f", "arguments": {"a": 1}}
    assert second["message"]["tool_calls"][0]["function"] == {"index": 1, "name": "g", "arguments": {}}
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"]) == (True, "stop")


def test_a_whole_tool_call_is_sent_unchanged(simulator, lines):
    call = {"id": "mine", "type": "function", "function": {"name": "f", "arguments": {}}}
    simulator.reply(tool_calls=[call])
    assert lines(simulator)[0]["message"]["tool_calls"] == [call]


def test_fields_of_the_last_line_can_be_changed_and_removed(simulator, lines):
    simulator.reply("x", done_reason="length", final={"prompt_eval_count": None, "eval_count": 99, "extra": 1})
    last = lines(simulator)[-1]
    assert (last["done_reason"], last["eval_count"], last["extra"]) == ("length", 99, 1)
    assert "prompt_eval_count" not in last


def test_lines_are_sent_unchanged(simulator, chat):
    simulator.reply(lines=[{"a": "é"}, '{"b": 1}', b"\xff not json\n"])
    assert chat(simulator).content == '{"a":"é"}\n{"b": 1}\n'.encode() + b"\xff not json\n"


def test_a_status_comes_with_its_error_and_headers(simulator, chat):
    simulator.reply(status=503, error="server busy, please try again", headers={"Retry-After": "1"})
    response = chat(simulator)
    assert (response.status_code, response.json()) == (503, {"error": "server busy, please try again"})
    assert response.headers["retry-after"] == "1"


def test_a_status_without_a_text_has_that_of_http(simulator, chat):
    simulator.reply(status=502)
    assert chat(simulator).json() == {"error": "bad gateway"}


def test_a_body_replaces_everything(simulator, chat):
    simulator.reply(status=502, body="<html>", content_type="text/html")
    simulator.reply(path="/api/tags", body={"models": []})
    response = chat(simulator)
    assert (response.text, response.headers["content-type"]) == ("<html>", "text/html")
    assert httpx.get(f"{simulator.url}/api/tags").json() == {"models": []}


def test_a_body_of_bytes_is_sent_unchanged(simulator, chat):
    simulator.reply(body=b"\x00\xff")
    assert chat(simulator).content == b"\x00\xff"


def test_a_reply_function_gets_the_request(simulator, chat_text, chat):
    simulator.reply(lambda request: request.messages[-1]["content"].upper(), times=None)
    assert (chat_text(simulator, "abc"), chat_text(simulator, "def")) == ("ABC", "DEF")
    simulator.reset()
    simulator.reply(lambda request: Reply(status=429, error=request.model))
    assert chat(simulator).json() == {"error": "simulator"}


def test_an_asynchronous_reply_function_raises_an_error(simulator):
    async def answer(request):
        return "x"

    with pytest.raises(TypeError, match="not `async def`"):
        simulator.reply(answer)


@pytest.mark.parametrize("fields", [{"text": 5}, {"text": b"x"}, {"thinking": ["x", 1]}, {"text": None}])
def test_a_text_of_a_wrong_type_raises_an_error(simulator, fields):
    with pytest.raises(TypeError, match="use a text, or a sequence of texts"):
        simulator.reply(**fields)


def test_a_path_without_a_slash_raises_an_error(simulator):
    with pytest.raises(ValueError, match="path='api/chat': a path begins with a slash"):
        simulator.reply("x", path="api/chat")


@pytest.mark.parametrize("answer", ["x", lambda request: "x"])
def test_a_text_for_an_embedding_model_raises_an_error(simulator, answer):
    with pytest.raises(ValueError, match="model='simulator-embed' does not generate text: it can do embedding only"):
        simulator.reply(answer, model="simulator-embed")
    simulator.reply(path="/api/embed", model="simulator-embed", status=500)


def test_a_reply_for_a_model_waits_for_that_model(chat, chat_text):
    with OllamaSimulator() as simulator:
        simulator.reply(status=404, error="gone", model="qwen3")
        simulator.reply("for all")
        assert chat_text(simulator) == "for all"
        assert chat(simulator, model="qwen3:latest").json() == {"error": "gone"}


def test_a_reply_for_a_path_waits_for_that_path(simulator, chat_text):
    simulator.reply(path="/api/version", body={"version": "9.9"})
    simulator.reply("chat")
    assert chat_text(simulator) == "chat"
    assert httpx.get(f"{simulator.url}/api/version").json() == {"version": "9.9"}


def test_a_reply_without_a_path_answers_any_request(simulator):
    simulator.reply(path=None, status=500, error="down", times=2)
    assert httpx.get(f"{simulator.url}/api/tags").status_code == 500
    assert httpx.get(f"{simulator.url}/api/other").status_code == 500
    assert httpx.get(f"{simulator.url}/api/tags").status_code == 200


def test_unknown_paths_can_be_scripted(simulator):
    simulator.reply(path="/api/pull", lines=[{"status": "success"}])
    assert httpx.post(f"{simulator.url}/api/pull", json={}).json() == {"status": "success"}


def test_times_limits_how_often_a_reply_is_used(simulator, chat_text):
    simulator.reply("twice", times=2)
    simulator.reply("always", times=None)
    assert [chat_text(simulator) for _ in range(5)] == ["twice", "twice", "always", "always", "always"]


def test_concurrent_requests_never_get_the_same_reply(simulator, chat_text):
    for number in range(20):
        simulator.reply(str(number))
    got = []
    threads = [threading.Thread(target=lambda: got.append(chat_text(simulator))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=int) == [str(number) for number in range(20)]


def test_leaving_the_block_reports_unscripted_requests_but_hides_no_other_error(chat):
    with pytest.raises(UnexpectedRequestError), OllamaSimulator(plausible=False) as simulator:
        chat(simulator)

    def break_down():
        chat(simulator)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), OllamaSimulator(plausible=False) as simulator:
        break_down()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "x", "lines": []}, "text, thinking or tool_calls, lines"),
        ({"raw": b"", "body": 1}, "body, raw"),
        ({"status": 99}, "status=99"),
        ({"error": "x"}, "needs status="),
        ({"status": 500, "text": "x"}, "say error="),
        ({"chunking": "words"}, "chunking='words'"),
        ({"chunking": 0}, "chunking=0"),
        ({"chunking": True}, "chunking=True"),
        ({"reset": "later"}, "reset='later'"),
        ({"cut": 1, "reset": 1}, "ends in one way, not several: cut, reset"),
        ({"end_without_done": True, "error_line": "x"}, "end_without_done, error_line"),
        ({"cut": -1}, "cut: a number of lines"),
        ({"pause": (-1, threading.Event())}, "pause: a number of lines"),
        ({"error_line": (-2, "x")}, "error_line: a number of lines"),
        ({"headers_delay": -1}, "delays are seconds"),
        ({"line_delay": -1}, "delays are seconds"),
        ({"tool_calls": [("f",)]}, "tool call"),
        ({"tool_calls": [{"arguments": {}}]}, "tool call"),
        ({"tool_calls": ["get_weather"]}, "tool call"),
        ({"times": 0}, "times=0"),
        ({"path": "/api/show", "text": "x"}, "only /api/chat, /api/generate, /v1/chat/completions generate text"),
    ],
)
def test_invalid_replies_raise_an_error(simulator, fields, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        simulator.reply(**fields)
    assert simulator.unused_replies == 0


def test_unknown_fields_are_named(simulator):
    with pytest.raises(TypeError, match="a reply has no field txt; it has text"):
        simulator.reply(txt="x")
    with pytest.raises(TypeError, match="go into the Reply"):
        simulator.reply(Reply(text="x"), cut=1)
