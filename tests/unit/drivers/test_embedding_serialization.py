"""An embedding driver that is stored, loaded, copied and compared."""

import copy
import json
import pickle
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
from griptape.drivers.embedding import BaseEmbeddingDriver
from griptape.drivers.vector.local import LocalVectorStoreDriver

from griptape_ollama import OllamaEmbeddingDriver, OllamaTimeout
from unit.embeddings.serving import inputs, vector

# Every setting that is stored, changed from its default.
_CHANGED: dict[str, Any] = {
    "pull_policy": "when_missing",
    "audit_requests": True,
    "model": "nomic-embed-text:v1.5",
    "host": "https://gpu-box:8443/ollama",
    "dimensions": 256,
    "truncate": False,
    "keep_alive": -1,
    "options": {"num_ctx": 8192, "seed": 7, "top_p": 0.5},
    "extra_params": {"options": {"top_k": 5}, "brand_new": [None, {"x": 1.5}]},
    "on_long_text": "error",
    "query_prefix": "q: ",
    "document_prefix": "",
    "batch_size": 16,
    "batch_characters": 1000,
    "gather_seconds": 0.5,
    "cache_bytes": 0,
    "verify": False,
    "cert": ("client.pem", "client.key"),
    "timeout": OllamaTimeout(connect=1.5, first_token=None, between_tokens=7, total=99),
    "max_attempts": 5,
    "min_retry_delay": 0.25,
    "max_retry_delay": 3.5,
    "wait_for_server": 1.5,
    "max_concurrency": 4,
    "max_wait": 12.5,
}
_NOT_STORED = {"api_key", "headers", "client", "ssl_context", "after_hook", "tokenizer", "ignored_exception_types"}
_LOADERS = {
    "from_dict": lambda driver: OllamaEmbeddingDriver.from_dict(driver.to_dict()),
    "base class": lambda driver: BaseEmbeddingDriver.from_dict(driver.to_dict()),
    "from_json": lambda driver: OllamaEmbeddingDriver.from_json(driver.to_json()),
    "json of base class": lambda driver: BaseEmbeddingDriver.from_json(driver.to_json()),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda driver: pickle.loads(pickle.dumps(driver)),  # noqa: S301 # our own
    "evolve": attrs.evolve,
}
_each_loader = pytest.mark.parametrize("load", _LOADERS.values(), ids=_LOADERS)


class Mine(OllamaEmbeddingDriver):
    """A class of a user's own, without attrs."""


@attrs.define(kw_only=True)
class MineWithAttrs(OllamaEmbeddingDriver):
    """A class of a user's own, with a setting more."""

    flavour: str = attrs.field(default="plain", metadata={"serializable": True})


def _settings(driver):
    return {name: getattr(driver, name) for name in _CHANGED}


def test_every_setting_is_either_stored_or_left_out_on_purpose():
    aliases = {field.alias for field in attrs.fields(OllamaEmbeddingDriver) if field.init}
    assert aliases == {*_CHANGED, *_NOT_STORED, "type", "module_name"}
    default = OllamaEmbeddingDriver(model="m")
    assert [name for name, value in _CHANGED.items() if getattr(default, name) == value] == []


@_each_loader
def test_every_setting_comes_back(load):
    driver = OllamaEmbeddingDriver(**_CHANGED)
    back = load(driver)
    assert type(back) is OllamaEmbeddingDriver
    assert _settings(back) == _CHANGED
    assert back == driver


@_each_loader
def test_defaults_come_back_as_defaults(load):
    assert load(OllamaEmbeddingDriver(model="m")) == OllamaEmbeddingDriver(model="m")


@_each_loader
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep_alive", "10m"),
        ("keep_alive", 0),
        ("keep_alive", 1.5),
        ("truncate", True),
        ("dimensions", 1),
        ("query_prefix", ""),
        ("gather_seconds", 0.0),
        ("on_long_text", "truncate"),
        ("extra_params", {"options": {"num_ctx": 4096}}),
    ],
)
def test_values_keep_their_type(load, name, value):
    back = getattr(load(OllamaEmbeddingDriver(model="m", **{name: value})), name)
    assert (back, type(back)) == (value, type(value))


def test_what_is_stored_is_plain_json():
    stored = OllamaEmbeddingDriver(**_CHANGED).to_dict()
    assert json.loads(json.dumps(stored)) == json.loads(OllamaEmbeddingDriver(**_CHANGED).to_json())
    assert stored["type"] == "OllamaEmbeddingDriver"
    assert stored["module_name"] == "griptape_ollama.drivers.embedding"


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "https://alice:hunter2@gpu-box/ollama", "headers": {"X-Token": "hunter3"}},
        {"api_key": "hunter2", "headers": lambda: {"X-Token": "hunter3"}},
    ],
    ids=["host and headers", "api_key and callable"],
)
def test_nothing_secret_is_stored_or_shown(settings):
    driver = OllamaEmbeddingDriver(model="m", **settings)
    store = LocalVectorStoreDriver(embedding_driver=driver)
    for text in (str(driver.to_dict()), driver.to_json(), repr(driver), str(driver), store.to_json()):
        for secret in ("hunter2", "hunter3", "alice"):
            assert secret not in text


def test_nothing_secret_is_in_events_and_errors(simulator, events):
    host = simulator.url.replace("://", "://alice:hunter2@")
    driver = OllamaEmbeddingDriver(model="simulator-embed", host=host, headers={"X-Token": "hunter3"})
    driver.embed("a")
    texts = [str(event.to_dict()) for event in events]
    simulator.reply(path="/api/embed", status=400, error="no")
    with pytest.raises(Exception, match="no") as refused:
        driver.embed("b")
    texts.append(f"{refused.value} {vars(refused.value)}")
    assert len(texts) == 2
    for text in texts:
        assert "hunter" not in text
        assert "alice" not in text


@pytest.mark.parametrize("name", ["deepcopy", "copy", "pickle", "evolve"])
def test_a_copy_works_after_use_and_so_does_the_original(simulator, name):
    driver = OllamaEmbeddingDriver(model="simulator-embed", host=simulator.url, api_key="key")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(driver.embed, "abcd"))
    with driver.prefetch(["e"]):
        back = _LOADERS[name](driver)
        assert back.embed("e", vector_operation="upsert") == vector("e")
    assert back.embed("a") == vector("a")
    assert driver.embed("a") == vector("a")
    assert {request.headers["Authorization"] for request in simulator.requests} == {"Bearer key"}
    assert back.connection is not driver.connection
    # The copy has a cache of its own: it asked for what the original knew.
    assert [texts for texts in inputs(simulator) if texts == ["a"]]
    assert back.cache_info.entries == 2


def test_copies_do_not_share_what_can_be_changed():
    driver = OllamaEmbeddingDriver(**_CHANGED)
    back = copy.deepcopy(driver)
    back.options["seed"] = 8
    back.extra_params["options"]["top_k"] = 6
    assert driver.options["seed"] == 7
    assert driver.extra_params["options"]["top_k"] == 5


def test_what_is_left_behind_is_made_anew(make_client):
    context = ssl.create_default_context()
    client = make_client()
    driver = OllamaEmbeddingDriver(model="m", client=client, ssl_context=context)
    assert copy.deepcopy(driver).client is client
    assert copy.deepcopy(driver).ssl_context is context
    back = pickle.loads(pickle.dumps(driver))  # noqa: S301 # our own
    assert back.ssl_context is None
    assert back.client is not client
    assert back.host == driver.host


@pytest.mark.parametrize("name", _CHANGED)
def test_drivers_are_equal_if_all_their_settings_are(name):
    assert OllamaEmbeddingDriver(**{"model": "m", name: _CHANGED[name]}) != OllamaEmbeddingDriver(model="m")


def test_use_does_not_make_a_driver_unequal(simulator):
    used, fresh = (OllamaEmbeddingDriver(model="simulator-embed", host=simulator.url) for _ in range(2))
    used.embed("a")
    assert used == fresh


@pytest.mark.parametrize("kind", [Mine, MineWithAttrs])
@pytest.mark.parametrize("name", ["from_dict", "base class", "deepcopy", "copy", "pickle", "evolve"])
def test_classes_of_a_users_own_are_stored_and_copied_too(simulator, kind, name):
    driver = kind(model="simulator-embed", host=simulator.url, options={"seed": 7})
    driver.embed("a")
    driver.flavour = "vanilla"
    # What is stored names the module of the class, so that it is found again by the base class too.
    back = kind.from_dict(driver.to_dict()) if name == "from_dict" else _LOADERS[name](driver)
    assert type(back) is kind
    assert back.options == {"seed": 7}
    assert kind is Mine or back.flavour == "vanilla"
    assert back.embed("a") == vector("a")


def test_a_stored_vector_store_has_our_driver_with_every_setting():
    store = LocalVectorStoreDriver(embedding_driver=OllamaEmbeddingDriver(**_CHANGED))
    driver = LocalVectorStoreDriver.from_dict(json.loads(store.to_json())).embedding_driver
    assert type(driver) is OllamaEmbeddingDriver
    assert _settings(driver) == _CHANGED
