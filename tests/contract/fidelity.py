"""Sends each recorded request to a simulator that is set up like the recorded server, and compares the replies.

PYTHONPATH=tests python -m contract.fidelity     writes docs/simulator.md
"""

import contextlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache, partial
from pathlib import Path

import httpx

from contract.comparing import described, merged, valued
from contract.recorded_server import RECORDINGS, installed, load, registry, scripted_reply
from griptape_ollama.testing import OllamaSimulator

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.json"))

DIFFERENT = {
    "show_broken": "its file lacks entries of `model_info` that every working model has",
    "native_logprobs_stream": "the token that opens the thinking has a line of its own, with empty content",
}
"""Recordings whose replies differ, and why. A test asserts that they differ, so that the list stays correct."""

# The simulator has a script: the text of the recorded model.
SCRIPTED = """
    assistant_last_prefill chat_cold_stream chat_latest_tag chat_logprobs_nostream chat_logprobs_stream
    chat_model_uppercase chat_noseed_a chat_noseed_b chat_nostream chat_num_predict_0 chat_num_predict_3
    chat_num_predict_minus2 chat_option_float_int chat_option_null_value chat_options_null chat_overlong_default
    chat_overlong_history chat_pulled chat_seed_1a chat_seed_1b chat_seed_2 chat_shift_false chat_shift_true
    chat_stop chat_stop_nostream chat_stream chat_temperature_0 chat_top_logprobs_only chat_unknown_option
    chat_with_keepalive_0 content_null content_type_text extra_unknown_key format_empty_string format_null
    generate_context_followup generate_nostream generate_raw generate_stream generate_think gzip_accept image_jpeg
    image_on_vision image_webp keepalive_30_int keepalive_5m keepalive_default keepalive_float keepalive_minus1
    native_generate native_generate_think native_logprobs_stream native_overlong_history native_stop
    native_tool_arguments_string native_tools_bad_params native_tools_noargs num_ctx_huge num_ctx_reload
    role_missing role_unknown role_unknown_native runner_killed_midstream think_cut_by_num_predict
    think_default_stream think_false think_false_on_nonthinking_model think_high think_native_stream
    think_true_nostream tool_message_first tools_bad_schema tools_call_text_without_tools_param
    tools_content_and_call_nostream tools_empty_list_on_nontool_model tools_model_calls_unlisted_tool
    tools_native_calls_unlisted_tool tools_native_nostream tools_native_stream tools_no_function tools_nostream
    tools_num_predict_cut_stream tools_roundtrip_nameless_tiny-native tools_roundtrip_nameless_tiny-thinktools
    tools_roundtrip_nameless_tiny-tools tools_roundtrip_tiny-native tools_roundtrip_tiny-thinktools
    tools_roundtrip_tiny-tools tools_stream tools_thinking_nostream tools_thinking_stream tools_two_calls_stream
    tools_type_list utf8_stream v1_chat v1_chat_stream v1_think_stream v1_tools v1_tools_stream
""".split()  # noqa: SIM905  a list of names reads better as a text
# The simulator has no script: it refuses, or generates text that fits the request.
UNSCRIPTED = """
    bad_model_name blob_head_missing blob_wrong_digest body_array body_empty body_not_json body_truncated_json
    chat_empty_messages_load chat_empty_messages_load_nostream chat_no_messages_key chat_on_embed_model
    chat_option_temperature_string chat_option_wrong_type chat_overlong_truncate_false
    chat_overlong_truncate_false_stream chat_render_default_system chat_render_system chat_render_tools_roundtrip
    chat_stop_string chat_top_logprobs_21 content_list content_number copy copy_bad copy_empty copy_unknown
    create_bad_name create_bad_parameter create_bad_template create_from_nostream create_from_stream
    create_missing_blob create_nothing delete_empty_body delete_get delete_unknown embed_batch embed_batch_300
    embed_dimensions embed_dimensions_negative embed_empty_list embed_empty_string embed_int_input
    embed_keep_alive_0 embed_list_int embed_no_input embed_on_chat_model embed_overlong_default
    embed_overlong_truncate_false embed_single embed_unknown embeddings_legacy format_bad_schema
    format_bad_schema_stream format_bad_string format_json_nostream format_json_stream format_native_bad_schema
    format_number format_schema_cut format_schema_native_stream format_schema_nostream format_schema_stream
    format_unresolved_ref generate_empty_prompt_load generate_format generate_images_nonvision generate_on_embed
    generate_suffix generate_unknown host_forbidden image_data_url image_http_url image_not_base64
    image_on_nonvision image_on_nonvision_stream keepalive_bad_string keepalive_bool load_fails_nostream
    messages_string method_405 model_empty model_missing native_image native_overlong_default
    native_overlong_default_stream native_render options_cors origin_forbidden pull_bad_name pull_empty root_get
    root_head route_404 show_broken show_empty show_name_key show_tiny-chat show_tiny-embed show_tiny-native
    show_tiny-qwen3 show_tiny-thinktools show_tiny-vision show_unknown show_verbose stream_string tags
    think_bad_string think_history think_number think_on_nonthinking_model tools_arguments_as_string
    tools_native_with_format tools_on_nontool_model tools_string unknown_model_nostream unknown_model_stream
    unknown_model_tag unload_chat unload_generate unload_not_loaded unload_unknown v1_embeddings v1_models
    v1_unknown version
""".split()  # noqa: SIM905  a list of names reads better as a text
# Runs of similar lines count as one: the simulator generates the text, or the pace, itself.
OWN_WORDS = """
    format_json_nostream format_json_stream format_schema_cut format_schema_native_stream format_schema_nostream
    format_schema_stream tools_native_with_format pull_ok_stream
""".split()  # noqa: SIM905  a list of names reads better as a text
PS = """
    ps_30s ps_5m ps_after_keepalive_0 ps_after_keepalive_0_2s ps_after_kill ps_after_unload_0s ps_after_unload_2s
    ps_before_unload ps_empty ps_forever ps_loaded ps_many ps_num_ctx_1024 ps_num_ctx_huge ps_num_parallel_2
""".split()  # noqa: SIM905  a list of names reads better as a text
# The request that the server handled before the recorded one.
AFTER = {
    "delete_tiny-copy": "copy",
    "delete_tiny-derived": "create_from_stream",
    "delete_tiny-derived2": "create_from_nostream",
    "delete_x4": "create_bad_parameter",
    "show_derived": "create_from_stream",
    "pull_ok_again": "pull_ok_stream",
}
FROM_REGISTRY = """
    pull_insecure_refused pull_loopback_closed pull_manifest_404_nostream pull_manifest_404_stream pull_ok_again
    pull_ok_nostream pull_ok_stream tags_pulled
""".split()  # noqa: SIM905  a list of names reads better as a text
OFFLINE = ["create_from_unknown", "pull_unknown_nostream", "pull_unknown_stream"]


@dataclass(frozen=True)
class Result:
    """How far a simulated response agrees with the recorded one."""

    verdict: str
    recorded: object
    simulated: object
    response: httpx.Response | None = None


def send(simulator, recording):
    """Send a recorded request."""
    request = recording["request"]
    body = request["body"]
    content = None if body is None else body if isinstance(body, str) else json.dumps(body)
    with httpx.Client(base_url=simulator.url, trust_env=False, timeout=30) as client:
        return client.request(request["method"], request["path"], content=content, headers=request["headers"])


@cache
def result(name):
    """Send a recorded request to a simulator that is set up for it, and compare the responses."""
    recording = load(name)
    if name in SPECIAL:
        return SPECIAL[name](name, recording)
    with _set_up(name, recording) as simulator:
        return compare(name, recording, send(simulator, recording))


@contextlib.contextmanager
def _set_up(name, recording):
    if name in FROM_REGISTRY:
        settings = {"models": [], "library": registry(), "time_scale": 1000}
    else:
        settings = {"models": installed(), "library": None if name in OFFLINE else registry()}
        if name == "chat_pulled":
            settings["models"] += registry()
        if name in PS:
            # What was about to expire on the recorded server must not expire while it is set up.
            settings["time_scale"] = 0
    with OllamaSimulator(**settings) as simulator:
        if name in SCRIPTED:
            simulator.reply(scripted_reply(recording), path=recording["request"]["path"])
        elif name in PS:
            _load_models(simulator, recording)
        elif name == "tags_pulled":
            for pulled in ("pull_ok_stream", "pull_ok_nostream"):
                send(simulator, load(pulled)).raise_for_status()
        elif name in AFTER:
            send(simulator, load(AFTER[name])).raise_for_status()
        yield simulator


def _load_models(simulator, recording):
    date = parsedate_to_datetime(dict(recording["response"]["headers"])["Date"])
    for entry in reversed(recording["response"]["body"]["models"]):
        expires = datetime.fromisoformat(entry["expires_at"][:19] + "+00:00")
        keep_alive = -1 if expires.year > date.year + 100 else max(1, (expires - date).total_seconds())
        body = {"model": entry["name"], "keep_alive": keep_alive, "options": {"num_ctx": entry["context_length"]}}
        endpoint, about = ("embed", {"input": "x"}) if "embed" in entry["name"] else ("chat", {"messages": []})
        httpx.post(f"{simulator.url}/api/{endpoint}", json={**body, **about}).raise_for_status()


def _recorded(recording):
    response = recording["response"]
    if "lines" not in response:
        is_whole = not isinstance(response["body"], dict) or _is_json(response["raw_body"])
        text = response["raw_body"] if is_whole else json.dumps(response["body"])
    else:
        text = "\n".join(entry["line"] for entry in response["lines"])
    return response["status"], response["headers"], text


def _is_json(text):
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:  # the raw text of long documents was recorded in part
        return False


def compare(name, recording, response):
    assert response.headers["x-ollama-simulator"] == "griptape-ollama"
    answered = (response.status_code, response.headers.multi_items(), response.text)
    return _verdict(name, _recorded(recording), answered, response)


def _verdict(name, recorded, simulated, response=None):
    reduce = merged if name in OWN_WORDS else lambda description: description
    one, other = reduce(described(*recorded)), reduce(described(*simulated))
    if one != other:
        return Result("different", one, other, response)
    is_same = valued(*recorded) == valued(*simulated)
    return Result("same" if is_same else "same shape", one, other, response)


def _same(recorded, simulated):
    return Result("same" if recorded == simulated else "different", recorded, simulated)


def _disconnected(count, name, recording):
    """The client disconnects after some lines; the simulator notices it."""
    lines = recording["response"]["lines"]
    words = [json.loads(entry["line"]) for entry in lines]
    text = [word.get("response") or word["message"]["content"] for word in words]
    request = recording["request"]
    with OllamaSimulator(installed()) as simulator:
        simulator.reply(text=text * 100_000, path=request["path"], line_delay=0.001)
        url = f"{simulator.url}{request['path']}"
        with httpx.stream("POST", url, json=request["body"], timeout=30) as response:
            got = [line for line, _ in zip(response.iter_lines(), range(count), strict=False)]
        simulator.wait_for_disconnect()
        answered = (response.status_code, response.headers.multi_items(), "\n".join(got))
    return _verdict(name, _recorded(recording), answered)


def _given_up(_name, recording):
    """The client disconnects before there is a response; the simulator notices it."""
    request = recording["request"]
    with OllamaSimulator(installed()) as simulator:
        simulator.reply("never", wait=threading.Event())
        with contextlib.suppress(httpx.ReadTimeout):
            httpx.post(f"{simulator.url}{request['path']}", json=request["body"], timeout=0.1)
        simulator.wait_for_disconnect()
        return _same(["no response", 1], ["no response", len(simulator.disconnects)])


def _killed(_name, recording):
    """The server dies during the stream: the connection breaks before the end of the body."""
    lines = [entry["line"] for entry in recording["response"]["lines"]]
    with OllamaSimulator(installed()) as simulator:
        simulator.reply(text=[json.loads(line)["message"]["content"] for line in lines] * 2)
        simulator.fault("cut", after=len(lines), mid_line=True)
        got, error = [], None
        try:
            with httpx.stream("POST", f"{simulator.url}/api/chat", json=recording["request"]["body"]) as response:
                got.extend(line for line in response.iter_lines() if line.endswith("}"))
        except httpx.HTTPError as broken:
            error = type(broken).__name__
        answered = (response.status_code, response.headers.multi_items(), "\n".join(got))
    compared = _verdict("server_sigkill_midstream", _recorded(recording), answered)
    return compared if error == recording["response"]["client_error"].split(":")[0] else _same("broken", error)


def _down(_name, recording):
    with OllamaSimulator(installed()) as simulator:
        simulator.fault("refuse")
        try:
            send(simulator, recording)
        except httpx.ConnectError as error:
            return _same(recording["response"]["client_error"], f"ConnectError: {error}")
    raise AssertionError("the simulator answered")


def _queue_is_full(name, recording):
    """One model is busy, the queue holds one request, and eight requests for another model arrive."""
    chat = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 5}}
    goes_on = threading.Event()
    with OllamaSimulator(installed(), max_queue=1, max_loaded_models=1) as simulator:
        simulator.reply("slow", model="tiny-slow", wait=goes_on)
        with ThreadPoolExecutor(9) as pool:
            pool.submit(httpx.post, f"{simulator.url}/api/chat", json={**chat, "model": "tiny-slow"})
            simulator.wait_for_request()
            waiting = [pool.submit(httpx.post, f"{simulator.url}/api/chat", json=chat, timeout=30) for _ in range(8)]
            simulator.wait_for_request(9)
            goes_on.set()
            responses = [future.result() for future in waiting]
    if name == "queue_full_503":
        return compare(name, recording, next(one for one in responses if one.status_code == 503))
    statuses = sorted(one["status"] for one in recording["response"]["results"])
    return _same(statuses, sorted(response.status_code for response in responses))


def _one_after_the_other(parallel, _name, recording):
    """Three requests for one model arrive at once."""
    with OllamaSimulator(installed(), num_parallel=parallel, tokens_per_second=200) as simulator:
        simulator.reply(text=[" one"] * 20, times=3)
        body = {"model": "tiny-slow", "messages": [{"role": "user", "content": "hi"}]}

        def stream(_):
            with httpx.stream("POST", f"{simulator.url}/api/chat", json=body, timeout=30) as response:
                times = [json.loads(line)["created_at"] for line in response.iter_lines()]
            return {"first": times[0], "last": times[-1]}

        with ThreadPoolExecutor(3) as pool:
            simulated = list(pool.map(stream, range(3)))
    response = recording["response"]
    recorded = response.get("timing") or [
        {"first": one["t_first_line"], "last": one["t_last_line"]} for one in response["parallel"]
    ]
    return _same(_most_at_once(recorded), _most_at_once(simulated))


def _most_at_once(spans):
    return max(sum(one["first"] <= other["first"] <= one["last"] for one in spans) for other in spans)


SPECIAL: dict[str, Callable] = {
    "disconnect_stream": partial(_disconnected, 20),
    "disconnect_generate": partial(_disconnected, 20),
    "disconnect_nostream_timeout": _given_up,
    "disconnect_during_prompt_eval": _given_up,
    "server_sigkill_midstream": _killed,
    "server_down": _down,
    "queue_full_503": _queue_is_full,
    "queue_full_all": _queue_is_full,
    "concurrency_same_model_3": partial(_one_after_the_other, 1),
    "concurrency_num_parallel_2": partial(_one_after_the_other, 2),
}


def request_of(recording):
    """Return method and path of a recorded request."""
    request = recording["request"]
    return f"{request['method']} {request['path']}" if isinstance(request, dict) else request


def page():
    """Build the page with the table."""
    rows, counts = [], {"same": 0, "same shape": 0, "different": 0}
    for name in NAMES:
        found = result(name)
        counts[found.verdict] += 1
        why = _why(name, found.verdict)
        request = request_of(load(name)).replace("0" * 64, "…")
        rows.append(f"| {name} | {request} | {found.verdict} | {why} |")
    share = 100 * (counts["same"] + counts["same shape"]) / len(NAMES)
    return "\n".join(
        [
            "# How the simulator compares with Ollama",
            "",
            "<!-- Generated by `PYTHONPATH=tests python -m contract.fidelity`; a test fails when it is stale. -->",
            "",
            f"Each of the {len(NAMES)} requests recorded with a real server (0.33.0-rc2) is sent to a simulator with",
            "the same models. The comparison covers status, names of the headers, content type, kinds of lines and",
            "their order, keys in their order, types of values, and error texts.",
            "",
            "| verdict | meaning | recordings |",
            "|---|---|---|",
            f"| same | the values agree too, except times, digests and ids | {counts['same']} |",
            f"| same shape | other values, such as token counts, vectors and random order | {counts['same shape']} |",
            f"| different | the last column of the table below states why | {counts['different']} |",
            "",
            f"**{share:.1f}%** have at least the same shape.",
            "",
            "| recording | request | verdict | note |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _why(name, verdict):
    if verdict == "different":
        return DIFFERENT[name]
    if name in SCRIPTED:
        return "the test scripts the model's text"
    if name in OWN_WORDS:
        return "the simulator's own text or pace: runs of similar lines count as one"
    return ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
