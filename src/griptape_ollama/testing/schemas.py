"""JSON schemas: looking up references, and what the server's grammar refuses."""

import json
from collections.abc import Mapping
from typing import Any

from griptape_ollama.testing.error_replies import Refusal, runner_refusal
from griptape_ollama.testing.json_text import as_list, as_object

_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}
_MAX_HOPS = 20


class UnresolvedReferenceError(Exception):
    """A `$ref` that leads nowhere; the text is the server's."""


def resolve(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """Follow the `$ref` of a schema; siblings of the reference are kept.

    Raises:
        UnresolvedReferenceError: It leads nowhere, or in a circle.
    """
    found = as_object(schema)
    for _ in range(_MAX_HOPS):
        reference = found.get("$ref")
        if not isinstance(reference, str):
            return found
        siblings = {name: value for name, value in found.items() if name != "$ref"}
        found = {**_look_up(reference, root), **siblings}
    raise UnresolvedReferenceError(f"Error resolving ref {found.get('$ref')}: it leads in a circle")


def check_schema(schema: Mapping[str, Any], *, is_native: bool) -> None:
    """Check that a `format` schema can be made into a grammar.

    Raises:
        Refusal: It cannot.
    """
    problem = _problem(schema, schema, set())
    if problem:
        raise _refusal(problem, is_native=is_native)


def _refusal(problem: str, *, is_native: bool) -> Refusal:
    where = (
        "Unable to generate parser for this template. Automatic parser generation failed"
        if is_native
        else "Field 'json_schema': \"json_schema\""
    )
    return runner_refusal(400, f"{where}: JSON schema conversion failed:\n{problem}")


def _look_up(reference: str, root: Mapping[str, Any]) -> dict[str, Any]:
    place: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step and step not in as_object(place):
            raise UnresolvedReferenceError(f"Error resolving ref {reference}: {step} not in {_compact(place)}")
        place = as_object(place)[step] if step else place
    return as_object(place)


def _problem(schema: Any, root: Mapping[str, Any], seen: set[str]) -> str | None:
    node = as_object(schema)
    reference = node.get("$ref")
    if isinstance(reference, str):
        if reference in seen:
            return None
        seen.add(reference)
        try:
            return _problem(resolve(node, root), root, seen)
        except UnresolvedReferenceError as error:
            return str(error)
    own = _own_problem(node)
    if own:
        return own
    children = [*as_object(node.get("properties")).values(), node.get("items"), node.get("additionalProperties")]
    children += [child for name in ("anyOf", "oneOf", "allOf", "prefixItems") for child in as_list(node.get(name))]
    return next((found for child in children if child and (found := _problem(child, root, seen))), None)


def _own_problem(node: Mapping[str, Any]) -> str | None:
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
