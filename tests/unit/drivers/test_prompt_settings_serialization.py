"""A driver that is stored, loaded, copied and compared."""

import copy
import json
import pickle
import ssl
from typing import Any

import attrs
import pytest
from griptape.artifacts import TextArtifact
from griptape.drivers.prompt import BasePromptDriver
from griptape.structures import Agent, Pipeline
from griptape.tasks import PromptTask

from griptape_ollama import OllamaPromptDriver, OllamaTimeout

# Every setting that is stored, changed from its default.
_CHANGED: dict[str, Any] = {
    "model": "qwen3:0.6b",
    "host": "https://gpu-box:8443/ollama",
    "temperature": 0.7,
    "max_tokens": 64,
    "stream": True,
    "use_native_tools": False,
    "structured_output_strategy": "rule",
    "on_empty": "retry_without_thinking",
    "allow_private_image_urls": True,
    "max_image_bytes": 1000,
    "separate_think_tags": False,
    "tell_schema": False,
    "parse_text_calls": False,
    "pull_policy": "when_missing",
    "audit_requests": True,
    "options": {"num_ctx": 8192, "stop": ["END"], "seed": 7, "top_p": 0.5},
    "keep_alive": -1,
    "think": "low",
    "format": {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"const": 1}]}}},
    "truncate": False,
    "shift": False,
    "logprobs": True,
    "top_logprobs": 3,
    "extra_params": {"options": {"top_k": 5}, "brand_new": [None, {"x": 1.5}]},
    "verify": False,
    "cert": ("client.pem", "client.key"),
    "timeout": OllamaTimeout(connect=1.5, first_token=None, between_tokens=7, total=99),
    "max_attempts": 5,
    "min_retry_delay": 0.25,
    "max_retry_delay": 3.5,
    "wait_for_server": 1.5,
    "max_concurrency": 4,
    "max_wait": 12.5,
    "num_ctx": 16_384,
    "max_num_ctx": 65_536,
    "on_overflow": "trim",
}
_NOT_STORED = {"api_key", "headers", "client", "ssl_context", "after_hook", "tokenizer", "ignored_exception_types"}
_SECRETS = {
    "host": "https://alice:hunter2@gpu-box/ollama",
    "headers": {"X-Token": "hunter3"},
    "api_key": None,
}
_LOADERS = {
    "from_dict": lambda driver: OllamaPromptDriver.from_dict(driver.to_dict()),
    "base class": lambda driver: BasePromptDriver.from_dict(driver.to_dict()),
    "from_json": lambda driver: OllamaPromptDriver.from_json(driver.to_json()),
    "json of base class": lambda driver: BasePromptDriver.from_json(driver.to_json()),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda driver: pickle.loads(pickle.dumps(driver)),  # noqa: S301 # our own
    "evolve": attrs.evolve,
}
_each_loader = pytest.mark.parametrize("load", _LOADERS.values(), ids=_LOADERS)


def _settings(driver, names=_CHANGED):
    return {name: getattr(driver, name) for name in names}


def test_every_setting_is_either_stored_or_left_out_on_purpose():
    aliases = {field.alias for field in attrs.fields(OllamaPromptDriver) if field.init}
    assert aliases == {*_CHANGED, *_NOT_STORED, "type", "module_name"}
    default = OllamaPromptDriver(model="m")
    unchanged = [name for name, value in _CHANGED.items() if getattr(default, name) == value]
    assert unchanged == []


@_each_loader
def test_every_setting_comes_back(load):
    driver = OllamaPromptDriver(**_CHANGED)
    back = load(driver)
    assert type(back) is OllamaPromptDriver
    assert _settings(back) == _CHANGED
    assert back == driver


@_each_loader
def test_defaults_come_back_as_defaults(load):
    back = load(OllamaPromptDriver(model="m"))
    assert type(back) is OllamaPromptDriver
    assert back == OllamaPromptDriver(model="m")
    assert back._temperature is None


@_each_loader
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep_alive", "10m"),
        ("keep_alive", -1),
        ("keep_alive", 0),
        ("keep_alive", 1.5),
        ("think", True),
        ("think", False),
        ("think", "high"),
        ("format", "json"),
        ("format", {"$ref": "#"}),
        ("temperature", 0.0),
        ("temperature", 0.1),
        ("verify", "/etc/ssl/ca.pem"),
        ("verify", True),
        ("cert", ("both.pem",)),
        ("timeout", OllamaTimeout()),
        ("extra_params", {"options": {"num_ctx": 4096}}),
    ],
)
def test_values_keep_their_type(load, name, value):
    back = getattr(load(OllamaPromptDriver(model="m", **{name: value})), name)
    assert (back, type(back)) == (value, type(value))


def test_a_stored_driver_works(simulator):
    simulator.reply("Hello")
    driver = OllamaPromptDriver(model="simulator", host=simulator.url, options={"seed": 7}, keep_alive="5m")
    assert OllamaPromptDriver.from_json(driver.to_json()).run(TextArtifact("Hi")).to_text() == "Hello"
    assert simulator.last_chat.options == {"temperature": 0.1, "seed": 7}
    assert simulator.last_chat.body["keep_alive"] == "5m"


def test_what_is_stored_is_plain_json():
    stored = OllamaPromptDriver(**_CHANGED).to_dict()
    assert json.loads(json.dumps(stored)) == json.loads(OllamaPromptDriver(**_CHANGED).to_json())
    assert stored["type"] == "OllamaPromptDriver"
    assert stored["module_name"] == "griptape_ollama.drivers.prompt"


@pytest.mark.parametrize(
    "settings",
    [
        _SECRETS,
        {"api_key": "hunter2", "headers": lambda: {"X-Token": "hunter3"}},
    ],
    ids=["host and headers", "api_key and callable"],
)
def test_nothing_secret_is_stored_or_shown(settings):
    driver = OllamaPromptDriver(model="m", **settings)
    shown = [
        str(driver.to_dict()),
        driver.to_json(),
        repr(driver),
        str(driver),
        f"{driver.host}",
        json.dumps(Agent(prompt_driver=driver).to_dict(), default=str),
    ]
    for text in shown:
        for secret in ("hunter2", "hunter3", "alice"):
            assert secret not in text


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_secret_is_in_events_messages_and_errors(simulator, events, stream):
    host = simulator.url.replace("://", "://alice:hunter2@")
    driver = OllamaPromptDriver(model="simulator", host=host, headers={"X-Token": "hunter3"}, stream=stream)
    message = driver.run(TextArtifact("Hi"))
    texts = [*(str(event.to_dict()) for event in events), str(message.to_dict())]
    simulator.reply(status=400, error="no", times=None)
    with pytest.raises(Exception, match="no") as refused:
        driver.run(TextArtifact("Hi"))
    simulator.stop()
    with pytest.raises(Exception, match="ollama serve") as dead:
        driver.run(TextArtifact("Hi"))
    texts += [f"{error.value} {vars(error.value)}" for error in (refused, dead)]
    for text in texts:
        assert "hunter" not in text
        assert "alice" not in text


def test_a_host_is_stored_without_the_credentials_and_copied_with_them():
    driver = OllamaPromptDriver(model="m", **_SECRETS)
    assert driver.to_dict()["host"] == "https://gpu-box/ollama"
    assert OllamaPromptDriver.from_dict(driver.to_dict()).host == "https://gpu-box/ollama"
    for back in (copy.deepcopy(driver), copy.copy(driver), pickle.loads(pickle.dumps(driver)), attrs.evolve(driver)):  # noqa: S301
        assert back.host.whole == "https://alice:hunter2@gpu-box/ollama"


@pytest.mark.parametrize("name", ["deepcopy", "copy", "pickle", "evolve"])
def test_a_copy_works_after_use_and_so_does_the_original(simulator, name):
    driver = OllamaPromptDriver(model="simulator", host=simulator.url, api_key="key", headers={"X-Team": "blue"})
    driver.run(TextArtifact("Hi"))
    back = _LOADERS[name](driver)
    for each in (back, driver):
        each.run(TextArtifact("Hi"))
        assert simulator.last_chat.headers["Authorization"] == "Bearer key"
        assert simulator.last_chat.headers["X-Team"] == "blue"
    assert back.connection is not driver.connection
    assert back.client is not driver.client


def test_copies_do_not_share_what_can_be_changed():
    driver = OllamaPromptDriver(**_CHANGED)
    back = copy.deepcopy(driver)
    back.options["seed"] = 8
    back.extra_params["options"]["top_k"] = 6
    back.tokenizer.stop_sequences.append("HALT")
    assert driver.options["seed"] == 7
    assert driver.extra_params["options"]["top_k"] == 5
    assert driver.tokenizer.stop_sequences == []


def test_a_copy_shares_a_client_that_was_given_and_a_pickle_leaves_it_out(simulator, make_client):
    client = make_client()
    driver = OllamaPromptDriver(model="simulator", client=client)
    driver.run(TextArtifact("Hi"))
    assert copy.deepcopy(driver).client is client
    assert attrs.evolve(driver).client is client
    assert copy.copy(driver).client is client
    for back in (pickle.loads(pickle.dumps(driver)), OllamaPromptDriver.from_dict(driver.to_dict())):  # noqa: S301
        assert back.client is not client
        assert back.host == simulator.url
        assert back.run(TextArtifact("Hi")).to_text()


def test_a_tls_context_is_shared_by_copies_and_left_out_of_a_pickle():
    context = ssl.create_default_context()
    driver = OllamaPromptDriver(model="m", ssl_context=context)
    assert copy.deepcopy(driver).ssl_context is context
    assert copy.copy(driver).ssl_context is context
    assert pickle.loads(pickle.dumps(driver)).ssl_context is None  # noqa: S301


def test_evolving_changes_what_is_named_and_keeps_the_rest():
    driver = OllamaPromptDriver(**_CHANGED)
    assert _settings(attrs.evolve(driver, temperature=0.2, stream=False)) == {
        **_CHANGED,
        "temperature": 0.2,
        "stream": False,
    }
    assert driver.temperature == 0.7


@pytest.mark.parametrize("name", _CHANGED)
def test_drivers_are_equal_if_all_their_settings_are(name):
    base = {"model": "m"}
    assert OllamaPromptDriver(**base) == OllamaPromptDriver(**base)
    assert OllamaPromptDriver(**{**base, name: _CHANGED[name]}) != OllamaPromptDriver(**base)


def test_use_does_not_make_a_driver_unequal(simulator):
    used, fresh = (OllamaPromptDriver(model="simulator", host=simulator.url) for _ in range(2))
    used.run(TextArtifact("Hi"))
    assert used == fresh


def test_drivers_with_other_credentials_are_not_equal():
    one, two = (OllamaPromptDriver(model="m", host=f"https://alice:{word}@gpu") for word in ("hunter2", "hunter3"))
    assert one != two


@pytest.mark.parametrize("load", [Agent.from_dict, lambda stored: Agent.from_json(json.dumps(stored))])
def test_a_stored_agent_has_our_driver_with_every_setting(load):
    agent = load(Agent(prompt_driver=OllamaPromptDriver(**_CHANGED)).to_dict())
    driver = agent.task.prompt_driver
    assert type(driver) is OllamaPromptDriver
    assert _settings(driver) == _CHANGED


def test_a_stored_pipeline_has_our_drivers_with_every_setting():
    tasks = [PromptTask(id=name, prompt_driver=OllamaPromptDriver(**{**_CHANGED, "model": name})) for name in "ab"]
    back = Pipeline.from_dict(json.loads(Pipeline(tasks=tasks).to_json()))
    drivers = [task.prompt_driver for task in back.tasks]
    assert [type(driver) for driver in drivers] == [OllamaPromptDriver] * 2
    assert [_settings(driver) for driver in drivers] == [{**_CHANGED, "model": name} for name in "ab"]


def test_a_stored_agent_goes_on_with_its_conversation(simulator):
    agent = Agent(prompt_driver=OllamaPromptDriver(model="simulator", host=simulator.url))
    simulator.reply("Hello, Ada")
    agent.run("I am Ada")
    back = Agent.from_json(agent.to_json())
    simulator.reply("Ada")
    assert back.run("Who am I?").output.value == "Ada"
    assert [message["content"] for message in simulator.last_chat.messages] == ["I am Ada", "Hello, Ada", "Who am I?"]
