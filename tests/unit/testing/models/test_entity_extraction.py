"""Extraction of entities from a text."""

import pytest

from griptape_ollama.testing.models.entity_extraction import TextEntities


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("numbers", "Add 3 and -4.5 on 2024-05-17", [3, -4.5]),
        ("expression", "What is 17 times 23?", "17 * 23"),
        ("expression", "No arithmetic here", ""),
        ("quotes", "Say \"hello\" and 'bye'", ["hello", "bye"]),
        ("dates", "From 2024-05-17 until tomorrow", ["2024-05-17", "tomorrow"]),
        ("emails", "Write to ada@example.com.", ["ada@example.com"]),
        ("names", "Weather in New York and in Paris", ["New York", "Paris"]),
        ("after_preposition", "weather in paris", ["paris"]),
    ],
)
def test_entities_of_each_kind_are_extracted(kind, text, found):
    assert getattr(TextEntities(text), kind) == found


def test_the_option_mentioned_first_is_chosen():
    entities = TextEntities("Use fahrenheit, not celsius or dark mode")
    assert entities.choice(["celsius", "fahrenheit"]) == "fahrenheit"
    assert entities.choice(["dark_mode"]) == "dark_mode"
    assert entities.choice(["kelvin"]) is None
