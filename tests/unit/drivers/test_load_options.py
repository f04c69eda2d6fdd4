"""The options that a driver tells the lifecycle to load its model with."""

import pytest

from griptape_ollama import OllamaEmbeddingDriver, OllamaModels, OllamaPromptDriver

HOST = "127.0.0.1:1"


@pytest.mark.parametrize("kind", [OllamaPromptDriver, OllamaEmbeddingDriver])
def test_they_are_the_merged_options_that_a_model_is_loaded_with(kind):
    driver = kind(
        model="a",
        host=HOST,
        options={"num_ctx": 1000, "temperature": 0.5, "num_gpu": 1, "num_batch": None},
        extra_params={"options": {"num_ctx": 2000, "seed": 1, "use_mmap": False}},
    )
    assert driver.load_options() == {"num_ctx": 2000, "num_gpu": 1, "use_mmap": False}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"shift": False}, {"shift": False}),
        ({"shift": True, "on_overflow": "error"}, {}),
        ({"on_overflow": "error"}, {"shift": False}),
        ({"shift": True, "extra_params": {"shift": False}}, {"shift": False}),
        ({"shift": False, "extra_params": {"shift": True}}, {}),
        ({"num_ctx": 8192}, {"num_ctx": 8192}),
        ({"num_ctx": 8192, "options": {"num_ctx": 512}}, {"num_ctx": 512}),
        ({"num_ctx": None}, {}),
    ],
)
def test_a_window_and_shift_are_part_of_them(settings, expected):
    assert OllamaPromptDriver(model="a", host=HOST, **settings).load_options() == expected


def test_an_embedding_driver_has_shift_where_it_is_false():
    driver = OllamaEmbeddingDriver(model="a", host=HOST, extra_params={"shift": False})
    assert driver.load_options() == {"shift": False}


def test_what_has_no_model_has_none():
    assert OllamaModels(host=HOST).load_options() == {}
