"""Faults on demand: what goes wrong, and for which requests."""

import json
import time

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

TEXT = "one two three four"


def body_lines(data):
    return [json.loads(line) for line in data.split(b"\n") if line.startswith(b"{")]


def statuses(chat, simulator, count, **body):
    return [chat(simulator, **body).status_code for _ in range(count)]


class TestKinds:
    def test_refused_connections_are_refused_until_the_faults_are_cleared(self, simulator, chat):
        simulator.fault("refuse")
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                chat(simulator)
        simulator.clear_faults()
        assert chat(simulator).status_code == 200

    def test_the_port_opens_again_after_some_seconds(self, chat):
        with OllamaSimulator(time_scale=0) as simulator:
            simulator.fault("refuse", seconds=30)
            with pytest.raises(httpx.ConnectError):
                chat(simulator)
            simulator.wait_for_sleeper()
            simulator.advance(30)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                try:
                    assert chat(simulator).status_code == 200
                    break
                except httpx.ConnectError:
                    continue
            else:
                pytest.fail("the port stayed closed")

    def test_the_nth_connection_is_refused_even_on_a_reused_connection(self, simulator):
        simulator.fault("refuse", n=3)
        with httpx.Client(base_url=simulator.url) as client:
            assert [client.get("/api/version").status_code for _ in range(2)] == [200, 200]
            with pytest.raises(httpx.ConnectError):
                client.get("/api/version")
            simulator.clear_faults()
            assert client.get("/api/version").status_code == 200

    def test_idle_connections_are_dropped_when_the_port_closes(self, simulator):
        with httpx.Client(base_url=simulator.url) as client:
            client.get("/api/version")
            simulator.fault("refuse")
            with pytest.raises(httpx.ConnectError):
                client.get("/api/version")

    def test_a_later_refuse_fault_cancels_the_opening_of_an_earlier_one(self, chat):
        with OllamaSimulator(time_scale=0) as simulator:
            simulator.fault("refuse", seconds=30)
            simulator.wait_for_sleeper()
            simulator.clear_faults()
            assert chat(simulator).status_code == 200
            simulator.fault("refuse", seconds=30)
            simulator.fault("refuse")
            simulator.advance(100)
            time.sleep(0.1)  # nothing is to happen in it
            with pytest.raises(httpx.ConnectError):
                chat(simulator)
            simulator.clear_faults()
            assert chat(simulator).status_code == 200

    def test_a_refuse_fault_set_before_the_start_applies_from_the_start(self, chat):
        simulator = OllamaSimulator()
        rule = simulator.fault("refuse")
        with simulator:
            with pytest.raises(httpx.ConnectError):
                chat(simulator)
            assert rule.hits == 1
            simulator.clear_faults()
            assert chat(simulator).status_code == 200

    @pytest.mark.parametrize("ending", [{"cut": 3}, {"reset": 3}, {"end_without_done": 3}, {"error_line": (3, "boom")}])
    @pytest.mark.parametrize("kind", ["reset", "cut"])
    def test_a_fault_overrides_the_ending_of_the_reply(self, simulator, connect, read_all, kind, ending):
        simulator.reply(TEXT, **ending)
        simulator.fault(kind, after=1)
        data, was_reset = read_all(connect(simulator))
        assert (len(body_lines(data)), was_reset) == (1, kind == "reset")

    @pytest.mark.parametrize("status", [200, 204, 304, 299, 418, 529, 599])
    def test_a_status_fault_may_have_no_standard_phrase(self, simulator, chat, status):
        simulator.fault("status", status=status)
        assert chat(simulator).status_code == status
        assert chat(simulator).status_code == 200

    def test_a_reply_may_have_a_status_without_a_standard_phrase(self, simulator, chat):
        simulator.reply(status=529)
        response = chat(simulator)
        assert (response.status_code, response.json()) == (529, {"error": "unknown"})

    def test_an_error_in_a_fault_is_a_status_500(self, simulator, chat, monkeypatch):
        monkeypatch.setattr("griptape_ollama.testing.request_context.apply_fault", None)
        simulator.fault("bytes")
        response = chat(simulator)
        assert response.status_code == 500
        assert response.json()["error"].startswith("the simulator failed: TypeError")

    def test_a_simulator_with_a_closed_port_stops(self):
        with OllamaSimulator() as simulator:
            simulator.fault("refuse", seconds=60)
        assert not simulator.is_serving

    def test_reset_before_the_headers(self, simulator, connect, read_all):
        simulator.fault("reset")
        assert read_all(connect(simulator)) == (b"", True)
        assert simulator.last_chat.outcome.status is None
        assert simulator.last_chat.outcome.fault == "reset"

    def test_reset_after_the_headers(self, simulator, connect, read_all):
        simulator.fault("reset", at="after_headers")
        data, was_reset = read_all(connect(simulator))
        assert data.startswith(b"HTTP/1.1 200 OK")
        assert (body_lines(data), was_reset) == ([], True)

    @pytest.mark.parametrize(("kind", "is_reset"), [("reset", True), ("cut", False)])
    def test_cut_and_reset_after_n_lines(self, simulator, connect, read_all, kind, is_reset):
        simulator.reply(TEXT)
        simulator.fault(kind, after=2)
        data, was_reset = read_all(connect(simulator))
        assert (len(body_lines(data)), was_reset) == (2, is_reset)

    @pytest.mark.parametrize(("kind", "is_reset"), [("reset", True), ("cut", False)])
    def test_cut_and_reset_inside_a_line(self, simulator, connect, read_all, kind, is_reset):
        simulator.reply(TEXT)
        simulator.fault(kind, after=1, mid_line=True)
        data, was_reset = read_all(connect(simulator))
        whole, half = [line for line in data.split(b"\n") if line.startswith(b"{")]
        assert json.loads(whole)["message"]["content"] == "one"
        with pytest.raises(json.JSONDecodeError):
            json.loads(half)
        assert was_reset == is_reset

    def test_a_body_that_is_not_streamed_is_cut_in_its_middle(self, simulator, connect, read_all):
        simulator.fault("cut")
        head, body = read_all(connect(simulator, stream=False))[0].split(b"\r\n\r\n", 1)
        assert 0 < len(body) < int(head.split(b"Content-Length: ")[1].split()[0])

    def test_no_done(self, simulator, lines, chat):
        simulator.reply(TEXT, times=3)
        simulator.fault("no_done")
        simulator.fault("no_done", n=2, after=2)
        simulator.fault("no_done", n=3)
        for count in (4, 2):
            found = lines(simulator)
            assert len(found) == count
            assert not any(line["done"] for line in found)
        assert chat(simulator, stream=False).content == b""

    def test_a_dead_runner_during_a_reply(self, simulator, chat):
        simulator.reply("one two three")
        simulator.fault("dead_runner", after=2)
        said = [json.loads(line) for line in chat(simulator).text.splitlines()]
        assert [next(iter(line)) for line in said] == ["model", "model", "error"]
        assert said[-1]["error"] == "an error was encountered while running the model: unexpected EOF"
        assert simulator.loaded_models == []
        assert chat(simulator).status_code == 200

    @pytest.mark.parametrize(
        ("path", "text", "status"), [("/api/embed", "input", 400), ("/api/embeddings", "prompt", 500)]
    )
    def test_a_dead_runner_during_an_embedding(self, simulator, post, path, text, status):
        body = {"model": "simulator-embed", text: "hi"}
        post(simulator, path, **body)
        simulator.fault("dead_runner", path=path)
        response = post(simulator, path, **body)
        assert response.status_code == status
        assert response.json()["error"].startswith("do embedding request: Post ")
        assert response.json()["error"].endswith('/v1/embeddings": EOF')
        assert simulator.loaded_models == []
        assert post(simulator, path, **body).status_code == 200

    def test_an_error_line(self, simulator, lines, chat):
        simulator.reply(TEXT, times=3)
        simulator.fault("error_line", after=2, error="boom")
        simulator.fault("error_line", n=2, times=2)
        assert [line.get("error") for line in lines(simulator)] == [None, None, "boom"]
        assert lines(simulator)[1]["error"].endswith("unexpected EOF")
        assert chat(simulator, stream=False).status_code == 500

    def test_any_status(self, simulator, chat):
        simulator.fault("status", status=503, error="busy", headers={"Retry-After": "1"})
        simulator.fault("status", n=2)
        response = chat(simulator)
        assert (response.status_code, response.json(), response.headers["retry-after"]) == (503, {"error": "busy"}, "1")
        assert chat(simulator).json() == {"error": "internal server error"}

    def test_a_redirect(self, simulator, chat):
        simulator.fault("redirect", location="http://127.0.0.1:1/elsewhere")
        response = chat(simulator)
        assert (response.status_code, response.headers["location"]) == (307, "http://127.0.0.1:1/elsewhere")

    def test_slow_headers_and_slow_tokens(self, chat):
        with OllamaSimulator(time_scale=100) as simulator:
            simulator.reply(TEXT, times=2)
            simulator.fault("slow_headers", seconds=30)
            chat(simulator)
            assert simulator.time >= 30
            before = simulator.time
            simulator.fault("slow_tokens", seconds=10)
            chat(simulator)
            assert simulator.time - before >= 40

    def test_one_byte_at_a_time(self, simulator, received_chunks):
        simulator.fault("bytes")
        assert {len(chunk) for chunk in received_chunks(simulator)[:-1]} == {1}

    def test_garbage_between_lines(self, simulator, chat):
        simulator.reply(TEXT, times=3)
        simulator.fault("garbage", after=2)
        simulator.fault("garbage", n=2, data=b"<html>")
        simulator.fault("garbage", n=3, data=b"<html>")
        assert chat(simulator).content.split(b"\n")[2] == b"\x00\xff this is no JSON {"
        assert chat(simulator).content.split(b"\n")[1] == b"<html>"
        assert chat(simulator, stream=False).content == b"<html>"

    def test_a_huge_line(self, simulator, chat):
        simulator.reply(TEXT, times=2)
        simulator.fault("huge_line", size=1_000_000, times=2)
        huge = json.loads(chat(simulator).content.split(b"\n")[1])
        assert len(huge["message"]["content"]) == 1_000_000
        response = chat(simulator, stream=False)
        assert len(response.content) > 1_000_000
        assert response.json()["message"]["content"] == TEXT

    def test_a_wrong_content_type(self, simulator, chat):
        simulator.fault("content_type", content_type="text/html")
        assert chat(simulator).headers["content-type"] == "text/html"

    def test_faults_apply_to_every_endpoint(self, simulator, post, post_lines):
        simulator.fault("status", path="/api/tags", status=500)
        assert httpx.get(f"{simulator.url}/api/tags").status_code == 500
        simulator.fault("error_line", path="/api/pull", after=1, error="no space left")
        assert post_lines(simulator, "/api/pull", model="library-small")[-1] == {"error": "no space left"}
        simulator.fault("cut", path="/api/pull", after=1, mid_line=True)
        with pytest.raises(httpx.RemoteProtocolError):
            post(simulator, "/api/pull", model="library-small")
        assert "library-small:latest" not in simulator.models


class TestRules:
    def test_by_default_a_fault_affects_the_next_chat_once(self, simulator, chat):
        simulator.fault("status")
        assert httpx.get(f"{simulator.url}/api/tags").status_code == 200
        assert statuses(chat, simulator, 3) == [500, 200, 200]

    def test_a_fault_before_processing_uses_no_scripted_reply(self, simulator, chat_text, chat):
        simulator.reply("said after all")
        simulator.fault("status")
        assert chat(simulator).status_code == 500
        assert chat_text(simulator) == "said after all"

    def test_the_nth_request(self, simulator, chat):
        rule = simulator.fault("status", n=2, times=2)
        assert statuses(chat, simulator, 4) == [200, 500, 500, 200]
        assert (rule.seen, rule.hits) == (4, 2)

    def test_every_request_from_now_on(self, simulator, chat):
        simulator.fault("status", times=None)
        assert statuses(chat, simulator, 3) == [500] * 3
        simulator.clear_faults()
        assert statuses(chat, simulator, 1) == [200]

    def test_a_path_and_any_path(self, simulator, chat):
        simulator.fault("status", path="/api/show")
        simulator.fault("status", path=None, n=2, status=502)
        assert chat(simulator).status_code == 200
        assert httpx.get(f"{simulator.url}/api/tags").status_code == 502
        assert httpx.post(f"{simulator.url}/api/show", json={"model": "simulator"}).status_code == 500

    def test_a_model(self, chat):
        with OllamaSimulator([SimulatedModel(name="a"), SimulatedModel(name="b")]) as simulator:
            simulator.fault("status", model="b")
            assert chat(simulator, model="a").status_code == 200
            assert chat(simulator, model="b:latest").status_code == 500

    def test_a_probability_with_a_seed_affects_the_same_requests_again(self, simulator, chat):
        runs = []
        for seed in (1, 1, 2):
            simulator.reset()
            simulator.fault("status", probability=0.5, seed=seed, times=None)
            runs.append(statuses(chat, simulator, 12))
        assert runs[0] == runs[1] != runs[2]
        assert set(runs[0]) == {200, 500}

    def test_several_rules_apply_one_after_the_other(self, simulator, chat):
        first = simulator.fault("status", status=500)
        second = simulator.fault("status", status=501)
        assert chat(simulator).status_code == 500
        assert (first.hits, second.hits) == (1, 0)
        assert statuses(chat, simulator, 2) == [501, 200]
        assert (first.hits, second.hits) == (1, 1)

    def test_the_first_rule_applies_and_all_rules_count(self, simulator, chat):
        first = simulator.fault("status", status=500)
        second = simulator.fault("status", status=501, times=2)
        third = simulator.fault("status", status=502, n=5)
        assert statuses(chat, simulator, 6) == [500, 501, 501, 200, 502, 200]
        assert (first.hits, second.hits, third.hits) == (1, 2, 1)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("explode", {}), "no fault is called 'explode'; there are refuse, reset"),
            (("status", {"after": 1}), "fault 'status' has no after; its details are: error, headers, status"),
            (("bytes", {"seconds": 1}), "its details are: none"),
            (("redirect", {}), "needs location="),
            (("cut", {"after": -1}), "neither lines nor seconds are negative"),
            (("cut", {"mid_line": True}), "mid_line= needs after="),
            (("status", {"n": 0}), "both count from 1"),
            (("status", {"times": 0}), "both count from 1"),
            (("status", {"probability": 2}), "probability=2"),
            (("status", {"model": "unknown"}), "has no such model, only simulator:latest, simulator-embed:latest"),
            (("refuse", {"path": "/api/show"}), "only n= and seconds="),
            (("status", {"status": 199}), "status=199 is not a number from 200 to 599"),
            (("status", {"status": 600}), "status=600 is not"),
            (("status", {"status": "503"}), "status='503' is not"),
            (("status", {"status": 0}), "status=0 is not"),
            (("status", {"headers": {"Retry-After": 1}}), "is not texts by name"),
            (("status", {"error": 5}), "error=5 is not a text"),
            (("garbage", {"data": "text"}), "data='text' is not bytes"),
            (("cut", {"after": 1.5}), "after=1.5 is not a number of lines"),
            (("cut", {"after": True}), "after=True is not"),
            (("reset", {"at": "later"}), "at='later' is not"),
            (("reset", {"at": "after_headers", "after": 1}), "two places"),
            (("huge_line", {"size": -1}), "size=-1 is not"),
            (("slow_headers", {"seconds": float("nan")}), "seconds=nan is not"),
            (("status", {"path": "api/chat"}), "a path begins with a slash"),
            (("status", {"path": "/api/chatt"}), "no such path, .*: do you mean '/api/chat'"),
        ],
    )
    def test_an_invalid_fault_raises_an_error(self, simulator, arguments, message):
        kind, settings = arguments
        with pytest.raises(ValueError, match=message):
            simulator.fault(kind, **settings)
