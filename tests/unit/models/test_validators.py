"""Settings of the way to a server, as they are checked when they are given."""

import copy
import json
import math
import pickle
import threading
from pathlib import Path

import pytest

from griptape_ollama import OllamaEmbeddingDriver, OllamaModels, OllamaPromptDriver
from griptape_ollama.errors import OllamaContentError
from griptape_ollama.models.validators import (
    HostWithCredentials,
    to_cert,
    to_host,
    to_limits,
    to_max_attempts,
    to_max_concurrency,
    to_max_wait,
    to_verify,
)
from griptape_ollama.transport.timeouts import OllamaTimeout


@pytest.mark.parametrize("convert", [to_limits, to_host, to_cert, to_max_concurrency, to_max_wait])
def test_none_is_not_set(convert):
    assert convert(None) is None


@pytest.mark.parametrize("host", ["gpu", "https://gpu:8443/x", "", "[::1]:8080"])
def test_a_host_without_credentials_stays_the_text_it_was(host):
    assert (to_host(host), type(to_host(host))) == (host, str)


def test_a_host_with_credentials_shows_the_rest_of_itself():
    host = to_host("https://alice:hunter2@gpu/x")
    assert isinstance(host, HostWithCredentials)
    assert isinstance(host, str)
    assert host == "https://gpu/x"
    assert host.whole == "https://alice:hunter2@gpu/x"
    for text in (str(host), repr(host), f"{host}", json.dumps(host), f"{host!r}", f"{host:>20}"):
        assert "hunter2" not in text


def test_a_host_with_credentials_is_taken_as_it_is():
    host = to_host("https://alice:hunter2@gpu")
    assert to_host(host) is host


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda host: pickle.loads(pickle.dumps(host))])  # noqa: S301
def test_a_host_with_credentials_can_be_copied(again):
    assert again(to_host("https://alice:hunter2@gpu")).whole == "https://alice:hunter2@gpu"


@pytest.mark.parametrize(
    ("given", "kept"), [(True, True), (False, False), (None, True), ("ca.pem", "ca.pem"), (Path("ca.pem"), "ca.pem")]
)
def test_verify_is_a_yes_a_no_or_a_path(given, kept):
    assert to_verify(given) == kept
    assert type(to_verify(given)) is type(kept)


@pytest.mark.parametrize("wrong", [0, 1, 7, b"ca.pem", object()])
def test_verify_is_nothing_else(wrong):
    with pytest.raises(OllamaContentError, match="pass an SSLContext as ssl_context"):
        to_verify(wrong)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("both.pem", ("both.pem",)),
        (Path("both.pem"), ("both.pem",)),
        (("a.pem", "a.key"), ("a.pem", "a.key")),
        ([Path("a.pem"), "a.key"], ("a.pem", "a.key")),
    ],
)
def test_a_certificate_is_one_file_or_two(given, kept):
    assert to_cert(given) == kept


@pytest.mark.parametrize("wrong", [7, object(), b"both.pem", (), ("a", "b", "password"), {1: 2}])
def test_a_certificate_is_nothing_else(wrong):
    with pytest.raises(OllamaContentError, match="cert"):
        to_cert(wrong)


def test_limits_are_understood():
    assert to_limits(5) == OllamaTimeout(total=5)
    with pytest.raises(OllamaContentError, match="timeout"):
        to_limits("5s")


@pytest.mark.parametrize("convert", [to_limits, to_host])
@pytest.mark.parametrize("wrong", [object(), b"bytes", ["list"], {1: 2}])
def test_no_value_makes_a_setting_fail_with_anything_but_our_error(convert, wrong):
    with pytest.raises(OllamaContentError):
        convert(wrong)


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "4"])
def test_a_concurrency_that_is_no_count_is_refused(given):
    with pytest.raises(OllamaContentError, match="max_concurrency"):
        to_max_concurrency(given)


@pytest.mark.parametrize("given", [-1, True, "4", float("nan")])
def test_a_wait_that_is_no_number_of_seconds_is_refused(given):
    with pytest.raises(OllamaContentError, match="max_wait"):
        to_max_wait(given)


@pytest.mark.parametrize(("given", "kept"), [(0, 0), (1.5, 1.5), (math.inf, None), (1e300, None)])
def test_a_wait_that_is_longer_than_any_is_no_limit(given, kept):
    assert to_max_wait(given) == kept


def test_no_try_at_all_is_one_as_it_is_to_griptape():
    assert [to_max_attempts(0), to_max_attempts(3)] == [0, 3]


@pytest.mark.parametrize("kind", [OllamaPromptDriver, OllamaEmbeddingDriver, OllamaModels])
@pytest.mark.parametrize("name", ["max_attempts", "min_retry_delay", "max_retry_delay", "wait_for_server"])
@pytest.mark.parametrize("value", [-1, math.nan, None, "2", True])
def test_settings_of_retries_are_refused_when_they_are_given_not_when_something_fails(kind, name, value):
    model = {} if kind is OllamaModels else {"model": "qwen3"}
    with pytest.raises(OllamaContentError, match=f"{name}={value!r}"):
        kind(**model, **{name: value})
    driver = kind(**model)
    with pytest.raises(OllamaContentError, match=name):
        setattr(driver, name, value)


def test_waiting_for_a_server_for_ever_is_as_long_as_a_wait_can_be():
    assert OllamaModels(wait_for_server=math.inf).wait_for_server == threading.TIMEOUT_MAX
