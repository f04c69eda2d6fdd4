"""Which models are in memory."""

import threading
from datetime import datetime, timedelta, timezone

import pytest

from griptape_ollama import (
    OllamaCancelledError,
    OllamaContentError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaTimeoutError,
)
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

LOAD_SECONDS = 0.3
SLOW = SimulatedModel(name="slow", size=1000, load_seconds=LOAD_SECONDS)
BROKEN = SimulatedModel(name="broken", size=1001, load_error="unable to load model")
EMBED = SimulatedModel(name="embed", size=1002, capabilities=("embedding",), family="bert")
GPU = SimulatedModel(name="gpu", size=10_000_000, size_vram=7_621_440)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[SLOW, BROKEN, EMBED, GPU]) as simulator:
        yield simulator


@pytest.fixture
def still(manage):
    """A server whose time stands still, and the manager of its models."""
    with OllamaSimulator(models=[SLOW], time_scale=0) as simulator:
        yield simulator, manage(simulator)


class TestWarm:
    def test_it_loads_without_a_prompt_and_returns_the_seconds(self, simulator, models):
        result = models.warm("slow")
        assert simulator.loaded_models == ["slow:latest"]
        assert (result.model, result.was_loaded) == ("slow", False)
        assert LOAD_SECONDS <= result.load_seconds < 60
        assert result.loaded is not None
        assert result.loaded.name == "slow:latest"
        (request,) = [each for each in simulator.requests if each.path == "/api/generate"]
        assert request.body == {"model": "slow", "stream": False}

    def test_what_is_loaded_is_not_loaded_again(self, models):
        models.warm("slow")
        again = models.warm("slow")
        assert again.was_loaded
        assert again.load_seconds < LOAD_SECONDS

    @pytest.mark.parametrize("keep_alive", [600, "10m", timedelta(minutes=10)])
    def test_it_may_say_how_long_the_model_stays(self, still, keep_alive):
        simulator, models = still
        threading.Thread(target=lambda: (simulator.wait_for_sleeper(), simulator.advance(30))).start()
        loaded = models.warm("slow", keep_alive).loaded
        simulator.advance(599)
        assert simulator.loaded_models == ["slow:latest"]
        simulator.advance(1)
        assert simulator.loaded_models == []
        assert not loaded.stays_for_good

    def test_it_may_stay_for_good(self, models):
        assert models.warm("slow", -1).loaded.stays_for_good

    def test_a_wrong_duration_is_refused_before_anything_is_sent(self, simulator, models):
        with pytest.raises(OllamaContentError, match="keep_alive='ten' is not a duration"):
            models.warm("slow", "ten")
        assert simulator.requests == []

    def test_it_may_have_the_window_of_the_requests_to_come(self, models):
        assert models.warm("slow", options={"num_ctx": 2048}).loaded.context_length == 2048

    def test_a_loaded_model_keeps_its_window(self, models):
        models.warm("slow", options={"num_ctx": 2048})
        again = models.warm("slow", "20m")
        assert again.loaded.context_length == 2048
        assert again.load_seconds < LOAD_SECONDS

    def test_an_embedding_model_is_loaded_too(self, simulator, models):
        assert models.warm("embed").loaded.name == "embed:latest"
        assert simulator.loaded_models == ["embed:latest"]

    def test_an_unknown_model_is_an_error(self, models):
        with pytest.raises(OllamaModelNotFoundError, match="ollama pull nope"):
            models.warm("nope")

    def test_a_model_that_cannot_be_loaded_is_an_error(self, models):
        with pytest.raises(OllamaResponseError, match="unable to load model"):
            models.warm("broken")

    def test_cancelling_gives_up_the_load(self, still, in_background):
        simulator, models = still
        warming = in_background(models.warm, "slow")
        simulator.wait_for_sleeper()
        models.cancel()
        with pytest.raises(OllamaCancelledError):
            warming.result(5)
        assert simulator.wait_for_disconnect()
        assert simulator.loaded_models == []


class TestLoaded:
    def test_each_loaded_model_has_its_memory_and_its_expiry(self, models):
        models.warm("gpu", 600)
        (loaded,) = models.loaded()
        assert (loaded.name, loaded.size, loaded.size_vram, loaded.context_length) == (
            "gpu:latest", 15_242_880, 7_621_440, 4096,
        )  # fmt: skip
        assert loaded.gpu_share == 0.5
        assert loaded.digest == next(each.digest for each in models.list() if each.name == "gpu:latest")
        assert loaded.expires_at.tzinfo is not None
        assert loaded.expires_at > datetime.now(timezone.utc)

    def test_nothing_loaded_is_an_empty_list(self, models):
        assert models.loaded() == []


class TestUnload:
    def test_a_loaded_model_is_unloaded(self, simulator, models):
        models.warm("slow")
        assert models.unload("slow") is True
        assert simulator.loaded_models == []

    def test_an_embedding_model_is_unloaded_too(self, simulator, models):
        models.warm("embed")
        assert models.unload("embed") is True
        assert simulator.loaded_models == []

    def test_a_model_that_is_not_loaded_is_not_touched(self, simulator, models, count):
        assert models.unload("slow") is False
        assert count(simulator, "/api/generate") == 0

    def test_an_unknown_model_cannot_be_unloaded(self, models):
        with pytest.raises(OllamaModelNotFoundError, match="has no model 'nope'"):
            models.unload("nope")

    def test_another_name_of_the_same_model_will_do(self, simulator, models):
        models.copy("slow", "main")
        models.warm("slow")
        assert models.unload("MAIN") is True
        assert simulator.loaded_models == []

    def test_all_models_are_unloaded(self, simulator, models):
        models.warm("slow")
        models.warm("gpu")
        assert sorted(models.unload_all()) == ["gpu:latest", "slow:latest"]
        assert simulator.loaded_models == []
        assert models.unload_all() == []

    def test_a_deleted_model_cannot_be_unloaded(self, simulator, models):
        models.warm("slow")
        models.warm("gpu")
        models.client.delete("slow")
        for unload in (lambda: models.unload("slow"), models.unload_all):
            with pytest.raises(OllamaModelNotFoundError, match=r"has loaded as 'slow.*' was deleted or replaced"):
                unload()
        assert simulator.loaded_models == ["slow:latest"]

    def test_a_name_that_means_another_model_now_is_not_taken_for_the_loaded_one(self, simulator, models):
        models.copy("slow", "main")
        models.warm("main")
        models.copy("gpu", "main")
        assert models.unload_all() == ["main:latest"]
        assert simulator.loaded_models == []

    def test_a_model_that_was_replaced_by_other_weights_cannot_be_unloaded(self, simulator, models):
        models.create("main", from_model="slow", system="x")
        models.warm("main")
        models.copy("gpu", "main")
        with pytest.raises(OllamaModelNotFoundError, match="leaves when its keep_alive is over"):
            models.unload("main")
        assert simulator.loaded_models == ["main:latest"]

    def test_a_model_that_was_replaced_with_the_same_weights_can_be_unloaded(self, simulator, models):
        models.create("main", from_model="slow", system="x")
        models.warm("main")
        models.create("main", from_model="slow", system="y")
        assert models.unload("main") is True
        assert simulator.loaded_models == []

    def test_models_with_the_same_weights_are_unloaded_together(self, simulator, models):
        models.create("main", from_model="slow", system="x")
        models.warm("slow")
        assert models.unload("gpu") is False
        assert models.warm("main").was_loaded
        assert models.unload("main") is True
        assert simulator.loaded_models == []


class TestWaiting:
    def test_a_model_that_is_not_loaded_needs_no_wait(self, models):
        assert models.wait_until_unloaded("slow") < 30

    def test_it_returns_when_a_busy_model_has_gone(self, still, in_background):
        simulator, models = still
        warming = in_background(models.warm, "slow", 60)
        simulator.wait_for_sleeper()
        simulator.advance(30)
        warming.result(5)
        before = len(simulator.requests)
        waiting = in_background(models.wait_until_unloaded, "slow")
        simulator.wait_for_request(before + 3)
        assert not waiting.done()
        simulator.advance(60)
        assert waiting.result(5) > 0

    def test_a_model_that_stays_is_an_error_in_the_end(self, models):
        models.warm("slow", -1)
        with pytest.raises(OllamaTimeoutError, match=r"'slow' is still loaded in Ollama at .* after 0\.\d s") as caught:
            models.wait_until_unloaded("slow", timeout=0.1)
        assert caught.value.limit == "unload"

    def test_the_total_limit_counts_too(self, simulator, manage):
        models = manage(simulator, timeout=1.0)
        models.warm("slow", -1)
        with pytest.raises(OllamaTimeoutError):
            models.wait_until_unloaded("slow", timeout=None)

    def test_cancelling_ends_the_wait(self, simulator, models, in_background):
        models.warm("slow", -1)
        before = len(simulator.requests)
        waiting = in_background(models.wait_until_unloaded, "slow", None)
        simulator.wait_for_request(before + 2)
        models.cancel()
        with pytest.raises(OllamaCancelledError):
            waiting.result(5)
