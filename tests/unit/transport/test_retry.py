"""The retry table, row by row."""

import json
import logging

import pytest

from griptape_ollama.errors import (
    OllamaBusyError,
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaGatewayError,
    OllamaStreamError,
    OllamaTimeoutError,
)
from griptape_ollama.transport.response_errors import ErrorReply, to_response_error
from griptape_ollama.transport.retry import MAX_RETRY_AFTER, is_transient, retry_policy

# Texts of servers 0.1 to 0.40: of a file that no try makes better, of memory that lacks, and of a process that died.
NEVER_LOADS = (
    "llama-server process has terminated: exit status 1: error loading model: check_tensor_dims: tensor 'x' not found",
    "llama runner process has terminated: error loading model vocabulary: cannot find tokenizer merges in model file",
    "llama runner process has terminated: this model is not supported by your version of Ollama.",
    "exit status 1: error loading model: unknown model architecture: 'qwen9'",
    "unable to load model: /usr/share/ollama/.ollama/models/blobs/sha256-0",
    "unsupported model format: this model may be incompatible with your version of Ollama. Try updating it",
    "invalid file magic",
    'tensor "blk.0.attn_k.weight" offset+size (4096) exceeds file size (1024)',
    'read mmproj metadata "/models/blobs/sha256-0": no projector tensors found',
    "llama-server binary not found (checked: /usr/lib/ollama)",
    "this model requires MLX support, but the MLX runtime is not available",
    "model requires more system memory (44.0 GiB) than is available (7.6 GiB)",
    "model requires 44 GiB but only 7 GiB are available (after 1 GiB overhead)",
    "llama-server process has terminated: exit status 1: error loading model: unable to allocate CPU buffer",
)
CRASHED = (
    "llama runner process has terminated: exit status 2",
    "llama-server process has terminated: signal: killed",
    "llama runner process no longer running: -1 ",
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error",
    "timed out waiting for llama-server to start - ",
    'do load request: Post "http://127.0.0.1:40933/load": EOF',
    "CUDA error: an illegal memory access was encountered",
)


def _refusal(status, text, **headers):
    return to_response_error(ErrorReply(status, text, headers, "POST", "/api/chat", "http://gpu-box:11434", "qwen3"))


@pytest.mark.parametrize(
    "error",
    [
        OllamaConnectionError("reset"),
        _refusal(502, "bad gateway"),
        _refusal(503, '{"error":"server busy, please try again.  maximum pending requests exceeded"}'),
        _refusal(504, ""),
        _refusal(429, '{"error":"too many concurrent requests"}'),
        _refusal(500, '{"error":"error parsing tool call: raw=..."}'),
        _refusal(500, '{"error":"an error was encountered while running the model: unexpected EOF"}'),
        _refusal(None, '{"error":"an error was encountered while running the model: unexpected EOF"}'),
        _refusal(507, "something new"),
        *(_refusal(500, json.dumps({"error": text})) for text in CRASHED),
        OllamaStreamError("load", retryable=True),
    ],
    ids=str,
)
def test_what_passes_is_tried_again(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        OllamaConnectionError("refused", refused=True),
        _refusal(400, '{"error":"bad"}'),
        _refusal(401, '{"error":"unauthorized"}'),
        _refusal(403, ""),
        _refusal(404, '{"error":"model \'qwen3\' not found"}'),
        _refusal(405, "405 method not allowed"),
        _refusal(501, '{"error":"This server does not support embeddings."}'),
        _refusal(429, '{"error":"you have reached your hourly usage limit"}'),
        _refusal(500, '{"error":"option \\"num_predict\\" must be of type integer"}'),
        *(_refusal(500, json.dumps({"error": text})) for text in NEVER_LOADS),
        OllamaStreamError("cut"),
        OllamaTimeoutError("slow"),
        OllamaCancelledError("stopped"),
        OllamaContentError("wrong"),
        ValueError("a bug"),
    ],
    ids=str,
)
def test_what_would_happen_again_is_not(error):
    assert not is_transient(error)


def test_a_server_that_asks_for_a_long_wait_gets_no_second_try():
    assert is_transient(_refusal(503, "busy", **{"retry-after": str(MAX_RETRY_AFTER)}))
    assert not is_transient(_refusal(503, "busy", **{"retry-after": str(MAX_RETRY_AFTER + 1)}))


class _Failing:
    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def _waits(policy, work):
    waits = []
    policy.copy(sleep=waits.append)(work)
    return waits


def test_waits_double_and_are_never_longer_than_the_longest():
    work = _Failing(*[OllamaConnectionError("reset")] * 8)
    waits = _waits(retry_policy(max_attempts=9, min_delay=1, max_delay=4), work)
    assert len(waits) == 8
    assert all(0 <= wait <= limit for wait, limit in zip(waits, [1, 2, 4, 4, 4, 4, 4, 4], strict=True))


def test_waits_are_spread_over_the_whole_range():
    work = _Failing(*[OllamaConnectionError("reset")] * 200)
    waits = _waits(retry_policy(max_attempts=201, min_delay=1, max_delay=1), work)
    assert min(waits) < 0.2
    assert max(waits) > 0.8


def test_retry_after_is_the_shortest_wait_and_jitter_spreads_clients_with_the_same_value():
    waits = []
    for _ in range(200):
        waits += _waits(retry_policy(min_delay=2), _Failing(_refusal(503, "busy", **{"retry-after": "7"})))
    assert 7 <= min(waits) < 7.2
    assert 8.8 < max(waits) <= 9


def test_retry_after_without_a_delay_of_ones_own_is_exact():
    assert _waits(retry_policy(min_delay=0), _Failing(_refusal(503, "busy", **{"retry-after": "7"}))) == [7]


def test_a_delay_of_nothing_is_no_wait():
    work = _Failing(OllamaConnectionError("reset"))
    assert _waits(retry_policy(min_delay=0, max_delay=0), work) == [0]


def test_the_last_failure_is_raised_as_it_was():
    errors = [OllamaConnectionError("first"), OllamaConnectionError("second")]
    work = _Failing(*errors)
    with pytest.raises(OllamaConnectionError, match="second"):
        retry_policy(max_attempts=2, min_delay=0, max_delay=0)(work)
    assert work.calls == 2


def test_ignored_types_are_not_tried_again():
    work = _Failing(OllamaConnectionError("reset"))
    with pytest.raises(OllamaConnectionError):
        retry_policy(max_attempts=5, min_delay=0, ignored=(OllamaConnectionError,))(work)
    assert work.calls == 1


def test_each_retry_is_one_line_in_the_log(caplog):
    with caplog.at_level(logging.WARNING, "griptape_ollama"):
        _waits(
            retry_policy(max_attempts=3), _Failing(OllamaConnectionError("It broke."), OllamaConnectionError("Again."))
        )
    assert [record.message.split(" Trying")[0] for record in caplog.records] == [
        "Attempt 1 failed: It broke.",
        "Attempt 2 failed: Again.",
    ]


def test_a_failure_that_comes_again_is_quoted_once(caplog):
    message = "unable to reach the runner " * 20
    with caplog.at_level(logging.WARNING, "griptape_ollama"):
        _waits(retry_policy(max_attempts=5), _Failing(*[OllamaConnectionError(message)] * 4))
    assert caplog.text.count(message.strip()) == 1
    assert [record.message.split(" Trying")[0] for record in caplog.records][1:] == [
        f"Attempt {number} failed in the same way." for number in (2, 3, 4)
    ]


class TestGateway:
    """A gateway that answers in place of the server: a server that is not there, where it is waited for."""

    PAGE = "<html><head><title>502 Bad Gateway</title></head></html>"

    @pytest.mark.parametrize("status", [502, 503, 504, 520, 522, 524, 530])
    def test_it_is_waited_for_and_uses_up_no_try(self, status):
        work = _Failing(*[_refusal(status, self.PAGE)] * 9)
        waits = _waits(retry_policy(max_attempts=2, min_delay=0, wait_for_server=60), work)
        assert waits == [0.5] * 9

    def test_without_waiting_it_is_tried_as_often_as_any_failure_that_passes(self):
        work = _Failing(*[_refusal(502, self.PAGE)] * 3)
        with pytest.raises(OllamaGatewayError):
            _waits(retry_policy(max_attempts=3, min_delay=0), work)
        assert work.calls == 3

    def test_a_gateway_that_takes_longer_than_the_wait_is_still_tried_again(self, monkeypatch):
        now = [1000.0]
        monkeypatch.setattr("tenacity.time.monotonic", lambda: now[0])
        tries = []

        def work():
            tries.append(now[0])
            now[0] += 60
            raise _refusal(504, self.PAGE)

        with pytest.raises(OllamaGatewayError):
            _waits(retry_policy(max_attempts=2, min_delay=0, wait_for_server=20), work)
        assert len(tries) == 2

    def test_its_retry_after_is_kept_to(self):
        work = _Failing(_refusal(503, self.PAGE, **{"retry-after": "3"}))
        assert _waits(retry_policy(wait_for_server=60), work) == [3.5]
        work = _Failing(_refusal(503, self.PAGE, **{"retry-after": "3600"}))
        with pytest.raises(OllamaGatewayError):
            _waits(retry_policy(wait_for_server=60), work)
        assert work.calls == 1

    def test_a_busy_server_is_there(self):
        work = _Failing(*[_refusal(503, '{"error":"server busy"}')] * 3)
        with pytest.raises(OllamaBusyError):
            _waits(retry_policy(max_attempts=2, min_delay=0, wait_for_server=60), work)
        assert work.calls == 2


class TestProgress:
    """Tries that count from the last that got on."""

    @staticmethod
    def _run(moves, *, error=None, **settings):
        """Try until the policy gives up; each entry of `moves` is what a try moves before it fails. Give the tries."""
        moved, tries = [0], []

        def attempt():
            move = moves[len(tries)] if len(tries) < len(moves) else 0
            tries.append(move)
            moved[0] += move
            raise error or OllamaStreamError("broke", retryable=True)

        policy = retry_policy(min_delay=0, progress=lambda: moved[0], **settings).copy(sleep=lambda _: None)
        with pytest.raises((OllamaStreamError, OllamaConnectionError)):
            policy(attempt)
        return tries

    def test_without_progress_tries_are_counted_from_the_first(self):
        assert self._run([], max_attempts=3) == [0, 0, 0]

    def test_a_try_that_got_on_starts_the_count_anew(self):
        assert self._run([5, 0, 5, 5, 0], max_attempts=3) == [5, 0, 5, 5, 0, 0]

    def test_it_goes_on_for_as_long_as_every_try_gets_on(self):
        assert len(self._run([1] * 50, max_attempts=2)) == 51

    def test_who_wants_one_try_gets_one(self):
        assert self._run([5], max_attempts=1) == [5]

    def test_waits_are_short_again_after_progress(self, monkeypatch):
        monkeypatch.setattr("griptape_ollama.transport.retry.random.uniform", lambda _, longest: longest)
        moved, waits, tries = [0], [], [0, 0, 0, 7, 0]

        def attempt():
            moved[0] += tries.pop(0)
            raise OllamaStreamError("broke", retryable=True)

        policy = retry_policy(min_delay=1, max_delay=60, max_attempts=4, progress=lambda: moved[0])
        with pytest.raises((OllamaStreamError, IndexError)):
            policy.copy(sleep=waits.append)(attempt)
        assert waits == [1, 2, 4, 1, 2]

    def test_a_server_that_is_gone_is_waited_for_from_the_last_progress(self, monkeypatch):
        now = [1000.0]
        monkeypatch.setattr("griptape_ollama.transport.retry.time.monotonic", lambda: now[0])
        moved, tries = [0], []

        def attempt():
            tries.append(now[0])
            now[0] += 0.5
            if len(tries) == 1:
                now[0] += 3600
                moved[0] += 1
                raise OllamaStreamError("broke", retryable=True)
            raise OllamaConnectionError("refused", refused=True)

        policy = retry_policy(min_delay=0, wait_for_server=2, progress=lambda: moved[0]).copy(sleep=lambda _: None)
        with pytest.raises(OllamaConnectionError):
            policy(attempt)
        assert tries[-1] - tries[1] == 1.5


def test_waiting_for_a_server_uses_up_no_try():
    failures = [OllamaConnectionError("nobody", refused=True)] * 5 + [OllamaConnectionError("reset")]

    def work():
        if failures:
            raise failures.pop(0)
        return "done"

    policy = retry_policy(max_attempts=2, min_delay=0, wait_for_server=60).copy(sleep=lambda _: None)
    assert policy(work) == "done"
    failures.extend([OllamaConnectionError("reset")] * 2)
    with pytest.raises(OllamaConnectionError, match="reset"):
        policy(work)
