"""Embed requests from their parts, and the vectors of a reply, sound or not."""

import json
import math

import pytest
from attrs import fields
from griptape.events import BaseEvent
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.conversion.vectors import (
    Passage,
    mean_of,
    to_embed_request,
    to_embedding_event,
    to_vectors,
)
from griptape_ollama.errors import OllamaContentError, OllamaStreamError
from griptape_ollama.events import OllamaEmbeddingEvent

_X, _Y = [1.0, 0.0], [0.0, 1.0]


def _request(*, options=None, extra=None, **fields):
    return to_embed_request(model="m", options=options or {}, fields=fields, extra=extra or {})


def _values(*vectors, **wanted):
    return to_vectors({"embeddings": list(vectors)}, len(vectors), **wanted).values


class TestPassage:
    def test_a_text_is_sent_as_it_is_behind_its_prefix(self):
        assert Passage("query: ", " a cat\n").sent == "query:  a cat\n"
        assert Passage("", "a cat").sent == "a cat"

    @pytest.mark.parametrize("blank", ["", " ", "\n\t ", "\u00a0", "\u3000"])
    def test_a_blank_text_is_replaced_by_a_full_stop(self, blank):
        assert Passage("", blank).sent == "."
        assert Passage("query: ", blank).sent == "query: ."


class TestRequest:
    def test_without_settings_only_the_model_is_named(self):
        assert _request(dimensions=None, truncate=None, keep_alive=None) == {"model": "m"}

    def test_settings_go_to_their_places(self):
        request = _request(
            options={"num_ctx": 512}, extra={"brand_new": [1]}, dimensions=64, truncate=False, keep_alive="5m"
        )
        assert request == {
            "model": "m",
            "dimensions": 64,
            "truncate": False,
            "keep_alive": "5m",
            "brand_new": [1],
            "options": {"num_ctx": 512},
        }

    def test_extra_params_win_over_fields_and_are_checked_likewise(self):
        assert _request(extra={"dimensions": 32}, dimensions=64)["dimensions"] == 32
        with pytest.raises(OllamaContentError, match="dimensions='32' must be a whole number from 1"):
            _request(extra={"dimensions": "32"})

    @pytest.mark.parametrize("dimensions", [0, -1, 1.5, "64", True, math.nan])
    def test_dimensions_are_a_whole_number_from_1(self, dimensions):
        with pytest.raises(OllamaContentError, match=r"dimensions=.* must be a whole number from 1"):
            _request(dimensions=dimensions)

    @pytest.mark.parametrize("truncate", [0, 1, "yes", []])
    def test_truncate_is_true_or_false(self, truncate):
        with pytest.raises(OllamaContentError, match=r"truncate=.* must be True or False"):
            _request(truncate=truncate)

    @pytest.mark.parametrize("keep_alive", ["60", "abc", True, []])
    def test_a_keep_alive_that_the_server_refuses_is_refused_here(self, keep_alive):
        with pytest.raises(OllamaContentError, match="keep_alive"):
            _request(keep_alive=keep_alive)

    def test_an_option_of_a_wrong_type_is_refused(self):
        with pytest.raises(OllamaContentError, match="num_ctx") as refused:
            _request(options={"num_ctx": "many"})
        assert refused.value.model == "m"

    def test_texts_in_extra_params_are_refused(self):
        with pytest.raises(OllamaContentError, match="texts are given to embed"):
            _request(extra={"input": ["a"]})


class TestVectors:
    def test_vectors_of_length_1_are_not_changed(self):
        vectors = to_vectors({"embeddings": [_X, _Y]}, 2)
        assert vectors.values == [_X, _Y]
        assert not vectors.were_scaled

    def test_the_servers_rounding_is_no_other_length(self):
        vector = [0.6 + 1e-5, 0.8]
        assert to_vectors({"embeddings": [vector]}, 1) == ([vector], False)

    def test_vectors_of_another_length_are_scaled_and_reported(self):
        vectors = to_vectors({"embeddings": [[3.0, 4.0], _X]}, 2)
        assert vectors.values == [[pytest.approx(0.6), pytest.approx(0.8)], _X]
        assert vectors.were_scaled

    @pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
    def test_tiny_and_huge_vectors_are_scaled_too(self, scale):
        assert _values([3 * scale, 4 * scale]) == [[pytest.approx(0.6), pytest.approx(0.8)]]

    @pytest.mark.parametrize(
        "reply",
        [
            {},
            {"embeddings": None},
            {"embeddings": []},
            {"embeddings": [_X]},
            {"embeddings": [_X] * 3},
            {"embeddings": {"0": _X, "1": _Y}},
            {"embeddings": "xy"},
            {"embedding": [_X, _Y]},
        ],
    )
    def test_another_number_of_vectors_than_of_texts_is_an_error(self, reply):
        with pytest.raises(OllamaStreamError, match=r"has \d vectors for 2 texts"):
            to_vectors(reply, 2)

    def test_an_error_in_place_of_vectors_is_quoted(self):
        with pytest.raises(OllamaStreamError, match="out of memory"):
            to_vectors({"error": "out of memory"}, 2)

    @pytest.mark.parametrize(
        ("bad", "what"),
        [
            ([math.nan, 0.0], "not finite"),
            ([math.inf, 0.0], "not finite"),
            ([-math.inf, math.nan], "not finite"),
            ([None, 0.0], "no numbers"),
            (["0.5", 0.0], "no numbers"),
            ([[1.0], 0.0], "no numbers"),
            ([10**400, 0.0], "no numbers"),
            ([0.0, 0.0], "zeros only"),
            ([], "no numbers"),
            (None, "no numbers"),
            ("ab", "no numbers"),
            ({"0": 1.0, "1": 0.0}, "no numbers"),
            ([1.0], "has 1 numbers, not 2"),
            ([1.0, 0.0, 0.0], "has 3 numbers, not 2"),
        ],
    )
    def test_a_broken_vector_is_separated_from_the_valid_ones(self, bad, what):
        first, wrong, last = _values(_X, bad, _Y)
        assert (first, last) == (_X, _Y)
        assert what in wrong

    def test_the_size_of_earlier_replies_counts(self):
        assert _values([1.0], size=2) == ["its vector has 1 numbers, not 2"]
        assert _values(_X, size=2) == [_X]

    def test_the_size_that_was_asked_for_counts_more(self):
        assert _values(_X, [1.0], dimensions=2, size=1) == [_X, "its vector has 1 numbers, not 2"]

    def test_a_size_that_is_never_the_one_asked_for_is_an_error_about_the_setting(self):
        with pytest.raises(OllamaContentError, match="vectors of 2 numbers, not dimensions=1"):
            _values(_X, _Y, dimensions=1)

    def test_no_texts_have_no_vectors(self):
        assert to_vectors({"embeddings": []}, 0).values == []

    @given(st.lists(st.lists(st.floats() | st.integers() | st.none() | st.text(), max_size=3) | st.none(), max_size=5))
    def test_for_any_reply_each_value_is_a_unit_vector_or_a_text(self, found):
        values = to_vectors({"embeddings": found}, len(found)).values
        assert len(values) == len(found)
        for value in values:
            assert isinstance(value, str) or math.hypot(*value) == pytest.approx(1, abs=1e-3)


class TestMean:
    def test_weights_count(self):
        assert mean_of([(3, _X), (4, _Y)]) == [pytest.approx(0.6), pytest.approx(0.8)]

    def test_one_vector_is_its_own_mean(self):
        assert mean_of([(7, _Y)]) == _Y

    def test_the_mean_of_vectors_that_cancel_each_other_out_is_the_first(self):
        assert mean_of([(1, _X), (1, [-1.0, 0.0])]) == _X


class TestEvent:
    def test_an_event_has_the_figures_of_the_reply(self):
        reply = {"model": "m", "total_duration": 2_000_000_000, "load_duration": 500_000_000, "prompt_eval_count": 12}
        event = to_embedding_event(3, reply, host="http://gpu:11434")
        assert (event.model, event.host, event.texts) == ("m", "http://gpu:11434", 3)
        assert (event.input_tokens, event.total_seconds, event.load_seconds) == (12, 2.0, 0.5)

    @pytest.mark.parametrize("kind", [OllamaEmbeddingEvent, BaseEvent])
    def test_an_event_can_be_stored_and_loaded_with_every_field(self, kind):
        reply = {"model": "m", "total_duration": 2_000_000_000, "load_duration": 500_000_000, "prompt_eval_count": 12}
        event = to_embedding_event(3, reply, host="http://gpu:11434")
        back = kind.from_dict(json.loads(json.dumps(event.to_dict())))
        assert type(back) is OllamaEmbeddingEvent
        names = [field.name for field in fields(OllamaEmbeddingEvent)]
        assert [getattr(back, name) for name in names] == [getattr(event, name) for name in names]

    @pytest.mark.parametrize(
        "reply",
        [
            {},
            {"total_duration": "1s", "load_duration": None, "prompt_eval_count": "x"},
            {"total_duration": True, "load_duration": -1, "prompt_eval_count": True},
            {"total_duration": 10**400, "load_duration": math.inf, "prompt_eval_count": -1},
            {"total_duration": math.nan, "load_duration": [], "prompt_eval_count": 1.5},
        ],
    )
    def test_figures_that_are_missing_are_none(self, reply):
        event = to_embedding_event(1, reply, host="h")
        assert (event.model, event.input_tokens, event.total_seconds, event.load_seconds) == ("", None, None, None)
