"""Models in memory: loading, expiry, eviction and slots."""

import threading
import time
from datetime import datetime, timezone

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

GB = 10**9

MODELS = [SimulatedModel(name=name, size=4 * GB) for name in ("a", "b", "c", "d")]

# Of models that stay equally long, the one whose weights come first by name of their file makes room first.
BY_WEIGHTS = [model.name for model in sorted(MODELS, key=lambda model: model.weights_digest)]


def names(simulator):
    return [name.removesuffix(":latest") for name in simulator.loaded_models]


def load(chat, simulator, name, **body):
    response = chat(simulator, model=name, messages=[], **body)
    assert response.status_code == 200, response.text


def ps(simulator):
    return httpx.get(f"{simulator.url}/api/ps").json()["models"]


def test_an_idle_model_is_evicted_for_another(chat):
    with OllamaSimulator(MODELS, memory=9 * GB) as simulator:
        for name in ("a", "b", "c"):
            load(chat, simulator, name)
        (evicted,) = {"a", "b", "c"}.difference(names(simulator))
        assert evicted in ("a", "b")


def test_of_equal_keep_alive_the_path_of_the_weights_decides(chat):
    first, second, third, _ = BY_WEIGHTS
    for order in ((first, second), (second, first)):
        with OllamaSimulator(MODELS, max_loaded_models=2) as simulator:
            for name in (*order, third):
                load(chat, simulator, name)
            assert names(simulator) == [second, third]


def test_the_model_with_the_shortest_keep_alive_is_evicted_first(chat):
    with OllamaSimulator(MODELS, memory=9 * GB) as simulator:
        load(chat, simulator, "a", keep_alive=-1)
        load(chat, simulator, "b", keep_alive=60)
        load(chat, simulator, "c")
        assert names(simulator) == ["a", "c"]


def test_by_default_three_models_are_in_memory_at_a_time(chat):
    with OllamaSimulator(MODELS) as simulator:
        for name in ("a", "b", "c", "d"):
            load(chat, simulator, name)
        assert len(names(simulator)) == 3
        assert names(simulator)[-1] == "d"


def test_a_model_larger_than_the_memory_is_rejected(chat):
    with OllamaSimulator(MODELS, memory=GB) as simulator:
        response = chat(simulator, model="a")
        assert response.status_code == 500
        assert response.json()["error"].startswith("model requires more system memory (3.7 GiB) than is available (0.9")
        assert names(simulator) == []


def test_a_busy_model_is_not_evicted_but_waited_for(chat, in_background):
    goes_on = threading.Event()
    with OllamaSimulator(MODELS, max_loaded_models=1) as simulator:
        simulator.reply("slow", model="a", wait=goes_on)
        busy = in_background(chat, simulator, model="a")
        simulator.wait_for_request()
        waiting = in_background(chat, simulator, model="b")
        simulator.wait_for_request(2)
        assert names(simulator) == ["a"]
        goes_on.set()
        assert (busy.result(5).status_code, waiting.result(5).status_code) == (200, 200)
        assert names(simulator) == ["b"]


def test_another_window_reloads_the_model(chat, lines):
    model = SimulatedModel(name="m", load_seconds=0.01)
    with OllamaSimulator([model]) as simulator:
        sizes = [{}, {}, {"num_ctx": 512}, {"num_ctx": 512}]
        loads = [lines(simulator, model="m", options=options)[-1]["load_duration"] >= 1e7 for options in sizes]
        assert loads == [True, False, True, False]
        (entry,) = httpx.get(f"{simulator.url}/api/ps").json()["models"]
        assert entry["context_length"] == 512


def test_a_new_window_waits_until_the_model_is_idle(chat, in_background):
    goes_on = threading.Event()
    with OllamaSimulator() as simulator:
        simulator.reply("slow", wait=goes_on)
        busy = in_background(chat, simulator)
        simulator.wait_for_request()
        waiting = in_background(chat, simulator, options={"num_ctx": 512})
        simulator.wait_for_request(2)
        assert not waiting.done()
        goes_on.set()
        assert (busy.result(5).status_code, waiting.result(5).status_code) == (200, 200)


def test_one_model_answers_one_request_at_a_time_and_sends_no_headers_before(connect, read_until):
    goes_on = threading.Event()
    with OllamaSimulator() as simulator:
        simulator.reply("first", pause=(1, goes_on))
        simulator.reply("second")
        first = connect(simulator)
        read_until(first, b"}\n\r\n")
        second = connect(simulator)
        simulator.wait_for_request(2)
        second.settimeout(0.05)
        with pytest.raises(TimeoutError):
            second.recv(1)
        second.settimeout(5)
        goes_on.set()
        assert b"second" in read_until(second, b"0\r\n\r\n")


def test_two_models_answer_at_the_same_time(chat, in_background):
    goes_on = threading.Event()
    with OllamaSimulator(MODELS) as simulator:
        simulator.reply("slow", model="a", wait=goes_on)
        busy = in_background(chat, simulator, model="a")
        simulator.wait_for_request()
        assert chat(simulator, model="b").status_code == 200
        assert not busy.done()
        goes_on.set()


def test_num_parallel_requests_are_answered_at_a_time(chat, in_background):
    everybody = threading.Barrier(3, timeout=5)

    def meet(_request):
        everybody.wait()
        return "we are three"

    with OllamaSimulator(num_parallel=3) as simulator:
        simulator.reply(meet, times=None)
        futures = [in_background(chat, simulator) for _ in range(3)]
        assert all("three" in future.result(10).text for future in futures)


def test_waiting_requests_are_answered_in_order_of_arrival(chat, in_background):
    goes_on = threading.Event()
    with OllamaSimulator() as simulator:
        simulator.reply("first", wait=goes_on)
        simulator.reply("second")
        simulator.reply("third")
        futures = []
        for number in range(3):
            futures.append(in_background(chat, simulator, stream=False))
            simulator.wait_for_request(number + 1)
        goes_on.set()
        answers = [future.result(5).json()["message"]["content"] for future in futures]
        assert answers == ["first", "second", "third"]


def test_too_many_requests_that_wait_for_memory_get_status_503(chat, in_background):
    goes_on = threading.Event()
    with OllamaSimulator(MODELS, max_loaded_models=1, max_queue=1) as simulator:
        simulator.reply("slow", model="a", wait=goes_on)
        in_background(chat, simulator, model="a")
        simulator.wait_for_request()
        # One waits for memory, one is in the queue, the rest find it full.
        futures = []
        for number in range(4):
            futures.append(in_background(chat, simulator, model="b"))
            simulator.wait_for_request(number + 2)
        refused = [future.result(5) for future in futures[2:]]
        goes_on.set()
        assert [future.result(5).status_code for future in futures[:2]] == [200, 200]
    assert [response.status_code for response in refused] == [503, 503]
    assert refused[0].json()["error"].startswith("server busy, please try again.")


def test_a_disconnect_leaves_the_queue(chat, connect, read_until):
    goes_on = threading.Event()
    with OllamaSimulator() as simulator:
        simulator.reply("first", pause=(1, goes_on))
        first = connect(simulator)
        read_until(first, b"}\n\r\n")
        second = connect(simulator)
        simulator.wait_for_request(2)
        second.close()
        simulator.wait_for_disconnect()
        goes_on.set()
        read_until(first, b"0\r\n\r\n")
        assert chat(simulator).status_code == 200


def test_a_disconnect_cancels_the_load(connect, chat, in_background):
    with OllamaSimulator([SimulatedModel(name="simulator", load_seconds=60)], time_scale=0) as simulator:
        connection = connect(simulator)
        simulator.wait_for_sleeper()
        joined = in_background(chat, simulator)
        simulator.wait_for_request(2)
        connection.close()
        simulator.wait_for_disconnect()
        # The other one has to load it for itself.
        simulator.wait_for_sleeper()
        assert simulator.loaded_models == []
        simulator.advance(60)
        assert joined.result(5).status_code == 200


def test_keep_alive_0_does_not_stop_a_running_reply(chat, in_background):
    goes_on = threading.Event()
    with OllamaSimulator() as simulator:
        simulator.reply("slow", wait=goes_on)
        busy = in_background(chat, simulator)
        simulator.wait_for_request()
        assert chat(simulator, messages=[], keep_alive=0).json()["done_reason"] == "unload"
        assert names(simulator) == ["simulator"]
        goes_on.set()
        assert busy.result(5).status_code == 200


@pytest.mark.parametrize("loaded_for", [{"keep_alive": 600}, {"keep_alive": "10m"}, {"keep_alive": -1}])
def test_a_request_without_keep_alive_does_not_change_that_of_the_model(chat, loaded_for):
    with OllamaSimulator(time_scale=0) as simulator:
        chat(simulator, **loaded_for)
        chat(simulator)
        simulator.advance(599)
        assert names(simulator) == ["simulator"]
        chat(simulator)  # begins the time anew
        simulator.advance(599)
        assert names(simulator) == ["simulator"]
        simulator.advance(1)
        assert names(simulator) == (["simulator"] if loaded_for["keep_alive"] == -1 else [])


def test_the_last_request_with_a_keep_alive_wins(chat):
    with OllamaSimulator(time_scale=0) as simulator:
        for keep_alive in (-1, 10, 20):
            chat(simulator, keep_alive=keep_alive)
        simulator.advance(19)
        assert names(simulator) == ["simulator"]
        simulator.advance(1)
        assert names(simulator) == []


def test_after_a_reload_the_keep_alive_is_five_minutes_again(chat):
    with OllamaSimulator(time_scale=0) as simulator:
        chat(simulator, keep_alive=0)
        chat(simulator)
        simulator.advance(299)
        assert names(simulator) == ["simulator"]
        simulator.advance(1)
        assert names(simulator) == []


def test_a_model_that_is_being_loaded_cannot_be_unloaded(chat, in_background):
    with OllamaSimulator([SimulatedModel(name="simulator", load_seconds=60)], time_scale=0) as simulator:
        busy = in_background(chat, simulator)
        simulator.wait_for_sleeper()
        assert chat(simulator, messages=[], keep_alive=0).json()["done_reason"] == "unload"
        simulator.advance(60)
        assert busy.result(5).status_code == 200
        assert names(simulator) == ["simulator"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_chat_and_generate_unload_models_of_any_kind(post, path):
    kinds = [SimulatedModel(name="chat"), SimulatedModel(name="embed", capabilities=("embedding",))]
    kinds += [SimulatedModel(name="broken", load_error="no")]
    with OllamaSimulator(kinds) as simulator:
        post(simulator, "/api/embed", model="embed", input="hi")
        post(simulator, "/api/chat", model="chat")
        assert len(names(simulator)) == 2
        for model in kinds:
            answer = post(simulator, path, model=model.name, keep_alive=0, options={"num_ctx": "wrong"}).json()
            assert answer["done_reason"] == "unload"
        assert names(simulator) == []


@pytest.mark.parametrize("limits", [{"max_loaded_models": 0}, {"num_parallel": 0}, {"max_queue": -1}, {"memory": -5}])
def test_invalid_limits_raise_an_error(limits):
    with pytest.raises(ValueError, match="at least one model"):
        OllamaSimulator(**limits)


def test_models_with_the_same_weights_are_loaded_once(simulator, post, chat):
    post(simulator, "/api/copy", source="simulator", destination="copy")
    chat(simulator)
    assert chat(simulator, model="copy", stream=False).json()["model"] == "copy"
    assert names(simulator) == ["simulator"]


def test_a_request_loads_its_model_for_its_keep_alive(simulator, chat):
    assert ps(simulator) == []
    chat(simulator, keep_alive="10m")
    (loaded,) = ps(simulator)
    assert loaded["name"] == "simulator:latest"
    assert loaded["context_length"] == 4096
    expires = datetime.strptime(loaded["expires_at"][:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    assert 300 < expires.timestamp() - time.time() < 601


def test_a_model_is_unloaded_when_it_expires(chat):
    with OllamaSimulator(time_scale=0) as simulator:
        chat(simulator, keep_alive=60)
        simulator.advance(59)
        assert simulator.loaded_models == ["simulator:latest"]
        simulator.advance(2)
        assert ps(simulator) == []


def test_keep_alive_zero_unloads_after_the_reply(simulator, chat, chat_text):
    simulator.reply("bye")
    assert chat_text(simulator, keep_alive=0) == "bye"
    assert simulator.loaded_models == []


def test_a_model_in_use_is_not_unloaded(simulator, chat, connect, read_until):
    event = threading.Event()
    simulator.reply("held", pause=(1, event))
    connection = connect(simulator)
    read_until(connection, b"}\n\r\n")
    assert chat(simulator, messages=[], keep_alive=0).json()["done_reason"] == "unload"
    assert simulator.loaded_models == ["simulator:latest"]
    event.set()
    read_until(connection, b"0\r\n\r\n")


def test_a_request_without_messages_loads_and_with_keep_alive_zero_unloads(simulator, chat):
    assert chat(simulator, messages=[]).json()["done_reason"] == "load"
    assert simulator.loaded_models == ["simulator:latest"]
    assert chat(simulator, messages=[], keep_alive=0).json()["done_reason"] == "unload"
    assert simulator.loaded_models == []


def test_a_disconnect_releases_the_model(simulator, connect):
    simulator.reply("never", headers_delay=60)
    connection = connect(simulator, keep_alive=0)
    simulator.wait_for_request()
    connection.close()
    simulator.wait_for_disconnect()
    assert simulator.loaded_models == []


def test_ps_lists_the_latest_expiry_first():
    models = [SimulatedModel(name=name) for name in ("a", "b", "c")]
    with OllamaSimulator(models) as simulator:
        for name, seconds in (("a", 30), ("b", -1), ("c", 300)):
            httpx.post(f"{simulator.url}/api/chat", json={"model": name, "keep_alive": seconds})
        assert [entry["name"] for entry in ps(simulator)] == ["b:latest", "c:latest", "a:latest"]
        assert simulator.loaded_models == ["a:latest", "b:latest", "c:latest"]


def test_loading_takes_time_once_and_again_for_another_window(lines):
    with OllamaSimulator([SimulatedModel(name="slow", load_seconds=0.5)]) as simulator:
        took = [
            lines(simulator, model="slow", **body)[-1]["load_duration"] / 1e9
            for body in ({}, {}, {"options": {"num_ctx": 512}})
        ]
    assert took[0] >= 0.5
    assert took[1] < 0.5
    assert took[2] >= 0.5


def test_a_model_that_cannot_load_answers_500(chat):
    with OllamaSimulator([SimulatedModel(name="broken", load_error="tensor not found")]) as simulator:
        for messages in ([], [{"role": "user", "content": "hi"}]):
            response = chat(simulator, model="broken", messages=messages)
            assert (response.status_code, response.json()) == (500, {"error": "tensor not found"})
        assert chat(simulator, model="broken", messages=[], keep_alive=0).json()["done_reason"] == "unload"
