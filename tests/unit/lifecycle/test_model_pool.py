import time
from datetime import datetime, timedelta, timezone

import pytest

from griptape_ollama import OllamaCancelledError, OllamaConnectionError, OllamaTimeoutError
from griptape_ollama.lifecycle.eviction import MemoryLimits
from griptape_ollama.lifecycle.keep_alive_replay import RecordedUse
from griptape_ollama.lifecycle.model_pool import ModelDemand, ModelPool
from griptape_ollama.lifecycle.usage import UsageRecorder
from griptape_ollama.models.types import LoadedModel


class Server:
    """A fake server: holds models, and records its requests."""

    host = "http://here"

    def __init__(self):
        self.memory = {}
        self.lingering = {}
        self.requests = []
        self.error = None

    def put(self, model, size=10, expires_in=300.0, window=4096):
        expires_at = datetime.now(timezone.utc) + timedelta(seconds=expires_in)
        self.memory[model] = LoadedModel(name=model, size=size, expires_at=expires_at, context_length=window)

    def memory_key(self, model):
        return model

    def is_local(self, model):
        return True

    def disk_size(self, model):
        return 10

    def loaded_models(self):
        self._record("ps")
        return [*self.memory.values(), *self.lingering.values()]

    def load(self, model, *, keep_alive, options):
        self._record("load", model, keep_alive, dict(options))
        self.put(model)
        return 3.0

    def unload(self, model):
        self._record("unload", model.name)
        self.memory.pop(model.name, None)

    def cancel(self):
        self._record("cancel")

    def _record(self, *request):
        self.requests.append(request)
        if self.error is not None:
            raise self.error

    def changes(self):
        return [request for request in self.requests if request != ("ps",)]


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def usage():
    return UsageRecorder()


@pytest.fixture
def make_pool(server, usage):
    """Return a function that creates a pool with the models a to d."""

    def make(*, limits=None, **settings):
        pool = ModelPool(server, limits or MemoryLimits(max_models=2), usage, **settings)
        pool.refresh()
        for model in "abcd":
            pool.add_model(model, model)
        server.requests.clear()
        return pool

    return make


def _demand(next_uses=None, in_use=()):
    """Return a function that returns a demand; without arguments nothing is needed any more."""
    return lambda: ModelDemand(next_uses=next_uses or {}, in_use=in_use)


def _reply(model, load_seconds, *, ago=0.0, took=None):
    """A use that began some seconds ago, and took as long as loading by default."""
    took = load_seconds if took is None else took
    begin = time.monotonic() - ago - took
    return RecordedUse(model=model, begin=begin, end=begin + took, load_seconds=load_seconds)


def _use(pool, server, model, seconds=5.0):
    """Reserve a model and use it, which loads it if it is not loaded."""
    pool.reserve(model, {}, _demand())
    if model not in server.memory:
        server.put(model)
    pool.record_use(_reply(model, seconds), model)


def _report(usage):
    report = usage.report(MemoryLimits())
    return {model.model: (model.loads, model.load_seconds, model.unloads, model.evictions) for model in report.models}


def test_a_model_that_is_loaded_for_a_reply_counts_once(make_pool, server, usage):
    pool = make_pool()
    for _ in range(3):
        _use(pool, server, "a")
    assert _report(usage)["a"] == (1, 5.0, 0, 0)


def test_a_model_that_is_loaded_again_with_other_options_counts_again(make_pool, server, usage):
    pool = make_pool()
    _use(pool, server, "a", seconds=5.0)
    for seconds, later in ((4.0, 10), (0.002, 20), (3.0, 30)):
        pool.record_use(_reply("a", seconds, ago=-later), "a")
    assert _report(usage)["a"][:2] == (3, 12.0)


def test_a_reload_counts_from_the_time_when_the_model_was_loaded_not_when_its_first_reply_ended(
    make_pool, server, usage
):
    pool = make_pool()
    server.put("a")
    pool.record_use(_reply("a", 5.0, took=30.0), "a")
    pool.record_use(_reply("a", 4.0, took=10.0), "a")
    assert _report(usage)["a"][:2] == (2, 9.0)


def test_uses_that_waited_for_the_same_load_count_one_load(make_pool, server, usage):
    pool = make_pool()
    pool.reserve("a", {}, _demand())
    server.put("a")
    pool.record_use(_reply("a", 5.0, took=6.0), "a")
    pool.record_use(_reply("a", 4.9, took=6.0), "a")
    pool.record_use(_reply("a", 2.5, took=3.6), "a")
    assert _report(usage)["a"][:2] == (1, 5.0)


def test_a_use_that_waited_for_a_preload_counts_no_load(make_pool, server, usage):
    pool = make_pool()
    pool.reserve_preload({"a": 1}, ())
    pool.preload("a", "a", "1h", {})
    pool.record_use(_reply("a", 2.0, took=2.1), "a")
    assert _report(usage)["a"][:2] == (1, 3.0)


def test_a_loaded_model_costs_no_request(make_pool, server):
    pool = make_pool()
    _use(pool, server, "a")
    server.requests.clear()
    _use(pool, server, "a")
    pool.release(_demand({"a": 1}))
    assert server.requests == []


def test_a_reservation_evicts_what_does_not_fit_beside_it(make_pool, server, usage):
    pool = make_pool()
    for model in "ab":
        _use(pool, server, model)
    pool.reserve("c", {}, _demand({"a": 5, "b": 1}, ("c",)))
    assert server.changes() == [("unload", "a")]
    assert _report(usage)["a"] == (1, 5.0, 1, 1)


def test_two_reservations_of_a_model_evict_once(make_pool, server):
    pool = make_pool(limits=MemoryLimits(max_models=1))
    _use(pool, server, "a")
    server.requests.clear()
    for _ in range(2):
        pool.reserve("b", {}, _demand())
    assert server.requests == [("ps",), ("unload", "a")]


def test_a_reserved_model_counts_against_the_limits(make_pool, server):
    pool = make_pool()
    _use(pool, server, "a")
    pool.reserve("b", {}, _demand(in_use=("b",)))
    pool.reserve("c", {}, _demand({"a": 9}, ("b", "c")))
    assert server.changes() == [("unload", "a")]


def test_the_expected_size_of_a_reserved_model_counts_against_the_limits(make_pool, server):
    pool = make_pool(limits=MemoryLimits(memory=25))
    for model in "bc":
        pool.expect_size(model, 10)
    _use(pool, server, "a")
    pool.reserve("b", {}, _demand({"a": 9}, ("b",)))
    pool.reserve("c", {}, _demand({"a": 9}, ("b", "c")))
    assert server.changes() == [("unload", "a")]


def test_a_model_is_unloaded_after_its_last_use(make_pool, server, usage):
    pool = make_pool()
    for model in "ab":
        _use(pool, server, model)
    pool.release(_demand({"b": 3}))
    assert server.changes() == [("unload", "a")]
    assert _report(usage)["a"] == (1, 5.0, 1, 0)


def test_a_model_that_a_running_task_may_use_is_not_unloaded(make_pool, server):
    pool = make_pool()
    _use(pool, server, "a")
    pool.release(_demand(in_use=("a",)))
    assert server.changes() == []


def test_a_model_that_the_server_evicted_counts_another_load(make_pool, server, usage):
    pool = make_pool()
    _use(pool, server, "a")
    del server.memory["a"]
    _use(pool, server, "b")
    _use(pool, server, "a")
    assert _report(usage)["a"] == (2, 10.0, 0, 0)


def test_a_foreign_model_is_neither_unloaded_nor_evicted(make_pool, server):
    server.put("a")
    pool = make_pool(limits=MemoryLimits(max_models=1))
    _use(pool, server, "b")
    pool.release(_demand())
    assert ("unload", "a") not in server.requests
    assert ("unload", "b") in server.requests


def test_a_foreign_model_that_was_used_gets_its_expiry_back(make_pool, server):
    server.put("a", expires_in=100, window=2048)
    pool = make_pool()
    _use(pool, server, "a")
    pool.release(_demand())
    pool.release(_demand())
    ((request, model, seconds, options),) = server.changes()
    assert (request, model, options) == ("load", "a", {"num_ctx": 2048})
    assert 90 < seconds <= 100


def test_the_expiry_is_restored_with_the_options_that_the_model_is_loaded_with(make_pool, server):
    server.put("a", expires_in=100, window=2048)
    pool = make_pool()
    pool.reserve("a", {"num_ctx": 8192, "num_gpu": 1}, _demand())
    server.put("a", window=8192)  # with that window, the server loads it anew
    pool.release(_demand())
    assert server.changes()[-1][3] == {"num_ctx": 8192, "num_gpu": 1}


def test_a_foreign_model_that_is_gone_is_not_loaded_to_restore_its_expiry(make_pool, server):
    server.put("a", expires_in=100)
    pool = make_pool()
    pool.reserve("a", {}, _demand())
    del server.memory["a"]
    pool.release(_demand())
    assert server.changes() == []


def test_a_preload_that_was_cancelled_too_late_is_unloaded(make_pool, server):
    def load(model, *, keep_alive, options):
        server.put(model)
        raise OllamaCancelledError("stopped")

    pool = make_pool()
    server.load = load
    pool.reserve_preload({"a": 1}, ())
    pool.preload("a", "a", "1h", {})
    pool.release(_demand())
    assert server.changes() == [("unload", "a")]


def test_a_foreign_model_that_was_loaded_for_good_stays_for_good(make_pool, server):
    server.put("a", expires_in=292 * 365 * 86_400)
    pool = make_pool()
    _use(pool, server, "a")
    pool.release(_demand())
    assert server.changes() == [("load", "a", -1, {"num_ctx": 4096})]


@pytest.mark.parametrize(
    ("expires_in", "keep_alive"), [(-60, 300.0), (-1, 1.0)], ids=["while it answers", "about to be unloaded"]
)
def test_a_foreign_model_that_is_listed_after_its_expiry_stays_a_while(make_pool, server, expires_in, keep_alive):
    server.put("a", expires_in=expires_in)
    pool = make_pool()
    _use(pool, server, "a")
    pool.release(_demand())
    assert server.changes() == [("load", "a", keep_alive, {"num_ctx": 4096})]


def test_a_foreign_model_of_unknown_expiry_and_window_is_left_as_it_is(make_pool, server):
    server.memory["a"] = LoadedModel(name="a", size=10)
    pool = make_pool()
    _use(pool, server, "a")
    pool.release(_demand())
    assert server.changes() == []


def test_a_foreign_model_that_was_not_used_gets_no_request(make_pool, server):
    server.put("a")
    pool = make_pool()
    pool.release(_demand())
    assert server.requests == []


def test_unload_foreign_evicts_and_unloads_foreign_models(make_pool, server):
    server.put("a")
    server.put("other")
    pool = make_pool(unload_foreign=True)
    _use(pool, server, "a")
    pool.reserve("b", {}, _demand({"a": 1}))
    pool.release(_demand())
    assert server.changes() == [("unload", "other"), ("unload", "a")]


def test_a_model_that_another_client_loads_meanwhile_is_foreign(make_pool, server, usage):
    pool = make_pool()
    _use(pool, server, "a")
    server.put("b")
    _use(pool, server, "b")
    pool.release(_demand())
    assert server.changes()[0] == ("unload", "a")
    assert ("unload", "b") not in server.requests
    assert _report(usage)["b"] == (0, 0.0, 0, 0)


def test_a_model_that_another_client_loads_after_it_was_unloaded_is_foreign(make_pool, server):
    pool = make_pool()
    _use(pool, server, "a")
    pool.release(_demand())
    _use(pool, server, "b")
    server.put("a")
    _use(pool, server, "a")
    pool.release(_demand())
    assert server.changes().count(("unload", "a")) == 1


def test_a_model_that_is_still_listed_after_it_was_unloaded_counts_as_gone(make_pool, server):
    pool = make_pool(limits=MemoryLimits(max_models=1))
    _use(pool, server, "a")
    server.lingering["a"] = server.memory["a"]
    pool.reserve("b", {}, _demand())
    assert not pool.is_loaded("a")
    server.put("b")
    pool.record_use(_reply("b", 1.0), "b")
    assert not pool.is_loaded("a")
    assert server.changes() == [("unload", "a")]


def test_a_model_that_publishes_no_events_is_found_by_a_refresh(make_pool, server, usage):
    pool = make_pool()
    pool.reserve("a", {}, _demand())
    server.put("a")
    pool.refresh_if_pending(["a"])
    assert _report(usage)["a"] == (1, 0.0, 0, 0)
    pool.record_use(_reply("a", 7.0), "a")
    assert _report(usage)["a"] == (1, 7.0, 0, 0)


def test_a_reservation_that_was_never_used_is_dropped(make_pool, server):
    pool = make_pool(limits=MemoryLimits(max_models=1))
    pool.reserve("a", {}, _demand())
    pool.release(_demand())
    assert pool.reserve_preload({"b": 1}, ()) == "b"


def test_a_preload_is_reserved_once_and_then_loaded(make_pool, server, usage):
    pool = make_pool()
    assert pool.reserve_preload({"a": 1}, ()) == "a"
    assert pool.reserve_preload({"a": 1}, ()) is None
    pool.release(_demand())
    assert pool.reserve_preload({"a": 1}, ()) is None
    pool.preload("a", "a", "1h", {"num_ctx": 7})
    assert pool.is_loaded("a")
    assert server.changes() == [("load", "a", "1h", {"num_ctx": 7})]
    assert usage.report(MemoryLimits()).ahead_seconds == 3.0


def test_a_preload_that_was_used_is_reserved_no_more(make_pool, server):
    pool = make_pool(limits=MemoryLimits(max_models=1))
    pool.reserve_preload({"a": 1}, ())
    pool.preload("a", "a", "1h", {})
    pool.release(_demand())
    pool.reserve("a", {}, _demand())
    pool.release(_demand())
    assert pool.reserve_preload({"b": 1}, ()) == "b"


@pytest.mark.parametrize("reason", ["failed", "cancelled"])
def test_a_preload_that_fails_or_is_cancelled_drops_its_reservation(make_pool, server, reason):
    pool = make_pool(limits=MemoryLimits(max_models=1))
    pool.reserve_preload({"a": 1}, ())
    if reason == "failed":
        server.error = OllamaConnectionError("gone")
        pool.preload("a", "a", "1h", {})
    else:
        pool.cancel_preload("a")
    assert pool.reserve_preload({"b": 1}, ()) == "b"


def test_the_expected_size_counts_until_the_server_reports_the_real_one(make_pool, server):
    pool = make_pool(limits=MemoryLimits(memory=25))
    for model in "abc":
        pool.expect_size(model, 10)
    for model in "ab":
        _use(pool, server, model)
    pool.reserve("c", {}, _demand({"a": 1, "b": 2}))
    assert server.changes() == [("unload", "b")]


@pytest.mark.parametrize(("memory", "problems"), [(5, ("Model 'a' takes 10 bytes, more than memory=5.",)), (10, ())])
def test_a_model_larger_than_the_memory_is_a_problem_in_the_report(make_pool, server, usage, memory, problems):
    pool = make_pool(limits=MemoryLimits(memory=memory))
    _use(pool, server, "a")
    assert usage.report(MemoryLimits()).problems == problems


def test_the_peak_includes_foreign_models(make_pool, server, usage):
    server.put("other", size=7)
    pool = make_pool()
    _use(pool, server, "a")
    assert usage.report(MemoryLimits()).peak_bytes == 17


def test_a_server_that_does_not_answer_is_logged_once_and_raises_nothing(make_pool, server, caplog, usage):
    pool = make_pool()
    server.error = OllamaConnectionError("No Ollama server answers.")
    for model in "ab":
        _use(pool, server, model)
    pool.release(_demand())
    assert caplog.messages == ["No Ollama server answers. Going on without it."]
    assert usage.report(MemoryLimits()).problems == ("No Ollama server answers. Going on without it.",)


def test_a_server_that_hangs_gets_no_further_request(make_pool, server):
    pool = make_pool()
    server.error = OllamaTimeoutError("too slow")
    for model in "abcd":
        pool.reserve(model, {}, _demand())
    assert server.requests == [("ps",)]


def test_a_failed_unload_is_repeated_by_the_next_release(make_pool, server, usage):
    pool = make_pool()
    _use(pool, server, "a")
    server.error = OllamaConnectionError("busy")
    pool.release(_demand())
    server.error = None
    pool.release(_demand())
    assert server.changes() == [("unload", "a"), ("unload", "a")]
    assert _report(usage)["a"] == (1, 5.0, 1, 0)
