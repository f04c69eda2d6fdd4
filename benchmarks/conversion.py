"""Cost of converting a conversation, per message."""

import time

from griptape.artifacts import ActionArtifact, ListArtifact, TextArtifact
from griptape.common import PromptStack, ToolAction

from benchmarks.tables import markdown
from griptape_ollama.conversion.messages import to_chat_groups

SIZES = (10, 100, 1000, 10_000)


def _conversation(messages):
    stack = PromptStack()
    stack.add_system_message("You are helpful.")
    for turn in range(messages // 4):
        action = {"tag": f"call_{turn}", "name": "Calculator", "path": "calculate"}
        stack.add_user_message(f"What is {turn} * 7?")
        call = ActionArtifact(ToolAction(**action, input={"values": {"expression": f"{turn} * 7"}}))
        stack.add_assistant_message(ListArtifact([TextArtifact("Let me see."), call]))
        stack.add_user_message(ActionArtifact(ToolAction(**action, output=TextArtifact(str(turn * 7)))))
        stack.add_assistant_message(f"It is {turn * 7}.")
    return stack.messages


def _seconds(messages, repeats):
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        to_chat_groups(messages)
        best = min(best, time.process_time() - start)
    return best


def table():
    costs = {}
    for size in SIZES:
        messages = _conversation(size)
        costs[size] = _seconds(messages, max(5, 20_000 // size)) / len(messages)
    base = costs[SIZES[0]]
    rows = [(f"{size:,}", f"{cost * 1e6:.2f}", f"{cost / base:.2f}") for size, cost in costs.items()]
    return markdown("Converting a conversation", ("messages", "µs per message", "times the shortest"), rows)
