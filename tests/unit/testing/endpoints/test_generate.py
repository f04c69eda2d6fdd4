"""The generate endpoint."""

import pytest

from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel

THINKER = SimulatedModel(name="thinker", capabilities=("completion", "thinking"))
NATIVE = SimulatedModel(name="native", capabilities=("completion", "thinking"), kind="native")


def test_a_prompt_is_answered_line_by_line(simulator, post_lines):
    simulator.reply("one two", path="/api/generate")
    *said, last = post_lines(simulator, "/api/generate", model="simulator", prompt="hi")
    assert [line["response"] for line in said] == ["one", " two"]
    assert (last["response"], last["done"], last["done_reason"]) == ("", True, "stop")
    assert len(last["context"]) == last["prompt_eval_count"] + last["eval_count"]
    assert simulator.requests[-1].prompt == "hi"


def test_the_context_of_a_reply_can_be_sent_back(simulator, post):
    first = post(simulator, "/api/generate", model="simulator", prompt="hi", stream=False).json()
    second = post(
        simulator, "/api/generate", model="simulator", prompt="on", context=first["context"], stream=False
    ).json()
    assert second["context"][: len(first["context"])] == first["context"]
    assert second["prompt_eval_count"] > len(first["context"])


def test_raw_prompts_have_no_context(simulator, post):
    assert (
        "context" not in post(simulator, "/api/generate", model="simulator", prompt="hi", raw=True, stream=False).json()
    )


def test_the_system_prompt_of_the_request_replaces_that_of_the_model(post):
    with OllamaSimulator([SimulatedModel(name="m", system="You are a lighthouse. " * 50)]) as simulator:
        counts = [
            post(simulator, "/api/generate", model="m", prompt="hi", stream=False, **more).json()["prompt_eval_count"]
            for more in ({}, {"system": "Be brief."}, {"raw": True})
        ]
    assert counts[0] > 200 > counts[1] > counts[2]


def test_thinking_has_its_own_field(post, post_lines):
    with OllamaSimulator([THINKER]) as simulator:
        reply = Reply(thinking="Hm.", text="Yes.")
        simulator.reply(reply, path="/api/generate", times=2)
        whole = post(simulator, "/api/generate", model="thinker", prompt="hi", stream=False).json()
        assert (whole["thinking"], whole["response"]) == ("Hm.", "Yes.")
        opening, thought, *_ = post_lines(simulator, "/api/generate", model="thinker", prompt="hi")
        assert (opening["response"], "thinking" in opening, thought["thinking"]) == ("", False, "Hm.")


def test_the_output_of_a_native_model_is_not_parsed(post):
    with OllamaSimulator([NATIVE]) as simulator:
        simulator.reply(thinking="Hm.\n", text="Yes.", path="/api/generate")
        body = post(simulator, "/api/generate", model="native", prompt="hi", stream=False).json()
    assert body["response"] == "<think>\nHm.\n</think>\n\nYes."
    assert "thinking" not in body


def test_log_probabilities_come_last(simulator, post, post_lines):
    request = {"model": "simulator", "prompt": "hi", "logprobs": True}
    assert list(post(simulator, "/api/generate", stream=False, **request).json())[-1] == "logprobs"
    assert list(post_lines(simulator, "/api/generate", **request)[0])[-1] == "logprobs"


def test_a_format_is_filled(simulator, post):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = post(simulator, "/api/generate", model="simulator", prompt="7 apples", format=schema, stream=False).json()
    assert body["response"] == '{"n": 7}'


def test_without_a_prompt_the_model_is_loaded_or_unloaded(simulator, post):
    loaded = post(simulator, "/api/generate", model="simulator").json()
    assert (loaded["response"], loaded["done_reason"]) == ("", "load")
    assert simulator.loaded_models == ["simulator:latest"]
    assert post(simulator, "/api/generate", model="simulator", keep_alive=0).json()["done_reason"] == "unload"
    assert simulator.loaded_models == []


def test_unscripted_prompts_are_unexpected(post):
    simulator = OllamaSimulator(plausible=False).start()
    assert post(simulator, "/api/generate", model="simulator", prompt="hi").status_code == 400
    with pytest.raises(AssertionError, match="POST /api/generate model='simulator' prompt='hi'"):
        simulator.stop()


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 404, "model '' not found"),
        ({"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ({"model": "m", "prompt": 5}, 400, "json: cannot unmarshal number into Go struct field GenerateRequest.prompt"),
        ({"model": "m", "prompt": "x", "think": True}, 400, '"m" does not support thinking'),
        ({"model": "m", "prompt": "x", "raw": True, "system": "s"}, 400, "raw mode does not support template, system"),
        ({"model": "m", "prompt": "x", "suffix": "y"}, 400, "registry.ollama.ai/library/m:latest does not support ins"),
        ({"model": "m", "prompt": "x", "options": {"num_predict": "x"}}, 500, 'option "num_predict" must be of type'),
        ({"model": "m", "prompt": "x", "keep_alive": "abc"}, 400, 'time: invalid duration "abc"'),
        ({"model": "m", "prompt": "x", "images": ["http://x/y.png"]}, 400, "illegal base64 data at input byte 4"),
        ({"model": "m", "prompt": "x", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        ({"model": "e"}, 400, '"e" does not support generate'),
        ({"model": "b", "prompt": "x"}, 500, "it is broken"),
    ],
)
def test_invalid_requests_are_rejected(post, body, status, text):
    models = [
        SimulatedModel(name="m"),
        SimulatedModel(name="e", capabilities=("embedding",)),
        SimulatedModel(name="b", load_error="it is broken"),
    ]
    with OllamaSimulator(models) as simulator:
        response = post(simulator, "/api/generate", **body)
    assert response.status_code == status
    assert response.json()["error"].startswith(text)
