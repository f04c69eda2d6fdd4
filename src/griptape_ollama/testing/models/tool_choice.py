"""Choice of the tool that a prompt asks for, and its arguments."""

import copy
import re
from collections.abc import Sequence
from typing import Any

from griptape_ollama.testing.models.entity_extraction import TextEntities
from griptape_ollama.testing.models.json_filler import JsonFiller
from griptape_ollama.testing.wire_format import as_list, as_object, as_text

_NAME_WEIGHT, _PARAMETER_WEIGHT, _DESCRIPTION_WEIGHT = 3, 2, 1
_EVIDENCE_WEIGHT = 5
_ENOUGH = 2
_SHORTEST_PART = 4
_PLACES = re.compile(r"\b(?:city|location|place|town)\b", re.IGNORECASE)
# A tool for the final answer is called in place of an answer in text.
_FINAL = re.compile(r"final (?:response|answer|output|result)", re.IGNORECASE)
_COMMON = frozenset(
    """a about all also an and any are as ask at be been but by call can could did do does done each for from get give
    given had has have how i if in input into is it its just let make may me more my need no not of on one only or our
    out output over please return returns set should simple so some tell than that the their them then there these this
    those to tool up us use used useful user uses using value values want was we were what when where which who whose
    why will with would you your name parameter parameters string list result results before again first last earlier
    client run new current perform performs request python line single""".split()  # noqa: SIM905  a list of this length reads better as a text
)

Call = tuple[str, dict[str, Any]]


def choose_tool_calls(tools: Sequence[dict[str, Any]], text: str) -> list[Call]:
    """Return the calls of the tool that a prompt asks for.

    Args:
        tools: Tools of the request.
        text: Last message of the user.

    Returns:
        No call, one, or several of the same tool where the prompt names several places.
    """
    functions = [as_object(tool.get("function")) for tool in tools]
    usable = [function for function in functions if not is_final(function)]
    scores = [_score(function, text) for function in usable]
    if not scores or max(scores) < _ENOUGH:
        return []
    function = usable[scores.index(max(scores))]
    entities = TextEntities(text)
    places = entities.names if _place_parameters(function) else []
    texts = [text] if len(places) < 2 else [_without_other_places(text, place, places) for place in places]
    return [fill_tool_call(function, each) for each in texts]


def final_call(tools: Sequence[dict[str, Any]], text: str) -> Call | None:
    """Return the call of a tool for the final answer, None if there is no such tool."""
    functions = [as_object(tool.get("function")) for tool in tools]
    return next((fill_tool_call(function, text) for function in functions if is_final(function)), None)


def is_final(function: dict[str, Any]) -> bool:
    """Return whether a tool is for the final answer."""
    name = as_text(function.get("name")).lower()
    return bool(_FINAL.search(as_text(function.get("description")))) or name in ("final_result", "final_answer")


def fill_tool_call(function: dict[str, Any], text: str) -> Call:
    """Return a call of a tool with arguments from a text."""
    schema = as_object(copy.deepcopy(function.get("parameters")))
    schema.setdefault("type", "object")
    arguments = (
        JsonFiller(schema, TextEntities(text), fills_optional=False).fill() if schema.get("properties") else None
    )
    return as_text(function.get("name")), as_object(arguments)


def words_of(text: str) -> set[str]:
    """Return the significant words of a text, stemmed."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", text)
    return {_stem(word) for part in parts if (word := part.lower()) not in _COMMON and len(word) > 1}


def _score(function: dict[str, Any], text: str) -> int:
    words = words_of(text)
    name = words_of(as_text(function.get("name")))
    parameters = _parameters(function)
    description = words_of(as_text(function.get("description")))
    asked = set[str]().union(*(words_of(f"{key} {as_text(node.get('description'))}") for key, node in parameters))
    score = _NAME_WEIGHT * len(words & name)
    score += _PARAMETER_WEIGHT * len(words & asked - name)
    score += _DESCRIPTION_WEIGHT * len(words & description - name - asked)
    # "time" asks for a tool named "datetime".
    score += _PARAMETER_WEIGHT * sum(
        any(word in other for other in name if word != other) for word in words if len(word) >= _SHORTEST_PART
    )
    return score + _evidence(parameters, text)


def _evidence(parameters: list[tuple[str, dict[str, Any]]], text: str) -> int:
    """Return the score of entities that fit the parameters: arithmetic, enum values, URLs."""
    entities = TextEntities(text)
    score = 0
    for key, node in parameters:
        about = f"{key} {as_text(node.get('description'))}".lower()
        if entities.expression and re.search(r"expression|arithmetic|formula|equation", about):
            score += _EVIDENCE_WEIGHT
        options = [option for option in as_list(node.get("enum")) if isinstance(option, str)]
        if options and entities.choice(options):
            score += _PARAMETER_WEIGHT
        score += _PARAMETER_WEIGHT * bool(entities.urls and re.search(r"\burl\b", about))
    return score


def _parameters(function: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the parameters of a tool, with those of nested objects such as `values`."""
    found: list[tuple[str, dict[str, Any]]] = []

    def gather(schema: dict[str, Any]) -> None:
        for key, value in as_object(schema.get("properties")).items():
            node = as_object(value)
            if as_object(node.get("properties")):
                gather(node)
            else:
                found.append((key, node))

    gather(as_object(function.get("parameters")))
    return found


def _place_parameters(function: dict[str, Any]) -> list[str]:
    return [key for key, node in _parameters(function) if _PLACES.search(key) and node.get("type") != "array"]


def _without_other_places(text: str, place: str, places: list[str]) -> str:
    """Remove the other places from a prompt."""
    for other in places:
        if other != place:
            text = text.replace(other, "")
    return text


def _stem(word: str) -> str:
    for ending in (
        "ations",
        "ation",
        "ating",
        "ated",
        "ates",
        "ator",
        "ate",
        "ings",
        "ing",
        "ies",
        "es",
        "ed",
        "s",
        "e",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_PART - 1:
            return word[: -len(ending)]
    return word.removesuffix("y") if len(word) > _SHORTEST_PART else word
