"""Parses tool calls that a model wrote as text, in a format that neither its server nor its template knows.

A text is a call only as a whole: nothing but calls, the marks around them, and white space. It is parsed as it arrives,
so that text which cannot be a call is published at once. The formats are those that models are trained on:

    {"name": "...", "arguments": {...}}                  also "parameters", also several in a list, in a fence
    <tool_call>{"name": "...", "arguments": {...}}</tool_call>                   and the same in other marks
    <tool_call><function=NAME><parameter=KEY>TEXT</parameter></function></tool_call>
    [TOOL_CALLS][{"name": "...", "arguments": {...}}]
    [TOOL_CALLS]NAME[ARGS]{...}
    <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, cast

from griptape_ollama.conversion.json_answers import load_json
from griptape_ollama.conversion.tools import OfferedTools

# Marks around calls; only the first ones begin a call.
_MARKS = (
    *("<tool_call>", "<function_call>", "<|tool_call|>", "<|python_tag|>", "[TOOL_CALLS]"),
    *("</tool_call>", "</function_call>", "</function>", "[/TOOL_CALLS]", "<|call|>", "<|end|>"),
    *("<|eom_id|>", "<|eot_id|>", "<|im_end|>", "</s>"),
)
_FENCE = re.compile(r"```(?:json|tool_calls?)?[ \t]*\r?\n", re.IGNORECASE)
_FENCE_BEGUN = re.compile(r"`{1,2}|```[a-z_]*[ \t]*\r?", re.IGNORECASE)
# The header of a harmony call, which names its function.
_START = "<|start|>assistant"
_MESSAGE = "<|message|>"
_HARMONY_BEGUN = ("<|channel|>commentary", "<|channel|>analysis", "to=functions.")
_HARMONY_WORDS = re.compile(r"<\|(?:channel|constrain)\|>|\s+")
_HARMONY_KINDS = frozenset({"commentary", "analysis", "json", "code"})
_LONGEST_HEADER = 300
# The same of Mistral's newer models.
_NAMED = re.compile(r"(?P<name>[\w.-]+)(?:\[CALL_ID\]\w+)?\[ARGS\]")
_NAMED_BEGUN = re.compile(r"[\w.-]+(?:\[\w*\]?\w*)*")
# Marks around the arguments of Qwen's coders.
_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"
# The beginning of JSON that may be a call.
_HEAD = re.compile(
    r'\[?\s*(?:\{\s*(?:"(?P<key>[^"\\]*)(?P<key_end>"\s*(?::\s*(?:"(?P<name>[^"\\]*)(?P<name_end>")?)?)?)?)?)?'
)
_ARGUMENTS = ("arguments", "parameters")
_KEYS = ("name", *_ARGUMENTS, "function", "type", "id")
_STRUCTURE = re.compile(r'["\\{}\[\]]')


class TextCall(NamedTuple):
    """A call as it was written: the name of a function, and its arguments in any form."""

    name: str
    arguments: Any


class TextCallBuffer:
    """Holds back the text of a reply for as long as it may be nothing but calls.

    Args:
        tools: The offered functions.
        is_answer: Returns whether a text is the wanted answer, although it may be a call.
    """

    def __init__(self, tools: OfferedTools, is_answer: Callable[[str], bool] = lambda _: False) -> None:
        self._tools = tools
        self._is_answer = is_answer
        self._reader: TextCallParser | None = TextCallParser(tools.names)

    @property
    def is_released(self) -> bool:
        """Whether text is no longer held back."""
        return self._reader is None

    @property
    def held(self) -> str:
        """The text that is held back."""
        return "" if self._reader is None else self._reader.held

    def feed(self, text: str) -> str:
        """Add a piece of text, and return what may be published now."""
        if self._reader is None:
            return text
        return "" if self._reader.feed(text) else self.release()

    def release(self) -> str:
        """Return the text that was held back, and stop holding it back."""
        held, self._reader = self.held, None
        return held

    def calls(self) -> list[TextCall]:
        """Return the calls that the whole text consists of; empty if it is not a call, or does not fit its function."""
        found = [] if self._reader is None else self._reader.calls
        calls: list[TextCall] = []
        for each in found:
            arguments = self._tools.fitting_arguments(each.name, each.arguments)
            if arguments is None:
                return []
            calls.append(TextCall(each.name, arguments))
        return [] if calls and self._is_answer(self.held) else calls


class _NoCallError(ValueError):
    """A text cannot be a call."""


class TextCallParser:
    """Parses a text piece by piece, for as long as it may be nothing but calls.

    Args:
        names: Names of the functions that may be called.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._pieces: list[str] = []
        self._calls: list[TextCall] = []
        self._rest = ""
        self._name = ""
        self._is_marked = False
        self._is_offered = False  # by the beginning of the JSON
        self._json = _JsonText()
        self._step: Callable[[], bool] = self._outside

    @property
    def held(self) -> str:
        """The text so far, which may be calls."""
        return "".join(self._pieces)

    @property
    def calls(self) -> list[TextCall]:
        """The calls, if the text so far is nothing but calls; none otherwise."""
        is_whole = self._step == self._outside and self._rest.strip() in ("", "```")
        return self._calls if is_whole else []

    def feed(self, text: str) -> bool:
        """Parse a piece of the text, and return whether all of it still may be calls."""
        self._pieces.append(text)
        self._rest += text
        try:
            while self._rest and self._step():
                pass
        except (_NoCallError, ValueError, RecursionError):
            self._calls = []
            return False
        return True

    # Each step parses what it can of the rest, and returns whether there may be more to parse.

    def _outside(self) -> bool:
        """Parse marks, and the header of a call."""
        self._rest = rest = self._rest.lstrip()
        for mark in _MARKS:
            if rest.startswith(mark):
                self._is_marked = True
                return self._continue(len(mark), self._outside)
        if (fence := _FENCE.match(rest)) is not None:
            return self._continue(fence.end(), self._outside)
        if rest.startswith(("<|", "to=")) and (end := rest.find(_MESSAGE, 0, _LONGEST_HEADER)) >= 0:
            return self._call(_to_harmony_name(rest[:end]), end + len(_MESSAGE), self._arguments)
        if rest.startswith(_FUNCTION) and (end := rest.find(">")) > 0:
            return self._call(rest[len(_FUNCTION) : end], end + 1, self._parameters)
        if self._is_marked and (named := _NAMED.match(rest)) is not None:
            return self._call(named["name"], named.end(), self._arguments)
        if self._is_begun(rest):
            return False
        if rest[0] in "{[":
            return self._continue(0, self._described)
        raise _NoCallError

    def _is_begun(self, rest: str) -> bool:
        """Return whether the rest may be the beginning of a mark or a header."""
        if any(mark.startswith(rest) for mark in (*_MARKS, _FUNCTION)) or _FENCE_BEGUN.fullmatch(rest):
            return True
        if len(rest) > _LONGEST_HEADER:
            return False
        header = rest.removeprefix(_START).lstrip()
        if _START.startswith(rest) or any(
            each.startswith(header) or header.startswith(each) for each in _HARMONY_BEGUN
        ):
            return True
        return rest.startswith(_FUNCTION) or (self._is_marked and _NAMED_BEGUN.fullmatch(rest) is not None)

    def _described(self) -> bool:
        """Parse JSON that names a function and its arguments."""
        after = self._json.feed(self._rest)
        if after is None:
            self._check_head()
            self._rest = ""
            return False
        described = load_json(self._json.text)
        for each in cast("list[Any]", described) if isinstance(described, list) else [described]:
            self._calls.append(self._to_call(each))
        return self._start_outside(after)

    def _arguments(self) -> bool:
        """Parse JSON arguments of a function that was named before."""
        if not self._json.text:
            self._rest = self._rest.lstrip()
            if self._rest[:1] not in ("", "{"):
                raise _NoCallError
        after = self._json.feed(self._rest)
        if after is None:
            self._rest = ""
            return False
        self._calls.append(TextCall(self._name, load_json(self._json.text)))
        return self._start_outside(after)

    def _parameters(self) -> bool:
        """Parse arguments that are texts between marks of their own."""
        self._rest = rest = self._rest.lstrip()
        if rest.startswith("{"):
            return self._continue(0, self._arguments)
        end = rest.find(_FUNCTION_END)
        if end < 0:
            if not any(each.startswith(rest[: len(each)]) for each in (_PARAMETER, _FUNCTION_END)):
                raise _NoCallError
            return False
        self._calls.append(TextCall(self._name, _to_parameters(rest[:end])))
        return self._start_outside(rest[end:])

    def _call(self, name: str, at: int, step: Callable[[], bool]) -> bool:
        if name not in self._names:
            raise _NoCallError
        self._name = name
        return self._continue(at, step)

    def _continue(self, at: int, step: Callable[[], bool]) -> bool:
        self._rest, self._step = self._rest[at:], step
        return True

    def _start_outside(self, rest: str) -> bool:
        self._rest, self._step, self._json, self._is_offered = rest, self._outside, _JsonText(), False
        return True

    def _check_head(self) -> None:
        """Raise where the beginning of the JSON already shows that it is no call."""
        if self._is_offered:
            return
        text = self._json.text
        head = _HEAD.match(text)
        if head is None:
            raise _NoCallError
        key, name = head["key"] or "", head["name"] or ""
        if head["key_end"] is not None and key != "name":
            is_fine = self._is_offered = key in _KEYS
        elif head["name_end"] is not None:
            is_fine = self._is_offered = name in self._names
        else:
            known = _KEYS if head["key_end"] is None else self._names
            begun = key if head["key_end"] is None else name
            is_fine = head.end() == len(text) and any(each.startswith(begun) for each in known)
        if not is_fine:
            raise _NoCallError

    def _to_call(self, described: Any) -> TextCall:
        """Return the call that a JSON object describes; raise if it does not call an offered function."""
        call = cast("dict[str, Any]", described) if isinstance(described, dict) else {}
        if isinstance(inner := call.get("function"), dict) and set(call) <= {"function", "type", "id"}:
            call = cast("dict[str, Any]", inner)
        name = call.get("name")
        given = [key for key in _ARGUMENTS if key in call]
        is_alone = len(given) == 1 or (not given and self._is_marked)
        if (
            not isinstance(name, str)
            or name not in self._names
            or not is_alone
            or not set(call) <= {"name", "type", "id", *given}
        ):
            raise _NoCallError
        if call.get("type", "function") != "function":
            raise _NoCallError
        return TextCall(name, call[given[0]] if given else {})


class _JsonText:
    """An object or a list in JSON that arrives in pieces."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._depth = 0
        self._is_quoted = False
        self._ignored = -1  # place of a character after a backslash

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def feed(self, text: str) -> str | None:
        """Parse a piece, and return the text after the end of the object or list; None if it does not end."""
        for found in _STRUCTURE.finditer(text):
            at, sign = found.start(), found[0]
            if at == self._ignored:
                continue
            if sign == "\\":
                self._ignored = at + 1
            elif sign == '"':
                self._is_quoted = not self._is_quoted
            elif not self._is_quoted:
                self._depth += 1 if sign in "{[" else -1
                if self._depth <= 0:
                    self._pieces.append(text[: at + 1])
                    return text[at + 1 :]
        self._ignored = 0 if self._ignored == len(text) else -1
        self._pieces.append(text)
        return None


def _to_harmony_name(header: str) -> str:
    """Return the function that the header of a harmony call names."""
    words = [each for each in _HARMONY_WORDS.split(header.removeprefix(_START)) if each]
    names = [each[len("to=") :] for each in words if each.startswith("to=")]
    if len(names) != 1 or len(words) - 1 != len(_HARMONY_KINDS & {*words}) or "<|channel|>" not in header:
        raise _NoCallError
    return names[0].removeprefix("functions.")


def _to_parameters(text: str) -> dict[str, str]:
    """Return the arguments between marks of their own; a line break beside a mark belongs to the mark."""
    found: dict[str, str] = {}
    while text := text.strip():
        head, is_closed, rest = text.removeprefix(_PARAMETER).partition(">")
        value, is_ended, after = rest.partition(_PARAMETER_END)
        if not text.startswith(_PARAMETER) or not is_closed or not is_ended or head in found:
            raise _NoCallError
        found[head] = value.removeprefix("\n").removesuffix("\n")
        text = after
    return found


_REACT_ACTIONS = "Actions:"


def is_react_call(text: str) -> bool:
    """Return whether Griptape would run tools for this answer: `Actions:` with a list somewhere after it.

    Griptape's models without tools call them like this (ReAct). The test is ActionsSubtask.ACTIONS_PATTERN without the
    end of the list, which an answer may still lack, and linear in the length of the text.
    """
    start = text.find(_REACT_ACTIONS)
    return start >= 0 and text.find("[", start) >= 0
