"""Our events as the framework stores and loads them."""

import json
from typing import Any

import pytest
from attrs import fields
from griptape.events import BaseEvent, EventBus, EventListener

from griptape_ollama.events import OllamaContextEvent, OllamaEmbeddingEvent, OllamaProgressEvent, OllamaResponseEvent

_SETTINGS: dict[type[BaseEvent], dict[str, Any]] = {
    OllamaResponseEvent: {
        "model": "qwen3",
        "host": "http://gpu:11434",
        "done_reason": "length",
        "input_tokens": 45,
        "cached_tokens": 12,
        "output_tokens": 30,
        "total_seconds": 2.5,
        "load_seconds": 0.5,
        "prompt_seconds": 0.25,
        "generation_seconds": 1.5,
        "tokens_per_second": 20.0,
        "time_to_first_token": 0.75,
        "complete": False,
        "truncated": True,
        "window": 4096,
    },
    OllamaEmbeddingEvent: {
        "model": "all-minilm",
        "host": "http://gpu:11434",
        "texts": 64,
        "input_tokens": 450,
        "total_seconds": 2.5,
        "load_seconds": 0.5,
    },
}
_NEEDED: dict[str, Any] = {"model": "m", "host": "h", "texts": 1}
_each_kind = pytest.mark.parametrize("kind", _SETTINGS)


@_each_kind
def test_an_event_says_what_was_measured_and_none_where_nothing_was(kind):
    needed = {name: _NEEDED[name] for name in _SETTINGS[kind] if name in _NEEDED}
    event = kind(**needed)
    assert {getattr(event, name) for name in _SETTINGS[kind] if name not in needed} == {None}


@_each_kind
@pytest.mark.parametrize("by_base", [False, True])
def test_an_event_can_be_stored_and_loaded(kind, by_base):
    event = kind(**_SETTINGS[kind])
    back = (BaseEvent if by_base else kind).from_dict(json.loads(json.dumps(event.to_dict())))
    assert type(back) is kind
    assert {name: getattr(back, name) for name in _SETTINGS[kind]} == _SETTINGS[kind]
    assert (back.id, back.timestamp) == (event.id, event.timestamp)


@_each_kind
def test_every_field_is_tested_and_stored(kind):
    own = {field.name for field in fields(kind)} - {field.name for field in fields(BaseEvent)}
    assert own - {"module_name"} == set(_SETTINGS[kind])
    assert own <= kind(**_SETTINGS[kind]).to_dict().keys()


@_each_kind
def test_listeners_can_ask_for_it_alone(kind):
    heard = []
    EventBus.add_event_listener(EventListener(heard.append, event_types=[kind]))
    event = kind(**_SETTINGS[kind])
    EventBus.publish_event(event)
    EventBus.publish_event(next(other(**_SETTINGS[other]) for other in _SETTINGS if other is not kind))
    assert heard == [event]


_PROGRESS: dict[str, Any] = {
    "action": "pull",
    "model": "qwen3",
    "host": "http://gpu:11434",
    "status": "pulling cf22911cce12",
    "digest": "sha256:cf22911cce12",
    "completed": 40_000_000,
    "total": 5_200_000_000,
}


@pytest.mark.parametrize("load", [OllamaProgressEvent.from_dict, BaseEvent.from_dict])
def test_progress_can_be_stored_and_loaded(load):
    event = OllamaProgressEvent(**_PROGRESS)
    back = load(json.loads(json.dumps(event.to_dict())))
    assert type(back) is OllamaProgressEvent
    assert {name: getattr(back, name) for name in _PROGRESS} == _PROGRESS
    own = {field.name for field in fields(OllamaProgressEvent)} - {field.name for field in fields(BaseEvent)}
    assert own == set(_PROGRESS) <= event.to_dict().keys()


_CONTEXT: dict[str, Any] = {
    "kind": "truncated",
    "model": "qwen3",
    "host": "http://gpu:11434",
    "text": "The prompt was cut.",
    "is_sure": False,
    "estimated_tokens": 45_000,
    "prompt_tokens": 2051,
    "output_tokens": 24,
    "window": 4096,
    "window_before": 2048,
    "dropped_messages": 3,
    "dropped_tokens": 900,
    "cut_by": "window",
}


@pytest.mark.parametrize("load", [OllamaContextEvent.from_dict, BaseEvent.from_dict])
def test_what_happened_to_the_window_can_be_stored_and_loaded(load):
    event = OllamaContextEvent(**_CONTEXT)
    back = load(json.loads(json.dumps(event.to_dict())))
    assert type(back) is OllamaContextEvent
    assert {name: getattr(back, name) for name in _CONTEXT} == _CONTEXT
    own = {field.name for field in fields(OllamaContextEvent)} - {field.name for field in fields(BaseEvent)}
    assert own == set(_CONTEXT) <= event.to_dict().keys()
