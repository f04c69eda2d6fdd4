"""Pull, push, create, copy, delete and blobs."""

import hashlib
import time

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

MB = 1_000_000

BIG = SimulatedModel(name="big:8b", size=100 * MB, pull_bytes_per_second=10 * MB)


def show(post, simulator, name):
    response = post(simulator, "/api/show", model=name)
    assert response.status_code == 200, response.text
    return response.json()


class TestPull:
    def test_a_pull_reports_its_progress_and_installs_the_model(self, post_lines, post, chat):
        with OllamaSimulator(library=[BIG], time_scale=1000) as simulator:
            assert chat(simulator, model="big:8b").status_code == 404
            lines = post_lines(simulator, "/api/pull", model="big:8b")
            assert chat(simulator, model="big:8b").status_code == 200
            assert simulator.time >= 10
        progress = [line for line in lines if line.get("total") == 100 * MB]
        assert [lines[0], *lines[-3:]] == [
            {"status": text} for text in ("pulling manifest", "verifying sha256 digest", "writing manifest", "success")
        ]
        assert "completed" not in progress[0]
        done = [line["completed"] for line in progress[1:]]
        assert done == sorted(done)
        assert len(progress) > 100
        assert all(line["status"] == f"pulling {line['digest'][7:19]}" for line in progress)

    def test_without_a_stream_it_answers_when_it_is_done(self, post):
        with OllamaSimulator(library=[BIG], time_scale=1000) as simulator:
            response = post(simulator, "/api/pull", model="big:8b", stream=False)
            assert (response.json(), simulator.models[0]) == ({"status": "success"}, "big:8b")
            assert simulator.time >= 9

    def test_existing_files_are_not_pulled_again(self, post_lines):
        with OllamaSimulator(library=[BIG], time_scale=1000) as simulator:
            post_lines(simulator, "/api/pull", model="big:8b")
            again = post_lines(simulator, "/api/pull", model="big:8b")
        assert all(line["completed"] == line["total"] for line in again if "digest" in line)
        assert len(again) == 4 + 3

    def test_an_interrupted_pull_continues_where_it_stopped(self, post_lines):
        with OllamaSimulator(library=[BIG], time_scale=50) as simulator:
            url = f"{simulator.url}/api/pull"
            with httpx.stream("POST", url, json={"model": "big:8b"}) as response:
                for count, _ in enumerate(response.iter_lines()):
                    if count == 40:
                        break
            simulator.wait_for_disconnect()
            assert "big:8b" not in simulator.models
            first = next(line for line in post_lines(simulator, "/api/pull", model="big:8b") if "digest" in line)
        assert first["completed"] > 10 * MB


class TestPush:
    def test_a_model_is_pushed_to_the_library_and_can_be_pulled_again(self, simulator, post, post_lines):
        lines = post_lines(simulator, "/api/push", model="simulator")
        assert [lines[0], *lines[-2:]] == [
            {"status": text} for text in ("retrieving manifest", "pushing manifest", "success")
        ]
        post(simulator, "/api/delete", "DELETE", model="simulator")
        assert post_lines(simulator, "/api/pull", model="simulator")[-1] == {"status": "success"}

    def test_a_model_that_cannot_be_pushed_is_an_error(self, post, post_lines):
        with OllamaSimulator(library=None) as simulator:
            unknown = post_lines(simulator, "/api/push", model="nope")
            assert unknown[1] == {"status": "couldn't retrieve manifest"}
            assert unknown[2]["error"].endswith("/nope/latest: no such file or directory")
            assert post_lines(simulator, "/api/push", model="a b")[-1]["error"].startswith("unqualified name")
            assert post_lines(simulator, "/api/push", model="simulator")[-1]["error"].endswith("no such host")
            assert post(simulator, "/api/push", model="simulator", stream=False).status_code == 500
            assert post(simulator, "/api/push").json() == {"error": "model is required"}


class TestCreate:
    def test_a_model_is_created_from_another(self, simulator, post, post_lines):
        lines = post_lines(
            simulator, "/api/create", model="pirate", system="You are a pirate.", license=["One", "Two"],
            parameters={"temperature": 1, "stop": ["x"]}, template="{{ .System }}{{ .Prompt }}",
            messages=[{"role": "user", "content": "Ahoy"}], **{"from": "simulator"},
        )  # fmt: skip
        assert lines[0]["status"].startswith("using existing layer sha256:")
        assert [line["status"].split(" sha")[0] for line in lines[1:7]] == ["creating new layer"] * 6
        assert lines[-2:] == [{"status": "writing manifest"}, {"status": "success"}]
        shown = show(post, simulator, "pirate")
        assert (shown["system"], shown["template"]) == ("You are a pirate.", "{{ .System }}{{ .Prompt }}")
        assert (shown["license"], shown["messages"]) == ("One\nTwo", [{"role": "user", "content": "Ahoy"}])
        assert shown["details"]["parent_model"] == "simulator:latest"
        assert "temperature                    1" in shown["parameters"]
        for line in ("SYSTEM You are a pirate.", "MESSAGE user Ahoy", 'LICENSE """One"""'):
            assert line in shown["modelfile"]

    def test_parameters_are_added_to_those_of_the_parent(self, post, simulator):
        for name, parent, parameters in (("a", "simulator", {"top_k": 5, "seed": 1}), ("b", "a", {"seed": 2})):
            post(simulator, "/api/create", model=name, parameters=parameters, **{"from": parent})
        lines = show(post, simulator, "b")["parameters"].split("\n")
        assert [line.split() for line in lines] == [["seed", "2"], ["top_k", "5"]]

    def test_messages_of_a_created_model_come_before_those_of_the_request(self, simulator, post, lines):
        messages = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello, Ada."}]
        post(simulator, "/api/create", model="ada", messages=messages, license="mine", **{"from": "simulator"})
        said = "".join(line["message"]["content"] for line in lines(simulator, "What is my name?", model="ada"))
        assert "Ada" in said

    def test_a_missing_base_model_is_pulled(self, post_lines):
        with OllamaSimulator(library=[BIG], time_scale=1000) as simulator:
            texts = [
                line["status"] for line in post_lines(simulator, "/api/create", model="mine", **{"from": "big:8b"})
            ]
            assert {"mine:latest", "big:8b"} <= set(simulator.models)
        assert texts[0] == "pulling manifest"
        assert texts.count("success") == 1

    def test_an_unknown_base_model_is_an_error(self, simulator, post, post_lines):
        assert "error" in post_lines(simulator, "/api/create", model="mine", **{"from": "nope"})[-1]
        assert post(simulator, "/api/create", model="mine", stream=False, **{"from": "nope"}).status_code == 500

    def test_a_model_is_created_from_an_uploaded_file(self, simulator, post, post_lines):
        data = b"GGUF and so on"
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        url = f"{simulator.url}/api/blobs/{digest}"
        assert [httpx.head(url).status_code, httpx.post(url, content=data).status_code] == [404, 201]
        assert [httpx.head(url).status_code, httpx.post(url, content=data).status_code] == [200, 200]
        lines = post_lines(simulator, "/api/create", model="mine", files={"mine.gguf": digest}, quantize="q8_0")
        assert (lines[0], lines[-1]) == ({"status": "parsing GGUF"}, {"status": "success"})
        assert show(post, simulator, "mine")["details"]["quantization_level"] == "Q8_0"

    @pytest.mark.parametrize(
        ("body", "status", "text"),
        [
            ({}, 400, "invalid model name"),
            ({"model": "x", "from": 5}, 400, "json: cannot unmarshal number into Go struct field CreateRequest.from"),
            ({"model": "x", "from": "b a d"}, 400, "invalid model name"),
            ({"model": "x"}, 400, "neither 'from' or 'files' was specified"),
            ({"model": "x", "files": {"a": "sha256:x"}}, 400, "unknown type"),
            ({"model": "x", "files": {"../a": "sha256:x"}}, 400, "file path must be relative"),
            (
                {"model": "x", "from": "simulator", "template": "{{ .Nope"},
                400,
                "template error: template: :1: unclosed",
            ),
            ({"model": "x", "from": "simulator", "quantize": "q4_0"}, 500, "unsupported quantization type Q4_0 - supp"),
        ],
    )
    def test_invalid_requests_are_rejected(self, simulator, post, body, status, text):
        for stream in (True, False):
            response = post(simulator, "/api/create", stream=stream, **body)
            assert response.status_code == status
            assert response.json()["error"].startswith(text)

    @pytest.mark.parametrize(
        ("data", "text"), [(b"abc", "supplied file was not in GGUF format"), (None, "open /models")]
    )
    def test_a_file_that_is_not_a_model_is_an_error(self, simulator, post_lines, data, text):
        digest = f"sha256:{hashlib.sha256(data or b'').hexdigest()}"
        if data:
            httpx.post(f"{simulator.url}/api/blobs/{digest}", content=data)
        lines = post_lines(simulator, "/api/create", model="x", files={"x.gguf": digest})
        assert lines[0] == {"status": "parsing GGUF"}
        assert lines[1]["error"].startswith(text)

    def test_a_blob_must_match_its_digest(self, simulator):
        wrong = httpx.post(f"{simulator.url}/api/blobs/sha256:{'0' * 64}", content=b"abc")
        assert (wrong.status_code, wrong.json()["error"][:16]) == (400, "digest mismatch,")
        for method in ("HEAD", "POST"):
            assert httpx.request(method, f"{simulator.url}/api/blobs/abc").status_code == 400


class TestCopyAndDelete:
    def test_a_copy_is_the_same_model_under_another_name(self, simulator, post):
        response = post(simulator, "/api/copy", source="simulator", destination="backup")
        assert (response.status_code, response.content) == (200, b"")
        assert "content-type" not in response.headers
        listed = {entry["name"]: entry for entry in post(simulator, "/api/tags", "GET").json()["models"]}
        assert listed["backup:latest"]["digest"] == listed["simulator:latest"]["digest"]
        assert next(iter(listed)) == "backup:latest"

    def test_a_deleted_model_stays_loaded_until_it_expires(self, simulator, post, chat):
        chat(simulator)
        assert post(simulator, "/api/delete", "DELETE", model="simulator").content == b""
        assert chat(simulator).status_code == 404
        assert simulator.loaded_models == ["simulator:latest"]

    @pytest.mark.parametrize(
        ("body", "status", "text"),
        [
            ({}, 400, 'source "" is invalid'),
            ({"source": "simulator", "destination": "a b"}, 400, 'destination "a b" is invalid'),
            ({"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
        ],
    )
    def test_an_invalid_copy_is_rejected(self, simulator, post, body, status, text):
        response = post(simulator, "/api/copy", **body)
        assert (response.status_code, response.json()) == (status, {"error": text})

    @pytest.mark.parametrize(
        ("body", "status", "text"),
        [
            ({}, 400, "model is required"),
            ({"name": "a b"}, 400, 'name "a b" is invalid'),
            ({"name": "nope:x"}, 404, "model 'nope:x' not found"),
        ],
    )
    def test_an_invalid_deletion_is_rejected(self, simulator, post, body, status, text):
        response = post(simulator, "/api/delete", "DELETE", **body)
        assert (response.status_code, response.json()) == (status, {"error": text})

    def test_models_are_copied_and_deleted_during_listing(self, simulator, post, in_background):
        def copy(number):
            return post(simulator, "/api/copy", source="simulator", destination=f"copy-{number}").status_code

        began = time.monotonic()
        futures = [in_background(copy, number) for number in range(20)]
        looks = [in_background(post, simulator, "/api/tags", "GET") for _ in range(20)]
        assert {future.result(10) for future in futures} == {200}
        assert all(look.result(10).status_code == 200 for look in looks)
        assert len(simulator.models) == 22
        assert time.monotonic() - began < 60
