"""The window that requests ask for: enough, and with as few loads as can be. Requests are made, loads are counted."""

import itertools
import logging
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest

from griptape_ollama.context import window as window_module
from griptape_ollama.context.window import WindowPlanner
from griptape_ollama.context.window_state import ARRIVAL_SECONDS, WindowState, window_registry
from griptape_ollama.errors import OllamaCancelledError
from griptape_ollama.models import circuit_breaker, metadata_cache
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.models.model_metadata import ModelMetadata
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout

_http = httpx.Client(verify=False, trust_env=False, timeout=30)  # noqa: S501 # there is no TLS on loopback

# Loading takes so long that a reply shows whether there was any.
_LOAD_SECONDS = 0.1


def _model(name="roomy", **settings):
    return SimulatedModel(**{"name": name, "context_length": 131_072, "load_seconds": _LOAD_SECONDS, **settings})


_MODELS = (
    _model(),
    _model("other", family="qwen3"),
    _model("narrow", context_length=10_000),
    _model("tiny", context_length=2048),
    _model("baked", parameters={"num_ctx": 16_384}),
    _model("twin", parameters={"num_ctx": 8192}, weights="roomy:latest"),
    _model("seeing", capabilities=("completion", "vision")),
)


class User:
    """Sends requests to a model as a driver does."""

    def __init__(self, url, model="roomy", *, num_ctx="auto", max_num_ctx=None, limits=None):
        self.url, self.model = url, model
        self.wish = {"num_ctx": num_ctx, "max_num_ctx": max_num_ctx}
        self.run = Run(limits)
        self.metadata = ServerMetadata(Connection.open(url), self.run)
        self.loads = 0

    @property
    def known(self):
        return self.metadata.show(self.model)

    @property
    def planner(self):
        return WindowPlanner(self.metadata, self.model, self.known, **self.wish)

    @property
    def ceiling(self):
        return self.planner.ceiling()

    def decide(self, needed, **more):
        planner = self.planner
        planner.refresh()
        return planner.commit(needed, **more)

    def fail(self, window, **more):
        self.planner.record_failure(window, **more)

    def ask(self, needed, *, keep_alive=None):
        """Decide, ask, and learn from the reply; return the window."""
        window = self.decide(needed)
        self.send(window, needed, keep_alive=keep_alive)
        return window

    def send(self, window, needed, *, keep_alive=None):
        reply = chat(self.url, self.model, window.num_ctx, tokens=needed - 10, keep_alive=keep_alive)
        self.loads += reply["load_duration"] >= _LOAD_SECONDS * 1e9
        self.planner.record_reply(window, prompt_tokens=reply["prompt_eval_count"])
        return reply


def chat(url, model, num_ctx=None, *, tokens=1, keep_alive=None):
    """Send a request without this package."""
    body = {"model": model, "stream": False, "messages": [{"role": "user", "content": "word" * tokens}]}
    if num_ctx is not None:
        body["options"] = {"num_ctx": num_ctx}
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    response = _http.post(f"{url}/api/chat", json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module", autouse=True)
def _client_that_is_closed():
    yield
    _http.close()


@pytest.fixture
def simulator():
    with OllamaSimulator(models=_MODELS) as simulator:
        yield simulator


@pytest.fixture
def user(simulator):
    return User(simulator.url)


@pytest.fixture
def waiting(monkeypatch):
    """A queue that gets an item whenever a request begins to wait for earlier ones."""
    begun = queue.SimpleQueue()
    start_waiting = WindowState.start_waiting

    def recorded(self, needed):
        answered = start_waiting(self, needed)
        begun.put(True)
        return answered

    monkeypatch.setattr(WindowState, "start_waiting", recorded)
    return begun


@pytest.fixture
def no_ps(simulator):
    """Makes `/api/ps` fail."""
    simulator.reply(path="/api/ps", status=404, body={"error": "404 page not found"}, times=None)


@pytest.fixture
def clock(monkeypatch):
    """A clock that skips time for metadata and windows."""
    clock = SimpleNamespace(added=0.0)

    def skip(seconds):
        clock.added += seconds

    clock.skip = skip
    late = SimpleNamespace(monotonic=lambda: time.monotonic() + clock.added)
    for module in (metadata_cache, circuit_breaker, window_module):
        monkeypatch.setattr(module, "time", late)
    return clock


@pytest.fixture
def log(caplog):
    """What was logged of windows, as (level, text)."""
    caplog.set_level(logging.DEBUG, logger="griptape_ollama.context")

    def lines(level):
        return [each.getMessage() for each in caplog.records if each.levelno == level and "context" in each.name]

    return lines


def _window_on_server(simulator, model="roomy"):
    listed = _http.get(f"{simulator.url}/api/ps").json()["models"]
    return next((each["context_length"] for each in listed if each["name"] == f"{model}:latest"), None)


def _count(simulator, path):
    return sum(request.path == path for request in simulator.requests)


class TestPromptsThatFit:
    def test_nothing_is_sent_while_it_fits_the_default(self, simulator, user):
        windows = [user.ask(needed) for needed in (100, 3000, 4096)]
        assert [(each.num_ctx, each.tokens, each.grown_from) for each in windows] == [(None, 4096, None)] * 3
        assert user.loads == 1

    def test_a_window_that_was_only_assumed_says_so(self, user):
        assert not user.ask(100).is_known
        assert user.ask(100).is_known

    def test_what_a_model_was_made_for_holds_for_the_assumed_window_too(self, simulator):
        window = User(simulator.url, "tiny").ask(1000)
        assert (window.num_ctx, window.tokens, window.ceiling) == (None, 2048, 2048)

    def test_a_model_that_another_program_loaded_keeps_its_window(self, simulator, user):
        chat(simulator.url, "roomy", 8192)
        windows = [user.ask(needed) for needed in (100, 6000, 8192)]
        assert [each.num_ctx for each in windows] == [8192] * 3
        assert all(each.is_known for each in windows)
        assert user.loads == 0

    def test_a_smaller_window_of_another_program_is_kept_while_it_is_enough(self, simulator, user):
        chat(simulator.url, "roomy", 2048)
        assert user.ask(1500).num_ctx == 2048
        assert user.loads == 0
        assert user.ask(2500).grown_from == 2048

    def test_a_model_that_shares_its_weights_is_the_same_model(self, simulator):
        twin = User(simulator.url, "twin", num_ctx="auto")
        chat(simulator.url, "roomy", 12_288)
        assert twin.ask(9000).num_ctx == 12_288
        assert twin.loads == 0

    def test_a_model_that_shares_its_weights_shares_what_is_remembered(self, simulator, user):
        user.decide(20_000)
        assert User(simulator.url, "twin").decide(100).num_ctx == 32_768

    def test_a_model_of_other_weights_costs_no_question_about_it(self, simulator, user):
        chat(simulator.url, "other", 12_288)
        assert user.ask(100).num_ctx is None
        assert _count(simulator, "/api/show") == 1

    def test_spellings_of_a_name_are_one_model(self, simulator, user):
        user.ask(6000)
        again = User(simulator.url, "ROOMY:latest")
        assert again.ask(5000).num_ctx == 8192
        assert again.loads == 0


class TestGrowth:
    @pytest.mark.parametrize(
        ("needed", "tokens"), [(4097, 8192), (8192, 8192), (8193, 16_384), (20_000, 32_768), (10**12, 32_768)]
    )
    def test_it_grows_to_the_next_power_of_two(self, user, needed, tokens):
        window = user.decide(needed)
        assert (window.num_ctx, window.tokens, window.grown_from) == (tokens, tokens, 4096)
        assert window.is_known
        assert window.ceiling == 32_768

    def test_a_conversation_that_grows_to_32768_loads_its_model_four_times(self, simulator, user, clock):
        for needed in range(500, 32_000, 500):
            clock.skip(1)
            assert user.ask(needed).tokens >= needed
        assert user.loads == 4
        assert _window_on_server(simulator) == 32_768

    def test_it_never_shrinks_while_the_model_is_loaded(self, simulator, user, clock):
        user.ask(6000)
        for _ in range(3):
            clock.skip(10)
            window = user.ask(50)
            assert (window.num_ctx, window.tokens, window.grown_from) == (8192, 8192, None)
        assert user.loads == 1

    def test_it_grows_up_to_max_num_ctx(self, simulator):
        user = User(simulator.url, max_num_ctx=10_000)
        assert user.decide(9000).num_ctx == 10_000
        assert user.decide(50_000).num_ctx == 10_000
        assert user.ceiling == 10_000

    def test_it_grows_up_to_what_the_model_was_made_for(self, simulator):
        user = User(simulator.url, "narrow", max_num_ctx=65_536)
        assert user.decide(50_000).num_ctx == 10_000
        assert user.ceiling == 10_000

    def test_max_num_ctx_does_not_shrink_what_is_loaded(self, simulator):
        chat(simulator.url, "roomy", 65_536)
        user = User(simulator.url, max_num_ctx=8192)
        window = user.ask(9000)
        assert (window.num_ctx, window.tokens, window.ceiling) == (65_536, 65_536, 65_536)
        assert user.ceiling == 65_536
        assert user.loads == 0

    def test_max_num_ctx_below_the_default_window_asks_for_nothing(self, simulator):
        window = User(simulator.url, max_num_ctx=1000).ask(2000)
        assert (window.num_ctx, window.tokens) == (None, 4096)

    def test_a_window_that_is_as_large_as_it_can_be_is_kept(self, simulator):
        user = User(simulator.url, max_num_ctx=8192)
        user.ask(6000)
        window = user.ask(50_000)
        assert (window.num_ctx, window.grown_from) == (8192, None)
        assert user.loads == 1

    def test_each_growth_is_one_line_with_its_reason(self, simulator, user, log):
        user.ask(100)
        user.send(user.decide(6324, reply_tokens=1024), 6324)
        user.ask(5000)
        user.ask(9000)
        where, anew = f"Window of model 'roomy' of Ollama at {simulator.url} grows from", "the model is loaded anew."
        assert log(logging.INFO) == [
            f"{where} 4096 to 8192 tokens: a prompt may have up to 5300, and 1024 are kept for the reply; {anew}",
            f"{where} 8192 to 16384 tokens: a prompt may have up to 9000; {anew}",
        ]

    def test_the_log_line_of_a_model_that_is_not_loaded_does_not_speak_of_loading_anew(self, simulator, user, log):
        user.decide(6000)
        grows = f"Window of model 'roomy' of Ollama at {simulator.url} grows from 4096 to 8192 tokens"
        assert log(logging.INFO) == [f"{grows} as it is loaded: a prompt may have up to 6000."]

    def test_a_model_that_leaves_after_each_reply_grows_with_a_line_each_time(self, simulator, user, log, clock):
        for _ in range(3):
            assert user.ask(6000, keep_alive=0).tokens == 8192
            clock.skip(10)
        assert len(log(logging.INFO)) == 3

    def test_a_vision_model_has_at_least_what_the_server_gives_it(self, simulator):
        assert User(simulator.url, "seeing", num_ctx=512).ask(100).tokens == 2048
        assert _window_on_server(simulator, "seeing") == 2048


class TestServerDefault:
    @pytest.fixture
    def simulator(self):
        with OllamaSimulator(models=_MODELS, context_length=32_768) as simulator:
            yield simulator

    def test_it_is_learned_from_the_first_load(self, simulator, user):
        user.ask(100)
        window = user.ask(20_000)
        assert (window.num_ctx, window.tokens, window.is_known) == (None, 32_768, True)
        assert user.loads == 1

    def test_it_holds_for_other_models_of_the_server(self, simulator, user):
        user.ask(100)
        user.ask(100)
        other = User(simulator.url, "other")
        window = other.ask(20_000)
        assert (window.num_ctx, window.tokens, window.is_known) == (None, 32_768, True)
        assert _window_on_server(simulator, "other") == 32_768

    def test_it_holds_up_to_what_another_model_was_made_for(self, simulator, user):
        user.ask(100)
        user.ask(100)
        window = User(simulator.url, "narrow").ask(9000)
        assert (window.num_ctx, window.tokens) == (None, 10_000)

    def test_a_small_model_does_not_make_it_small(self, simulator):
        for model in ("roomy", "tiny"):
            user = User(simulator.url, model)
            user.ask(100)
            user.ask(100)
        assert User(simulator.url, "other").decide(100).tokens == 32_768

    def test_the_window_of_another_program_is_not_taken_for_it(self, simulator, user):
        chat(simulator.url, "roomy", 8192)
        user.ask(100)
        user.ask(100)
        assert User(simulator.url, "other").decide(100).tokens == 4096

    def test_it_is_larger_than_what_may_be_grown_to(self, simulator):
        user = User(simulator.url, max_num_ctx=8192)
        user.ask(100)
        window = user.ask(100)
        assert (window.num_ctx, window.tokens, window.ceiling) == (None, 32_768, 32_768)

    def test_it_is_kept_after_growth_and_unloading(self, simulator, clock):
        user = User(simulator.url, max_num_ctx=65_536)
        user.ask(100)
        assert user.ask(40_000).num_ctx == 65_536
        simulator.advance(301)
        clock.skip(10)
        window = user.ask(20_000)
        assert (window.num_ctx, window.tokens) == (None, 32_768)

    def test_another_one_after_a_restart_is_learned_again(self, simulator, user, clock):
        user.ask(100)
        assert user.ask(100).tokens == 32_768
        simulator._state.context_length = 8192
        simulator.advance(301)
        clock.skip(10)
        user.ask(100)
        clock.skip(10)
        assert user.ask(100).tokens == 8192
        assert user.loads == 2

    def test_what_a_model_was_loaded_with_goes_before_what_others_were(self, simulator, user):
        user.ask(100)
        user.ask(100)
        simulator._state.context_length = 8192  # as where memory is short: only a window without num_ctx is lowered
        other = User(simulator.url, "other")
        other.ask(100)
        other.metadata.forget()
        assert other.ask(100).tokens == 8192
        window = user.decide(20_000)
        assert (window.num_ctx, window.tokens) == (None, 32_768)

    def test_one_that_is_larger_than_learned_is_seen_by_a_long_prompt(self, simulator, user, clock):
        simulator._state.context_length = 8192
        user.ask(100)
        assert user.ask(100).tokens == 8192
        simulator.advance(301)
        simulator._state.context_length = 32_768
        user.send(user.decide(8000), 9000)
        assert user.decide(100).tokens == 32_768
        simulator.advance(301)
        simulator._state.context_length = 4096
        for _ in range(2):
            clock.skip(10)
            user.ask(100)
        window = user.decide(100)
        assert (window.num_ctx, window.tokens) == (None, 4096)

    def test_a_long_prompt_that_was_read_whole_proves_a_larger_one(self, user, no_ps):
        window = user.decide(4000)
        assert window.tokens == 4096
        user.send(window, 9000)
        window = user.decide(8500)
        assert window.num_ctx is None
        assert window.tokens >= 8500


class TestModelParameter:
    def test_a_models_own_window_is_its_default(self, simulator):
        user = User(simulator.url, "baked")
        window = user.ask(10_000)
        assert (window.num_ctx, window.tokens, window.is_known) == (None, 16_384, True)
        assert _window_on_server(simulator, "baked") == 16_384

    def test_it_grows_from_there(self, simulator):
        user = User(simulator.url, "baked")
        user.ask(100)
        window = user.ask(20_000)
        assert (window.num_ctx, window.grown_from) == (32_768, 16_384)
        assert user.loads == 2

    def test_it_says_nothing_of_the_server(self, simulator):
        user = User(simulator.url, "baked")
        user.ask(100)
        user.ask(100)
        assert User(simulator.url).decide(100).tokens == 4096

    @pytest.mark.parametrize("own", ["many", True, -5, 0, 0.5, None])
    def test_one_that_is_no_number_is_ignored(self, user, own):
        known = ModelMetadata(parameters={"num_ctx": own}, raw={"x": 1})
        window = WindowPlanner(user.metadata, "roomy", known, num_ctx="auto", max_num_ctx=None).propose(1)
        assert window.tokens == 4096

    def test_one_larger_than_the_growth_is_the_ceiling(self, simulator):
        assert User(simulator.url, "baked", max_num_ctx=8192).ceiling == 16_384


class TestUserSetting:
    def test_a_number_is_sent_as_it_is(self, simulator):
        user = User(simulator.url, num_ctx=6000)
        window = user.ask(100)
        assert (window.num_ctx, window.tokens, window.ceiling, window.is_known) == (6000, 6000, 6000, True)
        assert user.ask(20_000).num_ctx == 6000
        assert user.ceiling == 6000
        assert _count(simulator, "/api/ps") == 0

    def test_a_number_beyond_the_model_is_its_limit_and_logged_once(self, simulator, log):
        user = User(simulator.url, "narrow", num_ctx=2**31 - 1)
        for _ in range(2):
            window = user.ask(100)
            assert (window.num_ctx, window.tokens, window.ceiling) == (2**31 - 1, 10_000, 10_000)
        more = f"num_ctx=2147483647 is more than model 'narrow' of Ollama at {simulator.url} was made for"
        assert log(logging.WARNING) == [f"{more}: its window is 10000 tokens."]
        assert _window_on_server(simulator, "narrow") == 10_000

    def test_the_smallest_number_is_raised_as_the_server_does(self, simulator):
        assert User(simulator.url, num_ctx=1).decide(100).tokens == 4

    def test_none_sends_nothing_whatever_is_needed(self, simulator):
        user = User(simulator.url, num_ctx=None)
        window = user.ask(20_000)
        assert (window.num_ctx, window.tokens, window.ceiling) == (None, 4096, 4096)

    def test_none_has_what_is_loaded_by_default(self):
        with OllamaSimulator(models=_MODELS, context_length=32_768) as simulator:
            user = User(simulator.url, num_ctx=None)
            user.ask(100)
            window = user.ask(100)
            assert (window.num_ctx, window.tokens, window.is_known) == (None, 32_768, True)
            assert user.ceiling == 32_768

    def test_none_has_a_models_own_window(self, simulator):
        assert User(simulator.url, "baked", num_ctx=None).ask(100).tokens == 16_384
        assert _count(simulator, "/api/ps") == 0

    def test_none_is_not_taken_to_keep_what_was_grown(self, simulator, user):
        user.ask(6000)
        other = User(simulator.url, num_ctx=None)
        assert other.ask(100).tokens == 4096
        assert _window_on_server(simulator) == 4096

    def test_what_one_driver_fixes_another_keeps_while_it_does(self, simulator, user):
        fixed = User(simulator.url, num_ctx=6000)
        fixed.ask(100)
        assert user.ask(5000).num_ctx == 6000
        assert user.loads == 0


class TestUnloading:
    def test_it_starts_afresh_with_a_log_line(self, simulator, user, clock, log):
        user.ask(6000)
        simulator.advance(301)
        clock.skip(10)
        window = user.ask(100)
        assert (window.num_ctx, window.tokens) == (None, 4096)
        assert f"model 'roomy' of Ollama at {simulator.url} was unloaded: its window starts afresh." in log(
            logging.DEBUG
        )
        assert user.loads == 2

    def test_a_models_window_grows_again_as_it_is_loaded_again(self, simulator, user, clock):
        user.ask(6000)
        simulator.advance(301)
        clock.skip(10)
        assert user.ask(20_000).num_ctx == 32_768
        assert user.loads == 2

    def test_a_load_by_another_program_is_noticed(self, simulator, user, clock):
        user.ask(6000)
        chat(simulator.url, "roomy", 12_288)
        clock.skip(10)
        assert user.ask(10_000).num_ctx == 12_288
        assert user.loads == 1

    def test_a_load_that_failed_is_forgotten(self, simulator, user):
        user.ask(100)
        window = user.decide(6000)
        user.fail(window)
        again = user.ask(100)
        assert (again.num_ctx, again.tokens) == (None, 4096)
        assert user.loads == 1

    def test_a_growth_that_failed_leaves_what_another_program_loaded(self, simulator, user):
        chat(simulator.url, "roomy", 8192)
        user.ask(100)
        user.fail(user.decide(9000))
        assert user.ask(100).num_ctx == 8192
        assert user.loads == 0

    def test_a_growth_that_another_request_made_stays(self, user, no_ps):
        failing, growing = user.decide(6000), user.decide(6000)
        user.fail(failing)
        user.send(growing, 6000)
        assert user.decide(100).num_ctx == 8192

    def test_a_request_that_failed_later_leaves_what_is_loaded(self, user, no_ps):
        user.ask(6000)
        window = user.decide(6000)
        user.fail(window)
        assert user.ask(100).num_ctx == 8192
        assert user.loads == 1


class TestOutOfMemory:
    def test_a_window_that_the_server_has_no_memory_for_is_not_tried_again_at_once(self, simulator, user, clock, log):
        user.ask(100)
        window = user.decide(30_000)
        assert window.num_ctx == 32_768
        user.fail(window, is_out_of_memory=True)
        (line,) = log(logging.WARNING)
        assert line.startswith(
            f"Ollama at {simulator.url} had no room in memory for model 'roomy' with a window of 32768"
        )
        window = user.ask(30_000)
        assert (window.num_ctx, window.ceiling) == (16_384, 16_384)
        clock.skip(301)
        assert user.decide(30_000).num_ctx == 32_768

    def test_what_is_loaded_stays_where_there_is_no_memory_for_more(self, user):
        user.ask(6000)
        user.fail(user.decide(9000), is_out_of_memory=True)
        window = user.ask(9000)
        assert (window.num_ctx, window.tokens, window.grown_from, window.ceiling) == (8192, 8192, None, 8192)

    def test_a_failure_with_the_default_window_limits_no_growth(self, user):
        user.fail(user.decide(100), is_out_of_memory=True)
        assert user.decide(30_000).num_ctx == 32_768


class TestConcurrentRequests:
    def test_two_drivers_of_one_model_agree(self, simulator, clock):
        one, other = User(simulator.url), User(simulator.url)
        one.ask(6000)
        assert other.ask(5000).num_ctx == 8192
        other.ask(9000)
        clock.skip(10)
        assert one.ask(100).num_ctx == 16_384
        assert (one.loads, other.loads) == (1, 1)

    def test_threads_that_grow_it_at_once_agree(self, simulator, user):
        user.ask(100)
        start = threading.Barrier(8)

        def ask():
            mine = User(simulator.url)
            start.wait()
            window = mine.ask(6000)
            return window.tokens, mine.loads

        with ThreadPoolExecutor(8) as pool:
            answers = [each.result() for each in [pool.submit(ask) for _ in range(8)]]
        assert {tokens for tokens, _ in answers} == {8192}
        # Those that wait for it to be loaded have waited for it, too.
        assert _window_on_server(simulator) == 8192
        assert user.ask(6000).num_ctx == 8192
        assert user.loads == 1

    def test_earlier_requests_are_waited_for_and_the_largest_need_meanwhile_decides(self, simulator, user, waiting):
        user.ask(100)
        early = user.decide(100)
        with ThreadPoolExecutor(3) as pool:
            growing = [pool.submit(User(simulator.url).decide, needed) for needed in (6000, 20_000, 200)]
            for _ in growing:
                assert waiting.get(timeout=10)
            assert not any(each.done() for each in growing)
            user.send(early, 100)
            assert [each.result(10).num_ctx for each in growing] == [32_768] * 3

    def test_a_request_that_failed_is_not_waited_for(self, simulator, user, waiting):
        user.ask(100)
        early = user.decide(100)
        with ThreadPoolExecutor(1) as pool:
            growing = pool.submit(User(simulator.url).decide, 6000)
            assert waiting.get(timeout=10)
            user.fail(early)
            assert growing.result(10).num_ctx == 8192

    def test_waiting_ends_with_the_run(self, simulator, user, waiting):
        user.ask(100)
        user.decide(100)
        other = User(simulator.url)
        with ThreadPoolExecutor(1) as pool:
            growing = pool.submit(other.decide, 6000)
            assert waiting.get(timeout=10)
            other.run.cancel()
            with pytest.raises(OllamaCancelledError):
                growing.result(10)
        assert user.decide(3000).num_ctx is None  # no request waits any more

    def test_waiting_ends_at_the_total_limit(self, simulator, user, waiting):
        user.ask(100)
        user.decide(100)
        other = User(simulator.url, limits=OllamaTimeout(total=0.2))
        start = time.monotonic()
        assert other.decide(6000).num_ctx == 8192
        assert time.monotonic() - start < ARRIVAL_SECONDS
        assert waiting.qsize() == 1

    def test_growth_is_not_forgotten_while_the_model_is_loaded_anew(self, simulator, user, clock):
        user.ask(100)
        growing = user.decide(6000)
        clock.skip(10)  # the server lists the window before
        assert user.decide(100).num_ctx == 8192
        user.send(growing, 6000)
        assert user.ask(100).num_ctx == 8192
        assert user.loads == 2

    def test_a_first_load_is_not_forgotten_while_it_is_under_way(self, simulator, user, clock):
        loading = user.decide(6000)
        clock.skip(10)  # the server lists nothing
        assert user.decide(100).num_ctx == 8192
        user.send(loading, 6000)

    def test_a_list_from_before_a_load_says_nothing_of_it(self, simulator, user):
        user.ask(100)
        listed = user.planner.loaded_window()  # one thread has asked
        user.decide(6000)  # another makes the window grow
        with window_registry.lock:
            state = window_registry.server(simulator.url).state("roomy", user.known)
            assert not state.record_loaded(listed, time.monotonic())
        assert user.decide(100).num_ctx == 8192

    def test_a_load_without_a_reply_is_given_up(self, simulator, user, clock):
        user.decide(6000)
        clock.skip(301)
        assert user.ask(100).num_ctx is None

    def test_a_reply_to_an_earlier_request_is_none_to_the_growth(self, simulator, user, clock):
        user.ask(100)
        early = user.decide(100)
        clock.skip(10)  # it is not waited for any longer
        growing = user.decide(6000)
        user.send(early, 100)
        clock.skip(10)
        assert user.decide(100).num_ctx == growing.num_ctx == 8192

    def test_a_server_that_loads_the_model_for_us_is_not_asked_what_is_loaded(self, simulator, user, clock):
        user.ask(100)
        user.decide(6000)
        asked = _count(simulator, "/api/ps")
        clock.skip(10)
        user.decide(100)
        assert _count(simulator, "/api/ps") == asked
        User(simulator.url, "other").decide(100)
        assert _count(simulator, "/api/ps") == asked + 1

    def test_a_proposal_changes_nothing(self, simulator, user, log):
        user.ask(100)
        assert user.planner.propose(6000).num_ctx == 8192
        assert user.planner.propose(6000).grown_from == 4096
        assert user.ask(100).num_ctx is None
        assert user.loads == 1
        assert log(logging.INFO) == []

    def test_a_forked_process_starts_afresh(self, user):
        user.decide(6000)
        with window_registry.lock:
            window_registry.start_afresh()
            assert user.decide(100).num_ctx is None


class TestCloud:
    @pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "gpt-oss:cloud", "GPT-OSS:120B-CLOUD"])
    @pytest.mark.parametrize("num_ctx", ["auto", None, 8192])
    def test_nothing_is_ever_sent_and_the_window_is_the_maximum(self, user, model, num_ctx):
        known = ModelMetadata(context_length=200_000, raw={"x": 1})
        wish = {"num_ctx": num_ctx, "max_num_ctx": 8192}
        planner = WindowPlanner(user.metadata, model, known, **wish)
        window = planner.commit(10**6)
        assert (window.num_ctx, window.tokens, window.ceiling, window.is_known) == (None, 200_000, 200_000, True)
        assert planner.ceiling() == 200_000

    def test_a_model_that_runs_elsewhere_is_one_by_any_name(self, simulator, user):
        known = ModelMetadata(remote_host="https://ollama.com:443", raw={"x": 1})
        window = WindowPlanner(user.metadata, "mine", known, num_ctx="auto", max_num_ctx=None).commit(10**6)
        assert (window.num_ctx, window.tokens, window.is_known) == (None, 131_072, False)
        assert _count(simulator, "/api/ps") == 0


class TestMissingEndpoints:
    def test_without_ps_what_was_sent_counts(self, simulator, user, log, no_ps):
        windows = [user.ask(needed) for needed in (100, 6000, 100, 9000, 100)]
        assert [each.num_ctx for each in windows] == [None, 8192, 8192, 16_384, 16_384]
        assert user.loads == 3
        assert log(logging.INFO)[0] == (
            f"Ollama at {simulator.url} does not tell which models are loaded: the window of a model is taken for what "
            "was asked for last."
        )
        assert sum("does not tell" in line for line in log(logging.INFO)) == 1

    def test_without_ps_it_is_asked_for_seldom(self, simulator, user, clock, no_ps):
        for _ in range(20):
            clock.skip(1)
            user.ask(100)
        assert _count(simulator, "/api/ps") <= 5

    def test_without_show_the_limit_is_unknown_and_ps_is_not_asked(self, simulator, user):
        simulator.reply(path="/api/show", status=404, body={"error": "404 page not found"}, times=None)
        windows = [user.ask(needed) for needed in (100, 6000, 100)]
        assert [each.num_ctx for each in windows] == [None, 8192, 8192]
        assert user.ceiling == 32_768
        assert _count(simulator, "/api/ps") == 0

    def test_a_dead_server_costs_nothing_more(self, simulator, user):
        simulator.stop()
        window = user.decide(6000)
        assert window.num_ctx == 8192
        assert user.ceiling == 32_768

    @pytest.mark.parametrize("told", [None, 0, -4096, True, "4096", 2**40, 1.5])
    def test_a_ps_without_a_window_leaves_what_was_sent(self, simulator, user, clock, told):
        entry = {"name": "roomy:latest", "details": {}, "context_length": told}
        simulator.reply(path="/api/ps", body={"models": [entry]}, times=None)
        windows = []
        for needed in (100, 6000, 100, 9000):
            windows.append(user.ask(needed))
            clock.skip(10)
        assert [each.num_ctx for each in windows] == [None, 8192, 8192, 16_384]

    @pytest.mark.parametrize("models", [[{}], [{"name": 5}], [{"name": ""}], [None, "x"], "none", None])
    def test_a_ps_that_is_none_is_no_error(self, simulator, user, models):
        simulator.reply(path="/api/ps", body={"models": models}, times=None)
        assert user.ask(100).num_ctx is None

    @pytest.mark.parametrize("limit", [-1, 0, True, "many", 10**30])
    def test_an_absurd_limit_of_a_model_does_no_harm(self, simulator, limit):
        info = {"general.architecture": "llama", "llama.context_length": limit}
        simulator.reply(path="/api/show", body={"model_info": info, "details": {}}, times=None)
        user = User(simulator.url)
        assert user.decide(20_000).num_ctx == 32_768
        assert user.ceiling == 32_768

    @pytest.mark.parametrize("needed", [0, -1, 1])
    def test_needing_next_to_nothing_asks_for_nothing(self, user, needed):
        assert user.decide(needed).num_ctx is None


class TestCost:
    def test_what_is_loaded_is_asked_for_at_most_once_in_five_seconds(self, simulator, user, clock):
        user.ask(100)
        user.ask(100)
        before = _count(simulator, "/api/ps")
        for _ in range(40):
            clock.skip(0.5)
            user.ask(100)
        assert 3 <= _count(simulator, "/api/ps") - before <= 5

    def test_the_default_of_a_model_that_never_stays_is_asked_for_once(self, simulator, user):
        for _ in range(10):
            user.ask(100, keep_alive=0)
        assert _count(simulator, "/api/ps") <= 3

    def test_the_ceiling_of_a_small_model_costs_no_question(self, simulator):
        user = User(simulator.url, "narrow")
        assert user.ceiling == 10_000
        assert _count(simulator, "/api/ps") == 0

    def test_deciding_is_cheap_once_metadata_are_known(self, user):
        user.ask(6000)
        known = user.known
        planner = WindowPlanner(user.metadata, "roomy", known, num_ctx="auto", max_num_ctx=None)
        best = min(_timed(lambda: (planner.refresh(), planner.commit(100))) for _ in range(5))
        assert best < 200e-6  # 20 µs on a quiet machine


def _timed(what, times=200):
    started = time.thread_time()
    for _ in itertools.repeat(None, times):
        what()
    return (time.thread_time() - started) / times
