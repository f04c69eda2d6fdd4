"""Windows and counts under odd settings, odd messages, and impossible replies of servers."""

import contextlib
import json
import logging
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from griptape.common import PromptStack
from griptape.tokenizers import BaseTokenizer, SimpleTokenizer

from griptape_ollama import OllamaContentError, OllamaContextError, OllamaPromptDriver
from griptape_ollama.models.connection_settings import _restored
from griptape_ollama.protocol.options import MAX_NUM_CTX
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

HUGE = 10**400
NONSENSE = [-1, 1.5, 12.0, "x", True, None, [1], {}, HUGE, 0]
SHOW = {
    "capabilities": ["completion", "tools"],
    "details": {"family": "llama"},
    "model_info": {"general.architecture": "llama", "llama.context_length": 131_072},
}
LONG = "many words " * 5000
ODD_MESSAGES = [
    {},
    {1: 2},
    {"role": "user", "content": None},
    {"role": "user", "content": ["a", {"b": 1}]},
    {"role": "user", "content": 5},
    {"role": ["x"], "content": "a"},
    {"role": {"x": 1}},
    {"role": "user", "content": "x", "images": None},
    {"role": "user", "content": "x", "images": 5},
    {"role": "user", "content": "x", "images": {"a": 1}},
    {"role": "user", "content": 1.5, "tool_calls": 5},
    {"role": "user", "content": "x", "tool_calls": {"a": 1}},
    {"role": "assistant", "tool_calls": [5, None, {"function": 5}, {"function": {"name": ["x"]}}]},
    {"role": "user", "content": "\ud800\x00"},
    {"role": "user", "thinking": ["x"]},
]


def _stack(text="Hello"):
    stack = PromptStack()
    stack.add_user_message(text)
    return stack


class Answering(BaseHTTPRequestHandler):
    """Says what its server is told to say."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        lines = b"".join(json.dumps(line).encode() + b"\n" for line in self.server.answers[self.path])
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Content-Length", str(len(lines)))
        self.end_headers()
        self.wfile.write(lines)

    def log_message(self, *_):
        """Say nothing."""


@contextlib.contextmanager
def _serving(*, show=SHOW, ps=None, **last):
    """A server that says what it is told to say, and answers every prompt; gives its address."""
    done = {"done": True, "done_reason": "stop", "prompt_eval_count": 12, "eval_count": 1, **last}
    said = {"message": {"role": "assistant", "content": "Hi."}, "done": False}
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        server.answers = {"/api/show": [show], "/api/ps": [{"models": []} if ps is None else ps]}
        server.answers["/api/chat"] = [said, done]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _asked(server, **settings):
    """Two prompts, so that the second one knows what the first one taught; give the reply and the tokenizer's room."""
    driver = OllamaPromptDriver(model="m", host=server, max_attempts=1, **settings)
    driver.run(_stack())
    reply = driver.run(_stack())
    str(driver.preview(_stack()))
    return reply.content[0].artifact.meta["ollama"], driver.tokenizer.max_input_tokens


@pytest.fixture
def roomy():
    """A driver of a model for 131,072 tokens, by its settings."""
    with OllamaSimulator([SimulatedModel(name="roomy", context_length=131_072)]) as simulator:

        def make(**settings):
            return OllamaPromptDriver(**{"model": "roomy", "host": simulator.url, "min_retry_delay": 0, **settings})

        yield make


class TestSettings:
    @pytest.mark.parametrize("name", ["num_ctx", "max_num_ctx"])
    @pytest.mark.parametrize("value", ["8192", "AUTO", True, np.True_, 1.5, np.array([5]), [], 0, -1, 2**31, HUGE])
    def test_what_is_no_size_is_refused_when_it_is_set(self, name, value):
        with pytest.raises(OllamaContentError, match=name):
            OllamaPromptDriver(model="m", **{name: value})

    def test_numbers_of_other_libraries_are_sizes(self, simulator, make_driver):
        make_driver(num_ctx=np.int64(2048), max_num_ctx=np.int32(4096)).run(_stack())
        assert simulator.last_chat.body["options"]["num_ctx"] == 2048

    def test_an_array_is_no_option(self):
        with pytest.raises(OllamaContentError, match="num_ctx"):
            OllamaPromptDriver(model="m", options={"num_ctx": np.array([5])})

    @pytest.mark.parametrize("value", [2**31, 2**63, HUGE])
    def test_an_option_that_would_overflow_on_the_server_asks_for_the_largest_window(
        self, simulator, make_driver, value
    ):
        meta = make_driver(options={"num_ctx": value}).run(_stack()).content[0].artifact.meta["ollama"]
        assert simulator.last_chat.body["options"]["num_ctx"] == MAX_NUM_CTX
        assert meta["context"]["window"] == 8192

    @pytest.mark.parametrize("value", [0, -1, 3])
    def test_a_window_that_the_server_raises_is_told_once(self, make_driver, caplog, value):
        driver = make_driver(options={"num_ctx": value})
        with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
            driver.run(_stack())
            driver.run(_stack())
        told = [record.message for record in caplog.records if "too small for" in record.message]
        assert len(told) == 1
        assert "its window is 4 tokens" in told[0]

    @pytest.mark.parametrize("most", [1, 100, 255, 4096])
    def test_a_limit_below_what_is_loaded_does_not_shrink_it(self, roomy, most):
        roomy(num_ctx=16_384).run(_stack())
        meta = roomy(max_num_ctx=most).run(_stack()).content[0].artifact.meta["ollama"]
        assert meta["context"]["window"] == 16_384

    @pytest.mark.parametrize(("num_ctx", "window"), [("auto", 32_768), (None, 4096), (2048, 2048), (100, 100)])
    @pytest.mark.parametrize("wanted", [10**9, HUGE])
    def test_a_reply_larger_than_any_window_leaves_half_of_it_to_the_prompt(self, num_ctx, window, wanted):
        with _serving() as server:
            meta, room = _asked(server, num_ctx=num_ctx, max_tokens=wanted)
        assert meta["context"]["window"] == window
        assert room == window // 2

    def test_a_model_that_is_no_name_is_refused(self, make_driver):
        with pytest.raises(OllamaContentError, match="name of a model"):
            make_driver(extra_params={"model": 5}).run(_stack())


class TestServersThatTellNonsense:
    @pytest.mark.parametrize("name", ["prompt_eval_count", "eval_count", "done_reason"])
    @pytest.mark.parametrize("value", NONSENSE)
    def test_counts_of_a_reply(self, name, value):
        with _serving(**{name: value}) as server:
            meta, room = _asked(server)
        assert meta["context"]["window"] == 4096
        assert room == 32_768 - 1024

    def test_a_count_larger_than_the_model_proves_no_larger_window_than_the_model_has(self):
        with _serving(prompt_eval_count=2**31 - 1) as server:
            meta, room = _asked(server)
        assert meta["context"]["window"] == 131_072
        assert room == 131_072 - 1024

    @pytest.mark.parametrize(
        # 12.0 is a whole number, however it is written.
        "value",
        [each for each in NONSENSE if each not in (0, HUGE, 12.0)] + ["\ud800", "a b", "x" * 9999],
    )
    @pytest.mark.parametrize("name", ["name", "context_length", "details"])
    def test_entries_of_what_is_loaded(self, name, value):
        entry = {"name": "m:latest", "context_length": 5000, "details": {"family": "llama"}, name: value}
        with _serving(ps={"models": [5, None, entry]}) as server:
            meta, _ = _asked(server)
        assert meta["context"]["window"] in ((4096,) if name != "details" else (5000,))

    @pytest.mark.parametrize("value", NONSENSE)
    def test_no_list_of_what_is_loaded(self, value):
        with _serving(ps={"models": value}) as server:
            assert _asked(server)[0]["context"]["window"] == 4096

    @pytest.mark.parametrize("value", [each for each in NONSENSE if each != 12.0])
    def test_the_length_that_a_model_was_made_for(self, value):
        info = {"general.architecture": "llama", "llama.context_length": value}
        with _serving(show={**SHOW, "model_info": info}) as server:
            meta, _ = _asked(server)
        assert meta["context"]["window"] == 4096

    @pytest.mark.parametrize(
        "parameters",
        [
            "num_ctx foo",
            "num_ctx -5",
            'num_ctx "9"',
            "num_ctx 1.5",
            "num_predict foo",
            'num_predict "7"',
            "num_predict []",
        ],
    )
    def test_parameters_of_a_model(self, parameters):
        with _serving(show={**SHOW, "parameters": parameters}, done_reason="length") as server:
            meta, _ = _asked(server)
        assert meta["context"]["window"] == 4096
        assert meta["complete"] is False


class TestMessages:
    @pytest.mark.parametrize("mode", ["warn", "trim", "error"])
    @pytest.mark.parametrize("message", ODD_MESSAGES)
    def test_odd_ones_go_to_the_server_as_they_are(self, mode, message):
        show = {**SHOW, "capabilities": ["completion", "vision"]}
        with _serving(show=show) as server:
            _asked(server, extra_params={"messages": [message]}, on_overflow=mode)
            # Where what is there has to be grouped, too.
            messages = [message, {"role": "user", "content": LONG}, message, {"role": "user", "content": "Hi"}]
            _asked(server, extra_params={"messages": messages}, on_overflow=mode, max_num_ctx=4096)

    @pytest.mark.parametrize("content", [b"x", float("nan")])
    def test_one_that_cannot_be_written_leaves_no_window_in_doubt(self, roomy, content):
        driver = roomy(
            extra_params={"messages": [{"role": "user", "content": LONG}, {"role": "user", "content": content}]}
        )
        with pytest.raises(OllamaContentError):
            driver.run(_stack())
        meta = roomy().run(_stack()).content[0].artifact.meta["ollama"]
        assert "num_ctx" not in meta["context"], "the window that was never asked for is taken for there"

    @pytest.mark.parametrize("text", ["x" * 20_000_000, "word " * 4_000_000, "\ud800\x00" * 100_000, "\n" * 1_000_000])
    def test_a_huge_one_is_sent(self, text):
        with _serving() as server:
            assert _asked(server, extra_params={"messages": [{"role": "user", "content": text}]})[0]["context"][
                "window"
            ]

    def test_fifty_thousand_are_cut_in_one_pass(self):
        roles = ("user", "assistant")
        messages = [
            {"role": roles[number % 2], "content": f"Message {number} of the story"} for number in range(50_001)
        ]
        with _serving() as server:
            meta, _ = _asked(server, extra_params={"messages": messages}, on_overflow="trim")
        assert meta["context"]["dropped_messages"] > 40_000


class OwnTokenizer(BaseTokenizer):
    """A tokenizer of the user's that gives whatever a function does."""

    def __init__(self, count):
        super().__init__(model="m", max_input_tokens=4096, max_output_tokens=1000)
        self._function = count

    def count_tokens(self, text):
        return self._function(text)


def _raises(_):
    raise RuntimeError("no such vocabulary")


class TestTokenizersOfTheUser:
    @pytest.mark.parametrize("given", [-1, float("nan"), float("inf"), 1e300, HUGE, 10**15, None, [1]])
    @pytest.mark.parametrize("mode", ["warn", "trim", "error"])
    def test_counts_that_cannot_be_are_replaced_by_an_estimate(self, caplog, given, mode):
        with _serving() as server:
            meta, _ = _asked(server, tokenizer=OwnTokenizer(lambda _: given), on_overflow=mode)
        assert meta["context"]["window"] == 4096
        assert meta["truncated"] is False
        assert sum("its count is estimated instead" in record.message for record in caplog.records) == 1

    def test_one_that_fails_is_replaced_by_an_estimate(self, caplog):
        with _serving() as server:
            assert _asked(server, tokenizer=OwnTokenizer(_raises))[0]["context"]["window"] == 4096
        assert "no such vocabulary" in caplog.text

    def test_one_that_gives_fractions_counts(self):
        tokenizer = OwnTokenizer(lambda text: len(text) / 4)
        with _serving() as server:
            meta, _ = _asked(
                server, tokenizer=tokenizer, extra_params={"messages": [{"role": "user", "content": LONG}]}
            )
        assert meta["context"]["window"] in (16_384, 32_768)

    def test_two_drivers_share_one(self, roomy):
        tokenizer = OwnTokenizer(lambda text: len(text) // 4)
        one, other = roomy(tokenizer=tokenizer), roomy(tokenizer=tokenizer, num_ctx=2048)
        one.run(_stack(LONG))
        other.run(_stack())
        assert one.tokenizer is other.tokenizer is tokenizer

    def test_a_text_is_counted_once(self, roomy):
        counted = []
        driver = roomy(tokenizer=OwnTokenizer(lambda text: counted.append(text) or len(text) / 4))
        for _ in range(3):
            driver.run(_stack(LONG))
        assert counted.count(LONG) == 1


class TestDriversOfBefore:
    def test_one_that_was_pickled_without_the_settings_of_the_window_has_their_defaults(self, make_driver):
        kind, settings = make_driver(num_ctx=2048, on_overflow="trim").__reduce_ex__(4)[1]
        new = ("num_ctx", "max_num_ctx", "on_overflow", "_tokenizer")
        before = {name: value for name, value in settings.items() if name not in new}
        before["tokenizer"] = SimpleTokenizer(characters_per_token=4)
        old = pickle.loads(pickle.dumps(_restored(kind, before)))  # noqa: S301
        assert (old.num_ctx, old.max_num_ctx, old.on_overflow) == ("auto", None, "warn")
        assert old.run(_stack()).to_text()

    def test_too_long_prompts_of_such_a_driver_can_be_refused(self, make_driver):
        driver = pickle.loads(pickle.dumps(make_driver(num_ctx=512, on_overflow="error")))  # noqa: S301
        with pytest.raises(OllamaContextError):
            driver.run(_stack(LONG))
