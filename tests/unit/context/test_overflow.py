"""Prompts that may not fit, before they are sent."""

from dataclasses import dataclass

import pytest

from griptape_ollama.context.overflow import OVERFLOW_MODES, Guard, WindowSettings, message_budget, to_on_overflow
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.errors import OllamaContentError, OllamaContextError


@dataclass(frozen=True)
class Window:
    tokens: int = 4096
    ceiling: int = 4096
    is_known: bool = True


SURELY_TOO_LONG = TokenEstimate(10_000, 7000, 13_000)
MAYBE_TOO_LONG = TokenEstimate(5000, 3500, 6500)


def _guard(mode, **settings):
    return Guard(mode, "qwen3", "http://gpu:11434", WindowSettings(**settings))


@pytest.mark.parametrize("mode", ["error", "trim"])
def test_what_surely_does_not_fit_is_not_sent(mode):
    with pytest.raises(OllamaContextError) as caught:
        _guard(mode).check(SURELY_TOO_LONG, Window())
    error = caught.value
    assert (error.tokens_wanted, error.tokens_available) == (10_000, 4096)
    assert (error.model, error.host) == ("qwen3", "http://gpu:11434")
    for said in ("10000", "7000 to 13000", "4096", "'qwen3'", "http://gpu:11434", "Nothing was sent", "Shorten"):
        assert said in str(error)


def test_by_default_it_is_sent_with_a_word_in_the_log():
    line = _guard("warn").check(SURELY_TOO_LONG, Window())
    assert line is not None
    for said in ("10000", "4096", "'qwen3'", "http://gpu:11434", "the server is going to cut it", "on_overflow='trim'"):
        assert said in line


def test_nobody_is_warned_of_a_cut_that_the_request_forbids():
    assert _guard("warn").check(SURELY_TOO_LONG, Window(), {"truncate": False}) is None


@pytest.mark.parametrize("mode", OVERFLOW_MODES)
@pytest.mark.parametrize(
    ("estimate", "window"),
    [
        (MAYBE_TOO_LONG, Window()),
        (SURELY_TOO_LONG, Window(ceiling=32_768)),
        (SURELY_TOO_LONG, Window(is_known=False)),
        (TokenEstimate(4096, 4096, 4096), Window()),
    ],
    ids=["may fit", "fits a larger window", "nobody knows the window", "fits exactly"],
)
def test_what_may_fit_is_sent_without_a_word(mode, estimate, window):
    assert _guard(mode).check(estimate, window) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_limit": 131_072}, "raise max_num_ctx above 4096 (the model takes up to 131072)"),
        ({"max_num_ctx": 4096}, "raise max_num_ctx above 4096,"),
        ({"num_ctx": 4096, "model_limit": 40_960}, "raise num_ctx above 4096 (the model takes up to 40960)"),
        ({"num_ctx": None, "model_limit": 40_960}, "set num_ctx='auto'"),
    ],
)
def test_the_setting_that_holds_the_window_is_named(settings, said):
    with pytest.raises(OllamaContextError) as caught:
        _guard("error", **settings).check(SURELY_TOO_LONG, Window())
    assert said in str(caught.value)


@pytest.mark.parametrize("settings", [{"model_limit": 4096}, {"model_limit": 2048}, {"is_cloud": True}])
def test_no_larger_window_is_advised_where_there_is_none(settings):
    with pytest.raises(OllamaContextError) as caught:
        _guard("error", **settings).check(SURELY_TOO_LONG, Window())
    assert "num_ctx" not in str(caught.value)
    assert "or use a model with a longer context." in str(caught.value)


def test_trimming_is_not_advised_to_those_who_trim():
    with pytest.raises(OllamaContextError) as caught:
        _guard("trim").check(SURELY_TOO_LONG, Window())
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
def test_only_in_mode_error_the_server_is_told_to_refuse_unless_the_user_said_otherwise(mode, request_, fields):
    assert _guard(mode).fields(request_) == fields


@pytest.mark.parametrize("value", ["Warn", "", None, True, 1, ["warn"]])
def test_an_unknown_mode_is_refused_with_the_known_ones(value):
    with pytest.raises(OllamaContentError, match="'warn', 'error', 'trim'"):
        to_on_overflow(value)


@pytest.mark.parametrize("mode", OVERFLOW_MODES)
def test_the_known_modes_are_taken(mode):
    assert to_on_overflow(mode) == mode


@pytest.mark.parametrize(
    ("arguments", "budget"),
    [
        ((4096, 0, 0.0), 4096),
        ((4096, 100, 0.0), 3996),
        ((1300, 200, 0.3), 800),
        ((100, 5000, 0.0), 0),
    ],
    ids=["all", "tools", "unsure", "tools fill it"],
)
def test_messages_may_have_what_tools_leave_even_if_the_estimate_is_off(arguments, budget):
    assert message_budget(*arguments) == pytest.approx(budget)
