"""Requests that the server rejects, with its error texts."""

import gzip

import httpx
import pytest


@pytest.mark.parametrize(
    ("keep_alive", "message"),
    [
        ("60", 'time: missing unit in duration "60"'),
        ("abc", 'time: invalid duration "abc"'),
        ([1], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_an_invalid_keep_alive_is_rejected(simulator, chat, keep_alive, message):
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
def test_options_of_a_wrong_type_are_rejected(simulator, chat, options, message):
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
def test_fields_of_a_wrong_type_are_rejected(simulator, chat, body, message):
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
def test_bodies_that_are_not_objects_are_rejected_with_the_errors_of_go(simulator, content, message):
    response = httpx.post(f"{simulator.url}/api/chat", content=content)
    if message is None:
        assert response.json()["done_reason"] == "load"
    else:
        assert (response.status_code, response.json()) == (400, {"error": message})


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        (b"[" * 100_000, {}, "exceeded max depth"),
        (b'{"a": NaN}', {}, "invalid character 'N' looking for beginning of value"),
        (b'{"a": Infinity}', {}, "invalid character 'I' looking for beginning of value"),
        (b'{"a": -Infinity}', {}, "invalid character 'I' in numeric literal"),
        (b"no gzip", {"Content-Encoding": "gzip"}, "invalid character 'o' in literal null (expecting 'u')"),
        (
            gzip.compress(b"{}", mtime=0),
            {"Content-Encoding": "gzip"},
            r"invalid character '\x1f' looking for beginning of value",
        ),
    ],
)
def test_a_compressed_body_is_a_bad_request(simulator, body, headers, error):
    response = httpx.post(f"{simulator.url}/api/chat", content=body, headers=headers)
    assert (response.status_code, response.json()) == (400, {"error": error})
    assert simulator.last_chat.body is None
