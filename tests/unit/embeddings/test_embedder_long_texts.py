"""Texts that are longer than the model's window."""

import math

import pytest

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings.spec import BatchLimits
from griptape_ollama.errors import OllamaContextError, OllamaError, OllamaResponseError
from griptape_ollama.testing import Reply
from unit.embeddings.serving import MODEL, WINDOW, answer_with, inputs, refuse, vector

_TOO_LONG = {"status": 400, "error": "the input length exceeds the context length"}
_LONGEST = (WINDOW - 2) * 4
"""Characters that the simulator's model takes: four per token, and two tokens around them."""


def _words(characters):
    text = " ".join(f"word{number}" for number in range(characters // 5))[:characters]
    return text.strip() + "." * (characters - len(text.strip()))


def _mean(pieces, prefix=""):
    """The mean of the pieces' vectors, weighted by their length without the prefix, and scaled to length 1."""
    total = [0.0] * 64
    for piece in pieces:
        for place, value in enumerate(vector(piece)):
            total[place] += value * (len(piece) - len(prefix))
    length = math.sqrt(sum(value * value for value in total))
    return [pytest.approx(value / length, abs=1e-9) for value in total]


class TestChunk:
    def test_a_text_that_just_fits_is_sent_whole(self, simulator, embed):
        text = _words(_LONGEST)
        assert embed([Passage("", text)]) == [vector(text)]
        assert inputs(simulator) == [[text]]

    @pytest.mark.parametrize("window", [None, WINDOW], ids=["unknown window", "known window"])
    def test_a_long_text_has_the_weighted_mean_of_its_pieces(self, simulator, embed, window):
        text = _words(5 * _LONGEST)
        (found,) = embed([Passage("", text)], window=lambda _: window)
        pieces = [piece for texts in inputs(simulator) for piece in texts if len(piece) <= _LONGEST]
        assert " ".join(pieces) == text
        assert found == _mean(pieces)
        assert math.hypot(*found) == pytest.approx(1)

    def test_pieces_have_the_prefix_and_it_does_not_weigh(self, simulator, embed):
        (found,) = embed([Passage("query: ", _words(3000))], window=lambda _: WINDOW)
        pieces = [piece for texts in inputs(simulator) for piece in texts if len(piece) <= _LONGEST]
        assert all(piece.startswith("query: ") for piece in pieces)
        assert found == _mean(pieces, "query: ")

    def test_a_long_text_does_not_change_the_order_of_the_rest(self, embed):
        texts = ["a", _words(5000), "b", "", _words(9000), "c"]
        found = embed([Passage("", text) for text in texts], window=lambda _: WINDOW)
        alone = [embed([Passage("", text)], window=lambda _: WINDOW)[0] for text in texts]
        assert found == alone
        assert found[0] == vector("a")

    def test_texts_that_are_surely_too_long_are_not_sent_whole(self, simulator, embed):
        long = "a " * 600
        embed([Passage("", "short"), Passage("", long)], window=lambda _: WINDOW)
        assert inputs(simulator)[0] == ["short"]
        assert long not in [text for texts in inputs(simulator) for text in texts]

    def test_pieces_travel_in_batches(self, simulator, embed):
        embed([Passage("", "a " * 20_000)], window=lambda _: WINDOW, batches=BatchLimits(16, 200_000))
        assert all(len(texts) <= 16 for texts in inputs(simulator))
        assert len(inputs(simulator)) < 10

    def test_a_single_word_is_cut(self, simulator, embed):
        text = "x" * 10_000
        (found,) = embed([Passage("", text)], window=lambda _: WINDOW)
        assert isinstance(found, list)
        assert sum(len(piece) for piece in inputs(simulator)[-1]) <= len(text)

    @pytest.mark.parametrize("window", [None, WINDOW], ids=["unknown window", "known window"])
    @pytest.mark.parametrize("characters_per_token", [0.5, 1, 4])
    @pytest.mark.parametrize("words", [True, False], ids=["words", "no blanks"])
    def test_a_megabyte_takes_a_bounded_number_of_requests(self, simulator, embed, window, characters_per_token, words):
        longest = round(WINDOW * characters_per_token)

        def reply(request):
            texts = request.body["input"]
            fits = all(len(text) <= longest for text in texts)
            return Reply(body={"embeddings": [[1.0, 0.0]] * len(texts)}) if fits else Reply(**_TOO_LONG)

        answer_with(simulator, reply)
        text = _words(1_000_000) if words else "犬" * 1_000_000
        (found,) = embed([Passage("", text)], window=lambda _: window)
        assert isinstance(found, list)
        pieces = -(-len(text) // longest)
        assert len(inputs(simulator)) <= 2 * (pieces / 64) + 40

    def test_dense_passages_in_a_light_text_are_cut_smaller(self, simulator, embed):
        def tokens(text):
            return sum(1 if letter == "犬" else 0.25 for letter in text)

        refuse(simulator, lambda text: tokens(text) > WINDOW, **_TOO_LONG)
        text = f"{_words(20_000)} {'犬' * 3000} {_words(20_000)}"
        (found,) = embed([Passage("", text)], window=lambda _: WINDOW)
        assert isinstance(found, list)
        assert len(inputs(simulator)) < 20

    def test_a_tokenizer_counts_what_it_is_given(self, simulator, embed):
        def count(text):
            return -(-len(text) // 4) + 2

        text = _words(_LONGEST * 3)
        (found,) = embed([Passage("", text)], window=lambda _: WINDOW, count_tokens=count)
        assert isinstance(found, list)
        assert len(inputs(simulator)) <= 2
        assert text not in inputs(simulator)[0]

    def test_a_prefix_that_nearly_fills_the_window_leaves_pieces_that_are_worth_asking_for(self, simulator, embed):
        prefix = "word " * 390
        (found,) = embed([Passage(prefix, _words(4000))], window=lambda _: WINDOW)
        assert isinstance(found, list)
        assert all(len(text) > len(prefix) + 20 for texts in inputs(simulator) for text in texts)
        assert len(inputs(simulator)) < 10

    @pytest.mark.parametrize("window", [None, WINDOW], ids=["unknown window", "known window"])
    @pytest.mark.parametrize("characters", [20, 1000, 100_000])
    def test_a_prefix_that_is_longer_than_the_window_is_an_error_after_few_requests(
        self, simulator, embed, window, characters
    ):
        prefix = "word " * 1000
        (error,) = embed([Passage(prefix, _words(characters))], window=lambda _: window)
        assert type(error) is OllamaContextError
        assert len(inputs(simulator)) < 40

    def test_short_texts_that_are_refused_for_their_length_are_no_reason_to_cut_for_ever(self, simulator, embed):
        simulator.reply(path="/api/embed", times=None, **_TOO_LONG)
        outcomes = embed([Passage("", f"short {number}") for number in range(8)])
        assert [type(outcome) for outcome in outcomes] == [OllamaContextError] * 8
        assert len(inputs(simulator)) <= 15

    def test_a_piece_that_fails_is_the_failure_of_the_text(self, simulator, embed):
        refuse(simulator, lambda text: "word77." in text.replace(" ", "."), status=400, error="no")
        found, error, last = embed(
            [Passage("", "a"), Passage("", _words(5000)), Passage("", "b")], window=lambda _: WINDOW
        )
        assert (found, last) == (vector("a"), vector("b"))
        assert type(error) is OllamaResponseError
        assert f"The text is {_words(5000)[:60] + '...'!r}." in str(error)


class TestTruncate:
    def test_the_server_cuts(self, simulator, spec, embed):
        text = _words(5000)
        body = {**spec.body, "truncate": True}
        assert embed([Passage("", text)], on_long_text="truncate", body=body, window=lambda _: WINDOW) == [
            vector(text[:_LONGEST])
        ]
        assert inputs(simulator) == [[text]]

    def test_a_server_that_refuses_all_the_same_is_believed(self, simulator, spec, embed):
        refuse(simulator, lambda text: len(text) > 10, **_TOO_LONG)
        outcomes = embed([Passage("", "short"), Passage("", "x" * 11)], on_long_text="truncate", body={"model": MODEL})
        assert outcomes[0] == vector("short")
        assert type(outcomes[1]) is OllamaContextError


class TestError:
    def test_a_text_that_is_surely_too_long_is_not_sent(self, simulator, embed):
        found, error = embed(
            [Passage("", "short"), Passage("", "a " * 600)], on_long_text="error", window=lambda _: WINDOW
        )
        assert found == vector("short")
        assert type(error) is OllamaContextError
        assert (error.tokens_wanted, error.tokens_available) == (600, WINDOW)
        assert "has 600 tokens or more, and the window has 512" in str(error)
        assert "on_long_text='chunk'" in str(error)
        assert inputs(simulator) == [["short"]]

    def test_a_text_that_the_server_finds_too_long_has_its_error(self, simulator, embed):
        text = "x" * (_LONGEST + 1)
        (error,) = embed([Passage("", text)], on_long_text="error", window=lambda _: WINDOW)
        assert type(error) is OllamaContextError
        assert "exceeds the context length" in str(error)
        assert "on_long_text='chunk'" in str(error)
        assert len(inputs(simulator)) == 1


def test_the_window_is_read_only_if_a_text_may_be_too_long(embed):
    asked = []
    embed([Passage("", "x" * 128)], window=asked.append)
    assert asked == []
    embed([Passage("", "x" * 129)], window=asked.append)
    assert len(asked) == 1


def test_long_texts_that_all_fail_for_another_reason_raise_it(simulator, embed):
    answer_with(simulator, lambda _: Reply(status=500, error="no"))
    with pytest.raises(OllamaError, match="no"):
        embed([Passage("", "a " * 600)], window=lambda _: WINDOW)
    assert len(inputs(simulator)) < 5
