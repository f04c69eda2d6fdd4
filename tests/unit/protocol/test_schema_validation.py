"""Values against JSON schemas: what cannot be told is never taken for a fit."""

import pytest

from griptape_ollama.protocol.schema_validation import MisfitError, check_fits

_TREE = {
    "$ref": "#/$defs/Tree",
    "$defs": {
        "Tree": {
            "type": "object",
            "title": "Tree",
            "properties": {"name": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (True, 1),
        ({}, {"a": 1}),
        (_TREE, {"name": "a", "kids": [{"name": "b", "kids": []}]}),
        ({"type": ["string", "null"]}, None),
        ({"type": "string", "nullable": True}, None),
        ({"type": "integer"}, 2.0),
        ({"enum": ["a", 1]}, 1),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 1),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, 1),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1, 2]),
        ({"pattern": "^a", "minLength": 1, "maxLength": 2}, "ab"),
        ({"minItems": 1, "maxItems": 2}, [1]),
        ({"additionalProperties": {"type": "integer"}}, {"a": 1}),
    ],
)
def test_what_fits_passes(schema, value):
    check_fits(schema, value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (False, 1),
        (_TREE, {"name": "a", "kids": [{"kids": []}]}),
        (_TREE, {"name": "a", "more": 1}),
        ({"type": "integer"}, True),
        ({"type": "number"}, "1"),
        ({"type": "number"}, float("nan")),
        ({"enum": [1]}, True),
        ({"const": {"a": 1}}, {"a": 2}),
        ({"anyOf": []}, 1),
        ({"anyOf": [{"type": "string"}]}, 1),
        ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, 2),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 4),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a", 1]),
        ({"items": {"type": "integer"}}, [1, "a"]),
        ({"required": ["a"]}, {}),
        ({"exclusiveMinimum": 1}, 1),
        ({"exclusiveMaximum": 1}, 1),
        ({"pattern": "^a"}, "b"),
        ({"minProperties": 1}, {}),
        ({"maxProperties": 0}, {"a": 1}),
        ({"$ref": "#/$defs/Nowhere"}, 1),
        ({"$ref": "#"}, 1),
    ],
)
def test_what_does_not_fit_is_refused(schema, value):
    with pytest.raises(MisfitError):
        check_fits(schema, value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"format": "date"}, "2026-01-01"),
        ({"patternProperties": {}}, {"a": 1}),
        ({"required": 5}, {"a": 1}),
        ({"pattern": "("}, "a"),
        ({"type": "text"}, "a"),
        ({"enum": 1}, 1),
    ],
)
def test_a_schema_that_cannot_be_checked_is_fitted_by_nothing(schema, value):
    with pytest.raises(MisfitError):
        check_fits(schema, value)
