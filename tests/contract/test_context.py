"""Prompts that a real server truncated are told from complete ones by the counts of its replies."""

import json

import pytest

from contract.replay import RECORDINGS, recording
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.truncation import ContextFinding, TokenCounts, detect_truncation
from griptape_ollama.context.window import ContextWindow

_TRUNCATED = ContextFinding("truncated", is_sure=True)
_SHIFTED = ContextFinding("shifted", is_sure=True)
_ENDLESS = ContextFinding("cut", is_sure=True, cut_by="unknown")  # ten times the window is what the server allows
_BY_LIMIT = ContextFinding("cut", is_sure=True, cut_by="max_tokens")
_FOUND = {
    "chat_overlong_default": [_TRUNCATED],
    "chat_overlong_history": [_TRUNCATED],
    "native_overlong_history": [_TRUNCATED],
    "chat_shift_false": [ContextFinding("cut", is_sure=True, cut_by="window")],
    "native_tools_noargs": [_SHIFTED, _ENDLESS],
    "tools_native_calls_unlisted_tool": [_SHIFTED, _ENDLESS],
}


def _is_chat_reply(name):
    exchange = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))
    request = exchange["request"]
    is_chat = isinstance(request, dict) and request["path"] == "/api/chat" and isinstance(request["body"], dict)
    return is_chat and exchange["response"].get("status") == 200 and "prompt_eval_count" in json.dumps(exchange)


CHATS = [file.stem for file in sorted(RECORDINGS.glob("*.json")) if _is_chat_reply(file.stem)]


def _examined(name):
    """Judge a recording by a rough estimate: the recorded models have a token for about each character."""
    recorded = recording(name)
    options = recorded.request.get("options") or {}
    texts = [message.get("content") or "" for message in recorded.request["messages"]]
    tokens = sum(map(len, texts))
    estimate = TokenEstimate(tokens, round(tokens * 0.7), round(tokens * 1.3))
    lines = [json.loads(recorded.body)] if recorded.is_json_document else recorded.lines()
    last = next(line for line in reversed(lines) if line.get("done"))
    counts = TokenCounts(
        estimate,
        last.get("prompt_eval_count"),
        last.get("eval_count"),
        last.get("done_reason"),
        options.get("num_predict"),
    )
    tokens = options.get("num_ctx") or 4096
    return detect_truncation(counts, ContextWindow(None, tokens, tokens, is_known=True)), last


@pytest.mark.parametrize("name", _FOUND)
def test_truncation_and_shift_are_detected(name):
    assert list(_examined(name)[0]) == _FOUND[name]


@pytest.mark.parametrize("name", [name for name in CHATS if name not in _FOUND])
def test_all_other_replies_are_complete_or_limited_by_num_predict(name):
    found, last = _examined(name)
    assert list(found) == ([_BY_LIMIT] if last.get("done_reason") == "length" else [])


def test_replies_of_both_kinds_are_among_the_recordings():
    assert set(_FOUND) < set(CHATS)
    assert {"chat_stream", "chat_num_predict_3"} < set(CHATS)
