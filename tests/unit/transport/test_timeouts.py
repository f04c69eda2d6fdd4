"""What users may write as a timeout."""

import math
import threading

import httpx
import pytest

from griptape_ollama.transport.timeouts import OllamaTimeout


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, OllamaTimeout(connect=5, first_token=300, between_tokens=60, total=None)),
        (30, OllamaTimeout(total=30)),
        (1.5, OllamaTimeout(total=1.5)),
        ((2, 7), OllamaTimeout(connect=2, first_token=7, between_tokens=7)),
        ([2, None], OllamaTimeout(connect=2, first_token=None, between_tokens=None)),
        (httpx.Timeout(9, connect=3), OllamaTimeout(connect=3, first_token=9, between_tokens=9)),
        ({"total": 4}, OllamaTimeout(total=4)),
        (OllamaTimeout(connect=None), OllamaTimeout(connect=None)),
    ],
)
def test_forms_that_are_understood(given, expected):
    assert OllamaTimeout.of(given) == expected


@pytest.mark.parametrize(
    "given", [0, -1, float("nan"), True, "5", (1, 2, 3), {"conect": 5}, {"connect": "5"}, object()]
)
def test_forms_that_are_not(given):
    with pytest.raises(ValueError, match="timeout"):
        OllamaTimeout.of(given)


@pytest.mark.parametrize("seconds", [math.inf, 1e300, threading.TIMEOUT_MAX * 2])
def test_what_is_longer_than_any_wait_is_no_limit(seconds):
    assert OllamaTimeout(first_token=seconds, total=seconds) == OllamaTimeout(first_token=None, total=None)
    assert OllamaTimeout(total=threading.TIMEOUT_MAX).total == threading.TIMEOUT_MAX
