"""Structured output: what an answer must fit, and what is sent where it does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from griptape.common import PromptStack
from griptape.drivers.prompt.base_prompt_driver import StructuredOutputStrategy

from griptape_ollama.conversion.json_answers import JsonAnswer, find_answer, to_repair_request, to_schema_request
from griptape_ollama.conversion.response_reader import ResponseReader, is_blank
from griptape_ollama.conversion.schemas import NO_KNOWN_KEY, AnswerRule, to_format
from griptape_ollama.conversion.text_calls import is_react_call
from griptape_ollama.drivers.prompt_settings import PromptDriverSettings
from griptape_ollama.models.model_metadata import IGNORES_FORMAT, ModelMetadata, is_cloud_model
from griptape_ollama.protocol.schema_validation import MisfitError, check_fits
from griptape_ollama.protocol.surrogates import replace_escaped_surrogates

MAX_REPAIRS = 2
"""How often one answer is sent back for JSON that fits the schema."""

Request = dict[str, Any]


class CutAnswerError(Exception):
    """The answer was cut: it is a part of a document."""


@dataclass(frozen=True)
class ExpectedAnswer:
    """What an answer must fit.

    Attributes:
        rule: The schema.
        deferred_format: The format for the answer, where the first request cannot carry it: the server would make JSON
            of what should be a tool call.
    """

    rule: AnswerRule
    deferred_format: Any = None


class StructuredOutput:
    """How the answers of a model are made to fit a schema.

    Args:
        settings: The driver.
        known: Metadata of the model.
        model: Name of the model.
    """

    def __init__(self, settings: PromptDriverSettings, known: ModelMetadata, model: str) -> None:
        self._chosen = settings.structured_output_strategy
        self._format = requested_format(settings)
        self._tells_schema = settings.tell_schema
        self._ignores_format = IGNORES_FORMAT in known.quirks
        needs_rule = self._chosen == "native" and (self._ignores_format or is_cloud_model(model, known))
        self.strategy: StructuredOutputStrategy = "rule" if needs_rule else self._chosen

    def described_rule(self, stack: PromptStack) -> AnswerRule | None:
        """Return the rule that the system message describes; None if it describes none."""
        if stack.output_schema is None:
            is_described = self._format is not None and self._ignores_format
            return AnswerRule.of_format(self._format) if is_described else None
        is_described = self.strategy == "rule" or (self.strategy == "native" and self._tells_schema)
        return AnswerRule.of_task(stack) if is_described else None

    def expected(self, stack: PromptStack, *, has_tools: bool) -> tuple[ExpectedAnswer | None, Any]:
        """Return what the answer must fit, and the format of the first request.

        Returns:
            The first is None for free text; the second is None if there is no format, or where it has to wait until
            the model has called its tools.
        """
        if stack.output_schema is None:
            if self._format is None:
                return None, None
            rule = AnswerRule.of_format(self._format)
            sent = None if self._ignores_format else self._format
        elif self.strategy == "tool":
            return None, None
        else:
            rule = AnswerRule.of_task(stack)
            own_format = self._format if self.strategy == self._chosen else None
            sent = to_format(stack) if self.strategy == "native" else own_format
        return (ExpectedAnswer(rule, deferred_format=sent), None) if has_tools else (ExpectedAnswer(rule), sent)


def requested_format(settings: PromptDriverSettings) -> Any:
    """Return the format that the user set; None if there is none."""
    return settings.extra_params.get("format", settings.format)


class AnswerValidator:
    """Validates the answers of one completion, and decides what to send next.

    Beside the turns that call tools, an answer takes five requests at most: one without the format, one with it, one
    that describes the schema to a model that ignored the format, and the repairs.

    Args:
        expected: What the answer must fit.
        is_react: Whether tools are described in words, so that a text may be a call.

    Attributes:
        saw_ignored_format: Whether a reply showed that the format of its request was ignored.
    """

    def __init__(self, expected: ExpectedAnswer, *, is_react: bool) -> None:
        self.saw_ignored_format = False
        self._rule = expected.rule
        self._deferred_format = expected.deferred_format
        self._is_react = is_react
        self._repairs = 0

    def is_final(self, request: Request, text: str) -> bool | None:
        """Return whether text can be published as it arrives, judged by its beginning; None if there is none yet.

        Only JSON that a grammar holds to its shape is final; any other text may be replaced.
        """
        if "format" not in request:
            return False
        beginning = text.lstrip()[:1]
        return beginning in _beginnings(request["format"]) if beginning else None

    def next_request(self, request: Request, reader: ResponseReader) -> Request | None:
        """Return the next request; None if the answer is accepted, or nothing helps.

        Raises:
            CutAnswerError: A task cannot use a part of an answer.
        """
        text = reader.round_text
        has_format = "format" in request
        if self._is_react and not has_format and is_react_call(text):
            return None
        found = find_answer(replace_escaped_surrogates(text), self._rule.error_of, is_cut=reader.was_cut)
        if found.document is not None:
            if has_format and not found.is_json:
                self.saw_ignored_format = True
            if found.document != text:
                reader.replace_round_text(found.document)
            return None
        # Prose that was cut is no document that was cut: the document is still to be asked for.
        waits = self._deferred_format is not None and not has_format and not self.saw_ignored_format
        if reader.was_cut and not (waits and found.is_prose and not is_blank(text)):
            if self._rule.is_demanded:
                raise CutAnswerError
            return None
        if has_format:
            return self._next_after_format(request, text, found)
        if waits:
            asked = _with_answer(request, text, to_schema_request(self._rule.schema), without="tools")
            return {**asked, "format": self._deferred_format}
        return self._repair_request(request, text, found)

    def _next_after_format(self, request: Request, text: str, found: JsonAnswer) -> Request | None:
        if is_blank(text):
            return None
        if found.is_open:  # of the right shape, but ended early, as by a stop text
            return self._repair_request(request, text, found) if self._rule.is_demanded else None
        if found.is_json and _has_shape(request["format"], text):
            # The task reports what is wrong inside, but does not see that nothing was read.
            return self._repair_request(request, text, found) if found.error == NO_KNOWN_KEY else None
        self.saw_ignored_format = True
        return _with_answer(request, text, to_schema_request(self._rule.schema), without="format")

    def _repair_request(self, request: Request, text: str, found: JsonAnswer) -> Request | None:
        if self._repairs >= MAX_REPAIRS:
            return None
        self._repairs += 1
        return _with_answer(request, text, to_repair_request(found.error or "it is empty"))


def _with_answer(request: Request, text: str, message: dict[str, Any], *, without: str = "") -> Request:
    draft = [{"role": "assistant", "content": text}] if text else []
    kept = {name: value for name, value in request.items() if name != without}
    return {**kept, "messages": [*request["messages"], *draft, message]}


def _beginnings(wanted: Any) -> str:
    """Return the characters that a document of a format may begin with."""
    kind = cast("Mapping[str, Any]", wanted).get("type") if isinstance(wanted, Mapping) else None
    return {"object": "{", "array": "["}.get(str(kind), '{["-0123456789tfn')


def _has_shape(wanted: Any, text: str) -> bool:
    """Return whether a document has what no grammar leaves out: its type, and the keys that it needs."""
    if not isinstance(wanted, Mapping):
        return True
    schema = cast("Mapping[str, Any]", wanted)
    shape = {key: schema[key] for key in ("type", "required") if key in schema}
    try:
        check_fits(shape, json.loads(text))
    except MisfitError:
        return False
    return True
