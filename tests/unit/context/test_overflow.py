"""Prompts that may not fit, before they are sent."""

import pytest

from griptape_ollama.context.overflow import OVERFLOW_MODES, OverflowPolicy, to_on_overflow
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.window import ContextWindow
from griptape_ollama.errors import OllamaContentError, OllamaContextError


def _window(tokens=4096, ceiling=4096, *, is_known=True):
    return ContextWindow(None, tokens, ceiling, is_known=is_known)


SURELY_TOO_LONG = TokenEstimate(10_000, 7000, 13_000)
MAYBE_TOO_LONG = TokenEstimate(5000, 3500, 6500)


def _policy(mode, **settings):
    return OverflowPolicy(mode, "qwen3", "http://gpu:11434", **settings)


@pytest.mark.parametrize("mode", ["error", "trim"])
def test_a_prompt_that_certainly_does_not_fit_is_not_sent(mode):
    with pytest.raises(OllamaContextError) as caught:
        _policy(mode).check(SURELY_TOO_LONG, _window())
    error = caught.value
    assert (error.tokens_wanted, error.tokens_available) == (10_000, 4096)
    assert (error.model, error.host) == ("qwen3", "http://gpu:11434")
    for said in ("10000", "7000 to 13000", "4096", "'qwen3'", "http://gpu:11434", "Nothing was sent", "Shorten"):
        assert said in str(error)


def test_by_default_it_is_sent_with_a_warning():
    line = _policy("warn").check(SURELY_TOO_LONG, _window())
    assert line is not None
    for said in ("10000", "4096", "'qwen3'", "http://gpu:11434", "the server is going to cut it", "on_overflow='trim'"):
        assert said in line


def test_truncation_that_the_request_forbids_is_not_warned_of():
    assert _policy("warn").check(SURELY_TOO_LONG, _window(), {"truncate": False}) is None


@pytest.mark.parametrize("mode", OVERFLOW_MODES)
@pytest.mark.parametrize(
    ("estimate", "window"),
    [
        (MAYBE_TOO_LONG, _window()),
        (SURELY_TOO_LONG, _window(ceiling=32_768)),
        (SURELY_TOO_LONG, _window(is_known=False)),
        (TokenEstimate(4096, 4096, 4096), _window()),
    ],
    ids=["may fit", "fits a larger window", "unknown window", "fits exactly"],
)
def test_a_prompt_that_may_fit_is_sent_without_a_warning(mode, estimate, window):
    assert _policy(mode).check(estimate, window) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_limit": 131_072}, "raise max_num_ctx above 4096 (the model takes up to 131072)"),
        ({}, "raise max_num_ctx above 4096,"),
        ({"num_ctx": 4096, "model_limit": 40_960}, "raise num_ctx above 4096 (the model takes up to 40960)"),
        ({"num_ctx": None, "model_limit": 40_960}, "set num_ctx='auto'"),
    ],
)
def test_the_setting_that_limits_the_window_is_named(settings, said):
    with pytest.raises(OllamaContextError) as caught:
        _policy("error", **settings).check(SURELY_TOO_LONG, _window())
    assert said in str(caught.value)


@pytest.mark.parametrize("settings", [{"model_limit": 4096}, {"model_limit": 2048}, {"is_cloud": True}])
def test_no_larger_window_is_advised_where_there_is_none(settings):
    with pytest.raises(OllamaContextError) as caught:
        _policy("error", **settings).check(SURELY_TOO_LONG, _window())
    assert "num_ctx" not in str(caught.value)
    assert "or use a model with a longer context." in str(caught.value)


def test_trimming_is_not_advised_in_mode_trim():
    with pytest.raises(OllamaContextError) as caught:
        _policy("trim").check(SURELY_TOO_LONG, _window())
    assert "on_overflow" not in str(caught.value)
    assert "all that may be dropped was dropped" in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "request_", "fields"),
    [
        ("error", {}, {"truncate": False, "shift": False}),
        ("error", {"truncate": True}, {"shift": False}),
        ("error", {"truncate": None, "shift": True}, {"truncate": False}),
        ("warn", {}, {}),
        ("trim", {}, {}),
    ],
)
def test_only_in_mode_error_the_server_has_to_refuse_unless_the_user_set_it(mode, request_, fields):
    assert _policy(mode).refusal_fields(request_) == fields


@pytest.mark.parametrize("value", ["Warn", "", None, True, 1, ["warn"]])
def test_an_unknown_mode_is_refused_with_the_known_ones(value):
    with pytest.raises(OllamaContentError, match="'warn', 'error', 'trim'"):
        to_on_overflow(value)


@pytest.mark.parametrize("mode", OVERFLOW_MODES)
def test_the_known_modes_are_taken(mode):
    assert to_on_overflow(mode) == mode
