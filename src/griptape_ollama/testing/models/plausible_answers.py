"""The plausible answers: what the simulator says when nobody told it what to say.

No model stands behind them. They are always the same for the same conversation.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from griptape_ollama.testing.json_text import as_object, as_text
from griptape_ollama.testing.models.conversation_recall import acknowledgement, look_up, recall
from griptape_ollama.testing.models.generation import json_pieces
from griptape_ollama.testing.models.json_filler import JsonFiller
from griptape_ollama.testing.models.text_clues import Clues
from griptape_ollama.testing.models.tool_choice import choose, final_call
from griptape_ollama.testing.script import Reply

_SCHEMA = re.compile(r"[^.\n]*\{.*\"(?:type|properties|anyOf)\".*\}", re.DOTALL)
_QUOTE = 160
_SHORT = 80


def answer(messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], form: Any, *, thinks: bool) -> Reply:
    """Find an answer to a conversation.

    Args:
        messages: Messages that the model gets to see.
        tools: Tools that are offered.
        form: `format` of the request; JSON wins over tools, as on the real server.
        thinks: Whether reasoning comes first.
    """
    if form:
        text = json.dumps(_fill(form, messages), ensure_ascii=False)
        return Reply(text=json_pieces(text), thinking="The reply has to be JSON." if thinks else "")
    role = messages[-1].get("role") if messages else None
    prompt = last_prompt(messages)
    results = _results(messages)
    # A first answer from memory spares a tool that merely shares words with the question.
    told = recall(messages) if role == "user" and len(messages) > 1 else None
    calls = choose(tools, prompt) if role == "user" and told is None else []
    if not calls and (final := final_call(tools, "\n".join([prompt, *results]))):
        calls = [final]
    if calls:
        names = ", ".join(name for name, _ in calls)
        return Reply(
            tool_calls=calls, thinking=f"The user asks for something that a tool does: {names}." if thinks else ""
        )
    text = _report(results) if results else told or acknowledgement(prompt) or look_up(messages) or _default(prompt)
    return Reply(text=text, thinking=f"The user said {prompt[:_SHORT]!r}. A short answer will do." if thinks else "")


def last_prompt(messages: Sequence[dict[str, Any]]) -> str:
    """Return what the user said last."""
    said = [as_text(message.get("content")) for message in messages if message.get("role") == "user"]
    return said[-1] if said else ""


def _results(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return the tool results that no answer followed yet."""
    found: list[str] = []
    for message in reversed(messages):
        if message.get("role") != "tool":
            break
        found.insert(0, as_text(message.get("content")))
    return found


def _report(results: list[str]) -> str:
    texts = [result.strip() for result in results]
    if len(texts) > 1:
        return "The results are: " + "; ".join(texts) + "."
    text = texts[0]
    if not text:
        return "The tool gave no result."
    if text.lower().startswith("error"):
        return f"The tool reported a problem: {text}"
    return (
        f"The result is {text.rstrip('.')}." if len(text) <= _SHORT and "\n" not in text else f"The tool says: {text}"
    )


def _default(prompt: str) -> str:
    quote = prompt.strip()[:_QUOTE]
    return f"This is the Ollama simulator, not a language model. You said: {quote}"


def _fill(form: Any, messages: Sequence[dict[str, Any]]) -> Any:
    schema = as_object(form)
    prompt = last_prompt(messages)
    if schema and (found := _SCHEMA.search(prompt)):
        # Asked for an earlier answer once more, as JSON: the question is the one before.
        asked = [message for message in messages[:-1] if message.get("role") != "assistant"]
        prompt = "\n".join([prompt[: found.start()], *(as_text(message.get("content")) for message in asked[-2:])])
    # Results of tools are part of what there is to tell.
    text = "\n".join([prompt, *_results(messages)])
    if not schema:
        return {"answer": recall(messages) or look_up(messages) or _default(last_prompt(messages))}
    return JsonFiller(schema, Clues(text), fills_optional=True).fill()
