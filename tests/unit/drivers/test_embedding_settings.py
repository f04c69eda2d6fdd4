"""Settings of the embedding driver, and what of them reaches the wire."""

import math
import threading
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import ollama
import pytest
from griptape.tokenizers import SimpleTokenizer

from griptape_ollama import (
    OllamaContentError,
    OllamaContextError,
    OllamaEmbeddingDriver,
    OllamaError,
    OllamaTimeout,
)
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from unit.embeddings.serving import WINDOW, inputs, vector

_LONGEST = (WINDOW - 2) * 4
_LONG = "a word " * 500


@pytest.fixture
def sent(simulator):
    """Embeds a text and gives the body that went out, but for what is always in it."""

    def run(driver, text="a", **arguments):
        driver.embed(text, **arguments)
        body = [request.body for request in simulator.requests if request.path == "/api/embed"][-1]
        return {name: value for name, value in body.items() if name not in ("model", "input", "truncate")}

    return run


class TestWire:
    def test_nothing_but_what_is_set_is_sent(self, sent, make_embedder):
        assert sent(make_embedder()) == {}

    @pytest.mark.parametrize(
        ("settings", "body"),
        [
            ({"dimensions": 32}, {"dimensions": 32}),
            ({"keep_alive": timedelta(minutes=10)}, {"keep_alive": "600s"}),
            ({"keep_alive": 0}, {"keep_alive": 0}),
            ({"keep_alive": -1}, {"keep_alive": -1}),
            ({"options": {"num_ctx": 256}}, {"options": {"num_ctx": 256}}),
            ({"keep_alive": " -1 "}, {"keep_alive": -1}),
            ({"keep_alive": np.timedelta64(5, "m")}, {"keep_alive": 300}),
            ({"dimensions": np.int32(32)}, {"dimensions": 32}),
            ({"dimensions": Decimal(32)}, {"dimensions": 32}),
            ({"options": {"num_ctx": np.array(256)}}, {"options": {"num_ctx": 256}}),
            (
                {"options": {"num_ctx": Decimal(256), "use_mmap": np.bool_(True)}},
                {"options": {"num_ctx": 256, "use_mmap": True}},
            ),
            (
                {"extra_params": {"dimensions": np.int64(16), "brand_new": {"deep": [np.float64(0.5), np.int8(3)]}}},
                {"dimensions": 16, "brand_new": {"deep": [0.5, 3]}},
            ),
            (
                {"extra_params": {"brand_new": np.arange(3), "price": Decimal("0.1")}},
                {"brand_new": [0, 1, 2], "price": 0.1},
            ),
            ({"options": ollama.Options(num_ctx=256)}, {"options": {"num_ctx": 256}}),
            ({"options": None}, {}),
            ({"extra_params": None}, {}),
            (
                {"extra_params": {"brand_new": [1], "keep_alive": "5m"}, "keep_alive": 0},
                {"brand_new": [1], "keep_alive": "5m"},
            ),
            ({"extra_params": {"dimensions": 16}, "dimensions": 32}, {"dimensions": 16}),
            (
                {"options": {"num_ctx": 256, "seed": 1}, "extra_params": {"options": {"seed": 2}}},
                {"options": {"num_ctx": 256, "seed": 2}},
            ),
        ],
        ids=str,
    )
    def test_settings_reach_the_wire(self, sent, make_embedder, settings, body):
        found = sent(make_embedder(**settings))
        if "keep_alive" in body and isinstance(settings.get("keep_alive"), timedelta):
            assert found.keys() == body.keys()
        else:
            assert found == body

    def test_numbers_of_other_libraries_are_kept_as_plain_ones(self, simulator, make_embedder):
        driver = make_embedder(
            batch_size=np.int64(2),
            batch_characters=Decimal(1000),
            gather_seconds=np.float32(0.5),
            cache_bytes=np.uint32(0),
            max_attempts=np.int8(1),
            max_concurrency=Fraction(3),
            max_wait=Decimal("1.5"),
            min_retry_delay=np.float64(0.25),
            timeout=(Decimal("2.5"), np.float32(30)),
            wait_for_server=np.int16(0),
            options={"temperature": Decimal("0.5"), "num_ctx": np.int64(256)},
        )
        assert len(driver.embed_batch(["a", "b", "c"])) == 3
        assert [len(texts) for texts in inputs(simulator)] == [2, 1]
        again = OllamaEmbeddingDriver.from_json(driver.to_json())
        assert (again.batch_size, again.max_wait, again.options) == (2, 1.5, {"temperature": 0.5, "num_ctx": 256})
        assert (again.timeout.connect, again.timeout.first_token) == (2.5, 30)

    def test_settings_count_at_the_time_of_the_call(self, sent, make_embedder):
        driver = make_embedder(cache_bytes=0)
        driver.keep_alive = 5
        driver.options["num_ctx"] = 256
        driver.extra_params["brand_new"] = 1
        assert sent(driver) == {"keep_alive": 5, "options": {"num_ctx": 256}, "brand_new": 1}

    def test_extra_params_name_another_model(self, simulator, make_embedder):
        with pytest.raises(OllamaError, match="ollama pull other"):
            make_embedder(extra_params={"model": "other"}).embed("a")

    def test_keys_and_headers_go_along(self, simulator, make_embedder):
        make_embedder(api_key="key", headers={"X-Team": "blue"}).embed("a")
        for request in simulator.requests:
            assert (request.headers["Authorization"], request.headers["X-Team"]) == ("Bearer key", "blue")

    def test_a_client_of_the_users_own_is_used(self, simulator, make_client):
        driver = OllamaEmbeddingDriver(model="simulator-embed", client=make_client(headers={"X-Mine": "yes"}))
        assert driver.embed("a") == vector("a")
        assert driver.host == simulator.url
        assert {request.headers["X-Mine"] for request in simulator.requests} == {"yes"}


class TestChecks:
    @pytest.mark.parametrize(
        ("name", "values"),
        {
            "model": [5, b"simulator-embed", ["simulator-embed"]],
            "dimensions": [0, -1, 1.5, "64", True, math.nan, []],
            "truncate": [0, 1, "yes", []],
            "keep_alive": ["60", "abc", True, {}],
            "options": [5, "num_ctx", ["num_ctx"], {"num_ctx": "many"}],
            "extra_params": [5, "abc", [("a", 1)], {1: "a"}],
            "on_long_text": ["cut", 1, True, []],
            "query_prefix": [5, b"query: ", ["query: "]],
            "document_prefix": [5, b"passage: "],
            "batch_size": [0, -1, 1.5, "64", True, None, math.inf],
            "batch_characters": [0, -1, 1.5, "64", True, None],
            "gather_seconds": [-1, "1", True, None, math.nan, math.inf, threading.TIMEOUT_MAX * 2],
            "cache_bytes": [-1, 1.5, "64", True, None],
            "timeout": [0, -1, "1", [1, 2, 3]],
            "host": [5],
        }.items(),
    )
    def test_a_wrong_value_is_refused_when_it_is_given_and_when_it_is_set_later(self, make_embedder, name, values):
        for value in values:
            with pytest.raises(OllamaContentError):
                make_embedder(**{name: value})
            driver = make_embedder()
            with pytest.raises(OllamaContentError):
                setattr(driver, name, value)
            assert getattr(driver, name) == getattr(make_embedder(), name)

    @pytest.mark.parametrize(
        "extra",
        [
            {"input": ["b"]},
            {"model": 5},
            {"model": " "},
            {"dimensions": 0},
            {"truncate": "yes"},
            {"keep_alive": "abc"},
            {"options": 5},
            {"options": {"num_ctx": "many"}},
            {"x": {1, 2}},
            {"x": math.nan},
            {"x": object()},
        ],
        ids=[
            "input",
            "model",
            "blank",
            "dimensions",
            "truncate",
            "keep_alive",
            "options",
            "num_ctx",
            "set",
            "nan",
            "object",
        ],
    )
    def test_a_wrong_extra_param_is_refused_when_it_would_be_sent(self, simulator, make_embedder, extra):
        driver = make_embedder(extra_params=extra)
        for call in (
            lambda: driver.embed("a"),
            lambda: driver.embed_batch(["a"]),
            lambda: list(driver.iter_embed_batch(["a"])),
        ):
            with pytest.raises(OllamaContentError):
                call()
        assert inputs(simulator) == []

    def test_an_extra_param_that_holds_itself_is_refused(self, make_embedder):
        loop = {}
        loop["loop"] = loop
        with pytest.raises(OllamaContentError, match="JSON"):
            make_embedder(extra_params={"loop": loop}).embed("a")

    @pytest.mark.parametrize("operation", ["delete", "", 5])
    def test_an_operation_that_is_none_is_refused(self, make_embedder, operation):
        with pytest.raises(OllamaContentError, match="must be 'query', 'upsert' or None"):
            make_embedder().embed("a", vector_operation=operation)

    @pytest.mark.parametrize("seconds", [1e300, math.inf])
    def test_a_limit_that_never_comes_is_none(self, simulator, make_embedder, seconds):
        driver = make_embedder(timeout=OllamaTimeout(total=seconds))
        assert driver.embed("a") == vector("a")
        with driver.prefetch(["b"]):
            assert driver.embed("b", vector_operation="upsert") == vector("b")


class TestDimensions:
    def test_vectors_can_be_shorter(self, make_embedder):
        driver = make_embedder(dimensions=16)
        assert driver.embed("a cat") == vector("a cat", 16)
        assert driver.embed_batch(["a", "b"]) == [vector("a", 16), vector("b", 16)]

    def test_more_than_the_model_has_is_refused_before_sending(self, simulator, make_embedder):
        with pytest.raises(OllamaContentError, match="dimensions=65 is more than model 'simulator-embed' gives: 64"):
            make_embedder(dimensions=65).embed("a")
        assert inputs(simulator) == []
        assert len(make_embedder(dimensions=64).embed("a")) == 64

    def test_a_server_that_ignores_it_is_told_apart(self, simulator, make_embedder):
        simulator.reply(path="/api/embed", body={"embeddings": [[0.6, 0.8]]})
        with pytest.raises(OllamaContentError, match="gives vectors of 2 numbers, not dimensions=16"):
            make_embedder(dimensions=16).embed("a")

    def test_where_the_size_is_not_known_the_server_is_asked(self, simulator, make_embedder):
        simulator.reply(path="/api/show", body={"capabilities": ["embedding"]}, times=None)
        with pytest.raises(OllamaContentError, match="gives vectors of 64 numbers, not dimensions=65"):
            make_embedder(dimensions=65).embed("a")


class TestPrefixes:
    @pytest.fixture
    def simulator(self):
        names = ["nomic-embed-text", "mxbai-embed-large", "all-minilm", "e5-large"]
        models = [SimulatedModel(name=name, capabilities=["embedding"]) for name in names]
        with OllamaSimulator(models) as simulator:
            yield simulator

    @pytest.mark.parametrize(
        ("model", "query", "document"),
        [
            ("nomic-embed-text", "search_query: ", "search_document: "),
            ("mxbai-embed-large", "Represent this sentence for searching relevant passages: ", ""),
            ("e5-large", "query: ", "passage: "),
            ("all-minilm", "", ""),
        ],
    )
    def test_texts_have_the_prefix_that_the_models_family_wants(self, simulator, make_embedder, model, query, document):
        driver = make_embedder(model=model)
        for operation in ("query", "upsert", None):
            driver.embed("cats", vector_operation=operation)
            driver.embed_batch(["dogs"], operation)
        driver.embed_batch(["", "owls"], vector_operation="query")
        expected = [f"{query}cats", f"{query}dogs", f"{document}cats", f"{document}dogs", "cats", "dogs"]
        # What is known already is not asked for again: where a prefix is empty, two texts are the same.
        texts = [text for batch in inputs(simulator) for text in batch]
        assert texts == list(dict.fromkeys([*expected, f"{query}.", f"{query}owls"]))

    def test_prefixes_of_ones_own_win_also_empty_ones(self, simulator, make_embedder):
        driver = make_embedder(model="nomic-embed-text", query_prefix="", document_prefix="doc: ")
        driver.embed("cats", vector_operation="query")
        driver.embed("cats", vector_operation="upsert")
        driver.query_prefix = "q: "
        driver.embed("cats", vector_operation="query")
        assert inputs(simulator) == [["cats"], ["doc: cats"], ["q: cats"]]

    def test_prefixes_follow_the_model(self, simulator, make_embedder):
        driver = make_embedder(model="nomic-embed-text")
        driver.model = "e5-large"
        driver.embed("cats", vector_operation="query")
        assert inputs(simulator) == [["query: cats"]]


class TestLongTexts:
    @pytest.mark.parametrize("settings", [{}, {"on_long_text": "chunk"}], ids=str)
    def test_chunking_is_the_default(self, simulator, make_embedder, settings):
        driver = make_embedder(**settings)
        found = driver.embed(_LONG)
        assert math.hypot(*found) == pytest.approx(1)
        assert found != vector(_LONG[:_LONGEST])
        assert _LONG not in [text for batch in inputs(simulator) for text in batch]
        assert driver.embed_batch(["a", _LONG]) == [vector("a"), found]

    @pytest.mark.parametrize(
        "settings", [{"on_long_text": "truncate"}, {"truncate": True}, {"extra_params": {"truncate": True}}], ids=str
    )
    def test_the_server_truncates(self, simulator, make_embedder, settings):
        assert make_embedder(**settings).embed(_LONG) == vector(_LONG[:_LONGEST])
        assert inputs(simulator) == [[_LONG]]
        assert simulator.requests[-1].body.get("truncate", True) is True

    @pytest.mark.parametrize(
        "settings", [{"on_long_text": "error"}, {"truncate": False}, {"extra_params": {"truncate": False}}], ids=str
    )
    def test_a_long_text_is_an_error(self, simulator, make_embedder, settings):
        with pytest.raises(OllamaContextError, match="has 1000 tokens or more, and the window has 512"):
            make_embedder(**settings).embed(_LONG)
        assert inputs(simulator) == []

    @pytest.mark.parametrize(("on_long_text", "truncate"), [("chunk", True), ("error", True), ("truncate", False)])
    def test_settings_that_contradict_each_other_are_refused(self, make_embedder, on_long_text, truncate):
        with pytest.raises(OllamaContentError, match=f"truncate={truncate} contradicts on_long_text='{on_long_text}'"):
            make_embedder(on_long_text=on_long_text, truncate=truncate)
        driver = make_embedder(on_long_text=on_long_text, extra_params={"truncate": truncate})
        with pytest.raises(OllamaContentError, match="contradicts"):
            driver.embed("a")

    @pytest.mark.parametrize(("on_long_text", "truncate"), [("chunk", False), ("error", False), ("truncate", True)])
    def test_settings_that_agree_are_not(self, make_embedder, on_long_text, truncate):
        assert make_embedder(on_long_text=on_long_text, truncate=truncate).embed("a") == vector("a")

    @pytest.mark.parametrize(
        "settings", [{"options": {"num_ctx": 100}}, {"extra_params": {"options": {"num_ctx": 100}}}], ids=str
    )
    def test_a_smaller_window_in_the_options_counts(self, make_embedder, settings):
        with pytest.raises(OllamaContextError, match="and the window has 100"):
            make_embedder(on_long_text="error", **settings).embed("a word " * 60)

    def test_a_larger_one_does_not(self, make_embedder):
        with pytest.raises(OllamaContextError, match="and the window has 512"):
            make_embedder(on_long_text="error", options={"num_ctx": 100_000}).embed(_LONG)

    def test_a_tokenizer_says_how_long_a_text_and_the_window_are(self, make_embedder):
        tokenizer = SimpleTokenizer(characters_per_token=2, max_input_tokens=100, max_output_tokens=1)
        driver = make_embedder(on_long_text="error", tokenizer=tokenizer)
        assert driver.embed("x" * 198) == vector("x" * 198)
        with pytest.raises(OllamaContextError, match=r"has 10[12] tokens or more, and the window has 100"):
            driver.embed("x" * 203)

    def test_a_server_that_tells_no_window_is_tried(self, simulator, make_embedder):
        simulator.reply(path="/api/show", status=500, error="no", times=None)
        assert math.hypot(*make_embedder().embed(_LONG)) == pytest.approx(1)
        assert inputs(simulator)[0] == [_LONG]
        assert make_embedder(on_long_text="chunk").embed("a") == vector("a")


class TestCache:
    def test_what_is_known_is_not_asked_for_again_however_it_is_asked(self, simulator, make_embedder):
        driver = make_embedder()
        texts = [f"text {number}" for number in range(100)]
        first = driver.embed_batch(texts)
        count = len(inputs(simulator))
        assert driver.embed_batch(texts) == first
        assert [driver.embed(text) for text in texts] == first
        assert list(driver.iter_embed_batch(texts)) == first
        with driver.prefetch(texts, vector_operation=None):
            assert [driver.embed(text) for text in texts] == first
        assert len(inputs(simulator)) == count
        info = driver.cache_info
        assert (info.hits, info.misses, info.entries) == (400, 100, 100)
        assert info.size == 100 * (64 * 8 + 300)

    def test_clearing_forgets(self, simulator, embedder):
        embedder.embed("a")
        embedder.clear_cache()
        embedder.embed("a")
        assert len(inputs(simulator)) == 2

    def test_no_bytes_keep_nothing_and_do_not_ask_for_the_digest(self, simulator, make_embedder):
        driver = make_embedder(cache_bytes=0)
        driver.embed("a")
        driver.embed("a")
        assert len(inputs(simulator)) == 2
        assert [request.path for request in simulator.requests] == ["/api/embed"] * 2

    def test_the_room_can_change(self, simulator, make_embedder):
        driver = make_embedder()
        driver.embed_batch(["a", "b", "c"])
        driver.cache_bytes = 2 * (64 * 8 + 300)
        driver.embed("c")
        assert driver.cache_info.entries == 2

    def test_what_decides_about_a_vector_is_part_of_the_key(self, simulator, make_embedder):
        driver = make_embedder()
        driver.embed("a")
        for name, value in [
            ("dimensions", 32),
            ("options", {"num_ctx": 256}),
            ("on_long_text", "error"),
            ("extra_params", {"x": 1}),
        ]:
            before = len(inputs(simulator))
            setattr(driver, name, value)
            driver.embed("a")
            assert len(inputs(simulator)) == before + 1
        driver.keep_alive = 5
        driver.embed("a")
        assert len(inputs(simulator)) == before + 1

    def test_where_the_digest_is_not_known_nothing_is_kept(self, simulator, embedder):
        simulator.reply(path="/api/tags", status=500, error="no", times=None)
        embedder.embed("a")
        embedder.embed("a")
        assert len(inputs(simulator)) == 2
        assert embedder.cache_info.entries == 0

    def test_vectors_come_back_exactly_and_as_the_callers_own(self, embedder):
        first = embedder.embed("a cat")
        first[0] = 7.0
        assert embedder.embed("a cat") == vector("a cat")

    def test_another_driver_has_another_cache(self, simulator, make_embedder):
        make_embedder().embed("a")
        make_embedder().embed("a")
        assert len(inputs(simulator)) == 2
