"""The public names."""

import ast
import inspect
import subprocess
import sys
import types

import pytest

import griptape_ollama
import griptape_ollama.testing


def test_the_names_of_the_testing_package_are_those_in_its_list():
    exported = {
        name
        for name, value in vars(griptape_ollama.testing).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert exported == set(griptape_ollama.testing.__all__)


def test_each_public_name_is_imported_from_the_module_that_defines_it():
    assert set(griptape_ollama.__all__) <= set(dir(griptape_ollama))
    for module, names in griptape_ollama._EXPORTS.items():
        assert {getattr(griptape_ollama, name).__module__ for name in names} == {f"griptape_ollama.{module}"}


def test_type_checkers_see_the_same_names_as_programs():
    imports = [
        each for each in ast.walk(ast.parse(inspect.getsource(griptape_ollama))) if isinstance(each, ast.ImportFrom)
    ]
    seen = {alias.asname: each.module for each in imports for alias in each.names if alias.asname == alias.name}
    assert seen == {name: f"griptape_ollama.{module}" for name, module in griptape_ollama._MODULES.items()}


def test_a_name_that_is_not_listed_is_not_found():
    with pytest.raises(AttributeError, match="has no attribute 'OllamaPromptDrivers'"):
        _ = griptape_ollama.OllamaPromptDrivers
    assert not hasattr(griptape_ollama, "_nothing")


def test_all_names_can_be_imported_at_once():
    names = {}
    exec("from griptape_ollama import *", names)  # noqa: S102
    assert set(griptape_ollama.__all__) <= names.keys()


def test_importing_the_prompt_driver_does_not_import_the_rest():
    code = "import sys; from griptape_ollama import OllamaPromptDriver; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rest = (
        "embeddings",
        "lifecycle",
        "observability.metrics",
        "structures",
        "drivers.config",
        "drivers.embedding",
        "models.ollama_models",
    )
    assert [name for name in rest if f"griptape_ollama.{name}" in done.stdout.split()] == []


@pytest.mark.parametrize("package", [griptape_ollama, griptape_ollama.testing], ids=lambda package: package.__name__)
def test_the_list_is_sorted_without_repetition(package):
    assert list(package.__all__) == sorted(set(package.__all__))


def test_every_public_class_has_a_docstring():
    for name in griptape_ollama.__all__:
        assert inspect.getdoc(getattr(griptape_ollama, name)), name


def test_public_classes_carry_the_name_of_ollama():
    # An event that Griptape lacks, what is about any structure, what cancels, and results of methods.
    without_prefix = {name for name in griptape_ollama.__all__ if not name.startswith("Ollama")}
    assert without_prefix == {
        "CancelScope",
        "ModelLifecycle",
        "PromptPreview",
        "ReasoningChunkEvent",
        "TokenEstimate",
        "cancel_after",
        "cancel_scope",
    }


def test_importing_the_package_does_not_import_the_simulator():
    code = "import sys, griptape_ollama; print([m for m in sys.modules if 'aiohttp' in m or 'ollama.testing' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
