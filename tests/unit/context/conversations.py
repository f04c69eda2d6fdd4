"""Conversations as Griptape sends them, made up by Hypothesis."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

REACT_CALL = 'Thought: look.\nActions: [{"name": "Weather"}]'


@dataclass(frozen=True)
class Conversation:
    """Messages with their sizes, and the groups that they were made of, as indices.

    `own` starts with the input; `exchanges` are those of the own turn.
    """

    messages: list[dict[str, Any]]
    sizes: list[float]
    turns: list[list[int]]
    own: range
    exchanges: list[list[int]]
    is_react: bool

    @property
    def systems(self) -> set[int]:
        return {index for index, message in enumerate(self.messages) if message["role"] == "system"}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, *calls):
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [{"id": call, "function": {"name": "Weather_look_up"}} for call in calls]
    return message


def result(call, text="12 degrees"):
    return {"role": "tool", "tool_call_id": call, "content": text}


def system(text="Be brief."):
    return {"role": "system", "content": text}


@st.composite
def conversations(draw):
    """A system prompt or none, remembered turns, and the task's own with finished tool exchanges."""
    is_react = draw(st.booleans())
    messages: list[dict[str, Any]] = []
    count = iter(range(10_000))

    def exchange():
        tag = str(next(count))
        if is_react:
            return [assistant(REACT_CALL), user(f"result {tag}")]
        calls = [f"{tag}.{part}" for part in range(draw(st.integers(1, 3)))]
        return [assistant("", *calls), *(result(call) for call in calls)]

    def add(group):
        start = len(messages)
        for message in group:
            if draw(st.integers(0, 9)) == 0:
                messages.append(system("Mind the time."))
            messages.append(message)
        return [index for index in range(start, len(messages)) if messages[index]["role"] != "system"]

    if draw(st.booleans()):
        messages.append(system())
    turns = []
    for _ in range(draw(st.integers(0, 12))):
        inner = [message for _ in range(draw(st.integers(0, 2))) for message in exchange()]
        turns.append(add([user(f"question {next(count)}"), *inner, assistant("An answer.")]))
    start = len(messages)
    add([user(f"question {next(count)}")])
    exchanges = [add(exchange()) for _ in range(draw(st.integers(0, 4)))]
    sizes = draw(st.lists(st.integers(1, 500), min_size=len(messages), max_size=len(messages)))
    own = range(start, len(messages))
    return Conversation(messages, [float(size) for size in sizes], turns, own, exchanges, is_react)
