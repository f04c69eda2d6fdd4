"""What users may write for the size of a window."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from griptape_ollama.protocol.context_window import check_max_num_ctx, check_num_ctx


@pytest.mark.parametrize("value", [None, "auto", 1, 4096, 2**31 - 1])
def test_what_is_right_stays_as_it_is(value):
    assert check_num_ctx(value) == value


@pytest.mark.parametrize("value", [np.array(8192), Decimal(8192), Decimal("8.192e3"), Fraction(8192), np.uint64(8192)])
def test_whole_numbers_are_recognised_whatever_library_they_are_of(value):
    assert (check_num_ctx(value), type(check_num_ctx(value))) == (8192, int)


@pytest.mark.parametrize("value", [np.array([8192]), np.bool_(True), Decimal("8192.5"), Decimal("NaN"), 1j])
def test_what_is_no_whole_number_is_no_window_whatever_library_it_is_of(value):
    with pytest.raises(ValueError, match="is no size of a window"):
        check_num_ctx(value)


def test_whole_numbers_of_other_libraries_become_plain_ones():
    assert type(check_num_ctx(np.int64(8192))) is int
    assert check_max_num_ctx(np.uint16(8192)) == 8192


@pytest.mark.parametrize("value", [0, -1, 2**31, 10**30, True, False, 4096.0, float("nan"), [4096], {}, object()])
def test_what_is_no_size_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^num_ctx=.* use 'auto', a number of tokens such as 8192, or None"):
        check_num_ctx(value)
    with pytest.raises(ValueError, match=r"^max_num_ctx=.* use a number of tokens such as 32768, or None"):
        check_max_num_ctx(value)


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("AUTO", "write 'auto'"),
        (" auto ", "write 'auto'"),
        ("8192", "write the number itself, without quotes"),
        ("8k", "use 'auto', a number of tokens such as 8192, or None to send nothing"),
        ("²", "use 'auto'"),
        ("", "use 'auto'"),
    ],
)
def test_a_word_that_is_unknown_is_refused_with_what_was_meant(word, advice):
    with pytest.raises(ValueError, match=advice) as caught:
        check_num_ctx(word)
    assert repr(word) in str(caught.value)


@pytest.mark.parametrize("word", ["auto", "8192", ""])
def test_the_largest_window_is_no_word(word):
    with pytest.raises(ValueError, match=r"max_num_ctx=.* \(str\) is no size of a window"):
        check_max_num_ctx(word)
