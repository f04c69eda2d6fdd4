"""Settings of embedding requests: their identity, and the size of one request."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.embeddings.spec import BatchLimits
from griptape_ollama.transport.connection import Connection

_LIMITS = BatchLimits(texts=3, characters=100)


@pytest.mark.parametrize(
    ("lengths", "fitting"),
    [
        ([], 0),
        ([1], 1),
        ([1, 1, 1], 3),
        ([1, 1, 1, 1], 3),
        ([50, 50], 2),
        ([50, 51], 1),
        ([1000, 1], 1),
        ([1, 1000], 1),
        ([100, 0, 0, 0], 3),
    ],
)
def test_a_request_holds_so_many_texts_and_characters(lengths, fitting):
    assert _LIMITS.fitting(lengths) == fitting


@given(st.lists(st.integers(0, 200)), st.integers(1, 9), st.integers(1, 300))
def test_a_request_is_never_empty_nor_too_full_nor_fuller_than_need_be(lengths, texts, characters):
    fitting = BatchLimits(texts, characters).fitting(lengths)
    assert fitting <= min(texts, len(lengths))
    assert fitting >= min(1, len(lengths))
    assert fitting <= 1 or sum(lengths[:fitting]) <= characters
    assert fitting in (texts, len(lengths)) or sum(lengths[: fitting + 1]) > characters


def test_specs_with_the_same_settings_have_the_same_key(spec):
    same = dataclasses.replace(spec, body=dict(reversed(list(spec.body.items()))))
    assert same.key == spec.key


@pytest.mark.parametrize(
    "changed",
    [
        {"on_long_text": "truncate"},
        {"body": {"model": "other"}},
        {"body": {"model": "simulator-embed", "dimensions": 8}},
        {"body": {"model": "simulator-embed", "options": {"num_ctx": 512}}},
    ],
    ids=str,
)
def test_specs_with_other_settings_have_another_key(spec, changed):
    assert dataclasses.replace(spec, **changed).key != spec.key


def test_another_connection_has_another_key(spec, simulator):
    other = Connection.open(simulator.host)
    assert dataclasses.replace(spec, connection=other).key != spec.key
    other.close()


def test_how_long_the_model_stays_loaded_does_not_change_the_key(spec):
    assert dataclasses.replace(spec, body={**spec.body, "keep_alive": 0}).key == spec.key


def test_the_vector_key_does_not_depend_on_the_name_of_the_model(spec):
    same = dataclasses.replace(spec, body={**spec.body, "model": "another name of it"})
    assert same.vector_key == spec.vector_key
    assert same.key != spec.key


@pytest.mark.parametrize(
    "odd", [{1: "a", "b": 2}, {"x": {None: 1, "y": 2}}, {"x": {1, 2}}, {"x": float("nan")}], ids=str
)
def test_odd_settings_have_another_key(spec, odd):
    strange = dataclasses.replace(spec, body={**spec.body, **odd})
    assert strange.key != spec.key


def test_settings_that_contain_themselves_have_another_key(spec):
    loop = {}
    loop["loop"] = loop
    strange = dataclasses.replace(spec, body={**spec.body, "loop": loop})
    assert strange.key != spec.key
