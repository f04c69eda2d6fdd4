"""Our event as the framework stores and loads events."""

import json
from typing import Any

import pytest
from attrs import fields
from griptape.events import BaseEvent, EventBus, EventListener

from griptape_ollama.events import OllamaResponseEvent

_SETTINGS: dict[str, Any] = {
    "model": "qwen3",
    "host": "http://gpu:11434",
    "done_reason": "length",
    "input_tokens": 45,
    "output_tokens": 30,
    "total_seconds": 2.5,
    "load_seconds": 0.5,
    "prompt_seconds": 0.25,
    "generation_seconds": 1.5,
    "tokens_per_second": 20.0,
    "time_to_first_token": 0.75,
}


def test_an_event_says_what_was_measured_and_none_where_nothing_was():
    event = OllamaResponseEvent(model="m", host="h")
    assert {getattr(event, name) for name in _SETTINGS if name not in ("model", "host")} == {None}


@pytest.mark.parametrize("load", [OllamaResponseEvent.from_dict, BaseEvent.from_dict])
def test_an_event_can_be_stored_and_loaded(load):
    event = OllamaResponseEvent(**_SETTINGS)
    back = load(json.loads(json.dumps(event.to_dict())))
    assert type(back) is OllamaResponseEvent
    assert {name: getattr(back, name) for name in _SETTINGS} == _SETTINGS
    assert (back.id, back.timestamp) == (event.id, event.timestamp)


def test_every_field_is_tested_and_stored():
    own = {field.name for field in fields(OllamaResponseEvent)} - {field.name for field in fields(BaseEvent)}
    assert own == set(_SETTINGS)
    assert own <= OllamaResponseEvent(**_SETTINGS).to_dict().keys()


def test_listeners_can_ask_for_it_alone():
    heard = []
    EventBus.add_event_listener(EventListener(heard.append, event_types=[OllamaResponseEvent]))
    event = OllamaResponseEvent(**_SETTINGS)
    EventBus.publish_event(event)
    assert heard == [event]
