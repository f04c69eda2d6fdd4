"""JSON that fits a schema, filled with entities of a text."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from griptape_ollama.testing.models.entity_extraction import TextEntities
from griptape_ollama.testing.validation import UnresolvedReferenceError, resolve_references
from griptape_ollama.testing.wire_format import as_list, as_object, as_text

_MAX_DEPTH = 6
_MAX_LENGTH = 200
# Kind of entity for a text field, by words in its name or description.
_HINTS: tuple[tuple[str, str], ...] = (
    ("expression|formula|equation|arithmetic", "expression"),
    ("e-?mail", "emails"),
    ("url|uri|link|website", "urls"),
    ("file|path|filename", "paths"),
    ("city|town|location|place|country|capital|destination|region|state", "names"),
    ("date|day|deadline|when", "dates"),
    ("name|person|author|title|company|who|brand|product", "names"),
)
# Fields for the text itself.
_WHOLE_TEXT = re.compile(
    r"query|question|prompt|search|text|content|input|message|body|answer|summary|description|reason|request|topic",
    re.IGNORECASE,
)
_FORMATS = {
    "email": ("emails", "user@example.com"),
    "uri": ("urls", "https://example.com"),
    "url": ("urls", "https://example.com"),
    "date": ("dates", "2024-01-01"),
    "date-time": ("dates", "2024-01-01T00:00:00Z"),
    "time": ("", "12:00:00"),
    "uuid": ("", "00000000-0000-4000-8000-000000000000"),
}


class JsonFiller:
    """Fills one schema.

    Args:
        root: Schema, in which `$ref` is resolved.
        entities: Entities to fill it with.
        fills_optional: Whether optional properties are filled if the text does not mention them.
    """

    def __init__(self, root: Mapping[str, Any], entities: TextEntities, *, fills_optional: bool) -> None:
        self._root = root
        self._entities = entities
        self._fills_optional = fills_optional
        self._numbers = list(entities.numbers)
        self._count_use: set[str] = set()

    def fill(self) -> Any:
        """Return a value that fits the schema."""
        return self._value(self._root, "", 0)

    def _value(self, schema: Any, name: str, depth: int) -> Any:
        node = self._simple(schema, depth)
        if "const" in node:
            return node["const"]
        if options := as_list(node.get("enum")):
            return self._choose(options)
        builders: Mapping[str, Callable[[], Any]] = {
            "object": lambda: self._object(node, depth),
            "array": lambda: self._array(node, name, depth),
            "integer": lambda: self._number(node, name, whole=True),
            "number": lambda: self._number(node, name, whole=False),
            "boolean": lambda: self._boolean(node, name),
            "null": lambda: None,
        }
        return builders.get(_kind(node), lambda: self._text(node, name))()

    def _simple(self, schema: Any, depth: int) -> dict[str, Any]:
        """Resolve references and choose among alternatives, until the schema describes a value."""
        try:
            node = resolve_references(schema, self._root)
        except UnresolvedReferenceError:
            return {}
        if parts := as_list(node.get("allOf")):
            rest = {key: value for key, value in node.items() if key != "allOf"}
            return _merged([self._simple(part, depth) for part in parts] + [rest])
        options = as_list(node.get("anyOf")) or as_list(node.get("oneOf"))
        if options and "enum" not in node and "const" not in node:
            return self._simple(self._best(options, depth), depth)
        return node

    def _best(self, options: list[Any], depth: int) -> Any:
        """Choose an alternative: not null if possible, no reference when deep, and one that the text mentions."""
        resolved = [as_object(option) for option in options]
        if depth > _MAX_DEPTH:
            shallow = [option for option in resolved if _kind(option) not in ("object", "array", "")]
            return (shallow or resolved)[0]
        solid = [option for option in resolved if _kind(option) != "null"] or resolved
        if depth > 1 and len(solid) < len(resolved) and "$ref" in solid[0]:
            # Recursive models end here.
            return {"type": "null"}
        found = [option for option in solid if self._is_mentioned(option, "")]
        return (found or solid)[0]

    def _choose(self, options: list[Any]) -> Any:
        texts = {str(option).lower(): option for option in options if option is not None}
        named = self._entities.choice(list(texts))
        return options[0] if named is None else texts[named]

    def _object(self, node: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = as_object(node.get("properties"))
        required = as_list(node.get("required"))
        filled: dict[str, Any] = {}
        for name, schema in properties.items():
            if name in required or self._wants(schema, name, depth):
                filled[name] = self._value(schema, name, depth + 1)
        for name in required:
            # The server's grammar requires these too, without a schema for them.
            filled.setdefault(name, self._text({}, name))
        if not properties and not required and depth == 0:
            filled["answer"] = self._text({}, "answer")
        return filled

    def _wants(self, schema: Any, name: str, depth: int) -> bool:
        if self._fills_optional:
            return depth < _MAX_DEPTH // 2
        return self._is_mentioned(schema, name)

    def _is_mentioned(self, schema: Any, name: str) -> bool:
        """Return whether the text mentions a property or has an entity for it."""
        try:
            node = resolve_references(schema, self._root)
        except UnresolvedReferenceError:
            return False
        if options := as_list(node.get("enum")):
            return self._entities.choice([str(option) for option in options]) is not None
        kind = _kind(node)
        if kind in ("integer", "number"):
            return bool(self._numbers) and self._is_named(name)
        if kind == "boolean":
            return self._is_named(name)
        if kind == "string":
            hint = _hint(node, name)
            return bool(hint and self._found(hint)) or (not name and not self._numbers)
        return False

    def _is_named(self, name: str) -> bool:
        text = self._entities.text.lower()
        return any(word in text for word in re.split(r"[_\W]+", name.lower()) if len(word) > 2)

    def _array(self, node: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        fewest = int(node.get("minItems") or 0)
        most = int(node.get("maxItems", max(fewest, 3)))
        fixed = as_list(node.get("prefixItems"))
        items = [self._value(schema, name, depth + 1) for schema in fixed]
        wanted = max(fewest, min(most, self._item_count(node, name, depth)))
        while len(items) < wanted:
            item = self._value(node.get("items"), name, depth + 1)
            if node.get("uniqueItems") and item in items:
                item = self._another(node, item, items)
            items.append(item)
        return items[:most]

    def _item_count(self, node: Mapping[str, Any], name: str, depth: int) -> int:
        """Return the number of items that the text has entities for; at least one, unless too deep."""
        if depth > _MAX_DEPTH // 2:
            return 0
        schema = self._simple(node.get("items"), depth)
        if _kind(schema) in ("integer", "number"):
            return max(1, len(self._numbers))
        hint = _hint(schema, name) if _kind(schema) == "string" else ""
        return max(1, len([entity for entity in self._found(hint) if entity not in self._count_use]) if hint else 1)

    def _another(self, node: Mapping[str, Any], item: Any, items: list[Any]) -> Any:
        options = as_list(self._simple(node.get("items"), 0).get("enum"))
        rest = [option for option in options if option not in items]
        if rest:
            return rest[0]
        return f"{item} {len(items) + 1}" if isinstance(item, str) else len(items)

    def _number(self, node: Mapping[str, Any], name: str, *, whole: bool) -> int | float:
        low, high = _limits(node, whole=whole)
        wanted = self._numbers.pop(0) if self._numbers and (self._is_named(name) or not self._fills_optional) else None
        if wanted is None and self._numbers:
            wanted = self._numbers.pop(0)
        if wanted is None:
            default = node.get("default")
            wanted = default if isinstance(default, (int, float)) and not isinstance(default, bool) else 1
        value: float = min(max(wanted, low), high)
        step = node.get("multipleOf")
        if isinstance(step, (int, float)) and step > 0:
            value = math.floor(value / step) * step
            value = value + step if value < low else value
        if whole:
            return math.ceil(value) if math.floor(value) < low else math.floor(value)
        return int(value) if float(value).is_integer() else value

    def _boolean(self, node: Mapping[str, Any], name: str) -> bool:
        text = self._entities.text.lower()
        if re.search(rf"\b(?:not|no|without|never|isn't|don't)\s+(?:\w+\s+)?{re.escape(name.lower())}", text):
            return False
        return self._is_named(name) or bool(node.get("default", self._fills_optional))

    def _text(self, node: Mapping[str, Any], name: str) -> str:
        return _within(node, self._raw_text(node, name))

    def _raw_text(self, node: Mapping[str, Any], name: str) -> str:
        wanted_format = as_text(node.get("format"))
        if wanted_format in _FORMATS:
            hint, fallback = _FORMATS[wanted_format]
            fitting = [entity for entity in self._found(hint) if _fits_format(wanted_format, entity)] if hint else []
            return fitting[0] if fitting else fallback
        if pattern := as_text(node.get("pattern")):
            return self._matching(pattern)
        hint = _hint(node, name)
        if hint:
            fresh = [entity for entity in self._found(hint) if entity not in self._count_use]
            if fresh:
                self._count_use.add(fresh[0])
                return fresh[0]
        if self._entities.quotes:
            return self._entities.quotes[0]
        if hint or not _WHOLE_TEXT.search(f"{name} {as_text(node.get('description'))}"):
            fallback = [entity for entity in self._entities.names if entity not in self._count_use]
            if fallback and hint != "expression":
                self._count_use.add(fallback[0])
                return fallback[0]
            if hint == "names":
                return next(iter(self._entities.after_preposition), name.replace("_", " ") or "name")
        return self._entities.text.strip()[:_MAX_LENGTH] or "text"

    def _found(self, hint: str) -> list[str]:
        if hint == "expression":
            return [self._entities.expression] if self._entities.expression else []
        return list(getattr(self._entities, hint))

    def _matching(self, pattern: str) -> str:
        """Return a word of the text that matches a pattern, or a sample of the pattern, which may not match."""
        try:
            words = [
                word for word in re.split(r"[\s,;:!?]+", self._entities.text) if re.fullmatch(pattern.strip("^$"), word)
            ]
        except re.error:
            words = []
        return words[0] if words else sample(pattern)


def sample(pattern: str) -> str:
    r"""Build a text for a simple pattern: classes, groups without nesting, and repeats such as `^[A-Z]{2}\d+$`."""
    result = ""
    atom = re.compile(r"(\\.|\[[^\]]+\]|\([^()]*\)|.)(\{(\d+)(?:,\d*)?\}|[*+?])?")
    for text, repeat, count in atom.findall(pattern.removeprefix("^").removesuffix("$")):
        times = int(count) if count else 0 if repeat in ("*", "?") else 1
        result += _sample_atom(text) * times
    return result


def _sample_atom(atom: str) -> str:
    classes = {r"\d": "0", r"\w": "a", r"\s": " ", ".": "a"}
    if atom in classes:
        return classes[atom]
    if atom.startswith("\\"):
        return atom[1]
    if atom.startswith("("):
        return sample(atom.strip("()").removeprefix("?:").split("|")[0])
    if atom.startswith("["):
        inner = atom[1:-1]
        candidates = inner[:1] if not inner.startswith(("^", "\\")) else classes.get(inner[:2], "")
        return candidates or next((c for c in "a0_ -" if re.fullmatch(atom, c)), "?")
    return atom


def _kind(node: Mapping[str, Any]) -> str:
    kind = node.get("type")
    if isinstance(kind, list):
        return next((as_text(one) for one in as_list(kind) if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in node or "additionalProperties" in node:
        return "object"
    return "array" if "items" in node or "prefixItems" in node else "string" if node.get("enum") else ""


def _hint(node: Mapping[str, Any], name: str) -> str:
    words = " ".join(re.findall(r"[A-Z]?[a-z]+", name)).lower()
    for text in (words.replace("ies", "y"), as_text(node.get("description")).lower()):
        for pattern, hint in _HINTS:
            if re.search(rf"\b(?:{pattern})s?\b", text):
                return hint
    return ""


def _limits(node: Mapping[str, Any], *, whole: bool) -> tuple[float, float]:
    step = 1 if whole else 1e-6
    low, high = node.get("minimum", -math.inf), node.get("maximum", math.inf)
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if isinstance(above, (int, float)) and not isinstance(above, bool):
        low = max(low, math.floor(above) + 1 if whole else above + step)
    if isinstance(below, (int, float)) and not isinstance(below, bool):
        high = min(high, math.ceil(below) - 1 if whole else below - step)
    return low, high


def _within(node: Mapping[str, Any], text: str) -> str:
    shortest, longest = node.get("minLength") or 0, node.get("maxLength")
    if isinstance(longest, int):
        text = text[:longest]
    return text.ljust(int(shortest), ".")


def _fits_format(wanted: str, entity: str) -> bool:
    if wanted == "date":
        return re.fullmatch(r"\d{4}-\d{2}-\d{2}", entity) is not None
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}T[\d:]+Z", entity) is not None if wanted == "date-time" else True


def _merged(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for node in nodes:
        properties = {**as_object(merged.get("properties")), **as_object(node.get("properties"))}
        required = as_list(merged.get("required")) + as_list(node.get("required"))
        merged |= node
        if properties:
            merged["properties"] = properties
        if required:
            merged["required"] = required
    return merged
