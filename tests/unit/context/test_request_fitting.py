"""Requests are made to fit the window of their model, and what their replies show is reported."""

import logging

import pytest
from griptape.events import EventBus, EventListener

from griptape_ollama.context.request_fitting import (
    ContextSettings,
    ContextTracker,
    ConversationInfo,
    RequestFitter,
)
from griptape_ollama.context.tokens.estimator import PromptEstimator
from griptape_ollama.errors import OllamaContextError, OllamaResponseError
from griptape_ollama.events import OllamaContextEvent
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport.connection import Connection

_SENTENCE = "The ferry runs until noon on most days of the year. "


@pytest.fixture(scope="module")
def simulator():
    with OllamaSimulator(models=[SimulatedModel(name="roomy", context_length=131_072)]) as simulator:
        yield simulator


@pytest.fixture
def fitter(simulator):
    return _fitter(simulator)


@pytest.fixture
def events():
    found = []
    EventBus.add_event_listener(EventListener(found.append, event_types=[OllamaContextEvent]))
    return found


def _fitter(simulator, **settings):
    metadata = ServerMetadata(Connection.open(simulator.url))
    return RequestFitter(metadata, metadata.show("roomy"), PromptEstimator(), ContextSettings(**settings))


def _request(sentences, *, turns=1, **fields):
    messages = [{"role": "user", "content": _SENTENCE * sentences}]
    for _ in range(turns - 1):
        messages += [{"role": "assistant", "content": _SENTENCE * sentences}, messages[0]]
    return {"model": "roomy", "messages": messages, **fields}


def test_a_proposal_records_nothing(fitter):
    assert fitter.propose(_request(600), ConversationInfo()).window.grown_from == 4096
    assert fitter.propose(_request(1), ConversationInfo()).window.num_ctx is None


def test_a_fitted_request_has_its_window_beside_its_options(fitter):
    request = _request(600, options={"seed": 1})
    fitted = fitter.fit(request, ConversationInfo())
    assert fitted.request["options"] == {"seed": 1, "num_ctx": fitted.window.num_ctx}
    assert fitted.window.tokens >= fitted.needed_tokens
    assert request["options"] == {"seed": 1}


def test_a_request_that_fits_the_default_window_is_not_changed(fitter):
    request = _request(1, options={"seed": 1})
    assert fitter.fit(request, ConversationInfo()).request == request


def test_a_prompt_that_certainly_does_not_fit_is_proposed_with_its_error_and_not_committed(simulator):
    fitter = _fitter(simulator, num_ctx=64, on_overflow="error")
    fitted = fitter.propose(_request(600), ConversationInfo())
    assert isinstance(fitted.error, OllamaContextError)
    assert fitted.warning == str(fitted.error)
    with pytest.raises(OllamaContextError):
        fitter.fit(_request(600), ConversationInfo())


def test_old_turns_are_dropped_in_mode_trim(simulator):
    fitted = _fitter(simulator, num_ctx=2048, on_overflow="trim").fit(_request(20, turns=20), ConversationInfo())
    assert fitted.trimmed is not None
    assert fitted.request["messages"] == fitted.trimmed.messages
    assert fitted.estimate.high <= 2048


def test_a_continued_request_is_fitted_with_all_of_its_messages(simulator):
    fitter = _fitter(simulator, num_ctx=2048, on_overflow="trim")
    fitted = fitter.fit(_request(20, turns=20), ConversationInfo())
    more = {"role": "user", "content": "Again, please."}
    again = fitter.refit(fitted, {**fitted.request, "messages": [*fitted.request["messages"], more]})
    assert len(again.original["messages"]) == len(fitted.original["messages"]) + 1
    assert again.request["messages"][-1] == more
    assert again.request["options"]["num_ctx"] == 2048


def test_the_same_cut_is_reported_once(simulator, events):
    fitter = _fitter(simulator, num_ctx=2048, on_overflow="trim")
    for _ in range(2):
        ContextTracker(fitter, fitter.fit(_request(4, turns=60), ConversationInfo())).report_fit()
    assert [event.kind for event in events] == ["trimmed"]


def test_growth_is_reported_with_the_metadata(fitter, events):
    tracker = ContextTracker(fitter, fitter.fit(_request(600), ConversationInfo()))
    tracker.report_fit()
    assert [(event.kind, event.window_before) for event in events] == [("grown", 4096)]
    assert tracker.metadata()["context"]["grown_from"] == 4096


def test_a_truncated_prompt_is_reported_and_not_learned_from(fitter, events, caplog):
    fitted = fitter.fit(_request(60, options={"num_ctx": 512}), ConversationInfo())
    tracker = ContextTracker(fitter, fitted)
    tracker.record_start()
    with caplog.at_level(logging.WARNING):
        tracker.record_end(fitted.request, {"prompt_eval_count": 259, "eval_count": 5, "done_reason": "stop"})
    assert [event.kind for event in events] == ["truncated"]
    assert tracker.metadata()["truncated"]
    assert fitter.estimator.replies == 0
    assert caplog.messages == [events[0].text]


def test_a_complete_reply_calibrates_the_estimator(fitter, events):
    fitted = fitter.fit(_request(20), ConversationInfo())
    tracker = ContextTracker(fitter, fitted)
    tracker.record_start()
    tracker.record_end(fitted.request, {"prompt_eval_count": 260, "eval_count": 5, "done_reason": "stop"})
    assert fitter.estimator.replies == 1
    assert not events
    assert tracker.metadata() == {"truncated": False, "complete": True, "context": {"window": 4096}}


def test_a_server_out_of_memory_gets_a_smaller_window(fitter):
    fitted = fitter.fit(_request(600), ConversationInfo())
    tracker = ContextTracker(fitter, fitted)
    message = "model requires more system memory (9 GiB) than is available (4 GiB)"
    error = OllamaResponseError(message, status=500, server_message=message)
    tracker.record_failure(fitted.request, error)
    assert tracker.wants_smaller_window
    tracker.refit(fitted.request)
    assert tracker.window.tokens == fitted.window.tokens // 2
