"""Texts to vectors: what a failure costs, and whom it concerns."""

import logging
import threading

import pytest

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings.embedder import Embedder
from griptape_ollama.embeddings.spec import BatchLimits
from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaContextError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaQuotaError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.testing import Reply
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.run import Run
from unit.embeddings.serving import answer_with, inputs, refuse, spoil, vector

_TEXTS = [f"text number {number}" for number in range(64)]
_EOF = "do embedding request: Post http://127.0.0.1:1/embedding: EOF"
_NAN = "failed to encode response: json: unsupported value: NaN"
# Refusals of a request because of one of its texts, with what the error says.
_REFUSALS = {
    "400": ({"status": 400, "error": "invalid character in input"}, OllamaResponseError, "invalid character"),
    "500": ({"status": 500, "error": "something went wrong"}, OllamaResponseError, "something went wrong"),
    "EOF": ({"status": 500, "error": _EOF}, OllamaResponseError, "EOF"),
    "NaN": ({"status": 500, "error": _NAN}, OllamaResponseError, "NaN"),
    "too few": ({"body": {"embeddings": []}}, OllamaStreamError, "0 vectors for 1 texts"),
    "no JSON": ({"body": b'{"embeddings": [[NaN,'}, OllamaStreamError, "not Ollama's"),
}
# Replies with something else than a vector for one of the texts.
_SPOILT = {
    "NaN": [float("nan")] * 64,
    "null": None,
    "nulls": [None] * 64,
    "empty": [],
    "zeros": [0.0] * 64,
    "size": [1.0, 0.0],
    "texts": ["1"] * 64,
}
_each_refusal = pytest.mark.parametrize("case", _REFUSALS.values(), ids=_REFUSALS)
_each_spoilt = pytest.mark.parametrize("wrong", _SPOILT.values(), ids=_SPOILT)


def _passages(texts=_TEXTS, prefix=""):
    return [Passage(prefix, text) for text in texts]


def _is_bad(text):
    return text == _TEXTS[37]


class TestOneRequest:
    def test_texts_travel_together_and_come_back_in_their_order(self, simulator, embed):
        assert embed(_passages()) == [vector(text) for text in _TEXTS]
        assert inputs(simulator) == [_TEXTS]

    def test_no_texts_send_nothing(self, simulator, embed):
        assert embed([]) == []
        assert simulator.requests == []

    def test_batches_keep_to_both_limits(self, simulator, embed):
        texts = ["a" * 10, "b" * 10, "c" * 5, "d" * 100, "e", "f", "g", "h"]
        assert embed(_passages(texts), batches=BatchLimits(texts=3, characters=20)) == [vector(text) for text in texts]
        assert inputs(simulator) == [texts[:2], texts[2:3], texts[3:4], texts[4:7], texts[7:]]

    def test_each_reply_is_told_of(self, embed):
        replies = []
        embed(_passages(["a", "b", "c"]), batches=BatchLimits(texts=2, characters=100), replied=replies.append)
        assert [(texts, sorted(reply)) for texts, reply in replies] == [
            (count, ["embeddings", "load_duration", "model", "prompt_eval_count", "total_duration"]) for count in (2, 1)
        ]

    def test_vectors_of_another_length_are_scaled_with_one_warning(self, simulator, embed, caplog, monkeypatch):
        simulator.reply(path="/api/embed", body={"embeddings": [[3.0, 4.0]]}, times=3)
        with caplog.at_level(logging.WARNING, "griptape_ollama"):
            for _ in range(3):
                assert embed(_passages(["a"])) == [[pytest.approx(0.6), pytest.approx(0.8)]]
        assert [record.getMessage() for record in caplog.records] == [
            "Vectors of model 'simulator-embed' had a length other than 1; they were scaled."
        ]

    def test_vectors_of_large_models_are_read_whole(self, simulator, embed):
        vectors = [[0.0123456789012345678] * 8192 for _ in range(64)]
        simulator.reply(path="/api/embed", body={"embeddings": vectors})
        assert [len(found) for found in embed(_passages())] == [8192] * 64


class TestOneBadText:
    @_each_refusal
    def test_it_is_found_in_a_bounded_number_of_requests_and_the_rest_get_their_vectors(self, simulator, embed, case):
        reply, kind, says = case
        refuse(simulator, _is_bad, **reply)
        outcomes = embed(_passages())
        error = outcomes.pop(37)
        assert outcomes == [vector(text) for text in _TEXTS if not _is_bad(text)]
        assert type(error) is kind
        assert says in str(error)
        assert str(error).endswith(f"The text is {_TEXTS[37]!r}.")
        # Seven that fail, from 64 texts to 1, and six other halves.
        assert len(inputs(simulator)) == 13
        assert len(inputs(simulator)[-1]) < 64

    @_each_spoilt
    def test_an_invalid_vector_is_requested_once_more_alone(self, simulator, embed, wrong):
        spoil(simulator, _is_bad, wrong=wrong)
        outcomes = embed(_passages())
        error = outcomes.pop(37)
        assert outcomes == [vector(text) for text in _TEXTS if not _is_bad(text)]
        assert type(error) is OllamaStreamError
        assert "gave no vector: its vector has" in str(error)
        assert str(error).endswith(f"The text is {_TEXTS[37]!r}.")
        assert (error.host, error.model) == (simulator.url, "simulator-embed")
        assert inputs(simulator) == [_TEXTS, [_TEXTS[37]]]

    def test_a_vector_that_is_valid_at_the_second_time_is_used(self, simulator, embed):
        answer_with(simulator, lambda request: Reply(body={"embeddings": [vector("text number 0"), None]}), times=1)
        assert embed(_passages(_TEXTS[:2])) == [vector(text) for text in _TEXTS[:2]]

    @pytest.mark.parametrize("place", [0, 1, 31, 32, 63])
    def test_its_place_hardly_matters(self, simulator, embed, place):
        refuse(simulator, lambda text: text == _TEXTS[place], status=500, error="no")
        outcomes = embed(_passages())
        assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, OllamaError)] == [place]
        # One more where nothing has succeeded before it is found: whether it is the text, or everything.
        assert len(inputs(simulator)) in (13, 14)

    def test_several_are_found_each_by_itself(self, simulator, embed):
        bad = {_TEXTS[place] for place in (3, 40, 41)}
        refuse(simulator, bad.__contains__, status=400, error="no")
        outcomes = embed(_passages())
        assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, OllamaError)] == [3, 40, 41]
        assert all(repr(_TEXTS[place]) in str(outcomes[place]) for place in (3, 40, 41))
        assert len(inputs(simulator)) < 3 * 13

    def test_only_the_first_characters_are_named(self, simulator, embed):
        refuse(simulator, lambda text: text.startswith("x"), status=400, error="no")
        _, error = embed(_passages(["a", "x" * 61]))
        assert str(error).endswith(f"The text is '{'x' * 60}...'.")

    def test_a_text_that_the_server_names_itself_is_not_named_twice(self, simulator, embed):
        refuse(simulator, lambda text: text == "xyz", status=400, error="cannot read 'xyz'")
        _, error = embed(_passages(["a", "xyz"]))
        assert str(error).count("xyz") == 1

    def test_the_cause_is_the_refusal_of_the_server(self, simulator, embed):
        refuse(simulator, lambda text: text == "b", status=400, error="no")
        _, error = embed(_passages("ab"))
        assert type(error.__cause__) is OllamaResponseError
        assert "The text is" not in str(error.__cause__)

    def test_a_request_that_is_too_large_for_a_proxy_is_halved(self, simulator, embed):
        answer_with(
            simulator,
            lambda request: Reply(status=413, body=b"<html>") if len(request.body["input"]) > 20 else None,
        )
        assert embed(_passages()) == [vector(text) for text in _TEXTS]
        assert [len(texts) for texts in inputs(simulator)] == [64, 32, 16, 16, 32, 16, 16]


class TestEverythingFails:
    @_each_refusal
    def test_it_takes_few_requests_and_the_error_is_the_servers(self, simulator, embed, case):
        reply, kind, says = case
        refuse(simulator, lambda _: True, **reply)
        with pytest.raises(kind, match=says) as failed:
            embed(_passages())
        assert "The text is" not in str(failed.value)
        assert [len(texts) for texts in inputs(simulator)] == [64, 32, 16, 8, 4, 2, 1, 1]
        assert inputs(simulator)[-1] == ["."]

    @_each_spoilt
    def test_vectors_that_are_none_for_all_texts_take_few_requests_too(self, simulator, embed, wrong):
        spoil(simulator, lambda _: True, wrong=wrong)
        if len(wrong or ()) == 2:
            assert embed(_passages()) == [wrong] * 64  # All of them have that size: so it is the model's.
            return
        with pytest.raises(OllamaStreamError, match="gave no vector: its vector has"):
            embed(_passages())
        assert [len(texts) for texts in inputs(simulator)] == [64, 1, 1]

    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (
                {"status": 404, "error": 'model "simulator-embed" not found, try pulling it first'},
                OllamaModelNotFoundError,
            ),
            ({"status": 401, "error": "unauthorized"}, OllamaAuthError),
            ({"status": 403, "body": b""}, OllamaAuthError),
            ({"status": 429, "error": "you have reached your weekly usage limit"}, OllamaQuotaError),
            ({"status": 503, "error": "server busy, please try again"}, OllamaBusyError),
            ({"status": 501, "error": "This server does not support embeddings"}, OllamaResponseError),
            ({"status": 500, "error": 'option "num_ctx" must be of type integer'}, OllamaResponseError),
            ({"status": 500, "error": "unable to load model: bad.gguf"}, OllamaResponseError),
        ],
        ids=["404", "401", "403", "quota", "503", "501", "option", "load"],
    )
    def test_an_error_that_is_not_about_texts_is_raised_at_once(self, simulator, embed, reply, kind):
        simulator.reply(path="/api/embed", times=None, **reply)
        with pytest.raises(kind) as failed:
            embed(_passages())
        assert "The text is" not in str(failed.value)
        assert len(inputs(simulator)) == 1

    def test_a_connection_that_breaks_is_not_about_a_text(self, simulator, embed):
        simulator.fault("reset", path="/api/embed", times=None)
        with pytest.raises(OllamaConnectionError):
            embed(_passages())
        assert len(inputs(simulator)) == 1

    def test_an_absent_server_is_not_about_a_text(self, simulator, embed):
        simulator.stop()
        with pytest.raises(OllamaConnectionError, match="ollama serve"):
            embed(_passages())

    def test_a_failure_in_the_midst_of_it_is_raised(self, simulator, embed):
        simulator.reply(path="/api/embed", status=500, error="no")
        simulator.reply(path="/api/embed", status=503, error="server busy")
        with pytest.raises(OllamaBusyError):
            embed(_passages())

    def test_vectors_of_another_size_than_asked_for_are_an_error_that_says_so(self, simulator, spec, embed):
        answer_with(simulator, lambda request: Reply(body={"embeddings": [[1.0, 0.0]] * len(request.body["input"])}))
        with pytest.raises(OllamaContentError, match="vectors of 2 numbers, not dimensions=32") as failed:
            embed(_passages(), body={**spec.body, "dimensions": 32})
        assert (failed.value.host, failed.value.model) == (simulator.url, "simulator-embed")
        assert len(inputs(simulator)) == 1


class TestRetries:
    @pytest.fixture
    def waits(self):
        """How long it was waited before other tries."""
        return []

    @pytest.fixture
    def patient(self, waits):
        """A policy of three tries, which notes its waits and does not wait."""
        policy = retry_policy(max_attempts=3, min_delay=0)
        return policy.copy(before_sleep=lambda state: waits.append(state.attempt_number))

    def test_a_single_text_is_tried_again_as_often_as_the_policy_says(self, simulator, embed, patient, waits):
        simulator.reply(path="/api/embed", status=500, error="no", times=2)
        assert embed(_passages(["a"]), policy=patient) == [vector("a")]
        assert waits == [1, 2]

    def test_a_single_text_that_fails_for_good_has_the_error_of_its_last_try(self, simulator, embed, patient, waits):
        simulator.reply(path="/api/embed", status=500, error="no", times=None)
        (error,) = embed(_passages(["a"]), policy=patient)
        assert "no" in str(error)
        assert inputs(simulator) == [["a"]] * 3

    def test_batches_are_halved_without_a_wait(self, simulator, embed, patient, waits):
        refuse(simulator, _is_bad, status=500, error="no")
        assert len(embed(_passages(), policy=patient)) == 64
        assert waits == []
        assert len(inputs(simulator)) == 13

    def test_batches_are_tried_again_where_it_is_not_about_a_text(self, simulator, embed, patient, waits):
        simulator.reply(path="/api/embed", status=503, error="server busy", times=2)
        assert embed(_passages(), policy=patient) == [vector(text) for text in _TEXTS]
        assert waits == [1, 2]
        assert [len(texts) for texts in inputs(simulator)] == [64] * 3

    def test_there_are_no_waits_if_everything_fails(self, simulator, embed, patient, waits):
        simulator.reply(path="/api/embed", status=500, error="no", times=None)
        with pytest.raises(OllamaResponseError):
            embed(_passages(), policy=patient)
        assert waits == []


class TestStopping:
    def test_a_cancelled_run_sends_no_more_requests(self, simulator, spec, gate):
        run = Run()
        failed = []

        def work():
            try:
                Embedder(spec, run, lambda _: None).embed(_passages())
            except OllamaCancelledError as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        gate.next()
        run.cancel()
        thread.join(30)
        assert len(failed) == 1
        simulator.wait_for_disconnect()
        assert len(inputs(simulator)) == 1


class TestContextErrors:
    @pytest.mark.parametrize(
        "refusal",
        [
            {"status": 400, "error": "the input length exceeds the context length"},
            {"status": 500, "error": "input (600 tokens) is too large to process. increase the physical batch size"},
        ],
        ids=["400", "500"],
    )
    def test_too_long_texts_are_found_among_the_longer_ones(self, simulator, embed, refusal):
        refuse(simulator, lambda text: len(text) > 400, **refusal)
        texts = [*_TEXTS[:63], "x" * 401]
        outcomes = embed(_passages(texts), on_long_text="error")
        assert type(outcomes[63]) is OllamaContextError
        assert outcomes[:63] == [vector(text) for text in texts[:63]]
        # The whole, three quarters, the last quarter, three quarters of that, and its longest four alone.
        assert len(inputs(simulator)) == 8
