import threading
import time
from datetime import datetime, timezone

import httpx
import pytest

from griptape_ollama.protocol.parameters import parse_parameters
from griptape_ollama.testing import OllamaSimulator, SimulatedModel


def show(simulator, name, **body):
    return httpx.post(f"{simulator.url}/api/show", json={"model": name, **body})


def ps(simulator):
    return httpx.get(f"{simulator.url}/api/ps").json()["models"]


def test_the_default_models_chat_with_tools_and_embed(simulator):
    models = httpx.get(f"{simulator.url}/api/tags").json()["models"]
    assert [(model["name"], model["capabilities"]) for model in models] == [
        ("simulator:latest", ["completion", "tools"]),
        ("simulator-embed:latest", ["embedding"]),
    ]


def test_show_tells_what_the_model_was_given():
    model = SimulatedModel(
        name="sim-chat:7b",
        capabilities=("completion", "tools"),
        context_length=1234,
        parameters={"temperature": 0.7, "stop": ["<|im_end|>", 'a "b"'], "num_ctx": 512},
        system="Be brief.",
        family="qwen3",
        model_info={"qwen3.rope.freq_base": 10000.0},
    )
    with OllamaSimulator([model]) as simulator:
        body = show(simulator, "sim-chat:7b").json()
    assert parse_parameters(body["parameters"]) == {
        "temperature": 0.7,
        "stop": ["<|im_end|>", 'a "b"'],
        "num_ctx": 512,
    }
    assert body["model_info"]["qwen3.context_length"] == 1234
    assert body["model_info"]["qwen3.rope.freq_base"] == 10000.0
    assert (body["system"], body["capabilities"]) == ("Be brief.", ["completion", "tools"])
    assert "PARAMETER temperature 0.7" in body["modelfile"]
    assert "SYSTEM Be brief." in body["modelfile"]


def test_show_leaves_out_what_a_model_does_not_have(simulator):
    body = show(simulator, "simulator").json()
    assert not {"parameters", "system", "projector_info"} & body.keys()


def test_show_has_no_vocabulary_unless_asked(simulator):
    assert show(simulator, "simulator").json()["model_info"]["tokenizer.ggml.tokens"] is None
    assert show(simulator, "simulator", verbose=True).json()["model_info"]["tokenizer.ggml.tokens"]


def test_templates_tell_the_kinds_apart():
    kinds = ("go_template", "builtin", "native")
    with OllamaSimulator([SimulatedModel(name=kind, kind=kind) for kind in kinds]) as simulator:
        templates = [show(simulator, kind).json()["template"] for kind in kinds]
    assert [template[:3] for template in templates] == ["{{-", "{{ ", "{%-"]


def test_a_native_model_can_do_more_than_the_list_of_models_says():
    model = SimulatedModel(name="native", kind="native", capabilities=("completion", "tools", "thinking"))
    with OllamaSimulator([model]) as simulator:
        (listed,) = httpx.get(f"{simulator.url}/api/tags").json()["models"]
        assert listed["capabilities"] == ["completion"]
        assert show(simulator, "native").json()["capabilities"] == ["completion", "tools", "thinking"]


@pytest.mark.parametrize(
    "name", ["simulator", "simulator:latest", "Simulator", "library/simulator", "registry.ollama.ai/library/simulator"]
)
def test_a_model_is_found_under_all_its_names(simulator, lines, name):
    assert lines(simulator, model=name)[0]["model"] == name


def test_another_tag_is_another_model(simulator, chat):
    assert chat(simulator, model="simulator:7b").json() == {"error": "model 'simulator:7b' not found"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "no name"}, ValueError, "not a model name"),
        ({"name": "a", "capabilities": "tools"}, TypeError, "sequence of texts"),
        ({"name": "a", "kind": "other"}, ValueError, "kind='other'"),
        ({"name": "a", "context_length": 0}, ValueError, "are positive"),
        ({"name": "a", "embed_seconds": -1}, ValueError, "not negative"),
        ({"name": "a", "embed_seconds_per_text": float("nan")}, ValueError, "not negative"),
    ],
)
def test_models_that_make_no_sense_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SimulatedModel(**arguments)


def test_a_request_loads_its_model_and_keep_alive_says_for_how_long(simulator, chat):
    assert ps(simulator) == []
    chat(simulator, keep_alive="10m")
    (loaded,) = ps(simulator)
    assert loaded["name"] == "simulator:latest"
    assert loaded["context_length"] == 4096
    expires = datetime.strptime(loaded["expires_at"][:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    assert 300 < expires.timestamp() - time.time() < 601


def test_a_model_goes_when_its_time_is_over(chat):
    with OllamaSimulator(time_scale=0) as simulator:
        chat(simulator, keep_alive=60)
        simulator.advance(59)
        assert simulator.loaded_models == ["simulator:latest"]
        simulator.advance(2)
        assert ps(simulator) == []


def test_keep_alive_zero_unloads_after_the_reply(simulator, chat, say):
    simulator.reply("bye")
    assert say(simulator, keep_alive=0) == "bye"
    assert simulator.loaded_models == []


def test_a_model_in_use_stays_until_its_reply_is_over(simulator, chat, connect, read_until):
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


def test_a_client_that_goes_releases_the_model(simulator, connect):
    simulator.reply("never", headers_delay=60)
    connection = connect(simulator, keep_alive=0)
    simulator.wait_for_request()
    connection.close()
    simulator.wait_for_disconnect()
    assert simulator.loaded_models == []


def test_several_models_are_loaded_side_by_side_longest_first():
    models = [SimulatedModel(name=name) for name in ("a", "b", "c")]
    with OllamaSimulator(models) as simulator:
        for name, seconds in (("a", 30), ("b", -1), ("c", 300)):
            httpx.post(f"{simulator.url}/api/chat", json={"model": name, "keep_alive": seconds})
        assert [entry["name"] for entry in ps(simulator)] == ["b:latest", "c:latest", "a:latest"]
        assert simulator.loaded_models == ["a:latest", "b:latest", "c:latest"]


def test_loading_takes_its_time_once_and_again_for_another_window(lines):
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


@pytest.mark.parametrize(
    ("asked", "parameters", "window"),
    [
        (None, {}, 2048),
        (512, {}, 512),
        (100_000, {}, 8192),
        (None, {"num_ctx": 1024}, 1024),
        (64, {"num_ctx": 1024}, 64),
    ],
)
def test_the_window_is_what_is_asked_for_up_to_what_the_model_can(chat, asked, parameters, window):
    with OllamaSimulator([SimulatedModel(name="m", parameters=parameters)], context_length=2048) as simulator:
        chat(simulator, model="m", options={"num_ctx": asked} if asked else {})
        assert ps(simulator)[0]["context_length"] == window


@pytest.mark.parametrize("path", ["/", "/api/tags", "/api/version"])
def test_head_gives_the_headers_alone(simulator, path):
    response = httpx.head(simulator.url + path)
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) == len(httpx.get(simulator.url + path).content)


@pytest.mark.parametrize("host", ["evil.example", "ollama.com:80"])
def test_other_hosts_are_forbidden(simulator, host):
    assert httpx.get(simulator.url, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "10.1.2.3:80", "box.local", "[::1]:11434"])
def test_hosts_nearby_are_allowed(simulator, host):
    assert httpx.get(simulator.url, headers={"Host": host}).status_code == 200


def test_pages_of_this_machine_are_told_that_they_may_ask(simulator):
    origin = "http://localhost:3000"
    response = httpx.get(simulator.url, headers={"Origin": origin})
    assert response.headers["access-control-allow-origin"] == origin
    assert httpx.get(simulator.url, headers={"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("keep_alive", "message"),
    [
        ("60", 'time: missing unit in duration "60"'),
        ("abc", 'time: invalid duration "abc"'),
        ([1], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_a_keep_alive_that_is_no_duration_is_refused(simulator, chat, keep_alive, message):
    response = chat(simulator, keep_alive=keep_alive)
    assert (response.status_code, response.json()) == (400, {"error": message})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": ["a", 1]}, 'option "stop" must be of an array of strings'),
        ({"num_ctx": True}, 'option "num_ctx" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"top_p": "1"}, 'option "top_p" must be of type float32'),
    ],
)
def test_options_of_a_wrong_type_are_refused(simulator, chat, options, message):
    response = chat(simulator, options=options)
    assert (response.status_code, response.json()) == (500, {"error": message})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": ["hi"]}, "cannot unmarshal string into Go struct field ChatRequest.messages of type api.Message"),
        ({"messages": [{"role": 1}]}, "cannot unmarshal number into Go struct field ChatRequest.messages.role of type"),
        ({"options": []}, "cannot unmarshal array into Go struct field ChatRequest.options of type map"),
        ({"format": {"type": "string", "pattern": "abc"}}, "Pattern must start with '^' and end with '$'"),
        ({"format": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}}, None),
        ({"format": {"items": {"type": "nope"}}}, "Unrecognized schema"),
    ],
)
def test_bodies_of_a_wrong_form_are_refused(simulator, chat, body, message):
    response = chat(simulator, **body)
    assert response.status_code == 400
    if message:
        assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (b"null", "model is required"),
        (b"?", "invalid character '?' looking for beginning of value"),
        (b"nul", "unexpected EOF"),
        (b'{"model": "simulator"} and more', None),
    ],
)
def test_bodies_that_are_no_object_are_refused_in_the_words_of_go(simulator, content, message):
    response = httpx.post(f"{simulator.url}/api/chat", content=content)
    if message is None:
        assert response.json()["done_reason"] == "load"
    else:
        assert (response.status_code, response.json()) == (400, {"error": message})


@pytest.mark.parametrize(
    ("kind", "status"), [("go_template", 400), ("native", 500)]
)  # fmt: skip
def test_images_need_a_model_that_sees(chat, kind, status):
    with OllamaSimulator([SimulatedModel(name="m", kind=kind)]) as simulator:
        message = {"role": "user", "content": "see", "images": ["aGVsbG8="]}
        assert chat(simulator, model="m", messages=[message]).status_code == status


def test_tools_and_thinking_need_a_model_that_can(chat):
    with OllamaSimulator([SimulatedModel(name="a/b/m", capabilities=["completion"])]) as simulator:
        response = chat(simulator, model="a/b/m", tools=[{"type": "function"}])
        assert response.json() == {"error": "a/b/m:latest does not support tools"}
        response = chat(simulator, model="a/b/m", think="low")
        assert response.json() == {"error": '"a/b/m" does not support thinking'}
        assert chat(simulator, model="a/b/m", tools=[], think=False).status_code == 200


def test_a_model_whose_tag_says_cloud_is_shown_as_one_that_runs_elsewhere():
    with OllamaSimulator([SimulatedModel(name=name) for name in ("big:120b-cloud", "weather-cloud")]) as simulator:
        assert show(simulator, "big:120b-cloud").json()["remote_host"] == "https://ollama.com:443"
        assert "remote_host" not in show(simulator, "weather-cloud").json()
