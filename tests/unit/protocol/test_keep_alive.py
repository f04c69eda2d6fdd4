"""keep_alive: what users write, and what the server gets."""

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.protocol.keep_alive import MAX_SECONDS, keep_alive_seconds, normalize_keep_alive


@pytest.mark.parametrize(
    ("given_value", "sent", "seconds"),
    [
        (0, 0, 0),
        (30, 30, 30),
        (1.5, 1.5, 1.5),
        (-1, -1, math.inf),
        (-0.5, -0.5, math.inf),
        ("0", "0", 0),
        ("0s", "0s", 0),
        ("+0", "+0", 0),
        ("300ms", "300ms", 0.3),
        ("5m", "5m", 300),
        ("10m", "10m", 600),
        ("24h", "24h", 86_400),
        ("1h30m", "1h30m", 5400),
        ("1h30m10.5s", "1h30m10.5s", 5410.5),
        (".5s", ".5s", 0.5),
        ("1.s", "1.s", 1),
        ("+5m", "+5m", 300),
        ("-1m", "-1m", math.inf),
        ("-1s", "-1s", math.inf),
        ("100us", "100us", 1e-4),
        ("100µs", "100µs", 1e-4),
        ("100\u03bcs", "100\u03bcs", 1e-4),
        ("5ns", "5ns", 5e-9),
        ("2540400h", "2540400h", 2_540_400 * 3600),
        (timedelta(minutes=5), 300, 300),
        (timedelta(milliseconds=1500), 1.5, 1.5),
        (timedelta(0), 0, 0),
        (timedelta(seconds=-1), -1, math.inf),
        (timedelta(days=365), 31_536_000, 31_536_000),
        ("-1", -1, math.inf),
        (" -1\n", -1, math.inf),
        ("-1.0", -1, math.inf),
        ("-0.5", -0.5, math.inf),
        (" 5m", "5m", 300),
        ("5m\n", "5m", 300),
        ("\t1h30m ", "1h30m", 5400),
        (np.int64(-1), -1, math.inf),
        (np.float32(1.5), 1.5, 1.5),
        (np.array(60), 60, 60),
        (np.timedelta64(5, "m"), 300, 300),
        (Decimal("0.5"), 0.5, 0.5),
        (Decimal(60), 60, 60),
        (Fraction(3, 2), 1.5, 1.5),
    ],
)
def test_what_is_sent_for_a_value_and_how_long_it_is(given_value, sent, seconds):
    result = normalize_keep_alive(given_value)
    assert (result, type(result)) == (sent, type(sent))
    assert keep_alive_seconds(result) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (True, "use 0 to unload the model now, -1 to keep it for good"),
        (False, "use 0 to unload the model now, -1 to keep it for good"),
        ("60", r"has no unit: write 60 \(seconds\) or '60s'"),
        ("1.5", r"has no unit: write 1\.5"),
        ("abc", "write one such as '30s', '10m' or '1h30m'"),
        ("", "is not a duration"),
        ("5 m", "is not a duration"),
        ("5\nm", "is not a duration"),
        (" ", "is not a duration"),
        (" 60 ", r"has no unit: write 60 \(seconds\) or '60s'"),
        (np.bool_(True), "use 0 to unload the model now, -1 to keep it for good"),
        (np.array([60]), "is not a duration"),
        (np.float32("nan"), "is not a duration"),
        (Decimal("Infinity"), "is not a duration"),
        (Decimal("1e400"), "is not a duration"),
        ("5M", "is not a duration"),
        ("5min", "is not a duration"),
        ("1d", "is not a duration"),
        ("m", "is not a duration"),
        (".s", "is not a duration"),
        ("5m-3s", "is not a duration"),
        ("--5m", "is not a duration"),
        ("inf", "is not a duration"),
        ("nan", "is not a duration"),
        ("forever", "is not a duration"),
        ("\u0663\u0660s", "is not a duration"),
        (math.inf, "is not a duration"),
        (-math.inf, "is not a duration"),
        (math.nan, "is not a duration"),
        (None, "is not a duration"),
        ([5], "is not a duration"),
        ({"minutes": 5}, "is not a duration"),
        (b"5m", "is not a duration"),
        (10**10, "longer than the server can count: use -1"),
        (10**400, "longer than the server can count: use -1"),
        (-(10**400), "longer than the server can count: use -1"),
        (1e300, "longer than the server can count: use -1"),
        (timedelta.max, "longer than the server can count: use -1"),
        ("2600000h", "longer than the server can count: use -1"),
        ("-2600000h", "longer than the server can count: use -1"),
        ("1" * 400 + "s", "longer than the server can count: use -1"),
    ],
)
def test_what_the_server_would_refuse_or_misread_is_refused_with_advice(wrong, told):
    with pytest.raises(ValueError, match=told) as caught:
        normalize_keep_alive(wrong)
    assert str(caught.value).startswith("keep_alive=")


@pytest.mark.parametrize("text", ["60", "abc", "", "5 m", "1d"])
def test_seconds_are_not_guessed_from_a_text_without_unit(text):
    with pytest.raises(ValueError, match="invalid duration"):
        keep_alive_seconds(text)


_DURATIONS = st.builds(
    lambda sign, parts: sign + "".join(f"{number}{unit}" for number, unit in parts),
    st.sampled_from(["", "-", "+"]),
    st.lists(
        st.tuples(
            st.integers(0, 10**6).map(str) | st.floats(0, 10**4).map(lambda number: f"{number:.3f}"),
            st.sampled_from(["ns", "us", "µs", "ms", "s", "m", "h"]),
        ),
        min_size=1,
        max_size=4,
    ),
)


@given(
    st.integers()
    | st.floats()
    | st.text(alphabet="0123456789.+-hmsnuµ e", max_size=12)
    | _DURATIONS
    | st.timedeltas()
    | st.booleans()
    | st.none()
)
def test_whatever_is_accepted_means_the_same_after_as_before(value):
    try:
        sent = normalize_keep_alive(value)
    except ValueError:
        return
    if isinstance(value, timedelta):
        expected = value.total_seconds()
    else:
        expected = keep_alive_seconds(value)
        assert sent == value
    assert keep_alive_seconds(sent) == (math.inf if expected < 0 else expected)
    assert normalize_keep_alive(sent) == sent


@given(_DURATIONS)
def test_every_go_duration_that_is_not_too_long_is_accepted(text):
    if abs(keep_alive_seconds(text.lstrip("+-"))) < MAX_SECONDS:
        assert normalize_keep_alive(text) == text
