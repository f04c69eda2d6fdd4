"""The choice of a tool for a prompt."""

import pytest


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


@pytest.fixture
def calls(lines):
    def send(simulator, text, tools=TOOLS, **body):
        found = [
            call
            for line in lines(simulator, text, tools=tools, **body)
            for call in line["message"].get("tool_calls", [])
        ]
        return [(call["function"]["name"], call["function"]["arguments"]) for call in found]

    return send


@pytest.mark.parametrize(
    ("prompt", "name", "arguments"),
    [
        ("What is 17 * 23?", "CalculatorTool_calculate", {"values": {"expression": "17 * 23"}}),
        ("what's 12.5 plus 3?", "CalculatorTool_calculate", {"values": {"expression": "12.5 + 3"}}),
        ("Compute (2+3)*4, please.", "CalculatorTool_calculate", {"values": {"expression": "(2+3)*4"}}),
        ("How much is 6 \u00d7 7?", "CalculatorTool_calculate", {"values": {"expression": "6 * 7"}}),
        ("What time is it?", "DateTimeTool_get_current_datetime", {}),
        ("What is the weather in Paris?", "get_weather", {"city": "Paris"}),
        ("What's the weather like in new york in Fahrenheit?", "get_weather", {"city": "new", "unit": "fahrenheit"}),
        ("Weather in New York on 2024-05-17", "get_weather", {"city": "New York", "date": "2024-05-17"}),
        ("How is the weather in Oslo for 3 days?", "get_weather", {"city": "Oslo", "days": 3}),
        ("And the weather?", "get_weather", {"city": "city"}),
        ("Email bob@example.com 'Hi'", "EmailTool_send", {"values": {"to": "bob@example.com", "body": "Hi"}}),
        ("Search the web for cats", "WebSearch_search", {"values": {"query": "Search the web for cats"}}),
    ],
)  # fmt: skip
def test_a_prompt_that_fits_a_tool_calls_it(simulator, calls, prompt, name, arguments):
    assert calls(simulator, prompt) == [(name, arguments)]


def test_several_places_are_several_calls(simulator, calls):
    assert calls(simulator, "Compare the weather in Rome and Oslo") == [
        ("get_weather", {"city": "Rome"}),
        ("get_weather", {"city": "Oslo"}),
    ]


@pytest.mark.parametrize("prompt", ["Hello there", "My name is Ada", "Tell me a joke", "Thanks!"])
def test_other_prompts_call_nothing(simulator, calls, prompt):
    assert calls(simulator, prompt) == []


def test_only_offered_tools_are_called(simulator, calls):
    assert calls(simulator, "What is 17 * 23?", tools=[WEATHER]) == []


def test_a_tool_for_the_final_answer_is_called_in_place_of_an_answer(simulator, calls):
    final = tool("Output_provide", "Used to provide the final response", {"name": {"type": "string"}}, ["name"])
    assert calls(simulator, "Who is Ada?", tools=[final]) == [("Output_provide", {"values": {"name": "Ada"}})]
    assert calls(simulator, "What is 2 * 3?", tools=[final, CALCULATOR])[0][0] == "CalculatorTool_calculate"
