"""Names of models: what is one, and which two mean the same."""

import json
from pathlib import Path

import pytest

from griptape_ollama.protocol.model_name import is_same_model, model_key, parse_model_name

_RECORDINGS = Path(__file__).parents[2] / "contract" / "recordings" / "0.33.0-rc2"


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        ("qwen3", "qwen3:latest"),
        ("qwen3:0.6b", "qwen3:0.6b"),
        ("Qwen3:0.6B", "Qwen3:0.6B"),
        ("_x", "_x:latest"),
        ("library/qwen3", "qwen3:latest"),
        ("registry.ollama.ai/library/qwen3:8b", "qwen3:8b"),
        ("Registry.Ollama.AI/Library/qwen3", "qwen3:latest"),
        ("alice/helper", "alice/helper:latest"),
        ("registry.ollama.ai/alice/helper", "alice/helper:latest"),
        ("hf.co/alice/helper-GGUF:Q4_K_M", "hf.co/alice/helper-GGUF:Q4_K_M"),
        ("localhost:5000/me/mine", "localhost:5000/me/mine:latest"),
        ("http://127.0.0.1:5000/me/mine:v2", "127.0.0.1:5000/me/mine:v2"),
        ("https://gpu/library/mine", "gpu/library/mine:latest"),
        ("gpt-oss:120b-cloud", "gpt-oss:120b-cloud"),
        ("gpt-oss:120b:cloud", "gpt-oss:120b-cloud"),
        ("gpt-oss:cloud", "gpt-oss:cloud"),
        ("qwen3:8b:local", "qwen3:8b"),
        ("a" * 80 + ":" + "b" * 80, "a" * 80 + ":" + "b" * 80),
    ],
)
def test_a_name_is_listed_with_its_tag_and_without_what_goes_without_saying(given, listed):
    assert str(parse_model_name(given)) == listed
    assert is_same_model(given, listed)
    assert parse_model_name(listed).key == parse_model_name(given).key


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "its model is empty"),
        (":", "its model is empty"),
        ("qwen3:", "its tag is empty"),
        ("qwen3:8b:", "its tag has more than"),
        ("qwen3:8b:fast", "its tag has more than"),
        ("/qwen3", "its namespace is empty"),
        ("alice/", "its model is empty"),
        ("//qwen3", "its registry|its namespace"),
        ("a/b/c/d", "more than registry, namespace and model"),
        ("a b", "its model has more than letters, digits and _ - ."),
        ("-qwen3", "its model has more than"),
        (".qwen3", "its model has more than"),
        ("qwen3:.5b", "its tag has more than"),
        ("alice.b/helper", "its namespace has more than letters, digits and _ -,"),
        ("qwén", "its model has more than"),
        ("qwen3\n", "its model has more than"),
        ("qwen3@sha256:abc", "its model has more than"),
        ("a" * 81, "its model is longer than 80"),
        ("x:" + "b" * 81, "its tag is longer than 80"),
        ("ftp://gpu/a/b", "more than registry"),
    ],
)
def test_what_is_no_name_is_refused_with_the_part_that_is_wrong(given, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_model_name(given)
    assert "Write it like 'qwen3'" in str(caught.value)


def test_a_password_in_a_name_is_not_quoted():
    with pytest.raises(ValueError, match="not a model name") as caught:
        parse_model_name("https://alice:hunter2@gpu/a/b c")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("qwen3", "QWEN3:Latest", True),
        ("qwen3", "qwen3:8b", False),
        ("qwen3", "alice/qwen3", False),
        ("no name", "no name", True),
        ("no name", "No name", False),
        ("no name", "qwen3", False),
    ],
)
def test_names_are_compared_as_the_server_does(one, other, same):
    assert is_same_model(one, other) is same
    assert (model_key(one) == model_key(other)) is same


@pytest.mark.parametrize("recording", ["tags", "tags_pulled", "ps_many"])
def test_names_that_a_real_server_lists_are_names_and_stay_as_they_are(recording):
    entries = json.loads((_RECORDINGS / f"{recording}.json").read_text())["response"]["body"]["models"]
    assert entries
    for entry in entries:
        assert str(parse_model_name(entry["name"])) == entry["name"]
