"""The tree of errors: what catches what, and what survives a trip to another process."""

import copy
import inspect
import pickle

import pytest

from griptape_ollama import errors
from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaContextError,
    OllamaDiskError,
    OllamaEmbeddingError,
    OllamaError,
    OllamaGatewayError,
    OllamaModelNotFoundError,
    OllamaQuotaError,
    OllamaResponseError,
    OllamaSlotError,
    OllamaStreamError,
    OllamaTimeoutError,
)

_PARENTS = {
    OllamaError: (Exception,),
    OllamaConnectionError: (OllamaError,),
    OllamaTimeoutError: (OllamaError, TimeoutError),
    OllamaSlotError: (OllamaTimeoutError,),
    OllamaResponseError: (OllamaError,),
    OllamaModelNotFoundError: (OllamaResponseError,),
    OllamaAuthError: (OllamaResponseError,),
    OllamaQuotaError: (OllamaResponseError,),
    OllamaBusyError: (OllamaResponseError,),
    OllamaGatewayError: (OllamaResponseError, OllamaConnectionError),
    OllamaContextError: (OllamaResponseError,),
    OllamaStreamError: (OllamaError,),
    OllamaEmbeddingError: (OllamaError,),
    OllamaCancelledError: (OllamaError,),
    OllamaDiskError: (OllamaError,),
    OllamaContentError: (OllamaError, ValueError),
}
_ANY = {"host": "http://gpu:11434", "model": "qwen3", "partial_text": "Once upon"}
_RESPONSE = {
    "status": 503,
    "server_message": "server busy",
    "method": "POST",
    "path": "/api/chat",
    "retry_after": 1.5,
    "permanent": False,
}
_ATTRIBUTES = {
    OllamaConnectionError: {"refused": True, "stale": True, "redirected": True},
    OllamaTimeoutError: {"limit": "first_token", "seconds": 300.0},
    OllamaSlotError: {"limit": "slot", "seconds": 300.0},
    OllamaResponseError: _RESPONSE,
    OllamaModelNotFoundError: _RESPONSE,
    OllamaAuthError: _RESPONSE,
    OllamaQuotaError: _RESPONSE,
    OllamaBusyError: _RESPONSE,
    OllamaGatewayError: _RESPONSE,
    OllamaContextError: {**_RESPONSE, "tokens_wanted": 45_043, "tokens_available": 4096},
    OllamaDiskError: {"bytes_needed": 4_700_000_000, "bytes_free": 1_000_000},
    OllamaStreamError: {"retryable": True, "server_message": "unexpected EOF"},
    OllamaEmbeddingError: {"index": 1, "failures": {}, "vectors": [[1.0], None]},
}

_each_class = pytest.mark.parametrize("kind", _PARENTS, ids=lambda kind: kind.__name__)


def _made(kind):
    attributes = {**_ANY, **_ATTRIBUTES.get(kind, {})}
    return kind("It failed.", **attributes), attributes


def _values(error, names):
    return {name: getattr(error, name) for name in names}


@_each_class
def test_each_error_has_its_place_in_the_tree(kind):
    assert kind.__bases__ == _PARENTS[kind]


def test_the_tree_has_every_error_of_the_module():
    classes = {value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__}
    assert classes == set(_PARENTS)


@_each_class
def test_an_error_is_its_text_and_carries_what_is_known(kind):
    error, attributes = _made(kind)
    assert str(error) == "It failed."
    assert _values(error, attributes) == attributes


@_each_class
def test_nothing_needs_to_be_known(kind):
    error = kind()
    assert str(error) == ""
    assert (error.host, error.model, error.partial_text) == (None, None, "")


@_each_class
def test_the_attributes_under_test_are_all_there_are(kind):
    parameters = inspect.signature(kind.__init__).parameters.keys() - {"self", "message"}
    assert parameters == {**_ANY, **_ATTRIBUTES.get(kind, {})}.keys()


@_each_class
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling_with_everything_they_carry(kind, protocol):
    error, attributes = _made(kind)
    back = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 # our own
    assert type(back) is kind
    assert (str(back), back.args) == ("It failed.", ("It failed.",))
    assert _values(back, attributes) == attributes


@_each_class
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_errors_can_be_copied(kind, copied):
    error, attributes = _made(kind)
    back = copied(error)
    assert type(back) is kind
    assert _values(back, attributes) == attributes
    assert str(back) == "It failed."


def test_what_is_learned_later_survives_pickling_too():
    error = OllamaStreamError("It broke.")
    error.partial_text = "Once upon"
    assert pickle.loads(pickle.dumps(error)).partial_text == "Once upon"  # noqa: S301 # our own


def test_a_timeout_is_caught_as_a_timeout():
    with pytest.raises(TimeoutError, match="too slow"):
        raise OllamaTimeoutError("too slow", limit="total", seconds=1)


def test_content_that_cannot_be_sent_is_caught_as_a_value_error():
    with pytest.raises(ValueError, match="no audio"):
        raise OllamaContentError("no audio")


def test_a_refusal_is_permanent_unless_said_otherwise():
    assert OllamaResponseError().permanent
    assert not OllamaStreamError().retryable
    assert not OllamaConnectionError().refused


def test_cancelling_is_an_ordinary_exception():
    # Griptape's run_stream waits for ever when its thread ends by a BaseException that is no Exception.
    assert issubclass(OllamaCancelledError, Exception)


@_each_class
def test_each_error_says_what_it_is_for(kind):
    assert kind.__doc__
