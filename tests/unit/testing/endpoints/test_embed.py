import math

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel


@pytest.fixture
def embed(simulator):
    def send(text, **body):
        return httpx.post(f"{simulator.url}/api/embed", json={"model": "simulator-embed", "input": text, **body})

    return send


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def vectors(response):
    assert response.status_code == 200, response.text
    return response.json()["embeddings"]


def test_vectors_have_length_one_and_the_size_of_the_model(embed):
    for vector in vectors(embed(["hello world", "Straße", "", "…"])):
        assert len(vector) == 64
        assert math.isclose(math.sqrt(dot(vector, vector)), 1, abs_tol=1e-6)


def test_the_model_sets_the_size_of_the_vectors():
    model = SimulatedModel(name="e", capabilities=["embedding"], embedding_length=384)
    with OllamaSimulator([model]) as simulator:
        response = httpx.post(f"{simulator.url}/api/embed", json={"model": "e", "input": "x"})
    assert len(vectors(response)[0]) == 384


def test_the_same_text_has_the_same_vector_alone_and_in_a_batch(embed):
    (alone,) = vectors(embed("the cat"))
    batch = vectors(embed(["hello", "the cat", "hello"]))
    assert batch[1] == alone
    assert batch[0] == batch[2] != alone


def test_similar_texts_have_similar_vectors(embed):
    question, near, far = vectors(
        embed(["What do cats eat?", "Cats eat fish and mice.", "The stock market fell sharply on Monday."])
    )
    assert dot(question, near) > dot(question, far) + 0.1


@pytest.mark.parametrize(("dimensions", "size"), [(8, 8), (64, 64), (65, 64), (0, 64), (-1, 64)])
def test_valid_dimensions_are_applied(embed, dimensions, size):
    (vector,) = vectors(embed("hello", dimensions=dimensions))
    assert len(vector) == size
    assert math.isclose(dot(vector, vector), 1, abs_tol=1e-6)


def test_long_texts_are_truncated_unless_truncate_is_false(embed):
    long, longer = vectors(embed(["cat " * 600, "cat " * 600 + "dog"]))
    assert long == longer
    assert embed("cat " * 600).json()["prompt_eval_count"] == 512
    response = embed("cat " * 600, truncate=False)
    assert (response.status_code, response.json()) == (400, {"error": "the input length exceeds the context length"})


def test_a_load_error_fails_the_embedding():
    with OllamaSimulator([SimulatedModel(name="e", capabilities=["embedding"], load_error="broken")]) as simulator:
        response = httpx.post(f"{simulator.url}/api/embed", json={"model": "e", "input": "x"})
    assert (response.status_code, response.json()) == (500, {"error": "broken"})


def test_embedding_loads_the_model(simulator, embed):
    embed("hello", keep_alive="1m")
    assert simulator.loaded_models == ["simulator-embed:latest"]


def test_embedding_can_be_scripted(simulator, embed):
    simulator.reply(path="/api/embed", status=500, error="NaN")
    simulator.reply(path="/api/embed", body={"model": "m", "embeddings": [[1, 0]]})
    assert embed("x").json() == {"error": "NaN"}
    assert vectors(embed("x")) == [[1, 0]]


def test_a_reply_function_can_answer_an_embed_request(simulator, embed):
    simulator.reply(lambda request: Reply(body={"embeddings": [[len(request.body["input"])]]}), path="/api/embed")
    assert vectors(embed("abc")) == [[3]]


class TestCost:
    """A model that takes 10 s per request and 2 s per text."""

    @pytest.fixture
    def costly(self):
        model = SimulatedModel(name="e", capabilities=["embedding"], embed_seconds=10, embed_seconds_per_text=2)

        def make(**settings):
            return OllamaSimulator([model], time_scale=0, **settings)

        return make

    @pytest.mark.parametrize(
        ("asked", "seconds"),
        [
            ({"path": "/api/embed", "input": ["a", "b", "c"]}, 16),
            ({"path": "/api/embed", "input": "a"}, 12),
            ({"path": "/api/embeddings", "prompt": "a"}, 12),
            ({"path": "/v1/embeddings", "input": ["a", "b"]}, 14),
        ],
    )
    def test_a_request_takes_time_for_itself_and_for_each_text(self, costly, post, in_background, asked, seconds):
        with costly() as simulator:
            waiting = in_background(post, simulator, model="e", **asked)
            simulator.wait_for_sleeper()
            simulator.advance(seconds - 0.001)
            simulator.wait_for_sleeper()
            assert not waiting.done()
            simulator.advance(0.001)
            assert waiting.result(5).status_code == 200

    def test_the_reply_reports_its_duration(self, costly, post, in_background):
        with costly() as simulator:
            waiting = in_background(post, simulator, "/api/embed", model="e", input=["a", "b"])
            simulator.wait_for_sleeper()
            simulator.advance(14)
            assert 14e9 <= waiting.result(5).json()["total_duration"] < 15e9

    def test_without_texts_it_takes_no_time(self, costly, post):
        with costly() as simulator:
            assert post(simulator, "/api/embed", model="e", input=[]).json()["embeddings"] == []
            assert post(simulator, "/api/embeddings", model="e").json() == {"embedding": []}

    @pytest.mark.parametrize("num_parallel", [1, 2])
    def test_num_parallel_applies_to_embeddings(self, costly, post, in_background, num_parallel):
        with costly(num_parallel=num_parallel) as simulator:
            waiting = [in_background(post, simulator, "/api/embed", model="e", input=text) for text in ("a", "b")]
            for _ in range(2 // num_parallel):
                simulator.wait_for_sleeper(num_parallel)
                simulator.advance(12)
            assert [each.result(5).status_code for each in waiting] == [200, 200]
            assert simulator.time == 24 / num_parallel

    def test_a_disconnect_releases_the_embedding_model(self, costly, post, in_background):
        with costly() as simulator:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{simulator.url}/api/embed", json={"model": "e", "input": "a"}, timeout=0.05)
            simulator.wait_for_disconnect()
            waiting = in_background(post, simulator, "/api/embed", model="e", input="b")
            simulator.wait_for_request(2)
            simulator.wait_for_sleeper()
            simulator.advance(12)
            assert waiting.result(5).status_code == 200


class TestOldForm:
    def ask(self, simulator, **body):
        return httpx.post(f"{simulator.url}/api/embeddings", json=body)

    def test_the_old_form_returns_the_same_vector(self, simulator):
        new = httpx.post(f"{simulator.url}/api/embed", json={"model": "simulator-embed", "input": "a cat"}).json()
        old = self.ask(simulator, model="simulator-embed", prompt="a cat").json()
        assert old == {"embedding": new["embeddings"][0]}

    def test_an_empty_prompt_returns_an_empty_vector(self, simulator):
        assert self.ask(simulator, model="simulator-embed").json() == {"embedding": []}

    def test_it_can_be_scripted(self, simulator):
        simulator.reply(path="/api/embeddings", body={"embedding": [1]})
        assert self.ask(simulator, model="simulator-embed", prompt="x").json() == {"embedding": [1]}

    @pytest.mark.parametrize(
        ("body", "status", "text"),
        [
            ({}, 400, "model is required"),
            ({"model": "nope", "prompt": "x"}, 404, 'model "nope" not found, try pulling it first'),
            (
                {"model": "simulator-embed", "prompt": 5},
                400,
                "json: cannot unmarshal number into Go struct field Embedd",
            ),
            ({"model": "simulator", "prompt": "x"}, 500, "This server does not support embeddings."),
            (
                {"model": "simulator-embed", "prompt": "word " * 2000},
                500,
                "the input length exceeds the context length",
            ),
        ],
    )
    def test_invalid_requests_are_rejected(self, simulator, body, status, text):
        response = self.ask(simulator, **body)
        assert response.status_code == status
        assert response.json()["error"].startswith(text)
