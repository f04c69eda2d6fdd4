"""The manager itself: looking things up, and being stored, copied and shared."""

import copy
import json
import pickle
import threading
from typing import Any

import attrs
import pytest

from griptape_ollama import (
    OllamaAuthError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaModelNotFoundError,
    OllamaModels,
    OllamaTimeout,
)
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_CHANGED: dict[str, Any] = {
    "host": "https://gpu-box:8443/ollama",
    "verify": False,
    "cert": ("client.pem", "client.key"),
    "timeout": OllamaTimeout(connect=1.5, first_token=None, between_tokens=7, total=99),
    "max_attempts": 3,
    "min_retry_delay": 0.25,
    "max_retry_delay": 3.5,
    "wait_for_server": 1.5,
    "max_concurrency": 4,
    "max_wait": 12.5,
}
_NOT_STORED = {"api_key", "headers", "client", "ssl_context", "after_hook"}
_LOADERS = {
    "from_dict": lambda models: OllamaModels.from_dict(models.to_dict()),
    "from_json": lambda models: OllamaModels.from_json(json.dumps(json.loads(models.to_json()))),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda models: pickle.loads(pickle.dumps(models)),  # noqa: S301 # our own
}
_each_loader = pytest.mark.parametrize("load", _LOADERS.values(), ids=_LOADERS)


class TestLooking:
    def test_it_lists_what_is_installed(self, simulator, models):
        assert [each.name for each in models.list()] == simulator.models
        assert {each.name: each.capabilities for each in models.list()} == {
            "simulator:latest": {"completion", "tools"},
            "simulator-embed:latest": {"embedding"},
        }

    def test_nothing_is_cached(self, models):
        assert len(models.list()) == 2
        models.client.copy("simulator", "mine")
        assert len(models.list()) == 3

    def test_it_describes_a_model(self, models):
        shown = models.show("simulator")
        assert (shown.name, shown.context_length, shown.parameter_count) == ("simulator", 8192, 1_235_814_432)
        assert shown.can("tools")

    def test_what_is_not_there_cannot_be_described(self, models):
        with pytest.raises(OllamaModelNotFoundError, match="Get it with: ollama pull nope"):
            models.show("nope")

    @pytest.mark.parametrize(
        ("name", "is_there"),
        [
            ("simulator", True),
            ("Simulator:LATEST", True),
            ("library/simulator", True),
            ("simulator:8b", False),
            ("x", False),
        ],
    )
    def test_it_returns_whether_a_model_is_installed(self, models, name, is_there):
        assert models.exists(name) is is_there

    @pytest.mark.parametrize(
        "ask", ["show", "exists", "warm", "unload", "wait_until_unloaded", "delete", "ensure", "push"]
    )
    def test_a_name_that_is_none_is_refused(self, simulator, models, ask):
        with pytest.raises(OllamaContentError, match="'a b' is not a model name"):
            getattr(models, ask)("a b")
        assert simulator.requests == []

    def test_a_busy_server_is_asked_again(self, simulator, models):
        simulator.fault("status", path="/api/tags", status=503)
        assert len(models.list()) == 2

    def test_no_server_is_an_error_at_once(self):
        with pytest.raises(OllamaConnectionError, match="ollama serve"):
            OllamaModels(host="127.0.0.1:1").list()

    def test_a_wrong_key_is_an_error(self, simulator, models):
        simulator.fault("status", path="/api/tags", status=401, error="unauthorized")
        with pytest.raises(OllamaAuthError):
            models.list()

    @pytest.mark.parametrize("body", [{}, {"models": None}, {"models": [None, 7]}])
    def test_an_odd_list_is_an_empty_one(self, simulator, models, body):
        simulator.reply(path="/api/tags", body=body)
        assert models.list() == []

    def test_a_given_client_is_used(self, simulator):
        models = OllamaModels(client=OllamaModels(host=simulator.host).client)
        assert len(models.list()) == 2
        assert models.host == simulator.host


class TestStoring:
    def test_every_setting_is_either_stored_or_left_out_on_purpose(self):
        aliases = {field.alias for field in attrs.fields(OllamaModels) if field.init}
        assert aliases == {*_CHANGED, *_NOT_STORED, "type", "module_name"}
        default = OllamaModels()
        assert [name for name, value in _CHANGED.items() if getattr(default, name) == value] == []

    @_each_loader
    def test_every_setting_comes_back(self, load):
        back = load(OllamaModels(**_CHANGED))
        assert type(back) is OllamaModels
        assert {name: getattr(back, name) for name in _CHANGED} == _CHANGED

    def test_no_secret_is_stored_or_shown(self):
        models = OllamaModels(host="https://alice:hunter2@gpu", headers={"X-Token": "hunter3"})
        assert "hunter" not in f"{models.to_json()} {models!r} {models}"
        with_key = OllamaModels(api_key="hunter4")
        assert "hunter" not in f"{with_key.to_json()} {with_key!r} {with_key}"

    @_each_loader
    def test_it_works_after_use_and_after_loading(self, simulator, models, load):
        models.list()
        assert len(load(models).list()) == 2


def test_many_threads_share_one(manage):
    with OllamaSimulator(models=[SimulatedModel(name="one", load_seconds=0.01)]) as simulator:
        models, errors = manage(simulator), []

        def work(number):
            try:
                models.copy("one", f"copy-{number}")
                models.warm("one")
                assert models.exists(f"copy-{number}")
                models.delete(f"copy-{number}")
            except Exception as error:  # noqa: BLE001
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert simulator.models == ["one:latest"]
