"""JSON schemas, rewritten into what the server really keeps.

The server reads tool parameters into a few fields and drops the rest silently; a `format` goes to a grammar that
knows more, but not everything. A compiled schema demands as much of the original as gets through, and never more:
an instance that is valid under the original is valid under the compiled schema too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from griptape_ollama.protocol.schema_keywords import (
    MERGES,
    as_types,
    drop_contradictory_bounds,
    is_accepted,
    resolve_reference,
)
from griptape_ollama.protocol.schema_patterns import to_grammar_pattern

Schema = dict[str, Any]

MAX_RECURSION = 3
"""How often a definition may contain itself on one path; what a deeper level contains is open."""

MAX_REFERENCES = 40
"""How many references may lead into one another on one path."""

MAX_NODES = 5000
"""Most schemas in one compiled schema: definitions that use each other twice double with each level."""

# What `ToolProperty` of server 0.33 holds (`api/types.go`); `items` is kept as it is.
_TOOL_KEYS = frozenset({"anyOf", "type", "items", "description", "enum", "properties", "required"})
# What llama.cpp's conversion of schemas to grammars reads (server 0.33), and `description`, which does no harm.
_FORMAT_KEYS = _TOOL_KEYS | {
    *("prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "additionalProperties"),
}
# Written into the description where a tool parameter cannot hold them.
_WORDS = {
    "default": "Default",
    "format": "Format",
    "pattern": "Pattern",
    "minimum": "At least",
    "maximum": "At most",
    "exclusiveMinimum": "More than",
    "exclusiveMaximum": "Less than",
    "multipleOf": "Multiple of",
    "minLength": "Shortest length",
    "maxLength": "Longest length",
    "minItems": "Fewest items",
    "maxItems": "Most items",
    "uniqueItems": "Items are unique",
    "minProperties": "Fewest properties",
    "maxProperties": "Most properties",
    "examples": "Examples",
}
_ANNOTATIONS = frozenset({"description", "title", "default", "examples", "deprecated", "readOnly", "writeOnly"})
_NOT_SENT = frozenset({"$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "title", "deprecated", "$ref"})
_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


@dataclass(frozen=True)
class CompiledSchema:
    """A schema that the server keeps whole.

    Attributes:
        schema: The schema.
        lost: What it cannot express, as `path: keyword`, in the order in which it was met.
    """

    schema: Schema
    lost: tuple[str, ...]


def compile_parameters(schema: Mapping[str, Any]) -> CompiledSchema:
    """Compile the parameters of a tool: an object, whatever the schema is.

    Where it is one of several objects, they become one; what an object does not name counts as not allowed in it.
    Defaults, bounds, formats and patterns of a property go into its description.
    """
    compiler = _Compiler(schema, "tools")
    root = _as_object(compiler.compile())
    return CompiledSchema(root, tuple(compiler.lost))


def compile_format(schema: Mapping[str, Any]) -> CompiledSchema:
    """Compile a schema that a reply must fit: all that the grammar enforces is left in, and keys keep their order."""
    compiler = _Compiler(schema, "format")
    return CompiledSchema(compiler.compile(), tuple(compiler.lost))


@dataclass
class _Compiler:
    root: Mapping[str, Any]
    target: Literal["tools", "format"]
    lost: list[str] = field(default_factory=list[str])
    nodes: int = 0

    def compile(self) -> Schema:
        try:
            return self._node(self.root, "", ())
        except RecursionError:
            self._lose("", "depth")
            return {}

    def _node(self, schema: Any, path: str, refs: tuple[str, ...]) -> Schema:
        self.nodes += 1
        if not isinstance(schema, Mapping):
            if schema is not True:
                self._lose(path, "false")
            return {}
        if self.nodes > MAX_NODES:
            self._lose(path, "size")
            return {}
        resolved, refs = self._resolve(cast("Mapping[str, Any]", schema), path, refs)
        merged, refs = self._merge_all_of(resolved, path, refs)
        alternatives = merged.pop("anyOf", None) or merged.pop("oneOf", None)
        if merged.pop("oneOf", None):
            self._lose(path, "oneOf")
        if isinstance(alternatives, list) and alternatives:
            return self._any_of(merged, cast("list[Any]", alternatives), path, refs)
        return self._plain(merged, path, refs)

    # References

    def _resolve(
        self, schema: Mapping[str, Any], path: str, refs: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Replace a reference by what it names, and add what stands beside it."""
        while isinstance(ref := schema.get("$ref"), str):
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            target = resolve_reference(self.root, ref)
            if target is None:
                self._lose(path, f"$ref {ref}")
                return beside, refs
            if refs.count(ref) >= MAX_RECURSION or len(refs) >= MAX_REFERENCES:
                self._lose(path, f"recursion of {ref}")
                return {**_without_references(target), **beside}, refs
            refs = (*refs, ref)
            annotations = {key: value for key, value in beside.items() if key in _ANNOTATIONS}
            constraints = {key: value for key, value in beside.items() if key not in _ANNOTATIONS}
            schema = {**target, **annotations}
            if constraints:
                schema = {"allOf": [schema, constraints], **annotations}
        return schema, refs

    # Combinations

    def _merge_all_of(
        self, schema: Mapping[str, Any], path: str, refs: tuple[str, ...]
    ) -> tuple[Schema, tuple[str, ...]]:
        """Merge `allOf` into one schema that demands no more than all its parts together.

        References met in a part count for the whole, so that a part which contains the whole comes to an end.
        """
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        parts = schema.get("allOf")
        for part in cast("list[Any]", parts) if isinstance(parts, list) else ():
            if not isinstance(part, Mapping):
                continue
            resolved, refs = self._resolve(cast("Mapping[str, Any]", part), path, refs)
            whole, refs = self._merge_all_of(resolved, path, refs)
            merged = self._both(merged, whole, path)
        return merged, refs

    def _both(self, one: Schema, other: Mapping[str, Any], path: str) -> Schema:
        merged = dict(one)
        for key, value in other.items():
            if key not in merged or merged[key] == value:
                merged[key] = value
            elif key in _ANNOTATIONS or key in _NOT_SENT:
                continue
            elif key in MERGES:
                try:
                    merged[key] = MERGES[key](merged[key], value)
                except TypeError:  # it is no schema
                    self._lose(path, key)
            elif key == "items":
                merged[key] = {"allOf": [merged[key], value]}
            elif key in ("anyOf", "oneOf"):
                # Two choices at once: each of the first with each of the second would multiply.
                self._lose(path, key)
            elif key == "additionalProperties":
                merged[key] = value if merged[key] is True else merged[key]
                self._lose(path, key)
            else:
                self._lose(path, key)
        return merged

    def _any_of(self, beside: Schema, alternatives: list[Any], path: str, refs: tuple[str, ...]) -> Schema:
        annotations = {key: value for key, value in beside.items() if key in _ANNOTATIONS}
        demands = {key: value for key, value in beside.items() if key not in _ANNOTATIONS and key not in _NOT_SENT}
        compiled: list[Schema] = []
        for alternative in alternatives:
            # The grammar reads the choice and nothing beside it, so that goes into each alternative.
            whole = {"allOf": [alternative, demands]} if demands else alternative
            choice = self._node(whole, path, refs)
            nested = choice.get("anyOf") if set(choice) == {"anyOf"} else None
            compiled += [each for each in nested or [choice] if not _is_among(each, compiled)]
        words = self._described(annotations, path)
        if len(compiled) == 1:
            return {**compiled[0], **words}
        nullable = _nullable(compiled)
        return {**(nullable or {"anyOf": compiled}), **words}

    # One schema without references and combinations

    def _plain(self, schema: Schema, path: str, refs: tuple[str, ...]) -> Schema:
        schema = _with_null(schema)
        if "const" in schema:
            schema.setdefault("enum", [schema["const"]])
            del schema["const"]
        if "patternProperties" in schema and schema.pop("additionalProperties", True) is not True:
            self._lose(path, "additionalProperties")  # they are additional to patterns, which the server does not know
        if self.target == "tools" and "prefixItems" in schema:
            schema.pop("items", None)  # they come after the first ones, which cannot be distinguished
        compiled: Schema = {}
        for key, value in schema.items():
            if key in ("description", *_WORDS) and self.target == "tools":
                continue
            self._keep(compiled, key, value, path, refs)
        for key in drop_contradictory_bounds(compiled):
            self._lose(path, key)
        if self.target == "tools":
            return {**compiled, **self._described(schema, path)}
        return compiled

    def _keep(self, compiled: Schema, key: str, value: Any, path: str, refs: tuple[str, ...]) -> None:
        if key == "properties" and isinstance(value, Mapping):
            properties = cast("Mapping[str, Any]", value)
            compiled[key] = {name: self._node(each, f"{path}/{name}", refs) for name, each in properties.items()}
        elif key == "items" and not isinstance(value, list):
            if isinstance(value, Mapping):
                compiled[key] = self._node(value, f"{path}/*", refs)
        elif key in ("items", "prefixItems"):
            self._keep_tuple(compiled, value, path, refs)
        elif key == "additionalProperties" and self.target == "format":
            compiled[key] = self._node(value, f"{path}/*", refs) if isinstance(value, Mapping) else value
        elif key == "pattern" and self.target == "format":
            pattern = to_grammar_pattern(value)
            if pattern is None:
                self._lose(path, key)
            else:
                compiled[key] = pattern
        elif key in (_TOOL_KEYS if self.target == "tools" else _FORMAT_KEYS) and is_accepted(key, value):
            compiled[key] = value
        elif key not in _NOT_SENT and not (key == "additionalProperties" and not isinstance(value, Mapping)):
            self._lose(path, key)

    def _keep_tuple(self, compiled: Schema, items: Any, path: str, refs: tuple[str, ...]) -> None:
        if not isinstance(items, list):
            return
        places = [self._node(item, f"{path}/{index}", refs) for index, item in enumerate(cast("list[Any]", items))]
        if self.target == "format":
            compiled["prefixItems"] = places
        else:
            self._lose(path, "prefixItems")
            compiled.pop("items", None)

    def _described(self, schema: Mapping[str, Any], path: str) -> Schema:
        """Return the description, with text for what a tool parameter cannot hold."""
        description = schema.get("description")
        texts = [description] if isinstance(description, str) and description else []
        if self.target == "tools":
            for key, words in _WORDS.items():
                is_flag = key == "uniqueItems"
                if schema.get(key) is not None and (is_flag or not isinstance(schema[key], bool) or key == "default"):
                    self._lose(path, key)
                    value = schema[key]
                    if is_flag:
                        texts += [f"{words}."] if value is True else []
                    else:
                        texts.append(f"{words}: {_shown(value)}.")
        return {"description": " ".join(texts)} if texts else {}

    def _lose(self, path: str, what: str) -> None:
        self.lost.append(f"{path or '/'}: {what}")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _with_null(schema: Schema) -> Schema:
    """Write OpenAPI's `nullable` as JSON schema does."""
    if schema.pop("nullable", None) is not True or not isinstance(schema.get("type"), (str, list)):
        return schema
    schema["type"] = list(dict.fromkeys([*as_types(schema["type"]), "null"]))
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema


def _without_references(schema: Mapping[str, Any]) -> Schema:
    """Return what a definition demands by itself: its type, its plain properties, and what is required."""
    own: Schema = {"type": schema["type"]} if isinstance(schema.get("type"), (str, list)) else {}
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(required, list):
        own["required"] = required
    if isinstance(properties, Mapping):
        whole = cast("Mapping[str, Any]", properties)
        plain = {name: each for name, each in whole.items() if '"$ref"' not in json.dumps(each, default=str)}
        own["properties"] = {
            **plain,
            **{name: {} for name in own.get("required", ()) if name in whole and name not in plain},
        }
    return own


def _is_among(schema: Schema, known: list[Schema]) -> bool:
    return schema in known and json.dumps(schema, default=str) in [json.dumps(each, default=str) for each in known]


def _nullable(alternatives: list[Schema]) -> Schema | None:
    """Write "this or null" as one schema with a list of types."""
    null = {"type": "null"}
    rest = [each for each in alternatives if each != null]
    if len(rest) != 1 or len(alternatives) != 2 or "anyOf" in rest[0]:  # this, or null
        return None
    (other,) = rest
    if "type" not in other and "enum" not in other:
        return None
    merged = dict(other)
    if "type" in other:
        merged["type"] = list(dict.fromkeys([*as_types(other["type"]), "null"]))
    if "enum" in other and None not in other["enum"]:
        merged["enum"] = [*other["enum"], None]
    return merged


def _as_object(schema: Schema) -> Schema:
    """Build parameters of what may be no object: the server wants one, with `properties`."""
    alternatives = schema.get("anyOf")
    if isinstance(alternatives, list):
        objects = [_as_object(each) for each in cast("list[Schema]", alternatives)]
        properties: Schema = {}
        for each in objects:
            for name, value in each["properties"].items():
                known = properties.setdefault(name, value)
                choices = known.get("anyOf", [known])
                if not _is_among(value, [known, *choices]):
                    properties[name] = {"anyOf": [*choices, value]}
        common = set[str].intersection(*(set(each.get("required", ())) for each in objects))
        schema = {**schema, "properties": properties, "required": sorted(common)}
    parameters: Schema = {"type": "object", "properties": schema.get("properties") or {}}
    if required := schema.get("required"):
        parameters["required"] = required
    return parameters
