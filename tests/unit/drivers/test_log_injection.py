"""No text of a server or a model adds a line to a log, or controls a terminal."""

import io
import json
import logging

import pytest
from griptape.artifacts import TextArtifact
from griptape.common import Message, PromptStack
from rich.console import Console

from griptape_ollama import OllamaError, OllamaModels
from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.models.progress import progress_bar
from unit.hostile import HEAD, HostileServer, chunk

FORGED = "no\r\n2026-11-20 CRITICAL all is lost\x1b[2J\x1b]0;title\x07 \u202e \ud800 \u2028 end"
_HI = TextArtifact("Hi")


def _assert_one_clean_line(text):
    text.encode()
    assert len(text.splitlines()) == 1
    assert not any(ord(each) < 32 or 0x7F <= ord(each) < 0xA0 or each in "\u202e\u2028" for each in text)


@pytest.fixture
def log():
    """What a handler writes of our loggers, one text per record."""
    written = []

    class Keeper(logging.Handler):
        def emit(self, record):
            written.append(self.format(record))

    logger, keeper = logging.getLogger("griptape_ollama"), Keeper()
    level = logger.level
    logger.addHandler(keeper)
    logger.setLevel(logging.DEBUG)
    yield written
    logger.removeHandler(keeper)
    logger.setLevel(level)


@pytest.fixture
def call(simulator, make_driver, make_embedder):
    """Ways to ask."""
    return {
        "run": lambda: make_driver(audit_requests=True).run(_HI),
        "embed": lambda: make_embedder(audit_requests=True).embed("text"),
        "pull": lambda: OllamaModels(host=simulator.url, min_retry_delay=0).pull("nope"),
    }


FAULTS = {
    "refusal": {"status": 400, "error": FORGED},
    "busy": {"status": 503, "error": FORGED},
    "missing": {"status": 404, "error": f"model {FORGED} not found"},
    "no JSON": {"status": 500, "body": FORGED.encode("utf-8", "surrogatepass")},
    "error line": {"lines": [json.dumps({"message": {"content": "x"}, "done": False}), json.dumps({"error": FORGED})]},
    "error line at once": {"lines": [json.dumps({"error": FORGED})]},
    "garbage": {"lines": ["\x1b[2J \x07 garbage"]},
    "odd": {"lines": [json.dumps({"message": {"content": [FORGED]}, "done": False})]},
    "odd call": {"lines": [json.dumps({"message": {"tool_calls": [{"function": FORGED}]}, "done": False})]},
    "page": {"body": f"<title>{FORGED}</title>".encode("utf-8", "surrogatepass")},
}


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("way", ["run", "embed", "pull"])
def test_errors_steer_no_terminal_and_log_records_are_one_line(simulator, call, log, fault, way):
    path = {"run": "/api/chat", "embed": "/api/embed", "pull": "/api/pull"}[way]
    if "status" in FAULTS[fault] or way == "run":
        simulator.reply(path=path, times=None, **FAULTS[fault])
    else:
        body = "\n".join(FAULTS[fault].get("lines", [FORGED])).encode("utf-8", "surrogatepass")
        simulator.reply(path=path, times=None, body=body)
    with pytest.raises(OllamaError) as caught:
        call[way]()
    for line in str(caught.value).split("\n"):  # the server may have said several
        _assert_one_clean_line(line)
    for text in log:
        _assert_one_clean_line(text)
    assert log


def test_what_the_server_said_is_kept_as_it_came(simulator, make_driver):
    said = FORGED.replace("\ud800", "")
    simulator.reply(status=400, error=said)
    with pytest.raises(OllamaError) as caught:
        make_driver().run(_HI)
    assert caught.value.server_message == said


def test_the_name_of_a_tool_that_a_model_made_up_is_one_line_of_the_log(simulator, make_driver, weather_tool, log):
    call = {"function": {"name": FORGED, "arguments": {}}}
    simulator.reply(lines=[{"message": {"tool_calls": [call]}, "done": False}, {"done": True, "done_reason": "stop"}])
    simulator.reply("Sorry.")
    stack = PromptStack(messages=[Message("Hi", role=Message.USER_ROLE)], tools=[weather_tool])
    make_driver().run(stack)
    assert any("which cannot be run" in text for text in log)
    for text in log:
        _assert_one_clean_line(text)


def test_digests_that_a_server_made_up_are_one_line_of_the_audit_log(log):
    body = json.dumps({"models": [{"name": "m:latest", "model": "m:latest", "digest": FORGED}]}).encode()
    answer = [HEAD + b"Connection: close\r\n\r\n", chunk(body), chunk(b"")]
    with HostileServer(lambda _: answer) as server:
        OllamaModels(host=server.url, max_attempts=1).delete("m")
    assert any("all is lost" in text for text in log)
    for text in log:
        _assert_one_clean_line(text)


def test_a_bar_shows_no_escape_sequence_of_a_server():
    console = Console(file=io.StringIO(), force_terminal=False, width=400)
    with progress_bar("pull", "m", console) as move:
        move(OllamaProgressEvent(action="pull", model="m", host="http://gpu", status="\x1b[2Jpulling\x07"))
    assert "pulling" in console.file.getvalue()
    assert "\x1b" not in console.file.getvalue()
    assert "\x07" not in console.file.getvalue()
