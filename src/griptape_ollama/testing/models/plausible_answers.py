"""Plausible answers of the simulator where the test scripts none.

They are rules, not a model, and are always the same for the same conversation: facts that the user stated, earlier
prompts and results, tool calls that fit the prompt, and JSON that fits a schema.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from griptape_ollama.testing.models.entity_extraction import TextEntities
from griptape_ollama.testing.models.generation import json_pieces
from griptape_ollama.testing.models.json_filler import JsonFiller
from griptape_ollama.testing.models.tool_choice import choose_tool_calls, final_call, words_of
from griptape_ollama.testing.script import Reply
from griptape_ollama.testing.wire_format import as_object, as_text

_SCHEMA = re.compile(r"[^.\n]*\{.*\"(?:type|properties|anyOf)\".*\}", re.DOTALL)
_QUOTE = 160
_SHORT = 80


def plausible_answer(
    messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], form: Any, *, thinks: bool
) -> Reply:
    """Return the answer to a conversation.

    Args:
        messages: Messages in the window of the model.
        tools: Tools of the request.
        form: `format` of the request; it takes precedence over tools, as on the real server.
        thinks: Whether reasoning comes first.
    """
    if form:
        text = json.dumps(_fill(form, messages), ensure_ascii=False)
        return Reply(text=json_pieces(text), thinking="The reply has to be JSON." if thinks else "")
    role = messages[-1].get("role") if messages else None
    prompt = last_prompt(messages)
    results = _results(messages)
    # An answer from the conversation comes before a tool that merely shares words with the question.
    remembered = answer_from_history(messages) if role == "user" and len(messages) > 1 else None
    calls = choose_tool_calls(tools, prompt) if role == "user" and remembered is None else []
    if not calls and (final := final_call(tools, "\n".join([prompt, *results]))):
        calls = [final]
    if calls:
        names = ", ".join(name for name, _ in calls)
        return Reply(
            tool_calls=calls, thinking=f"The user asks for something that a tool does: {names}." if thinks else ""
        )
    text = (
        _report(results)
        if results
        else remembered or acknowledge(prompt) or find_similar_sentence(messages) or _default(prompt)
    )
    return Reply(text=text, thinking=f"The user said {prompt[:_SHORT]!r}. A short answer will do." if thinks else "")


def last_prompt(messages: Sequence[dict[str, Any]]) -> str:
    """Return the last message of the user."""
    user_texts = [as_text(message.get("content")) for message in messages if message.get("role") == "user"]
    return user_texts[-1] if user_texts else ""


def _results(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return the tool results since the last answer."""
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
        # The prompt asks for an earlier answer as JSON: the question is in the messages before.
        asked = [message for message in messages[:-1] if message.get("role") != "assistant"]
        prompt = "\n".join([prompt[: found.start()], *(as_text(message.get("content")) for message in asked[-2:])])
    # Tool results are part of the text.
    text = "\n".join([prompt, *_results(messages)])
    if not schema:
        return {
            "answer": answer_from_history(messages)
            or find_similar_sentence(messages)
            or _default(last_prompt(messages))
        }
    return JsonFiller(schema, TextEntities(text), fills_optional=True).fill()


_CUT = r"(?=[.,;!?\n]|\s+and\s+(?:i|my|the)\b|\s+but\s|$)"
_NAME = re.compile(r"\b(?:[Mm]y name is|[Cc]all me|I am called)\s+([A-Z][\w'-]*(?: [A-Z][\w'-]*)*)")
_I_AM = re.compile(r"\b(?:I am|I'm)\s+([A-Z][\w'-]*)")
_FACT = re.compile(rf"\b(my|the)\s+([a-z][\w' -]*?)\s+(?:is|are|was|=)\s+(.+?){_CUT}", re.IGNORECASE)
_I_DO = re.compile(rf"\bI\s+((?:live|work|like|love|own|prefer|study|drive|play|speak)\b)\s*(.*?){_CUT}")
_REMEMBER = re.compile(
    r"\b(?:please\s+)?(?:remember|note|keep in mind)(?:\s+that|\s*:)?\s+(.+?)(?=[.!\n]|$)", re.IGNORECASE
)
_ASKS_FACT = re.compile(
    r"\b(?:what|who|which|when|where)(?:'s| is| are| was| were)\s+(my|the)\s+([\w' -]+)", re.IGNORECASE
)
_ASKS_WHO = re.compile(
    r"\b(?:who am i|what am i called|do you (?:know|remember) (?:my name|who i am))\b", re.IGNORECASE
)
_ASKS_I_DO = re.compile(
    r"\b(?:what|where|which\b.*?)\s+do\s+i\s+(live|work|like|love|own|prefer|study|drive|play|speak)\b",
    re.IGNORECASE,
)
_ASKS_PROMPT = re.compile(
    r"\bwhat\b.*\b(?:did i|have i|i)\b.*\b(?:ask|say|said|tell|told|compute|want|calculate)(?:e?d)?\b"
    r"|\b(?:my|the) (?:previous|last|first|earlier) (?:question|prompt|message|request)\b",
    re.IGNORECASE,
)
_ASKS_RESULT = re.compile(
    r"\b(?:what|which|repeat|tell me|remind me)\b.*\b(?:result|answer|outcome|output|number|reply)\b.*"
    r"\b(?:again|before|earlier|previous|last|was|were)\b"
    r"|\b(?:result|answer|reply)\s+(?:was|again)\b|\b(?:previous|last|earlier) (?:result|answer|reply)\b"
    r"|\bwhat (?:was|were) (?:the|your|that) (?:\w+ )?(?:result|answer|reply)\b"
    r"|\bwhat did you (?:say|answer|compute|find)\b",
    re.IGNORECASE,
)
_ASKS_MEMORY = re.compile(r"\bwhat\b.*\b(?:remember|know about me|told you)\b", re.IGNORECASE)
_MIN_OVERLAP = 2
_LONGEST_QUESTION = 400


def answer_from_history(messages: Sequence[dict[str, Any]]) -> str | None:
    """Answer the last message from earlier ones; None if they have no answer."""
    question = as_text(messages[-1].get("content")) if messages else ""
    user_texts = [as_text(message.get("content")) for message in messages[:-1] if message.get("role") == "user"]
    if _ASKS_WHO.search(question):
        name = _last(_NAME, user_texts) or _last(_I_AM, user_texts)
        return f"Your name is {name}." if name else None
    for plausible_answer in (
        _result(question, messages[:-1]),
        _prompt(question, user_texts),
        _fact(question, user_texts),
        _habit(question, user_texts),
    ):
        if plausible_answer:
            return plausible_answer
    return _remembered(question, user_texts)


def acknowledge(text: str) -> str | None:
    """Answer a message that states a fact; None for other messages."""
    if "?" in text:
        return None
    if name := _last(_NAME, [text]):
        return f"Nice to meet you, {name}. I will remember your name."
    if found := _REMEMBER.search(text):
        return f"I will remember that {found.group(1).strip()}."
    if found := _I_DO.search(text):
        return f"I will remember that you {found.group(1)} {found.group(2)}".rstrip() + "."
    if found := _FACT.search(text):
        owner = "your" if found.group(1).lower() == "my" else "the"
        return f"I will remember that {owner} {found.group(2)} is {found.group(3)}."
    return None


def _result(question: str, earlier: Sequence[dict[str, Any]]) -> str | None:
    if not _ASKS_RESULT.search(question) or re.search(r"\bdid i\b", question, re.IGNORECASE):
        return None
    for role in ("tool", "assistant"):
        texts = [as_text(message.get("content")) for message in earlier if message.get("role") == role]
        latest = [text.strip() for text in reversed(texts) if text.strip()]
        found = next((text for text in latest if "result" in text), latest[0] if latest else None)
        if found:
            return f"The result was {found}." if role == "tool" else f'My answer was: "{found}"'
    return None


def _prompt(question: str, user_texts: Sequence[str]) -> str | None:
    if not user_texts or not _ASKS_PROMPT.search(question) or _ASKS_MEMORY.search(question):
        return None
    asked = user_texts[0] if re.search(r"\bfirst\b", question, re.IGNORECASE) else user_texts[-1]
    return f'You asked: "{asked.strip()}"'


def _fact(question: str, user_texts: Sequence[str]) -> str | None:
    asked = _ASKS_FACT.search(question)
    if asked is None:
        return None
    owner, thing = asked.group(1).lower(), _key(asked.group(2))
    your = "Your" if owner == "my" else "The"
    if thing == "name" and (name := _last(_NAME, user_texts) or _last(_I_AM, user_texts)):
        return f"Your name is {name}."
    for text in reversed(user_texts):
        for found in _FACT.finditer(text):
            if _key(found.group(2)) == thing and "?" not in text[found.start() :][: len(found.group()) + 1]:
                return f"{your} {found.group(2)} is {found.group(3)}."
    return None


def _habit(question: str, user_texts: Sequence[str]) -> str | None:
    asked = _ASKS_I_DO.search(question)
    if asked is None:
        return None
    for text in reversed(user_texts):
        for found in _I_DO.finditer(text):
            if found.group(1).lower() == asked.group(1).lower():
                return f"You {found.group(1)} {found.group(2)}."
    return None


def _remembered(question: str, user_texts: Sequence[str]) -> str | None:
    notes = [found.group(1).strip() for text in user_texts for found in _REMEMBER.finditer(text)]
    if not notes:
        return None
    if _ASKS_MEMORY.search(question):
        return "You asked me to remember: " + "; ".join(notes) + "."
    wanted = words_of(question)
    return next((f"You told me: {note}." for note in reversed(notes) if wanted & words_of(note)), None)


def find_similar_sentence(messages: Sequence[dict[str, Any]]) -> str | None:
    """Return the sentence of the system prompt or of earlier messages that shares most words with the last message."""
    question = as_text(messages[-1].get("content")) if messages else ""
    is_question = "?" in question or re.match(r"(?:what|who|where|when|which|how|why)\b", question, re.IGNORECASE)
    if not is_question or len(question) > _LONGEST_QUESTION:
        return None
    wanted = words_of(question)
    texts = [as_text(message.get("content")) for message in messages[:-1] if message.get("role") in ("system", "user")]
    sentences = [sentence.strip() for text in texts for sentence in re.split(r"(?<=[.!?])\s+|\n+|\\n", text)]
    rated = [(len(wanted & words_of(sentence)), sentence) for sentence in sentences if not sentence.endswith("?")]
    best = max(rated, key=lambda rating: rating[0], default=(0, ""))
    return best[1] if best[0] >= _MIN_OVERLAP else None


def _last(pattern: re.Pattern[str], texts: Sequence[str]) -> str | None:
    found = [match for text in texts for match in pattern.findall(text)]
    return found[-1] if found else None


def _key(thing: str) -> str:
    return " ".join(
        word for word in re.findall(r"\w+", thing.lower()) if word not in ("again", "please", "then", "now")
    )
