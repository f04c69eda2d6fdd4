"""What users import."""

import inspect
import subprocess
import sys
import types

import pytest

import griptape_ollama
import griptape_ollama.testing


def test_what_is_exported_is_what_is_listed():
    exported = {
        name
        for name, value in vars(griptape_ollama.testing).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert exported == set(griptape_ollama.testing.__all__)


def test_every_listed_name_is_found_where_it_is_asked_for():
    assert set(griptape_ollama._MODULES) == set(griptape_ollama.__all__) <= set(dir(griptape_ollama))
    for name, module in griptape_ollama._MODULES.items():
        value = getattr(griptape_ollama, name)
        assert value.__module__ == f"griptape_ollama.{module}"


def test_a_name_that_is_not_listed_is_not_found():
    with pytest.raises(AttributeError, match="has no attribute 'OllamaPromptDrivers'"):
        _ = griptape_ollama.OllamaPromptDrivers
    assert not hasattr(griptape_ollama, "_nothing")


def test_all_names_can_be_imported_at_once():
    names = {}
    exec("from griptape_ollama import *", names)  # noqa: S102
    assert set(griptape_ollama.__all__) <= names.keys()


def test_who_uses_the_prompt_driver_does_not_wait_for_the_rest():
    code = "import sys; from griptape_ollama import OllamaPromptDriver; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = (
        "embeddings",
        "lifecycle",
        "metrics",
        "structures",
        "drivers.config",
        "drivers.embedding",
        "models.manager",
    )
    assert [other for other in others if f"griptape_ollama.{other}" in done.stdout.split()] == []


@pytest.mark.parametrize("package", [griptape_ollama, griptape_ollama.testing], ids=lambda package: package.__name__)
def test_the_list_is_in_order_and_without_repetition(package):
    assert list(package.__all__) == sorted(set(package.__all__))


def test_every_public_class_has_a_docstring():
    for name in griptape_ollama.__all__:
        assert inspect.getdoc(getattr(griptape_ollama, name)), name


def test_public_classes_carry_the_name_of_ollama():
    # A kind of event that Griptape lacks; what is about a structure, whatever it asks; the words for stopping; and what
    # methods give.
    others = {name for name in griptape_ollama.__all__ if not name.startswith("Ollama")}
    assert others == {
        "CancelScope",
        "ModelLifecycle",
        "PromptPreview",
        "ReasoningChunkEvent",
        "TokenEstimate",
        "cancel_after",
        "cancel_scope",
    }


def test_importing_the_package_does_not_bring_the_simulator():
    code = "import sys, griptape_ollama; print([m for m in sys.modules if 'aiohttp' in m or 'ollama.testing' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
