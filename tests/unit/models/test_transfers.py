"""Pulls: progress, retries, resuming, verifying, cancelling."""

import itertools
import socket
import threading

import pytest
from griptape.events import EventBus, EventListener

from griptape_ollama import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaDiskError,
    OllamaModelNotFoundError,
    OllamaProgressEvent,
    OllamaResponseError,
    OllamaStreamError,
    OllamaTimeout,
    OllamaTimeoutError,
)
from griptape_ollama.models.transfers import BETWEEN_LINES, transfer_limits
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

MB = 1_000_000
BIG = SimulatedModel(name="big:8b", size=100 * MB, pull_bytes_per_second=10 * MB)
HERE = SimulatedModel(name="here")


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[HERE], library=[BIG, HERE], time_scale=2000) as simulator:
        yield simulator


def _never_falls(numbers):
    return all(one <= other for one, other in itertools.pairwise(numbers))


class TestProgress:
    def test_a_pull_reports_progress_and_its_result(self, simulator, models):
        seen = []
        result = models.pull("big:8b", on_progress=seen.append)
        assert "big:8b" in simulator.models
        assert (result.action, result.model.name, result.model.size) == ("pull", "big:8b", 100 * MB)
        assert (result.digest_before, result.attempts, result.is_unchanged) == (None, 1, False)
        assert 100 * MB <= result.bytes_moved < 100 * MB + 10_000
        assert [seen[0].status, *(each.status for each in seen[-3:])] == [
            "pulling manifest", "verifying sha256 digest", "writing manifest", "success",
        ]  # fmt: skip
        assert _never_falls([each.completed for each in seen])
        assert _never_falls([each.total for each in seen])
        assert (seen[0].total, seen[0].share) == (0, None)
        assert seen[-1].completed == seen[-1].total >= 100 * MB
        assert seen[-1].share == 1.0
        assert {(each.action, each.model, each.host) for each in seen} == {("pull", "big:8b", simulator.host)}
        assert any(0 < each.completed < each.total and each.digest for each in seen)

    def test_the_same_is_published_as_events(self, simulator, models):
        seen, events = [], []
        EventBus.add_event_listener(EventListener(events.append, event_types=[OllamaProgressEvent]))
        models.pull("big:8b", on_progress=seen.append)
        assert seen == events
        last = events[-1]
        assert (last.action, last.model, last.host, last.status) == ("pull", "big:8b", simulator.host, "success")

    def test_a_bar_is_shown_where_it_is_asked_for(self, models, capsys):
        models.pull("here")
        assert capsys.readouterr() == ("", "")
        models.pull("big:8b", progress=True)
        out, err = capsys.readouterr()
        assert out == ""
        assert "pull big:8b" in err
        assert "success" in err

    def test_an_error_of_a_listener_is_raised_and_stops_the_pull(self, simulator, models):
        def fail(_):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            models.pull("big:8b", on_progress=fail)
        assert "big:8b" not in simulator.models


class TestTwice:
    def test_what_is_there_is_not_moved_again(self, models):
        models.pull("big:8b")
        again = models.pull("big:8b")
        assert (again.bytes_moved, again.attempts, again.is_unchanged) == (0, 1, True)

    def test_a_newer_version_replaces_the_old_one(self, manage):
        new = SimulatedModel(name="here", size=2 * MB, pull_bytes_per_second=100 * MB)
        with OllamaSimulator(models=[HERE], library=[new]) as simulator:
            result = manage(simulator).pull("here")
        assert result.digest_before is not None
        assert not result.is_unchanged
        assert result.model.size == 2 * MB

    def test_any_spelling_of_the_name_will_do(self, models):
        assert models.pull("BIG:8b").model.digest == models.pull("big:8b").model.digest


class TestTries:
    @pytest.mark.parametrize(
        ("kind", "details"),
        [
            ("cut", {"after": 40}),
            ("cut", {"after": 40, "mid_line": True}),
            ("reset", {"after": 40}),
            ("no_done", {"after": 40}),
            ("garbage", {"after": 40}),
            ("error_line", {"after": 40, "error": "max retries exceeded: EOF"}),
            ("error_line", {"after": 40, "error": 'Get "https://r2/x?X-Sig=abc": net/http: TLS handshake timeout'}),
            ("error_line", {"after": 40, "error": "read tcp 10.0.0.1: read: connection reset by peer"}),
            ("error_line", {"after": 40, "error": "digest mismatch, file must be downloaded again: want a, got b"}),
            ("error_line", {"after": 40, "error": "an unknown failure"}),
        ],
    )
    def test_a_broken_pull_resumes(self, simulator, models, count, kind, details):
        simulator.fault(kind, path="/api/pull", **details)
        seen = []
        result = models.pull("big:8b", on_progress=seen.append)
        assert result.attempts == count(simulator, "/api/pull") == 2
        completed = [each.completed for each in seen]
        assert _never_falls(completed)
        assert result.bytes_moved < 100 * MB + 10_000
        # Had it begun again, the steps of 0.6 MB would have been taken twice.
        assert len({number for number in completed if number}) < 180

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_a_server_error_is_tried_again(self, simulator, models, status):
        simulator.fault("status", path="/api/pull", status=status, error="not now")
        assert models.pull("big:8b").attempts == 2

    def test_tries_count_from_the_last_that_moved_bytes(self, simulator, manage):
        simulator.fault("cut", path="/api/pull", after=20, times=6)
        assert manage(simulator, max_attempts=2).pull("big:8b").attempts == 7

    def test_without_progress_tries_end(self, simulator, manage):
        simulator.fault("cut", path="/api/pull", after=1, times=None)
        with pytest.raises(OllamaStreamError, match=r"The pull of model 'big:8b' by Ollama at .* broke off") as caught:
            manage(simulator, max_attempts=3).pull("big:8b")
        assert len(simulator.requests) == 1 + 3
        assert (caught.value.model, caught.value.host) == ("big:8b", simulator.host)

    def test_after_some_bytes_the_error_says_that_they_stay(self, simulator, manage):
        simulator.fault("error_line", path="/api/pull", after=50, error="max retries exceeded: unexpected EOF")
        with pytest.raises(OllamaResponseError) as caught:
            manage(simulator, max_attempts=1).pull("big:8b")
        assert (
            "failed: max retries exceeded: unexpected EOF. 28.8 MB of 100 MB were there: another pull goes on"
            in str(caught.value)
        )
        assert caught.value.server_message == "max retries exceeded: unexpected EOF"

    def test_a_signed_address_is_not_quoted(self, simulator, manage):
        error = 'max retries exceeded: Get "https://r2.example/x?X-Amz-Signature=hunter2": EOF'
        simulator.fault("error_line", path="/api/pull", after=5, error=error)
        with pytest.raises(OllamaResponseError, match=r"https://r2\.example/x\?\.\.\.") as caught:
            manage(simulator, max_attempts=1).pull("big:8b")
        assert "hunter2" not in f"{caught.value} {caught.value.server_message}"

    def test_a_server_that_dies_is_an_error_and_what_was_there_stays(self, simulator, models):
        def kill(progress):
            if progress.completed > 20 * MB:
                simulator.close()

        with pytest.raises(OllamaConnectionError, match=r"No Ollama server answers .* MB of 100 MB were there"):
            models.pull("big:8b", on_progress=kill)
        assert simulator.models == ["here:latest"]

    def test_a_server_that_comes_back_is_waited_for_where_that_is_wanted(self, free_port, manage):
        simulator = OllamaSimulator(models=[], library=[BIG], time_scale=2000, port=free_port).start()
        died, comeback = threading.Event(), threading.Timer(0.2, simulator.start)

        def kill(progress):
            if progress.completed > 20 * MB and not died.is_set():
                died.set()
                simulator.close()
                comeback.start()

        try:
            result = manage(simulator, wait_for_server=30).pull("big:8b", on_progress=kill)
        finally:
            comeback.join()
            simulator.close()
        assert died.is_set()
        assert result.bytes_moved < 100 * MB + 10_000


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "meaning"),
        [
            ("pull model manifest: file does not exist", (OllamaModelNotFoundError, "The name may be wrong")),
            ("pull model manifest: 404: manifest unknown", (OllamaModelNotFoundError, "The name may be wrong")),
            ("write /models/blobs/x-partial: no space left on device", (OllamaDiskError, "The server's disk is full")),
            ("There is not enough space on the disk.", (OllamaDiskError, "The server's disk is full")),
            ("pull model manifest: 412: requires a newer version of Ollama", (OllamaResponseError, "Update Ollama")),
            ("pull model manifest: 401: unauthorized", (OllamaAuthError, "sign in")),
            ("open /models/blobs/x: permission denied", (OllamaResponseError, "cannot write into its folder")),
            ("tls: first record does not look like a TLS handshake", (OllamaResponseError, "pass insecure=True")),
            ("tls: failed to verify certificate: x509: unknown authority", (OllamaResponseError, "does not trust")),
        ],
    )
    def test_what_cannot_succeed_fails_at_once_and_says_what_to_do(self, simulator, models, count, error, meaning):
        kind, advice = meaning
        simulator.fault("error_line", path="/api/pull", after=1, error=error)
        with pytest.raises(kind, match=advice) as caught:
            models.pull("big:8b")
        assert type(caught.value) is kind
        assert count(simulator, "/api/pull") == 1
        assert "The pull of model 'big:8b' by Ollama at http://127.0.0.1" in str(caught.value)
        assert simulator.models == ["here:latest"]

    def test_a_model_that_the_registry_does_not_have(self, models, count, simulator):
        with pytest.raises(OllamaModelNotFoundError, match=r"see https://ollama.com/library"):
            models.pull("no-such-model")
        assert count(simulator, "/api/pull") == 1

    def test_an_error_before_the_first_line_means_the_same(self, simulator, models):
        simulator.fault("status", path="/api/pull", status=500, error="pull model manifest: file does not exist")
        with pytest.raises(OllamaModelNotFoundError) as caught:
            models.pull("big:8b")
        assert caught.value.status == 500

    def test_a_busy_server_has_its_own_error(self, simulator, manage):
        simulator.fault("status", path="/api/pull", status=503, times=None)
        with pytest.raises(OllamaBusyError):
            manage(simulator, max_attempts=2).pull("big:8b")

    def test_a_registry_that_cannot_be_reached_is_tried_and_then_an_error(self, manage, count):
        with OllamaSimulator(library=None) as simulator:
            with pytest.raises(OllamaResponseError, match=r"no such host.*HTTPS_PROXY"):
                manage(simulator, max_attempts=3).pull("big:8b")
            assert count(simulator, "/api/pull") == 3

    def test_a_registry_without_tls_needs_insecure(self, manage):
        local = SimulatedModel(name="localhost:5000/me/mine")
        with OllamaSimulator(library=[local]) as simulator:
            with pytest.raises(OllamaResponseError, match="pass insecure=True"):
                manage(simulator).pull("localhost:5000/me/mine")
            assert manage(simulator).pull("localhost:5000/me/mine", insecure=True).model.name == (
                "localhost:5000/me/mine:latest"
            )

    @pytest.mark.parametrize("name", ["", "a b", "a/b/c/d", "x:", None, 7])
    def test_a_name_that_is_none_is_refused_before_anything_is_sent(self, simulator, models, name):
        with pytest.raises(OllamaContentError, match="name"):
            models.pull(name)
        assert simulator.requests == []

    def test_a_success_that_left_nothing_behind_is_an_error(self, simulator, models):
        simulator.reply(path="/api/pull", lines=[{"status": "success"}])
        with pytest.raises(OllamaStreamError, match="is done, but does not list it"):
            models.pull("big:8b")

    def test_another_kind_of_server_is_named_at_once(self, simulator, models, count):
        simulator.reply(path="/api/pull", body="<html>hello</html>")
        with pytest.raises(OllamaStreamError, match="Is it an Ollama server"):
            models.pull("big:8b")
        assert count(simulator, "/api/pull") == 1


class TestLimits:
    def test_a_pull_may_be_silent_for_longer_than_a_reply(self):
        assert transfer_limits(OllamaTimeout()).between_tokens == BETWEEN_LINES == 600
        assert transfer_limits(OllamaTimeout(total=5)).between_tokens == BETWEEN_LINES

    @pytest.mark.parametrize("seconds", [5, 3600, None])
    def test_a_limit_that_is_set_is_used(self, seconds):
        assert transfer_limits(OllamaTimeout(between_tokens=seconds)).between_tokens == seconds

    def test_silence_beyond_the_limit_is_an_error(self, manage):
        with OllamaSimulator(library=[BIG], time_scale=0) as simulator:
            with pytest.raises(OllamaTimeoutError, match=r"sent no line for 0\.1 s") as caught:
                manage(simulator, timeout=OllamaTimeout(between_tokens=0.1)).pull("big:8b")
            assert caught.value.limit == "between_tokens"

    def test_the_total_limit_ends_the_wait_and_the_pull(self, manage):
        with OllamaSimulator(library=[BIG], time_scale=0) as simulator:
            with pytest.raises(OllamaTimeoutError, match=r"The pull of .* took longer than 0\.2 s in all"):
                manage(simulator, timeout=0.2).pull("big:8b")
            assert simulator.wait_for_disconnect()


class TestCancelling:
    def test_cancelling_stops_the_caller_and_the_server(self, manage, in_background):
        with OllamaSimulator(library=[BIG], time_scale=0) as simulator:
            models = manage(simulator)
            pulling = in_background(models.pull, "big:8b")
            simulator.wait_for_sleeper()
            models.cancel()
            with pytest.raises(OllamaCancelledError, match=r"The pull of model 'big:8b' .* was cancelled") as caught:
                pulling.result(5)
            assert simulator.wait_for_disconnect()
            assert (caught.value.model, caught.value.host) == ("big:8b", simulator.host)

    def test_a_wait_for_another_try_is_cancelled_too(self, simulator, manage, in_background, caplog):
        waits = threading.Event()
        models = manage(simulator, min_retry_delay=600, max_retry_delay=600, after_hook=lambda _: waits.set())
        simulator.fault("cut", path="/api/pull", after=1, times=None)
        pulling = in_background(models.pull, "big:8b")
        assert waits.wait(5)
        models.cancel()
        with pytest.raises(OllamaCancelledError):
            pulling.result(5)

    def test_a_listener_may_cancel(self, simulator, models):
        def stop(progress):
            if progress.completed > 10 * MB:
                models.cancel()

        with pytest.raises(OllamaCancelledError):
            models.pull("big:8b", on_progress=stop)
        assert "big:8b" not in simulator.models

    def test_a_pull_resumes_where_a_cancelled_one_stopped(self, simulator, models):
        def stop(progress):
            if progress.completed > 50 * MB:
                models.cancel()

        with pytest.raises(OllamaCancelledError):
            models.pull("big:8b", on_progress=stop)
        assert models.pull("big:8b").bytes_moved < 50 * MB


@pytest.fixture
def free_port():
    """A port that a server of the test can have, unless another program takes it before."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
