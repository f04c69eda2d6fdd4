"""JSON as the server writes it."""

import json


def test_text_is_encoded_as_by_go(simulator, chat):
    simulator.reply(text=["<a> & \u2028 \x85 é \ud800"])
    body = chat(simulator).content.decode()
    assert r"\u003ca\u003e \u0026 \u2028" in body
    assert "\x85 é \ufffd" in body
    assert json.loads(body.split("\n")[0])["message"]["content"] == "<a> & \u2028 \x85 é \ufffd"
