"""Pickles that were made before modules were renamed."""

import base64
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import griptape_ollama
from griptape_ollama import OllamaDriversConfig, OllamaTimeout
from griptape_ollama.moved_modules import _MOVED, find_moved_modules

_FILE = Path(__file__).with_name("pickles_before_renames.json")
_PICKLES = json.loads(_FILE.read_text())
_LIMITS = OllamaTimeout(connect=5, first_token=60, total=300)


def _load(name):
    return pickle.loads(base64.b64decode(_PICKLES[name]))  # noqa: S301 # made by this project


@pytest.mark.parametrize("name", ["prompt driver", "embedding driver", "models"])
def test_an_old_pickle_gives_an_object_with_its_settings(name):
    loaded = _load(name)
    assert loaded.host == "http://gpu:11434"
    assert loaded.timeout == _LIMITS


def test_an_old_config_of_drivers_loads():
    assert isinstance(_load("config"), OllamaDriversConfig)


def test_an_old_prompt_driver_has_all_settings():
    driver = _load("prompt driver")
    assert (driver.model, driver.max_attempts) == ("qwen3", 2)
    assert driver.options == {"seed": 1}
    assert driver.extra_params == {"keep_alive": 0}


@pytest.mark.parametrize("name", [name for name in _PICKLES if name.startswith("Ollama")])
def test_an_old_error_is_the_error(name):
    loaded = _load(name)
    assert type(loaded) is getattr(griptape_ollama, name)
    assert (str(loaded), loaded.host, loaded.model) == ("It failed.", "http://gpu:11434", "qwen3")


@pytest.mark.parametrize("name", [name for name in _PICKLES if name.startswith("class ")])
def test_an_old_class_is_the_class_of_today(name):
    assert _load(name) is getattr(griptape_ollama, name.removeprefix("class "))


@pytest.mark.parametrize("name", _MOVED)
def test_an_old_module_has_no_names_of_its_own(name):
    find_moved_modules()
    with pytest.raises(AttributeError):
        _ = __import__(f"griptape_ollama.{name}", fromlist=["x"]).no_such_name


def test_a_fresh_process_loads_an_old_pickle():
    script = (
        "import base64, json, pickle, sys\n"
        "data = json.load(open(sys.argv[1]))['prompt driver']\n"
        "print(pickle.loads(base64.b64decode(data)).timeout.total)"
    )
    done = subprocess.run([sys.executable, "-c", script, _FILE], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "300"


def test_unknown_modules_are_still_missing():
    with pytest.raises(ModuleNotFoundError):
        __import__("griptape_ollama.transport.nothing")
