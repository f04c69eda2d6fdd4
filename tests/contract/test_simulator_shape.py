"""The simulator answers recorded requests in the shapes that a real server answered them in.

A simulator is set up like the recorded server: same models, same things to say. Status, headers, kinds of lines, keys,
their order, types of values, and error texts have to agree; durations, ids, counts and vectors need not.
"""

import json
import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import groupby
from pathlib import Path

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel

RECORDINGS = Path(__file__).parent / "recordings" / "0.33.0-rc2"

# What cannot agree, and why. Each is asserted to differ, so that this list stays true.
DIFFERENT = {
    "chat_render_system": "the simulator has no templates to render (`_debug_render_only`)",
    "chat_render_default_system": "the simulator has no templates to render (`_debug_render_only`)",
    "chat_render_tools_roundtrip": "the simulator has no templates to render (`_debug_render_only`)",
    "think_history": "the simulator has no templates to render (`_debug_render_only`)",
    "native_render": "the simulator has no templates to render (`_debug_render_only`)",
    "show_broken": "its file lacks entries of `model_info` that every working model has",
    "native_logprobs_stream": "the token that opens the thinking has a line of its own, with empty content",
}

CHAT_REFUSALS = """
    bad_model_name body_array body_empty body_not_json body_truncated_json chat_on_embed_model
    chat_option_temperature_string chat_option_wrong_type chat_overlong_truncate_false
    chat_overlong_truncate_false_stream chat_stop_string chat_top_logprobs_21 content_list content_number
    format_bad_schema format_bad_schema_stream format_bad_string format_native_bad_schema format_number
    format_unresolved_ref image_data_url image_http_url image_not_base64 image_on_nonvision image_on_nonvision_stream
    keepalive_bad_string keepalive_bool load_fails_nostream messages_string model_empty model_missing native_image
    native_overlong_default native_overlong_default_stream stream_string think_bad_string think_number
    think_on_nonthinking_model tools_arguments_as_string tools_on_nontool_model tools_string unknown_model_nostream
    unknown_model_stream unknown_model_tag
""".split()  # noqa: SIM905  a list of names reads better as a text
CHATS = """
    assistant_last_prefill chat_cold_stream chat_latest_tag chat_logprobs_nostream chat_logprobs_stream
    chat_model_uppercase chat_noseed_a chat_nostream chat_num_predict_0 chat_num_predict_3 chat_num_predict_minus2
    chat_option_float_int chat_option_null_value chat_options_null chat_overlong_default chat_overlong_history
    chat_pulled chat_seed_1a chat_shift_false chat_shift_true chat_stop chat_stop_nostream chat_stream
    chat_temperature_0 chat_top_logprobs_only chat_unknown_option chat_with_keepalive_0 content_null content_type_text
    extra_unknown_key format_empty_string format_null gzip_accept image_jpeg image_on_vision image_webp
    keepalive_30_int keepalive_5m keepalive_default keepalive_float keepalive_minus1 native_generate_think
    native_overlong_history native_stop native_tool_arguments_string num_ctx_huge num_ctx_reload queue_full_503
    role_missing role_unknown role_unknown_native runner_killed_midstream think_cut_by_num_predict
    think_default_stream think_false think_false_on_nonthinking_model think_high think_native_stream
    think_true_nostream tool_message_first tools_bad_schema tools_call_text_without_tools_param
    tools_content_and_call_nostream tools_empty_list_on_nontool_model tools_model_calls_unlisted_tool
    tools_native_nostream tools_native_stream tools_no_function tools_nostream tools_num_predict_cut_stream
    tools_roundtrip_nameless_tiny-native tools_roundtrip_nameless_tiny-thinktools tools_roundtrip_nameless_tiny-tools
    tools_roundtrip_tiny-native tools_roundtrip_tiny-thinktools tools_roundtrip_tiny-tools tools_stream
    tools_thinking_nostream tools_thinking_stream tools_two_calls_stream tools_type_list utf8_stream
    chat_render_system chat_render_default_system chat_render_tools_roundtrip think_history native_render
    native_logprobs_stream native_tools_bad_params
""".split()  # noqa: SIM905  a list of names reads better as a text
# Here the simulator finds the words by itself: what they have to fit is in the request.
FORMATS = """
    format_json_nostream format_json_stream format_schema_cut format_schema_native_stream format_schema_nostream
    format_schema_stream tools_native_with_format
""".split()  # noqa: SIM905  a list of names reads better as a text
OTHERS = """
    chat_empty_messages_load chat_empty_messages_load_nostream chat_no_messages_key embed_batch embed_dimensions
    embed_dimensions_negative embed_empty_list embed_empty_string embed_int_input embed_keep_alive_0 embed_list_int
    embed_no_input embed_on_chat_model embed_overlong_default embed_overlong_truncate_false embed_single embed_unknown
    host_forbidden method_405 options_cors origin_forbidden root_get root_head route_404 show_broken show_empty
    show_name_key show_tiny-chat show_tiny-embed show_tiny-native show_tiny-qwen3 show_tiny-thinktools
    show_tiny-vision show_unknown show_verbose tags unload_chat unload_not_loaded version
""".split()  # noqa: SIM905  a list of names reads better as a text
PS = """
    ps_30s ps_5m ps_after_kill ps_after_unload_0s ps_empty ps_forever ps_loaded ps_many ps_num_ctx_1024
    ps_num_ctx_huge
""".split()  # noqa: SIM905  a list of names reads better as a text
DERIVED = ["show_derived"]


def load(name):
    return json.loads((RECORDINGS / f"{name}.json").read_text())


def installed():
    """The models of the recorded server."""
    native = ("tiny-native",)
    builtin = ("tiny-qwen3",)
    recorded = [*load("tags")["response"]["body"]["models"], *load("tags_pulled")["response"]["body"]["models"]]
    broken = load("load_fails_nostream")["response"]["body"]["error"]
    models = []
    for entry in recorded:
        name = entry["name"].removesuffix(":latest")
        details = entry["details"]
        models.append(
            SimulatedModel(
                name=name,
                capabilities=["tools", "thinking", "completion"] if name in native else entry["capabilities"],
                kind="native" if name in native else "builtin" if name in builtin else "go_template",
                context_length=details["context_length"],
                embedding_length=details["embedding_length"],
                family=details["family"],
                parameter_size=details["parameter_size"],
                quantization_level=details["quantization_level"],
                size=entry["size"],
                modified_at=int(datetime.fromisoformat(entry["modified_at"][:26]).timestamp() * 1e9),
                parameters={"temperature": 0} if name == "tiny-chat" else {},
                system="You are tiny." if name == "tiny-chat" else None,
                load_error=broken if name == "tiny-broken" else None,
            )
        )
    return models


@pytest.fixture
def simulator():
    pulled = ("127.0.0.1:9321/library/tiny-slow",)
    with OllamaSimulator([model for model in installed() if model.name not in pulled]) as running:
        yield running


def messages_of(response):
    lines = [json.loads(entry["line"]) for entry in response.get("lines", [])] or [response["body"]]
    return [line.get("message", {}) for line in lines], lines[-1]


def whole_sentence():
    """What tiny-chat always says, token by token."""
    return [message["content"] for message in messages_of(load("chat_stream")["response"])[0][:-1]]


def what_the_model_says(recording):
    """The reply to script, so that the simulator says what the recorded model said."""
    response = recording["response"]
    if response["status"] != 200:
        return Reply(status=response["status"], error=response["body"]["error"])
    messages, last = messages_of(response)
    thinking = [message["thinking"] for message in messages if message.get("thinking")]
    text = [message["content"] for message in messages if message.get("content")]
    calls = [call["function"] for message in messages for call in message.get("tool_calls", [])]
    said = {
        "text": text,
        "thinking": thinking,
        "tool_calls": [(call["name"], call["arguments"]) for call in calls],
    }
    if "error" in last:
        return Reply(**said, error_line=last["error"])
    if "".join(whole_sentence()).startswith("".join(text)) and not thinking:
        # Cut by num_predict or stop, if at all: the simulator has to find out where.
        said["text"] = whole_sentence() if text else []
    elif "lines" not in response:
        # How the text fell into tokens is not recorded, so neither is where a limit cut it.
        said["done_reason"] = last.get("done_reason")
    if (
        recording["request"]["path"] == "/api/chat"
        and last.get("done_reason") == "length"
        and not text
        and not thinking
    ):
        said["tool_calls"] = [("get_weather", {"city": "Paris"})]
    return Reply(**said)


def send(simulator, recording):
    request = recording["request"]
    body = request["body"]
    content = None if body is None else body if isinstance(body, str) else json.dumps(body)
    with httpx.Client(base_url=simulator.url, trust_env=False) as client:
        return client.request(request["method"], request["path"], content=content, headers=request["headers"])


def shape(value):
    """Reduce a value to what has to agree: keys in their order, and types."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and "token" in value[0]:
        # The end mark, an alternative without text, has no bytes.
        value = [entry for entry in value if entry["token"]]
    if isinstance(value, dict):
        return [(key, shape(child)) for key, child in value.items()]
    if isinstance(value, list):
        return ["list of", shape(value[0])] if value else ["empty list"]
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def kind(line):
    message = line.get("message", {})
    for name in ("error", "done"):
        if line.get(name):
            return name
    return next((key for key in ("tool_calls", "thinking", "content") if message.get(key)), "empty")


def described(status, headers, text):
    """Everything about a response that has to agree."""
    names = {name.lower() for name, _ in headers} - {"x-ollama-simulator"}
    content_type = next((value for name, value in headers if name.lower() == "content-type"), None)
    if content_type == "application/x-ndjson":
        lines = [json.loads(line) for line in text.split("\n") if line]
        body = [(kind(line), shape(line)) for line in lines]
        body += [line["error"] for line in lines if "error" in line]
    elif content_type and content_type.startswith("application/json"):
        value = json.loads(text)
        if status == 200:
            # Which of the two it is depends on the length of the body alone: asserted on its own below.
            names -= {"content-length", "transfer-encoding"}
        body = [shape(value), re.sub(r"\b\d{4,}\b", "N", value.get("error", "")), value.get("done_reason")]
    else:
        body = text
    return {"status": status, "headers": sorted(names), "content_type": content_type, "body": body}


def recorded_response(recording):
    response = recording["response"]
    text = "\n".join(entry["line"] for entry in response["lines"]) if "lines" in response else response["raw_body"]
    return described(response["status"], response["headers"], text)


def simulated_response(response):
    assert response.headers["x-ollama-simulator"] == "griptape-ollama"
    return described(response.status_code, response.headers.multi_items(), response.text)


def compare(name, recording, response):
    if name in DIFFERENT:
        assert simulated_response(response) != recorded_response(recording), f"agrees by now: {DIFFERENT[name]}"
    else:
        assert simulated_response(response) == recorded_response(recording)


def merged(description):
    """Runs of lines of one kind count as one: the words are the simulator's own, and so is their number."""
    if isinstance(description["body"], list) and description["content_type"] == "application/x-ndjson":
        description["body"] = [entry for entry, _ in groupby(description["body"])]
    return description


@pytest.mark.parametrize("name", CHATS)
def test_a_scripted_chat_has_the_recorded_shape(simulator, name):
    recording = load(name)
    simulator.reply(what_the_model_says(recording))
    response = send(simulator, recording)
    compare(name, recording, response)
    if name not in DIFFERENT and "body" in recording["response"] and response.status_code == 200:
        assert response.json()["message"]["content"] == recording["response"]["body"]["message"]["content"]


@pytest.mark.parametrize("name", ["chat_stream", "chat_num_predict_3", "chat_stop", "chat_nostream"])
def test_tokens_are_counted_as_recorded(simulator, name):
    recording = load(name)
    simulator.reply(what_the_model_says(recording))
    last = json.loads(send(simulator, recording).text.strip().split("\n")[-1])
    recorded = messages_of(recording["response"])[1]
    assert (last["eval_count"], last["done_reason"]) == (recorded["eval_count"], recorded["done_reason"])


@pytest.mark.parametrize("name", CHAT_REFUSALS)
def test_a_refused_chat_has_the_recorded_status_and_text(simulator, name):
    recording = load(name)
    compare(name, recording, send(simulator, recording))


@pytest.mark.parametrize("name", FORMATS)
def test_json_has_the_recorded_shape(simulator, name):
    recording = load(name)
    response = send(simulator, recording)
    recorded, simulated = merged(recorded_response(recording)), merged(simulated_response(response))
    if name == "tools_native_with_format":
        # The reasoning is about JSON here and about the tool there, but both come first.
        assert "thinking" in response.json()["message"]
    assert simulated == recorded


@pytest.mark.parametrize("name", OTHERS)
def test_other_endpoints_have_the_recorded_shape(simulator, name):
    recording = load(name)
    compare(name, recording, send(simulator, recording))


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_model_shows_its_parameters_as_recorded(name):
    recording = load(name)
    parameters = {"temperature": 0.2, "num_ctx": 2048, "stop": ["x"]}
    model = SimulatedModel(
        name="tiny-derived", capabilities=["completion"], parameters=parameters, system="Derived.",
        parent_model="tiny-chat:latest",
    )  # fmt: skip
    with OllamaSimulator([model]) as simulator:
        response = send(simulator, recording)
    compare(name, recording, response)
    assert response.json()["parameters"] == recording["response"]["body"]["parameters"]


@pytest.mark.parametrize("name", PS)
def test_loaded_models_are_listed_as_recorded(simulator, name):
    recording = load(name)
    recorded = recording["response"]["body"]["models"]
    date = parsedate_to_datetime(dict(recording["response"]["headers"])["Date"])
    for entry in reversed(recorded):
        expires = datetime.fromisoformat(entry["expires_at"][:19] + "+00:00")
        keep_alive = -1 if expires.year > date.year + 100 else (expires - date).total_seconds()
        body = {"model": entry["name"], "keep_alive": keep_alive, "options": {"num_ctx": entry["context_length"]}}
        if "embed" in entry["name"]:
            httpx.post(f"{simulator.url}/api/embed", json={**body, "input": "x"}).raise_for_status()
        else:
            httpx.post(f"{simulator.url}/api/chat", json={**body, "messages": []}).raise_for_status()
    response = send(simulator, recording)
    compare(name, recording, response)
    simulated = response.json()["models"]
    ends = [entry["expires_at"][:19] for entry in recorded]
    if len(set(ends)) < len(ends):
        # Models that expire within one second come in any order.
        simulated, recorded = (sorted(entries, key=lambda entry: entry["name"]) for entries in (simulated, recorded))
    for key in ("name", "context_length", "size_vram", "details"):
        assert [entry[key] for entry in simulated] == [entry[key] for entry in recorded]
    if name == "ps_forever":
        assert simulated[0]["expires_at"][:3] == recorded[0]["expires_at"][:3]


def test_whole_bodies_come_with_a_length_up_to_2048_bytes_and_in_chunks_beyond(simulator):
    for name in ("chat_stream", "ps_loaded", "version", "tags", "show_tiny-chat", "embed_batch", "embed_single"):
        response = load(name)["response"]
        if "raw_body" in response:
            has_length = any(key == "Content-Length" for key, _ in response["headers"])
            assert has_length == (len(response["raw_body"]) <= 2048), name
    for words in (100, 1000):
        simulator.reply("word " * words)
        response = send(simulator, load("chat_nostream"))
        assert ("content-length" in response.headers) == (len(response.content) <= 2048)


def test_models_are_listed_in_the_recorded_order_with_the_recorded_details(simulator):
    listed = send(simulator, load("tags")).json()["models"]
    recorded = load("tags")["response"]["body"]["models"]
    keys = ("name", "size", "details", "capabilities")
    local = [entry for entry in listed if not entry["name"].startswith("127.")]
    assert [[entry[key] for key in keys] for entry in local] == [[entry[key] for key in keys] for entry in recorded]


def test_every_copied_recording_is_used():
    used = {*CHATS, *CHAT_REFUSALS, *FORMATS, *OTHERS, *PS, *DERIVED, "tags_pulled"}
    assert used <= {path.stem for path in RECORDINGS.glob("*.json")}
    assert set(DIFFERENT) <= used
