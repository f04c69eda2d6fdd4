import asyncio
import time

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.testing.clock import Clock


def loaded(post, simulator):
    return [entry["name"] for entry in post(simulator, "/api/ps", "GET").json()["models"]]


def test_a_scale_of_1_is_real_time():
    clock = Clock()
    began = time.monotonic()
    asyncio.run(clock.sleep(0.05))
    assert 0.05 <= clock.seconds <= time.monotonic() - began + 5
    assert abs(clock.now_ns - time.time_ns()) < 1_000_000_000


def test_a_scale_makes_time_faster():
    clock = Clock(1000)
    began = time.monotonic()
    asyncio.run(clock.sleep(50))
    assert time.monotonic() - began < 25
    assert clock.seconds >= 50


def test_with_scale_0_time_stands_still_until_it_is_advanced():
    async def live():
        clock = Clock(0)
        sleeping = asyncio.create_task(clock.sleep(300))
        await asyncio.sleep(0)
        assert (clock.sleepers, clock.seconds) == (1, 0)
        clock.advance(299)
        await asyncio.sleep(0.01)
        assert not sleeping.done()
        clock.advance(1)
        await asyncio.wait_for(sleeping, 1)
        assert (clock.sleepers, clock.seconds) == (0, 300)

    asyncio.run(live())


def test_time_can_be_advanced_while_it_runs():
    clock = Clock()
    clock.advance(1000)
    assert 1000 <= clock.seconds < 1010


@pytest.mark.parametrize("scale", [-1, float("nan"), float("inf")])
def test_an_invalid_scale_raises_an_error(scale):
    with pytest.raises(ValueError, match="time_scale="):
        OllamaSimulator(time_scale=scale)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_does_not_go_back(simulator, seconds):
    with pytest.raises(ValueError, match="time goes forward only"):
        simulator.advance(seconds)


def test_keep_alive_expires_on_the_simulated_clock(chat, post):
    with OllamaSimulator(time_scale=0) as simulator:
        chat(simulator)
        simulator.advance(299)
        assert loaded(post, simulator) == ["simulator:latest"]
        simulator.advance(1)
        assert loaded(post, simulator) == []
        assert simulator.time == 300


def test_loading_takes_simulated_time_and_reports_it(chat, in_background):
    model = SimulatedModel(name="slow", load_seconds=20)
    with OllamaSimulator([model], time_scale=0) as simulator:
        waiting = in_background(chat, simulator, model="slow", stream=False)
        simulator.wait_for_sleeper()
        assert simulator.loaded_models == []
        simulator.advance(20)
        last = waiting.result(5).json()
        assert simulator.loaded_models == ["slow:latest"]
    assert last["load_duration"] >= 20e9
    assert last["total_duration"] >= last["load_duration"]
    assert simulator.last_chat.outcome.load_seconds == 20


def test_delays_and_token_speed_use_the_simulated_clock(lines, in_background):
    with OllamaSimulator(tokens_per_second=1, time_scale=100) as simulator:
        simulator.reply("one two three", headers_delay=10)
        began = time.monotonic()
        assert len(lines(simulator)) == 4
        assert time.monotonic() - began < 12
        assert simulator.time >= 13


def test_waiting_for_a_missing_sleeper_times_out(simulator):
    with pytest.raises(TimeoutError, match=r"0 of 1 requests wait for time to pass"):
        simulator.wait_for_sleeper(timeout=0.01)
