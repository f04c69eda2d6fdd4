"""Prompts for tests of the context window, and what their requests and replies show."""

import json

from griptape.artifacts import TextArtifact
from griptape.common import PromptStack

from griptape_ollama.context.tokens.estimator import estimator_of
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.testing import SimulatedModel

LARGE_WINDOW = SimulatedModel(name="roomy", context_length=131_072)

_SENTENCES = (
    "The ferry leaves the harbour a little after seven in the morning.",
    "No one has asked about the second report so far, and no one will.",
    "Please keep the list short and say which of the points came last.",
    "A cold wind had blown all night, and the windows of the old hall shook.",
)


def prose(tokens, start=0):
    """Return a text of about so many tokens, as the simulator counts them: four characters each."""
    said = []
    size = 0
    number = start
    while size < tokens * 4:
        said.append(f"{number}. {_SENTENCES[number % len(_SENTENCES)]}")
        size += len(said[-1]) + 1
        number += 1
    return " ".join(said)[: tokens * 4]


def prompt(tokens, start=0):
    """Return a prompt of about so many tokens."""
    return TextArtifact(prose(tokens, start))


def stack_of(*messages, tools=(), output_schema=None):
    """Return a stack of messages: pairs of a role and a text."""
    stack = PromptStack(tools=list(tools), output_schema=output_schema)
    for role, text in messages:
        stack.add_message(text, role)
    return stack


def turns(count, tokens, start=0):
    """Return a conversation of so many turns of so many tokens each, without its last question."""
    return [
        (role, f"{role} {number}: {prose(tokens // 2, number)}")
        for number in range(start, start + count)
        for role in ("user", "assistant")
    ]


def calibrate(simulator, *models):
    """Calibrate the estimators of models as ten replies would."""
    for model in models:
        estimator = estimator_of(simulator.url, model_key(model))
        for number in range(10):
            text = prose(300 * (number + 1), number)
            # The simulator counts three tokens for the template and four for each message beside its text.
            estimator.learn([{"role": "user", "content": text}], (), 7 + -(-len(text) // 4))


def sent_windows(simulator):
    """Return the num_ctx of each chat so far; None for one without."""
    return [chat.options.get("num_ctx") for chat in simulator.chats]


def loaded_windows(simulator):
    """Return the windows that models were loaded with so far."""
    return [load.context_length for load in simulator.loads]


def truncated_chats(simulator):
    """Return the chats so far whose prompts the server truncated."""
    return [chat for chat in simulator.chats if chat.outcome.was_truncated]


def texts(request):
    """Return role and text of each message of a request."""
    return [(message["role"], message["content"]) for message in request.messages]


def lines(messages):
    """Return messages as they stand in a body, to compare byte for byte."""
    return [json.dumps(message) for message in messages]


def meta_of(message):
    """Return the metadata of a reply."""
    return message.content[0].artifact.meta["ollama"]
