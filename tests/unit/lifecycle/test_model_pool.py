import time
from datetime import datetime, timedelta, timezone

import pytest

from griptape_ollama import OllamaCancelledError, OllamaConnectionError, OllamaTimeoutError
from griptape_ollama.lifecycle.eviction import Room
from griptape_ollama.lifecycle.keep_alive_replay import Use
from griptape_ollama.lifecycle.model_pool import Residence, Wanted
from griptape_ollama.lifecycle.usage import Ledger
from griptape_ollama.models.types import LoadedModel

NOTHING = Wanted(coming={}, busy=())


class Server:
    """A server that holds what it is told to, and writes down what it is asked."""

    host = "http://here"

    def __init__(self):
        self.memory = {}
        self.lingering = {}
        self.asked = []
        self.error = None

    def load(self, model, size=10, expires_in=300.0, window=4096):
        expires_at = datetime.now(timezone.utc) + timedelta(seconds=expires_in)
        self.memory[model] = LoadedModel(name=model, size=size, expires_at=expires_at, context_length=window)

    def key(self, model):
        return model

    def is_local(self, model):
        return True

    def disk_size(self, model):
        return 10

    def loaded(self):
        self._note("ps")
        return [*self.memory.values(), *self.lingering.values()]

    def warm(self, model, *, keep_alive, options):
        self._note("warm", model, keep_alive, dict(options))
        self.load(model)
        return 3.0

    def unload(self, model):
        self._note("unload", model.name)
        self.memory.pop(model.name, None)

    def cancel(self):
        self._note("cancel")

    def _note(self, *what):
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def changes(self):
        return [what for what in self.asked if what != ("ps",)]


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def make_residence(server):
    """Makes a residence that knows the models a to d."""

    def make(*, room=None, **settings):
        residence = Residence(server, room or Room(max_models=2), Ledger(), **settings)
        residence.begin()
        for model in "abcd":
            residence.know(model, model)
        server.asked.clear()
        return residence

    return make


def _answer(model, load_seconds, *, ago=0.0, took=None):
    """A reply that began some seconds ago, and took as long as loading unless told otherwise."""
    took = load_seconds if took is None else took
    begin = time.monotonic() - ago - took
    return Use(model=model, begin=begin, end=begin + took, load_seconds=load_seconds)


def _use(residence, server, model, wanted=NOTHING, seconds=5.0):
    """Let a model be asked, which loads it where it is not there."""
    residence.need(model, {}, lambda: wanted)
    if model not in server.memory:
        server.load(model)
    residence.answered(_answer(model, seconds), model)


def _report(residence):
    report = residence._ledger.report(Room())
    return {model.model: (model.loads, model.load_seconds, model.unloads, model.evictions) for model in report.models}


def test_a_model_that_is_loaded_for_a_reply_counts_once(make_residence, server):
    residence = make_residence()
    for _ in range(3):
        _use(residence, server, "a")
    assert _report(residence)["a"] == (1, 5.0, 0, 0)


def test_a_model_that_is_loaded_again_with_other_options_counts_again(make_residence, server):
    residence = make_residence()
    _use(residence, server, "a", seconds=5.0)
    for seconds, later in ((4.0, 10), (0.002, 20), (3.0, 30)):
        residence.answered(_answer("a", seconds, ago=-later), "a")
    assert _report(residence)["a"][:2] == (3, 12.0)


def test_who_waited_for_the_same_load_does_not_count_as_another(make_residence, server):
    residence = make_residence()
    residence.need("a", {}, lambda: NOTHING)
    server.load("a")
    residence.answered(_answer("a", 5.0, took=6.0), "a")
    residence.answered(_answer("a", 4.9, took=6.0), "a")
    residence.answered(_answer("a", 2.5, took=3.6), "a")
    assert _report(residence)["a"][:2] == (1, 5.0)


def test_who_waited_for_a_load_ahead_does_not_count_as_another(make_residence, server):
    residence = make_residence()
    residence.next_to_warm({"a": 1}, ())
    residence.warm("a", "a", "1h", {})
    residence.answered(_answer("a", 2.0, took=2.1), "a")
    assert _report(residence)["a"][:2] == (1, 3.0)


def test_a_model_that_is_there_costs_no_request(make_residence, server):
    residence = make_residence()
    _use(residence, server, "a")
    server.asked.clear()
    _use(residence, server, "a")
    residence.release(lambda: Wanted(coming={"a": 1}, busy=()))
    assert server.asked == []


def test_room_is_made_before_a_model_is_asked(make_residence, server):
    residence = make_residence()
    coming = Wanted(coming={"a": 5, "b": 1}, busy=("c",))
    for model in "ab":
        _use(residence, server, model)
    residence.need("c", {}, lambda: coming)
    assert server.changes() == [("unload", "a")]
    assert _report(residence)["a"] == (1, 5.0, 1, 1)


def test_room_is_made_once_for_tasks_that_want_the_same_model(make_residence, server):
    residence = make_residence(room=Room(max_models=1))
    _use(residence, server, "a")
    server.asked.clear()
    for _ in range(2):
        residence.need("b", {}, lambda: NOTHING)
    assert server.asked == [("ps",), ("unload", "a")]


def test_a_model_on_its_way_takes_room(make_residence, server):
    residence = make_residence()
    _use(residence, server, "a")
    residence.need("b", {}, lambda: Wanted(coming={}, busy=("b",)))
    residence.need("c", {}, lambda: Wanted(coming={"a": 9}, busy=("b", "c")))
    assert server.changes() == [("unload", "a")]


def test_a_model_is_unloaded_after_its_last_use(make_residence, server):
    residence = make_residence()
    for model in "ab":
        _use(residence, server, model)
    residence.release(lambda: Wanted(coming={"b": 3}, busy=()))
    assert server.changes() == [("unload", "a")]
    assert _report(residence)["a"] == (1, 5.0, 1, 0)


def test_a_model_that_a_running_task_may_use_is_not_unloaded(make_residence, server):
    residence = make_residence()
    _use(residence, server, "a")
    residence.release(lambda: Wanted(coming={}, busy=("a",)))
    assert server.changes() == []


def test_what_the_server_evicted_by_itself_is_loaded_again_and_counts_again(make_residence, server):
    residence = make_residence()
    _use(residence, server, "a")
    del server.memory["a"]
    _use(residence, server, "b")
    _use(residence, server, "a")
    assert _report(residence)["a"] == (2, 10.0, 0, 0)


def test_a_model_that_was_there_before_is_neither_unloaded_nor_evicted(make_residence, server):
    server.load("a")
    residence = make_residence(room=Room(max_models=1))
    _use(residence, server, "b")
    residence.release(lambda: NOTHING)
    assert ("unload", "a") not in server.asked
    assert ("unload", "b") in server.asked


def test_a_model_of_others_that_was_used_gets_back_the_time_that_it_had(make_residence, server):
    server.load("a", expires_in=100, window=2048)
    residence = make_residence()
    _use(residence, server, "a")
    residence.release(lambda: NOTHING)
    residence.release(lambda: NOTHING)
    ((what, model, seconds, options),) = server.changes()
    assert (what, model, options) == ("warm", "a", {"num_ctx": 2048})
    assert 90 < seconds <= 100


def test_a_model_of_others_is_given_back_as_the_structure_has_it_loaded(make_residence, server):
    server.load("a", expires_in=100, window=2048)
    residence = make_residence()
    residence.need("a", {"num_ctx": 8192, "num_gpu": 1}, lambda: NOTHING)
    server.load("a", window=8192)  # with that window, the server loads it anew
    residence.release(lambda: NOTHING)
    assert server.changes()[-1][3] == {"num_ctx": 8192, "num_gpu": 1}


def test_a_model_of_others_that_has_gone_is_not_loaded_to_be_given_back(make_residence, server):
    server.load("a", expires_in=100)
    residence = make_residence()
    residence.need("a", {}, lambda: NOTHING)
    del server.memory["a"]
    residence.release(lambda: NOTHING)
    assert server.changes() == []


def test_a_load_that_could_not_be_stopped_in_time_is_unloaded_at_the_end(make_residence, server):
    def warm(model, *, keep_alive, options):
        server.load(model)
        raise OllamaCancelledError("stopped")

    residence = make_residence()
    server.warm = warm
    residence.next_to_warm({"a": 1}, ())
    residence.warm("a", "a", "1h", {})
    residence.release(lambda: NOTHING)
    assert server.changes() == [("unload", "a")]


def test_a_model_of_others_that_was_to_stay_for_good_stays_for_good(make_residence, server):
    server.load("a", expires_in=292 * 365 * 86_400)
    residence = make_residence()
    _use(residence, server, "a")
    residence.release(lambda: NOTHING)
    assert server.changes() == [("warm", "a", -1, {"num_ctx": 4096})]


def test_a_model_of_others_that_was_not_used_is_left_alone(make_residence, server):
    server.load("a")
    residence = make_residence()
    residence.release(lambda: NOTHING)
    assert server.asked == []


def test_models_of_others_are_unloaded_when_told_to(make_residence, server):
    server.load("a")
    server.load("other")
    residence = make_residence(unload_foreign=True)
    _use(residence, server, "a")
    residence.need("b", {}, lambda: Wanted(coming={"a": 1}, busy=()))
    residence.release(lambda: NOTHING)
    assert server.changes() == [("unload", "other"), ("unload", "a")]


def test_a_model_that_somebody_else_loads_meanwhile_is_theirs(make_residence, server):
    residence = make_residence()
    _use(residence, server, "a")
    server.load("b")
    _use(residence, server, "b")
    residence.release(lambda: NOTHING)
    assert server.changes()[0] == ("unload", "a")
    assert ("unload", "b") not in server.asked
    assert _report(residence)["b"] == (0, 0.0, 0, 0)


def test_a_model_that_somebody_else_loads_after_it_was_unloaded_is_theirs(make_residence, server):
    residence = make_residence()
    _use(residence, server, "a")
    residence.release(lambda: NOTHING)
    _use(residence, server, "b")
    server.load("a")
    _use(residence, server, "a")
    residence.release(lambda: NOTHING)
    assert server.changes().count(("unload", "a")) == 1


def test_a_model_that_still_shows_after_it_was_unloaded_is_taken_to_be_gone(make_residence, server):
    residence = make_residence(room=Room(max_models=1))
    _use(residence, server, "a")
    server.lingering["a"] = server.memory["a"]
    residence.need("b", {}, lambda: NOTHING)
    assert not residence.is_there("a")
    server.load("b")
    residence.answered(_answer("b", 1.0), "b")
    assert not residence.is_there("a")
    assert server.changes() == [("unload", "a")]


def test_a_model_that_says_nothing_of_its_replies_is_found_by_looking(make_residence, server):
    residence = make_residence()
    residence.need("a", {}, lambda: NOTHING)
    server.load("a")
    residence.look_for(["a"])
    assert _report(residence)["a"] == (1, 0.0, 0, 0)
    residence.answered(_answer("a", 7.0), "a")
    assert _report(residence)["a"] == (1, 7.0, 0, 0)


def test_a_model_that_was_needed_and_never_asked_takes_no_room_any_more(make_residence, server):
    residence = make_residence(room=Room(max_models=1))
    residence.need("a", {}, lambda: NOTHING)
    residence.release(lambda: NOTHING)
    assert residence.next_to_warm({"b": 1}, ()) == "b"


def test_a_model_that_is_loaded_ahead_counts_as_there_and_is_not_chosen_again(make_residence, server):
    residence = make_residence()
    assert residence.next_to_warm({"a": 1}, ()) == "a"
    assert residence.next_to_warm({"a": 1}, ()) is None
    residence.release(lambda: NOTHING)
    assert residence.next_to_warm({"a": 1}, ()) is None
    residence.warm("a", "a", "1h", {"num_ctx": 7})
    assert residence.is_there("a")
    assert server.changes() == [("warm", "a", "1h", {"num_ctx": 7})]
    assert residence._ledger.report(Room()).ahead_seconds == 3.0


@pytest.mark.parametrize("give_up", ["cannot", "need not"])
def test_a_model_that_is_not_loaded_ahead_after_all_takes_no_room(make_residence, server, give_up):
    residence = make_residence(room=Room(max_models=1))
    residence.next_to_warm({"a": 1}, ())
    if give_up == "cannot":
        server.error = OllamaConnectionError("gone")
        residence.warm("a", "a", "1h", {})
    else:
        residence.give_up("a")
    assert residence.next_to_warm({"b": 1}, ()) == "b"


def test_sizes_are_those_on_disk_until_the_server_tells_the_real_ones(make_residence, server):
    residence = make_residence(room=Room(memory=25))
    for model in "abc":
        residence.expect_size(model, 10)
    for model in "ab":
        _use(residence, server, model)
    residence.need("c", {}, lambda: Wanted(coming={"a": 1, "b": 2}, busy=()))
    assert server.changes() == [("unload", "b")]


def test_a_model_that_turns_out_to_need_more_than_there_is_is_a_problem_in_the_report(make_residence, server):
    residence = make_residence(room=Room(memory=5))
    _use(residence, server, "a")
    (problem,) = residence._ledger.report(Room()).problems
    assert problem == "Model 'a' takes 10 bytes, more than memory=5."


def test_the_peak_counts_what_others_have_loaded_too(make_residence, server):
    server.load("other", size=7)
    residence = make_residence()
    _use(residence, server, "a")
    assert residence._ledger.report(Room()).peak_bytes == 17


def test_a_server_that_does_not_answer_is_logged_once_and_does_no_harm(make_residence, server, caplog):
    residence = make_residence()
    server.error = OllamaConnectionError("No Ollama server answers.")
    for model in "ab":
        _use(residence, server, model)
    residence.release(lambda: NOTHING)
    assert caplog.messages == ["No Ollama server answers. Going on without it."]
    assert residence._ledger.report(Room()).problems == ("No Ollama server answers. Going on without it.",)


def test_a_server_that_hangs_is_not_asked_again_for_a_while(make_residence, server):
    residence = make_residence()
    server.error = OllamaTimeoutError("too slow")
    for model in "abcd":
        residence.need(model, {}, lambda: NOTHING)
    assert server.asked == [("ps",)]


def test_a_model_that_could_not_be_unloaded_is_unloaded_later(make_residence, server):
    residence = make_residence()
    _use(residence, server, "a")
    server.error = OllamaConnectionError("busy")
    residence.release(lambda: NOTHING)
    server.error = None
    residence.release(lambda: NOTHING)
    assert server.changes() == [("unload", "a"), ("unload", "a")]
    assert _report(residence)["a"] == (1, 5.0, 1, 0)
