"""JSON schemas of Griptape as the server keeps them."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from typing import Any, cast

from griptape.artifacts import TextArtifact
from griptape.common import Message, PromptStack, TextMessageContent
from griptape.rules import JsonSchemaRule
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from schema import Schema, SchemaError

from griptape_ollama.printable import printable
from griptape_ollama.protocol.json_schema import CompiledSchema, compile_format, compile_parameters

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


def tell_schema(stack: PromptStack) -> None:
    """Say in the system message what the answer must fit, as Griptape does; its own way never ends for some schemas."""
    rule = TextMessageContent(TextArtifact(JsonSchemaRule(to_format(stack)).to_text()))
    if system_messages := stack.system_messages:
        system_messages[-1].content.extend([TextMessageContent(TextArtifact("\n\n")), rule])
    else:
        stack.messages.insert(0, Message([rule], role=Message.SYSTEM_ROLE))


def to_json_schema(schema: Any) -> dict[str, Any]:
    """Give the JSON schema of a `Schema` or of a pydantic class, references and all.

    Griptape's own way resolves references first, and never ends for a model that contains itself.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema(schema_generator=_Generator)
    if isinstance(schema, Schema):
        return schema.json_schema("schema")  # pyright: ignore[reportUnknownMemberType]
    return TypeAdapter(cast("Any", schema)).json_schema(schema_generator=_Generator)


def validation_error(schema: Any, text: str) -> str | None:
    """Say why a text is not JSON that fits the schema; None where it is."""
    try:
        if isinstance(schema, Schema):
            schema.validate(json.loads(text))  # pyright: ignore[reportUnknownMemberType]
        else:
            TypeAdapter(schema).validate_json(text)
    except SchemaError as error:
        return str(error)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in error.errors())
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
