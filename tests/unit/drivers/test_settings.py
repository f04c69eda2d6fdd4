"""Converters of settings."""

import ollama
import pytest

from griptape_ollama.drivers.settings import (
    to_keep_alive,
    to_max_num_ctx,
    to_num_ctx,
    to_options,
    to_temperature,
)
from griptape_ollama.errors import OllamaContentError


@pytest.mark.parametrize("convert", [to_temperature, to_keep_alive, to_num_ctx, to_max_num_ctx])
def test_none_is_not_set(convert):
    assert convert(None) is None


def test_no_options_are_an_empty_dict():
    assert to_options(None) == {}


def test_options_keep_what_is_not_set_as_the_user_wrote_it():
    assert to_options({"seed": None, "num_ctx": 4096.0}) == {"seed": None, "num_ctx": 4096.0}
    assert to_options(ollama.Options(seed=7)) == {"seed": 7}


def test_a_wrong_setting_is_one_of_our_errors_and_a_value_error():
    with pytest.raises(OllamaContentError) as caught:
        to_keep_alive("60")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("convert", [to_keep_alive, to_options, to_temperature, to_num_ctx, to_max_num_ctx])
@pytest.mark.parametrize("wrong", [object(), b"bytes", ["list"], {1: 2}])
def test_no_value_makes_a_setting_fail_with_anything_but_our_error(convert, wrong):
    with pytest.raises(OllamaContentError):
        convert(wrong)


def test_a_window_is_a_number_or_grows_by_itself():
    assert to_num_ctx(8192) == to_max_num_ctx(8192) == 8192
    assert to_num_ctx("auto") == "auto"
