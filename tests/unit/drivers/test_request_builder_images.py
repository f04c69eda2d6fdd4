"""Images: what Ollama takes arrives, wherever it comes from; what it does not is refused before sending."""

import base64
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import griptape.common
import pytest
from griptape.artifacts import (
    AudioArtifact,
    ErrorArtifact,
    GenericArtifact,
    ImageArtifact,
    ImageUrlArtifact,
    ListArtifact,
    TextArtifact,
    VideoUrlArtifact,
)
from griptape.common import PromptStack
from griptape.structures import Agent
from griptape.tools import BaseTool
from griptape.utils.decorators import activity

from griptape_ollama import OllamaCancelledError, OllamaContentError, OllamaTimeoutError
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport import download

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])

IMAGES = {
    "png": b"\x89PNG\r\n\x1a\n and so on",
    "jpeg": b"\xff\xd8\xff and so on",
    "webp": b"RIFF1234WEBP and so on",
    "gif": b"GIF89a and so on",
}
OTHERS = {
    "bmp": b"BM and so on",
    "tiff": b"II*\x00 and so on",
    "heic": b"\x00\x00\x00\x18ftypheic and so on",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "pdf": b"%PDF-1.7",
}


@pytest.fixture
def simulator():
    models = [
        SimulatedModel(name="eyes", capabilities=("completion", "tools", "vision")),
        SimulatedModel(name="blind", capabilities=("completion", "tools")),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


@pytest.fixture
def make_eyes(make_driver):
    return lambda **settings: make_driver(**{"model": "eyes", **settings})


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.set()
        if self.path == "/silent":
            assert self.server.done.wait(30)
            return
        body = {**IMAGES, **OTHERS}[self.path.strip("/").partition(".")[2]]
        self.server.count += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Tests print nothing."""


@pytest.fixture
def web():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.count, server.asked, server.done = 0, threading.Event(), threading.Event()
        server.handle_error = lambda *_: None  # a client that went away is no failure
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()


def _image(data, kind="png"):
    return ImageArtifact(data, format=kind, width=1, height=1)


def _stack(*artifacts):
    return PromptStack.from_artifact(ListArtifact([TextArtifact("Look"), *artifacts]))


def _sent(simulator):
    return [image for message in simulator.last_chat.messages for image in message.get("images", [])]


def _encoded(data):
    return base64.b64encode(data).decode()


@_both_ways
@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("way", ["artifact", "data url", "url"])
def test_images_of_every_format_arrive(simulator, make_eyes, web, *, kind, way, stream):
    data = IMAGES[kind]
    artifact = {
        "artifact": _image(data, kind),
        "data url": ImageUrlArtifact(f"data:image/{kind};base64,{_encoded(data)}"),
        "url": ImageUrlArtifact(f"{web.url}/cat.{kind}"),
    }[way]
    make_eyes(allow_private_image_urls=True, stream=stream).run(_stack(artifact))
    assert simulator.last_chat.messages == [{"role": "user", "content": "Look", "images": [_encoded(data)]}]


@_both_ways
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("way", ["artifact", "data url", "url"])
def test_images_of_another_format_are_refused_with_its_name(simulator, make_eyes, web, *, kind, way, stream):
    data = OTHERS[kind]
    artifact = {
        "artifact": _image(data, kind),
        "data url": ImageUrlArtifact(f"data:image/{kind};base64,{_encoded(data)}"),
        "url": ImageUrlArtifact(f"{web.url}/cat.{kind}"),
    }[way]
    with pytest.raises(OllamaContentError, match=f"is {kind.upper()}; Ollama takes PNG, JPEG, WebP and GIF"):
        make_eyes(allow_private_image_urls=True, stream=stream).run(_stack(artifact))
    assert simulator.chats == []


def test_a_format_that_is_named_wrongly_does_not_matter(simulator, make_eyes):
    make_eyes().run(_stack(_image(IMAGES["jpeg"], "bmp")))
    assert _sent(simulator) == [_encoded(IMAGES["jpeg"])]


def test_an_image_of_unknown_format_has_the_format_of_its_name(simulator, make_eyes):
    make_eyes().run(_stack(_image(b"who knows", "jpg")))
    assert _sent(simulator) == [_encoded(b"who knows")]
    with pytest.raises(OllamaContentError, match="is TGA"):
        make_eyes().run(_stack(_image(b"who knows", "tga")))


# Fetching


@_both_ways
def test_addresses_of_this_machine_are_refused_unless_they_are_allowed(simulator, make_eyes, web, stream):
    with pytest.raises(OllamaContentError, match="is on a private network"):
        make_eyes(stream=stream).run(_stack(ImageUrlArtifact(f"{web.url}/cat.png")))
    assert simulator.chats == []
    assert not web.asked.is_set()


@_both_ways
def test_an_image_that_is_too_large_is_refused(simulator, make_eyes, web, stream):
    driver = make_eyes(allow_private_image_urls=True, max_image_bytes=5, stream=stream)
    with pytest.raises(OllamaContentError, match="is larger than 5 bytes"):
        driver.run(_stack(ImageUrlArtifact(f"{web.url}/cat.png")))
    assert simulator.chats == []


def test_a_url_that_is_there_twice_is_fetched_once(simulator, make_eyes, web):
    url = ImageUrlArtifact(f"{web.url}/cat.png")
    make_eyes(allow_private_image_urls=True).run(_stack(url, url))
    assert _sent(simulator) == [_encoded(IMAGES["png"])] * 2
    assert web.count == 1


def test_fetching_has_a_limit(make_eyes, web, monkeypatch):
    monkeypatch.setattr(
        download.Download.__init__, "__kwdefaults__", {**download.Download.__init__.__kwdefaults__, "seconds": 0.1}
    )
    with pytest.raises(OllamaTimeoutError, match="took longer than"):
        make_eyes(allow_private_image_urls=True).run(_stack(ImageUrlArtifact(f"{web.url}/silent")))


def test_fetching_can_be_cancelled(make_eyes, web):
    driver = make_eyes(allow_private_image_urls=True)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(driver.run, _stack(ImageUrlArtifact(f"{web.url}/silent")))
        assert web.asked.wait(10)
        driver.cancel()
        with pytest.raises(OllamaCancelledError):
            future.result(10)


# Tool results and memory


class CameraTool(BaseTool):
    def __init__(self, result):
        super().__init__(name="Camera")
        self.result = result

    @activity(config={"description": "Takes a picture"})
    def shoot(self):
        return self.result


@_both_ways
def test_images_in_tool_results_arrive_also_from_a_url(simulator, make_eyes, web, stream):
    result = ListArtifact([TextArtifact("two"), _image(IMAGES["gif"], "gif"), ImageUrlArtifact(f"{web.url}/cat.png")])
    simulator.reply(tool_calls=[("Camera_shoot", {})])
    simulator.reply("A cat.")
    driver = make_eyes(allow_private_image_urls=True, stream=stream)
    assert Agent(prompt_driver=driver, tools=[CameraTool(result)]).run("Shoot").output.value == "A cat."
    [message] = [message for message in simulator.last_chat.messages if message["role"] == "tool"]
    assert message["content"] == "two"
    assert message["images"] == [_encoded(IMAGES["gif"]), _encoded(IMAGES["png"])]


@_both_ways
def test_images_of_earlier_turns_are_remembered(simulator, make_eyes, stream):
    agent = Agent(prompt_driver=make_eyes(stream=stream))
    agent.run([TextArtifact("What is this?"), _image(IMAGES["png"])])
    agent.run("And now?")
    first = simulator.last_chat.messages[0]
    assert (first["role"], first["images"]) == ("user", [_encoded(IMAGES["png"])])


# Models that cannot see


_LEFT_OUT = "[An image was left out: this model cannot see images.]"


@_both_ways
@pytest.mark.parametrize("way", ["artifact", "url"])
def test_an_image_in_the_input_of_a_model_without_vision_is_an_error_before_anything_is_sent(
    simulator, make_driver, web, *, way, stream
):
    driver = make_driver(model="blind", allow_private_image_urls=True, stream=stream)
    image = ImageUrlArtifact(f"{web.url}/cat.png") if way == "url" else _image(IMAGES["png"])
    with pytest.raises(OllamaContentError) as caught:
        driver.run(_stack(image))
    assert str(caught.value) == "Model 'blind' cannot see images: use a model with vision."
    assert simulator.chats == []
    assert not web.asked.is_set()


@_both_ways
@pytest.mark.parametrize(
    ("images", "told"),
    [
        (["png"], _LEFT_OUT),
        (["png", "url"], "[2 images were left out: this model cannot see images.]"),
        (["bmp"], _LEFT_OUT),
        ([""], _LEFT_OUT),
    ],
    ids=["one", "two", "of another format", "empty"],
)
def test_images_in_tool_results_of_a_model_without_vision_are_told_in_words_and_the_task_goes_on(
    simulator, make_driver, web, caplog, *, images, told, stream
):
    known = {**IMAGES, **OTHERS, "": b""}
    artifacts = [ImageUrlArtifact(f"{web.url}/cat.png") if each == "url" else _image(known[each]) for each in images]
    simulator.reply(tool_calls=[("Camera_shoot", {})])
    simulator.reply(tool_calls=[("Camera_shoot", {})])
    simulator.reply("Done.")
    tool = CameraTool(ListArtifact([TextArtifact("a cat"), *artifacts]))
    with caplog.at_level(logging.INFO, logger="griptape_ollama"):
        output = Agent(prompt_driver=make_driver(model="blind", stream=stream), tools=[tool]).run("Shoot").output
    assert output.value == "Done."
    results = [message for message in simulator.last_chat.messages if message["role"] == "tool"]
    assert [message["content"] for message in results] == [f"a cat\n\n{told}"] * 2
    assert _sent(simulator) == []
    assert not web.asked.is_set()
    assert caplog.text.count("cannot see images: those of tool results and of earlier turns are left out") == 1


def test_a_tool_result_that_is_an_image_alone_becomes_words(simulator, make_driver):
    simulator.reply(tool_calls=[("Camera_shoot", {})])
    simulator.reply("Done.")
    Agent(prompt_driver=make_driver(model="blind"), tools=[CameraTool(_image(IMAGES["png"]))]).run("Shoot")
    assert simulator.last_chat.messages[-1]["content"] == _LEFT_OUT


@_both_ways
def test_an_image_that_was_refused_does_not_end_the_later_turns_that_remember_it(simulator, make_driver, stream):
    agent = Agent(prompt_driver=make_driver(model="blind", stream=stream))
    refused = agent.run([TextArtifact("What is this?"), _image(IMAGES["png"])]).output
    assert isinstance(refused, ErrorArtifact)
    assert simulator.chats == []
    simulator.reply("Never mind.")
    assert agent.run("And now?").output.value == "Never mind."
    assert simulator.last_chat.messages[0] == {"role": "user", "content": f"What is this?\n\n{_LEFT_OUT}"}
    assert isinstance(agent.run([TextArtifact("And this?"), _image(IMAGES["png"])]).output, ErrorArtifact)


def test_messages_of_ones_own_are_treated_alike(simulator, make_driver):
    image = _encoded(IMAGES["png"])
    messages = [
        {"role": "user", "content": "", "images": [image]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Sure?"},
    ]
    make_driver(model="blind", extra_params={"messages": messages}).run(_stack())
    assert simulator.last_chat.messages[0] == {"role": "user", "content": _LEFT_OUT}
    with pytest.raises(OllamaContentError, match="cannot see images"):
        make_driver(model="blind", extra_params={"messages": messages[:1]}).run(_stack())


def test_where_the_server_does_not_tell_what_a_model_sees_it_is_asked(simulator, make_driver):
    simulator.reply(path="/api/show", status=404, error="page not found", times=None)
    with pytest.raises(Exception, match="does not support multimodal"):
        make_driver(model="blind").run(_stack(_image(IMAGES["png"])))
    assert len(simulator.chats) == 1
    # Its refusal is remembered.
    with pytest.raises(OllamaContentError, match="cannot see images"):
        make_driver(model="blind").run(_stack(_image(IMAGES["png"])))
    assert len(simulator.chats) == 1


# Images in the form of a text


_TEXT = base64.b64encode(IMAGES["png"] * 20)


@_both_ways
@pytest.mark.parametrize(
    "value",
    [
        _TEXT,
        _TEXT.decode(),
        b"data:image/png;base64," + _TEXT,
        base64.encodebytes(IMAGES["png"] * 20),
        _TEXT.rstrip(b"="),
        base64.urlsafe_b64encode(IMAGES["png"] * 20),
    ],
    ids=["bytes", "text", "data url", "lines", "unpadded", "safe for urls"],
)
@pytest.mark.parametrize("kind", ["png", "f"])  # what Griptape makes of image/gif
def test_an_image_that_is_its_own_base64_text_is_decoded_once(simulator, make_eyes, *, value, kind, stream):
    simulator.reply(tool_calls=[("Camera_shoot", {})])
    simulator.reply("Done.")
    Agent(prompt_driver=make_eyes(stream=stream), tools=[CameraTool(_image(value, kind))]).run("Shoot")
    assert _sent(simulator) == [base64.b64encode(IMAGES["png"] * 20).decode()]


@pytest.mark.parametrize("value", [b"a word", b"aGVsbG8gd29ybGQ=", base64.b64encode(_TEXT), b"=", b"abcde"])
def test_bytes_that_are_the_text_of_no_image_are_sent_as_they_are(simulator, make_eyes, value):
    make_eyes().run(_stack(_image(value)))
    assert _sent(simulator) == [_encoded(value)]


def test_the_format_of_an_image_that_was_decoded_counts(simulator, make_eyes):
    with pytest.raises(OllamaContentError, match="is TIFF"):
        make_eyes().run(_stack(_image(base64.b64encode(OTHERS["tiff"]))))
    assert simulator.requests == []


# What is no image


@_both_ways
@pytest.mark.parametrize(
    "artifact",
    [AudioArtifact(b"RIFF", format="wav"), VideoUrlArtifact("https://example.com/a.mp4"), GenericArtifact({"x": 1})],
    ids=lambda artifact: type(artifact).__name__,
)
def test_other_content_is_refused_and_what_is_supported_is_said(simulator, make_eyes, *, artifact, stream):
    if isinstance(artifact, VideoUrlArtifact) and not hasattr(griptape.common, "VideoMessageContent"):
        pytest.skip("Griptape 1.12 makes text of a video")
    with pytest.raises(OllamaContentError, match="Ollama takes text, images, tool calls and tool results") as caught:
        make_eyes(stream=stream).run(_stack(artifact))
    assert type(artifact).__name__ in str(caught.value)
    assert simulator.requests == []
