"""Settings that cannot be stored with a driver are named in a warning or an error."""

import copy
import logging
import pickle
import ssl
import threading

import ollama
import pytest

from griptape_ollama import OllamaContentError, OllamaEmbeddingDriver, OllamaModels, OllamaPromptDriver

_KINDS = (OllamaPromptDriver, OllamaEmbeddingDriver, OllamaModels)


def _make(kind, **settings):
    return kind(**({} if kind is OllamaModels else {"model": "m"}), **settings)


def _function_of_a_module(state):
    """A hook that pickle finds by its name."""


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(("name", "make"), [("ssl_context", ssl.create_default_context), ("client", ollama.Client)])
def test_a_context_or_client_that_stays_behind_is_named(kind, name, make, caplog):
    driver = _make(kind, **{name: make()})
    with caplog.at_level(logging.WARNING):
        copied = pickle.loads(pickle.dumps(driver))  # noqa: S301 # made here
    assert f"{name} of {kind.__name__} is not pickled and stays behind: set it again" in caplog.text
    assert copied.ssl_context is None
    caplog.clear()
    driver.to_json()
    assert f"{name} of {kind.__name__} is not stored and stays behind" in caplog.text


@pytest.mark.parametrize("kind", _KINDS)
def test_a_copy_shares_what_cannot_be_copied_and_says_nothing(kind, caplog):
    driver = _make(kind, ssl_context=ssl.create_default_context(), after_hook=lambda _: None)
    for copied in (copy.copy(driver), copy.deepcopy(driver)):
        assert copied.ssl_context is driver.ssl_context
        assert copied.after_hook is driver.after_hook
    assert caplog.text == ""


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("after_hook", lambda _: None), ("headers", lambda: {"X-Team": "a"}), ("after_hook", threading.Lock())],
    ids=["lambda", "headers", "lock"],
)
def test_a_setting_that_cannot_be_pickled_is_named(kind, name, value):
    with pytest.raises(OllamaContentError, match=f"{kind.__name__} cannot be pickled because of its setting '{name}'"):
        pickle.dumps(_make(kind, **{name: value}))


@pytest.mark.parametrize("kind", _KINDS)
def test_everything_else_is_pickled_without_a_word(kind, caplog):
    driver = _make(kind, after_hook=_function_of_a_module, headers={"X-Team": "a"}, timeout=5, api_key="k")
    copied = pickle.loads(pickle.dumps(driver))  # noqa: S301 # made here
    assert (copied.after_hook, copied.headers, copied.api_key) == (_function_of_a_module, {"X-Team": "a"}, "k")
    assert caplog.text == ""
