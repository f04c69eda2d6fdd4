"""What users import."""

import inspect
import subprocess
import sys
import types

import pytest

import griptape_ollama
import griptape_ollama.testing


@pytest.mark.parametrize("package", [griptape_ollama, griptape_ollama.testing], ids=lambda package: package.__name__)
def test_what_is_exported_is_what_is_listed(package):
    exported = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert exported == set(package.__all__)


@pytest.mark.parametrize("package", [griptape_ollama, griptape_ollama.testing], ids=lambda package: package.__name__)
def test_the_list_is_in_order_and_without_repetition(package):
    assert list(package.__all__) == sorted(set(package.__all__))


def test_every_public_class_has_a_docstring():
    for name in griptape_ollama.__all__:
        assert inspect.getdoc(getattr(griptape_ollama, name)), name


def test_public_classes_carry_the_name_of_ollama():
    # A kind of event that Griptape lacks; what is about a structure, whatever it asks; and the words for stopping.
    others = {name for name in griptape_ollama.__all__ if not name.startswith("Ollama")}
    assert others == {"CancelScope", "ModelLifecycle", "ReasoningChunkEvent", "cancel_after", "cancel_scope"}


def test_importing_the_package_does_not_bring_the_simulator():
    code = "import sys, griptape_ollama; print([m for m in sys.modules if 'aiohttp' in m or 'ollama.testing' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
