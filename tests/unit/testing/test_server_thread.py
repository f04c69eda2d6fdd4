"""The thread that serves: port, connections and stopping."""

import gc
import socket
import subprocess
import sys
import threading
import time
import warnings

import pytest

from griptape_ollama.testing import OllamaSimulator


def server_threads():
    return [thread for thread in threading.enumerate() if thread.name == "ollama-simulator"]


def test_it_listens_on_loopback_only(simulator):
    assert simulator.url.startswith("http://127.0.0.1:")
    assert simulator.host == simulator.url


def test_stop_ends_the_thread_and_can_be_called_twice():
    before = server_threads()  # of fixtures that last longer than a test
    simulator = OllamaSimulator().start()
    assert len(server_threads()) == len(before) + 1
    simulator.stop()
    simulator.stop()
    assert server_threads() == before
    assert not simulator.is_serving


def test_a_taken_port_is_an_error_at_start(simulator):
    port = int(simulator.url.rsplit(":", 1)[1])
    other = OllamaSimulator(port=port)
    with pytest.raises(OSError, match=rf"port {port} of 127\.0\.0\.1 is taken .*port=0 finds a free one"):
        other.start()
    assert not other.is_serving


def test_stopping_ends_hanging_replies(connect, read_all):
    never = threading.Event()
    with OllamaSimulator(num_parallel=2) as simulator:
        simulator.reply("never said", wait=never)
        waiting = connect(simulator)
        simulator.reply("half said", pause=(1, never))
        paused = connect(simulator)
        simulator.wait_for_request(2)
        paused.recv(1)
    assert read_all(waiting)[0] == b""
    assert b"half" in read_all(paused)[0]
    assert simulator.disconnects == []


def test_stopping_does_not_wait_for_a_client_that_does_not_read(connect):
    before = server_threads()  # of fixtures that last longer than a test
    with OllamaSimulator() as simulator:
        simulator.reply(text=["x" * 10_000] * 10_000)
        connect(simulator)
        simulator.wait_for_request()
    assert server_threads() == before


def test_stopping_does_not_wait_for_a_reply_function_that_blocks(connect):
    entered, release = threading.Event(), threading.Event()

    def block(request):
        entered.set()
        release.wait(60)
        return "too late"

    simulator = OllamaSimulator().start()
    simulator.reply(block)
    connect(simulator)
    assert entered.wait(5)
    began = time.monotonic()
    simulator.stop()
    assert time.monotonic() - began < 30
    blocked = [thread for thread in threading.enumerate() if thread.name == "ollama-simulator-reply"]
    release.set()
    for thread in blocked:
        thread.join(5)
        assert not thread.is_alive()


def test_stopping_leaves_no_open_sockets(chat):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with OllamaSimulator() as simulator:
            chat(simulator)
        del simulator
        gc.collect()


def test_a_running_simulator_does_not_keep_the_process_alive():
    code = """
        from griptape_ollama.testing import OllamaSimulator
        import httpx
        simulator = OllamaSimulator().start()
        print(httpx.get(simulator.url).text)
    """
    code = "\n".join(line.strip() for line in code.splitlines())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Ollama is running\n", "")


def test_connections_accepted_while_stopping_are_closed():
    for _ in range(20):
        simulator = OllamaSimulator().start()
        address = ("127.0.0.1", int(simulator.url.rsplit(":", 1)[1]))
        clients = [socket.create_connection(address) for _ in range(3)]
        simulator.close()
        for client in clients:
            client.close()
    gc.collect()  # what was left open would warn, and a warning fails the test
