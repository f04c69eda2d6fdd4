"""What an answer must fit, and what is asked for where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from griptape_ollama.conversion.json_answers import Found, find_answer, to_repair_request, to_schema_request
from griptape_ollama.conversion.response_reader import ReplyReader, is_blank
from griptape_ollama.conversion.schemas import NOTHING_READ, AnswerRule
from griptape_ollama.conversion.text_calls import is_react_call
from griptape_ollama.protocol.schema_validation import MisfitError, check_fits
from griptape_ollama.protocol.surrogates import without_escaped_halves

MAX_REPAIRS = 2
"""How often a model is asked in one answer for JSON that fits the schema better."""

Request = dict[str, Any]


class CutAnswerError(Exception):
    """The answer was cut, and what there is of it is not the whole."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of an answer.

    Attributes:
        rule: What it must fit.
        withheld_format: The format for the answer, where the first request cannot carry it: the server would make JSON
            of what should be a tool call.
    """

    rule: AnswerRule
    withheld_format: Any = None


class AnswerChecks:
    """Holds the answers of one exchange against what is wanted, and decides what is asked for next.

    Beside the turns that call tools, an answer takes five requests at most: one without the format, one with it, one
    that tells the schema in words to what ignored it, and the repairs.

    Args:
        wanted: What is wanted.
        is_react: Whether tools are described in words, so that a text may be a call.
        ignored: Told that the format of a request was ignored.
    """

    def __init__(self, wanted: Wanted, *, is_react: bool, ignored: Callable[[], None]) -> None:
        self._rule = wanted.rule
        self._withheld_format = wanted.withheld_format
        self._is_react = is_react
        self._ignored = ignored
        self._repairs = 0

    def may_show(self, request: Request, text: str) -> bool | None:
        """Whether listeners see the text of a reply as it comes.

        Only JSON that a grammar holds to its shape stands for sure; anything else may be replaced.

        Args:
            request: The request.
            text: The beginning of the text.

        Returns:
            None where the text is not long enough to tell.
        """
        if "format" not in request:
            return False
        beginning = text.lstrip()[:1]
        return beginning in _beginnings(request["format"]) if beginning else None

    def following(self, request: Request, reader: ReplyReader) -> Request | None:
        """Return what to ask next; None where the answer stands, or nothing helps.

        Raises:
            CutAnswerError: A task cannot use what there is of the answer.
        """
        text = reader.round_text
        has_format = "format" in request
        if self._is_react and not has_format and is_react_call(text):
            return None
        found = find_answer(without_escaped_halves(text), self._rule.error_of, is_cut=reader.was_cut)
        if found.document is not None:
            if has_format and not found.is_json:
                self._ignored()
            if found.document != text:
                reader.replace_round_text(found.document)
            return None
        # Words that were cut are no document that was cut: it is still to be asked for.
        waits = self._withheld_format is not None and not has_format
        if reader.was_cut and not (waits and found.is_prose and not is_blank(text)):
            if self._rule.is_demanded:
                raise CutAnswerError
            return None
        if has_format:
            return self._after_format(request, text, found)
        if waits:
            asked = _continued(request, text, to_schema_request(self._rule.told), without="tools")
            return {**asked, "format": self._withheld_format}
        return self._repaired(request, text, found)

    def _after_format(self, request: Request, text: str, found: Found) -> Request | None:
        if is_blank(text):
            return None
        if found.is_open:  # it has the right shape, and ends early, as by a stop text
            return self._repaired(request, text, found) if self._rule.is_demanded else None
        if found.is_json and _has_shape(request["format"], text):
            # What is wrong inside is for the task to say, which does not see that nothing was read.
            return self._repaired(request, text, found) if found.error == NOTHING_READ else None
        self._ignored()
        return _continued(request, text, to_schema_request(self._rule.told), without="format")

    def _repaired(self, request: Request, text: str, found: Found) -> Request | None:
        if self._repairs >= MAX_REPAIRS:
            return None
        self._repairs += 1
        return _continued(request, text, to_repair_request(found.error or "it is empty"))


def _continued(request: Request, text: str, message: dict[str, Any], *, without: str = "") -> Request:
    draft = [{"role": "assistant", "content": text}] if text else []
    kept = {name: value for name, value in request.items() if name != without}
    return {**kept, "messages": [*request["messages"], *draft, message]}


def _beginnings(wanted: Any) -> str:
    """Return the characters that a document of a format may begin with."""
    kind = cast("Mapping[str, Any]", wanted).get("type") if isinstance(wanted, Mapping) else None
    return {"object": "{", "array": "["}.get(str(kind), '{["-0123456789tfn')


def _has_shape(wanted: Any, text: str) -> bool:
    """Whether a document has what no grammar would leave out: its type, and the keys that it needs."""
    if not isinstance(wanted, Mapping):
        return True
    schema = cast("Mapping[str, Any]", wanted)
    shape = {key: schema[key] for key in ("type", "required") if key in schema}
    try:
        check_fits(shape, json.loads(text))
    except MisfitError:
        return False
    return True
