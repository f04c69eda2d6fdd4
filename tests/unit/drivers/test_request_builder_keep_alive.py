"""Requests have the keep_alive of a plan that is in force, otherwise that of their driver."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from griptape.artifacts import TextArtifact
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape.structures import Agent
from griptape.utils import with_contextvars

from griptape_ollama.models import keep_alive_leases as holds
from griptape_ollama.models.keep_alive_leases import overriding_keep_alives

HI = TextArtifact("Hi")


@pytest.fixture
def override(simulator):
    """Plans for the models of the simulator."""

    def plan(keep_alive="1h", models=("simulator", "simulator-embed")):
        return overriding_keep_alives(
            lambda host, model: keep_alive if (host, model) in {(simulator.url, each) for each in models} else None
        )

    return plan


def _sent(simulator):
    return [
        "unload" if request.path == "/api/generate" else request.body.get("keep_alive")
        for request in simulator.requests
        if request.path in ("/api/chat", "/api/embed", "/api/generate")
    ]


@pytest.mark.parametrize("own", [{}, {"keep_alive": 0}, {"keep_alive": "7m"}, {"extra_params": {"keep_alive": 0}}])
@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_has_the_planned_keep_alive_and_afterwards_its_own(simulator, make_driver, override, own, stream):
    driver = make_driver(stream=stream, **own)
    with override():
        driver.run(HI)
    driver.run(HI)
    assert _sent(simulator) == ["1h", own.get("keep_alive", own.get("extra_params", {}).get("keep_alive"))]


def test_nothing_is_held_or_unloaded_between_turns_that_are_planned(simulator, make_driver, weather_tool, override):
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    simulator.reply("12 degrees.")
    with override():
        Agent(prompt_driver=make_driver(keep_alive=0), tools=[weather_tool]).run("Oslo?")
    assert _sent(simulator) == ["1h", "1h"]
    assert simulator.loaded_models == ["simulator:latest"]
    assert holds._leases == {}


def test_a_planned_keep_alive_of_0_is_held_between_turns_as_any_other(simulator, make_driver, weather_tool, override):
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    simulator.reply("12 degrees.")
    with override(0):
        Agent(prompt_driver=make_driver(keep_alive="1h"), tools=[weather_tool]).run("Oslo?")
    assert _sent(simulator) == [300, 300, "unload"]


def test_models_that_the_plan_leaves_out_are_asked_as_their_driver_says(simulator, make_driver, override):
    with override(models=("another",)):
        make_driver(keep_alive=0).run(HI)
    assert _sent(simulator) == [0]


def test_a_wrong_keep_alive_of_a_driver_is_refused_within_a_plan_too(simulator, make_driver, override):
    with override(), pytest.raises(ValueError, match="keep_alive='60' has no unit"):
        make_driver(extra_params={"keep_alive": "60"}).run(HI)
    assert simulator.chats == []


def test_another_thread_at_the_same_time_is_not_in_the_plan(simulator, make_driver, override):
    driver = make_driver(keep_alive="7m")
    with override():
        thread = threading.Thread(target=driver.run, args=(HI,))
        thread.start()
        thread.join()
        driver.run(HI)
    assert _sent(simulator) == ["7m", "1h"]


def test_threads_of_the_framework_are_in_the_plan(simulator, make_driver, override):
    driver = make_driver(keep_alive="7m")
    with override(), ThreadPoolExecutor(2) as pool:
        list(pool.map(with_contextvars(driver.run), [HI]))
    assert _sent(simulator) == ["1h"]


@pytest.mark.parametrize("own", [{}, {"keep_alive": 0}, {"extra_params": {"keep_alive": 0}}])
@pytest.mark.parametrize("gather_seconds", [0, 0.01])
def test_a_text_has_the_planned_keep_alive_and_nothing_is_unloaded(
    simulator, make_embedder, override, own, gather_seconds
):
    embedder = make_embedder(gather_seconds=gather_seconds, **own)
    with override():
        embedder.embed("llama")
        embedder.embed("llama " * 100)
    assert _sent(simulator) == ["1h", "1h"]


def test_batches_have_the_planned_keep_alive(simulator, make_embedder, override):
    embedder = make_embedder(keep_alive=0, batch_size=4)
    texts = [f"llama {number}" for number in range(10)]
    with override():
        embedder.embed_batch(texts)
        list(embedder.iter_embed_batch(f"alpaca {text}" for text in texts))
    assert _sent(simulator) == ["1h"] * 6


def test_texts_that_are_gathered_and_prefetched_have_the_planned_keep_alive(simulator, make_embedder, override):
    embedder = make_embedder(keep_alive=0, batch_size=4)
    store = LocalVectorStoreDriver(embedding_driver=embedder)
    gathered, prefetched = ([TextArtifact(f"{word} {number}") for number in range(20)] for word in ("llama", "alpaca"))
    with override():
        store.upsert_collection(gathered)
        before = len(_sent(simulator))
        with embedder.prefetch(prefetched):
            store.upsert_collection(prefetched)
    assert set(_sent(simulator)) == {"1h"}
    assert len(_sent(simulator)) - before == 5
    assert holds._leases == {}


def test_texts_of_callers_within_and_outside_the_plan_do_not_share_a_request(simulator, make_embedder, override):
    embedder = make_embedder(keep_alive="7m", gather_seconds=0.2)
    all_here = threading.Barrier(4, timeout=10)

    def embed(text):
        all_here.wait()
        embedder.embed(text)

    with ThreadPoolExecutor(4) as pool:
        outside = [pool.submit(embed, f"outside {number}") for number in range(2)]
        with override():
            inside = [pool.submit(with_contextvars(embed), f"inside {number}") for number in range(2)]
        for each in (*outside, *inside):
            each.result(10)
    requests = [request.body for request in simulator.requests if request.path == "/api/embed"]
    for body in requests:
        where = "inside" if body["keep_alive"] == "1h" else "outside"
        assert {text.split()[0] for text in body["input"]} == {where}
    assert {body["keep_alive"] for body in requests} == {"1h", "7m"}


def test_what_was_prefetched_outside_the_plan_is_not_asked_for_again_within_it(simulator, make_embedder, override):
    embedder = make_embedder(keep_alive="7m")
    texts = [f"llama {number}" for number in range(10)]
    with embedder.prefetch(texts, vector_operation=None), override():
        for text in texts:
            embedder.embed(text)
    assert _sent(simulator) == ["7m"]
