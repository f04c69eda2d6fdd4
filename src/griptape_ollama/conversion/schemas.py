"""JSON schemas of Griptape in the form that the server keeps."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from griptape.artifacts import TextArtifact
from griptape.common import Message, PromptStack, TextMessageContent
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from schema import Schema, SchemaError

from griptape_ollama.conversion.json_answers import compact_json, load_json
from griptape_ollama.escaping import printable
from griptape_ollama.protocol.schema_abridgement import abridged_schema
from griptape_ollama.protocol.schema_compiler import CompiledSchema, compile_format, compile_parameters
from griptape_ollama.protocol.schema_validation import MisfitError, check_fits

NO_KNOWN_KEY = "none of its keys is one of the schema"
"""The error of a document that fits a schema only because the schema requires nothing."""

_logger = logging.getLogger(__name__)


class _Generator(GenerateJsonSchema):
    """Leaves out defaults that are no JSON, without a warning."""

    def render_warning_message(self, kind: JsonSchemaWarningKind, detail: str) -> str | None:
        """Return no warning."""


def compiled_parameters(schema: dict[str, Any]) -> dict[str, Any]:
    """Compile a JSON schema into the parameters of a function.

    Raises:
        TypeError: It is none.
        ValueError: It cannot be written as JSON.
    """
    return _compiled_parameters(json.dumps(schema, default=str)).schema


def to_format(stack: PromptStack) -> dict[str, Any]:
    """Compile the schema that the answer must fit."""
    return _compiled_format(json.dumps(to_json_schema(stack.output_schema), default=str)).schema


def add_schema_instruction(stack: PromptStack, schema: Any, *, own_system: str = "") -> None:
    """Add to the system message what the answer must fit, unless it is there already.

    It is the same text in each turn of a task, at a place before which nothing changes, so that the server can reuse
    its cache of the previous prompt.

    Args:
        stack: The prompt, which is changed.
        schema: The schema, or `"json"` for any document.
        own_system: The model's own system prompt, which a system message replaces.
    """
    fits, shown = ("", "") if schema == "json" else (" that fits the JSON schema below", f"\n{compact_json(schema)}")
    text = f"Your final answer is one JSON document{fits}, and nothing else: no code block, no other text.{shown}"
    system_messages = stack.system_messages
    if any(content.to_text() == text for message in system_messages for content in message.content):
        return
    rule = TextMessageContent(TextArtifact(text))
    blank = TextMessageContent(TextArtifact("\n\n"))
    if system_messages:
        system_messages[-1].content.extend([blank, rule])
    else:
        own = [TextMessageContent(TextArtifact(own_system)), blank] if own_system else []
        stack.messages.insert(0, Message([*own, rule], role=Message.SYSTEM_ROLE))


@dataclass(frozen=True)
class AnswerRule:
    """What an answer must fit.

    Attributes:
        error_of: Returns why a document does not fit; None if it does.
        schema: The schema as the model reads it, or `"json"` for any document.
        is_demanded: Whether a task relies on it, so that a part of an answer is an error.
    """

    error_of: Callable[[str], str | None]
    schema: Any
    is_demanded: bool

    @classmethod
    def of_task(cls, stack: PromptStack) -> AnswerRule:
        """Build the rule of a task's output schema."""
        schema = stack.output_schema
        return cls(
            lambda text: validation_error(schema, text), abridged_schema(to_json_schema(schema)), is_demanded=True
        )

    @classmethod
    def of_format(cls, wanted: Any) -> AnswerRule:
        """Build the rule of the user's format: `"json"` or a JSON schema."""
        schema = wanted if wanted == "json" else abridged_schema(wanted)
        return cls(lambda text: format_error(wanted, text), schema, is_demanded=False)


def to_json_schema(schema: Any) -> dict[str, Any]:
    """Return the JSON schema of a `Schema` or of a pydantic class, with its references.

    Griptape resolves references first, which does not end for a model that contains itself.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema(schema_generator=_Generator)
    if isinstance(schema, Schema):
        return schema.json_schema("schema")  # pyright: ignore[reportUnknownMemberType]
    return TypeAdapter(cast("Any", schema)).json_schema(schema_generator=_Generator)


def validation_error(schema: Any, text: str) -> str | None:
    """Return why a text is not JSON that fits the schema; None if it is."""
    try:
        if isinstance(schema, Schema):
            value = load_json(text)
            read: Any = schema.validate(value)  # pyright: ignore[reportUnknownMemberType]
            is_unread = bool(schema.schema) and read == {}  # pyright: ignore[reportUnknownMemberType]
        else:
            value = load_json(text)
            read = TypeAdapter(schema).validate_json(text)
            is_unread = isinstance(read, BaseModel) and _has_nothing(read)
    except SchemaError as error:
        return str(error)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in error.errors())
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({error})"
    # A schema without a required key fits anything: the schema itself, or the answer below another key.
    return NO_KNOWN_KEY if value and isinstance(value, dict) and is_unread else None


def _has_nothing(read: BaseModel) -> bool:
    return bool(type(read).model_fields) and not read.model_fields_set and not read.model_extra


def format_error(wanted: Any, text: str) -> str | None:
    """Return why a text does not fit a format, `"json"` or a JSON schema; None if it does."""
    try:
        value = load_json(text)
        check_fits(wanted if isinstance(wanted, dict) else {"type": ["object", "array"]}, value)
    except MisfitError as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({error})"
    return None


# A task asks for the same schemas in each of its turns, and most tasks of a program share them.
@lru_cache(maxsize=512)
def _compiled_parameters(text: str) -> CompiledSchema:
    schema = json.loads(text)
    if not isinstance(schema, dict):
        raise TypeError(f"the schema of a tool must be a JSON schema, not {text:.100}")
    compiled = _logged(compile_parameters(cast("dict[str, Any]", schema)), "a tool's parameters")
    json.dumps(compiled.schema, allow_nan=False)  # the server would refuse the whole request
    return compiled


@lru_cache(maxsize=512)
def _compiled_format(text: str) -> CompiledSchema:
    return _logged(compile_format(json.loads(text)), "an output schema")


def _logged(compiled: CompiledSchema, what: str) -> CompiledSchema:
    if compiled.lost:
        _logger.debug("The server cannot hold all of %s; left out: %s.", what, printable("; ".join(compiled.lost)))
    return compiled
