"""Behaviour of any server with Ollama's protocol: the scenarios that check the simulator against a real one."""

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

LAST_KEYS = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]
HI = [{"role": "user", "content": "Say hello, please."}]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def with_tag(name):
    return name if ":" in name else f"{name}:latest"


def lines_of(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.split("\n") if line]


def loaded(server):
    return [entry["name"] for entry in server.get("/api/ps").json()["models"]]


def is_true_within(seconds, condition):
    """Return whether a condition becomes true, by polling."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def derived(server, chat_model):
    """A model made from the chat model, for as long as the test runs."""
    name = "a-model-of-this-test"
    body = {"model": name, "from": chat_model, "system": "Be brief.", "parameters": {"num_predict": 4, "stop": ["@@"]}}
    lines = lines_of(server.post("/api/create", json=body))
    assert lines[-1] == {"status": "success"}
    yield name
    # Models made from one another share a place in memory, under the name of the first.
    server.post("/api/generate", json={"model": name, "keep_alive": 0})
    server.request("DELETE", "/api/delete", json={"model": name})


class TestChat:
    def test_the_last_line_has_counts_and_durations(self, server, chat_model):
        body = {"model": chat_model, "messages": HI, "options": {"num_predict": 8}, "think": False}
        *said, last = lines_of(server.post("/api/chat", json={**body, "think": None}))
        assert all(list(line)[:4] == ["model", "created_at", "message", "done"] for line in said)
        assert [key for key in last if key in LAST_KEYS] == LAST_KEYS
        assert last["done_reason"] in ("stop", "length")
        assert last["model"] == chat_model

    def test_without_a_stream_there_is_one_body(self, server, chat_model):
        body = {"model": chat_model, "messages": HI, "options": {"num_predict": 8}, "stream": False}
        response = server.post("/api/chat", json=body)
        assert response.headers["content-type"] == "application/json; charset=utf-8"
        assert list(response.json())[:5] == ["model", "created_at", "message", "done", "done_reason"]

    def test_a_cached_prompt_counts_in_full(self, server, chat_model):
        messages = [{"role": "user", "content": "a long question, " * 60}]
        body = {"model": chat_model, "messages": messages, "options": {"num_predict": 2}, "stream": False}
        first, second = (server.post("/api/chat", json=body).json() for _ in range(2))
        assert first["prompt_eval_count"] == second["prompt_eval_count"] > 100

    def test_one_model_answers_one_request_after_the_other(self, server, chat_model):
        body = {"model": chat_model, "messages": HI, "options": {"num_predict": 24}}

        def span(_):
            with httpx.stream("POST", f"{server.base_url}/api/chat", json=body, timeout=60) as response:
                times = [json.loads(line)["created_at"] for line in response.iter_lines()]
            return times[0], times[-1]

        server.post("/api/chat", json=body)
        with ThreadPoolExecutor(3) as pool:
            spans = sorted(pool.map(span, range(3)))
        # Where the server was told to answer several at a time (OLLAMA_NUM_PARALLEL), they overlap.
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))

    def test_a_disconnect_frees_the_slot(self, server, chat_model):
        body = {"model": chat_model, "messages": HI}
        with httpx.stream("POST", f"{server.base_url}/api/chat", json=body, timeout=60) as response:
            next(response.iter_lines())
        began = time.monotonic()
        assert server.post("/api/chat", json={**body, "options": {"num_predict": 1}}).status_code == 200
        assert time.monotonic() - began < 20


class TestGenerate:
    def test_lines_have_a_response_and_the_last_a_context(self, server, chat_model):
        body = {"model": chat_model, "prompt": "Say hello.", "options": {"num_predict": 8}}
        *said, last = lines_of(server.post("/api/generate", json=body))
        assert "".join(line["response"] for line in said).strip()
        assert len(last["context"]) > last["eval_count"]

    def test_a_format_returns_json_that_fits(self, server, chat_model):
        body = {"model": chat_model, "prompt": "Ada", "format": SCHEMA, "stream": False}
        assert isinstance(json.loads(server.post("/api/generate", json=body).json()["response"])["name"], str)

    @pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
    def test_a_model_is_loaded_and_unloaded_without_a_prompt(self, server, chat_model, path):
        load = server.post(path, json={"model": chat_model, "keep_alive": 60}).json()
        assert load["done_reason"] == "load"
        assert with_tag(chat_model) in loaded(server)
        assert server.post(path, json={"model": chat_model, "keep_alive": 0}).json()["done_reason"] == "unload"
        assert is_true_within(20, lambda: with_tag(chat_model) not in loaded(server))


class TestEmbeddings:
    def test_vectors_have_length_1_and_equal_size(self, server, embed_model):
        body = server.post("/api/embed", json={"model": embed_model, "input": ["a cat", "a dog"]}).json()
        lengths = [sum(value * value for value in vector) for vector in body["embeddings"]]
        assert lengths == pytest.approx([1, 1], abs=1e-3)
        assert list(body) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]

    def test_an_empty_input_returns_no_vectors(self, server, embed_model):
        for nothing in ("", []):
            assert server.post("/api/embed", json={"model": embed_model, "input": nothing}).json()["embeddings"] == []

    def test_the_old_form_returns_one_vector(self, server, embed_model):
        body = server.post("/api/embeddings", json={"model": embed_model, "prompt": "a cat"}).json()
        assert len(body["embedding"]) > 1
        assert server.post("/api/embeddings", json={"model": embed_model}).json() == {"embedding": []}


class TestModels:
    def test_a_derived_model_shows_its_settings(self, server, derived, chat_model):
        body = server.post("/api/show", json={"model": derived}).json()
        assert body["system"] == "Be brief."
        assert 'stop                           "@@"' in body["parameters"]
        assert body["details"]["parent_model"] == with_tag(chat_model)

    def test_parameters_of_a_model_apply(self, server, derived):
        body = {"model": derived, "messages": HI, "stream": False}
        assert server.post("/api/chat", json=body).json()["eval_count"] <= 4

    def test_a_copy_has_the_same_digest_and_can_be_deleted(self, server, derived):
        copy = {"source": derived, "destination": f"{derived}-copy"}
        assert (response := server.post("/api/copy", json=copy)).content == b""
        assert response.status_code == 200
        digests = {entry["name"]: entry["digest"] for entry in server.get("/api/tags").json()["models"]}
        assert digests[f"{derived}-copy:latest"] == digests[f"{derived}:latest"]
        assert server.request("DELETE", "/api/delete", json={"model": f"{derived}-copy"}).status_code == 200
        assert server.request("DELETE", "/api/delete", json={"model": f"{derived}-copy"}).status_code == 404

    def test_models_with_the_same_weights_are_loaded_once(self, server, derived, chat_model):
        server.post("/api/generate", json={"model": chat_model, "keep_alive": 0})
        assert is_true_within(20, lambda: with_tag(chat_model) not in loaded(server))
        for name in (derived, chat_model):
            body = {"model": name, "messages": HI, "options": {"num_predict": 1}, "stream": False}
            assert server.post("/api/chat", json=body).json()["model"] == name
        names = loaded(server)
        assert (with_tag(derived) in names, with_tag(chat_model) in names) == (True, False)

    def test_keep_alive_expires(self, server, chat_model):
        body = {"model": chat_model, "messages": HI, "options": {"num_predict": 1}, "keep_alive": 1}
        assert server.post("/api/chat", json=body).status_code == 200
        assert with_tag(chat_model) in loaded(server)
        assert is_true_within(20, lambda: with_tag(chat_model) not in loaded(server))

    def test_another_window_reloads_the_model(self, server, chat_model):
        for size in (1024, 2048):
            body = {"model": chat_model, "messages": HI, "options": {"num_ctx": size, "num_predict": 1}}
            assert server.post("/api/chat", json=body).status_code == 200
            entries = {entry["name"]: entry for entry in server.get("/api/ps").json()["models"]}
            assert entries[with_tag(chat_model)]["context_length"] == size

    def test_a_blob_is_stored_once(self, server):
        digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert server.post(f"/api/blobs/{digest}", content=b"abc").status_code in (200, 201)
        assert server.post(f"/api/blobs/{digest}", content=b"abc").status_code == 200
        assert server.head(f"/api/blobs/{digest}").status_code == 200
        wrong = server.post(f"/api/blobs/{digest[:-1]}e", content=b"abc")
        assert (wrong.status_code, "digest mismatch" in wrong.json()["error"]) == (400, True)


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_line", "body", "status", "text"),
        [
            ("POST /api/chat", {"model": "no-such-model"}, 404, "model 'no-such-model' not found"),
            ("POST /api/generate", {"model": "no-such-model"}, 404, "model 'no-such-model' not found"),
            ("POST /api/generate", {}, 404, "model '' not found"),
            (
                "POST /api/embed",
                {"model": "no-such-model", "input": "x"},
                404,
                'model "no-such-model" not found, try',
            ),
            ("POST /api/show", {"model": "no-such-model"}, 404, "model 'no-such-model:latest' not found"),
            ("POST /api/pull", {"model": "a b"}, 400, "invalid model name"),
            ("POST /api/push", {}, 400, "model is required"),
            ("POST /api/create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
            ("POST /api/copy", {}, 400, 'source "" is invalid'),
            ("DELETE /api/delete", {"model": "a b"}, 400, 'name "a b" is invalid'),
            ("POST /api/blobs/abc", None, 400, "invalid digest format"),
            ("GET /api/nothing", None, 404, "404 page not found"),
            ("GET /api/chat", None, 405, "405 method not allowed"),
        ],
    )
    def test_invalid_requests_get_the_same_errors(self, server, request_line, body, status, text):
        response = server.request(*request_line.split(), json=body)
        assert response.status_code == status
        assert response.text.startswith(text) or response.json()["error"].startswith(text)

    @pytest.mark.parametrize("headers", [{"Host": "evil.example.com"}, {"Origin": "http://evil.example.com"}])
    def test_foreign_hosts_and_origins_get_status_403(self, server, headers):
        response = server.get("/api/tags", headers=headers)
        assert (response.status_code, response.content) == (403, b"")

    def test_a_prompt_that_is_too_long_is_rejected_without_truncation(self, server, chat_model):
        messages = [{"role": "user", "content": "word " * 9000}]
        body = {"model": chat_model, "messages": messages, "options": {"num_ctx": 2048}, "truncate": False}
        response = server.post("/api/chat", json=body)
        assert response.status_code == 400
        assert "exceeds the available context size (2048 tokens)" in response.json()["error"]
