"""Plausible answers."""

import json

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def tool(name, description, properties, required=(), *, nested=True):
    inner = {"type": "object", "properties": properties, "required": list(required)}
    outer = {"type": "object", "properties": {"values": inner}, "required": ["values"]} if nested else inner
    return {"type": "function", "function": {"name": name, "description": description, "parameters": outer}}


CALCULATOR = tool(
    "CalculatorTool_calculate",
    "Can be used for computing simple numerical or algebraic calculations in Python",
    {"expression": {"type": "string", "description": "Arithmetic expression parsable in pure Python."}},
    ["expression"],
)

CLOCK = tool("DateTimeTool_get_current_datetime", "Can be used to return current date and time.", {}, nested=False)

WEATHER = tool(
    "get_weather",
    "Weather of a city",
    {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer"},
        "date": {"type": "string"},
    },
    ["city"],
    nested=False,
)

MAIL = tool(
    "EmailTool_send",
    "Can be used to send emails",
    {
        "to": {"type": "string", "description": "Recipient's email address"},
        "body": {"type": "string", "description": "Email body"},
    },
    ["to", "body"],
)

SEARCH = tool("WebSearch_search", "Searches the web", {"query": {"type": "string"}}, ["query"])

TOOLS = [CALCULATOR, CLOCK, WEATHER, MAIL, SEARCH]


@pytest.mark.parametrize(
    ("results", "answer"),
    [
        (["391"], "The result is 391."),
        (["sunny in Paris", "rain in Oslo"], "The results are: sunny in Paris; rain in Oslo."),
        (["Error: no such city"], "The tool reported a problem: Error: no such city"),
        ([""], "The tool gave no result."),
        (["line one\nline two"], "The tool says: line one\nline two"),
    ],
)
def test_tool_results_are_reported(simulator, chat_text, results, answer):
    call = {"function": {"name": "f", "arguments": {}}}
    messages = [user("What is 17 * 23?"), {**assistant(""), "tool_calls": [call]}]
    messages += [{"role": "tool", "content": result} for result in results]
    assert chat_text(simulator, messages=messages, tools=TOOLS) == answer


@pytest.mark.parametrize(
    ("told", "question", "answer"),
    [
        ("My name is Ada and I live in Oslo.", "What is my name?", "Your name is Ada."),
        ("My name is Ada and I live in Oslo.", "Where do I live?", "You live in Oslo."),
        ("I'm Ada, hello", "Who am I?", "Your name is Ada."),
        ("My favourite colour is dark blue.", "what's my favourite colour?", "Your favourite colour is dark blue."),
        ("Remember that the code word is zebra.", "What is the code word?", "The code word is zebra."),
        ("Please remember: buy milk", "What did I tell you to remember?", "You asked me to remember: buy milk."),
        ("Remember to water the plants", "Which plants again?", "You told me: to water the plants."),
        ("What is 2 + 2?", "What did I ask before?", 'You asked: "What is 2 + 2?"'),
    ],
)
def test_facts_of_earlier_messages_are_repeated(simulator, chat_text, told, question, answer):
    messages = [user(told), assistant("ok"), user(question)]
    assert chat_text(simulator, messages=messages, tools=TOOLS) == answer


def test_the_first_and_the_latest_prompt_are_distinguished(simulator, chat_text):
    messages = [user("one"), assistant("a"), user("two"), assistant("b")]
    assert chat_text(simulator, messages=[*messages, user("What did I ask first?")]) == 'You asked: "one"'
    assert chat_text(simulator, messages=[*messages, user("What was my last question?")]) == 'You asked: "two"'


def test_earlier_results_are_repeated(simulator, chat_text):
    messages = [user("17 * 23?"), assistant("The result is 391."), user("Hi"), assistant("Hello")]
    question = user("What was the result again?")
    assert chat_text(simulator, messages=[*messages, question]) == 'My answer was: "The result is 391."'
    messages.insert(1, {"role": "tool", "content": "391"})
    assert chat_text(simulator, messages=[*messages, question]) == "The result was 391."


def test_unknown_facts_are_not_invented(simulator, chat_text):
    messages = [user("Hello"), assistant("Hi"), user("What is my name?")]
    assert "simulator" in chat_text(simulator, messages=messages)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("My name is Ada", "Nice to meet you, Ada. I will remember your name."),
        ("Remember that it rains", "I will remember that it rains."),
        ("I live in Oslo", "I will remember that you live in Oslo."),
        ("My dog is old", "I will remember that your dog is old."),
    ],
)
def test_a_stated_fact_is_acknowledged(simulator, chat_text, text, answer):
    assert chat_text(simulator, text) == answer


def test_questions_are_answered_from_the_texts_in_the_prompt(simulator, chat_text):
    context = {
        "role": "system",
        "content": "Use this.\nOllama was founded in 2023. The Eiffel tower is 330 metres high.",
    }
    messages = [context, user("How high is the Eiffel tower?")]
    assert chat_text(simulator, messages=messages) == "The Eiffel tower is 330 metres high."


def test_the_default_answer_names_the_simulator(simulator, chat_text):
    assert chat_text(simulator, "Tell me a joke") == (
        "This is the Ollama simulator, not a language model. You said: Tell me a joke"
    )


def test_the_seed_changes_nothing(simulator, chat_text):
    assert len({chat_text(simulator, "Hello", options={"seed": seed}) for seed in range(3)}) == 1


def test_thinking_models_think_unless_think_is_false(lines):
    model = SimulatedModel(name="m", capabilities=("completion", "tools", "thinking"))
    with OllamaSimulator([model]) as simulator:
        for body, thinks in (({}, True), ({"think": True}, True), ({"think": "low"}, True), ({"think": False}, False)):
            for more in ({}, {"tools": TOOLS}, {"format": "json"}):
                found = lines(simulator, "What is 2 + 2?", model="m", **body, **more)
                assert any("thinking" in line["message"] for line in found) == thinks


def test_json_takes_precedence_over_tools(simulator, lines):
    found = lines(
        simulator, "What is 2 + 2?", tools=TOOLS, format={"type": "object", "properties": {"n": {"type": "integer"}}}
    )
    assert not any("tool_calls" in line["message"] for line in found)
    assert json.loads("".join(line["message"]["content"] for line in found)) == {"n": 2}


def test_format_json_gives_an_object(simulator, chat_text):
    assert json.loads(chat_text(simulator, "Hello", format="json")).keys() == {"answer"}


def test_unusual_conversations_are_answered(simulator, chat_text):
    for messages in ([assistant("x")], [{"role": "tool", "content": "x"}], [{"role": "user", "content": None}], [{}]):
        assert chat_text(simulator, messages=messages)
    odd = [
        {"type": "function"},
        {"function": {"name": "f"}},
        {"function": {"name": "g", "parameters": {"properties": None}}},
    ]
    assert chat_text(simulator, "Hello", tools=odd)
