"""Checks of requests before a model sees them, with the error texts of the server."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from griptape_ollama.protocol.keep_alive import keep_alive_seconds
from griptape_ollama.protocol.options import OPTION_TYPES
from griptape_ollama.testing.wire_format import ErrorResponse, as_list, as_object, go_type, runner_error

_MAX_TOP_LOGPROBS = 20
_CHAT_FIELDS = {
    "model": ("string", "string"),
    "messages": ("array", "[]api.Message"),
    "stream": ("bool", "bool"),
    "tools": ("array", "api.Tools"),
    "options": ("object", "map[string]interface {}"),
    "truncate": ("bool", "bool"),
    "shift": ("bool", "bool"),
    "logprobs": ("bool", "bool"),
    "top_logprobs": ("number", "int"),
}
_MESSAGE_FIELDS = {
    "role": ("string", "string"),
    "content": ("string", "string"),
    "thinking": ("string", "string"),
    "images": ("array", "[]api.ImageData"),
    "tool_calls": ("array", "[]api.ToolCall"),
    "tool_name": ("string", "string"),
    "tool_call_id": ("string", "string"),
}
_GENERATE_FIELDS = {
    "model": ("string", "string"),
    "prompt": ("string", "string"),
    "suffix": ("string", "string"),
    "system": ("string", "string"),
    "template": ("string", "string"),
    "context": ("array", "[]int"),
    "stream": ("bool", "bool"),
    "raw": ("bool", "bool"),
    "images": ("array", "[]api.ImageData"),
    "options": ("object", "map[string]interface {}"),
    "truncate": ("bool", "bool"),
    "shift": ("bool", "bool"),
    "logprobs": ("bool", "bool"),
    "top_logprobs": ("number", "int"),
}
_MODEL_FIELDS = {
    "model": ("string", "string"),
    "name": ("string", "string"),
    "stream": ("bool", "bool"),
    "insecure": ("bool", "bool"),
}
_CREATE_FIELDS = {
    "model": ("string", "string"),
    "name": ("string", "string"),
    "stream": ("bool", "bool"),
    "from": ("string", "string"),
    "files": ("object", "map[string]string"),
    "template": ("string", "string"),
    "system": ("string", "string"),
    "parameters": ("object", "map[string]interface {}"),
    "messages": ("array", "[]api.Message"),
    "quantize": ("string", "string"),
}
_COPY_FIELDS = {"source": ("string", "string"), "destination": ("string", "string")}
_EMBEDDING_FIELDS = {
    "model": ("string", "string"),
    "prompt": ("string", "string"),
    "options": ("object", "map[string]interface {}"),
}
_EMBED_FIELDS = {
    "model": ("string", "string"),
    "options": ("object", "map[string]interface {}"),
    "truncate": ("bool", "bool"),
    "dimensions": ("number", "int"),
}
_FIELDS = {
    "CreateRequest": _CREATE_FIELDS,
    "CopyRequest": _COPY_FIELDS,
    "EmbeddingRequest": _EMBEDDING_FIELDS,
    "EmbedRequest": _EMBED_FIELDS,
}
THINK_LEVELS = ("high", "medium", "low", "max")
"""Levels of thinking of server 0.33, which are the same for all models."""

# White space of JSON; Python's is wider.
_WHITE = " \t\r\n"
_LITERALS = ("true", "false", "null")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")
# Names of option types in the server's errors.
_GO_OPTION_TYPES = {"float": "float32", "array of strings": "array"}


def decode_body(raw: bytes, go_name: str) -> dict[str, Any]:
    """Decode a body that must be a JSON object.

    Raises:
        ErrorResponse: It is not an object. The text is Go's.
    """
    text = raw.decode("utf-8", "replace").lstrip(_WHITE)
    if not text:
        raise ErrorResponse(400, "missing request body")
    try:
        # Like the server's, this decoder reads the first value only.
        value, _ = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode(text)
    except json.JSONDecodeError as error:
        raise ErrorResponse(400, _syntax_error(text, error.pos)) from error
    except RecursionError as error:
        raise ErrorResponse(400, "exceeded max depth") from error
    if value is not None and not isinstance(value, dict):
        raise ErrorResponse(400, f"json: cannot unmarshal {go_type(value)} into Go value of type api.{go_name}")
    return as_object(value)


def _refuse_constant(name: str) -> None:
    """Reject NaN and Infinity, which Python's decoder accepts and Go's does not."""
    where = "in numeric literal" if name.startswith("-") else "looking for beginning of value"
    raise ErrorResponse(400, f"invalid character '{name.lstrip('-')[0]}' {where}")


def check_chat(body: Mapping[str, Any], think_levels: Sequence[str] = THINK_LEVELS) -> None:
    """Check the types of the fields of a chat request, and the think level against those of the model.

    Raises:
        ErrorResponse: A field is wrong.
    """
    _check_fields(body, _CHAT_FIELDS, "ChatRequest")
    for message in as_list(body.get("messages")):
        if message is not None and not isinstance(message, dict):
            raise _type_error(message, "ChatRequest.messages", "api.Message")
        _check_fields(as_object(message), _MESSAGE_FIELDS, "ChatRequest.messages")
        _check_calls(as_object(message))
        _check_images(as_object(message))
    _check_generation_fields(body, think_levels)


def check_generate(body: Mapping[str, Any], think_levels: Sequence[str] = THINK_LEVELS) -> None:
    """Check the types of the fields of a generate request, and the think level against those of the model.

    Raises:
        ErrorResponse: A field is wrong.
    """
    _check_fields(body, _GENERATE_FIELDS, "GenerateRequest")
    _check_images(body)
    _check_generation_fields(body, think_levels)


def _check_generation_fields(body: Mapping[str, Any], think_levels: Sequence[str]) -> None:
    _check_think(body.get("think"), think_levels)
    top = body.get("top_logprobs") or 0
    if not 0 <= top <= _MAX_TOP_LOGPROBS:
        raise ErrorResponse(400, f"top_logprobs must be between 0 and {_MAX_TOP_LOGPROBS}")


def decode_request(raw: bytes, go_name: str) -> dict[str, Any]:
    """Decode a body and check the types of its fields.

    Args:
        raw: The body.
        go_name: Type of the request in the server, for example `PullRequest`.

    Raises:
        ErrorResponse: It is not a JSON object, or a field has a wrong type.
    """
    body = decode_body(raw, go_name)
    _check_fields(body, _FIELDS.get(go_name, _MODEL_FIELDS), go_name)
    return body


def check_options(options: Mapping[str, Any]) -> None:
    """Check the types of the options that the server knows; it only logs unknown ones.

    Raises:
        ErrorResponse: An option has a wrong type. The status is 500.
    """
    for name, value in options.items():
        wanted = OPTION_TYPES.get(name)
        if wanted is None or value is None:
            continue
        if wanted == "array of strings" and isinstance(value, list):
            if not all(isinstance(item, str) for item in as_list(value)):
                raise ErrorResponse(500, f'option "{name}" must be of an array of strings')
        elif go_type(value) != {"boolean": "bool", "array of strings": "array"}.get(wanted, "number"):
            raise ErrorResponse(500, f'option "{name}" must be of type {_GO_OPTION_TYPES.get(wanted, wanted)}')


def parse_keep_alive(value: Any) -> float | None:
    """Return the seconds that a model stays loaded after the reply, None if the request does not change that.

    Raises:
        ErrorResponse: The value is neither a number nor a Go duration.
    """
    if value is None:
        return None
    kind = {"bool": "bool", "array": "[]interface {}", "object": "map[string]interface {}"}.get(go_type(value))
    if kind is not None:
        raise ErrorResponse(400, f"Unsupported type: '{kind}'")
    try:
        seconds = keep_alive_seconds(value)
    except ValueError as error:
        has_no_unit = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", value)
        problem = "missing unit in duration" if has_no_unit else "invalid duration"
        raise ErrorResponse(400, f'time: {problem} "{value}"') from error
    return math.inf if seconds < 0 else seconds


def check_format(value: Any) -> None:
    """Check that `format` is `"json"` or an object; null and an empty text mean none.

    Raises:
        ErrorResponse: It is something else.
    """
    if value not in (None, "", "json") and not isinstance(value, dict):
        found = json.dumps(json.dumps(value))
        raise ErrorResponse(500, f'invalid format: {found}; expected "json" or a valid JSON Schema object')


def _check_fields(body: Mapping[str, Any], fields: Mapping[str, tuple[str, str]], path: str) -> None:
    for name, (wanted, go_name) in fields.items():
        value = body.get(name)
        if value is not None and go_type(value) != wanted:
            raise _type_error(value, f"{path}.{name}", go_name)


def _type_error(value: Any, path: str, go_name: str) -> ErrorResponse:
    return ErrorResponse(400, f"json: cannot unmarshal {go_type(value)} into Go struct field {path} of type {go_name}")


def _check_calls(message: Mapping[str, Any]) -> None:
    for call in as_list(message.get("tool_calls")):
        arguments = as_object(as_object(call).get("function")).get("arguments")
        if isinstance(arguments, str):
            raise ErrorResponse(400, "Value looks like object, but can't find closing '}' symbol")


def _check_images(message: Mapping[str, Any]) -> None:
    for image in as_list(message.get("images")):
        if isinstance(image, str) and (wrong := _NOT_BASE64.search(image)):
            raise ErrorResponse(400, f"illegal base64 data at input byte {wrong.start()}")


def _check_think(value: Any, levels: Sequence[str]) -> None:
    named = f"{', '.join(map(json.dumps, levels))}, true, or false"
    if isinstance(value, str):
        if value not in levels:
            raise ErrorResponse(400, f"invalid think value: {json.dumps(value)} (must be {named})")
    elif value is not None and not isinstance(value, bool):
        raise ErrorResponse(400, f"think must be a boolean or string ({named})")


def _syntax_error(text: str, position: int) -> str:
    rest = text[position:]
    if (
        not rest
        or any(literal.startswith(rest) for literal in _LITERALS)
        or position >= len(text.rstrip())
        or text.count('"') % 2
    ):
        return "unexpected EOF"
    for literal in _LITERALS:
        if rest[0] == literal[0]:
            for found, wanted in zip(rest, literal, strict=False):
                if found != wanted:
                    return f"invalid character '{found}' in literal {literal} (expecting '{wanted}')"
    found = rest[0] if rest[0].isprintable() else f"\\x{ord(rest[0]):02x}"
    return f"invalid character '{found}' looking for beginning of value"


_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}
_MAX_HOPS = 20


class UnresolvedReferenceError(Exception):
    """A `$ref` that cannot be resolved; the text is the server's."""


def resolve_references(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve the `$ref` of a schema; siblings of the reference are kept.

    Raises:
        UnresolvedReferenceError: Its target does not exist, or it is circular.
    """
    found = as_object(schema)
    for _ in range(_MAX_HOPS):
        reference = found.get("$ref")
        if not isinstance(reference, str):
            return found
        siblings = {name: value for name, value in found.items() if name != "$ref"}
        found = {**_follow_pointer(reference, root), **siblings}
    raise UnresolvedReferenceError(f"Error resolving ref {found.get('$ref')}: it leads in a circle")


def check_schema(schema: Mapping[str, Any], *, is_native: bool) -> None:
    """Check that a `format` schema can be converted to a grammar.

    Raises:
        ErrorResponse: It cannot.
    """
    problem = _schema_problem(schema, schema, set())
    if problem:
        raise _grammar_error(problem, is_native=is_native)


def _grammar_error(problem: str, *, is_native: bool) -> ErrorResponse:
    where = (
        "Unable to generate parser for this template. Automatic parser generation failed"
        if is_native
        else "Field 'json_schema': \"json_schema\""
    )
    return runner_error(400, f"{where}: JSON schema conversion failed:\n{problem}")


def _follow_pointer(reference: str, root: Mapping[str, Any]) -> dict[str, Any]:
    target: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step and step not in as_object(target):
            raise UnresolvedReferenceError(f"Error resolving ref {reference}: {step} not in {_compact(target)}")
        target = as_object(target)[step] if step else target
    return as_object(target)


def _schema_problem(schema: Any, root: Mapping[str, Any], seen: set[str]) -> str | None:
    node = as_object(schema)
    reference = node.get("$ref")
    if isinstance(reference, str):
        if reference in seen:
            return None
        seen.add(reference)
        try:
            return _schema_problem(resolve_references(node, root), root, seen)
        except UnresolvedReferenceError as error:
            return str(error)
    own = _node_problem(node)
    if own:
        return own
    children = [*as_object(node.get("properties")).values(), node.get("items"), node.get("additionalProperties")]
    children += [child for name in ("anyOf", "oneOf", "allOf", "prefixItems") for child in as_list(node.get(name))]
    return next((found for child in children if child and (found := _schema_problem(child, root, seen))), None)


def _node_problem(node: Mapping[str, Any]) -> str | None:
    kind = node.get("type")
    kinds = as_list(kind) or ([] if kind is None else [kind])
    if any(not isinstance(one, str) or one not in _TYPES for one in kinds):
        return f"Unrecognized schema: {_compact(node)}"
    pattern = node.get("pattern")
    if isinstance(pattern, str) and not (pattern.startswith("^") and pattern.endswith("$")):
        return "Pattern must start with '^' and end with '$'"
    return None


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
